"""Dates whose month, day of the week and hour depend on the codes: a margin that is tilted phase by phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from latens.distributions.base import is_extrapolating
from latens.distributions.heaped import Heaped, Margins, drawn, log_between
from latens.schema.law import Law

NEVER = -1e4  # ln of the mass of an empty phase
NODES = 4  # points per month at which means are taken
MOST_MONTHS = 120  # in ranges of more months, means are those of the margin
LONGEST = 24  # a year that holds the rest of the range has fewer months than this


@dataclass(frozen=True)
class Periods:
    """The years, weeks and days of n columns of dates, in days since 1970-01-01.

    A range is divided into years of twelve months, from its first month on; the last year also holds the remaining
    months. Each day begins a little before midnight, so that no place of a column's grid lies in two days.

    Args:
        edges: ``[n, months + 1]``, the beginnings of the months of the range, and its end; for columns with fewer
            months, the end is repeated.
        scores: ``[n, months + 1]``, the scores of the edges.
        first: ``[n]``, the number of the first month, counted from 1970-01.
        months: ``[n]``, the number of months.
        shift: ``[n]``, the time from the beginning of a day to midnight.
        cycles: the number of phases of each cycle.
    """

    edges: Tensor
    scores: Tensor
    first: Tensor
    months: Tensor
    shift: Tensor
    cycles: Mapping[str, int]

    @classmethod
    def of(cls, laws: Sequence[Law], margins: Margins) -> Periods:
        """The periods of columns with these laws, which have the same cycles."""
        exact = margins.knots.dtype
        rows = [_months(law) for law in laws]
        most = max(len(edges) for _, edges in rows)
        edges = torch.tensor([[*edges, *[edges[-1]] * (most - len(edges))] for _, edges in rows], dtype=exact)
        first, months = torch.tensor([[first, len(edges) - 1] for first, edges in rows]).T
        shift = torch.tensor([law.shift for law in laws], dtype=exact)
        return cls(edges, margins.score(edges.T)[0].T.contiguous(), first, months, shift, laws[0].phases)

    def column(self, j: int) -> Periods:
        """The periods of a single column, n = 1."""
        own = slice(j, j + 1)
        edges, scores = self.edges[own], self.scores[own]
        return Periods(edges, scores, self.first[own], self.months[own], self.shift[own], self.cycles)

    @property
    def ends(self) -> Tensor:
        """The ends of the range, ``[2, n]``."""
        return self.edges[:, [0, -1]].T

    def month(self, x: Tensor) -> Tensor:
        """The month in which each date ``[..., n]`` lies, as its number in the range, from 0."""
        columns = torch.stack(x.reshape(-1, x.shape[-1]).unbind(-1))
        found = torch.searchsorted(self.edges, columns, right=True).T.reshape(x.shape) - 1
        return torch.minimum(found, self.months - 1).clamp_min(0)

    def year(self, month: Tensor) -> tuple[Tensor, Tensor]:
        """(first month of the year that has each month ``[..., n]``; first month after that year)."""
        last = (self.months // 12 - 1).clamp_min(0)
        year = torch.minimum(month // 12, last)
        return 12 * year, torch.where(year == last, self.months, 12 * year + 12)

    def entries(self, table: Tensor, month: Tensor) -> Tensor:
        """The entries of a table ``[n, months + 1]`` for months ``[..., n]``."""
        size = table.shape[-1]
        start = size * torch.arange(len(table), device=table.device)
        return table.reshape(-1)[start + month.clamp(0, size - 1)]


def _months(law: Law) -> tuple[int, list[float]]:
    """(number of the first month; edges of the months) of a law's range; a law without a cycle of years has one."""
    low, high = law.knots[0], law.knots[-1]
    if "year" not in law.cycles:
        return 0, [low, high]
    days = np.floor(np.array([low + 1e-6, high - 1e-6]) + law.shift).astype("datetime64[D]")
    first, last = days.astype("datetime64[M]").astype(int).tolist()
    starts = np.arange(first + 1, last + 1).astype("datetime64[M]").astype("datetime64[D]").astype(float) - law.shift
    return first, [low, *starts.tolist(), high]


@dataclass(frozen=True)
class _Division:
    """How the period around each date is divided among phases.

    Args:
        scores: ``[C + 1, ..., n]``, the edges of the phases, as scores.
        base: ``[C, ..., n]``, ln of the phases' masses before they are tilted, up to a constant.
        tilt: ``[C, ..., n]``, their log weights.
        own: ``[..., n]``, the number of each date's phase.
    """

    scores: Tensor
    base: Tensor
    tilt: Tensor
    own: Tensor

    def log_factor(self) -> Tensor:
        """ln of the factor by which the density of each date changes, ``[..., n]``."""
        return _at(self.tilt, self.own) + self.base.logsumexp(0) - (self.base + self.tilt).logsumexp(0)


def _led(each: Tensor, axes: int) -> Tensor:
    """``each`` ``[C, ...]`` with this many axes after the first, ``[C, 1 ..., ...]``."""
    return each.reshape(len(each), *[1] * (axes + 1 - each.dim()), *each.shape[1:])


def _at(each: Tensor, own: Tensor) -> Tensor:
    """The entries ``[..., n]`` of ``each`` ``[C, ..., n]`` with the numbers ``own`` ``[..., n]``."""
    axes = max(own.dim(), each.dim() - 1)
    return _each(_led(each, axes), _led(own.unsqueeze(0), axes)).squeeze(0)


class Seasonal(Heaped):
    r"""A column of dates: :class:`Heaped`, with a margin that is tilted by month, day of the week and hour.

    Let m be the margin of :class:`Heaped`, and a, b and c log weights for each month of the year, day of the week and
    hour of the day. Inside the range of the data, the density is

    .. math:: m(x) \cdot \frac{m(Y)\, e^{a(x)}}{\sum_{i \in Y} m(M_i)\, e^{a_i}}
        \cdot \frac{m_a(W)\, e^{b(x)}}{\sum_{i \in W} m_a(D_i)\, e^{b_i}}
        \cdot \frac{m(D)\, e^{c(x)}}{\sum_{i \in D} m(H_i)\, e^{c_i}}

    Here Y is the year of x with its months M, W the week of x (within Y) with its days D, D the day of x with its hours
    H, and :math:`m_a \propto m e^a`. Each factor divides the mass of a period among its phases, so that the density
    stays normalised. For years, see :class:`Periods`. Outside the range the density is m.

    Means and variances are computed from ``NODES`` points of m per month and ignore the days of the week and the hours.
    Without a cycle of years, and in ranges of more than ``MOST_MONTHS`` months, they are those of m.

    Args:
        loc, scale, logits, margins, mixing: as for :class:`Heaped`.
        tilts: the log weights ``[..., n, 12]`` of "year", ``[..., n, 7]`` of "week" (from Monday) and ``[..., n, H]``
            of "day", where H is 24 unless the grid is coarser.
        periods: the years, weeks and days.
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, logits: Tensor, margins: Margins, mixing: Tensor | None,
        tilts: Mapping[str, Tensor], periods: Periods,
    ):  # fmt: skip
        super().__init__(loc, scale, logits, margins, mixing)
        self.periods = periods
        self.tilts = {name: tilts[name].movedim(-1, 0) for name in periods.cycles}

    def _is_inside(self, x: Tensor) -> Tensor:
        low, high = self.periods.ends
        return (x >= low) & (x <= high)

    def _smooth_log_prob(self, value: Tensor) -> Tensor:
        inside = self._is_inside(value)
        x = torch.where(inside, value, self.periods.edges[:, 0])
        months = self.periods.month(x)
        factors = [self._division(name, x, months).log_factor() for name in self.tilts]
        return super()._smooth_log_prob(value) + torch.where(inside, sum(factors[1:], factors[0]), 0.0)

    def _division(self, name: str, x: Tensor, months: Tensor) -> _Division:
        """How one cycle divides the period around dates ``[..., n]``, which lie inside the range in these months."""
        periods, tilt = self.periods, self.tilts[name]
        x, months = (part.reshape(*[1] * (len(self._batch_shape) - x.dim()), *x.shape) for part in (x, months))
        tilt = _led(tilt, x.dim())
        first, after = periods.year(months)
        if name == "year":
            each = torch.minimum(first + _numbers(LONGEST + 1, first), after)
            scores = periods.entries(periods.scores, each)
            month = (periods.first + each[:-1]) % 12
            return _Division(scores, self._log_masses(scores), _each(tilt, month), months - first)
        low, high = (periods.entries(periods.edges, at) for at in (first, after))
        shift, size = periods.shift, len(tilt)
        length = 1.0 if name == "week" else 1 / size
        start = ((x + shift + 3) / 7).floor() * 7 - 3 - shift if name == "week" else (x + shift).floor() - shift
        edges = start + _numbers(size + 1, start) * length
        scores = self.margins.score(torch.minimum(torch.maximum(edges, low), high))[0]
        base = self._log_masses(scores)
        if name == "week" and "year" in self.tilts:
            month = (periods.first + periods.month(edges[:-1] + length / 2)) % 12
            base = base + _each(_led(self.tilts["year"], x.dim()), month)
        return _Division(scores, base, tilt, ((x - start) / length + 1e-6).floor().long().clamp(0, size - 1))

    def _log_masses(self, scores: Tensor) -> Tensor:
        """ln of the mass under m between neighbouring scores ``[C + 1, ..., n]``, ``[C, ..., n]``."""
        parts = self._log_parts(scores)
        return parts.squeeze(-2) if parts.shape[-2] == 1 else parts.logsumexp(-2)

    def _log_parts(self, scores: Tensor) -> Tensor:
        """ln of the mass under each component between neighbouring scores, ``[C, ..., M, n]``."""
        low, high = scores[:-1].unsqueeze(-2), scores[1:].unsqueeze(-2)
        found = log_between(low, high, self.loc, self.scale)
        found = found + self.log_mixing if self.loc.shape[-2] > 1 else found
        return torch.where(high > low, found, NEVER)

    def tilts_of(self, x: Tensor) -> Tensor:
        """The log weights ``[n, phases]``, cycle by cycle, for which each phase is as frequent as in dates ``[N, n]``
        (NaN if missing). The distribution has no batch axes, and its own log weights are 0."""
        found, inside = [], self._is_inside(x)  # and not missing
        x = torch.where(inside, x, self.periods.edges[:, 0])
        for name, size in self.periods.cycles.items():
            division = self._division(name, x, self.periods.month(x))
            phases = _numbers(len(division.base), x).long() % size  # a long year has some months twice
            if name == "year":
                first = self.periods.year(self.periods.month(x))[0]
                phases = (self.periods.first + first + _numbers(LONGEST, first)) % 12
            own = torch.nn.functional.one_hot(division.own, len(division.base)).movedim(-1, 0)
            seen, expected = (
                torch.zeros(size, x.shape[-1], dtype=torch.float64, device=x.device).scatter_add(
                    0, phases.expand(part.shape).flatten(0, 1), (part.double() * inside).flatten(0, 1))
                for part in (own, division.base.double().softmax(0))
            )  # fmt: skip
            found.append(((seen + 1) / (expected + 1)).log().T)
        return torch.cat(found, -1)

    def cells(self, rows: Tensor, j: int) -> Seasonal:
        """Column j, ``[..., B', 1]``, of some rows ``[B']``; rows are the axis before the columns."""
        own = super().cells(rows, j)
        tilts = {name: tilt.movedim(0, -1)[..., rows, j : j + 1, :] for name, tilt in self.tilts.items()}
        logits = own.log_weights[..., 1:] - own.log_weights[..., :1]
        return Seasonal(own.loc, own.scale, logits, own.margins, own.log_mixing, tilts, self.periods.column(j))

    # Draws and moments

    def _smooth_sample(self, sample_shape: torch.Size) -> Tensor:
        each = self._expanded(sample_shape)
        low, high = (end.expand(each._batch_shape) for end in self._limits(is_extrapolating()))
        return each._divided(each._between(low, high))

    def _expanded(self, sample_shape: torch.Size) -> Seasonal:
        """The same distribution with further batch axes in front."""
        shape = self.loc.shape
        loc, scale, mixing = (part.expand(*sample_shape, *shape) for part in (self.loc, self.scale, self.log_mixing))
        tilts = {name: tilt.movedim(0, -1).expand(*sample_shape, *self._batch_shape, -1)
                 for name, tilt in self.tilts.items()}  # fmt: skip
        logits = self.log_weights[..., 1:].expand(*sample_shape, *self._batch_shape, -1)
        return Seasonal(loc, scale, logits, self.margins, mixing, tilts, self.periods)

    def divided(self, x: Tensor) -> Tensor:
        """Dates ``[..., n]`` drawn from m, moved at random within years, weeks and days to follow the cycles."""
        with torch.no_grad():
            return self._expanded(x.shape[: x.dim() - len(self._batch_shape)])._divided(x)

    def _divided(self, x: Tensor) -> Tensor:
        inside = self._is_inside(x)
        for name in self.tilts:
            own = torch.where(inside, x, self.periods.edges[:, 0])
            division = self._division(name, own, self.periods.month(own))
            which = drawn((division.base + division.tilt).double(), 0)
            again = self._between(_at(division.scores, which), _at(division.scores, which + 1))
            x = torch.where(inside, again, x)
        return x

    def _between(self, low: Tensor, high: Tensor) -> Tensor:
        """One date from each margin m between two scores ``[..., n]``."""
        limits = torch.stack([low, high]).double()
        which = drawn(self._log_parts(limits)[0].double(), -2).unsqueeze(-2)
        loc, scale = (part.gather(-2, which).squeeze(-2) for part in (self.loc, self.scale))
        u = torch.rand(loc.shape, dtype=torch.float64, device=loc.device).clamp(1e-12, 1 - 1e-12)
        return self._within(u, loc, scale, limits)

    @cached_property
    def _smooth(self) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the margin inside the range, ``[..., n]`` each."""
        edges, periods = self.periods.scores.T, self.periods
        if "year" not in self.tilts or len(edges) > MOST_MONTHS:
            return super()._smooth
        axes = len(self._batch_shape)
        months = _numbers(len(edges) - 1, edges[0]).long()  # [months, n]
        year = torch.minimum(months // 12, (periods.months // 12 - 1).clamp_min(0))
        parts = self._log_parts(_led(edges, axes)).double()  # [months, ..., M, n]
        tilted = parts + _each(_led(self.tilts["year"], axes), _led((periods.first + months) % 12, axes)).unsqueeze(-2)
        share = torch.zeros_like(parts)
        for k in range(max(1, len(months) // 12)):  # each year keeps its mass
            own = _led(year == k, axes).unsqueeze(-2)
            before, after = (part.masked_fill(~own, NEVER).logsumexp((0, -2), keepdim=True) for part in (parts, tilted))
            share = torch.where(own, (tilted + before - after).exp(), share)
        share = share / share.sum((0, -2), keepdim=True) / NODES
        limits = torch.stack([_led(edges[:-1], axes), _led(edges[1:], axes)]).double().unsqueeze(-2)
        first = second = torch.zeros_like(share[0, ..., 0, :])
        loc, scale, low, high = (part.expand_as(share).flatten(0, -2) for part in (self.loc, self.scale, *limits))
        for node in range(NODES):
            u = torch.full_like(loc, (node + 0.5) / NODES, dtype=torch.float64)
            x = self._within(u, loc, scale, torch.stack([low, high])).double().view_as(share)
            first, second = (old + (share * x**power).sum((0, -2)) for old, power in ((first, 1), (second, 2)))
        return first, second


def _numbers(count: int, like: Tensor) -> Tensor:
    """0 … count - 1 along a new first axis of ``like``, ``[count, 1 ...]``."""
    return torch.arange(count, dtype=like.dtype, device=like.device).view(-1, *[1] * like.dim())


def _each(table: Tensor, own: Tensor) -> Tensor:
    """The entries of ``table`` ``[C, ..., n]`` with the numbers ``own`` ``[D, ..., n]``, ``[D, ..., n]``."""
    own, row = torch.broadcast_tensors(own, table[:1])  # torch.take_along_dim cannot be traced for any number of rows
    return table.expand(-1, *row.shape[1:]).gather(0, own)
