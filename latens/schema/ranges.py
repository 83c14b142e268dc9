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
        maps: for each column, points (at, to) of an increasing map, linear between them, that takes draws of the model
            to values distributed as in the data; () for a column whose draws are distributed so already. If there are
            no such points at all, ().

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
    maps: tuple[tuple[tuple[float, ...], ...], ...] = ()

    def __post_init__(self) -> None:
        numbers = np.array([self.low, self.high, self.steps], dtype=np.float64)
        sound = numbers.shape[1] > 0 and np.isfinite(numbers).all() and (numbers[1] >= numbers[0]).all()
        pairs = len(self.values) == len(self.heaped) == numbers.shape[1] and all(len(each) == 2 for each in self.heaped)
        maps = len(self.maps) in (0, numbers.shape[1]) and all(map(_is_map, self.maps))
        increasing = all(np.all(np.diff(each) > 0) for each in self.values)
        if not (sound and pairs and maps and (numbers[2] >= 0).all() and increasing):
            raise damaged("has ranges that are not valid")

    def settled(
        self, x: np.ndarray, *, mean: bool = False, beyond: bool = False, drawn: bool = False
    ) -> np.ndarray:  # fmt: skip
        """Each number ``[..., columns]`` moved to the nearest value that its column can have, in float64.

        Args:
            x: numbers.
            mean: whether the numbers are means, which may lie between the values of a grid.
            beyond: whether numbers may lie outside the range.
            drawn: whether the numbers are draws from the model; these go through ``maps`` first, unless they may lie
                outside the range.
        """
        low, step = np.array(self.low), np.array(self.steps)
        x = x.astype(np.float64)
        for column, points in enumerate(self.maps if drawn and not (mean or beyond) else ()):
            if points:
                x[..., column] = np.interp(x[..., column], points[0], points[1])
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

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high), half a step wider. A draw outside is repeated. The limit is infinite at an end on which many
        cells lie exactly, and for a column with a map, as draws beyond it are moved to that end instead."""
        half, heaped = np.array(self.steps) / 2, np.array(self.heaped)
        heaped = heaped | np.array([[bool(points)] for points in self.maps or [()] * len(heaped)])
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
            maps = tuple(tuple(tuple(map(float, each)) for each in points) for points in fields.get("maps", ()))
            return cls(low, high, steps, values, heaped, maps)
        except (KeyError, TypeError, ValueError):
            raise damaged("has ranges that are not valid") from None


def _is_map(points: tuple[tuple[float, ...], ...]) -> bool:
    if not points:
        return True
    if len(points) != 2 or not len(points[0]) == len(points[1]) >= 2:
        return False
    return bool(np.isfinite(points).all() and (np.diff(points[0]) > 0).all() and (np.diff(points[1]) >= 0).all())


def nearest(values: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """For each number ``[N]``, the nearest of the increasing values; of two at the same distance, the lower one."""
    found = np.array(values)
    return found[np.searchsorted((found[1:] + found[:-1]) / 2, x)]
