"""Callbacks see every step and every validation, may stop a run, and change nothing else; trackers are callbacks."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commanding import done, refused
from sklearn.base import clone
from torch import nn

import latens
from latens import VAE, InputError
from latens.training import Callback, Tracker, tracking
from latens.training.checkpoint import state_of
from latens.training.settings import learning_rate_at

X = np.random.default_rng(0).normal(size=(90, 4))
QUICK: dict[str, Any] = {"latent_dim": 2, "epochs": 12, "batch_size": 9, "validation": 0.2, "random_state": 0}


class Notes(Callback):
    """A callback that records all its calls and stops the run where asked to."""

    def __init__(self, stop: tuple[str, int] | None = None, fail: int | None = None):
        self.stop, self.fail = stop, fail
        self.begun: list[Any] = []
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.rows: list[dict[str, Any]] = []
        self.ends = 0

    def start(self, step: int, steps: int, about: dict[str, Any]) -> None:
        self.begun.append((step, steps, about))

    def step(self, step: int, terms: dict[str, float]) -> bool:
        self.steps.append((step, terms))
        if step == self.fail:
            raise KeyError("own")
        torch.rand(3), np.random.default_rng().normal()  # whatever random numbers a callback draws
        return self.stop == ("step", step)

    def round(self, row: dict[str, Any]) -> Any:
        self.rows.append(row)
        return np.bool_(self.stop == ("round", len(self.rows)))

    def end(self) -> None:
        self.ends += 1


def same(one: Any, two: Any) -> bool:
    pairs = zip(state_of(one.model).items(), state_of(two.model).items(), strict=True)
    return all(a == b and torch.equal(v, w) for (a, v), (b, w) in pairs)


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_callbacks_change_nothing_and_see_every_step():
    notes = Notes()
    plain, watched = (VAE(callbacks=each, **QUICK).fit(X).run_ for each in (None, [notes]))
    assert same(plain, watched) and untimed(plain.history) == untimed(watched.history)
    assert plain.record().keys() == watched.record().keys() and plain.warnings == watched.warnings
    [(first, steps, about)] = notes.begun
    assert (first, steps, notes.ends) == (0, 96, 1) and [number for number, _ in notes.steps] == [*range(1, 97)]
    assert about["recipe"]["name"] == "vae" and about["training"]["batch_size"] == 9 and about["folder"] is None
    assert notes.rows == watched.history
    at = 0
    for row in watched.history:  # the figures of a round are the means of its steps
        some = [terms for number, terms in notes.steps if at < number <= row["step"]]
        for name, sign in (("bound", -1), ("rate", 1), ("distortion", 1)):
            mean = np.mean([terms["loss" if name == "bound" else name] for terms in some])
            assert row[f"train_{name}"] == pytest.approx(sign * mean, rel=1e-12)
        at = row["step"]
    settings = watched.settings
    for number, terms in notes.steps:
        assert terms["learning_rate"] == learning_rate_at(number - 1, steps, settings) and terms["gradient_norm"] > 0
        assert terms["loss"] == pytest.approx(terms["rate"] + terms["distortion"], rel=1e-5)


def test_callbacks_see_every_player_and_every_skipped_step():
    notes = Notes()
    VAE(recipe="aae", callbacks=[notes], **QUICK).fit(X)
    some = {name for _, terms in notes.steps for name in terms}
    players = {name.removeprefix("loss_") for name in some if name.startswith("loss_")}
    assert players and {f"gradient_norm_{name}" for name in players} <= some
    left = Notes()
    big = np.concatenate([X, np.full((9, 4), 1e4)])  # the added rows have the longest gradients
    run = latens.train(*own_parts(), big, epochs=3, batch_size=9, skip_norm=1e4, callbacks=[left])
    skipped = [terms for _, terms in left.steps if "skipped" in terms]
    assert skipped and len(skipped) == sum(row["skipped"] for row in run.history) and len(left.steps) == 33
    assert all(terms == {"skipped": 1.0} for terms in skipped)


@pytest.mark.parametrize(("stop", "steps"), [(("step", 1), 1), (("step", 11), 11), (("round", 1), 32)])
def test_a_callback_stops_the_run(tmp_path: Path, stop: tuple[str, int], steps: int):
    notes = Notes(stop)
    with pytest.warns(UserWarning, match=f"a callback stopped the run after {steps} of 96 steps"):
        vae = VAE(callbacks=[Callback(), notes], **QUICK).fit(X)
    assert len(notes.steps) == steps == vae.run_.history[-1]["step"] and notes.ends == 1
    assert vae.run_.status == "finished" and np.isfinite(vae.run_.history[-1]["validation_bound"])
    vae.save(tmp_path / "run")
    assert np.array_equal(latens.load(tmp_path / "run").transform(X), vae.transform(X))


def own_parts() -> tuple[Any, Any]:
    torch.manual_seed(0)
    posterior = latens.conditionals.DiagonalNormalPosterior(nn.Linear(4, 4))
    likelihood = latens.conditionals.NormalLikelihood(nn.Linear(2, 4))
    return latens.models.VAE(latens.priors.StandardNormal(2), posterior, likelihood), latens.objectives.ELBO()


def test_a_run_ended_by_a_callback_error_continues_to_the_same_bits(tmp_path: Path):
    common: dict[str, Any] = {"epochs": 6, "batch_size": 9, "validation": 0.2, "checkpoint_seconds": 0}
    whole = latens.train(*own_parts(), X, out=tmp_path / "whole", **common)
    notes, later = Notes(fail=13), Notes()
    with pytest.raises(KeyError, match="own"):
        latens.train(*own_parts(), X, out=tmp_path / "run", callbacks=[notes], **common)
    assert notes.ends == 1
    again = latens.train(*own_parts(), X, out=tmp_path / "run", resume=True, callbacks=[later], **common)
    assert same(whole, again) and untimed(whole.history) == untimed(again.history)
    assert later.begun[0][0] in (12, 13) and later.steps[-1][0] == notes.begun[0][1]


def test_other_objects_are_refused_as_callbacks():
    for wrong in (print, [print], [Callback], "tensorboard"):
        with pytest.raises(InputError, match=re.escape(f"instances of latens.training.Callback, got {wrong!r}")):
            VAE(callbacks=wrong, **QUICK).fit(X)
        with pytest.raises(InputError, match=r"callbacks must be a list"):
            latens.train(*own_parts(), X, callbacks=wrong)
    assert isinstance(clone(VAE(callbacks=[Notes()])).callbacks[0], Notes)


# Trackers


class Kept:
    """A stand-in for a tracker of accelerate."""

    made: list[Kept] = []

    def __init__(self, run_name: str, **options: Any):
        self.run_name, self.options, self.logged, self.open = run_name, options, [], True
        self.about: dict[str, Any] = {}
        Kept.made.append(self)

    def start(self) -> None:
        if self.options.get("fails"):
            raise RuntimeError("no key\nwas found.")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.about = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.open = False


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> type[Kept]:
    from accelerate import tracking as theirs

    Kept.made = []
    monkeypatch.setattr(theirs, "LOGGER_TYPE_TO_CLASS", dict.fromkeys(tracking.TRACKERS, Kept))
    monkeypatch.setattr(tracking, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: True)))
    return Kept


def test_a_tracker_gets_the_figures_of_steps_and_rounds(kept: type[Kept], tmp_path: Path):
    tracker = Tracker("wandb", mode="offline")
    run = latens.train(*own_parts(), X, epochs=6, batch_size=9, validation=0.2, callbacks=[tracker])
    [made] = kept.made
    assert made.run_name == "latens" and made.options == {"mode": "offline"} and not made.open
    assert made.about["training.batch_size"] == 9 and made.about["rows"] == 72
    assert [step for step, values in made.logged if "step/loss" in values] == [10, 20, 30, 40]
    rounds = [(step, values) for step, values in made.logged if "round/validation_bound" in values]
    assert rounds == [
        (row["step"], {f"round/{name}": float(value) for name, value in row.items()}) for row in run.history
    ]


def test_the_command_line_tracks_a_run_and_its_continuation(kept: type[Kept], tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    done("fit", "iris", "--out", "run", "--track", "tensorboard", "--epochs", "4", "--latent-dim", "1")
    [made] = kept.made
    assert made.run_name == "tensorboard" and made.options == {"logging_dir": Path("run")} and made.logged
    done("fit", "iris", "--out", "many", "--track", "mlflow", "--seeds", "2", "--epochs", "2", "--latent-dim", "1")
    assert len({id(each) for each in kept.made}) >= 2


def test_a_tracker_that_is_missing_or_fails_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    fit = ("fit", "iris", "--out", "run", "--epochs", "1", "--latent-dim", "1", "--track")
    monkeypatch.setattr(tracking, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    assert refused(*fit, "wandb") == "the tracker wandb is not installed: pip install wandb, or fit without it"
    assert refused(*fit, "x") == "there is no tracker 'x': name one of tensorboard, wandb, mlflow, trackio"


def test_a_tracker_that_cannot_start_is_reported_in_one_sentence(kept: type[Kept], tmp_path: Path):
    with pytest.raises(InputError) as error:
        latens.train(*own_parts(), X, out=tmp_path / "run", epochs=1, callbacks=[Tracker("wandb", fails=True)])
    said = "the tracker wandb cannot start (RuntimeError: no key was found): set it up, or fit without it"
    assert str(error.value) == said
    assert not (tmp_path / "run").exists()


def test_the_example_of_pruning_runs_where_optuna_is_installed():
    pytest.importorskip("optuna")
    page = (Path(latens.__file__).parents[1] / "docs/howto/callbacks.md").read_text("utf-8")
    [example] = [code for code in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if "optuna" in code]
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert {trial.state.name for trial in scope["study"].trials} == {"COMPLETE", "PRUNED"}
