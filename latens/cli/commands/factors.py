"""Known factors of rows, from columns of the data that the model does not read, or from a file of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latens.cli.commands.sources import origin_of, split_of
from latens.data import Source, columns_of, read
from latens.data.splits import split_rows
from latens.data.streams.sources import Stream
from latens.errors import InputError, nearest
from latens.runs import record as runs
from latens.runs.record import Run
from latens.schema.cells import listed


def factors_for(
    run: Run, folder: str, data: str | None, words: str, reading: Mapping[str, Any] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(the factors ``[N, f]``, numbers or words, of the rows that a run is evaluated on; their names).

    Args:
        run: the run.
        folder: its folder.
        data: the data that were named; None for the run's own held-out rows.
        words: names of columns, with commas between, or a file of one row of factors for each row of the data.
        reading: options for reading the data.

    Raises:
        InputError: a column that does not exist, or that the model reads; a file with another number of rows.
    """
    origin, picked, count = (data, None, None) if data is not None else _own(run, folder)
    values, names = _of_file(words) if _is_file(words) else _of_columns(run, origin, words, run.reading_of(reading))
    if count is not None and len(values) != count:
        wrong = f"{words} has {len(values):,} rows of factors, and {origin} has {count:,} rows"
        raise InputError(wrong, "give as many")
    return values if picked is None else values[picked], tuple(names)


def _own(run: Run, folder: str) -> tuple[str, np.ndarray | None, int | None]:
    """(where the held-out rows of a run come from, their numbers there or None for all, the number of rows there)."""
    record = runs.read_record(folder)
    other = run.data.get("validation_origin")
    source = origin_of(record, Path(folder))
    if other:
        return other, None, None
    if isinstance(source, Stream):
        raise InputError(f"{folder} was fitted to a stream, whose factors are not kept", "name DATA to evaluate on")
    split = split_of(source, run.data.get("split"), run.data.get("labels"))
    rows = len(source.x)
    _, numbers = split_rows(rows, run.data.get("validation", "auto"), run.settings.seed, split)
    return source.origin, numbers.numpy() if len(numbers) else None, rows


def _is_file(words: str) -> bool:
    return Path(words.rpartition(".npz:")[0] + ".npz" if ".npz:" in words else words).is_file()


def _require_free(run: Run, names: Sequence[str], there: Sequence[str], origin: str) -> None:
    """``InputError`` unless each name is a column of the data that the model does not read."""
    for name in names:
        if name not in there:
            columns = f"it has {listed(there)}" if there else "it has no named columns: give a file of factors"
            raise InputError(f"--factors: {origin} has no column {name!r}{nearest(name, list(there))}", columns)
        if name in (run.schema.names or () if run.schema is not None else ()):
            raise InputError(
                f"--factors {name}: the model reads this column", f"fit with --drop {name!r}, or name another"
            )


def _of_columns(run: Run, origin: str, words: str, reading: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
    """(columns of the data ``[N, f]``, their names)."""
    names = [name.strip() for name in words.split(",") if name.strip()]
    if not names:
        raise InputError("--factors names no column", "pass --factors COLUMN,COLUMN or a file")
    there = columns_of(origin, reading) or read(origin, reading=reading).names or ()
    _require_free(run, names, there, origin)
    source = read(origin, drop=[name for name in there if name and name not in names], reading=reading)
    return _columns(source, names), names


def _of_file(words: str) -> tuple[np.ndarray, list[str]]:
    """(factors ``[N, f]``, their names) of a file."""
    source = read(words)
    names = list(source.names or ())
    if names and source.is_table:
        return _columns(source, names), names
    values = np.asarray(source.x[:])
    if values.ndim > 2:
        raise InputError(f"{words} has shape {list(values.shape)}", "give factors as rows [N, f]")
    values = values.reshape(len(values), -1)
    return values, names or [f"factor_{k}" for k in range(values.shape[1])]


def _columns(source: Source, names: Sequence[str]) -> np.ndarray:
    """Columns of a table or of an array with names, ``[N, f]``."""
    if not source.is_table:
        return np.asarray(source.x)[:, [(source.names or ()).index(name) for name in names]]
    found = np.empty((len(source.x), len(names)), dtype=object)
    for j, name in enumerate(names):
        found[:, j] = source.x.column(name).to_pylist()
    return found
