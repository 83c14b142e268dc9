"""Collapse by layer and dimension: rate, spread and use compared with closed forms, and the verdicts for known
models."""

from __future__ import annotations

import json
import re

import laws
import numpy as np
import pytest
import torch
from laws import t
from torch import nn

from latens import conditionals, evaluation, models, priors
from latens.data import infer
from latens.evaluation.collapsing import per_dimension
from latens.recipes import find
from latens.recipes.choices import DataInfo

N, D, Z = 400, 6, 3


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, Z)) @ rng.normal(size=(Z, D)) * 1.5 + 0.5 * rng.normal(size=(N, D)) + 2.0


def linear(reads: np.ndarray, writes: np.ndarray, variance: float = 0.25) -> models.VAE:
    """q(z|x) = N(V (x - 2), 0.1), p(x|z) = N(W z + 2, variance); ``reads`` and ``writes`` say which dimensions of z
    the encoder fills and the decoder reads."""
    rng = np.random.default_rng(1)
    v, w = rng.normal(size=(Z, D)) * 0.5 * reads[:, None], rng.normal(size=(D, Z)) * writes
    spread = np.where(reads > 0, 0.1, 1.0)
    return laws.linear_vae(w, np.full(D, 2.0), variance, laws.diagonal_posterior(v, np.full(D, 2.0), spread))


ALL, NONE, TWO = np.ones(Z), np.zeros(Z), np.array([1.0, 0.0, 1.0])


def test_rates_and_spreads_are_those_of_the_closed_form() -> None:
    x, model = rows(), linear(TWO, ALL)
    (layer,) = evaluation.collapse(model, t(x)).layers  # type: ignore[union-attr]
    with torch.no_grad():
        mean = model.encode(t(x)).mean.numpy()
    variance = np.where(TWO > 0, 0.1, 1.0)
    rate = 0.5 * ((mean**2).mean(0) + variance - 1 - np.log(variance))
    np.testing.assert_allclose(layer.rates, rate, atol=1e-6)
    np.testing.assert_allclose(layer.spreads, mean.var(0, ddof=1), atol=1e-9)
    assert (layer.size, layer.active) == (3, 2) and layer.rate == pytest.approx(rate.sum(), abs=1e-6)


def test_use_is_the_cost_of_codes_of_other_rows() -> None:
    """Compare with the mean over all pairs of rows and 40 draws. Both are means over 400 rows and must agree within 5
    standard errors of the difference (1 false alarm in 1.7 million)."""
    x, model = rows(), linear(ALL, ALL)
    (layer,) = evaluation.collapse(model, t(x)).layers  # type: ignore[union-attr]
    with torch.no_grad():
        q, w = model.encode(t(x)), model.likelihood.network.weight.numpy()
        z = q.rsample(torch.Size((40,))).numpy()
    own = ((x - z @ w.T - 2.0) ** 2).sum(-1).mean(0)
    errors = ((x[:, None] - (z[:10] @ w.T + 2.0)[:, None]) ** 2).sum(-1)  # draws x rows x other rows
    gaps = (errors.mean((0, 2)) - own) / (2 * 0.25)
    single = (errors[0] - own[:, None]) / (2 * 0.25)
    assert layer.use == pytest.approx(gaps.mean(), abs=5 * single.std() / np.sqrt(N))


@pytest.mark.parametrize(
    "reads, writes, state, said",
    [
        (ALL, ALL, "in use", "all 3 dimensions are in use"),
        (TWO, ALL, "partly inactive", "2 of 3 dimensions in use, 1 inactive"),
        (NONE, ALL, "collapsed", "the code has collapsed: its rate is 0.000 nats, with 0 of 3"),
        (ALL, NONE, "ignored", r"the decoder ignores the code: .*\(use 0.000 nats\), though 3 of 3"),
    ],
)
def test_known_models_have_their_verdict(reads: np.ndarray, writes: np.ndarray, state: str, said: str) -> None:
    found = evaluation.collapse(linear(reads, writes), t(rows()))
    assert found is not None and [layer.state for layer in found.layers] == [state]
    assert re.search(said, found.verdict)
    assert bool(found.cause) == bool(found.remedy) == (state != "in use")
    assert json.loads(json.dumps(found.to_json()))["layers"][0]["state"] == state


def test_the_cause_counts_the_directions_that_a_linear_decoder_would_use() -> None:
    x = rows()
    model = linear(TWO, ALL)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, ddof=0))
    for beta in (1.0, 1e3):
        found = evaluation.collapse(model, t(x), beta=beta)
        expected = int((eigenvalues > beta * 0.25).sum())
        assert found is not None and found.cause.startswith(f"{expected} eigenvalues")
        assert ("training has not yet used them" in found.cause) == (expected > 2)


def test_the_layers_of_a_ladder_add_up() -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(rows().astype(np.float32))
    info = DataInfo(infer(x.numpy()), N, x)
    model, _ = find("ladder")(info, latent_dim=4)
    found, figures = evaluation.collapse(model, x), evaluation.evaluate(model, x, k=0)
    assert found is not None and tuple(layer.size for layer in found.layers) == model.layers
    for layer in found.layers:
        assert layer.rates is not None and layer.use is None
    assert sum(len(layer.spreads) for layer in found.layers) == figures.latent_dim
    total = sum(layer.rate or 0.0 for layer in found.layers)
    assert total == pytest.approx(sum(figures.rate_per_dimension or []), rel=0.2)
    assert len(found.to_frame()) == figures.latent_dim and len(found.table()) == len(model.layers) + 1
    names = [name for name, _ in per_dimension(found)]
    assert names == [f"rate, nats, layer {i}" for i in range(len(model.layers))]


def test_models_without_codes_or_density_have_no_verdict() -> None:
    x = torch.randn(20, 5)
    point = models.VAE(priors.StandardNormal(2), conditionals.PointMassPosterior(nn.Linear(5, 2)),
                       conditionals.NormalLikelihood(nn.Linear(2, 5)))  # fmt: skip
    assert evaluation.collapse(point, x) is None
    model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
                       conditionals.NormalLikelihood(nn.Linear(2, 5)))  # fmt: skip
    assert evaluation.collapse(model, x[:1]) is None
    state = torch.get_rng_state()
    assert evaluation.collapse(model, x) is not None and torch.equal(state, torch.get_rng_state())
