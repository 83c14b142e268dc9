"""Data on disk in the user's form, read one block at a time: Parquet files, local or at an address, and .npy files."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.array_files import npy_header, sentences
from latens.data.rows import as_table
from latens.data.streams.addresses import fingerprint_files
from latens.data.streams.blocks import cut, starts
from latens.data.streams.loader import WINDOW_BYTES, WINDOW_ROWS, ahead
from latens.data.streams.parquet import MOST_ROWS, UNIT_ROWS, ParquetBlocks, stored_columns, unpacked_bytes
from latens.data.tables.files import bytes_of_text
from latens.data.tables.folders import tables_below
from latens.data.tables.reading import Read, without_marks
from latens.data.tables.types import chosen, index_names, index_notes, plain_schema, plain_table
from latens.errors import InputError, concerning, is_whole
from latens.machine.memory import free_memory
from latens.schema import require_numeric
from latens.schema.arrow import pa
from latens.schema.form import Form

BLOCK_ROWS = 1 << 16  # rows of a block, if the data come without blocks ...
BLOCK_BYTES = 1 << 25  # ... and at most this many bytes, which matters if rows are large
IN_MEMORY = 3  # a fit in memory takes at most this many times the bytes of the values ...
SHARE = 0.5  # ... and if that exceeds this share of the free memory, the data are read as a stream


@dataclass(frozen=True)
class StreamOrder:
    """The settings that, with the data and the seed, decide the order of rows in training. A run stores them, so that a
    continued run repeats the order. For ``most_rows`` and ``unit_rows``, see
    :class:`~latens.data.streams.parquet.ParquetBlocks`; for the rest, see
    :class:`~latens.data.streams.loader.StreamLoader`.
    """

    most_rows: int = MOST_ROWS
    unit_rows: int = UNIT_ROWS
    window: int = 4
    window_rows: int = WINDOW_ROWS
    window_bytes: int = WINDOW_BYTES

    def to_json(self) -> dict[str, int]:
        """The fields as a dictionary that ``json`` can write."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> StreamOrder:
        """The order that :meth:`to_json` wrote; ``InputError`` if the fields are not valid."""
        known = {field.name for field in fields(cls)}
        good = isinstance(values, Mapping) and set(values) <= known
        if not good or not all(is_whole(number) and number >= 1 for number in values.values()):
            what = "the record of how the data were streamed is not valid"
            raise InputError(what, "restore run.json from a copy, or fit again")
        return cls(**values)


class Stream:
    """N rows on disk in the user's form, in consecutive blocks; abstract.

    Attributes:
        origin, fingerprint: as in :class:`latens.data.Source`.
        names: the names of a table's columns, or None.
        arrow: the arrow schema of a table, or None.
        sizes: the number of rows of each block.
        units: for each block the number of its unit, whose blocks are best read in order; None if any order is fine.
        order: what decides the order of rows in training.
        cells: the number of cells in a row.
        finite: whether infinite numbers of a table are refused.
        na: the texts of a table that mean missing, as in :class:`latens.data.tables.reading.Hints`.
        kept: columns of a table that are read for the output, even if the model does not know them.
        forms: the forms of the columns of text, if pieces hold their values; None if pieces hold the text.
        notes: what a person should know about how the data are read, in sentences.
    """

    origin: str
    fingerprint: str
    order: StreamOrder
    sizes: list[int]
    units: list[int] | None = None
    names: tuple[str, ...] | None = None
    arrow: Any = None
    cells: int = 1
    finite: bool = True
    na: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    forms: Mapping[str, Form] | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return self.rows

    @property
    def firsts(self) -> np.ndarray:
        """The number of the first row of each block, and lastly the number of rows, ``[blocks + 1]``."""
        return starts(self.sizes)

    def piece(self, block: int) -> Any:
        """The rows of one block: an arrow table of plain types, or an array ``[B, *event]``."""
        raise NotImplementedError

    def understood(self, piece: Any) -> Read | None:
        """The values of the rows of a piece that holds text; None if a piece holds values."""
        return None

    def pieces(self, workers: int = 1) -> Iterator[tuple[int, Any]]:
        """(number of the first row, rows) of each block in order; the next block is read meanwhile."""
        jobs = ([lambda block=block: self.piece(block)] for block in range(len(self.sizes)))
        with closing(ahead(jobs, workers)) as found:
            for group, first in zip(found, self.firsts.tolist()):
                yield first, group.pop()

    def chunks(self, rows: int) -> Generator[tuple[int, Any], None, None]:
        """(number of the first row, rows) in chunks of ``rows``, across blocks; the last may be smaller."""
        at, waiting, count = 0, [], 0
        for _, piece in self.pieces():
            waiting.append(piece)
            count += len(piece)
            if count < rows:
                continue
            joined = joined_rows(waiting)
            whole = count // rows * rows
            for start in range(0, whole, rows):
                yield at + start, joined[start : start + rows]
            at, waiting, count = at + whole, [joined[whole:]], count - whole
        if count:
            yield at, joined_rows(waiting)


def joined_rows(pieces: list[Any]) -> Any:
    """The rows of several pieces, concatenated."""
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate(pieces)
    return pa.concat_tables(pieces).unify_dictionaries()


class ParquetStream(Stream):
    """The Parquet file, or the files of a folder, at a path or fsspec address.

    Raises:
        InputError: as in :class:`~latens.data.streams.parquet.ParquetBlocks`, a column in ``drop`` does not exist, or
            a column is of a nested type.
    """

    def __init__(
        self, path: str, *, drop: Iterable[str] = (), columns: Iterable[str] | None = None,
        order: StreamOrder | None = None, index: bool = False,
    ):  # fmt: skip
        self.order = order or StreamOrder()
        self.origin = path if "://" in path else os.path.abspath(os.path.expanduser(path))
        schema, stored = stored_columns(path)
        of_index = index_names(schema)
        wanted = None if columns is None else list(columns)
        names = [n for n in chosen(stored, list(drop), wanted, self.origin) if wanted or n not in of_index]
        if not names:
            raise InputError(f"{self.origin} has no column besides the index of its rows", "add a column")
        read = [n for n in of_index if index and n not in names] + names
        some = None if read == stored else read
        self._blocks = ParquetBlocks(
            path, some, most_rows=self.order.most_rows, unit_rows=self.order.unit_rows
        )
        self.sizes, self.units, self.names = self._blocks.sizes, self._blocks.units, tuple(names)
        self.cells = len(names)
        self.arrow = plain_schema(self._blocks.schema, self.origin)
        self.fingerprint = fingerprint_files([path], ".parquet")
        self._firsts = self.firsts
        self.notes = () if index else tuple(index_notes(self._blocks.schema))

    def piece(self, block: int) -> Any:
        """The rows of one block, an arrow table of plain types."""
        table = self._blocks.table(block)
        try:
            table.validate(full=True)  # fails for text that is not UTF-8
        except pa.ArrowInvalid as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self._blocks.file_of(block)} is damaged ({reason})", "get it again") from error
        file, first = self._blocks.file_of(block), int(self._firsts[block])
        table = plain_table(table, file, self.arrow, first, finite=self.finite)
        return without_marks(table, self.na)


class NpyStream(Stream):
    """The rows of an .npy file of numbers, read by memory map, in blocks of 65,536 rows and at most 32 MiB.

    The header is checked against the size of the file before anything is mapped, and objects are never unpickled. Each
    block has a separate map, so that pages that were read are released.

    Raises:
        InputError: the file is missing, damaged, truncated or empty, or its values are not numbers.
    """

    def __init__(self, path: str, *, order: StreamOrder | None = None):
        self.order = order or StreamOrder()
        self.origin, place = os.path.abspath(os.path.expanduser(path)), Path(path).expanduser()
        if not place.is_file():
            raise InputError(f"there is no file {place}", "correct the path")
        with sentences(place), open(place, "rb") as file:
            self._shape, self._fortran, self._dtype = npy_header(file, place.stat().st_size, str(place))
            self._offset = file.tell()
        require_numeric(self._dtype, str(place))
        if not self._shape or self._shape[0] == 0:
            raise InputError(f"{place} has no rows (its shape is {self._shape})", "give an array with rows")
        self.event = self._shape[1:]
        self.cells = int(np.prod(self.event, dtype=np.int64))
        size = min(BLOCK_ROWS, BLOCK_BYTES // max(1, self.cells * self._dtype.itemsize))
        self.sizes = cut(self._shape[0], max(1, size))
        self._firsts = self.firsts
        self.fingerprint = fingerprint_files([path])

    def piece(self, block: int) -> np.ndarray:
        """The rows of one block, an array ``[B, *event]``."""
        start = int(self._firsts[block])
        try:
            mapped = np.memmap(
                self.origin, self._dtype, "r", self._offset, self._shape, "F" if self._fortran else "C"
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{self.origin} can no longer be read ({error})", "restore the file") from error
        return np.array(mapped[start : start + self.sizes[block]], self._dtype.newbyteorder("="), order="C")


class Excerpt(Stream):
    """The blocks ``first`` to ``stop`` (excluded) of another stream."""

    def __init__(self, stream: Stream, first: int, stop: int, origin: str):
        vars(self).update(vars(stream))
        self.origin, self.sizes, self.units = origin, stream.sizes[first:stop], None
        self._stream, self._first = stream, first

    def piece(self, block: int) -> Any:
        """The rows of one block."""
        return self._stream.piece(self._first + block)


class AsTable(Stream):
    """The rows of a matrix as a table of its columns, with null for NaN."""

    def __init__(self, stream: Stream, names: Iterable[str] | None = None):
        self._stream, self.order, self.sizes = stream, stream.order, stream.sizes
        self.origin, self.fingerprint, self.cells = stream.origin, stream.fingerprint, stream.cells
        self.names = tuple(names) if names is not None else tuple(f"column_{j + 1}" for j in range(self.cells))
        self.arrow = self.table(stream.piece(0)[:1]).schema

    def table(self, array: np.ndarray) -> Any:
        """An arrow table of a matrix ``[B, D]``; ``InputError`` for a different number of columns."""
        if array.shape[1] != len(self.names or ()):
            what = f"{self.origin} has {array.shape[1]} columns, not {len(self.names or ())}"
            raise InputError(what, "give the columns of the fit")
        return as_table(array, self.names)

    def piece(self, block: int) -> Any:
        """The rows of one block, an arrow table."""
        return self.table(self._stream.piece(block))


def open_stream(
    path: str, *, drop: Iterable[str] = (), columns: Iterable[str] | None = None, order: StreamOrder | None = None,
    index: bool = False, na: Iterable[str] | None = None,
) -> Stream:  # fmt: skip
    """Open the data at a path or address as a stream: Parquet (a file, a folder of files or an address) or .npy.

    Args:
        path: where the data are.
        drop: columns to leave out.
        columns: the columns to read, in this order; all by default.
        order: what decides the order of rows in training.
        index: whether a Parquet table keeps its row index.
        na: the texts of a table that mean missing.

    Raises:
        InputError: the data have another format, which must be read whole; or as for the stream of the format.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/x.npy", np.arange(10).reshape(5, 2))
    ...     stream = open_stream(folder + "/x.npy")
    ...     print(len(stream), [(first, rows.tolist()) for first, rows in stream.chunks(3)][1])
    5 (3, [[6, 7], [8, 9]])
    """
    if _is_npy(path):
        if tuple(drop) or columns is not None:
            raise InputError(f"{path} has no named columns to drop", "omit --drop")
        return NpyStream(path, order=order)
    if not _is_parquet(path):
        raise InputError(
            f"{path} cannot be streamed, as only Parquet (a file or a folder of files), .npy and plain text can",
            "omit --stream to read it into memory, or write it as Parquet",
        )
    with concerning(path):
        stream = ParquetStream(path, drop=drop, columns=columns, order=order, index=index)
        stream.na = tuple(na or ())
        return stream


def stored_names(path: str) -> list[str] | None:
    """The names of the columns of Parquet data, of any type, without those of a row index; None for an .npy."""
    if _is_npy(path) or not _is_parquet(path):
        return None
    with concerning(path):
        schema, names = stored_columns(path)
        of_index = index_names(schema)
        return [name for name in names if name not in of_index]


def is_large(path: str, share: float = SHARE) -> bool:
    """Whether data should be read as a stream. Parquet at an address is always streamed. Other data are streamed if
    that is possible and a fit in memory would take more than this ``share`` of the free memory."""
    return "://" in path or IN_MEMORY * unpacked(path) > share * free_memory()


def unpacked(path: str) -> int:
    """The bytes that the values at a local path take in memory: from the footers of Parquet, or the size of an .npy
    file. For text, the size of the file is added: its cells are in memory together with their values. 0 if the data
    cannot be streamed, or are damaged (the reader then says what is wrong)."""
    place = os.path.expanduser(path)
    if text := bytes_of_text(path):
        return text
    if _is_npy(path):
        return os.path.getsize(place) if os.path.isfile(place) else 0
    try:
        return unpacked_bytes(path) if _is_parquet(path) and os.path.exists(place) else 0
    except InputError:
        return 0


def _is_npy(path: str) -> bool:
    return path.lower().endswith(".npy") and "://" not in path


def _is_parquet(path: str) -> bool:
    place = os.path.expanduser(path)
    if "://" in path or path.lower().endswith(".parquet"):
        return True
    return os.path.isdir(place) and tables_below(Path(place))[0] == "parquet"
