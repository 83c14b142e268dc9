"""What each column of a table is: its kind, its law, its likelihood.

One pass reads every cell, piece by piece, so tables larger than memory are treated in the same way as small tables.
Quantiles come from a sample of rows. A column's density is chosen among candidates. Each is fitted to one half of the
sample, in closed form or by a few steps of EM, and scored on the other half. The candidates are marginal densities,
because the choice rests on support and tails, which the latent variable rarely changes. A score is the mean of ln p in
nats per cell, where p is the mass of the value's place if the column has a grid, and otherwise the density in the
column's unit.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latens.errors import InputError, choose
from latens.schema import Column, Table
from latens.schema.arrow import (
    DAY,
    NARROW,
    as_levels,
    as_numbers,
    as_written,
    first_whole,
    in_words,
    kind_of_time,
    listed,
    nanoseconds,
    pa,
    pc,
    plain,
    require_once,
    short,
)
from latens.schema.column import CODED, FAMILIES, LOGARITHMIC, TICKS, logarithmic
from latens.schema.form import Form
from latens.schema.law import (
    CHANCE,
    MOST_ENDINGS,
    MOST_TIMES,
    SCALE,
    TENTH,
    Law,
    calendar_of,
    calendar_of_endings,
    cycles_of,
    edges,
    endings_of,
    place_of,
    possible_endings,
    repeated,
    rounded_of,
)
from latens.schema.ranges import nearest

MARGIN = 0.01  # nats per cell that a candidate must gain over the simpler ones before it
FEW_HELD_OUT = 250  # with fewer held-out values, the gain must also exceed two standard errors
DEGREES = (3.0, 5.0, 10.0)


def best_family(values: np.ndarray, candidates: Sequence[str], step: float | None = None) -> str:
    """The candidate with the best held-out score.

    Args:
        values: finite values ``[N]`` of a column, in no particular order.
        candidates: names of densities, the simplest first. A later one must be better by ``MARGIN`` and, if there
            are few values, also by two standard errors of the paired difference.
        step: the grid on which the values lie; a density is then scored by its mass around each value.

    >>> rng = np.random.default_rng(0)
    >>> best_family(np.exp(rng.normal(size=4000)), ("normal", "student_t", "log_normal"))
    'log_normal'
    """
    if len(candidates) == 1 or len(values) < 20:
        return candidates[0]
    order = np.random.default_rng(0).permutation(len(values))
    train, test = values[order[::2]], values[order[1::2]]
    scores = {name: _score(name, train, test, step) for name in candidates}
    best = candidates[0]
    for name in candidates[1:]:
        with np.errstate(invalid="ignore"):
            gain = scores[name] - scores[best]
        few = len(gain) < FEW_HELD_OUT and np.isfinite(gain).all()  # if there are many, outliers would widen the error
        error = gain.std() / np.sqrt(len(gain)) if few else 0.0
        if gain.mean() > max(MARGIN, 2 * error):
            best = name
    return best


def _score(name: str, train: np.ndarray, test: np.ndarray, step: float | None = None) -> np.ndarray:
    """ln p of each held-out value ``[N]``; for a density on a grid, ln of its integral over the value's place."""
    if step is None:
        return np.broadcast_to(_SCORES[name](train, test), test.shape)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    at = test[:, None] + step / 2 * nodes
    found = np.broadcast_to(_SCORES[name](train, at.ravel()), at.size).reshape(at.shape)
    return np.logaddexp.reduce(found + np.log(weights * step / 2), axis=1)


def _spread(values: np.ndarray) -> float:
    return float(values.std()) or 1e-12 * max(1.0, float(np.abs(values).max()))


def _normal(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    sd = _spread(train)
    return -0.5 * ((test - train.mean()) / sd) ** 2 - np.log(sd * math.sqrt(2 * math.pi))


def _student_t(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Student's t with the best of a few degrees of freedom; location and scale by EM (Lange, Little & Taylor 1989)."""
    found = []
    for df in DEGREES:
        loc, scale2 = float(np.median(train)), _spread(train) ** 2
        for _ in range(30):
            weight = (df + 1) / (df + (train - loc) ** 2 / scale2)
            loc = float((weight * train).sum() / weight.sum())
            scale2 = max(float((weight * (train - loc) ** 2).mean()), 1e-12 * _spread(train) ** 2)
        constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi * scale2)
        scores = [constant - (df + 1) / 2 * np.log1p((x - loc) ** 2 / (df * scale2)) for x in (train, test)]
        found.append((float(scores[0].mean()), scores[1]))
    return max(found, key=lambda pair: pair[0])[1]


def _log_normal(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    if train.min() <= 0 or test.min() <= 0:
        return np.array(-np.inf)
    return _normal(np.log(train), np.log(test)) - np.log(test)


_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "normal": _normal, "student_t": _student_t, "log_normal": _log_normal,
}


HEAP = 0.005  # an atom exceeds its neighbours by at least this share of the rows
MOST = 128  # the most atoms of a column
OFTEN = 25  # if a column has few values, and at least this many rows per value, all its values are atoms
RARE = 4  # they are also atoms if there are at least this many heaps per value that is not a heap
STRAY = 0.01  # the share of the rows that may be off the grid
STRAYS = 0.5  # the most distinct values off the grid, per distinct value on it
REPEATED = 3  # with at least this many rows each, few values that leave places between them empty are the only ones
MOST_REPEATED = 1000  # the same holds for up to this many numbers
NEARLY_ALL = 0.9  # if at least this share of them is repeated
KNOTS = 64  # the most pieces of a margin
ROWS_OF_KNOT = 16
PLACES = 1024  # a margin has separate edges for about this many places of a grid
LEAST_PLACES, MOST_PLACES = 20, 100_000  # number of places of a grid whose step is not a decimal number
FLAT = 0.005  # the share of the margin that is uniform over the range
HEAPED = 4  # a place this many times as frequent as others says nothing about which places of a longer period occur
MOST_DIGITS = 8  # numbers with more significant digits count as not rounded to such
NEARLY = 0.99  # the number of decimals must hold for at least this share of the values
DAYS = (
    1.0, 0.5, 0.25, 1 / 24, 1 / 48, 1 / 96, 1 / 144, 1 / 288, 1 / 1440, *(1 / (86_400 * k) for k in (1, 10, 100, 1000)),
)  # fmt: skip
SECONDS = (86_400.0, 3600.0, 1800.0, 900.0, 600.0, 300.0, 60.0, 30.0, 15.0, 5.0, 1.0, 0.1, 0.01, 1e-3)


def law_of(
    values: np.ndarray, counts: dict[float, int] | None = None, steps: tuple[float, ...] | None = None,
    ends: tuple[float, float] | None = None, period: tuple[float, float] | None = None,
) -> Law | None:  # fmt: skip
    """The law of a column; None if floats cannot tell its values apart, or the values are not finite.

    Args:
        values: a sample ``[N]`` of its values, at least one.
        counts: how often each value of the column occurs; by default, how often it occurs in the sample.
        steps: the grids to try, coarsest first; by default, multiples of powers of ten.
        ends: the smallest and the largest value of the column; by default, those of the sample.
        period: (length, start) of the periods of a calendar (:meth:`latens.schema.law.Calendar.spread`). Within a
            period, the calendar, and not the margin, says how frequent each value is.

    >>> law_of(np.repeat([1.0, 1.5, 2.0, 4.0], 40)).atoms
    (1.0, 1.5, 2.0, 4.0)
    >>> law = law_of(np.append(np.arange(1000.0), np.full(300, -999.0)))
    >>> law.atoms, law.step, law.low, law.high
    ((-999.0,), 1.0, 0.0, 999.0)

    At least 99 % of the rows are on the grid. A value off the grid is an atom only if it is frequent enough; otherwise
    it counts as the nearest place of the grid. :class:`latens.distributions.Heaped` gives the mass of each place.

    >>> law_of(np.append(np.arange(1000.0), [3.5, 71.25])).step
    1.0
    """
    distinct, seen = np.unique(values, return_counts=True) if counts is None else _sorted(counts)
    low, high = ends or (float(distinct[0]), float(distinct[-1]))
    if max(-low, high) > 1e300:
        return None
    grid = grid_of(distinct, seen, steps)
    heaps = _heaps(distinct, seen, grid)
    few = len(distinct) <= MOST
    rest = ~np.isin(distinct, heaps)
    if rest.sum() < 2 or (few and _are_atoms(seen, rest)):
        return _of_few(distinct, seen, rest, grid, low)
    beyond = _beyond(heaps, distinct[rest], grid)
    inside = ~np.isin(distinct, beyond)
    grid = grid_of(distinct[inside], seen[inside], steps)
    is_repeated = _is_repeated(distinct[inside], seen[inside], grid, steps)
    if grid is not None or is_repeated:  # atoms amid the other values become wide pieces of the margin
        heaps, rest = beyond, inside
        grid = None if is_repeated else grid
    v, c = distinct[rest], seen[rest]
    if is_repeated:
        return _lawful(*_margin(v, c, None, True), heaps, places=tuple(map(float, v)))
    if counts is None:  # the ends may not be in the sample
        v, c = _with_ends(v, c, [end for end in (low, high) if end not in heaps])
    return _lawful(*_margin(*_placed(v, c, grid), grid, period=period), heaps, grid)


def _are_atoms(seen: np.ndarray, rest: np.ndarray) -> bool:
    """Whether a column with few values, all but the ``rest`` of them heaps, can have no other values."""
    return bool(seen.sum() >= OFTEN * len(seen) or RARE * rest.sum() <= (~rest).sum())


def _beyond(heaps: np.ndarray, others: np.ndarray, grid: Grid | None) -> np.ndarray:
    """The heaps that lie outside the range of the other values, or off the grid."""
    outside = (heaps < others[0]) | (heaps > others[-1])
    return heaps[outside if grid is None else outside | ~grid.holds(heaps)]


def _of_few(distinct: np.ndarray, seen: np.ndarray, rest: np.ndarray, grid: Grid | None, low: float) -> Law | None:
    """The law of a column whose values are all atoms; its margin, of the ``rest``, is never drawn from."""
    v, c = (distinct[rest], seen[rest]) if rest.sum() > 1 else (distinct, seen)
    if len(v) < 2:
        v, c = np.array([low, low + (grid.step if grid else abs(low) or 1.0)]), np.ones(2, int)
    often = seen >= max(HEAP * seen.sum(), 5)
    often = distinct[often | grid.holds(distinct)] if grid else distinct
    return _lawful(*_margin(*_placed(v, c, grid), grid), often[:MOST], grid, is_complete=True)


def _lawful(
    knots: np.ndarray, scores: np.ndarray, atoms: np.ndarray, grid: Grid | None = None, **more: Any
) -> Law | None:  # fmt: skip
    if not (np.diff(knots) > 0).all():
        knots, scores = knots[[0, -1]], scores[[0, -1]]
    finite = knots[0] < knots[-1] and np.isfinite(knots).all()
    if not finite:
        return None
    step, origin = (grid.step, grid.origin) if grid else (None, 0.0)
    at, of, heaps = (tuple(map(float, each)) for each in (knots, scores, atoms))
    return Law(at, of, heaps, step, origin=origin, **more)


def _sorted(counts: dict[float, int]) -> tuple[np.ndarray, np.ndarray]:
    distinct = np.array(sorted(counts), dtype=np.float64)
    return distinct, np.array([counts[value] for value in distinct.tolist()])


def _with_ends(v: np.ndarray, c: np.ndarray, ends: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The values and their counts, extended by those ``ends`` that lie beyond the values, with a count of 1 each."""
    below, above = [end for end in ends if end < v[0]], [end for end in ends if end > v[-1]]
    ones = [np.ones(len(each), c.dtype) for each in (below, above)]
    return np.concatenate([below, v, above]), np.concatenate([ones[0], c, ones[1]])


def _is_repeated(values: np.ndarray, seen: np.ndarray, grid: Grid | None, steps: tuple[float, ...] | None) -> bool:
    """Whether values occur several times each, and fill less than half of the places of the grid between the ends. Of
    many values, which must not be times, nearly all must be repeated."""
    if len(values) > MOST and (steps or len(values) > MOST_REPEATED or (seen > 1).mean() < NEARLY_ALL):
        return False
    gaps = grid is None or (values[-1] - values[0]) / grid.step + 1 > 2 * len(values)
    return len(values) > 1 and gaps and bool(seen.sum() >= REPEATED * len(values))


@dataclass(frozen=True)
class Grid:
    """Places ``origin`` + k ``step`` for all whole numbers k."""

    step: float
    origin: float = 0.0

    def places(self, values: np.ndarray) -> np.ndarray:
        """The k of the place nearest to each value, ``[N]``."""
        return np.rint((values - self.origin) / self.step)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The values at these places."""
        return self.origin + places * self.step

    def holds(self, values: np.ndarray) -> np.ndarray:
        """The mask of the values on the grid."""
        scaled = (values - self.origin) / self.step
        slack = 1e-6 * min(1.0, float(np.abs(scaled).max(initial=0.0))) + 64 * np.finfo(float).eps * np.abs(scaled)
        return np.abs(scaled - np.rint(scaled)) <= np.minimum(slack, 0.01)

    def fits(self, values: np.ndarray, seen: np.ndarray) -> bool:
        """Whether nearly all rows lie on the grid, with each distinct value in a different place."""
        on = self.holds(values)
        few = seen[~on].sum() <= STRAY * seen.sum() and (~on).sum() <= STRAYS * on.sum()
        return few and len(np.unique(self.places(values[on]))) == on.sum()


def grid_of(values: np.ndarray, seen: np.ndarray, steps: tuple[float, ...] | None = None) -> Grid | None:
    """The coarsest grid on which nearly all rows lie, with each distinct value in a different place; None if there is
    none. Grids through 0 with one of the ``steps`` come first, then multiples of the step found, and then steps of any
    length, unless this many values could lie on such a grid by accident.

    Args:
        values: distinct values, increasing.
        seen: the count of each value. Every grid through 0 holds the value 0, so 0 counts only for grids of another
            origin.
        steps: the steps to try, coarsest first; by default, 1, 2, 2.5 and 5 times powers of ten with up to six
            decimals.

    >>> grid_of(np.arange(3.0, 300.0, 7.0), np.ones(43))
    Grid(step=7.0, origin=3.0)
    >>> round(grid_of((np.arange(80.0) - 32) / 1.8, np.ones(80)).step, 9)
    0.555555556
    """
    others = values != 0
    found = _through_zero(values[others], seen[others], steps)
    if found is None:
        return _of_any_length(values, seen) if steps is None else None
    is_heap = bool((seen[~others] >= HEAP * seen.sum()).any())
    v, c = (values[others], seen[others]) if is_heap else (values, seen)
    most = 2**31 if steps is None else max(1, round(1 / found.step)) if steps is DAYS else 1
    return _coarser(found, v, c, most)


def _through_zero(values: np.ndarray, seen: np.ndarray, steps: tuple[float, ...] | None) -> Grid | None:
    if steps is None:
        steps = tuple(m * 10.0**k for k in range(9, -7, -1) for m in (5.0, 2.5, 2.0, 1.0) if k > -6 or m == 1.0)
    top, some = float(np.abs(values).max(initial=0.0)), values[:: max(1, len(values) // 100)]
    for step in steps if len(values) else ():
        grid = Grid(float(step))
        if top / step < 2.0**52 and grid.holds(some).mean() >= 0.4 and grid.fits(values, seen):
            return grid
    return None


PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


def _coarser(grid: Grid, values: np.ndarray, seen: np.ndarray, most: int) -> Grid:
    """The grid with the largest multiple of the step, at most ``most`` times it, on which nearly all rows lie."""
    on = grid.holds(values)
    k, c = grid.places(values[on]).astype(np.int64), seen[on]
    some = k[:: max(1, len(k) // 100)]
    factor, rest, left = 1, 0, [*PRIMES]
    exact = int(np.gcd.reduce(np.diff(k))) if len(k) > 1 else 1
    if exact > 1 and (most % exact == 0 or exact < most == 2**31):
        factor, rest, left = exact, int(k[0]) % exact, []
    while left:
        trial = factor * left[0]
        rests, index = np.unique(some % trial, return_inverse=True)
        likely = int(rests[np.bincount(index).argmax()])
        same = k % trial == likely
        if (trial <= most and (most == 2**31 or most % trial == 0) and c[~same].sum() <= STRAY * seen.sum()
                and (~same).sum() <= STRAYS * same.sum()):  # fmt: skip
            factor, rest = trial, likely
        else:
            left.pop(0)
    found = Grid(grid.step * factor, grid.step * rest)
    is_chance = (len(k) - 1) * math.log(factor) < CHANCE
    return grid if factor == 1 or is_chance or not found.fits(values, seen) else found


def _of_any_length(values: np.ndarray, seen: np.ndarray) -> Grid | None:
    """A grid of any step and origin, such as degrees Celsius converted from whole degrees Fahrenheit."""
    apart = np.diff(values)
    if len(values) < LEAST_PLACES:
        return None
    for step in (float(np.median(apart)), float(np.quantile(apart, 0.1))):
        near = apart[apart < 20.5 * step]
        for part in (near, values - values[0]):  # from neighbours, then from end to end
            k = np.rint(part / step)
            step = float((part * k).sum() / max(k @ k, 1.0))
        origin = float(values[0] % step) if step > 0 else 0.0
        origin = 0.0 if min(origin, step - origin) < 1e-9 * step else origin
        if step > 0 and values[-1] - values[0] < MOST_PLACES * step and Grid(step, origin).fits(values, seen):
            return Grid(step, origin)
    return None


def _placed(v: np.ndarray, seen: np.ndarray, grid: Grid | None) -> tuple[np.ndarray, np.ndarray]:
    """The values and counts after moving values off the grid to the nearest place within the range."""
    if grid is None or (on := grid.holds(v)).all():
        return v, seen
    ends = (v[[0, -1]] - grid.origin) / grid.step
    places = np.clip(grid.places(v), np.ceil(ends[0] - 1e-6), np.floor(ends[1] + 1e-6))
    _, first, index = np.unique(places, return_index=True, return_inverse=True)
    return np.where(on, v, grid.at(places))[first], np.bincount(index, seen)


def _heaps(values: np.ndarray, seen: np.ndarray, grid: Grid | None) -> np.ndarray:
    """The values that occur more often than their neighbours suggest; the ``MOST`` highest of them, increasing."""
    return np.sort([value for _, value in sorted(raised(values, seen, grid), reverse=True)[:MOST]])


def raised(values: np.ndarray, seen: np.ndarray, grid: Grid | None) -> list[tuple[float, float]]:
    """(number of rows in excess, value) of the values that occur more often than their neighbours suggest: by at least
    ``HEAP`` of the rows, and by four standard errors."""
    rows, found = seen.sum(), []
    step = grid.step if grid else None
    if step is not None and (values[-1] - values[0]) / step > 100 * len(values):
        step = None  # no place has a neighbour
    for i in np.flatnonzero(seen >= max(HEAP * rows, 5)).tolist():
        expected = _beside(values, seen, i, step)
        if seen[i] - expected >= max(HEAP * rows, 4 * math.sqrt(expected + 1)):
            found.append((float(seen[i] - expected), float(values[i])))
    return found


def _beside(values: np.ndarray, seen: np.ndarray, i: int, step: float | None) -> float:
    """How often the neighbours of value i occur: the median of ten on either side. On a grid, empty places count as
    neighbours, and the mean of the two adjacent places is used if it exceeds the median."""
    if step is None:
        near = [*seen[max(0, i - 10) : i], *seen[i + 1 : i + 11]]
        return float(np.median(near)) if near else 0.0
    at = slice(*np.searchsorted(values, [values[i] - 10.5 * step, values[i] + 10.5 * step]))
    places = np.rint((values[at] - values[i]) / step).astype(int).tolist()
    counts = dict(zip(places, seen[at].tolist()))
    first, last = (int(np.clip(np.rint((end - values[i]) / step), -10, 10)) for end in (values[0], values[-1]))
    near = [counts.get(place, 0) for place in range(first, last + 1) if place]
    sides = [counts.get(place, 0) for place in (-1, 1) if first <= place <= last]
    return max(float(np.median(near)), float(np.mean(sides))) if near else 0.0


def _margin(
    v: np.ndarray, seen: np.ndarray, grid: Grid | None, is_repeated: bool = False,
    period: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The knots of the margin and their scores. The scores are quantiles of a logistic distribution with variance 1,
    the one from which a column that does not depend on the codes is drawn. The knots are edges of places if the column
    has a grid, those of all places if it has only certain values, and otherwise quantiles."""
    from scipy.special import expit, logit

    rows = seen.sum()
    least = 0.5 / (rows + 1)
    total = np.cumsum(seen) / rows
    if grid is None and not is_repeated:
        at, below = v, np.concatenate([[0.0], (total - seen / rows / 2)[1:-1], [1.0]])
        pieces = int(np.clip(rows // ROWS_OF_KNOT, 4, KNOTS))
        reach = float(-logit(least)) * SCALE
        share = expit(np.linspace(-reach, reach, pieces + 1) / SCALE)
        share = (share - share[0]) / (share[-1] - share[0])
        below = (1 - FLAT) * below + FLAT * (at - at[0]) / (at[-1] - at[0])
        at, below = np.interp(share, below, at), share
    else:
        if grid is None:
            at = edges(v)
            below = np.concatenate([[0.0], total])
        else:
            half = Grid(grid.step / 2, grid.origin)
            at = np.stack([v - half.step, v + half.step], 1).ravel()
            below = np.stack([total - seen / rows, total], 1).ravel()
            at, first = np.unique(half.at(half.places(at)), return_index=True)
            below = below[first]
            if period is not None:
                at, below = _between(at, below, v, half, *period, enough=_enough(rows) / rows)
        keep = slice(None) if grid is None else _edges(below * rows)
        at, below = at[keep], below[keep]
        below = (1 - FLAT) * below + FLAT * (at - at[0]) / (at[-1] - at[0])
    return at, logit(least + (1 - 2 * least) * below) * SCALE


def _between(
    at: np.ndarray, below: np.ndarray, v: np.ndarray, half: Grid, period: float, start: float, enough: float
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The edges of periods, and of places that hold ``enough`` of the rows, with the share of the rows below each edge.
    The first and the last period, whose scores are unbounded, are halved repeatedly towards the end, so that rows stay
    evenly spread over the pieces."""
    number = np.unique(np.floor((v - start) / period))
    borders = half.at(half.places(start + period * np.append(number, number + 1)))
    full = (np.diff(below) >= enough) & (np.diff(at) < 3 * half.step)
    inner = borders[(at[0] < borders) & (borders < at[-1])]
    parts = [end + (border - end) * 0.5**k for end, border in zip(at[[0, -1]], inner[[0, -1]] if len(inner) else ())
             for k in range(1, 10) if abs(border - end) * 0.5**k > 4 * half.step]  # fmt: skip
    kept = np.unique(np.concatenate([at[[0, -1]], at[:-1][full], at[1:][full], inner, parts]))
    return kept, np.interp(kept, at, below)


def _enough(rows: float) -> float:
    """The least number of rows in a piece of a margin."""
    return max(ROWS_OF_KNOT, rows / PLACES)


def _edges(below: np.ndarray) -> np.ndarray:
    """The mask of the edges to keep, given the number of rows below each: both edges of a place with many rows, and
    enough of the others to have about ``ROWS_OF_KNOT`` rows between two edges."""
    enough = _enough(below[-1])
    full = np.diff(below) >= enough
    keep = np.zeros(len(below), bool)
    keep[[0, -1]] = True
    keep[:-1] |= full
    keep[1:] |= full
    last = 0.0
    for i, rows in enumerate(below.tolist()):
        if keep[i] or rows - last >= enough:
            keep[i], last = True, rows
    return keep


MAX_LEVELS = 10_000  # the most levels of a categorical column
KEEP_VALUES = 100_000  # distinct values are counted up to this number
PIECE = 1 << 18  # rows that are examined together
SAMPLE = 20_000  # rows from which families, means and spreads are found
YEARS = (1500, 2200)  # consecutive whole numbers in this range may be years instead of row numbers
FEW = 10  # whole numbers with at most this many different values are ordered levels
_FLOAT32 = np.finfo(np.float32)
_IDENTIFIER = re.compile(r"(^|[_\W])(id|uuid|guid|key|index|rownames?|row_?number)$|^unnamed", re.IGNORECASE)
Verdict = tuple[str, str, dict[str, Any]]  # (kind, reason, other fields of the column)


def infer_table(
    table: Any, asked: Mapping[str, str] | None = None, *, drop: Iterable[str] = (), condition: Iterable[str] = (),
    forms: Mapping[str, Form] | None = None,
) -> Table:  # fmt: skip
    """Infer the schema of an arrow table.

    Args:
        table: an arrow table of at least two rows.
        asked: the kinds that the user named, by column: "kind" or "likelihood", "bounded:0:100", "ordered:S,M,L".
        drop: columns to leave out.
        condition: columns that are given, not modelled.
        forms: how columns of text are written.

    Raises:
        InputError: there are fewer than two rows, no column is left to model, a column or kind is unknown, or values
            contradict the kind asked for.

    >>> import pyarrow as pa
    >>> table = pa.table({"n": [1.5, 2.0, None], "colour": ["red", "blue", "red"]})
    >>> [(f.name, f.kind) for f in infer_table(table).fields]
    [('n', 'continuous'), ('colour', 'binary')]
    """
    scans = [ColumnScan(name, column.type) for name, column in zip(table.column_names, table.columns)]
    for scan, column in zip(scans, table.columns):
        for first in range(0, len(column), PIECE) or [0]:  # a float32 column as float64 would take twice its memory
            scan.update(column.slice(first, PIECE), first)
    if table.num_rows > SAMPLE:
        table = table.take(sampled(table.num_rows))
    return schema_of(scans, table, asked, drop=drop, condition=condition, forms=forms)


def sampled(rows: int) -> np.ndarray:
    """The numbers of the rows from which families, means and spreads are found, increasing: at most ``SAMPLE``."""
    return np.sort(np.random.default_rng(0).choice(rows, min(rows, SAMPLE), replace=False))


def schema_of(
    scans: list[ColumnScan], sample: Any, asked: Mapping[str, str] | None = None, *, drop: Iterable[str] = (),
    condition: Iterable[str] = (), forms: Mapping[str, Form] | None = None,
) -> Table:  # fmt: skip
    """The schema, from the scans of all columns and a sample of the rows. Raises ``InputError`` as in
    :func:`infer_table`."""
    asked = {**(asked or {}), **dict.fromkeys(drop, "dropped")}
    _require_columns(scans, [*asked, *condition])
    columns = [_column(scan, sample.column(scan.name), asked.get(scan.name)) for scan in scans]
    fields = tuple(dataclasses.replace(f, form=(forms or {}).get(f.name)) for f in columns)
    modelled = {f.name for f in fields if f.is_modelled}
    if modelled <= set(condition):
        if modelled:
            raise InputError("no column is left to model, as every column is a condition", "omit one --condition")
        why = "; ".join(f"{short(f.name)}: {f.reason}" for f in fields[:3])
        raise InputError(f"no column is left to model ({why})", "name a kind with --column NAME=KIND, or drop fewer")
    found = Table(fields, _storage(fields, sample), f"{scans[0].rows:,} rows, {len(fields):,} columns")
    return found.given(tuple(condition))


def _require_columns(scans: list[ColumnScan], named: Iterable[str]) -> None:
    """Raise ``InputError`` unless there are two rows, the names are distinct, and every ``named`` column exists."""
    names = [scan.name for scan in scans]
    rows = scans[0].rows if scans else 0
    if rows < 2:
        raise InputError(f"fitting needs at least 2 rows, got n_samples={rows}", "give more rows")
    require_once(names, "the data")
    for name in named:
        if name not in names:
            raise InputError(f"there is no column {name!r}", choose(name, names, listed(names)))


def _column(scan: ColumnScan, sample: Any, asked: str | None) -> Column:
    kind, reason, extra = asked_kind(scan, asked) if asked else _kind_seen(scan, sample)
    share = scan.missing / scan.rows if scan.rows else 0.0
    common: dict[str, Any] = {"name": scan.name, "type": str(scan.type), "missing": share}
    if kind == "constant":
        value = first_whole(sample) or next(iter(levels_of(scan)), None)
        return Column(kind=kind, value=value, reason=reason, **common)
    if kind in CODED:
        levels = extra.get("levels") or _levels(scan, sample)
        family = extra.get("family") or FAMILIES[kind][0]
        named = tuple(level for level in scan.categories if level is not None)
        if set(levels) < set(named) and len(named) <= MAX_LEVELS:
            common["categories"] = named
        return Column(kind=kind, family=family, levels=tuple(levels), reason=reason, **common)
    if kind not in FAMILIES or (numbers := as_numbers(sample)) is None:
        return Column(kind=kind, reason=reason, **common)
    values = np.sort(numbers[~np.isnan(numbers)])  # so that the result does not depend on the order of the rows
    found = _numeric(scan, values, kind, reason, extra, common)
    return _finer(found, sample, numbers) if common["type"].startswith("timestamp[ns") else found


def _kind_seen(scan: ColumnScan, sample: Any) -> Verdict:
    """:func:`_kind`, but whole numbers beyond 2^53 that are the same only as floats are no constant."""
    found, cells = _kind(scan), plain(sample).drop_null()
    one = found[0] == "constant" and pa.types.is_integer(cells.type) and not scan.is_exact
    if one and pc.count_distinct(cells).as_py() > 1:
        return "identifier", "whole numbers that differ by less than floats can hold: left out", {}
    return found


def _finer(column: Column, sample: Any, numbers: np.ndarray) -> Column:
    """The column with the step of its timestamps in nanoseconds, and with its atoms and places exactly.

    Args:
        sample: timestamps ``[N]``.
        numbers: the same in days.
    """
    whole = nanoseconds(sample)
    tick = next(tick for tick in TICKS if not (whole % tick).any())
    if tick == TICKS[0] or column.law is None:
        return column
    exact = np.unique(whole[np.isin(numbers[~np.isnan(numbers)], (*column.law.atoms, *column.law.places))])
    return dataclasses.replace(column, tick=tick, instants=tuple(exact.tolist()) or None)


def _numeric(
    scan: ColumnScan, values: np.ndarray, kind: str, reason: str, extra: dict[str, Any], common: dict[str, Any]
) -> Column:
    if common["type"] in NARROW and (decimals := _narrow_decimals(values, common["type"])) is not None:
        scan, values = scan.as_written(decimals), as_written(values, common["type"], decimals)
    low, high = extra.get("low", scan.low), extra.get("high", scan.high)
    digits = None if kind == "datetime" else _digits(values)
    law = _law(scan, values, common["type"], digits) if extra.get("family") in (None, "heaped") else None
    smooth = _smooth(values, law)
    if kind == "continuous" and scan.low > 0 and not extra.get("asked") and _is_skewed(smooth, law):
        kind, reason = "positive", f"{reason}, skewed"
    family = extra.get("family") or (FAMILIES[kind][-1] if law is None else "heaped")
    shift, unit = _centre(logarithmic(kind)(smooth))
    _require_float32(scan, 0.0 if kind in LOGARITHMIC else max(abs(low), abs(high)), shift, unit)
    return Column(
        kind=kind, family=family, low=float(low), high=float(high), shift=shift,
        unit=unit if unit > 8 * np.finfo(float).eps * abs(shift) else 1.0,
        decimals=None if kind == "datetime" else _decimals_of(values, law), law=law,
        reason=_reasons(reason, law, values, digits, common["type"]), digits=digits, **common,
    )  # fmt: skip


def _reasons(reason: str, law: Law | None, values: np.ndarray, digits: int | None, type: str) -> str:
    """The reason for the kind, the law, and the number of digits, in words."""
    rounded = f"{digits} significant digits" if digits else ""
    return "; ".join(filter(None, [reason, _words(law, values, type) if law else "", rounded]))


def _require_float32(scan: ColumnScan, largest: float, shift: float, unit: float) -> None:
    if not (largest <= float(_FLOAT32.max) and np.isfinite([shift, unit]).all() and not 0 < unit < _FLOAT32.tiny):
        raise InputError(
            f"column {scan.name!r}: its values ({scan.low:.3g} to {scan.high:.3g}) are beyond the range of float32",
            "give them in another unit",
        )


def _smooth(values: np.ndarray, law: Law | None) -> np.ndarray:
    """The values without atoms if several values remain; else all values."""
    smooth = values if law is None else values[~np.isin(values, law.atoms)]
    return smooth if len(smooth) > 1 else values


def _is_skewed(values: np.ndarray, law: Law | None) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond floating point are refused later
        step = None if law is None else law.step
        return best_family(values, ("normal", "student_t", "log_normal"), step=step) == "log_normal"


def _centre(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation."""
    with np.errstate(over="ignore", invalid="ignore"):
        shift = float(values.mean()) if len(values) else 0.0
        apart = float(np.abs(values - shift).max(initial=0.0))  # scaled, as squares of small numbers would underflow
        return shift, apart * float(((values - shift) / apart).std()) if apart > 0 else float(len(values) <= 1)


def _law(scan: ColumnScan, values: np.ndarray, type: str, digits: int | None) -> Law | None:
    steps = DAYS if type.startswith(("date", "timestamp")) else SECONDS if type.startswith(("time", "dur")) else None
    counts = scan.values if scan.is_number else None
    law = law_of(values, counts, steps, (scan.low, scan.high))
    if law is None or steps is SECONDS or law.is_complete or law.places or digits:
        return law  # among numbers rounded to significant digits, only the large ones end in zeros
    return _recurring(law, scan, values, counts, steps)


def _recurring(
    law: Law, scan: ColumnScan, values: np.ndarray, counts: dict[float, int] | None, steps: tuple[float, ...] | None
) -> Law:  # fmt: skip
    """The law of a column on a grid, with the calendar or the endings of its values, and the cycles of dates."""
    distinct, seen = np.unique(values, return_counts=True) if counts is None else _sorted(counts)
    rest = ~np.isin(distinct, law.atoms)
    distinct, seen = distinct[rest], seen[rest]
    find = _on_calendar if steps is DAYS else _with_endings
    law = find(law, distinct, seen)
    cycles = cycles_of(distinct, seen, law) if steps is DAYS else ()
    spread = law.calendar.spread((law.step or 0.0) / law.period) if law.calendar and law.step else None
    if spread is not None:
        period = spread[0] * law.period, spread[1] * law.period
        again = law_of(values, counts, steps, (scan.low, scan.high), period)
        law = law if again is None else _shared(law, again, find, distinct, seen)
    return dataclasses.replace(law, cycles=cycles)


def _shared(
    law: Law, again: Law, find: Callable[[Law, np.ndarray, np.ndarray], Law], values: np.ndarray, seen: np.ndarray
) -> Law:  # fmt: skip
    """The law ``again`` with a calendar, which says how often values occur within a period. The calendar is found from
    the values that have no separate piece of the margin. If it is not found, or its period differs from the period of
    ``law``, it is ``law.calendar`` without the rows in such pieces."""
    rest = ~again.is_solid(values)
    shares = find(again, values[rest], seen[rest]) if rest.any() else again
    if shares.calendar is not None and shares.period == law.period:
        return dataclasses.replace(again, calendar=shares.calendar, period=law.period)
    calendar = law.calendar
    if calendar is not None and calendar.shares and not rest.all():
        solid = values[~rest] / law.period
        place = np.searchsorted(calendar.times, nearest(calendar.times, solid - np.floor(solid + TENTH)))
        rows = np.array(calendar.shares) * seen.sum() - np.bincount(place, seen[~rest], len(calendar.times))
        rows = np.maximum(rows, 0.5)  # the values of the data must stay possible
        calendar = dataclasses.replace(calendar, shares=tuple((rows / rows.sum()).tolist()))
    return dataclasses.replace(again, calendar=calendar, period=law.period)


def _on_calendar(law: Law, values: np.ndarray, seen: np.ndarray) -> Law:
    """The law with the calendar that the dates follow, if there is one."""
    return dataclasses.replace(law, calendar=calendar_of(values, seen, law.step))


def _with_endings(law: Law, values: np.ndarray, seen: np.ndarray) -> Law:
    """The law with the shares of endings (last digits), if some endings occur more often than others (amounts in
    hundreds, prices that end in .99) or some cannot occur (minutes in 1545, months in 201912). The period is the
    longest power of ten for which this is so.

    >>> prices = np.arange(1.0, 900.0)[:, None] + np.array([0.0, 0.49, 0.99])
    >>> law = law_of(prices.ravel())
    >>> _with_endings(law, prices.ravel(), np.ones(prices.size)).snap(np.array([3.1, 3.5, 3.8])).tolist()
    [3.0, 3.49, 3.99]
    """
    if law.step is None or not len(values):
        return dataclasses.replace(law, rounded=rounded_of(values, seen))
    found, can, usual = law, np.ones(1, bool), np.ones(1)
    levels: list[tuple[float, np.ndarray]] = []
    least, most = (math.floor(math.log10(width * law.step)) for width in (1, MOST_ENDINGS))
    for period in (10.0 ** np.arange(least + 1, most + 1)).tolist():
        places = period / law.step
        if abs(places - round(places)) > 1e-6 * places:
            continue
        scaled, step, first = values / period, 1 / round(places), law.origin / period
        before = np.resize(can, round(places))
        heaped = np.resize(usual * can.sum() > HEAPED, round(places)) & before
        rest = ~heaped[place_of(scaled, step, len(before), first)]
        can = possible_endings(scaled[rest], step, before & ~heaped, first) | heaped if rest.any() else before
        is_new = bool((can != before).any())
        usual, shares = repeated(usual, can), None
        levels.append((period, can))
        if is_new or len(can) <= MOST_TIMES:
            shares = endings_of(values, seen, levels, law.origin, usual, is_certain=is_new)
        if shares is not None:
            calendar = calendar_of_endings(shares, step, first)
            found, usual = dataclasses.replace(law, calendar=calendar, period=period), shares
    return found


def _words(law: Law, values: np.ndarray, type: str = "double") -> str:
    """The law in words, with values written as those of the type.

    >>> _words(Law((0.5, 2.5), (-2.0, 2.0), (-999.0,), 1.0), np.array([-999.0, 1.0, 2.0, 2.0]))
    '-999 in 25% of the rows; in steps of 1'
    """
    if law.is_complete:
        return f"{len(law.atoms)} values" if len(law.atoms) > 1 else ""
    if law.places:
        return f"{len(law.places) + len(law.atoms)} values"
    shares = sorted(((values == atom).mean(), atom) for atom in law.atoms)[::-1]
    often = ", ".join(f"{in_words(atom, type)} in {share:.0%}" for share, atom in shares[:3])
    heaps = f"{often}{', …' * (len(shares) > 3)} of the rows" if shares else ""
    start = f" from {in_words(law.low, type)}" if law.origin else ""
    steps = "" if law.step is None else f"in steps of {_step_in_words(law.step, type)}{start}"
    off = int((np.abs(values - law.snap(values, (-np.inf, np.inf))) > 0.01 * (law.step or 1.0)).sum()) if steps else 0
    steps += f", except {off:,} row{'s' * (off != 1)}" if off and law.calendar is None else ""
    if type.startswith(("date", "timestamp")):
        return "; ".join(filter(None, [heaps, *_dates_in_words(law, steps)]))
    return "; ".join(filter(None, [heaps, steps, law.endings(values)]))


def _dates_in_words(law: Law, steps: str) -> tuple[str, str]:
    """(calendar or steps, cycles) of dates."""
    cycles = f"cycles of a {', a '.join(law.cycles)}" if law.cycles else ""
    return steps if law.calendar is None else law.calendar.describe(), cycles


def _step_in_words(step: float, type: str) -> str:
    """
    >>> _step_in_words(0.5, "double"), _step_in_words(1 / 96, "timestamp[us]"), _step_in_words(60.0, "duration[us]")
    ('0.5', '15 minutes', '1 minute')
    """
    if not type.startswith(("date", "time", "duration")):
        return f"{step:g}"
    seconds = step * (DAY if type.startswith(("date", "timestamp")) else 1.0)
    sizes = {"day": DAY, "hour": 3600.0, "minute": 60.0, "second": 1.0}
    unit = next((unit for unit, size in sizes.items() if seconds / size >= 0.999), "second")
    count = round(seconds / sizes[unit], 6)
    return f"{count:g} {unit}{'s' * (count != 1)}"


# The pass


@dataclass
class ColumnScan:
    """What one pass over a column sees. :meth:`update` adds pieces, in any order."""

    name: str
    type: Any
    rows: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    values: dict[Any, int] | None = field(default_factory=dict)  # None: more than KEEP_VALUES
    words: int = 0  # the number of words in all texts
    categories: tuple[Any, ...] = ()  # the levels that the type itself lists, in order

    def update(self, cells: Any, first_row: int = 0) -> None:
        """Add the cells of a piece whose first row has the number ``first_row``; ``InputError`` for a type that cannot
        be used, or a number that is not finite."""
        if pa.types.is_dictionary(self.type):
            pieces = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
            named = [level for piece in pieces for level in as_levels(piece.dictionary).to_pylist()]
            self.categories = tuple(dict.fromkeys([*self.categories, *named]))
            cells = as_levels(cells)
        cells = plain(cells)
        self.rows += len(cells)
        numbers = as_numbers(cells)
        if numbers is None:
            if not pa.types.is_string(cells.type):
                raise InputError(
                    f"column {self.name!r} holds {cells.type}, which is neither numbers nor text nor dates",
                    f"leave it out with --drop {self.name!r}",
                )
            self.missing += cells.null_count
            self.words += int(pc.sum(pc.count_substring(cells, " ")).as_py() or 0)
            self._count(cells.drop_null())
            return
        seen = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(seen)
        if not len(seen):
            return
        if np.isinf(seen).any():
            row = int(np.isinf(numbers).argmax())
            what = f"row {row + first_row} (counted from 0): column {self.name!r} has {numbers[row]:g}"
            raise InputError(what, "give a finite number, or leave the cell empty")
        self.low, self.high = min(self.low, float(seen.min())), max(self.high, float(seen.max()))
        self.whole = self.whole and bool((seen == np.floor(seen)).all())
        if self.values is not None:
            self._count(pa.array(seen))

    def _count(self, cells: Any) -> None:
        if self.values is None:
            return
        counts = cells.value_counts()
        values = counts.field("values")
        if len(values) + len(self.values) > 2 * KEEP_VALUES:
            self.values = None
            return
        for value, count in zip(values.to_pylist(), counts.field("counts").to_pylist()):
            self.values[value] = self.values.get(value, 0) + count
        if len(self.values) > KEEP_VALUES:
            self.values = None

    def as_written(self, decimals: int) -> ColumnScan:
        """The scan of a column of narrow floats, as it would be for the numbers of ``decimals`` decimals that they
        stand for."""
        counts: dict[float, int] = {}
        for value, count in (self.values or {}).items():
            number = float(as_written(np.array([value]), str(self.type), decimals)[0])
            counts[number] = counts.get(number, 0) + count
        low, high = as_written(np.array([self.low, self.high]), str(self.type), decimals).tolist()
        return dataclasses.replace(self, values=None if self.values is None else counts, low=low, high=high)

    @property
    def distinct(self) -> float:
        """The number of distinct values; infinite if there are more than ``KEEP_VALUES``."""
        return np.inf if self.values is None else len(self.values)

    @property
    def present(self) -> int:
        """The number of cells that are not missing."""
        return self.rows - self.missing

    @property
    def is_exact(self) -> bool:
        """Whether the values are whole numbers that floats hold exactly, so that they can be levels."""
        return self.whole and max(abs(self.low), abs(self.high)) <= 2.0**53

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.low != np.inf


def counted(scan: ColumnScan) -> str:
    """The number of levels and the shares of the three most frequent, in words."""
    common = sorted((scan.values or {}).items(), key=lambda item: (-item[1], str(item[0])))[:3]
    words = ", ".join(f"{short(_word(scan, value), 20)} {count / scan.present:.0%}" for value, count in common)
    return f"{scan.distinct:,} levels: {words}" + (", …" if scan.distinct > 3 else "")


def _word(scan: ColumnScan, value: Any) -> str:
    if isinstance(value, str):
        return value
    kind = scan.type.value_type if pa.types.is_dictionary(scan.type) else scan.type
    return str(bool(value)) if pa.types.is_boolean(kind) else f"{value:g}"


def _levels(scan: ColumnScan, sample: Any) -> list[Any]:
    """The levels that occur. A level that floats cannot hold, if it is the only one, is taken from the sample."""
    is_exact = scan.distinct > 1 or not scan.is_number or scan.is_exact
    exact = None if is_exact else first_whole(sample)
    return levels_of(scan) if exact is None else [exact]


def levels_of(scan: ColumnScan) -> list[Any]:
    """The levels that occur, in the order of the type, or sorted by size (numbers) or alphabetically (texts)."""
    values = list(scan.values or ())
    if scan.categories:
        return [level for level in scan.categories if level in (scan.values or ())]
    if str(scan.type) == "bool":
        return sorted(bool(v) for v in values)
    if values and isinstance(values[0], str):
        return sorted(values)
    return sorted(int(v) if scan.whole else v for v in values)


# Kinds


def _kind(scan: ColumnScan) -> Verdict:
    """Kind and reason of a column for which the user named no kind."""
    is_dictionary = str(scan.type).startswith("dictionary")
    kind = str(scan.type.value_type if is_dictionary else scan.type)
    if scan.present == 0:
        return "missing", "every cell is missing", {}
    if scan.distinct == 1:
        return _one_value(scan)
    if is_dictionary and scan.distinct <= MAX_LEVELS:
        kinds = ("ordered",) * scan.type.ordered + ("binary",) * (len(levels_of(scan)) == 2) + ("categorical",)
        return kinds[0], counted(scan), {}
    time = kind_of_time(scan.type)
    if time == "dates":
        return "datetime", f"{kind.partition('[')[0].rstrip('0123456789')}s", {}
    if time:
        return "continuous", f"{time}, {in_words(scan.low, kind)}..{in_words(scan.high, kind)}", {}
    if kind == "bool" or (scan.distinct == 2 and (scan.is_exact or not scan.is_number)):
        return "binary", counted(scan), {}
    return _number(scan) if scan.is_number else _text(scan)


def _one_value(scan: ColumnScan) -> Verdict:
    """A constant column, or one to be modelled if it has gaps, since gaps may carry information."""
    always, time = f"always {short(in_words(next(iter(scan.values or ())), str(scan.type)))}", kind_of_time(scan.type)
    if not scan.missing:
        return "constant", always, {}
    kind = "datetime" if time == "dates" else "continuous" if time else "categorical"
    return kind, f"{always}, except for gaps", {}


def _text(scan: ColumnScan) -> Verdict:
    if scan.values is not None and scan.distinct >= scan.present > 20:
        return "identifier", f"every text is different: left out; {_keep('categorical')}", {}
    if scan.distinct > MAX_LEVELS:
        many = f"{scan.distinct:,}" if scan.values is not None else f"more than {KEEP_VALUES:,}"
        return "text", f"{many} different texts, but a column of levels has at most {MAX_LEVELS:,}: left out", {}
    if scan.present > 50 and scan.distinct > 0.5 * scan.present:
        what = "free text" if scan.words > 2 * scan.present else "mostly different texts"
        return "text", f"{what} ({scan.distinct:,} in {scan.present:,} rows): left out; {_keep('categorical')}", {}
    return "categorical", counted(scan), {}


def _number(scan: ColumnScan) -> Verdict:
    span = f"{scan.low:.6g}..{scan.high:.6g}"
    if not scan.whole:
        if scan.low >= 0 and scan.high <= 1 and scan.low < 0.1 and scan.high > 0.9:
            return "bounded", f"numbers from 0 to 1, {span}", {"low": 0.0, "high": 1.0}
        return "continuous", f"numbers, {span}", {}
    if what := _identifies(scan):
        return "identifier", f"{what}: left out; {_keep('continuous')}", {}
    if scan.is_exact and scan.distinct <= FEW and scan.present >= 5 * scan.distinct:
        return "ordered", f"whole numbers with {scan.distinct} values, {span}", {}
    if 0 <= scan.low <= FEW and scan.high <= 1e6 and scan.values:
        mean, variance = _moments(scan.values)
        if variance >= 0.8 * mean:
            return "count", f"whole numbers, {span}, variance {variance / max(mean, 1e-12):.3g} times the mean", {}
    return "continuous", f"whole numbers, {span}", {}


def _identifies(scan: ColumnScan) -> str:
    """Why whole numbers identify rows; "" if they do not."""
    if scan.values is None or not scan.distinct >= scan.present > 20:
        return ""
    if scan.high - scan.low == scan.present - 1 and not YEARS[0] <= scan.low <= scan.high <= YEARS[1]:
        return "counts the rows"
    return "every number is different" if _IDENTIFIER.search(scan.name) else ""


def _moments(counts: Mapping[float, int]) -> tuple[float, float]:
    """Mean and variance of values, given how often each occurs."""
    total = sum(counts.values())
    mean = sum(v * n for v, n in counts.items()) / total
    return mean, sum((v - mean) ** 2 * n for v, n in counts.items()) / total


def _keep(kind: str) -> str:
    return f"--column NAME={kind} keeps it"


# Kinds that the user asked for


def asked_kind(scan: ColumnScan, asked: str) -> Verdict:
    """The kind that the user named, with its reason; ``InputError`` if it is unknown or the values contradict it."""
    kind, _, rest = asked.partition(":")
    families = {family: of for of, names in reversed(FAMILIES.items()) for family in names}
    extra: dict[str, Any] = {"asked": True}
    kind = {"drop": "dropped"}.get(kind, kind)
    if kind in families and kind not in FAMILIES:
        extra["family"], kind = kind, families[kind]
    where = f"column {scan.name!r}"
    if kind not in (*FAMILIES, "dropped", "constant"):
        raise InputError(
            f"{where}: {asked!r} is not a kind of column",
            f"name one of {', '.join(FAMILIES)} or drop, or a likelihood ({', '.join(families)})",
        )
    if rest and kind not in ("bounded", *CODED):
        raise InputError(f"{where}: {asked!r} has a colon, but {kind} takes nothing after one", f"write {kind}")
    if kind == "dropped":
        return kind, "left out, as asked", {}
    if fault := next((each for wrong, *each in _faults(scan, kind) if wrong), None):
        raise InputError(f"{where} cannot be {kind}, as {fault[0]}", fault[1])
    if kind in CODED:
        return kind, f"{counted(scan)}, as asked", extra | _asked_levels(scan, kind, rest, where)
    if kind == "constant":
        return kind, "as asked", {}
    if kind == "bounded":
        extra |= _asked_bounds(scan, rest, where)
    return kind, f"{scan.low:.6g}..{scan.high:.6g}, as asked", extra


def _faults(scan: ColumnScan, kind: str) -> tuple[tuple[bool, str, str], ...]:
    """For each possible contradiction, the gravest first: (whether the values contradict the kind; how; what to do)."""
    is_number, drop = scan.is_number or kind in (*CODED, "constant"), f"leave it out with --drop {scan.name!r}"
    return (
        (scan.present == 0, "every cell is missing", drop),
        (kind == "constant" and scan.distinct != 1, "it has more than one value", "name another kind"),
        (not is_number, "it holds texts", f"use categorical, or {drop}"),
        (kind == "positive" and scan.low <= 0, f"its smallest value is {scan.low:g}", "use continuous"),
        (kind == "count" and scan.low < 0, f"it has the negative value {scan.low:g}", "use continuous"),
        (kind == "count" and not scan.whole, "it holds numbers that are not whole", "use continuous or positive"),
    )


def _asked_levels(scan: ColumnScan, kind: str, rest: str, where: str) -> dict[str, Any]:
    if scan.values is None or len(scan.values) > MAX_LEVELS:
        many = f"more than {KEEP_VALUES:,}" if scan.values is None else f"{len(scan.values):,}"
        what = f"{where} has {many} different values, but a {kind} column takes at most {MAX_LEVELS:,}"
        raise InputError(what, f"leave it out with --drop {scan.name!r}")
    if kind_of_time(scan.type):
        way = f"use datetime, or leave it out with --drop {scan.name!r}"
        raise InputError(f"{where} cannot be {kind}, as it holds dates or times", way)
    if kind == "binary" and len(levels_of(scan)) != 2:
        raise InputError(f"{where} cannot be binary, as it has {len(scan.values):,} values", "use categorical")
    if not rest:
        return {}
    known = {str(level): level for level in levels_of(scan)}
    levels = levels_named(rest)
    if missing := [level for level in known if level not in levels]:
        raise InputError(f"{where} has the level {missing[0]!r}, which is not in {rest!r}", "name every level")
    if len(set(levels)) < len(levels):
        raise InputError(f"{where}: {rest!r} names a level twice", "name each level once")
    return {"levels": [known.get(level, level) for level in levels]}


def levels_named(rest: str) -> list[str]:
    """The levels of "NA,NL,DE" or "low<mid<high"."""
    return [word.strip() for word in re.split("[,<]", rest)]


def _asked_bounds(scan: ColumnScan, rest: str, where: str) -> dict[str, Any]:
    if not rest:
        unit = scan.low >= 0 and scan.high <= 1
        return {"low": 0.0, "high": 1.0} if unit else {"low": scan.low, "high": scan.high}
    try:
        low, high = (float(number) for number in rest.split(":"))
    except ValueError:
        raise InputError(f"{where}: {rest!r} is not a pair of bounds", "write bounded:LOW:HIGH") from None
    if not (low < high and np.isfinite(low) and np.isfinite(high) and np.isfinite(high - low)):
        raise InputError(f"{where}: the bounds must be two finite numbers, the lower first, got {rest!r}")
    if not low <= scan.low <= scan.high <= high:
        what = f"{where} has values {scan.low:g}..{scan.high:g}, beyond the bounds {low:g} and {high:g}"
        raise InputError(what, "widen the bounds")
    return {"low": low, "high": high}


# Precision


def _decimals(values: np.ndarray, most: int = 9) -> int | None:
    """The largest number of decimals of a value. A larger number in a few values is ignored if it hardly matters.
    None if there are more than nine.

    >>> _decimals(np.array([0.25, 1.5])), _decimals(np.array([1 / 3]))
    (2, None)
    >>> _decimals(np.append(np.arange(200) / 1e5, 1 / 3))
    5
    """
    spread = float(np.std(values)) if len(values) else 0.0
    for digits in range(most + 1):
        scaled = values * 10.0**digits
        slack = 1e-6 * min(1.0, float(np.abs(scaled).max(initial=0.0))) + 8 * np.finfo(float).eps * np.abs(scaled)
        whole = np.abs(scaled - np.rint(scaled)) <= slack
        if whole.all() or (10.0**-digits <= 1e-3 * spread and whole.mean() >= NEARLY):
            return digits
    return None


def _decimals_of(values: np.ndarray, law: Law | None) -> int | None:
    """:func:`_decimals`, but enough of them for each atom and place of the law."""
    only = np.array([] if law is None else [*law.atoms, *law.places])
    found = [_decimals(values), *(_decimals(only[i : i + 1]) for i in range(len(only)))]
    known = [decimals for decimals in found if decimals is not None]
    return max(known) if len(known) == len(found) else None


def _digits(values: np.ndarray) -> int | None:
    """The number of significant digits to which values are rounded, such as 4 for 0.5021, 53.69 and 1320; None if they
    are not. Most numbers of at least two sizes (powers of ten) have as many digits, and hardly any has more.

    >>> _digits(np.array([float(f"{x:.4g}") for x in np.geomspace(80, 2000, 300)]))
    4
    >>> _digits(np.geomspace(80, 2000, 300).round(1))
    """
    distinct = np.unique(np.abs(values[values != 0]))
    distinct = distinct[:: len(distinct) // 2000 + 1]
    written = [f"{x:.14e}".split("e") for x in distinct.tolist()]
    lengths = np.array([len(mantissa.replace(".", "").rstrip("0")) for mantissa, _ in written])
    sizes = np.array([int(size) for _, size in written])
    digits = next((n for n in range(2, MOST_DIGITS + 1) if len(lengths) and (lengths <= n).mean() >= NEARLY), None)
    full = [size for size in np.unique(sizes) if (sizes == size).sum() >= LEAST_PLACES
            and (lengths[sizes == size] == digits).mean() >= 0.5]  # fmt: skip
    return digits if len(full) > 1 else None


def _narrow_decimals(values: np.ndarray, type: str) -> int | None:
    """The number of decimals to which nearly all of the numbers ``[N]`` were rounded before they became narrow floats;
    None if there is no such number, or if as many floats of this type may be near such decimals by chance.

    >>> _narrow_decimals(np.float64(np.float32([20.1, 56.8, 3.7, 99.4, 7.2, 8.3])), "float")
    1
    """
    distinct = np.unique(values)
    for decimals in range(10):
        near = as_written(distinct, type, decimals) == np.round(distinct, decimals)
        apart = np.minimum(1.0, np.spacing(np.abs(distinct).astype(NARROW[type])).astype(np.float64) * 10.0**decimals)
        if near.mean() >= NEARLY and -len(distinct) * math.log(apart.mean()) > CHANCE:
            return decimals
    return None


def _storage(fields: tuple[Column, ...], sample: Any) -> str:
    """float64 if float32 would lose more than a thousandth of a column's standard deviation, move times to another
    hour, or move a heap to another place of its law; else float32."""
    for f in fields:
        if f.is_modelled and f.low is not None:
            numbers = as_numbers(sample.column(f.name))
            assert numbers is not None
            values = numbers[~np.isnan(numbers)]
            if f.law is not None:
                values = values[~np.isin(values, f.law.atoms)] if not f.law.is_complete else values
            with np.errstate(over="ignore", invalid="ignore"):
                loss = np.abs(values - values.astype(np.float32)).max(initial=0.0)
                most = 1e-3 * (values.std() if len(values) else 1.0)
                most = min(most, TENTH / 2) if f.law is not None and "day" in f.law.cycles else most
                if not (loss <= most and np.isfinite(loss)) or (f.law is not None and _are_moved(f.law, values)):
                    return "float64"
    return "float32"


def _are_moved(law: Law, values: np.ndarray) -> bool:
    """Whether rounding to float32 moves a heap to another place of the law."""
    apart = law.step or np.diff(law.places).min(initial=math.inf)
    distinct, counts = np.unique(values, return_counts=True)
    heaps = distinct[counts >= max(HEAP * len(values), 5)]
    return bool((np.abs(heaps - heaps.astype(np.float32)) > apart / 4).any())
