"""Tables in text files, packed or not: bytes become columns of text; the type of cells is found elsewhere."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import IO

from latens.data.array_files import open_plain
from latens.data.tables.cells import Hints
from latens.data.tables.folders import is_shown, kind_of, same_columns
from latens.data.tables.layout import PADDING, Choice, Layout, records, survey
from latens.data.tables.reading import Read, read_columns
from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.cells import listed

LARGEST, DENSEST = 4 << 30, 1000  # bytes, and bytes per stored byte: a file that exceeds both is a bomb
_HEAD = 16 << 20  # the names of the columns must be within this many bytes
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_COMMA = re.compile(rb"""(^|[;\t|"'\r\n]) *[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)? *(["\r\n;\t|]|$)""")
_OTHERS = {
    b"PAR1": ("a parquet file", "give it the extension .parquet"),
    b"ARROW1": ("a feather file", "give it the extension .feather"),
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "save the table as csv"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save the table as csv"),
    b"\x89HDF": ("an HDF5 file", "save the table as csv or parquet"),
}


def read_text(
    where: Path, parts: Sequence[Path], keys_of: Callable[[Sequence[str]], Mapping[str, pa.Array]], choose: Choice,
    hints: Hints, encoding: str | None,
) -> Read:  # fmt: skip
    """The chosen columns of one or more files; the cells of all files are understood together, as in
    :func:`latens.data.tables.cells.understood`.

    Args:
        keys_of: a function from the names of the files' columns to further columns, with one value for each file.
    """
    found, commas = zip(*[_part(path, lambda own: choose([*own, *keys_of(own)]), encoding) for path in parts])
    stored = [list(filter(None, cells)) for cells in found]
    same_columns(parts, stored)
    rows = [len(next(iter(cells.values()), ())) for cells in found]
    if not sum(rows):
        raise InputError(f"{where} has a header and no rows", "give a file with data")
    keys = keys_of(stored[0])
    names = choose([*stored[0], *keys])
    raw = {
        name: pa.chunked_array([chunk for cells in found for chunk in cells.pop(name).chunks], pa.string())
        for name in ["", *names] if all(name in cells for cells in found)
    }  # fmt: skip
    with _row_within(parts, rows):
        read = read_columns(
            pa.table(raw), str(where), hints, is_file=True, comma=None if None in commas else any(commas)
        )
    asked = {name: pa.chunked_array(map(pa.repeat, values, rows)) for name, values in keys.items() if name in names}
    return _with_keys(read, read_columns(pa.table(asked), str(where), hints), names) if asked else read


def _part(path: Path, choose: Choice, encoding: str | None) -> tuple[dict[str, pa.ChunkedArray], bool | None]:
    """The cells of one file, and whether its decimals have commas (None if commas separate its fields)."""
    layout = survey(_utf8(_content(path), str(path), encoding), path, choose)
    comma = _COMMA.search(layout.data, max(layout.start - 1, 0)) is not None
    return _cells(layout, str(path)), None if layout.delimiter == "," else comma


def _with_keys(read: Read, more: Read, names: Sequence[str]) -> Read:
    """The columns of files and the columns that partitions name, in order."""
    table = more.table
    for name, column in zip(read.table.column_names, read.table.columns):
        table = table.append_column(name, column)
    notes = (*read.notes, *more.notes)
    return replace(read, table=table.select(names), forms={**read.forms, **more.forms}, notes=notes)


@contextmanager
def _row_within(parts: Sequence[Path], rows: Sequence[int]) -> Iterator[None]:
    """Turn the row that an error names into a row of its file, if there are several files."""
    try:
        yield
    except InputError as error:
        found = re.search(r"(?<=[ ,])row (\d+)(?= is\b)", str(error))
        if found is None or len(parts) == 1:
            raise
        row = int(found[1])
        part = next(j for j, end in enumerate(accumulate(rows)) if row < end)
        own = f"row {row - sum(rows[:part])} of {parts[part]}"
        error.args = (str(error)[: found.start()] + own + str(error)[found.end() :],)
        raise


def names_of(path: Path, encoding: str | None) -> list[str]:
    """The names of the columns; only the head of the file is read."""
    data = _content(path, _HEAD)
    if len(data) == _HEAD:
        data = _content(path) if data.startswith(_UTF_16) else data[: data.rfind(b"\n") + 1 or None]
    return [name for name in survey(_utf8(data, str(path), encoding), path, list).names if name]


# Bytes


def _content(path: Path, count: int | None = None) -> bytes:
    """All bytes of the file, or the first ``count``, inflated if they are packed."""
    limit, parts, size = max(LARGEST, DENSEST * path.stat().st_size), [], 0
    with _opened(path) as file:
        while part := file.read(1 << 24 if count is None else count - size):
            parts.append(part)
            size += len(part)
            if size > limit:
                what = f"{path} inflates to more than {DENSEST:,} times its size and {limit:,} bytes"
                raise InputError(what, "unpack it first")
    return b"".join(parts)


def _opened(path: Path) -> IO[bytes]:
    if not path.name.lower().endswith(".zip"):
        return open_plain(path)
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if is_shown(name) and not name.endswith("/")]
        if len(inside) != 1 or kind_of(inside[0]) != "csv":
            there = listed(inside) or "nothing"
            raise InputError(f"{path} must hold a single text file (.csv, .txt …), got {there}", "unpack it")
        return archive.open(inside[0])


def _utf8(data: bytes, where: str, encoding: str | None) -> bytes:
    """The same text in UTF-8 without a byte order mark; ``InputError`` unless it is text in the encoding."""
    for magic, (what, remedy) in _OTHERS.items():
        if data.startswith(magic):
            raise InputError(f"{where} is not a csv but {what}", remedy)
    if encoding is None and data.startswith(_UTF_16):
        encoding = "utf-16"
    try:
        text = data.decode(encoding or "utf-8")
    except LookupError as error:
        what = f"{where}: there is no encoding {encoding!r}"
        raise InputError(what, "pass --encoding utf-8, cp1252 or latin-1, for example") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte {error.start} (0x{data[error.start]:02x})"
        advice = "name its encoding with --encoding (often cp1252)" if encoding is None else "name another --encoding"
        raise InputError(f"{where}, line {line}: {byte} is not {encoding or 'UTF-8'} text", advice) from error
    if "\0" in text:
        raise InputError(f"{where} is not a text file, as it holds zero bytes", "save it as a UTF-8 csv")
    if encoding is None:
        return data.removeprefix(b"\xef\xbb\xbf")
    return text.removeprefix("\ufeff").encode("utf-8")


# Columns


def _cells(layout: Layout, where: str) -> dict[str, pa.ChunkedArray]:
    """The cells of each column that has a name, and of a row index under ""."""
    found = _cut(layout) or _cut_exactly(layout, where)
    last = len(layout.names) - 1
    if layout.names[-1] == "" and last:
        _require_blank(found[str(last)], f"{where}, column {last + 1}")
    if layout.row_names:
        _require_row_names(found["0"], layout, where)
    return {name: found[str(j)] for j, name in enumerate(layout.names) if name or j == 0}


def _cut(layout: Layout) -> dict[str, pa.ChunkedArray] | None:
    """The columns as text, cut by pyarrow; None if anything is unusual, which :func:`_cut_exactly` then names."""
    from pyarrow import csv as arrow

    if layout.data.count(b'"') % 2:
        return None
    ids = [str(j) for j in range(len(layout.names))]
    try:
        # from memory and without threads: a reader thread that needs the file while the interpreter shuts down would
        # crash the process
        table = arrow.read_csv(
            pa.BufferReader(pa.py_buffer(layout.data).slice(layout.start)),
            arrow.ReadOptions(column_names=ids, use_threads=False, block_size=max(1 << 23, 64 * len(ids))),
            arrow.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
            arrow.ConvertOptions(
                check_utf8=False, column_types={j: pa.string() for j in ids}, include_columns=_wanted(layout)
            ),
        )
    except pa.ArrowException:
        return None
    found = dict(zip(table.column_names, table.columns))
    return None if _names_again(found, layout) else found


def _names_again(found: dict[str, pa.ChunkedArray], layout: Layout) -> bool:
    """Whether a row repeats the names of the columns."""
    named = [(str(j), name) for j, name in enumerate(layout.header) if name]
    rows = None
    for j, name in named if len(named) > 1 and not layout.row_names else ():
        same = pc.equal(pc.utf8_trim(found[j], PADDING), name)
        rows = same if rows is None else pc.and_(rows, same)
        if not pc.any(rows, min_count=0).as_py():
            return False
    return rows is not None


def _wanted(layout: Layout) -> list[str]:
    last = len(layout.names) - 1
    return [str(j) for j, name in enumerate(layout.names) if name or j in (0, last)]


def _cut_exactly(layout: Layout, where: str) -> dict[str, pa.ChunkedArray]:
    """The same, cut by Python's csv module: slower, and raises at the first line with too many or too few fields, or
    with the names of the columns again; lines of another length that begin with # are comments."""
    wanted, width = _wanted(layout), len(layout.names)
    columns: dict[str, list[str]] = {j: [] for j in wanted}
    for line, record in records(layout.data, layout.start, layout.delimiter, where, layout.line):
        if len(layout.header) > 1 and [cell.strip(PADDING) for cell in record] == layout.header:
            what = f"{where}, line {line} repeats the names of the columns, as if files had been joined"
            raise InputError(what, "delete the line")
        if len(record) != width and record[0].lstrip().startswith("#"):
            continue
        if len(record) != width:
            fields = f"{len(record)} field{'s' * (len(record) != 1)}, and the first line has {width - layout.row_names}"
            raise InputError(f"{where}, line {line} has {fields}", "correct the line")
        for j in wanted:
            columns[j].append(record[int(j)])
    return {j: pa.chunked_array([pa.array(cells, pa.string())]) for j, cells in columns.items()}


def _require_row_names(column: pa.ChunkedArray, layout: Layout, where: str) -> None:
    """Raise ``InputError`` unless the column that the header does not name has distinct values."""
    counts = column.value_counts()
    for name, count in zip(*counts.flatten()) if len(counts) < len(column) else ():
        if count.as_py() > 1:
            raise InputError(
                f"{where}: the first line names {len(layout.header)} columns of {len(layout.names)}, and the first "
                f"column does not hold row names, as {name.as_py()[:40]!r} occurs {count} times",
                "name every column",
            )


def _require_blank(column: pa.ChunkedArray, where: str) -> None:
    row = pc.index(pc.not_equal(pc.utf8_trim_whitespace(column), ""), True).as_py()
    if row >= 0:
        what = f"{where} has no name, and its row {row} holds {column[row].as_py()[:40]!r}"
        raise InputError(what, "give the column a name")
