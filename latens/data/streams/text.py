"""Text files as blocks of rows: windows that end where a record ends, each cut into cells separately."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.streams.addresses import fingerprint_files
from latens.data.streams.sources import Stream, StreamOrder
from latens.data.tables import text
from latens.data.tables.files import parts_of_text
from latens.data.tables.folders import same_columns
from latens.data.tables.reading import CellCounts, Hints, Read, read_columns
from latens.data.tables.types import chosen
from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.form import Form, Times, Words

WINDOW = 1 << 22  # approximate bytes of a window
LONGEST = 1 << 26  # a record may have at most this many bytes
READ_WHOLE = "omit --stream to read it into memory, or write it as Parquet"
MOST_CELLS = 100_000  # distinct cells that are kept per column; beyond, one cell of each shape is kept
_SHAPES = (  # of cells: lengths of numbers, leading zeros, and what could be an hour, day or month
    (r"(^|[^0-9.,])0([0-9]{2})", r"\1z\2"), ("[0-9]{3}", "###"), ("#[0-9]{2}", "###"), ("#[0-9]", "##"),
    (r"(^|[^0-9#])0[1-9]", r"\1za"), (r"(^|[^0-9#])1[0-2]", r"\1ma"), (r"(^|[^0-9#])(1[3-9]|2[0-9]|3[01])", r"\1da"),
    (r"(^|[^0-9#])[3-5][0-9]", r"\1sa"), (r"(^|[^0-9#])[6-9][0-9]", r"\1ea"), (r"(^|[^0-9#])[1-9]($|[^0-9])", r"\1u\2"),
)  # fmt: skip
_QUOTE = ord('"')


class Whole(Exception):
    """Raised for text whose windows may not mean what the whole file means; the file must then be read into memory."""


@dataclass(frozen=True)
class _Window:
    """Bytes of a file, from ``start`` to before ``stop``, with ``rows`` records."""

    part: int
    start: int
    stop: int
    rows: int


class TextStream(Stream):
    """The rows of text files in UTF-8 (a file or a folder of files), as the texts of their cells.

    All windows are cut once when the stream is opened, so that anything unusual is found before any row is used. A
    block is a table of text with the chosen columns and, under the name "", a row index; :meth:`understood` turns it
    into values.

    Args:
        path: a local path.
        hints: what is known about the columns; see :meth:`understood`.
        columns: the columns to read; all by default.
        drop: columns to leave out.
        order: what decides the order of rows in training.

    Raises:
        Whole: the files are compressed, damaged, not UTF-8, in partitions, or separated by spaces, or they have row
            names, quotes within cells, or lines of different lengths.
        InputError: a column does not exist.
    """

    def __init__(
        self, path: str, hints: Hints, *, columns: Sequence[str] | None = None, drop: Sequence[str] = (),
        order: StreamOrder | None = None,
    ):  # fmt: skip
        self.order, self.hints = order or StreamOrder(), hints
        self.origin = os.path.abspath(os.path.expanduser(path))
        self._parts = plain_parts(path)
        self._layouts = [_layout(part, columns, drop) for part in self._parts]
        stored = [list(filter(None, layout.names)) for layout in self._layouts]
        same_columns(self._parts, stored)
        self.names = tuple(chosen(stored[0], drop, columns, self.origin))
        self._read = [""] * all(layout.names[0] == "" for layout in self._layouts) + list(self.names)
        self.arrow = pa.schema([(name, pa.string()) for name in self.names])
        self.cells, self.fingerprint = len(self.names), fingerprint_files(self._parts)
        self._windows = [window for part in range(len(self._parts)) for window in self._cut(part)]
        self.sizes = [window.rows for window in self._windows]
        if not self._windows:
            raise Whole

    def _cut(self, part: int) -> Iterator[_Window]:
        layout = self._layouts[part]
        for start, data in _windows(self._parts[part], layout.start):
            cells = _cells(layout, data, self._parts[part])
            rows = len(next(iter(cells.values())))
            if rows:
                yield _Window(part, start, start + len(data), rows)
                self.look(cells, layout.delimiter, data)

    def look(self, cells: dict[str, Any], delimiter: str, data: bytes) -> None:
        """Take the cells of a window, and the bytes from which they are cut, into account; called in order."""

    def piece(self, block: int) -> Any:
        """The rows of one block, an arrow table of text."""
        window = self._windows[block]
        path, layout = self._parts[window.part], self._layouts[window.part]
        with open(path, "rb") as file:
            file.seek(window.start)
            data = file.read(window.stop - window.start)
        cells = _cells(layout, data, path)
        if {len(each) for each in cells.values()} != {window.rows}:
            raise InputError(f"{path} changed while it was read", "begin again")
        return pa.table({name: cells[name] for name in self._read})

    def understood(self, piece: Any) -> Read:
        """The values of rows of text, as the whole file gives them: every column is read by the form in ``hints``.
        Raises ``Whole`` if that form cannot read a cell, since the form then depends on all cells."""
        try:
            read = read_columns(piece, self.origin, self.hints, is_file=True)
        except InputError:
            raise Whole from None
        same = all(form == replace(self.hints.known[name], stored="") for name, form in read.forms.items())
        if read.unread or not same:
            raise Whole
        return read


class ValueStream(TextStream):
    """The values of text files. The first pass over the windows tallies the cells of each column. From these tallies,
    :func:`latens.data.tables.reading.read_columns` finds the form that fits all cells.

    Raises:
        Whole: as in :class:`TextStream`, or a column has too many different cells, and their shapes alone do not
            show its form.
        InputError: as in :func:`latens.data.tables.reading.read_columns`.
    """

    def __init__(self, path: str, hints: Hints, *, drop: Sequence[str] = (), order: StreamOrder | None = None):
        self._tallies: dict[str, _Cells] = {}
        self._comma: bool | None = False
        super().__init__(path, hints, drop=drop, order=order)
        most = max(len(tally.cells) for tally in self._tallies.values())
        columns = {name: tally.padded(most) for name, tally in self._tallies.items()}
        self.hints = replace(hints, tallies={name: tally.tally(most) for name, tally in self._tallies.items()})
        read = read_columns(pa.table(columns), self.origin, self.hints, is_file=True, comma=self._comma)
        if not all(tally.decides(read.forms[name]) for name, tally in self._tallies.items()):
            raise Whole
        self.hints = replace(hints, known=read.forms)
        self.forms, self.arrow, self.notes = dict(read.forms), read.table.schema, read.notes
        del self._tallies

    def look(self, cells: dict[str, Any], delimiter: str, data: bytes) -> None:
        """Add the cells to the tallies."""
        for name in self.names or ():
            self._tallies.setdefault(name, _Cells()).add(cells[name])
        comma = text.has_decimal_comma(data)
        self._comma = None if delimiter == "," or self._comma is None else self._comma or comma

    def piece(self, block: int) -> Any:
        """The rows of one block, an arrow table of values."""
        try:
            found = self.understood(super().piece(block)).table
            columns = [
                pa.nulls(len(found)) if pa.types.is_null(field.type) else found.column(field.name).cast(field.type)
                for field in self.arrow
            ]
        except (Whole, pa.ArrowException):
            raise InputError(f"{self.origin} can only be understood as a whole", READ_WHOLE) from None
        return pa.table(columns, schema=self.arrow)


class _Cells:
    """The distinct cells of a column in the order in which they first occur, how often each occurs, and the row in
    which each occurs first. Beyond :data:`MOST_CELLS` cells, only a cell of a new shape is added; any other cell counts
    as the first cell of its shape."""

    def __init__(self) -> None:
        self.cells: Any = pa.array([], pa.string())
        self.counts, self.rows = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._seen = 0
        self._shapes: Any = None  # the shapes of the cells, once there are too many cells
        self._is_full = False

    def add(self, cells: Any) -> None:
        """Add the cells of the next rows."""
        found = cells.combine_chunks().dictionary_encode()
        places = found.indices.to_numpy(zero_copy_only=False)
        rows = np.empty(len(found.dictionary), np.int64)
        rows[places[::-1]] = self._seen + np.arange(len(places))[::-1]
        self._seen += len(places)
        self._count(found.dictionary, np.bincount(places, minlength=len(rows)), rows)

    def _count(self, texts: Any, counts: np.ndarray, rows: np.ndarray) -> None:
        at = pc.fill_null(pc.index_in(texts, self.cells), -1).to_numpy(zero_copy_only=False)
        np.add.at(self.counts, at[at >= 0], counts[at >= 0])
        new = at < 0
        texts, counts, rows = texts.filter(pa.array(new)), counts[new], rows[new]
        if self._shapes is None and len(self.cells) + len(texts) > MOST_CELLS:
            self._shapes = _shapes(self.cells)
        if self._shapes is not None:
            texts, counts, rows = self._of_new_shape(texts, counts, rows)
        self.cells = pa.concat_arrays([self.cells, texts])
        self.counts, self.rows = np.append(self.counts, counts), np.append(self.rows, rows)

    def _of_new_shape(self, texts: Any, counts: np.ndarray, rows: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
        """The first cell of each new shape; other cells are counted as the first cell of their shape."""
        found = _shapes(texts).dictionary_encode()
        places = found.indices.to_numpy(zero_copy_only=False)
        first = np.empty(len(found.dictionary), np.int64)
        first[places[::-1]] = np.arange(len(places))[::-1]
        counts = np.bincount(places, counts, len(first)).astype(np.int64)
        at = pc.fill_null(pc.index_in(found.dictionary, self._shapes), -1).to_numpy(zero_copy_only=False)
        np.add.at(self.counts, at[at >= 0], counts[at >= 0])
        new = at < 0
        self._is_full = self._is_full or len(self.cells) + int(new.sum()) > 2 * MOST_CELLS
        new &= not self._is_full
        self._shapes = pa.concat_arrays([self._shapes, found.dictionary.filter(pa.array(new))])
        return texts.take(pa.array(first[new])), counts[new], rows[first[new]]

    def padded(self, rows: int) -> Any:
        """The distinct cells, padded with null to ``[rows]``."""
        return pa.concat_arrays([self.cells, pa.nulls(rows - len(self.cells), pa.string())])

    def tally(self, rows: int) -> CellCounts:
        """How often each of the padded cells occurs."""
        rest = np.zeros(rows - len(self.cells), np.int64)
        return CellCounts(*(pa.array(np.append(each, rest)) for each in (self.counts, self.rows)))

    def decides(self, form: Form) -> bool:
        """Whether all cells of the column would give this form. If only their shapes are known, times in a named zone
        cannot be checked; if not even the shapes are known, only words are certain."""
        if self._shapes is None or isinstance(form, Words):
            return True
        return not (self._is_full or (isinstance(form, Times) and "/" in form.zone))


def _shapes(texts: Any) -> Any:
    """The shape of each cell: its text, with digits replaced by marks for lengths, days, months and hours."""
    for pattern, shape in _SHAPES:
        texts = pc.replace_substring_regex(texts, pattern, shape)
    return texts


def plain_parts(path: str) -> list[Path]:
    """The files of the text table at a path; ``Whole`` if it is another table, compressed, or in partitions."""
    try:
        parts = parts_of_text(path)
    except InputError:
        parts = []
    if not parts:
        raise Whole
    return parts


def _layout(path: Path, columns: Sequence[str] | None, drop: Sequence[str] = ()) -> text.Layout:
    """The layout of a file, from its head; ``data`` is then empty."""
    try:
        layout = text.head_of(path, lambda names: chosen(names, drop, columns, str(path)))
    except InputError:
        raise Whole from None
    if layout is None or layout.row_names or ord(layout.delimiter) > 127:
        raise Whole
    return layout


def _windows(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """(the position of the first byte, the bytes) of consecutive parts of a file, each of which ends with a record."""
    waiting = b""
    with open(path, "rb") as file:
        file.seek(start)
        while part := file.read(WINDOW):
            data = waiting + part
            end = _record_end(data)
            if end:
                yield start, data[:end]
            start, waiting = start + end, data[end:]
            if len(waiting) > LONGEST:
                raise Whole
    if waiting:
        yield start, waiting


def _record_end(data: bytes) -> int:
    """The position just after the last line end outside of quotes; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    if _QUOTE in data:
        quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == _QUOTE)
        while end and (before := int(np.searchsorted(quotes, end))) % 2:
            end = data.rfind(b"\n", 0, int(quotes[before - 1])) + 1
    return end


def _cells(layout: text.Layout, data: bytes, path: Path) -> dict[str, Any]:
    """The cells of the records in ``data``; ``Whole`` if the whole file might be cut differently."""
    try:
        plain = data.isascii() or bool(data.decode("utf-8"))
        if b"\0" in data or not plain or not _is_clean(data, layout.delimiter):
            raise Whole
        cells = text.cells_of(replace(layout, data=data, start=0), str(path))
    except (UnicodeDecodeError, InputError):
        raise Whole from None
    if cells is None:
        raise Whole
    return cells


def _is_clean(data: bytes, delimiter: str) -> bool:
    """Whether quotes only surround whole cells, or are doubled within these.

    >>> _is_clean(b'a,"b, ""c"\\n', ","), _is_clean(b'5" pipe,6" pipe\\n', ",")
    (True, False)
    """
    if _QUOTE not in data:
        return True
    found = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(found == _QUOTE)
    around = np.concatenate([found[quotes[::2] - 1], found[quotes[1::2] + 1]])
    return len(quotes) % 2 == 0 and bool(np.isin(around, [*b"\n\r", _QUOTE, ord(delimiter)]).all())
