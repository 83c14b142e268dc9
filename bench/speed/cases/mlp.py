"""Training on images in memory: 784-512-10 and back, ReLU, batches of 128, Adam 1e-3, Bernoulli likelihood."""

from speed.case import Case, Size
from speed.training import contenders

ORDER = 1
GOAL = "1.8 x pythae (stretch: ahead of JAX), 0.6 of the floor"


def work(size: Size, device: str = "cpu"):
    from speed import inputs, networks
    from speed.peers.work import Work

    x = inputs.grey(inputs.fashion(size)[0])
    return Work(networks.Mlp(784, (512,), 10), x, epochs=size.of(1, 2), device=device)


def summary(found):
    one, jax = found["latens compiled"], found.get("JAX scan")
    return {} if jax is None else {"times JAX": round(one["median"] / jax["median"], 2)}


CASES = [
    Case(
        "mlp", "MLP 784-512-10 on 60,000 grey images, batch 128", GOAL, "rows/s",
        contenders(work, "pythae", "JAX scan", "floor", plain={}, fused={"fused": True}),
        ours="latens compiled", theirs="pythae", floor="floor", summary=summary,
    )
]  # fmt: skip
