"""Dates whose month, day of the week and hour depend on the codes: a margin that is tilted cell by cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from latens.distributions.base import is_extrapolating
from latens.distributions.heaped import FAR, Heaped, Margins, drawn, log_between
from latens.schema.law import Law
from latens.tensors.numerics import broadcast_shape

NEVER = -1e4  # ln of the mass of an empty cell
NODES = 4  # points per month at which means are taken


@dataclass(frozen=True)
class Periods:
    """The months, weeks and days of n columns of dates, in days since 1970-01-01.

    Days begin so long before midnight that no place of a column's grid straddles two days.

    Args:
        edges: ``[n, 12 Y + 1]``, the beginnings of all months of Y years, increasing; a column without a cycle of years
            has a single cell, its range.
        scores: ``[12 Y + 1, n]``, the scores of the edges; those outside the range have the score of its ends.
        ends: ``[n, 2]``, the ends of the range.
        shift: ``[n]``, how long before midnight days begin.
        cycles: the cycles that the columns have, and the number of cells of each.
    """

    edges: Tensor
    scores: Tensor
    ends: Tensor
    shift: Tensor
    cycles: Mapping[str, int]

    @classmethod
    def of(cls, laws: Sequence[Law], margins: Margins) -> Periods:
        """The cells of columns with these laws, which have the same cycles."""
        cycles, exact = laws[0].cells, margins.knots.dtype
        shift = torch.tensor([law.shift for law in laws], dtype=exact)
        ends = torch.tensor([[law.knots[0], law.knots[-1]] for law in laws], dtype=exact)
        edges = ends
        if "year" in cycles:
            years = [_years(law) for law in laws]
            most = max(last - first for first, last in years)
            edges = torch.tensor(np.array([_months(first, most) for first, _ in years]), dtype=exact)
            edges = edges - shift.unsqueeze(-1)
        within = edges.clamp(ends[:, :1], ends[:, 1:])
        return cls(edges, margins.score(within.T)[0], ends, shift, cycles)

    def month(self, x: Tensor) -> Tensor:
        """The number of the month, 0 to 11, in which each date ``[..., n]`` lies."""
        rows = x.reshape(-1, x.shape[-1])
        columns = torch.stack(rows.unbind(-1))
        place = torch.searchsorted(self.edges, columns, right=True) - 1
        return (place.clamp(0, self.edges.shape[-1] - 2) % 12).T.reshape(x.shape)

    def week(self, x: Tensor) -> Tensor:
        """The beginning of the week (Monday) of each date, ``[..., n]``."""
        return ((x + self.shift + 3) / 7).floor() * 7 - 3 - self.shift  # 1970-01-01 was a Thursday

    def day(self, x: Tensor) -> Tensor:
        """The beginning of the day of each date, ``[..., n]``."""
        return (x + self.shift).floor() - self.shift

    def column(self, j: int) -> Periods:
        """The cells of a single column, n = 1."""
        own = slice(j, j + 1)
        return Periods(self.edges[own], self.scores[:, own], self.ends[own], self.shift[own], self.cycles)

    def within(self, first: Tensor, count: int, length: float) -> Tensor:
        """The edges ``[count + 1, ..., n]`` of cells of equal length from ``first`` on, moved into the range."""
        at = torch.arange(count + 1, dtype=first.dtype, device=first.device) * length
        edges = first + at.view(-1, *[1] * first.dim())
        return torch.minimum(torch.maximum(edges, self.ends[:, 0]), self.ends[:, 1])


def _years(law: Law) -> tuple[int, int]:
    """The first year of the range, and the first year after it, counted from 1970."""
    first, last = (np.array(knot).astype("datetime64[D]").astype("datetime64[Y]").astype(int) for knot in
                   (math.floor(law.knots[0]), math.floor(law.knots[-1])))  # fmt: skip
    return int(first), int(last) + 1


def _months(first: int, years: int) -> np.ndarray:
    months = np.arange(12 * first, 12 * (first + years) + 1).astype("datetime64[M]")
    return months.astype("datetime64[D]").astype(np.float64)


@dataclass(frozen=True)
class _Cycle:
    """How one cycle divides the mass around dates among its cells.

    Args:
        tilt: ``[C, ..., n]``, the log weights of the cells.
        base: ``[C, ..., n]``, ln of the cells' masses before they are tilted.
        own: ``[..., n]``, the number of each date's cell.
        rest: ``[..., n]``, ln of a mass that keeps its weight, or None.
    """

    tilt: Tensor
    base: Tensor
    own: Tensor
    rest: Tensor | None = None

    def log_factors(self) -> tuple[Tensor, Tensor]:
        """ln of the factors by which the cycle changes the density of the dates, and the density of the rest,
        ``[..., n]`` each."""
        totals = [part.logsumexp(0) for part in (self.base, self.base + self.tilt)]
        if self.rest is not None:
            totals = [torch.logaddexp(part, self.rest) for part in totals]
        rest = totals[0] - totals[1]
        return _at(self.tilt, self.own) + rest, rest


def _led(cells: Tensor, axes: int) -> Tensor:
    """``cells`` ``[C, ...]`` with this many axes after the first, ``[C, 1 ..., ...]``."""
    return cells.reshape(len(cells), *[1] * (axes + 1 - cells.dim()), *cells.shape[1:])


def _at(cells: Tensor, own: Tensor) -> Tensor:
    """The entries ``[..., n]`` of ``cells`` ``[C, ..., n]`` with the numbers ``own`` ``[..., n]``."""
    lead = broadcast_shape(own.shape, cells.shape[1:])
    return _led(cells, len(lead)).expand(-1, *lead).gather(0, own.expand(1, *lead)).squeeze(0)


class Seasonal(Heaped):
    r"""A column of dates: :class:`Heaped`, with a margin that is tilted by month, day of the week and hour.

    Let m be the margin of :class:`Heaped`, and a, b and c log weights for each month of the year, day of the week and
    hour of the day. Inside the range of the data, the density is

    .. math:: m(x) \cdot \frac{e^{a(x)}}{\sum_i m(M_i)\, e^{a_i}}
        \cdot \frac{m_a(W)\, e^{b(x)}}{\sum_{i \in W} m_a(D_i)\, e^{b_i}}
        \cdot \frac{m(D)\, e^{c(x)}}{\sum_{i \in D} m(H_i)\, e^{c_i}}

    Here M are months, W is the week of x with its days D, D the day of x with its hours H, and
    :math:`m_a \propto m e^a`. The first factor divides the mass among months, the second the mass of each week among
    its days, and the third the mass of each day among its hours, so that the density stays normalised. Outside the
    range all weights are 0.

    Means and variances take ``NODES`` points of m per month, and leave out the days of the week and the hours; without
    a cycle of years, they are those of m.

    Args:
        loc, scale, logits, margins, mixing: as for :class:`Heaped`.
        tilts: the log weights ``[..., n, 12]`` of "year", ``[..., n, 7]`` of "week" (from Monday) and ``[..., n, H]``
            of "day", where H is 24 unless the grid is coarser.
        cells: the months, weeks and days.
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, logits: Tensor, margins: Margins, mixing: Tensor | None,
        tilts: Mapping[str, Tensor], cells: Periods,
    ):  # fmt: skip
        super().__init__(loc, scale, logits, margins, mixing)
        self.calendar = cells
        self.tilts = {name: tilts[name].movedim(-1, 0) for name in cells.cycles}

    def _smooth_log_prob(self, value: Tensor) -> Tensor:
        ends = self.calendar.ends
        inside = (value >= ends[:, 0]) & (value <= ends[:, 1])
        found = super()._smooth_log_prob(value)
        for name, cycle in self._cycles(torch.where(inside, value, ends[:, 0])).items():
            factor, outside = cycle.log_factors()
            found = found + torch.where(inside, factor, outside if name == "year" else 0.0)
        return found

    def _cycles(self, x: Tensor) -> dict[str, _Cycle]:
        """How each cycle divides the mass around dates ``[..., n]`` inside the range."""
        cells, found = self.calendar, {}
        x = x.reshape(*[1] * (len(self._batch_shape) - x.dim()), *x.shape)
        for name, tilt in self.tilts.items():
            tilt, rest = _led(tilt, x.dim()), None
            if name == "year":
                months = self._months.unflatten(0, (-1, 12)).logsumexp(0)
                base, own, rest = _led(months, x.dim()), cells.month(x), self._log_outside()
            elif name == "week":
                week = cells.week(x)
                base, own = self._days(week), (x - week + 1e-6).floor().long().clamp(0, 6)
            else:
                day = cells.day(x)
                size = len(tilt)
                base = self._log_mass(cells.within(day, size, 1 / size))
                own = ((x - day) * size + 1e-6).floor().long().clamp(0, size - 1)
            found[name] = _Cycle(tilt, base, own, rest)
        return found

    def tilts_of(self, x: Tensor) -> Tensor:
        """The log weights, one cycle after the other, with which the cells of each cycle are as frequent as in a sample
        ``[N, n]`` (NaN for missing dates): ``[n, cells]``. The distribution has no batch axes and all its weights are
        0."""
        found = []
        inside = (x >= self.calendar.ends[:, 0]) & (x <= self.calendar.ends[:, 1])  # and not missing
        for cycle in self._cycles(torch.where(inside, x, self.calendar.ends[:, 0])).values():
            size = len(cycle.tilt)
            own = torch.nn.functional.one_hot(cycle.own, size).movedim(-1, 0)
            even = cycle.base.double().softmax(0).expand(own.shape)
            seen, expected = ((part * inside).sum(1) + 1 for part in (own, even))
            found.append((seen / expected).log().T)
        return torch.cat(found, -1)

    def _days(self, week: Tensor) -> Tensor:
        """ln of the masses of the days of weeks, tilted by month, up to a constant, ``[7, ..., n]``."""
        found = self._log_mass(self.calendar.within(week, 7, 1.0))
        if "year" not in self.tilts:
            return found
        middles = week + torch.arange(7, dtype=week.dtype, device=week.device).view(-1, *[1] * week.dim()) + 0.5
        month = self.calendar.month(middles)
        return found + torch.stack([_at(self.tilts["year"], each) for each in month])

    @cached_property
    def _months(self) -> Tensor:
        """ln of the mass under m of each month of the range, ``[months, ..., n]``."""
        return self._log_mass_of(self._wide(self.calendar.scores))

    def _wide(self, scores: Tensor) -> Tensor:
        """Scores ``[cells, n]`` in a shape that goes with the batch, ``[cells, 1 ..., n]``."""
        return scores.view(len(scores), *[1] * (len(self._batch_shape) - 1), -1)

    def _log_outside(self) -> Tensor:
        """ln of the mass under m outside the range, ``[..., n]``."""
        low, high = self._wide(self.calendar.scores[[0, -1]])
        far = torch.full_like(low, FAR)
        either = (self._log_mass_of(torch.stack(pair))[0] for pair in ((-far, low), (high, far)))
        return torch.logaddexp(*either)

    def _log_mass(self, edges: Tensor) -> Tensor:
        """ln of the mass under m between neighbouring edges ``[C + 1, ..., n]``, ``[C, ..., n]``."""
        return self._log_mass_of(self.margins.score(edges)[0])

    def _log_mass_of(self, scores: Tensor) -> Tensor:
        """ln of the mass under m between neighbouring scores ``[C + 1, ..., n]``, ``[C, ..., n]``."""
        parts = self._log_parts(scores)
        return parts.squeeze(-2) if parts.shape[-2] == 1 else parts.logsumexp(-2)

    def _log_parts(self, scores: Tensor) -> Tensor:
        """The same for each component, ``[C, ..., M, n]``."""
        low, high = scores[:-1].unsqueeze(-2), scores[1:].unsqueeze(-2)
        found = log_between(low, high, self.loc, self.scale)
        found = found + self.log_mixing if self.loc.shape[-2] > 1 else found
        return torch.where(high > low, found, NEVER)

    def cells(self, rows: Tensor, j: int) -> Seasonal:
        """Column j, ``[..., B', 1]``, of some rows ``[B']``; rows are the axis before the columns."""
        own = super().cells(rows, j)
        tilts = {name: tilt.movedim(0, -1)[..., rows, j : j + 1, :] for name, tilt in self.tilts.items()}
        logits = own.log_weights[..., 1:] - own.log_weights[..., :1]
        return Seasonal(own.loc, own.scale, logits, own.margins, own.log_mixing, tilts, self.calendar.column(j))

    # Draws and moments

    def _smooth_sample(self, sample_shape: torch.Size) -> Tensor:
        return self._expanded(sample_shape)._dates()

    def _expanded(self, sample_shape: torch.Size) -> Seasonal:
        """The same distribution with further batch axes in front."""
        shape = self.loc.shape
        loc, scale, mixing = (part.expand(*sample_shape, *shape) for part in (self.loc, self.scale, self.log_mixing))
        tilts = {name: tilt.movedim(0, -1).expand(*sample_shape, *self._batch_shape, -1)
                 for name, tilt in self.tilts.items()}  # fmt: skip
        logits = self.log_weights[..., 1:].expand(*sample_shape, *self._batch_shape, -1)
        return Seasonal(loc, scale, logits, self.margins, mixing, tilts, self.calendar)

    def _dates(self) -> Tensor:
        """One date from each margin, in float64."""
        logits, edges = self._months, self._wide(self.calendar.scores)
        if "year" in self.tilts:
            logits = (logits.unflatten(0, (-1, 12)) + self.tilts["year"]).flatten(0, 1)
        if is_extrapolating():
            far = self._wide(self._limits(beyond=True).to(edges.dtype))
            edges = torch.cat([far[:1], edges, far[1:]])
            below, above = (self._log_mass_of(edges[pair]) for pair in ([0, 1], [-2, -1]))
            logits = torch.cat([below, logits, above])
        return self._divided(self._between(*_picked(logits, edges)))

    def divided(self, x: Tensor) -> Tensor:
        """Dates ``[..., n]`` of the margin m, moved within their weeks and days as the cycles say, at random."""
        with torch.no_grad():
            return self._expanded(x.shape[: x.dim() - len(self._batch_shape)])._divided(x)

    def _divided(self, x: Tensor) -> Tensor:
        cells = self.calendar
        inside = (x >= cells.ends[:, 0]) & (x <= cells.ends[:, 1])
        if "week" in self.tilts:
            first = cells.week(x)
            at = self.margins.score(cells.within(first, 7, 1.0))[0]
            x = torch.where(inside, self._between(*_picked(self._days(first) + self.tilts["week"], at)), x)
        if "day" in self.tilts:
            size = cells.cycles["day"]
            at = self.margins.score(cells.within(cells.day(x), size, 1 / size))[0]
            x = torch.where(inside, self._between(*_picked(self._log_mass_of(at) + self.tilts["day"], at)), x)
        return x

    def _between(self, low: Tensor, high: Tensor) -> Tensor:
        """One date from each margin between two scores ``[..., n]``."""
        limits = torch.stack([low, high]).double()
        which = drawn(self._log_parts(limits)[0].double(), -2).unsqueeze(-2)
        loc, scale = (part.gather(-2, which).squeeze(-2) for part in (self.loc, self.scale))
        u = torch.rand(loc.shape, dtype=torch.float64, device=loc.device).clamp(1e-12, 1 - 1e-12)
        return self._within(u, loc, scale, limits)

    @cached_property
    def _smooth(self) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the margin inside the range, ``[..., n]`` each."""
        if "year" not in self.tilts:
            return super()._smooth
        edges = self._wide(self.calendar.scores)
        parts = self._log_parts(edges).unflatten(0, (-1, 12)) + self.tilts["year"].unsqueeze(-2)
        parts = parts.flatten(0, 1).double()
        share = (parts - parts.logsumexp((0, -2), keepdim=True)).exp() / NODES
        limits = torch.stack([edges[:-1], edges[1:]]).double().unsqueeze(-2)
        first = second = torch.zeros_like(share[0, ..., 0, :])
        for node in range(NODES):
            u = torch.full_like(share, (node + 0.5) / NODES)
            x = self._within(u, self.loc, self.scale, limits).double()
            first, second = (old + (share * x**power).sum((0, -2)) for old, power in ((first, 1), (second, 2)))
        return first, second


def _picked(logits: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The two edges of one cell, drawn with log weights ``[C, ..., n]``, from the edges ``[C + 1, ..., n]``."""
    which = drawn(logits.double(), 0)
    return _at(edges, which), _at(edges, which + 1)
