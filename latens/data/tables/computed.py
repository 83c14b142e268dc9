"""Columns computed from others: functions of one column, by value or by interval, and formulas of several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, islice, permutations

import numpy as np

from latens.data.tables.kinds import DAYS, NEARLY_ALL, REPEATED, SECONDS
from latens.schema import Column
from latens.schema.column import CODED, NUMERIC
from latens.schema.rules import (
    DATE_EDGES,
    DATE_PARTS,
    EXACT,
    UNITS,
    ColumnNumbers,
    DateEdge,
    DatePart,
    Elapsed,
    Formula,
    Function,
    Intervals,
    Rule,
    elapsed,
    inverted,
    part_of,
    values_of,
)

LEAST = 100  # a rule needs at least this many rows that can check it
ACCIDENT = -6.0  # and log10 of the chance that it holds by accident must be below this
KEYS = 1000  # the source of a function may have at most this many values
WIDE, SUMMED = 100, 24  # the most columns checked for functions and orders, and for formulas
BANDS = 30  # the most intervals of a function of intervals
MIXED = 300  # the number of rows to which weighted sums and products are fitted
LEVELS = 20  # a formula has one number per level only for columns with at most this many levels
POWER = 2  # the largest power of a column in a product
PARTS = {2: 24, 3: 16, 4: 12}  # for each number of terms in a sum, the most columns that are searched
GAPPED = 0.2  # columns with a larger share of missing cells are not checked for formulas
SAMPLE = 1000  # rows that candidates must hold in before all rows are checked


def in_words(rows: int, chance: float) -> str:
    """The reason for a rule, in words.

    >>> in_words(4000, -12.3)
    'in all 4,000 rows; by accident 1 in 10^12'
    """
    return f"in all {rows:,} rows; by accident 1 in 10^{math.floor(-chance):,}"


# Functions of one column


def functions(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are a function of one other column. If two columns determine each other, the one with levels becomes
    the source."""
    names = list(fields)[:WIDE]
    found = _functions_by_target([name for name in names if has_few_values(fields[name])], names, fields, u)

    def rank(name: str) -> tuple[bool, bool, bool, int]:
        kind = fields[name].kind
        return name not in taken, kind not in ("binary", "categorical"), kind not in CODED, names.index(name)

    gone = {target for target, ways in found.items() if target not in taken
            and any(target not in found.get(source, ()) or rank(source) < rank(target) for source in ways)}  # fmt: skip
    chosen: list[Rule] = []
    for target in sorted(gone, key=names.index):
        ways = [rule for source, rule in found[target].items() if source not in gone]
        chosen += sorted(ways, key=lambda rule: len(rule.keys))[:1]
    return chosen


def lookups(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are a function of a column of numbers on a grid, nearly all of which occur several times."""
    names = list(fields)[:WIDE]
    found = _functions_by_target([name for name in names if not has_few_values(fields[name])], names, fields, u)
    ways = {target: [*rules.values()] for target, rules in found.items() if target not in taken}
    return [min(own, key=lambda rule: len(rule.keys)) for own in ways.values()]


def _functions_by_target(
    sources: list[str], names: list[str], fields: dict[str, Column], u: ColumnNumbers
) -> dict[str, dict[str, Function]]:  # fmt: skip
    """All functions that hold, ``{target: {source: function}}``."""
    found: dict[str, dict[str, Function]] = {}
    for source in sources:
        keyed = keys_of(fields[source], u[source])
        if keyed is None:
            continue
        for target in names:
            if target != source and (rule := function_of(source, target, *keyed, u[target], fields)) is not None:
                found.setdefault(target, {})[source] = rule
    return found


def keys_of(field: Column, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(the values that a column can have, with NaN last if some are missing; the position of each row's value ``[N]``).
    None if there are too many values, or if the model may draw new ones."""
    if not has_few_values(field) and not _is_repeated(field, numbers):
        return None
    keys, place = np.unique(numbers, return_inverse=True)
    return (keys, place) if 2 <= len(keys) <= KEYS else None


def has_few_values(field: Column) -> bool:
    """Whether a column has levels, or only numbers that were seen."""
    return field.kind in CODED or (field.law is not None and (field.law.is_complete or field.law.places != ()))


def _is_repeated(field: Column, numbers: np.ndarray) -> bool:
    """Whether nearly all numbers of a column on a grid occur several times each, as those of people or days do."""
    if field.law is None or field.law.step is None:
        return False
    seen = np.unique(numbers[~np.isnan(numbers)], return_counts=True)[1]
    return len(seen) <= KEYS and seen.sum() >= REPEATED * len(seen) and (seen > 1).mean() >= NEARLY_ALL


def function_of(
    source: str, target: str, keys: np.ndarray, place: np.ndarray, own: np.ndarray, fields: dict[str, Column],
    least: float = ACCIDENT,
) -> Function | None:  # fmt: skip
    """The target as a function of the source, whose value in row i is ``keys[place[i]]``; None if it is not a
    function of it."""
    seen = ~np.isnan(own)
    values = np.full(len(keys), np.nan)
    values[place[:SAMPLE][seen[:SAMPLE]]] = own[:SAMPLE][seen[:SAMPLE]]
    if (values[place[:SAMPLE]] != own[:SAMPLE])[seen[:SAMPLE]].any():
        return None
    values[place[seen]] = own[seen]
    if (values[place] != own)[seen].any() or not seen.any():
        return None
    counts = np.bincount(place[seen], minlength=len(keys))
    share = np.unique(own[seen], return_counts=True)[1] / seen.sum()
    top = float(share.max())
    chance = sum(n * math.log10(top) + math.log10(((share / top) ** n).sum()) for n in counts[counts > 1].tolist())
    if len(share) < 2 or (chance > least and least > -np.inf) or (seen.sum() < LEAST and least > -np.inf):
        return None
    rows = np.bincount(place, minlength=len(keys))
    given, made = or_none(keys), or_none(values)
    if None in given and made[given.index(None)] is None and not np.isnan(own[np.isnan(keys[place])]).all():
        return None
    return Function(target, (source,), in_words(int(seen.sum()), chance), given, made, tuple(rows.tolist()))


def parts(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are a function of a part of a date: months, weekdays, weekends, hours, seasons. If the dates have
    few values, such columns are functions of the dates themselves."""
    names = list(fields)[:WIDE]
    found: dict[str, DatePart] = {}
    for source in [name for name in names if fields[name].time == "dates" and not has_few_values(fields[name])]:
        for part in DATE_PARTS:
            numbers = part_of(u[source], part)
            keys, place = np.unique(numbers, return_inverse=True)
            for target in [name for name in names if name not in {source, *taken, *found} and len(keys) > 1]:
                if part.endswith("of year") and not _is_number(fields[target], u[target], numbers):
                    continue  # in the dates of one year, everything is a function of the day of the year
                if (rule := function_of(source, target, keys, place, u[target], fields)) is not None:
                    found[target] = DatePart(**vars(rule), part=part)
    return list(found.values())


def _is_number(field: Column, own: np.ndarray, numbers: np.ndarray) -> bool:
    """Whether the column contains these numbers."""
    return is_numeric(field) and bool((np.isnan(own) | (values_of(field, own) == numbers)).all())


def _chance_of_all(own: np.ndarray) -> float:
    """log10 of the chance that all rows have their value by accident: in each, that of the most frequent value."""
    counts_of = np.unique(own, return_counts=True)[1]
    return float(len(own) * math.log10(counts_of.max() / len(own))) if len(own) else 0.0


def edges(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are the date or the time of a date with a time, or the start or end of its week, month, …."""
    names = list(fields)[:WIDE]
    found: dict[str, DateEdge] = {}
    for source in [name for name in names if fields[name].time == "dates"]:
        for edge in DATE_EDGES:
            for target in [name for name in names if name not in {source, *taken, *found}]:
                if (rule := edge_asked(source, target, edge, fields, u)) is not None:
                    found[target] = rule
    return list(found.values())


def edge_asked(
    source: str, target: str, edge: str, fields: dict[str, Column], u: ColumnNumbers, least: float = ACCIDENT
) -> DateEdge | None:  # fmt: skip
    """The rule that the target is the date, the time or an edge of the source; None if it is not, may be so by
    accident, or if each of them is the source itself."""
    if fields[target].time != ("times of day" if edge == "time" else "dates"):
        return None
    rule = DateEdge(target, (source,), edge=edge)
    for some in (slice(SAMPLE), slice(None)):
        part = {name: u[name][some] for name in (source, target)}
        if rule.broken(part, fields).any():
            return None
    own = u[target][~np.isnan(u[target])]
    chance = _chance_of_all(own)
    is_copy = bool((rule.of(u) == u[source])[~np.isnan(u[source])].all())
    if is_copy or (least > -np.inf and (chance > least or len(own) < LEAST)):
        return None
    return dataclasses.replace(rule, reason=in_words(len(own), chance))


def counts(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns of whole numbers that count the years, months, …, from one date to another, or to one date for all rows,
    such as ages."""
    names = list(fields)[:WIDE]
    dates = [name for name in names if fields[name].time == "dates"]
    found: list[Rule] = []
    for target in [name for name in names if name not in taken and _is_whole(fields[name])]:
        ways = (*permutations(dates, 2), *((date,) for date in dates))
        rules = (_count(target, sources, unit, fields, u) for sources in ways for unit in UNITS)
        found += islice((rule for rule in rules if rule is not None), 1)
    return found


def _is_whole(field: Column) -> bool:
    return is_numeric(field) and field.kind not in CODED and not field.time and field.decimals == 0


def _count(
    target: str, sources: tuple[str, ...], unit: str, fields: dict[str, Column], u: ColumnNumbers
) -> Elapsed | None:  # fmt: skip
    """The rule that the target counts these units between its sources, or from its only source to the same date in all
    rows; None if it does not count them, or if it may do so by accident."""
    own, until = u[target], None
    if len(sources) == 1 and (until := _until(u[sources[0]], own, unit)) is None:
        return None
    rule = Elapsed(target, sources, unit=unit, until=until)
    for some in (slice(50), slice(SAMPLE), slice(None)):
        if rule.broken({name: u[name][some] for name in (target, *sources)}, fields).any():
            return None
    if until is None and unit not in ("years", "months") and _is_exact(u[sources[1]] - u[sources[0]], UNITS[unit]):
        return None  # a formula says so too
    seen = ~np.isnan(own) & ~np.isnan(rule.of(u))
    chance = _chance_of_all(own[seen])
    if chance > ACCIDENT or seen.sum() < max(LEAST, 0.5 * (~np.isnan(own)).sum()):
        return None
    return dataclasses.replace(rule, reason=in_words(int(seen.sum()), chance))


def _is_exact(numbers: np.ndarray, unit: float) -> bool:
    """Whether all numbers are multiples of the unit, up to rounding."""
    whole = numbers[~np.isnan(numbers)] / unit
    return bool((np.abs(whole - np.round(whole)) < 1e-6).all())


def _until(start: np.ndarray, own: np.ndarray, unit: str) -> float | None:
    """The date to which the units from the start are counted, if it is the same in all rows: a day on which all rows
    have the numbers that they have. None if there is none."""
    seen = np.flatnonzero(~np.isnan(start) & ~np.isnan(own))[:SAMPLE]
    if unit not in ("years", "months", "days") or not len(seen):
        return None
    start, own = start[seen], own[seen]
    reach = UNITS[unit]
    low, high = (start + own * reach).max() - 3, (start + (own + 1) * reach).min() + 3
    days = np.arange(math.floor(low), math.ceil(high) + 1.0) if high - low < 800 else np.zeros(0)
    held = [day for day in days if (elapsed(start, day, unit) == own).all()]
    return _roundest_time("dates")(held[0] - 1, held[-1]) if held else None


def intervals(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns with few values that change only at certain values of another column: bands, grades, years of dates."""
    names = list(fields)[:WIDE]
    few = [name for name in names if name not in taken and len(np.unique(u[name][:SAMPLE])) <= BANDS]
    found: dict[str, list[Intervals]] = {}
    for source in names:
        if not is_numeric(fields[source]) or has_few_values(fields[source]):
            continue
        order = np.argsort(u[source][:SAMPLE], kind="stable")
        for target in few:
            own = u[target][:SAMPLE][order]
            if source == target or np.count_nonzero(np.diff(own[~np.isnan(own)])) > BANDS:
                continue
            if (rule := intervals_of(source, target, fields, u)) is not None:
                found.setdefault(target, []).append(rule)
    return [min(ways, key=lambda rule: len(rule.keys)) for ways in found.values()]


def intervals_of(
    source: str, target: str, fields: dict[str, Column], u: ColumnNumbers, least: float = ACCIDENT
) -> Intervals | None:  # fmt: skip
    """The target as a function of intervals of the source; None if it is not one, or may be one by accident."""
    x, y = u[source], u[target]
    seen = ~np.isnan(x) & ~np.isnan(y)
    order = np.argsort(x[seen], kind="stable")
    x_seen, y_seen = x[seen][order], y[seen][order]
    ends = np.flatnonzero(np.diff(y_seen))  # the last row of each interval, except the last interval
    if not 0 < len(ends) < BANDS or (x_seen[ends] == x_seen[ends + 1]).any():
        return None
    void = np.unique(y[np.isnan(x)])
    if len(void) > 1 or len(void) < np.isnan(x).any():
        return None
    rows = np.diff(np.concatenate([[-1], ends, [len(x_seen) - 1]]))
    values, distinct = y_seen[[0, *(ends + 1)]], np.unique(x_seen)
    sizes = np.diff(np.searchsorted(distinct, [*x_seen[[0, *(ends + 1)]], np.inf]))
    share = np.array([sizes[values == value].sum() for value in values]) / len(distinct)
    ways = math.lgamma(len(distinct)) - math.lgamma(len(rows)) - math.lgamma(len(distinct) - len(rows) + 1)
    chance = ways / math.log(10) + float((sizes * np.log10(share)).sum())
    if least > -np.inf and (chance > least or len(x_seen) < LEAST):
        return None
    between = _roundest_time(fields[source].time) if fields[source].time else _roundest
    keys = [between(float(x_seen[end]), float(x_seen[end + 1])) for end in ends.tolist()]
    missing = [(None, or_none(void)[0], int(np.isnan(x).sum()))] if len(void) else []
    given, made, counts = zip(*missing, *zip([float(x_seen[0]), *keys], values.tolist(), rows.tolist()))
    return Intervals(target, (source,), in_words(len(x_seen), chance), given, made, counts)


def _roundest(low: float, high: float) -> float:
    """The number with the fewest digits that is above ``low`` and at most ``high``.

    >>> _roundest(29.7, 30.2), _roundest(0.1234, 0.1239), _roundest(-7, 3), _roundest(50.0, 50.25)
    (30.0, 0.1239, 0.0, 50.2)
    """
    for digits in range(-15, 16):
        if not abs(high) * 10.0**digits < 2.0**53:
            return high  # further digits change nothing
        if low < (found := round(math.floor(high * 10.0**digits) / 10.0**digits, max(0, digits))) <= high:
            return found
    return high


def _simplest(low: float, high: float) -> float:
    """The number from ``low`` to ``high`` that has the fewest digits, or whose inverse has the fewest.

    >>> _simplest(0.01111111, 0.01111112) == 1 / 90, _simplest(0.149, 0.151)
    (True, 0.15)
    """
    found = _roundest(float(np.nextafter(low, -np.inf)), high)
    if 0 < low <= high < np.inf:
        inverse = _roundest(float(np.nextafter(1 / high, -np.inf)), 1 / low)
        if len(_written(inverse)) < len(_written(found)) and low <= 1 / inverse <= high:
            return 1 / inverse
    return found


def _roundest_time(time: str) -> Callable[[float, float], float]:
    """:func:`_roundest` for dates in days since 1970-01-01, or for times in seconds: the start of a year, a month, a
    day, an hour and so on."""

    def between(low: float, high: float) -> float:
        found = [math.floor(high / step) * step for step in (DAYS if time == "dates" else SECONDS)]
        if time == "dates":
            day = np.datetime64(math.floor(high), "D")
            found = [*(float(day.astype(f"M8[{unit}]").astype("M8[D]").astype(int)) for unit in "YM"), *found]
        return next((number for number in found if number > low), high)

    return between


def or_none(numbers: np.ndarray) -> tuple[float | None, ...]:
    """The numbers, None for NaN."""
    return tuple(None if np.isnan(number) else float(number) for number in numbers)


# Formulas


def formulas(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are another column in another unit, or the sum, product or quotient of others."""
    names = [name for name, field in fields.items() if is_numeric(field)][:SUMMED]
    values = {name: values_of(fields[name], u[name]) for name in names}
    found: list[Rule] = []
    for search in (_straight, _sums_of(2), _sums_of(3), _sums_of(4), _products, _spans):
        for target in reversed(names):  # a computed column usually stands after the columns it is computed from
            made = {rule.target for rule in found}
            if fields[target].kind in CODED or target in made or target in taken:
                continue
            others = [name for name in names if name not in {target, *made}]
            if (rule := _formula(target, others, search, values, fields)) is not None:
                found.append(rule)
    return found


def is_numeric(field: Column) -> bool:
    """Whether the cells are numbers or dates, including levels that are numbers."""
    return field.kind in NUMERIC or (
        field.kind in CODED and all(isinstance(v, int | float) and not isinstance(v, bool) for v in field.levels or ())
    )


Hows = Iterable[tuple[tuple[str, ...], str]]  # (sources, formulas)


def _formula(
    target: str, others: list[str], search: Callable[[str, ColumnNumbers, set[str]], Hows], values: ColumnNumbers,
    fields: dict[str, Column],
) -> Formula | None:  # fmt: skip
    """The first formula of a search that gives the target in every row, or None."""
    usual = [name for name in [target, *others] if np.isnan(values[name]).mean() <= GAPPED]
    if target not in usual:
        return None
    whole = np.flatnonzero(~np.isnan(np.stack([values[name] for name in usual])).any(0))
    if len(whole) < LEAST // 5:
        return None
    some = whole[:: max(1, len(whole) // 50)][:50]
    part = {name: values[name][some] for name in usual}
    part = {name: x for name, x in part.items() if not np.isnan(x).any() and x.std() > 0}
    dates = {name for name in part if fields[name].time == "dates"}
    for sources, how in search(target, part, dates) if target in part else ():
        rule = _holding(Formula(target, sources, "", how), values, fields)
        if rule is not None:
            return rule
    return None


def mixtures(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are a weighted sum of others, or a product of their powers. A column of levels may add, or multiply
    by, one number per level: price = 0.15 * minutes + [bike], bmi = weight / height / height."""
    names, levels = _mixed(fields, u)
    values = {name: values_of(fields[name], u[name]) for name in names}
    free, groups = _some_rows(values, {name: u[name] for name in levels})
    found: list[Rule] = []
    for target in reversed([name for name in free if fields[name].kind not in CODED]):
        if target in taken or any(target in rule.sources for rule in found):
            continue
        x = {name: numbers for name, numbers in free.items() if name != target}
        ways = _mixtures_of(target, free[target], x, groups, fields)
        numbered = (_with_numbers(*way, u, values, fields) for way in ways)
        for rule in islice((rule for rule in numbered if rule is not None), 1):
            found.append(rule)
            del free[target]
    return found


def _mixed(fields: dict[str, Column], u: ColumnNumbers) -> tuple[list[str], list[str]]:
    """(numeric columns, columns with few levels) that are checked for sums and products."""
    free = [name for name in fields if np.isnan(u[name]).mean() <= GAPPED]
    names = [name for name in free if is_numeric(fields[name]) and fields[name].time != "dates"]
    levels = [name for name in free if fields[name].kind in CODED and len(fields[name].levels or ()) <= LEVELS]
    return names[:SUMMED], levels[:SUMMED]


def _some_rows(
    values: ColumnNumbers, levels: ColumnNumbers
) -> tuple[ColumnNumbers, dict[str | None, np.ndarray]]:  # fmt: skip
    """A sample of evenly spaced rows without gaps: (the numeric columns that vary; the groups of the rows by each
    column of levels, and under None a single group of all rows). Both are empty if too few rows have no gap."""
    columns = [*values.values(), *levels.values()]
    whole = np.flatnonzero(~np.isnan(np.stack(columns)).any(0)) if columns else np.zeros(0, int)
    if len(whole) < LEAST:
        return {}, {}
    some = whole[:: max(1, len(whole) // MIXED)][:MIXED]
    varied = {name: numbers[some] for name, numbers in values.items() if numbers[some].std() > 0}
    return varied, {None: np.zeros(len(some))} | {name: codes[some] for name, codes in levels.items()}


def _mixtures_of(
    target: str, y: np.ndarray, x: ColumnNumbers, groups: dict[str | None, np.ndarray], fields: dict[str, Column]
) -> Iterable[tuple[Formula, str | None, bool]]:
    """Sums and products that give the target in the sample of rows, up to one number per group of rows. Each comes as
    (formula, column of the groups, whether it is a product)."""
    slack = _slack_of(fields[target], y)
    positive = {name: np.log(numbers) for name, numbers in x.items() if (numbers > 0).all()}
    for way, sources, aim, width in (
        (_weighted, x, y, np.full(len(y), slack)),
        (_powers, positive, np.log(y) if (y > 0).all() else None, slack / np.where(y > 0, y, 1.0)),
    ):
        if aim is None or not sources or y.std() == 0:
            continue
        ones = {level: (codes[:, None] == np.unique(codes)) / width[:, None] for level, codes in groups.items()}
        scaled, aim = {name: numbers / width for name, numbers in sources.items()}, aim / width
        if not _is_fit([*ones.values(), *scaled.values()], aim):
            continue
        for level, own in ones.items():
            kept = _needed(own, scaled, aim)
            if kept:
                weights = np.linalg.lstsq(np.column_stack([own, *kept.values()]), aim, rcond=None)[0][-len(kept) :]
                for how in way(weights, [*kept.values()]):
                    yield Formula(target, (*kept,), "", how), level, way is _powers


def _slack_of(field: Column, numbers: np.ndarray, share: float = 1e-9) -> float:
    """The largest error of rounding in the column; for numbers that are not rounded, a ``share`` of the largest."""
    half = 0.0 if field.decimals is None else (0.5 + 1e-6) * 10.0**-field.decimals
    share = 2e-7 if field.type == "float" else share
    return max(half, share * float(np.nanmax(np.abs(numbers), initial=0.0)))


def _is_fit(columns: Sequence[np.ndarray], aim: np.ndarray) -> bool:
    """Whether some weighted sum of the columns differs from the aim by about 1 at most (1.5, for noise in the fit)."""
    design = np.column_stack(columns)
    if len(aim) < 2 * design.shape[1]:
        return False
    weights = np.linalg.lstsq(design, aim, rcond=None)[0]
    return bool(np.abs(design @ weights - aim).max() <= 1.5)


def _needed(own: np.ndarray, sources: ColumnNumbers, aim: np.ndarray) -> ColumnNumbers:
    """The sources that the fit cannot do without; empty if the fit fails even with all of them."""
    if not _is_fit([own, *sources.values()], aim):
        return {}
    kept = dict(sources)
    for name in sources:
        rest = {other: numbers for other, numbers in kept.items() if other != name}
        kept = rest if _is_fit([own, *rest.values()], aim) else kept
    return kept


def _weighted(weights: np.ndarray, columns: list[np.ndarray]) -> Iterable[str]:
    """Sums with these weights, rounded to as few digits as the fit allows; the shortest sums come first."""
    for digits in range(1, 13):
        rounded = [float(f"{weight:.{digits}g}") for weight in weights.tolist()]
        apart = np.column_stack(columns) @ (np.array(rounded) - weights)
        if 0 not in rounded and float(np.ptp(apart)) <= 4.0:
            order = sorted(range(len(rounded)), key=lambda j: rounded[j] < 0)
            words = [_times(abs(rounded[j]), f"v{j}") for j in order]
            signs = ["+ " if rounded[j] > 0 else "- " for j in order]
            yield " ".join(map(str.__add__, signs, words)).removeprefix("+ ")


def _written(number: float) -> str:
    """The number in its fewest digits.

    >>> _written(2.0), _written(0.15)
    ('2', '0.15')
    """
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _times(number: float, word: str) -> str:
    """The number times a product, in the fewest digits.

    >>> _times(1, "v0"), _times(2.5, "v0"), _times(1 / 3, "v0 * v1")
    ('v0', '2.5 * v0', 'v0 * v1 / 3')
    """
    factor, divisor = _written(number), _written(1 / number)
    short = len(divisor) < len(factor) and 1 / float(divisor) == number
    return word if number == 1 else f"{word} / {divisor}" if short else f"{factor} * {word}"


def _powers(weights: np.ndarray, columns: list[np.ndarray]) -> Iterable[str]:
    """The product of the columns to these powers, if they are small whole numbers."""
    powers = np.round(weights)
    if np.abs(weights - powers).max() > 0.05 or not (np.abs(powers) <= POWER).all() or (powers == 0).any():
        return
    above = [f"v{j}" for j, power in enumerate(powers.tolist()) for _ in range(int(power))]
    below = [f"v{j}" for j, power in enumerate(powers.tolist()) for _ in range(int(-power))]
    yield " / ".join([" * ".join(above) or "1", *below])


def _with_numbers(
    rule: Formula, level: str | None, is_product: bool, u: ColumnNumbers, values: ColumnNumbers,
    fields: dict[str, Column],
) -> Formula | None:  # fmt: skip
    """The formula plus (or times) one number per group of rows; None if no number fits all rows of some group."""
    how = f"{rule.how} {'*' if is_product else '+'} t{len(rule.sources)}"
    extended = dataclasses.replace(rule, sources=(*rule.sources, level or ""), how=how)
    codes = np.zeros(len(u[rule.target])) if level is None else u[level]
    numbered = with_table(extended, codes, values, fields)
    if numbered is None:
        return None
    if level is not None:
        return _holding(numbered, values | {level: codes}, fields)
    number = numbered.table[0]
    least = 0.0 if is_product else EXACT * float(np.nanmax(np.abs(values[rule.target])))
    if number is not None and number != float(is_product) and abs(number) > least:
        sign = "+" if number > 0 else "-"
        how = _times(number, rule.how) if is_product else f"{rule.how} {sign} {_written(abs(number))}"
        rule = dataclasses.replace(rule, how=how)
    return _holding(rule, values, fields)


def with_table(
    rule: Formula, codes: np.ndarray, values: ColumnNumbers, fields: dict[str, Column]
) -> Formula | None:  # fmt: skip
    """The formula with one number per level, found from rows whose levels have the given codes; None if no number fits
    all rows of some level."""
    word = next(word for word in rule.words if word[0] == "t")
    inputs = {other: values[name] for other, name in zip(rule.words, rule.sources) if other != word}
    own, places = values[rule.target], range(int(np.nanmax(codes)) + 1)
    for share in (1e-14, 1e-9):
        slack = _slack_of(fields[rule.target], own, share)
        with np.errstate(invalid="ignore"):
            ends = np.sort([inverted(rule.tree, own + sign * slack, word, inputs) for sign in (-1, 1)], axis=0)
        limits = [_meeting(*ends[:, codes == code]) for code in places]
        if any(limits) and all(each is None or each[0] <= each[1] for each in limits):
            table = tuple(None if each is None else _simplest(*each) for each in limits)
            return dataclasses.replace(rule, table=table)
    return None


def _meeting(low: np.ndarray, high: np.ndarray) -> tuple[float, float] | None:
    """The lower and upper end of the intersection of the intervals ``[N]``: lower > upper if it is empty, None if there
    are no intervals."""
    known = np.isfinite(low) & np.isfinite(high)
    return (float(low[known].max()), float(high[known].min())) if known.any() else None


def _straight(target: str, values: ColumnNumbers, dates: set[str]) -> Hows:
    """The target as another column in another unit."""
    for name in values:
        if name != target and (name in dates) == (target in dates):
            yield from (((name,), how) for how in _line(values[name], values[target]))


def _line(a: np.ndarray, b: np.ndarray, word: str = "v0") -> list[str]:
    """The lines b = k a + m through two points, as formulas, if the other points lie on them; a line whose k has few
    digits comes first if it fits as well."""
    i, j = int(a.argmin()), int(a.argmax())
    k = float(f"{(b[j] - b[i]) / (a[j] - a[i]):.12g}")
    m = float(f"{b[i] - k * a[i]:.12g}")
    top = float(np.abs(b).max())
    if k == 0 or np.abs(k * a + m - b).max() > 1e-6 * max(1.0, top):
        return []
    m = 0.0 if abs(m) <= EXACT * top else m
    if np.abs(k * a + m - b).max() <= 1e-10 * top:  # numbers that are not rounded
        half = 4e-16 * top / max(a[j] - a[i], 1e-300)
        k = _simplest(*sorted(((b[j] - b[i]) / (a[j] - a[i]) - half, (b[j] - b[i]) / (a[j] - a[i]) + half)))
        apart = b - k * a
        low, high = float(apart.min() - 1e-15 * top), float(apart.max() + 1e-15 * top)
        near = [_simplest(low, high), *np.unique(apart).tolist()]
        m = max(near, key=lambda number: int((k * a + number == b).sum())) if m else 0.0
    width = 2 * float(np.abs(k * a + m - b).max()) + 1e-9 * top
    if k == 0:  # the target hardly varies
        return []
    short = next((x for n in range(1, 9) if np.abs((x := float(f"{k:.{n}g}")) * a + m - b).max() <= width), k)
    shift = f" + {_written(m)}" if m > 0 else f" - {_written(-m)}" if m else ""
    return [_times(each, word) + shift for each in dict.fromkeys((short, k))]


def _sums_of(size: int) -> Callable[[str, ColumnNumbers, set[str]], Hows]:
    """The target as the sum of ``parts`` columns. If no column is negative, columns that exceed the target are
    skipped."""

    def sums(target: str, values: ColumnNumbers, dates: set[str]) -> Hows:
        y = values[target]
        others = {name: x for name, x in values.items() if name != target}
        if all((x >= 0).all() for x in values.values()):
            others = {name: x for name, x in others.items() if (x <= y * (1 + 1e-6) + 1e-6).all()}
        for chosen in combinations(list(others)[: PARTS[size]], size):
            if len(dates & set(chosen)) == (target in dates):
                made = sum(others[name] for name in chosen)
                if np.abs(made - y).max() <= 0.5 + 1e-6 * np.abs(y).max():
                    yield chosen, " + ".join(f"v{j}" for j in range(size))

    return sums


def _products(target: str, values: ColumnNumbers, dates: set[str]) -> Hows:
    y = values[target]
    others = {name: x for name, x in values.items() if name not in {target, *dates}}
    if target in dates:
        return
    for one, other in combinations(others, 2):
        made = others[one] * others[other]
        if np.abs(made - y).max() <= 0.5 + 1e-6 * np.abs(y).max():
            yield (one, other), "v0 * v1"
    for one, other in permutations(others, 2):
        if (others[other] != 0).all() and np.abs(others[one] / others[other] - y).max() <= 0.5:
            yield (one, other), "v0 / v1"


def _spans(target: str, values: ColumnNumbers, dates: set[str]) -> Hows:
    """The target as the time between two dates, in any unit."""
    if target not in dates:
        for one, other in permutations(sorted(dates), 2):
            apart = values[one] - values[other]
            if apart.std() > 0:
                yield from (((one, other), how) for how in _line(apart, values[target], "(v0 - v1)"))


def _holding(rule: Formula, values: ColumnNumbers, fields: dict[str, Column]) -> Formula | None:
    """The formula with its reason, if it holds in every row and not by accident; else None."""
    numbers = {name: dataclasses.replace(field, kind="continuous", family="", law=None, levels=None)
               for name, field in fields.items() if name in (rule.target, *rule.sources)}  # fmt: skip
    told = ~np.isnan(np.stack([values[name] for name in (rule.target, *rule.sources)])).any(0)
    own = values[rule.target]
    if told.sum() < LEAST or rule.broken(values, numbers).any() or told.sum() < 0.5 * (~np.isnan(own)).sum():
        return None
    decimals, spread = fields[rule.target].decimals, float(own[told].std())
    if (1e-6 if decimals is None else EXACT) * float(np.abs(own[told]).max()) > 1e-3 * spread:
        return None  # two points are always on a line
    slack = max(0.0 if decimals is None else 10.0**-decimals, 1e-6 * spread)
    changes = own[told][None, :SAMPLE]
    if spread > slack:  # no number is near all targets, so each combination of the sources is a chance of its own
        changes = np.stack([values[name][told][:SAMPLE] for name in rule.sources])
    chance = np.unique(changes, axis=1).shape[1] * math.log10(min(0.5, slack / spread)) if spread > 0 else 0.0
    if chance > ACCIDENT:
        return None
    return dataclasses.replace(rule, reason=in_words(int(told.sum()), chance))
