"""Text files as blocks of rows: windows that end where a record ends, each cut into cells by itself."""

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
from latens.data.tables.reading import Hints, Read, read_columns
from latens.data.tables.types import chosen
from latens.errors import InputError
from latens.schema.arrow import pa

WINDOW = 1 << 22  # bytes of a window, approximately
LONGEST = 1 << 26  # longest record searched for, in bytes
_QUOTE = ord('"')


class Whole(Exception):
    """Raised for text whose windows may not mean what the whole file means, so that the file must be read into
    memory."""


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
    block is a table of text with the columns asked for and, under the name "", a row index; :meth:`understood` reads
    it.

    Args:
        path: a local path.
        hints: what is known of the columns; see :meth:`understood`.
        columns: the columns to read; all by default.
        order: what decides the order of rows in training.

    Raises:
        Whole: the files are packed, not UTF-8, in partitions, separated by spaces, with row names or quotes within
            cells, damaged, or have lines of a different length.
        InputError: a column does not exist.
    """

    def __init__(
        self, path: str, hints: Hints, *, columns: Sequence[str] | None = None, order: StreamOrder | None = None
    ):
        self.order, self.hints = order or StreamOrder(), hints
        self.origin = os.path.abspath(os.path.expanduser(path))
        self._parts = plain_parts(path)
        self._layouts = [_layout(part, columns) for part in self._parts]
        stored = [list(filter(None, layout.names)) for layout in self._layouts]
        same_columns(self._parts, stored)
        self.names = tuple(chosen(stored[0], (), columns, self.origin))
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
            rows = len(next(iter(_cells(layout, data, self._parts[part]).values())))
            if rows:
                yield _Window(part, start, start + len(data), rows)

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
        """The values of rows of text, as the whole file gives them: every column is read by the form that ``hints``
        knows. Raises ``Whole`` if that form does not read a cell, since all cells then decide on the form."""
        try:
            read = read_columns(piece, self.origin, self.hints, is_file=True)
        except InputError:
            raise Whole from None
        same = all(form == replace(self.hints.known[name], stored="") for name, form in read.forms.items())
        if read.unread or not same:
            raise Whole
        return read


def plain_parts(path: str) -> list[Path]:
    """The files of the text table at a path; ``Whole`` where it is another table, packed, or in partitions."""
    try:
        parts = parts_of_text(path)
    except InputError:
        parts = []
    if not parts:
        raise Whole
    return parts


def bytes_of_text(path: str) -> int:
    """The bytes of the text files at a local path; 0 where there are other data, or none."""
    try:
        return sum(part.stat().st_size for part in plain_parts(path)) if os.path.exists(os.path.expanduser(path)) else 0
    except Whole:
        return 0


def _layout(path: Path, columns: Sequence[str] | None) -> text.Layout:
    """The layout of a file, from its head; ``data`` is then empty."""
    try:
        layout = text.head_of(path, lambda names: chosen(names, (), columns, str(path)))
    except InputError:
        raise Whole from None
    if layout is None or layout.row_names or ord(layout.delimiter) > 127:
        raise Whole
    return layout


def _windows(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """(the first byte, the bytes) of parts of a file that end where a record ends, in order."""
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
    """The byte after the last line end outside of quotes, 0 if there is none."""
    end = data.rfind(b"\n") + 1
    if _QUOTE in data:
        quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == _QUOTE)
        while end and (before := int(np.searchsorted(quotes, end))) % 2:
            end = data.rfind(b"\n", 0, int(quotes[before - 1])) + 1
    return end


def _cells(layout: text.Layout, data: bytes, path: Path) -> dict[str, Any]:
    """The cells of the records in ``data``; ``Whole`` where the whole file might be cut differently."""
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
    """Whether quotes stand only around whole cells, or doubled within these.

    >>> _is_clean(b'a,"b, ""c"\\n', ","), _is_clean(b'5" pipe,6" pipe\\n', ",")
    (True, False)
    """
    if _QUOTE not in data:
        return True
    found = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(found == _QUOTE)
    around = np.concatenate([found[quotes[::2] - 1], found[quotes[1::2] + 1]])
    return len(quotes) % 2 == 0 and bool(np.isin(around, [*b"\n\r", _QUOTE, ord(delimiter)]).all())
