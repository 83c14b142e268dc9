"""Run whole commands and measure their time and peak memory.

A child process starts with the memory of its parent, so builders of contenders that use this module import nothing
heavy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    seconds: float
    peak: int  # bytes
    out: str


def run(arguments: Sequence[str | Path], folder: Path) -> Finished:
    """Run a command to its end; raises ``RuntimeError`` with the end of its output if it fails."""
    with (folder / "out.txt").open("w+") as out, (folder / "err.txt").open("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen([str(a) for a in arguments], stdout=out, stderr=errors, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(map(str, arguments))}: {errors.read()[-1000:]}")
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Finished(seconds, peak, out.read())


def latens(*arguments: str | Path) -> list[str | Path]:
    """The installed latens command, or ``python -m latens`` if only the module is on the path."""
    script = Path(sys.executable).with_name("latens")
    return [*([script] if script.exists() else [sys.executable, "-m", "latens"]), *arguments]


def python(code: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", code, *arguments]
