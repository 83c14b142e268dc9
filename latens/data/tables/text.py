"""Tables in text, .csv and .tsv, gzipped or not: bytes to columns of text; the cells are typed elsewhere."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latens.data.formats import open_plain
from latens.data.tables.cells import Hints
from latens.data.tables.reading import Read, read_columns
from latens.data.tables.types import require_names
from latens.errors import InputError
from latens.schema.form import BLANKS

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST, DENSEST = 4 << 30, 1000  # bytes, and bytes per byte stored: a file that claims to pass both is a bomb
_HEAD = 16 << 20  # bytes in which the names of the columns must be
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_DELIMITERS = "\t;|,"
DATUM = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?|nan|true|false|\d{4}(-\d\d){2}.*", re.I)
_COMMA = re.compile(rb"""(^|[;\t|"'\r\n]) *[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)? *(["\r\n;\t|]|$)""")
_OTHERS = {
    b"PAR1": "a parquet file; call it .parquet",
    b"ARROW1": "a feather file; call it .feather",
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the table as csv",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the table as csv",
    b"\x89HDF": "an HDF5 file; save the table as csv or parquet",
}


@dataclass
class _Layout:
    """How the bytes are to be cut: the data start at byte ``start``, on line ``line``; '' names what is left out."""

    delimiter: str
    names: list[str]
    start: int
    line: int


def read_text(
    path: Path, choose: Callable[[list[str]], list[str]], hints: Hints, encoding: str | None
) -> Read:
    """The chosen columns of a csv, understood as in :func:`latens.data.tables.cells.understood`."""
    import pyarrow as pa

    data = _utf8(_content(path), str(path), encoding)
    layout = _survey(data, path, choose)
    found = _cut(data, layout) or _cut_exactly(data, layout, str(path))
    if layout.names[-1] == "" and len(layout.names) > 1:
        _require_blank(found.pop(str(len(layout.names) - 1)), f"{path}, column {len(layout.names)}")
    comma = None if layout.delimiter == "," else _COMMA.search(data, max(layout.start - 1, 0)) is not None
    positions = {name: str(j) for j, name in enumerate(layout.names)}
    index = [""] if layout.names[0] == "" else []
    names = [*index, *choose([name for name in layout.names if name])]
    raw = pa.table({name: found.pop(positions[name] if name else "0") for name in names})
    return read_columns(raw, str(path), hints, is_file=True, comma=comma)


def names_of(path: Path, encoding: str | None) -> list[str]:
    """The names of the columns, of which only the head of the file is read."""
    data = _content(path, _HEAD)
    if len(data) == _HEAD:
        data = _content(path) if data.startswith(_UTF_16) else data[: data.rfind(b"\n") + 1 or None]
    return [name for name in _survey(_utf8(data, str(path), encoding), path, list).names if name]


# Bytes


def _content(path: Path, count: int | None = None) -> bytes:
    """All bytes of the file, or the first ``count``, inflated where they are gzipped."""
    limit, parts, size = max(LARGEST, DENSEST * path.stat().st_size), [], 0
    with open_plain(path) as file:
        while part := file.read(1 << 24 if count is None else count - size):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise InputError(
                    f"{path} inflates to more than {DENSEST:,} times its size and {limit:,} bytes; unpack it first."
                )
    return b"".join(parts)


def _utf8(data: bytes, where: str, encoding: str | None) -> bytes:
    """The same text in UTF-8 without a byte order mark; InputError unless it is text in the encoding."""
    for magic, what in _OTHERS.items():
        if data.startswith(magic):
            raise InputError(f"{where} is not a csv but {what}.")
    if encoding is None and data.startswith(_UTF_16):
        encoding = "utf-16"
    try:
        text = data.decode(encoding or "utf-8")
    except LookupError as error:
        raise InputError(f"{where}: no encoding is called {encoding!r}; utf-8, cp1252 and latin-1 are.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte {error.start} (0x{data[error.start]:02x})"
        advice = "name its encoding with --encoding (often cp1252)" if encoding is None else "name another --encoding"
        raise InputError(f"{where}, line {line}: {byte} is not {encoding or 'UTF-8'} text; {advice}.") from error
    if "\0" in text:
        raise InputError(f"{where} is not a text file: it holds zero bytes; save it as a UTF-8 csv.")
    if encoding is None:
        return data.removeprefix(b"\xef\xbb\xbf")
    return text.removeprefix("\ufeff").encode("utf-8")


# Layout


def _records(data: bytes, start: int, delimiter: str, where: str, line: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, counted from 1, and fields of the records that are not blank."""
    with io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="") as text:
        text.seek(start)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if len(record) > 1 or (record and record[0].strip()):
                    yield line + reader.line_num, record
        except csv.Error as error:
            raise InputError(f"{where}, line {line + reader.line_num}: {error}; correct the line.") from error


def _head(data: bytes, start: int, delimiter: str, where: str, count: int = 10) -> list[list[str]]:
    return [record for _, (_, record) in zip(range(count), _records(data, start, delimiter, where))]


def _line_end(data: bytes, start: int) -> int:
    """The byte after the end of the line that begins at ``start``."""
    found = re.compile(rb"\r\n|\r|\n").search(data, start)
    return found.end() if found else len(data)


def _survey(data: bytes, path: Path, choose: Callable[[list[str]], list[str]]) -> _Layout:
    where, start, line, comment = str(path), 0, 0, ""
    while start < len(data) and data[start : start + 1] in (b"#", b"\r", b"\n"):
        end = _line_end(data, start)
        comment = data[start + 1 : end].decode("utf-8") if data[start : start + 1] == b"#" else comment
        start, line = end, line + 1
    delimiter = _delimiter(data, start, where, path)
    head = [[field.strip() for field in record] for record in _head(data, start, delimiter, where, 2)]
    if not head:
        raise InputError(f"{where} has no rows; give a file with data.")
    noted = [field.strip() for field in next(csv.reader([comment], delimiter=delimiter), [])]
    if comment and len(noted) == len(head[0]) and (len(noted) > 1 or DATUM.fullmatch(head[0][0])):
        return _Layout(delimiter, _named(noted, where, line), start, line)  # numpy.savetxt puts a # before its header
    numbered = [f"column_{j + 1}" for j in range(len(head[0]))]
    if not (_quoted_alone(data, start, delimiter) or _is_header(head, choose)):
        return _Layout(delimiter, numbered, start, line)
    first, _ = next(_records(data, start, delimiter, where))
    for _ in range(first):
        start = _line_end(data, start)
    return _Layout(delimiter, _named(head[0], where, line + first), start, line + first)


def _named(names: list[str], where: str, line: int) -> list[str]:
    """The names; a first one may be empty (the row index), and so may a last one (a trailing delimiter)."""
    padded = [names[0] or "\0", *names[1:]]
    require_names(padded[:-1] if names[-1] == "" else padded, f"{where}, line {line}")
    return names


def _delimiter(data: bytes, start: int, where: str, path: Path) -> str:
    """The first of tab, semicolon, bar and comma that cuts the first records into equally many fields, or else the
    one that cuts the first record into most."""
    usual = "\t" if ".tsv" in path.suffixes[-2:] else ","
    most = {usual: 1}
    for delimiter in _DELIMITERS:
        try:
            widths = [len(record) for record in _head(data, start, delimiter, where)]
        except InputError:
            continue
        if widths and widths[0] > 1 and len(set(widths)) == 1:
            return delimiter
        most[delimiter] = max(widths[:1], default=1)
    return max([usual, *most], key=lambda delimiter: most.get(delimiter, 1))


def _is_header(head: list[list[str]], choose: Callable[[list[str]], list[str]]) -> bool:
    """Whether the first record names the columns: it has the names asked for, or no datum at all, or a word above a
    datum, or the numbers 0, 1, 2 ... that a data frame without names writes."""
    top, below = head[0], head[1] if len(head) > 1 else []
    counted = top[1:] if top[0] == "" else top
    if not any(DATUM.fullmatch(field) for field in top):
        return True
    if len(counted) > 2 and counted == [str(j) for j in range(len(counted))]:
        return True

    def is_word(field: str) -> bool:
        return not DATUM.fullmatch(field) and field.lower() not in BLANKS

    if any(is_word(field) and not is_word(under) for field, under in zip(top, below)):
        return True
    numbered = [f"column_{j + 1}" for j in range(len(top))]
    try:
        choose(numbered)
    except InputError:
        try:
            return bool(choose([name for name in top if name]))
        except InputError:
            return False
    return False


def _quoted_alone(data: bytes, start: int, delimiter: str) -> bool:
    """Whether all fields of the first line are quoted and one of the second is not, as where names are numbers."""
    lines = data[start : _line_end(data, _line_end(data, start))].decode("utf-8").splitlines()
    if len(lines) < 2:
        return False
    first, second = ([field.startswith('"') for field in line.split(delimiter)] for line in lines[:2])
    return all(first) and not all(second)


# Columns


def _cut(data: bytes, layout: _Layout) -> dict[str, pa.ChunkedArray] | None:
    """The columns as text by pyarrow, or None where anything is unusual: :func:`_cut_exactly` then says what."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    if data.count(b'"') % 2:
        return None
    ids = [str(j) for j in range(len(layout.names))]
    try:
        # from memory and without threads: a reader thread that still wants the file of an interpreter that is going
        # down takes the process with it
        table = arrow.read_csv(
            pa.BufferReader(pa.py_buffer(data).slice(layout.start)),
            arrow.ReadOptions(column_names=ids, use_threads=False, block_size=max(1 << 23, 64 * len(ids))),
            arrow.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
            arrow.ConvertOptions(
                check_utf8=False, column_types={j: pa.string() for j in ids}, include_columns=_wanted(layout)
            ),
        )
    except pa.ArrowException:
        return None
    return dict(zip(table.column_names, table.columns))


def _wanted(layout: _Layout) -> list[str]:
    last = len(layout.names) - 1
    return [str(j) for j, name in enumerate(layout.names) if name or j in (0, last)]


def _cut_exactly(data: bytes, layout: _Layout, where: str) -> dict[str, pa.ChunkedArray]:
    """The same by Python's csv module: slower, and raises at the first line that has too many or too few fields."""
    import pyarrow as pa

    wanted = _wanted(layout)
    columns: dict[str, list[str]] = {j: [] for j in wanted}
    for line, record in _records(data, layout.start, layout.delimiter, where, layout.line):
        if len(record) != len(layout.names):
            fields = f"{len(record)} field(s), the first line has {len(layout.names)}"
            raise InputError(f"{where}, line {line}: {fields}; correct the line.")
        for j in wanted:
            columns[j].append(record[int(j)])
    if not columns[wanted[0]]:
        raise InputError(f"{where} has a header and no rows; give a file with data.")
    return {j: pa.chunked_array([pa.array(cells, pa.string())]) for j, cells in columns.items()}


def _require_blank(column: pa.ChunkedArray, where: str) -> None:
    from pyarrow import compute

    row = compute.index(compute.not_equal(compute.utf8_trim_whitespace(column), ""), True).as_py()
    if row >= 0:
        raise InputError(f"{where} has no name, and row {row} holds {column[row].as_py()[:40]!r}; give it one.")
