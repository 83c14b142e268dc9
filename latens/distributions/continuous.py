"""Elementwise densities beside the normal: heavy tails, positive numbers, numbers of an interval, shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints

from latens.distributions.counts import stirling
from latens.distributions.normal import Normal
from latens.tensors.numerics import LOG_2PI, broadcast_shape, log1mexp

EDGE = 1e-6  # of the width of an interval


class StudentT(Distribution):
    """Student's t with ``df`` > 0 degrees of freedom about ``loc``; normal with variance scale^2 as df -> inf.

    p(x) = Gamma((df + 1)/2) / [Gamma(df/2) sqrt(pi df) scale] (1 + ((x - loc)/scale)^2 / df)^(-(df + 1)/2), log p in
    nats. Variance scale^2 df / (df - 2) for df > 2, infinite below; ``mean`` is loc.

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
        return self.loc.expand(self._batch_shape)

    @property
    def variance(self) -> Tensor:
        heavy = self.df <= 2
        factor = torch.where(heavy, torch.inf, self.df / torch.where(heavy, 1.0, self.df - 2))
        return (self.scale.square() * factor).expand(self._batch_shape)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        drawn = td.StudentT(self.df, self.loc, self.scale, validate_args=False)
        return drawn.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        half = self.df / 2
        # ln Gamma(half + 1/2) - ln Gamma(half) - ln(half) / 2, without the difference of two large numbers
        gammas = half * torch.log1p(0.5 / half) - 0.5 + stirling(half + 0.5) - stirling(half)
        square = ((value - self.loc) / self.scale).square()
        return gammas - LOG_2PI / 2 - self.scale.log() - (half + 0.5) * torch.log1p(square / self.df)


class LogNormal(Distribution):
    """x > 0 with ln x = shift + unit u, u ~ N(loc, variance): log p(x) = log N(u) - ln unit - ln x, in nats.

    -inf for x <= 0. The mean, exp(shift + unit loc + unit^2 variance / 2), stands for the distribution.

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
        """The median at loc = 0."""
        return self.shift.exp()

    @property
    def _spread(self) -> Tensor:
        return self.unit.square() * self.base.variance

    @property
    def mean(self) -> Tensor:
        return (self.shift + self.unit * self.base.mean + self._spread / 2).exp()

    @property
    def variance(self) -> Tensor:
        return torch.expm1(self._spread) * self.mean.square()

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return (self.shift + self.unit * self.base.rsample(torch.Size(sample_shape))).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        log_x = torch.where(value > 0, value, 1.0).log()  # in the wider type, so that large shifts keep their digits
        u = ((log_x - self.shift) / self.unit).to(self.base.mean.dtype)
        log_p = self.base.log_prob(u) - (self.unit.log() + log_x).to(u.dtype)
        return torch.where(value > 0, log_p, -torch.inf)


class Beta(Distribution):
    """x = low + (high - low) u with u ~ Beta(a, b): log p(x) = ln Beta(u; a, b) - ln(high - low), in nats.

    The density may be 0 or infinite at the edges: u is moved inward to [1e-6, 1 - 1e-6], so that zeros and ones of the
    data cost a finite number. -inf further outside than 1e-6 of the width. Mean low + (high - low) a / (a + b).

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
        return constraints.interval(self.low, self.low + self.width)

    @property
    def fill(self) -> Tensor:
        """The middle of the interval."""
        return self.low + self.width / 2

    @property
    def mean(self) -> Tensor:
        return self.low + self.width * (self.a / (self.a + self.b))

    @property
    def variance(self) -> Tensor:
        total = self.a + self.b
        return self.width.square() * (self.a * self.b / (total.square() * (total + 1)))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        a, b = torch.broadcast_tensors(self.a, self.b)
        return self.low + self.width * td.Beta(a, b, validate_args=False).rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        a, b, total = self.a, self.b, self.a + self.b
        share = (value - self.low) / self.width  # in the wider type
        inside = (share >= -EDGE) & (share <= 1 + EDGE)
        u = share.clamp(EDGE, 1 - EDGE)
        u, rest = u.to(a.dtype), (1 - u).to(a.dtype)
        # -(a + b) KL(mean || u), and what Stirling's formula gives and leaves of the three gamma functions
        divergence = a * (u.log() - (a / total).log()) + b * (rest.log() - (b / total).log())
        gammas = 0.5 * (a.log() + b.log() - total.log() - LOG_2PI) + stirling(total) - stirling(a) - stirling(b)
        log_p = divergence + gammas - u.log() - rest.log() - self.width.log().to(a.dtype)
        return torch.where(inside, log_p, -torch.inf)


class ContinuousBernoulli(Distribution):
    """Shares in [0, 1]: p(x) = C l^x (1 - l)^(1 - x), l = sigmoid(logits) (Loaiza-Ganem & Cunningham 2019), in nats.

    With e = logits, p(x) = exp(e x) e / (exp(e) - 1), that is C = 2 artanh(1 - 2 l) / (1 - 2 l), and 2 at l = 1/2.
    Mean 1 / (1 - exp(-e)) - 1 / e, which is not l. -inf outside [0, 1].

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
        """|logits| for the closed form, its square for the series, and where the series holds."""
        size = self.logits.abs()
        near = size < 0.5
        return torch.where(near, 1.0, size), torch.where(near, self.logits, 0.0).square(), near

    @property
    def mean(self) -> Tensor:
        far, square, near = self._split()
        closed = 0.5 + self.logits.sign() * (-1 / torch.expm1(-far) - 1 / far - 0.5)
        terms = 1 / 12 - square * (1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160)))
        return torch.where(near, 0.5 + torch.where(near, self.logits, 0.0) * terms, closed)

    @property
    def variance(self) -> Tensor:
        far, square, near = self._split()
        closed = far.square().reciprocal() - (-far).exp() / torch.expm1(-far).square()
        terms = 1 / 240 - square * (1 / 6048 - square * (1 / 172800 - square / 5322240))
        return torch.where(near, 1 / 12 - square * terms, closed)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """By the inverse distribution function, ln[1 + u (exp(e) - 1)] / e."""
        shape = [*sample_shape, *self._batch_shape]
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs().clamp_min(math.sqrt(torch.finfo(u.dtype).tiny))
        x = -torch.log1p(u * torch.expm1(-size)) / size
        return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        x = value.to(self.logits.dtype)
        far, square, near = self._split()
        closed = far / 2 + log1mexp(far) - far.log()  # ln [sinh(e/2) / (e/2)]
        terms = 1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square * (1 / 9676800 - square / 479001600)))
        log_p = self.logits * (x - 0.5) - torch.where(near, square * terms, closed)
        return torch.where((x >= 0) & (x <= 1), log_p, -torch.inf)


def _number(value: Tensor | float, like: Tensor) -> Tensor:
    """A plain number as a tensor of the type of ``like``; a tensor as it is, which may be wider."""
    return value if isinstance(value, Tensor) else like.new_tensor(value)
