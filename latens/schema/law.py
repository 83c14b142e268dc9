"""The law of a numeric column: its atoms, the grid or calendar on which it is recorded, and how other values spread."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latens.errors import damaged
from latens.schema.ranges import nearest

LEAST, LEAST_WEEK = 5, 30  # the fewest distinct dates that count as recurring, or as keeping to days of the week
LEAST_WHOLE = 20  # over at least this many whole numbers, a smooth density is even within each
LEAST_TIMES = 60  # over at least this many dates, the margin of a column does not know the times of the day
MOST_TIMES = 1440  # distinct times of the day that are kept
ROWS_OF_PLACE = 25  # with at least this many rows per place, the shares of all places within a period are known
CHANCE = 14.0  # nats: values keep to a coarser grid, or to some places of it, by accident once in a million columns
MOST_ENDINGS = 10_000  # a period with up to this many places may have impossible ones
FURTHEST = 64  # tries until the next date of a calendar is found
TENTH = 0.1 / 86_400  # a tenth of a second, in days
WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


@dataclass(frozen=True)
class Calendar:
    """The dates, and the times of the day, on which the values of a column fall, in days since 1970-01-01.

    Args:
        months: months between dates, counted from ``first``; 0 if the dates do not follow the months.
        day: the day of the month; 31 is the last day of any month.
        days: days between dates, counted from ``first``; 0 if the distance varies.
        first: the first date, in months since 1970-01 or in days since 1970-01-01.
        weekdays: the days of the week on which the dates fall, 0 for Monday.
        times: the times of the day, increasing, as fractions of a day; (0,) where values are dates alone.
        shares: the share of the values at each time; without it, times are quantiles at equal distances, and others
            between them occur.

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
    times: tuple[float, ...] = (0.0,)
    shares: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        whole = all(isinstance(v, int) for v in (self.months, self.day, self.days, self.first, *self.weekdays))
        sizes = whole and self.months >= 0 and self.days >= 0 and 1 <= self.day <= 31
        valid = sizes and set(self.weekdays) <= set(range(7)) and self._has_valid_times()
        if not valid or not (self.months or self.days or self.weekdays or self.times != (0.0,)):
            raise damaged("has a column without a valid calendar")

    def _has_valid_times(self) -> bool:
        times, shares = (np.array(each, dtype=np.float64) for each in (self.times, self.shares))
        ordered = times.ndim == 1 and len(times) > 0 and np.isfinite(times).all() and (np.diff(times) >= 0).all()
        if not ordered or not 0 <= times[0] <= times[-1] < 1:
            return False
        if not len(shares):
            return len(times) > 1
        return len(shares) == len(times) and bool((shares > 0).all()) and abs(shares.sum() - 1) < 1e-6

    def snap(self, numbers: np.ndarray, ends: tuple[float, float] | None = None) -> np.ndarray:
        """The values of the calendar for any numbers, ``[N]`` float64 days; a value of the calendar stays as it is, and
        NaN stays NaN.

        Dates of months, and those some days apart, are the nearest ones. Days of the week share the week, and times
        share the day, so that numbers spread evenly over weeks and days stay so over the values; in the first and the
        last day between ``ends``, over the times between them.
        """
        x = np.nan_to_num(np.asarray(numbers, dtype=np.float64))
        several = len(self.times) > 1
        whole = x if ends is None or not self.shares or self.weekdays else self._over_days(x, *ends)
        day, rest = (np.floor(whole), whole - np.floor(whole)) if several else (x - self.times[0], x)
        if self.months:
            found = self._of_months(day)
        elif self.days:
            found = self.first + np.rint((day - self.first) / self.days) * self.days
        elif self.weekdays:
            found, rest = self._of_weeks(x if several else day + 0.5)
        else:
            found = day if several else np.rint(day)
        found = found + (self._time(rest) if several else self.times[0])
        return np.where(np.isnan(numbers), np.nan, np.where(self._is_on(x), x, found))

    def spread(self, step: float) -> tuple[float, float] | None:
        """(length, start) of the periods over which :meth:`snap` keeps numbers evenly spread; None if it takes each
        number to the nearest value. A period starts half a ``step``, the width of a place, before its first value."""
        several, monday = len(self.times) > 1, 4.0  # 1970-01-05
        if self.months or self.days or not (self.weekdays or several):
            return None
        start = -step / 2 if several else self.times[0] - 0.5
        return (7.0, monday + start) if self.weekdays else (1.0, start)

    def _of_weeks(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(date, position from 0 to 1 within the day's share of the week) of numbers, with each week stretched over
        these days alone."""
        kept = np.array(self.weekdays)
        monday = np.floor((x + 3) / 7) * 7 - 3  # 1970-01-01 was a Thursday
        place = (x - monday) / 7 * len(kept)
        which = np.floor(place).clip(0, len(kept) - 1).astype(np.int64)
        return monday + kept[which], (place - which).clip(0, 1)

    def _over_days(self, x: np.ndarray, low: float, high: float) -> np.ndarray:
        """Numbers moved so that all lie between two ends. If only part of the first or last day lies between them, its
        numbers move to that part's share of the day."""
        first, last = math.floor(low + TENTH), math.floor(high - TENTH)
        total = np.append(0.0, np.cumsum(self.shares))
        below, above = total[np.searchsorted(self.times, [max(low - first, 0.0), high - last])]
        at, to = [low, first + 1, last, high], [first + below, first + 1, last, last + above]
        return np.interp(x, at, to) if first < last else np.interp(x, at[::3], to[::3])

    def _time(self, share: np.ndarray) -> np.ndarray:
        """The time of the day below which lies this share of the values."""
        if self.shares:
            place = np.searchsorted(np.cumsum(self.shares), share, "right")
            return np.array(self.times)[place.clip(0, len(self.times) - 1)]
        return np.interp(share, (np.arange(len(self.times)) + 0.5) / len(self.times), self.times)

    def _is_on(self, x: np.ndarray) -> np.ndarray:
        """Whether numbers are values of the calendar, to a tenth of a second."""
        if not self.shares:
            return np.zeros(x.shape, bool)
        day = np.floor(x + TENTH / 2)
        near = np.abs(nearest(self.times, x - day) - (x - day)) <= TENTH / 2
        if self.months:
            return near & (self._of_months(day) == day)
        if self.days:
            return near & ((day - self.first) % self.days == 0)
        return near & np.isin((day.astype(np.int64) + 3) % 7, self.weekdays or range(7))

    def following(self, numbers: np.ndarray) -> np.ndarray:
        """For each number ``[N]``, the smallest value of the calendar that is not below it."""
        times, x = np.array(self.times if self.shares else (0.0,)), np.nan_to_num(numbers)
        day = np.floor(x + TENTH)
        place = np.searchsorted(times, x - day - TENTH)
        day, place = np.where(place == len(times), day + 1, day), place % len(times)
        if self.months or self.days or self.weekdays:
            dates = dataclasses.replace(self, times=(0.0,), shares=(1.0,))
            for _ in range(FURTHEST):  # the date after a nearest one is at least as far
                on = dates.snap(day)
                if not (off := on != day).any():
                    break
                ahead = day + 1 if self.weekdays else np.where(on > day, on, 2 * day - on)
                day, place = np.where(off, ahead, day), np.where(off, 0, place)
        return np.where(np.isnan(numbers), np.nan, day + times[place] if self.shares else np.maximum(day, x))

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
        """Say in words when the values fall.

        >>> Calendar(months=1).describe(), Calendar(months=3, day=31).describe(), Calendar(days=7, first=4).describe()
        ('first of every month', 'last of every third month', 'every 7 days')
        >>> Calendar(weekdays=(5, 6), times=(0.375, 0.75), shares=(0.5, 0.5)).describe()
        'on Saturdays, Sundays, at 09:00, 18:00'
        """
        return ", ".join(filter(None, [self._dates_in_words(), self._times_in_words()]))

    def _dates_in_words(self) -> str:
        if self.months:
            names = {1: "month", 3: "third month", 12: "year's month"}
            which = {1: "first", 31: "last"}.get(self.day, f"day {self.day}")
            return f"{which} of every {names.get(self.months, f'{self.months} months')}"
        if self.days:
            return f"every {self.days} days"
        return "on " + ", ".join(WEEKDAYS[day] for day in self.weekdays) if self.weekdays else ""

    def _times_in_words(self) -> str:
        if self.times == (0.0,):
            return ""
        clock = [f"{round(t * 1440) // 60:02d}:{round(t * 1440) % 60:02d}" for t in self.times]
        return f"at {', '.join(clock)}" if len(clock) <= 3 else f"from {clock[0]} to {clock[-1]}"

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


def calendar_of(values: np.ndarray, seen: np.ndarray | None = None, step: float | None = None) -> Calendar | None:
    """The calendar that values ``[N]``, in days since 1970-01-01, follow; None if they follow none.

    Args:
        values: dates, or dates with times of the day.
        seen: how often each occurs, once without it.
        step: the grid of the times, in days, if there is one.

    >>> starts = np.arange("2019-01", "2022-01", dtype="datetime64[M]").astype("datetime64[D]").astype(float)
    >>> calendar_of(starts).describe(), calendar_of(starts[::3]).describe(), calendar_of(np.arange(20.0))
    ('first of every month', 'first of every third month', None)
    >>> calendar_of(starts + 0.375).describe()
    'first of every month, at 09:00'
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return None
    seen = np.ones(len(values)) if seen is None else seen
    days = np.floor(values + TENTH)
    found = _dates_of(np.unique(days))
    times = _times_of(np.clip(values - days, 0.0, None), seen, len(np.unique(days)), step)
    return dataclasses.replace(found, **times) if found else Calendar(**times) if times else None


def _dates_of(whole: np.ndarray) -> Calendar | None:
    """The calendar of distinct dates, increasing."""
    if len(whole) < LEAST:
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


def _times_of(times: np.ndarray, seen: np.ndarray, dates: int, step: float | None) -> dict[str, Any]:
    """Times of the day and their shares, as fields of a calendar. None if they are spread evenly over the day, or if
    there are so few dates that the column's own margin holds them."""
    distinct, index = np.unique(np.round(times / TENTH), return_inverse=True)
    distinct = distinct * TENTH
    if len(distinct) == 1:
        return {"times": (float(times.mean()),)} if distinct[0] else {}
    shares = np.bincount(index, seen) / seen.sum()
    total = np.cumsum(shares)
    even = np.minimum(distinct + (step or 0.0), 1.0)
    distance = max(np.abs(total - even).max(), np.abs(total - shares - distinct).max())
    if dates < LEAST_TIMES or distance < 2 / math.sqrt(seen.sum()):
        return {}
    if len(distinct) <= MOST_TIMES:
        exact = np.array([times[index == i][0] for i in range(len(distinct))]) if step is None else distinct
        return {"times": tuple(exact.tolist()), "shares": tuple(shares.tolist())}
    at = (np.arange(MOST_TIMES) + 0.5) / MOST_TIMES
    return {"times": tuple(distinct[np.searchsorted(total, at)].tolist()), "shares": ()}


def possible_endings(values: np.ndarray, step: float, can: np.ndarray, first: float = 0.0) -> np.ndarray:
    r"""Mask ``[places]`` of the places within a whole number that values can have. It starts from the places that
    ``can`` occur, and drops the longest run without a value, then every other place without one, if chance does not
    explain the gap.

    If values were spread evenly within each whole number, all N distinct ones would leave out some a of m places with a
    probability of at most :math:`\binom{m}{a} (1 - a/m)^N`, and a run of that length with at most :math:`m (1 -
    a/m)^N`. N does not count the two whole numbers with the most values, whose density need not be even. With fewer
    than ``LEAST_WHOLE`` whole numbers it need not be even in any, so there the longest run must begin and end at once.

    Args:
        values: distinct, ``[N]``, ``first`` and multiples of the step.
        step: one over the number of places.
        can: mask of the places that endings with fewer digits allow.
        first: the lowest place.

    >>> clock = np.add.outer(np.arange(24), np.arange(60) / 100).ravel()
    >>> int(possible_endings(clock, 0.01, np.ones(100, bool)).sum())
    60
    """
    whole, place = _places(values, step, len(can), first)
    per_whole = np.sort(np.unique(whole, return_counts=True)[1])
    left, per_place = int(per_whole[:-2].sum()), np.bincount(place, minlength=len(can))
    occurs, kept = per_place > 0, np.flatnonzero(can)
    if len(per_whole) < LEAST or not occurs[kept].any():
        return can
    there = np.flatnonzero(occurs[kept])
    runs = np.diff(np.append(there, there[0] + len(kept))) - 1
    longest = int(runs.argmax())
    others = np.roll(kept, -int(there[longest]) - 1)[runs[longest] :]
    if len(per_whole) < LEAST_WHOLE and not _has_edges(per_place[others]):
        return can
    if _is_no_accident(len(kept), int(runs[longest]), left, math.log(len(kept))):
        kept = others
    missing = int((~occurs[kept]).sum())
    ways = math.lgamma(len(kept) + 1) - math.lgamma(missing + 1) - math.lgamma(len(kept) - missing + 1)
    if _is_no_accident(len(kept), missing, left, ways):
        kept = kept[occurs[kept]]
    return np.isin(np.arange(len(can)), kept)


def _has_edges(values: np.ndarray) -> bool:
    """Whether the places near both ends, wide enough to expect about ten values, hold about as many ``values`` as the
    others that occur."""
    few = math.ceil(10 / values.mean())
    return bool(min(values[:few].mean(), values[-few:].mean()) >= 0.3 * values[values > 0].mean())


def _is_no_accident(places: int, missing: int, values: int, ways: float) -> bool:
    """Whether chance fails to explain that this many values leave out ``missing`` places, chosen in one of
    exp(``ways``) ways."""
    return 0 < missing < places and ways + values * math.log1p(-missing / places) < -CHANCE


def _places(values: np.ndarray, step: float, count: int, first: float) -> tuple[np.ndarray, np.ndarray]:
    """(whole number below each value, number of the place within it)."""
    whole = np.floor(values - first + step / 2)
    return whole, np.rint((values - first - whole) / step).astype(np.int64) % count


def endings_of(
    values: np.ndarray, seen: np.ndarray, step: float, can: np.ndarray, first: float = 0.0, *, is_certain: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Places within a whole number, and their shares, as fields of a calendar; none if all possible places are equally
    frequent. With few rows, places that are not frequent share what is left.

    Args:
        values: ``[N]``, ``first`` and multiples of the step.
        seen: how often each occurs.
        step: one over the number of places.
        can: mask of the places that can occur.
        first: the lowest place.
        is_certain: whether a law is wanted even if all possible places are equally frequent.
    """
    whole, place = _places(values, step, len(can), first)
    count, rows = int(can.sum()), float(seen.sum())
    shares = np.bincount(place, seen, len(can)) / rows
    if rows < ROWS_OF_PLACE * count:
        even = rows / count
        often = shares * rows >= max(5.0, 0.005 * rows, even + 4 * math.sqrt(even + 1))
        rest = can & ~often
        if not is_certain and not (rest.any() and often.any()):
            return {}
        left = (1 - shares[often].sum()) / max(1, rest.sum())
        shares = np.where(often, shares, np.where(rest & (left * rest.sum() > 0.01), left, 0.0))
        shares /= shares.sum()
    distance = np.abs(np.cumsum(shares) - np.cumsum(can) / count).max()
    if not is_certain and (len(np.unique(whole)) < LEAST_TIMES or distance < 2 / math.sqrt(rows)):
        return {}
    kept = np.flatnonzero(shares)
    times = np.round(first + kept * step, 12)
    return {"times": tuple(times.tolist()), "shares": tuple(np.round(shares[kept], 15).tolist())}


SCALE = math.sqrt(3) / math.pi  # the scale of a logistic with variance 1
SAME = 2.0**-22  # relative distance to an atom within which a number that went through float32 is that atom


@dataclass(frozen=True)
class Law:
    """Atoms, a grid and a margin, as seen in the data that a model is fitted to.

    The margin is an increasing map T from values to scores. Scores of values other than atoms roughly follow a logistic
    distribution with variance 1.

    Args:
        knots: increasing values; the first and the last are the ends of the range, half a step wider on a grid.
        scores: T(knots), increasing; T is linear between knots.
        atoms: values with a mass of their own, increasing.
        step: the grid: nearly all values other than atoms are ``origin`` and multiples of it; None if there is no grid.
        is_complete: whether only atoms were seen, so that no other value is drawn.
        calendar: for dates, the calendar on which they fall; for numbers, how often each ending (last digits) occurs,
            as a place within a ``period`` in the way that a time is a place within a day.
        places: increasing values that are the only ones drawn, if they lie on no grid and none is an atom; each gets
            the margin's mass between the midpoints to its neighbours.
        floor: a number below which the column has no mass; None if values below the range are possible.
        origin: a place of the grid, at least 0 and below the step.
        period: the unit of ``calendar``, 1 (day) for dates.

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
    origin: float = 0.0
    period: float = 1.0

    def __post_init__(self) -> None:
        every = [*self.knots, *self.scores, *self.atoms, *self.places, self.origin, min(self.step or 1.0, self.period)]
        numbers = np.array(every, dtype=np.float64)
        increasing = all(np.all(np.diff(each) > 0) for each in (self.knots, self.scores, self.atoms, self.places))
        pairs = len(self.scores) == len(self.knots) >= 2 and (not self.places or len(self.places) > 1)
        if not (pairs and increasing and np.isfinite(numbers).all() and numbers[-1] > 0):
            raise damaged("has a column without a valid law")

    @property
    def low(self) -> float:
        """The smallest value other than an atom."""
        return self.places[0] if self.places else float(self._placed(self.knots[0] + (self.step or 0.0) / 2))

    @property
    def high(self) -> float:
        """The largest value other than an atom."""
        return self.places[-1] if self.places else float(self._placed(self.knots[-1] - (self.step or 0.0) / 2))

    def _placed(self, x: Any) -> Any:
        """The places of the grid nearest to numbers; the numbers where there is no grid."""
        if self.step is None:
            return x
        k, many = np.rint((x - self.origin) / self.step), round(1 / self.step, 6)
        is_fraction = many > 0 and abs(many * self.step - 1) < 1e-12  # a quotient is exact where a product is not
        return self.origin + (k / many if is_fraction else k * self.step)

    @property
    def apart(self) -> tuple[bool, ...]:
        """For each atom, whether it lies outside the range of the other values, like a code such as -999."""
        return tuple(not self.knots[0] <= atom <= self.knots[-1] for atom in self.atoms)

    @property
    def codes(self) -> tuple[float, ...]:
        """Atoms that may be codes such as -999, because their distance from the other values exceeds the range of
        those."""
        width = self.high - self.low
        far = tuple(a for a in self.atoms if max(self.low - a, a - self.high) > width > 0)
        return far if len(far) <= 3 and not self.is_complete else ()

    def endings(self, values: np.ndarray, most: int = 3) -> str:
        """The most frequent last digits of values ``[N]``, in words; "" if the law has all endings equally frequent.

        >>> law = Law((0.5, 900.5), (-2.0, 2.0), step=0.01, calendar=Calendar(times=(0.0, 0.99), shares=(0.5, 0.5)))
        >>> law.endings(np.array([1.99, 2.0, 4.99, 7.99, 8.99]))
        '80% end in .99, 20% in .00'
        """
        if self.calendar is None or self.step is None:
            return ""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        width = round(math.log10(self.period)) + digits + bool(digits)
        numbers = np.rint((values - self.origin) / self.step) % round(self.period / self.step)
        places, seen = np.unique(numbers, return_counts=True)
        often = np.argsort(-seen, kind="stable")[:most]
        often = often[seen[often] > 0.02 * len(values)]
        shown = [f"{self.origin + places[i] * self.step:0{width}.{digits}f}" for i in often]
        words = [f"{seen[i] / len(values):.0%}{' end' * (not rank)} in {text}"
                 for rank, (i, text) in enumerate(zip(often, shown))]  # fmt: skip
        if not words and len(self.calendar.times) < round(self.period / self.step):
            ends = (f"{self.calendar.times[i] * self.period:0{width}.{digits}f}" for i in (0, -1))
            words = [f"{len(self.calendar.times)} endings from {' to '.join(ends)}"]
        return ", ".join(words).replace(" in 0.", " in .") if self.period == 1 else ", ".join(words)

    @cached_property
    def solid(self) -> np.ndarray:
        """The places of the grid, as multiples of the step, that have a piece of the margin of their own."""
        at = (np.array(self.knots) - self.origin) / (self.step or 1.0)
        own = np.abs(np.diff(at) - 1.0) < 1e-6
        return np.rint((at[:-1] + 0.5)[own])

    def is_solid(self, numbers: np.ndarray) -> np.ndarray:
        """Whether the place of each number ``[N]`` has a piece of the margin of its own, so that the margin knows how
        often it occurs."""
        if self.step is None:
            return np.zeros(len(numbers), bool)
        return np.isin(np.rint((numbers - self.origin) / self.step), self.solid)

    def snap(self, numbers: np.ndarray, within: tuple[float, float] | None = None) -> np.ndarray:
        """The value that the column can hold nearest to each number ``[N]``, in its range or ``within`` another one
        (low, high); NaN stays NaN."""
        x = np.clip(numbers, *(within or (self.low, self.high)))
        if self.calendar is not None:
            ends = None if within else (self.knots[0] / self.period, self.knots[-1] / self.period)
            there = self.calendar.snap(x / self.period, ends) * self.period
            there = there if within else np.clip(there, self.low, self.high)
            x = np.where(self.is_solid(x), x, there)
        x = self._placed(x)
        if self.places:
            x = np.where(np.isnan(x), x, nearest(self.places, x))
        if not self.atoms:
            return x
        atom = nearest(self.atoms, numbers)
        is_atom = np.abs(numbers - atom) <= SAME * np.abs(atom)
        return np.where(np.isnan(numbers), np.nan, np.where(is_atom | self.is_complete, atom, x))

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
            origin = float(fields.get("origin", 0.0))
            more = origin, float(fields.get("period", 1.0))
            return cls(knots, scores, atoms, step, bool(fields["is_complete"]), calendar, places, floor, *more)
        except (KeyError, TypeError, ValueError):
            raise damaged("has a column without a valid law") from None


def edges(values: np.ndarray) -> np.ndarray:
    """The edges ``[n + 1]`` around increasing values ``[n]``: the midpoints, and one edge beyond each end at the same
    distance.

    >>> edges(np.array([1.0, 2.0, 4.0]))
    array([0.5, 1.5, 3. , 5. ])
    """
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([2 * values[:1] - middles[:1], middles, 2 * values[-1:] - middles[-1:]])
