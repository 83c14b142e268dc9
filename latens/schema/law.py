"""The law of a numeric column: values with mass of their own, the grid it is recorded on, and how the rest spreads."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import InputError
from latens.schema.calendar import Calendar

SCALE = math.sqrt(3) / math.pi  # of a logistic with variance 1
SAME = 2.0**-22  # of an atom, within which a number that went through float32 is it


@dataclass(frozen=True)
class Law:
    """Atoms, a grid and a margin, as seen in the data a model is fitted to.

    Args:
        knots: K + 1 increasing values; the margin T is linear between them, with T(knots[k]) = reach (2 k / K - 1), so
            that the scores of values other than atoms are about logistic with variance 1. Its ends are the range, half
            a step wider on a grid.
        reach: the score at the upper end.
        atoms: values with mass of their own, increasing.
        step: the grid: nearly all values other than atoms are multiples of it; None without one.
        is_complete: no value but the atoms was seen, so that none is drawn.
        calendar: of dates, those on which they fall.

    >>> law = Law((0.5, 2.5, 10.5), 2.0, (-999.0,), 1.0)
    >>> law.snap(np.array([-999.0, 11.0, 3.3])).tolist(), law.low, law.high
    ([-999.0, 10.0, 3.0], 1.0, 10.0)
    """

    knots: tuple[float, ...]
    reach: float
    atoms: tuple[float, ...] = ()
    step: float | None = None
    is_complete: bool = False
    calendar: Calendar | None = None

    def __post_init__(self) -> None:
        numbers = np.array([*self.knots, *self.atoms, self.reach, self.step or 1.0], dtype=np.float64)
        increasing = np.all(np.diff(self.knots) > 0) and np.all(np.diff(self.atoms) > 0)
        if len(self.knots) < 2 or not (np.isfinite(numbers).all() and increasing) or min(numbers[-2:]) <= 0:
            raise InputError("the schema of the data has a column without a valid law")

    @property
    def low(self) -> float:
        """The smallest value other than an atom."""
        return self.knots[0] + (self.step or 0.0) / 2

    @property
    def high(self) -> float:
        return self.knots[-1] - (self.step or 0.0) / 2

    @property
    def scores(self) -> np.ndarray:
        """T at the knots."""
        return np.linspace(-self.reach, self.reach, len(self.knots))

    @property
    def apart(self) -> tuple[bool, ...]:
        """Which atoms lie outside the range of the other values, as codes such as -999 do."""
        return tuple(not self.knots[0] <= atom <= self.knots[-1] for atom in self.atoms)

    @property
    def codes(self) -> tuple[float, ...]:
        """Atoms that lie further from the other values than these from each other: perhaps codes such as -999."""
        width = self.high - self.low
        far = tuple(a for a in self.atoms if max(self.low - a, a - self.high) > width > 0)
        return far if len(far) <= 3 and not self.is_complete else ()

    def snap(self, numbers: np.ndarray, within: tuple[float, float] | None = None) -> np.ndarray:
        """The values that the column can hold nearest to numbers, in its range or ``within`` another; NaN stays."""
        x = np.clip(numbers, *(within or (self.low, self.high)))
        if self.step is not None:
            x = np.rint(x / self.step) * self.step
        if self.calendar is not None:
            x = self.calendar.snap(x)
        if not self.atoms:
            return x
        atoms = np.array(self.atoms)
        above = np.searchsorted(atoms, numbers).clip(1, max(1, len(atoms) - 1))
        nearest = atoms[np.where(len(atoms) > 1, np.where(
            np.abs(numbers - atoms[above - 1]) <= np.abs(numbers - atoms[above % len(atoms)]), above - 1,
            above % len(atoms)), 0)]  # fmt: skip
        is_atom = np.abs(numbers - nearest) <= SAME * np.abs(nearest)
        return np.where(np.isnan(numbers), np.nan, np.where(is_atom | self.is_complete, nearest, x))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> Law:
        """The law that :meth:`to_json` wrote; ``InputError`` where a field is unknown, missing or ill-typed."""
        try:
            knots, atoms = (tuple(float(v) for v in fields[name]) for name in ("knots", "atoms"))
            step = None if fields["step"] is None else float(fields["step"])
            calendar = Calendar.from_json(fields.get("calendar"))
            return cls(knots, float(fields["reach"]), atoms, step, bool(fields["is_complete"]), calendar)
        except (KeyError, TypeError, ValueError):
            raise InputError("the schema of the data has a column without a valid law") from None
