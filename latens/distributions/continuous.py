"""Elementwise densities other than the normal: heavy tails, positive numbers, numbers in an interval, and shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints

from latens.distributions.counts import stirling
from latens.distributions.normal import Normal
from latens.tensors.numerics import LOG_2PI, broadcast_shape, log1mexp

EDGE = 1e-6  # the tolerance at the ends of an interval, as a share of its width


class StudentT(Distribution):
    r"""Student's t with :math:`\nu` degrees of freedom; it tends to the normal as :math:`\nu \to \infty`.

    .. math::
        p(x) = \frac{\Gamma(\frac{\nu + 1}{2})}{\Gamma(\frac{\nu}{2}) \sqrt{\pi \nu}\, \sigma}
        \left(1 + \frac{(x - \mu)^2}{\nu \sigma^2}\right)^{-\frac{\nu + 1}{2}}

    The mean is defined as :math:`\mu`; the variance is :math:`\sigma^2 \nu / (\nu - 2)` for :math:`\nu > 2`, and
    infinite otherwise.

    Args:
        df: :math:`\nu > 0`, ``[...]``.
        loc: :math:`\mu`, ``[...]``.
        scale: :math:`\sigma > 0`, ``[...]``.

    >>> round(StudentT(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0)).log_prob(torch.tensor(0.0)).item(), 4)
    -1.1447
    """

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    has_rsample = True

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor):
        self.df, self.loc, self.scale = df, loc, scale
        super().__init__(broadcast_shape(df.shape, loc.shape, scale.shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``loc``, ``[...]``."""
        return self.loc.expand(self._batch_shape)

    @property
    def variance(self) -> Tensor:
        r""":math:`\sigma^2 \nu / (\nu - 2)`, infinite for :math:`\nu \le 2`, ``[...]``."""
        heavy = self.df <= 2
        factor = torch.where(heavy, torch.inf, self.df / torch.where(heavy, 1.0, self.df - 2))
        return (self.scale.square() * factor).expand(self._batch_shape)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ...]``."""
        drawn = td.StudentT(self.df, self.loc, self.scale, validate_args=False)
        return drawn.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``."""
        half = self.df / 2
        # ln Gamma(half + 1/2) - ln Gamma(half) - ln(half) / 2, without the difference of two large numbers
        gammas = half * torch.log1p(0.5 / half) - 0.5 + stirling(half + 0.5) - stirling(half)
        square = ((value - self.loc) / self.scale).square()
        return gammas - LOG_2PI / 2 - self.scale.log() - (half + 0.5) * torch.log1p(square / self.df)


class LogNormal(Distribution):
    r"""Positive numbers whose logarithm is normal: ln x = shift + unit u with u ~ N(loc, variance).

    .. math:: \ln p(x) = \ln \mathcal{N}(u; \mu, \sigma^2) - \ln \mathrm{unit} - \ln x

    It is -inf for x <= 0.

    Args:
        loc: :math:`\mu`, ``[...]``.
        variance: :math:`\sigma^2 > 0` of u, ``[...]``.
        shift: the term added to ``unit * u``.
        unit: the scale of ln x, > 0.

    >>> round(LogNormal(torch.tensor(0.0), torch.tensor(1.0)).log_prob(torch.tensor(1.0)).item(), 4)
    -0.9189
    """

    arg_constraints = {"loc": constraints.real, "variance": constraints.positive}
    has_rsample = True
    support = constraints.positive

    def __init__(self, loc: Tensor, variance: Tensor, shift: Tensor | float = 0.0, unit: Tensor | float = 1.0):
        self.base = Normal(loc, variance)
        self.shift, self.unit = _number(shift, loc), _number(unit, loc)
        super().__init__(self.base.batch_shape, validate_args=False)

    @property
    def fill(self) -> Tensor:
        """A value in the support, exp(shift), the median at loc = 0."""
        return self.shift.exp()

    @property
    def _spread(self) -> Tensor:
        return self.unit.square() * self.base.variance

    @property
    def mean(self) -> Tensor:
        """exp(shift + unit loc + unit² variance / 2), ``[...]``."""
        return (self.shift + self.unit * self.base.mean + self._spread / 2).exp()

    @property
    def variance(self) -> Tensor:
        """(exp(unit² variance) - 1) mean², ``[...]``."""
        return torch.expm1(self._spread) * self.mean.square()

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ...]``."""
        return (self.shift + self.unit * self.base.rsample(torch.Size(sample_shape))).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``; -inf for x <= 0."""
        log_x = torch.where(value > 0, value, 1.0).log()  # in the wider type, in which large shifts keep their digits
        u = ((log_x - self.shift) / self.unit).to(self.base.mean.dtype)
        log_p = self.base.log_prob(u) - (self.unit.log() + log_x).to(u.dtype)
        return torch.where(value > 0, log_p, -torch.inf)


class Beta(Distribution):
    r"""Numbers in an interval: x = low + (high - low) u with u ~ Beta(a, b).

    .. math:: \ln p(x) = (a - 1) \ln u + (b - 1) \ln(1 - u) - \ln B(a, b) - \ln(\mathrm{high} - \mathrm{low})

    The density may be 0 or infinite at the ends, so u is clamped to [1e-6, 1 - 1e-6]: zeros and ones in the data then
    cost a finite number of nats. Values outside the interval by more than 1e-6 of its width have density 0.

    Args:
        a: > 0, ``[...]``.
        b: > 0, ``[...]``.
        low: the lower end of the interval.
        high: the upper end, > ``low``.

    >>> px = Beta(torch.tensor(1.0), torch.tensor(1.0), 0.0, 4.0)
    >>> round(px.log_prob(torch.tensor(4.0)).item(), 4)  # uniform: -ln 4
    -1.3863
    """

    arg_constraints = {"a": constraints.positive, "b": constraints.positive}
    has_rsample = True

    def __init__(self, a: Tensor, b: Tensor, low: Tensor | float = 0.0, high: Tensor | float = 1.0):
        self.a, self.b, self.low = a, b, _number(low, a)
        self.width = _number(high, a) - self.low
        super().__init__(broadcast_shape(a.shape, b.shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The interval [low, high]."""
        return constraints.interval(self.low, self.low + self.width)

    @property
    def fill(self) -> Tensor:
        """The middle of the interval."""
        return self.low + self.width / 2

    @property
    def mean(self) -> Tensor:
        """low + (high - low) a / (a + b), ``[...]``."""
        return self.low + self.width * (self.a / (self.a + self.b))

    @property
    def variance(self) -> Tensor:
        """(high - low)² a b / [(a + b)² (a + b + 1)], ``[...]``."""
        total = self.a + self.b
        return self.width.square() * (self.a * self.b / (total.square() * (total + 1)))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ...]``."""
        a, b = torch.broadcast_tensors(self.a, self.b)
        return self.low + self.width * td.Beta(a, b, validate_args=False).rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``; -inf outside the interval."""
        a, b, total = self.a, self.b, self.a + self.b
        share = (value - self.low) / self.width  # in the wider type
        inside = (share >= -EDGE) & (share <= 1 + EDGE)
        u = share.clamp(EDGE, 1 - EDGE)
        u, rest = u.to(a.dtype), (1 - u).to(a.dtype)
        # -(a + b) KL(mean || u), then Stirling's formula for the three gamma functions and its remainders
        divergence = a * (u.log() - (a / total).log()) + b * (rest.log() - (b / total).log())
        gammas = 0.5 * (a.log() + b.log() - total.log() - LOG_2PI) + stirling(total) - stirling(a) - stirling(b)
        log_p = divergence + gammas - u.log() - rest.log() - self.width.log().to(a.dtype)
        return torch.where(inside, log_p, -torch.inf)


class ContinuousBernoulli(Distribution):
    r"""Shares in [0, 1]: the Bernoulli's formula as a density (Loaiza-Ganem & Cunningham 2019).

    .. math:: p(x) = C\, \lambda^x (1 - \lambda)^{1 - x} = \frac{e^{\eta x}\, \eta}{e^\eta - 1}, \qquad
        \lambda = \frac{1}{1 + e^{-\eta}}, \quad
        C = \frac{2 \operatorname{artanh}(1 - 2 \lambda)}{1 - 2 \lambda}

    C is 2 at :math:`\lambda = 1/2`. The mean is not :math:`\lambda`. The density is 0 outside [0, 1].

    Args:
        logits: :math:`\eta`, ``[...]``.

    >>> round(ContinuousBernoulli(torch.tensor(0.3).logit()).mean.item(), 6)
    0.430223
    """

    arg_constraints = {"logits": constraints.real}
    has_rsample = True
    fill = 0.5
    support = constraints.unit_interval

    def __init__(self, logits: Tensor):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        """(absolute logits for the closed form, squares for the series, where the series holds)."""
        size = self.logits.abs()
        near = size < 0.5
        return torch.where(near, 1.0, size), torch.where(near, self.logits, 0.0).square(), near

    @property
    def mean(self) -> Tensor:
        r""":math:`1 / (1 - e^{-\eta}) - 1 / \eta`, ``[...]``, by a series near 0."""
        far, square, near = self._split()
        closed = 0.5 + self.logits.sign() * (-1 / torch.expm1(-far) - 1 / far - 0.5)
        terms = 1 / 12 - square * (1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160)))
        return torch.where(near, 0.5 + torch.where(near, self.logits, 0.0) * terms, closed)

    @property
    def variance(self) -> Tensor:
        r""":math:`1 / \eta^2 - e^{\eta} / (e^{\eta} - 1)^2`, ``[...]``, by a series near 0."""
        far, square, near = self._split()
        closed = far.square().reciprocal() - (-far).exp() / torch.expm1(-far).square()
        terms = 1 / 240 - square * (1 / 6048 - square * (1 / 172800 - square / 5322240))
        return torch.where(near, 1 / 12 - square * terms, closed)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        r"""Reparameterised draws ``[*sample_shape, ...]`` by the inverse distribution function, :math:`\ln[1 + u
        (e^\eta - 1)] / \eta`.
        """
        shape = [*sample_shape, *self._batch_shape]
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs().clamp_min(math.sqrt(torch.finfo(u.dtype).tiny))
        x = -torch.log1p(u * torch.expm1(-size)) / size
        return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``; -inf outside [0, 1]."""
        x = value.to(self.logits.dtype)
        far, square, near = self._split()
        closed = far / 2 + log1mexp(far) - far.log()  # ln [sinh(e/2) / (e/2)]
        terms = 1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square * (1 / 9676800 - square / 479001600)))
        log_p = self.logits * (x - 0.5) - torch.where(near, square * terms, closed)
        return torch.where((x >= 0) & (x <= 1), log_p, -torch.inf)


def _number(value: Tensor | float, like: Tensor) -> Tensor:
    """A plain number as a tensor of the type of ``like``; a tensor, which may be wider, is unchanged."""
    return value if isinstance(value, Tensor) else like.new_tensor(value)
