"""Many fits to the same data: together where the models allow it, small ones in several processes, or in turn."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latens.cli import workers
from latens.cli.commands.answer import Answer
from latens.cli.commands.fitting import Fit, Quiet, Ready, finish, fit_one, introduce, ready, ready_again, resume_one
from latens.cli.commands.shares import Others
from latens.data import Source
from latens.data.rows import Rows
from latens.data.streams.sources import Stream
from latens.data.streams.survey import Streamed
from latens.errors import FitError, InputError, Stopped
from latens.runs import fitting
from latens.runs import record as runs
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
    many = Many(str(root), line, own, report, k)
    count = _processes(jobs, source, rows)
    shares = _shares(list(_chunks(root, jobs, -(-len(jobs) // count))), count)
    cores = torch.get_num_threads()
    threads = cores // len(shares)
    tasks = [
        {"many": vars(many), "threads": threads, "share": [(at, [vars(job) for job in part]) for at, part in share]}
        for share in shares[1:]
    ]
    others = Others(tasks, threads, line)
    try:
        with others:
            torch.set_num_threads(threads)
            answers = fit_chunks(many, shares[0], source, rows, quiet) | others.answers()
    finally:
        torch.set_num_threads(cores)
    return [answers[job.out] for job in jobs]


@dataclass(frozen=True)
class Many:
    """What many fits have in common: ``root``, where joint checkpoints lie; ``line``, which continues everything;
    ``own``, the user's recipe; whether a ``report`` is written, and the draws ``k`` of the NLL."""

    root: str
    line: str
    own: str | None
    report: bool
    k: int


Chunk = tuple[str, list[Fit]]  # the folder of the joint checkpoint, and those that may be trained together


def fit_chunks(
    many: Many, chunks: list[Chunk], source: Source | Stream, rows: Rows | Streamed, quiet: bool
) -> dict[str, Answer | FitError]:
    """The answers of all jobs of the chunks, by their folders: trained together where that can be, or in turn."""
    done: dict[str, Ready | FitError] = {}
    if not isinstance(source, Stream) and launched() == 1:
        for folder, jobs in chunks:
            done |= _train_together(many, Path(many.root, folder), jobs, source, rows, quiet)
    return {job.out: _finished(many, job, done.get(job.out), source, rows, quiet) for _, jobs in chunks for job in jobs}


def work_on(task: dict[str, Any]) -> dict[str, Answer | FitError]:
    """A share of :func:`fit_all`, in a process of its own, which reads the data anew."""
    torch.set_num_threads(task["threads"])
    many = Many(**task["many"])
    chunks = [(folder, [Fit.from_json(job) for job in jobs]) for folder, jobs in task["share"]]
    asked = chunks[0][1][0]
    rows = asked.rows(source := asked.read())
    return fit_chunks(many, chunks, source, rows, quiet=True)


def _finished(
    many: Many, job: Fit, made: Ready | FitError | None, source: Source | Stream, rows: Rows | Streamed, quiet: bool
) -> Answer | FitError:
    """The answer of a job that was trained with others (``made``), or is trained, continued or taken up here."""
    path = Path(job.out)
    how: dict[str, Any] = {"report": many.report, "k": many.k}
    try:
        if isinstance(made, FitError):
            return made
        if made is not None:
            return finish(made.run, rows, made.validation, made.split, **how)
        if (path / "run.json").exists():
            return resume_one(str(path), own=many.own, quiet=quiet, **how)
        return fit_one(job, source, job.rows(source, rows) if isinstance(source, Stream) else rows, quiet, **how)
    except FitError as error:
        return error
    except Stopped as error:
        where = path.name if path.parent == Path(many.root) else f"{path.parent.name}/{path.name}"
        said = f"interrupted in {where.replace('seed-', 'seed ')}: continue with `{many.line}`"
        raise Stopped(said) from error


def _processes(jobs: list[Fit], source: Source | Stream, rows: Rows | Streamed) -> int:
    """How many processes share the jobs: several where the models are small and on the processor's cores."""
    count = workers.shared_by(len(jobs), torch.get_num_threads())
    if count == 1 or launched() > 1 or isinstance(rows, Streamed) or not fitting.are_few(rows, len(jobs)):
        return 1
    first = ready(jobs[0], source, rows, {}).run
    return count if fitting.is_small(first) and fitting.is_on_cpu(first) else 1


def _shares(chunks: list[Chunk], count: int) -> list[list[Chunk]]:
    """The chunks in ``count`` shares or fewer, each chunk to the share that has the fewest jobs."""
    shares: list[list[Chunk]] = [[] for _ in range(count)]
    for chunk in sorted(chunks, key=lambda chunk: -len(chunk[1])):
        min(shares, key=lambda share: sum(len(jobs) for _, jobs in share)).append(chunk)
    return [share for share in shares if share]


def _chunks(root: Path, jobs: list[Fit], most: int) -> Iterator[Chunk]:
    """The jobs whose models may have one structure, at most ``MOST`` and ``most`` at a time; those that were begun
    together stay together."""
    left = {str(Path(job.out).relative_to(root)): job for job in jobs}
    for folder in sorted(root.glob("together-*")):
        names = _names_of(folder)
        if not set(names) <= left.keys():
            raise InputError(f"{folder} belongs to other runs: remove it, and the runs begin anew")
        if names:
            yield folder.name, [left.pop(name) for name in names]
    for group in _alike(left.values()):
        for start in range(0, len(group), min(MOST, most)):
            chunk = group[start : start + min(MOST, most)]
            first = str(Path(chunk[0].out).relative_to(root))
            yield f"together-{first.replace(os.sep, '-')}", chunk


def _names_of(folder: Path) -> list[str]:
    """The names of those whose joint checkpoint lies in the folder; none where there is no checkpoint."""
    names = Checkpoints(folder).load()[1].get("names") if Checkpoints(folder).exists() else []
    if not isinstance(names, list):
        raise InputError(f"{folder} belongs to other runs: remove it, and the runs begin anew")
    return names


def _alike(jobs: Iterable[Fit]) -> list[list[Fit]]:
    """Groups of jobs whose models may have one structure: floats may differ, and beta, but for a zero, which leaves a
    term out."""
    groups: dict[str, list[Fit]] = {}
    for job in jobs:
        options = {name: _free(value) if isinstance(value, float) or name == "beta" else value
                   for name, value in job.options.items()}  # fmt: skip
        settings = {name: value for name, value in job.settings.items() if name not in FREE}
        settings["weight_decay"] = _free(job.settings.get("weight_decay", 0))
        key = repr((job.recipe, sorted(options.items()), sorted(settings.items())))
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def _free(value: Any) -> str:
    return "zero" if value == 0 else "some number"


def _train_together(
    many: Many, folder: Path, chunk: list[Fit], source: Source, rows: Any, quiet: bool
) -> dict[str, Ready | FitError]:
    """Train those of the chunk that are not finished as one run: {folder: run, or its failure}; {} where they are to be
    trained in turn."""
    store, names = Checkpoints(folder), {str(Path(job.out).relative_to(many.root)): job for job in chunk}
    taken = {name: job for name, job in names.items() if store.exists() or _is_unbegun(Path(job.out))}
    if len(taken) < 2 or not fitting.are_few(rows, len(taken)):
        return {}
    made: list[Ready] = []
    for job in taken.values():
        path = Path(job.out)
        if (path / "run.json").exists():
            made.append(ready_again(path, runs.read_record(path), source, rows, many.own))
        else:
            made.append(ready(job, source, rows, {}))
        if len(made) == 1 and not fitting.is_small(made[0].run):
            return {}
    progress: Progress = Quiet() if quiet else Bar(f"{made[0].run.name} x {len(made)}")
    try:
        together = fitting.join(
            [(each.run, each.parts) for each in made], store=store, names=list(taken), progress=progress
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
        raise Stopped(f"interrupted; everything up to this step is kept: continue with `{many.line}`") from None
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
