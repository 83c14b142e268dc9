"""Numbers with atoms, a grid and a range: the law of a table's numeric column."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from latens.distributions.base import is_extrapolating
from latens.schema.law import SAME, Law, edges
from latens.tensors.numerics import broadcast_shape, log1mexp

CERTAIN = 1e4  # a log weight by which one atom takes all of the mass
FAR = 1e30  # larger than any value and any score


@dataclass(frozen=True)
class Piecewise:
    """Piecewise linear maps of n columns.

    Args:
        edges: ``[n, M]``, increasing in each row.
        table: ``[n, M + 1, 3]``, piece i as (x, y, slope), which holds above edge i - 1.
    """

    edges: Tensor
    table: Tensor

    @classmethod
    def of(cls, at: Tensor, to: Tensor, beyond: Tensor) -> Piecewise:
        """The maps through the points (at, to) ``[n, M]``; before the first point and after the last, the slopes are
        ``beyond`` ``[n]``.
        """
        width, beyond = at.diff(dim=-1), beyond.unsqueeze(-1)
        slope = to.diff(dim=-1) / torch.where(width > 0, width, 1.0)
        first = torch.nextafter(at[:, :1], torch.full_like(at[:, :1], -math.inf))  # so that it holds the low end
        table = [torch.cat([row[:, :1], row], -1) for row in (at, to)] + [torch.cat([beyond, slope, beyond], -1)]
        return cls(torch.cat([first, at[:, 1:]], -1).contiguous(), torch.stack(table, -1))

    def __call__(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(image of ``value`` ``[..., n]``, slope there)."""
        columns, (size, pieces, _) = _columns_first(value), self.table.shape
        place = torch.searchsorted(self.edges, columns)
        place = place + pieces * torch.arange(size, device=place.device).unsqueeze(-1)
        x, y, slope = self.table.view(-1, 3)[place].unbind(-1)
        return _columns_last(y + slope * (columns - x), value), _columns_last(slope, value)


def either(where: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """:func:`torch.where` for masks, which some runtimes of exported graphs lack."""
    return (where & first) | (~where & second)


def _columns_first(value: Tensor) -> Tensor:
    """``[..., n]`` as ``[n, N]``, contiguous."""
    rows = value.reshape(-1, value.shape[-1])
    # the compiler drops `contiguous`, and then torch.searchsorted prints a warning into the user's terminal
    return torch.stack(rows.unbind(-1)) if torch.compiler.is_compiling() else rows.T.contiguous()


def _columns_last(value: Tensor, like: Tensor) -> Tensor:
    return value.T.reshape(like.shape)


def _padded(rows: Sequence[Sequence[float]], dtype: torch.dtype, value: float | None = None) -> Tensor:
    """Rows as one tensor ``[n, longest]``; shorter rows are padded with ``value``, or with their last entry."""
    size = max(map(len, rows))
    filled = [[*row, *[row[-1] if value is None else value] * (size - len(row))] for row in rows]
    return torch.tensor(filled, dtype=dtype).view(len(rows), size)


def _width(law: Law, unit: float) -> float:
    """The number by which the mass of a place, or the density, is divided, so that nats refer to the law's measure."""
    if law.places or bool(law.step) == bool(law.atoms):
        return 1.0
    return unit if law.atoms else 1 / (law.step or 1.0)


def _limits(supports: Sequence[tuple[float, float] | None], step: Tensor) -> Tensor:
    """The outer edges of the places of the least and the greatest value, ``[n, 2]``."""
    pairs = torch.tensor([support or (-math.inf, math.inf) for support in supports], dtype=step.dtype)
    return (pairs + step.unsqueeze(-1) / 2 * torch.tensor([-1.0, 1.0], dtype=step.dtype)).clamp(-FAR, FAR)


def _places(laws: Sequence[Law], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """``middles``, ``about`` and ``listed`` of :class:`Margins`."""
    around = [edges(np.array(law.places)) if law.places else np.zeros(0) for law in laws]
    middles = _padded([each[1:-1].tolist() for each in around], dtype, math.inf)
    below, above = (
        _padded([np.abs(np.array(law.places) - side).tolist() or [(law.step or 1.0) / 2]
                 for law, side in zip(laws, sides)], dtype)
        for sides in ([each[:-1] for each in around], [each[1:] for each in around])
    )  # fmt: skip
    return middles, torch.stack([below, above], -1), _padded([law.places for law in laws], dtype, math.inf)


@dataclass(frozen=True)
class Margins:
    """The fixed maps T of n columns from values to scores, and the atoms of the columns.

    T is piecewise linear between knots, and continues linearly beyond them with slope 1 / ``unit``. Rows with fewer
    knots than the longest repeat their last knot.

    Args:
        knots: ``[n, M]``, values.
        scores: ``[n, M]``, T at the knots.
        atoms: ``[n, A]``, padded with NaN.
        unit: ``[n]``, the spread of each column.
        step: ``[n]``, the width of a place of the grid, 0 without a grid.
        origin: ``[n]``, the value of one place of the grid.
        apart: ``[n, A]``, whether an atom lies outside the range.
        offset: ``[n]``, the term added to ln of the mass of a place, or to ln of the density, so that nats refer to the
            column's measure.
        pieces: the maps T.
        lower: ``[n, A]``, the smallest number that counts as each atom.
        upper: ``[n, 1 + A]``, the largest number that counts as each atom, after one entry for no atom.
        middles: ``[n, P - 1]``, the edges between the places of a column whose law lists its places, padded with inf.
        about: ``[n, P, 2]``, how far each place extends to either side of its value.
        listed: ``[n, P]``, the values of these places, padded with inf.
        floor: ``[n]``, the value below which there is no mass; -inf for none.
        lowest: ``[n]``, the score of ``floor``.
        ends: ``[n, 2]``, the scores of the least and the greatest value that a column can have, seen or not.
        grids: which columns have places, on a grid or listed.
        floors: which columns have a floor.
    """

    knots: Tensor
    scores: Tensor
    atoms: Tensor
    unit: Tensor
    step: Tensor
    origin: Tensor
    apart: Tensor
    offset: Tensor
    pieces: Piecewise
    lower: Tensor
    upper: Tensor
    middles: Tensor
    about: Tensor
    listed: Tensor
    floor: Tensor
    lowest: Tensor
    ends: Tensor
    grids: tuple[bool, ...]
    floors: tuple[bool, ...]

    @classmethod
    def of(
        cls, laws: Sequence[Law], units: Sequence[float], dtype: torch.dtype = torch.float64,
        supports: Sequence[tuple[float, float] | None] = (),
    ) -> Margins:  # fmt: skip
        """Margins of n columns with these laws.

        Args:
            laws: the laws, one per column.
            units: the spread of each column.
            dtype: the type of the tensors.
            supports: the least and the greatest value that each column can have (None: any).
        """
        knots, scores = _padded([law.knots for law in laws], dtype), _padded([law.scores for law in laws], dtype)
        values, unit = _padded([law.atoms for law in laws], dtype, math.nan), torch.tensor(list(units), dtype=dtype)
        step, origin = torch.tensor([[law.step or 0.0, law.origin] for law in laws], dtype=dtype).T
        widths = torch.tensor([_width(law, each) for law, each in zip(laws, units)], dtype=dtype)
        none = torch.full_like(unit, -math.inf).unsqueeze(-1)
        floor = torch.tensor([-math.inf if law.floor is None else law.floor for law in laws], dtype=dtype)
        places = _places(laws, dtype)
        pieces = Piecewise.of(knots, scores, 1 / unit)
        limits = _limits(supports or [None] * len(laws), step)
        ends = torch.stack([pieces(limit)[0].clamp(-FAR, FAR) for limit in limits.T], -1)
        return cls(
            knots, scores, values, unit, step, origin, _padded([law.apart for law in laws], dtype, 0.0).bool(),
            widths.log(), pieces, (values - SAME * values.abs()).nan_to_num(math.inf),
            torch.cat([none, (values + SAME * values.abs()).nan_to_num(-math.inf)], -1),
            *places, floor, pieces(floor)[0].clamp(-FAR, FAR), ends,
            tuple(law.step is not None or bool(law.places) for law in laws),
            tuple(law.floor is not None for law in laws),
        )  # fmt: skip

    def column(self, j: int) -> Margins:
        """The margin of a single column, n = 1."""
        own = slice(j, j + 1)
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        pieces = Piecewise(self.pieces.edges[own], self.pieces.table[own])
        return Margins(**{name: part[own] for name, part in parts.items() if name != "pieces"}, pieces=pieces)

    def score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(T(x), T'(x)), each ``[..., n]``."""
        score, slope = self.pieces(x.to(self.knots.dtype))
        return score.clamp(-1e30, 1e30), slope

    def value(self, g: Tensor) -> Tensor:
        """x with T(x) = g, ``[..., n]``."""
        return Piecewise.of(self.scores, self.knots, self.unit)(g.to(self.knots.dtype))[0]

    def sides(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """How far the place of x extends below and above x, ``[..., n]`` each."""
        if not self.middles.shape[-1]:
            return self.about[:, 0, 0], self.about[:, 0, 1]
        columns = _columns_first(x)
        place = torch.searchsorted(self.middles, columns).unsqueeze(-1).expand(-1, -1, 2)
        below, above = self.about.gather(1, place).unbind(-1)
        return _columns_last(below, x), _columns_last(above, x)

    def atom(self, x: Tensor) -> Tensor:
        """1 + the index of the atom that x equals, or 0 if x is no atom, ``[..., n]``."""
        if not self.atoms.shape[-1]:
            return torch.zeros_like(x, dtype=torch.int64)
        columns = _columns_first(x.to(self.lower.dtype))
        place = torch.searchsorted(self.lower, columns, right=True)
        place = torch.where(columns <= self.upper.gather(-1, place), place, 0)
        return _columns_last(place, x)

    def is_apart(self, atom: Tensor) -> Tensor:
        """Whether an atom, numbered as in :meth:`atom`, lies outside the range, ``[..., n]``."""
        if not self.atoms.shape[-1]:
            return torch.zeros_like(atom, dtype=torch.bool)
        return (atom > 0) & self.picked(self.apart, atom)

    def boundary(self, base: Tensor, after: Tensor) -> Tensor:
        """The edge between the places below each number ``[..., n]`` and those above it. A place with the number's own
        value is above the edge or, where ``after`` ``[n]`` is true, below it. Without places, it is the number itself.
        """
        slack, found = SAME * base.abs(), base
        if any(self.grids):
            step = torch.where(self.step > 0, self.step, 1.0)
            place, near = (base - self.origin) / step, (slack / step).clamp(1e-6, 0.25)
            edge = torch.where(after, (place + near).floor() + 0.5, (place - near).ceil() - 0.5)
            found = torch.where(self.step > 0, self.origin + edge * step, base)
        if not self.listed.shape[-1]:
            return found
        ends = torch.cat([self.listed[:, :1] - self.about[:, :1, 0], self.listed + self.about[:, :, 1]], -1)
        numbers = _columns_first(torch.where(after, base + slack, base - slack))
        below, through = (torch.searchsorted(self.listed, numbers, right=right) for right in (False, True))
        edge = ends.gather(-1, torch.where(after.unsqueeze(-1), through, below))
        return torch.where(self.listed[:, 0] < math.inf, _columns_last(edge, base), found)

    def cut(self, base: Tensor, sign: Tensor, after: Tensor) -> Cut:
        """The :class:`Cut` at some numbers ``[..., n]``, NaN for none.

        Args:
            base: the numbers.
            sign: ``[..., n]``, 1 for values above them, -1 for values below them.
            after: ``[n]``, whether a value that equals the number counts as below it.
        """
        base, none = base.to(self.knots.dtype), base.isnan().unsqueeze(-1)
        edge = self.boundary(torch.where(base.isnan(), self.knots[:, 0], base), after)
        edge = torch.where(base.isnan(), -FAR * sign, edge)
        at, slack = base.unsqueeze(-1), (SAME * base.abs()).unsqueeze(-1)
        above = either(after.unsqueeze(-1), self.atoms > at + slack, self.atoms >= at - slack)
        inside = either(sign.unsqueeze(-1) > 0, above, ~above) | none
        slack = torch.minimum(slack.squeeze(-1), torch.where(self.step > 0, self.step / 4, math.inf))
        limit = torch.where(base.isnan(), edge, base + torch.where(after, slack, -slack))
        return Cut(limit, edge, self.score(edge)[0], sign, inside & ~self.atoms.isnan())

    def picked(self, table: Tensor, atom: Tensor) -> Tensor:
        """For each atom ``[..., n]``, its entry in a table ``[n, A]``; the first entry if there is no atom."""
        first = table.shape[-1] * torch.arange(len(table), device=atom.device)
        return table.reshape(-1)[first + (atom - 1).clamp_min(0)]


@dataclass(frozen=True)
class Cut:
    """The side of a number on which the values of each of n columns lie.

    Args:
        limit: ``[..., n]``, the number, moved slightly to the side on which values that equal it do not lie.
        edge: ``[..., n]``, the edge of the first place on that side.
        score: ``[..., n]``, T(edge).
        sign: ``[..., n]``, 1 if the values lie above the edge, -1 if they lie below it.
        atoms: ``[..., n, A]``, whether each atom lies on that side.
    """

    limit: Tensor
    edge: Tensor
    score: Tensor
    sign: Tensor
    atoms: Tensor

    def cells(self, shape: torch.Size, rows: Tensor, j: int) -> Cut:
        """The cut of column j in some rows, for a batch of this shape ``[..., n]``."""
        own = slice(j, j + 1)
        every = (self.limit, self.edge, self.score, self.sign)
        limit, edge, score, sign = (part.expand(shape)[..., rows, own] for part in every)
        return Cut(limit, edge, score, sign, self.atoms.expand(*shape, -1)[..., rows, own, :])

    def holds(self, value: Tensor, atom: Tensor) -> Tensor:
        """Whether values ``[..., n]``, which are these atoms (:meth:`Margins.atom`), lie on that side."""
        found = torch.maximum(self.sign * (value - self.edge), self.sign * (value - self.limit)) >= 0
        if not self.atoms.shape[-1]:
            return found
        lead = broadcast_shape(atom.shape, self.atoms.shape[:-1])
        own = (atom - 1).clamp_min(0).expand(lead).unsqueeze(-1)
        return either(atom > 0, self.atoms.expand(*lead, -1).gather(-1, own).squeeze(-1), found)

    def placed(self, value: Tensor) -> Tensor:
        """Values ``[..., n]``, moved so that their nearest place is on that side: a value off the grid may lie on the
        right side of the number, and nearer to a place on the wrong side."""
        return torch.where(self.sign * (value - self.edge) < 0, 2 * self.edge - value, value)

    def confined(self, limits: Tensor) -> Tensor:
        """The part of an interval of scores ``[2, n]`` that lies on that side, ``[2, ..., n]``; if there is none, the
        edge alone."""
        edge = self.score.to(limits.dtype)
        low = torch.where(self.sign > 0, torch.maximum(limits[0], edge), torch.minimum(limits[0], edge))
        high = torch.where(self.sign > 0, torch.maximum(limits[1], edge), torch.minimum(limits[1], edge))
        return torch.stack([low, high])


class Heaped(Distribution):
    r"""A column of numbers: atoms, each with a mass, and a smooth margin between them.

    .. math:: p(x) = \sum_h w_h\, [x = a_h] + w_0\, m(x), \qquad
        x = T^{-1}(g), \quad g \sim \sum_k \pi_k \operatorname{Logistic}(\mu_k, s_k) \text{ under } m

    T is fixed and increasing; it is chosen so that x has the column's marginal if g is logistic with variance 1. Such
    mixtures are the conditionals of Salimans et al. (2017).

    On a grid, m(x) is the mass of the place of x,

    .. math:: \sum_k \pi_k \left[\sigma\!\left(\frac{T(x + \delta/2) - \mu_k}{s_k}\right)
        - \sigma\!\left(\frac{T(x - \delta/2) - \mu_k}{s_k}\right)\right]

    with step :math:`\delta`; a value off the grid has the mass of the nearest place. Without a grid, m(x) is a
    density.

    The measure of p(x) depends on the column. Without atoms, it is the density per unit of the data (on a grid, the
    mass of a place divided by its width). With atoms and a grid, it is the mass of a place. With atoms and no grid, it
    is the mass of an atom, and for other values the density times ``unit``.

    Draws, means and the value that stands for the distribution are conditional on x being in the range. Outside the
    range T continues linearly with slope 1 / ``unit``, so the density has logistic tails, and unusual values have
    finite scores that fall with their distance. In the context :func:`latens.distributions.extrapolating`, draws may
    lie there too, as far as the column can have such values.

    With a ``cut`` at e, values lie on one side of e, for example above it. Then

    .. math:: p(x \mid x \ge e) = \frac{p(x)}{w_0 \sum_k \pi_k\, \sigma\!\left(\frac{\mu_k - T(e)}{s_k}\right)
        + \sum_{a_h \ge e} w_h}

    and draws, means and the value that stands for the distribution are conditional on it, too.

    Args:
        loc: :math:`\mu`, ``[..., n]``, or ``[..., M, n]`` with ``mixing``.
        scale: s > 0, in the same shape.
        logits: ``[..., n, A]``, log weights of the atoms relative to the margin's weight; -inf for no atom.
        margins: T and the atoms of the n columns.
        mixing: ``[..., M, n]``, whose softmax over M is :math:`\pi`; None for one component.
        cut: the side of a number on which each column's values lie; None for any values.
    """

    arg_constraints: dict = {}

    def __init__(
        self, loc: Tensor, scale: Tensor, logits: Tensor, margins: Margins, mixing: Tensor | None = None,
        cut: Cut | None = None,
    ):  # fmt: skip
        if mixing is None:
            loc, scale, mixing = (part.unsqueeze(-2) for part in (loc, scale, torch.zeros_like(loc)))
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.margins, self._mixing = margins, mixing
        zero = torch.zeros_like(logits[..., :1]) if logits.shape[-1] else logits.new_zeros(*logits.shape[:-1], 1)
        self.log_weights = torch.cat([zero, logits], -1).log_softmax(-1) if logits.shape[-1] else zero
        self.cut, self._whole = cut, self.log_weights
        if cut is not None:
            lead = broadcast_shape(self.loc.shape[:-2], cut.edge.shape[:-1])
            self.loc, self.scale, self._mixing = (
                part.expand(*lead, *part.shape[-2:]) for part in (self.loc, self.scale, self._mixing))
            self._share = (self.log_mixing + self._above()).logsumexp(-2)  # ln of the margin's mass on that side
            self.log_weights = self._reweighted(self._share)
        shape = self.loc.shape
        super().__init__(torch.Size([*shape[:-2], shape[-1]]), validate_args=False)

    def on_side(self, cut: Cut | None) -> Heaped:
        """The same distribution, confined to one side of a number, or not confined."""
        return Heaped(self.loc, self.scale, self._logits, self.margins, self._mixing, cut)

    def pinned(self, state: Tensor, atom: Tensor) -> Heaped:
        """The same distribution, but one atom has all of the mass where its state is 1, and none where its state is -1.
        (On a grid, the margin keeps its mass at the place of the atom.)

        Args:
            state: ``[..., n]``; 0 changes nothing.
            atom: ``[n]``, the number of each column's atom, as in :meth:`Margins.atom`.
        """
        found, state = copy.copy(self), state.unsqueeze(-1)
        own = atom.unsqueeze(-1) == torch.arange(self._whole.shape[-1], device=atom.device)
        moved = torch.where(own, torch.where(state > 0, CERTAIN, torch.where(state < 0, -math.inf, 0.0)), 0.0)
        found.log_weights = found._whole = (self._whole + moved.to(self._whole.dtype)).log_softmax(-1)
        return found

    @property
    def _logits(self) -> Tensor:
        return self._whole[..., 1:] - self._whole[..., :1]

    def _above(self) -> Tensor:
        """ln of each component's mass on the side of the cut, ``[..., M, n]``."""
        assert self.cut is not None and not any(self.margins.floors)
        score, sign = (part.to(self.loc.dtype).unsqueeze(-2) for part in (self.cut.score, self.cut.sign))
        return logsigmoid(sign * (self.loc - score) / self.scale)

    def _reweighted(self, log_share: Tensor) -> Tensor:
        """ln of the weights of margin and atoms ``[..., n, 1 + A]`` on the side of the cut, which has this share of the
        margin ``[..., n]``."""
        assert self.cut is not None
        margin = (self._whole[..., 0] + log_share).unsqueeze(-1)
        lead = broadcast_shape(margin.shape[:-1], self.cut.atoms.shape[:-1])
        atoms = torch.where(self.cut.atoms, self._whole[..., 1:].to(margin.dtype), -FAR)
        found = torch.cat([margin.expand(*lead, 1), atoms.expand(*lead, -1)], -1).log_softmax(-1)
        return torch.cat([found[..., :1], found[..., 1:].masked_fill(~self.cut.atoms, -math.inf)], -1)

    @cached_property
    def log_masses(self) -> Tensor:
        """ln of the weights of margin and atoms in draws, ``[..., n, 1 + A]``. With a cut, they differ from
        ``log_weights``, since the margin is also confined to the range."""
        if self.cut is None:
            return self.log_weights
        both = [self._log_in(limits).logsumexp(-2) for limits in (self._limits(), self._range())]
        return self._reweighted((both[0] - both[1]).to(self._whole.dtype))

    @property
    def fill(self) -> Tensor:
        """A value in the support of each column, its first knot, ``[n]``."""
        return self.margins.knots[:, 0]

    @property
    def log_mixing(self) -> Tensor:
        r"""ln of the weights :math:`\pi`, ``[..., M, n]``."""
        return self._mixing.log_softmax(-2)

    @property
    def only(self) -> tuple[Tensor, Tensor]:
        """Location and scale ``[..., n]`` of a margin with one component."""
        return self.loc.squeeze(-2), self.scale.squeeze(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each cell, in nats of its column's measure, ``[..., n]``."""
        m = self.margins
        value = value.to(m.knots.dtype)
        if self.cut is not None:
            atom = m.atom(value)
            placed = torch.where(atom > 0, value, self.cut.placed(value))
            return torch.where(self.cut.holds(value, atom), self._mixed_log_prob(placed), -math.inf)
        return self._mixed_log_prob(value)

    def _mixed_log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of atoms and margin together, on the side of the cut."""
        m = self.margins
        smooth = self._smooth_log_prob(value)
        smooth = smooth if self.cut is None else smooth - self._share
        if not m.atoms.shape[-1]:
            return smooth
        atom = m.atom(value)
        lead = broadcast_shape(atom.shape, self.log_weights.shape[:-1])
        own = self.log_weights.expand(*lead, -1).gather(-1, atom.expand(lead).unsqueeze(-1)).squeeze(-1)
        smooth = self.log_weights[..., 0] + smooth
        both = torch.logaddexp(own.masked_fill(atom == 0, -math.inf), smooth)
        return both if all(m.grids) else torch.where(self._placed | (atom == 0), both, own)

    def _smooth_log_prob(self, value: Tensor) -> Tensor:
        """ln m(x), without the masses of atoms."""
        m, dtype = self.margins, self.loc.dtype
        found: list[Tensor] = []
        if any(m.grids):
            step = torch.where(m.step > 0, m.step, 1.0)
            place = torch.where(m.step > 0, m.origin + ((value - m.origin) / step).round() * step, value)
            below, above = m.sides(place)
            low, high = m.score(torch.stack([place - below, place + above]))[0].unsqueeze(-2)
            found.append(log_between(low, high, self.loc, self.scale))
        if not all(m.grids):
            centre, slope = (part.unsqueeze(-2) for part in m.score(value))
            centre = (centre.to(dtype) - self.loc) / self.scale
            found.append(logsigmoid(centre) + logsigmoid(-centre) - self.scale.log() + slope.log().to(dtype))
        smooth = found[0] if len(found) == 1 else torch.where(self._placed, found[0], found[1])
        if any(m.floors):
            above = logsigmoid((self.loc - m.lowest.to(dtype)) / self.scale)
            smooth = (smooth - above).masked_fill((value < m.floor).unsqueeze(-2), -math.inf)
        if self.loc.shape[-2] > 1:
            smooth = (smooth + self.log_mixing).logsumexp(-2, keepdim=True)
        return smooth.squeeze(-2) + m.offset.to(dtype)

    @property
    def _placed(self) -> Tensor:
        return torch.tensor(self.margins.grids, device=self.loc.device)

    def _limits(self, beyond: bool = False) -> Tensor:
        """The scores ``[2, n]`` of the ends of the range or, with ``beyond``, of the least and the greatest value that
        the column can have."""
        ends = self._range(beyond)
        return ends if self.cut is None else self.cut.confined(ends)

    def _range(self, beyond: bool = False) -> Tensor:
        return (self.margins.ends.T if beyond else self.margins.scores[:, [0, -1]].T).double()

    def _log_shares(self, limits: Tensor) -> Tensor:
        """ln of each component's share of the mass between two scores, ``[..., M, n]`` in float64; the shares sum to 1.
        """
        return self._log_in(limits).log_softmax(-2)

    def _log_in(self, limits: Tensor) -> Tensor:
        """ln of each component's weight times its mass between two scores ``[2, ..., n]``, ``[..., M, n]`` in float64.
        """
        _, low, high = _tails(limits.unsqueeze(-2), self.loc, self.scale)
        share = self.log_mixing.double() + high + log1mexp((high - low).clamp_min(1e-300))
        if any(self.margins.floors):
            share = share - logsigmoid((self.loc - self.margins.lowest.to(self.loc.dtype)) / self.scale).double()
        return share

    def _within(self, u: Tensor, loc: Tensor, scale: Tensor, limits: Tensor) -> Tensor:
        """For each component, the value below which a share u of its mass between two scores lies."""
        sign, low, high = _tails(limits, loc, scale)
        log_p = high + torch.log1p((1 - u) * torch.expm1(low - high))
        t = log_p - torch.where(log_p < -1e-300, torch.log(-torch.expm1(log_p.clamp_max(-1e-300))), 0.0)
        g = loc.double() + sign * scale.double() * t
        return self.margins.value(torch.minimum(torch.maximum(g, limits[0]), limits[1]))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., n]``, without gradients."""
        with torch.no_grad():
            x = self._smooth_sample(torch.Size(sample_shape))
            if not self.margins.atoms.shape[-1]:
                return x.to(self._value_dtype)
            atom = drawn(self.log_masses.expand(*x.shape, -1), -1)
            heap = self.margins.picked(self.margins.atoms, atom).double()
            return torch.where(atom == 0, x, heap).to(self._value_dtype)

    def _smooth_sample(self, sample_shape: torch.Size) -> Tensor:
        """Draws ``[*sample_shape, ..., n]`` of the margin, in float64."""
        limits = self._limits(is_extrapolating())
        u = torch.rand([*sample_shape, *self._batch_shape], dtype=torch.float64, device=self.loc.device)
        loc, scale = self.loc, self.scale
        if loc.shape[-2] == 1:
            loc, scale = loc.squeeze(-2), scale.squeeze(-2)
        else:
            log_shares = self._log_shares(limits)
            which = drawn(log_shares.expand(*sample_shape, *log_shares.shape), -2).unsqueeze(-2)
            loc, scale = (part.expand(*sample_shape, *log_shares.shape).gather(-2, which).squeeze(-2)
                          for part in (loc, scale))  # fmt: skip
        return self._within(u.clamp(1e-12, 1 - 1e-12), loc, scale, limits)

    @property
    def _value_dtype(self) -> torch.dtype:
        return self.margins.knots.dtype

    @cached_property
    def _smooth(self) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the margin inside the range, ``[..., n]`` each.

        By midpoints in t, where the share u(t) = t^3 (10 - 15 t + 6 t^2) resolves the tails well.
        """
        t = ((torch.arange(32, dtype=torch.float64, device=self.loc.device) + 0.5) / 32).view(-1, *[1] * self.loc.dim())
        weight = (30 * (t * (1 - t)).square()) / 32
        u, limits = t**3 * (10 - 15 * t + 6 * t.square()), self._limits()
        x = self._within(u.expand(-1, *self.loc.shape), self.loc, self.scale, limits.unsqueeze(-2)).double()
        share = self._log_shares(limits).exp()
        first, second = ((weight * power).sum(0) / weight.sum() for power in (x, x.square()))
        return (share * first).sum(-2), (share * second).sum(-2)

    def cells(self, rows: Tensor, j: int) -> Heaped:
        """Column j, ``[..., B', 1]``, of some rows ``[B']``; rows are the axis before the columns."""
        loc, scale, mixing = (part[..., rows, :, j : j + 1] for part in (self.loc, self.scale, self.log_mixing))
        logits = self._logits[..., rows, j : j + 1, :]
        cut = None if self.cut is None else self.cut.cells(self._batch_shape, rows, j)
        return Heaped(loc, scale, logits, self.margins.column(j), mixing, cut)

    def masses(self) -> tuple[Tensor, Tensor, Tensor]:
        """(weights of margin and atoms ``[..., n, 1 + A]``; mean and mean square of the margin, ``[..., n]`` each)."""
        return self.log_masses.double().exp(), *self._smooth

    @property
    def _moments(self) -> tuple[Tensor, Tensor]:
        weights, first, second = self.masses()
        values = torch.nan_to_num(self.margins.atoms.double())
        first = weights[..., 0] * first + (weights[..., 1:] * values).sum(-1)
        return first, weights[..., 0] * second + (weights[..., 1:] * values.square()).sum(-1)

    @property
    def mean(self) -> Tensor:
        """E[x] given that x is in the range, ``[..., n]``."""
        return self._moments[0]

    @property
    def variance(self) -> Tensor:
        """Var[x] given that x is in the range, ``[..., n]``."""
        first, second = self._moments
        return (second - first.square()).clamp_min(0)

    @property
    def center(self) -> Tensor:
        """The value that stands for the distribution, ``[..., n]``; see :func:`standing`."""
        return standing(*self.masses(), self.margins)[0].to(self._value_dtype)


def _tails(limits: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sign, ln P(g < low end), ln P(g < high end)) in float64, mirrored if needed so that the interval is in the lower
    tail."""
    ends = [(end - loc.double()) / scale.double() for end in limits]
    sign = torch.where(ends[0] + ends[1] > 0, -1.0, 1.0).double()
    low, high = torch.minimum(sign * ends[0], sign * ends[1]), torch.maximum(sign * ends[0], sign * ends[1])
    return sign, logsigmoid(low), logsigmoid(high)


def log_between(low: Tensor, high: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """ln of the mass of logistics between two scores that differ, in the type of ``loc``."""
    width = ((high - low).to(loc.dtype) / scale).clamp_min(1e-12)
    ends = torch.stack([high.to(loc.dtype) - loc, loc - low.to(loc.dtype)]) / scale
    return logsigmoid(ends).sum(0) + log1mexp(width)


def drawn(log_weights: Tensor, axis: int) -> Tensor:
    """Indices along an axis, drawn with these log weights (Gumbel 1954)."""
    noise = torch.rand(log_weights.shape, dtype=log_weights.dtype, device=log_weights.device).clamp_min(1e-20)
    return (log_weights - (-noise.log()).log()).argmax(axis)


def standing(weights: Tensor, first: Tensor, second: Tensor, margins: Margins) -> tuple[Tensor, Tensor]:
    """(a possible value that represents a mixture of margin and atoms; the standard deviation of x around it).

    The value is the most likely atom if it has more than half of the mass, or more than all values inside the range;
    otherwise it is the mean inside the range.

    Args:
        weights: ``[..., n, 1 + A]``, of the margin and of the atoms.
        first: ``[..., n]``, the margin's mean.
        second: ``[..., n]``, the margin's mean square.
        margins: the atoms.
    """
    values = torch.nan_to_num(margins.atoms.double())
    if not values.shape[-1]:
        return first, (second - first.square()).clamp_min(0).sqrt()
    atoms = weights[..., 1:]
    top, place = atoms.max(-1)
    likely = margins.picked(values, place + 1)
    near = torch.where(margins.apart, 0.0, atoms)
    total = (weights[..., 0] + near.sum(-1)).clamp_min(1e-300)
    mean = (weights[..., 0] * first + (near * values).sum(-1)) / total
    found = torch.where((top > 0.5) | (top > total), likely, mean)
    spread = weights[..., 0] * (second - 2 * found * first + found.square())
    spread = spread + (atoms * (values - found.unsqueeze(-1)).square()).sum(-1)
    return found, spread.clamp_min(0).sqrt()
