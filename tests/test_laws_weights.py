"""E[w] = p(x) for every recipe that prints a likelihood, on data that can be enumerated: three binary cells have eight
values, whose probabilities add up to 1 and are the frequencies in the model's samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from laws import Z
from test_catalogue import TABLE

from latens import recipes
from latens.data import infer
from latens.recipes import choices
from latens.schema import Column

WORLD = np.array(list(itertools.product((0, 1), repeat=3)), dtype=np.uint8)
X = torch.as_tensor(WORLD)
FEWER = {"rhvae": 1000, "poincare_riemannian": 2000, "poincare": 4000, "vrnn": 8000, "flow_prior": 8000}
# Posteriors that do not reach all codes: their weights miss the mass outside, and add up to less than 1.
PARTIAL = {
    "vq": "all mass on one code", "residual_vq": "all mass on one code", "fsq": "all mass on one code",
    "hyperprior": "no mass outside the box of side 1",
}  # fmt: skip
ELSEWHERE = {  # weights vary too much here, so another file has the law; or the parts are those of vae
    "mixture": "priors", "ladder": "laws_hierarchy", "poe": "laws_modalities", "gumbel_softmax": "laws_discrete",
    "sphere": "laws_geometry", "power_spherical": "laws_geometry", "torus": "laws_geometry", "vae_gan": "laws_bounds",
    "vq_grid": "laws_discrete",  # for images; its parts are those of vq
}  # fmt: skip
LABEL = Column("label", "categorical", "int64", "categorical", (0, 1))


def build(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor] | None]:
    """(the recipe's model in float64, its conditions): noise is added to all parameters, and the posteriors' outputs
    are made small, so that posteriors are wide and weights vary little."""
    torch.manual_seed(0)
    sample = X.repeat(16, 1)
    info = choices.DataInfo(infer(sample.numpy()), len(sample), sample)
    if name == "cvae":
        info.conditions, info.sample_c = (LABEL,), {"label": torch.arange(128) % 2}
    model, _ = recipes.Recipe(name, latent_dim=2, network="linear").build(info)
    with torch.no_grad():
        for part, p in model.named_parameters():
            p += 0.0 if ".below." in part else 0.1 * torch.randn_like(p)
            p *= 0.3 if part.startswith(("posterior", "upward")) else 1.0
        if name == "vrnn":  # its prior depends on the steps before
            model.posterior[-1].bias[2:] += 1.0
    if hasattr(model, "after_epoch"):
        model.after_epoch()
    return model.double().eval(), {"label": torch.ones(1)} if info.conditions else None


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.nll is True and row.name not in ELSEWHERE])
def test_mean_weights_are_the_probabilities_of_samples_of_the_model(name: str) -> None:
    """8 values with 20,000 draws each, and 100,000 samples (fewer if costly): each |z| < 4.5 with the errors of both,
    and so for the sum of the mean weights and 1; false alarm rate below 7e-5 per recipe."""
    (model, told), draws = build(name), FEWER.get(name, 20_000)

    def given(rows: int) -> dict[str, torch.Tensor] | None:
        return {key: value.expand(rows) for key, value in told.items()} if told else None

    torch.manual_seed(1)
    with torch.no_grad():
        w = model.draw(X, draws, given(8)).log_w.exp().numpy()
        seen = np.concatenate([model.sample(draws, given(draws)).numpy() for _ in range(5)])
    if name in PARTIAL:
        total, error = total_of(w)
        assert total < 1 - Z * error
    else:
        check(w, seen, WORLD)


def test_mean_weights_of_a_deep_convolutional_ladder_are_probabilities() -> None:
    """The data are the sixteen binary pictures of 2 x 2 cells, with layers of codes on two grids; 8,000 draws each,
    40,000 samples."""
    world = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8)
    pictures = world.reshape(-1, 2, 2)
    x = torch.as_tensor(pictures)[:, None]
    torch.manual_seed(0)
    info = choices.DataInfo(infer(pictures.repeat(16, 0)), 256, x.repeat(16, 1, 1, 1))
    model, _ = recipes.Recipe("deep_ladder", latent_dim=1, network="conv").build(info)
    with torch.no_grad():
        for part, p in model.named_parameters():
            p += 0.2 * torch.randn_like(p) * (0.3 if ".below." in part else 1)
        model.double().eval()
        assert len(model.draw(x, 1).rates()) == 2
        w = torch.cat([model.draw(x, 1000).log_w.exp() for _ in range(8)]).numpy()
        seen = torch.cat([model.sample(5000) for _ in range(8)]).flatten(1).numpy()
    assert 0.1 < (w.std(0) / w.mean(0)).max() < 0.5, "codes matter, and the weights are tame"
    check(w, seen, world)


def total_of(w: np.ndarray) -> tuple[float, float]:
    """The sum of the mean weights ``[draws, data]`` of all data, and its standard error."""
    return w.mean(0).sum(), np.sqrt((w.var(0) / len(w)).sum())


def check(w: np.ndarray, seen: np.ndarray, world: np.ndarray) -> None:
    """Check that mean weights add up to 1 and equal the shares of the values among samples, within ``Z`` standard
    errors."""
    total, error = total_of(w)
    assert abs(total - 1) < Z * error
    share = (seen.astype(np.uint8)[:, None] == world).all(-1).mean(0)
    assert share.sum() == pytest.approx(1)
    apart = w.mean(0) - share
    assert (np.abs(apart) < Z * np.sqrt(w.var(0) / len(w) + share * (1 - share) / len(seen))).all()
