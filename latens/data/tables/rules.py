"""Rules between columns: those that hold in every row and are no accident, and those that the user names."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from latens.data.tables.kinds import _decimals
from latens.data.tables.laws import DAYS, SECONDS, law_of
from latens.errors import InputError
from latens.schema import Column, Table
from latens.schema.cells import arrow_type, kind_of_time, listed
from latens.schema.column import CODED, NUMERIC
from latens.schema.rules import EXACT, Formula, Function, Missing, Numbers, Order, Rule, values_of

LEAST = 100  # rows in which a rule that is kept by itself can be seen to hold
ACCIDENT = -6.0  # log10 of the chance by accident, below which it is kept
APART = 0.02  # share of the rows that independent columns would have out of order
HEAPED = 0.1  # share of the rows on atoms that an ordered column may lose
KEYS = 1000  # values of the source of a function
WIDE, SUMMED = 100, 24  # columns that are looked at for functions and orders, and for formulas
PARTS = {2: 24, 3: 16, 4: 12}  # columns among which the parts of a sum are looked for, by their number
SAMPLE = 1000  # rows by which candidates are told before all rows are looked at
NONE = "none"


def with_rules(schema: Table, table: Any, asked: Sequence[str], where: str) -> Table:
    """The schema with the rules asked for, and unless "none" is among them those found in the rows of the table.

    Raises:
        InputError: a rule that cannot be read, is of columns that are not modelled, or that a row breaks.
    """
    texts = [text for text in asked if text.strip().lower() != NONE]
    found = len(texts) == len(asked)
    if not texts and (not found or len(table) < LEAST or len(schema.outer) < 2):
        return schema
    u, fields = schema.numbers(table, where), {field.name: field for field in schema.outer}
    rules: list[Rule] = []
    for text in texts:
        for rule in declared(text, schema, u, where):
            rules = _added(rules, rule, text)
    if found:
        for search in (functions, formulas, orders, gaps):
            taken = {rule.target for rule in rules}
            for rule in search(fields, u, taken):
                if rule.target not in taken and _sorted([*rules, rule]) is not None:
                    rules.append(rule)  # of one target several orders
    ordered = _sorted(_joined(rules, fields, u))
    assert ordered is not None
    return dataclasses.replace(schema, rules=tuple(ordered)) if ordered else schema


def _added(rules: list[Rule], rule: Rule, text: str) -> list[Rule]:
    """The rules with one more; ``InputError`` where it goes round in a circle or two give the same column."""
    same = [each for each in rules if each.target == rule.target]
    if same and not all(isinstance(each, Order) for each in [*same, rule]):
        raise InputError(f"--rule {text!r}: column {rule.target!r} is bound by {same[0].text} already: leave one away")
    if _sorted([*rules, rule]) is None:
        raise InputError(f"--rule {text!r} goes round in a circle with {listed([each.text for each in rules])}: "
                         "leave one away")  # fmt: skip
    return [*rules, rule]


def _sorted(rules: Iterable[Rule]) -> list[Rule] | None:
    """Each rule after those that its sources are the targets of; None where that is a circle."""
    left, done = list(rules), []
    while left:
        targets = {rule.target for rule in left}
        free = [rule for rule in left if not targets & set(rule.sources)]
        if not free:
            return None
        done += free
        left = [rule for rule in left if rule not in free]
    return done


def _joined(rules: Sequence[Rule], fields: dict[str, Column], u: Numbers) -> list[Rule]:
    """The rules, all orders of one target as one."""
    found: list[Rule] = []
    for rule in rules:
        same = [each for each in rules if isinstance(each, Order) and each.target == rule.target]
        if not isinstance(rule, Order) or len(same) == 1:
            found.append(rule)
        elif rule is same[0]:
            sources = tuple(dict.fromkeys(name for each in same for name in each.sources))
            joined = order_of(sources, rule.target, fields, u, strict=all(each.strict for each in same))
            assert joined is not None
            found.append(dataclasses.replace(joined, reason="; ".join(each.reason for each in same)))
    return found


def _in_words(rows: int, chance: float) -> str:
    """
    >>> _in_words(4000, -12.3)
    'in all 4,000 rows; by accident 1 in 10^12'
    """
    return f"in all {rows:,} rows; by accident 1 in 10^{math.floor(-chance):,}"


# Functions of one column


def functions(fields: dict[str, Column], u: Numbers, taken: set[str]) -> list[Rule]:
    """Columns that are a function of one other column: of columns that are one of each other, that of levels stays."""
    names = [name for name in list(fields)[:WIDE]]
    keyed = {name: _keys(fields[name], u[name]) for name in names if name not in taken}
    keyed = {name: keys for name, keys in keyed.items() if keys is not None}
    found: dict[str, dict[str, Function]] = {}
    for source, (keys, place) in keyed.items():
        for target in names:
            if target != source and target not in taken:
                rule = _function(source, target, keys, place, u[target], fields)
                if rule is not None:
                    found.setdefault(target, {})[source] = rule

    def rank(name: str) -> tuple[bool, bool, int]:
        return fields[name].kind not in ("binary", "categorical"), fields[name].kind not in CODED, names.index(name)

    gone = {target for target, ways in found.items()
            if any(target not in found.get(source, ()) or rank(source) < rank(target) for source in ways)}  # fmt: skip
    chosen = []
    for target in sorted(gone, key=names.index):
        ways = [rule for source, rule in found[target].items() if source not in gone]
        chosen += [min(ways, key=lambda rule: len(rule.keys))] if ways else []
    return list(chosen)


def _keys(field: Column, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(the values that a column can have, NaN the last where some are missing; the place of each row's); None where
    they are too many, or others may be drawn."""
    few = field.kind in CODED or (field.law is not None and field.law.is_complete)
    if not few:
        return None
    keys, place = np.unique(numbers, return_inverse=True)
    return (keys, place) if 2 <= len(keys) <= KEYS else None


def _function(
    source: str, target: str, keys: np.ndarray, place: np.ndarray, own: np.ndarray, fields: dict[str, Column],
    least: float = ACCIDENT,
) -> Function | None:  # fmt: skip
    """The target as a function of the source, of which row i has the value ``keys[place[i]]``."""
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
    given = tuple(None if np.isnan(key) else float(key) for key in keys)
    made = tuple(None if np.isnan(value) else float(value) for value in values)
    if None in given and made[given.index(None)] is None and not np.isnan(own[np.isnan(keys[place])]).all():
        return None
    return Function(target, (source,), _in_words(int(seen.sum()), chance), given, made, tuple(rows.tolist()))


# Formulas


def formulas(fields: dict[str, Column], u: Numbers, taken: set[str]) -> list[Rule]:
    """Columns that are another in other units, or the sum, product or quotient of others."""
    names = [name for name, field in fields.items()
             if name not in taken and (field.kind in NUMERIC or _has_numbers(field))][:SUMMED]  # fmt: skip
    values = {name: values_of(fields[name], u[name]) for name in names}
    found: list[Rule] = []
    for search in (_straight, _sums_of(2), _sums_of(3), _sums_of(4), _products, _spans):
        for target in reversed(names):  # what is computed mostly stands behind what it is computed from
            gone = {name for rule in found for name in (rule.target, *rule.sources)}
            if fields[target].kind in CODED or target in gone:
                continue
            others = [name for name in names if name != target and name not in {rule.target for rule in found}]
            rule = _formula(target, others, search, values, fields)
            found += [] if rule is None else [rule]
    return found


def _has_numbers(field: Column) -> bool:
    return field.kind in CODED and all(
        isinstance(level, int | float) and not isinstance(level, bool) for level in field.levels or ()
    )


Hows = Iterable[tuple[tuple[str, ...], str]]  # sources and formulas


def _formula(
    target: str, others: list[str], search: Callable[[str, Numbers, set[str]], Hows], values: Numbers,
    fields: dict[str, Column],
) -> Formula | None:  # fmt: skip
    """The first formula of a search that gives the target in every row."""
    whole = np.flatnonzero(~np.isnan(values[target]))
    if len(whole) < LEAST:
        return None
    some = whole[:: max(1, len(whole) // 50)][:50]
    part = {name: values[name][some] for name in [target, *others]}
    part = {name: x for name, x in part.items() if not np.isnan(x).any() and x.std() > 0}
    dates = {name for name in part if kind_of_time(arrow_type(fields[name].type)) == "dates"}
    for sources, how in search(target, part, dates) if target in part else ():
        rule = _holding(Formula(target, sources, "", how), values, fields)
        if rule is not None:
            return rule
    return None


def _straight(target: str, values: Numbers, dates: set[str]) -> Hows:
    """The target as another column in other units."""
    for name in values:
        if name != target and (name in dates) == (target in dates):
            yield from (((name,), how) for how in _line(values[name], values[target]))


def _line(a: np.ndarray, b: np.ndarray, word: str = "v0") -> list[str]:
    """b = k a + m through two points, where the others lie on it."""
    i, j = int(a.argmin()), int(a.argmax())
    k = float(f"{(b[j] - b[i]) / (a[j] - a[i]):.12g}")
    m = float(f"{b[i] - k * a[i]:.12g}")
    if k == 0 or np.abs(k * a + m - b).max() > 1e-6 * max(1.0, np.abs(b).max()):
        return []
    m = 0.0 if abs(m) <= EXACT * np.abs(b).max() else m
    first = word if k == 1 else f"{k:g} * {word}" if float(f"{k:g}") == k else f"{k!r} * {word}"
    return [first + (f" + {m!r}" if m > 0 else f" - {-m!r}" if m else "")]


def _sums_of(size: int) -> Callable[[str, Numbers, set[str]], Hows]:
    """The target as the sum of so many columns, of which none is larger where none is negative."""

    def sums(target: str, values: Numbers, dates: set[str]) -> Hows:
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


def _products(target: str, values: Numbers, dates: set[str]) -> Hows:
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


def _spans(target: str, values: Numbers, dates: set[str]) -> Hows:
    """The target as the time between two dates, in any unit."""
    if target not in dates:
        for one, other in permutations(sorted(dates), 2):
            apart = values[one] - values[other]
            if apart.std() > 0:
                yield from (((one, other), how) for how in _line(apart, values[target], "(v0 - v1)"))


def _holding(rule: Formula, values: Numbers, fields: dict[str, Column]) -> Formula | None:
    """The formula with its reason, where it holds in every row and that is no accident."""
    numbers = {name: dataclasses.replace(field, kind="continuous", family="", law=None, levels=None)
               for name, field in fields.items() if name in (rule.target, *rule.sources)}  # fmt: skip
    told = ~np.isnan(np.stack([values[name] for name in (rule.target, *rule.sources)])).any(0)
    own = values[rule.target]
    if told.sum() < LEAST or rule.broken(values, numbers).any() or told.sum() < 0.9 * (~np.isnan(own)).sum():
        return None
    decimals, spread = fields[rule.target].decimals, float(own[told].std())
    slack = max(0.0 if decimals is None else 10.0**-decimals, 1e-6 * spread)
    changes = len(np.unique(own[told][:SAMPLE]))
    chance = changes * math.log10(min(0.5, slack / spread)) if spread > 0 else 0.0
    if chance > ACCIDENT:
        return None
    return dataclasses.replace(rule, reason=_in_words(int(told.sum()), chance))


# Orders


def orders(fields: dict[str, Column], u: Numbers, taken: set[str]) -> list[Rule]:
    """Columns of one kind of values that are never below another, where independent ones often would be."""
    names = [name for name, field in fields.items() if field.kind in NUMERIC or _has_numbers(field)][:WIDE]
    values = {name: values_of(fields[name], u[name]) for name in names}
    below: dict[tuple[str, str], Order] = {}
    for low in names:
        for high in names:
            if low != high and fields[high].kind in NUMERIC and _comparable(fields[low], fields[high]):
                rule = _order(low, high, values, fields)
                if rule is not None:
                    below[low, high] = rule
    implied = {(a, c) for a, b in below for other, c in below if other == b and (a, c) in below}
    return [rule for pair, rule in below.items() if pair not in implied and rule.target not in taken]


def _comparable(one: Column, other: Column) -> bool:
    return kind_of_time(arrow_type(one.type)) == kind_of_time(arrow_type(other.type))


def _order(low: str, high: str, values: Numbers, fields: dict[str, Column]) -> Order | None:
    a, b = values[low], values[high]
    if (a[:SAMPLE] > b[:SAMPLE]).any() or (a > b).any():
        return None
    both = ~np.isnan(a) & ~np.isnan(b)
    count, has_code = int(both.sum()), fields[low].law is not None and fields[low].law.codes  # type: ignore[union-attr]
    if count < LEAST or count < 0.95 * (~np.isnan(b)).sum() or has_code:
        return None
    out = float(np.searchsorted(np.sort(b[both]), a[both]).mean() / count)
    chance = count * math.log10(1 - out) if out < 1 else -np.inf
    if out < APART or chance > ACCIDENT:
        return None
    rule = order_of((low,), high, fields, values, strict=False)
    if rule is None or _heaps(fields[high], b) > _heaps(rule.difference, (b - a)[both]) + HEAPED:
        return None
    return dataclasses.replace(rule, reason=_in_words(count, chance))


def _heaps(field: Column, numbers: np.ndarray) -> float:
    """Share of the rows on atoms that are not all values of the column."""
    if field.law is None or field.law.is_complete:
        return 0.0
    return float(np.isin(numbers, [atom for atom in field.law.atoms if atom not in field.law.codes]).mean())


def order_of(
    sources: tuple[str, ...], target: str, fields: dict[str, Column], u: Numbers, *, strict: bool
) -> Order | None:
    """The order, with the column of what the target exceeds its sources by; None where that has no law."""
    field = fields[target]
    base = np.fmax.reduce([values_of(fields[name], u[name]) for name in sources])
    codes = () if field.law is None else tuple(code for code in field.law.codes if code > field.law.high)
    own = u[target]
    with np.errstate(invalid="ignore"):
        apart = np.maximum(own - base, 0.0)
    decimals = None if field.kind == "datetime" else _decimals(apart[~np.isnan(apart)][:20_000])
    apart = apart if decimals is None else np.round(apart, decimals)
    apart = apart[~np.isnan(apart) & ~np.isin(own, codes)]
    if not len(apart) or apart.max() == apart.min() or (codes and min(codes) <= 2 * apart.max()):
        return None
    shown = np.append(apart, own[np.isin(own, codes)])
    time = kind_of_time(arrow_type(field.type))
    steps = DAYS if time == "dates" else SECONDS if time else None
    distinct, counts = np.unique(shown, return_counts=True)
    seen = dict(zip(distinct.tolist(), counts.tolist())) if len(distinct) <= 100_000 else None
    sample = np.random.default_rng(0).choice(shown, 20_000, replace=False) if len(shown) > 20_000 else shown
    law = law_of(np.sort(sample), seen, steps, (float(shown.min()), float(shown.max())))
    if law is None:
        return None
    half = (law.step or 0.0) / 2
    law = dataclasses.replace(law, floor=half if strict else -half)
    smooth = apart[~np.isin(apart, law.atoms)]
    smooth = smooth if len(smooth) > 1 else apart
    unit = float(smooth.std())
    difference = Column(
        target, "continuous", "double", "heaped", low=float(shown.min()), high=float(shown.max()),
        shift=float(smooth.mean()), unit=unit if unit > 0 else 1.0, decimals=decimals, law=law, missing=field.missing,
        reason=f"what {target} exceeds {listed(sources)} by",
    )  # fmt: skip
    return Order(target, sources, "", difference, strict, codes)


# Gaps


def gaps(fields: dict[str, Column], u: Numbers, taken: set[str]) -> list[Rule]:
    """Columns that are missing exactly where another has some of its levels, or is missing."""
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
    source: str, target: str, holes: dict[str, np.ndarray], fields: dict[str, Column], u: Numbers
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
        keys = tuple(None if np.isnan(v) else float(v) for v in values[gone > 0].tolist())
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


# Rules that the user names


_SIGNS = ("<=", ">=", "->", "==", "≤", "≥", "<", ">", "=")
_HELP = (
    "write start <= end, total = net + tax, city -> country, dose missing where drug = none, or none; names with "
    "spaces in quotes"
)


def declared(text: str, schema: Table, u: Numbers, where: str) -> list[Rule]:
    """The rules that a text names, checked against all rows."""
    names = [field.name for field in schema.fields]
    if match := re.fullmatch(r"(.+?)\s+missing\s+(?:exactly\s+)?where\s+(.+?)\s*(?:==?|\bis\b)\s*(.+)", text.strip()):
        rules = [_missing_asked(text, match, schema, u)]
    else:
        tokens = _tokens(text, names)
        signs = [token for token in tokens if token in _SIGNS]
        sides = _split(tokens)
        if not signs or any(not side for side in sides):
            raise InputError(f"--rule {text!r} cannot be read: {_HELP}")
        _require_modelled(text, [token[1] for token in tokens if isinstance(token, tuple)], schema)
        if set(signs) == {"->"} and len(signs) == 1:
            rules = [_function_asked(text, sides, schema, u)]
        elif set(signs) <= {"=", "=="} and len(signs) == 1:
            rules = [_formula_asked(text, sides, schema, u)]
        elif set(signs) <= {"<=", "<", "≤"} or set(signs) <= {">=", ">", "≥"}:
            rules = _orders_asked(text, sides, signs, schema, u, where)
        else:
            raise InputError(f"--rule {text!r} cannot be read: {_HELP}")
    fields = {field.name: field for field in schema.outer}
    checked = []
    for rule in rules:
        bad = rule.broken(u, fields)
        if bad.any():
            raise _refusal(text, rule, int(bad.argmax()), int(bad.sum()), fields, u, where)
        told = ~np.isnan(np.stack([u[name] for name in (rule.target, *rule.sources)])).any(0)
        checked.append(dataclasses.replace(rule, reason=f"in all {int(told.sum()):,} rows, as asked"))
    return checked


def _refusal(
    text: str, rule: Rule, row: int, count: int, fields: dict[str, Column], u: Numbers, where: str
) -> InputError:
    told = []
    for name in dict.fromkeys((*rule.sources, rule.target)):
        value = fields[name].decode(u[name][row : row + 1], given=True)[0].as_py()
        told.append(f"{name!r} is {value}")
    others = f" ({count:,} rows break it)" if count > 1 else ""
    return InputError(
        f"{where}, row {row} (counted from 0) breaks --rule {text!r}{others}: {' and '.join(told)}: mend the row, or "
        "leave the rule away"
    )


def _require_modelled(text: str, names: Sequence[str], schema: Table) -> None:
    for name in names:
        field = schema.field(name)
        if name in schema.conditions:
            raise InputError(f"--rule {text!r}: column {name!r} is a condition, which is given: leave the rule away")
        if not field.is_modelled:
            raise InputError(f"--rule {text!r}: column {name!r} is {field.kind} and not modelled: leave the rule away, "
                             f"or say --column {name}=KIND")  # fmt: skip


def _tokens(text: str, names: Sequence[str]) -> list[Any]:
    """Signs and numbers as they are, names of columns as ("name", NAME)."""
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
        elif match := re.match(r"<=|>=|->|==|[≤≥<>=+\-*/(),]|\d+\.?\d*(?:[eE][+-]?\d+)?", rest):
            found.append(match[0])
            size = match.end()
        else:
            word = re.match(r"[^\s<>=+*/()]+", rest)
            raise _no_column(text, word[0] if word else rest[0], names)
        rest = rest[size:].lstrip()
    return found


def _no_column(text: str, word: str, names: Sequence[str]) -> InputError:
    near = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {listed(names)}"
    return InputError(f"--rule {text!r}: there is no column {word!r}: {hint}")


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
        raise InputError(f"--rule {text!r}: one column stands on this side of the sign: {_HELP}")
    return str(side[0][1])


def _orders_asked(
    text: str, sides: list[list[Any]], signs: list[str], schema: Table, u: Numbers, where: str
) -> list[Rule]:
    names, fields = [_only_name(text, side) for side in sides], {field.name: field for field in schema.outer}
    if signs[0] in (">=", ">", "≥"):
        names, signs = names[::-1], signs[::-1]
    found: list[Rule] = []
    for low, high, sign in zip(names, names[1:], signs):
        for name in (low, high):
            if fields[name].kind not in NUMERIC and not _has_numbers(fields[name]):
                raise InputError(f"--rule {text!r}: column {name!r} is {fields[name].kind}, and an order is of numbers "
                                 "or dates: leave the rule away")  # fmt: skip
        if low == high or not _comparable(fields[low], fields[high]):
            raise InputError(f"--rule {text!r}: {low!r} and {high!r} are not two columns of one kind of values")
        strict = sign in ("<", ">")
        draft = Order(high, (low,), "", fields[high], strict)
        bad = draft.broken({name: values_of(fields[name], u[name]) for name in (low, high)}, _as_numbers(fields))
        if bad.any():
            raise _refusal(text, draft, int(bad.argmax()), int(bad.sum()), fields, u, where)
        if fields[high].kind in CODED:
            raise InputError(f"--rule {text!r}: column {high!r} is {fields[high].kind}, and what an order bounds is a "
                             f"number: say --column {high}=continuous")  # fmt: skip
        rule = order_of((low,), high, fields, u, strict=strict)
        if rule is None:
            raise InputError(f"--rule {text!r}: {high!r} exceeds {low!r} by one number in every row, or by numbers "
                             f"without a law: say {high} = {low} + NUMBER, or leave the rule away")  # fmt: skip
        found.append(rule)
    return found


def _as_numbers(fields: dict[str, Column]) -> dict[str, Column]:
    return {name: dataclasses.replace(field, kind="continuous", family="", law=None, levels=None)
            for name, field in fields.items()}  # fmt: skip


def _formula_asked(text: str, sides: list[list[Any]], schema: Table, u: Numbers) -> Rule:
    left, right = sides
    if not (len(left) == 1 and isinstance(left[0], tuple)):
        left, right = right, left
    target, fields = _only_name(text, left), {field.name: field for field in schema.outer}
    sources = list(dict.fromkeys(token[1] for token in right if isinstance(token, tuple)))
    how = " ".join(f"v{sources.index(token[1])}" if isinstance(token, tuple) else token for token in right)
    for name in (target, *sources):
        if fields[name].kind not in NUMERIC and not _has_numbers(fields[name]):
            raise InputError(f"--rule {text!r}: column {name!r} is {fields[name].kind}, and a formula is of numbers")
    if target in sources or not sources or fields[target].kind in CODED:
        way = f"say --column {target}=continuous" if fields[target].kind in CODED else "name it once"
        raise InputError(f"--rule {text!r}: column {target!r} cannot be computed so: {way}")
    try:
        ast.parse(how, mode="eval")
        return Formula(target, tuple(sources), "", how)
    except (SyntaxError, InputError):
        raise InputError(f"--rule {text!r} cannot be read: {_HELP}") from None


def _function_asked(text: str, sides: list[list[Any]], schema: Table, u: Numbers) -> Rule:
    source, target = (_only_name(text, side) for side in sides)
    fields = {field.name: field for field in schema.outer}
    keys = _keys(fields[source], u[source])
    if keys is None or source == target:
        raise InputError(f"--rule {text!r}: column {source!r} has too many values to be listed, or others may be drawn: "
                         f"say --column {source}=categorical")  # fmt: skip
    rule = _function(source, target, *keys, u[target], fields, least=-np.inf)
    if rule is not None:
        return rule
    values = np.full(len(keys[0]), np.nan)
    seen = ~np.isnan(u[target])
    values[keys[1][seen][::-1]] = u[target][seen][::-1]  # the first of each
    bad = seen & (values[keys[1]] != u[target])
    draft = Function(target, (source,), "", (0.0,), (0.0,), (1,))
    raise _refusal(text, draft, int(bad.argmax()), int(bad.sum()), fields, u, schema.reason)


def _missing_asked(text: str, match: re.Match[str], schema: Table, u: Numbers) -> Rule:
    names = [field.name for field in schema.fields]
    target, source = (next(iter(_tokens(word, names)))[1] for word in match.groups()[:2])
    _require_modelled(text, [target, source], schema)
    fields, word = {field.name: field for field in schema.outer}, match[3].strip().strip("'\"`")
    levels = {str(level): float(code) for code, level in enumerate(fields[source].levels or ())}
    if word in levels:
        key: float | None = levels[word]
    elif word in ("missing", "null"):
        key = None
    else:
        raise InputError(f"--rule {text!r}: column {source!r} has no level {word!r}: it has "
                         f"{listed(list(levels)) or 'numbers'}, or missing")  # fmt: skip
    rule = Missing(target, (source,), "", (key,), word)
    bad = np.isnan(u[target]) != rule._where(u[source])
    if bad.any():
        raise _refusal(text, rule, int(bad.argmax()), int(bad.sum()), fields, u, schema.reason)
    return rule
