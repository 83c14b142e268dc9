"""Tables in files: text such as .csv (compressed or not), .parquet, .feather, .arrow, .ipc, and folders of one of them.

Files are not trusted: types are checked by name, sizes before memory is allocated, and every fault becomes one
sentence that names the file and the column. What a column means is decided elsewhere. A file is written whole or not at
all."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from latens.data.array_files import require_file, sentences
from latens.data.tables import text as table_text
from latens.data.tables.folders import (
    FEATHER,
    PACKED,
    key_columns,
    keys_of,
    kind_of,
    same_columns,
    tables_below,
    with_keys,
)
from latens.data.tables.reading import Hints, Read, read_columns
from latens.data.tables.text import DATUM
from latens.data.tables.types import (
    INDEX,
    chosen,
    index_names,
    joined_type,
    plain_schema,
    plain_table,
    require_names,
    shown,
)
from latens.errors import InputError
from latens.machine.atomic import atomic_write
from latens.schema.arrow import pa, pc
from latens.schema.form import Times

FORMATS = (
    ".csv, .tsv, .txt, .dat (also in .gz, .bz2, .xz, .zst or .zip), .parquet, .feather, .arrow, .ipc, or a folder of "
    "files of one kind"
)


def read_found(
    path: str | os.PathLike[str],
    *,
    drop: str | Sequence[str] = (),
    columns: Sequence[str] | None = None,
    hints: Hints | None = None,
    encoding: str | None = None,
    index: bool = False,
) -> Read:
    """Read a table of plain types (:func:`latens.data.tables.types.plain_type`), in which null is the only mark of a
    missing cell, and find out how its columns of text are written.

    Args:
        path: a file in one of :data:`FORMATS`. The fields of a csv may be separated by commas, semicolons, tabs or
            vertical bars. It may have a header, and is in UTF-8 or, with a byte order mark, UTF-16. Decimal commas are
            read if commas do not separate fields. All columns of a csv are read as in
            :func:`latens.data.tables.reading.understood`. So are columns of text in other files if all their cells are
            numbers, dates or truth values. A first column without a name, and the columns to which pandas wrote a
            frame's index, are row indices and left out. Columns without a header are called column_1, column_2 ...
        drop: columns to leave out; their types and cells are not examined.
        columns: the columns to read, in this order; all by default.
        hints: what is known about columns of text, for example which columns to read as words whatever they contain.
        encoding: the encoding of a csv that is not UTF-8: cp1252, latin-1 ...
        index: whether to keep the row index that pandas wrote, as the first columns. The index of a csv is kept with
            the original text.

    Raises:
        InputError: the file is missing, damaged, empty or of an unknown format, or has a column of a nested type. The
            message names the file, the column and the first row concerned, counted from 0.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "t.csv").write_text("size;kind;when\\n1,5;cat;2024-02-29\\n;dog;2024-03-01\\n")
    ...     read_found(folder + "/t.csv").table.to_pydict()
    {'size': [1.5, None], 'kind': ['cat', 'dog'], 'when': [datetime.date(2024, 2, 29), datetime.date(2024, 3, 1)]}
    """
    where = locate(path)
    with sentences(where):
        found = _Files(where)
        if found.kind == "csv":
            choose = partial(chosen, drop=drop, columns=columns, where=str(where))
            return table_text.read_text(where, found.parts, found.key_columns, choose, hints or Hints(), encoding)
        names = found.chosen(where, drop, columns, index)
        _require_modest(found.parts, 8 * len(names))
    batches = list(table_batches(where, names, finite=not (hints and hints.lenient)))
    if not batches:
        raise InputError(f"{where} has no rows", "give a file with data")
    with sentences(where):
        return read_columns(pa.Table.from_batches(batches).unify_dictionaries(), str(where), hints)


def read_table(path: str | os.PathLike[str], **options: Any) -> pa.Table:
    """The table that :func:`read_found` reads; ``text`` names columns to read as words."""
    words = frozenset(options.pop("text", ()))
    return read_found(path, hints=Hints(words), **options).table


def stored_table(path: str | os.PathLike[str]) -> pa.Table:
    """A Parquet or Feather file as it is stored: all its columns, with their types and the schema's metadata."""
    from pyarrow import feather, parquet

    where = locate(path)
    with sentences(where):
        _require_modest([where], 8)
        read = parquet.read_table if _kind(where) == "parquet" else feather.read_table
        return read(where)


def table_names(path: str | os.PathLike[str], encoding: str | None = None) -> tuple[str, ...]:
    """The names of the columns that :func:`read_table` gives, read from the head of the file; errors as there.

    >>> import pyarrow as pa, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_table(folder + "/t.parquet", pa.table({"a": [1], "b": ["x"]}))
    ...     table_names(folder + "/t.parquet")
    ('a', 'b')
    """
    where = locate(path)
    with sentences(where):
        found = _Files(where)
        if found.kind != "csv":
            return tuple(found.chosen(where))
        names = found.names(encoding)
        require_names(names, str(where))
        return (*names, *found.key_columns(names))


def table_batches(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, rows: int = 65536, *, index: bool = False,
    finite: bool = True,
) -> Iterator[pa.RecordBatch]:
    """The rows of a table in order, at most ``rows`` at a time, in batches of one schema.

    Parquet and feather take the memory of one batch; a csv is read whole. The files of a folder must have the same
    columns with compatible types: numbers of different widths become the wider type.

    Raises:
        InputError: as in :func:`read_table`, or a column changes its type between the files of a folder.
    """
    where = locate(path)
    with sentences(where):
        found = _Files(where)
        if found.kind == "csv":
            pieces = read_table(where, columns=columns).to_batches(max_chunksize=rows)
            yield from (piece for piece in pieces if piece.num_rows)
            return
        names = found.chosen(where, (), columns, index)
        keys = found.key_columns(found.names())
        stored = [name for name in names if name not in keys] or found.names()[:1]
        schema = _common_schema(found, stored, where)
    first = 0
    for number, part in enumerate(found.parts):
        with sentences(part):
            start = first
            for batch in _stored_batches(part, stored, rows):
                table = plain_table(batch, str(part), schema, first - start, finite=finite)
                table = with_keys(table, names, keys, number)
                first += table.num_rows
                yield from table.combine_chunks().to_batches()


# Which file it is, and of which format


def locate(path: str | os.PathLike[str]) -> Path:
    """The file or folder of a table; ``InputError`` unless it exists, is not empty, and has a known extension."""
    where = Path(path).expanduser()
    if not os.path.exists(where):  # unlike Path.exists, False for a name that is too long
        near = [n for n in difflib.get_close_matches(where.name, _listing(where.parent), 3) if n != where.name][:2]
        hint = f"did you mean {' or '.join(str(where.with_name(n)) for n in near)}?" if near else f"give a {FORMATS}"
        raise InputError(f"{where} does not exist", hint)
    if not os.path.isdir(where):
        require_file(where)
    _kind(where)
    return where


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith((".", "_")))
    except OSError:
        return []


def _kind(path: Path) -> str:
    if os.path.isdir(path):
        inside, _ = tables_below(path)
        if not inside:
            raise InputError(f"{path} is a folder without tables", "name a file, or a folder of .parquet or .csv files")
        return inside
    if kind := kind_of(path.name):
        return kind
    raise InputError(f"{path} has an unknown extension", f"give a table in {FORMATS}")


class _Files:
    """The files of the table at a path; those of a folder are sorted by name."""

    def __init__(self, where: Path) -> None:
        self.kind, self.inside = _kind(where), tables_below(where)[1] if os.path.isdir(where) else []
        self.parts = [where / name for name in self.inside] or [where]
        for part in self.parts if self.inside else ():
            locate(part)
        self.keys = [keys_of(name) for name in self.inside]

    def names(self, encoding: str | None = None) -> list[str]:
        """The columns that the first file stores."""
        if self.kind == "csv":
            return table_text.names_of(self.parts[0], encoding)
        return list(_stored(self.parts[0])[0].names)

    def chosen(
        self, where: Path, drop: str | Sequence[str] = (), columns: Sequence[str] | None = None, index: bool = False
    ) -> list[str]:
        """The names to read from Parquet or feather, after the names of the index if it is kept."""
        schema, _ = _stored(self.parts[0])
        require_names(schema.names, str(where))
        of_index = index_names(schema)
        names = chosen([*schema.names, *self.key_columns(schema.names)], drop, columns, str(where))
        if columns is None:
            names = [name for name in of_index if index and name in names] + [n for n in names if n not in of_index]
            if set(names) <= set(of_index):
                raise InputError(f"{where} has no column besides the index of its rows", "add a column")
        return names

    def key_columns(self, stored: Sequence[str]) -> dict[str, pa.Array]:
        """The columns that partitions name, with one value for each file."""
        return key_columns(self.keys, self.parts, stored)


def parts_of_text(path: str | os.PathLike[str]) -> list[Path]:
    """The files of a table of text that are not compressed and not in partitions; [] for any other table."""
    found = _Files(locate(path))
    plain = not any(part.name.lower().endswith(PACKED) for part in found.parts)
    return found.parts if found.kind == "csv" and plain and not any(found.keys) else []


def bytes_of_text(path: str | os.PathLike[str]) -> int:
    """The total size in bytes of the files that :func:`parts_of_text` gives; 0 if there are none."""
    try:
        there = "://" not in os.fspath(path) and os.path.exists(os.path.expanduser(path))
        return sum(part.stat().st_size for part in parts_of_text(path)) if there else 0
    except InputError:
        return 0


# Parquet and feather


def _require_magic(path: Path) -> None:
    """Raise ``InputError`` for a parquet file without its first and last bytes, or a feather file of version 1."""
    with open(path, "rb") as file:
        head = file.read(6)
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        tail = file.read()
    if kind_of(path.name) == "parquet":
        if not head.startswith(b"PAR1"):
            what = f"{path} is not a parquet file, as it does not begin with PAR1"
            raise InputError(what, "give it the extension of its format")
        if tail != b"PAR1" or path.stat().st_size < 12:
            raise InputError(f"{path} is truncated, as it ends before its data does", "get it again")
    elif head.startswith(b"PAR1"):
        raise InputError(f"{path} is a parquet file", "give it the extension .parquet")
    elif head.startswith(b"FEA1"):
        raise InputError(f"{path} is a feather file of version 1", "save it again as version 2, or as parquet")


def _stored(path: Path) -> tuple[pa.Schema, int | None]:
    """(the schema of one file; its number of rows, or None if only reading the whole file would show it)."""
    from pyarrow import parquet

    _require_magic(path)
    if kind_of(path.name) == "parquet":
        with parquet.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    with _feather(path) as reader:
        return reader.schema, None


def _feather(path: Path) -> Any:
    source = pa.memory_map(str(path))
    with open(path, "rb") as file:
        is_file = file.read(6) == b"ARROW1"
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _stored_batches(path: Path, names: Sequence[str], rows: int) -> Iterator[pa.Table]:
    from pyarrow import parquet

    if kind_of(path.name) == "parquet":
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # a buffer would hold the whole file
            for batch in file.iter_batches(rows, columns=list(names), use_threads=False):
                batch.validate(full=True)  # fails for text that is not UTF-8
                if batch.num_rows:
                    yield pa.Table.from_batches([batch]).select(names)
        return
    with _feather(path) as reader:
        numbered = hasattr(reader, "num_record_batches")
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if numbered else iter(reader)
        for batch in batches:
            batch.validate(full=True)  # offsets may point outside the file
            for first in range(0, batch.num_rows, rows):
                yield pa.Table.from_batches([batch.slice(first, rows)]).select(names)


def _require_modest(parts: Sequence[Path], row_size: int) -> None:
    """Raise ``InputError`` if a parquet file declares far more than a file of its size can hold."""
    for part in parts:
        _, count = _stored(part)
        declared, size = (count or 0) * row_size, part.stat().st_size
        if declared > max(table_text.LARGEST, table_text.DENSEST * size):
            what = f"{part} declares {count:,} rows, which would unpack {size:,} bytes to {declared:,}"
            raise InputError(what, "get it again, or write it in another format")


def _common_schema(files: _Files, names: Sequence[str], where: Path) -> pa.Schema:
    """The schema with names and types that can hold the rows of all files."""
    found: dict[str, tuple[pa.DataType, Path]] = {}
    schemas = [_stored(part)[0] for part in files.parts]
    for part, stored in zip(files.parts, schemas):
        require_names(stored.names, str(part))
    own = [[name for name in stored.names if name not in index_names(stored)] for stored in schemas]
    same_columns(files.parts, own)
    for part, stored in zip(files.parts, schemas):
        for field in plain_schema(pa.schema([stored.field(name) for name in names]), str(part)):
            type, origin = found.get(field.name, (field.type, part))
            wider = joined_type(type, field.type)
            if wider is None:
                raise InputError(
                    f"{where}: column {shown(field.name)} is of type {type} in {origin.name} but of type "
                    f"{field.type} in {part.name}",
                    "write it with one type in all files",
                )
            found[field.name] = (wider, origin if wider == type else part)
    first = schemas[0]
    return pa.schema([first.field(n).with_type(found[n][0]).with_nullable(True) for n in names], first.metadata)


def write_table(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table atomically in the format that the extension of ``path`` names.

    Parquet and feather keep names and types. From a csv, :func:`latens.data.tables.files.read_table` restores bool,
    int64, double, string, date32, ``timestamp[us]`` without a zone or in UTC, and columns of nulls; it does not restore
    words that look like numbers, dates or missing cells, nor spaces around words.

    Raises:
        InputError: another extension, a missing folder, two columns of one name or a column without one, a type that
            has no plain type, or a full disk. No file is left behind.

    >>> import pyarrow as pa, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_table(folder + "/t.csv", pa.table({"a": [0.1, None], "b": ["x", "y, z"]}))
    ...     print(Path(folder, "t.csv").read_text())
    a,b
    0.1,x
    ,"y, z"
    """
    unified = table.unify_dictionaries()
    with TableWriter(path, unified.schema) as writer:
        writer.write(unified)


class TableWriter:
    """Write a table batch by batch; the file appears at ``path`` when the block ends without an exception.

    Args:
        path: ``.csv``, ``.tsv``, ``.parquet``, ``.feather``, ``.arrow`` or ``.ipc``.
        schema: names and types of every batch.

    Raises:
        InputError: as in :func:`write_table`, or a batch has another schema.

    >>> import pyarrow as pa, tempfile
    >>> batch = pa.record_batch({"a": [1, 2]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with TableWriter(folder + "/t.feather", batch.schema) as writer:
    ...         writer.write(batch)
    ...         writer.write(batch)
    ...     pa.ipc.open_file(folder + "/t.feather").read_all()["a"].to_pylist()
    [1, 2, 1, 2]
    """

    def __init__(self, path: str | os.PathLike[str], schema: pa.Schema) -> None:
        self.path, self.schema = Path(path), schema
        suffix = self.path.suffix.lower()
        if suffix not in (".csv", ".tsv", ".parquet", *FEATHER):
            raise InputError(f"cannot write {path}: the extension must be .csv, .tsv, .parquet or .feather")
        if not schema.names:
            raise InputError(f"cannot write {path}, as the table has no columns", "give it one")
        require_names(schema.names, f"cannot write {path}")
        plain_schema(schema, f"cannot write {path}")
        self.delimiter = {".csv": ",", ".tsv": "\t"}.get(suffix)
        self._stack = ExitStack()
        self._file: Any = None
        self._writer: Any = None

    def __enter__(self) -> TableWriter:
        from pyarrow import parquet

        with ExitStack() as stack:
            self._file = stack.enter_context(atomic_write(self.path))
            if self.delimiter is not None:
                self._file.write(header_line(self.schema.names, self.delimiter))
            elif self.path.suffix.lower() == ".parquet":
                self._writer = stack.enter_context(parquet.ParquetWriter(self._file, self.schema))
            else:
                packing = "lz4" if pa.Codec.is_available("lz4") else None
                options = pa.ipc.IpcWriteOptions(compression=packing)
                self._writer = stack.enter_context(pa.ipc.new_file(self._file, self.schema, options=options))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append the rows of a batch; they must have the writer's names and types."""
        if not batch.schema.equals(self.schema):
            raise InputError(
                f"cannot write {self.path}, as a batch has the columns {_described(batch.schema)}",
                f"give those of the file, {_described(self.schema)}",
            )
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        if self._writer is None:
            step = max(1, 1_000_000 // len(table.column_names))
            for row in range(0, table.num_rows, step):
                self._file.write(lines(table.slice(row, step), str(self.delimiter)))
            return
        try:
            self._writer.write_table(table)
        except pa.ArrowInvalid as error:
            reason = " ".join(str(error).split())
            raise InputError(f"cannot write {self.path} ({reason:.200})", "write it as .csv or .parquet") from error


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{shown(field.name)} ({field.type})" for field in list(schema)[:20])


# Text


def header_line(names: Sequence[str], delimiter: str) -> bytes:
    """The header line; names that could be read as numbers are quoted, and a row index has no name."""
    names = ["" if j == 0 and name.startswith(INDEX) and names[1:] else name for j, name in enumerate(names)]
    first, always = io.StringIO(), any(DATUM.fullmatch(name.strip()) or name.startswith("#") for name in names)
    style = {"delimiter": delimiter, "lineterminator": "\n", "quoting": csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL}
    csv.writer(first, **style).writerow(names)  # type: ignore[arg-type]
    return first.getvalue().encode("utf-8")


def lines(rows: pa.Table, delimiter: str) -> bytes:
    r"""Rows as text: the shortest digits that read back as the same number (doubles always have a point), ISO dates,
    an empty cell for null, and quotes around words that need them.

    >>> import pyarrow as pa
    >>> lines(pa.table({"a": [0.1, 2.0, None], "b": ["x", 'say "y" now', "z,"]}), ",")
    b'0.1,x\n2.0,"say ""y"" now"\n,"z,"\n'
    """
    if rows.num_rows == 0:
        return b""
    cells = [_as_text(column.combine_chunks(), delimiter) for column in rows.columns]
    if len(cells) == 1:  # an empty line would not be a row
        cells = [cells[0].fill_null('""')]
    cells[-1] = pc.binary_join_element_wise(
        cells[-1], pa.scalar("\n"), "", null_handling="replace", null_replacement=""
    )
    joined = pc.binary_join_element_wise(*cells, delimiter, null_handling="replace", null_replacement="")
    return "".join(joined.to_pylist()).encode("utf-8")


def _shortest(times: pa.Array) -> pa.Array:
    """Times or durations, in whole seconds if none of them has a fraction of a second."""
    try:
        return times.cast(pa.duration("s") if pa.types.is_duration(times.type) else pa.timestamp("s", times.type.tz))
    except pa.ArrowInvalid:
        return times


def _as_text(column: pa.Array, delimiter: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_duration(column.type):
        column = _shortest(column)
        digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[column.type.unit]
        below = (pc.min(column.cast(pa.int64())).as_py() or 0) < 0  # pandas ignores the sign of "-0 days"
        pattern = ("" if below else "%j days ") + "%H:%M:%S" + (".%f" if digits else "")
        return Times(str(column.type), pattern=pattern, digits=digits).write(column)
    if pa.types.is_floating(column.type):
        text = pc.if_else(pc.is_nan(column), None, column).cast(pa.string())
        whole = pc.match_substring_regex(text, "^-?[0-9]+$")
        return pc.if_else(whole, pc.binary_join_element_wise(text, ".0", ""), text)
    if pa.types.is_timestamp(column.type):
        column = _shortest(column)
    text = column.cast(pa.string())
    if getattr(column.type, "tz", None):
        text = pc.replace_substring_regex(text, "([+-][0-9]{2})([0-9]{2})$", r"\1:\2")
    if not pa.types.is_string(column.type):
        return text
    awkward = pc.match_substring_regex(text, f'["{re.escape(delimiter)}\n\r]|^#|^$')
    if not pc.any(awkward, min_count=0).as_py():
        return text
    doubled = pc.replace_substring(text, '"', '""')
    return pc.if_else(awkward, pc.binary_join_element_wise('"', doubled, '"', ""), text)
