"""Find cells whose value alone is odd before a model sees them, so that one bad cell does not prevent scores of other
rows."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import InputError
from latens.schema.arrays import BEYOND_FLOAT32, Schema, place
from latens.schema.arrow import as_numbers, is_empty, pa, plain, short, value_of
from latens.schema.column import CODED, KEPT, Column, _numbers
from latens.schema.rules import ColumnNumbers
from latens.schema.table import Table

IMPOSSIBLE, UNSEEN, BEYOND, BROKEN = "impossible", "unseen", "beyond", "broken"
_INFINITE = re.compile(r"\s*[+-]?inf(inity)?\s*", re.I)
WRONG = 10  # a column with this many cells or more, none of them possible, is refused as the wrong column


@dataclass(frozen=True)
class Odd:
    """A cell whose value differs from what any row of the fit had.

    Args:
        row: the number of the row, counted from 0.
        cell: the number of the modelled column; None for a constant column, a pixel, or the target of a broken rule.
        column: the name of the column, or the position in the row.
        kind: "impossible" (the column cannot hold the value), "unseen" (a level, or a value of a constant column, that
            no row of the fit had), "broken" (it breaks a rule between columns) or "beyond" (above or below all numbers
            seen).
        reason: a sentence with the value.
        number: the value of a "beyond" cell, else NaN.
    """

    row: int
    cell: int | None
    column: str
    kind: str
    reason: str
    number: float = math.nan


def sift_table(
    schema: Table, table: Any, where: str = "the data", unread: Mapping[str, Mapping[int, str]] | None = None, *,
    refuse: bool = True,
) -> tuple[np.ndarray, list[Odd]]:  # fmt: skip
    """Convert a table as :meth:`Table.to_model` does, but without stopping at an impossible cell.

    Args:
        schema: the columns of the fit.
        table: an arrow table of N rows.
        where: what messages call the data.
        unread: the texts of cells that could not be read, ``{column: {row: text}}``.
        refuse: whether a column with ``WRONG`` cells or more, none of them possible, is an error.

    Returns:
        The numbers ``[N, D]``, NaN for impossible cells, and all odd cells, ordered by row.

    Raises:
        InputError: a column is missing or, with ``refuse``, no cell of it is possible.
    """
    schema.check(table, where)
    unread, u = unread or {}, schema.known(dict(zip(table.column_names, table.columns)), where)
    odd: list[Odd] = []
    for column in schema.outer:
        if column.name not in table.column_names:
            u[column.name] = np.full(table.num_rows, np.nan)
            continue
        cells = plain(table.column(column.name))
        numbers, found = _sift(column, cells, unread.get(column.name, {}), where, schema.storage)
        impossible = sum(each.kind == IMPOSSIBLE for each in found)
        if refuse and impossible >= WRONG and np.isnan(numbers).all():
            column.encode(cells, where)
            row, reason = found[0].row, found[0].reason
            what = f"{where}: no value of column {column.name!r} is possible (row {row}, counted from 0: {reason})"
            raise InputError(what, "check that it is the column that the model was fitted to")
        u[column.name] = numbers
        position = schema.names.index(column.name) if column.name in schema.names else None
        odd += [dataclasses.replace(each, cell=position) for each in found]
    odd += _broken(schema, table, u)
    for column in schema.fields:
        if column.kind in KEPT and column.name in table.column_names:
            odd += _changed(column, plain(table.column(column.name)), unread.get(column.name, {}), where)
    return schema.inward(u), sorted(odd, key=lambda each: each.row)


def _broken(schema: Table, table: Any, u: ColumnNumbers) -> list[Odd]:
    """For each rule, the cell of its target in every row that breaks it."""
    fields, odd = schema.ruled, []
    for rule in schema.rules:
        for row in np.flatnonzero(rule.broken(u, fields)).tolist():
            told = [f"{short(name)} is {_written(fields[name], value_of(table.column(name)[row]))}"
                    for name in (rule.target, *rule.sources)]  # fmt: skip
            words = f"{' and '.join(told)}, which breaks the rule {rule.text} that every row of the fit keeps"
            odd.append(Odd(row, None, rule.target, BROKEN, words))
    return odd


def _sift(
    column: Column, cells: Any, texts: Mapping[int, str], where: str, storage: str
) -> tuple[np.ndarray, list[Odd]]:
    if column.kind in CODED:
        numbers, strangers = column.encode(cells, where)
        rows = np.flatnonzero(np.isnan(numbers) & ~is_empty(cells)) if strangers else ()
        words = ", a level that was never seen in the fit"
        return numbers, [*_told(column, cells, rows, UNSEEN, words), *_told(column, texts, list(texts), UNSEEN, words)]
    numbers = _numbers(cells, column, where, 0).copy()
    infinite = [row for row, text in texts.items() if _INFINITE.fullmatch(text)]
    what = f", which is not a {'date' if column.kind == 'datetime' else 'number'}"
    odd = _told(column, texts, [row for row in texts if row not in set(infinite)], IMPOSSIBLE, what)
    odd += _told(column, {row: float(texts[row]) for row in infinite}, infinite, IMPOSSIBLE, ": it must be finite")
    faults = column.faults(numbers)
    if storage == "float32":
        faults.append((np.abs(numbers) > np.finfo(np.float32).max, BEYOND_FLOAT32))
    for bad, wanted in faults:
        odd += _told(column, cells, np.flatnonzero(bad & ~np.isnan(numbers)), IMPOSSIBLE, f": {wanted}")
        numbers[bad] = np.nan
    return numbers, odd + _beyond(column, cells, numbers)


def _beyond(column: Column, cells: Any, numbers: np.ndarray) -> list[Odd]:
    """The cells that are below or above all numbers of the fit."""
    if column.low is None or column.high is None or column.kind == "bounded":
        return []
    odd = []
    for bad, words, end in (
        (numbers < column.low, "below the smallest value", column.low),
        (numbers > column.high, "above the largest value", column.high),
    ):
        if bad.any():
            seen = _written(column, value_of(column.decode(np.array([end]))[0]))
            found = _told(column, cells, np.flatnonzero(bad), BEYOND, f", {words} seen in the fit ({seen})")
            odd += [dataclasses.replace(each, number=float(numbers[each.row])) for each in found]
    return odd


def _told(column: Column, cells: Any, rows: Sequence[int] | np.ndarray, kind: str, words: str) -> list[Odd]:
    """An :class:`Odd` for each of these ``rows`` of arrow cells, or of a mapping ``{row: value}``."""
    name, found = short(column.name), []
    for row in map(int, rows):
        value = value_of(cells[row]) if hasattr(cells[row], "as_py") else cells[row]
        found.append(Odd(row, None, column.name, kind, f"{name} is {_written(column, value)}{words}"))
    return found


def _written(column: Column, value: Any) -> str:
    """A value written as the cells of its column are; in full if that form would round it."""
    if value is None:
        return "missing"
    if column.form is None or isinstance(value, str):
        return _shown(value)
    numbers = as_numbers(cell := pa.array([value]))
    if numbers is None or not np.isfinite(numbers).all():
        return _shown(value)
    text = column.form.write(cell)[0].as_py()
    again = as_numbers(column.form.read(pa.array([text]))[0])
    return str(text) if again is not None and np.array_equal(again, numbers) else str(value)


def _shown(value: Any) -> str:
    return short(repr(value)) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _changed(column: Column, cells: Any, texts: Mapping[int, str], where: str) -> list[Odd]:
    """The cells of a constant column that hold a value other than the constant."""
    if column.kind == "missing":
        words = ", where no row of the fit had a value"
        return _told(column, cells, np.flatnonzero(~is_empty(cells)), UNSEEN, words)
    words = f", but it was always {_written(column, value_of(column.repeat(1)[0]))} in the fit"
    if isinstance(column.value, str | bool):
        one = dataclasses.replace(column, kind="binary", levels=(column.value,))
        other = np.isnan(one.encode(cells, where)[0])
    else:
        other = ~np.isclose(_numbers(cells, column, where, 0), float(column.value), rtol=1e-6, atol=0.0)
    odd = _told(column, cells, np.flatnonzero(other & ~is_empty(cells)), UNSEEN, words)
    return odd + _told(column, texts, list(texts), UNSEEN, words)


def sift_array(schema: Schema, x: np.ndarray) -> tuple[np.ndarray, list[Odd]]:
    """Convert an array as :meth:`Schema.to_model` does, but without stopping at an impossible cell.

    Args:
        schema: what a row of the fit is.
        x: ``[N, *user_shape]`` in the user's layout.

    Returns:
        ``[N, *shape]`` in the model's form, where impossible cells have the smallest value seen; and all odd cells,
        ordered by row.

    Raises:
        InputError: the shape differs, a count is wrong, a cell is missing (NaN), or no row of ``WRONG`` or more is
            possible.
    """
    try:
        return schema.to_model(x), _outside(schema, x)
    except InputError:
        if schema.kind == "count" or x.shape[1:] != schema.user_shape:
            raise  # a matrix of counts is refused as a whole, like a sparse one
        if x.dtype.kind not in "biuf" or np.isnan(x).any():
            raise
        odd, whole = [], x.copy()
        while True:
            bad, wanted = schema.misfits(whole)
            if bad is None:
                break
            for index in np.argwhere(bad).tolist():
                cell = index[1] if schema.layout == "vector" else None
                name = cell_name(schema, cell) if cell is not None else _place(schema, index)
                reason = f"{name} is {_shown(x[tuple(index)].item())}: {wanted}"
                odd.append(Odd(index[0], cell, name, IMPOSSIBLE, reason))
            whole[bad] = schema.low
        if len(x) >= WRONG and len({each.row for each in odd}) == len(x):
            raise
        return schema.to_model(whole), sorted([*odd, *_outside(schema, whole)], key=lambda each: each.row)


def _outside(schema: Schema, x: np.ndarray) -> list[Odd]:
    """The cells of continuous columns that are outside the range of the fit."""
    if schema.kind != "continuous" or schema.layout != "vector" or not len(x):
        return []
    odd = []
    for words, end, bad in (
        ("below the smallest", schema.low, x < schema.low), ("above the largest", schema.high, x > schema.high),
    ):  # fmt: skip
        for row, cell in np.argwhere(bad & ~np.isin(np.arange(schema.columns), schema.constant)).tolist():
            name = cell_name(schema, cell)
            reason = f"{name} is {_shown(x[row, cell].item())}, {words} value seen in the fit ({_shown(end)})"
            odd.append(Odd(row, cell, name, BEYOND, reason))
    return odd


def cell_name(schema: Schema | Table, cell: int) -> str:
    """The name of a column; columns of a matrix without names are called column_1, column_2, …"""
    return schema.names[cell] if schema.names else f"column_{cell + 1}"


def _place(schema: Schema, index: list[int]) -> str:
    return place(schema.layout, None, tuple(index)).partition(", ")[2].removesuffix(" (counted from 0)")
