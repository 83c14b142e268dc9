"""Scores of likeness in the place of ln p(x|z): no density of x, and so no bound on ln p(x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution


class PerceptualScore(Distribution):
    """``log_prob(x)`` = ``score(x, mean)``, a score and not a logarithm of a density: it does not integrate to 1.

    ``why`` says so in words: it is what is printed where a bound on ln p(x) would be. ``mean``: ``[..., *event]``;
    there is no noise to draw, so a sample is the mean.
    """

    arg_constraints: dict = {}

    def __init__(self, mean: Tensor, score: Callable[[Tensor, Tensor], Tensor], event_dims: int, why: str):
        self._mean, self.score, self.no_density = mean, score, why
        cut = mean.dim() - event_dims
        super().__init__(mean.shape[:cut], mean.shape[cut:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self._mean.detach().expand(*sample_shape, *self._mean.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.score(value, self._mean)
