"""Encoder and decoder for sequences ``[T, C]``, time first, of any length from 1 and any number of channels.

Both are hybrids like those for images: strided one-dimensional convolutions around a fully connected residual trunk
and, for short sequences, a linear map in parallel with the convolutions. There are no normalisation layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from latens.networks.base import Residual, activation, on_images
from latens.networks.conv import SKIP_LIMIT
from latens.networks.linear import Linear
from latens.networks.mlp import residual_block


def halvings(length: int) -> int:
    """The number of halvings that bring the length near 7, at least one.

    >>> halvings(1), halvings(28), halvings(1000)
    (1, 2, 7)
    """
    return max(1, round(math.log2(length / 7)))


def _widths(count: int, channels: int) -> list[int]:
    """The channels after each halving, from the finest; they double until they have grown fourfold."""
    return [channels * min(2**i, 4) for i in range(count)]


def _keep_scale(convolution: nn.Conv1d | nn.ConvTranspose1d, terms: int) -> nn.Module:
    """Set initial weights of variance gain / terms, where ``terms`` is how many products add up to one output.

    A signal must survive many halvings without normalisation (He et al. 2015, who use the gain 2 for relu; here it is
    2.8 = 1 / E[silu(e)^2] with e ~ N(0, 1)).
    """
    nn.init.normal_(convolution.weight, std=math.sqrt(2.8 / terms))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _mix(channels: int, act: str) -> nn.Module:
    """h + conv(act(h)) over three neighbours, with small initial weights."""
    convolution = nn.Conv1d(channels, channels, 3, padding=1)
    with torch.no_grad():
        convolution.weight.mul_(0.3)
    return Residual(nn.Sequential(activation(act), convolution))


class SequenceEncoder(nn.Module):
    """From sequences to features: ``[..., T, C]`` -> ``[..., outputs]``.

    It has convolutions over 4 steps with stride 2 (padded at the end to a multiple of the stride), each followed by a
    residual convolution; then a residual trunk and a linear head.

    Args:
        shape: (T, C).
        outputs: the number of outputs.
        width: the width of the trunk.
        blocks: the number of residual blocks in the trunk.
        channels: the channels after the first convolution; they double until they have grown fourfold.
        act: the name of the activation.

    >>> SequenceEncoder((17, 3), 8)(torch.zeros(5, 2, 17, 3)).shape
    torch.Size([5, 2, 8])
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, *, width: int = 256, blocks: int = 1, channels: int = 32,
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        length, size = shape
        count = halvings(length)
        grid = -(-length // 2**count)
        widths = [size] + _widths(count, channels)
        self.padding = (0, grid * 2**count - length)
        self.convolutions = nn.ModuleList()
        for number, (before, after) in enumerate(pairwise(widths)):
            strided = _keep_scale(nn.Conv1d(before, after, 4, stride=2, padding=1), 4 * before)
            first = [] if number == 0 else [activation(act)]
            self.convolutions.append(nn.Sequential(*first, strided, _mix(after, act)))
        self.act = activation(act)
        self.stem = Linear(widths[-1] * grid, width)
        self.skip = Linear(length * size, width, bias=False) if length * size <= SKIP_LIMIT else None
        self.trunk = nn.Sequential(*(residual_block(width, act) for _ in range(blocks)))
        self.head = Linear(width, outputs)
        with torch.no_grad():
            self.head.weight.mul_(0.3)

    def _sequence(self, x: Tensor) -> Tensor:  # N x T x C
        h = pad(x.mT, self.padding)
        for convolution in self.convolutions:
            h = convolution(h)
        h = self.stem(self.act(h).flatten(1))
        if self.skip is not None:
            h = h + self.skip(x.flatten(1))
        return self.head(self.act(self.trunk(h)))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., T, C]`` -> ``[..., outputs]``."""
        return on_images(self._sequence, x, event_dims=2)


class SequenceDecoder(nn.Module):
    """From features to sequences: ``[..., inputs]`` -> ``[..., *shape]``, the mirror of :class:`SequenceEncoder`.

    Its transposed convolutions are cut to length. Every output has a separate bias.

    Args:
        inputs: the number of inputs.
        shape: (T, C), or (P, T, C) for P parameters per cell.
        width: the width of the trunk.
        blocks: the number of residual blocks in the trunk.
        channels: the channels before the last transposed convolution.
        act: the name of the activation.

    >>> SequenceDecoder(8, (2, 17, 3))(torch.zeros(5, 8)).shape
    torch.Size([5, 2, 17, 3])
    """

    def __init__(
        self, inputs: int, shape: Sequence[int], *, width: int = 256, blocks: int = 1, channels: int = 32,
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        self.shape = tuple(shape)
        self.length, size = self.shape[-2:]
        outputs = math.prod(self.shape[:-2]) * size
        count = halvings(self.length)
        self.grid = -(-self.length // 2**count)
        widths = _widths(count, channels)[::-1] + [outputs]
        self.act = activation(act)
        self.stem = Linear(inputs, width)
        self.trunk = nn.Sequential(*(residual_block(width, act) for _ in range(blocks)))
        self.spread = Linear(width, widths[0] * self.grid)
        self.convolutions = nn.ModuleList()
        for number, (before, after) in enumerate(pairwise(widths)):
            last = number == count - 1
            doubled = nn.ConvTranspose1d(before, after, 4, stride=2, padding=1, bias=not last)
            if not last:
                _keep_scale(doubled, 2 * before)
            self.convolutions.append(nn.Sequential(_mix(before, act), activation(act), doubled))
        small = self.length * size <= SKIP_LIMIT
        self.skip = Linear(width, math.prod(self.shape), bias=False) if small else None
        if self.skip is not None:
            with torch.no_grad():
                self.skip.weight.mul_(0.1)
        self.bias = nn.Parameter(torch.zeros(self.shape))

    def _sequence(self, z: Tensor) -> Tensor:  # N x Z
        t = self.act(self.trunk(self.stem(z)))
        h = self.spread(t).unflatten(-1, (-1, self.grid))
        for convolution in self.convolutions:
            h = convolution(h)
        x = h[..., : self.length].unflatten(1, (*self.shape[:-2], self.shape[-1])).mT + self.bias
        return x if self.skip is None else x + self.skip(t).unflatten(-1, self.shape)

    def forward(self, z: Tensor) -> Tensor:
        """``[..., inputs]`` -> ``[..., *shape]``."""
        return on_images(self._sequence, z, event_dims=1)
