"""Understand tables as they were found: text becomes values, and its forms are kept for the way back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from latens.data.tables.cells import Hints, Understood, Unsettled, understood, without_codes
from latens.data.tables.types import index_names, shown
from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.cells import arrow_type
from latens.schema.form import Form, Numbers, Words, as_text
from latens.schema.times import Times

_ORDER = re.compile(r"%-?(d|m)([/. -])%-?(d|m)\2")


@dataclass(frozen=True, eq=False)
class Read:
    """N rows of a table, understood.

    Args:
        table: the columns as values.
        forms: the forms of the columns of text, by name.
        text: the cells of these columns as found, an arrow table; also a row index, under the name "".
        notes: how cells were read, one sentence each.
        unread: for each column with cells that a run's form does not read, their mask ``[N]``.
    """

    table: Any
    forms: Mapping[str, Form] = field(default_factory=dict)
    text: Any = None
    notes: tuple[str, ...] = ()
    unread: Mapping[str, Any] = field(default_factory=dict)

    def take(self, rows: Any) -> Read:
        """The same for the rows with these numbers ``[B]``."""
        unread = {name: mask.take(rows) for name, mask in self.unread.items()}
        text = None if self.text is None else self.text.take(rows)
        return dataclasses.replace(self, table=self.table.take(rows), text=text, unread=unread)

    @property
    def stored(self) -> Any:
        """The arrow schema of the columns in the types in which they were found."""
        forms = {name: form for name, form in self.forms.items() if form.stored}
        return pa.schema(
            [f.with_type(arrow_type(forms[f.name].stored)) if f.name in forms else f for f in self.table.schema],
            metadata=self.table.schema.metadata,
        )

    @property
    def unread_texts(self) -> dict[str, dict[int, str]]:
        """The cells that a run's form does not read, ``{column: {row: text}}``."""
        found = {}
        for name, mask in self.unread.items():
            rows = pc.indices_nonzero(mask).to_pylist()
            texts = as_text(self.text.column(name).take(rows)).to_pylist() if rows else []
            found[name] = dict(zip(rows, texts))
        return found

    def written(self, table: Any, *, as_text: bool = False) -> Any:
        """Write a table of N rows as in :func:`written`; a cell whose value is the one found is written as found."""
        return written(table, self.forms, self, as_text=as_text)


def written(table: Any, forms: Mapping[str, Form], found: Read | None = None, *, as_text: bool = False) -> Any:
    """Write the columns of text of a table of values in their forms.

    Args:
        table: an arrow table of values.
        forms: the forms of its columns of text, by name.
        found: the rows from which the table was made, in order, if there are any: a cell whose value is the one found
            keeps the text found.
        as_text: whether the table goes to a text file; values then become text. Otherwise only columns that were stored
            as text do.
    """
    columns = {}
    for name, cells in zip(table.column_names, table.columns):
        form = forms.get(name)
        if form is not None and (as_text or form.stored):
            made = _chunked(form.write(cells) if as_text else form.back(cells))
            if found is not None and found.text is not None and name in found.text.column_names:
                was, text = found.table.column(name), found.text.column(name)
                same = pc.or_(pc.and_(was.is_null(), cells.is_null()), _equal(was, cells))
                made = pc.if_else(same, text.cast(made.type), made)
            cells = made
        columns[name] = cells
    return pa.table(columns)


def _chunked(cells: Any) -> Any:
    return cells if isinstance(cells, pa.ChunkedArray) else pa.chunked_array([cells])


def _equal(one: Any, other: Any) -> Any:
    """The mask of the cells that are present in both and equal."""
    if pa.types.is_null(one.type) or pa.types.is_null(other.type):
        return pa.chunked_array([pa.array([False] * len(one), pa.bool_())])
    if pa.types.is_dictionary(other.type):
        other = other.cast(other.type.value_type)
    try:
        return pc.fill_null(pc.equal(one, other if other.type == one.type else other.cast(one.type)), False)
    except pa.ArrowInvalid:  # the type found cannot hold a value
        return pc.fill_null(pc.equal(one.cast(other.type), other), False)


def read_columns(
    table: Any, where: str, hints: Hints | None = None, *, is_file: bool = False, comma: bool | None = None
) -> Read:
    """Read the columns of a table as values.

    Args:
        table: an arrow table; all columns of a text file are text.
        where: what messages call the data.
        hints: what is known about the columns.
        is_file: whether the cells are from a text file, in which words such as NA mean a missing cell. Elsewhere text
            stays text, unless all cells of a column are numbers, dates or truth values.
        comma: as in :func:`latens.data.tables.cells.understood`.

    Raises:
        InputError: as in :func:`latens.data.tables.cells.understood`.

    >>> import pyarrow as pa
    >>> found = read_columns(pa.table({"when": ["31.12.2021", "1.2.2022"], "x": [1.5, 2.0]}), "the data")
    >>> found.table["when"].to_pylist(), found.forms["when"].describe()
    ([datetime.date(2021, 12, 31), datetime.date(2022, 2, 1)], '%-d.%-m.%Y')
    """
    hints = hints or Hints()
    found: dict[str, Understood] = {}
    waiting: dict[str, Unsettled] = {}
    of_index = set(index_names(table.schema))
    for name in table.column_names:
        if name == "" or name in of_index:
            continue
        try:
            if (one := _one(table.column(name), name, where, hints, is_file, comma, None)) is not None:
                found[name] = one
        except Unsettled as error:
            if not error.is_order:
                raise
            waiting[name] = error
    orders = {order for one in found.values() if (order := _order(one.form))}
    for name, doubt in waiting.items():
        if len(orders) != 1:
            raise doubt
        one = _one(table.column(name), name, where, hints, is_file, comma, next(iter(orders)))
        assert one is not None
        found[name] = one
    return _assembled(table, found, hints, is_file)


def _one(
    cells: Any, name: str, where: str, hints: Hints, is_file: bool, comma: bool | None, order: str | None
) -> Understood | None:
    """One column, understood; None if its cells stay as they are."""
    is_float = cells.type == pa.float64()  # pandas' whole numbers with gaps; narrower floats hold no dates
    if is_float and isinstance(hints.known.get(name), Times):
        return _text(as_text(cells), name, where, hints, is_file, comma, order)
    if _is_text(cells.type) or name in hints.known:
        one = _text(cells, name, where, hints, is_file, comma, order)
        if one is not None or name in hints.known or pa.types.is_large_string(cells.type):
            return one
        return _without_codes(cells, hints.na_of(name))
    if (is_float or pa.types.is_integer(cells.type)) and not hints.settled and _may_be_dates(cells):
        one = _text(as_text(cells), name, where, hints, False, comma, order, dates_only=True)
        if one is not None:
            return one
    return _without_codes(cells, hints.na_of(name)) if hints.na and _is_number(cells.type) else None


def _text(
    cells: Any, name: str, where: str, hints: Hints, is_file: bool, comma: bool | None, order: str | None,
    *, dates_only: bool = False,
) -> Understood | None:  # fmt: skip
    if not _is_text(cells.type, pa.types.is_integer):
        return None  # the run was fitted to text, and these are values
    try:
        one = understood(cells, name, where, hints, comma=comma, order=order)
    except Unsettled:
        raise
    except InputError:
        if name in hints.usual:
            return _by_usual(cells, hints.usual[name])
        if name in {*hints.known, *hints.formats} or (is_file and name not in hints.loose):
            raise
        return understood(cells, name, where, dataclasses.replace(hints, words=frozenset([name]))) if is_file else None
    is_words = isinstance(one.form, Words)
    if is_words and name in hints.usual:
        return _by_usual(cells, hints.usual[name])
    wanted = isinstance(one.form, Times) if dates_only else not (is_words or pa.types.is_null(one.values.type))
    return one if is_file or wanted else None


def _is_text(type: Any, *others: Callable[[Any], bool]) -> bool:
    return any(test(type) for test in (pa.types.is_string, pa.types.is_large_string, *others))


def _is_number(type: Any) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _by_usual(cells: Any, form: Form) -> Understood:
    values, bad = form.read(cells)
    return Understood(values, form, unread=bad)


def _may_be_dates(cells: Any) -> bool:
    """Whether whole numbers may be dates such as 20211231, by the smallest and the largest."""
    ends = pc.min_max(cells).as_py()
    low, high = ends["min"] or 0, ends["max"] or 0
    return any(1900 * scale < low <= high < 2101 * scale for scale in (100, 10**4, 10**8, 10**10))


def _without_codes(cells: Any, na: tuple[str, ...]) -> Understood | None:
    """Numbers, or words, with null for those that stand for a missing cell; None if there are none."""
    values = without_codes(cells, na)
    return None if values.null_count == cells.null_count else Understood(values, Words(str(cells.type)))


def without_marks(table: Any, na: tuple[str, ...] | None) -> Any:
    """An arrow table with null for the cells that, as the user says, mean missing."""
    hints = Hints(na=na)
    for j, name in enumerate(table.column_names if na else ()):
        type = table.column(name).type
        if pa.types.is_string(type) or _is_number(type):
            table = table.set_column(j, name, without_codes(table.column(name), hints.na_of(name)))
    return table


def _order(form: Form) -> str | None:
    match = _ORDER.search(form.pattern) if isinstance(form, Times) else None
    if match is None or match[1] == match[3]:
        return None
    return "day-first" if match[1] == "d" else "month-first"


def _assembled(table: Any, found: dict[str, Understood], hints: Hints, is_file: bool) -> Read:
    columns, forms, text = {}, {}, {}
    for name in table.column_names:
        cells = table.column(name)
        one = found.get(name)
        if name == "":
            text[name] = cells
        elif one is None:
            columns[name] = cells
        else:
            columns[name] = one.values
            if str(cells.type) == one.form.means and isinstance(one.form, Words) and not is_file:
                continue  # numbers, with null for codes
            stored = str(cells.type) if _is_number(cells.type) else "string"
            forms[name] = one.form if is_file else dataclasses.replace(one.form, stored=stored)
            text[name] = cells
    unread = {name: one.unread for name, one in found.items() if one.unread is not None}
    fields = [table.schema.field(name).with_type(cells.type) for name, cells in columns.items()]
    values = pa.table(list(columns.values()), schema=pa.schema(fields, metadata=table.schema.metadata))
    return Read(values, forms, pa.table(text) if text else None, _notes(found, hints), unread)





def _notes(found: dict[str, Understood], hints: Hints) -> tuple[str, ...]:
    """The remarks on all columns, one sentence per kind of remark."""
    gathered: dict[tuple[str, str], list[tuple[str, int]]] = {}
    notes = []
    for name, one in found.items():
        for what, text, count in one.remarks:
            if what == "thousands":
                notes.append(
                    f"column {shown(name)}: the comma of {shown(text)} was read as a separator of thousands; pass "
                    f"--format {name}=1234,5 if decimals follow it"
                )
            elif what == "twins":
                notes.append(
                    f"column {shown(name)}: {shown(text.rstrip('0'))} and {shown(text)} were read as one number; pass "
                    f"--format {name}=text if they are names"
                )
            elif what == "bare":
                mark = (one.form.prefix + one.form.suffix).strip() if isinstance(one.form, Numbers) else ""
                notes.append(f"column {shown(name)}: numbers such as {shown(text)} were read as if they had {mark}")
            elif what == "order":
                order = _order(one.form)
                notes.append(
                    f"column {shown(name)}: dates such as {shown(text)} were read {order}, as all are then first of a "
                    f"month; pass --format {name}=FORM for another form"
                )
            elif what == "missing" or hints.na is None:
                gathered.setdefault((what, text), []).append((name, count))
    for (what, text), places in gathered.items():
        names = ", ".join(shown(name) for name, _ in places[:5]) + (f" and {len(places) - 5} more" * (len(places) > 5))
        count = sum(count for _, count in places)
        way = ' (--na "" keeps them as words)' if what == "word" else ""
        cells = f"{count:,} cell{'s' * (count > 1)} {shown(text)}"
        verb = "was" if count == 1 else "were"
        notes.append(f"column{'s' * (len(places) > 1)} {names}: {cells} {verb} read as missing{way}")
    return tuple(notes)
