"""Similarity scores instead of ln p(x|z). They are not densities of x, so there is no bound on ln p(x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution


class PerceptualScore(Distribution):
    """A score of similarity to ``mean``, used as if it were ln p(x|z). It is not a density: it does not integrate to 1.

    A sample is the mean, because there is no noise to draw.

    Args:
        mean: ``[..., *event]``.
        score: ``score(x, mean)`` gives the score of each row, ``[...]``.
        event_dims: the number of last axes that form one row.
        why: the words that are printed instead of a bound on ln p(x).
    """

    arg_constraints: dict = {}

    def __init__(self, mean: Tensor, score: Callable[[Tensor, Tensor], Tensor], event_dims: int, why: str):
        self._mean, self.score, self.no_density = mean, score, why
        cut = mean.dim() - event_dims
        super().__init__(mean.shape[:cut], mean.shape[cut:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``mean``, ``[..., *event]``."""
        return self._mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Copies of the mean, ``[*sample_shape, ..., *event]``, without gradients."""
        return self._mean.detach().expand(*sample_shape, *self._mean.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """``score(value, mean)``, ``[...]``: not a log-density."""
        return self.score(value, self._mean)
