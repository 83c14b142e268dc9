"""The Arrow types that a column of a table may have; every other type is refused by name."""

from __future__ import annotations

import json
import re
import zoneinfo
from collections.abc import Callable, Container, Sequence
from typing import Any

from latens.errors import InputError, choose
from latens.schema.arrow import listed, pa, pc

INDEX = "__index_level_"  # the name that pandas gives to an unnamed row index in a file


def shown(text: str) -> str:
    """A user's text for a message: quoted, on one line, cut to forty characters.

    >>> shown("a" * 50), shown("two\\nlines")
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'", "'two\\\\nlines'")
    """
    return repr(text if len(text) <= 40 else text[:40] + "...")


def require_names(names: Sequence[str], where: str) -> None:
    """Raise ``InputError`` unless every column has a name, and no two columns have the same."""
    first: dict[str, int] = {}
    for j, name in enumerate(names):
        if not name:
            raise InputError(f"{where}: column {j + 1} has no name", "give it one")
        if name in first:
            what = f"{where}: columns {first[name] + 1} and {j + 1} are both called {shown(name)}"
            raise InputError(what, "rename one")
        first[name] = j


def index_names(schema: pa.Schema) -> list[str]:
    """The columns to which pandas wrote the index of a frame, according to the schema of the table.

    >>> import pyarrow as pa
    >>> index_names(pa.schema([("__index_level_0__", pa.int64()), ("a", pa.int64())]))
    ['__index_level_0__']
    """
    said = _pandas_notes(schema).get("index_columns", ())
    named = [name for name in said if isinstance(name, str) and name in schema.names]
    return list(dict.fromkeys([*named, *(name for name in schema.names if name.startswith(INDEX))]))


def index_notes(schema: pa.Schema) -> list[str]:
    """A note that named columns are the index and hence not modelled, if there are any."""
    said = _pandas_notes(schema).get("index_columns", ())
    names = [repr(name) for name in said if isinstance(name, str) and not name.startswith(INDEX)]
    if not names:
        return []
    what = f"column {names[0]} names" if len(names) == 1 else f"columns {listed(names)} name"
    was = "is" if len(names) == 1 else "are"
    return [f"{what} the rows, as the index of the frame that was written, and so {was} not modelled"]


def with_index(table: pa.Table, index: pa.Table | None, like: pa.Schema | None) -> pa.Table:
    """The table with the columns of ``index`` in front, and with the metadata of pandas or polars from the schema
    ``like``, so that either library reads back the frame that it wrote."""
    index = table.slice(0, 0).select([]) if index is None else index
    like = pa.schema([]) if like is None else like
    names = [name for name in index.column_names if name not in table.column_names]
    own = {(field.name, field.type): field for field in like}  # these fields hold the metadata of polars
    fields = [index.schema.field(name) for name in names]
    fields += [_noted(f, own.get((f.name, f.type), f), table.column(f.name)) for f in table.schema]
    found = pa.Table.from_arrays([*map(index.column, names), *table.columns], schema=pa.schema(fields))
    notes = _pandas_notes(like)
    if not names and not notes:
        return found.replace_schema_metadata(table.schema.metadata)
    before = {field.name: field.type for field in (*like, *index.schema)}
    same = dict(before.items() & zip(found.schema.names, found.schema.types))
    return found.replace_schema_metadata({"pandas": json.dumps(_notes_of(names, same, notes))})


def _noted(field: pa.Field, like: pa.Field, cells: pa.ChunkedArray) -> pa.Field:
    """The field with the metadata of ``like``, unless they name the levels of a polars Enum, and the cells have others:
    polars reads levels by their numbers."""
    named = (like.metadata or {}).get(b"_PL_ENUM_VALUES2")
    if named is not None and pa.types.is_dictionary(cells.type):
        chunks = [chunk.dictionary.cast(pa.string()).to_pylist() for chunk in cells.chunks]
        texts = ("".join(f"{len(word.encode())};{word}" for word in chunk).encode() for chunk in chunks)
        if not all(named.startswith(text) for text in texts):
            return field.remove_metadata()
    return field.with_metadata(like.metadata)


def _notes_of(index: Sequence[str], known: Container[str], notes: dict[str, Any]) -> dict[str, Any]:
    """The metadata for pandas: the ``index`` of the table, and what pandas itself noted about the ``known`` columns."""
    kept = [note for note in notes.get("columns", ()) if note["field_name"] in known]
    new = {"name": None, "pandas_type": "object", "numpy_type": "object", "metadata": None}
    noted = {note["field_name"] for note in kept}
    kept += [new | {"field_name": name} for name in index if name not in noted]
    ranges = [name for name in notes.get("index_columns", ()) if isinstance(name, dict)]  # pandas checks their length
    return {"column_indexes": []} | notes | {"index_columns": [*index, *ranges], "columns": kept}


def _pandas_notes(schema: pa.Schema) -> dict[str, Any]:
    """The metadata of pandas in the schema of a table that it wrote; {} if it cannot be read."""
    try:
        notes = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        columns = notes.get("columns", [])
        sound = all(isinstance(note["field_name"], str | None) for note in columns)
        return notes if sound and isinstance(notes.get("index_columns", []), list) else {}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def chosen(names: Sequence[str], drop: str | Sequence[str], columns: Sequence[str] | None, where: str) -> list[str]:
    """The names in ``columns`` (or all, if it is None) that are not in ``drop``, in the given order.

    Raises:
        InputError: a name does not exist, a name is asked for twice, or nothing is left.

    >>> chosen(["a", "b", "c"], "b", None, "t.csv")
    ['a', 'c']
    """
    there = set(names)
    dropped = [drop] if isinstance(drop, str) else list(drop)
    for name, why in [*((n, " to drop") for n in dropped), *((n, "") for n in columns or ())]:
        if name not in there:
            raise InputError(f"{where} has no column {shown(name)}{why}", choose(name, names, listed(names), shown))
    require_names(columns or (), f"{where}, columns asked for")
    out = set(dropped)
    left = [name for name in (names if columns is None else columns) if name not in out]
    if not left:
        raise InputError(f"{where} has no column besides the dropped ones", "keep at least one")
    return left


def plain_type(type: pa.DataType) -> pa.DataType | None:
    """The type that latens uses for a column of type ``type``, or None if it cannot use such a column.

    Text of every width becomes ``string``, ``date64`` becomes ``date32``, and categories have indices of 32 bits. Truth
    values, integers, floats of every width, decimals, ``date32``, ``timestamp`` (with its zone), times of day,
    durations and ``null`` stay as they are.

    >>> import pyarrow as pa
    >>> plain_type(pa.large_string()), plain_type(pa.date64()), plain_type(pa.list_(pa.int8()))
    (DataType(string), DataType(date32[day]), None)
    """
    is_a = pa.types
    if is_a.is_string(type) or is_a.is_large_string(type) or is_a.is_string_view(type):
        return pa.string()
    if is_a.is_date64(type):
        return pa.date32()
    if is_a.is_dictionary(type):
        values = plain_type(type.value_type)
        return None if values is None else pa.dictionary(pa.int32(), values, type.ordered)
    kept = (
        is_a.is_null, is_a.is_boolean, is_a.is_integer, is_a.is_floating, is_a.is_decimal, is_a.is_date32,
        is_a.is_timestamp, is_a.is_time, is_a.is_duration,
    )  # fmt: skip
    return type if any(test(type) for test in kept) else None


def plain_schema(schema: pa.Schema, where: str) -> pa.Schema:
    """The schema with the :func:`plain_type` of each column; an ``InputError`` names the first that has none."""
    fields = []
    for field in schema:
        type = plain_type(field.type)
        if type is None:
            kind, remedy = _refused(field.type)
            way = f"{remedy}, or leave the column out with --drop {field.name!r}"
            raise InputError(f"{where}: column {shown(field.name)} holds {kind}", way)
        _require_zone(type.value_type if pa.types.is_dictionary(type) else type, field.name, where)
        fields.append(pa.field(field.name, type, metadata=field.metadata))
    return pa.schema(fields, metadata=schema.metadata)


def _require_zone(type: pa.DataType, name: str, where: str) -> None:
    """Raise ``InputError`` for times in a zone that is not in this machine's time zone database."""
    zone = getattr(type, "tz", None)
    if zone is None or re.fullmatch(r"[+-]\d\d:\d\d", zone):
        return
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"{where}: column {shown(name)} has the time zone {shown(zone)}, which does not exist",
            "give it one that does, such as 'UTC', 'Europe/Berlin' or '+01:00'",
        ) from None


def _refused(type: pa.DataType) -> tuple[str, str]:
    """(what a column of that type holds; what to do instead)."""
    from pyarrow import types

    if types.is_struct(type) or types.is_map(type) or types.is_nested(type):
        kind = "records" if types.is_struct(type) else "maps" if types.is_map(type) else "lists"
        return kind, "spread them over separate columns"
    if types.is_binary(type) or types.is_large_binary(type) or types.is_fixed_size_binary(type):
        return "bytes", "write them as text"
    return f"values of the type {type}", "write them as numbers, words or dates"


def plain_table(
    table: pa.Table, where: str, schema: pa.Schema | None = None, first_row: int = 0, *, finite: bool = True
) -> pa.Table:
    """The table in plain types, with null as the only mark of a missing cell (NaN becomes null).

    Args:
        table: any table; its names must be those of ``schema``, in the same order.
        where: what messages call the data.
        schema: the plain types to give; by default those of :func:`plain_schema`.
        first_row: the row number of the table's first row, for messages.
        finite: whether infinite numbers are refused.

    Raises:
        InputError: a type has no plain type, a number is infinite, or a plain type cannot hold a value.
    """
    schema = plain_schema(table.schema, where) if schema is None else schema
    columns = []
    for field, column in zip(schema, table.columns):
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise InputError(
                    f"{where}: column {shown(field.name)} of type {column.type} holds values that do not fit "
                    f"the type {field.type}",
                    "write them as numbers or words of one kind",
                ) from error
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            row = pc.index(pc.is_inf(column), True).as_py()
            if row >= 0 and finite:
                raise InputError(
                    f"{where}: column {shown(field.name)}, row {first_row + row} is not finite ({column[row]})",
                    "give a finite number, or leave the cell empty",
                )
            column = pc.if_else(pc.is_nan(column), None, column)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def joined_type(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The type that can hold the values of two plain types; None if the two types mean different things.

    >>> import pyarrow as pa
    >>> joined_type(pa.int32(), pa.int64()), joined_type(pa.int8(), pa.float32()), joined_type(pa.int8(), pa.string())
    (DataType(int64), DataType(double), None)
    """
    is_a = pa.types
    if a == b or is_a.is_null(b):
        return a
    if is_a.is_null(a):
        return b
    if _are(a, b, is_a.is_integer):
        return pa.int64()
    if _are(a, b, is_a.is_integer, is_a.is_floating, is_a.is_decimal):
        return pa.float64()
    one, other = (t.value_type if is_a.is_dictionary(t) else t for t in (a, b))
    if (one, other) != (a, b):
        return one if one == other else None
    same_zone = getattr(a, "tz", None) == getattr(b, "tz", None)
    if same_zone and any(_are(a, b, test) for test in (is_a.is_timestamp, is_a.is_time, is_a.is_duration)):
        return max(a, b, key=lambda type: ("s", "ms", "us", "ns").index(type.unit))
    return None


def held(values: Any, type: pa.DataType) -> Any:
    """Arrow values in that type; None if it cannot hold them. Floats may lose digits, but do not become infinite.

    >>> import pyarrow as pa
    >>> held(pa.array([300]), pa.int8()), held(pa.array([0.5, None]), pa.int8()), held(pa.array([1e6]), pa.float16())
    (None, None, None)
    """
    if pa.types.is_null(values.type):
        return values.cast(type)
    try:
        found = values.cast(type)
        is_float = pa.types.is_floating(type)
        same = _finite(found).equals(_finite(values)) if is_float else found.cast(values.type).equals(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return found if same else None


def _finite(values: Any) -> Any:
    return pc.is_finite(values.cast(pa.float64()))


def _are(a: pa.DataType, b: pa.DataType, *tests: Callable[[Any], bool]) -> bool:
    return all(any(test(type) for test in tests) for type in (a, b))
