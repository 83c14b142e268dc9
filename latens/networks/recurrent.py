"""Data as steps in time, and recurrent networks over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latens.networks.base import on_images
from latens.networks.linear import Linear


def steps_of(shape: Sequence[int]) -> tuple[int, int]:
    """(steps, numbers per step) of a row. Steps are the lines of an image C x H x W, the T of a sequence T x C, or the
    cells of a vector.

    >>> steps_of((3, 8, 5)), steps_of((8, 5)), steps_of((8,))
    ((8, 15), (8, 5), (8, 1))
    """
    if len(shape) == 1:
        return shape[0], 1
    return shape[-2], math.prod(shape[:-2]) * shape[-1]


class Steps(nn.Module):
    """Rows as steps in time, from ``[..., *shape]`` to ``[..., T, F]``; see :func:`steps_of`.

    >>> steps, x = Steps((3, 8, 5)), torch.randn(2, 3, 8, 5)
    >>> torch.equal(steps.back(steps(x), (3, 8, 5)), x)
    True
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., *shape]`` -> ``[..., T, F]``."""
        if len(self.shape) == 1:
            return x.unsqueeze(-1)
        return x if len(self.shape) == 2 else x.movedim(-2, -3).flatten(-2)

    def back(self, h: Tensor, shape: Sequence[int]) -> Tensor:
        """The inverse, for parameters ``[*more, *shape]`` of a row, which have ``prod(more) F`` numbers per step."""
        last = 1 if len(self.shape) == 1 else self.shape[-1]
        return h.unflatten(-1, (-1, last)).movedim(-3, -2).reshape(*h.shape[:-2], *shape)


class RecurrentEncoder(nn.Module):
    """From ``[..., T, F]`` to ``[..., outputs]``: a linear map of the last state of a gated recurrent layer (Cho et al.
    2014).
    """

    def __init__(self, inputs: int, outputs: int, width: int = 64):
        super().__init__()
        self.layer, self.head = nn.GRU(inputs, width, batch_first=True), Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., T, F]`` -> ``[..., outputs]``."""
        return on_images(lambda x: self.head(self.layer(x)[0][:, -1]), x, event_dims=2)


class RecurrentDecoder(nn.Module):
    """From ``[..., inputs]`` to ``[..., T, outputs]``: a gated recurrent layer that gets the same code in every
    step."""

    def __init__(self, inputs: int, steps: int, outputs: int, width: int = 64):
        super().__init__()
        self.steps, self.layer, self.head = steps, nn.GRU(inputs, width, batch_first=True), Linear(width, outputs)

    def _sequence(self, z: Tensor) -> Tensor:
        return self.head(self.layer(z.unsqueeze(1).expand(-1, self.steps, -1))[0])

    def forward(self, z: Tensor) -> Tensor:
        """``[..., inputs]`` -> ``[..., T, outputs]``."""
        return on_images(self._sequence, z, event_dims=1)


class GatedUnit(nn.Module):
    r"""One step of a gated recurrent unit, over any leading axes (Cho et al. 2014).

    .. math:: h' = u \odot h + (1 - u) \odot \tanh(W x + r \odot V h)

    where the gates u and r are sigmoids of linear maps of x and h.
    """

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.of_input, self.of_state = Linear(inputs, 3 * width), Linear(width, 3 * width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """From x ``[..., inputs]`` and h ``[..., width]`` to h' ``[..., width]``."""
        (r, u, n), (s, v, m) = self.of_input(x).chunk(3, -1), self.of_state(h).chunk(3, -1)
        u = torch.sigmoid(u + v)
        return u * h + (1 - u) * torch.tanh(n + torch.sigmoid(r + s) * m)
