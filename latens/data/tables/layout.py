"""Find the layout of a text file: the lines before the data, the delimiter, the names of the columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from latens.data.tables.dates import patterns
from latens.data.tables.types import require_names
from latens.errors import InputError
from latens.schema.form import BLANKS

_DELIMITERS = "\t;|,"
HEAD = 10  # records from which the layout is found
DATUM = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?|nan|true|false|\d{4}(-\d\d){2}.*", re.I)
_EXCEL = re.compile(rb"""\"?sep=(.)\"?[;,|\t ]*(\r\n|\r|\n)""", re.IGNORECASE)  # a first line that states the delimiter
_SPACES = re.compile(rb"""(?<![^ \t\r\n])("(?:[^"]|"")*")|(?<![^\r\n])[ \t]+|[ \t]+(?![^\r\n])|([ \t]+)""")
_MOMENT = re.compile(r"\d+([./-])\d+\1\d+ \d\d?:[\d:.]+( ?[ap]m)?", re.IGNORECASE)  # one cell, with spaces
PADDING = " \t\ufeff"  # what may stand around the names of columns
Choice = Callable[[list[str]], list[str]]


@dataclass
class Layout:
    """How text is cut into cells: the data start at byte ``start``, on line ``line``; columns named '' are left out."""

    data: bytes
    delimiter: str
    names: list[str]
    start: int
    line: int
    header: list[str] = field(default_factory=list)  # the fields of the first line, if it names the columns
    row_names: bool = False  # row names as R writes them: a first column without a name in the header


def records(data: bytes, start: int, delimiter: str, where: str, line: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(line number, counted from 1; fields) of each record that is not blank; ``InputError`` for a broken one."""
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
    """The byte after the end of the line that begins at ``start``."""
    found = re.compile(rb"\r\n|\r|\n").search(data, start)
    return found.end() if found else len(data)


def survey(data: bytes, path: Path, choose: Choice) -> Layout:
    """The layout of the UTF-8 text ``data``; ``choose`` gives the names to read. ``InputError`` if it has no rows."""
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
    """(the byte after the lines that are empty or begin with #; the number of these lines; the last one with #)."""
    start, line, comment = 0, 0, b""
    while (mark := data[start : start + 1]) and mark in b"#\r\n":
        end = _line_end(data, start)
        comment = data[start + 1 : end] if mark == b"#" else comment
        start, line = end, line + 1
    return start, line, comment


def _noted(comment: bytes, delimiter: str, first: list[str]) -> list[str]:
    """The names of columns in a comment, as numpy.savetxt writes its header; none if they do not fit the record."""
    names = list(map(str.strip, next(csv.reader([comment.decode("utf-8")], delimiter=delimiter), [])))
    fits = comment and len(names) == len(first) and (len(names) > 1 or DATUM.fullmatch(first[0]))
    return names if fits else []


def _numbered(record: list[str]) -> list[str]:
    """Names for columns that have none: column_1, column_2, …"""
    return [f"column_{j + 1}" for j in range(len(record))]


def _is_short(head: list[list[str]], quoted: bool) -> bool:
    """Whether the first record names all columns but one: an empty last column (each row ends in a delimiter), or a
    first column of row names as R's write.table writes them: words, ``quoted`` numbers, or 1, 2, 3 ..."""
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
    """The names; the first may be empty (the row index), and so may the last (a trailing delimiter)."""
    padded = [names[0] or "\0", *names[1:]]
    require_names(padded[:-1] if names[-1] == "" else padded, f"{where}, line {line}")
    return names


def _delimiter(data: bytes, start: int, where: str, path: Path) -> str:
    """The first of tab, semicolon, bar and comma that cuts the first records into equal numbers of fields; failing
    that, runs of spaces that do ("  ": of two or more); failing that, the one that cuts the first record into most
    fields."""
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
    """Whether runs of spaces cut most of the first records into equal numbers of fields, one of which has numbers or
    dates in all rows; in .txt, .dat and .data files, whether they do so in all of the first records."""
    try:
        top, *rest = head = _head(_tabbed(data[: data.rfind(b"\n") + 1] or data, least), 0, "\t", where)
    except (InputError, ValueError):  # or there is no delimiter
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
    """Whether the fields between spaces are parts of one cell: moments, or numbers with their unit."""
    columns = list(zip(*rows))
    unit = len(columns) == 2 and len(rows) > 1 and len(set(columns[1])) == 1
    return all(_MOMENT.fullmatch(" ".join(row)) for row in rows) or (
        unit and _are_data(columns[0]) and not _are_data(columns[1])
    )


def _is_header(head: list[list[str]], choose: Choice) -> bool:
    """Whether the first record names the columns: it has the names asked for, no number or date at all, a word above a
    number or date, or the numbers 0, 1, 2 ... that a data frame without names writes; but no date above a date."""
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
    """Whether what the user asks for is among the names."""
    try:
        return bool(choose(names))
    except InputError:
        return False


def _starts_quoted(data: bytes, start: int) -> bool:
    """Whether the first two lines begin with a quote."""
    return data[start : start + 1] == data[(end := _line_end(data, start)) : end + 1] == b'"'


def _quoted_alone(data: bytes, start: int, delimiter: str) -> bool:
    """Whether all fields of the first line are quoted and one of the second is not, as when names are numbers."""
    lines = data[start : _line_end(data, _line_end(data, start))].decode("utf-8").splitlines()
    if len(lines) < 2:
        return False
    first, second = ([field.startswith('"') for field in line.split(delimiter)] for line in lines[:2])
    return all(first) and not all(second)
