"""The distance between samples and data in one column, and the levels that are shown by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from latens.evaluation.synthetic import kolmogorov_smirnov, total_variation
from latens.report.groups import most_frequent
from latens.schema import Column
from latens.schema.arrow import as_numbers

LEVELS = 10  # at most this many levels are shown by name
SPLITS = 19  # the number of random splits whose distances the distance must exceed: a test at 1 / (19 + 1) = 5 %


@dataclass(frozen=True, eq=False)
class MarginalComparison:
    """The observed cells of a column, and samples of it. ``more`` says whether they differ by more than chance (None if
    not tested)."""

    column: Column
    data: np.ndarray
    drawn: np.ndarray
    more: bool | None = None

    @property
    def measure(self) -> Callable[..., float]:
        """The Kolmogorov-Smirnov distance for numbers, the total variation distance for levels."""
        return total_variation if self.column.outputs_codes else kolmogorov_smirnov

    @cached_property
    def distance(self) -> float:
        """The distance between samples and data; 1 if either has no cells."""
        return self.measure(self.data, self.drawn) if len(self.data) else 1.0

    def tested(self, rng: np.random.Generator) -> MarginalComparison:
        """The same comparison with ``more`` set: whether the distance between samples and data is larger than for each
        of 19 random splits of the pooled data and samples (a permutation test at 5 %)."""
        both, n = np.append(self.data, self.drawn), len(self.data)
        splits = (rng.permutation(both) for _ in range(SPLITS))
        return replace(self, more=all(self.measure(each[:n], each[n:]) < self.distance for each in splits))


def as_given(column: Column, numbers: np.ndarray) -> np.ndarray:
    """Numbers as the user gets them, rounded and clipped as the column requires; levels remain codes."""
    if column.outputs_codes:
        return numbers
    found = as_numbers(column.decode(numbers))
    return numbers if found is None else found


def in_levels(column: Column, *codes: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """(the names of the levels in their order, then "missing" if a code is NaN; the codes ``[N]`` as indices into these
    names)."""
    levels = [str(level) for level in column.levels or ()]
    whole = [np.where(np.isnan(each), len(levels), each.round().clip(0, len(levels) - 1)).astype(int) for each in codes]
    return levels + ["missing"] * any(np.isnan(each).any() for each in codes), whole


def grouped(column: Column, *codes: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """:func:`in_levels`; if there are more than ten names, those that are rarest among the first codes are merged."""
    levels, whole = in_levels(column, *codes)
    if len(levels) <= LEVELS:
        return levels, whole
    kept, place = most_frequent(np.bincount(whole[0], minlength=len(levels)), LEVELS)
    return [levels[i] for i in kept] + [f"{len(levels) - len(kept)} others"], [place[each] for each in whole]
