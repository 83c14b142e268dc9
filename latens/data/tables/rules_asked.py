"""Read the rules that the user names and check them against the rows."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from latens.data.tables.rules_found import ASKED, counted, function_of, impossible, is_numeric, keys_of, order_of
from latens.errors import InputError
from latens.schema import Column, Table
from latens.schema.cells import listed
from latens.schema.column import CODED
from latens.schema.rules import ColumnNumbers, Formula, Function, Missing, Order, Rule

_SIGNS = ("<=", ">=", "->", "==", "≤", "≥", "<", ">", "=", "&")
_HELP = (
    "write start <= end, total = net + tax, city -> country, sex & title, dose missing where drug = none, or none; "
    "names with spaces in quotes"
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
        value = fields[name].decode(u[name][row : row + 1], given=True)[0].as_py()
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
        elif match := re.match(r"<=|>=|->|==|[≤≥<>=+\-*/(),&]|\d+\.?\d*(?:[eE][+-]?\d+)?", rest):
            found.append(match[0])
            size = match.end()
        else:
            word = re.match(r"[^\s<>=+*/()&]+", rest)
            raise _no_column(text, word[0] if word else rest[0], names)
        rest = rest[size:].lstrip()
    return found


def _no_column(text: str, word: str, names: Sequence[str]) -> InputError:
    near = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"name some of {listed(names)}"
    return InputError(f"--rule {text!r}: there is no column {word!r}", hint)


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
    how = " ".join(f"v{sources.index(token[1])}" if isinstance(token, tuple) else token for token in right)
    for name in (target, *sources):
        if not is_numeric(fields[name]):
            what = f"column {name!r} is {fields[name].kind}, and a formula needs numbers"
            raise InputError(f"--rule {text!r}: {what}", "omit the rule, or name another column")
    is_coded = fields[target].kind in CODED
    if is_coded or not sources or target in sources:
        way = f"pass --column {target!r}=continuous" if is_coded else "write it as in total = net + tax"
        raise InputError(f"--rule {text!r} does not compute a number {target!r} from other columns", way)
    try:
        ast.parse(how, mode="eval")
        return Formula(target, tuple(sources), "", how)
    except (SyntaxError, InputError):
        raise InputError(f"--rule {text!r} cannot be read", _HELP) from None


def _function_asked(text: str, sides: list[list[Any]], schema: Table, u: ColumnNumbers) -> Rule:
    source, target = (_only_name(text, side) for side in sides)
    fields = schema.outer_by_name
    keys = keys_of(fields[source], u[source])
    if keys is None or source == target:
        what = f"column {source!r} has too many values to list, or new ones may be drawn"
        raise InputError(f"--rule {text!r}: {what}", f"pass --column {source!r}=categorical")
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
