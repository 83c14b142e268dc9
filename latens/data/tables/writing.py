"""Write tables as .csv, .tsv, .parquet or .feather, whole or batch by batch, each file atomically."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from latens.data.tables.folders import FEATHER
from latens.data.tables.layout import DATUM
from latens.data.tables.types import INDEX, plain_schema, require_names, shown
from latens.errors import InputError
from latens.machine.atomic import atomic_write
from latens.schema.arrow import pa, pc
from latens.schema.times import Times


def write_table(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table atomically in the format that the extension of ``path`` names.

    Parquet and feather keep names and types. From a csv, :func:`latens.data.tables.files.read_table` restores bool,
    int64, double, string, date32, ``timestamp[us]`` without a zone or in UTC, and columns of nulls; it does not restore
    words that look like numbers, dates or missing cells, nor spaces around words.

    Raises:
        InputError: another extension, a missing folder, columns without a name of their own or of a type without a
            plain one, or a full disk; no file is left behind.

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
    """Write a table batch by batch; it appears at ``path`` when the block ends without an exception.

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
    """The first line of a file; names that could be read as numbers are quoted. A row index has no name."""
    names = ["" if j == 0 and name.startswith(INDEX) and names[1:] else name for j, name in enumerate(names)]
    first, always = io.StringIO(), any(DATUM.fullmatch(name.strip()) or name.startswith("#") for name in names)
    style = {"delimiter": delimiter, "lineterminator": "\n", "quoting": csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL}
    csv.writer(first, **style).writerow(names)  # type: ignore[arg-type]
    return first.getvalue().encode("utf-8")


def lines(rows: pa.Table, delimiter: str) -> bytes:
    r"""Rows as text: the shortest digits that read back as the same number (a point in every double), ISO dates, an
    empty cell for null, and words in quotes if they need them.

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
    """Times, or durations, in seconds if none of them has a fraction of a second."""
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
