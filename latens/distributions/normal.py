"""Normal distributions: elementwise, diagonal and full, all parametrised by the variance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.distributions.located import Located
from latens.tensors.numerics import LOG_2PI, broadcast_shape
from latens.tensors.randomness import standard_normal


class Normal(Distribution):
    r"""Elementwise normal; the event is a single number.

    .. math:: \ln p(x) = -\frac12 \left[\frac{(x - \mu)^2}{\sigma^2} + \ln(2 \pi \sigma^2)\right]

    Args:
        loc: :math:`\mu`, ``[...]``.
        variance: :math:`\sigma^2 > 0`, ``[...]``.
    """

    arg_constraints = {"loc": constraints.real, "variance": constraints.positive}
    has_rsample = True

    def __init__(self, loc: Tensor, variance: Tensor):
        self.loc, self._variance = loc, variance
        super().__init__(broadcast_shape(loc.shape, variance.shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``loc``, ``[...]``."""
        return self.loc.expand(self._batch_shape)

    @property
    def variance(self) -> Tensor:
        """``variance``, ``[...]``."""
        return self._variance.expand(self._batch_shape)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ...]``."""
        return self.loc + self._variance.sqrt() * standard_normal(sample_shape, self.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``."""
        return -0.5 * ((value - self.loc) ** 2 / self._variance + self._variance.log() + LOG_2PI)


class DiagonalNormal(Located):
    r"""Independent normals over the last axis: z = loc + sqrt(variance) noise.

    .. math:: \ln q(z) = -\frac12 \sum_i \left[\frac{(z_i - \mu_i)^2}{\sigma_i^2} + \ln(2 \pi \sigma_i^2)\right]

    Args:
        loc: :math:`\mu`, ``[..., Z]``.
        variance: :math:`\sigma^2 > 0`, ``[..., Z]``.
    """

    arg_constraints = Located.arg_constraints | {"variance": constraints.independent(constraints.positive, 1)}

    def __init__(self, loc: Tensor, variance: Tensor):
        loc, self._variance = torch.broadcast_tensors(loc, variance)
        super().__init__(loc)

    @property
    def variance(self) -> Tensor:
        """``variance``, ``[..., Z]``."""
        return self._variance

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., Z]``."""
        return self.loc + self._variance.sqrt() * standard_normal(sample_shape, self.loc)

    def sample_rows(self, leading: int) -> Tensor:
        """One reparameterised draw of each distribution of the batch, ``[..., Z]``.

        The first ``leading`` batch axes are the axes of draws, and the next axis is the axis of rows.
        """
        noise = standard_normal(self.loc.shape[:leading], self.loc[(0,) * leading])
        return self.loc + self._variance.sqrt() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z), in nats, ``[...]``."""
        return -0.5 * ((value - self.loc) ** 2 / self._variance + self._variance.log() + LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        r""":math:`\tfrac12 \sum_i \ln(2 \pi e \sigma_i^2)`, in nats, ``[...]``."""
        return 0.5 * (self._variance.log() + LOG_2PI + 1).sum(-1)

    def each(self) -> DiagonalNormal:
        """The dimensions as a batch ``[..., Z]`` of distributions with one dimension each."""
        return DiagonalNormal(self.loc.unsqueeze(-1), self._variance.unsqueeze(-1))


class FullNormal(Located):
    r"""N(loc, L Lᵀ) over the last axis, L lower triangular with a positive diagonal: z = loc + L noise.

    .. math:: \ln q(z) = -\frac12 \left[\lVert L^{-1} (z - \mu) \rVert^2 + Z \ln 2 \pi\right] - \sum_i \ln L_{ii}

    Args:
        loc: :math:`\mu`, ``[..., Z]``.
        scale_tril: L, ``[..., Z, Z]``.
    """

    arg_constraints = Located.arg_constraints | {"scale_tril": constraints.lower_cholesky}

    def __init__(self, loc: Tensor, scale_tril: Tensor):
        super().__init__(loc.expand(*broadcast_shape(loc.shape[:-1], scale_tril.shape[:-2]), loc.shape[-1]))
        self.scale_tril = scale_tril.expand(*self.loc.shape, loc.shape[-1])

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance, ``[..., Z]``."""
        return self.scale_tril.square().sum(-1)

    @property
    def half_log_det(self) -> Tensor:
        """ln det L, half the log-determinant of the covariance, ``[...]``."""
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., Z]``."""
        noise = standard_normal(sample_shape, self.loc)
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def whiten(self, value: Tensor) -> Tensor:
        r""":math:`L^{-1} (\mathrm{value} - \mu)`, in the shape of ``value``."""
        difference = (value - self.loc).unsqueeze(-1)
        tril = self.scale_tril.expand(*difference.shape[:-2], *self.scale_tril.shape[-2:])
        return torch.linalg.solve_triangular(tril, difference, upper=False).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z), in nats, ``[...]``."""
        size = self.loc.shape[-1]
        return -0.5 * (self.whiten(value).square().sum(-1) + size * LOG_2PI) - self.half_log_det

    def entropy(self) -> Tensor:
        r""":math:`\tfrac12 Z \ln(2 \pi e) + \ln \det L`, in nats, ``[...]``."""
        return 0.5 * self.loc.shape[-1] * (LOG_2PI + 1) + self.half_log_det
