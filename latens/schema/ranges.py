"""The values seen in an array. The model's draws are moved to these values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import damaged

DIGITS = 6  # a step has at most this many digits after the point


@dataclass(frozen=True)
class SeenValues:
    """The values seen in each column of a vector, or in each channel of images and sequences.

    Args:
        low, high: for each column, the smallest and the largest value.
        steps: the distance of evenly spaced values, counted from ``low``; 0 if there is no such grid.
        values: the only values that occurred, increasing, if they are few and not evenly spaced; else ().
        heaped: whether many cells lie exactly on the low end, and on the high end.

    Raises:
        InputError: the fields contradict each other.

    >>> SeenValues((0.0,), (9.0,), (3.0,), ((),), ((True, False),)).settled(np.array([[-2.0], [4.0], [11.0]])).tolist()
    [[0.0], [3.0], [9.0]]
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    steps: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    heaped: tuple[tuple[bool, bool], ...]

    def __post_init__(self) -> None:
        numbers = np.array([self.low, self.high, self.steps], dtype=np.float64)
        sound = numbers.shape[1] > 0 and np.isfinite(numbers).all() and (numbers[1] >= numbers[0]).all()
        pairs = len(self.values) == len(self.heaped) == numbers.shape[1] and all(len(each) == 2 for each in self.heaped)
        if not (sound and pairs and (numbers[2] >= 0).all() and all(np.all(np.diff(each) > 0) for each in self.values)):
            raise damaged("has ranges that are not valid")

    def settled(self, x: np.ndarray, *, mean: bool = False, beyond: bool = False) -> np.ndarray:
        """Each number ``[..., columns]`` moved to the nearest value that its column can have, in float64.

        Args:
            x: numbers.
            mean: whether the numbers are means, which may lie between the values of a grid.
            beyond: whether numbers may lie outside the range.
        """
        low, step = np.array(self.low), np.array(self.steps)
        x = x.astype(np.float64)
        if not mean and step.any():
            grid = low + step * np.rint((x - low) / np.where(step > 0, step, 1.0))
            grid = np.where(step < 1, np.round(grid, DIGITS), grid)
            x = np.where(step > 0, grid, x)
        if beyond:
            return x
        x = np.clip(x, low, self.high)
        for column, values in enumerate(() if mean else self.values):
            if values:
                x[..., column] = nearest(values, x[..., column])
        return x

    def column(self, j: int) -> SeenValues:
        """The values seen in a single column."""
        own = slice(j, j + 1)
        return SeenValues(self.low[own], self.high[own], self.steps[own], self.values[own], self.heaped[own])

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high), half a step wider. A draw outside is repeated. At an end on which many cells lie exactly, the
        limit is infinite, as draws beyond it are moved to that end instead."""
        half, heaped = np.array(self.steps) / 2, np.array(self.heaped)
        return np.where(heaped[:, 0], -np.inf, self.low - half), np.where(heaped[:, 1], np.inf, self.high + half)

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> SeenValues:
        """The ranges that :meth:`to_json` wrote; ``InputError`` if a field is missing or not valid."""
        try:
            low, high, steps = (tuple(map(float, fields[name])) for name in ("low", "high", "steps"))
            values = tuple(tuple(map(float, each)) for each in fields["values"])
            heaped = tuple((bool(first), bool(last)) for first, last in fields["heaped"])
            return cls(low, high, steps, values, heaped)
        except (KeyError, TypeError, ValueError):
            raise damaged("has ranges that are not valid") from None


def nearest(values: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """For each number ``[N]``, the nearest of the increasing values; of two at the same distance, the lower one."""
    found = np.array(values)
    return found[nearest_place(found, x)]


def nearest_place(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """For each number ``[N]``, the index of the nearest of the increasing values; of two at the same distance, the
    lower one."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, x)
