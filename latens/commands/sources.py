"""The data of runs: what a run was fitted to, found again, and other data brought into its columns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latens import fitting
from latens import run as runs
from latens.data import Source, columns_of, read
from latens.errors import InputError, concerning
from latens.estimator import VAE
from latens.run import Run
from latens.schema import Schema


def origin_of(record: dict[str, Any], folder: Path) -> Source:
    """The data a run was fitted to, read again and checked against its fingerprint."""
    info = record["data"]
    origin = info.get("origin")
    if not origin or origin == "memory":
        raise InputError(f"{folder} was fitted to data in memory: name the data")
    with concerning(f"the data of {folder} cannot be read again"):
        source = read(origin, labels=info.get("labels"), drop=info.get("drop") or ())
    if source.fingerprint != info.get("fingerprint"):
        raise InputError(f"{origin} has changed since {folder} was fitted to it: name the data, or fit again")
    return source


def held_out(run: Run, source: Source, validation: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows that were not trained on, with their labels; all rows where none were held out."""
    if isinstance(validation, np.ndarray):
        return validation, None
    _, rows = fitting.split_rows(len(source.x), validation, run.settings.seed)
    if not len(rows):
        return source.x, source.labels
    return source.x[rows.numpy()], None if source.labels is None else source.labels[rows.numpy()]


def held_out_of(run: Run, folder: str) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None, str]:
    """(rows, labels, names of labels, where they are from) that a finished run was not trained on, or all."""
    source = origin_of(runs.read_record(folder), Path(folder))
    origin = run.data.get("validation_origin")
    if origin:
        other = read_for(run, origin)
        return aligned(other, schema_of(run)), other.labels, other.label_names, origin
    x, labels = held_out(run, source, run.data.get("validation", "auto"))
    where = "held-out rows of the data it was fitted to" if x is not source.x else "the rows it was fitted to"
    return x, labels, source.label_names, where


def schema_of(run: Run) -> Schema:
    """The schema of a run made from data; ``InputError`` where it has none."""
    if run.schema is None:
        raise InputError("this run has no schema (parts of your own on a tree of data): use its model directly")
    return run.schema


def tensor(run: Run, x: np.ndarray) -> torch.Tensor:
    """Rows in the model's layout."""
    return torch.from_numpy(np.array(schema_of(run).to_model(x)))


def aligned(source: Source, schema: Schema) -> np.ndarray:
    """The source's array with its columns in the schema's order; ``InputError`` names what does not fit."""
    x, wanted, given = source.x, schema.names, source.names
    if wanted is not None and given is not None and given != wanted:
        missing = [name for name in wanted if name not in given]
        if missing:
            raise InputError(
                f"{source.origin} has no column {missing[0]!r}, which the model was fitted to (it has {_some(given)})"
            )
        x = x[:, [given.index(name) for name in wanted]]
    with concerning(source.origin):
        schema.check(x)
        if not len(x):
            raise InputError("the data has no rows; give at least one")
    return x


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def read_for(run: Run, data: str, labels: str | None = None) -> Source:
    """Data for a run: of a table only the columns that it was fitted to, so that others may hold anything."""
    names, wanted = columns_of(data), schema_of(run).names
    if wanted is not None and set(wanted) <= set(names):
        spare = set(names) - set(wanted)
    else:
        spare = {*(run.data.get("drop") or ()), str(run.data.get("labels"))}
    return read(data, labels=labels, drop=[name for name in names if name in spare and name not in ("", labels)])


def data_for(vae: VAE, data: str) -> np.ndarray:
    """Data for a loaded run, its columns in the run's order."""
    return aligned(read_for(vae.run_, data), schema_of(vae.run_))


def absolute(path: str | None) -> str | None:
    """A file's absolute path, so that a run can be continued from another folder; other words as they are."""
    return os.path.abspath(path) if path is not None and os.path.isfile(path) else path
