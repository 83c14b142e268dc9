"""The mixture prior refitted to the codes: a step of expectation maximisation, judged by the held-out bound."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from laws import t
from parts import assert_same, data, network, trainer
from scipy import stats
from torch import Tensor

from latens import conditionals, models, priors
from latens.tensors.numerics import positive, raw_of
from latens.training.checkpoint import load_state, state_of

RNG = np.random.default_rng(0)
Z, J = 2, 3


def mixture(seed: int = 0) -> priors.NormalMixturePrior:
    torch.manual_seed(seed)
    prior = priors.NormalMixturePrior(Z, J).double()
    with torch.no_grad():
        prior.start.add_(0.3 * torch.randn_like(prior.start))
    return prior


def drawn(prior: Any, z: np.ndarray, weight: np.ndarray | None = None) -> Any:
    return SimpleNamespace(p=prior(), codes=t(z), weight=None if weight is None else t(weight))


def step(prior: priors.NormalMixturePrior, *draws: Any) -> None:
    seen = [prior.nothing, *(rows for each in draws if (rows := prior.seen(each)) is not None)]
    prior.maximise(torch.stack([prior.expect(rows) for rows in seen]).sum(0))


def heaps(rows: int) -> np.ndarray:
    return np.concatenate([RNG.normal(size=(2, rows, Z)) * 0.3 - 1, RNG.normal(size=(2, rows, Z)) + [2.0, 0.0]], 1)


def vae(seed: int = 0) -> models.VAE:
    torch.manual_seed(seed)
    posterior = conditionals.DiagonalNormalPosterior(network(3, 2 * Z))
    likelihood = conditionals.NormalLikelihood(network(Z, 3), variance="optimal")
    return models.VAE(priors.NormalMixturePrior(Z, J), posterior, likelihood)


@pytest.mark.parametrize("floor", [0.0, 1e-4])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_raw_output_is_the_inverse_of_a_positive_number(floor: float, kind: torch.dtype) -> None:
    value = torch.logspace(-3, 4, 60, dtype=kind)
    assert torch.allclose(positive(raw_of(value, floor), floor), value, rtol=1e-4 if kind is torch.float32 else 1e-9)
    assert raw_of(torch.tensor([floor, floor / 2], dtype=kind), floor).isfinite().all()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_takes_the_moments_of_the_codes_that_each_component_explains(weighted: bool) -> None:
    """The step uses two draws for each of 80 rows, and one more row for each component with its earlier moments; scipy
    checks it."""
    prior, z = mixture(), heaps(40)
    weight = RNG.uniform(0.5, 1.5, 80) if weighted else np.ones(80)
    p = prior()
    w, m, v = (x.detach().numpy() for x in (p.weights, p.loc, p.component_variance))
    parts = np.stack([w[j] * stats.multivariate_normal(m[j], np.diag(v[j])).pdf(z) for j in range(J)], -1)
    r = parts / parts.sum(-1, keepdims=True) * weight[:, None] / len(z)
    mass = r.sum((0, 1)) + 1
    mean = ((r[..., None] * z[:, :, None]).sum((0, 1)) + m) / mass[:, None]
    square = ((r[..., None] * z[:, :, None] ** 2).sum((0, 1)) + v + m**2) / mass[:, None]
    halves = [drawn(prior, z[:, rows], weight[rows]) for rows in (slice(30), slice(30, 80))]
    step(prior, *halves)
    p = prior()
    assert p.loc.detach().numpy() == pytest.approx(mean, abs=1e-9)
    assert p.component_variance.detach().numpy() == pytest.approx(square - mean**2, rel=1e-7)
    assert p.weights.detach().numpy() == pytest.approx((mass - 1 + w) / (mass - 1 + w).sum(), abs=1e-9)


def test_steps_raise_the_density_of_the_codes_and_end_at_their_law() -> None:
    """Without the extra row of each component the density never falls; with it, the loss is at most its share of 4,000
    rows. The mean and the variance of the whole mixture are those of the codes."""
    prior, z = mixture(), heaps(1000)
    found = []
    for _ in range(15):
        found.append(prior().log_prob(t(z)).mean().item())
        step(prior, drawn(prior, z))
    assert (np.diff(found) > -1e-3).all() and found[-1] > found[0] + 0.1
    p, flat = prior(), z.reshape(-1, Z)
    assert p.mean.detach().numpy() == pytest.approx(flat.mean(0), abs=0.02)
    assert p.variance.detach().numpy() == pytest.approx(flat.var(0), rel=0.02)


def test_a_component_without_rows_stays_and_a_component_of_equal_rows_keeps_a_variance() -> None:
    prior = mixture()
    with torch.no_grad():
        prior.start[0, 1:3] = 1000.0
    before = prior().loc[0].clone()
    for _ in range(30):
        step(prior, drawn(prior, np.ones((1, 500, Z))))
    p = prior()
    assert torch.equal(p.loc[0], before) and p.weights[0] < 1e-2
    assert p.component_variance.min() >= 1e-4 and p.log_prob(t(np.ones(Z))).isfinite()


def test_a_mixture_that_depends_on_a_condition_is_left_as_it_is() -> None:
    prior = priors.NormalMixturePrior(Z, J, torch.nn.Linear(1, J * (1 + 2 * Z)), ("g",))
    p = priors.NormalMixturePrior(Z, J)()
    assert prior.seen(SimpleNamespace(p=p, codes=torch.zeros(1, 2, Z), weight=None)) is None


def fitted(**more: Any) -> tuple[models.VAE, float, dict[str, Tensor]]:
    """(the model after training, its held-out bound, its weights before the refitting)."""
    model, x = vae(), data(300)
    loop = trainer(model, x[:200], validation=x[200:], epochs=12, seed=3, **more)
    before: dict[str, Tensor] = {}
    refit = loop._refit

    def watched(parts: dict[str, Any]) -> None:
        before.update({name: tensor.clone() for name, tensor in state_of(model).items()})
        refit(parts)

    loop._refit = watched  # type: ignore[method-assign]
    loop.run()
    bound = loop.validate(loop.validation)["validation_trimmed"]  # type: ignore[arg-type]
    after = {name: tensor.clone() for name, tensor in state_of(model).items()}
    load_state(model, before, "before")
    assert loop.validate(loop.validation)["validation_trimmed"] <= bound  # type: ignore[arg-type]
    load_state(model, after, "after")
    return model, bound, before


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_prior_is_refitted_and_the_held_out_bound_is_not_worse(keep: str) -> None:
    model, _, before = fitted(keep=keep)
    changed = [name for name, tensor in state_of(model).items() if not torch.equal(tensor, before[name])]
    assert changed == ["prior.start"]
    assert_same(state_of(model), state_of(fitted(keep=keep)[0]))  # the same noise in every pass and run


def test_a_step_that_costs_held_out_bound_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ruined(self: priors.NormalMixturePrior, sums: Tensor) -> None:
        with torch.no_grad():
            self.start[:, 1:3] += 5

    monkeypatch.setattr(priors.NormalMixturePrior, "maximise", ruined)
    model, _, before = fitted()
    assert_same(state_of(model), before)


def test_without_held_out_rows_nothing_is_refitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors.NormalMixturePrior, "maximise", lambda *_: pytest.fail("refitted"))
    trainer(vae(), data(40), epochs=6).run()
