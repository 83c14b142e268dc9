"""Many small fits in several processes give what one process would give, even if processes fail or are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import call, done, figures
from parts import data
from test_many import QUICK, listing, outcome

from latens.cli import workers
from latens.cli.commands import many
from latens.errors import FitError, InputError

SEVERAL = ("fit", "x.npy", "--seeds", "4", *map(str, QUICK))
LONG = ["fit", "x.npy", "--seeds", "4", "--epochs", "12", "--batch-size", "10", "--validation", "0.25",
        "--device", "cpu", "--patience", "0", "--checkpoint-seconds", "0"]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", data(80))
    return tmp_path


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def children(pid: int) -> list[int]:
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(own) for own, parent in map(str.split, table.splitlines()) if int(parent) == pid]


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_for(what: Any, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    words = (sys.executable, "-m", "latens", *words)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_there_are_at_most_as_many_processes_as_cores_with_two_fits_each(monkeypatch: pytest.MonkeyPatch):
    assert [workers.shared_by(jobs, 2) for jobs in (1, 2, 3, 4, 5, 400)] == [1, 1, 1, 2, 2, 2]
    assert [workers.shared_by(jobs, 64) for jobs in (1, 5, 40)] == [1, 2, workers.MOST]
    monkeypatch.setattr(sys, "executable", "")
    assert workers.shared_by(40, 2) == 1


def test_shares_leave_the_same_state_as_one_process(here: Path, two_cores: None):
    two = figures(*SEVERAL, "--out", "two")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    one = figures(*SEVERAL, "--out", "one")
    assert listing("one") == listing("two")
    assert all(outcome(f"one/seed-{seed}") == outcome(f"two/seed-{seed}") for seed in range(4))
    assert [Path(run).name for run in two["runs"]] == [f"seed-{seed}" for seed in range(4)]
    for name, figure in one["seeds"].items():
        assert figure["values"] == two["seeds"][name]["values"], name


def test_a_sweep_is_shared_among_processes(here: Path, two_cores: None):
    words = ("sweep", "x.npy", "--grid", "latent_dim=1,2,3", "--grid", "beta=0.5,1", *QUICK)
    two = figures(*words, "--out", "two")
    torch.set_num_threads(1)
    one = figures(*words, "--out", "one")
    for row, other in zip(one["combinations"], two["combinations"], strict=True):
        assert row["options"] == other["options"]
        assert row["figures"] == other["figures"]


@pytest.mark.parametrize("name, most", [("runs.fitting.SHARED_CELLS", 400), ("training.threads.SMALL", 10)])
def test_large_models_and_many_rows_are_fitted_in_turn(
    name: str, most: int, here: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(f"latens.{name}", most)
    monkeypatch.setattr(workers, "take", lambda threads: pytest.fail("a process is started"))
    done(*SEVERAL, "--out", "two")


def test_a_fit_that_fails_in_another_process_is_reported_and_the_others_continue(here: Path, two_cores: None):
    rates = "learning_rate=0.001,0.002,0.003,1e30"
    found = figures("sweep", "x.npy", "--out", "s", "--grid", rates, "--clip", 0, *QUICK)
    assert [row["failed"] is None for row in found["combinations"]] == [True, True, True, False]
    said = call("fit", "x.npy", "--out", "all", "--seeds", 4, *QUICK, "--learning-rate", 1e30, "--clip", 0)
    assert said.status == 1 and "not finite" in said.sentence and "3 more seeds failed" in said.sentence


def written() -> list[float]:
    """The time at which each checkpoint was last written."""
    return [path.stat().st_mtime for path in sorted(Path("part").glob("seed-*/checkpoint/state.json"))]


def steps() -> list[int]:
    """The step that the first run of each process has reached."""
    states = [Path("part", name, "checkpoint", "state.json") for name in ("seed-0", "seed-1")]
    return [json.loads(state.read_text())["step"] for state in states if state.exists()]


@pytest.mark.slow
def test_a_command_killed_at_random_moments_leaves_no_process_and_resumes_all_jobs(here: Path):
    whole, _ = start(*LONG, "--out", "whole").communicate(timeout=300)
    moments, killed = random.Random(0), 0
    for _ in range(3):
        begun, before = Path("part/seeds.json").exists(), written()
        process = start(*(["fit", "--resume", "part"] if begun else [*LONG, "--out", "part"]))
        while process.poll() is None and written() == before:
            time.sleep(0.01)  # until a step has been trained, however slow the machine
        time.sleep(moments.uniform(0, 0.5))
        others = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        for other in others:
            wait_for(lambda pid=other: not is_alive(pid), 20)
    text, err = start("fit", "--resume", "part").communicate(timeout=300)
    assert killed >= 2 and listing("part") == listing("whole"), err
    for seed in range(4):
        weights = [Path(folder, f"seed-{seed}", "model.safetensors").read_bytes() for folder in ("whole", "part")]
        assert weights[0] == weights[1]
    assert text.partition("elbo")[2] == whole.partition("elbo")[2]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_after_an_interrupt_all_processes_stop_and_one_process_can_continue(how: str, here: Path):
    process = start(*LONG, "--out", "part")
    wait_for(lambda: len(steps()) == 2 or process.poll() is not None)
    [other] = children(process.pid)
    process.send_signal(getattr(signal, how))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "latens fit --resume part" in err.splitlines()[-1]
    assert not is_alive(other)
    assert min(steps()) > 0
    if how == "SIGINT":
        done("fit", "--resume", "part")


@pytest.mark.slow
def test_a_process_that_ends_is_reported_with_the_way_to_continue(here: Path):
    process = start(*LONG, "--out", "part")
    wait_for(lambda: len(steps()) == 2 or process.poll() is not None)
    [other] = children(process.pid)
    os.kill(other, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    last = err.splitlines()[-1]
    assert process.returncode == 1 and "signal 9" in last and "latens fit --resume part" in last
    assert (Path("part") / "seed-2" / "report.html").exists(), "the share of the others is whole"
    done("fit", "--resume", "part")
    assert (Path("part") / "seed-3" / "report.html").exists()


def test_an_error_that_stops_another_process_is_raised_here(here: Path):
    def answers(jobs: list[dict[str, Any]]) -> Any:
        shared = {"root": "all", "line": "latens go on", "how": {"own": None, "report": False, "k": 0}}
        with many.Others([{"many": shared, "threads": 1, "share": jobs}], 1, "latens go on") as others:
            return others.answers()

    job = {"data": "x.npy", "out": "all/seed-0", "settings": {"epochs": 1, "device": "cpu"}}
    [(folder, answer)] = answers([job]).items()
    assert folder == "all/seed-0" and answer.figures["elbo"] < 0 and answer.text.startswith("all/seed-0: vae")
    with pytest.raises(InputError, match=r"nowhere.npy"):
        answers([job | {"data": "nowhere.npy"}])
    with pytest.raises(FitError, match=r"\(status 1\): continue with `latens go on`"):
        answers([])


def test_the_cores_are_shared_too(monkeypatch: pytest.MonkeyPatch):
    given: list[dict[str, Any]] = []

    class Noted(subprocess.Popen):
        def __init__(self, *words: Any, **options: Any):
            given.append(options)
            super().__init__(*words, **options)

    monkeypatch.setattr(workers.subprocess, "Popen", Noted)
    with many.Others([{}, {}], 3, "latens go on"):
        pass
    assert [options["env"]["OMP_NUM_THREADS"] for options in given] == ["3", "3"]


@pytest.mark.parametrize(
    ("words", "begun", "taken"),
    [(SEVERAL, 1, 1),
     (("fit", "nowhere.npy", "--seeds", "4", *map(str, QUICK)), 1, 0),
     (("fit", "x.npy", "--seeds", "4", "--recipe", "nothing"), 1, 0),
     (("fit", "x.npy", "--seeds", "2", *map(str, QUICK)), 0, 0),
     (("sweep", "x.npy", "--grid", "beta=1,2", "--grid", "latent_dim=1,2", *map(str, QUICK)), 1, 1),
     (("sweep", "x.npy", "--grid", "beta", "--grid", "latent_dim=1,2,3,4"), 1, 0)],
)  # fmt: skip
def test_workers_started_early_are_taken_or_ended(
    words: tuple[str, ...], begun: int, taken: int, here: Path, two_cores: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    started: list[subprocess.Popen[bytes]] = []
    begin = workers.start
    monkeypatch.setattr(workers, "start", lambda threads: started.append(begin(threads)) or started[-1])
    said = call(*words, "--out", "out")
    assert len(started) == begun, said
    assert [process.poll() for process in started] == [0] * taken + [-signal.SIGTERM] * (begun - taken)


def test_a_waiting_worker_ends_with_the_process_that_started_it():
    code = "from latens.cli import workers; p = workers.start(1); print(p.pid); import os; os.kill(os.getpid(), 9)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    wait_for(lambda: not is_alive(int(said.stdout)))
