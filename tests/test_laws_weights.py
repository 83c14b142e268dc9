"""E[w] = p(x) for every recipe whose likelihood is printed, on a world that can be counted: three binary cells have
eight data, whose probabilities add up to 1 and are the frequencies of the model's own samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from laws import Z
from test_catalogue import TABLE

from latens import choices, recipes
from latens.data import infer

WORLD = np.array(list(itertools.product((0, 1), repeat=3)), dtype=np.uint8)
X = torch.as_tensor(WORLD)
FEWER = {"rhvae": 1000, "poincare_riemannian": 2000, "poincare": 5000}
# Posteriors that do not reach all codes: their weights miss what lies outside, so they add up to less than 1.
PARTIAL = {
    "vq": "all mass on one code", "residual_vq": "all mass on one code", "fsq": "all mass on one code",
    "hyperprior": "no mass outside the box of side 1",
}  # fmt: skip


def build(name: str) -> torch.nn.Module:
    """The recipe's model in float64, all that is learned moved by noise, in evaluation mode."""
    torch.manual_seed(0)
    sample = X.repeat(16, 1)
    info = choices.DataInfo(infer(sample.numpy()), len(sample), sample)
    model, _ = recipes.Recipe(name, latent_dim=2, network="linear").build(info)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    model = model.double().eval()
    if hasattr(model, "after_epoch"):
        model.after_epoch()
    return model


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.nll is True])
def test_mean_weights_are_the_probabilities_of_the_model_s_samples(name: str) -> None:
    """8 data, 20,000 draws each and 100,000 samples (fewer where they are costly): each |z| < 4.5 with the errors of
    both, and the sum of the mean weights against 1; false alarms below 7e-5 a recipe."""
    model, draws = build(name), FEWER.get(name, 20_000)
    torch.manual_seed(1)
    with torch.no_grad():
        w = model.draw(X, draws).log_w.exp().numpy()
        seen = np.concatenate([model.sample(5 * draws // 4).numpy() for _ in range(4)])
    total = w.mean(0).sum()
    error = np.sqrt((w.var(0) / draws).sum())
    if name in PARTIAL:
        assert total < 1 - Z * error
        return
    assert abs(total - 1) < Z * max(error, 1e-12)
    share = (seen.astype(np.uint8)[:, None] == WORLD).all(-1).mean(0)
    assert share.sum() == pytest.approx(1)
    apart = w.mean(0) - share
    assert (np.abs(apart) < Z * np.sqrt(w.var(0) / draws + share * (1 - share) / len(seen))).all()
