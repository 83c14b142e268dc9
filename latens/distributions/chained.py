"""Two groups of codes; the second is given the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Chained(Distribution):
    r"""Codes in two groups, z = (a, b), concatenated: a from ``first``, then b from ``second(a)``.

    .. math:: \ln p(z) = \ln p(a) + \ln p(b \mid a)

    Args:
        first: the distribution of a, event ``[A]``.
        second: maps a ``[..., A]`` to a distribution over b ``[..., B]``: a diagonal normal or a
            :class:`latens.distributions.DitheredMixture`.
        size: B, the size of b.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector

    def __init__(self, first: Distribution, second: Callable[[Tensor], Any], size: int):
        self.first, self.second = first, second
        self.has_rsample = first.has_rsample
        self.row_noise = bool(getattr(first, "row_noise", False))
        event = torch.Size((first.event_shape[-1] + size,))
        super().__init__(first.batch_shape, event, validate_args=False)

    @property
    def center(self) -> Tensor:
        """(E[a], E[b | E[a]]), which stands for the distribution, ``[..., A + B]``."""
        a = self.first.mean
        return torch.cat([a, self.second(a).mean], -1)

    def _further(self, a: Tensor, leading: int) -> Tensor:
        return torch.cat([a, self.second(a).sample_rows(leading)], -1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., A + B]``, with gradients if both parts carry them."""
        return self._further(self.first.rsample(torch.Size(sample_shape)), len(sample_shape))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., A + B]``, without gradients."""
        with torch.no_grad():
            return self._further(self.first.sample(torch.Size(sample_shape)), len(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(a) + ln p(b | a), in nats, ``[...]``."""
        a, b = value.split([self.first.event_shape[-1], value.shape[-1] - self.first.event_shape[-1]], -1)
        return self.first.log_prob(a) + self.second(a).log_prob(b)
