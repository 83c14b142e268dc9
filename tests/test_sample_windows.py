"""Samples are drawn and written in windows: the file equals that of a single window byte for byte, and memory does not
grow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from commanding import blank_page, call, done

import latens
from latens import report
from latens.data.tables.files import read_table, write_table
from latens.runs import outputs

ROWS = 400


def mixed(gaps: float = 0.1) -> pa.Table:
    """A table of numbers, levels, dates, times and text with gaps, in which a dose exists only with its drug."""
    random = np.random.default_rng(0)
    factor = random.standard_normal(ROWS)
    drug = np.array(["none", "a", "b"])[np.digitize(factor, [-0.5, 0.7])]
    day = np.datetime64("2020-01-01") + random.integers(0, 900, ROWS)
    columns: dict[str, Any] = {
        "x": factor.round(2), "n": random.poisson(np.exp(1 + 0.3 * factor)), "drug": drug, "day": day,
        "moment": day.astype("datetime64[s]") + random.integers(0, 86_400, ROWS), "price": np.exp(factor).round(2),
    }  # fmt: skip
    made = {name: pa.array(values, mask=random.random(ROWS) < gaps) for name, values in columns.items()}
    return pa.table(made | {"dose": pa.array(random.integers(1, 5, ROWS) * 0.5, mask=drug == "none")})


def array() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((ROWS, 3)).round(1).astype(np.float32)


FITS: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {  # (a file, its suffix, the arguments of its fit)
    "columns in order": (lambda path: write_table(path, mixed()), ".parquet", []),
    "columns by codes": (lambda path: write_table(path, mixed()), ".csv", ["--dependence", "codes"]),
    "without gaps": (lambda path: write_table(path, mixed(0).drop_columns(["dose"])), ".csv", []),
    "conditions": (lambda path: write_table(path, mixed(0)), ".parquet", ["--condition", "drug", "--condition", "n"]),
    "array": (lambda path: np.save(path, array()), ".npy", []),
    "images": (lambda path: np.save(path, np.random.default_rng(2).integers(0, 255, (40, 6, 6), np.uint8)), ".npy", []),
}
CASES: list[tuple[str, str, list[str]]] = [
    *((name, suffix, []) for name in ("array", "images") for suffix in (".npy", ".npz")),
    *((name, ".csv", []) for name in FITS if name not in ("array", "images")),
    ("columns in order", ".parquet", []), ("columns in order", ".feather", ["--no-gaps"]),
    ("array", ".csv", ["--mean"]),
    ("columns by codes", ".parquet", ["--extrapolate"]), ("conditions", ".csv", ["--set", "drug=a"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The runs of the cases, each fitted once."""
    place = tmp_path_factory.mktemp("samples")

    def made(name: str) -> Path:
        run = place / name
        if not run.exists():
            write, suffix, words = FITS[name]
            write(place / f"{name}{suffix}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(report, "write", blank_page)
                done("fit", place / f"{name}{suffix}", "--out", run, "--epochs", 1, "--network", "linear", *words)
        return run

    return made


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr("latens.evaluation.likelihood.ONCE", 512 * 20)  # rows are drawn 20 at a time


def files(run: Path, suffix: str, words: list[str], folder: Path, rows: int = 250) -> list[Any]:
    """The files that ``latens sample`` writes in one window and in windows of 60 rows."""
    found = []
    for number, window in enumerate((1 << 17, 60)):
        out = folder / f"{number}{suffix}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outputs, "WINDOW", window)
            done("sample", run, "--out", out, "-n", rows, "--seed", 5, *words)
        cut = suffix in (".parquet", ".feather")  # the rows are the same; they are stored window by window
        found.append(read_table(out).combine_chunks() if cut else out.read_bytes())
    return found


@pytest.mark.parametrize(("name", "suffix", "words"), CASES, ids=lambda each: "".join(each) if each else "")
def test_a_file_of_many_windows_equals_a_file_of_one_window(
    name: str, suffix: str, words: list[str], runs: Callable[[str], Path], tmp_path: Path
):
    whole, windows = files(runs(name), suffix, words, tmp_path)
    assert len(whole) > 200
    assert whole.equals(windows) if isinstance(whole, pa.Table) else whole == windows


def test_python_gives_the_rows_of_one_window(runs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch):
    for name in ("columns in order", "array"):
        vae = latens.load(runs(name))
        whole = vae.sample(250, random_state=1)
        monkeypatch.setattr(outputs, "WINDOW", 60)
        windows = vae.sample(250, random_state=1)
        assert windows.combine_chunks().equals(whole.combine_chunks()) if name != "array" else (windows == whole).all()
        monkeypatch.undo()


def test_codes_of_a_density_are_drawn_window_by_window(runs: Callable[[str], Path], tmp_path: Path):
    """The first window equals a sample of its number of rows; later windows have new draws."""
    run = runs("array")
    done("density", run, "--kind", "mixture")
    _, windows = files(run, ".csv", ["--density", "mixture"], tmp_path)
    whole, _ = files(run, ".csv", ["--density", "mixture"], tmp_path, rows=60)
    rows = windows.splitlines()
    assert rows[:61] == whole.splitlines() and len(set(rows)) > 240


def test_rows_that_do_not_fit_on_the_disk_are_refused(runs: Callable[[str], Path], tmp_path: Path):
    answer = call("sample", runs("array"), "--out", tmp_path / "x.npy", "-n", 10**14)
    assert answer.status == 2 and "GiB on the disk" in answer.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["sample", "encode"])
def test_a_stopped_command_leaves_no_part_of_a_file(
    how: signal.Signals, command: str, runs: Callable[[str], Path], tmp_path: Path
):
    """The signal arrives during the second block, when the first is in the temporary file."""
    code = """
import os, sys
from latens.cli import main
from latens.data.streams.writer import Writer
write, number = Writer.write, int(sys.argv.pop())
def stop(self, *given):
    write(self, *given)
    print(os.listdir(self.path.parent))
    os.kill(os.getpid(), number)
    raise SystemExit("not stopped")
Writer.write = stop
sys.exit(main.main())
"""
    data = [str(runs("array").with_name("array.npy"))] * (command == "encode")
    words = [command, str(runs("array")), *data, "--out", str(tmp_path / "x.csv"), str(int(how))]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=alone)
    assert ".tmp" in found.stdout and found.returncode == 130 and "interrupted" in found.stderr, found
    assert not list(tmp_path.iterdir())
