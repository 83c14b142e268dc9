"""A run that was interrupted or killed, even repeatedly, and resumed equals an uninterrupted run bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import outcome
from parts import assert_same, data, timeless, vae
from test_training import Adversary

import latens
from latens import InputError, objectives
from latens.data.rows import rows_of
from latens.data.transforms import dequantize
from latens.machine.atomic import write_text
from latens.recipes import Recipe
from latens.runs import fitting
from latens.training import Interrupted, Settings, Trainer
from latens.training.checkpoint import state_of

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged": {"average": 0.9},
    "kl warm-up": {"kl_warmup": 0.7},
    "validated": {"validation": 0.25, "patience": 2},
    "weighted": {"sample_weight": [0.5, 1.0, 2.0] * 20},
    "transformed": {"transform": dequantize},
    "an adversary": {"objective": "adversary"},
    "compiled": {"compile": True},
    "all": {"average": 0.8, "kl_warmup": 0.5, "validation": 0.2, "sample_weight": [0.5, 1.0, 2.0] * 20, "clip": 1.0,
            "transform": dequantize, "objective": "adversary", "weight_decay": 0.1},
}  # fmt: skip


def fit(out: Path, options: dict[str, Any], *, seed: int = 0, **more: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(seed)
    objective = Adversary(every=2) if options.get("objective") == "adversary" else objectives.ELBO()
    given = {"epochs": 9, "batch_size": 10, "device": "cpu"} | {k: v for k, v in options.items() if k != "objective"}
    model = vae(seed=seed)
    return latens.train(model, objective, data(60), out=out, **given, **more), model, objective


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no report: other tests check it, and it takes longer than these fits."""
    monkeypatch.setattr("latens.report.write", lambda path, *given, **more: write_text(path, "page"))


@pytest.fixture
def eager_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer.__init__, "__kwdefaults__", Trainer.__init__.__kwdefaults__ | {"backend": "eager"})


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, how: str) -> None:
    """Interrupt the run in (or crash it after) its n-th step, counted from where it starts or resumes."""
    update, count = Trainer.update, [0]

    def counted(self: Trainer, *given: Any) -> None:
        if how == "a crash" and count[0] == number:
            raise RuntimeError(how)
        update(self, *given)
        count[0] += 1
        if how != "a crash" and count[0] == number:
            os.kill(os.getpid(), getattr(signal, how))

    monkeypatch.setattr(Trainer, "update", counted)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "a crash"])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager_backend: None
):
    options = OPTIONS[name]
    run, model, objective = fit(tmp_path / "whole", options)
    for number in (1, 14, 6, 12):  # after the first step, mid-epoch, on the last step of an epoch, and in a third run
        with monkeypatch.context() as patch:
            stop_at(patch, number, how)
            more = {"checkpoint_seconds": 0.0} if how == "a crash" else {}
            with pytest.raises(RuntimeError if how == "a crash" else Interrupted):
                fit(tmp_path / "part", options, seed=7, resume=True, **more) if number != 1 else fit(
                    tmp_path / "part", options, **more
                )
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again, other, adversary = fit(
        tmp_path / "part", options, seed=8, resume=True, **more
    )  # other starting weights do not matter
    assert_same(state_of(model), state_of(other))
    assert_same(state_of(objective), state_of(adversary))
    assert timeless(run.history) == timeless(again.history)
    whole, part = outcome(tmp_path / "whole"), outcome(tmp_path / "part")
    if how == "a crash":  # its settings differ in checkpoint_seconds
        whole["record"].pop("training"), part["record"].pop("training")
    assert whole == part
    assert again.served == run.served


def test_a_finished_run_resumed_changes_nothing(tmp_path: Path):
    run, model, _ = fit(tmp_path / "run", {})
    before = outcome(tmp_path / "run")
    _, again, _ = fit(tmp_path / "run", {}, seed=5, resume=True)
    assert_same(state_of(model), state_of(again))
    assert outcome(tmp_path / "run") == before


def test_other_data_or_settings_cannot_continue_a_run(tmp_path: Path):
    fit(tmp_path / "run", {})
    with pytest.raises(InputError, match="begun with another learning_rate"):
        fit(tmp_path / "run", {"learning_rate": 0.5}, resume=True)
    with pytest.raises(InputError, match="begun with other data"):
        latens.train(
            vae(),
            objectives.ELBO(),
            data(60, seed=4),
            epochs=9,
            batch_size=10,
            device="cpu",
            out=tmp_path / "run",
            resume=True,
        )
    with pytest.raises(InputError, match="already holds a run"):
        fit(tmp_path / "run", {})
    with pytest.raises(InputError, match=r"tensor .* shape"):
        latens.train(
            vae(latent=1),
            objectives.ELBO(),
            data(60),
            epochs=9,
            batch_size=10,
            device="cpu",
            out=tmp_path / "run",
            resume=True,
        )


def test_one_process_at_a_time_works_on_a_run(tmp_path: Path):
    fit(tmp_path / "run", {})
    with latens.runs.record.at_work(tmp_path / "run"), pytest.raises(InputError, match="another process is at work in"):
        fit(tmp_path / "run", {}, resume=True)
    fit(tmp_path / "run", {}, resume=True)


def test_a_run_waits_for_a_killed_process_to_end(tmp_path: Path):
    fit(tmp_path / "run", {})
    ended = contextlib.ExitStack()
    ended.enter_context(latens.runs.record.at_work(tmp_path / "run"))
    threading.Timer(0.3, ended.close).start()
    fit(tmp_path / "run", {}, resume=True)


def test_a_warm_start_begins_with_the_weights_of_the_other_run(tmp_path: Path):
    rows = rows_of(data(60))
    settings = Settings(epochs=2, batch_size=20, device="cpu")
    first = fitting.fit_recipe(rows, Recipe("vae", latent_dim=2), settings, out=tmp_path / "first", validation=0.0)
    seen: dict[str, torch.Tensor] = {}

    class Looking(latens.training.Progress):
        def start(self, step: int, steps: int) -> None:
            seen.update({n: t.clone() for n, t in state_of(second.model).items()})

    second, parts = fitting.prepare(rows, Recipe("vae", latent_dim=2), settings, validation=0.0)
    fitting.start_from(second, tmp_path / "first")
    fitting.execute(second, *parts, progress=Looking())
    assert_same(seen, state_of(first.model))
    with pytest.raises(InputError, match="shape"):
        fitting.start_from(fitting.prepare(rows, Recipe("vae", latent_dim=3), settings)[0], tmp_path / "first")


# Killed


def command(*words: str | Path, **more: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(latens.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    return subprocess.Popen([sys.executable, *map(str, words)], env=environment, text=True, stderr=subprocess.STDOUT,
                            stdout=subprocess.PIPE, **more)  # fmt: skip


@pytest.mark.slow
def test_killed_at_every_file_operation_and_resumed(tmp_path: Path):
    process = command(Path(__file__).with_name("killing.py"), tmp_path, "11")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    found = json.loads(printed.splitlines()[-1])
    assert found["problems"] == []
    assert found["operations"] > 150 and found["killed"] == found["resumed"] > 60 and found["not_begun"] >= 4


@pytest.mark.slow
def test_latens_fit_killed_at_random_moments_and_resumed(tmp_path: Path):
    """The real command is killed up to three times in a row, each time at a random moment after its first step."""
    words = ["-m", "latens", "fit"]
    options = [
        "digits",
        "--epochs",
        "4",
        "--checkpoint-seconds",
        "0",
        "--latent-dim",
        "2",
        "--average",
        "0.9",
        "--kl-warmup",
        "0.5",
    ]
    process = command(*words, *options, "--out", tmp_path / "whole")
    printed, _ = process.communicate(timeout=180)
    assert process.returncode == 0, printed
    moments, part = random.Random(3), tmp_path / "part"
    state = part / "checkpoint" / "state.json"
    killed = 0
    for _ in range(3):
        begun = (part / "run.json").exists()
        before = state.read_bytes() if state.exists() else b""
        process = command(*words, *(["--resume", part] if begun else [*options, "--out", part]))
        while process.poll() is None and (not state.exists() or state.read_bytes() == before):
            time.sleep(0.01)  # until this process has trained a step, however slow the machine
        time.sleep(moments.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
    process = command(*words, "--resume", part)
    printed, _ = process.communicate(timeout=180)
    assert process.returncode == 0, printed
    assert killed >= 1
    whole, resumed = outcome(tmp_path / "whole"), outcome(part)
    assert whole == resumed
    assert (part / "report.html").stat().st_size > 10_000
    shutil.rmtree(part)
