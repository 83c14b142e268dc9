"""Find the rules that hold between the columns of a table in every row, and not by accident."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, permutations

import numpy as np

from latens.data.tables.kinds import _decimals
from latens.data.tables.laws import DAYS, SECONDS, law_of
from latens.errors import InputError
from latens.schema import Column
from latens.schema.cells import listed
from latens.schema.column import CODED, NUMERIC
from latens.schema.law import Law
from latens.schema.rules import (
    EXACT,
    ColumnNumbers,
    Combinations,
    Formula,
    Function,
    Missing,
    Order,
    Rule,
    named,
    values_of,
)

LEAST = 100  # a rule is found only if it can be checked in this many rows
ACCIDENT = -6.0  # and if log10 of the chance that it holds by accident is below this
APART = 0.02  # an order is found if independent columns would break it in this share of the rows
HEAPED = 0.1  # the share of the rows on atoms that an ordered column may lose
KEYS = 1000  # the most values of the source of a function
WIDE, SUMMED = 100, 24  # the most columns checked for functions and orders, and for formulas
PARTS = {2: 24, 3: 16, 4: 12}  # number of parts of a sum: the most columns checked for them
GAPPED = 0.2  # columns with a larger share of missing cells are not checked for formulas
ASKED = "as asked"
COMBINED = 40  # the most columns of levels checked for combinations
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
    """Columns that are a function of one other column; of two that determine each other, the one of levels stays."""
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
    """(the values that a column can have, NaN last if some are missing; the position of each row's value ``[N]``); None
    if they are too many, or if new ones may be drawn."""
    few = field.kind in CODED or (field.law is not None and field.law.is_complete)
    if not few:
        return None
    keys, place = np.unique(numbers, return_inverse=True)
    return (keys, place) if 2 <= len(keys) <= KEYS else None


def function_of(
    source: str, target: str, keys: np.ndarray, place: np.ndarray, own: np.ndarray, fields: dict[str, Column],
    least: float = ACCIDENT,
) -> Function | None:  # fmt: skip
    """The target as a function of the source, whose value in row i is ``keys[place[i]]``; None if it is not one."""
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


def _straight(target: str, values: ColumnNumbers, dates: set[str]) -> Hows:
    """The target as another column in another unit."""
    for name in values:
        if name != target and (name in dates) == (target in dates):
            yield from (((name,), how) for how in _line(values[name], values[target]))


def _line(a: np.ndarray, b: np.ndarray, word: str = "v0") -> list[str]:
    """The lines b = k a + m through two points on which the others lie, as formulas."""
    i, j = int(a.argmin()), int(a.argmax())
    k = float(f"{(b[j] - b[i]) / (a[j] - a[i]):.12g}")
    m = float(f"{b[i] - k * a[i]:.12g}")
    if k == 0 or np.abs(k * a + m - b).max() > 1e-6 * max(1.0, np.abs(b).max()):
        return []
    m = 0.0 if abs(m) <= EXACT * np.abs(b).max() else m
    first = word if k == 1 else f"{k:g} * {word}" if float(f"{k:g}") == k else f"{k!r} * {word}"
    return [first + (f" + {m!r}" if m > 0 else f" - {-m!r}" if m else "")]


def _sums_of(size: int) -> Callable[[str, ColumnNumbers, set[str]], Hows]:
    """The target as the sum of ``parts`` columns; if none is negative, none may exceed the target."""

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
    """Orders of columns with the same kind of values that independent columns would often break."""
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
    if rule is None or _heaps(fields[high], b) > _heaps(rule.difference, (b - a)[both]) + HEAPED:
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
    """The order, with the column of the target's excess over its sources; None if that has no law."""
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
    floor = half if strict else -half
    if law.places:  # below lie others as wide as the first, the last of which holds 0
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
    """Values above all others that may be codes."""
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
    """Pairs of levels of two columns that never occur together, although they would if columns were independent."""
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
    counts = tuple(None if gone else int(n) for n, gone in zip(rows.ravel(), never.ravel()))
    return Combinations(names[-1], tuple(names[:-1]), reason, counts, rows.shape)


def joined_combinations(
    rules: Sequence[Combinations], first: Combinations, fields: dict[str, Column], u: ColumnNumbers
) -> Combinations:
    """All rules on combinations with the first one's target, joined; without those that would leave the target no level
    for levels of the sources that may occur together."""
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
