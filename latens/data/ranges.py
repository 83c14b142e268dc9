"""Find the values that occur in an array: their range, their grid, or the complete set if they are few."""

from __future__ import annotations

import math

import numpy as np

from latens.schema import Schema, chunks
from latens.schema.ranges import DIGITS, SeenValues

FEWEST = 20  # cells, with fewer of which a grid may be an accident
FEW = 64  # values that may be all that occur
HEAP, LEAST = 0.01, 3  # the least share, and number, of cells at an end that many values share
_LOOSE = 0.05  # a float may be off the grid by this share of a step


def ranges_of(x: np.ndarray, schema: Schema) -> SeenValues | None:
    """The ranges of an array ``[N, *user_shape]`` of finite numbers; None for values that are 0 and 1, and for counts.

    >>> from latens.data import infer
    >>> infer(np.arange(60.0).reshape(30, 2) / 4).ranges.steps
    (0.5, 0.5)
    """
    if schema.kind in ("binary", "count") or x.dtype.kind == "b":
        return None
    if schema.kind == "levels" or schema.layout == "HW":
        cells = x.reshape(-1, 1)
    elif schema.layout == "CHW":
        cells = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    else:
        cells = x.reshape(-1, x.shape[-1])
    parts = [cells[rows] for rows in chunks(cells)]
    low, high = np.min([part.min(0) for part in parts], 0), np.max([part.max(0) for part in parts], 0)
    heaped = np.array([sum((part == end).sum(0) for part in parts) for end in (low, high)]) / len(cells)
    steps = np.zeros(len(low)) if schema.kind == "levels" else _steps(parts, low, high, 1 - heaped[0])
    places = np.divide(high.astype(np.float64) - low, steps, out=np.full(len(low), np.inf), where=steps > 0) + 1
    return SeenValues(
        tuple(low.tolist()), tuple(high.tolist()), tuple(steps.tolist()),
        tuple(_few(cells[:, j], steps[j] if schema.kind != "levels" else schema.step) for j in range(len(low))),
        tuple((bool(a), bool(b)) for a, b in (heaped >= np.maximum(max(HEAP, LEAST / len(cells)), 2 / places)).T),
    )  # fmt: skip


def _steps(parts: list[np.ndarray], low: np.ndarray, high: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The step of each column ``[C]``, 0 where there is none; ``above`` is the share of cells above the lowest."""
    count, least = sum(map(len, parts)), low.astype(np.float64)
    digits = _digits(parts, low, high) if count >= FEWEST else np.full(len(low), -1)
    on = np.flatnonzero((digits >= 0) & (high > low))
    scale = 10.0 ** np.maximum(digits, 0)
    common = np.zeros(len(on), np.int64)
    for part in parts:
        places = np.rint((part[:, on] - least[on]) * scale[on]).astype(np.int64)
        common = np.gcd(common, np.gcd.reduce(places, axis=0))
        if (common == 1).all():
            break
    steps = np.zeros(len(low))
    steps[on] = np.where(above[on] * count > FEWEST / 2, common, 1) / scale[on]
    return steps


def _digits(parts: list[np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """For each column ``[C]``, the digits after the point of its numbers; -1 for more than :data:`DIGITS`, or more than
    the dtype can distinguish."""
    is_float = parts[0].dtype.kind == "f"
    size = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    loose = size * 2 * float(np.finfo(parts[0].dtype).eps if is_float else np.finfo(np.float64).eps)
    found = np.full(len(low), -1)
    for digits in range(DIGITS + 1 if is_float else 1):
        scale = 10.0**digits
        left = np.flatnonzero((found < 0) & (loose * scale < _LOOSE))
        for part in parts:
            if not len(left):
                break
            places = part[:, left].astype(np.float64) * scale
            left = left[(np.abs(places - np.rint(places)) <= loose[left] * scale).all(0)]
        found[left] = digits
    return found


def _few(cells: np.ndarray, step: float) -> tuple[float, ...]:
    """The different values of cells ``[n]`` if they are few, each occurs ten times on average, and they do not fill a
    grid of that step; else ()."""
    found = np.unique(cells[: 1 << 12])
    for start in range(1 << 12, len(cells), 1 << 20):
        if len(found) > FEW:
            return ()
        found = np.union1d(found, cells[start : start + (1 << 20)])
    if not 1 < len(found) <= min(FEW, len(cells) // 10):
        return ()
    is_grid = step > 0 and len(found) == math.floor((float(found[-1]) - float(found[0])) / step + 1.5)
    return () if is_grid else tuple(found.astype(np.float64).tolist())
