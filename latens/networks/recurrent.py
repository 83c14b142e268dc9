"""Data as steps of time, and recurrent networks over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latens.networks.base import on_images
from latens.networks.linear import Linear


def steps_of(shape: Sequence[int]) -> tuple[int, int]:
    """(steps, numbers a step) of one datum: rows of an image C x H x W, the T of a sequence T x C, cells of a vector.

    >>> steps_of((3, 8, 5)), steps_of((8, 5)), steps_of((8,))
    ((8, 15), (8, 5), (8, 1))
    """
    if len(shape) == 1:
        return shape[0], 1
    return shape[-2], math.prod(shape[:-2]) * shape[-1]


class Steps(nn.Module):
    """``[..., *shape]`` -> ``[..., T, F]``, by :func:`steps_of`; ``back`` is the inverse for parameters ``[*more,
    *shape]`` a datum, which hold ``prod(more) F`` numbers a step.

    >>> steps, x = Steps((3, 8, 5)), torch.randn(2, 3, 8, 5)
    >>> torch.equal(steps.back(steps(x), (3, 8, 5)), x)
    True
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.shape) == 1:
            return x.unsqueeze(-1)
        return x if len(self.shape) == 2 else x.movedim(-2, -3).flatten(-2)

    def back(self, h: Tensor, shape: Sequence[int]) -> Tensor:
        last = 1 if len(self.shape) == 1 else self.shape[-1]
        return h.unflatten(-1, (-1, last)).movedim(-3, -2).reshape(*h.shape[:-2], *shape)


class RecurrentEncoder(nn.Module):
    """``[..., T, F]`` -> ``[..., outputs]``: a gated recurrent layer (Cho et al. 2014), its last state mapped."""

    def __init__(self, inputs: int, outputs: int, width: int = 64):
        super().__init__()
        self.layer, self.head = nn.GRU(inputs, width, batch_first=True), Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return on_images(lambda x: self.head(self.layer(x)[0][:, -1]), x, event_dims=2)


class RecurrentDecoder(nn.Module):
    """``[..., inputs]`` -> ``[..., T, outputs]``: the same code at every step of a gated recurrent layer."""

    def __init__(self, inputs: int, steps: int, outputs: int, width: int = 64):
        super().__init__()
        self.steps, self.layer, self.head = steps, nn.GRU(inputs, width, batch_first=True), Linear(width, outputs)

    def _sequence(self, z: Tensor) -> Tensor:
        return self.head(self.layer(z.unsqueeze(1).expand(-1, self.steps, -1))[0])

    def forward(self, z: Tensor) -> Tensor:
        return on_images(self._sequence, z, event_dims=1)


class GatedUnit(nn.Module):
    """h' = u h + (1 - u) tanh(W x + r (V h)) with gates u and r, over any leading axes (Cho et al. 2014)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.of_input, self.of_state = Linear(inputs, 3 * width), Linear(width, 3 * width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        (r, u, n), (s, v, m) = self.of_input(x).chunk(3, -1), self.of_state(h).chunk(3, -1)
        u = torch.sigmoid(u + v)
        return u * h + (1 - u) * torch.tanh(n + torch.sigmoid(r + s) * m)
