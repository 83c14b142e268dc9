"""Find the values of a numeric column that have a mass of their own, the grid on which it is recorded, and how the
rest spreads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from latens.schema.law import SCALE, Law, edges

HEAP = 0.005  # an atom has at least this share of the rows more than its neighbours
MOST = 128  # the most atoms of a column
OFTEN = 25  # with at least this many rows per value, few values are all atoms
STRAY = 0.01  # the share of the rows that may be off the grid
STRAYS = 0.5  # the most distinct values off the grid for each on it
REPEATED = 3  # with at least this many rows per value, few values with gaps between them are the only ones
KNOTS = 64  # the most pieces of a margin
ROWS_OF_KNOT = 16
PLACES = 1024  # about this many places of a grid have edges of their own
FLAT = 0.005  # the share of the margin that is uniform over the range
DAYS = (1.0, 0.5, 0.25, 1 / 24, 1 / 48, 1 / 96, 1 / 144, 1 / 288, 1 / 1440, 1 / 86_400)
SECONDS = (86_400.0, 3600.0, 1800.0, 900.0, 600.0, 300.0, 60.0, 30.0, 15.0, 5.0, 1.0, 0.1, 0.01, 1e-3)


def law_of(
    values: np.ndarray, counts: dict[float, int] | None = None, steps: tuple[float, ...] | None = None,
    ends: tuple[float, float] | None = None,
) -> Law | None:  # fmt: skip
    """The law of a column; None if the values differ by less than floats of their size resolve.

    Args:
        values: a sample ``[N]`` of its values, at least one.
        counts: how often each value of the column occurs; by default, in the sample.
        steps: the grids to try, coarsest first; by default, multiples of powers of ten.
        ends: the smallest and the largest value of the column; by default, of the sample.

    >>> law_of(np.repeat([1.0, 1.5, 2.0, 4.0], 40)).atoms
    (1.0, 1.5, 2.0, 4.0)
    >>> law = law_of(np.append(np.arange(1000.0), np.full(300, -999.0)))
    >>> law.atoms, law.step, law.low, law.high
    ((-999.0,), 1.0, 0.0, 999.0)

    At least 99 % of the rows are on the grid. Other values are not atoms unless they are frequent enough, and count as
    the nearest place of the grid; see :class:`latens.distributions.Heaped` for their mass.

    >>> law_of(np.append(np.arange(1000.0), [3.5, 71.25])).step
    1.0
    """
    distinct, seen = np.unique(values, return_counts=True) if counts is None else _sorted(counts)
    low, high = ends or (float(distinct[0]), float(distinct[-1]))
    if max(-low, high) > 1e300:
        return None
    step = _step(distinct, seen, steps)
    heaps = _heaps(distinct, seen, step)
    few = len(distinct) <= MOST
    rest = ~np.isin(distinct, heaps)
    if (few and seen.sum() >= OFTEN * len(distinct)) or rest.sum() < 2:
        return _of_few(distinct, seen, rest, step, low)
    first, last = distinct[rest][[0, -1]]
    beyond = heaps[(heaps < first) | (heaps > last) | ~_on(heaps, step)]  # or if they are off the grid
    inside = ~np.isin(distinct, beyond)
    step = _step(distinct[inside], seen[inside], steps)
    is_repeated = few and _is_repeated(distinct[inside], seen[inside], step)
    if step is not None or is_repeated:  # heaps among others become wide pieces of the margin
        heaps, rest = beyond, inside
        step = None if is_repeated else step
    v, c = distinct[rest], seen[rest]
    if is_repeated:
        return _lawful(*_margin(v, c, None, True), tuple(map(float, heaps)), places=tuple(map(float, v)))
    if counts is None:  # the ends may not be in the sample
        v, c = _with_ends(v, c, [end for end in (low, high) if end not in heaps])
    return _lawful(*_margin(*_placed(v, c, step), step), tuple(map(float, heaps)), step)


def _of_few(distinct: np.ndarray, seen: np.ndarray, rest: np.ndarray, step: float | None, low: float) -> Law | None:
    """The law of values that are all atoms, with a margin of the ``rest`` from which nothing is drawn."""
    v, c = (distinct[rest], seen[rest]) if rest.sum() > 1 else (distinct, seen)
    if len(v) < 2:
        v, c = np.array([low, low + (step or abs(low) or 1.0)]), np.ones(2, int)
    often = _on(distinct, step) | (seen >= max(HEAP * seen.sum(), 5))
    return _lawful(*_margin(*_placed(v, c, step), step), tuple(map(float, distinct[often][:MOST])), step, True)


def _lawful(knots: np.ndarray, scores: np.ndarray, *others: Any, **more: Any) -> Law | None:
    if not (np.diff(knots) > 0).all():
        knots, scores = knots[[0, -1]], scores[[0, -1]]
    finite = knots[0] < knots[-1] and np.isfinite(knots).all()
    return Law(tuple(knots.tolist()), tuple(scores.tolist()), *others, **more) if finite else None


def _sorted(counts: dict[float, int]) -> tuple[np.ndarray, np.ndarray]:
    distinct = np.array(sorted(counts), dtype=np.float64)
    return distinct, np.array([counts[value] for value in distinct.tolist()])


def _with_ends(v: np.ndarray, c: np.ndarray, ends: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The values and their counts, with the ends added, counted once, if they lie beyond."""
    below, above = [end for end in ends if end < v[0]], [end for end in ends if end > v[-1]]
    ones = [np.ones(len(each), c.dtype) for each in (below, above)]
    return np.concatenate([below, v, above]), np.concatenate([ones[0], c, ones[1]])


def _is_repeated(values: np.ndarray, seen: np.ndarray, step: float | None) -> bool:
    """Whether values occur several times, and are fewer than the places of the grid between the ends."""
    gaps = step is None or (values[-1] - values[0]) / step + 1 > 2 * len(values)
    return len(values) > 1 and gaps and seen.sum() >= REPEATED * len(values)


def _step(values: np.ndarray, seen: np.ndarray, steps: tuple[float, ...] | None) -> float | None:
    """The step of the coarsest grid through 0 on which nearly all rows lie, with each distinct value in a place of its
    own; None if there is none with up to six decimals. ``seen`` are the counts of the distinct values; 0, which is on
    every grid, does not count."""
    if steps is None:
        steps = tuple(m * 10.0**k for k in range(9, -7, -1) for m in (5.0, 2.5, 2.0, 1.0) if k > -6 or m == 1.0)
    values, seen = values[values != 0], seen[values != 0]
    top, some = float(np.abs(values).max(initial=0.0)), values[:: max(1, len(values) // 100)]
    for step in steps if len(values) else ():
        if top / step >= 2.0**52 or _on(some, step).mean() < 0.4:
            continue
        on = _on(values, step)
        holds = seen[~on].sum() <= STRAY * seen.sum() and (~on).sum() <= STRAYS * on.sum()
        if holds and len(np.unique(np.rint(values[on] / step))) == on.sum():
            return float(step)
    return None


def _on(values: np.ndarray, step: float | None) -> np.ndarray:
    """The mask of the values on the grid; all if there is none."""
    if step is None:
        return np.ones(len(values), bool)
    scaled = values / step
    slack = 1e-6 * min(1.0, float(np.abs(scaled).max(initial=0.0))) + 64 * np.finfo(float).eps * np.abs(scaled)
    return np.abs(scaled - np.rint(scaled)) <= np.minimum(slack, 0.01)


def _placed(v: np.ndarray, seen: np.ndarray, step: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The values and counts after moving values off the grid to the nearest place within the range."""
    on = _on(v, step)
    if step is None or on.all():
        return v, seen
    ends = np.ceil(v[0] / step - 1e-6), np.floor(v[-1] / step + 1e-6)
    places = np.where(on, v, np.clip(np.rint(v / step), *ends) * step)
    _, first, index = np.unique(np.rint(places / step), return_index=True, return_inverse=True)
    return places[first], np.bincount(index, seen)


def _heaps(values: np.ndarray, seen: np.ndarray, step: float | None) -> np.ndarray:
    """The mask of the values that occur more often than their neighbours suggest, by ``HEAP`` of the rows and by four
    standard errors."""
    rows, found = seen.sum(), []
    if step is not None and (values[-1] - values[0]) / step > 100 * len(values):
        step = None  # places without a neighbour
    for i in np.flatnonzero(seen >= max(HEAP * rows, 5)).tolist():
        expected = _beside(values, seen, i, step)
        if seen[i] - expected >= max(HEAP * rows, 4 * math.sqrt(expected + 1)):
            found.append((float(seen[i] - expected), float(values[i])))
    return np.sort([value for _, value in sorted(found, reverse=True)[:MOST]])


def _beside(values: np.ndarray, seen: np.ndarray, i: int, step: float | None) -> float:
    """How often the neighbours of value i occur: the median of ten on either side or, if that is more, on a grid with
    its empty places the mean of the two next to it."""
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
    v: np.ndarray, seen: np.ndarray, step: float | None, is_repeated: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The knots of the margin and their scores, quantiles of a logistic with variance 1 (from which a column that does
    not depend on the codes is drawn). On a grid, or if values are the only ones, the knots are edges of places; else
    they are quantiles."""
    from scipy.special import expit, logit

    rows = seen.sum()
    least = 0.5 / (rows + 1)
    total = np.cumsum(seen) / rows
    if step is None and not is_repeated:
        at, below = v, np.concatenate([[0.0], (total - seen / rows / 2)[1:-1], [1.0]])
        pieces = int(np.clip(rows // ROWS_OF_KNOT, 4, KNOTS))
        reach = float(-logit(least)) * SCALE
        share = expit(np.linspace(-reach, reach, pieces + 1) / SCALE)
        share = (share - share[0]) / (share[-1] - share[0])
        below = (1 - FLAT) * below + FLAT * (at - at[0]) / (at[-1] - at[0])
        at, below = np.interp(share, below, at), share
    else:
        if step is None:
            at = edges(v)
            below = np.concatenate([[0.0], total])
        else:
            at = np.stack([v - step / 2, v + step / 2], 1).ravel()
            below = np.stack([total - seen / rows, total], 1).ravel()
            at, first = np.unique(np.round(at / step * 2) * step / 2, return_index=True)
            below = below[first]
        keep = _edges(below * rows)
        at, below = at[keep], below[keep]
        below = (1 - FLAT) * below + FLAT * (at - at[0]) / (at[-1] - at[0])
    return at, logit(least + (1 - 2 * least) * below) * SCALE


def _edges(below: np.ndarray) -> np.ndarray:
    """The edges of places to keep, by the number of rows below each: those of a place or a gap with many rows, and
    enough of the others that ``ROWS_OF_KNOT`` rows lie between two."""
    enough = max(ROWS_OF_KNOT, below[-1] / PLACES)
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
