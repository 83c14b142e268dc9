"""The law of a numeric column: values with a mass of their own, the grid it is recorded on, the spread of the rest."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.schema.calendar import Calendar
from latens.schema.damaged import damaged

SCALE = math.sqrt(3) / math.pi  # of a logistic with variance 1
SAME = 2.0**-22  # relative distance to an atom within which a number that went through float32 is that atom


@dataclass(frozen=True)
class Law:
    """Atoms, a grid and a margin, as seen in the data that a model is fitted to.

    The margin is an increasing map T from values to scores; the scores of values other than atoms are about logistic
    with variance 1.

    Args:
        knots: increasing values; the first and the last are the ends of the range, half a step wider on a grid.
        scores: T(knots), increasing; T is linear between knots.
        atoms: values with a mass of their own, increasing.
        step: the grid: nearly all values other than atoms are multiples of it; None if there is no grid.
        is_complete: whether only atoms were seen, so that no other value is drawn.
        calendar: for dates, the calendar on which they fall.
        places: increasing values that are the only ones drawn, if they lie on no grid and none is an atom; each has the
            margin's mass between the middles to its neighbours.
        floor: a number below which the column has no mass; None if values below the range are possible.

    Raises:
        InputError: the fields contradict each other.

    >>> law = Law((0.5, 2.5, 10.5), (-2.0, 0.0, 2.0), (-999.0,), 1.0)
    >>> law.snap(np.array([-999.0, 11.0, 3.3])).tolist(), law.low, law.high
    ([-999.0, 10.0, 3.0], 1.0, 10.0)
    """

    knots: tuple[float, ...]
    scores: tuple[float, ...]
    atoms: tuple[float, ...] = ()
    step: float | None = None
    is_complete: bool = False
    calendar: Calendar | None = None
    places: tuple[float, ...] = ()
    floor: float | None = None

    def __post_init__(self) -> None:
        numbers = np.array([*self.knots, *self.scores, *self.atoms, *self.places, self.step or 1.0], dtype=np.float64)
        increasing = all(np.all(np.diff(each) > 0) for each in (self.knots, self.scores, self.atoms, self.places))
        pairs = len(self.scores) == len(self.knots) >= 2 and (not self.places or len(self.places) > 1)
        if not (pairs and increasing and np.isfinite(numbers).all() and numbers[-1] > 0):
            raise damaged("has a column without a valid law")

    @property
    def low(self) -> float:
        """The smallest value other than an atom."""
        return self.places[0] if self.places else self.knots[0] + (self.step or 0.0) / 2

    @property
    def high(self) -> float:
        """The largest value other than an atom."""
        return self.places[-1] if self.places else self.knots[-1] - (self.step or 0.0) / 2

    @property
    def apart(self) -> tuple[bool, ...]:
        """For each atom, whether it lies outside the range of the other values, as a code such as -999 does."""
        return tuple(not self.knots[0] <= atom <= self.knots[-1] for atom in self.atoms)

    @property
    def codes(self) -> tuple[float, ...]:
        """Atoms that may be codes such as -999: their distance to the other values exceeds the range of those."""
        width = self.high - self.low
        far = tuple(a for a in self.atoms if max(self.low - a, a - self.high) > width > 0)
        return far if len(far) <= 3 and not self.is_complete else ()

    def snap(self, numbers: np.ndarray, within: tuple[float, float] | None = None) -> np.ndarray:
        """The value that the column can hold nearest to each number ``[N]``, in its range or ``within`` another one
        (low, high); NaN stays NaN."""
        x = np.clip(numbers, *(within or (self.low, self.high)))
        if self.step is not None:
            x = np.rint(x / self.step) * self.step
        if self.calendar is not None:
            x = self.calendar.snap(x)
        if self.places:
            x = np.where(np.isnan(x), x, _nearest(self.places, x))
        if not self.atoms:
            return x
        nearest = _nearest(self.atoms, numbers)
        is_atom = np.abs(numbers - nearest) <= SAME * np.abs(nearest)
        return np.where(np.isnan(numbers), np.nan, np.where(is_atom | self.is_complete, nearest, x))

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> Law:
        """The law that :meth:`to_json` wrote; ``InputError`` if a field is missing or not valid."""
        try:
            knots, scores, atoms = (tuple(float(v) for v in fields[name]) for name in ("knots", "scores", "atoms"))
            step = None if fields["step"] is None else float(fields["step"])
            calendar = Calendar.from_json(fields.get("calendar"))
            places = tuple(float(v) for v in fields.get("places", ()))
            floor = None if fields.get("floor") is None else float(fields["floor"])
            return cls(knots, scores, atoms, step, bool(fields["is_complete"]), calendar, places, floor)
        except (KeyError, TypeError, ValueError):
            raise damaged("has a column without a valid law") from None


def edges(values: np.ndarray) -> np.ndarray:
    """The middles between increasing values ``[n]``, and one edge beyond each end at the same distance: ``[n + 1]``.

    >>> edges(np.array([1.0, 2.0, 4.0]))
    array([0.5, 1.5, 3. , 5. ])
    """
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([2 * values[:1] - middles[:1], middles, 2 * values[-1:] - middles[-1:]])


def _nearest(values: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """The nearest of the increasing values; of two at the same distance, the lower."""
    found = np.array(values)
    return found[np.searchsorted((found[1:] + found[:-1]) / 2, x)]
