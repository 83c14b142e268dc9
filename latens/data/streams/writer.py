"""Write results part by part, in order, as tables, .npy or .npz; each file is written atomically."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from latens.data.rows import Rows, as_matrix
from latens.data.tables.files import TableWriter
from latens.data.writing import TABLES, matrix_table, require_output
from latens.errors import InputError
from latens.machine.atomic import atomic_write
from latens.schema import require_numeric
from latens.schema.arrow import pa


class Writer:
    """A file of ``rows`` rows that is written part by part and appears when the block ends without an exception.

    The first part decides the columns and types. An array with more than two axes is flattened for a table; a table of
    numbers becomes a matrix for an array. If the rows of a single part have names, they are written too: a table has
    them in its last column, named after their kind ("file"), and an .npz in an array named by the plural ("files"). An
    .npy has no place for names, so they are the lines of a text file next to it (codes.npy: codes.files.txt), whose
    path is ``beside``. ``shape`` is the shape of what was written.

    Args:
        path: as for :func:`latens.data.write`.
        rows: the number of rows that will be written.
        names: the header of a table made from arrays; a single word is numbered (z0, z1, …).

    Raises:
        InputError: as in :func:`latens.data.write`, or rows of another type follow.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Writer(folder + "/x.npy", 3) as writer:
    ...         writer.write(np.zeros((2, 2)))
    ...         writer.write(np.ones((1, 2)))
    ...     np.load(folder + "/x.npy").tolist()
    [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, path: str | os.PathLike[str], rows: int, names: Sequence[str] | str | None = None):
        self.path, self.rows, self.names = Path(path), rows, names
        self.shape: list[int] = [0]
        self.beside: Path | None = None
        self._is_table = require_output(path) in TABLES
        self._stack = ExitStack()
        self._sink: Any = None
        self._kind: np.dtype[Any] = np.dtype(float)

    @property
    def is_array(self) -> bool:
        """Whether an array is written, not a table."""
        return not self._is_table

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, values: Any, rows: Rows | None = None) -> None:
        """Append an arrow table or an array, with the names of its ``rows``."""
        is_table = hasattr(values, "column_names")
        values = values if is_table else np.asarray(values)
        self.shape = [self.shape[0] + len(values), *(values.shape[1:])]
        if self._is_table:
            self._write_table(values if is_table else self._as_table(values), rows)
        else:
            self._write_array(as_matrix(values, gaps=True) if is_table else values, rows)

    def _as_table(self, array: np.ndarray) -> Any:
        flat = array.reshape(len(array), -1) if array.ndim > 2 else array
        names = self.names
        return matrix_table(
            self.path, flat, [f"{names}{j}" for j in range(flat.shape[-1])] if isinstance(names, str) else names
        )

    def _write_table(self, values: Any, rows: Rows | None) -> None:
        values = values if rows is None else rows.named(values)
        if rows is not None and rows.row_names is not None:
            kind = rows.row_kind
            while kind in values.column_names:
                kind += "_name"
            values = values.append_column(kind, pa.array(rows.row_names, pa.string()))
        values = values.unify_dictionaries()
        if self._sink is None:
            self._sink = self._stack.enter_context(TableWriter(self.path, values.schema))
        self._sink.write(values if values.schema.equals(self._sink.schema) else values.cast(self._sink.schema))

    def _write_array(self, array: np.ndarray, rows: Rows | None) -> None:
        if self._sink is None:
            require_numeric(array.dtype, f"cannot write {self.path}")
            self._kind, self._sink = array.dtype, self._open(array, rows)
        if array.dtype != self._kind and not np.can_cast(array.dtype, self._kind, "same_kind"):
            what = f"cannot write {self.path}, as rows of {self._kind} are followed by rows of {array.dtype}"
            raise InputError(what, "give all rows one type")
        self._sink.write(np.ascontiguousarray(array, dtype=self._kind).data)

    def _open(self, array: np.ndarray, rows: Rows | None) -> Any:
        """The open file, with the header of the whole array written."""
        names = None if rows is None else rows.row_names
        is_archive = self.path.suffix.lower() == ".npz"
        if rows is not None and names is not None and not is_archive:
            self.beside = self.path.with_suffix(f".{rows.row_kind}s.txt")
            beside: Any = self._stack.enter_context(atomic_write(self.beside))
            beside.write("".join(f"{name}\n" for name in names).encode())
        file: Any = self._stack.enter_context(atomic_write(self.path))
        if is_archive:
            archive = self._stack.enter_context(zipfile.ZipFile(file, "w"))
            if rows is not None and names is not None:
                self._stack.callback(_add, archive, f"{rows.row_kind}s", np.array(names, dtype=np.str_))
            file = self._stack.enter_context(archive.open("x.npy", "w", force_zip64=True))
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False,
                  "shape": (self.rows, *array.shape[1:])}  # fmt: skip
        np.lib.format.write_array_header_1_0(file, header)
        return file


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array)
