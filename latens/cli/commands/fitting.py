"""``latens fit``: a request, and a single run, new or continued. ``latens schema``: what latens infers of the data."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from latens import evaluation
from latens import report as reporting
from latens.cli.commands.answer import Answer, table
from latens.cli.commands.inputs import (
    AnyRows,
    AnySource,
    absolute,
    again,
    blocks_of,
    held_out,
    in_memory,
    reading,
    reading_bar,
    rows_for,
    split_of,
)
from latens.data import Source, columns_of, read
from latens.data.rows import LABEL, Asked, Rows, known_columns, numbers_of, rows_of
from latens.data.sources import check_reading
from latens.data.splits import Split
from latens.data.streams.sources import IN_MEMORY, SHARE, Stream, is_large, unpacked
from latens.data.streams.survey import survey
from latens.data.tables.files import bytes_of_text
from latens.data.tables.frames import ArrowBack, recorded
from latens.data.tables.types import with_index
from latens.errors import FitError, InputError, Stopped, concerning, printable
from latens.machine.atomic import terminable, writable, write_text
from latens.machine.folder import Folder
from latens.machine.launcher import is_first, was_restarted
from latens.machine.memory import free_memory
from latens.recipes import Recipe, is_own
from latens.runs import fitting, scoring
from latens.runs import record as runs
from latens.runs.record import Run
from latens.schema import Table
from latens.schema.arrow import listed
from latens.training import Bar, Interrupted, Progress, Settings, Tracker
from latens.training.checkpoint import dumps, loads
from latens.training.processes import LostProcess
from latens.training.tracking import require_tracker

_LISTS = ("drop", "condition", "rules")


@dataclass(frozen=True)
class Fit:
    """The data and options of ``latens fit``."""

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
    track: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The request in JSON's types, with absolute paths."""
        files = {name: absolute(getattr(self, name)) for name in ("data", "validation", "labels", "weights")}
        start = None if self.start is None else str(Path(self.start).absolute())
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return vars(self) | files | lists | {"start": start}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Fit:
        """The request that :meth:`to_json` wrote; ``TypeError`` or ``ValueError`` if the fields are not valid."""
        for name, value in fields.items():
            kind = cls.__annotations__.get(name, "none").partition("[")[0]
            if type(value).__name__ not in (*kind.replace("None", "NoneType").split(" | "), "list" * (kind == "tuple")):
                raise ValueError(f"{name} is {value!s:.40}")
        tuples = {name: tuple(fields.get(name, ())) for name in _LISTS}
        return cls(**fields | tuples)

    @property
    def asked(self) -> Asked:
        """What the user stated about the columns."""
        formats = self.reading.get("formats") or {}
        return Asked(self.columns, self.condition, self.kind, self.layout, formats, self.rules)

    def read(self) -> AnySource:
        """The data, read as a stream if they are large or the user passed ``--stream``."""
        check_reading(self.reading, [self.data, *([self.validation] if os.path.exists(self.validation) else [])])
        in_memory = [name for name in ("labels", "weights", "split") if getattr(self, name) is not None]
        if not self.stream and not is_large(self.data, 1.0 if in_memory else SHARE):
            return read(self.data, labels=self.labels, drop=self.drop, reading=self.reading)
        for name in in_memory:
            raise InputError(f"{self.data} is read as a stream, which takes no --{name}", f"omit --{name}")
        try:
            stream = blocks_of(self.data, self.drop, self.reading)
        except InputError:
            if self.stream or not bytes_of_text(self.data):
                raise
            return read(self.data, labels=self.labels, drop=self.drop, reading=self.reading)
        if not self.stream and "://" not in self.data:
            needed, free = (f"{size / 2**30:,.1f} GiB" for size in (IN_MEMORY * unpacked(self.data), free_memory()))
            stream.notes += (
                f"the data are read as a stream: a fit in memory may take {needed}, and {free} of memory are free",
            )
        return stream

    def rows(self, source: AnySource, like: AnyRows | None = None) -> AnyRows:
        """The rows of the data, with the schema inferred from them or, if it is given, the schema of ``like``."""
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

    def _require_labels_apart(self, source: AnySource) -> None:
        """Raise ``InputError`` if a column of labels is also to be modelled, or is a condition."""
        if self.labels is None or not isinstance(source, Source) or not source.is_table:
            return
        for option, names in (("--condition", self.condition), ("--column", self.columns)):
            if self.labels in names and self.labels not in source.x.column_names:
                raise InputError(
                    f"--labels {self.labels} takes the column out of the table, so {option} cannot use it",
                    "omit --labels",
                )
        if LABEL in self.condition and LABEL not in source.x.column_names:
            raise InputError(
                f"the condition {LABEL!r} is for arrays and images",
                "for a table pass --condition COLUMN, and omit --labels",
            )

    @property
    def fraction(self) -> float | str:
        """The share of the rows that is held out, or "auto"; 0 if other data are held out."""
        try:
            return "auto" if self.validation == "auto" else float(self.validation)
        except ValueError:
            return 0.0


# From words to a request


def kinds_asked(words: list[str] | None, file: str | None) -> dict[str, str]:
    """{column: kind} of a schema file, overridden by "NAME=KIND" words. Names may contain an equals sign."""
    found = {} if file is None else _of_file(file)
    named = set()
    for word in words or []:
        match = re.fullmatch(r"(.+)=([a-z_]+(:.*)?)", word, re.DOTALL)
        if not match:
            raise InputError(f"--column must be NAME=KIND, for example price=positive, got {word!r}")
        if match[1] in named:
            raise InputError(f"--column names {match[1]!r} twice", "pass it once")
        named.add(match[1])
        found[match[1]] = match[2]
    return found


def _of_file(file: str) -> dict[str, str]:
    try:
        values = json.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror})", "pass a file that `latens schema` wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON ({error})", f"write it with `latens schema DATA --out {file}`") from None
    good = isinstance(values, dict) and all(isinstance(kind, str) for kind in values.values())
    if not good:
        raise InputError(f'{file} must hold an object of columns and kinds, for example {{"price": "positive"}}')
    return values


def asked(data: str, out: str, about: dict[str, Any], words: dict[str, Any], **more: Any) -> Fit:
    """The request of a command line, from options ``about`` the data and ``words`` for reading the data."""
    if more.get("track") is not None:
        require_tracker(more["track"])
    kinds = kinds_asked(about["column"], about.get("schema"))
    lists = {"drop": about["drop"], "condition": about["condition"], "rules": about["rule"]}
    more |= {name: tuple(values or ()) for name, values in lists.items()}
    more |= {name: about[name] for name in ("validation", "labels", "split", "kind", "layout") if name in about}
    return Fit(data, out, columns=kinds, reading=reading(words, kinds), **more)


def schema(data: str, *, about: dict[str, Any], reading: dict[str, Any], out: str | None = None) -> Answer:
    """Show the schema that ``latens fit`` would use; with ``out``, write it to a file that the user can edit."""
    if out is not None:
        writable(out)
    fit = asked(data, "", about, reading)
    source = fit.read()
    rows = fit.rows(source)
    found = rows.schema
    notes = list(source.notes) if isinstance(source, Source) else []
    if isinstance(found, Table):
        notes += [field.remark for field in found.fields if field.remark]
    text = "\n".join([f"{source.origin}, {len(rows):,} rows", found.describe(), *(f"note: {note}" for note in notes)])
    if out is not None:
        if not isinstance(found, Table):
            raise InputError(f"{data} is an array, which has no columns and hence no kinds to write", "omit --out")
        write_text(out, json.dumps({f.name: _spec(f) for f in found.fields}, indent=1) + "\n")
        text += f"\nwrote {out}"
    return Answer(text, {"data": source.origin, "rows": len(rows), "schema": found.to_json(), "notes": notes})


def _spec(field: Any) -> str:
    """The KIND in "--column NAME=KIND" that reproduces the column as it is."""
    if field.kind == "bounded":
        return f"bounded:{field.low!r}:{field.high!r}"
    if field.kind in ("identifier", "text", "missing"):
        return "drop"
    if field.kind == "ordered":
        return "ordered:" + ",".join(str(level) for level in field.levels)
    return field.family if field.family and field.family != "ordinal" else field.kind


# A single fit


@dataclass
class Ready:
    """A run that is ready for its next step, its training and held-out rows (None once it has finished), and how rows
    are held out."""

    run: Run
    parts: fitting.Parts | None
    validation: Any
    split: Split | None


def ready(asked: Fit, source: AnySource, rows: AnyRows, extra: dict[str, Any]) -> Ready:
    """A new run, which has no folder yet."""
    validation, held_origin = _validation(asked, rows)
    split = split_of(source, asked.split, asked.labels)
    if split is not None and held_origin:
        raise InputError("--split chooses rows to hold out, and --validation names other data", "omit one of them")
    data = {
        "origin": source.origin, "fingerprint": source.fingerprint, "rows": len(rows),
        "labels": absolute(asked.labels), "drop": list(asked.drop), "weights": absolute(asked.weights),
        "validation_origin": held_origin, "split": asked.split, "reading": asked.reading,
    } | ({} if asked.track is None else {"track": asked.track}) | extra  # fmt: skip
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


@dataclass(frozen=True)
class How:
    """How fits are made. ``own`` is the user's own recipe, for a continued run; with ``quiet`` there are no progress
    bars; ``report`` says whether a report is written; ``k`` is the number of draws of the NLL."""

    own: str | None = None
    quiet: bool = False
    report: bool = True
    k: int = 50


def fit_one(asked: Fit, source: AnySource, rows: AnyRows, how: How, extra: dict[str, Any] | None = None) -> Answer:
    """Train and evaluate a new run."""
    made = ready(asked, source, rows, extra or {})
    if was_restarted() and _is_begun(made.run, asked.out):
        return resume_one(asked.out, replace(how, own=asked.recipe if is_own(asked.recipe) else None))
    fitting.open_folder(made.run, asked.out)
    return finish(_executed(made, rows, how), rows, how)


def _is_begun(run: Run, folder: str) -> bool:
    """Whether the folder holds this same run, begun before: with the same recipe, options, data and settings."""
    if not (Path(folder) / "run.json").exists():
        return False
    found, wanted = runs.read_record(Path(folder)), loads(dumps(run.record()))
    return all(found[name] == wanted[name] for name in ("recipe", "data", "schema", "training"))


def _validation(asked: Fit, rows: AnyRows) -> tuple[float | str | Rows, str | None]:
    if asked.validation == "auto":
        return "auto", None
    try:
        return float(asked.validation), None
    except ValueError:
        known = known_columns(rows.schema)
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
    """The numbers in a file of weights, ``[N]`` or ``[N, …]`` float64."""
    if isinstance(found, np.ndarray):
        return found.astype(np.float64)
    if not hasattr(found, "column_names"):
        raise InputError("the weights are not a list of numbers", "give one number per row, as .npy or .csv")
    if found.num_columns != 1:
        raise InputError(
            f"the file of weights has {found.num_columns} columns ({listed(found.column_names)})",
            "give a file with one column, the weight of each row",
        )
    numbers = numbers_of(found.column(0))
    if numbers is None:
        raise InputError("the weights are texts or dates", "give one number per row")
    return numbers


def introduce(run: Run, rows: AnyRows) -> None:
    """Print the data, the choices that latens made, and warnings to stderr; only the main process prints."""
    if not is_first():
        return
    assert run.schema is not None
    lines = run.schema.describe().splitlines()
    data = f"data: {rows.where}, {len(rows):,} rows"
    said = [data, *(f"  {line}" for line in lines)] if isinstance(run.schema, Table) else [f"{data}; {lines[0]}"]
    said += [*(f"  {sentence}" for sentence in run.choices.values()), *(f"warning: {text}" for text in run.warnings)]
    print(printable("\n".join(said)), file=sys.stderr, flush=True)


class Quiet(Progress):
    """Progress without a bar: only notes."""

    def note(self, text: str) -> None:
        """Print a warning to stderr."""
        print(printable(f"warning: {text}"), file=sys.stderr)


def _executed(made: Ready, rows: AnyRows, how: How) -> Ready:
    """The run after its last step."""
    run, parts = made.run, made.parts
    assert run.folder is not None and parts is not None
    if not how.quiet:
        introduce(run, rows)
    with _resumable(run):
        watched = bar(run.name, how) if is_first() else Progress()
        track = run.data.get("track")
        followers = [] if track is None else [Tracker(track)]
        return replace(made, run=fitting.execute(run, *parts, progress=watched, callbacks=followers))


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """If the user or bad input stops the block, name the command that continues the run."""
    assert run.folder is not None
    line = runs.resume_line(run.folder, run.name)
    try:
        with terminable():
            yield
    except Interrupted:
        raise Stopped(f"interrupted, every step so far is saved: continue with `{line}`") from None
    except KeyboardInterrupt:
        if not runs.checkpoints(run.folder).exists():
            raise
        how = "all steps are" if run.status == "finished" else "the last checkpoint is"
        raise Stopped(f"interrupted, {how} saved: continue with `{line}`") from None
    except LostProcess as error:
        if not runs.checkpoints(run.folder).exists():
            raise
        raise FitError(f"{error}; the last checkpoint is kept: continue with `{line}`") from error
    except InputError as error:
        if run.status == "finished" or not runs.checkpoints(run.folder).exists():
            raise
        raise InputError(f"{error}; to continue afterwards: `{line}`") from error


def bar(title: str, how: How) -> Progress:
    """The progress display of a fit."""
    return Quiet() if how.quiet else Bar(title)


def finish(made: Ready, rows: AnyRows, how: How) -> Answer:
    """Evaluate on held-out rows, write the report if it was asked for, and return the answer; only in the main
    process."""
    if not is_first():
        return Answer("")
    with _resumable(made.run):
        return _evaluated(made, rows, how)


def _evaluated(made: Ready, rows: AnyRows, how: How) -> Answer:
    run = made.run
    held, rows = held_out(run, rows, made.validation, made.split), in_memory(rows)
    run.model.cpu()
    figures = evaluation.evaluate(run.model, held.inside, held.c, k=how.k, nll_rows=500, beta=run.beta)
    assert run.folder is not None
    if held is not rows:
        scoring.write_calibration(run.folder, scoring.calibrate(run, held))
    page = Folder(run.folder) / "report.html"
    if how.report:
        reporting.write(page, run, held, evaluation=figures)
    where = "held-out rows" if held is not rows else "training rows"
    text = "\n".join([
        f"{run.folder}: {run.name}, {run.parameters:,} parameters, weights: {run.served}",
        *table(figures.lines(), f"on {where}"), *(f"warning: {w}" for w in figures.warnings), f"report: {page}",
    ])  # fmt: skip
    return Answer(text, {
        "run": str(run.folder), "report": str(page) if how.report else None, "choices": run.choices,
        "served": run.served, "parameters": run.parameters, "evaluated_on": where, **figures.to_json(),
        "warnings": run.warnings + figures.warnings,
    })  # fmt: skip


# Continued runs


def resume_one(folder: str, how: How) -> Answer:
    """Continue a run; if it has finished, evaluate it."""
    path = Path(folder)
    record = runs.read_record(path)
    source, rows = again(record, path)
    if record["status"] != "finished":
        return finish(_executed(ready_again(path, record, source, rows, how.own), rows, how), rows, how)
    split, validation = _held_out_of(record, source, rows)
    with runs.at_work(path):
        run = runs.load(path, recipe=how.own)
    return finish(Ready(run, None, validation, split), rows, how)


def _held_out_of(record: dict[str, Any], source: AnySource, rows: AnyRows) -> tuple[Split | None, Any]:
    """The (split, validation) in a run's record."""
    info = record["data"]
    split, validation = split_of(source, info.get("split"), info.get("labels")), info.get("validation", "auto")
    if info.get("validation_origin"):
        asked = Fit(
            info["origin"], "", validation=info["validation_origin"], labels=info.get("labels"),
            reading=info.get("reading") or {},
        )  # fmt: skip
        validation, _ = _validation(asked, rows)
    return split, validation


def ready_again(path: Path, record: dict[str, Any], source: AnySource, rows: AnyRows, own: str | None) -> Ready:
    """An interrupted run, ready to continue."""
    split, validation = _held_out_of(record, source, rows)
    weight = _weights(record["data"].get("weights"), len(rows))
    with concerning(path):
        run, parts = fitting.reopen(path, record, rows, validation, recipe=own, weight=weight, split=split)
    return Ready(run, parts, validation, split)
