"""What the user has asked a column to be, held against its values."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from latens.data.tables.scan import KEEP_VALUES, MAX_LEVELS, ColumnScan, Verdict, counted, levels_of
from latens.errors import InputError
from latens.schema.cells import kind_of_time
from latens.schema.column import CODED, FAMILIES


def asked_kind(scan: ColumnScan, asked: str) -> Verdict:
    kind, _, rest = asked.partition(":")
    families = {family: of for of, names in reversed(FAMILIES.items()) for family in names}
    extra: dict[str, Any] = {"asked": True}
    kind = {"drop": "dropped"}.get(kind, kind)
    if kind in families and kind not in FAMILIES:
        extra["family"], kind = kind, families[kind]
    where = f"column {scan.name!r}"
    if kind not in (*FAMILIES, "dropped", "constant"):
        raise InputError(
            f"{where}: {asked!r} is no kind of column; the kinds are {', '.join(FAMILIES)} and drop, or a likelihood: "
            f"{', '.join(families)}."
        )
    if rest and kind not in ("bounded", *CODED):
        raise InputError(f"{where}: {kind} takes nothing after a colon, got {asked!r}.")
    if kind == "dropped":
        return kind, "left out, as asked", {}
    if fault := next((words for wrong, words in _faults(scan, kind) if wrong), ""):
        raise InputError(f"{where} is asked to be {kind}, and {fault}.")
    if kind in CODED:
        return kind, f"{counted(scan)}, as asked", extra | _asked_levels(scan, kind, rest, where)
    if kind == "constant":
        return kind, "as asked", {}
    if kind == "bounded":
        extra |= _asked_bounds(scan, rest, where)
    return kind, f"{scan.low:.6g}..{scan.high:.6g}, as asked", extra


def _faults(scan: ColumnScan, kind: str) -> tuple[tuple[bool, str], ...]:
    """What its values may have against a kind, and whether they do, the gravest first."""
    is_number = scan.is_number or kind in (*CODED, "constant")
    return (
        (scan.present == 0, "every cell of it is missing; leave it out with --drop"),
        (kind == "constant" and scan.distinct != 1, "it has more than one value"),
        (not is_number, "it holds texts; use categorical, or --drop it"),
        (kind == "positive" and scan.low <= 0, f"its smallest value is {scan.low:g}; use continuous"),
        (kind == "count" and scan.low < 0, f"it has the negative value {scan.low:g}; use continuous"),
        (kind == "count" and not scan.whole, "it holds numbers that are not whole; use continuous or positive"),
    )


def _asked_levels(scan: ColumnScan, kind: str, rest: str, where: str) -> dict[str, Any]:
    if scan.values is None or len(scan.values) > MAX_LEVELS:
        many = f"more than {KEEP_VALUES:,}" if scan.values is None else f"{len(scan.values):,}"
        raise InputError(f"{where} has {many} different values, and a {kind} column takes {MAX_LEVELS:,}; drop it.")
    if kind_of_time(scan.type):
        raise InputError(f"{where} is asked to be {kind}, and it holds dates or times; use datetime, or drop it.")
    if kind == "binary" and len(levels_of(scan)) != 2:
        raise InputError(f"{where} is asked to be binary, and it has {len(scan.values):,} values; use categorical.")
    if not rest:
        return {}
    known = {str(level): level for level in levels_of(scan)}
    levels = levels_named(rest)
    if missing := [level for level in known if level not in levels]:
        raise InputError(
            f"{where} has the level {missing[0]!r}, which the order {rest!r} leaves out; name every level."
        )
    if len(set(levels)) < len(levels):
        raise InputError(f"{where}: the order {rest!r} names a level twice; name each once.")
    return {"levels": [known.get(level, level) for level in levels]}


def levels_named(rest: str) -> list[str]:
    """The levels of "NA,NL,DE" or "low<mid<high"."""
    return [word.strip() for word in re.split("[,<]", rest)]


def _asked_bounds(scan: ColumnScan, rest: str, where: str) -> dict[str, Any]:
    if not rest:
        unit = scan.low >= 0 and scan.high <= 1
        return {"low": 0.0, "high": 1.0} if unit else {"low": scan.low, "high": scan.high}
    try:
        low, high = (float(number) for number in rest.split(":"))
    except ValueError:
        raise InputError(f"{where}: write bounds as bounded:LOW:HIGH, not {rest!r}.") from None
    if not (low < high and np.isfinite(low) and np.isfinite(high) and np.isfinite(high - low)):
        raise InputError(f"{where}: the bounds {rest!r} must be two finite numbers, the lower first.")
    if not low <= scan.low <= scan.high <= high:
        raise InputError(f"{where} has values {scan.low:g}..{scan.high:g}, outside the bounds {low:g} and {high:g}.")
    return {"low": low, "high": high}
