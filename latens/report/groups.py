"""Labels as groups with colours and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from latens.errors import InputError
from latens.report.style import COLORS, THEME, ramp


@dataclass
class Groups:
    """The group of each row: ``index``, ``[N]``, into ``names``. ``ordered`` says that the groups are ranges of a
    number."""

    names: list[str]
    index: np.ndarray
    ordered: bool = False

    def paint(self, i: int) -> str:
        """The colour of group ``i``, hexadecimal: one of ten colours for values, a step of viridis for ranges."""
        if not self.ordered:
            return THEME[f"c{i % COLORS}"][0]
        return ramp(i, len(self.names))

    def legend(self) -> list[tuple[str, str]]:
        """(name, colour) pairs for :func:`latens.report.page.keys`."""
        return [(name, self.paint(i) if self.ordered else f"c{i % COLORS}") for i, name in enumerate(self.names)]

    def take(self, rows: np.ndarray | slice) -> Groups:
        """The groups of the selected rows."""
        return Groups(self.names, self.index[rows], self.ordered)

    def centers(self, points: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """(short name, median of the group's points) of each group; none for ranges."""
        if self.ordered or any(len(name) > 14 for name in self.names):
            return []
        found = [(name, points[self.index == i]) for i, name in enumerate(self.names)]
        return [(name, np.median(rows, axis=0)) for name, rows in found if len(rows)]


def group(labels: Any, rows: int, label_names: Sequence[str] | None = None) -> Groups | None:
    """Groups from the labels of rows: the values (at most ten; rare values become "other"), or ten ranges if the labels
    are numbers with more values.

    Raises:
        InputError: the number of labels differs from the number of rows.
    """
    if labels is None:
        return None
    values = np.asarray(labels)
    values = values[:, 0] if values.shape == (rows, 1) else values
    if values.shape != (rows,):
        raise InputError(f"labels must be one per row, [{rows}], got shape {list(values.shape)}")
    values = _without_gaps(values)
    found, index = np.unique(values, return_inverse=True)
    if label_names is None and values.dtype.kind in "iuf" and len(found) > COLORS:
        return _ranges(values.astype(float))
    names = [_name(value, label_names) for value in found]
    if len(names) <= COLORS:
        return Groups(names, index)
    kept, places = most_frequent(np.bincount(index), COLORS)
    return Groups([names[i] for i in kept] + [f"other ({len(names) - len(kept)} values)"], places[index])


def _without_gaps(values: np.ndarray) -> np.ndarray:
    """The values, with a replacement for missing values. It is a word if the values are words or few different numbers,
    and the smallest number if there are many different numbers."""
    if values.dtype.kind == "O":
        return np.array([str(v) for v in values])
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    finite = values[np.isfinite(values)]
    if len(np.unique(finite)) > COLORS:
        return np.where(np.isfinite(values), values, finite.min())
    return np.array([f"{v:g}" if np.isfinite(v) else "missing" for v in values])


def most_frequent(counts: np.ndarray, most: int) -> tuple[list[int], np.ndarray]:
    """(the ``most`` - 1 values with the largest counts, in their original order; for each value, its place in this
    list, or the last place for all values that are not in it)."""
    kept = np.sort(np.argsort(-counts, kind="stable")[: most - 1])
    places = np.full(len(counts), most - 1)
    places[kept] = np.arange(most - 1)
    return kept.tolist(), places


def _name(value: Any, label_names: Sequence[str] | None) -> str:
    if label_names is not None and isinstance(value, int | float | np.number) and float(value).is_integer():
        if 0 <= int(value) < len(label_names):
            return str(label_names[int(value)])
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _ranges(values: np.ndarray) -> Groups:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, COLORS + 1)))
    index = np.searchsorted(edges[1:-1], values, side="right")
    return Groups([f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)], index, ordered=True)
