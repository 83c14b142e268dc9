"""``latens fit``: once, once a seed, and continued."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from latens import evaluation, fitting
from latens import report as reporting
from latens import run as runs
from latens.atomic import write_text
from latens.commands.answer import Answer, over_seeds, table
from latens.commands.sources import absolute, aligned, held_out, origin_of, tensor
from latens.data import Source, infer, read
from latens.errors import InputError, Stopped, concerning
from latens.recipes import Recipe
from latens.run import Run
from latens.schema import Schema
from latens.training import Bar, Interrupted, Progress, Settings
from latens.training.checkpoint import sealed, unseal
from latens.training.processes import is_first, launched


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

    def to_json(self) -> dict[str, Any]:
        files = {name: absolute(getattr(self, name)) for name in ("data", "validation", "labels", "weights")}
        start = None if self.start is None else str(Path(self.start).absolute())
        return vars(self) | files | {"drop": list(self.drop), "start": start}


# Once


def fit(asked: Fit, *, seeds: int = 1, quiet: bool = False, extra: dict[str, Any] | None = None) -> Answer:
    """Fit once, or once a seed with mean and spread."""
    if seeds > 1 and launched() > 1:
        raise InputError("several processes fit one seed at a time: leave --seeds away, or start one process")
    if launched() == 1:  # several learn it together, when the main process takes the folder
        runs.require_free(asked.out)
    source = read(asked.data, labels=asked.labels, drop=asked.drop)
    if seeds > 1:
        return _fit_seeds(asked, source, seeds, quiet)
    return _fit(asked, source, quiet, extra or {})


def _fit(asked: Fit, source: Source, quiet: bool, extra: dict[str, Any]) -> Answer:
    with concerning(source.origin):
        schema = infer(source.x, source.names)
    validation, held_origin = _validation(asked, schema)
    data = {
        "origin": source.origin, "fingerprint": source.fingerprint, "rows": len(source.x),
        "labels": absolute(asked.labels), "drop": list(asked.drop), "weights": absolute(asked.weights),
        "validation_origin": held_origin,
    } | extra  # fmt: skip
    run, tensors = fitting.prepare(
        source.x, schema, Recipe(asked.recipe), Settings.from_json(asked.settings), options=asked.options,
        weight=_weights(asked.weights, len(source.x)), validation=validation, data=data,
    )  # fmt: skip
    if asked.start is not None:
        fitting.start_from(run, asked.start)
    fitting.open_folder(run, asked.out)
    if not quiet:
        _introduce(run, source)
    return _finish(_execute(run, tensors, quiet), source, validation)


def _validation(asked: Fit, schema: Schema) -> tuple[float | str | np.ndarray, str | None]:
    if asked.validation == "auto":
        return "auto", None
    try:
        return float(asked.validation), None
    except ValueError:
        held = read(asked.validation, drop=[*asked.drop, *_label_column(asked)])
        return aligned(held, schema), held.origin


def _label_column(asked: Fit) -> list[str]:
    """The column that labels were taken from, which other tables of the same columns hold too."""
    is_table = str(asked.data).lower().removesuffix(".gz").endswith((".csv", ".tsv"))
    return [asked.labels] if asked.labels and is_table and not Path(asked.labels).exists() else []


def _weights(path: str | None, rows: int) -> np.ndarray | None:
    if path is None:
        return None
    weight = np.asarray(read(path).x, dtype=np.float64)
    with concerning(path):
        fitting.check_weights(weight.reshape(-1) if weight.shape == (rows, 1) else weight, rows)
    return weight.reshape(-1)


def _introduce(run: Run, source: Source) -> None:
    if not is_first():
        return
    assert run.schema is not None
    print(f"data: {source.origin}, {len(source.x):,} rows; {run.schema.describe().splitlines()[0]}", file=sys.stderr)
    for sentence in run.choices.values():
        print(f"  {sentence}", file=sys.stderr)
    for sentence in run.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    sys.stderr.flush()


class Quiet(Progress):
    """No bar; notes only."""

    def note(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)


def _execute(run: Run, tensors: dict[str, Any], quiet: bool) -> Run:
    assert run.folder is not None
    line = runs.resume_line(run.folder, run.name)
    try:
        watched = (Quiet() if quiet else Bar(run.name)) if is_first() else Progress()
        return fitting.execute(run, **tensors, progress=watched)
    except Interrupted:
        raise Stopped(f"interrupted; everything up to this step is kept: continue with `{line}`") from None
    except InputError as error:
        if not runs.checkpoints(run.folder).exists():
            raise
        raise InputError(f"{str(error).rstrip('.')}; when that is solved, continue with `{line}`") from error


def _finish(run: Run, source: Source, validation: Any) -> Answer:
    """Evaluate on held-out rows, write the report, and say what came out: the main process does."""
    if not is_first():
        return Answer("")
    held, labels = held_out(run, source, validation)
    figures = evaluation.evaluate(run.model.cpu(), tensor(run, held), k=50, nll_rows=500, beta=run.beta)
    assert run.folder is not None
    report = run.folder / "report.html"
    reporting.write(report, run, held, labels=labels, label_names=source.label_names, evaluation=figures)
    where = "held-out rows" if held is not source.x else "training rows"
    text = "\n".join([
        f"{run.folder}: {run.name}, {run.parameters:,} parameters, served: {run.served}",
        *table(figures.lines(), f"on {where}"), *(f"warning: {w}" for w in figures.warnings), f"report: {report}",
    ])  # fmt: skip
    return Answer(text, {
        "run": str(run.folder), "report": str(report), "choices": run.choices, "served": run.served,
        "parameters": run.parameters, "evaluated_on": where, **figures.to_json(),
        "warnings": run.warnings + figures.warnings,
    })  # fmt: skip


# Several seeds


def _fit_seeds(asked: Fit, source: Source, seeds: int, quiet: bool) -> Answer:
    """One run a seed in seed-0, seed-1, … of the folder."""
    folder = Path(asked.out)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made: {error.strerror}") from None
    try:
        record = {"format": runs.FORMAT, "asked": asked.to_json(), "seeds": seeds}
        write_text(folder / "seeds.json", sealed(record))
        return _each_seed(folder, asked, source, seeds, None, quiet)
    except BaseException:
        if not any(folder.glob("seed-*/run.json")):
            (folder / "seeds.json").unlink(missing_ok=True)
            for path in missing:
                with suppress(OSError):
                    path.rmdir()
        raise


def _each_seed(folder: Path, asked: Fit, source: Source, seeds: int, own: str | None, quiet: bool) -> Answer:
    """Fit, continue or take up the run of every seed."""
    first, answers = int(asked.settings.get("seed", 0)), []
    for number, part in enumerate(parts(folder, seeds)):
        try:
            if (part / "run.json").exists():
                answers.append(resume(str(part), own=own, quiet=quiet))
            else:
                again = replace(asked, out=str(part), settings=asked.settings | {"seed": first + number})
                answers.append(_fit(again, source, quiet, {}))
        except Stopped as error:
            line = runs.resume_line(folder, asked.recipe)
            raise Stopped(f"interrupted in seed {first + number}: continue with `{line}`") from error
    return over_seeds(folder, answers)


def parts(folder: Path, seeds: int | None = None) -> list[Path]:
    """The folders of the seeds' runs."""
    seeds = _seeds_record(folder)["seeds"] if seeds is None else seeds
    return [folder / f"seed-{number}" for number in range(int(seeds))]


def _seeds_record(folder: Path) -> dict[str, Any]:
    record = unseal(folder / "seeds.json", "there are no runs to continue")
    runs.check_format(record, folder)
    return record


# Continued


def resume(folder: str, *, own: str | None = None, quiet: bool = False) -> Answer:
    """Continue a run, or every unfinished run of several seeds."""
    path = Path(folder)
    if folder and runs.has_seeds(path):
        record = _seeds_record(path)
        asked = Fit(**record["asked"] | {"drop": tuple(record["asked"]["drop"])})
        if ":" in asked.recipe and own != asked.recipe:
            raise InputError(
                f"{path} was made by your own recipe, and code is never executed because a file names it: "
                f"say --recipe {asked.recipe}"
            )
        source = read(asked.data, labels=asked.labels, drop=asked.drop)
        return _each_seed(path, asked, source, int(record["seeds"]), own, quiet)
    record = runs.read_record(path)
    source = origin_of(record, path)
    info = record["data"]
    validation: Any = info.get("validation", "auto")
    if info.get("validation_origin") and record["schema"]:
        asked = Fit(
            info["origin"], folder, validation=info["validation_origin"], labels=info.get("labels"),
            drop=tuple(info.get("drop", ())),
        )  # fmt: skip
        validation, _ = _validation(asked, Schema.from_json(record["schema"]))
    if record["status"] == "finished":
        with runs.at_work(path):
            run = runs.load(path, recipe=own)
    else:
        weight = _weights(info.get("weights"), len(source.x))
        with concerning(path):
            run, tensors = fitting.reopen(path, record, source.x, validation, recipe=own, weight=weight)
        if not quiet:
            _introduce(run, source)
        run = _execute(run, tensors, quiet)
    return _finish(run, source, validation)
