"""Results as lines of JSON, one per run, and the machine and versions that tables state."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anomaly import versions
from speed import machine

Line = dict[str, Any]


def lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, line: Line, names: Sequence[str], place: Callable[[Line], Any]) -> None:
    """Add the line, replacing one with the same values under ``names``, and sort all lines by ``place``."""
    others = [each for each in lines(path) if any(each[name] != line[name] for name in names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in sorted([*others, line], key=place)))


def circumstances(*packages: str) -> Line:
    """The date, machine and package versions of a measurement."""
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine.describe()["cpu"],
            "versions": {"python": platform.python_version(), **versions(*packages)}}  # fmt: skip


def conditions(found: list[Line], ours: Sequence[str]) -> str:
    """The machine and versions of all lines, without repeats, and the digests of latens' files in the lines
    ``ours``."""
    dates: dict[str, list[str]] = {}
    for line in found:
        packages = ", ".join(f"{name} {version}" for name, version in line["versions"].items() if version != "absent")
        dates.setdefault(f"{line['machine']}, one thread, {packages}", []).append(line["date"])
    told = [f"{' to '.join(sorted({min(each), max(each)}))}: {what}" for what, each in sorted(dates.items())]
    return "; ".join([*told, f"digests of latens' files: {', '.join(sorted(set(ours))) or 'none'}"]) + "."


def spread(values: Sequence[float | None], digits: int) -> str:
    """Mean ± standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    deviation = f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{np.mean(known):.{digits}f}{deviation}"
