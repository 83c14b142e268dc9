"""Many fits by one command (seeds and sweeps): each run is bit for bit the one that a separate fit makes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commanding import call, done, figures, refused
from parts import data, timeless

from latens.machine.atomic import write_text
from latens.report.comparison import of_sweep
from latens.runs.record import read_record
from latens.training import Progress

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ("--epochs", 3, "--batch-size", 10, "--validation", 0.25, "--device", "cpu")


class StopAt(Progress):
    """Sends SIGINT at a step."""

    def __init__(self, step: int):
        self.at = step

    def step(self, step: int, rate: float, distortion: float) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows of numbers and a table of mixed columns with gaps. A stub replaces the report, which has its
    own tests."""
    monkeypatch.setattr("latens.report.write", lambda path, *given, **more: write_text(path, "page"))
    monkeypatch.chdir(tmp_path)
    x = data(80)
    np.save("x.npy", x)
    lines = [f"{a:.3f},{'' if i % 7 == 0 else f'{b:.2f}'},{'rgb'[i % 3]}" for i, (a, b) in enumerate(x[:, :2])]
    Path("t.csv").write_text("\n".join(["a,b,word", *lines]) + "\n")
    return tmp_path


def listing(folder: str) -> list[str]:
    names = (str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
    return sorted("tensors" if "step-" in name else name for name in names)


def outcome(run: str | Path) -> tuple[Any, ...]:
    """The weights of a run, the figures of every round, the settings, and which weights are kept."""
    record, run = read_record(Path(run)), Path(run)
    rounds = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    settings = {name: value for name, value in record["training"].items() if name != "seed"}
    return (run / "model.safetensors").read_bytes(), timeless(rounds), settings, record["served"]


# Seeds


@pytest.mark.parametrize("words", [
    ("x.npy",), ("t.csv", "--weight-decay", 0.1, "--average", 0.9, "--kl-warmup", 0.5),
    ("x.npy", "--recipe", "iwae", "--epochs", 60, "--patience", 1, "--learning-rate", 0.05),
], ids=["numbers", "mixed columns with gaps", "early stopping"])  # fmt: skip
def test_each_seed_gives_the_same_run_as_a_separate_fit(words: tuple[Any, ...], here: Path):
    found = figures("fit", *words[:1], "--out", "all", "--seeds", 3, *QUICK, *words[1:])
    for seed in range(3):
        alone = figures("fit", *words[:1], "--out", f"alone-{seed}", "--seed", seed, *QUICK, *words[1:])
        assert outcome(f"all/seed-{seed}") == outcome(f"alone-{seed}")
        assert listing(f"all/seed-{seed}") == listing(f"alone-{seed}")
        for name, figure in found["seeds"].items():
            assert figure["values"][seed] == alone[name]
    if "--patience" in words:
        assert len({outcome(f"all/seed-{seed}")[1][-1]["epoch"] for seed in range(3)}) > 1


def test_seeds_killed_anywhere_and_resumed(tmp_path: Path):
    """Runs that are killed before or after a file operation are resumed and end with the weights they would have
    had."""
    words = [sys.executable, str(Path(__file__).with_name("killing.py")), str(tmp_path), "9", "seeds"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == [] and found["killed"] >= 6 and found["resumed"] >= 5


def test_failing_seeds_are_reported(here: Path):
    """All seeds are tried, and the error message is that of a single run."""
    result = call("fit", "x.npy", "--out", "runs", "--seeds", 3, *QUICK, "--learning-rate", 1e30, "--clip", 0)
    assert result.status == 1 and "not finite" in result.sentence and "runs/seed-" in result.sentence
    assert "2 more seeds failed" in result.sentence


# Sweeps


def test_a_sweep_gives_the_figures_of_separate_fits(here: Path):
    grid = ("--grid", "beta=0.5,2", "--grid", "learning_rate=0.001,0.01")
    found = figures("sweep", "x.npy", "--out", "all", *grid, "--seeds", 2, *QUICK)
    assert len(found["combinations"]) == 4
    rows = {tuple(row["options"].values()): row["figures"] for row in found["combinations"]}
    single = figures(
        "fit", "x.npy", "--out", "one", "--beta", 2, "--learning-rate", 0.01, "--seeds", 2, *QUICK
    )["seeds"]  # fmt: skip
    for name in ("elbo", "rate", "distortion"):
        assert rows[2, 0.01][name]["values"] == single[name]["values"]
    best = max(rows, key=lambda key: rows[key]["elbo"]["mean"])
    assert tuple(found["best"]["options"].values()) == best
    table = list(csv.DictReader(Path("all/sweep.csv").read_text().splitlines()))
    assert [(float(r["beta"]), float(r["learning_rate"])) for r in table] == list(rows)
    assert [float(r["elbo"]) for r in table] == [rows[key]["elbo"]["mean"] for key in rows]
    for words in (("evaluate",), ("sample", "--out", "s.csv"), ("report",), ("score", "x.npy", "--out", "s.csv")):
        done(words[0], found["best"]["runs"][1], *words[1:])
    assert "nll" not in rows[best]
    points, names = of_sweep(Path("all"))
    assert points.tolist() == [[rows[key][name]["mean"] for name in ("rate", "distortion")] for key in rows]
    assert names[0] == "beta=0.5, learning_rate=0.001"
    page = Path("all/sweep.html").read_text()
    assert page.count("<svg") == 4 and "learning_rate = 0.01" in page and page.count('class="best"') == 5


def test_a_sweep_prints_the_best_combination_and_can_vary_the_size_of_the_code(here: Path):
    text = done("sweep", "x.npy", "--out", "s", "--grid", "latent_dim=1,2", "--nll", "--seeds", 2, *QUICK).out
    assert "best by the bound on held-out rows: latent_dim = " in text and "nll" in text
    assert "holds the runs of a sweep" in refused("evaluate", "s")
    assert "already holds a sweep" in refused("sweep", "x.npy", "--out", "s", "--grid", "beta=1,2")


def test_a_sweep_with_a_failure_goes_on(here: Path):
    found = figures("sweep", "x.npy", "--out", "s", "--grid", "learning_rate=0.001,1e30", "--clip", 0, *QUICK)
    good, bad = found["combinations"]
    assert "not finite" in bad["failed"] and good["failed"] is None
    assert found["best"]["options"] == {"learning_rate": 0.001}


def test_a_sweep_continues_where_it_stopped(here: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("sweep", "x.npy", "--grid", "beta=0.5,1", "--seeds", 2, *QUICK, "--checkpoint-seconds", 0)
    whole = figures(*words, "--out", "whole")
    with monkeypatch.context() as patch:
        patch.setattr("latens.cli.commands.fitting.Quiet", lambda: StopAt(10))
        stopped = call(*words, "--out", "part", "--json")
    assert stopped.status == 130 and "latens sweep --resume part" in stopped.sentence
    found = figures("sweep", "--resume", "part")
    for row, other in zip(found["combinations"], whole["combinations"], strict=True):
        assert row["figures"] == other["figures"] and row["options"] == other["options"]
    assert figures("sweep", "--resume", "part") == found


REFUSED = {
    "sweep x.npy --out s": "a sweep needs --grid",
    "sweep x.npy --grid beta=1": "needs DATA",
    "sweep x.npy --out s --grid beta": "OPTION=VALUE",
    "sweep x.npy --out s --grid beta=": "no values",
    "sweep x.npy --out s --grid bata=1,2": "did you mean 'beta'",
    "sweep x.npy --out s --grid nothing=1,2": "unknown option 'nothing'",
    "sweep x.npy --out s --grid beta=1,two": "'two' is not a number",
    "sweep x.npy --out s --grid learning_rate=0.1,fast": "'fast' is not a number",
    "sweep x.npy --out s --grid beta=1,1": "a value twice",
    "sweep x.npy --out s --grid beta=1 --grid beta=2": "names beta twice",
    "sweep x.npy --out s --grid beta=-1,1": "beta must be",
    "sweep x.npy --out s --grid learning_rate=-1,1": "learning_rate must be",
    "sweep x.npy --out s --grid likelihood=a/b": "folder's name",
    "sweep x.npy --out s --grid beta=1 --beta 2": "both as an option",
    "sweep x.npy --out s --grid seed=1,2": "unknown option 'seed'",
    "sweep x.npy --out s --grid beta=1 --nope 3": "unknown option --nope",
    "sweep x.npy --out s --grid beta=1,2 --seeds 501": "1,002 runs",
    "sweep nope.npy --out s --grid beta=1,2": "nope.npy",
    "sweep --resume nope": "holds no sweep",
    "sweep --resume nope --seeds 2": "omit --seeds",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_sweeps_are_refused_in_one_sentence(words: str, here: Path):
    assert REFUSED[words] in refused(*words.split())
