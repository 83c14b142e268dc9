"""Many fits to the same data: together where the models allow it, otherwise in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latens import fitting
from latens import run as runs
from latens.commands.answer import Answer
from latens.commands.fitting import Fit, Quiet, Ready, finish, fit_one, introduce, ready, ready_again, resume_one
from latens.data import Source
from latens.data.rows import Rows
from latens.data.streams.rows import Streamed
from latens.data.streams.sources import Stream
from latens.errors import FitError, InputError, Stopped
from latens.training import Bar, Checkpoints, Interrupted, Progress
from latens.training.processes import launched
from latens.training.stacked import NotTogether

MOST = 32  # runs in one batch
FREE = ("seed", "learning_rate", "weight_decay", "kl_warmup", "average", "clip", "skip_norm", "patience", "keep")


def fit_all(
    root: Path, jobs: list[Fit], source: Source | Stream, rows: Rows | Streamed, *, own: str | None, quiet: bool,
    line: str, report: bool = True, k: int = 50,
) -> list[Answer | FitError]:  # fmt: skip
    """Fit, continue or take up every job; one answer each, or the error of a fit that failed by its numbers.

    Joint checkpoints lie in ``root``; ``line`` continues everything.
    """
    done: dict[str, Ready | FitError] = {}
    if not isinstance(source, Stream) and launched() == 1:
        for number, chunk in enumerate(_alike(jobs)):
            done |= _train_together(root, root / f"together-{number}", chunk, source, rows, own, quiet, line)
    answers: list[Answer | FitError] = []
    for job in jobs:
        path, made = Path(job.out), done.pop(job.out, None)
        try:
            if isinstance(made, FitError):
                answers.append(made)
            elif made is not None:
                answers.append(finish(made.run, rows, made.validation, made.split, report=report, k=k))
            elif (path / "run.json").exists():
                answers.append(resume_one(str(path), own=own, quiet=quiet, report=report, k=k))
            else:
                own_rows = job.rows(source, rows) if isinstance(source, Stream) else rows
                answers.append(fit_one(job, source, own_rows, quiet, report=report, k=k))
        except FitError as error:
            answers.append(error)
        except Stopped as error:
            where = path.name if path.parent == root else f"{path.parent.name}/{path.name}"
            raise Stopped(f"interrupted in {where.replace('seed-', 'seed ')}: continue with `{line}`") from error
    return answers


def _alike(jobs: list[Fit]) -> Iterator[list[Fit]]:
    """The jobs whose models may have one structure, at most ``MOST`` at a time: floats may differ, and beta, but for
    a zero, which leaves a term out."""
    groups: dict[str, list[Fit]] = {}
    for job in jobs:
        options = {name: _free(value) if isinstance(value, float) or name == "beta" else value
                   for name, value in job.options.items()}  # fmt: skip
        settings = {name: value for name, value in job.settings.items() if name not in FREE}
        settings["weight_decay"] = _free(job.settings.get("weight_decay", 0))
        key = repr((job.recipe, sorted(options.items()), sorted(settings.items())))
        groups.setdefault(key, []).append(job)
    for group in groups.values():
        for start in range(0, len(group), MOST):
            yield group[start : start + MOST]


def _free(value: Any) -> str:
    return "zero" if value == 0 else "some number"


def _train_together(
    root: Path, folder: Path, chunk: list[Fit], source: Source, rows: Any, own: str | None, quiet: bool, line: str
) -> dict[str, Ready | FitError]:
    """Train those of the chunk that are not finished as one run: {folder: run, or its failure}; {} where they are to be
    trained in turn."""
    store, names = Checkpoints(folder), {str(Path(job.out).relative_to(root)): job for job in chunk}
    if store.exists():
        wanted = store.load()[1].get("names")
        if not isinstance(wanted, list) or not set(wanted) <= names.keys():
            raise InputError(f"{folder} belongs to other runs: remove it, and the runs begin anew")
        taken = {name: names[name] for name in wanted}
    else:
        taken = {name: job for name, job in names.items() if _is_unbegun(Path(job.out))}
    if len(taken) < 2 or not fitting.are_few(rows, len(taken)):
        return {}
    made: list[Ready] = []
    for job in taken.values():
        path = Path(job.out)
        if (path / "run.json").exists():
            made.append(ready_again(path, runs.read_record(path), source, rows, own))
        else:
            made.append(ready(job, source, rows, {}))
        if len(made) == 1 and not fitting.is_small(made[0].run):
            return {}
    progress: Progress = Quiet() if quiet else Bar(f"{made[0].run.name} x {len(made)}")
    try:
        together = fitting.join(
            [(each.run, each.tensors) for each in made], store=store, names=list(taken), progress=progress
        )
    except NotTogether:
        return {}
    try:
        for each, job in zip(made, taken.values(), strict=True):
            if each.run.folder is None:
                fitting.open_folder(each.run, job.out)
    except BaseException:
        for each in made:
            each.run.abandon()
        raise
    if not quiet:
        introduce(made[0].run, rows)
    try:
        fitting.execute_together(together, [each.run for each in made])
    except Interrupted:
        raise Stopped(f"interrupted; everything up to this step is kept: continue with `{line}`") from None
    found: dict[str, Ready | FitError] = {}
    for each, member, job in zip(made, together.members, taken.values(), strict=True):
        if member.failure is not None:
            found[job.out] = member.failure
        elif each.run.status == "finished":
            found[job.out] = each
    return found


def _is_unbegun(path: Path) -> bool:
    """Whether no step of the run in that folder is on disk."""
    return not (path / "run.json").exists() or not (runs.is_finished(path) or runs.checkpoints(path).exists())
