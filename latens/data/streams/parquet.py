"""Parquet files as blocks, one per row group: a file or a folder of files, local or at an fsspec address."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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

MOST_ROWS = 1 << 20  # a larger row group is cut into blocks of this many rows
_DECLARED = 1 << 40  # a footer that declares more rows in a group is not believed
_BATCH = 1 << 16  # rows decoded at once if a row group is cut


@dataclass(frozen=True)
class _Piece:
    """Part of a row group: ``rows`` rows from ``start`` on."""

    file: int
    group: int
    start: int
    rows: int
    whole: bool


class ParquetBlocks:
    """Blocks of a Parquet file, or of the ``.parquet`` files below a folder, sorted by name; the keys of partitions
    are columns after those of the files.

    ``schema`` has the chosen columns, in types that can hold those of all files. At first only the footers are read.
    Several threads may read tables at once.

    Args:
        path: a local path, or an fsspec address such as ``s3://bucket/folder`` (with its protocol's package installed).
        columns: the columns to read, in this order; all by default.
        most_rows: a larger row group is cut into blocks of this many rows. Memory then holds only the block, but
            reading it also decodes the rows before it in its group.

    Raises:
        InputError: a file is missing, damaged or truncated, files have different columns or types that no common type
            can hold, a column does not exist, or there are no rows.

    >>> import tempfile, pyarrow as pa, pyarrow.parquet as pq
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"a": [1, 2, 3]}), f"{folder}/a.parquet", row_group_size=2)
    ...     blocks = ParquetBlocks(folder)
    ...     print(blocks.sizes, blocks.table(1).to_pydict())
    [2, 1] {'a': [3]}
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None = None, *, most_rows: int = MOST_ROWS
    ):
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
                for part, size in enumerate(cut(rows, most_rows)):
                    self._pieces.append(_Piece(number, group, part * most_rows, size, size == rows))
        self.sizes = [piece.rows for piece in self._pieces]
        if not sum(self.sizes):
            raise InputError(f"{os.fspath(path)} has no rows", "give at least one")

    def file_of(self, block: int) -> str:
        """The name of the file that holds a block."""
        return self.files[self._pieces[block].file].name

    def table(self, block: int) -> pa.Table:
        """The rows of one block, in the types of their file."""
        import pyarrow.parquet as pq

        piece = self._pieces[block]
        file = self.files[piece.file]
        with _named(file), pq.ParquetFile(
            file.handle(), metadata=self._footers[piece.file], pre_buffer=file.system is not None
        ) as parquet:  # fmt: skip
            # arrow's threads are off: the loader's threads read in parallel, and none outlives the interpreter
            if piece.whole:
                table = parquet.read_row_group(piece.group, columns=self._stored, use_threads=False)
            else:
                table = pa.Table.from_batches(list(self._slices(parquet, piece)))
            if table.num_rows != piece.rows:
                raise InputError(f"{file.name} changed while it was read", "begin again")
        return with_keys(table, self.schema.names, self._keys, piece.file)

    def _slices(self, parquet: Any, piece: _Piece) -> Iterator[pa.RecordBatch]:
        """The record batches of a part of a row group; those before it are decoded and dropped."""
        at, stop = 0, piece.start + piece.rows
        options = {"row_groups": [piece.group], "columns": self._stored, "use_threads": False}
        for batch in parquet.iter_batches(_BATCH, **options):
            low, high = max(piece.start - at, 0), min(stop - at, batch.num_rows)
            if high > low:
                yield batch.slice(low, high - low)
            at += batch.num_rows
            if at >= stop:
                return


def stored_columns(path: str | os.PathLike[str]) -> tuple[pa.Schema, list[str]]:
    """(the schema of the first file; the names of its columns and of partitions); errors as in
    :class:`ParquetBlocks`."""
    files = files_at(path, ".parquet")
    schema = _footer(files[0]).schema.to_arrow_schema()
    return schema, [*schema.names, *_keys(files, schema)]


def unpacked_bytes(path: str | os.PathLike[str]) -> int:
    """The bytes that all row groups take in memory: what the footers say, but at least 8 bytes per cell, since
    dictionaries make files smaller than their cells; errors as in :class:`ParquetBlocks`."""
    footers = [_footer(file) for file in files_at(path, ".parquet")]
    groups = (footer.row_group(group) for footer in footers for group in range(footer.num_row_groups))
    return sum(max(0, group.total_byte_size, 8 * group.num_rows * group.num_columns) for group in groups)


def _named(file: File) -> Any:
    return sentences(cast("Path", file.name))  # it only uses the name


def _footer(file: File) -> Any:
    import pyarrow.parquet as pq

    with _named(file):
        if file.size < 12 or file.read(0, 4) != b"PAR1":
            raise InputError(f"{file.name} is not a Parquet file, as it does not start with PAR1", "give another")
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
    """The schema of the columns ``names``, in types that can hold those of all files."""
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
                    what = f"column {name!r} is {here} in {file.name} and {there} in {files[0].name}"
                    raise InputError(what, "write it with one type")
                types[name] = wider
    return pa.schema([first.field(n).with_type(t).with_nullable(True) for n, t in types.items()], first.metadata)
