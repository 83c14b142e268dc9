"""Many small fits in several processes, each with a share.

A step of a small model keeps at most one core busy, and so does drawing a report. The calling process does the first
share. The workers receive theirs through a pipe, print through the calling process, and end with it: they stop cleanly
where it is interrupted, at once where it is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from types import TracebackType
from typing import Any

from latens.cli import workers
from latens.cli.commands.answer import Answer
from latens.errors import FitError, InputError, Stopped
from latens.training.checkpoint import dumps, loads


class Others:
    """Workers, each with one task (:func:`latens.cli.commands.many.work_on`), for the length of a ``with`` block."""

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
        """{folder: answer} of all workers; raises the error that stopped one."""
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
    """Send a worker its task, and print what it prints."""
    assert process.stdin is not None and process.stderr is not None
    with suppress(BrokenPipeError):  # the worker has ended; `answers` reports it
        process.stdin.write(len(task).to_bytes(8) + task)
        process.stdin.flush()
    for line in process.stderr:
        print(line.decode(errors="replace").rstrip(), file=sys.stderr)


def _end_with(giver: int) -> None:
    """End this process when the other end of the pipe closes, which it does however its process ends."""
    os.read(giver, 1)
    os._exit(137)


def work(function: Callable[[dict[str, Any]], dict[str, Answer | FitError]]) -> None:
    """Run a worker: read its task, do it, send the answers back; exit if the calling process ends."""
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
    """The answer or error that :func:`_sent` encoded; anything else unchanged."""
    if found.keys() == {"text", "figures"}:
        return Answer(**found)
    return _ERRORS[found["error"]](found["sentence"]) if found.keys() == {"error", "sentence"} else found
