"""Many fits to the same data, such as one per seed: as one batched run where the models allow it, in several processes
where they are small, otherwise in turn."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from latens.cli import workers
from latens.cli.commands.answer import Answer, over_seeds
from latens.cli.commands.fitting import (
    Fit,
    How,
    Ready,
    bar,
    finish,
    fit_one,
    introduce,
    ready,
    ready_again,
    resume_one,
)
from latens.cli.commands.shares import Others
from latens.cli.commands.sources import AnyRows, AnySource
from latens.data import Source
from latens.data.streams.sources import Stream
from latens.data.streams.survey import Streamed
from latens.errors import FitError, InputError, Stopped
from latens.machine.atomic import write_text
from latens.runs import fitting
from latens.runs import record as runs
from latens.training import Checkpoints, Interrupted
from latens.training.checkpoint import sealed, unseal
from latens.training.processes import launched
from latens.training.stacked import NotTogether

MOST = 32  # runs in one batch
FREE = ("seed", "learning_rate", "weight_decay", "kl_warmup", "average", "clip", "skip_norm", "patience", "keep")


# One fit per seed


def fit(asked: Fit, *, seeds: int = 1, quiet: bool = False, extra: dict[str, Any] | None = None) -> Answer:
    """Fit once, or once per seed, and then answer with mean and spread."""
    if seeds > 1 and launched() > 1:
        raise InputError("several processes fit one seed at a time", "omit --seeds, or start one process")
    if launched() == 1:  # several processes learn it together, when the main one creates the folder
        runs.require_free(asked.out)
    source = asked.read()
    rows = asked.rows(source)
    if seeds == 1:
        return fit_one(asked, source, rows, How(quiet=quiet), extra)
    folder = Path(asked.out)
    with new_folder(folder, "seeds.json", {"asked": asked.to_json(), "seeds": seeds}, "seed-*"):
        return _each_seed(folder, asked, source, rows, seeds, How(quiet=quiet))


@contextmanager
def new_folder(folder: Path, name: str, record: dict[str, Any], places: str) -> Iterator[None]:
    """Create a folder of many runs with ``record``, its request, in the file ``name``.

    Where the block fails before a run has begun in one of the ``places`` (a glob), the folder is removed.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be created ({error.strerror})", "choose another --out") from None
    try:
        write_text(folder / name, sealed({"format": runs.FORMAT} | record))
        yield
    except BaseException:
        if not any(folder.rglob("seed-*/run.json")):
            for path in [*folder.glob(f"{places}/seeds.json"), folder / name]:
                path.unlink(missing_ok=True)
            for path in [*folder.glob(places), *missing]:
                with suppress(OSError):
                    path.rmdir()
        raise


def _each_seed(folder: Path, asked: Fit, source: AnySource, rows: AnyRows, seeds: int, how: How) -> Answer:
    """Fit or continue the run of every seed, and answer with mean and spread."""
    first = int(asked.settings.get("seed", 0))
    jobs = [
        replace(asked, out=str(part), settings=asked.settings | {"seed": first + number})
        for number, part in enumerate(parts(folder, seeds))
    ]
    found = fit_all(Many(str(folder), runs.resume_line(folder, asked.recipe), how), jobs, source, rows)
    answers = [answer for answer in found if isinstance(answer, Answer)]
    failed = [(job.out, error) for job, error in zip(jobs, found, strict=True) if isinstance(error, FitError)]
    if failed:
        out, error = failed[0]
        others = f" ({len(failed) - 1} more seeds failed)" if len(failed) > 1 else ""
        raise FitError(f"{out}: {error}{others}; {len(answers)} of {seeds} seeds are finished") from error
    return over_seeds(folder, answers)


def parts(folder: Path, seeds: int | None = None) -> list[Path]:
    """The run folders of the seeds."""
    if seeds is None:
        seeds = _seeds_record(folder)["seeds"]
    return [folder / f"seed-{number}" for number in range(int(seeds))]


def _seeds_record(folder: Path) -> dict[str, Any]:
    record = unseal(folder / "seeds.json", "there are no runs to continue")
    runs.check_format(record, folder)
    return record


def resume(folder: str, *, own: str | None = None, quiet: bool = False) -> Answer:
    """Continue a run, or all unfinished runs of several seeds."""
    path, how = Path(folder), How(own, quiet)
    if folder and runs.has_seeds(path):
        record = _seeds_record(path)
        asked = asked_again(record, path, own)
        source = asked.read()
        rows = asked.rows(source)
        return _each_seed(path, asked, source, rows, int(record["seeds"]), how)
    return resume_one(folder, how)


def asked_again(record: dict[str, Any], path: Path, own: str | None) -> Fit:
    """The request that made the runs in a folder; a recipe of the user's must be named again (``own``)."""
    runs.check_format(record, path)
    asked = Fit.from_json(record["asked"])
    if ":" in asked.recipe and own != asked.recipe:
        raise InputError(
            f"{path} was fitted with your own recipe, and latens never runs code because a file names it",
            f"pass --recipe {asked.recipe}",
        )
    return asked


# Many fits


Chunk = tuple[str, list[Fit]]  # (folder of the joint checkpoint, fits that may be trained together)


@dataclass(frozen=True)
class Many:
    """What many fits share: ``root``, the folder of joint checkpoints; ``line``, the command that continues everything;
    and how they are made."""

    root: str
    line: str
    how: How


def fit_all(many: Many, jobs: list[Fit], source: AnySource, rows: AnyRows) -> list[Answer | FitError]:
    """Fit or continue every job. One answer per job, or the error of a fit that failed numerically."""
    count = _processes(jobs, source, rows)
    shares = _shares(list(_chunks(Path(many.root), jobs, -(-len(jobs) // count))), count)
    cores = torch.get_num_threads()
    threads = cores // len(shares)
    tasks = [
        {"many": asdict(many), "threads": threads, "share": [(at, [vars(job) for job in part]) for at, part in share]}
        for share in shares[1:]
    ]
    others = Others(tasks, threads, many.line)
    try:
        with others:
            torch.set_num_threads(threads)
            answers = fit_chunks(many, shares[0], source, rows) | others.answers()
    finally:
        torch.set_num_threads(cores)
    return [answers[job.out] for job in jobs]


def fit_chunks(many: Many, chunks: list[Chunk], source: AnySource, rows: AnyRows) -> dict[str, Answer | FitError]:
    """{folder: answer} of the jobs in all chunks, each chunk trained together where possible, otherwise in turn."""
    done: dict[str, Ready | FitError] = {}
    if not isinstance(source, Stream) and launched() == 1:
        for folder, jobs in chunks:
            done |= _train_together(many, Path(many.root, folder), jobs, source, rows)
    return {job.out: _finished(many, job, done.get(job.out), source, rows) for _, jobs in chunks for job in jobs}


def work_on(task: dict[str, Any]) -> dict[str, Answer | FitError]:
    """Do one share of :func:`fit_all` in a worker, which reads the data itself."""
    torch.set_num_threads(task["threads"])
    many = Many(**task["many"] | {"how": How(**task["many"]["how"] | {"quiet": True})})
    chunks = [(folder, [Fit.from_json(job) for job in jobs]) for folder, jobs in task["share"]]
    asked = chunks[0][1][0]
    rows = asked.rows(source := asked.read())
    return fit_chunks(many, chunks, source, rows)


def _finished(
    many: Many, job: Fit, made: Ready | FitError | None, source: AnySource, rows: AnyRows
) -> Answer | FitError:
    """The answer of a job: trained with others (``made``), or trained or continued here."""
    path = Path(job.out)
    try:
        if isinstance(made, FitError):
            return made
        if made is not None:
            return finish(made, rows, many.how)
        if (path / "run.json").exists():
            return resume_one(str(path), many.how)
        return fit_one(job, source, job.rows(source, rows) if isinstance(source, Stream) else rows, many.how)
    except FitError as error:
        return error
    except Stopped as error:
        where = path.name if path.parent == Path(many.root) else f"{path.parent.name}/{path.name}"
        said = f"interrupted in {where.replace('seed-', 'seed ')}: continue with `{many.line}`"
        raise Stopped(said) from error


def _processes(jobs: list[Fit], source: AnySource, rows: AnyRows) -> int:
    """The number of processes that share the jobs: several where the models are small and run on CPU cores."""
    count = workers.shared_by(len(jobs), torch.get_num_threads())
    if count == 1 or launched() > 1 or isinstance(rows, Streamed) or not fitting.are_few(rows, len(jobs)):
        return 1
    first = ready(jobs[0], source, rows, {}).run
    return count if fitting.is_small(first) and fitting.is_on_cpu(first) else 1


def _shares(chunks: list[Chunk], count: int) -> list[list[Chunk]]:
    """The chunks in at most ``count`` shares; each chunk goes to the share with the fewest jobs."""
    shares: list[list[Chunk]] = [[] for _ in range(count)]
    for chunk in sorted(chunks, key=lambda chunk: -len(chunk[1])):
        min(shares, key=lambda share: sum(len(jobs) for _, jobs in share)).append(chunk)
    return [share for share in shares if share]


def _chunks(root: Path, jobs: list[Fit], most: int) -> Iterator[Chunk]:
    """Groups of jobs whose models may have one structure, each of at most ``MOST`` and ``most`` jobs. Jobs with a joint
    checkpoint stay together."""
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
    """The names of the runs in the folder's joint checkpoint; none without a checkpoint."""
    names = Checkpoints(folder).load()[1].get("names") if Checkpoints(folder).exists() else []
    if not isinstance(names, list):
        raise InputError(f"{folder} belongs to other runs: remove it, and the runs begin anew")
    return names


def _alike(jobs: Iterable[Fit]) -> list[list[Fit]]:
    """Groups of jobs whose models may have one structure. Floats and beta may differ, except from 0, which drops a
    term."""
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
    many: Many, folder: Path, chunk: list[Fit], source: Source, rows: Any
) -> dict[str, Ready | FitError]:
    """Train the unfinished jobs of a chunk as one batched run: {folder: run, or its failure}; {} where they must be
    trained in turn."""
    store = Checkpoints(folder)
    jobs = chunk if store.exists() else [job for job in chunk if _is_unbegun(Path(job.out))]
    made = _small(many, jobs, source, rows)
    if not made:
        return {}
    names = [str(Path(job.out).relative_to(many.root)) for job in jobs]
    progress = bar(f"{made[0].run.name} x {len(made)}", many.how)
    try:
        together = fitting.join([one.task for one in made], store=store, names=names, progress=progress)
    except NotTogether:
        return {}
    _open_folders(made, jobs)
    if not many.how.quiet:
        introduce(made[0].run, rows)
    try:
        fitting.execute_together(together, [one.run for one in made])
    except Interrupted:
        raise Stopped(f"interrupted, every step so far is saved: continue with `{many.line}`") from None
    ends = zip(jobs, together.members, made, strict=True)
    return {job.out: member.failure or one for job, member, one in ends
            if member.failure or one.run.status == "finished"}  # fmt: skip


def _small(many: Many, jobs: list[Fit], source: Source, rows: Any) -> list[Ready]:
    """The runs of the jobs, ready for their next step; none where there are fewer than two, or they are too large."""
    made: list[Ready] = []
    for job in jobs if len(jobs) > 1 and fitting.are_few(rows, len(jobs)) else ():
        path = Path(job.out)
        if (path / "run.json").exists():
            made.append(ready_again(path, runs.read_record(path), source, rows, many.how.own))
        else:
            made.append(ready(job, source, rows, {}))
        if not fitting.is_small(made[0].run):
            return []
    return made


def _open_folders(made: list[Ready], jobs: list[Fit]) -> None:
    """Create the folders that are missing; where one cannot be created, no run keeps its lock."""
    try:
        for one, job in zip(made, jobs, strict=True):
            if one.run.folder is None:
                fitting.open_folder(one.run, job.out)
    except BaseException:
        for one in made:
            one.run.abandon()
        raise


def _is_unbegun(path: Path) -> bool:
    """Whether the folder holds no step of a run."""
    return not (path / "run.json").exists() or not (runs.is_finished(path) or runs.checkpoints(path).exists())
