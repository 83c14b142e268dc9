"""How far the samples of one column lie from its data, and which levels get a name of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latens.schema import Column
from latens.schema.cells import as_numbers

LEVELS = 10  # levels with a name
SPLITS = 19  # random splits that a distance must exceed, all of them: a test at 1 / (19 + 1) = 5 %


@dataclass(frozen=True)
class Match:
    """How far samples of a column lie from the data: the distance, and whether it is more than chance (None: not
    asked)."""

    distance: float
    more: bool | None


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of the two distribution functions, in [0, 1] (Smirnov 1939).

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    at = np.append(a, b)
    below = (np.searchsorted(np.sort(each), at, side="right") / len(each) for each in (a, b))
    return float(np.abs(next(below) - next(below)).max())


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of the differences of the shares of each value, in [0, 1].

    >>> total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.25
    """
    values, index = np.unique(np.append(a, b), return_inverse=True)
    p = np.bincount(index[: len(a)], minlength=len(values)) / len(a)
    q = np.bincount(index[len(a) :], minlength=len(values)) / len(b)
    return float(np.abs(p - q).sum() / 2)


def matched(column: Column, data: np.ndarray, drawn: np.ndarray, rng: np.random.Generator | None) -> Match:
    """The Kolmogorov-Smirnov distance of numbers, or the total variation distance of levels, and whether it is larger
    than in all of 19 random splits of both together (a permutation test at 5 %)."""
    measure: Callable[..., float] = total_variation if column.outputs_codes else kolmogorov_smirnov
    distance = measure(data, drawn)
    if rng is None:
        return Match(distance, None)
    both, n = np.append(data, drawn), len(data)
    splits = (rng.permutation(both) for _ in range(SPLITS))
    return Match(distance, all(measure(each[:n], each[n:]) < distance for each in splits))


def as_given(column: Column, numbers: np.ndarray) -> np.ndarray:
    """Numbers as the user gets them: rounded and kept in their range as the column's are; levels stay codes."""
    if column.outputs_codes:
        return numbers
    found = as_numbers(column.decode(numbers))
    return numbers if found is None else found


def grouped(column: Column, *codes: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """Names of the levels in their order, and the codes as places among them; beyond ten levels the rarest of the first
    codes are one."""
    levels = [str(level) for level in column.levels or ()]
    whole = [np.clip(each.round(), 0, len(levels) - 1).astype(int) for each in codes]
    if len(levels) <= LEVELS:
        return levels, whole
    counts = np.bincount(whole[0], minlength=len(levels))
    kept = np.sort(np.argsort(-counts, kind="stable")[: LEVELS - 1])
    place = np.full(len(levels), LEVELS - 1)
    place[kept] = np.arange(LEVELS - 1)
    return [levels[i] for i in kept] + [f"{len(levels) - len(kept)} others"], [place[each] for each in whole]
