"""Distributions known by how they are drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution


class Drawn(Distribution):
    """Codes known by a way to draw them and one value that stands for them; its density has no closed form.

    ``mean`` ``[B, Z]``: that value (each class that gives one says what it is). ``draw(k)``: k draws ``[k, B, Z]``,
    their noise from :func:`latens.tensors.randomness.standard_normal`. ``log_prob`` raises: where such a distribution
    is q or p of a draw there is no rate in closed form, and ``log_pz`` and ``log_qz`` may live on a larger space than
    z.

    >>> q = Drawn(torch.zeros(4, 2), lambda k: torch.ones(k, 4, 2))
    >>> q.sample((3,)).shape
    torch.Size([3, 4, 2])
    """

    arg_constraints: dict = {}
    row_noise = True

    def __init__(self, mean: Tensor, draw: Callable[[int], Tensor]):
        self._mean, self._draw = mean, draw
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            return self._draw(shape.numel()).reshape(*shape, *self._mean.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        raise ValueError("this distribution is known by its draws alone: take the weights of a draw for densities")
