"""Distributions that are known only by their draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution


class Drawn(Distribution):
    """Codes that are known by a way to draw them, and by one value that stands for them. The density has no closed
    form.

    ``log_prob`` raises ``ValueError``. If such a distribution is q or p of a draw, there is no rate in closed form, and
    ``log_pz`` and ``log_qz`` of the draw may be densities on a larger space than the space of z.

    Args:
        mean: ``[B, Z]``, the value that stands for the distribution; each class that makes a ``Drawn`` says which.
        draw: ``draw(k)`` gives k draws ``[k, B, Z]``, with noise from
            :func:`latens.tensors.randomness.standard_normal`.

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
        """The value that stands for the distribution, ``[B, Z]``."""
        return self._mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, B, Z]``, without gradients."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            return self._draw(shape.numel()).reshape(*shape, *self._mean.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Raises ``ValueError``, as the density has no closed form."""
        raise ValueError("the density of this distribution has no closed form: use log_pz and log_qz of a draw")
