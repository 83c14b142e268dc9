"""Find rules between columns that hold in every row, and not by accident; read the rules that the user states."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date
from functools import partial
from itertools import combinations, pairwise, permutations
from typing import Any

import numpy as np

from latens.data.tables.computed import (
    ACCIDENT,
    BANDS,
    LEAST,
    SAMPLE,
    WIDE,
    counts,
    edge_asked,
    edges,
    formulas,
    function_of,
    functions,
    has_few_values,
    in_words,
    intervals,
    intervals_of,
    is_numeric,
    keys_of,
    lookups,
    mixtures,
    or_none,
    parts,
    with_table,
)
from latens.data.tables.kinds import DAYS, PIECE, SECONDS, _decimals, grid_of, law_of, raised
from latens.data.tables.kinds import SAMPLE as LOOKED_AT
from latens.data.tables.pinned import pinned_asked, pins
from latens.errors import InputError, choose
from latens.schema import Column, Table
from latens.schema.arrow import listed, pa, value_of
from latens.schema.column import CODED
from latens.schema.law import Law, are_multiples
from latens.schema.rules import (
    DATE_EDGES,
    DATE_PARTS,
    UNITS,
    ColumnNumbers,
    Combinations,
    Confined,
    DatePart,
    Elapsed,
    Formula,
    Function,
    Missing,
    Order,
    Pinned,
    Rule,
    named,
    part_of,
    values_of,
)

APART = 0.02  # an order is kept if independent columns would break it in at least this share of the rows
HEAPED = 0.1  # a difference may take at most this share of the rows off the heaps or frequent endings of a column
ASKED = "as asked"
COMBINED = 40  # the most columns of levels checked for combinations
MOST_EXCLUSIVE = 11  # the most columns in a group of which one is 1
CELLS = 2500  # the most combinations of levels of two columns


# Orders


def orders(
    fields: dict[str, Column], u: ColumnNumbers, taken: set[str], conditions: Sequence[str] = ()
) -> list[Rule]:  # fmt: skip
    """Orders between columns with the same kind of values, if independent columns would often break the order."""
    names = [name for name, field in fields.items() if is_numeric(field)][:WIDE]
    values = {name: values_of(fields[name], u[name]) for name in names}
    below: dict[tuple[str, str], Order] = {}
    for low, high in permutations(names, 2):
        if fields[low].time != fields[high].time or {low, high} <= {*conditions}:
            continue
        if (rule := _order(low, high, values, fields, u, falling=high in conditions)) is not None:
            below[low, high] = rule
    implied = _implied(below)
    return [rule for pair, rule in below.items() if pair not in implied and rule.target not in taken]


def _implied(below: dict[tuple[str, str], Order]) -> set[tuple[str, str]]:
    """The orders a <= c, as pairs, for which there are also a <= b and b <= c, which are not dropped unless a <= c is.
    """
    costly = {pair for pair, rule in below.items() if isinstance(rule, Costly)}
    chains = [(a, b, c) for a, b in below for other, c in below if other == b and (a, c) in below]
    return {(a, c) for a, b, c in chains if (a, c) in costly or not {(a, b), (b, c)} & costly}


class Costly(Order):
    """An order that is dropped unless it becomes a :class:`Confined`, since its difference would take many rows off the
    atoms of the target."""


def _order(
    low: str, high: str, values: ColumnNumbers, fields: dict[str, Column], u: ColumnNumbers, *, falling: bool
) -> Order | None:
    """The order between two columns, if it holds and would not hold by accident. It bounds the upper column or, if
    ``falling``, the lower one."""
    a, b = values[low], values[high]
    if (a[:SAMPLE] > b[:SAMPLE]).any() or (a > b).any():
        return None
    both = ~np.isnan(a) & ~np.isnan(b)
    law, count = fields[low].law, int(both.sum())
    has_code = law is not None and law.codes
    target, source = (low, high) if falling else (high, low)
    if count < LEAST or count < 0.95 * (~np.isnan(values[target])).sum() or has_code:
        return None
    out = float(np.searchsorted(np.sort(b[both]), a[both]).mean() / count)
    chance = count * math.log10(1 - out) if out < 1 else -np.inf
    if out < APART or chance > ACCIDENT:
        return None
    rule = order_of((source,), target, fields, u, strict=False, falling=falling)
    if rule is None:
        return None
    lost = _heaps(fields[target], values[target]) - _heaps(rule.difference, (b - a)[both])
    rule = dataclasses.replace(rule, reason=in_words(count, chance))
    return Costly(**vars(rule)) if lost > min(HEAPED, out) else rule


def _heaps(field: Column, numbers: np.ndarray) -> float:
    """The share of the rows that lie on atoms; 0 if all values of the column are atoms."""
    if field.law is None or field.law.is_complete:
        return 0.0
    return float(np.isin(numbers, [atom for atom in field.law.atoms if atom not in field.law.codes]).mean())


def order_of(
    sources: tuple[str, ...], target: str, fields: dict[str, Column], u: ColumnNumbers, *, strict: bool,
    falling: bool = False,
) -> Order | None:
    """The order, with a column for the amount by which the target exceeds its sources, or falls below them; None if no
    law of that amount can be found."""
    field, sign = fields[target], -1.0 if falling else 1.0
    base = np.fmax.reduce([sign * values_of(fields[name], u[name]) for name in sources])
    codes = () if falling else _codes_above(field)
    own = sign * values_of(field, u[target])
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
    law = dataclasses.replace(law, floor=_floor(law, strict))
    smooth = apart[~np.isin(apart, law.atoms)]
    smooth = smooth if len(smooth) > 1 else apart
    unit = float(smooth.std())
    difference = Column(
        target, "continuous", "double", "heaped", low=float(shown.min()), high=float(shown.max()),
        shift=float(smooth.mean()), unit=unit if unit > 0 else 1.0, decimals=decimals, law=law, missing=field.missing,
        reason=f"the distance of {target} from {listed(sources)}",
    )  # fmt: skip
    return Order(target, sources, "", difference, strict, codes, falling)


def _floor(law: Law, strict: bool) -> float:
    """The number below which a difference has no mass."""
    if law.places:  # below the first place, further places of its width are allowed, down to the one that holds 0
        width = 2 * (law.places[0] - law.knots[0])
        return law.knots[0] - math.ceil(max(law.knots[0], 0.0) / width) * width
    half = (law.step or 0.0) / 2
    return law.origin - half if law.origin else half if strict else -half


def _codes_above(field: Column) -> tuple[float, ...]:
    """The largest values, such as 9999-12-31, if they may be codes."""
    return () if field.law is None else tuple(code for code in field.law.codes if code > field.law.high)


def _steps(time: str) -> tuple[float, ...] | None:
    """The grids to try for a kind of time between dates; None for numbers."""
    return DAYS if time == "dates" else SECONDS if time else None


def _law_of_all(numbers: np.ndarray, time: str) -> Law | None:
    """The law of the numbers of all rows, or of a sample if there are many; ``time`` is the kind of time between
    dates."""
    steps = _steps(time)
    distinct, counts = np.unique(numbers, return_counts=True)
    seen = dict(zip(distinct.tolist(), counts.tolist())) if len(distinct) <= 100_000 else None
    sample = np.random.default_rng(0).choice(numbers, 20_000, replace=False) if len(numbers) > 20_000 else numbers
    return law_of(np.sort(sample), seen, steps, (float(numbers.min()), float(numbers.max())))


def with_forms(
    rules: Sequence[Rule], fields: dict[str, Column], u: ColumnNumbers, conditions: Sequence[str],
    together: Collection[frozenset[str]] = (),
) -> list[Rule]:  # fmt: skip
    """The rules, with those orders (of one source each) as :class:`Confined` whose differences would lose heaps or
    frequent endings of the target, or which are between two columns of which one pins the other, ``together``.

    The model must have a confined target and its sources as they are. If the difference of another order takes the
    place of one of them, that order is confined, too; if it cannot be, the first one is not.
    """
    others = [rule for rule in rules if not isinstance(rule, Order)]
    orders = {i: rule for i, rule in enumerate(rules) if isinstance(rule, Order)}
    ways = {i: _confined(rule, others, fields, conditions) for i, rule in orders.items()}
    found = {i: way for i, way in ways.items() if way is not None}
    lost = {i for i in found if {orders[i].target, *orders[i].sources} in together or _loses(orders[i], fields, u)}
    chosen = _settled_forms(lost, found, orders)
    formed = _without_costly([found[i] if i in chosen else rule for i, rule in enumerate(rules)])
    return formed if _sorted(formed) is not None else _without_costly(rules)


def _without_costly(rules: Sequence[Rule]) -> list[Rule]:
    return [rule for rule in rules if not isinstance(rule, Costly)]


def _settled_forms(chosen: set[int], found: dict[int, Confined], orders: dict[int, Order]) -> set[int]:
    """The numbers of the orders that are confined, from those that should be; ``found`` holds their confined forms."""
    before: set[int] | None = None
    while chosen != before:
        before = set(chosen)
        for i in sorted(before):
            taken = {found[i].target, *found[i].sources}
            rivals = {j for j, rule in orders.items() if j not in chosen and not isinstance(rule, Costly)
                      and rule.target in taken}  # fmt: skip
            if rivals <= found.keys() and not _opposed([found[j] for j in chosen], found[i]):
                chosen = chosen | rivals
            else:
                chosen, found = chosen - {i}, {j: way for j, way in found.items() if j != i}
    return chosen


def _confined(
    rule: Order, others: Sequence[Rule], fields: dict[str, Column], conditions: Sequence[str]
) -> Confined | None:  # fmt: skip
    """The order as a :class:`Confined` whose target is the later of the two columns; None if there cannot be one."""
    low, high = (rule.target, *rule.sources) if rule.falling else (*rule.sources, rule.target)
    source, target = sorted((low, high), key=lambda name: (name not in conditions, list(fields).index(name)))
    field = fields[target]
    is_bound = any(each.target == target and not isinstance(each, Missing | Pinned) for each in others)
    if is_bound or any(each.target == source and each.reproduces for each in others):
        return None
    if field.kind not in CODED and (field.law is None or field.law.floor is not None):
        return None
    reason = f"{rule.reason}; {named(target)} keeps its own law"
    return Confined(target, (source,), reason, strict=rule.strict, falling=target == low)


def _loses(rule: Order, fields: dict[str, Column], u: ColumnNumbers) -> bool:
    """Whether the target has clearly more heaps and frequent endings than the difference that would replace it."""
    if isinstance(rule, Costly):
        return True
    field, base = fields[rule.target], values_of(fields[rule.sources[0]], u[rule.sources[0]])
    own = values_of(field, u[rule.target])
    told = ~np.isnan(own) & ~np.isnan(base) & ~np.isin(own, rule.codes)
    if not told.any():
        return False
    apart = np.abs(own - base)[told]
    apart = apart if rule.difference.decimals is None else np.round(apart, rule.difference.decimals)
    return _structure(own[told], field) - _structure(apart, field, is_apart=True) > HEAPED


def _structure(numbers: np.ndarray, field: Column, is_apart: bool = False) -> float:
    """The share of numbers ``[N]`` that are in heaps, or have an ending of the column more often than by chance;
    ``is_apart`` for distances between its numbers."""
    rows, law = len(numbers), field.law
    distinct, seen = np.unique(numbers, return_counts=True)
    heaps = raised(distinct, seen, grid_of(distinct, seen, _steps(field.time)))
    found = sum(count for count, _ in heaps) / rows
    if law is not None and law.rounded:
        others = numbers[~np.isin(numbers, [value for _, value in heaps])]
        return found + float(are_multiples(others, law.rounded[-1][0]).sum()) / rows
    if law is None or law.calendar is None or not law.calendar.shares or law.step is None:
        return found
    rest = numbers[~np.isin(numbers, [value for _, value in heaps])]
    places = round(law.period / law.step)
    if places < 2 or not len(rest):
        return found
    which = np.rint((rest - (0.0 if is_apart else law.origin)) / law.step) % places
    over = np.bincount(which.astype(np.int64), minlength=places) - len(rest) / places
    return found + float(over[over > 4 * math.sqrt(len(rest) / places + 1)].sum()) / rows


# Combinations of levels


def combinations_of_levels(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Pairs of levels of two columns that never occur together, although they would if the columns were independent."""
    names = [name for name, field in fields.items() if field.kind in CODED][:COMBINED]
    pairs = [(one, two) for one, two in combinations(names, 2)
             if two not in taken and _cells(one, two, fields) <= CELLS]  # fmt: skip
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
    """Columns of 0 and 1 of which exactly one is 1 in each row, or at most one, such as the indicators of a level. Each
    gets a rule on its combinations with the columns before it."""
    names = [name for name, field in fields.items() if _is_indicator(field)][:COMBINED]
    found: list[Rule] = []
    for group in _exclusive_groups({name: u[name] == 1 for name in names}):
        ones = np.stack([u[name] == 1 for name in group], 1)
        least, chance = int(ones.any(1).all()), _chance_of_one(ones)
        for size in range(2, len(group) + 1) if len(ones) >= LEAST and chance <= ACCIDENT else ():
            if group[size - 1] in taken:
                continue
            rows = counted(group[:size], fields, u)
            count = np.indices(rows.shape).sum(0)
            never = (count > 1) | (count < least * (size == len(group)))
            found.append(impossible(group[:size], rows, never, in_words(len(ones), chance)))
    return found


def _exclusive_groups(ones: dict[str, np.ndarray]) -> list[list[str]]:
    """Groups of at least three columns, of which no two are 1 in the same row."""
    groups: list[list[str]] = []
    for name, own in ones.items():
        for group in groups:
            if len(group) < MOST_EXCLUSIVE and not any((own & ones[other]).any() for other in group):
                group.append(name)
                break
        else:
            groups.append([name])
    return [group for group in groups if len(group) > 2]


def _chance_of_one(ones: np.ndarray) -> float:
    """log10 of the chance that independent columns with the same shares of ones as these, ``[N, columns]``, have
    exactly one 1 in each row (or at most one, if some of these rows have none)."""
    share, is_one = ones.mean(0), bool(ones.any(1).all())
    none = float(np.prod(1 - share))
    return len(ones) * math.log10(none * float((share / (1 - share)).sum()) + (0.0 if is_one else none))


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
    """The rule that allows all combinations of levels that ``rows`` counts, except those that ``never`` marks. Both are
    ``[levels of each column]``."""
    counts = tuple(None if gone else int(n) for n, gone in zip(rows.ravel(), never.ravel()))
    return Combinations(names[-1], tuple(names[:-1]), reason, counts, rows.shape)


def joined_combinations(
    rules: Sequence[Combinations], first: Combinations, fields: dict[str, Column], u: ColumnNumbers
) -> Combinations:
    """All combination rules with the target of the first, joined into one rule. A rule that would leave the target no
    possible level for some combination of the sources is left out; if the user asked for it, ``InputError``."""
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
                what = (f"--rule {rule.text!r} and {joined.text!r} leave no level of {rule.target!r} for some "
                        f"combinations of {listed(sources)} that no row has")  # fmt: skip
                raise InputError(what, f"pass --rule {' & '.join(map(named, names))!r} instead")
        else:
            joined, reasons = impossible(names, rows, never, ""), [*reasons, rule.reason]
    return dataclasses.replace(joined, reason="; ".join(reasons))


# Gaps


def gaps(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Rule]:
    """Columns that are missing in exactly the rows in which another column has certain levels, or is missing."""
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
        keys = or_none(values[gone > 0])
        groups = rows.tolist()
    else:
        return None
    chance = sum(math.log10(share**n + (1 - share) ** n) if n < 1000 else n * math.log10(max(share, 1 - share))
                 for n in groups)  # fmt: skip
    if chance > ACCIDENT or len(own) < LEAST:
        return None
    levels = fields[source].levels or ()
    how = " or ".join("missing" if key is None else str(levels[int(key)]) for key in keys)
    return Missing(target, (source,), in_words(len(own), chance), keys, how)


_SIGNS = ("<=", ">=", "->", "==", "≤", "≥", "<", ">", "=", "&")
_HELP = (
    "write start <= end, total = net + tax, price = 0.15 * minutes + [bike], city -> country, date of start -> day, "
    "age = years from born to visit, sex & title, dose missing where drug = none, "
    "minutes = 0 exactly where rain = 0, or none; names with spaces in quotes"
)

MOST = 10_000  # the most combinations of levels


def declared(text: str, schema: Table, u: ColumnNumbers, where: str) -> list[Rule]:
    """The rules that a text states, checked against all rows; ``InputError`` if a row breaks a rule."""
    fields = schema.ruled
    checked = []
    for rule in _parsed(text, schema, u, where):
        if rule.target in schema.conditions:
            what = f"column {rule.target!r} is a condition, which is given, so no rule can determine or bound it"
            raise InputError(f"--rule {text!r}: {what}", "omit the rule, or the condition")
        _require_kept(text, rule, rule.broken(u, fields), fields, u, where)
        told = ~np.isnan(np.stack([u[name] for name in (rule.target, *rule.sources)])).any(0)
        checked.append(dataclasses.replace(rule, reason=f"in all {int(told.sum()):,} rows, {ASKED}"))
    return checked


def _parsed(text: str, schema: Table, u: ColumnNumbers, where: str) -> list[Rule]:
    for form, build in _FORMS.items():
        if match := re.fullmatch(form, text.strip()):
            return [build(text, match, schema, u)]
    part, rest = _part(text, schema)
    tokens = _tokens(rest, [field.name for field in schema.fields])
    signs, sides = [token for token in tokens if token in _SIGNS], _split(tokens)
    if not signs or not all(sides):
        raise InputError(f"--rule {text!r} cannot be read", _HELP)
    _require_modelled(text, [token[1] for token in tokens if isinstance(token, tuple)], schema)
    if set(signs) == {"&"}:
        return [_combinations_asked(text, sides, schema, u)]
    if signs == ["->"]:
        return [_function_asked(text, sides, schema, u, part)]
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
        if name in schema.conditions and name not in schema.ruled:
            what = f"column {name!r} is a condition with missing cells, but rules need its value in every row"
            raise InputError(f"--rule {text!r}: {what}", "omit the rule")
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
    names, fields = [_only_name(text, side) for side in sides], schema.ruled
    if signs[0] in (">=", ">", "≥"):
        names, signs = names[::-1], signs[::-1]
    found: list[Rule] = []
    for low, high, sign in zip(names, names[1:], signs):
        for name in (low, high):
            if not is_numeric(fields[name]):
                what = f"column {name!r} is {fields[name].kind}, but only numbers or dates have an order"
                raise InputError(f"--rule {text!r}: {what}", "omit the rule")
        if low == high or fields[low].time != fields[high].time:
            raise InputError(f"--rule {text!r}: {low!r} and {high!r} must be two columns with the same kind of values")
        strict = sign in ("<", ">")
        falling = high in schema.conditions and low not in schema.conditions
        target, source = (low, high) if falling else (high, low)
        draft = Order(target, (source,), "", fields[target], strict, falling=falling)
        _require_kept(text, draft, draft.broken(u, fields), fields, u, where)
        rule = order_of((source,), target, fields, u, strict=strict, falling=falling)
        if rule is None:
            what = f"{high!r} exceeds {low!r} by the same number in every row, or by numbers that fit no distribution"
            raise InputError(f"--rule {text!r}: {what}", f"write {high} = {low} + NUMBER, or omit the rule")
        found.append(rule)
    return found


def _formula_asked(text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers) -> Rule:
    left, right = sides if len(sides[0]) == 1 and isinstance(sides[0][0], tuple) else sides[::-1]
    target, fields = _only_name(text, left), schema.ruled
    sources = list(dict.fromkeys(token[1] for token in right if isinstance(token, tuple)))
    levels = [name[1] for bracket, name in pairwise(right) if bracket == "[" and isinstance(name, tuple)][:1]
    _require_numbers(text, target, sources, levels, fields)
    rule = _formula_of(text, target, sources, right, levels)
    if not levels:
        return rule
    values = {name: values_of(fields[name], u[name]) for name in (target, *sources) if name not in levels}
    if (numbered := with_table(rule, u[levels[0]], values, fields)) is None:
        what = f"no choice of one number for each level of {levels[0]!r} fits all rows"
        raise InputError(f"--rule {text!r}: {what}", "correct the data, or omit the rule")
    return numbered


def _formula_of(text: str, target: str, sources: list[str], tokens: list[Any], levels: list[str]) -> Formula:
    """The formula that the tokens on one side of the equals sign form."""
    words = {name: f"{'t' if name in levels else 'v'}{j}" for j, name in enumerate(sources)}
    how = " ".join(words[token[1]] if isinstance(token, tuple) else token for token in tokens)
    try:
        how = re.sub(r"\[ (t\d+) \]", r"\1", how).replace("( ", "(").replace(" )", ")")
        ast.parse(how, mode="eval")
        return Formula(target, tuple(sources), "", how)
    except (SyntaxError, InputError):
        raise InputError(f"--rule {text!r} cannot be read", _HELP) from None


def _require_numbers(
    text: str, target: str, sources: list[str], levels: list[str], fields: dict[str, Column]
) -> None:  # fmt: skip
    for name in (target, *sources):
        if name in levels and fields[name].kind not in CODED:
            what = f"column {name!r} is {fields[name].kind}, but [ ] needs levels"
            raise InputError(f"--rule {text!r}: {what}", f"pass --column {name!r}=categorical")
        if name not in levels and not is_numeric(fields[name]):
            what = f"column {name!r} is {fields[name].kind}, but a formula needs numbers"
            raise InputError(f"--rule {text!r}: {what}", "omit the rule, or name another column")
    is_coded = fields[target].kind in CODED
    if is_coded or not sources or target in sources:
        way = f"pass --column {target!r}=continuous" if is_coded else "write it as in total = net + tax"
        raise InputError(f"--rule {text!r} does not compute a number {target!r} from other columns", way)


def _part(text: str, schema: Table) -> tuple[str, str]:
    """(the part or edge of a date that the rule begins with, "" if there is none; the rest of the rule)."""
    words = sorted((*DATE_PARTS, *DATE_EDGES), key=len, reverse=True)
    match = re.fullmatch(rf"\s*({'|'.join(words)})\s+of\s+(.+)", text)
    is_name = any(text.strip().startswith(field.name) for field in schema.fields if " of " in field.name)
    return (match[1], match[2]) if match and not is_name else ("", text)


def _function_asked(
    text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers, part: str
) -> Rule:  # fmt: skip
    source, target = (_only_name(text, side) for side in sides)
    fields = schema.ruled
    if part:
        return _part_asked(text, part, source, target, schema, u)
    if source != target and is_numeric(fields[source]) and not has_few_values(fields[source]):
        if (bands := intervals_of(source, target, fields, u, least=-np.inf)) is not None:
            return bands
    keys = keys_of(fields[source], u[source])
    if keys is None or source == target:
        what = f"{target!r} has no single value at each {source!r}, nor in each of at most {BANDS} intervals of it"
        raise InputError(f"--rule {text!r}: {what}", f"omit the rule, or pass --column {source!r}=categorical")
    rule = function_of(source, target, *keys, u[target], fields, least=-np.inf)
    if rule is not None:
        return rule
    values = np.full(len(keys[0]), np.nan)
    seen = ~np.isnan(u[target])
    values[keys[1][seen][::-1]] = u[target][seen][::-1]  # the first target value of each key
    bad = seen & (values[keys[1]] != u[target])
    draft = Function(target, (source,), "", (0.0,), (0.0,), (1,))
    _require_kept(text, draft, bad, fields, u, schema.reason)
    raise AssertionError("a function that no row breaks")


def _part_asked(text: str, part: str, source: str, target: str, schema: Table, u: ColumnNumbers) -> Rule:
    fields = schema.ruled
    if fields[source].time != "dates":
        what = f"column {source!r} is {fields[source].kind}, and has no {part}"
        raise InputError(f"--rule {text!r}: {what}", "omit the rule")
    if part in DATE_EDGES:
        if (found := edge_asked(source, target, part, fields, u, least=-np.inf)) is None or source == target:
            what = f"{target!r} is not the {part} of {source!r} in every row"
            raise InputError(f"--rule {text!r}: {what}", "correct the data, or omit the rule")
        return found
    keys, place = np.unique(part_of(u[source], part), return_inverse=True)
    rule = function_of(source, target, keys, place, u[target], fields, least=-np.inf)
    if rule is None or source == target:
        what = f"{target!r} has no single value at each {part} of {source!r}"
        raise InputError(f"--rule {text!r}: {what}", "omit the rule")
    return DatePart(**vars(rule), part=part)


def _count_asked(text: str, match: re.Match[str], schema: Table, u: ColumnNumbers) -> Rule:
    """The rule that a column counts the years, months, … from one date to another, or to a date that is written."""
    fields, unit, until = schema.ruled, match[2], None
    words = [match[1], match[3]]
    try:
        until = float(date.fromisoformat(match[4]).toordinal() - date(1970, 1, 1).toordinal())
    except ValueError:  # the name of a column
        words.append(match[4])
    names = [_only_name(text, _tokens(word, [field.name for field in schema.fields])) for word in words]
    _require_modelled(text, names, schema)
    for name in names[1:]:
        if fields[name].time != "dates":
            raise InputError(f"--rule {text!r}: column {name!r} is {fields[name].kind}, not a date", "omit the rule")
    _require_numbers(text, names[0], names[1:], [], fields)
    return Elapsed(names[0], tuple(names[1:]), unit=unit, until=until)


def _combinations_asked(text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers) -> Rule:
    """The rule that allows only the combinations of levels that occur."""
    fields, order = schema.ruled, list(schema.ruled)
    names = sorted({_only_name(text, side) for side in sides}, key=order.index)
    for name in names:
        if fields[name].kind not in CODED:
            what = f"column {name!r} is {fields[name].kind}, but combinations need levels"
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
    fields, word = schema.ruled, match[3].strip().strip("'\"`")
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


def _pin_asked(text: str, match: re.Match[str], schema: Table, u: ColumnNumbers) -> Rule:
    names = [field.name for field in schema.fields]
    sides = [(next(iter(_tokens(match[at], names)))[1], match[at + 1] == "!=" or "not" in match[at + 1], match[at + 2])
             for at in (1, 5)]  # fmt: skip
    _require_modelled(text, [name for name, _, _ in sides], schema)
    return pinned_asked(text, sides[0], sides[1], bool(match[4]), schema, u)


_IS = r"\s*(==?|!=|\bis\s+not\b|\bis\b)\s*"
_FORMS = {
    r"(.+?)\s+missing\s+(?:exactly\s+)?where\s+(.+?)\s*(?:==?|\bis\b)\s*(.+)": _missing_asked,
    rf"(.+?){_IS}(.+?)\s+(exactly\s+)?where\s+(.+?){_IS}(.+)": _pin_asked,
    rf"(.+?)\s*==?\s*({'|'.join(UNITS)})\s+from\s+(.+?)\s+to\s+(.+)": _count_asked,
}
NONE = "none"
MOST_CELLS = 1 << 22  # up to this many numbers (32 MiB), a table is searched in all rows at once
DENYING = 100  # the most rows of a piece that are added to the sample together, for each rule that they contradict
COMBINING = (exclusive, combinations_of_levels)
ALONE = (functions, formulas, mixtures, lookups, *COMBINING)  # searches that see no column that another rule determines
LEAVING = Function | Formula | Order | Combinations  # the targets of these rules are not searched for combinations


def with_rules(schema: Table, table: Any, asked: Sequence[str], where: str) -> Table:
    """The schema with the rules that the user stated and, unless "none" is among them, the rules found in the rows of
    the table.

    Raises:
        InputError: a rule cannot be read, is about columns that are not modelled, or is broken by a row.
    """
    texts = [text for text in asked if text.strip().lower() != NONE]
    found = len(texts) == len(asked)
    if not texts and (not found or len(table) < LEAST or len(schema.ruled) < 2):
        return schema
    u, fields = schema.numbers(table, where), schema.ruled
    rules: list[Rule] = []
    for text in texts:
        for rule in declared(text, schema, u, where):
            rules = _added(rules, rule, text)
    if found:
        rules = _with_found(rules, fields, u, schema.conditions)
    ordered = _sorted(_with_pins(rules, fields, u, schema.conditions, found))
    assert ordered is not None
    return dataclasses.replace(schema, rules=tuple(ordered)) if ordered else schema


def _with_pins(
    rules: list[Rule], fields: dict[str, Column], u: ColumnNumbers, conditions: Sequence[str], found: bool
) -> list[Rule]:  # fmt: skip
    """The rules in their forms, joined, and the pinned columns ``found`` in the rows."""
    some = _pins(rules, fields, u, conditions) if found else []
    together = {frozenset((rule.target, *rule.sources)) for rule in some if _differ(rule, fields, u)}
    rules = _joined(with_forms(rules, fields, u, conditions, together), fields, u)
    for rule in some:
        rules += [rule] if _sorted([*rules, rule]) is not None else []
    return rules


def _pins(rules: list[Rule], fields: dict[str, Column], u: ColumnNumbers, conditions: Sequence[str]) -> list[Pinned]:
    """Pinned columns among those that no other rule determines, without rules that an order implies."""
    made = {rule.target for rule in rules if rule.reproduces}
    taken = {rule.target for rule in rules if isinstance(rule, Combinations | Pinned)} | set(conditions)
    found = pins({name: field for name, field in fields.items() if name not in made}, u, taken)
    ends = [(rule.target, name) if rule.falling else (name, rule.target) for rule in rules if isinstance(rule, Order)
            for name in rule.sources]  # fmt: skip
    return [rule for rule in found if not any(_follows(rule, *pair, fields, u) for pair in ends)]


def _follows(rule: Pinned, low: str, high: str, fields: dict[str, Column], u: ColumnNumbers) -> bool:
    """Whether a rule follows from low <= high in all rows, as low = 0 where high = 0 does, if 0 is the least value."""
    (source,), pair = rule.sources, (rule.target, *rule.sources, rule.sign)
    beyond = rule.sign * (values_of(fields[source], u[source]) - rule.values[0])
    forced = np.zeros(len(beyond))
    if pair in ((low, high, 1), (high, low, -1)):
        forced = np.where(beyond <= 0, 1, 0)
    elif pair in ((high, low, 1), (low, high, -1)):
        forced = np.where(beyond > 0, -1, 0)
    state = rule.state(u[source])
    return bool(((state == 0) | (state == forced)).all())


def _differ(rule: Pinned, fields: dict[str, Column], u: ColumnNumbers) -> bool:
    """Whether the two columns are rarely equal in rows in which the target has none of the values. If they are often
    equal, the model needs their difference."""
    names = (rule.target, *rule.sources)
    if not all(is_numeric(fields[name]) for name in names):
        return True
    own, source = (values_of(fields[name], u[name]) for name in names)
    return bool((own == source)[~rule.has(u[rule.target])].mean() < HEAPED)


def with_rules_of_table(schema: Table, table: Any, asked: Sequence[str], where: str) -> Table:
    """The schema with its rules, from all rows of a table in memory. They are searched at once, or piece by piece as
    for a stream if their numbers would take more memory than the table itself."""
    rows = len(table)
    if rows * len(schema.ruled) <= MOST_CELLS:
        return with_rules(schema, table, asked, where)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(LOOKED_AT, rows), replace=False))
    pieces = range(0, rows, PIECE)
    return with_rules_of_all(
        schema, table.take(sample), lambda: ((first, table.slice(first, PIECE)) for first in pieces), asked, where
    )


def with_rules_of_all(
    schema: Table, sample: Any, pieces: Callable[[], Iterable[tuple[int, Any]]], asked: Sequence[str], where: str
) -> Table:  # fmt: skip
    """The schema with the rules that hold in all rows of a table that is read piece by piece. :func:`with_rules` finds
    rules in a sample; rows that contradict any of them are added to the sample, until no row contradicts a rule.

    Args:
        pieces: returns (number of the first row, arrow table) of each piece; it may be called several times.
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
    """For each rule, some rows that contradict it and were not added before, as positions in the piece whose first row
    has the number ``first``."""
    denied = [np.flatnonzero(rule.denied(u, schema.ruled)).tolist() for rule in schema.rules]
    return sorted({row for rows in denied for row in [row for row in rows if first + row not in added][:DENYING]})


def _with_found(
    rules: list[Rule], fields: dict[str, Column], u: ColumnNumbers, conditions: Sequence[str]
) -> list[Rule]:  # fmt: skip
    """The rules that the user stated and those found in the rows, without circles and with one rule per target. A
    condition is given, so it is never a target."""
    found, ordered = list(rules), partial(orders, conditions=conditions)
    of_dates, of_numbers = (edges, parts, counts), (intervals, formulas, mixtures, lookups)
    for search in (*of_dates, functions, *of_numbers, exclusive, ordered, combinations_of_levels, gaps):
        kinds = Function | Missing if search is gaps else LEAVING if search in COMBINING else Rule
        bound = {rule.target for rule in found if isinstance(rule, kinds)}
        taken = bound | set(conditions)
        free = {name: field for name, field in fields.items() if name not in bound}
        for rule in search(free if search in ALONE else fields, u, taken):
            if rule.target not in taken and _sorted([*found, rule]) is not None and not _opposed(found, rule):
                found.append(rule)  # a target may have several orders
    return found


def _opposed(rules: Sequence[Rule], rule: Rule) -> bool:
    """Whether one of the rules bounds the same column from the other side."""
    return isinstance(rule, Order) and any(
        isinstance(each, Order) and each.target == rule.target and each.falling != rule.falling for each in rules
    )


def _added(rules: list[Rule], rule: Rule, text: str) -> list[Rule]:
    """The rules and one more; ``InputError`` if they form a circle, or two rules determine the same column."""
    same = [each for each in rules if each.target == rule.target and not {type(each), type(rule)} & {Missing, Pinned}]
    is_alike = len({type(each) for each in [*same, rule]}) == 1 and isinstance(rule, Order | Combinations)
    if same and (not is_alike or _opposed(same, rule)):
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
    """The rules with all orders of one target joined into one rule, and all combinations of one target likewise."""
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
    if isinstance(same[0], Confined):
        reason = "; ".join(each.reason for each in same)
        return dataclasses.replace(same[0], sources=sources, strict=all(each.strict for each in same), reason=reason)
    joined = order_of(sources, same[0].target, fields, u, strict=all(each.strict for each in same),
                      falling=same[0].falling)  # fmt: skip
    assert joined is not None
    return dataclasses.replace(joined, reason="; ".join(each.reason for each in same))
