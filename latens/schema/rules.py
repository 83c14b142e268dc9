"""Rules that hold between the columns of a table without exception, and that every generated row satisfies.

A rule removes one column, its *target*, from what is modelled, or replaces it by the part that the rule does not
determine. A total is computed from its parts; an end is modelled as its difference from the start. The density of a row
that satisfies the rules is the density of its remaining columns (the map between the two has Jacobian 1), so it is
normalised over such rows. Three rules keep the target and normalise its likelihood over what the other columns allow: a
rule on combinations of levels (:class:`latens.conditionals.Allowed`), an order whose target has heaps or last digits
that differences would lose (:class:`latens.conditionals.Limited`), and a column that has a value exactly where another
one has certain values (:class:`latens.conditionals.Pins`).

In this module, numbers are ``{column: [N]}`` float64 in the user's units, with codes for levels and NaN for gaps.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from latens.errors import InputError, damaged
from latens.schema.column import CODED, Column
from latens.schema.law import SAME, TENTH, Law, is_value
from latens.schema.ranges import nearest_place

ColumnNumbers = dict[str, np.ndarray]
Fields = Mapping[str, Column]
EXACT = 1e-9  # numbers that differ by less than this fraction of their size count as equal
EXACT_DATES = 1e-11, 1e-15  # the same for dates in days: (a microsecond, a fraction that rounding to float64 explains)


@dataclass(frozen=True)
class Rule:
    """A rule between columns; abstract.

    Args:
        target: the column that the rule determines or bounds.
        sources: the columns that determine or bound it.
        reason: the number of rows in which it holds, and the chance that it would hold by accident.
    """

    target: str
    sources: tuple[str, ...]
    reason: str = ""

    kind: ClassVar[str] = ""
    reproduces: ClassVar[bool] = False  # whether the sources determine the target, so that it is not modelled
    bounds: ClassVar[bool] = False  # whether another quantity is modelled instead of the target

    @property
    def reach(self) -> float:
        """For rules about dates, the number of days to which the target determines the source."""
        return math.inf

    @property
    def text(self) -> str:
        """The rule as a user writes it, for example "start <= end"."""
        raise NotImplementedError

    def left(self, column: Column) -> Column:
        """The column that is modelled instead of the target."""
        return column

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that break the rule. A row in which one of the rule's cells is missing does not
        break it."""
        raise NotImplementedError

    def denied(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that contradict the rule: rows that break it, and rows whose presence in the fit
        would have led to a different rule."""
        return self.broken(u, fields)

    def inward(self, u: ColumnNumbers, fields: Fields) -> None:
        """Convert the user's numbers to what is modelled, in place."""

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Convert what is modelled back to the user's numbers, in place; ``mean`` as in :meth:`Column.decode`.

        Returns:
            Mask ``[N]`` of the rows whose target lies outside the range of the data, or broke the rule; or False.
        """
        return False

    def tell(self, seen: ColumnNumbers, fields: Fields) -> None:
        """Write the missing cells that the other cells of the rule determine, in place."""

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Make rows whose gaps were filled satisfy the rule, in place.

        Args:
            u: the numbers with gaps filled. Only numbers that are missing in ``seen`` are changed.
            seen: the numbers before filling, NaN for gaps; a source that the target determines is written here too.
            fields: the columns by name.
            left: the filled numbers of what is modelled.
        """

    def pull(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Move filled sources in ``u`` to the side of the target seen on which the rule holds, in place."""

    def with_gaps(self, u: ColumnNumbers, before: ColumnNumbers, fields: Fields) -> None:
        """Make drawn gaps satisfy the rule, in place; ``before`` holds the numbers without gaps."""

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write, with the class of the rule under "rule"."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = {k: v.to_json() if isinstance(v, Column) else list(v) if isinstance(v, tuple) else v
                  for k, v in fields.items()}  # fmt: skip
        return {"rule": self.kind} | values

    @staticmethod
    def from_json(fields: Any) -> Rule:
        """The rule, of any class, that :meth:`to_json` wrote; ``InputError`` if the fields are not valid."""
        try:
            own = dict(fields)
            kinds: tuple[type[Rule], ...] = (
                Order, Confined, Function, Intervals, DatePart, DateEdge, Elapsed, Formula, Missing, Pinned,
                Combinations,
            )  # fmt: skip
            kind = {each.kind: each for each in kinds}[own.pop("rule")]
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
            if isinstance(values.get("difference"), dict):
                values["difference"] = Column.from_json(values["difference"])
            return kind(**values)
        except (TypeError, ValueError, KeyError, InputError):
            raise damaged("has a rule that is not valid") from None


def values_of(column: Column, numbers: np.ndarray) -> np.ndarray:
    """The numbers ``[N]`` that codes of levels stand for; numbers of other columns are unchanged."""
    if column.kind not in CODED:
        return numbers
    levels = np.array([float(level) for level in column.levels or ()])
    return np.where(np.isnan(numbers), np.nan, levels[np.nan_to_num(numbers).astype(np.int64).clip(0, len(levels) - 1)])


def levels_as_numbers(column: Column) -> np.ndarray:
    """The levels of a column whose levels are numbers, increasing, ``[levels]``."""
    return np.array(sorted(float(level) for level in column.levels or ()))


def range_of(column: Column) -> tuple[float, float]:
    """The smallest and the largest number that was seen; infinite if unknown."""
    if column.kind in CODED:
        return tuple(levels_as_numbers(column)[[0, -1]].tolist())
    return -np.inf if column.low is None else column.low, np.inf if column.high is None else column.high


def settled_values(column: Column, values: np.ndarray, mean: bool = False) -> np.ndarray:
    """For each value ``[N]``, the nearest number that the column can hold; also for columns of levels."""
    if column.kind not in CODED:
        return column.settled(values, mean=mean)
    levels = levels_as_numbers(column)
    nearest = np.abs(np.nan_to_num(values)[:, None] - levels).argmin(1)
    return np.where(np.isnan(values), np.nan, levels[nearest])


def of_values(column: Column, values: np.ndarray) -> np.ndarray:
    """The codes of levels that are numbers, ``[N]``: the inverse of :func:`values_of`. Other columns are unchanged."""
    if column.kind not in CODED:
        return values
    levels = np.array([float(level) for level in column.levels or ()])
    order = np.argsort(levels)
    place = order[np.searchsorted(levels[order], np.nan_to_num(values)).clip(0, len(levels) - 1)]
    return np.where(np.isnan(values), np.nan, place)


_NONE = Column("", "dropped", "double")


@dataclass(frozen=True)
class Order(Rule):
    r"""Every source <= target (or < if ``strict``). The model has :math:`\text{target} - \max(\text{sources})`, not
    target. If ``falling``, target <= every source, all of which are conditions, and the model has
    :math:`\min(\text{sources}) - \text{target}`; both are then compared with their signs reversed.

    Args:
        difference: the column of that difference, as it was seen in the fit.
        strict: whether equality breaks the rule.
        codes: values of the target that are far from the others, such as 9999-12-31; they are modelled unchanged.
        falling: whether the target is below its sources.
    """

    difference: Column = _NONE
    strict: bool = False
    codes: tuple[float, ...] = ()
    falling: bool = False

    kind: ClassVar[str] = "order"
    bounds: ClassVar[bool] = True

    @property
    def text(self) -> str:
        """The rule as a user writes it, "start <= end"."""
        sides = [", ".join(map(named, self.sources)), named(self.target)]
        return (" < " if self.strict else " <= ").join(sides[::-1] if self.falling else sides)

    @property
    def sign(self) -> float:
        """1, or -1 if ``falling``."""
        return -1.0 if self.falling else 1.0

    def _own(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """The target of each row, with its sign reversed if ``falling``."""
        return self.sign * values_of(fields[self.target], u[self.target])

    def left(self, column: Column) -> Column:
        """The column of the difference."""
        return self.difference

    def _base(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """The largest source of each row, after reversing the signs if ``falling``."""
        values = np.stack([self.sign * values_of(fields[name], u[name]) for name in self.sources])
        return np.fmax.reduce(values, 0)

    @property
    def least(self) -> float:
        """The smallest difference that was seen."""
        return self.difference.low or 0.0

    def _is_code(self, numbers: np.ndarray) -> np.ndarray:
        codes = np.array(self.codes)
        return is_value(numbers[..., None], codes).any(-1)

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows whose target is below a source, or equal to it if ``strict``."""
        base, high = self._base(u, fields), self._own(u, fields)
        with np.errstate(invalid="ignore"):
            slack = EXACT * np.abs(high)
            return (high <= base - slack) | (high == base) if self.strict else high < base - slack

    def denied(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that break the rule, or whose difference lies outside the range seen."""
        self.inward(left := dict(u), fields)
        apart = left[self.target]
        beyond = (apart > _slack(self.difference.high, 1)) | (apart < _slack(self.difference.low, -1))
        return self.broken(u, fields) | beyond

    def inward(self, u: ColumnNumbers, fields: Fields) -> None:
        """Replace the target by its difference from the largest source, in place."""
        high = self._own(u, fields)
        with np.errstate(invalid="ignore"):
            apart = np.maximum(high - self._base(u, fields), 0.0)
        if self.difference.decimals is not None:
            apart = np.round(apart, self.difference.decimals)
        u[self.target] = np.where(self._is_code(high), high, apart)

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Add the largest source to the difference, in place; returns the mask ``[N]`` of targets out of range."""
        column, base = fields[self.target], self._base(u, fields)
        apart = self.difference.settled(u[self.target], mean=mean)
        code = self._is_code(apart)
        high = self.sign * np.where(code, apart, base + apart)
        low, top = range_of(column)
        beyond = ~code & ((high > _slack(top, 1)) | (high < _slack(low, -1)))
        u[self.target] = of_values(column, self._above(column, settled_values(column, high, mean), base))
        return beyond

    def _above(self, column: Column, numbers: np.ndarray, base: np.ndarray) -> np.ndarray:
        """The target's numbers, moved up (down if ``falling``) if rounding put them on the wrong side of the base."""
        high = self.sign * numbers
        with np.errstate(invalid="ignore"):
            low = (high <= base) if self.strict else (high < base)
        if low.any():
            high = np.where(low, next_value(column, base, self.strict, self.sign), high)
        return self.sign * high

    def pull(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Move filled sources below the target seen, in place: by the modelled difference if that is all that is known
        of a source."""
        own = values_of(fields[self.target], seen[self.target])
        apart = self.difference.settled(left[self.target])
        told = ~np.isnan(own) & ~self._is_code(own)
        for name in [name for name in self.sources if name in u]:
            column, source = fields[name], values_of(fields[name], u[name])
            alone = len(self.sources) == 1 and name in left
            free = alone & (u[name] == column.settled(left.get(name, own)))  # not yet moved by another rule
            made = np.where(free, settled_values(column, own - apart), source)
            made = np.where(told & np.isnan(seen[name]), at_most(column, made, own - self.least), source)
            u[name] = of_values(column, made)

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Replace filled cells of the target ``[N]`` by the largest source plus the difference, in place."""
        column, own = fields[self.target], values_of(fields[self.target], seen[self.target])
        apart, base = self.difference.settled(left[self.target]), self._base(u, fields)
        high = self.sign * np.where(self._is_code(apart), apart, base + apart)
        high = np.where(np.isnan(own), self._above(column, settled_values(column, high), base), own)
        u[self.target] = of_values(column, high)


@dataclass(frozen=True)
class Confined(Order):
    """An order whose target stays in the model, with its own law; its likelihood is normalised over the values that are
    not below a source (not above one, if ``falling``). ``difference`` and ``codes`` are not used."""

    kind: ClassVar[str] = "confined"

    def left(self, column: Column) -> Column:
        """The column itself, without the cycles of dates, which do not end at a source."""
        if column.law is None or not column.law.cycles:
            return column
        return dataclasses.replace(column, law=dataclasses.replace(column.law, cycles=()))

    def denied(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that break the rule."""
        return self.broken(u, fields)

    def inward(self, u: ColumnNumbers, fields: Fields) -> None:
        """Nothing, since the target is modelled."""

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Settle the target on its side of the sources, in place; returns the mask ``[N]`` of targets out of range."""
        column, base = self.left(fields[self.target]), self._base(u, fields)
        numbers = self._settled(column, u[self.target], base, mean)
        u[self.target] = of_values(column, numbers)
        low, top = range_of(column)
        return (numbers > _slack(top, 1)) | (numbers < _slack(low, -1))

    def _settled(self, column: Column, numbers: np.ndarray, base: np.ndarray, mean: bool = False) -> np.ndarray:
        """The numbers that the target can hold, on its side of the base, for what is modelled."""
        if column.kind in CODED:
            values = values_of(column, column.settled(numbers))
        else:
            values = column.settled(self._moved(column.law, numbers, self.sign * base), mean=mean)
        return self._above(column, values, base)

    def _moved(self, law: Law | None, numbers: np.ndarray, bound: np.ndarray) -> np.ndarray:
        """Numbers in the same period of a calendar as their bound (a source's number), moved within the period: endings
        on the target's side of the bound keep their shares, as :meth:`latens.schema.law.Calendar.snap` then gives them.
        """
        calendar = None if law is None else law.calendar
        if law is None or calendar is None or not calendar.has_times_alone:
            return numbers
        x, at = numbers / law.period, bound / law.period
        whole = np.floor(x)
        after = self.strict != self.falling  # whether an ending that equals the bound is below it
        times, rest, edge = np.array(calendar.times), x - whole, at - whole
        place = np.searchsorted(times, edge + TENTH, "right") if after else np.searchsorted(times, edge - TENTH)
        below = np.append(0.0, np.cumsum(calendar.shares))[place]
        first = edge + (0.5 if after else -0.5) * (law.step or 0.0) / law.period  # where the place of the bound ends
        with np.errstate(invalid="ignore", divide="ignore"):
            above = below + ((rest - first) / (1 - first)).clip(0, 1 - 1e-9) * (1 - below)
            moved = (rest / first).clip(0, 1 - 1e-9) * below if self.falling else above
            here = (edge >= 0) & (edge < 1) & np.isfinite(moved) & ~law.is_solid(numbers) & ~calendar.is_on(x)
        return np.where(here, (whole + moved) * law.period, numbers)

    def pull(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Move filled sources that are on the wrong side of the target seen, in place."""
        own = values_of(fields[self.target], seen[self.target])
        for name in [name for name in self.sources if name in u]:
            source, value = fields[name], self.sign * values_of(fields[name], u[name])
            with np.errstate(invalid="ignore"):
                bad = (value >= self.sign * own) if self.strict else (value > self.sign * own)
            bad = bad & np.isnan(seen[name])
            if bad.any():
                made = -self.sign * next_value(source, -self.sign * own, self.strict, -self.sign)
                u[name] = np.where(bad, of_values(source, made), u[name])

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Settle a filled target on its side of the sources, in place."""
        column, own = self.left(fields[self.target]), values_of(fields[self.target], seen[self.target])
        made = self._settled(column, left[self.target], self._base(u, fields))
        u[self.target] = of_values(column, np.where(np.isnan(own), made, own))


def ceilings(rules: Sequence[Rule], seen: ColumnNumbers, fields: Fields) -> ColumnNumbers:
    """For each column ``[N]``, the largest value that the orders allow, given the targets seen; infinite if any."""
    most: ColumnNumbers = {}
    for rule in reversed(rules):
        if isinstance(rule, Order) and not rule.falling:
            own = values_of(fields[rule.target], seen[rule.target])
            own = np.where(np.isnan(own) | rule._is_code(own), most.get(rule.target, np.inf), own)
            for name in rule.sources:
                most[name] = np.minimum(most.get(name, np.inf), own - rule.least)
    return most


def at_most(column: Column, values: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The values ``[N]``; those above ``most`` as the largest value of the column that is not."""
    with np.errstate(invalid="ignore"):
        return np.where(values > most, -next_value(column, -np.minimum(values, most), sign=-1.0), values)


def _slack(end: float | None, sign: int) -> float:
    return sign * np.inf if end is None else end + sign * EXACT * abs(end)


def next_value(column: Column, base: np.ndarray, strict: bool = False, sign: float = 1.0) -> np.ndarray:
    """The column's smallest value that is not below ``base`` (or, if ``strict``, that is above it), ``[N]``. This holds
    for a column with a grid or few values; for other columns the result is ``base`` itself. With the sign -1, the
    column's values and ``base`` are those of a column with reversed signs."""
    law, atoms = column.law, only_values(column)
    if atoms is not None:
        atoms = np.sort(sign * atoms)
        found = np.append(atoms, np.nan)[np.searchsorted(atoms, base, "right" if strict else "left")]
        return np.where(np.isnan(found), base, found)
    step = step_of(column)
    if step is None:
        return np.nextafter(base, np.inf) if strict else base
    origin = 0.0 if law is None else sign * law.origin
    places = (base - origin) / step
    found = origin + (np.floor(places + 1e-6) + 1 if strict else np.ceil(places - 1e-6)) * step
    if law is not None and law.calendar is not None:
        found = law.calendar.following(found / law.period) * law.period if sign > 0 else -_before(law, -found)
    found = found if column.decimals is None else np.round(found, column.decimals)
    return found if strict else np.maximum(found, base)


def only_values(column: Column) -> np.ndarray | None:
    """The only values that the column can hold, increasing; None if there are others between them."""
    if column.law is None:
        return levels_as_numbers(column) if column.kind in CODED else None
    law = column.law
    return np.unique([*law.atoms, *law.places]) if law.is_complete or law.places else None


def _before(law: Law, numbers: np.ndarray) -> np.ndarray:
    """For each number ``[N]``, a value of the calendar near it that is not above it."""
    if law.calendar is not None and law.calendar.has_times_alone:
        return law.calendar.preceding(numbers / law.period) * law.period
    found, width = law.snap(numbers), law.step or 0.0
    while width and (above := found > numbers).any() and width < law.knots[-1] - law.knots[0]:
        found, width = np.where(above, law.snap(numbers - width), found), 2 * width
    return found


def step_of(column: Column) -> float | None:
    """The step of the grid that the column's numbers lie on, or None."""
    if column.law is not None and column.law.step:
        return column.law.step
    return None if column.decimals is None else 10.0**-column.decimals


def on_grid(column: Column, numbers: np.ndarray) -> np.ndarray:
    """The nearest numbers on the grid of the column, ``[N]``; unchanged if it has none."""
    if (step := step_of(column)) is None:
        return numbers
    origin = 0.0 if column.law is None else column.law.origin
    return origin + np.round((numbers - origin) / step) * step


@dataclass(frozen=True)
class Function(Rule):
    """The target has one value for each value of the source: if education.num is 13, education is Bachelors.

    Args:
        keys: the source's values, increasing, with None for a missing cell.
        values: the target's value for each key, None if it is missing there.
        counts: the number of rows with each key.
    """

    keys: tuple[float | None, ...] = ()
    values: tuple[float | None, ...] = ()
    counts: tuple[int, ...] = ()

    kind: ClassVar[str] = "function"
    reproduces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.sources) != 1 or not len(self.keys) == len(self.values) == len(self.counts) > 0:
            what = f"a function has {len(self.sources)} sources, {len(self.keys)} keys and {len(self.values)} values"
            raise InputError(what, "give one source, and a value and a count for each key")

    @property
    def text(self) -> str:
        """The rule as a user writes it, "source -> target"."""
        return f"{named(self.sources[0])} -> {named(self.target)}"

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """(the known values of the source, increasing; the target of each, NaN if it is missing there)."""
        pairs = [(key, value) for key, value in zip(self.keys, self.values) if key is not None]
        return tuple(np.array(each, dtype=np.float64) for each in zip(*pairs))  # type: ignore[return-value]

    @property
    def void(self) -> float:
        """The target's value for a missing source; NaN if it is missing too, or unknown."""
        number = self.values[self.keys.index(None)] if None in self.keys else None
        return np.nan if number is None else number

    def of(self, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the target for each value of the source ``[N]``, NaN if unknown; mask of the known values)."""
        keys, values = self.numbers()
        place = np.searchsorted(keys, source - SAME * np.abs(source)).clip(0, len(keys) - 1)
        known = is_value(source, keys[place])
        found = np.where(known, values[place], np.nan)
        if None in self.keys:
            empty = np.isnan(source)
            found, known = np.where(empty, self.void, found), known | empty
        return found, known

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows whose source is known and whose target has another value than the rule says."""
        usual, known = self.of(u[self.sources[0]])
        own = u[self.target]
        known = known & ~np.isnan(u[self.sources[0]])
        return known & ~np.isnan(own) & ~np.isclose(own, usual, rtol=1e-6, atol=0.0)

    def denied(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that break the rule, or whose source has a value that was not seen."""
        return self.broken(u, fields) | ~self.of(u[self.sources[0]])[1]

    def inward(self, u: ColumnNumbers, fields: Fields) -> None:
        """Remove the target, and fill a missing source that the target determines, in place."""
        source, own = u[self.sources[0]], u.pop(self.target)
        missing = np.isnan(source) & ~np.isnan(own)
        if missing.any() and None not in self.keys:
            u[self.sources[0]] = np.where(missing, self.inverse(own, only=True), source)

    def tell(self, seen: ColumnNumbers, fields: Fields) -> None:
        """Write a missing target whose source is known, and a missing source that the target determines, in place."""
        source, own = seen[self.sources[0]], seen[self.target]
        seen[self.target] = np.where(np.isnan(own) & ~np.isnan(source), self.of(source)[0], own)
        if None not in self.keys:
            seen[self.sources[0]] = np.where(np.isnan(source), self.inverse(own, only=True), source)

    def nearest_key(self, source: np.ndarray) -> np.ndarray:
        """The nearest known value of the source ``[N]``; NaN stays NaN."""
        keys = self.numbers()[0]
        return np.where(np.isnan(source), np.nan, keys[nearest_place(keys, source)])

    def inverse(self, own: np.ndarray, only: bool = False) -> np.ndarray:
        """For each value of the target, the most frequent source; NaN if there is none or, with ``only``, several."""
        best: dict[float, tuple[int, float, int]] = {}
        for key, value, count in zip(self.keys, self.values, self.counts):
            if key is not None and value is not None:
                top, at, others = best.get(value, (-1, np.nan, 0))
                best[value] = (count, key, others + 1) if count > top else (top, at, others + 1)
        ways = {value: key for value, (_, key, others) in best.items() if others == 1 or not only}
        distinct, place = np.unique(own, return_inverse=True)
        return np.array([ways.get(value, np.nan) for value in distinct.tolist()])[place].reshape(own.shape)

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Compute the target from the source, both ``[N]``, in place; returns False, as no target is out of range.
        With ``mean``, the source may lie between known values, and the nearest known value is used."""
        source = u[self.sources[0]]
        found, known = self.of(source)
        u[self.target] = np.where(known, found, self.of(self.nearest_key(source))[0]) if mean else found
        return False

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Compute a filled target from its source, in place; :func:`settle_key` moves filled sources."""
        own = seen[self.target]
        u[self.target] = np.where(np.isnan(own), self.of(u[self.sources[0]])[0], own)

    def with_gaps(self, u: ColumnNumbers, before: ColumnNumbers, fields: Fields) -> None:
        """If a drawn gap is in the source, give the target the value that belongs to a missing source, in place."""
        empty = np.isnan(u[self.sources[0]])
        if None in self.keys:
            u[self.target] = np.where(empty, self.of(u[self.sources[0]])[0], u[self.target])


def functions_of(name: str, rules: Sequence[Rule]) -> list[Function]:
    """The functions of the values of a column."""
    return [rule for rule in rules if isinstance(rule, Function) and type(rule) is Function and name in rule.sources]


def settle_key(name: str, rules: Sequence[Rule], u: ColumnNumbers, seen: ColumnNumbers) -> None:
    """Give filled cells of the source of functions a known value to which all targets seen belong, if there is one, in
    place: the most frequent such value, unless the filled value is one."""
    every = functions_of(name, rules)
    own = [rule for rule in every if rule.keys == every[0].keys]
    keys, counts = np.array(own[0].keys, dtype=np.float64), np.array(own[0].counts)
    u[name] = np.where(np.isnan(seen[name]), own[0].nearest_key(u[name]), u[name])
    rows = np.flatnonzero(np.isnan(seen[name]) & np.any([~np.isnan(seen[rule.target]) for rule in own], 0))
    told = np.stack([np.nan_to_num(seen[rule.target][rows], nan=np.inf) for rule in own])
    distinct, which = np.unique(told, axis=1, return_inverse=True)
    for i, targets in enumerate(distinct.T):
        values = [np.array(rule.values, dtype=np.float64) for rule in own]
        known = [each == target for each, target in zip(values, targets) if target < np.inf]
        fits, at = np.logical_and.reduce([~np.isnan(keys), *known]), rows[which.ravel() == i]
        if fits.any():
            best = keys[np.where(fits, counts, -1).argmax()]
            u[name][at] = np.where(np.isin(u[name][at], keys[fits]), u[name][at], best)


@dataclass(frozen=True)
class Intervals(Function):
    """The target has one value in each interval of the source: if age is at least 65, group is old. The keys are the
    lower ends of the intervals; the first interval has no lower limit and the last no upper limit."""

    kind: ClassVar[str] = "intervals"

    def of(self, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the target for each value of the source ``[N]``, NaN if unknown; mask of the known values)."""
        keys, values = self.numbers()
        place = np.searchsorted(keys, source + SAME * np.abs(source), side="right") - 1
        empty = np.isnan(source)
        return np.where(empty, self.void, values[place.clip(0, len(keys) - 1)]), ~empty | (None in self.keys)

    def inverse(self, own: np.ndarray, only: bool = False) -> np.ndarray:
        """NaN, as many values of the source have the same target."""
        return np.full(own.shape, np.nan)

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Move a filled source into the nearest interval of the target seen; compute a filled target, in place."""
        name, own = self.sources[0], seen[self.target]
        source, (keys, values) = u[name], self.numbers()
        other = np.isnan(seen[name]) & ~np.isnan(own) & (self.of(source)[0] != own)
        low = np.append(-np.inf, keys[1:])
        high = np.append(keys[1:] - (step_of(fields[name]) or 1e-6 * np.abs(keys[1:])), np.inf)
        moved, apart = source, np.full(len(source), np.inf)
        for j, value in enumerate(values):
            near = source.clip(low[j], high[j])
            here = other & (own == value) & (np.abs(near - source) < apart)
            moved, apart = np.where(here, near, moved), np.where(here, np.abs(near - source), apart)
        u[name] = moved
        u[self.target] = np.where(np.isnan(own), self.of(source)[0], own)


DATE_PARTS = {  # the days that have all values of a part
    "month": 366.0, "day": 31.0, "weekday": 7.0, "hour": 1.0, "minute": 1 / 24, "week of year": 371.0,
    "day of year": 366.0,
}  # fmt: skip


@dataclass(frozen=True)
class DatePart(Function):
    """The target has one value for each month of the source, or for each value of another part of its dates: if the
    weekday is 5 or 6 (Monday is 0), weekend is true.

    Args:
        part: "month", "day of year", "week of year" (ISO 8601), "day" (of the month), "weekday", "hour" or "minute".
    """

    part: str = ""

    kind: ClassVar[str] = "date part"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part not in DATE_PARTS:
            raise InputError(f"there is no part {self.part!r} of dates", f"name one of {', '.join(DATE_PARTS)}")

    @property
    def text(self) -> str:
        """The rule as a user writes it, "month of day -> season"."""
        return f"{self.part} of {super().text}"

    @property
    def is_part(self) -> bool:
        """Whether the target is the part itself, so that parts that were not seen are known too."""
        return self.keys == self.values

    def of(self, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the target for each date ``[N]``, NaN if unknown; mask of the known dates)."""
        part = part_of(source, self.part)
        return (part, ~np.isnan(part)) if self.is_part else super().of(part)

    def inverse(self, own: np.ndarray, only: bool = False) -> np.ndarray:
        """NaN ``[N]``, as many dates have the same target."""
        return np.full(own.shape, np.nan)

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Compute the target from the source, both ``[N]``, in place; returns the mask of dates whose part was not
        seen."""
        source = u[self.sources[0]]
        found, known = self.of(source)
        keys, values = self.numbers()
        nearest = values[np.abs(part_of(source, self.part)[:, None] - keys).argmin(1)]
        u[self.target] = np.where(known | np.isnan(source), found, nearest)
        return ~known & ~np.isnan(source)

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Move a filled date to the nearest hour or minute with the target seen (for days see :func:`settle_dates`);
        compute a filled target, in place."""
        name, own = self.sources[0], seen[self.target]
        step = {"hour": 1 / 24, "minute": 1 / 1440}.get(self.part, np.inf)
        for k in range(round(DATE_PARTS[self.part] / step) + 1):
            for apart in (k * step, -k * step):
                other = np.isnan(seen[name]) & ~np.isnan(own) & (self.of(u[name])[0] != own)
                moved = np.where(np.isnan(seen[name]), u[name] + apart, u[name])
                u[name] = np.where(other & (self.of(moved)[0] == own), moved, u[name])
        u[self.target] = np.where(np.isnan(own), self.of(u[name])[0], own)


def part_of(days: Any, part: str) -> Any:
    """A part of dates in days since 1970-01-01, an array or tensor ``[N]`` of whole numbers; NaN remains NaN. Months
    and days are counted from 1 March in eras of 400 years, 146,097 days each (Hinnant 2013).

    >>> date = np.array([np.datetime64("2024-02-29"), np.datetime64("2023-12-31")]).astype(float)
    >>> part_of(date, "month").tolist(), part_of(date, "day").tolist(), part_of(date + 0.75, "weekday").tolist()
    ([2.0, 12.0], [29.0, 31.0], [3.0, 6.0])
    """
    minutes = (days * 1440 + 1e-4) // 1
    if part == "minute":
        return minutes % 60
    if part == "hour":
        return minutes // 60 % 24
    day = minutes // 1440
    if part == "weekday":
        return (day + 3) % 7
    if part == "week of year":  # the week belongs to the year of its Thursday
        return (part_of(day - (day + 3) % 7 + 3, "day of year") - 1) // 7 + 1
    era = (day + 719_468) % 146_097
    year = (era - era // 1460 + era // 36_524 - era // 146_096) // 365
    in_year = era - (365 * year + year // 4 - year // 100)
    month = (5 * in_year + 2) // 153
    if part == "day of year":
        leap = 1 - (year % 4 + 3) // 4 + (year % 100 + 99) // 100 - (year + 399) // 400  # 1 in leap years, else 0
        return in_year - 305 + (1 - month // 10) * (365 + leap)
    return in_year - (153 * month + 2) // 5 + 1 if part == "day" else month + 3 - 12 * (month // 10)


SPANS = {  # the most days of each span
    "second": 1 / 86_400, "minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "week from Sunday": 7.0,
    "month": 31.0, "quarter": 92.0, "year": 366.0,
}  # fmt: skip
DATE_EDGES = (
    "date", "time", *(f"start of {span}" for span in SPANS if span != "day"),
    *(f"end of {span}" for span in SPANS if SPANS[span] >= 7),
)  # fmt: skip


def start_of(days: Any, span: str) -> Any:
    """The start of the second, minute, hour, day, …, of dates in days since 1970-01-01, an array or tensor ``[N]``;
    NaN remains NaN.

    >>> date = np.array([np.datetime64("2024-02-29")]).astype(float) + 0.75
    >>> [str(start_of(date, span).astype("M8[D]")[0]) for span in ("day", "week", "month", "quarter", "year")]
    ['2024-02-29', '2024-02-26', '2024-02-01', '2024-01-01', '2024-01-01']
    """
    if SPANS[span] < 1:
        per_day = round(1 / SPANS[span])
        return (days * per_day + 1e-10 * per_day) // 1 / per_day
    day = (days + 1e-10) // 1
    if span in ("week", "week from Sunday"):
        return day - (day + (3 if span == "week" else 4)) % 7
    if span == "day":
        return day
    if span == "year":
        return day - part_of(day, "day of year") + 1
    start = day - part_of(day, "day") + 1
    if span == "quarter":
        back = (part_of(start, "month") - 1) % 3
        for is_behind in ((back + 1) // 2, back // 2):  # one month, two months
            start = start - is_behind * part_of(start - 1, "day")
    return start


def edge_of(days: Any, edge: str) -> Any:
    """What a :class:`DateEdge` gives for dates in days since 1970-01-01, an array or tensor ``[N]``; NaN remains NaN.

    >>> date = np.array([np.datetime64("2024-02-29")]).astype(float) + 0.75
    >>> edge_of(date, "time").tolist(), str(edge_of(date, "end of month").astype("M8[D]")[0])
    ([64800.0], '2024-02-29')
    """
    if edge == "time":
        return (days - start_of(days, "day")) * 86_400
    side, _, span = edge.partition(" of ")
    start = start_of(days, span or "day")
    return start_of(start + SPANS[span], span) - 1 if side == "end" else start


@dataclass(frozen=True)
class OfDates(Rule):
    """The target is computed from dates; abstract."""

    reproduces: ClassVar[bool] = True

    def of(self, u: Mapping[str, Any]) -> Any:
        """The target ``[N]``, given the numbers of its sources, which are arrays or tensors."""
        raise NotImplementedError

    @property
    def slack(self) -> float:
        """The largest difference between equal targets that rounding explains."""
        return 0.0

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows whose target differs from what is computed."""
        with np.errstate(invalid="ignore"):
            return np.abs(u[self.target] - self.of(u)) > self.slack

    def _rounded(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        made, decimals = np.asarray(self.of(u)), fields[self.target].decimals
        return made if decimals is None else np.round(made, decimals)

    def tell(self, seen: ColumnNumbers, fields: Fields) -> None:
        """Write a missing target whose sources are known, in place."""
        own = seen[self.target]
        seen[self.target] = np.where(np.isnan(own), self._rounded(seen, fields), own)

    def inward(self, u: ColumnNumbers, fields: Fields) -> None:
        """Remove the target, in place."""
        del u[self.target]

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Compute the target, in place; returns the mask ``[N]`` of targets that are out of range."""
        column = fields[self.target]
        u[self.target] = made = self._rounded(u, fields)
        with np.errstate(invalid="ignore"):
            return (made > _slack(column.high, 1)) | (made < _slack(column.low, -1))

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Compute a filled target, in place; :func:`settle_dates` moves filled dates."""
        own = seen[self.target]
        u[self.target] = np.where(np.isnan(own), self._rounded(u, fields), own)


@dataclass(frozen=True)
class DateEdge(OfDates):
    """The target is the date of the source, its time of day, or the start or last day of its week, month, quarter or
    year: if opened is 2024-02-29 17:30, day is 2024-02-29.

    Args:
        edge: one of ``DATE_EDGES``, for example "date", "time", "start of hour" or "end of month".
    """

    edge: str = ""

    kind: ClassVar[str] = "date edge"

    def __post_init__(self) -> None:
        if self.edge not in DATE_EDGES or len(self.sources) != 1:
            raise InputError(f"dates have no {self.edge!r}", f"name one of {', '.join(DATE_EDGES)}")

    @property
    def text(self) -> str:
        """The rule as a user writes it, "start of month of day -> month"."""
        return f"{self.edge} of {named(self.sources[0])} -> {named(self.target)}"

    @property
    def span(self) -> str:
        """The span of the edge, "day" for dates and times."""
        return self.edge.partition(" of ")[2] or "day"

    @property
    def reach(self) -> float:
        """The days of the span; infinite for a time of day."""
        return math.inf if self.edge == "time" else SPANS[self.span]

    @property
    def slack(self) -> float:
        """The largest difference between equal targets that rounding explains, in seconds for times, else in days."""
        return 1e-4 if self.edge == "time" else 1e-9

    def of(self, u: Mapping[str, Any]) -> Any:
        """The target ``[N]``, given the numbers of its source, which are an array or a tensor."""
        return edge_of(u[self.sources[0]], self.edge)

    def suggested(self, dates: np.ndarray, own: np.ndarray) -> list[np.ndarray]:
        """Dates ``[N]`` in the span of the target: as far into it as ``dates`` are into theirs, and its start."""
        start = start_of(own, self.span)
        return [start + dates - start_of(dates, self.span), start]


UNITS = {  # days of each unit; "years" and "months" are completed by the calendar
    "years": 365.2425, "months": 30.436875, "years of 365.25 days": 365.25, "years of 365 days": 365.0, "weeks": 7.0,
    "days": 1.0, "hours": 1 / 24, "minutes": 1 / 1440,
}  # fmt: skip


def elapsed(start: Any, end: Any, unit: str) -> Any:
    """The whole units between two dates in days since 1970-01-01, arrays or tensors ``[N]``; NaN if one is NaN. A year
    or a month is complete when the day of the month is that of the start.

    >>> born, now = (np.array([np.datetime64(text)]).astype(float) for text in ("2000-02-29", "2021-02-28"))
    >>> [int(elapsed(born, now, unit)[0]) for unit in ("years", "months", "weeks", "days")]
    [20, 251, 1095, 7670]
    """
    if unit not in ("years", "months"):
        return ((end - start) / UNITS[unit] + 1e-9) // 1
    year = [(start_of(date, "year") / 365.2425 + 0.5) // 1 for date in (start, end)]
    month, day = ([part_of(date, part) for date in (start, end)] for part in ("month", "day"))
    months = 12 * (year[1] - year[0]) + month[1] - month[0] + (day[1] - day[0]) // 31
    return months // 12 if unit == "years" else months


@dataclass(frozen=True)
class Elapsed(OfDates):
    """The target counts the whole years, months, …, from one date to another, or to one date for all rows: if born is
    1980-05-17 and visit is 2020-05-16, age is 39.

    Args:
        unit: one of ``UNITS``.
        until: the second date in days since 1970-01-01, if the rule has a single source.
    """

    unit: str = ""
    until: float | None = None

    kind: ClassVar[str] = "elapsed"

    def __post_init__(self) -> None:
        if self.unit not in UNITS or len(self.sources) != (2 if self.until is None else 1):
            raise InputError(f"no rule counts {self.unit!r}", f"name one of {', '.join(UNITS)}")

    @property
    def text(self) -> str:
        """The rule as a user writes it, "age = years from born to visit"."""
        end = named(self.sources[1]) if self.until is None else str(np.datetime64(int(self.until), "D"))
        return f"{named(self.target)} = {self.unit} from {named(self.sources[0])} to {end}"

    @property
    def reach(self) -> float:
        """The days of the unit."""
        return UNITS[self.unit]

    def of(self, u: Mapping[str, Any]) -> Any:
        """The target ``[N]``, given the numbers of its sources, which are arrays or tensors."""
        return elapsed(u[self.sources[0]], u[self.sources[1]] if self.until is None else self.until, self.unit)

    def counted(self, name: str, u: ColumnNumbers, step: float) -> list[np.ndarray]:
        """Of the dates that the target allows for one source, the earliest and the middle one, ``[N]`` each."""
        if name != self.sources[0]:
            return [u[self.sources[0]] + (u[self.target] + share) * UNITS[self.unit] for share in (0.0, 0.5)]
        end, most = u[self.sources[1]] if self.until is None else self.until, u[self.target] + 1
        return [end - most * UNITS[self.unit] + step, end - (most - 0.5) * UNITS[self.unit]]


MOST_DAYS = 800  # a filled date is moved by at most this many days
AT_ONCE = 1 << 15  # dates that are tried at once


def settle_dates(
    rules: Sequence[Rule], u: ColumnNumbers, seen: ColumnNumbers, given: ColumnNumbers, fields: Fields
) -> None:  # fmt: skip
    """Move each filled date in ``u`` to the nearest day on which all rules about it hold, if something computed from it
    was given. What follows from the ``given`` numbers is written to all three tables, in place."""
    about = _about_dates(rules, fields)
    # first the dates that given cells determine to a day, then those that they narrow down, then those that depend on
    # the dates just found
    for reach, is_strict in ((1.0, True), (np.inf, True), (np.inf, True), (np.inf, False)):
        for name, own in about.items():
            told = _told(name, [rule for rule in own if rule.reach <= reach], given, is_strict)
            rows = np.flatnonzero(np.isnan(given[name]) & told)
            if len(rows):
                orders = [rule for rule in rules if isinstance(rule, Order) and name in (rule.target, *rule.sources)]
                given[name] = given[name].copy()
                given[name][rows] = _fitting(name, u[name][rows], rows, own, orders, given, fields)
                tell_all(rules, given, fields)
    for name in set(u) & set(given):
        for table in (seen, u):
            table[name] = np.where(np.isnan(given[name]), table[name], given[name])


def _about_dates(rules: Sequence[Rule], fields: Fields) -> dict[str, list[Rule]]:
    """For each date that columns are computed from, the rules that do so."""
    about: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in rule.sources if isinstance(rule, OfDates | DatePart | Intervals) else ():
            if fields[name].time == "dates":
                about.setdefault(name, []).append(rule)
    return about


def tell_all(rules: Sequence[Rule], seen: ColumnNumbers, fields: Fields) -> None:
    """Write the missing cells that the other cells determine by all rules, in place; rules are sorted by sources."""
    for rule in (*rules, *reversed(rules), *rules):
        rule.tell(seen, fields)


def _told(name: str, rules: Sequence[Rule], given: ColumnNumbers, is_strict: bool) -> np.ndarray:
    """Mask ``[N]`` of the rows in which the target of a rule is given and, if ``is_strict``, its other sources too."""
    told = np.zeros(len(given[name]), bool)
    for rule in rules:
        needed = [rule.target, *(each for each in rule.sources if each != name and is_strict)]
        told |= np.logical_and.reduce([~np.isnan(given[each]) for each in needed])
    return told


def _fitting(
    name: str, dates: np.ndarray, rows: np.ndarray, about: Sequence[Rule], orders: Sequence[Order],
    given: ColumnNumbers, fields: Fields,
) -> np.ndarray:  # fmt: skip
    """The nearest dates of these rows for which all rules about the column hold, and its orders if that is possible."""
    parts = {each: given[each][rows] for rule in (*about, *orders) for each in (rule.target, *rule.sources)}
    step = step_of(fields[name]) or 1 / 86_400
    starts = [parts[rule.target] - rule.least for rule in orders if name in rule.sources]
    for rule in about:
        if isinstance(rule, Elapsed):
            starts += rule.counted(name, parts, step)
        if isinstance(rule, DateEdge) and rule.edge == "time":
            time = parts[rule.target] / 86_400
            dates = np.where(np.isnan(time), dates, start_of(dates, "day") + time)
        elif isinstance(rule, DateEdge):
            starts += rule.suggested(dates, parts[rule.target])
    dates = on_grid(fields[name], dates)
    found, left = dates.copy(), np.arange(len(dates))
    for first, kept in (*((on_grid(fields[name], each), orders) for each in (dates, *starts)), (dates, [])):
        moved, fits = _nearest(name, first[left], {n: x[left] for n, x in parts.items()}, [*about, *kept], fields)
        found[left[fits]] = moved[fits]
        left = left[~fits]
    return found


def _nearest(
    name: str, dates: np.ndarray, parts: ColumnNumbers, rules: Sequence[Rule], fields: Fields
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(for each date ``[N]`` the nearest one, whole days away, that no rule denies; whether there is one)."""
    found, left, tried = dates.copy(), np.arange(len(dates)), 0
    shifts = np.array(sorted(range(-MOST_DAYS, MOST_DAYS + 1), key=abs))
    while len(left) and tried < len(shifts):
        some = shifts[tried : tried + max(1, AT_ONCE // len(left))]
        moved = dates[left] + some[:, None]
        u = {each: np.tile(numbers[left], len(some)) for each, numbers in parts.items()} | {name: moved.ravel()}
        off = [rule.denied(u, fields) if isinstance(rule, Order) else rule.broken(u, fields) for rule in rules]
        fits = ~np.logical_or.reduce([*off, np.isnan(u[name])]).reshape(moved.shape)
        done = fits.any(0)
        found[left[done]] = moved[fits.argmax(0), np.arange(len(left))][done]
        left, tried = left[~done], tried + len(some)
    return found, ~np.isin(np.arange(len(dates)), left)


Operations = Mapping[type, Callable[[Any, Any], Any]]
OPERATIONS: Operations = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=np.asarray(b) != 0),
}  # fmt: skip


@dataclass(frozen=True)
class Formula(Rule):
    """The target is computed from its sources and rounded as the target's values are: total = net + tax.

    Args:
        how: the formula, with numbers, + - * / and brackets; ``v0``, ``v1``, … stand for the sources, and ``t1`` for
            the number that belongs to the level of source 1.
        table: the numbers that belong to the levels, one per level; None for a level without a number.

    >>> Formula("total", ("net", "tax"), how="v0 + v1").text
    'total = net + tax'
    >>> Formula("price", ("minutes", "bike"), how="0.15 * v0 + t1", table=(1.0, 2.5)).text
    'price = 0.15 * minutes + [bike]'
    """

    how: str = ""
    table: tuple[float | None, ...] = ()

    kind: ClassVar[str] = "formula"
    reproduces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if [*self.words.values()] != [*range(len(self.sources))] or sum(word[0] == "t" for word in self.words) > 1:
            what = f"the formula {self.how!r} does not use its {len(self.sources)} sources"
            raise InputError(what, "name each of them, and no others")

    @property
    def words(self) -> dict[str, int]:
        """For each name in the formula, the position of its source, in the order of the sources."""
        names = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        places = {name: int(name[1:]) for name in names if re.fullmatch(r"[vt]\d{1,4}", name)}
        return dict(sorted(places.items(), key=lambda each: each[1])) if len(places) == len(names) else {}

    @property
    def tree(self) -> ast.expr:
        """The parsed formula; ``InputError`` if it holds more than numbers, sources, + - * / and brackets."""
        try:
            tree = ast.parse(self.how, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise InputError(f"{self.how!r} is not a formula", "write it as in net + 2 * tax") from None
        allowed = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Constant, ast.Name, ast.Load, *OPERATIONS)
        for node in ast.walk(tree):
            number = not isinstance(node, ast.Constant) or type(node.value) in (int, float)
            if not isinstance(node, allowed) or not number:
                raise InputError(f"{self.how!r} must be a formula of columns, numbers, + - * / and brackets")
        return tree

    @property
    def text(self) -> str:
        """The rule as a user writes it, "total = net + tax"."""
        names = {word: named(self.sources[j]) for word, j in self.words.items()}
        shown = {word: f"[{name}]" if word[0] == "t" else name for word, name in names.items()}
        return f"{named(self.target)} = " + re.sub(r"[vt]\d+", lambda word: shown[word[0]], self.how)

    def inputs(self, u: ColumnNumbers, fields: Fields) -> ColumnNumbers:
        """The numbers ``[N]`` that the names in the formula stand for."""
        table = np.array([np.nan if number is None else number for number in (*self.table, None)])
        return {
            word: table[np.nan_to_num(u[name], nan=-1).astype(np.int64).clip(-1, len(table) - 1)]
            if word[0] == "t"
            else values_of(fields[name], u[name])
            for word, name in zip(self.words, self.sources)
        }

    def of(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """The target's numbers ``[N]``, rounded as the values of its column are."""
        found, decimals = self._exactly(u, fields), fields[self.target].decimals
        return found if decimals is None else np.round(found, decimals)

    def _exactly(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(computed(self.tree, self.inputs(u, fields)), dtype=np.float64)

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows whose target differs from the formula by more than rounding explains, or implies a
        value of a missing source that its column cannot hold."""
        own, made = u[self.target], self._exactly(u, fields)
        slack, share = tolerance(fields[self.target])
        with np.errstate(invalid="ignore"):
            apart = np.abs(own - made) > (1 + 1e-6) * slack + share * np.maximum(np.abs(own), np.abs(made))
        gaps = [np.isnan(u[self.sources[j]]) & _are_faults(fields[self.sources[j]], self._implied(u, fields, j))
                for j in self.single]  # fmt: skip
        return np.logical_or.reduce([apart, *gaps])

    @property
    def single(self) -> dict[int, str]:
        """The sources that occur once in the formula, so that the other cells imply their numbers, and their names in
        it."""
        return {j: word for word, j in self.words.items() if len(re.findall(rf"\b{word}\b", self.how)) == 1}

    def choices(self, column: Column, j: int) -> tuple[np.ndarray, np.ndarray]:
        """(the numbers that source j, a column of levels, can have in the formula, increasing; the code of each)."""
        numbers = self.table if self.single[j][0] == "t" else column.levels or ()
        pairs = sorted((float(number), code) for code, number in enumerate(numbers) if number is not None)
        return tuple(np.array(each, dtype=np.float64) for each in zip(*pairs))  # type: ignore[return-value]

    def _implied(self, u: ColumnNumbers, fields: Fields, j: int) -> np.ndarray:
        """The number of source j ``[N]`` that the target and the other sources imply, rounded as its column is."""
        with np.errstate(invalid="ignore", over="ignore"):
            made = inverted(self.tree, u[self.target], self.single[j], self.inputs(u, fields))
        decimals = None if fields[self.sources[j]].kind in CODED else fields[self.sources[j]].decimals
        return made if decimals is None else np.round(made, decimals)

    def _solved(self, u: ColumnNumbers, fields: Fields, j: int) -> np.ndarray:
        """Source j computed from the target and the other sources, ``[N]``; NaN if its column cannot hold the value, or
        several levels fit."""
        column, made = fields[self.sources[j]], self._implied(u, fields, j)
        if column.kind not in CODED:
            return np.where(_are_faults(column, made), np.nan, made)
        numbers, codes = self.choices(column, j)
        codes = np.where((numbers == numbers[:, None]).sum(1) == 1, codes, np.nan)
        level = np.where(np.isnan(made), np.nan, codes[nearest_place(numbers, made)])
        return np.where(self.broken(u | {self.sources[j]: level}, fields), np.nan, level)

    def _limited(self, u: ColumnNumbers, fields: Fields, j: int) -> np.ndarray:
        """The number of source j ``[N]``, in its range, for which the formula is nearest to the target."""
        column, made = fields[self.sources[j]], self._implied(u, fields, j)
        if column.kind not in CODED:
            return np.clip(made, *range_of(column))
        numbers, codes = self.choices(column, j)
        return np.where(np.isnan(made), np.nan, codes[nearest_place(numbers, made)])

    def tell(self, seen: ColumnNumbers, fields: Fields) -> None:
        """Write a missing target or source that the other cells determine, in place."""
        if not np.isnan(seen[self.target]).all():
            for j in self.single:
                name = self.sources[j]
                seen[name] = np.where(np.isnan(seen[name]), self._solved(seen, fields, j), seen[name])
        own = seen[self.target]
        seen[self.target] = np.where(np.isnan(own), self.of(seen, fields), own)

    def inward(self, u: ColumnNumbers, fields: Fields) -> None:
        """Remove the target, and fill a missing source that the target and the other sources determine, in place."""
        self.tell(u, fields)
        del u[self.target]

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Compute the target, in place; returns the mask ``[N]`` of targets that are out of range or not finite."""
        column = fields[self.target]
        u[self.target] = made = self.of(u, fields)
        with np.errstate(invalid="ignore"):
            return (made > _slack(column.high, 1)) | (made < _slack(column.low, -1)) | ~np.isfinite(made)

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Compute a filled target, and move filled sources, one after another, until the formula gives a target that
        was seen or is in range, in place. Sources stay in their range, too, if the formula then can hold."""
        own = seen[self.target]
        made = np.clip(self.of(u, fields), *range_of(fields[self.target]))
        u[self.target] = np.where(np.isnan(own), made, own)
        finest = sorted(self.single, key=lambda j: -(fields[self.sources[j]].decimals or 0))
        for solve, j in [*((self._limited, j) for j in finest), *((self._solved, j) for j in finest)]:
            name, made = self.sources[j], solve(u, fields, j)
            here = np.isnan(seen[name]) & ~np.isnan(made) & self.broken(u, fields)
            u[name] = np.where(here, made, u[name])
        u[self.target] = np.where(np.isnan(own), self.of(u, fields), own)


def _are_faults(column: Column, values: np.ndarray) -> np.ndarray:
    """Mask ``[N]`` of the values that a column of numbers cannot hold; False for levels."""
    faults = () if column.kind in CODED else (fault for fault, _ in column.faults(values))
    return np.logical_or.reduce([np.zeros(len(values), bool), *faults])


def tolerance(column: Column) -> tuple[float, float]:
    """The largest distance of a column from its formula: a number, and a fraction of the column's size."""
    if column.time == "dates":
        return EXACT_DATES
    return (0.0, 1e-6) if column.decimals is None else (0.5 * 10.0**-column.decimals, EXACT)


def computed(node: ast.expr, inputs: Mapping[str, Any], operations: Operations = OPERATIONS) -> Any:
    """The value of a formula at these inputs, which are arrays or whatever the operations take."""
    if isinstance(node, ast.Name):
        return inputs[node.id]
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp):
        return -computed(node.operand, inputs, operations)
    assert isinstance(node, ast.BinOp)
    return operations[type(node.op)](*(computed(each, inputs, operations) for each in (node.left, node.right)))


def inverted(
    node: ast.expr, value: Any, name: str, inputs: Mapping[str, Any], operations: Operations = OPERATIONS
) -> Any:  # fmt: skip
    """The value of the input ``name`` at which the formula takes this value."""
    if isinstance(node, ast.Name):
        return value
    if isinstance(node, ast.UnaryOp):
        return inverted(node.operand, -value, name, inputs, operations)
    assert isinstance(node, ast.BinOp)
    first = any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node.left))
    inner, other = (node.left, node.right) if first else (node.right, node.left)
    known, divided = computed(other, inputs, operations), operations[ast.Div]
    if isinstance(node.op, ast.Add):
        value = value - known
    elif isinstance(node.op, ast.Sub):
        value = value + known if first else known - value
    elif isinstance(node.op, ast.Mult):
        value = divided(value, known)
    else:
        value = value * known if first else divided(known, value)
    return inverted(inner, value, name, inputs, operations)


@dataclass(frozen=True)
class Missing(Rule):
    """The target is missing exactly in the rows in which the source has one of the given values.

    Args:
        keys: these values, with None for a missing cell.
        how: the rule in words.
    """

    keys: tuple[float | None, ...] = ()
    how: str = "missing"

    kind: ClassVar[str] = "missing"

    @property
    def text(self) -> str:
        """The rule as a user writes it, "dose missing where drug = none"."""
        return f"{named(self.target)} missing where {named(self.sources[0])} = {self.how}"

    def _where(self, source: np.ndarray) -> np.ndarray:
        found = np.isin(source, [key for key in self.keys if key is not None])
        return found | np.isnan(source) if None in self.keys else found

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that have a target although it should be missing according to the source."""
        source = u[self.sources[0]]
        return self._where(source) & ~np.isnan(source) & ~np.isnan(u[self.target])

    def denied(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows in which the target is missing but should not be, or should be but is not."""
        return self._where(u[self.sources[0]]) != np.isnan(u[self.target])

    def with_gaps(self, u: ColumnNumbers, before: ColumnNumbers, fields: Fields) -> None:
        """Make the target missing in exactly those rows in which the source says so, in place."""
        u[self.target] = np.where(self._where(u[self.sources[0]]), np.nan, before[self.target])


@dataclass(frozen=True)
class Pinned(Rule):
    """The target has certain values in all rows in which the source has some of its values, and has none of them in
    rows in which the source has others: minutes is 0 if rain is 0, and otherwise it is not.

    Args:
        values: these values of the target: codes of levels, or one number.
        keys: values of the source.
        states: for each key, 1 if the target always has one of the values, -1 if it never has, and 0 if it may.
        rest: the same for all other values of the source.
        usual: a frequent source of targets with one of the values, and one of other targets.
        other: a value of other targets.
        sign: 1 if a target of numbers has other values only above the value, -1 if only below it; 0 for levels, and for
            other numbers.
        how: the rule in words, after the target.
    """

    values: tuple[float, ...] = ()
    keys: tuple[float, ...] = ()
    states: tuple[int, ...] = ()
    rest: int = 0
    usual: tuple[float, float] = (math.nan, math.nan)
    other: float = math.nan
    sign: int = 0
    how: str = ""

    kind: ClassVar[str] = "pinned"

    def __post_init__(self) -> None:
        if len(self.sources) != 1 or not self.values or not len(self.keys) == len(self.states) > 0:
            what = f"a rule has {len(self.sources)} sources, {len(self.keys)} keys and {len(self.states)} states"
            raise InputError(what, "give one source, and a state for each key")

    @property
    def text(self) -> str:
        """The rule as a user writes it, "minutes = 0 exactly where rain = 0"."""
        return f"{named(self.target)} {self.how}"

    def state(self, source: np.ndarray) -> np.ndarray:
        """The state of each value of the source ``[N]``; 0 if it is missing."""
        moved = is_value(source[:, None], np.array(self.keys)) @ (np.array(self.states) - self.rest)
        return np.where(np.isnan(source), 0, self.rest + moved)

    def has(self, target: np.ndarray) -> np.ndarray:
        """Mask ``[N]`` of the targets with one of the values."""
        return is_value(target[:, None], np.array(self.values)).any(-1)

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows whose target should have one of the values and has another one, or the reverse."""
        state, has = self.state(u[self.sources[0]]), self.has(u[self.target])
        return ((state > 0) & ~has & ~np.isnan(u[self.target])) | ((state < 0) & has)

    def _settled(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """The target, with another value in rows that break the rule."""
        made = np.where(self.state(u[self.sources[0]]) > 0, self.values[0], self.other)
        return np.where(self.broken(u, fields), made, u[self.target])

    def outward(self, u: ColumnNumbers, fields: Fields, mean: bool = False) -> np.ndarray | bool:
        """Settle the target, in place; returns the mask ``[N]`` of the rows that broke the rule, unless these are
        means."""
        bad = self.broken(u, fields)
        u[self.target] = self._settled(u, fields)
        return False if mean else bad

    def pull(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Give filled sources a frequent value for the target seen, if theirs breaks the rule, in place."""
        name, own = self.sources[0], seen[self.target]
        if name in u:
            bad = self.broken({name: u[name], self.target: own}, fields) & np.isnan(seen[name])
            u[name] = np.where(bad, np.where(self.has(own), *self.usual), u[name])

    def fill(self, u: ColumnNumbers, seen: ColumnNumbers, fields: Fields, left: ColumnNumbers) -> None:
        """Settle a filled target, in place; a filled source gives way to the target seen."""
        self.pull(u, seen, fields, left)
        u[self.target] = np.where(np.isnan(seen[self.target]), self._settled(u, fields), seen[self.target])


@dataclass(frozen=True)
class Combinations(Rule):
    """Combinations of levels of the sources and the target that never occur are impossible.

    Args:
        counts: the number of rows of each combination, None if it is impossible, flattened from ``[*sizes]`` in C
            order, so that the target's levels vary fastest.
        sizes: the number of levels of each source, then of the target.
    """

    counts: tuple[int | None, ...] = ()
    sizes: tuple[int, ...] = ()

    kind: ClassVar[str] = "combinations"

    def __post_init__(self) -> None:
        if not self.sources or len(self.sizes) != len(self.sources) + 1 or math.prod(self.sizes) != len(self.counts):
            what = f"combinations of {' x '.join(map(str, self.sizes))} levels have {len(self.counts)} counts"
            raise InputError(what, "give one for each combination")

    @property
    def text(self) -> str:
        """The rule as a user writes it, "sex & title"."""
        return " & ".join(map(named, (*self.sources, self.target)))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are combined, first the sources and then the target."""
        return (*self.sources, self.target)

    @property
    def exclusive(self) -> str:
        """"exactly one" or "at most one", if all columns have two levels and the rule says that this many of them have
        their second level; else ""."""
        ones, possible = np.indices(self.sizes).sum(0).ravel(), np.array([n is not None for n in self.counts])
        ways = {"exactly one": ones == 1, "at most one": ones <= 1}
        return next((how for how, is_one in ways.items() if set(self.sizes) == {2} and (possible == is_one).all()), "")

    @cached_property
    def rows(self) -> np.ndarray:
        """The number of rows of each combination, NaN if it is impossible. Each axis has ``size + 1`` places, the last
        of which is for a missing level."""
        counts = np.array([np.nan if n is None else n for n in self.counts], dtype=np.float64).reshape(self.sizes)
        for axis in range(len(self.sizes)):
            gone = np.isnan(counts).all(axis, keepdims=True)
            counts = np.concatenate([counts, np.where(gone, np.nan, np.nansum(counts, axis, keepdims=True))], axis)
        return counts

    def broken(self, u: ColumnNumbers, fields: Fields) -> np.ndarray:
        """Mask ``[N]`` of the rows that hold an impossible combination."""
        places = [np.where(np.isnan(u[name]), size, np.nan_to_num(u[name])).astype(np.int64)
                  for name, size in zip(self.names, self.sizes)]  # fmt: skip
        return np.isnan(self.rows[tuple(places)]) & (places[-1] < self.sizes[-1])

    def levels_of(self, name: str, row: Mapping[str, float]) -> np.ndarray:
        """The number of rows of each level of a column, given the levels of the other columns in a row; NaN if the
        level is impossible."""
        axis = self.names.index(name)
        at = [size if np.isnan(row[each]) else int(row[each]) for each, size in zip(self.names, self.sizes)]
        del at[axis]
        found: np.ndarray = np.moveaxis(self.rows, axis, -1)[tuple(at)]
        return found[: self.sizes[axis]]


def stated(rules: Sequence[Rule], fields: Fields) -> list[tuple[str, str]]:
    """(what each rule says, its reason). Several rules that together say "exactly one of these columns is 1" are
    combined.

    >>> group = [Combinations("c", ("a", "b"), "in all", (None, 9, 9, None, 9, None, None, None), (2, 2, 2)),
    ...          Combinations("b", ("a",), "in all", (9, 9, 9, None), (2, 2))]
    >>> stated(group, {name: Column(name, "binary", "int64", "bernoulli", (0, 1)) for name in "abc"})
    [('exactly one of a, b, c is 1', 'in all')]
    """
    bound = [rule for rule in rules if isinstance(rule, Combinations)]
    groups = {rule.names: rule.exclusive for rule in bound if len(rule.names) > 2 and rule.exclusive}
    first = {names[:size] for names in groups for size in range(2, len(names))}
    found = []
    for rule in rules:
        text, names = rule.text, rule.names if isinstance(rule, Combinations) else ()
        if isinstance(rule, Combinations) and names in first and rule.exclusive == "at most one":
            continue
        if names in groups:
            one = str((fields[names[0]].levels or (0, 1))[1]).lower()
            text = f"{groups[names]} of {', '.join(map(named, names))} is {one}"
        found.append((text, rule.reason))
    return found


def settle_levels(rules: Sequence[Rule], u: ColumnNumbers, free: ColumnNumbers | None = None) -> None:
    """Change levels in rows whose levels are impossible together, in place.

    As few cells as possible change, and the cells of the last columns change first. A changed cell gets its most
    frequent possible level.

    Args:
        rules: the rules; only :class:`Combinations` count.
        u: codes ``[N]`` by column.
        free: masks ``[N]`` by column of the cells that may change; all by default.
    """
    bound = [rule for rule in rules if isinstance(rule, Combinations) and set(rule.names) <= set(u)]
    names = [name for name in u if any(name in rule.names for rule in bound)]
    bad = np.flatnonzero(np.any([rule.broken(u, {}) for rule in bound], 0)) if bound else np.empty(0, np.int64)
    if not len(bad):
        return
    values = np.stack([u[name][bad] for name in names])
    loose = np.ones_like(values) if free is None else np.stack([free[name][bad] for name in names])
    distinct, which = np.unique(np.concatenate([values, loose]), axis=1, return_inverse=True)
    settled = np.array([_settled(bound, names, *np.split(each, 2)) for each in distinct.T])
    for name, levels in zip(names, settled[which.ravel()].T):
        u[name] = u[name].copy()
        u[name][bad] = levels


def _settled(rules: Sequence[Combinations], names: list[str], values: np.ndarray, loose: np.ndarray) -> list[float]:
    row = dict(zip(names, values.tolist()))
    left = [name for name, is_loose in zip(names, loose) if is_loose and not np.isnan(row[name])]
    return list((_possible(rules, row | dict.fromkeys(left, np.nan), left, row) or row).values())


def _possible(
    rules: Sequence[Combinations], row: dict[str, float], left: list[str], before: Mapping[str, float]
) -> dict[str, float] | None:
    """The row with possible levels for the columns ``left``, keeping the levels ``before`` if they are possible; None
    if there are no such levels."""
    if not left:
        return row
    name, *rest = left
    rows = np.min([rule.levels_of(name, row) for rule in rules if name in rule.names], 0)  # NaN if any of them is
    order = sorted(np.flatnonzero(~np.isnan(rows)).tolist(), key=lambda level: (level != before[name], -rows[level]))
    ways = (_possible(rules, row | {name: float(level)}, rest, before) for level in order)
    return next((way for way in ways if way is not None), None)


def named(name: str) -> str:
    """A column's name as it is written in a rule: quoted if it would be read as something else.

    >>> named("price"), named("net price")
    ('price', "'net price'")
    """
    plain = name.replace(".", "").replace("_", "").isalnum() and not name[:1].isdigit() and " " not in name
    return name if plain else repr(name)
