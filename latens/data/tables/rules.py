"""Find rules between columns that hold in every row and not by accident, and read those that the user names."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from latens.data.tables.kinds import DAYS, PIECE, SECONDS, _decimals, law_of
from latens.data.tables.kinds import SAMPLE as LOOKED_AT
from latens.errors import InputError, choose
from latens.schema import Column, Table
from latens.schema.arrow import listed, pa, value_of
from latens.schema.column import CODED, NUMERIC
from latens.schema.law import Law
from latens.schema.rules import (
    EXACT,
    ColumnNumbers,
    Combinations,
    Formula,
    Function,
    Intervals,
    Missing,
    Order,
    Rule,
    inverted,
    named,
    values_of,
)

LEAST = 100  # a rule is found only if at least this many rows can check it
ACCIDENT = -6.0  # and only if log10 of the chance that it holds by accident is below this
APART = 0.02  # an order is found if independent columns would break it in this share of the rows
HEAPED = 0.1  # the share of the rows on atoms that an ordered column may lose, if it is as often ordered by the rule
KEYS = 1000  # the most values of the source of a function
WIDE, SUMMED = 100, 24  # the most columns checked for functions and orders, and for formulas
BANDS = 30  # the most intervals of a function of intervals
MIXED = 300  # the rows that sums with any weights and products are fitted to
LEVELS = 20  # the most levels that have numbers of their own in a formula
POWER = 2  # the largest power of a column in a product
PARTS = {2: 24, 3: 16, 4: 12}  # number of parts of a sum: the most columns checked for them
GAPPED = 0.2  # columns with a larger share of missing cells are not checked for formulas
ASKED = "as asked"
COMBINED = 40  # the most columns of levels checked for combinations
MOST_EXCLUSIVE = 11  # the most columns of which one is 1
CELLS = 2500  # the most combinations of two columns
SAMPLE = 1000  # rows that candidates must hold in before all rows are checked


def _in_words(rows: int, chance: float) -> str:
    """The reason for a rule.

    >>> _in_words(4000, -12.3)
    'in all 4,000 rows; by accident 1 in 10^12'
    """
    return f"in all {rows:,} rows; by accident 1 in 10^{math.floor(-chance):,}"


# Functions of one column


def functions(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are a function of one other column. If two determine each other, the one with levels becomes the
    source."""
    names = list(fields)[:WIDE]
    found = _functions_by_target([name for name in names if name not in taken], fields, u)

    def rank(name: str) -> tuple[bool, bool, int]:
        return fields[name].kind not in ("binary", "categorical"), fields[name].kind not in CODED, names.index(name)

    gone = {target for target, ways in found.items()
            if any(target not in found.get(source, ()) or rank(source) < rank(target) for source in ways)}  # fmt: skip
    chosen: list[Rule] = []
    for target in sorted(gone, key=names.index):
        ways = [rule for source, rule in found[target].items() if source not in gone]
        chosen += sorted(ways, key=lambda rule: len(rule.keys))[:1]
    return chosen


def _functions_by_target(
    names: list[str], fields: dict[str, Column], u: ColumnNumbers
) -> dict[str, dict[str, Function]]:
    """All functions that hold, ``{target: {source: function}}``."""
    found: dict[str, dict[str, Function]] = {}
    for source in names:
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
    few = field.kind in CODED or (field.law is not None and field.law.is_complete)
    if not few:
        return None
    keys, place = np.unique(numbers, return_inverse=True)
    return (keys, place) if 2 <= len(keys) <= KEYS else None


def function_of(
    source: str, target: str, keys: np.ndarray, place: np.ndarray, own: np.ndarray, fields: dict[str, Column],
    least: float = ACCIDENT,
) -> Function | None:  # fmt: skip
    """The target as a function of the source, whose value in row i is ``keys[place[i]]``; None if there is no such
    function."""
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
    given, made = _or_none(keys), _or_none(values)
    if None in given and made[given.index(None)] is None and not np.isnan(own[np.isnan(keys[place])]).all():
        return None
    return Function(target, (source,), _in_words(int(seen.sum()), chance), given, made, tuple(rows.tolist()))


def intervals(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns of few values that change only at certain values of a column of many: bands, grades, years of dates."""
    names = list(fields)[:WIDE]
    few = [name for name in names if name not in taken and len(np.unique(u[name][:SAMPLE])) <= BANDS]
    found: dict[str, list[Intervals]] = {}
    for source in names:
        if not is_numeric(fields[source]) or keys_of(fields[source], u[source]) is not None:
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
    """The target as a function of intervals of the source; None if it is not one, or may be by accident."""
    x, y = u[source], u[target]
    seen = ~np.isnan(x) & ~np.isnan(y)
    order = np.argsort(x[seen], kind="stable")
    x_seen, y_seen = x[seen][order], y[seen][order]
    ends = np.flatnonzero(np.diff(y_seen))  # the last row of each interval but one
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
    missing = [(None, _or_none(void)[0], int(np.isnan(x).sum()))] if len(void) else []
    given, made, counts = zip(*missing, *zip([float(x_seen[0]), *keys], values.tolist(), rows.tolist()))
    return Intervals(target, (source,), _in_words(len(x_seen), chance), given, made, counts)


def _roundest(low: float, high: float) -> float:
    """The number with the fewest digits that is above the one and at most the other.

    >>> _roundest(29.7, 30.2), _roundest(0.1234, 0.1239), _roundest(-7, 3)
    (30.0, 0.1239, 0.0)
    """
    for digits in range(-15, 16):
        if low < (found := round(math.floor(high * 10.0**digits) / 10.0**digits, max(0, digits))) <= high:
            return found
    return high


def _simplest(low: float, high: float) -> float:
    """The number from the one to the other that has the fewest digits, or whose inverse has.

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


def _or_none(numbers: np.ndarray) -> tuple[float | None, ...]:
    """The numbers, None for NaN."""
    return tuple(None if np.isnan(number) else float(number) for number in numbers)


# Formulas


def formulas(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are another column in another unit, or the sum, product or quotient of others."""
    names = [name for name, field in fields.items() if name not in taken and is_numeric(field)][:SUMMED]
    values = {name: values_of(fields[name], u[name]) for name in names}
    found: list[Rule] = []
    for search in (_straight, _sums_of(2), _sums_of(3), _sums_of(4), _products, _spans):
        for target in reversed(names):  # a computed column mostly follows those from which it is computed
            gone = {name for rule in found for name in (rule.target, *rule.sources)}
            if fields[target].kind in CODED or target in gone:
                continue
            made = {rule.target for rule in found}
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
    """Columns that are a sum of others with any weights, or a product of their powers; a column of levels may add a
    number of each level, or multiply by it: price = 0.15 * minutes + [bike], bmi = weight / height / height."""
    free = [name for name in fields if name not in taken and np.isnan(u[name]).mean() <= GAPPED]
    names = [name for name in free if is_numeric(fields[name]) and fields[name].time != "dates"][:SUMMED]
    levels = [name for name in free if fields[name].kind in CODED and len(fields[name].levels or ()) <= LEVELS][:SUMMED]
    values = {name: values_of(fields[name], u[name]) for name in names}
    if not names:
        return []
    whole = np.flatnonzero(~np.isnan(np.stack([u[name] for name in {*names, *levels}])).any(0))
    some = whole[:: max(1, len(whole) // MIXED)][:MIXED]
    found: list[Rule] = []
    for target in reversed(names) if len(some) >= LEAST else ():
        gone = {name for rule in found for name in (rule.target, *rule.sources)}
        if fields[target].kind in CODED or target in gone:
            continue
        made = {rule.target for rule in found} | {target}
        x = {name: values[name][some] for name in names if name not in made and values[name][some].std() > 0}
        groups = {None: np.zeros(len(some))} | {name: u[name][some] for name in levels}
        for rule, level, is_product in _mixtures_of(target, values[target][some], x, groups, fields):
            codes = np.zeros(len(u[target])) if level is None else u[level]
            if (numbered := _with_numbers(rule, level, is_product, codes, values, fields)) is not None:
                found.append(numbered)
                break
    return found


def _mixtures_of(
    target: str, y: np.ndarray, x: ColumnNumbers, groups: dict[str | None, np.ndarray], fields: dict[str, Column]
) -> Iterable[tuple[Formula, str | None, bool]]:
    """Sums and products that give the target in some rows but for a number of each group: (formula, groups, whether it
    is a product)."""
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
    """The most by which rounding moves a number of the column; a ``share`` of the largest for numbers not rounded."""
    half = 0.0 if field.decimals is None else (0.5 + 1e-6) * 10.0**-field.decimals
    share = 2e-7 if field.type == "float" else share
    return max(half, share * float(np.nanmax(np.abs(numbers), initial=0.0)))


def _is_fit(columns: Sequence[np.ndarray], aim: np.ndarray) -> bool:
    """Whether a sum of the columns with any weights differs from the aim by at most 1, but for noise of that size."""
    design = np.column_stack(columns)
    if len(aim) < 2 * design.shape[1]:
        return False
    weights = np.linalg.lstsq(design, aim, rcond=None)[0]
    return bool(np.abs(design @ weights - aim).max() <= 1.5)


def _needed(own: np.ndarray, sources: ColumnNumbers, aim: np.ndarray) -> ColumnNumbers:
    """The sources without which the fit fails; none if it fails with all of them."""
    if not _is_fit([own, *sources.values()], aim):
        return {}
    kept = dict(sources)
    for name in sources:
        rest = {other: numbers for other, numbers in kept.items() if other != name}
        kept = rest if _is_fit([own, *rest.values()], aim) else kept
    return kept


def _weighted(weights: np.ndarray, columns: list[np.ndarray]) -> Iterable[str]:
    """Sums with these weights, rounded to fewer digits as far as the fit allows, the shortest first."""
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
    rule: Formula, level: str | None, is_product: bool, codes: np.ndarray, values: ColumnNumbers,
    fields: dict[str, Column],
) -> Formula | None:  # fmt: skip
    """The formula with the number that each group of rows adds, or multiplies it by; None if no number does for all."""
    how = f"{rule.how} {'*' if is_product else '+'} t{len(rule.sources)}"
    extended = dataclasses.replace(rule, sources=(*rule.sources, level or ""), how=how)
    numbered = with_table(extended, codes, values, fields)
    if numbered is None:
        return None
    if level is not None:
        return _holding(numbered, values | {level: codes}, fields)
    number = numbered.table[0]
    if number is not None and number != float(is_product):
        sign = "+" if number > 0 else "-"
        how = _times(number, rule.how) if is_product else f"{rule.how} {sign} {_written(abs(number))}"
        rule = dataclasses.replace(rule, how=how)
    return _holding(rule, values, fields)


def with_table(
    rule: Formula, codes: np.ndarray, values: ColumnNumbers, fields: dict[str, Column]
) -> Formula | None:
    """The formula with the numbers of its levels, from rows whose levels have the given codes; None if a level has no
    number that fits all of its rows."""
    word = next(word for word in rule.words if word[0] == "t")
    inputs = {other: values[name] for other, name in zip(rule.words, rule.sources) if other != word}
    own = values[rule.target]
    for share in (1e-14, 1e-9):
        slack = _slack_of(fields[rule.target], own, share)
        with np.errstate(invalid="ignore"):
            ends = np.sort([inverted(rule.tree, own + sign * slack, word, inputs) for sign in (-1, 1)], axis=0)
        whole = np.isfinite(ends).all(0)
        groups = [ends[:, (codes == code) & whole] for code in range(int(np.nanmax(codes)) + 1)]
        limits = [(float(low.max()), float(high.min())) if len(low) else None for low, high in groups]
        if any(limits) and all(each is None or each[0] <= each[1] for each in limits):
            table = tuple(None if each is None else _simplest(*each) for each in limits)
            return dataclasses.replace(rule, table=table)
    return None


def _straight(target: str, values: ColumnNumbers, dates: set[str]) -> Hows:
    """The target as another column in another unit."""
    for name in values:
        if name != target and (name in dates) == (target in dates):
            yield from (((name,), how) for how in _line(values[name], values[target]))


def _line(a: np.ndarray, b: np.ndarray, word: str = "v0") -> list[str]:
    """The lines b = k a + m through two points, as formulas, if the other points lie on them."""
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
        m = _simplest(float((b - k * a).min() - 1e-15 * top), float((b - k * a).max() + 1e-15 * top)) if m else 0.0
    return [_times(k, word) + (f" + {_written(m)}" if m > 0 else f" - {_written(-m)}" if m else "")]


def _sums_of(size: int) -> Callable[[str, ColumnNumbers, set[str]], Hows]:
    """The target as the sum of ``parts`` columns. If no column is negative, those that exceed the target are not
    tried."""

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
    changes = len(np.unique(own[told][:SAMPLE]))
    chance = changes * math.log10(min(0.5, slack / spread)) if spread > 0 else 0.0
    if chance > ACCIDENT:
        return None
    return dataclasses.replace(rule, reason=_in_words(int(told.sum()), chance))


# Orders


def orders(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Orders between columns of one kind of values, if independent columns would often break them."""
    names = [name for name, field in fields.items() if is_numeric(field)][:WIDE]
    values = {name: values_of(fields[name], u[name]) for name in names}
    below: dict[tuple[str, str], Order] = {}
    for low, high in permutations(names, 2):
        if fields[low].time == fields[high].time and (rule := _order(low, high, values, fields, u)) is not None:
            below[low, high] = rule
    implied = {(a, c) for a, b in below for other, c in below if other == b and (a, c) in below}
    return [rule for pair, rule in below.items() if pair not in implied and rule.target not in taken]


def _order(low: str, high: str, values: ColumnNumbers, fields: dict[str, Column], u: ColumnNumbers) -> Order | None:
    a, b = values[low], values[high]
    if (a[:SAMPLE] > b[:SAMPLE]).any() or (a > b).any():
        return None
    both = ~np.isnan(a) & ~np.isnan(b)
    law, count = fields[low].law, int(both.sum())
    has_code = law is not None and law.codes
    if count < LEAST or count < 0.95 * (~np.isnan(b)).sum() or has_code:
        return None
    out = float(np.searchsorted(np.sort(b[both]), a[both]).mean() / count)
    chance = count * math.log10(1 - out) if out < 1 else -np.inf
    if out < APART or chance > ACCIDENT:
        return None
    rule = order_of((low,), high, fields, u, strict=False)
    if rule is None or _heaps(fields[high], b) > _heaps(rule.difference, (b - a)[both]) + min(HEAPED, out):
        return None
    return dataclasses.replace(rule, reason=_in_words(count, chance))


def _heaps(field: Column, numbers: np.ndarray) -> float:
    """The share of the rows on atoms, unless all values of the column are atoms."""
    if field.law is None or field.law.is_complete:
        return 0.0
    return float(np.isin(numbers, [atom for atom in field.law.atoms if atom not in field.law.codes]).mean())


def order_of(
    sources: tuple[str, ...], target: str, fields: dict[str, Column], u: ColumnNumbers, *, strict: bool
) -> Order | None:
    """The order, with a column for the target's excess over its sources; None if no law can be found for that
    excess."""
    field = fields[target]
    base = np.fmax.reduce([values_of(fields[name], u[name]) for name in sources])
    codes = _codes_above(field)
    own = values_of(field, u[target])
    with np.errstate(invalid="ignore"):
        apart = np.maximum(own - base, 0.0)
    decimals = None if field.kind == "datetime" else _decimals(apart[~np.isnan(apart)][:20_000])
    apart = apart if decimals is None else np.round(apart, decimals)
    apart = apart[~np.isnan(apart) & ~np.isin(own, codes)]
    if not len(apart) or apart.max() == apart.min() or (codes and min(codes) <= 2 * apart.max()):
        return None
    shown = np.append(apart, own[np.isin(own, codes)])
    law = _law_of_all(shown, field.time)
    if law is None:
        return None
    half = (law.step or 0.0) / 2
    floor = law.origin - half if law.origin else half if strict else -half
    if law.places:  # more places as wide as the first lie below it, down to one that holds 0
        width = 2 * (law.places[0] - law.knots[0])
        floor = law.knots[0] - math.ceil(max(law.knots[0], 0.0) / width) * width
    law = dataclasses.replace(law, floor=floor)
    smooth = apart[~np.isin(apart, law.atoms)]
    smooth = smooth if len(smooth) > 1 else apart
    unit = float(smooth.std())
    difference = Column(
        target, "continuous", "double", "heaped", low=float(shown.min()), high=float(shown.max()),
        shift=float(smooth.mean()), unit=unit if unit > 0 else 1.0, decimals=decimals, law=law, missing=field.missing,
        reason=f"the excess of {target} over {listed(sources)}",
    )  # fmt: skip
    return Order(target, sources, "", difference, strict, codes)


def _codes_above(field: Column) -> tuple[float, ...]:
    """Values above all others, such as 9999-12-31, that may be codes."""
    return () if field.law is None else tuple(code for code in field.law.codes if code > field.law.high)


def _law_of_all(numbers: np.ndarray, time: str) -> Law | None:
    """The law of the numbers of all rows, or of a sample of many; ``time`` is the kind of time between dates."""
    steps = DAYS if time == "dates" else SECONDS if time else None
    distinct, counts = np.unique(numbers, return_counts=True)
    seen = dict(zip(distinct.tolist(), counts.tolist())) if len(distinct) <= 100_000 else None
    sample = np.random.default_rng(0).choice(numbers, 20_000, replace=False) if len(numbers) > 20_000 else numbers
    return law_of(np.sort(sample), seen, steps, (float(numbers.min()), float(numbers.max())))


# Combinations of levels


def combinations_of_levels(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Pairs of levels of two columns that never occur together, although they would if the columns were independent."""
    names = [name for name, field in fields.items() if field.kind in CODED and name not in taken][:COMBINED]
    pairs = [(one, two) for one, two in combinations(names, 2) if _cells(one, two, fields) <= CELLS]
    tested = math.log10(max(1, sum(_cells(one, two, fields) for one, two in pairs)))
    found: dict[str, list[tuple[float, Combinations]]] = {}
    for one, two in pairs:
        rows = counted((one, two), fields, u)
        never = (rows == 0) & (_chance_of_none(rows) + tested < ACCIDENT)
        if never.any() and rows.sum() >= LEAST:
            chance = float(_chance_of_none(rows)[never].max()) + tested
            words = (f"{never.sum():,} of {never.size:,} combinations in none of {int(rows.sum()):,} rows; by accident "
                     f"1 in 10^{math.floor(-chance):,} each")  # fmt: skip
            found.setdefault(two, []).append((chance, impossible((one, two), rows, never, words)))
    return [rule for ways in found.values() for _, rule in sorted(ways, key=lambda way: way[0])]


def exclusive(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns of 0 and 1 of which exactly one is 1 in each row, or at most one, such as the indicators of a level: for
    each of them the combinations with those before it."""
    names = [name for name, field in fields.items() if name not in taken and _is_indicator(field)][:COMBINED]
    ones = {name: np.nan_to_num(values_of(fields[name], u[name])) > 0 for name in names}
    found: list[Rule] = []
    while names:
        group = [names[0]]
        for name in names[1:]:
            if len(group) < MOST_EXCLUSIVE and not any((ones[name] & ones[other]).any() for other in group):
                group.append(name)
        names = [name for name in names if name not in group]
        several = np.stack([ones[name] for name in group])
        share, none = several.mean(1), float(np.prod(1 - several.mean(1)))
        is_one = bool(several.any(0).all())
        one = none * float((share / (1 - share)).sum())
        chance = several.shape[1] * math.log10(one + (0.0 if is_one else none))
        if len(group) < 3 or several.shape[1] < LEAST or chance > ACCIDENT:
            continue
        words = _in_words(several.shape[1], chance)
        for size in range(2, len(group) + 1):
            rows = counted(group[:size], fields, u)
            count = np.indices(rows.shape).sum(0)
            never = (count > 1) | ((count == 0) & is_one & (size == len(group)))
            found.append(impossible(group[:size], rows, never, words))
    return found


def _is_indicator(field: Column) -> bool:
    """Whether the levels are 0 and 1, or false and true."""
    return field.kind in CODED and len(field.levels or ()) == 2 and all(
        isinstance(level, bool | int | float) and level == code for code, level in enumerate(field.levels or ())
    )  # fmt: skip


def _cells(one: str, two: str, fields: dict[str, Column]) -> int:
    return len(fields[one].levels or ()) * len(fields[two].levels or ())


def counted(names: Sequence[str], fields: dict[str, Column], u: ColumnNumbers) -> np.ndarray:
    """The number of rows of each combination of levels, ``[*sizes]``; rows with a missing level do not count."""
    sizes = [len(fields[name].levels or ()) for name in names]
    values = np.stack([u[name] for name in names])
    whole = values[:, ~np.isnan(values).any(0)].astype(np.int64)
    place = np.ravel_multi_index(tuple(whole), sizes)
    return np.bincount(place, minlength=math.prod(sizes)).reshape(sizes)


def _chance_of_none(rows: np.ndarray) -> np.ndarray:
    """log10 of the chance that no row has a combination of two levels if the two columns are independent."""
    first, second = rows.sum(1, keepdims=True), rows.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = first * np.log10(1 - second / max(1, rows.sum()))
    return np.where(np.minimum(first, second) > 0, np.nan_to_num(chance), 0.0)


def impossible(names: Sequence[str], rows: np.ndarray, never: np.ndarray, reason: str) -> Combinations:
    """The rule that allows the combinations of levels that ``rows`` counts, except those that ``never`` marks, both
    ``[levels of each column]``."""
    counts = tuple(None if gone else int(n) for n, gone in zip(rows.ravel(), never.ravel()))
    return Combinations(names[-1], tuple(names[:-1]), reason, counts, rows.shape)


def joined_combinations(
    rules: Sequence[Combinations], first: Combinations, fields: dict[str, Column], u: ColumnNumbers
) -> Combinations:
    """All rules on combinations that share the first one's target, joined. A rule is left out if it would leave no
    possible level of the target for some combination of the sources; ``InputError`` if the user asked for that rule."""
    joined, reasons = first, [first.reason]
    for rule in rules:
        sources = tuple(dict.fromkeys((*joined.sources, *rule.sources)))
        names = (*sources, first.target)
        size = math.prod(len(fields[name].levels or ()) for name in names)
        if rule is first or rule.target != first.target or size > CELLS:
            continue
        rows = counted(names, fields, u)
        places = dict(zip(names, np.indices(rows.shape).reshape(len(names), -1) * 1.0))
        never = np.any([each.broken(places, fields) for each in (joined, rule)], 0).reshape(rows.shape)
        apart = np.any([each.broken(places, fields) for each in rules if {*each.sources, each.target} <= {*sources}]
                       or [np.zeros(rows.size, bool)], 0).reshape(rows.shape)  # fmt: skip
        if (never.all(-1) & ~apart.any(-1)).any():
            if rule.reason.endswith(ASKED):
                what = (f"--rule {rule.text!r} and {joined.text!r} leave {rule.target!r} no level for some levels of "
                        f"{listed(sources)} that no row combines")  # fmt: skip
                raise InputError(what, f"pass --rule {' & '.join(map(named, names))!r} instead")
        else:
            joined, reasons = impossible(names, rows, never, ""), [*reasons, rule.reason]
    return dataclasses.replace(joined, reason="; ".join(reasons))


# Gaps


def gaps(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are missing exactly where another column has certain levels, or is missing."""
    holes = {name: np.isnan(numbers) for name, numbers in u.items()}
    some = [name for name in list(fields)[:WIDE] if holes[name].any() and not holes[name].all() and name not in taken]
    found: list[Rule] = []
    for target in some:
        gone = {rule.target for rule in found}
        for source in list(fields)[:WIDE]:
            if source == target or source in gone:
                continue
            rule = _missing(source, target, holes, fields, u)
            if rule is not None:
                found.append(rule)
                break
    return found


def _missing(
    source: str, target: str, holes: dict[str, np.ndarray], fields: dict[str, Column], u: ColumnNumbers
) -> Missing | None:
    own, share = holes[target], float(holes[target].mean())
    keys: tuple[float | None, ...]
    if (holes[source] == own).all():
        groups, keys = [int(own.sum()), int((~own).sum())], (None,)
    elif fields[source].kind in CODED:
        values, place = np.unique(u[source], return_inverse=True)
        rows, gone = np.bincount(place), np.bincount(place, own)
        if ((gone > 0) & (gone < rows)).any():
            return None
        keys = _or_none(values[gone > 0])
        groups = rows.tolist()
    else:
        return None
    chance = sum(math.log10(share**n + (1 - share) ** n) if n < 1000 else n * math.log10(max(share, 1 - share))
                 for n in groups)  # fmt: skip
    if chance > ACCIDENT or len(own) < LEAST:
        return None
    levels = fields[source].levels or ()
    how = " or ".join("missing" if key is None else str(levels[int(key)]) for key in keys)
    return Missing(target, (source,), _in_words(len(own), chance), keys, how)


_SIGNS = ("<=", ">=", "->", "==", "≤", "≥", "<", ">", "=", "&")
_HELP = (
    "write start <= end, total = net + tax, price = 0.15 * minutes + [bike], city -> country, sex & title, "
    "dose missing where drug = none, or none; names with spaces in quotes"
)

MOST = 10_000  # the most combinations of levels


def declared(text: str, schema: Table, u: ColumnNumbers, where: str) -> list[Rule]:
    """The rules that a text names, checked against all rows; ``InputError`` if a row breaks one."""
    fields = schema.outer_by_name
    checked = []
    for rule in _parsed(text, schema, u, where):
        _require_kept(text, rule, rule.broken(u, fields), fields, u, where)
        told = ~np.isnan(np.stack([u[name] for name in (rule.target, *rule.sources)])).any(0)
        checked.append(dataclasses.replace(rule, reason=f"in all {int(told.sum()):,} rows, {ASKED}"))
    return checked


def _parsed(text: str, schema: Table, u: ColumnNumbers, where: str) -> list[Rule]:
    if match := re.fullmatch(r"(.+?)\s+missing\s+(?:exactly\s+)?where\s+(.+?)\s*(?:==?|\bis\b)\s*(.+)", text.strip()):
        return [_missing_asked(text, match, schema, u)]
    tokens = _tokens(text, [field.name for field in schema.fields])
    signs, sides = [token for token in tokens if token in _SIGNS], _split(tokens)
    if not signs or not all(sides):
        raise InputError(f"--rule {text!r} cannot be read", _HELP)
    _require_modelled(text, [token[1] for token in tokens if isinstance(token, tuple)], schema)
    if set(signs) == {"&"}:
        return [_combinations_asked(text, sides, schema, u)]
    if signs == ["->"]:
        return [_function_asked(text, sides, schema, u)]
    if signs in (["="], ["=="]):
        return [_formula_asked(text, sides, schema, u)]
    if set(signs) <= {"<=", "<", "≤"} or set(signs) <= {">=", ">", "≥"}:
        return _orders_asked(text, sides, signs, schema, u, where)
    raise InputError(f"--rule {text!r} cannot be read", _HELP)


def _require_kept(
    text: str, rule: Rule, bad: np.ndarray, fields: dict[str, Column], u: ColumnNumbers, where: str
) -> None:
    """Raise ``InputError`` for the first row that breaks the rule, if there is one."""
    if not bad.any():
        return
    row, count, told = int(bad.argmax()), int(bad.sum()), []
    for name in dict.fromkeys((*rule.sources, rule.target)):
        value = value_of(fields[name].decode(u[name][row : row + 1], given=True)[0])
        told.append(f"{name!r} is {value}")
    others = f" ({count:,} rows do)" if count > 1 else ""
    raise InputError(
        f"{where}, row {row} (counted from 0): {' and '.join(told)}, which breaks --rule {text!r}{others}",
        "correct the data, or omit the rule",
    )


def _require_modelled(text: str, names: Sequence[str], schema: Table) -> None:
    for name in names:
        field = schema.field(name)
        if name in schema.conditions:
            raise InputError(f"--rule {text!r}: column {name!r} is a condition, which is given", "omit the rule")
        if not field.is_modelled:
            raise InputError(f"--rule {text!r}: column {name!r} is {field.kind} and not modelled",
                             f"omit the rule, or pass --column {name!r}=KIND")  # fmt: skip


def _tokens(text: str, names: Sequence[str]) -> list[Any]:
    """The parts of a rule: signs and numbers as texts, names of columns as ("name", NAME)."""
    found: list[Any] = []
    by_length, rest = sorted(names, key=len, reverse=True), text.strip()
    while rest:
        quoted = re.match(r"'([^']*)'|\"([^\"]*)\"|`([^`]*)`", rest)
        name = next((n for n in by_length if rest.startswith(n) and not re.match(r"\w", rest[len(n) :])), None)
        if quoted:
            word, size = next(g for g in quoted.groups() if g is not None), quoted.end()
            if word not in names:
                raise _no_column(text, word, names)
            found.append(("name", word))
        elif name is not None:
            found.append(("name", name))
            size = len(name)
        elif match := re.match(r"<=|>=|->|==|[≤≥<>=+\-*/(),&\[\]]|\d+\.?\d*(?:[eE][+-]?\d+)?", rest):
            found.append(match[0])
            size = match.end()
        else:
            word = re.match(r"[^\s<>=+*/()&\[\]]+", rest)
            raise _no_column(text, word[0] if word else rest[0], names)
        rest = rest[size:].lstrip()
    return found


def _no_column(text: str, word: str, names: Sequence[str]) -> InputError:
    return InputError(f"--rule {text!r}: there is no column {word!r}", choose(word, names, listed(names)))


def _split(tokens: Sequence[Any]) -> list[list[Any]]:
    sides: list[list[Any]] = [[]]
    for token in tokens:
        if token in _SIGNS:
            sides.append([])
        else:
            sides[-1].append(token)
    return sides


def _only_name(text: str, side: Sequence[Any]) -> str:
    if len(side) != 1 or not isinstance(side[0], tuple):
        raise InputError(f"--rule {text!r}: one side of the sign must be a single column", _HELP)
    return str(side[0][1])


def _orders_asked(
    text: str, sides: list[list[Any]], signs: list[str], schema: Table, u: ColumnNumbers, where: str
) -> list[Rule]:
    names, fields = [_only_name(text, side) for side in sides], schema.outer_by_name
    if signs[0] in (">=", ">", "≥"):
        names, signs = names[::-1], signs[::-1]
    found: list[Rule] = []
    for low, high, sign in zip(names, names[1:], signs):
        for name in (low, high):
            if not is_numeric(fields[name]):
                what = f"column {name!r} is {fields[name].kind}, and only numbers or dates have an order"
                raise InputError(f"--rule {text!r}: {what}", "omit the rule")
        if low == high or fields[low].time != fields[high].time:
            raise InputError(f"--rule {text!r}: {low!r} and {high!r} must be two columns with the same kind of values")
        strict = sign in ("<", ">")
        draft = Order(high, (low,), "", fields[high], strict)
        _require_kept(text, draft, draft.broken(u, fields), fields, u, where)
        rule = order_of((low,), high, fields, u, strict=strict)
        if rule is None:
            what = f"{high!r} exceeds {low!r} by the same number in every row, or by numbers without a law"
            raise InputError(f"--rule {text!r}: {what}", f"write {high} = {low} + NUMBER, or omit the rule")
        found.append(rule)
    return found


def _formula_asked(text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers) -> Rule:
    left, right = sides if len(sides[0]) == 1 and isinstance(sides[0][0], tuple) else sides[::-1]
    target, fields = _only_name(text, left), schema.outer_by_name
    sources = list(dict.fromkeys(token[1] for token in right if isinstance(token, tuple)))
    level = right[right.index("[") + 1][1] if "[" in right and isinstance(right[right.index("[") + 1], tuple) else None
    words = {name: f"{'t' if name == level else 'v'}{j}" for j, name in enumerate(sources)}
    how = " ".join(words[token[1]] if isinstance(token, tuple) else token for token in right)
    how = how.replace(f"[ {words[level]} ]", words[level]) if level is not None else how
    for name in (target, *sources):
        if name == level and fields[name].kind not in CODED:
            what = f"column {name!r} is {fields[name].kind}, and [ ] needs levels"
            raise InputError(f"--rule {text!r}: {what}", f"pass --column {name!r}=categorical")
        if name != level and not is_numeric(fields[name]):
            what = f"column {name!r} is {fields[name].kind}, and a formula needs numbers"
            raise InputError(f"--rule {text!r}: {what}", "omit the rule, or name another column")
    is_coded = fields[target].kind in CODED
    if is_coded or not sources or target in sources:
        way = f"pass --column {target!r}=continuous" if is_coded else "write it as in total = net + tax"
        raise InputError(f"--rule {text!r} does not compute a number {target!r} from other columns", way)
    try:
        ast.parse(how, mode="eval")
        rule: Formula | None = Formula(target, tuple(sources), "", how)
    except (SyntaxError, InputError):
        raise InputError(f"--rule {text!r} cannot be read", _HELP) from None
    if level is not None and rule is not None:
        values = {name: values_of(fields[name], u[name]) for name in (target, *sources) if name != level}
        rule = with_table(rule, u[level], values, fields)
    if rule is None:
        raise InputError(f"--rule {text!r}: no number of each level of {level!r} holds in all rows", "omit the rule")
    return rule


def _function_asked(text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers) -> Rule:
    source, target = (_only_name(text, side) for side in sides)
    fields = schema.outer_by_name
    keys = keys_of(fields[source], u[source])
    if keys is None and source != target and is_numeric(fields[source]):
        if (bands := intervals_of(source, target, fields, u, least=-np.inf)) is not None:
            return bands
    if keys is None or source == target:
        what = f"{target!r} has no single value at each {source!r}, nor in each of at most {BANDS} intervals of it"
        raise InputError(f"--rule {text!r}: {what}", f"omit the rule, or pass --column {source!r}=categorical")
    rule = function_of(source, target, *keys, u[target], fields, least=-np.inf)
    if rule is not None:
        return rule
    values = np.full(len(keys[0]), np.nan)
    seen = ~np.isnan(u[target])
    values[keys[1][seen][::-1]] = u[target][seen][::-1]  # the first target of each key
    bad = seen & (values[keys[1]] != u[target])
    draft = Function(target, (source,), "", (0.0,), (0.0,), (1,))
    _require_kept(text, draft, bad, fields, u, schema.reason)
    raise AssertionError("a function that no row breaks")


def _combinations_asked(text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers) -> Rule:
    """The rule that only the combinations of levels that occur are possible."""
    fields, order = schema.outer_by_name, list(schema.outer_by_name)
    names = sorted({_only_name(text, side) for side in sides}, key=order.index)
    for name in names:
        if fields[name].kind not in CODED:
            what = f"column {name!r} is {fields[name].kind}, and combinations need levels"
            raise InputError(f"--rule {text!r}: {what}", f"pass --column {name!r}=categorical")
    size = math.prod(len(fields[name].levels or ()) for name in names)
    if len(names) < len(sides) or size > MOST:
        what = "a column is named twice" if len(names) < len(sides) else f"{size:,} combinations are more than {MOST:,}"
        raise InputError(f"--rule {text!r}: {what}", "name fewer columns")
    rows = counted(names, fields, u)
    if rows.all():
        raise InputError(f"--rule {text!r}: every combination occurs", "omit the rule")
    return impossible(names, rows, rows == 0, "")


def _missing_asked(text: str, match: re.Match[str], schema: Table, u: ColumnNumbers) -> Rule:
    names = [field.name for field in schema.fields]
    target, source = (next(iter(_tokens(word, names)))[1] for word in match.groups()[:2])
    _require_modelled(text, [target, source], schema)
    fields, word = schema.outer_by_name, match[3].strip().strip("'\"`")
    levels = {str(level): float(code) for code, level in enumerate(fields[source].levels or ())}
    if word in levels:
        key: float | None = levels[word]
    elif word in ("missing", "null"):
        key = None
    else:
        raise InputError(f"--rule {text!r}: column {source!r} has no level {word!r}",
                         f"name one of {listed([*levels, 'missing'])}")  # fmt: skip
    rule = Missing(target, (source,), "", (key,), word)
    _require_kept(text, rule, np.isnan(u[target]) != rule._where(u[source]), fields, u, schema.reason)
    return rule


NONE = "none"
MOST_CELLS = 1 << 25  # the most numbers of a table that is searched in all rows at once: 256 MiB
DENYING = 100  # the most rows of a piece, for each rule that they deny, that are added together
COMBINING = (exclusive, combinations_of_levels)
LEAVING = Function | Formula | Order | Combinations  # the targets of these rules are not searched for combinations


def with_rules(schema: Table, table: Any, asked: Sequence[str], where: str) -> Table:
    """The schema with the rules asked for and, unless "none" is among them, those found in the rows of the table.

    Raises:
        InputError: a rule cannot be read, is about columns that are not modelled, or is broken by a row.
    """
    texts = [text for text in asked if text.strip().lower() != NONE]
    found = len(texts) == len(asked)
    if not texts and (not found or len(table) < LEAST or len(schema.outer) < 2):
        return schema
    u, fields = schema.numbers(table, where), schema.outer_by_name
    rules: list[Rule] = []
    for text in texts:
        for rule in declared(text, schema, u, where):
            rules = _added(rules, rule, text)
    if found:
        rules = _with_found(rules, fields, u)
    ordered = _sorted(_joined(rules, fields, u))
    assert ordered is not None
    return dataclasses.replace(schema, rules=tuple(ordered)) if ordered else schema


def with_rules_of_table(schema: Table, table: Any, asked: Sequence[str], where: str) -> Table:
    """The schema with its rules, from all rows of a table in memory: at once or, where their numbers would take more
    memory than the table itself, piece by piece as for a stream."""
    rows = len(table)
    if rows * len(schema.outer) <= MOST_CELLS:
        return with_rules(schema, table, asked, where)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(LOOKED_AT, rows), replace=False))
    pieces = range(0, rows, PIECE)
    return with_rules_of_all(
        schema, table.take(sample), lambda: ((first, table.slice(first, PIECE)) for first in pieces), asked, where
    )


def with_rules_of_all(
    schema: Table, sample: Any, pieces: Callable[[], Iterable[tuple[int, Any]]], asked: Sequence[str], where: str
) -> Table:  # fmt: skip
    """The schema with the rules that hold in all rows of a table that is read piece by piece: those that
    :func:`with_rules` finds in a sample. Rows that contradict one of them are added to the sample until no row
    contradicts any.

    Args:
        pieces: gives (number of the first row, arrow table) of each piece, as often as it is called.
    """
    some = f"a sample of {where}"
    found, added, before = with_rules(schema, sample, asked, some), set[int](), -1
    while found.rules and len(added) > before:
        before = len(added)
        for first, piece in pieces():
            u = schema.numbers(piece, where, first_row=first)
            while rows := _denying(found, u, first, added):
                added |= {first + row for row in rows}
                sample = pa.concat_tables([sample, piece.take(rows)]).unify_dictionaries()
                found = with_rules(schema, sample, asked, some)
    return found


def _denying(schema: Table, u: ColumnNumbers, first: int, added: set[int]) -> list[int]:
    """Some rows that contradict each rule, as positions in the piece whose first row is number ``first``, without rows
    added before."""
    denied = [np.flatnonzero(rule.denied(u, schema.outer_by_name)).tolist() for rule in schema.rules]
    return sorted({row for rows in denied for row in [row for row in rows if first + row not in added][:DENYING]})


def _with_found(rules: list[Rule], fields: dict[str, Column], u: ColumnNumbers) -> list[Rule]:
    """The rules asked for and those found in the rows, without circles and with one rule per target."""
    found = list(rules)
    for search in (functions, intervals, formulas, mixtures, exclusive, orders, combinations_of_levels, gaps):
        kinds = Function | Missing if search is gaps else LEAVING if search in COMBINING else Rule
        taken = {rule.target for rule in found if isinstance(rule, kinds)}
        for rule in search(fields, u, taken):
            if rule.target not in taken and _sorted([*found, rule]) is not None:
                found.append(rule)  # a target may have several orders
    return found


def _added(rules: list[Rule], rule: Rule, text: str) -> list[Rule]:
    """The rules with one more; ``InputError`` if they form a circle, or two rules determine the same column."""
    same = [each for each in rules if each.target == rule.target and Missing not in (type(each), type(rule))]
    if same and not (len({type(each) for each in [*same, rule]}) == 1 and isinstance(rule, Order | Combinations)):
        what = f"--rule {text!r}: column {rule.target!r} is already bound by {same[0].text}"
        raise InputError(what, "omit one of the two")
    if _sorted([*rules, rule]) is None:
        what = f"--rule {text!r} forms a circle with {listed([each.text for each in rules])}"
        raise InputError(what, "omit one of them")
    return [*rules, rule]


def _sorted(rules: Iterable[Rule]) -> list[Rule] | None:
    """The rules, sorted so that each follows those whose targets are its sources; None if they form a circle."""
    left, done = list(rules), []
    while left:
        targets = {rule.target for rule in left}
        free = [rule for rule in left if not targets & set(rule.sources)]
        if not free:
            return None
        done += free
        left = [rule for rule in left if rule not in free]
    return done


def _joined(rules: Sequence[Rule], fields: dict[str, Column], u: ColumnNumbers) -> list[Rule]:
    """The rules, with all orders of one target joined, and all combinations of one target joined."""
    found: dict[tuple[type, str], list[Rule]] = {}
    for rule in rules:
        found.setdefault((type(rule), rule.target), []).append(rule)
    every = [rule for rule in rules if isinstance(rule, Combinations)]
    joined: list[Rule] = []
    for same in found.values():
        if isinstance(same[0], Combinations):
            joined.append(joined_combinations(every, same[0], fields, u))
        elif isinstance(same[0], Order) and len(same) > 1:
            joined.append(_joined_orders([rule for rule in same if isinstance(rule, Order)], fields, u))
        else:
            joined += same
    return joined


def _joined_orders(same: Sequence[Order], fields: dict[str, Column], u: ColumnNumbers) -> Rule:
    sources = tuple(dict.fromkeys(name for each in same for name in each.sources))
    joined = order_of(sources, same[0].target, fields, u, strict=all(each.strict for each in same))
    assert joined is not None
    return dataclasses.replace(joined, reason="; ".join(each.reason for each in same))
