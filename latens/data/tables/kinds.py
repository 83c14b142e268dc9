"""From a table to its schema: one pass that sees every cell, and a sample of rows for what needs quantiles.

The pass is made of pieces, so that a table that does not fit in memory is looked at in the same way as one that does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from latens.data.tables.candidates import best_family
from latens.data.tables.kinds_asked import asked_kind
from latens.data.tables.laws import DAYS, SECONDS, law_of
from latens.data.tables.scan import KEEP_VALUES, MAX_LEVELS, ColumnScan, Verdict, counted, levels_of
from latens.errors import InputError
from latens.schema import Column, Table
from latens.schema.calendar import calendar_of
from latens.schema.cells import DAY, as_numbers, first_whole, in_words, kind_of_time, listed, short
from latens.schema.column import FAMILIES, LOGARITHMIC
from latens.schema.form import Form
from latens.schema.law import Law

SAMPLE = 20_000  # rows that families, means and spreads are taken from
YEARS = (1500, 2200)  # whole numbers one after another in this range may be years and not numbers of rows
FEW = 10  # whole numbers with at most so many values are ordered levels
_IDENTIFIER = re.compile(r"(^|[_\W])(id|uuid|guid|key|index|rownames?|row_?number)$|^unnamed", re.IGNORECASE)


def infer_table(
    table: Any, asked: Mapping[str, str] | None = None, *, drop: Iterable[str] = (), condition: Iterable[str] = (),
    forms: Mapping[str, Form] | None = None,
) -> Table:  # fmt: skip
    """The schema of an arrow table.

    Args:
        table: an arrow table of at least two rows.
        asked: kinds that the user has named: {column: "kind" or "likelihood", "bounded:0:100", "ordered:S,M,L"}.
        drop: columns to leave out.
        condition: columns that are given, not modelled.
        forms: how columns of text are written.

    Raises:
        InputError: no rows, no column left to model, an unknown column or kind, or a kind that the values contradict.

    >>> import pyarrow as pa
    >>> table = pa.table({"n": [1.5, 2.0, None], "colour": ["red", "blue", "red"]})
    >>> [(f.name, f.kind) for f in infer_table(table).fields]
    [('n', 'continuous'), ('colour', 'binary')]
    """
    scans = [ColumnScan(name, column.type) for name, column in zip(table.column_names, table.columns)]
    for scan, column in zip(scans, table.columns):
        scan.update(column)
    if table.num_rows > SAMPLE:
        pick = np.random.default_rng(0).choice(table.num_rows, SAMPLE, replace=False)
        pick.sort()
        table = table.take(pick)
    return schema_of(scans, table, asked, drop=drop, condition=condition, forms=forms)


def schema_of(
    scans: list[ColumnScan], sample: Any, asked: Mapping[str, str] | None = None, *, drop: Iterable[str] = (),
    condition: Iterable[str] = (), forms: Mapping[str, Form] | None = None,
) -> Table:  # fmt: skip
    """The schema from scans of all columns and a sample of the rows; see :func:`infer_table`."""
    asked, names = dict(asked or {}), [scan.name for scan in scans]
    if not scans or scans[0].rows < 2:
        count = scans[0].rows if scans else 0
        raise InputError(f"the data needs at least 2 rows, got n_samples={count}; give more rows.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the data has two columns called {twice!r}; rename one.")
    for name in {**asked, **dict.fromkeys([*drop, *condition])}:
        if name not in names:
            raise InputError(f"there is no column {name!r}; there are: {listed(names)}.")
    dropped = set(drop)
    fields = tuple(
        _column(scan, sample.column(scan.name), "dropped" if scan.name in dropped else asked.get(scan.name))
        for scan in scans
    )
    fields = tuple(dataclasses.replace(f, form=(forms or {}).get(f.name)) for f in fields)
    if not any(f.is_modelled and f.name not in set(condition) for f in fields):
        if any(f.is_modelled for f in fields):
            raise InputError("no column is left to model, as every column is a condition: leave one --condition away.")
        why = "; ".join(f"{short(f.name)}: {f.reason}" for f in fields[:3])
        raise InputError(f"no column is left to model ({why}); name a kind with --column NAME=KIND, or drop fewer.")
    found = Table(fields, _storage(fields, sample), f"{scans[0].rows:,} rows, {len(fields):,} columns")
    return found.given(tuple(condition))


def _column(scan: ColumnScan, sample: Any, asked: str | None) -> Column:
    kind, reason, extra = asked_kind(scan, asked) if asked else _kind(scan)
    share = scan.missing / scan.rows if scan.rows else 0.0
    common: dict[str, Any] = {"name": scan.name, "type": str(scan.type), "missing": share}
    if kind == "constant":
        value = next(iter(scan.values)) if scan.values else None
        if isinstance(value, float) and scan.whole:
            value = bool(value) if str(scan.type) == "bool" else int(value)
        return Column(kind=kind, value=first_whole(sample) or value, reason=reason, **common)
    if kind in ("binary", "categorical", "ordered"):
        levels = extra.get("levels") or levels_of(scan)
        family = extra.get("family") or FAMILIES[kind][0]
        named = tuple(level for level in scan.categories if level is not None)
        if set(levels) < set(named) and len(named) <= MAX_LEVELS:
            common["categories"] = named
        return Column(kind=kind, family=family, levels=tuple(levels), reason=reason, **common)
    if kind not in FAMILIES or (numbers := as_numbers(sample)) is None:
        return Column(kind=kind, reason=reason, **common)
    values = np.sort(numbers[~np.isnan(numbers)])  # so that what is seen does not depend on the order of the rows
    return _numeric(scan, values, kind, reason, extra, common)


def _numeric(
    scan: ColumnScan, values: np.ndarray, kind: str, reason: str, extra: dict[str, Any], common: dict[str, Any]
) -> Column:
    low, high = extra.get("low", scan.low), extra.get("high", scan.high)
    family, words = extra.get("family"), ""
    law = _law(scan, values, common["type"]) if family in (None, "heaped") else None
    smooth = values if law is None else values[~np.isin(values, law.atoms)]
    smooth = smooth if len(smooth) > 1 else values
    if family is None:
        family = "heaped" if law is not None else FAMILIES[kind][-1]
        if kind == "count":
            family, words = best_family(values, FAMILIES[kind])
            law = law if family == "heaped" else None
        elif kind == "continuous" and scan.low > 0 and not extra.get("asked"):
            with np.errstate(over="ignore", invalid="ignore"):  # of values beyond floating point, refused below
                step = None if law is None else law.step
                if best_family(smooth, ("normal", "student_t", "log_normal"), step=step)[0] == "log_normal":
                    kind, reason = "positive", f"{reason}, skewed"
    reason = "; ".join(filter(None, [reason, words, "" if law is None else _words(law, values, common["type"])]))
    how = LOGARITHMIC.get(kind)
    inside = smooth if how is None else np.log(smooth) if how == "log" else np.log1p(smooth)
    with np.errstate(over="ignore", invalid="ignore"):
        shift = float(inside.mean()) if len(inside) else 0.0
        apart = float(np.abs(inside - shift).max(initial=0.0))  # squares of small numbers vanish
        unit = apart * float(((inside - shift) / apart).std()) if apart > 0 else 0.0 if len(inside) > 1 else 1.0
    most, least = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
    largest = max(abs(low), abs(high)) if how is None else 0.0
    if not (np.isfinite(shift) and np.isfinite(unit) and largest <= most and (unit == 0 or unit >= least)):
        raise InputError(
            f"column {scan.name!r}: its values ({scan.low:.3g} to {scan.high:.3g}) are beyond float32; give them in "
            "another unit."
        )
    return Column(
        kind=kind, family=family, low=float(low), high=float(high), shift=shift,
        unit=unit if unit > 8 * np.finfo(float).eps * abs(shift) else 1.0,
        decimals=None if kind == "datetime" else _decimals(values), law=law, reason=reason, **common,
    )  # fmt: skip


def _law(scan: ColumnScan, values: np.ndarray, type: str) -> Law | None:
    steps = DAYS if type.startswith(("date", "timestamp")) else SECONDS if type.startswith(("time", "dur")) else None
    law = law_of(values, scan.values if scan.is_number else None, steps, (scan.low, scan.high))
    if law is None or steps is not DAYS or scan.values is None:
        return law
    return dataclasses.replace(law, calendar=calendar_of(np.array([v for v in scan.values if v not in law.atoms])))


def _words(law: Law, values: np.ndarray, type: str = "double") -> str:
    """The law in words, its values as those of that type.

    >>> _words(Law((0.5, 2.5), (-2.0, 2.0), (-999.0,), 1.0), np.array([-999.0, 1.0, 2.0, 2.0]))
    '-999 in 25% of the rows; in steps of 1'
    """
    if law.is_complete:
        return f"{len(law.atoms)} values"
    if law.places:
        return f"{len(law.places) + len(law.atoms)} values"
    shares = sorted(((values == atom).mean(), atom) for atom in law.atoms)[::-1]
    often = ", ".join(f"{in_words(atom, type)} in {share:.0%}" for share, atom in shares[:3])
    heaps = f"{often}{', …' * (len(shares) > 3)} of the rows" if shares else ""
    steps = "" if law.step is None else f"in steps of {_step_in_words(law.step, type)}"
    off = int((np.abs(values - law.snap(values, (-np.inf, np.inf))) > 0.01 * (law.step or 1.0)).sum()) if steps else 0
    steps += f", but for {off:,} row{'s' * (off != 1)}" if off and law.calendar is None else ""
    steps = steps if law.calendar is None else law.calendar.describe()
    return "; ".join(filter(None, [heaps, steps]))


def _step_in_words(step: float, type: str) -> str:
    """
    >>> _step_in_words(0.5, "double"), _step_in_words(1 / 96, "timestamp[us]"), _step_in_words(60.0, "duration[us]")
    ('0.5', '15 minutes', '1 minute')
    """
    if not type.startswith(("date", "time", "duration")):
        return f"{step:g}"
    seconds = step * (DAY if type.startswith(("date", "timestamp")) else 1.0)
    sizes = {"day": DAY, "hour": 3600.0, "minute": 60.0, "second": 1.0}
    unit = next((unit for unit, size in sizes.items() if seconds / size >= 0.999), "second")
    count = round(seconds / sizes[unit], 6)
    return f"{count:g} {unit}{'s' * (count != 1)}"


# Kinds


def _kind(scan: ColumnScan) -> Verdict:
    """Kind and reason of a column that the user has said nothing about."""
    is_dictionary = str(scan.type).startswith("dictionary")
    kind = str(scan.type.value_type if is_dictionary else scan.type)
    if scan.present == 0:
        return "missing", "every cell is missing", {}
    if scan.distinct == 1:
        value = next(iter(scan.values or ()))
        where = ", where it is not missing" if scan.missing else ""
        return "constant", f"always {short(in_words(value, str(scan.type)))}{where}", {}
    if is_dictionary and scan.distinct <= MAX_LEVELS:
        two = "binary" if len(levels_of(scan)) == 2 else "categorical"
        return "ordered" if scan.type.ordered else two, counted(scan), {}
    if time := kind_of_time(scan.type):
        if time != "dates":
            return "continuous", f"{time}, {in_words(scan.low, kind)}..{in_words(scan.high, kind)}", {}
        return "datetime", f"{kind.partition('[')[0].rstrip('0123456789')}s", {}
    if kind == "bool" or (scan.distinct == 2 and (scan.is_exact or not scan.is_number)):
        return "binary", counted(scan), {}
    return _number(scan) if scan.is_number else _text(scan)


def _text(scan: ColumnScan) -> Verdict:
    if scan.values is not None and scan.distinct >= scan.present > 20:
        return "identifier", f"every text is another: left out; {_keep('categorical')}", {}
    if scan.distinct > MAX_LEVELS:
        many = f"{scan.distinct:,}" if scan.values is not None else f"more than {KEEP_VALUES:,}"
        return "text", f"{many} different texts, and a column of levels has at most {MAX_LEVELS:,}: left out", {}
    if scan.present > 50 and scan.distinct > 0.5 * scan.present:
        what = "free text" if scan.words > 2 * scan.present else "mostly different texts"
        return "text", f"{what} ({scan.distinct:,} in {scan.present:,} rows): left out; {_keep('categorical')}", {}
    return "categorical", counted(scan), {}


def _number(scan: ColumnScan) -> Verdict:
    span = f"{scan.low:.6g}..{scan.high:.6g}"
    if not scan.whole:
        if scan.low >= 0 and scan.high <= 1 and scan.low < 0.1 and scan.high > 0.9:
            return "bounded", f"numbers from 0 to 1, {span}", {"low": 0.0, "high": 1.0}
        return "continuous", f"numbers, {span}", {}
    if (scan.distinct >= scan.present > 20) and scan.values is not None:
        counts_rows = scan.high - scan.low == scan.present - 1 and not YEARS[0] <= scan.low <= scan.high <= YEARS[1]
        if counts_rows or _IDENTIFIER.search(scan.name):
            what = "counts the rows" if counts_rows else "every number is another"
            return "identifier", f"{what}: left out; {_keep('continuous')}", {}
    if scan.is_exact and scan.distinct <= FEW and scan.present >= 5 * scan.distinct:
        return "ordered", f"whole numbers with {scan.distinct} values, {span}", {}
    if 0 <= scan.low <= FEW and scan.high <= 1e6 and scan.values:
        total = sum(scan.values.values())
        mean = sum(v * n for v, n in scan.values.items()) / total
        variance = sum((v - mean) ** 2 * n for v, n in scan.values.items()) / total
        if variance >= 0.8 * mean:
            return "count", f"whole numbers, {span}, variance {variance / max(mean, 1e-12):.3g} times the mean", {}
    return "continuous", f"whole numbers, {span}", {}


def _keep(kind: str) -> str:
    return f"--column NAME={kind} would keep it"


# Precision


def _decimals(values: np.ndarray, most: int = 6) -> int | None:
    """Digits after the point that all values have at most; None above six.

    >>> _decimals(np.array([0.25, 1.5])), _decimals(np.array([1 / 3]))
    (2, None)
    """
    for digits in range(most + 1):
        scaled = values * 10.0**digits
        slack = 1e-6 * min(1.0, float(np.abs(scaled).max(initial=0.0))) + 8 * np.finfo(float).eps * np.abs(scaled)
        if np.all(np.abs(scaled - np.rint(scaled)) <= slack):
            return digits
    return None


def _storage(fields: tuple[Column, ...], sample: Any) -> str:
    """float64 where float32 would lose more than a thousandth of a column's standard deviation."""
    for f in fields:
        if f.is_modelled and f.low is not None:
            numbers = as_numbers(sample.column(f.name))
            assert numbers is not None
            values = numbers[~np.isnan(numbers)]
            if f.law is not None:
                values = values[~np.isin(values, f.law.atoms)] if not f.law.is_complete else values
            with np.errstate(over="ignore", invalid="ignore"):
                loss = np.abs(values - values.astype(np.float32)).max(initial=0.0)
                if not (loss <= 1e-3 * (values.std() if len(values) else 1.0) and np.isfinite(loss)):
                    return "float64"
    return "float32"
