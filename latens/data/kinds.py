"""From a table to its schema: one pass that sees every cell, and a sample of rows for what needs quantiles.

The pass is made of pieces, so that a table that does not fit in memory is looked at in the same way as one that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latens.data.candidates import best_family
from latens.errors import InputError
from latens.schema import Column, Table
from latens.schema.cells import as_numbers, first_whole, listed, plain, short
from latens.schema.column import FAMILIES, LOGARITHMIC

SAMPLE = 20_000  # rows that families, means and spreads are taken from
MAX_LEVELS = 10_000  # of a categorical column
FEW = 10  # whole numbers with at most so many values are ordered levels
KEEP_VALUES = 100_000  # distinct values that are counted
_IDENTIFIER = re.compile(r"(^|[_\W])(id|uuid|guid|key|index|rownames?|row_?number)$|^unnamed", re.IGNORECASE)

Verdict = tuple[str, str, dict[str, Any]]  # kind, reason, and what else was settled


@dataclass
class ColumnScan:
    """What one pass over a column sees; pieces are added with :meth:`update` in any order."""

    name: str
    type: Any
    rows: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    values: dict[Any, int] | None = field(default_factory=dict)  # None: more than KEEP_VALUES
    words: int = 0  # of texts
    categories: tuple[Any, ...] = ()  # that the type itself names, in order

    def update(self, cells: Any, first_row: int = 0) -> None:
        """Look at the cells of a further piece."""
        import pyarrow as pa
        from pyarrow import compute as pc

        if pa.types.is_dictionary(self.type):
            pieces = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
            named = [level for piece in pieces for level in piece.dictionary.to_pylist()]
            self.categories = tuple(dict.fromkeys([*self.categories, *named]))
        cells = plain(cells)
        self.rows += len(cells)
        numbers = as_numbers(cells)
        if numbers is None:
            if not pa.types.is_string(cells.type):
                raise InputError(
                    f"column {self.name!r} holds {cells.type}, which is neither a number, a text nor a date; leave it "
                    f"out with --drop {self.name!r}."
                )
            self.missing += cells.null_count
            self.words += int(pc.sum(pc.count_substring(cells, " ")).as_py() or 0)
            self._count(cells.drop_null())
            return
        seen = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(seen)
        if not len(seen):
            return
        if np.isinf(seen).any():
            row = int(np.isinf(numbers).argmax())
            raise InputError(
                f"column {self.name!r} has {numbers[row]:g} in row {row + first_row} (counted from 0); make it finite."
            )
        self.low, self.high = min(self.low, float(seen.min())), max(self.high, float(seen.max()))
        self.whole = self.whole and bool((seen == np.floor(seen)).all())
        if self.values is not None:
            self._count(pa.array(seen))

    def _count(self, cells: Any) -> None:
        if self.values is None:
            return
        counts = cells.value_counts()
        values = counts.field("values")
        if len(values) + len(self.values) > 2 * KEEP_VALUES:
            self.values = None
            return
        for value, count in zip(values.to_pylist(), counts.field("counts").to_pylist()):
            self.values[value] = self.values.get(value, 0) + count
        if len(self.values) > KEEP_VALUES:
            self.values = None

    @property
    def distinct(self) -> float:
        return np.inf if self.values is None else len(self.values)

    @property
    def present(self) -> int:
        return self.rows - self.missing

    @property
    def is_number(self) -> bool:
        return self.low != np.inf


def infer_table(
    table: Any, asked: Mapping[str, str] | None = None, *, drop: Iterable[str] = (), condition: Iterable[str] = ()
) -> Table:
    """The schema of an arrow table.

    Args:
        table: an arrow table of at least two rows.
        asked: kinds that the user has named: {column: "kind" or "likelihood", "bounded:0:100", "ordered:S,M,L"}.
        drop: columns to leave out.
        condition: columns that are given, not modelled.

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
    return schema_of(scans, table, asked, drop=drop, condition=condition)


def schema_of(
    scans: list[ColumnScan], sample: Any, asked: Mapping[str, str] | None = None, *, drop: Iterable[str] = (),
    condition: Iterable[str] = (),
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
    if not any(f.is_modelled and f.name not in set(condition) for f in fields):
        why = "; ".join(f"{short(f.name)}: {f.reason}" for f in fields[:3])
        raise InputError(f"no column is left to model ({why}); name a kind with --column NAME=KIND, or drop fewer.")
    reason = f"{scans[0].rows:,} rows, {len(fields):,} columns"
    return Table(fields, _storage(fields, sample), reason).given(tuple(condition))


def _column(scan: ColumnScan, sample: Any, asked: str | None) -> Column:
    kind, reason, extra = _asked_kind(scan, asked) if asked else _kind(scan)
    share = scan.missing / scan.rows if scan.rows else 0.0
    common: dict[str, Any] = {"name": scan.name, "type": str(scan.type), "missing": share}
    if kind == "constant":
        value = first_whole(sample)
        value = next(iter(scan.values)) if value is None and scan.values else value
        if value is not None and not isinstance(value, str):
            value = bool(value) if str(scan.type) == "bool" else int(value) if scan.whole else value
        return Column(kind=kind, value=value, reason=reason, **common)
    if kind in ("binary", "categorical", "ordered"):
        levels = extra.get("levels") or _levels(scan)
        family = extra.get("family") or FAMILIES[kind][0]
        return Column(kind=kind, family=family, levels=tuple(levels), reason=reason, **common)
    if kind not in FAMILIES:
        return Column(kind=kind, reason=reason, **common)
    numbers = as_numbers(sample)
    assert numbers is not None
    # in order of size, so that what is seen does not depend on the order of the rows
    return _numeric(scan, np.sort(numbers[~np.isnan(numbers)]), kind, reason, extra, common)


def _numeric(
    scan: ColumnScan, values: np.ndarray, kind: str, reason: str, extra: dict[str, Any], common: dict[str, Any]
) -> Column:
    low, high = extra.get("low", scan.low), extra.get("high", scan.high)
    family, words = extra.get("family"), ""
    if family is None:
        candidates = [name for name in FAMILIES[kind] if name != "continuous_bernoulli"]
        if kind == "bounded" and ((values == low) | (values == high)).mean() > 0.001:
            candidates.remove("beta")  # its density is unbounded at the ends, and rows lie there
        if kind == "continuous" and scan.low > 0 and not extra.get("asked"):
            candidates.append("log_normal")
        with np.errstate(over="ignore", invalid="ignore"):  # of values beyond floating point, refused below
            family, words = best_family(values, candidates, low, high)
        if kind == "continuous" and family == "log_normal":
            kind, reason = "positive", f"{reason}, skewed"
    how = LOGARITHMIC.get(kind)
    inside = values if how is None else np.log(values) if how == "log" else np.log1p(values)
    with np.errstate(over="ignore", invalid="ignore"):
        shift = float(inside.mean()) if len(inside) else 0.0
        unit = float(inside.std()) if len(inside) > 1 else 1.0
    if not np.isfinite(shift) or not np.isfinite(unit):
        raise InputError(f"column {scan.name!r}: its values are beyond floating point; give them in another unit.")
    return Column(
        kind=kind, family=family, low=float(low), high=float(high), shift=shift,
        unit=unit if unit > 1e-12 * max(1.0, abs(shift)) else 1.0,
        decimals=None if kind == "datetime" else _decimals(values), reason="; ".join(filter(None, [reason, words])),
        **common,
    )  # fmt: skip


# Kinds


def _kind(scan: ColumnScan) -> Verdict:
    """Kind and reason of a column that the user has said nothing about."""
    is_dictionary = str(scan.type).startswith("dictionary")
    kind = str(scan.type.value_type if is_dictionary else scan.type)
    if scan.present == 0:
        return "missing", "every cell is missing", {}
    if scan.distinct == 1:
        value = next(iter(scan.values or ()))
        return "constant", f"always {short(str(value))}" + (", where it is not missing" if scan.missing else ""), {}
    if kind.startswith(("date", "timestamp", "time", "duration")):
        return "datetime", f"{kind.partition('[')[0].rstrip('0123456789')}s", {}
    if is_dictionary and scan.distinct <= MAX_LEVELS:
        two = "binary" if len(_levels(scan)) == 2 else "categorical"
        return ("ordered" if scan.type.ordered else two), _counted(scan), {}
    if kind == "bool" or (scan.distinct == 2 and (scan.whole or not scan.is_number)):
        return "binary", _counted(scan), {}
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
    return "categorical", _counted(scan), {}


def _number(scan: ColumnScan) -> Verdict:
    span = f"{scan.low:.6g}..{scan.high:.6g}"
    if not scan.whole:
        if scan.low >= 0 and scan.high <= 1 and scan.low < 0.1 and scan.high > 0.9:
            return "bounded", f"numbers from 0 to 1, {span}", {"low": 0.0, "high": 1.0}
        return "continuous", f"numbers, {span}", {}
    if (scan.distinct >= scan.present > 20) and scan.values is not None:
        counts_rows = scan.high - scan.low == scan.present - 1
        if counts_rows or _IDENTIFIER.search(scan.name):
            what = "counts the rows" if counts_rows else "every number is another"
            return "identifier", f"{what}: left out; {_keep('continuous')}", {}
    if scan.distinct <= FEW and scan.present >= 5 * scan.distinct:
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


def _counted(scan: ColumnScan) -> str:
    common = sorted((scan.values or {}).items(), key=lambda item: (-item[1], str(item[0])))[:3]
    words = ", ".join(f"{short(_word(scan, value), 20)} {count / scan.present:.0%}" for value, count in common)
    return f"{scan.distinct:,} levels: {words}" + (", …" if scan.distinct > 3 else "")


def _word(scan: ColumnScan, value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(bool(value)) if str(scan.type) == "bool" else f"{value:g}"


def _levels(scan: ColumnScan) -> list[Any]:
    """The levels in order: as the type has them, of numbers by size, of texts by name."""
    values = list(scan.values or ())
    if scan.categories:
        return [level for level in scan.categories if level is not None]
    if str(scan.type) == "bool":
        return sorted(bool(v) for v in values)
    if values and isinstance(values[0], str):
        return sorted(values)
    return sorted(int(v) if scan.whole else v for v in values)


# What the user has asked for


def _asked_kind(scan: ColumnScan, asked: str) -> Verdict:
    kind, _, rest = asked.partition(":")
    families = {family: of for of, names in reversed(FAMILIES.items()) for family in names}
    extra: dict[str, Any] = {"asked": True}
    kind = "dropped" if kind == "drop" else kind
    if kind in families and kind not in FAMILIES:
        extra["family"], kind = kind, families[kind]
    where = f"column {scan.name!r}"
    if kind not in (*FAMILIES, "dropped", "constant"):
        raise InputError(
            f"{where}: {asked!r} is no kind of column; the kinds are {', '.join(FAMILIES)} and drop, or a likelihood: "
            f"{', '.join(families)}."
        )
    if rest and kind not in ("bounded", "binary", "categorical", "ordered"):
        raise InputError(f"{where}: {kind} takes nothing after a colon, got {asked!r}.")
    if kind == "dropped":
        return kind, "left out, as asked", {}
    if scan.present == 0:
        raise InputError(f"{where} is asked to be {kind}, and every cell of it is missing; leave it out with --drop.")
    if kind in ("binary", "categorical", "ordered"):
        return kind, f"{_counted(scan)}, as asked", extra | _asked_levels(scan, kind, rest, where)
    if kind == "constant":
        if scan.distinct != 1:
            raise InputError(f"{where} is asked to be constant, and it has more than one value.")
        return kind, "as asked", {}
    if not scan.is_number:
        raise InputError(f"{where} is asked to be {kind}, and it holds texts; use categorical, or --drop it.")
    for wrong, needed in (
        (kind == "positive" and scan.low <= 0, f"its smallest value is {scan.low:g}; use continuous"),
        (kind == "count" and scan.low < 0, f"it has the negative value {scan.low:g}; use continuous"),
        (kind == "count" and not scan.whole, "it holds numbers that are not whole; use continuous or positive"),
    ):
        if wrong:
            raise InputError(f"{where} is asked to be {kind}, and {needed}.")
    if kind == "bounded":
        extra |= _asked_bounds(scan, rest, where)
    return kind, f"{scan.low:.6g}..{scan.high:.6g}, as asked", extra


def _asked_levels(scan: ColumnScan, kind: str, rest: str, where: str) -> dict[str, Any]:
    if scan.values is None or len(scan.values) > MAX_LEVELS:
        many = f"more than {KEEP_VALUES:,}" if scan.values is None else f"{len(scan.values):,}"
        raise InputError(f"{where} has {many} different values, and a {kind} column takes {MAX_LEVELS:,}; drop it.")
    if any(word in str(scan.type) for word in ("date", "time", "duration")):
        raise InputError(f"{where} is asked to be {kind}, and it holds dates or times; use datetime, or drop it.")
    if kind == "binary" and len(_levels(scan)) != 2:
        raise InputError(f"{where} is asked to be binary, and it has {len(scan.values):,} values; use categorical.")
    if not rest:
        return {}
    known = {str(level): level for level in _levels(scan)}
    levels = [word.strip() for word in re.split("[,<]", rest)]
    if missing := [level for level in known if level not in levels]:
        raise InputError(
            f"{where} has the level {missing[0]!r}, which the order {rest!r} leaves out; name every level."
        )
    if len(set(levels)) < len(levels):
        raise InputError(f"{where}: the order {rest!r} names a level twice; name each once.")
    return {"levels": [known.get(level, level) for level in levels]}


def _asked_bounds(scan: ColumnScan, rest: str, where: str) -> dict[str, Any]:
    if not rest:
        unit = scan.low >= 0 and scan.high <= 1
        return {"low": 0.0, "high": 1.0} if unit else {"low": scan.low, "high": scan.high}
    try:
        low, high = (float(number) for number in rest.split(":"))
    except ValueError:
        raise InputError(f"{where}: write bounds as bounded:LOW:HIGH, not {rest!r}.") from None
    if not low <= scan.low <= scan.high <= high or low == high:
        raise InputError(f"{where} has values {scan.low:g}..{scan.high:g}, outside the bounds {low:g} and {high:g}.")
    return {"low": low, "high": high}


# Precision


def _decimals(values: np.ndarray, most: int = 6) -> int | None:
    """Digits after the point that all values have at most; None above six.

    >>> _decimals(np.array([0.25, 1.5])), _decimals(np.array([1 / 3]))
    (2, None)
    """
    for digits in range(most + 1):
        scaled = values * 10.0**digits
        if np.all(np.abs(scaled - np.rint(scaled)) <= 1e-6 + 8 * np.finfo(float).eps * np.abs(scaled)):
            return digits
    return None


def _storage(fields: tuple[Column, ...], sample: Any) -> str:
    """float64 where float32 would lose more than a thousandth of a column's standard deviation."""
    for f in fields:
        if f.is_modelled and f.low is not None:
            numbers = as_numbers(sample.column(f.name))
            assert numbers is not None
            values = numbers[~np.isnan(numbers)]
            with np.errstate(over="ignore", invalid="ignore"):
                loss = np.abs(values - values.astype(np.float32)).max(initial=0.0)
                if not loss <= 1e-3 * (values.std() if len(values) else 1.0):
                    return "float64"
    return "float32"
