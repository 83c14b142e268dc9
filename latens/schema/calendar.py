"""Dates that recur: on one day of every month, every few days, or on some days of the week."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.schema.damaged import damaged

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
