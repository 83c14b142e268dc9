"""Results of a stream, written chunk by chunk in order: tables, .npy and .npz, each file atomically."""

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
from latens.data.tables.writing import TableWriter
from latens.data.writing import TABLES, matrix_table, require_output
from latens.errors import InputError
from latens.machine.atomic import atomic_write
from latens.schema import require_numeric


class Writer:
    """A file of ``rows`` rows that is written chunk by chunk and appears when the block ends without an exception.

    Args:
        path: as for :func:`latens.data.write`.
        rows: how many rows there will be.
        names: the header of a table that is made of arrays; a word is followed by the columns' numbers (z0, z1, …).

    The first chunk decides the columns and types. Arrays of more than two axes go to a table flat, tables of numbers to
    an array as a matrix. Raises ``InputError`` as :func:`latens.data.write`.

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
        self._is_table = require_output(path) in TABLES
        self._stack = ExitStack()
        self._sink: Any = None
        self._kind: np.dtype[Any] = np.dtype(float)

    @property
    def is_array(self) -> bool:
        """Whether an array is written, and no table."""
        return not self._is_table

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, values: Any, rows: Rows | None = None) -> None:
        """Append an arrow table, or an array; to a table what names the ``rows`` that it is of, too."""
        if self._is_table:
            self._write_table(values, rows)
        else:
            self._write_array(as_matrix(values) if hasattr(values, "column_names") else np.asarray(values))

    def _write_table(self, values: Any, rows: Rows | None) -> None:
        if not hasattr(values, "column_names"):
            flat = values.reshape(len(values), -1) if values.ndim > 2 else values
            names = self.names
            if isinstance(names, str):
                names = [f"{names}{j}" for j in range(flat.shape[-1])]
            values = matrix_table(self.path, flat, names)
        values = (values if rows is None else rows.named(values)).unify_dictionaries()
        if self._sink is None:
            self._sink = self._stack.enter_context(TableWriter(self.path, values.schema))
        self._sink.write(values if values.schema.equals(self._sink.schema) else values.cast(self._sink.schema))
        self.shape = [self.shape[0] + values.num_rows, values.num_columns]

    def _write_array(self, array: np.ndarray) -> None:
        if self._sink is None:
            require_numeric(array.dtype, f"cannot write {self.path}")
            self._kind, self._sink = array.dtype, self._open(array)
        if array.dtype != self._kind and not np.can_cast(array.dtype, self._kind, "same_kind"):
            raise InputError(f"cannot write {self.path}: rows of {self._kind} are followed by rows of {array.dtype}")
        self._sink.write(np.ascontiguousarray(array, dtype=self._kind).tobytes())
        self.shape = [self.shape[0] + len(array), *array.shape[1:]]

    def _open(self, array: np.ndarray) -> Any:
        """The file behind the header of the whole array."""
        file: Any = self._stack.enter_context(atomic_write(self.path))
        if self.path.suffix.lower() == ".npz":
            archive = self._stack.enter_context(zipfile.ZipFile(file, "w"))
            file = self._stack.enter_context(archive.open("x.npy", "w", force_zip64=True))
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False,
                  "shape": (self.rows, *array.shape[1:])}  # fmt: skip
        np.lib.format.write_array_header_2_0(file, header)
        return file
