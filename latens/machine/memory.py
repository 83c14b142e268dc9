"""How much memory there is, and how much of it is free."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_UNKNOWN = 8 << 30  # assumed if the system gives no number
_GROUP, _MACHINE = "/sys/fs/cgroup", "/proc/meminfo"


def memory() -> int:
    """The bytes of memory that this process may use: those of the machine, or of its control group if that is less."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        whole = _UNKNOWN
    limit = _number(f"{_GROUP}/memory.max")
    return whole if limit is None else min(whole, limit)


def free_memory(machine: str = _MACHINE, group: str = _GROUP) -> int:
    """The bytes of memory that are free for this process: those that the machine has available, but at most what its
    control group leaves. If neither gives a number, it is :func:`memory`. Cached pages of files count as free."""
    found = [memory()]
    available = _number(machine, r"MemAvailable:\s+(\d+) kB")
    if available is not None:
        found.append(1024 * available)
    limit, used = _number(f"{group}/memory.max"), _number(f"{group}/memory.current")
    if limit is not None and used is not None:
        found.append(max(0, limit - used + (_number(f"{group}/memory.stat", r"\binactive_file (\d+)") or 0)))
    return min(found)


def _number(path: str, pattern: str = r"(\d+)") -> int | None:
    """The number in a file of the system; None if there is none."""
    with suppress(OSError):
        match = re.search(pattern, Path(path).read_text("utf-8"))
        return None if match is None else int(match[1])
    return None
