"""The machine that the figures were taken on."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "pythae", "jax", "optax", "pyod", "ctgan", "scvi-tools")


def load() -> float:
    """Mean number of running processes over the last minute."""
    return round(os.getloadavg()[0], 2)


def describe() -> dict[str, object]:
    """The processor (with "AVX2" added if it is an x86 processor without wider registers), versions and variables."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        narrow = " avx2" in info and " avx512f" not in info
        model = next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
        model += " AVX2" * narrow
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return {
        "cpu": model, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(), "system": platform.system(),
        "versions": dict(filter(None, map(_version, PACKAGES))),
        "variables": {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "MKL_", "KMP_", "LD_PRELOAD"))},
    }  # fmt: skip


def _version(name: str) -> tuple[str, str] | None:
    try:
        return name, version(name)
    except PackageNotFoundError:
        return None


def digest(folder: Path) -> str:
    """A digest of the source files of latens that were run: only figures with the same digest are comparable."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:12]
