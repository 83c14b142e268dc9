"""The law of a numeric column: its atoms, its grid or calendar, and how other values are spread."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latens.errors import damaged
from latens.schema.ranges import nearest

LEAST, LEAST_WEEK = 5, 30  # the fewest distinct dates that show a recurrence, or that certain weekdays are left out
LEAST_WHOLE = 20  # over at least this many whole numbers, a smooth density is nearly even within each of them
LEAST_TIMES = 60  # with fewer dates, the column's margin resolves the times of the day itself
MOST_TIMES = 1440  # at most this many distinct times of the day are kept
ROWS_OF_PLACE = 25  # with at least this many rows per place, the shares of all places in a period are estimated
CHANCE = 14.0  # nats: a coarser grid, or the absence of some of its places, is chance in one of a million columns
MOST_ENDINGS = 10_000  # only in a period with up to this many places can some places be impossible
FURTHEST = 64  # the next date of a calendar is searched for this many times
TENTH = 0.1 / 86_400  # a tenth of a second, in days
LEAST_DIGITS = 7  # values with this many digits after the point count as numbers on no grid
PARTLY_ROUNDED = 0.05  # the least share of rounded values, and of others, in a column of which a part is rounded
CYCLES = {"year": 12, "week": 7, "day": 24}  # the largest number of phases of each cycle: months, days, hours
PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # the length of each cycle in days
LEAST_YEARS = 1.25  # a cycle of years is seen in at least this many years
LEAST_IN_CYCLES = 100  # the fewest rows for which cycles are modelled
WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


@dataclass(frozen=True)
class Calendar:
    """The dates and times of day on which the values of a column fall, in days since 1970-01-01.

    Args:
        months: the number of months between dates, counted from ``first``; 0 if the dates do not follow the months.
        day: the day of the month; 31 is the last day of any month.
        days: the number of days between dates, counted from ``first``; 0 if the distance varies.
        first: the first date, in months since 1970-01 or in days since 1970-01-01.
        weekdays: the days of the week on which the dates fall, 0 for Monday.
        times: the times of the day, increasing, as fractions of a day; (0,) if values are dates without a time.
        shares: the share of the values at each time. If it is empty, the times are evenly spaced quantiles, and other
            times between them occur too.

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

    def snap(
        self, numbers: np.ndarray, ends: tuple[float, float] | None = None, cycles: Sequence[str] = (),
        shift: float = 0.0, hours: int = 24,
    ) -> np.ndarray:  # fmt: skip
        """The values of the calendar for any numbers, ``[N]`` float64 days. A value of the calendar stays as it is, and
        NaN stays NaN.

        A calendar of months, or of every few days, takes each number to the nearest date. With days of the week or
        times of the day, the week is divided among its days, and the day among its times, in proportion to their
        shares; so numbers that spread evenly over weeks and days spread over the values by their shares. In the first
        and the last day between ``ends``, only the times between the ends count.

        With ``cycles``, numbers stay in their month, day or hour if the calendar has a value there; each of the
        ``hours`` of a day is then divided among its times. A day begins ``shift`` before midnight.
        """
        x = np.nan_to_num(np.asarray(numbers, dtype=np.float64))
        several = len(self.times) > 1
        if cycles:
            day = np.floor(x + shift)
            rest = x + shift - day
            rest = self.within_hours(rest, shift, hours) if several and "day" in cycles else rest
        else:
            whole = x if ends is None or not self.shares or self.weekdays else self._over_days(x, *ends)
            day, rest = (np.floor(whole), whole - np.floor(whole)) if several else (x - self.times[0], x)
        if self.weekdays and "week" not in cycles:
            found, rest = self._of_weeks(x if several else day + 0.5)
        else:
            found = self._date(day, cycles, several)
        found = found + (self._time(rest) if several else self.times[0])
        return np.where(np.isnan(numbers), np.nan, np.where(self.is_on(x), x, found))

    def _date(self, day: np.ndarray, cycles: Sequence[str], several: bool) -> np.ndarray:
        """The date to which each day is taken, if no week is divided."""
        if self.months:
            return self._of_months(day, "year" in cycles)
        if self.days:
            return self.first + np.rint((day - self.first) / self.days) * self.days
        if self.weekdays:
            return day + self.to_weekday()[(day.astype(np.int64) + 3) % 7]
        return day if several else np.rint(day)

    def within_hours(self, rest: np.ndarray, shift: float = 0.0, hours: int = 24) -> np.ndarray:
        """Positions from 0 to 1 within the day, moved within each hour to the part of the shares that belongs to it."""
        edges = np.arange(hours + 1) / hours
        times = np.array(self.times) + shift
        if self.shares:
            total = np.append(0.0, np.cumsum(self.shares))
            return np.interp(rest, edges, total[np.searchsorted(times, edges - TENTH)])
        quantiles = (np.arange(len(times)) + 0.5) / len(times)
        return np.interp(rest, edges, np.interp(edges, times, quantiles))

    def to_weekday(self) -> np.ndarray:
        """For each day of the week, from Monday, the number of days to the nearest one of the calendar, ``[7]``."""
        ahead = np.subtract.outer(self.weekdays, np.arange(7)).T
        ahead = (ahead + 3) % 7 - 3
        return np.take_along_axis(ahead, np.abs(ahead).argmin(1)[:, None], 1)[:, 0]

    def spread(self, step: float) -> tuple[float, float] | None:
        """(length, start) of the periods over which :meth:`snap` spreads even numbers by shares; None if it takes each
        number to the nearest value. A period starts half a ``step`` (the width of a place) before its first value."""
        several, monday = len(self.times) > 1, 4.0  # 1970-01-05
        if self.months or self.days or not (self.weekdays or several):
            return None
        start = -step / 2 if several else self.times[0] - 0.5
        return (7.0, monday + start) if self.weekdays else (1.0, start)

    def _of_weeks(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(date, position from 0 to 1 within the part of the week that belongs to the date) of each number: the
        calendar's weekdays divide the week evenly among them."""
        kept = np.array(self.weekdays)
        monday = np.floor((x + 3) / 7) * 7 - 3  # 1970-01-01 was a Thursday
        place = (x - monday) / 7 * len(kept)
        which = np.floor(place).clip(0, len(kept) - 1).astype(np.int64)
        return monday + kept[which], (place - which).clip(0, 1)

    def _over_days(self, x: np.ndarray, low: float, high: float) -> np.ndarray:
        """Numbers moved so that all lie between two ends. If only part of the first or the last day lies between the
        ends, its numbers move to the part of the day that belongs to those times."""
        first, last = math.floor(low + TENTH), math.floor(high - TENTH)
        total = np.append(0.0, np.cumsum(self.shares))
        below, above = total[np.searchsorted(self.times, [max(low - first, 0.0), high - last])]
        at, to = [low, first + 1, last, high], [first + below, first + 1, last, last + above]
        return np.interp(x, at, to) if first < last else np.interp(x, at[::3], to[::3])

    def _time(self, share: np.ndarray) -> np.ndarray:
        """The time of day below which this share of the values lies."""
        if self.shares:
            place = np.searchsorted(np.cumsum(self.shares), share, "right")
            return np.array(self.times)[place.clip(0, len(self.times) - 1)]
        return np.interp(share, (np.arange(len(self.times)) + 0.5) / len(self.times), self.times)

    def is_on(self, x: np.ndarray) -> np.ndarray:
        """Whether numbers are values of the calendar, up to a tenth of a second."""
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
            for _ in range(FURTHEST):  # the next date is at least as far away as the nearest one
                on = dates.snap(day)
                if not (off := on != day).any():
                    break
                ahead = day + 1 if self.weekdays else np.where(on > day, on, 2 * day - on)
                day, place = np.where(off, ahead, day), np.where(off, 0, place)
        return np.where(np.isnan(numbers), np.nan, day + times[place] if self.shares else np.maximum(day, x))

    def preceding(self, numbers: np.ndarray) -> np.ndarray:
        """For each number ``[N]``, the largest value not above it, for a calendar of times (or endings) alone."""
        times = np.array(self.times)
        day = np.floor(np.nan_to_num(numbers) + TENTH)
        place = np.searchsorted(times, np.nan_to_num(numbers) - day + TENTH, "right") - 1
        return np.where(np.isnan(numbers), np.nan, np.where(place < 0, day - 1, day) + times[place])

    @property
    def has_times_alone(self) -> bool:
        """Whether any day is possible, at certain times (or any whole number, with certain endings)."""
        return bool(self.shares) and not (self.months or self.days or self.weekdays)

    def _of_months(self, x: np.ndarray, own: bool = False) -> np.ndarray:
        """The nearest date; with ``own``, the date of the month itself or of the last month before it that has one."""
        month = np.floor(x).astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        below = self.first + (month - self.first) // self.months * self.months
        if own:
            return self._day(below).astype(np.float64)
        either = np.stack([self._day(below - self.months), self._day(below), self._day(below + self.months)])
        return np.take_along_axis(either, np.abs(either - x).argmin(0)[None], 0)[0].astype(np.float64)

    def _day(self, month: np.ndarray) -> np.ndarray:
        first = month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        length = (month + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - first
        return first + np.minimum(self.day, length) - 1

    def describe(self) -> str:
        """When the values fall, in words.

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
    """The calendar that values ``[N]``, in days since 1970-01-01, follow; None if they follow no calendar.

    Args:
        values: dates, or dates with times of the day.
        seen: how often each value occurs; once each by default.
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


def cycles_of(values: np.ndarray, seen: np.ndarray, law: Law) -> tuple[str, ...]:
    """The cycles of ``CYCLES`` that dates ``[N]``, in days since 1970-01-01, go through.

    A cycle counts if the dates span several of its periods and differ in its phases. There must be ``LEAST_IN_CYCLES``
    rows.

    Args:
        values: distinct dates, increasing.
        seen: how often each occurs.
        law: their grid and calendar.

    >>> days, daily = np.arange(0.0, 1000.0), Law((-0.5, 999.5), (-2.0, 2.0), step=1.0)
    >>> cycles_of(days, np.ones(1000), daily)
    ('year', 'week')
    >>> cycles_of(days[:300] / 24, np.ones(300), dataclasses.replace(daily, step=1 / 24))
    ('day',)
    """
    if len(values) < 2 or seen.sum() < LEAST_IN_CYCLES:
        return ()
    span, phases = values[-1] - values[0], dataclasses.replace(law, cycles=tuple(CYCLES)).in_cycles(values)
    spans = {
        "year": span / 365.25 >= LEAST_YEARS, "week": span >= 21 and not (law.calendar and law.calendar.months),
        "day": span >= 3,
    }  # fmt: skip
    return tuple(cycle for cycle, holds in spans.items() if holds and len(np.unique(phases[cycle])) > 1)


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
    """Times of the day and their shares, as fields of a calendar. Empty if times are spread evenly over the day, or if
    there are so few dates that the column's margin resolves the times itself."""
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
        exact = np.array([times[index == i][0] for i in range(len(distinct))]) if (step or 0.0) < TENTH else distinct
        return {"times": tuple(exact.tolist()), "shares": tuple(shares.tolist())}
    at = (np.arange(MOST_TIMES) + 0.5) / MOST_TIMES
    return {"times": tuple(distinct[np.searchsorted(total, at)].tolist()), "shares": ()}


def possible_endings(values: np.ndarray, step: float, can: np.ndarray, first: float = 0.0) -> np.ndarray:
    r"""Mask ``[places]`` of the places within a whole number that values can have. The search starts from the places
    that ``can`` occur. It drops the longest run of places without a value, then all other places without one, each time
    only if chance does not explain the gap.

    Suppose that values were spread evenly within each whole number. Then all N distinct values would leave out some a
    of m places with a probability of at most :math:`\binom{m}{a} (1 - a/m)^N`, and a run of a places with at most
    :math:`m (1 - a/m)^N`. N does not count the two whole numbers with the most values, whose density need not be even.
    With fewer than ``LEAST_WHOLE`` whole numbers the density need not be even in any, so the longest run must then
    have sharp edges.

    Args:
        values: distinct values ``[N]``: ``first`` plus multiples of the step.
        step: one over the number of places.
        can: mask of the places that endings with fewer digits permit.
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
    """Whether the first and the last places hold about as many ``values`` as the other places that occur. As many
    places are compared as are expected to hold about ten values."""
    few = math.ceil(10 / values.mean())
    return bool(min(values[:few].mean(), values[-few:].mean()) >= 0.3 * values[values > 0].mean())


def _is_no_accident(places: int, missing: int, values: int, ways: float) -> bool:
    """Whether chance cannot explain that this many values leave out ``missing`` places, which could be chosen in
    exp(``ways``) ways."""
    return 0 < missing < places and ways + values * math.log1p(-missing / places) < -CHANCE


def _places(values: np.ndarray, step: float, count: int, first: float) -> tuple[np.ndarray, np.ndarray]:
    """(whole number below each value, number of the place within the whole number)."""
    whole = np.floor(values - first + step / 2)
    return whole, np.rint((values - first - whole) / step).astype(np.int64) % count


def place_of(values: np.ndarray, step: float, count: int, first: float) -> np.ndarray:
    """The number of the place of each value ``[N]`` within its whole number, of ``count`` places."""
    return _places(values, step, count, first)[1]


Levels = Sequence[tuple[float, np.ndarray]]  # (period, mask of its places that can occur), the shortest first


def endings_of(
    values: np.ndarray, seen: np.ndarray, levels: Levels, origin: float, usual: np.ndarray, *,
    is_certain: bool = False,
) -> np.ndarray | None:  # fmt: skip
    """The shares ``[places]`` of the places within the last period; None if they are as ``usual``. With few rows, only
    places that are more frequent than usual get a separate share. The shares of the other places then follow from
    their last digits, the places within shorter periods.

    Args:
        values: ``[N]``, on the grid.
        seen: how often each value occurs.
        levels: the periods and their places.
        origin: the lowest place of the grid.
        usual: the shares that shorter periods suggest, 0 for places that cannot occur.
        is_certain: whether shares are wanted even if they are as usual.
    """
    period, can = levels[-1]
    whole, place = _places(values / period, 1 / len(can), len(can), origin / period)
    rows = float(seen.sum())
    shares = np.bincount(place, seen, len(can)) / rows
    if rows < ROWS_OF_PLACE * can.sum():
        often = shares * rows >= np.maximum(max(5.0, 0.005 * rows), _well_above(rows * usual))
        rest = can & ~often
        if not is_certain and not (rest.any() and often.any()):
            return None
        left, others = 1 - shares[often].sum(), rest[place]
        if often.any() and others.any():
            usual = usual_endings(values[others], seen[others], levels[:-1], origin, rest)
        shares = np.where(often, shares, left * usual * rest / max(1e-300, usual[rest].sum()) if left > 0.01 else 0.0)
        shares /= shares.sum()
    distance = np.abs(np.cumsum(shares - usual)).max()
    is_seen = len(np.unique(whole)) >= LEAST_TIMES or _has_heap(np.bincount(place, seen, len(can)), whole)
    return shares if is_certain or (is_seen and distance >= 2 / math.sqrt(rows)) else None


def usual_endings(
    values: np.ndarray, seen: np.ndarray, levels: Levels, origin: float, can: np.ndarray
) -> np.ndarray:  # fmt: skip
    """The shares ``[places]`` in a longer period, whose places ``can`` occur or not, that shorter periods suggest."""
    usual = np.ones(1)
    for i, (_, own) in enumerate(levels):
        usual = repeated(usual, own)
        shares = endings_of(values, seen, levels[: i + 1], origin, usual)
        usual = usual if shares is None else shares
    return repeated(usual, can)


def repeated(shares: np.ndarray, can: np.ndarray) -> np.ndarray:
    """Shares of the places of a period, repeated over the ``[places]`` of a longer one that ``can`` occur."""
    found = np.where(can, np.resize(shares, len(can)), 0.0)
    return found / found.sum() if found.any() else can / can.sum()


def _well_above(expected: np.ndarray) -> np.ndarray:
    """Counts that exceed the expected ones by four standard errors."""
    return expected + 4 * np.sqrt(expected + 1)


def _has_heap(counts: np.ndarray, whole: np.ndarray) -> bool:
    """Whether one place occurs more often than the others near it, which a smooth density over ``LEAST_WHOLE`` whole
    numbers does not explain."""
    top, reach = int(counts.argmax()), min(5, (len(counts) - 1) // 2)
    near = [counts[(top + k) % len(counts)] for k in range(-reach, reach + 1) if k]
    return bool(near) and len(np.unique(whole)) >= LEAST_WHOLE and counts[top] >= _well_above(2 * np.mean(near))


def rounded_of(values: np.ndarray, seen: np.ndarray) -> tuple[tuple[float, float], ...]:
    """``rounded`` of a :class:`Law` without a grid, for ``values`` ``[N]`` that occur ``seen`` ``[N]`` times; () if
    multiples of powers of ten are rare, or nearly all values are multiples of one. A tenth of the values that are
    rounded to a unit are multiples of ten units by chance, and need no rounding to ten units.

    >>> values = np.append(np.arange(100.0), np.arange(100) + np.sqrt(2) * 0.3)
    >>> rounded_of(values, np.ones(200))
    ((1.0, 0.5),)
    """
    rows, top = float(seen.sum()), math.floor(math.log10(max(1.0, float(np.ptp(values)))))
    units = [10.0**digits for digits in range(1 - LEAST_DIGITS, top + 1)]
    shares = [float(seen[are_multiples(values, unit)].sum()) / rows for unit in units]
    own: list[float] = []  # the share of the values that are rounded to each unit
    for i, (unit, share) in enumerate(zip(units, shares)):
        by_chance = [(part * each / unit) for part, each in zip(own, units)]
        coarser = shares[i + 1] - sum(by_chance) / 10 if i + 1 < len(units) else 0.0
        part = (share - sum(by_chance) - coarser) / 0.9
        own.append(part if part >= max(0.005, LEAST / rows) else 0.0)
    if not PARTLY_ROUNDED <= shares[0] <= 1 - PARTLY_ROUNDED:
        return ()
    pairs, left = [], 1.0
    for unit, part in reversed(list(zip(units, own))):
        if part > 0:
            pairs.append((unit, min(part / left, 0.999)))
            left -= part
    return tuple(pairs)


def are_multiples(values: np.ndarray, unit: float, loose: float = 4 * np.finfo(float).eps) -> np.ndarray:
    """Mask ``[N]`` of the values that are multiples of a power of ten, up to the relative error ``loose``."""
    count = values / unit if unit >= 1 else values * round(1 / unit)
    return np.abs(count - np.rint(count)) <= loose * np.abs(count)


def calendar_of_endings(shares: np.ndarray, step: float, first: float = 0.0) -> Calendar:
    """The calendar of shares ``[places]`` of the places within a whole number."""
    kept = np.flatnonzero(shares)
    times = np.round(first + kept * step, 12)
    return Calendar(times=tuple(times.tolist()), shares=tuple(np.round(shares[kept], 15).tolist()))


SCALE = math.sqrt(3) / math.pi  # the scale of a logistic with variance 1
SAME = 2.0**-22  # a number within this relative distance of an atom is that atom, rounded to float32


def is_value(numbers: Any, values: Any) -> Any:
    """Mask ``[...]`` of the numbers that equal the values, up to the rounding of float32; arrays or tensors."""
    return abs(numbers - values) <= SAME * abs(values)


@dataclass(frozen=True)
class Law:
    """Atoms, a grid and a margin, as seen in the data that a model is fitted to.

    The margin is an increasing map T from values to scores. Scores of values other than atoms roughly follow a logistic
    distribution with variance 1.

    Args:
        knots: increasing values; the first and the last are the ends of the range, half a step wider on a grid.
        scores: T(knots), increasing; T is linear between knots.
        atoms: values that have a probability mass each, increasing.
        step: the grid: nearly all values that are not atoms are ``origin`` plus multiples of the step; None if there is
            no grid.
        is_complete: whether only atoms were seen, so that no other value is drawn.
        calendar: for dates, the calendar on which they fall; for numbers, how often each ending (last digits) occurs,
            as a place within a ``period``, just as a time is a place within a day.
        places: if values lie on no grid and are not atoms, the only values that are drawn, increasing; each gets the
            margin's mass between the midpoints to its neighbours.
        floor: a number below which the column has no mass; None if values below the range are possible.
        origin: a place of the grid, at least 0 and below the step.
        period: the unit of ``calendar``, 1 (day) for dates.
        cycles: for dates, the cycles of ``CYCLES`` whose phases (months, days of the week, hours) can depend on other
            columns.
        rounded: pairs (unit, share), units decreasing: if values lie on no grid, this share of the values that are not
            multiples of an earlier unit are multiples of the unit.

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
    cycles: tuple[str, ...] = ()
    rounded: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        every = [*self.knots, *self.scores, *self.atoms, *self.places, self.origin, min(self.step or 1.0, self.period)]
        numbers = np.array(every, dtype=np.float64)
        increasing = all(np.all(np.diff(each) > 0) for each in (self.knots, self.scores, self.atoms, self.places))
        pairs = len(self.scores) == len(self.knots) >= 2 and (not self.places or len(self.places) > 1)
        cycles = set(self.cycles) <= set(CYCLES)
        shares = all(len(pair) == 2 and pair[0] > 0 and 0 < pair[1] < 1 for pair in self.rounded)
        if not (pairs and increasing and np.isfinite(numbers).all() and numbers[-1] > 0 and cycles and shares):
            raise damaged("has a column without a valid law")

    @property
    def low(self) -> float:
        """The smallest value that is not an atom."""
        return self.places[0] if self.places else float(self._placed(self.knots[0] + (self.step or 0.0) / 2))

    @property
    def high(self) -> float:
        """The largest value that is not an atom."""
        return self.places[-1] if self.places else float(self._placed(self.knots[-1] - (self.step or 0.0) / 2))

    def _placed(self, x: Any) -> Any:
        """The places of the grid nearest to numbers; the numbers themselves if there is no grid."""
        if self.step is None:
            return x
        k, many = np.rint((x - self.origin) / self.step), round(1 / self.step, 6)
        is_fraction = many > 0 and abs(many * self.step - 1) < 1e-12  # then dividing is exact, and multiplying is not
        return self.origin + (k / many if is_fraction else k * self.step)

    @cached_property
    def phases(self) -> dict[str, int]:
        """The number of phases of each cycle; if the grid is coarser than hours, each of its places in a day is a
        phase."""
        hours = CYCLES["day"] if self.step is None else round(min(float(CYCLES["day"]), 1 / self.step))
        return {cycle: hours if cycle == "day" else CYCLES[cycle] for cycle in self.cycles}

    @property
    def shift(self) -> float:
        """How long before midnight a day begins, so that places of the grid do not straddle two days, in days."""
        return 0.0 if self.step is None else min(self.step, 1.0) / 2 - self.origin % min(self.step, 1.0)

    def in_cycles(self, dates: np.ndarray) -> dict[str, np.ndarray]:
        """For each cycle, the number of the phase in which each date ``[N]`` lies; -1 for NaN.

        >>> law = Law((-0.5, 999.5), (-2.0, 2.0), step=1.0, cycles=("year", "week"))
        >>> {cycle: phases.tolist() for cycle, phases in law.in_cycles(np.array([31.0, np.nan])).items()}
        {'year': [1, -1], 'week': [6, -1]}
        """
        moved = np.nan_to_num(dates) + self.shift
        days = np.floor(moved + TENTH)
        months = days.astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        hours = np.floor((moved - days) * self.phases.get("day", 1) + 1e-6)
        found = {"year": months % 12, "week": (days + 3) % 7, "day": np.maximum(hours, 0.0)}
        return {cycle: np.where(np.isnan(dates), -1, found[cycle]).astype(np.int64) for cycle in self.cycles}

    def _on_calendar(self, calendar: Calendar, x: np.ndarray, ends: tuple[float, float] | None) -> np.ndarray:
        return calendar.snap(x, ends, self.cycles, self.shift, self.phases.get("day", CYCLES["day"]))

    @property
    def apart(self) -> tuple[bool, ...]:
        """For each atom, whether it lies outside the range of the other values, like a code such as -999."""
        return tuple(not self.knots[0] <= atom <= self.knots[-1] for atom in self.atoms)

    @property
    def codes(self) -> tuple[float, ...]:
        """Atoms that may be codes such as -999, since their distance from the other values exceeds the range of those
        values."""
        width = self.high - self.low
        far = tuple(a for a in self.atoms if max(self.low - a, a - self.high) > width > 0)
        return far if len(far) <= 3 and not self.is_complete else ()

    def endings(self, values: np.ndarray, most: int = 3) -> str:
        """The most frequent last digits of values ``[N]``, or the units to which a part of them is rounded, in words;
        "" if all endings are equally frequent.

        >>> law = Law((0.5, 900.5), (-2.0, 2.0), step=0.01, calendar=Calendar(times=(0.0, 0.99), shares=(0.5, 0.5)))
        >>> law.endings(np.array([1.99, 2.0, 4.99, 7.99, 8.99]))
        '80% end in .99, 20% in .00'
        """
        if self.calendar is None or self.step is None:
            return ", ".join(f"{share:.0%}{' of the others' * bool(i)} are multiples of {unit:g}"
                             for i, (unit, share) in enumerate(self.rounded))  # fmt: skip
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
        """The places of the grid, as multiples of the step, that have a separate piece of the margin."""
        at = (np.array(self.knots) - self.origin) / (self.step or 1.0)
        own = np.abs(np.diff(at) - 1.0) < 1e-6
        return np.rint((at[:-1] + 0.5)[own])

    def is_solid(self, numbers: np.ndarray) -> np.ndarray:
        """Whether the place of each number ``[N]`` has a separate piece of the margin, which then says how often the
        place occurs."""
        if self.step is None:
            return np.zeros(len(numbers), bool)
        return np.isin(np.rint((numbers - self.origin) / self.step), self.solid)

    def snap(self, numbers: np.ndarray, within: tuple[float, float] | None = None) -> np.ndarray:
        """The nearest value to each number ``[N]`` that the column can hold, in its range or ``within`` another range
        (low, high); NaN stays NaN."""
        x = np.clip(numbers, *(within or (self.low, self.high)))
        if self.calendar is not None:
            ends = None if within else (self.knots[0] / self.period, self.knots[-1] / self.period)
            there = self._on_calendar(self.calendar, x / self.period, ends) * self.period
            there = there if within else np.clip(there, self.low, self.high)
            x = np.where(self.is_solid(x), x, there)
        x = self._placed(x)
        if self.rounded:
            x = np.clip(self._partly_rounded(x), *(within or (self.low, self.high)))
        if self.places:
            x = np.where(np.isnan(x), x, nearest(self.places, x))
        if not self.atoms:
            return x
        is_atom = self.is_atom(numbers) | self.is_complete
        return np.where(np.isnan(numbers), np.nan, np.where(is_atom, nearest(self.atoms, numbers), x))

    def is_atom(self, numbers: np.ndarray) -> np.ndarray:
        """Mask ``[N]`` of the numbers that are atoms."""
        if not self.atoms:
            return np.zeros(len(numbers), bool)
        atom = nearest(self.atoms, numbers)
        return np.asarray(is_value(numbers, atom))

    def evened(self, values: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Values ``[N]`` spread evenly over the numbers that :meth:`snap` takes to them: over the width of their place,
        over the period of a calendar that divides it by shares, or around a multiple of a unit of ``rounded``."""
        u = random.random(len(values))
        if self.rounded:
            unit = self.rounded[-1][0]
            return np.where(are_multiples(values, unit, SAME), values + (u - 0.5) * unit, values)
        if self.step is None:
            return values
        found = values + (u - 0.5) * self.step
        spread = None if self.calendar is None else self.calendar.spread(self.step / self.period)
        if spread is not None:
            length, start = spread[0] * self.period, spread[1] * self.period
            over = start + (np.floor((values - start) / length) + u) * length
            found = np.where(self.is_solid(values), found, over)
        return np.clip(found, self.knots[0], self.knots[-1])

    def _partly_rounded(self, x: np.ndarray) -> np.ndarray:
        """Numbers ``[N]``, a part of which is rounded to each unit: those nearest to its multiples, which are its share
        of the numbers if these spread evenly between multiples. The others spread evenly again. Multiples stay as they
        are.

        >>> law = Law((0.0, 9.0), (-2.0, 2.0), rounded=((1.0, 0.5),))
        >>> law._partly_rounded(np.array([2.9, 3.2, 3.3, 3.5])).round(2).tolist()
        [3.0, 3.0, 3.1, 3.5]
        """
        done = np.isnan(x) | are_multiples(x, self.rounded[-1][0])
        for unit, share in self.rounded:
            whole = np.rint(x / unit)
            off = x / unit - whole
            near = np.abs(off) <= share / 2
            spread = (np.abs(off) - share / 2) / (1 - share) * np.sign(off)
            x = np.where(done, x, np.where(near, self._multiple(whole, unit), (whole + spread) * unit))
            done |= near
        return x

    @staticmethod
    def _multiple(whole: np.ndarray, unit: float) -> np.ndarray:
        """``whole * unit``, for a unit that is a power of ten; below 1, dividing is exact, and multiplying is not."""
        return whole * unit if unit >= 1 else whole / round(1 / unit)

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
            rounded = tuple((float(unit), float(share)) for unit, share in fields.get("rounded", ()))
            more = origin, float(fields.get("period", 1.0)), tuple(map(str, fields.get("cycles", ()))), rounded
            return cls(knots, scores, atoms, step, bool(fields["is_complete"]), calendar, places, floor, *more)
        except (KeyError, TypeError, ValueError):
            raise damaged("has a column without a valid law") from None


def edges(values: np.ndarray) -> np.ndarray:
    """The edges ``[n + 1]`` around increasing values ``[n]``: the midpoints between them, and one more edge beyond each
    end. A value at an end is halfway between its two edges.

    >>> edges(np.array([1.0, 2.0, 4.0])).tolist()
    [0.5, 1.5, 3.0, 5.0]
    """
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([2 * values[:1] - middles[:1], middles, 2 * values[-1:] - middles[-1:]])
