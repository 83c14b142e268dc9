"""Blocks for a stream of features on grids of several sizes, over any leading axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from latens.networks.base import activation, on_images


class OnImages(nn.Module):
    """A network of images ``[N, C, H, W]``, over any leading axes."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The network's output for ``[..., C, H, W]``, with the same leading axes."""
        return on_images(self.network, x)


class Resize(nn.Module):
    """Moves ``[N, C, H, W]`` to a grid of another size: to the mean of positions if it is coarser, or to the nearest
    position if it is finer.
    """

    def __init__(self, size: Sequence[int]):
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, C, *size]``."""
        if x.shape[-1] > self.size[-1] or x.shape[-2] > self.size[-2]:
            return adaptive_avg_pool2d(x, self.size)  # type: ignore[arg-type]
        return interpolate(x, self.size)


def bottleneck(inputs: int, outputs: int, *, act: str = "silu", scale: float = 1.0) -> nn.Sequential:
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 through a quarter of the channels.

    They map ``[N, inputs, H, W]`` to ``[N, outputs, H, W]``. The initial weights of the last convolution are multiplied
    by ``scale``.
    """
    inner = max(4, inputs // 4)
    last = nn.Conv2d(inner, outputs, 1)
    with torch.no_grad():
        for p in last.parameters():
            p.mul_(scale)
    return nn.Sequential(
        activation(act), nn.Conv2d(inputs, inner, 1), activation(act), nn.Conv2d(inner, inner, 3, padding=1),
        activation(act), last,
    )  # fmt: skip


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """Grid sizes from a single position to the whole image, each about twice the one before.

    >>> grids(8, 8), grids(5, 3)
    ([(1, 1), (2, 2), (4, 4), (8, 8)], [(1, 1), (2, 1), (3, 2), (5, 3)])
    """
    found = [(height, width)]
    while max(found[0]) > 1:
        found.insert(0, (-(-found[0][0] // 2), -(-found[0][1] // 2)))
    return found
