"""Find the values that occur in an array: their range, their grid, or all of them if they are few."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from latens.schema import Schema, chunks
from latens.schema.ranges import DIGITS, SeenValues

FEWEST = 20  # a grid may be an accident if there are fewer cells than this
FEW = 64  # up to this many different values may be all that can occur
HEAP, LEAST = 0.01, 3  # an end of the range is an atom if it has at least this share, and this number, of the cells
_LOOSE = 0.05  # a float may be off the grid by this share of a step


def ranges_of(x: np.ndarray, schema: Schema) -> SeenValues | None:
    """The ranges of an array ``[N, *user_shape]`` of finite numbers; None if all values are 0 or 1, and for counts.

    >>> from latens.data import infer
    >>> infer(np.arange(60.0).reshape(30, 2) / 4).ranges.steps
    (0.5, 0.5)
    """
    if not has_ranges(schema):
        return None
    parts = [cells_of(x[rows], schema) for rows in chunks(x)]
    return ranges_of_parts(parts, schema, np.min([p.min(0) for p in parts], 0), np.max([p.max(0) for p in parts], 0))


def has_ranges(schema: Schema) -> bool:
    """Whether arrays of this schema have ranges."""
    return schema.kind not in ("binary", "count") and schema.dtype != "bool"


def cells_of(x: np.ndarray, schema: Schema) -> np.ndarray:
    """The cells ``[n, C]`` of rows, one column for each range."""
    if schema.kind == "levels" or schema.layout == "HW":
        return x.reshape(-1, 1)
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]) if schema.layout == "CHW" else x.reshape(-1, x.shape[-1])


def ranges_of_parts(parts: Iterable[np.ndarray], schema: Schema, low: np.ndarray, high: np.ndarray) -> SeenValues:
    """The ranges of cells that come in parts ``[n, C]``; ``low`` and ``high`` ``[C]`` are their smallest and largest
    values."""
    count, heaps = 0, np.zeros((2, len(low)), np.int64)
    grid = None if schema.kind == "levels" else _Grids(low, high)
    values: list[np.ndarray | None] = [np.zeros(0, low.dtype) for _ in low]
    for part in parts:
        count += len(part)
        heaps += [(part == end).sum(0) for end in (low, high)]
        if grid is not None:
            grid.add(part)
        values = [None if seen is None else _few(part[:, j], seen) for j, seen in enumerate(values)]
    heaped = heaps / count
    steps = np.zeros(len(low)) if grid is None else grid.steps(count, 1 - heaped[0])
    places = np.divide(high.astype(np.float64) - low, steps, out=np.full(len(low), np.inf), where=steps > 0) + 1
    only = (_only(v, count, steps[j] if grid is not None else schema.step) for j, v in enumerate(values))
    return SeenValues(
        tuple(low.tolist()), tuple(high.tolist()), tuple(steps.tolist()), tuple(only),
        tuple((bool(a), bool(b)) for a, b in (heaped >= np.maximum(max(HEAP, LEAST / count), 2 / places)).T),
    )  # fmt: skip


class _Grids:
    """The grid of each column ``[C]``, given its extremes ``low`` and ``high``. A grid is the number of decimals (-1
    for more than :data:`DIGITS`, or more than the dtype can distinguish) and the largest step that leads from the
    lowest number to all others, in units of the last decimal."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        is_float = low.dtype.kind == "f"
        self._low, self._varies, self._most = low.astype(np.float64), high > low, DIGITS if is_float else 0
        size = np.maximum(np.abs(self._low), np.abs(high.astype(np.float64)))
        self._loose = size * 2 * float(np.finfo(low.dtype).eps if is_float else np.finfo(np.float64).eps)
        self._digits = np.where(self._loose < _LOOSE, 0, -1)
        self._common = np.zeros(len(low), np.int64)

    def add(self, part: np.ndarray) -> None:
        """Take more numbers ``[n, C]`` into account."""
        left = np.flatnonzero(self._digits >= 0)
        while len(left):
            scale, loose = 10.0 ** self._digits[left], self._loose[left]
            places = part[:, left].astype(np.float64) * scale
            off = left[(np.abs(places - np.rint(places)) > loose * scale).any(0)]
            more = self._digits[off] + 1
            fits = (more <= self._most) & (self._loose[off] * 10.0**more < _LOOSE)
            self._digits[off] = np.where(fits, more, -1)
            self._common[off] *= 10
            left = off[fits]
        on = np.flatnonzero((self._digits >= 0) & self._varies & (self._common != 1))
        if len(on):
            places = np.rint((part[:, on] - self._low[on]) * 10.0 ** self._digits[on]).astype(np.int64)
            self._common[on] = np.gcd(self._common[on], np.gcd.reduce(places, axis=0))

    def steps(self, count: int, above: np.ndarray) -> np.ndarray:
        """The step of each column ``[C]``, 0 if it has none; ``above`` is the share of the ``count`` cells that exceed
        the lowest."""
        on = (self._digits >= 0) & self._varies & (count >= FEWEST)
        common = np.where(above * count > FEWEST / 2, self._common, 1)
        return np.where(on, common / 10.0 ** np.maximum(self._digits, 0), 0.0)


def _few(cells: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """The different values of cells ``[n]`` and those ``seen`` before; None if they are too many."""
    found = np.union1d(seen, cells[: 1 << 12])
    return None if len(found) > FEW else np.union1d(found, cells[1 << 12 :]) if len(cells) > 1 << 12 else found


def _only(found: np.ndarray | None, count: int, step: float) -> tuple[float, ...]:
    """The different values of ``count`` cells, if they are few, each occurs ten times on average, and they do not fill
    a grid of that step; else ()."""
    if found is None or not 1 < len(found) <= min(FEW, count // 10):
        return ()
    is_grid = step > 0 and len(found) == math.floor((float(found[-1]) - float(found[0])) / step + 1.5)
    return () if is_grid else tuple(found.astype(np.float64).tolist())
