"""Training on images in memory: 784-512-10 and back, ReLU, batches of 128, Adam at 1e-3 and a Bernoulli likelihood."""

from speed.case import Case, Size
from speed.training import contenders, in_bfloat16, times

ORDER = 1
GOAL = "1.0 x JAX's scan (stretch: 1.1 x), 0.75 of the floor; in bf16 1.4 x float32 (stretch: 1.9 x)"


def work(size: Size, device: str = "cpu"):
    from speed import inputs, networks
    from speed.peers.work import Work

    x = inputs.binary(inputs.fashion(size)[0])
    return Work(networks.Mlp(784, (512,), 10), x, epochs=size.of(1, 2), device=device)


def summary(found):
    return times(found, "latens compiled", "JAX scan") | times(found, "latens compiled bf16", "latens compiled")


CASES = [
    Case(
        "mlp", "MLP 784-512-10 on 60,000 binary images, batch 128", GOAL, "rows/s",
        contenders(work, "pythae", "JAX scan", "floor", plain={}, fused={"fused": True}) | in_bfloat16(work),
        ours="latens compiled", theirs="pythae", floor="floor", summary=summary,
    )
]  # fmt: skip
