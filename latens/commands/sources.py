"""The data of runs: what a run was fitted to, found again, and other data brought into its columns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from latens import run as runs
from latens.data import Source, columns_of, read
from latens.data.rows import LABEL, Rows, rows_like
from latens.data.splits import Split, split_rows
from latens.errors import InputError, concerning
from latens.outputs import schema_of
from latens.run import Run
from latens.schema import AnySchema, Table


def origin_of(record: dict[str, Any], folder: Path) -> Source:
    """The data a run was fitted to, read again and checked against its fingerprint."""
    info = record["data"]
    origin = info.get("origin")
    if not origin or origin == "memory":
        raise InputError(f"{folder} was fitted to data in memory: name the data")
    with concerning(f"the data of {folder} cannot be read again"):
        source = read(origin, labels=info.get("labels"), drop=info.get("drop") or (), reading=info.get("reading"))
    if source.fingerprint != info.get("fingerprint"):
        raise InputError(f"{origin} has changed since {folder} was fitted to it: name the data, or fit again")
    return source


def rows_for(source: Source, schema: AnySchema, given: Table | None) -> Rows:
    """The source's rows in the columns of a schema; ``InputError`` names what does not fit."""
    with concerning(source.origin):
        return rows_like(
            source.x, schema, given, names=source.names, labels=source.labels, label_names=source.label_names,
            where=source.origin,
        )  # fmt: skip


def split_of(source: Source, asked: str | None) -> Split | None:
    """The split that "group=COLUMN", "time=COLUMN" or "stratified=COLUMN" names."""
    if asked is None:
        return None
    kind, equals, name = asked.partition("=")
    if not equals or not name:
        raise InputError(f"--split must be group=COLUMN, time=COLUMN or stratified=COLUMN, got {asked!r}.")
    if source.is_table and name in source.x.column_names:
        return Split.of(kind, source.x.column(name), name)
    if name == LABEL and source.labels is not None:
        return Split.of(kind, np.asarray(source.labels), name)
    there = list(source.x.column_names) if source.is_table else [LABEL] * (source.labels is not None)
    raise InputError(f"--split {asked}: {source.origin} has no column {name!r}; it has: {_some(there) or 'none'}.")


def held_out(run: Run, rows: Rows, validation: Any, split: Split | None = None) -> Rows:
    """The rows that were not trained on; all rows where none were held out."""
    if isinstance(validation, Rows):
        return validation
    _, numbers = split_rows(len(rows), validation, run.settings.seed, split)
    return rows.take(numbers.numpy()) if len(numbers) else rows


def held_out_of(run: Run, folder: str) -> tuple[Rows, str]:
    """(rows that a finished run was not trained on, or all, where they are from)."""
    source = origin_of(runs.read_record(folder), Path(folder))
    origin = run.data.get("validation_origin")
    if origin:
        return data_for(run, origin), origin
    rows = rows_for(source, schema_of(run), run.given)
    held = held_out(run, rows, run.data.get("validation", "auto"), split_of(source, run.data.get("split")))
    return held, "held-out rows of the data it was fitted to" if held is not rows else "the rows it was fitted to"


def _some(listed: list[str]) -> str:
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def read_for(run: Run, data: str, labels: str | None = None) -> Source:
    """Data for a run: of a table only the columns that it was fitted to, so that others may hold anything."""
    reading = {k: v for k, v in (run.data.get("reading") or {}).items() if k != "layer"}
    names, schema = columns_of(data, reading), schema_of(run)
    known = {f.name for f in schema.fields} if isinstance(schema, Table) else set(schema.names or ())
    if known and known & set(names):
        spare = set(names) - known
    else:
        spare = {*(run.data.get("drop") or ()), str(run.data.get("labels"))}
    if labels is None and _is_label_column(run, names):
        labels = str(run.data["labels"])
    drop = [name for name in names if name in spare and name not in ("", labels)]
    return read(data, labels=labels, drop=drop, reading=reading)


def _is_label_column(run: Run, names: tuple[str, ...]) -> bool:
    """Whether the model reads labels that stand in a column of the table."""
    return run.given is not None and not isinstance(run.schema, Table) and run.data.get("labels") in names


def data_for(run: Run, data: str, labels: str | None = None) -> Rows:
    """Data for a run, its columns in the run's order."""
    return rows_for(read_for(run, data, labels), schema_of(run), run.given)


def absolute(path: str | None) -> str | None:
    """A file's absolute path, so that a run can be continued from another folder; other words as they are."""
    return os.path.abspath(path) if path is not None and os.path.isfile(path) else path
