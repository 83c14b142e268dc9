"""Normal distributions: elementwise, diagonal and full, all parametrised by the variance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.distributions.located import Located
from latens.tensors.numerics import LOG_2PI, broadcast_shape
from latens.tensors.randomness import standard_normal


class Normal(Distribution):
    """Elementwise N(loc, variance); the event is a single number.

    log p(x) = -[(x - loc)^2 / variance + ln(2 pi variance)] / 2, in nats.
    """

    arg_constraints = {"loc": constraints.real, "variance": constraints.positive}
    has_rsample = True

    def __init__(self, loc: Tensor, variance: Tensor):
        self.loc, self._variance = loc, variance
        super().__init__(broadcast_shape(loc.shape, variance.shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc.expand(self._batch_shape)

    @property
    def variance(self) -> Tensor:
        return self._variance.expand(self._batch_shape)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.loc + self._variance.sqrt() * standard_normal(sample_shape, self.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * ((value - self.loc) ** 2 / self._variance + self._variance.log() + LOG_2PI)


class DiagonalNormal(Located):
    """N(loc, diag variance) over the last axis: z = loc + sqrt(variance) * noise.

    log q(z) = sum_i of the elementwise normal log-density, in nats. Shapes: loc, variance ``[..., Z]``.
    """

    arg_constraints = Located.arg_constraints | {"variance": constraints.independent(constraints.positive, 1)}

    def __init__(self, loc: Tensor, variance: Tensor):
        loc, self._variance = torch.broadcast_tensors(loc, variance)
        super().__init__(loc)

    @property
    def variance(self) -> Tensor:
        return self._variance

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.loc + self._variance.sqrt() * standard_normal(sample_shape, self.loc)

    def sample_rows(self, leading: int) -> Tensor:
        """A reparameterised draw of each of the batch, whose first ``leading`` axes are draws of the rows on the next
        one."""
        noise = standard_normal(self.loc.shape[:leading], self.loc[(0,) * leading])
        return self.loc + self._variance.sqrt() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * ((value - self.loc) ** 2 / self._variance + self._variance.log() + LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        return 0.5 * (self._variance.log() + LOG_2PI + 1).sum(-1)

    def each(self) -> DiagonalNormal:
        """The dimensions as distributions of their own, ``[..., Z]`` of one dimension each."""
        return DiagonalNormal(self.loc.unsqueeze(-1), self._variance.unsqueeze(-1))


class FullNormal(Located):
    """N(loc, L L^T) over the last axis, L lower triangular with a positive diagonal: z = loc + L noise.

    log q(z) = -[|L^-1 (z - loc)|^2 + Z ln 2 pi] / 2 - sum_i ln L_ii. Shapes: loc ``[..., Z]``, scale_tril
    ``[..., Z, Z]``.
    """

    arg_constraints = Located.arg_constraints | {"scale_tril": constraints.lower_cholesky}

    def __init__(self, loc: Tensor, scale_tril: Tensor):
        super().__init__(loc.expand(*broadcast_shape(loc.shape[:-1], scale_tril.shape[:-2]), loc.shape[-1]))
        self.scale_tril = scale_tril.expand(*self.loc.shape, loc.shape[-1])

    @property
    def variance(self) -> Tensor:
        return self.scale_tril.square().sum(-1)

    @property
    def half_log_det(self) -> Tensor:
        """ln det L, half the log-determinant of the covariance, ``[...]``."""
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        noise = standard_normal(sample_shape, self.loc)
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def whiten(self, value: Tensor) -> Tensor:
        """L^-1 (value - loc), same shape as ``value``."""
        difference = (value - self.loc).unsqueeze(-1)
        tril = self.scale_tril.expand(*difference.shape[:-2], *self.scale_tril.shape[-2:])
        return torch.linalg.solve_triangular(tril, difference, upper=False).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        size = self.loc.shape[-1]
        return -0.5 * (self.whiten(value).square().sum(-1) + size * LOG_2PI) - self.half_log_det

    def entropy(self) -> Tensor:
        return 0.5 * self.loc.shape[-1] * (LOG_2PI + 1) + self.half_log_det
