"""Training on a table of 10 normal columns: two hidden layers of 64 units, ReLU, Adam at 1e-3 and a normal likelihood
of variance 1."""

from functools import partial

from speed.case import Case, Size
from speed.training import contenders, times

ORDER = 3
GOAL = "8 x pythae, 1.8 x JAX's scan at 512 rows (stretch: 12 x, 2.5 x)"


def work(size: Size, batch: int = 512):
    from speed import inputs, networks
    from speed.peers.work import Work

    x = inputs.normals(size.of(1_000_000, batch * 30))
    return Work(networks.Mlp(10, (64, 64), 4), x, loss="normal", batch=batch)


def some(size: Size, batch: int = 512):
    """The work on a fifth of the rows, for contenders that take a minute per epoch."""
    from dataclasses import replace

    whole = work(size, batch)
    return replace(whole, x=whole.x[: size.of(200_000, batch * 8)])


def summary(found):
    return times(found, "latens", "JAX scan") | times(found, "latens compiled", "JAX scan")


CASES = [
    Case(
        f"table-{batch}", f"10^6 x 10 normals, MLP 64-64, batch {batch}", GOAL, "rows/s",
        contenders(partial(work, batch=batch), "JAX scan", "floor", plain={}, fused={"fused": True})
        | {
            name: build for name, build in contenders(partial(some, batch=batch), "pythae", "PyOD", "TVAE").items()
            if not name.startswith("latens")
        },
        ours="latens", theirs="pythae", floor="floor", repeats=3, once=("PyOD", "TVAE"), summary=summary,
    )
    for batch in (512, 4096)
]  # fmt: skip
