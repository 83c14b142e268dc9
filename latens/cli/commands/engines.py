"""Engines that write the parts of an output: processes on this machine, or Ray actors. A part is a function of the run,
the part's source and the options alone, so every engine, with one thread, writes the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latens.cli import workers
from latens.cli.commands import densities, using
from latens.cli.commands.inputs import data_for, stream_for
from latens.cli.commands.planning import Piece
from latens.cli.commands.using import Inputs, Readable
from latens.data.rows import Rows
from latens.data.streams.sources import Excerpt, Stream
from latens.data.streams.text import Whole
from latens.errors import FitError, InputError
from latens.runs import record
from latens.tensors.randomness import Key, seed_of

TRIES = 2  # attempts at a part if its worker dies


@dataclass(frozen=True)
class Job:
    """What to write: the output of ``command`` with ``options``, for the run in ``folder``, to the folder ``out``."""

    command: str
    folder: str
    out: str
    inputs: Inputs = field(default_factory=Inputs)
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Job:
        """The job from the fields that ``asdict`` gave."""
        return cls(**dict(fields) | {"inputs": Inputs(**fields["inputs"])})

    def seed_of(self, part: Piece) -> int | None:
        """The seed of a part; None if nothing is random. The seed of draws is a function of the job's seed and the
        part's name, so draws of different parts are independent. Estimates use the job's seed in every part, because
        all rows share their noise."""
        if "seed" not in self.options:
            return None
        if self.command != "sample" and not self.options.get("samples") and not self.options.get("draws"):
            return int(self.options["seed"])
        name = int.from_bytes(hashlib.sha256(part.name.encode()).digest()[:8])
        return seed_of(int(self.options["seed"]), Key.PART, name)


class Worker:
    """Writes parts of a job, with one thread; the run is loaded once."""

    def __init__(self, job: Job):
        self.job, self.run = job, record.load(job.folder, recipe=job.inputs.own)
        self._whole: dict[str, Stream | Rows] = {}

    def attempt(self, part: Piece) -> dict[str, Any]:
        """The result of :meth:`write`, or ``{"error": sentence}`` if the part is refused or fails."""
        try:
            with redirect_stdout(sys.stderr):
                return self.write(part)
        except (InputError, FitError) as error:
            return {"error": str(error)}
        except OSError as error:
            return {"error": f"{error.filename or part.name} cannot be used: {error.strerror or error}"}
        except MemoryError:
            return {"error": "not enough memory: pass fewer --workers"}
        except Exception as error:  # a bug that affects one part must not stop the other parts
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}

    def write(self, part: Piece) -> dict[str, Any]:
        """Write a part. Returns its figures: rows, SHA-256 of its bytes, warnings, and what the command reports."""
        path, options = Path(self.job.out, part.name), dict(self.job.options)
        path.parent.mkdir(parents=True, exist_ok=True)
        if (seed := self.job.seed_of(part)) is not None:
            options["seed"] = seed
        if self.job.command == "sample":
            n = part.stop - part.first
            answer = densities.sample(self.run, str(path), own=None, **options | {"n": n}, quiet=True)
        else:
            command = getattr(using, self.job.command)
            try:
                answer = command(self.run, self._source(part), str(path), self.job.inputs, **options)
            except Whole:  # this part of a text file cannot be read without the rest of the file
                answer = command(self.run, self._in_memory(part.source), str(path), self.job.inputs, **options)
        rows = answer.figures.get("rows", answer.figures.get("shape", [0])[0])
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        known = answer.figures.keys() & {"mean", "impossible", "strange"}
        more = {str(name): answer.figures[name] for name in sorted(known)}
        return {"rows": rows, "sha256": sha256, "warnings": answer.figures.get("warnings", []), **more}

    def _source(self, part: Piece) -> Readable:
        """The rows of a part. Its size, and not the free memory, decides whether a file is streamed."""
        if not part.stop:
            return self._opened(part.source, large=False)
        if part.source not in self._whole:
            of_images = os.path.isdir(part.source) and "=" not in part.name
            self._whole = {part.source: self._opened(part.source, large=not of_images)}
        whole = self._whole[part.source]
        if isinstance(whole, Rows):
            return whole.take(np.arange(part.first, part.stop))
        return Excerpt(whole, part.first, part.stop, f"{part.source}, for {part.name}")

    def _opened(self, path: str, large: bool) -> Stream | Rows:
        asked, lenient = self.job.inputs, self.job.command == "score"
        flat = not self.job.options.get("samples") and not self.job.options.get("draws")
        stream = stream_for(
            self.run, path, asked.labels, asked.reading, lenient=lenient, flat=flat,
            large=large or "://" in path, keep=asked.keep,
        )  # fmt: skip
        return self._in_memory(path) if stream is None else stream

    def _in_memory(self, path: str) -> Rows:
        asked, lenient = self.job.inputs, self.job.command == "score"
        return data_for(self.run, path, asked.labels, asked.reading, check=not lenient, keep=asked.keep)


def work() -> None:
    """Run a worker process: read a job and then parts from stdin, one JSON text per line, and answer each part with a
    line. The process ends when stdin closes, and so when the calling process ends, for whatever reason."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    torch.set_num_threads(1)
    worker = Worker(Job.from_json(json.loads(lines.get())))
    while True:
        answer = worker.attempt(Piece(**json.loads(lines.get())))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


Answers = Iterator[tuple[Piece, dict[str, Any]]]
Note = Callable[[str], None]


def here(job: Job, parts: Sequence[Piece], count: int, note: Note) -> Answers:
    """Yield (part, answer of :meth:`Worker.attempt`) for all parts, which this process writes."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        worker = Worker(job)
        for part in parts:
            yield part, worker.attempt(part)
    finally:
        torch.set_num_threads(threads)


def processes(job: Job, parts: Sequence[Piece], count: int, note: Note) -> Answers:
    """Yield (part, answer of :meth:`Worker.attempt`) for all parts as they finish. ``count`` worker processes write
    them. If a worker dies, its part is given to a new worker, once."""
    if count == 1:
        yield from here(job, parts, count, note)
        return
    crew = _Crew(job, note)
    with closing(crew):
        waiting = deque((part, TRIES) for part in parts)
        while waiting or crew.at_work:
            while waiting and len(crew.at_work) < count:
                crew.give(*waiting.popleft())
            for part, answer, left in crew.answers():
                if answer is not None:
                    yield part, answer
                elif left:
                    waiting.appendleft((part, left))
                else:
                    yield part, {"error": f"its worker ended {TRIES} times: try again, with fewer --workers"}


class _Crew:
    """Worker processes. Each one is free or works on one part."""

    def __init__(self, job: Job, note: Note):
        self._job, self._note = _line(asdict(job)), note
        self.at_work: dict[subprocess.Popen[bytes], tuple[Piece, int]] = {}
        self._free: list[subprocess.Popen[bytes]] = []
        self._selector = selectors.DefaultSelector()

    def give(self, part: Piece, tries: int) -> None:
        """Give a part to a free worker, or to a new one."""
        process = self._free.pop() if self._free else self._begun()
        self.at_work[process] = part, tries - 1
        _send(process, _line(asdict(part)))

    def _begun(self) -> subprocess.Popen[bytes]:
        process = workers.start(1, workers.PARTS, stderr=None)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, process)
        _send(process, self._job)
        return process

    def answers(self) -> Iterator[tuple[Piece, dict[str, Any] | None, int]]:
        """Wait until a worker answers or ends; yields (its part, its answer or None, how many more times the part may
        be tried)."""
        for key, _ in self._selector.select():
            process: subprocess.Popen[bytes] = key.data
            assert process.stdout is not None
            line = process.stdout.readline()
            part, left = self.at_work.pop(process, (None, 0))
            if line and part is not None:
                self._free.append(process)
                yield part, json.loads(line), left
                continue
            self._selector.unregister(process.stdout)
            self._free = [each for each in self._free if each is not process]
            status = _ended(process)
            if part is not None:
                how = f"signal {-status}" if status < 0 else f"status {status}"
                self._note(f"{part.name}: its worker ended ({how})" + ("; another one tries again" if left else ""))
                yield part, None, left

    def close(self) -> None:
        """End all workers at once."""
        for process in (*self.at_work, *self._free):
            process.kill()
            _ended(process)
        self._selector.close()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # the worker has ended, which `answers` will notice


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a worker that has ended or was killed; its pipes are closed."""
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except BrokenPipeError:
            pass
    return process.wait()


def ray(job: Job, parts: Sequence[Piece], count: int, note: Note) -> Answers:
    """Yield (part, answer of :meth:`Worker.attempt`) for all parts as they finish. ``count`` actors write them, on the
    Ray cluster at RAY_ADDRESS or on a cluster started here. All its machines must have the files at the same paths."""
    import ray as cluster

    if begun := not cluster.is_initialized():
        place = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": count, "include_dashboard": False}
        cluster.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": place}, **own)
    try:
        most = int(cluster.cluster_resources().get("CPU", 1))  # an actor without a core would never answer
        actor = cluster.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1)(_Actor)
        free, waiting = [actor.remote(job) for _ in range(min(count, most))], deque(parts)
        at_work: dict[Any, tuple[Any, Piece]] = {}
        while waiting or at_work:
            while waiting and free:
                worker, part = free.pop(), waiting.popleft()
                at_work[worker.attempt.remote(part)] = worker, part
            for answer in cluster.wait(list(at_work))[0]:
                worker, part = at_work.pop(answer)
                free.append(worker)
                try:
                    yield part, cluster.get(answer)
                except cluster.exceptions.RayError as error:
                    yield part, {"error": f"its actor ended: {' '.join(str(error).split())[:200]}"}
    finally:
        if begun:
            cluster.shutdown()


class _Actor(Worker):
    """A worker in a Ray process."""

    def __init__(self, job: Job):
        torch.set_num_threads(1)
        super().__init__(job)


Engine = Callable[[Job, Sequence[Piece], int, Note], Answers]
ENGINES: dict[str, Engine] = {"processes": processes, "ray": ray}
