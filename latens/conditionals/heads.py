"""The meaning of the raw outputs of a table's columns: one head for all columns of a family.

A head also holds the parameters of columns that are learned outside the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from latens import distributions as d
from latens.conditionals.column import ColumnLikelihood
from latens.networks.table import Calendars, Laws
from latens.schema.law import SCALE
from latens.tensors.numerics import positive

FLOOR = 1e-3  # least scale, relative to the unit, so that the likelihood of a column that can be copied stays bounded
GAP = 1e-4  # least distance between the cutpoints of ordered levels


class Head(nn.Module):
    """n columns of one family; ``forward`` maps raw outputs ``[..., n, outputs]`` to a distribution over ``[..., n]``.

    The first output, f, is the location: shift + unit f on the family's own scale.
    """

    shift: Tensor
    unit: Tensor
    offset: Tensor | None

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__()
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        for name in ("shift", "unit", "low", "high"):
            values = [getattr(column, name) for column in columns]
            if None not in values:
                self.register_buffer(name, torch.tensor(values, dtype=exact))
        self.size, self.levels, self.scale = len(columns), columns[0].levels or 2, columns[0].scale
        self.register_buffer("offset", None)

    def _shift_levels(self, count: int) -> None:
        """Give the columns ``count`` levels, whose log weights :meth:`~TableLikelihood.match` shifts; the first shift
        is 0."""
        self.offset, self.added = torch.zeros(self.size, count), ("offset",)

    def level(self, x: Tensor) -> Tensor:
        """The number of the level of each cell, ``[..., n]``, for a head with an ``offset``."""
        return x.long()

    def log_shares(self, px: Any) -> Tensor:
        """ln of the probability of each level under a distribution of the head, ``[..., n, levels]``."""
        raise NotImplementedError

    def inner(self, x: Tensor) -> Tensor:
        """(x - shift) / unit, ``[..., n]``."""
        return (x - self.shift) / self.unit

    def location(self, raw: Tensor) -> Tensor:
        """shift + unit f in the network's type, ``[..., n]``, for families whose location is a logarithm or a logit."""
        return self.shift.to(raw.dtype) + self.unit.to(raw.dtype) * raw[..., 0]

    def start(self, x: Tensor) -> Tensor:
        """Set what the columns learn from a sample, and return raw outputs that give the sample's marginals.

        ``x`` is the sample ``[N, n]`` (float64, NaN for missing cells); the raw outputs are ``[n, outputs]``.
        """
        raise NotImplementedError


class Spread(Head):
    """A head whose columns have a scale, e^log_scale: learned, or an output of the network; never below ``FLOOR``."""

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        if self.scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(self.size))

    def variance(self, raw: Tensor) -> Tensor:
        """The squared scale in units of the columns, ``[..., n]``."""
        return self.squared(raw.unbind(-1)[-1:])

    def squared(self, told: Sequence[Tensor]) -> Tensor:
        """The squared scale, ``[..., n]``, from the columns' raw output for it, if they have one."""
        if self.scale == "learned":
            return (2 * self.log_scale).exp() + FLOOR**2
        return positive(told[0]).square() + FLOOR**2

    def at_floor(self) -> Tensor:
        """Which columns have a learned scale at or below the floor, ``[n]``."""
        if self.scale != "learned":
            return torch.zeros(self.size, dtype=torch.bool)
        return (self.log_scale.detach() <= math.log(FLOOR)).cpu()

    def scaled(self, location: Tensor, scale: Tensor) -> Tensor:
        """The raw outputs ``[n, outputs]`` for a location and a scale; a learned scale is set to it."""
        scale = scale.clamp(FLOOR, 1e6)
        if self.scale == "network":
            return torch.stack([location, _raw(scale)], -1)
        with torch.no_grad():
            self.log_scale.copy_(scale.log())
        return location.unsqueeze(-1)


class NormalHead(Spread):
    """x = shift + unit u, where u is normal around f."""

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.InUnits(d.Normal(raw[..., 0], self.variance(raw)), self.shift, self.unit)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and standard deviation."""
        return self.scaled(*_moments(self.inner(x)))


class StudentTHead(Spread):
    """x = shift + unit u, where u is Student's t around f, with more than 2.01 degrees of freedom so that a variance
    exists.

    The degrees of freedom are learned and start at 5.
    """

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        self.raw_df = nn.Parameter(torch.zeros(self.size))

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        df = 2.01 + 2.99 * positive(self.raw_df)
        return d.InUnits(d.StudentT(df, raw[..., 0], self.variance(raw).sqrt()), self.shift, self.unit)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and standard deviation."""
        location, deviation = _moments(self.inner(x))
        with torch.no_grad():
            self.raw_df.zero_()
        return self.scaled(location, deviation * math.sqrt(3 / 5))


class LogNormalHead(Spread):
    """ln x = shift + unit u, where u is normal around f."""

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.LogNormal(raw[..., 0], self.variance(raw), self.shift, self.unit)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and standard deviation of ln x."""
        return self.scaled(*_moments(self.inner(x.log())))


class BetaHead(Spread):
    """Beta with mean low + (high - low) sigmoid(shift + unit f) and a + b = 2 / scale². It is uniform if the shift, f
    and ln scale are 0."""

    low: Tensor
    high: Tensor

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        logit, total = self.location(raw), 2 / self.variance(raw)
        a, b = (total * sign.sigmoid() + 1e-6 for sign in (logit, -logit))
        return d.Beta(a, b, self.low, self.high)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and standard deviation."""
        mean, deviation = _moments((x - self.low) / (self.high - self.low))
        mean = mean.clamp(1e-3, 1 - 1e-3)
        total = (mean * (1 - mean) / deviation.square().clamp_min(1e-12) - 1).clamp(0.1, 1e5)
        return self.scaled((mean.logit() - self.shift) / self.unit, (2 / total).sqrt())


class TruncatedNormalHead(Spread):
    """x = shift + unit u, where u is normal around f and truncated to the column's interval."""

    low: Tensor
    high: Tensor

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        low, high = (self.inner(end).to(raw.dtype) for end in (self.low, self.high))
        base = d.TruncatedNormal(raw[..., 0], self.variance(raw).sqrt(), low, high)
        return d.InUnits(base, self.shift, self.unit)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and standard deviation, used as if they were those before
        truncation."""
        return self.scaled(*_moments(self.inner(x)))


class HeapedHead(Spread):
    """A margin of logistics in the score T(x), and atoms; for dates, the margin may be tilted by cycles.

    The outputs are, in this order: the locations of the score, one per component; their scales; the logits of their
    weights, if there are several; the log weights of the phases of each cycle; and the logits of the atoms relative to
    the margin. A column with fewer atoms than another has fewer of these logits.
    """

    unused: Tensor

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        laws = [column.law for column in columns]
        units, supports = [column.unit for column in columns], [column.support for column in columns]
        self.laws = Laws(laws, units, supports)  # type: ignore[arg-type]
        self.components = columns[0].components
        self.told = 3 if self.components > 1 else 1 + (self.scale == "network")  # outputs per component
        self.cycles = columns[0].phases
        self.calendars = Calendars(laws) if self.cycles else None  # type: ignore[arg-type]
        self.register_buffer("unused", self.laws().atoms.isnan(), persistent=False)
        self.padded = bool(self.unused.any())
        if self.unused.shape[-1]:
            self._shift_levels(1 + self.unused.shape[-1])

    def level(self, x: Tensor) -> Tensor:
        """1 + the number of the atom that each cell equals, or 0 for none, ``[..., n]``."""
        return self.laws().atom(x)

    def log_shares(self, px: Any) -> Tensor:
        """ln of the weights of the margin and the atoms, ``[..., n, 1 + A]``."""
        return px.log_masses

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        sizes = [self.told * self.components, *self.cycles.values()]
        margin, *tilts, logits = raw.split([*sizes, raw.shape[-1] - sum(sizes)], -1)
        parts = margin.unflatten(-1, (self.told, self.components)).movedim(-1, -3).unbind(-1)  # each [..., M, n]
        if self.offset is not None:
            logits = logits + self.offset[:, 1:]
        if self.padded:
            logits = logits.masked_fill(self.unused, -math.inf)
        given = parts[0], self.squared(parts[1:2]).sqrt(), logits, self.laws(), parts[-1]
        if self.calendars is None:
            return d.Heaped(*given)
        return d.Seasonal(*given, dict(zip(self.cycles, tilts)), self.calendars())

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and standard deviation of the score, and frequencies of
        atoms."""
        margins = self.laws()
        seen = x.isfinite()
        atom = torch.where(seen, margins.atom(torch.where(seen, x, margins.knots[:, 0])), -1)
        score = torch.where(atom == 0, margins.score(x)[0], torch.nan)
        location, deviation = _moments(score)
        raw = self.scaled(location, torch.where(deviation > 0, deviation, 1.0) * SCALE)
        raw = torch.nn.functional.pad(raw, (0, self.told - raw.shape[-1])).repeat_interleave(self.components, -1)
        size = margins.atoms.shape[-1]
        counts = (atom.unsqueeze(-1) == torch.arange(1 + size, device=x.device)).sum(0) + 0.5
        logits = (counts[:, 1:] / counts[:, :1]).log().to(raw.dtype)
        if self.calendars is not None:
            even = self(torch.cat([raw, raw.new_zeros(self.size, sum(self.cycles.values())), logits], -1))
            raw = torch.cat([raw, even.tilts_of(torch.where(atom == 0, x, torch.nan)).to(raw.dtype)], -1)
        return torch.cat([raw, logits], -1)


class PoissonHead(Head):
    """Poisson with ln rate = shift + unit f."""

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.Poisson(self.location(raw))

    def log_mean(self, mean: Tensor) -> Tensor:
        """The raw output that gives this mean, ``[n]``; a mean of 0 is replaced by 1e-4."""
        return (mean.clamp_min(1e-4).log() - self.shift) / self.unit

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, 1]`` with the sample's mean."""
        return self.log_mean(_moments(x)[0]).unsqueeze(-1)


class NegativeBinomialHead(PoissonHead):
    """Negative binomial with ln mu = shift + unit f; ln theta is learned, starting at 0, or is the last output."""

    zeros = False

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        if self.scale == "learned":
            self.log_theta = nn.Parameter(torch.zeros(self.size))

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        log_theta = self.log_theta if self.scale == "learned" else raw[..., -1]
        if self.zeros:
            return d.ZeroInflatedNegativeBinomial(self.location(raw), log_theta, raw[..., 1])
        return d.NegativeBinomial(self.location(raw), log_theta)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, outputs]`` with the sample's mean and variance."""
        mean, deviation = _moments(x)
        zero = torch.full_like(mean, 0.1 if self.zeros else 0.0)
        mu = mean.clamp_min(1e-4) / (1 - zero)
        inverse = (deviation.square() / (1 - zero) - mu) / mu.square() - zero  # 1 / theta, from this mean and variance
        log_theta = -inverse.clamp(1e-4, 1e2).log()
        raw = [self.log_mean(mu)] + ([zero.logit()] if self.zeros else [])
        if self.scale == "network":
            return torch.stack([*raw, log_theta], -1)
        with torch.no_grad():
            self.log_theta.copy_(log_theta)
        return torch.stack(raw, -1)


class ZeroInflatedNegativeBinomialHead(NegativeBinomialHead):
    """Like :class:`NegativeBinomialHead`; the second output is the logit of an extra zero."""

    zeros = True


class BernoulliHead(Head):
    """Bernoulli with logit shift + unit f."""

    offset: Tensor

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        self._shift_levels(2)

    def log_shares(self, px: Any) -> Tensor:
        """ln P(0) and ln P(1), ``[..., n, 2]``."""
        return px.logits if isinstance(px, d.Categorical) else logsigmoid(torch.stack([-px.logits, px.logits], -1))

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.Bernoulli(self.location(raw) + self.offset[:, 1])

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, 1]`` with the sample's frequencies, after adding one to each count."""
        count = _counts(x, 2)
        return (((count[:, 1] / count[:, 0]).log() - self.shift) / self.unit).unsqueeze(-1)


class CategoricalHead(Head):
    """Categories with one logit per level."""

    offset: Tensor

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        self._shift_levels(self.levels)

    def log_shares(self, px: Any) -> Tensor:
        """ln of the probabilities, ``[..., n, L]``."""
        return px.logits

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.Categorical(raw + self.offset)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, L]`` with the sample's frequencies, after adding one to each count."""
        return _counts(x, self.levels).log().log_softmax(-1)


class OrdinalHead(Head):
    r"""Ordered levels around shift + unit f, with learned cutpoints.

    The cutpoints are :math:`c_0` and :math:`c_k = c_{k-1} + e^{\mathrm{gap}_k} + 10^{-4}`. They start at values for
    which all levels are equally likely at f = 0.
    """

    def __init__(self, columns: Sequence[ColumnLikelihood]):
        super().__init__(columns)
        self.first = nn.Parameter(torch.zeros(self.size, 1))
        self.log_gap = nn.Parameter(torch.zeros(self.size, self.levels - 2))
        self._cut(torch.ones(self.size, self.levels, dtype=torch.float64))

    def _cut(self, weight: Tensor) -> None:
        """Set the cutpoints so that, at f = 0, the levels have probabilities proportional to ``weight`` ``[n, L]``."""
        below, above = weight.cumsum(-1)[:, :-1], weight.flip(-1).cumsum(-1).flip(-1)[:, 1:]
        cutpoints = (below / above).log() + self.shift.to(weight.device).unsqueeze(-1)
        with torch.no_grad():
            self.first.copy_(cutpoints[:, :1])
            self.log_gap.copy_((cutpoints.diff(dim=-1) - GAP).clamp_min(GAP / 100).log())

    @property
    def cutpoints(self) -> Tensor:
        """``[n, L-1]``, increasing."""
        return torch.cat([self.first, self.first + (self.log_gap.exp() + GAP).cumsum(-1)], -1)

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.Ordinal(self.location(raw), self.cutpoints)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, 1]``, all 0; the cutpoints are set to the sample's frequencies."""
        self._cut(_counts(x, self.levels))
        return x.new_zeros(self.size, 1)


class ContinuousBernoulliHead(Head):
    """(x - low) / (high - low) is continuous Bernoulli with logit shift + unit f."""

    low: Tensor
    high: Tensor

    def forward(self, raw: Tensor) -> Distribution:
        """The distribution over ``[..., n]``."""
        return d.InUnits(d.ContinuousBernoulli(self.location(raw)), self.low, self.high - self.low)

    def start(self, x: Tensor) -> Tensor:
        """Raw outputs ``[n, 1]`` with the sample's mean."""
        mean = _moments((x - self.low) / (self.high - self.low))[0].nan_to_num(0.5)
        low, high = torch.full_like(mean, -500.0), torch.full_like(mean, 500.0)
        for _ in range(60):  # the mean rises with the logit
            middle = (low + high) / 2
            less = d.ContinuousBernoulli(middle).mean < mean
            low, high = torch.where(less, middle, low), torch.where(less, high, middle)
        return ((middle - self.shift) / self.unit).unsqueeze(-1)


def _raw(value: Tensor) -> Tensor:
    """The raw output that ``positive`` maps to ``value``."""
    return value + torch.log(-torch.expm1(-value)) - math.log(math.expm1(1.0))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the finite values of each column; 0 and 1 if a column has none."""
    seen = x.isfinite()
    count = seen.sum(0).clamp_min(1)
    mean = torch.where(seen, x, 0.0).sum(0) / count
    deviation = (torch.where(seen, x - mean, 0.0).square().sum(0) / count).sqrt()
    return mean, torch.where(seen.any(0), deviation, 1.0)


def _counts(x: Tensor, levels: int) -> Tensor:
    """For each level, 1 plus the number of times that it occurs, ``[n, levels]``."""
    seen = x.isfinite()
    index = torch.where(seen, x, 0.0).long().clamp(0, levels - 1)
    return x.new_ones(x.shape[1], levels).scatter_add(1, index.T, seen.T.to(x.dtype))


HEADS: dict[str, type[Head]] = {
    "normal": NormalHead, "student_t": StudentTHead, "log_normal": LogNormalHead, "beta": BetaHead,
    "truncated_normal": TruncatedNormalHead, "poisson": PoissonHead, "negative_binomial": NegativeBinomialHead,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomialHead, "bernoulli": BernoulliHead,
    "categorical": CategoricalHead, "ordinal": OrdinalHead, "continuous_bernoulli": ContinuousBernoulliHead,
    "heaped": HeapedHead,
}  # fmt: skip
