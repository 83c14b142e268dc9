"""Convolutional encoder and decoder for images of any shape: 1 or more channels, odd, small and non-square sizes.

Both are hybrids: strided convolutions around a fully connected residual trunk and, for images that are not too large, a
linear map in parallel with the convolutions (from pixels to trunk, or from trunk to pixels). There are no normalisation
layers: in our trials they cost 0.1 to 0.2 bits per dimension (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from latens.networks.base import activation, on_images
from latens.networks.linear import Linear
from latens.networks.mlp import residual_block

SKIP_LIMIT = 4096  # up to this many cells of an image, a linear map runs in parallel with the convolutions


def stages(height: int, width: int) -> int:
    """The number of halvings that bring the longer side near 7, at least one.

    >>> stages(28, 28), stages(8, 8), stages(64, 48)
    (2, 1, 3)
    """
    return max(1, round(math.log2(max(height, width) / 7)))


def _grid(height: int, width: int, halvings: int) -> tuple[int, int]:
    return -(-height // 2**halvings), -(-width // 2**halvings)


class ConvEncoder(nn.Module):
    """From images to features: ``[..., C, H, W]`` -> ``[..., outputs]``.

    It has convolutions of 4 x 4 with stride 2 (padded on the far sides to a multiple of the stride), a residual trunk,
    and a linear head.

    Args:
        shape: (C, H, W).
        outputs: the number of outputs.
        width: the width of the trunk.
        blocks: the number of residual blocks in the trunk.
        channels: the channels after the last convolution; each convolution before has half as many, at least 8.
        act: the name of the activation.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, *, width: int = 512, blocks: int = 1, channels: int = 32,
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        size, height, across = shape
        count = stages(height, across)
        grid = _grid(height, across, count)
        widths = [size] + [max(channels // 2 ** (count - 1 - i), 8) for i in range(count)]
        self.padding = (0, grid[1] * 2**count - across, 0, grid[0] * 2**count - height)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.act = activation(act)
        self.stem = Linear(widths[-1] * math.prod(grid), width)
        self.skip = Linear(math.prod(shape), width, bias=False) if math.prod(shape) <= SKIP_LIMIT else None
        self.trunk = nn.Sequential(*(residual_block(width, act) for _ in range(blocks)))
        self.head = Linear(width, outputs)
        with torch.no_grad():
            self.head.weight.mul_(0.3)

    def _image(self, x: Tensor) -> Tensor:  # N x C x H x W
        h = pad(x, self.padding).contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            h = self.act(convolution(h))
        h = self.stem(h.flatten(1))
        if self.skip is not None:
            h = h + self.skip(x.flatten(1))
        return self.head(self.act(self.trunk(h)))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C, H, W]`` -> ``[..., outputs]``."""
        return on_images(self._image, x)


class ConvDecoder(nn.Module):
    """From features to images: ``[..., inputs]`` -> ``[..., *shape]``, the mirror of :class:`ConvEncoder`.

    Its transposed convolutions of 4 x 4 are cut to size. Every output has a separate bias.

    Args:
        inputs: the number of inputs.
        shape: (C, H, W), or (P, C, H, W) for P parameters per cell.
        width: the width of the trunk.
        blocks: the number of residual blocks in the trunk.
        channels: the channels before the first transposed convolution; each later one has half as many, at least 8.
        act: the name of the activation.
    """

    def __init__(
        self, inputs: int, shape: Sequence[int], *, width: int = 512, blocks: int = 1, channels: int = 32,
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        self.shape = tuple(shape)
        height, across = shape[-2:]
        count = stages(height, across)
        self.grid = _grid(height, across, count)
        widths = [max(channels // 2**i, 8) for i in range(count)] + [math.prod(shape[:-2])]
        self.act = activation(act)
        self.stem = Linear(inputs, width)
        self.trunk = nn.Sequential(*(residual_block(width, act) for _ in range(blocks)))
        self.spread = Linear(width, widths[0] * math.prod(self.grid))
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=number < count - 1)
            for number, (before, after) in enumerate(pairwise(widths))
        )
        cells = math.prod(shape)
        small = math.prod(shape[-3:]) <= SKIP_LIMIT
        self.skip = Linear(width, cells, bias=False) if small else None
        if self.skip is not None:
            with torch.no_grad():
                self.skip.weight.mul_(0.1)
        self.bias = nn.Parameter(torch.zeros(self.shape))

    def _image(self, z: Tensor) -> Tensor:  # N x Z
        t = self.act(self.trunk(self.stem(z)))
        h = self.spread(t).unflatten(-1, (-1, *self.grid)).contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            h = convolution(self.act(h))
        height, across = self.shape[-2:]
        x = h[..., :height, :across].unflatten(1, self.shape[:-2]) + self.bias
        return x if self.skip is None else x + self.skip(t).unflatten(-1, self.shape)

    def forward(self, z: Tensor) -> Tensor:
        """``[..., inputs]`` -> ``[..., *shape]``."""
        return on_images(self._image, z, event_dims=1)
