"""How far the samples of one column lie from its data, and which levels get a name of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from latens.evaluation.synthetic import kolmogorov_smirnov
from latens.report.groups import most_frequent
from latens.schema import Column
from latens.schema.cells import as_numbers

LEVELS = 10  # levels with a name
SPLITS = 19  # random splits that a distance must exceed, all of them: a test at 1 / (19 + 1) = 5 %


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of the differences of the shares of each value, in [0, 1].

    >>> total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.25
    """
    values, index = np.unique(np.append(a, b), return_inverse=True)
    p = np.bincount(index[: len(a)], minlength=len(values)) / len(a)
    q = np.bincount(index[len(a) :], minlength=len(values)) / len(b)
    return float(np.abs(p - q).sum() / 2)


@dataclass(frozen=True, eq=False)
class MarginalComparison:
    """A column's observed cells beside samples of it; ``more``: whether they lie farther apart than by chance (None:
    not asked)."""

    column: Column
    data: np.ndarray
    drawn: np.ndarray
    more: bool | None = None

    @property
    def measure(self) -> Callable[..., float]:
        """The Kolmogorov-Smirnov distance of numbers, the total variation distance of levels."""
        return total_variation if self.column.outputs_codes else kolmogorov_smirnov

    @cached_property
    def distance(self) -> float:
        """How far samples lie from the data; 1 where there are none."""
        return self.measure(self.data, self.drawn) if len(self.data) else 1.0

    def tested(self, rng: np.random.Generator) -> MarginalComparison:
        """Whether the distance is larger than in all of 19 random splits of both together (a permutation test at 5 %)
        is known then."""
        both, n = np.append(self.data, self.drawn), len(self.data)
        splits = (rng.permutation(both) for _ in range(SPLITS))
        return replace(self, more=all(self.measure(each[:n], each[n:]) < self.distance for each in splits))


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
    kept, place = most_frequent(np.bincount(whole[0], minlength=len(levels)), LEVELS)
    return [levels[i] for i in kept] + [f"{len(levels) - len(kept)} others"], [place[each] for each in whole]
