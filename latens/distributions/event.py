"""Wrappers around elementwise likelihoods: the user's units, and the sum over observed cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.base import center
from latens.tensors.numerics import surely_complete


class InUnits(Distribution):
    """The distribution of x = shift + unit * u for u ~ base: a density of the user's data.

    log p(x) = log p_base((x - shift) / unit) - ln unit: the Jacobian is part of the number, so log-likelihoods do
    not depend on how the data were standardised inside.
    """

    arg_constraints: dict = {}
    has_rsample = True

    def __init__(self, base: Distribution, shift: Tensor, unit: Tensor):
        self.base, self.shift, self.unit = base, shift, unit
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.shift.to(self.base.mean.dtype) + self.unit.to(self.base.mean.dtype) * self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.unit.to(self.base.mean.dtype).square() * self.base.variance

    @property
    def fill(self) -> Tensor:
        """A value in the support."""
        return self.shift + self.unit * getattr(self.base, "fill", 0.0)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.shift + self.unit * self.base.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        # subtracted in the wider of the two types, so that 1.6e9 +- 1 keeps its digits
        inner = ((value - self.shift) / self.unit).to(self.base.mean.dtype)
        return self.base.log_prob(inner) - self.unit.log().to(inner.dtype)


class OnGrid(Distribution):
    """The distribution of x = first + step u for levels u = 0, 1, … ~ base: masses of the user's evenly spaced numbers.

    A value is the level it is nearest to, so that numbers rounded to the model's floats keep their mass; there is no
    Jacobian, as ln p(x) is that of a mass, comparable with that of the whole numbers u.
    """

    arg_constraints: dict = {}

    def __init__(self, base: Distribution, first: float, step: float):
        self.base, self.first, self.step = base, first, step
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.first + self.step * self.base.mean

    @property
    def center(self) -> Tensor:
        return self.first + self.step * center(self.base)

    @property
    def fill(self) -> float:
        """A value in the support."""
        return self.first

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.first + self.step * self.base.sample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(((value - self.first) / self.step).round())


class Reproduced(InUnits):
    """:class:`InUnits` where cells outside the mask ``varying`` never vary: they are ``shift`` and have no density.
    Such a cell adds 0 to ln p(x), and -``cost`` where it has another value.
    """

    def __init__(self, base: Distribution, shift: Tensor, unit: Tensor, varying: Tensor, cost: float):
        super().__init__(base, shift, unit)
        self.varying, self.cost = varying, cost

    @property
    def mean(self) -> Tensor:
        return self._kept(super().mean)

    @property
    def variance(self) -> Tensor:
        return torch.where(self.varying, super().variance, 0.0)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self._kept(super().rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        inside = super().log_prob(torch.where(self.varying, value, self.shift))
        return torch.where(self.varying, inside, -self.cost * (value != self.shift).to(inside.dtype))

    def _kept(self, values: Tensor) -> Tensor:
        return torch.where(self.varying, values, self.shift.to(values.dtype))


class Observed(Distribution):
    """An elementwise distribution whose last ``event_dims`` axes form one datum; NaN cells are unobserved.

    log p(x_observed) = sum over observed cells of log p(x_cell). Missing cells are filled with a value in the support
    *before* the density is evaluated and masked after, because masking a density of NaN alone gives NaN gradients
    (``fill`` of the base, 0 unless it says otherwise). Values that surely are complete skip the mask. ``cells`` gives
    the terms before the sum. A base with ``given(value)`` becomes what that
    gives, which may read the observed cells (:class:`~latens.distributions.InOrder`). One with ``summed(value,
    missing)`` sums over flat data itself where many draws meet
    the same data and nothing is differentiated.
    """

    arg_constraints: dict = {}

    def __init__(self, base: Distribution, event_dims: int):
        self.base, self.event_dims = base, event_dims
        shape = base.batch_shape
        cut = len(shape) - event_dims
        super().__init__(shape[:cut], shape[cut:], validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base.has_rsample

    @property
    def mean(self) -> Tensor:
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        return self.base.variance

    @property
    def center(self) -> Tensor:
        """The mean, or the mode where values are categories."""
        found = getattr(self.base, "center", None)
        return self.base.mean if found is None else found

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.base.rsample(torch.Size(sample_shape))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.base.sample(torch.Size(sample_shape))

    def cells(self, value: Tensor) -> Tensor:
        """log p of each cell, ``[..., event]``; zero where the cell is missing."""
        base = self.base.given(value) if hasattr(self.base, "given") else self.base
        if surely_complete(value):
            return base.log_prob(value)
        missing = value.isnan()
        filled = torch.where(missing, getattr(base, "fill", 0.0), value)
        return torch.where(missing, 0.0, base.log_prob(filled))

    def log_prob(self, value: Tensor) -> Tensor:
        summed = getattr(self.base, "summed", None)
        many = len(self.batch_shape) == 2 and value.shape == self.batch_shape[1:] + self.event_shape
        if summed is not None and many and self.event_dims == 1 and not torch.is_grad_enabled():
            missing = value.isnan() if value.is_floating_point() else torch.zeros_like(value, dtype=torch.bool)
            return summed(value, missing)
        return self.cells(value).sum(tuple(range(-self.event_dims, 0)))
