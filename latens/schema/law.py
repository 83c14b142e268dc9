"""The law of a numeric column: atoms, the grid or the calendar that it is recorded on, the spread of the rest."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import damaged

LEAST, LEAST_WEEK = 5, 30  # this many distinct dates do not recur, or keep to days of the week, by accident
WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


@dataclass(frozen=True)
class Calendar:
    """The dates on which the values of a column fall, in days since 1970-01-01.

    Args:
        months: months between dates, counted from ``first``; 0 if the dates do not follow the months.
        day: the day of the month; 31 is the last day of any month.
        days: days between dates, counted from ``first``; 0 if the distance varies.
        first: the first date, in months since 1970-01 or in days since 1970-01-01.
        weekdays: the days of the week on which the dates fall, 0 for Monday.

    Raises:
        InputError: the fields contradict each other.

    >>> quarters = Calendar(months=3, first=0)
    >>> quarters.snap(np.array([18628.0, 18640.0, 18700.0])).astype("datetime64[D]").astype(str).tolist()
    ['2021-01-01', '2021-01-01', '2021-04-01']
    """

    months: int = 0
    day: int = 1
    days: int = 0
    first: int = 0
    weekdays: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        whole = all(isinstance(v, int) for v in (self.months, self.day, self.days, self.first, *self.weekdays))
        sizes = whole and self.months >= 0 and self.days >= 0 and 1 <= self.day <= 31
        if not sizes or not set(self.weekdays) <= set(range(7)) or not (self.months or self.days or self.weekdays):
            raise damaged("has a column without a valid calendar")

    def snap(self, numbers: np.ndarray) -> np.ndarray:
        """The calendar's date nearest to each number, ``[N]`` float64 days; NaN stays NaN."""
        x = np.nan_to_num(np.asarray(numbers, dtype=np.float64))
        if self.months:
            found = self._of_months(x)
        elif self.days:
            found = self.first + np.rint((x - self.first) / self.days) * self.days
        else:
            by_distance = (0, 1, -1, 2, -2, 3, -3)
            near = [next(s for s in by_distance if (day + s) % 7 in self.weekdays) for day in range(7)]
            day = np.rint(x)
            found = day + np.array(near)[(day.astype(np.int64) + 3) % 7]  # 1970-01-01 was a Thursday
        return np.where(np.isnan(numbers), np.nan, found)

    def _of_months(self, x: np.ndarray) -> np.ndarray:
        month = np.floor(x).astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        below = self.first + (month - self.first) // self.months * self.months
        either = np.stack([self._day(below - self.months), self._day(below), self._day(below + self.months)])
        return np.take_along_axis(either, np.abs(either - x).argmin(0)[None], 0)[0].astype(np.float64)

    def _day(self, month: np.ndarray) -> np.ndarray:
        first = month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        length = (month + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - first
        return first + np.minimum(self.day, length) - 1

    def describe(self) -> str:
        """Say in words when the dates fall.

        >>> Calendar(months=1).describe(), Calendar(months=3, day=31).describe(), Calendar(days=7, first=4).describe()
        ('first of every month', 'last of every third month', 'every 7 days')
        """
        if self.months:
            names = {1: "month", 3: "third month", 12: "year's month"}
            which = {1: "first", 31: "last"}.get(self.day, f"day {self.day}")
            return f"{which} of every {names.get(self.months, f'{self.months} months')}"
        if self.days:
            return f"every {self.days} days"
        return "on " + ", ".join(WEEKDAYS[day] for day in self.weekdays)

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> Calendar | None:
        """The calendar that :meth:`to_json` wrote, or None for None; ``InputError`` if the fields are not valid."""
        if fields is None:
            return None
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(fields).items()}
            return cls(**values)
        except (TypeError, ValueError):
            raise damaged("has a column without a valid calendar") from None


def calendar_of(days: np.ndarray) -> Calendar | None:
    """The calendar that the dates ``[N]``, in days since 1970-01-01, follow; None if they follow none.

    >>> starts = np.arange("2019-01", "2022-01", dtype="datetime64[M]").astype("datetime64[D]").astype(float)
    >>> calendar_of(starts).describe(), calendar_of(starts[::3]).describe(), calendar_of(np.arange(20.0))
    ('first of every month', 'first of every third month', None)
    """
    whole = np.unique(np.asarray(days, dtype=np.float64))
    if len(whole) < LEAST or not np.isfinite(whole).all() or (whole != np.floor(whole)).any():
        return None
    dates = whole.astype(np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    last = ((months + 1).astype("datetime64[D]") - dates).astype(np.int64) == 1
    if last.all() or (len(set(day.tolist())) == 1 and day[0] <= 28):
        number = months.astype(np.int64)
        apart = int(np.gcd.reduce(np.diff(number)))
        return Calendar(apart, 31 if last.all() else int(day[0]), first=int(number[0]) % apart)
    apart = int(np.gcd.reduce(np.diff(whole.astype(np.int64))))
    if apart > 1:
        return Calendar(days=apart, first=int(whole[0]) % apart)
    weekdays = tuple(sorted(set(((whole.astype(np.int64) + 3) % 7).tolist())))
    return Calendar(weekdays=weekdays) if len(weekdays) < 7 and len(whole) >= LEAST_WEEK else None


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
