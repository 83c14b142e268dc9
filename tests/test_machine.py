"""latens on systems that lack features of Linux."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ABSENT = """
import builtins, io, os, sys
del os.sched_getaffinity
sys.modules["fcntl"] = sys.modules["resource"] = None
real = io.open
def opened(file, *args, **kwargs):
    if str(file).startswith("/proc"):
        raise FileNotFoundError(2, "no such file", str(file))
    return real(file, *args, **kwargs)
builtins.open = io.open = opened
from latens.cli.main import main
for words in sys.argv[1:]:
    assert not main(words.split()), words
"""
COMMANDS = (
    "schema t.csv",
    "fit t.csv --out run --epochs 2",
    "fit t.csv --out runs --epochs 2 --seeds 4",
    "fit t.parquet --out streamed --epochs 2 --stream",
    "evaluate run --k 10",
    "encode run t.csv --out z.npy",
    "impute run t.csv --out full.csv",
    "sample run -n 20 --out new.csv",
    "score run t.csv --out scores.csv --k 10",
    "report run",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, r = tmp_path_factory.mktemp("machine"), np.random.default_rng(0)
    data = pd.DataFrame({"a": r.normal(size=90), "b": r.integers(0, 9, 90) * 1.0, "c": r.choice(list("xyz"), 90)})
    data.loc[::9, "b"] = np.nan
    data.to_csv(place / "t.csv", index=False)
    data.to_parquet(place / "t.parquet")
    return place


def test_every_command_works_without_affinity_locks_and_proc(folder: Path) -> None:
    """As on macOS, ``os.sched_getaffinity``, ``fcntl``, ``resource`` and ``/proc`` are absent."""
    done = subprocess.run([sys.executable, "-c", ABSENT, *COMMANDS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert pd.read_csv(folder / "full.csv").notna().all().all()
    assert len(np.load(folder / "z.npy")) == len(pd.read_csv(folder / "scores.csv")) == 90


def test_free_memory_is_the_smaller_of_what_the_machine_and_the_control_group_have_left(tmp_path):
    from latens.machine.memory import free_memory, memory

    nothing = str(tmp_path / "nothing")
    assert free_memory(nothing, nothing) == memory()
    machine, group = tmp_path / "meminfo", tmp_path / "group"
    machine.write_text("MemTotal: 900 kB\nMemAvailable:   300 kB\n")
    assert free_memory(str(machine), nothing) == 300 * 1024
    group.mkdir()
    files = {"memory.max": "200000", "memory.current": "150000", "memory.stat": "inactive_file 20000\n"}
    for name, text in files.items():
        (group / name).write_text(text)
    assert free_memory(str(machine), str(group)) == 70_000
    (group / "memory.max").write_text("max")
    assert free_memory(str(machine), str(group)) == 300 * 1024
