"""The blocks of ``latens evaluate`` on codes and samples: known factors, labels, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latens.cli.commands.answer import aligned, table
from latens.cli.commands.inputs import origin_of, split_of, trained_on
from latens.data import Source, columns_of, read
from latens.data.rows import Rows
from latens.data.splits import split_rows
from latens.data.streams.sources import Stream
from latens.densities import Fitted
from latens.errors import InputError, nearest
from latens.evaluation import Disentanglement, ImageEvaluation, LabelEvaluation
from latens.models import Generator
from latens.runs import measures
from latens.runs import record as runs
from latens.runs.record import Run
from latens.schema.arrow import listed


class Measured:
    """The scores to compute in addition to the bound. They are checked at construction; :meth:`scores` computes them.

    Args:
        run: the run.
        folder: its folder.
        data: the named data, or None.
        rows: the rows on which the run is evaluated.
        seed: the seed of all random numbers.
        factors: the words of ``--factors``, or None.
        reading: options for reading the data.
        labels: whether codes are scored against labels, if labels are known.
        asked: whether the user asked for labels; unusable labels are then an error.
        samples: whether samples of an array are compared with real rows.
    """

    def __init__(
        self, run: Run, folder: str, data: str | None, rows: Rows, *, seed: int, factors: str | None = None,
        reading: Mapping[str, Any] | None = None, labels: bool = True, asked: bool = False, samples: bool = False,
    ) -> None:  # fmt: skip
        self.run, self.rows, self.seed, self.asked = run, rows, seed, asked
        self.known = None if factors is None else factors_for(run, folder, data, factors, reading)
        self.classes = measures.classes_of(rows) if labels and not isinstance(run.model, Generator) else None
        if samples:
            measures.require_array(run)
        self.train = trained_on(run, folder) if samples else None

    def scores(self, density: Fitted | None = None) -> dict[str, Any]:
        """{name: scores}. Codes of samples come from ``density`` if it is given, else from the prior."""
        found: dict[str, Any] = {}
        if self.known is not None:
            found["disentanglement"] = measures.disentanglement(self.run, self.rows, *self.known, seed=self.seed)
        if self.classes is not None and (labels := self._labels(self.classes)) is not None:
            found["labels"] = labels
        if self.train is not None:
            found["images"] = measures.images(self.run, self.train, self.rows, seed=self.seed, density=density)
        return found

    def _labels(self, classes: np.ndarray) -> LabelEvaluation | None:
        try:
            return measures.labels(self.run, self.rows, classes, seed=self.seed)
        except InputError:
            if self.asked:
                raise
            return None


def blocks_of(scores: Mapping[str, Any]) -> list[str]:
    """The scores as lines, with an empty line before each block."""
    lines: list[str] = []
    if "disentanglement" in scores:
        found = scores["disentanglement"]
        lines += ["", *table(found.lines(), "codes and known factors (1 is best)"), *_importance(found)]
    if "labels" in scores:
        lines += ["", *_of_labels(scores["labels"])]
    if "images" in scores:
        lines += ["", *_of_images(scores["images"])]
    return lines


def _importance(found: Disentanglement) -> list[str]:
    """The importance matrix of DCI, one line per code."""
    head = ["importance", *found.factors]
    rows = [[f"code {j}", *(f"{share:.2f}" for share in row)] for j, row in enumerate(found.dci.importance)]
    return [f"  {line}" for line in aligned([head, *rows], 1)]


def _of_labels(found: LabelEvaluation) -> list[str]:
    title = (
        f"labels: {found.classes} classes, learned from {found.fitted_rows:,} of these rows, scored on {found.rows:,} "
        f"(the most common class: {found.most_common:.1%})"
    )
    return [title, *(f"  {line}" for line in aligned(found.table(), 1))]


def _of_images(found: ImageEvaluation) -> list[str]:
    title = (
        f"samples compared with held-out rows, {found.rows:,} on each side (real: other held-out rows, the best "
        "possible)"
    )
    rows = [f"  {line}" for line in aligned(found.table(), 2)]
    return [title, *rows, *table(found.lines(), "details"), *(f"  note: {note}" for note in found.notes)]


# Known factors: columns of the data that the model does not read, or a separate file


def factors_for(
    run: Run, folder: str, data: str | None, words: str, reading: Mapping[str, Any] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(the factors ``[N, f]``, numbers or words, of the rows on which a run is evaluated; their names).

    Args:
        run: the run.
        folder: its folder.
        data: the named data; None for the run's own held-out rows.
        words: names of columns, separated by commas, or a file with the factors of each row of the data.
        reading: options for reading the data.

    Raises:
        InputError: a column does not exist or is read by the model, or a file has a wrong number of rows.
    """
    origin, picked, count = (data, None, None) if data is not None else _own(run, folder)
    values, names = _of_file(words) if _is_file(words) else _of_columns(run, origin, words, run.reading_of(reading))
    if count is not None and len(values) != count:
        wrong = f"{words} has {len(values):,} rows of factors, but {origin} has {count:,} rows"
        raise InputError(wrong, "give one row of factors for each row")
    return values if picked is None else values[picked], tuple(names)


def _own(run: Run, folder: str) -> tuple[str, np.ndarray | None, int | None]:
    """(where the held-out rows of a run come from; their row numbers there, or None for all rows; the number of rows
    there)."""
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
    """Raise ``InputError`` unless each name is a column of the data that the model does not read."""
    for name in names:
        if name not in there:
            columns = f"it has {listed(there)}" if there else "it has no named columns: give a file of factors"
            raise InputError(f"--factors: {origin} has no column {name!r}{nearest(name, list(there))}", columns)
        if name in (run.schema.names or () if run.schema is not None else ()):
            raise InputError(
                f"--factors {name}: the model reads this column", f"fit with --drop {name!r}, or name another column"
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
    """(factors ``[N, f]``, their names) from a file."""
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
    """Columns of a table, or of an array with names, ``[N, f]``."""
    if not source.is_table:
        return np.asarray(source.x)[:, [(source.names or ()).index(name) for name in names]]
    found = np.empty((len(source.x), len(names)), dtype=object)
    for j, name in enumerate(names):
        found[:, j] = source.x.column(name).to_pylist()
    return found
