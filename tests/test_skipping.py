"""Skipped updates (``skip_norm``): the same ones are skipped however a step is computed, and they are counted and
reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import call, done, figures, refused
from parts import assert_same, data, timeless, trainer, vae
from torch import nn

import latens
from latens import InputError, conditionals, models, objectives, priors
from latens.errors import FitError
from latens.training import Checkpoints, NonFiniteError, Settings
from latens.training.checkpoint import state_of
from latens.training.settings import learning_rate_at

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN: dict[str, Any] = {"epochs": 8, "learning_rate": 0.02, "warmup": 0.1, "clip": 5.0}
LONGEST = 30.0


def wild() -> np.ndarray:
    """Rows of which two are outliers: their batches have long gradients."""
    x = data()
    x[[3, 30]] *= 12
    return x


def by_hand(model: models.VAE, longest: float) -> tuple[list[float], list[int]]:
    """(gradient norms, skipped steps) of torch's AdamW when steps with a norm not below ``longest`` are skipped."""
    loop = trainer(model, wild(), **PLAN)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    objective, norms, without = objectives.ELBO(), [], []
    for step in range(loop.steps):
        batch = [*loop.loader.batches(step // 4)][step % 4]
        torch.manual_seed(latens.tensors.randomness.seed_of(0, 11, step))
        draw = objective.draw(model, batch.x)
        optimizer.zero_grad()
        objective.losses(model, batch.x, draw)["model"].backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), PLAN["clip"])))
        if not norms[-1] < longest:
            without.append(step)
            continue
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, loop.steps, loop.settings)
        optimizer.step()
    return norms, without


@pytest.mark.parametrize("more", [{}, {"compile": True, "backend": "eager"}], ids=["eager", "captured"])
def test_a_run_is_adamw_without_the_updates_of_long_gradients(more: dict[str, Any]):
    """Weights, moments and their corrections are those of a loop that never takes these updates."""
    truth, model = vae(variance=0.1), vae(variance=0.1)
    norms, without = by_hand(truth, LONGEST)
    assert 3 < len(without) < 27 and min(norms) < LONGEST < max(norms)
    loop = trainer(model, wild(), skip_norm=LONGEST, **PLAN, **more)
    loop._settle = lambda: None  # type: ignore[method-assign]
    loop.run()
    assert loop.step == 32 and sum(row["skipped"] for row in loop.history) == len(without)
    assert loop.players["model"].taken == 32 - len(without)
    for name, tensor in state_of(model).items():
        torch.testing.assert_close(tensor, state_of(truth)[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("more", [{}, {"compile": True, "backend": "eager"}], ids=["eager", "captured"])
def test_a_row_that_is_not_finite_costs_only_its_own_batches(more: dict[str, Any]):
    x = data()
    x[7] = 1e30
    model = vae(variance=0.1)
    loop = trainer(model, x, skip_norm=1e6, **PLAN, **more).run()
    assert sum(row["skipped"] for row in loop.history) == 8  # one batch of each epoch has the row
    assert all(torch.isfinite(tensor).all() for tensor in state_of(model).values())
    assert all(np.isfinite(row["train_bound"]) for row in loop.history)
    with pytest.raises(NonFiniteError):
        trainer(vae(variance=0.1), x, **PLAN).run()


def test_averages_and_hooks_rest_with_the_weights():
    """A codebook and averaged weights that are never updated do not change."""
    book = conditionals.Codebook(1, 4, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.VAE(
            priors.UniformCodesPrior(book, 1), conditionals.NearestCode(nn.Linear(3, 2), book),
            conditionals.NormalLikelihood(nn.Linear(2, 3), variance=0.1),
        )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    loop = trainer(model, data(), skip_norm=1e-9, average=0.5, epochs=1)
    for batch in [*loop.loader.batches(0)][:3]:
        loop.update(batch)
    assert loop.skipped == loop.step == 3
    assert_same(state_of(model), before)
    assert_same(loop.averaged.tensors, before)


def test_a_resumed_run_leaves_out_the_same_updates(tmp_path: Path):
    whole = trainer(vae(variance=0.1), wild(), skip_norm=LONGEST, **PLAN).run()
    first = trainer(vae(variance=0.1), wild(), skip_norm=LONGEST, **PLAN)
    first.store = Checkpoints(tmp_path)
    for epoch in range(2):
        for batch in first.loader.batches(epoch):
            first.update(batch)
        first.epoch += 1
        first.position = 0
    first.save()
    second = trainer(vae(variance=0.1), wild(), skip_norm=LONGEST, **PLAN)
    second.store = Checkpoints(tmp_path)
    second.run()
    assert first.skipped and timeless(second.history) == timeless(whole.history)
    assert_same(state_of(second.model), state_of(whole.model))
    assert_same(second.players["model"].state(), whole.players["model"].state())


@pytest.mark.parametrize("more", [{}, {"compile": True, "backend": "eager"}], ids=["eager", "captured"])
def test_a_round_without_an_update_ends_the_run(more: dict[str, Any]):
    model = vae(variance=0.1)
    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    with pytest.raises(FitError, match=r"28 updates .* norm was .* skip_norm is 1e-06"):
        trainer(model, data(), skip_norm=1e-6, **PLAN, **more).run()
    assert_same(state_of(model), before)
    x = data()
    x[:] = 1e30
    with pytest.raises(NonFiniteError, match="not finite"):  # if there is no other problem, the message says so
        trainer(vae(variance=0.1), x, skip_norm=1e6, **PLAN, **more).run()
    with pytest.raises(InputError, match="skip_norm"):
        Settings(skip_norm=-1.0)


def test_the_command_line_reports_the_count_of_skipped_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fit = ("fit", "digits", "--epochs", "2", "--batch-size", "128", "--out")
    found = figures(*fit, "run", "--skip-norm", "37.9")
    [said] = [line for line in found["warnings"] if "skipped" in line]
    assert "updates were skipped" in said and "skip_norm = 37.9" in said
    rows = np.genfromtxt("run/metrics.csv", delimiter=",", names=True)
    assert int(said.split()[0]) == np.nansum(rows["skipped"])
    assert "updates were skipped" in Path("run/report.html").read_text("utf-8")
    assert "skipped" not in done(*fit, "other").err
    failed = call(*fit, "third", "--skip-norm", "1e-9")
    assert failed.status == 1 and "raise it (0 skips none)" in failed.err and "Traceback" not in failed.err
    assert "skip-norm" in refused(*fit, "fourth", "--skip-norm", "-3")
