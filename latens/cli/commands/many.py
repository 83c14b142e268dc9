"""Many fits to the same data, for example one per seed: small fits in several processes, larger fits one by one.

A step of a small model keeps at most one core busy; so does drawing a report. The calling process does the first share.
The workers receive their shares through a pipe, and print through the calling process. They end with it: cleanly if it
is interrupted, at once if it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from latens.cli import workers
from latens.cli.commands.answer import Answer, over_seeds
from latens.cli.commands.fitting import Fit, How, fit_one, ready, resume_one
from latens.cli.commands.inputs import AnyRows, AnySource
from latens.data.streams.sources import Stream
from latens.data.streams.survey import Streamed
from latens.errors import FitError, InputError, Stopped, concerning, require_count
from latens.machine.atomic import write_text
from latens.machine.folder import Folder
from latens.machine.launcher import launched, was_restarted
from latens.recipes import is_own
from latens.runs import fitting
from latens.runs import record as runs
from latens.training import Settings
from latens.training.checkpoint import dumps, loads, restoring, sealed, unseal

# One fit per seed


def fit(asked: Fit, *, seeds: int = 1, quiet: bool = False, extra: dict[str, Any] | None = None) -> Answer:
    """Fit once, or once per seed; for several seeds, the answer has mean and spread."""
    if seeds > 1 and launched() > 1:
        raise InputError("several processes fit one seed at a time", "omit --seeds, or start one process")
    if launched() == 1 and not was_restarted():  # with several processes, the main one creates the folder later
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
    """Create a folder for many runs, with ``record``, the request that makes them, in the file ``name``.

    If the block fails before a run has begun in any of the ``places`` (a glob), the folder is removed.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be created ({error.strerror})", "choose another --out") from None
    try:
        write_text(Folder(folder) / name, sealed({"format": runs.FORMAT} | record))
        yield
    except BaseException:
        if not any(folder.rglob("seed-*/run.json")):
            whole = Folder(folder)
            with suppress(OSError):
                (whole / name).remove()
            for place in [whole.inside(part.name) for part in whole.parts(places)]:
                with suppress(OSError, InputError):  # a file does not belong to the sweep
                    (place / "seeds.json").remove()
                    place.remove()
            for place in map(Folder, missing):
                place.remove()
        raise


def _each_seed(folder: Path, asked: Fit, source: AnySource, rows: AnyRows, seeds: int, how: How) -> Answer:
    """Fit or continue the run of every seed; the answer has mean and spread."""
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
    found = [Folder(folder).inside(f"seed-{number}") for number in range(int(seeds))]
    for each in found:
        each.require_plain()
    return [each.path for each in found]


def _seeds_record(folder: Path) -> dict[str, Any]:
    record = unseal(Folder(folder) / "seeds.json", "there are no runs to continue")
    runs.check_format(record, folder)
    require_count(record.get("seeds"), f"{folder / 'seeds.json'}: seeds")
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
    """The request that made the runs in a folder. A recipe of the user's must be named again (``own``)."""
    runs.check_format(record, path)
    with concerning(path), restoring(path):
        asked = Fit.from_json(record["asked"])
        Settings.from_json(asked.settings)
    if own != asked.recipe and is_own(asked.recipe):
        raise InputError(
            f"{path} was fitted with your own recipe, and latens never runs code because a file names it",
            f"pass --recipe {asked.recipe}",
        )
    return asked


# Many fits


@dataclass(frozen=True)
class Many:
    """What many fits share: ``root``, the folder of all fits; ``line``, the command that continues all of them; and
    ``how`` they are made."""

    root: str
    line: str
    how: How


def fit_all(many: Many, jobs: list[Fit], source: AnySource, rows: AnyRows) -> list[Answer | FitError]:
    """Fit or continue every job. Returns one answer per job, or the error of a fit that failed numerically."""
    count, cores = _processes(jobs, source, rows), torch.get_num_threads()
    shares, threads = [jobs[first::count] for first in range(count)], cores // count
    tasks = [{"many": asdict(many), "threads": threads, "share": [vars(job) for job in share]} for share in shares[1:]]
    others = Others(tasks, threads, many.line)
    try:
        with others:
            torch.set_num_threads(threads)
            answers = fit_in_turn(many, shares[0], source, rows) | others.answers()
    finally:
        torch.set_num_threads(cores)
    return [answers[job.out] for job in jobs]


def _processes(jobs: list[Fit], source: AnySource, rows: AnyRows) -> int:
    """The number of processes that share the jobs: several if the models are small and run on the processor."""
    count = workers.shared_by(len(jobs), torch.get_num_threads())
    if count == 1 or launched() > 1 or isinstance(rows, Streamed):
        return 1
    return count if fitting.can_share(ready(jobs[0], source, rows, {}).run, rows, count) else 1


def work_on(task: dict[str, Any]) -> dict[str, Answer | FitError]:
    """Do one share of :func:`fit_all` in a worker, which reads the data itself."""
    torch.set_num_threads(task["threads"])
    many = Many(**task["many"] | {"how": How(**task["many"]["how"] | {"quiet": True})})
    jobs = [Fit.from_json(job) for job in task["share"]]
    rows = jobs[0].rows(source := jobs[0].read())
    return fit_in_turn(many, jobs, source, rows)


def fit_in_turn(many: Many, jobs: list[Fit], source: AnySource, rows: AnyRows) -> dict[str, Answer | FitError]:
    """Fit the jobs one after the other; returns {folder: answer}."""
    return {job.out: _fit(many, job, source, rows) for job in jobs}


def _fit(many: Many, job: Fit, source: AnySource, rows: AnyRows) -> Answer | FitError:
    """Fit or continue one job, and return its answer."""
    path = Path(job.out)
    Folder.below(many.root, path).require_plain()
    try:
        if (path / "run.json").exists():
            return resume_one(str(path), many.how)
        return fit_one(job, source, job.rows(source, rows) if isinstance(source, Stream) else rows, many.how)
    except FitError as error:
        return error
    except Stopped as error:
        where = path.name if path.parent == Path(many.root) else f"{path.parent.name}/{path.name}"
        said = f"interrupted in {where.replace('seed-', 'seed ')}: continue with `{many.line}`"
        raise Stopped(said) from error


class Others:
    """Workers with one task each (:func:`latens.cli.commands.many.work_on`), which live as long as a ``with``
    block."""

    def __init__(self, tasks: Sequence[dict[str, Any]], threads: int, line: str):
        self.tasks, self.threads, self.line = tasks, threads, line
        self._at_work: list[subprocess.Popen[bytes]] = []
        self._talking: list[threading.Thread] = []

    def __enter__(self) -> Others:
        try:
            for task in self.tasks:
                self._give(task)
            workers.dismiss()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _give(self, task: dict[str, Any]) -> None:
        process = workers.take(self.threads)
        self._at_work.append(process)
        self._talking.append(threading.Thread(target=_talk, args=(process, dumps(task).encode()), daemon=True))
        self._talking[-1].start()

    def answers(self) -> dict[str, Any]:
        """{folder: answer} of all workers. If an error stopped a worker, it is raised here."""
        found: dict[str, Any] = {}
        for process in self._at_work:
            assert process.stdout is not None
            said = process.stdout.read()
            if process.wait() or not said:
                how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
                raise FitError(f"a worker ended before its fits did ({how}): continue with `{self.line}`")
            answer = _received(loads(said.decode()))
            if isinstance(answer, Exception):
                raise answer
            found |= {folder: _received(each) for folder, each in answer.items()}
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._at_work:
            process.terminate()
        for process, talk in zip(self._at_work, self._talking, strict=True):
            assert process.stdout is not None
            process.stdout.read()
            process.wait()
            talk.join()
            workers.end(process)


def _talk(process: subprocess.Popen[bytes], task: bytes) -> None:
    """Send a worker its task, and print what the worker prints."""
    assert process.stdin is not None and process.stderr is not None
    with suppress(BrokenPipeError):  # the worker has ended, which `answers` reports
        process.stdin.write(len(task).to_bytes(8) + task)
        process.stdin.flush()
    for line in process.stderr:
        print(line.decode(errors="replace").rstrip(), file=sys.stderr)


def _end_with(giver: int) -> None:
    """End this process when the other end of the pipe closes, as it does when the process there ends in any way."""
    os.read(giver, 1)
    os._exit(137)


def work(function: Callable[[dict[str, Any]], dict[str, Answer | FitError]]) -> None:
    """Run a worker: read its task, do it, and send the answers back. The worker exits if the calling process ends."""
    given = sys.stdin.buffer
    size = int.from_bytes(given.read(8))
    task = given.read(size)
    if not size == len(task) > 0:
        sys.exit(137)  # the calling process has ended
    threading.Thread(target=_end_with, args=(given.fileno(),), daemon=True).start()
    with redirect_stdout(sys.stderr):
        try:
            answer: Any = {folder: _sent(found) for folder, found in function(loads(task.decode())).items()}
        except (InputError, FitError, Stopped) as error:
            answer = _sent(error)
    sys.stdout.write(dumps(answer))
    sys.stdout.flush()


_ERRORS = {kind.__name__: kind for kind in (InputError, FitError, Stopped)}


def _sent(found: Answer | Exception) -> dict[str, Any]:
    if isinstance(found, Answer):
        return {"text": found.text, "figures": found.figures}
    return {"error": next(name for name, kind in _ERRORS.items() if isinstance(found, kind)), "sentence": str(found)}


def _received(found: dict[str, Any]) -> Any:
    """The answer or error that :func:`_sent` encoded; any other value is unchanged."""
    if found.keys() == {"text", "figures"}:
        return Answer(**found)
    return _ERRORS[found["error"]](found["sentence"]) if found.keys() == {"error", "sentence"} else found
