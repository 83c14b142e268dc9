"""Shares of many small fits, each in a process of its own.

A step of a small model keeps one core busy at most, and a report is drawn on one. The first share is the work of the
process that was called; the others' processes get theirs by pipe, say what they have to say through the first, and end
with it: asked to stop where it was interrupted, at once where it was killed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from types import TracebackType
from typing import Any

import torch

from latens.errors import FitError, InputError, Stopped

MOST = 8  # processes: each holds torch anew, some 300 MB
_BEGIN = "import sys; sys.path[:] = sys.argv[1:]; from latens.commands.shares import work; work()"


def processes(jobs: int) -> int:
    """How many processes share so many jobs: one for every core that torch uses, with two jobs or more each."""
    return max(1, min(torch.get_num_threads(), jobs // 2, MOST)) if sys.executable else 1


class Others:
    """Processes that work on one task each while the context lasts. A task: the arguments of
    :func:`latens.commands.many.fit_chunks`."""

    def __init__(self, tasks: Sequence[tuple[Any, ...]], threads: int, line: str):
        self.tasks, self.threads, self.line = tasks, threads, line
        self._at_work: list[subprocess.Popen[bytes]] = []
        self._talking: list[threading.Thread] = []

    def __enter__(self) -> Others:
        try:
            for task in self.tasks:
                self._start(pickle.dumps(task))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self, task: bytes) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": str(self.threads)}, start_new_session=True,
        )  # fmt: skip
        self._at_work.append(process)
        self._talking.append(threading.Thread(target=_talk, args=(process, task), daemon=True))
        self._talking[-1].start()

    def answers(self) -> dict[str, Any]:
        """What all have found; the error that stopped one is raised here."""
        found: dict[str, Any] = {}
        for process in self._at_work:
            assert process.stdout is not None
            said = process.stdout.read()
            if process.wait() or not said:
                how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
                raise FitError(f"a process ended before its fits did ({how}): continue with `{self.line}`")
            answer = pickle.loads(said)
            if isinstance(answer, BaseException):
                raise answer
            found |= answer
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
            with process:
                pass  # closes its pipes


def _talk(process: subprocess.Popen[bytes], task: bytes) -> None:
    """Hand over the task, and say what the process has to say."""
    assert process.stdin is not None and process.stderr is not None
    with suppress(BrokenPipeError):  # it has ended already: told where its answer is awaited
        process.stdin.write(len(task).to_bytes(8) + task)
        process.stdin.flush()
    for line in process.stderr:
        print(line.decode(errors="replace").rstrip(), file=sys.stderr)


def _end_with(giver: int) -> None:
    """End this process when the other end of the pipe is closed, as it is when its process ends, however it ends."""
    os.read(giver, 1)
    os._exit(137)


def work() -> None:
    """What the process of a share does: read the task, end if its giver does, and hand back what came out."""
    given = sys.stdin.buffer
    size = int.from_bytes(given.read(8))
    task = given.read(size)
    if not size == len(task) > 0:
        sys.exit(137)  # the giver has ended
    threading.Thread(target=_end_with, args=(given.fileno(),), daemon=True).start()
    with redirect_stdout(sys.stderr):
        from latens.commands.many import fit_chunks

        try:
            answer: Any = {out: _plain(found) for out, found in fit_chunks(*pickle.loads(task)).items()}
        except (InputError, FitError, Stopped) as error:
            answer = _plain(error)
    sys.stdout.buffer.write(pickle.dumps(answer))
    sys.stdout.flush()


def _plain(answer: Any) -> Any:
    """An error as one of its base, which needs no more than its sentence to be made anew."""
    bases = (kind for kind in (InputError, FitError, Stopped) if isinstance(answer, kind))
    return next((kind(str(answer)) for kind in bases), answer)
