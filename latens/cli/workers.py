"""Processes that take a share of the work of this one.

Light by itself, so that they can be started before torch is imported here and the data are read: they import meanwhile
what they need, and wait for their task.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from latens.machine.processor import cores

MOST = 8  # processes: each holds torch anew, some 300 MB
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[1:]; from latens.cli.commands import many, shares; shares.work(many.work_on)"
)
_waiting: list[subprocess.Popen[bytes]] = []


def shared_by(jobs: int, cores: int) -> int:
    """How many processes, this one included, share so many jobs: one a core, with two jobs or more each.

    >>> [shared_by(jobs, 2) for jobs in (1, 3, 4, 400)]
    [1, 1, 2, 2]
    """
    return max(1, min(cores, jobs // 2, MOST)) if sys.executable else 1


def start(threads: int) -> subprocess.Popen[bytes]:
    """One more process, on so many threads; it ends when its standard input is closed, as it is when this one ends."""
    return subprocess.Popen(
        [sys.executable, "-c", _BEGIN, *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """End it now, whatever it does."""
    process.terminate()
    with process:  # closes its pipes
        assert process.stdout is not None
        process.stdout.read()


@contextmanager
def waiting(jobs: int) -> Iterator[None]:
    """Inside, the processes that so many jobs may be shared with are on their way; those that nobody takes end with
    it."""
    cores = _cores()
    count = shared_by(jobs, cores)
    try:
        _waiting.extend(start(cores // count) for _ in range(count - 1))
        yield
    finally:
        dismiss()


def take(threads: int) -> subprocess.Popen[bytes]:
    """One of those that wait, or a new one."""
    return _waiting.pop() if _waiting else start(threads)


def dismiss() -> None:
    """End those that wait."""
    while _waiting:
        end(_waiting.pop())


def _cores() -> int:
    """The threads that torch is going to take."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else cores()
