"""Parquet files as blocks, one per row group: a file or a folder of files, local or at an fsspec address."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from latens.data.array_files import sentences
from latens.data.streams.addresses import File, files_at
from latens.data.streams.blocks import cut
from latens.data.tables.folders import key_columns, same_columns, with_keys
from latens.data.tables.types import joined_type, plain_type
from latens.errors import InputError
from latens.schema.arrow import listed, pa

MOST_ROWS = 1 << 16  # a larger row group is cut into blocks of this many rows ...
UNIT_ROWS = 1 << 20  # ... and the blocks within this many rows are read one after the other
_OPEN = 16  # units whose readers are open at the same time
_BUFFER = 1 << 18  # bytes of a column that are read together
_DECLARED = 1 << 40  # a footer that declares more rows than this in a group is refused
_BATCH = 1 << 16  # rows that are decoded together if a row group is cut


@dataclass(frozen=True)
class _Piece:
    """All or some of the rows of a row group, from ``start`` on, with the unit that they belong to, whether they are
    the whole group, and whether they are the last of their unit."""

    file: int
    group: int
    start: int
    rows: int
    unit: int
    is_whole: bool
    is_last: bool


class _GroupReader:
    """The rows of one row group from front to back, in record batches; one batch is in memory at a time."""

    def __init__(self, file: File, footer: Any, group: int, columns: list[str]):
        self._lock, self._file, self._footer = threading.Lock(), file, footer
        self._options: dict[str, Any] = {"row_groups": [group], "columns": columns, "use_threads": False}
        self._at, self._left, self._batches = 0, None, iter(())
        self._open()

    def _open(self) -> None:
        import pyarrow.parquet as pq

        remote = self._file.system is not None
        handle = pq.ParquetFile(
            self._file.handle(), metadata=self._footer, pre_buffer=remote, buffer_size=0 if remote else _BUFFER
        )
        self._at, self._left, self._batches = 0, None, handle.iter_batches(_BATCH, **self._options)

    def rows(self, start: int, count: int) -> list[pa.RecordBatch]:
        """``count`` rows from ``start`` on; earlier rows that were not read yet are decoded and dropped."""
        with self._lock:
            if start < self._at:
                self._open()
            found: list[pa.RecordBatch] = []
            stop = start + count
            while self._at < stop:
                batch = next(self._batches, None) if self._left is None else self._left
                if batch is None:
                    break
                low, high = max(start - self._at, 0), min(stop - self._at, batch.num_rows)
                if high > low:
                    found.append(batch.slice(low, high - low))
                self._left = batch.slice(high) if high < batch.num_rows else None
                self._at += high
            return found


class ParquetBlocks:
    """Blocks of a Parquet file, or of the ``.parquet`` files below a folder, sorted by name. The keys of partitions
    are columns after those of the files.

    ``schema`` has the chosen columns, in types that can hold the values of all files. Only the footers are read at
    first. Several threads may read tables at the same time.

    Args:
        path: a local path, or an fsspec address such as ``s3://bucket/folder`` (with its protocol's package installed).
        columns: the columns to read, in this order; all by default.
        most_rows: a larger row group is cut into blocks of this many rows. Memory then holds only the block.
        unit_rows: the blocks of a row group within this many rows form a unit. If they are read in order, each is
            decoded once; the first also decodes the rows before it in its group.

    Attributes:
        units: for each block, the number of its unit.

    Raises:
        InputError: a file is missing, damaged or truncated, a column does not exist, there are no rows, or files have
            different columns or types without a common type.

    >>> import tempfile, pyarrow as pa, pyarrow.parquet as pq
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"a": [1, 2, 3]}), f"{folder}/a.parquet", row_group_size=2)
    ...     blocks = ParquetBlocks(folder)
    ...     print(blocks.sizes, blocks.table(1).to_pydict())
    [2, 1] {'a': [3]}
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None = None, *, most_rows: int = MOST_ROWS,
        unit_rows: int = UNIT_ROWS,
    ):  # fmt: skip
        self.files = files_at(path, ".parquet")
        self._footers = [_footer(file) for file in self.files]
        schemas = [footer.schema.to_arrow_schema() for footer in self._footers]
        self._keys = _keys(self.files, schemas[0])
        names = list(columns) if columns is not None else [*schemas[0].names, *self._keys]
        self._stored = [name for name in names if name not in self._keys]
        stored = _common(self.files, schemas, self._stored, chosen=columns is not None)
        self.schema: pa.Schema = with_keys(stored.empty_table(), names, self._keys, 0).schema
        self._pieces: list[_Piece] = []
        for number, footer in enumerate(self._footers):
            groups = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
            if not all(0 <= rows < _DECLARED for rows in groups):
                name = self.files[number].name
                raise InputError(f"{name} is damaged, as its footer declares {groups} rows", "get it again")
            for group, rows in enumerate(groups):
                for start in range(0, rows, unit_rows):
                    self._cut(number, group, start, min(start + unit_rows, rows), most_rows, rows)
        self.sizes, self.units = [piece.rows for piece in self._pieces], [piece.unit for piece in self._pieces]
        self._readers: dict[int, _GroupReader] = {}
        self._lock = threading.Lock()
        if not sum(self.sizes):
            raise InputError(f"{os.fspath(path)} has no rows", "give at least one")

    def _cut(self, file: int, group: int, start: int, stop: int, most_rows: int, rows: int) -> None:
        """Add the pieces of one unit, which belongs to a group of ``rows`` rows."""
        unit = self._pieces[-1].unit + 1 if self._pieces else 0
        for size in cut(stop - start, most_rows):
            self._pieces.append(_Piece(file, group, start, size, unit, size == rows, start + size == stop))
            start += size

    @property
    def groups(self) -> list[tuple[int, int]]:
        """For each block, the number of its file, and of its row group in that file."""
        return [(piece.file, piece.group) for piece in self._pieces]

    def file_of(self, block: int) -> str:
        """The name of the file that holds a block."""
        return self.files[self._pieces[block].file].name

    def table(self, block: int) -> pa.Table:
        """The rows of one block, in the types of their file."""
        import pyarrow.parquet as pq

        piece = self._pieces[block]
        file, footer = self.files[piece.file], self._footers[piece.file]
        with _named(file):
            # Arrow's own threads are off: the loader's threads read in parallel, and none outlives the interpreter.
            if piece.is_whole:
                with pq.ParquetFile(file.handle(), metadata=footer, pre_buffer=file.system is not None) as parquet:
                    table = parquet.read_row_group(piece.group, columns=self._stored, use_threads=False)
            else:
                batches = self._reader(piece).rows(piece.start, piece.rows)
                if piece.is_last:
                    self._readers.pop(piece.unit, None)
                table = pa.Table.from_batches(batches, batches[0].schema if batches else None)
            if table.num_rows != piece.rows:
                raise InputError(f"{file.name} changed while it was read", "begin again")
        return with_keys(table, self.schema.names, self._keys, piece.file)

    def _reader(self, piece: _Piece) -> _GroupReader:
        """The reader of the unit that a piece belongs to. The most recently used readers stay open."""
        with self._lock:
            reader = self._readers.pop(piece.unit, None)
            if reader is None:
                reader = _GroupReader(self.files[piece.file], self._footers[piece.file], piece.group, self._stored)
            self._readers[piece.unit] = reader
            while len(self._readers) > _OPEN:
                del self._readers[next(iter(self._readers))]
        return reader


def stored_columns(path: str | os.PathLike[str]) -> tuple[pa.Schema, list[str]]:
    """(the schema of the first file; the names of its columns and of the partitions). Errors as in
    :class:`ParquetBlocks`."""
    files = files_at(path, ".parquet")
    schema = _footer(files[0]).schema.to_arrow_schema()
    return schema, [*schema.names, *_keys(files, schema)]


def unpacked_bytes(path: str | os.PathLike[str]) -> int:
    """The bytes that the values of all row groups take in memory, by the widths of their types. The size of text is
    taken from the footers, with at least 8 bytes per cell, since dictionaries make files smaller. Errors as in
    :class:`ParquetBlocks`."""
    footers = [_footer(file) for file in files_at(path, ".parquet")]
    total = 0
    for footer in footers:
        fixed, chunks = _widths(footer.schema.to_arrow_schema()), range(footer.num_columns)
        for group in (footer.row_group(number) for number in range(footer.num_row_groups)):
            texts = sum(group.column(j).total_uncompressed_size for j in chunks if j not in fixed)
            total += group.num_rows * sum(fixed.values())
            total += max(0, texts, 8 * group.num_rows * (footer.num_columns - len(fixed)))
    return total


def _widths(schema: pa.Schema) -> dict[int, int]:
    """{column: bytes per cell} of the columns whose types have a fixed width, in a schema without nested types."""
    if any(pa.types.is_nested(type) for type in schema.types):
        return {}
    widths = {}
    for j, type in enumerate(schema.types):
        with suppress(ValueError):  # text has no width
            widths[j] = max(4, type.bit_width // 8) if not pa.types.is_dictionary(type) else 8
    return widths


def _named(file: File) -> Any:
    return sentences(cast("Path", file.name))  # only the name is used


def _footer(file: File) -> Any:
    import pyarrow.parquet as pq

    with _named(file):
        if file.size < 12 or file.read(0, 4) != b"PAR1":
            raise InputError(f"{file.name} is not a Parquet file, as it does not start with PAR1", "give another file")
        if file.read(file.size - 4, file.size) != b"PAR1":
            raise InputError(f"{file.name} is truncated, as it does not end as a Parquet file does", "get it again")
        with pq.ParquetFile(file.handle()) as parquet:
            return parquet.metadata


def _keys(files: list[File], schema: Any) -> dict[str, pa.Array]:
    return key_columns([file.keys for file in files], [file.name for file in files], schema.names)


def _require_once(files: list[File], schemas: list[Any], names: list[str]) -> None:
    for name in names:
        if name not in schemas[0].names:
            raise InputError(f"{files[0].name} has no column {name!r}", f"name one of {listed(schemas[0].names)}")
    for file, schema in zip(files, schemas):
        for name in names:
            if schema.names.count(name) > 1:
                raise InputError(f"{file.name} has several columns {name!r}", "rename all but one")


def _common(files: list[File], schemas: list[Any], names: list[str], chosen: bool) -> Any:
    """The schema of the columns ``names``, in types that can hold the values of all files."""
    first = schemas[0]
    _require_once(files, schemas, names)
    own = [[name for name in schema.names if not chosen or name in set(names)] for schema in schemas]
    same_columns([file.name for file in files], own)
    types = {name: first.field(name).type for name in names}
    for file, schema in zip(files[1:], schemas[1:]):
        for name, there in types.items():
            here = schema.field(name).type
            if here != there:
                wider = joined_type(plain_type(here) or here, plain_type(there) or there)
                if wider is None:
                    what = f"column {name!r} is {here} in {file.name} but {there} in {files[0].name}"
                    raise InputError(what, "write it with one type")
                types[name] = wider
    return pa.schema([first.field(n).with_type(t).with_nullable(True) for n, t in types.items()], first.metadata)
