"""Maps that give each column of samples the distribution of its training rows: repeated values, tails and all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from latens.schema import AnySchema, Column, Table
from latens.schema.rules import Confined

WIDEST = 256  # rows with more columns get no maps
HEAP = 0.005  # a number that at least this share of the rows have is a heap
LEVELS = np.unique([*np.linspace(0, 1, 41), *1 / (1 + np.exp(np.linspace(-12, 12, 61)))])  # the quantiles of a piece

Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # (shares of the rows, draws, values), increasing, [points] each
Maps = Mapping[str, Sequence[Sequence[float]]]  # {index of a column: points}


def columns_of(schema: AnySchema) -> Iterator[tuple[int, Column | None]]:
    """(index, column, or None in an array) of the numbers that get maps: those of vectors, and of tables those with a
    margin. Levels and atoms are matched by :mod:`latens.runs.matching`; dates with cycles, and numbers confined by an
    order, must not move."""
    if schema.columns > WIDEST:
        return
    if isinstance(schema, Table):
        yield from _of_table(schema)
    elif schema.layout == "vector" and schema.kind == "continuous" and schema.ranges is not None:
        yield from ((j, None) for j in range(schema.columns))


def _of_table(schema: Table) -> Iterator[tuple[int, Column]]:
    orders = [rule for rule in schema.rules if isinstance(rule, Confined)]
    held = {name for rule in orders for name in (rule.target, *rule.sources)}
    for j, column in enumerate(schema.modelled):
        law = None if column.name in held else column.law
        if law is not None and not law.is_complete and not law.cycles:
            yield j, column


def learned(schema: AnySchema, draws: np.ndarray, values: np.ndarray) -> Maps:
    """The maps of the columns whose draws, as the user gets them, differ from the values.

    Args:
        schema: the schema of the rows.
        draws: rows that the model generates, ``[M, columns]``, NaN for missing cells.
        values: training rows ``[N, columns]``, NaN for missing cells.
    """
    found = {}
    for j, column in columns_of(schema):
        own, seen = (_smooth(each[:, j], column) for each in (draws, values))
        if len(own) < 2 or len(seen) < 2 or own.min() == own.max():
            continue
        seen = seen if column is not None and column.law.rounded else _settled(schema, seen, j)  # type: ignore[union-attr]
        if _differ(_settled(schema, own, j), seen):
            even = seen if column is None else column.law.evened(seen, np.random.default_rng(j))  # type: ignore[union-attr]
            found[str(j)] = [each.tolist() for each in quantile_map(own, even, _edges(column, seen))]
    return found


@dataclass(frozen=True)
class MarginMaps:
    """The maps of a run's columns, from :func:`learned`, or none."""

    schema: AnySchema
    maps: Maps

    def again(self, draws: np.ndarray) -> MarginMaps:
        """The maps from other draws ``[M, columns]`` to the same values."""
        found = {}
        for j, column in columns_of(self.schema) if self.maps else ():
            own = _smooth(draws[:, j], column)
            if str(j) in self.maps and len(own) > 1 and own.min() < own.max():
                share, _, to = self.maps[str(j)]
                found[str(j)] = [share, _quantiles(own, np.array(share)).tolist(), to]
        return MarginMaps(self.schema, found)

    def mapped(self, x: np.ndarray) -> np.ndarray:
        """Draws ``[n, columns]``, each column through its map; atoms stay."""
        if not self.maps:
            return x
        x = x.copy()
        for j, column in columns_of(self.schema):
            if str(j) in self.maps:
                _, at, to = self.maps[str(j)]
                x[:, j] = np.where(_are_atoms(x[:, j], column), x[:, j], np.interp(x[:, j], at, to))
        return x

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray] | None:
        """:attr:`Schema.limits`, infinite for columns with maps, which take any draw into the range."""
        ends = self.schema.limits
        if ends is None or not self.maps:
            return ends
        free = np.isin(np.arange(len(ends[0])), [int(j) for j in self.maps])
        return np.where(free, -np.inf, ends[0]), np.where(free, np.inf, ends[1])


def quantile_map(draws: np.ndarray, values: np.ndarray, edges: Iterable[float] = ()) -> Points:
    """Points of the increasing map that takes quantiles of draws ``[M]``, not all the same, to those of values ``[N]``.
    A heap of the values has a flat piece, as wide as its share of the draws; ``edges`` are further ends of pieces.

    >>> draws = np.linspace(-3, 3, 1001)
    >>> _, at, to = quantile_map(draws, np.repeat([0.0, 1.0, 2.0], [500, 300, 200]))
    >>> [round(float((np.interp(draws, at, to) == value).mean()), 2) for value in (0, 1, 2)]
    [0.5, 0.3, 0.2]
    """
    values, count = np.sort(values), len(values)
    _, first, seen = np.unique(values, return_index=True, return_counts=True)
    is_heap = (seen >= 2) & (seen >= HEAP * count)
    further = np.searchsorted(values, list(edges))
    points: list[tuple[float, float]] = []
    starts = np.unique([0, *first[is_heap], *(first + seen)[is_heap], *further, count])
    for low, high in pairwise(starts.tolist()):  # each piece is a heap, or the values between two ends
        levels = LEVELS if values[low] < values[high - 1] else LEVELS[:0]
        place = np.unique(np.rint((high - low - 1) * levels).astype(np.int64)) + low
        ends = [(low / count, values[low]), (high / count, values[high - 1])]
        points += [ends[0], *zip((place + 0.5) / count, values[place]), ends[1]]
    share, to = np.array(points).T
    return share, _quantiles(draws, share), to


def _quantiles(draws: np.ndarray, share: np.ndarray) -> np.ndarray:
    at = np.quantile(draws, share)
    for k in range(1, len(at)):  # a jump takes no width
        at[k] = max(at[k], np.nextafter(at[k - 1], np.inf))
    return at


def _settled(schema: AnySchema, numbers: np.ndarray, j: int) -> np.ndarray:
    """Numbers ``[n]`` of column j as the user gets them, without a map."""
    if isinstance(schema, Table):
        return schema.modelled[j].settled(numbers)
    return schema.ranges.column(j).settled(numbers[:, None])[:, 0]  # type: ignore[union-attr]


def _smooth(numbers: np.ndarray, column: Column | None) -> np.ndarray:
    """The numbers that are neither missing nor atoms."""
    found = numbers[~np.isnan(numbers)].astype(np.float64)
    return found[~_are_atoms(found, column)]


def _are_atoms(numbers: np.ndarray, column: Column | None) -> np.ndarray:
    return np.zeros(len(numbers), bool) if column is None else column.law.is_atom(numbers)  # type: ignore[union-attr]


def _edges(column: Column | None, values: np.ndarray) -> Sequence[float]:
    """The ends of the places of a grid on which many values lie."""
    step = None if column is None else column.law.step  # type: ignore[union-attr]
    if step is None:
        return ()
    distinct, seen = np.unique(values, return_counts=True)
    heaps = distinct[seen >= HEAP * len(values)]
    return [*(heaps - step / 2), *(heaps + step / 2)]


def _differ(draws: np.ndarray, values: np.ndarray) -> bool:
    """Whether the distribution of many draws ``[M]`` is farther from that of values ``[N]`` than if the values were N
    draws, in three of four cases (Kolmogorov 1933)."""
    at = np.unique(np.concatenate([draws, values]))
    share = [np.searchsorted(np.sort(each), at, "right") / len(each) for each in (draws, values)]
    return bool(np.abs(share[0] - share[1]).max() > 1 / np.sqrt(len(values)))


