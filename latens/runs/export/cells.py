"""The values that the columns of a table can hold, and the rules between them, as tensor operations in float64.

:func:`outward` is :meth:`latens.schema.Table.outward` for means, and :func:`inward` is
:meth:`latens.schema.Table.inward`, both for graphs that run without latens. Numbers are ``{column: [N]}``, with codes
for levels and NaN for missing cells.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.runs.export.operators import neighbour, searchsorted
from latens.schema import Column, Table, rules
from latens.schema.arrow import pa
from latens.schema.column import CODED
from latens.schema.law import FURTHEST, SAME, TENTH, Calendar, Law, is_value
from latens.schema.rules import (
    EXACT,
    Combinations,
    Confined,
    DatePart,
    Formula,
    Function,
    Intervals,
    Missing,
    OfDates,
    Order,
    Pinned,
    Rule,
)

MOST = 20_000  # a graph holds at most this many combinations of levels, or dates of a calendar, as a table

Numbers = dict[str, Tensor]
Fields = dict[str, Column]


def inward(schema: Table, u: Tensor, c: Mapping[str, Tensor] | None = None) -> Tensor:
    """From the numbers ``[N, outer]`` of a table's columns, in their order, and the conditions c ``[N]`` to x
    ``[N, D]`` in the schema's storage."""
    found, fields = _known(schema, c) | dict(zip(schema.outer_by_name, u.unbind(-1))), schema.ruled
    for rule in schema.rules:
        bad = _broken(rule, found, fields)
        found[rule.target] = torch.where(bad, math.nan, found[rule.target])
        if rule.reproduces:
            made = _target(rule, found, fields)
            found[rule.target] = torch.where(found[rule.target].isnan(), made, found[rule.target])
    for rule in reversed(schema.rules):
        _take_out(rule, found, fields)
    return torch.stack([found[name] for name in schema.names], -1).to(getattr(torch, schema.storage))


def _known(schema: Table, c: Mapping[str, Tensor] | None) -> Numbers:
    return {name: values.double() for name, values in (c or {}).items() if name in schema.ruled}


def outward(schema: Table, x: Tensor, c: Mapping[str, Tensor] | None = None) -> Tensor:
    """From the means x ``[N, D]`` and the conditions c ``[N]`` to the numbers ``[N, outer]`` in a table, float64.

    Raises:
        NotImplementedError: a rule has more combinations of levels, or a calendar more dates, than a graph holds.
    """
    fields, u = schema.ruled, dict(zip(schema.names, x.double().unbind(-1)))
    bound = {rule.target for rule in schema.rules if rule.bounds}
    u |= {name: settled(fields[name], u[name]) for name in u if name not in bound}
    u = _known(schema, c) | u
    _settle_levels([rule for rule in schema.rules if isinstance(rule, Combinations)], u, schema.conditions)
    for rule in schema.rules:
        if rule.reproduces or rule.bounds or isinstance(rule, Pinned):
            u[rule.target] = _target(rule, u, fields, mean=True)
    return torch.stack([_typed(fields[name], u[name]) for name in schema.outer_by_name], -1)


def settled(column: Column, x: Tensor) -> Tensor:
    """:meth:`latens.schema.Column.settled` for means ``[N]``."""
    if column.kind == "count":
        return x.clamp_min(0)
    if column.kind in CODED:
        return x.round().clamp(0, len(column.levels or ()) - 1)
    if column.law is not None:
        x = _snapped(column.law, x)
    if column.decimals is not None:
        x = _rounded(x, column.decimals)
        x = _within(x, 10.0**-column.decimals) if column.kind == "positive" else x
    for decimals, size in column.sizes:
        x = torch.where(x.abs() >= size, _rounded(x, decimals), x)
    if column.kind == "bounded":
        x = _within(x, column.low, column.high)
    elif column.type.startswith("u"):
        x = x.clamp_min(0)
    return x if column.law is None else _within(x, column.low, column.high)


def _typed(column: Column, x: Tensor) -> Tensor:
    """The numbers, rounded if the column's type holds only whole numbers."""
    whole = pa.types.is_integer(column.arrow) or pa.types.is_date32(column.arrow)
    return x.round() if whole and column.kind not in CODED and column.kind != "count" else x


# Tables of numbers


def _take(values: Any, place: Tensor) -> Tensor:
    return torch.tensor(np.asarray(values, dtype=np.float64))[place]


def _place(edges: Any, x: Tensor, right: bool = False) -> Tensor:
    """For each number ``[N]``, the number of increasing edges that lie below it."""
    return searchsorted(torch.tensor(np.asarray(edges, dtype=np.float64)), x, right=right)


def _nearest(values: Any, x: Tensor) -> Tensor:
    """For each number, the nearest of the increasing values; of two at the same distance, the lower one."""
    values = np.asarray(values, dtype=np.float64)
    return _take(values, _place((values[1:] + values[:-1]) / 2, x))


def _is_one_of(values: Sequence[float] | np.ndarray, x: Tensor) -> Tensor:
    if not len(values):  # runtimes disagree about `any` of no values
        return torch.zeros_like(x, dtype=torch.bool)
    return (x.unsqueeze(-1) == torch.tensor(np.asarray(values, dtype=np.float64))).any(-1)


def _exact(number: Any) -> Tensor:
    """A number as a tensor, since exporters turn plain numbers into float32."""
    return torch.as_tensor(number, dtype=torch.float64)


def _within(x: Tensor, low: float | None, high: float | None = None) -> Tensor:
    """Each number moved to the nearest number in the range."""
    x = x if low is None else torch.maximum(x, _exact(low))
    return x if high is None else torch.minimum(x, _exact(high))


def _rounded(x: Tensor, decimals: int) -> Tensor:
    return (x * 10.0**decimals).round() / 10.0**decimals


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """The larger of two numbers; if one is NaN, the other."""
    return torch.where((a > b) | b.isnan(), a, b)


# The law of a column


def _snapped(law: Law, x: Tensor) -> Tensor:
    y = _within(x, law.low, law.high)
    if law.calendar is not None:
        there = _within(_on_calendar(law, law.calendar, y / law.period) * law.period, law.low, law.high)
        solid = _is_one_of(law.solid, ((y - _exact(law.origin)) / _exact(law.step or 1.0)).round())
        y = torch.where(solid, y, there) if law.step is not None else there
    y = _placed(law, y)
    if law.rounded:
        y = _within(_partly_rounded(law, y), law.low, law.high)
    if law.places:
        y = _nearest(law.places, y)
    if law.atoms:
        atom = _nearest(law.atoms, x)
        y = atom if law.is_complete else torch.where(is_value(x, atom), atom, y)
    return torch.where(x.isnan(), math.nan, y)


def _partly_rounded(law: Law, x: Tensor) -> Tensor:
    """``rounded`` of a :class:`~latens.schema.law.Law`."""
    count = _multiples(x, law.rounded[-1][0])
    done = (count - count.round()).abs() <= 4 * np.finfo(float).eps * count.abs()
    for unit, share in law.rounded:
        whole = (x / _exact(unit)).round()
        off = x / _exact(unit) - whole
        near = off.abs() <= share / 2
        spread = (off.abs() - share / 2) / (1 - share) * off.sign()
        multiple = whole * _exact(unit) if unit >= 1 else whole / _exact(round(1 / unit))
        x = torch.where(done, x, torch.where(near, multiple, (whole + spread) * _exact(unit)))
        done = done | near
    return x


def _multiples(x: Tensor, unit: float) -> Tensor:
    """Numbers in multiples of a power of ten."""
    return x / _exact(unit) if unit >= 1 else x * _exact(round(1 / unit))


def _placed(law: Law, x: Tensor) -> Tensor:
    if law.step is None:
        return x
    step, origin = _exact(law.step), _exact(law.origin)
    k, many = ((x - origin) / step).round(), round(1 / law.step, 6)
    is_fraction = many > 0 and abs(many * law.step - 1) < 1e-12
    return origin + (k / many if is_fraction else k * step)


def _on_calendar(law: Law, calendar: Calendar, x: Tensor) -> Tensor:
    """:meth:`latens.schema.law.Calendar.snap`."""
    several = len(calendar.times) > 1
    if law.cycles:
        moved = x + _exact(law.shift)
        day = moved.floor()
        rest = _within_hours(law, calendar, moved - day) if several and "day" in law.cycles else moved - day
    else:
        day, rest = (x.floor(), x - x.floor()) if several else (x - _exact(calendar.times[0]), x)
    if calendar.weekdays and "week" not in law.cycles:
        found, rest = _of_weeks(calendar, x if several else day + 0.5)
    else:
        found = _date(law, calendar, day, several)
    found = found + (_time(calendar, rest) if several else _exact(calendar.times[0]))
    return torch.where(_is_on(law, calendar, x), x, found) if calendar.shares else found


def _date(law: Law, calendar: Calendar, day: Tensor, several: bool) -> Tensor:
    if calendar.months:
        return _of_months(law, calendar, day) if "year" in law.cycles else _nearest(_dates(law, calendar), day)
    if calendar.days:
        return calendar.first + ((day - calendar.first) / calendar.days).round() * calendar.days
    if calendar.weekdays:
        return day + _take(calendar.to_weekday(), (day + 3).remainder(7).long())
    return day if several else day.round()


def _dates(law: Law, calendar: Calendar) -> np.ndarray:
    """The dates of a calendar from the year before the law's range to the year after it."""
    days = np.arange(math.floor(law.low / law.period) - 370, math.ceil(law.high / law.period) + 370.0)
    dates = Calendar(calendar.months, calendar.day, calendar.days, calendar.first, calendar.weekdays)
    found = days[dates.snap(days) == days]
    if len(found) > MOST:
        raise NotImplementedError(f"a calendar of {len(found):,} dates is too long for a graph")
    return found


def _of_months(law: Law, calendar: Calendar, day: Tensor) -> Tensor:
    """The date of the month of each day, or of the last month before it that has one."""
    ends = (np.array(math.floor(knot)).astype("datetime64[D]").astype("datetime64[M]").astype(int) for knot in
            (law.low, law.high))  # fmt: skip
    first, last = map(int, ends)
    starts = np.arange(first, last + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.float64)
    place = (_place(starts, day, right=True) - 1).clamp(0, len(starts) - 1)
    return _take(calendar.snap(starts, cycles=("year",)), place)


def _within_hours(law: Law, calendar: Calendar, rest: Tensor) -> Tensor:
    """:meth:`latens.schema.law.Calendar.within_hours`."""
    hours = law.phases["day"]
    edges = np.arange(hours + 1) / hours
    below = calendar.within_hours(edges, law.shift, hours)
    place = (_place(edges, rest, right=True) - 1).clamp(0, hours - 1)
    low, high = _take(below[:-1], place), _take(below[1:], place)
    return low + (rest - _take(edges[:-1], place)) * hours * (high - low)


def _of_weeks(calendar: Calendar, x: Tensor) -> tuple[Tensor, Tensor]:
    monday = ((x + 3) / 7).floor() * 7 - 3
    place = (x - monday) / 7 * len(calendar.weekdays)
    which = place.floor().clamp(0, len(calendar.weekdays) - 1)
    return monday + _take(calendar.weekdays, which.long()), (place - which).clamp(0, 1)


def _time(calendar: Calendar, share: Tensor) -> Tensor:
    n = len(calendar.times)
    if calendar.shares:
        return _take(calendar.times, _place(np.cumsum(calendar.shares), share, right=True).clamp(0, n - 1))
    at = (share * n - 0.5).clamp(0, n - 1)
    low = at.floor().clamp(0, n - 2)
    left, right = _take(calendar.times[:-1], low.long()), _take(calendar.times[1:], low.long())
    return left + (at - low) * (right - left)


def _is_on(law: Law, calendar: Calendar, x: Tensor) -> Tensor:
    day = (x + TENTH / 2).floor()
    near = (_nearest(calendar.times, x - day) - (x - day)).abs() <= TENTH / 2
    if calendar.months:
        return near & _is_one_of(_dates(law, calendar), day)
    if calendar.days:
        return near & ((day - calendar.first).remainder(calendar.days) == 0)
    return near & _is_one_of(calendar.weekdays or range(7), (day + 3).remainder(7))


def _following(law: Law, calendar: Calendar, x: Tensor) -> Tensor:
    """:meth:`latens.schema.law.Calendar.following`."""
    times = calendar.times if calendar.shares else (0.0,)
    day = (x + TENTH).floor()
    place = _place(times, x - day - TENTH)
    day, place = torch.where(place == len(times), day + 1, day), place.remainder(len(times))
    if calendar.months or calendar.days or calendar.weekdays:
        dates = _dates(law, calendar)
        on = _take(np.append(dates, dates[-1] + FURTHEST), _place(dates, day))
        day, place = on, torch.where(on == day, place, 0)
    return day + _take(times, place) if calendar.shares else torch.maximum(day, x)


def _preceding(calendar: Calendar, x: Tensor) -> Tensor:
    """:meth:`latens.schema.law.Calendar.preceding`."""
    day = (x + TENTH).floor()
    place = _place(calendar.times, x - day + TENTH, right=True) - 1
    return torch.where(place < 0, day - 1, day) + _take(calendar.times, place.remainder(len(calendar.times)))


# Rules between columns


def _values(column: Column, x: Tensor) -> Tensor:
    """The numbers that codes of levels stand for; numbers of other columns are unchanged."""
    if column.kind not in CODED:
        return x
    levels = [float(level) for level in column.levels or ()]
    return torch.where(x.isnan(), math.nan, _take(levels, x.nan_to_num().long().clamp(0, len(levels) - 1)))


def _codes(column: Column, x: Tensor) -> Tensor:
    """The inverse of :func:`_values`."""
    if column.kind not in CODED:
        return x
    order = np.argsort([float(level) for level in column.levels or ()])
    place = _place(rules.levels_as_numbers(column), x).clamp(0, len(order) - 1)
    return torch.where(x.isnan(), math.nan, _take(order, place))


def _target(rule: Rule, u: Numbers, fields: Fields, mean: bool = False) -> Tensor:
    """The target of a rule that determines or bounds it, computed from what is modelled."""
    if isinstance(rule, Confined):
        return _confined(rule, u, fields)
    if isinstance(rule, Order):
        return _ordered(rule, u, fields)
    if isinstance(rule, Pinned):
        made = torch.where(_state(rule, u) > 0, rule.values[0], rule.other)
        return torch.where(_unpinned(rule, u), made, u[rule.target])
    if isinstance(rule, Function):
        source = u[rule.sources[0]]
        found, known = _mapped(rule, source)
        if not mean and not isinstance(rule, DatePart):
            return found
        keys, values = rule.numbers()
        source = rules.part_of(source, rule.part) if isinstance(rule, DatePart) else source
        near = _take(values, _place((keys[1:] + keys[:-1]) / 2, source))
        return torch.where(known | source.isnan(), found, near)
    assert isinstance(rule, Formula | OfDates)
    column = fields[rule.target]
    made = _exact(rule.of(u)) if isinstance(rule, OfDates) else _computed(rule, u, fields)
    return made if column.decimals is None else _rounded(made, column.decimals)


def _state(rule: Pinned, u: Numbers) -> Tensor:
    """:meth:`latens.schema.rules.Pinned.state`."""
    source, found = u[rule.sources[0]], torch.full_like(u[rule.sources[0]], rule.rest)
    for key, state in zip(rule.keys, rule.states):
        found = torch.where(is_value(source, key), float(state), found)
    return torch.where(source.isnan(), 0.0, found)


def _unpinned(rule: Pinned, u: Numbers) -> Tensor:
    """:meth:`latens.schema.rules.Pinned.broken`."""
    state, own = _state(rule, u), u[rule.target]
    has = functools.reduce(torch.logical_or, [is_value(own, value) for value in rule.values])
    return ((state > 0) & ~has & ~own.isnan()) | ((state < 0) & has)


def _base(rule: Order, u: Numbers, fields: Fields) -> Tensor:
    return functools.reduce(_larger, [rule.sign * _values(fields[name], u[name]) for name in rule.sources])


def _is_code(rule: Order, x: Tensor) -> Tensor:
    if not rule.codes:
        return torch.zeros_like(x, dtype=torch.bool)
    codes = torch.tensor(rule.codes, dtype=torch.float64)
    return is_value(x.unsqueeze(-1), codes).any(-1)


def _ordered(rule: Order, u: Numbers, fields: Fields) -> Tensor:
    column, base = fields[rule.target], _base(rule, u, fields)
    apart = settled(rule.difference, u[rule.target])
    high = rule.sign * torch.where(_is_code(rule, apart), apart, base + apart)
    if column.kind in CODED:
        high = _nearest(rules.levels_as_numbers(column), high)
    else:
        high = settled(column, high)
    return _above(rule, column, high, base)


def _confined(rule: Confined, u: Numbers, fields: Fields) -> Tensor:
    column, base = rule.left(fields[rule.target]), _base(rule, u, fields)
    numbers = u[rule.target]
    if column.kind not in CODED and column.law is not None:
        numbers = _moved(rule, column.law, numbers, rule.sign * base)
    return _above(rule, column, _values(column, settled(column, numbers)), base)


def _moved(rule: Confined, law: Law, numbers: Tensor, bound: Tensor) -> Tensor:
    """:meth:`latens.schema.rules.Confined._moved`."""
    calendar = law.calendar
    if calendar is None or not calendar.has_times_alone:
        return numbers
    x, at = numbers / _exact(law.period), bound / _exact(law.period)
    whole = x.floor()
    after, rest, edge = rule.strict != rule.falling, x - whole, at - whole
    place = _place(calendar.times, edge + TENTH if after else edge - TENTH, right=after)
    below = _take(np.append(0.0, np.cumsum(calendar.shares)), place)
    first = edge + _exact((0.5 if after else -0.5) * (law.step or 0.0) / law.period)
    if rule.falling:
        moved = (rest / first).clamp(0, 1 - 1e-9) * below
    else:
        moved = below + ((rest - first) / (1 - first)).clamp(0, 1 - 1e-9) * (1 - below)
    solid = _is_one_of(law.solid, ((numbers - _exact(law.origin)) / _exact(law.step or 1.0)).round())
    solid = solid if law.step is not None else torch.zeros_like(solid)
    here = (edge >= 0) & (edge < 1) & ~moved.isnan() & ~solid & ~_is_on(law, calendar, x)
    return torch.where(here, (whole + moved) * _exact(law.period), numbers)


def _above(rule: Order, column: Column, numbers: Tensor, base: Tensor) -> Tensor:
    """The codes of the target's numbers, moved to the right side of the base if they are on the wrong one."""
    high = rule.sign * numbers
    low = high <= base if rule.strict else high < base
    return _codes(column, rule.sign * torch.where(low, _next(column, base, rule.strict, rule.sign), high))


def _next(column: Column, base: Tensor, strict: bool, sign: float) -> Tensor:
    """:func:`latens.schema.rules.next_value`."""
    law, atoms = column.law, rules.only_values(column)
    if atoms is not None:
        atoms = np.sort(sign * atoms)
        place = _place(atoms, base, right=strict)
        return torch.where(place == len(atoms), base, _take(np.append(atoms, 0.0), place))
    step = rules.step_of(column)
    if step is None:
        return neighbour(base, torch.full_like(base, math.inf)) if strict else base
    origin = 0.0 if law is None else sign * law.origin
    width, first = _exact(step), _exact(origin)
    places = (base - first) / width
    found = first + ((places + 1e-6).floor() + 1 if strict else (places - 1e-6).ceil()) * width
    if law is not None and law.calendar is not None:
        if sign < 0 and not law.calendar.has_times_alone:
            raise NotImplementedError("a graph does not hold values on a calendar that must be below another column")
        at = found / law.period
        found = (_following(law, law.calendar, at) if sign > 0 else -_preceding(law.calendar, -at)) * law.period
    found = found if column.decimals is None else _rounded(found, column.decimals)
    return found if strict else torch.maximum(found, base)


def _mapped(rule: Function, source: Tensor) -> tuple[Tensor, Tensor]:
    """(the target for each value of the source, NaN if unknown; mask of the known values)."""
    keys, values = rule.numbers()
    if isinstance(rule, DatePart):
        source = rules.part_of(source, rule.part)
        if rule.is_part:
            return source, ~source.isnan()
    if isinstance(rule, Intervals):
        place = (_place(keys, source + SAME * source.abs(), right=True) - 1).clamp(0, len(keys) - 1)
        known = ~source.isnan()
    else:
        place = _place(keys, source - SAME * source.abs()).clamp(0, len(keys) - 1)
        key = _take(keys, place)
        known = is_value(source, key)
    found = torch.where(known, _take(values, place), math.nan)
    if None in rule.keys:
        found = torch.where(source.isnan(), rule.void, found)
        known = known | source.isnan()
    return found, known


def _divided(a: Any, b: Any) -> Tensor:
    zero = _exact(b) == 0
    return torch.where(zero, math.nan, _exact(a) / torch.where(zero, 1.0, _exact(b)))


_OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: _exact(a) + _exact(b), ast.Sub: lambda a, b: _exact(a) - _exact(b),
    ast.Mult: lambda a, b: _exact(a) * _exact(b), ast.Div: _divided,
}  # fmt: skip


def _inputs(rule: Formula, u: Numbers, fields: Fields) -> Numbers:
    table = [math.nan if number is None else number for number in (*rule.table, None)]
    return {
        word: _take(table, torch.where(u[name].isnan(), len(rule.table), u[name].nan_to_num()).long())
        if word[0] == "t"
        else _values(fields[name], u[name])
        for word, name in zip(rule.words, rule.sources)
    }


def _computed(rule: Formula, u: Numbers, fields: Fields) -> Tensor:
    return rules.computed(rule.tree, _inputs(rule, u, fields), _OPERATIONS)


def _solved(rule: Formula, u: Numbers, fields: Fields, j: int) -> Tensor:
    """Source j computed from the target and the other sources ``[N]``; NaN if no level, or several, fit."""
    column = fields[rule.sources[j]]
    made = rules.inverted(rule.tree, u[rule.target], rule.single[j], _inputs(rule, u, fields), _OPERATIONS)
    if column.kind not in CODED:
        return made if column.decimals is None else _rounded(made, column.decimals)
    numbers, codes = rule.choices(column, j)
    codes = np.where((numbers == numbers[:, None]).sum(1) == 1, codes, np.nan)
    level = torch.where(made.isnan(), math.nan, _take(codes, _place((numbers[1:] + numbers[:-1]) / 2, made)))
    return torch.where(_broken(rule, u | {rule.sources[j]: level}, fields), math.nan, level)


def _is_held(column: Column, x: Tensor) -> Tensor:
    """Mask ``[N]`` of the numbers that a column can hold, NaN included; the opposite of
    :meth:`latens.schema.Column.faults`."""
    bad = x.isinf()
    if column.kind == "positive":
        bad = bad | (x <= 0)
    elif column.kind == "count":
        bad = bad | (x < 0) | (x != x.floor())
    elif column.kind == "bounded":
        bad = bad | (x < _exact(column.low)) | (x > _exact(column.high))
    return ~bad | x.isnan()


def _broken(rule: Rule, u: Numbers, fields: Fields) -> Tensor:
    """Mask ``[N]`` of the rows that break a rule."""
    own = u[rule.target]
    if isinstance(rule, Order):
        base, high = _base(rule, u, fields), rule.sign * _values(fields[rule.target], own)
        least = base - EXACT * high.abs()
        return (high <= least) | (high == base) if rule.strict else high < least
    if isinstance(rule, Function):
        source = u[rule.sources[0]]
        usual, known = _mapped(rule, source)
        return known & ~source.isnan() & ~own.isnan() & ~((own - usual).abs() <= 1e-6 * usual.abs())
    if isinstance(rule, Formula):
        made, (slack, share) = _computed(rule, u, fields), rules.tolerance(fields[rule.target])
        bad = (own - made).abs() > (1 + 1e-6) * slack + share * _larger(own.abs(), made.abs())
        for j in [j for j in rule.single if fields[rule.sources[j]].kind not in CODED]:
            name = rule.sources[j]
            bad = bad | (u[name].isnan() & ~_is_held(fields[name], _solved(rule, u, fields, j)))
        return bad
    if isinstance(rule, OfDates):
        return (own - rule.of(u)).abs() > rule.slack
    if isinstance(rule, Missing):
        source = u[rule.sources[0]]
        gone = _is_one_of([key for key in rule.keys if key is not None], source)
        return gone & ~source.isnan() & ~own.isnan()
    if isinstance(rule, Pinned):
        return _unpinned(rule, u)
    assert isinstance(rule, Combinations)
    return _impossible(rule, u)


def _impossible(rule: Combinations, u: Numbers) -> Tensor:
    """:meth:`latens.schema.rules.Combinations.broken`."""
    own = u[rule.target]
    if rule.rows.size > MOST:
        raise NotImplementedError(f"a rule on {rule.rows.size:,} combinations of levels is too long for a graph")
    place = torch.zeros_like(own, dtype=torch.long)
    for name, size in zip(rule.names, rule.sizes):
        place = place * (size + 1) + torch.where(u[name].isnan(), size, u[name].nan_to_num()).long()
    return (_take(np.isnan(rule.rows).ravel(), place) > 0) & ~own.isnan()


def _take_out(rule: Rule, u: Numbers, fields: Fields) -> None:
    """:meth:`latens.schema.rules.Rule.inward`, in place."""
    if isinstance(rule, Order) and not isinstance(rule, Confined):
        high = rule.sign * _values(fields[rule.target], u[rule.target])
        apart = high - _base(rule, u, fields)
        apart = torch.where(apart < 0, 0.0, apart)
        if rule.difference.decimals is not None:
            apart = _rounded(apart, rule.difference.decimals)
        u[rule.target] = torch.where(_is_code(rule, high), high, apart)
    elif isinstance(rule, Function):
        own, source = u.pop(rule.target), u[rule.sources[0]]
        values = np.unique([value for value in rule.values if value is not None])
        if None not in rule.keys and len(values):
            place = _place(values, own).clamp(0, len(values) - 1)
            key = _take(rule.inverse(values, only=True), place)
            here = source.isnan() & (_take(values, place) == own)
            u[rule.sources[0]] = torch.where(here, key, source)
    elif isinstance(rule, Formula):
        for j in rule.single:
            name, made = rule.sources[j], _solved(rule, u, fields, j)
            made = torch.where(_is_held(fields[name], made), made, math.nan)
            u[name] = torch.where(u[name].isnan(), made, u[name])
    if rule.reproduces:
        u.pop(rule.target, None)


def _settle_levels(bound: list[Combinations], u: Numbers, held: Sequence[str] = ()) -> None:
    """:func:`latens.schema.rules.settle_levels`, in place, by a table of all combinations of the columns that the rules
    connect; the columns ``held`` do not change."""
    for together in _linked([rule for rule in bound if set(rule.names) <= set(u)]):
        sizes = {name: size for rule in together for name, size in zip(rule.names, rule.sizes)}
        shape = {name: sizes[name] for name in u if name in sizes}
        if math.prod(shape.values()) > MOST:
            many = math.prod(shape.values())
            raise NotImplementedError(f"rules on {many:,} combinations of levels are too long for a graph")
        every = np.indices(tuple(shape.values())).reshape(len(shape), -1).astype(np.float64)
        free = {name: np.full(every.shape[1], name not in held) for name in shape}
        rules.settle_levels(together, table := dict(zip(shape, every)), free)
        place = torch.zeros((), dtype=torch.long)
        for name, size in shape.items():
            place = place * size + u[name].long()
        u |= {name: _take(table[name], place) for name in shape}


def _linked(bound: list[Combinations]) -> list[list[Combinations]]:
    """The rules in groups that share no column."""
    groups: list[list[Combinations]] = []
    for rule in bound:
        shared = [group for group in groups if any(set(rule.names) & set(each.names) for each in group)]
        groups = [group for group in groups if group not in shared]
        groups.append([*(each for group in shared for each in group), rule])
    return groups
