"""Tables in text files, compressed or not: their layout (delimiter, header), and their columns of text."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import IO

from latens.data.array_files import open_plain
from latens.data.tables.folders import is_shown, kind_of, same_columns
from latens.data.tables.forms import patterns
from latens.data.tables.reading import Hints, Read, read_columns
from latens.data.tables.types import require_names
from latens.errors import InputError
from latens.schema.arrow import listed, pa, pc
from latens.schema.form import BLANKS

_DELIMITERS = "\t;|,"
HEAD = 10  # the layout is found from this many records
DATUM = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?|nan|true|false|\d{4}(-\d\d){2}.*", re.I)
_EXCEL = re.compile(rb"""\"?sep=(.)\"?[;,|\t ]*(\r\n|\r|\n)""", re.IGNORECASE)  # Excel's first line: the delimiter
_SPACES = re.compile(rb"""(?<![^ \t\r\n])("(?:[^"]|"")*")|(?<![^\r\n])[ \t]+|[ \t]+(?![^\r\n])|([ \t]+)""")
_MOMENT = re.compile(r"\d+([./-])\d+\1\d+ \d\d?:[\d:.]+( ?[ap]m)?", re.IGNORECASE)  # a single cell that has spaces
PADDING = " \t\ufeff"  # characters that may surround the names of columns
Choice = Callable[[list[str]], list[str]]


@dataclass
class Layout:
    """How text is cut into cells: data start at byte ``start``, on line ``line``; columns named '' are left out."""

    data: bytes
    delimiter: str
    names: list[str]
    start: int
    line: int
    header: list[str] = field(default_factory=list)  # the fields of the first line, if it names the columns
    row_names: bool = False  # the first column has row names and no name in the header, as R writes them


def records(data: bytes, start: int, delimiter: str, where: str, line: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(line number, counted from 1; fields) of each record that is not blank; ``InputError`` for a malformed record."""
    with io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="") as text:
        text.seek(start)
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if len(record) > 1 or (record and record[0].strip()):
                    yield line + reader.line_num, record
        except csv.Error as error:
            raise InputError(f"{where}, line {line + reader.line_num}: {error}", "correct the line") from error


def _head(data: bytes, start: int, delimiter: str, where: str) -> list[list[str]]:
    return [record for _, record in islice(records(data, start, delimiter, where), HEAD)]


def _line_end(data: bytes, start: int) -> int:
    """The position just after the line that begins at byte ``start``."""
    found = re.compile(rb"\r\n|\r|\n").search(data, start)
    return found.end() if found else len(data)


def survey(data: bytes, path: Path, choose: Choice) -> Layout:
    """The layout of the UTF-8 text ``data``; ``choose`` selects the names to read. ``InputError`` if it has no rows."""
    where = str(path)
    start, line, comment = _comments(data)
    if excel := _EXCEL.match(data, start):
        delimiter, start, line = excel[1].decode("latin-1"), excel.end(), line + 1
    else:
        delimiter = _delimiter(data, start, where, path)
    if delimiter.isspace() and delimiter != "\t":
        least = len(delimiter)
        data, delimiter, comment = data[:start] + _tabbed(data[start:], least), "\t", _tabbed(comment, least)
    elif delimiter.encode() + b' "' in data:
        data = data[:start] + _closed_up(data[start:], delimiter)
    first = list(islice(records(data, start, delimiter, where), HEAD))
    if not first:
        raise InputError(f"{where} has no rows", "give a file with data")
    head = [list(map(str.strip, record)) for _, record in first]
    if noted := _noted(comment, delimiter, head[0]):
        return Layout(data, delimiter, _named(noted, where, line), start, line)
    short = _is_short(head, _starts_quoted(data, start))
    if not (short or _quoted_alone(data, start, delimiter) or _is_header(head, choose)):
        return Layout(data, delimiter, _numbered(head[0]), start, line)
    lines = first[0][0]
    for _ in range(lines):
        start = _line_end(data, start)
    names, line = _named(head[0], where, line + lines), line + lines
    if not short:
        return Layout(data, delimiter, names, start, line, head[0])
    trailing = not any(record[-1] for record in head[1:])
    names = [*names, ""] if trailing else ["", *names]
    return Layout(data, delimiter, names, start, line, head[0], row_names=not trailing)


def _comments(data: bytes) -> tuple[int, int, bytes]:
    """(the position just after the leading lines that are empty or begin with #; their number; the last with #)."""
    start, line, comment = 0, 0, b""
    while (mark := data[start : start + 1]) and mark in b"#\r\n":
        end = _line_end(data, start)
        comment = data[start + 1 : end] if mark == b"#" else comment
        start, line = end, line + 1
    return start, line, comment


def _noted(comment: bytes, delimiter: str, first: list[str]) -> list[str]:
    """The names of columns in a comment, as numpy.savetxt writes its header; none if their number does not fit."""
    names = list(map(str.strip, next(csv.reader([comment.decode("utf-8")], delimiter=delimiter), [])))
    fits = comment and len(names) == len(first) and (len(names) > 1 or DATUM.fullmatch(first[0]))
    return names if fits else []


def _numbered(record: list[str]) -> list[str]:
    """Names for columns that have none: column_1, column_2, …"""
    return [f"column_{j + 1}" for j in range(len(record))]


def _is_short(head: list[list[str]], quoted: bool) -> bool:
    """Whether the first record names all columns but one. The one without a name is either an empty last column (each
    row ends in a delimiter), or a first column of row names as R's write.table writes them: words, numbers in quotes
    (``quoted``), or 1, 2, 3 ..."""
    top, rows = head[0], head[1:]
    if {len(row) for row in rows} != {len(top) + 1} or any(map(DATUM.fullmatch, top)):
        return False
    if not any(row[-1] for row in rows):
        return True
    first = [row[0] for row in rows]
    counted = first in ([str(j + start) for j in range(len(rows))] for start in (0, 1))
    words = all(first) and not any(map(DATUM.fullmatch, first))
    return counted or words or (quoted and all(map(str.isdecimal, first)))


def _tabbed(data: bytes, least: int = 1) -> bytes:
    r"""Replace runs of at least ``least`` spaces by tabs, line by line; quoted text is not changed.

    >>> _tabbed(b'  a   "b c"\t1  \n'), _tabbed(b"  new york   1\n", 2)
    (b'a\t"b c"\t1\n', b'new york\t1')
    """
    if least > 1:
        return b"\n".join([b"\t".join(re.split(rb"[ \t]{2,}|\t", line.strip())) for line in data.splitlines()])
    if b'"' not in data:
        return b"\n".join([b"\t".join(line.split()) for line in data.splitlines()])
    return _SPACES.sub(lambda found: found[1] or (b"\t" if found[2] else b""), data)


def _closed_up(data: bytes, delimiter: str) -> bytes:
    """Text without spaces between a delimiter and a quoted field.

    >>> _closed_up(b'"a, b",  "c", d', ",")
    b'"a, b","c", d'
    """
    mark = re.escape(delimiter).encode()
    spaces = rb"(?<=" + mark + rb') +(?="(?:[^"]|"")*"[ \r]*(?:' + mark + rb"|\n|\r|$))"
    return re.sub(rb'("(?:[^"]|"")*")|' + spaces, lambda found: found[1] or b"", data)


def _named(names: list[str], where: str, line: int) -> list[str]:
    """The names. The first may be empty (a row index), and so may the last (each line ends in a delimiter)."""
    padded = [names[0] or "\0", *names[1:]]
    require_names(padded[:-1] if names[-1] == "" else padded, f"{where}, line {line}")
    return names


def _delimiter(data: bytes, start: int, where: str, path: Path) -> str:
    """The first of tab, semicolon, bar and comma that cuts the first records into equal numbers of fields.

    If none does, runs of spaces are tried ("  " stands for runs of at least two). If they do not work either, the
    result is the character that cuts the first record into most fields."""
    usual = "\t" if ".tsv" in path.suffixes[-2:] else ","
    heads: dict[str, list[list[str]]] = {usual: []}
    for delimiter in _DELIMITERS:
        try:
            heads[delimiter] = _head(data, start, delimiter, where)
        except InputError:
            continue
    for delimiter in _DELIMITERS:
        widths = {len(record) for record in heads.get(delimiter, ())}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    for least in (1, 2):
        if _spaced(data[start : start + (1 << 16)], where, path, least):
            return " " * least
    for delimiter, head in heads.items():
        if head and _starts_quoted(data, start) and _is_short(head, True):
            return delimiter
    return max([usual, *heads], key=lambda delimiter: max((len(record) for record in heads[delimiter][:1]), default=1))


def _spaced(data: bytes, where: str, path: Path, least: int = 1) -> bool:
    """Whether runs of spaces cut most of the first records into equal numbers of fields, one of which is a number or a
    date in every row. In .txt, .dat and .data files, it is enough that all of the first records have equal numbers of
    fields."""
    try:
        top, *rest = head = _head(_tabbed(data[: data.rfind(b"\n") + 1] or data, least), 0, "\t", where)
    except (InputError, ValueError):  # a malformed record, or no delimiter
        return False
    below, quoted = rest or head, _starts_quoted(data, 0)
    short = (len(top) > 1 or quoted) and _is_short(head, quoted)
    rows = [row for row in below if len(row) == len(top) + short]
    if 3 * len(rows) < 2 * len(below) or len(top) + short < 2 or _is_one_cell(rows):
        return False
    if not rest:
        return all(map(DATUM.fullmatch, top))
    rows = list(filter(top.__ne__, rows)) or rows
    free = not {".txt", ".dat", ".data"}.isdisjoint(map(str.lower, path.suffixes[-2:]))
    return any(map(_are_data, zip(*rows))) or (free and len(rows) == len(below))


def _are_data(cells: Iterable[str]) -> bool:
    return not any(map(_is_word, cells))


def _is_one_cell(rows: list[list[str]]) -> bool:
    """Whether the fields between spaces form one cell: a date with its time, or a number with its unit."""
    columns = list(zip(*rows))
    unit = len(columns) == 2 and len(rows) > 1 and len(set(columns[1])) == 1
    return all(_MOMENT.fullmatch(" ".join(row)) for row in rows) or (
        unit and _are_data(columns[0]) and not _are_data(columns[1])
    )


def _is_header(head: list[list[str]], choose: Choice) -> bool:
    """Whether the first record names the columns. It does if it has the names that the user asked for, if it has no
    number or date at all, if a word stands above a number or date, or if it has the numbers 0, 1, 2 ... that data
    frames use for missing names. It does not if a date stands above a date."""
    top, pairs = head[0], list(zip(*head[:2])) if len(head) > 1 else []
    if any((dates := patterns(field)) and {*dates} & {*patterns(under)} for field, under in pairs):
        return False
    if not any(map(DATUM.fullmatch, top)):
        return True
    counted = top[1:] if top[0] == "" else top
    if len(counted) > 2 and counted == list(map(str, range(len(counted)))):
        return True
    if any(_is_word(field) and not _is_word(under) for field, under in pairs):
        return True
    return not _chooses(choose, _numbered(top)) and _chooses(choose, list(filter(None, top)))


def _is_word(field: str) -> bool:
    return not DATUM.fullmatch(field) and field.lower() not in BLANKS


def _chooses(choose: Choice, names: list[str]) -> bool:
    """Whether names that the user asked for are among these names."""
    try:
        return bool(choose(names))
    except InputError:
        return False


def _starts_quoted(data: bytes, start: int) -> bool:
    """Whether the first two lines begin with a quote."""
    return data[start : start + 1] == data[(end := _line_end(data, start)) : end + 1] == b'"'


def _quoted_alone(data: bytes, start: int, delimiter: str) -> bool:
    """Whether all fields of the first line are quoted and some field of the second is not, as below a header of
    numbers."""
    lines = data[start : _line_end(data, _line_end(data, start))].decode("utf-8").splitlines()
    if len(lines) < 2:
        return False
    first, second = ([field.startswith('"') for field in line.split(delimiter)] for line in lines[:2])
    return all(first) and not all(second)


LARGEST, DENSEST = 4 << 30, 1000  # a file that unpacks to more bytes, at more bytes per stored byte, is a bomb
_HEAD = 16 << 20  # the names of the columns must be within this many bytes of the start
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
    """The chosen columns of one or more files. The cells of all files are understood together, as in
    :func:`latens.data.tables.reading.understood`. ``InputError`` for a file that cannot be read or has no rows.

    Args:
        keys_of: a function from the columns that the files store to further columns, with one value for each file.
    """
    found, commas = zip(*[_part(path, lambda own: choose([*own, *keys_of(own)]), encoding) for path in parts])
    stored = [list(filter(None, cells)) for cells in found]
    same_columns(parts, stored)
    rows = [len(next(iter(cells.values()), ())) for cells in found]
    if not sum(rows):
        raise InputError(f"{where} has a header but no rows", "give a file with data")
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
    """The cells of one file, and whether its decimal mark is a comma (None if commas separate its fields)."""
    layout = survey(_utf8(_content(path), str(path), encoding), path, choose)
    comma = has_decimal_comma(layout.data, layout.start)
    cells = cells_of(layout, str(path)) or _named_cells(_cut_exactly(layout, str(path)), layout, str(path))
    return cells, None if layout.delimiter == "," else comma


def has_decimal_comma(data: bytes, start: int = 0) -> bool:
    """Whether a field of the records from byte ``start`` on is a number with a decimal comma."""
    return _COMMA.search(data, max(start - 1, 0)) is not None


def _with_keys(read: Read, more: Read, names: Sequence[str]) -> Read:
    """The columns of the files and the columns that partitions name, in the order of ``names``."""
    table = more.table
    for name, column in zip(read.table.column_names, read.table.columns):
        table = table.append_column(name, column)
    notes = (*read.notes, *more.notes)
    return replace(read, table=table.select(names), forms={**read.forms, **more.forms}, notes=notes)


@contextmanager
def _row_within(parts: Sequence[Path], rows: Sequence[int]) -> Iterator[None]:
    """While several files are read, errors count rows within the file concerned."""
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


def head_of(path: Path, choose: Choice) -> Layout | None:
    """The layout of an unpacked UTF-8 file, found from its head: with the position of the first data byte, and without
    ``data``. None if the bytes must be changed before they are cut into cells. ``InputError`` as in :func:`survey`."""
    with open(path, "rb") as file:
        data = file.read(_HEAD)
    data = data[: data.rfind(b"\n") + 1 or None] if len(data) == _HEAD else data
    mark = b"\xef\xbb\xbf" * data.startswith(b"\xef\xbb\xbf")
    if data.startswith(_UTF_16):
        return None
    plain = _utf8(data, str(path), None)
    layout = survey(plain, path, choose)
    return replace(layout, data=b"", start=layout.start + len(mark)) if layout.data is plain else None


# Bytes


def _content(path: Path, count: int | None = None) -> bytes:
    """The bytes of the file, decompressed if they are compressed: all of them, or the first ``count``."""
    limit, parts, size = max(LARGEST, DENSEST * path.stat().st_size), [], 0
    with _opened(path) as file:
        while part := file.read(1 << 24 if count is None else count - size):
            parts.append(part)
            size += len(part)
            if size > limit:
                what = f"{path} inflates to more than {DENSEST:,} times its size and to more than {limit:,} bytes"
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
    """The text in UTF-8 without a byte order mark; ``InputError`` unless the bytes are text in the encoding."""
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
        raise InputError(f"{where} is not a text file, as it contains NUL bytes", "save it as a UTF-8 csv")
    if encoding is None:
        return data.removeprefix(b"\xef\xbb\xbf")
    return text.removeprefix("\ufeff").encode("utf-8")


# Columns


def cells_of(layout: Layout, where: str) -> dict[str, pa.ChunkedArray] | None:
    """The cells of each named column, and of a row index under ""; None if the text has something unusual."""
    found = _cut(layout)
    return None if found is None else _named_cells(found, layout, where)


def _named_cells(found: dict[str, pa.ChunkedArray], layout: Layout, where: str) -> dict[str, pa.ChunkedArray]:
    last = len(layout.names) - 1
    if layout.names[-1] == "" and last:
        _require_blank(found[str(last)], f"{where}, column {last + 1}")
    if layout.row_names:
        _require_row_names(found["0"], layout, where)
    return {name: found[str(j)] for j, name in enumerate(layout.names) if name or j == 0}


def _cut(layout: Layout) -> dict[str, pa.ChunkedArray] | None:
    """The columns as text, cut by pyarrow. None if the text has something unusual; :func:`_cut_exactly` then says what
    it is."""
    from pyarrow import csv as arrow

    if layout.data.count(b'"') % 2:
        return None
    ids = [str(j) for j in range(len(layout.names))]
    try:
        # Read from memory and without threads. A reader thread that needs the file while the interpreter shuts down
        # would crash the process.
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
    """The cells of each column as texts, cut by Python's csv module, which is slower. It raises at the first line that
    has too many or too few fields, or that repeats the column names. A line of another length that begins with # is a
    comment."""
    wanted, width = _wanted(layout), len(layout.names)
    columns: dict[str, list[str]] = {j: [] for j in wanted}
    for line, record in records(layout.data, layout.start, layout.delimiter, where, layout.line):
        if len(layout.header) > 1 and [cell.strip(PADDING) for cell in record] == layout.header:
            what = f"{where}, line {line} repeats the names of the columns, as if files had been joined"
            raise InputError(what, "delete the line")
        if len(record) != width and record[0].lstrip().startswith("#"):
            continue
        if len(record) != width:
            fields = f"{len(record)} field{'s' * (len(record) != 1)}, but the first line has {width - layout.row_names}"
            raise InputError(f"{where}, line {line} has {fields}", "correct the line")
        for j in wanted:
            columns[j].append(record[int(j)])
    return {j: pa.chunked_array([pa.array(cells, pa.string())]) for j, cells in columns.items()}


def _require_row_names(column: pa.ChunkedArray, layout: Layout, where: str) -> None:
    """Raise ``InputError`` unless the values of the column without a name in the header are distinct."""
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
