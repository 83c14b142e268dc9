"""Wrappers of elementwise likelihoods, for the user's units and for the sum over observed cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.base import center, drawn_again
from latens.tensors.numerics import surely_complete


class InUnits(Distribution):
    r"""The distribution of x = shift + unit u with u ~ base: a density of the user's data.

    .. math:: \ln p(x) = \ln p_{\text{base}}\!\left(\frac{x - \mathrm{shift}}{\mathrm{unit}}\right) - \ln \mathrm{unit}

    The Jacobian is included, so log-likelihoods do not depend on how the data were standardised internally.

    Args:
        base: an elementwise distribution.
        shift: the term that is added, broadcast against the cells.
        unit: the factor, > 0, broadcast against the cells.
    """

    arg_constraints: dict = {}
    has_rsample = True

    def __init__(self, base: Distribution, shift: Tensor, unit: Tensor):
        self.base, self.shift, self.unit = base, shift, unit
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """shift + unit E[u], in the shape of ``base``."""
        return self.shift.to(self.base.mean.dtype) + self.unit.to(self.base.mean.dtype) * self.base.mean

    @property
    def variance(self) -> Tensor:
        """unit² Var[u], in the shape of ``base``."""
        return self.unit.to(self.base.mean.dtype).square() * self.base.variance

    @property
    def fill(self) -> Tensor:
        """A value in the support, ``[*event]``."""
        return self.shift + self.unit * getattr(self.base, "fill", 0.0)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]``, reparameterised if the draws of ``base`` are."""
        return self.shift + self.unit * self.base.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each cell per unit of the user's data, in nats, ``[...]``."""
        # subtracted in the wider of the two types, in which 1.6e9 +- 1 keeps its digits
        inner = ((value - self.shift) / self.unit).to(self.base.mean.dtype)
        return self.base.log_prob(inner) - self.unit.log().to(inner.dtype)


class OnGrid(Distribution):
    """The distribution of x = first + step u with levels u = 0, 1, … ~ base: masses of evenly spaced numbers.

    A value has the mass of the nearest level, so rounding to the model's floats does not change its mass. There is no
    Jacobian, since p(x) is a mass: ln p(x) is ln p(u) of the whole number u.
    """

    arg_constraints: dict = {}

    def __init__(self, base: Distribution, first: float, step: float):
        self.base, self.first, self.step = base, first, step
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """first + step E[u], in the shape of ``base``."""
        return self.first + self.step * self.base.mean

    @property
    def center(self) -> Tensor:
        """first + step times the value that stands for ``base``, ``[*event]``."""
        return self.first + self.step * center(self.base)

    @property
    def fill(self) -> float:
        """The first value, which is in the support."""
        return self.first

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]`` in the user's numbers."""
        return self.first + self.step * self.base.sample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log mass of the level nearest to each value, in nats, ``[...]``."""
        return self.base.log_prob(((value - self.first) / self.step).round())


class Reproduced(InUnits):
    """:class:`InUnits`, with cells that never vary: where the mask ``varying`` is false, a cell equals ``shift`` and
    has no density. Such a cell adds 0 to ln p(x), or -``cost`` if it has another value.
    """

    def __init__(self, base: Distribution, shift: Tensor, unit: Tensor, varying: Tensor, cost: float):
        super().__init__(base, shift, unit)
        self.varying, self.cost = varying, cost

    @property
    def mean(self) -> Tensor:
        """The mean of :class:`InUnits`, and ``shift`` in cells that never vary, ``[..., *event]``."""
        return self._kept(super().mean)

    @property
    def variance(self) -> Tensor:
        """The variance of :class:`InUnits`, and 0 in cells that never vary, ``[..., *event]``."""
        return torch.where(self.varying, super().variance, 0.0)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]``, with ``shift`` in cells that never vary."""
        return self._kept(super().rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each cell, in nats, ``[...]``; 0 or -``cost`` in cells that never vary."""
        inside = super().log_prob(torch.where(self.varying, value, self.shift))
        return torch.where(self.varying, inside, -self.cost * (value != self.shift).to(inside.dtype))

    def _kept(self, values: Tensor) -> Tensor:
        return torch.where(self.varying, values, self.shift.to(values.dtype))


class Observed(Distribution):
    r"""Rows of independent cells; NaN cells are unobserved.

    .. math:: \ln p(x_{\text{obs}}) = \sum_{d \text{ observed}} \ln p(x_d)

    Missing cells are filled with a value in the support (``fill`` of the base, or 0 if it has none) *before* the
    density is evaluated, and masked afterwards, because the gradient of a density at NaN is NaN even if it is masked.
    Values that are known to be complete skip the mask.

    A base may define two further methods. ``given(value)`` returns the distribution to evaluate, which may depend on
    the observed cells (:class:`~latens.distributions.InOrder`). ``summed(value, missing)`` sums over flat rows, for
    many draws of the same rows and without gradients.

    Args:
        base: an elementwise distribution.
        event_dims: the number of last axes that form one row.

    >>> from latens.distributions import Normal
    >>> px = Observed(Normal(torch.zeros(3), torch.ones(3)), 1)
    >>> round(px.log_prob(torch.tensor([0.0, torch.nan, 0.0])).item(), 4)  # two of three cells
    -1.8379
    """

    arg_constraints: dict = {}

    def __init__(self, base: Distribution, event_dims: int):
        self.base, self.event_dims = base, event_dims
        shape = base.batch_shape
        cut = len(shape) - event_dims
        super().__init__(shape[:cut], shape[cut:], validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the base can be reparameterised."""
        return self.base.has_rsample

    @property
    def mean(self) -> Tensor:
        """The mean of the base, ``[..., *event]``."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """The variance of the base, ``[..., *event]``."""
        return self.base.variance

    @property
    def center(self) -> Tensor:
        """The mean, or the mode if values are categories, ``[..., *event]``."""
        found = getattr(self.base, "center", None)
        return self.base.mean if found is None else found

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws of complete rows, ``[*sample_shape, ..., *event]``."""
        return self.base.rsample(torch.Size(sample_shape))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws of complete rows, ``[*sample_shape, ..., *event]``, within the limits of
        :func:`latens.distributions.base.drawing_within`."""
        shape = torch.Size(sample_shape)
        return drawn_again(self.base.sample(shape), lambda: self.base.sample(shape))

    def cells(self, value: Tensor) -> Tensor:
        """ln p of each cell, in nats, ``[..., *event]``; 0 for missing cells."""
        base = self.base.given(value) if hasattr(self.base, "given") else self.base
        if surely_complete(value):
            return base.log_prob(value)
        missing = value.isnan()
        filled = torch.where(missing, getattr(base, "fill", 0.0), value)
        return base.log_prob(filled).masked_fill(missing, 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of ln p over the observed cells of each row, in nats, ``[...]``."""
        summed = getattr(self.base, "summed", None)
        many = len(self.batch_shape) == 2 and value.shape == self.batch_shape[1:] + self.event_shape
        if summed is not None and many and self.event_dims == 1 and not torch.is_grad_enabled():
            missing = value.isnan() if value.is_floating_point() else torch.zeros_like(value, dtype=torch.bool)
            return summed(value, missing)
        return self.cells(value).sum(tuple(range(-self.event_dims, 0)))
