"""Write arrays and tables atomically, in the format that the extension names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.tables.files import write_table
from latens.errors import InputError
from latens.machine.atomic import atomic_write, writable
from latens.schema import require_numeric
from latens.schema.arrow import pa

TABLES = (".csv", ".tsv", ".parquet", ".feather")
FORMATS = (".npy", ".npz", *TABLES)  # the extensions that can be written


def write(path: str | os.PathLike[str], values: Any, names: Sequence[str] | None = None) -> None:
    """Write an array or an arrow table atomically, in the format that the extension of ``path`` names.

    Args:
        path: ``.npy``; ``.npz`` (key ``x``); or, for tables and arrays of one or two axes, ``.csv``, ``.tsv``,
            ``.parquet`` or ``.feather`` with names of columns.
        values: an arrow table, or any numeric array.
        names: the column names of a table; column_1, column_2, ... by default.

    Raises:
        InputError: another extension, a missing folder, values that are not numbers, more than two axes for a table, a
            wrong number of names, or a full disk; no file is left behind.

    >>> import latens.data, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/codes.csv", np.array([[0.5, 1.0], [2.0, 0.1]]), names=["z1", "z2"])
    ...     latens.data.read(folder + "/codes.csv").x.to_pydict()
    {'z1': [0.5, 2.0], 'z2': [1.0, 0.1]}
    """
    extension = require_output(path)
    is_table = hasattr(values, "column_names")
    if extension in TABLES:
        write_table(path, values if is_table else matrix_table(path, np.asarray(values), names))
        return
    if is_table:
        what = f"cannot write {path}, as a table of several kinds of columns is not an array"
        raise InputError(what, f"name a file that ends in one of {', '.join(TABLES)}")
    array = np.asarray(values)
    require_numeric(array.dtype, f"cannot write {path}")
    with atomic_write(path) as file:
        if extension == ".npy":
            np.save(file, array, allow_pickle=False)
        else:
            np.savez(file, x=array)


def matrix_table(path: str | os.PathLike[str], array: np.ndarray, names: Sequence[str] | None) -> Any:
    """An array ``[N]`` or ``[N, D]`` as an arrow table; ``InputError`` if it has more axes."""
    require_numeric(array.dtype, f"cannot write {path}")
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise InputError(f"cannot write {path}, as a table has 2 axes, but the array has {array.ndim}", "write a .npy")
    header = [f"column_{j + 1}" for j in range(array.shape[1])] if names is None else [str(n) for n in names]
    if len(header) != array.shape[1]:
        what = f"cannot write {path}, as there are {len(header)} names for {array.shape[1]} columns"
        raise InputError(what, "give a name for each column")
    simple = {"b": np.dtype(np.uint8), "f": np.dtype(np.float32 if array.itemsize <= 4 else np.float64)}
    dtype = simple.get(array.dtype.kind, array.dtype.newbyteorder("="))
    return pa.table([pa.array(column.astype(dtype)) for column in array.T], names=header)


def require_output(path: str | os.PathLike[str], more: Sequence[str] = ()) -> str:
    """The extension of ``path``. ``InputError`` unless it is one that :func:`write` knows, or one of ``more``, and a
    file can be written there."""
    known = (*FORMATS, *more)
    extension = Path(path).suffix.lower()
    if extension not in known:
        raise InputError(f"cannot write {path}: the extension must be {', '.join(known[:-1])} or {known[-1]}")
    writable(path)
    return extension
