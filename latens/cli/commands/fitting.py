"""``latens fit``: one run, begun and continued."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latens import evaluation
from latens import report as reporting
from latens.cli.commands.answer import Answer, table
from latens.cli.commands.sources import absolute, again, held_out, in_memory, reading_bar, rows_for, split_of
from latens.data import Source, columns_of, read
from latens.data.rows import LABEL, Asked, Rows, numbers_of, rows_of
from latens.data.sources import check_reading
from latens.data.splits import Split
from latens.data.streams.sources import Stream, is_large, open_stream
from latens.data.streams.survey import Streamed, survey
from latens.data.tables.frame_backs import ArrowBack
from latens.data.tables.frame_records import recorded
from latens.data.tables.types import with_index
from latens.errors import InputError, Stopped, concerning
from latens.recipes import Recipe
from latens.runs import fitting, scoring
from latens.runs import record as runs
from latens.runs.record import Run
from latens.schema import Table
from latens.schema.cells import listed
from latens.training import Bar, Interrupted, Progress, Settings
from latens.training.processes import is_first

_LISTS = ("drop", "condition", "rules")


@dataclass(frozen=True)
class Fit:
    """What was asked of ``latens fit``."""

    data: str
    out: str
    recipe: str = "vae"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    validation: str = "auto"
    labels: str | None = None
    drop: tuple[str, ...] = ()
    weights: str | None = None
    start: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    condition: tuple[str, ...] = ()
    kind: str = "auto"
    layout: str = "auto"
    split: str | None = None
    reading: dict[str, Any] = field(default_factory=dict)
    stream: bool = False
    rules: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        files = {name: absolute(getattr(self, name)) for name in ("data", "validation", "labels", "weights")}
        start = None if self.start is None else str(Path(self.start).absolute())
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return vars(self) | files | lists | {"start": start}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Fit:
        tuples = {name: tuple(fields.get(name, ())) for name in _LISTS}
        return cls(**fields | tuples)

    @property
    def asked(self) -> Asked:
        formats = self.reading.get("formats") or {}
        return Asked(self.columns, self.condition, self.kind, self.layout, formats, self.rules)

    def read(self) -> Source | Stream:
        """The data; as a stream where that was asked for, or they are large."""
        check_reading(self.reading, [self.data, *([self.validation] if os.path.exists(self.validation) else [])])
        if not self.stream and not is_large(self.data):
            return read(self.data, labels=self.labels, drop=self.drop, reading=self.reading)
        for name in ("labels", "weights", "split"):
            if getattr(self, name) is not None:
                raise InputError(f"{self.data} is read as a stream, which takes no --{name}: leave it away")
        return open_stream(self.data, drop=self.drop, na=self.reading.get("na"))

    def rows(self, source: Source | Stream, like: Rows | Streamed | None = None) -> Rows | Streamed:
        """The rows of the data, with the schema seen in them, or that of ``like``."""
        self._require_labels_apart(source)
        with concerning(source.origin):
            if isinstance(source, Stream):
                schema, given = (None, None) if like is None else (like.schema, like.given)
                with reading_bar(source) as seen:
                    return survey(
                        source, self.asked, validation=self.fraction, seed=int(self.settings.get("seed", 0)),
                        schema=schema, given=given, seen=seen,
                    )  # fmt: skip
            return rows_of(
                source.x, source.names, self.asked, labels=source.labels, label_names=source.label_names,
                where=source.origin, found=source.found,
            )  # fmt: skip

    def _require_labels_apart(self, source: Source | Stream) -> None:
        """``InputError`` where the labels of a table are asked for as a column that is modelled or given."""
        if self.labels is None or not isinstance(source, Source) or not source.is_table:
            return
        for option, names in (("--condition", self.condition), ("--column", self.columns)):
            if self.labels in names and self.labels not in source.x.column_names:
                raise InputError(
                    f"--labels {self.labels} takes the column out of the table, so that {option} finds none: leave "
                    "--labels away"
                )
        if LABEL in self.condition and LABEL not in source.x.column_names:
            raise InputError(
                f"the condition {LABEL!r} is of arrays and images: of a table say --condition COLUMN, without --labels"
            )

    @property
    def fraction(self) -> float | str:
        """What share of the data is held out: "auto", a fraction, and 0 where other data are."""
        try:
            return "auto" if self.validation == "auto" else float(self.validation)
        except ValueError:
            return 0.0


# Once


@dataclass
class Ready:
    """A run before its next step, the rows it trains on, and how others are held out."""

    run: Run
    parts: fitting.Parts
    validation: Any
    split: Split | None


def ready(asked: Fit, source: Source | Stream, rows: Rows | Streamed, extra: dict[str, Any]) -> Ready:
    """A new run, without its folder."""
    validation, held_origin = _validation(asked, rows)
    split = split_of(source, asked.split, asked.labels)
    if split is not None and held_origin:
        raise InputError(
            "--split says which rows to hold out, and --validation names other data; leave one of them out"
        )
    data = {
        "origin": source.origin, "fingerprint": source.fingerprint, "rows": len(rows),
        "labels": absolute(asked.labels), "drop": list(asked.drop), "weights": absolute(asked.weights),
        "validation_origin": held_origin, "split": asked.split, "reading": asked.reading,
    } | extra  # fmt: skip
    if isinstance(source, Stream):
        data["stream"] = source.order.to_json()
    stored = source.arrow if isinstance(source, Stream) else source.found.stored if source.found else None
    if stored is not None and (stored.metadata or any(field.metadata for field in stored)):
        data["frame"] = recorded(ArrowBack(with_index(stored.empty_table(), None, stored).schema))
    run, parts = fitting.prepare(
        rows, Recipe(asked.recipe), Settings.from_json(asked.settings), options=asked.options,
        weight=_weights(asked.weights, len(rows)), validation=validation, split=split, data=data,
    )  # fmt: skip
    run.warnings += [*source.notes, *(validation.notes if isinstance(validation, Rows) else ())]
    if asked.start is not None:
        fitting.start_from(run, asked.start)
    return Ready(run, parts, validation, split)


def fit_one(
    asked: Fit, source: Source | Stream, rows: Rows | Streamed, quiet: bool, extra: dict[str, Any] | None = None, *,
    report: bool = True, k: int = 50,
) -> Answer:  # fmt: skip
    """A new run, trained and evaluated."""
    made = ready(asked, source, rows, extra or {})
    fitting.open_folder(made.run, asked.out)
    if not quiet:
        introduce(made.run, rows)
    return finish(_execute(made.run, made.parts, quiet), rows, made.validation, made.split, report=report, k=k)


def _validation(asked: Fit, rows: Rows | Streamed) -> tuple[float | str | Rows, str | None]:
    if asked.validation == "auto":
        return "auto", None
    try:
        return float(asked.validation), None
    except ValueError:
        known = {f.name for f in rows.schema.fields} if isinstance(rows.schema, Table) else set(rows.schema.names or ())
        names = columns_of(asked.validation, asked.reading)
        labels = asked.labels if asked.labels in names else None
        drop = [name for name in names if known and name and name not in known and name != labels]
        held = read(asked.validation, labels=labels, drop=drop, reading=asked.reading)
        return rows_for(held, rows.schema, rows.given), held.origin


def _weights(path: str | None, rows: int) -> np.ndarray | None:
    if path is None:
        return None
    found = read(path).x
    with concerning(path):
        weight = _numbers_of(found)
        fitting.check_weights(weight.reshape(-1) if weight.shape == (rows, 1) else weight, rows)
    return weight.reshape(-1)


def _numbers_of(found: Any) -> np.ndarray:
    """The numbers of a file of weights, ``[N]`` or ``[N, …]`` float64."""
    if isinstance(found, np.ndarray):
        return found.astype(np.float64)
    if not hasattr(found, "column_names"):
        raise InputError("weights are a column of numbers, one a row: give them as .npy or .csv")
    if found.num_columns != 1:
        raise InputError(
            f"weights are one number a row, and this has {found.num_columns} columns ({listed(found.column_names)}): "
            "give a file with one column"
        )
    numbers = numbers_of(found.column(0))
    if numbers is None:
        raise InputError("weights are numbers, one a row, and these are texts or dates: give numbers")
    return numbers


def introduce(run: Run, rows: Rows | Streamed) -> None:
    if not is_first():
        return
    assert run.schema is not None
    lines = run.schema.describe().splitlines()
    if isinstance(run.schema, Table):
        print(f"data: {rows.where}, {len(rows):,} rows\n" + "\n".join(f"  {line}" for line in lines), file=sys.stderr)
    else:
        print(f"data: {rows.where}, {len(rows):,} rows; {lines[0]}", file=sys.stderr)
    for sentence in run.choices.values():
        print(f"  {sentence}", file=sys.stderr)
    for sentence in run.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    sys.stderr.flush()


class Quiet(Progress):
    """No bar; notes only."""

    def note(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)


def _execute(run: Run, parts: fitting.Parts, quiet: bool) -> Run:
    assert run.folder is not None
    line = runs.resume_line(run.folder, run.name)
    try:
        watched = (Quiet() if quiet else Bar(run.name)) if is_first() else Progress()
        return fitting.execute(run, *parts, progress=watched)
    except Interrupted:
        raise Stopped(f"interrupted; everything up to this step is kept: continue with `{line}`") from None
    except InputError as error:
        if not runs.checkpoints(run.folder).exists():
            raise
        raise InputError(f"{str(error).rstrip('.')}; when that is solved, continue with `{line}`") from error


def finish(
    run: Run, rows: Rows | Streamed, validation: Any, split: Split | None, *, report: bool = True, k: int = 50
) -> Answer:
    """Evaluate on held-out rows (the NLL with ``k`` draws), write the report if asked for, and say what came out: the
    main process does."""
    if not is_first():
        return Answer("")
    held, rows = held_out(run, rows, validation, split), in_memory(rows)
    run.model.cpu()
    figures = evaluation.evaluate(run.model, held.inside, held.c, k=k, nll_rows=500, beta=run.beta)
    assert run.folder is not None
    if held is not rows:
        scoring.write_calibration(run.folder, scoring.calibrate(run, held))
    page = run.folder / "report.html"
    if report:
        reporting.write(page, run, held, evaluation=figures)
    where = "held-out rows" if held is not rows else "training rows"
    text = "\n".join([
        f"{run.folder}: {run.name}, {run.parameters:,} parameters, served: {run.served}",
        *table(figures.lines(), f"on {where}"), *(f"warning: {w}" for w in figures.warnings), f"report: {page}",
    ])  # fmt: skip
    return Answer(text, {
        "run": str(run.folder), "report": str(page) if report else None, "choices": run.choices, "served": run.served,
        "parameters": run.parameters, "evaluated_on": where, **figures.to_json(),
        "warnings": run.warnings + figures.warnings,
    })  # fmt: skip


# Continued


def resume_one(
    folder: str, *, own: str | None = None, quiet: bool = False, report: bool = True, k: int = 50
) -> Answer:
    """Continue a run, or take up what has finished."""
    path = Path(folder)
    record = runs.read_record(path)
    source, rows = again(record, path)
    if record["status"] == "finished":
        split, validation = _held_out_of(record, source, rows)
        with runs.at_work(path):
            run = runs.load(path, recipe=own)
        return finish(run, rows, validation, split, report=report, k=k)
    made = ready_again(path, record, source, rows, own)
    if not quiet:
        introduce(made.run, rows)
    return finish(_execute(made.run, made.parts, quiet), rows, made.validation, made.split, report=report, k=k)


def _held_out_of(record: dict[str, Any], source: Source | Stream, rows: Rows | Streamed) -> tuple[Split | None, Any]:
    """(split, validation) that a run was made with."""
    info = record["data"]
    split, validation = split_of(source, info.get("split"), info.get("labels")), info.get("validation", "auto")
    if info.get("validation_origin"):
        asked = Fit(
            info["origin"], "", validation=info["validation_origin"], labels=info.get("labels"),
            reading=info.get("reading") or {},
        )  # fmt: skip
        validation, _ = _validation(asked, rows)
    return split, validation


def ready_again(
    path: Path, record: dict[str, Any], source: Source | Stream, rows: Rows | Streamed, own: str | None
) -> Ready:
    """An interrupted run, to be continued."""
    split, validation = _held_out_of(record, source, rows)
    weight = _weights(record["data"].get("weights"), len(rows))
    with concerning(path):
        run, parts = fitting.reopen(path, record, rows, validation, recipe=own, weight=weight, split=split)
    return Ready(run, parts, validation, split)
