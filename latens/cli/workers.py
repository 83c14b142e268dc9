"""Worker processes, which do a share of this process's fits, or write parts of an output.

They start before this process imports torch and reads the data, so that they can import what they need at the same time
and then wait for a task. For this reason, this file imports nothing heavy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from latens.machine.processor import cores

MOST = 8  # processes at most, since torch takes about 300 MB in each
_BEGIN = "import sys; sys.path[:] = sys.argv[1:]; from latens.cli.commands import "
FITS, PARTS = _BEGIN + "many; many.work(many.work_on)", _BEGIN + "engines; engines.work()"
_waiting: list[subprocess.Popen[bytes]] = []


def shared_by(jobs: int, cores: int) -> int:
    """The number of processes for ``jobs`` jobs, this one included: at most one per core, with at least two jobs each.

    >>> [shared_by(jobs, 2) for jobs in (1, 3, 4, 400)]
    [1, 1, 2, 2]
    """
    return max(1, min(cores, jobs // 2, MOST)) if sys.executable else 1


def start(threads: int, work: str = FITS, stderr: int | None = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start a worker with ``threads`` threads; it exits when its stdin closes, hence with its parent."""
    return subprocess.Popen(
        [sys.executable, "-c", work, *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)}, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a worker at once."""
    process.terminate()
    with process:  # closes the pipes
        assert process.stdout is not None
        process.stdout.read()


@contextmanager
def waiting(jobs: int) -> Iterator[None]:
    """Start the workers that ``jobs`` jobs can use; workers that were not taken (:func:`take`) end with the block."""
    cores = _cores()
    count = shared_by(jobs, cores)
    try:
        _waiting.extend(start(cores // count) for _ in range(count - 1))
        yield
    finally:
        dismiss()


def take(threads: int) -> subprocess.Popen[bytes]:
    """A waiting worker, or a new one."""
    return _waiting.pop() if _waiting else start(threads)


def dismiss() -> None:
    """End all waiting workers."""
    while _waiting:
        end(_waiting.pop())


def _cores() -> int:
    """The number of threads that torch will use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else cores()
