"""Training a convolutional network on images in batches of 128: two 4 x 4 convolutions of stride 2 with 32 and 64
channels, and 256 hidden units."""

from speed.case import Case, Size
from speed.training import contenders

ORDER = 2
GOAL = "1.5 x pythae (stretch: 1.7 x)"


def work(size: Size, device: str = "cpu"):
    from speed import inputs, networks
    from speed.peers.work import Work

    images = inputs.fashion(size)[0][: size.of(128 * 100, None)]
    return Work(networks.Conv(), inputs.binary(images).reshape(-1, 1, 28, 28), device=device, unit="ms")


CASES = [
    Case(
        "conv", "convolutions 32-64, 256 hidden, batch 128: ms per step", GOAL, "ms",
        contenders(work, "pythae", "floor", plain={}, channels_last={"channels_last": True, "fused": True}),
        ours="latens", theirs="pythae", floor="floor",
    )
]  # fmt: skip
