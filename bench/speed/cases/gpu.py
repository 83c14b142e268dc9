"""The cases mlp and conv on a CUDA device; skipped where torch sees none."""

from functools import partial

from speed.case import Case
from speed.cases import conv, mlp
from speed.training import contenders

ORDER = 13

CASES = [
    Case(
        "gpu-mlp", "the case mlp on CUDA", "20 x pythae (stretch: 60 x)", "rows/s",
        contenders(partial(mlp.work, device="cuda"), "pythae", "JAX scan", "floor", plain={}, fused={"fused": True}),
        ours="latens compiled", theirs="pythae", floor="floor",
    ),
    Case(
        "gpu-conv", "the case conv on CUDA", "3 x pythae (stretch: 6 x)", "ms",
        contenders(partial(conv.work, device="cuda"), "pythae", "floor", plain={}, fused={"fused": True}),
        ours="latens", theirs="pythae", floor="floor",
    ),
]  # fmt: skip
