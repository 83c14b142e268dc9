"""Laws of perceptual similarity: MS-SSIM equals a naive loop, equal images score 1, and there is no bound on ln
p(x)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import latens
from latens import evaluation, networks, objectives, recipes
from latens.errors import InputError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def naive_ms_ssim(x: np.ndarray, y: np.ndarray, span: float, size: int, scales: int) -> float:
    """MS-SSIM, one channel and one window at a time."""
    at = np.arange(size) - size // 2
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    found, weights = 1.0, np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    for scale in range(scales):
        whole, parts = [], []
        for i in range(x.shape[0] - size + 1):
            for j in range(x.shape[1] - size + 1):
                a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                vab = (window * (a - ma) * (b - mb)).sum()
                s = (2 * vab + c2) / (va + vb + c2)
                parts.append(s)
                whole.append(s * (2 * ma * mb + c1) / (ma**2 + mb**2 + c1))
        found *= np.mean(whole if scale == scales - 1 else parts) ** weights[scale]
        h, w = x.shape[0] // 2, x.shape[1] // 2
        x, y = (v[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean((1, 3)) for v in (x, y))
    return float(found)


@pytest.mark.parametrize(("side", "size", "scales"), [(8, 7, 1), (28, 11, 2), (23, 11, 2)])
def test_ms_ssim_is_a_naive_loop_and_one_for_equal_images(side: int, size: int, scales: int):
    rng = np.random.default_rng(0)
    x = rng.random((side, side))
    y = x + 0.2 * rng.normal(size=x.shape)
    score = networks.MultiScaleSSIM((1, side, side), 1.0).double()
    a, b = (torch.from_numpy(v).view(1, 1, side, side) for v in (x, y))
    assert score(a, b).item() == pytest.approx(naive_ms_ssim(x, y, 1.0, size, scales), abs=1e-6)
    assert score(a, a).item() == pytest.approx(1, abs=1e-9)
    assert score(a, b).item() == pytest.approx(score(b, a).item(), abs=1e-12) and score(a, b) < 0.99


def image_info(side: int = 8) -> latens.recipes.choices.DataInfo:
    x = np.random.default_rng(0).integers(0, 17, size=(30, side, side)).astype(np.uint8)
    return latens.recipes.choices.DataInfo(latens.data.infer(x), 30, torch.from_numpy(x).view(30, 1, side, side))


@pytest.mark.parametrize("name", ["ms_ssim", "feature_reconstruction"])
def test_a_similarity_score_has_a_rate_and_no_bound(name: str):
    info = image_info()
    x = info.sample
    model, objective = recipes.Recipe(name, latent_dim=3).build(info)
    draw = model.draw(x, 2)
    assert (draw.distortion >= -1e-6).all() and draw.rate().shape == (2, 30)
    assert not draw.has_density and "not a density of x" in draw.no_bound
    for act in (
        lambda: draw.log_w,
        lambda: evaluation.nll(model, x, 3),
        lambda: objectives.IWAE(2).losses(model, x, draw),
    ):
        with pytest.raises(ValueError, match="not a density of x"):
            act()
    found = evaluation.evaluate(model, x)
    assert found.elbo is None and found.nll is None and found.elbo_bits_per_dimension is None
    assert "not a density of x" in str(found.lines()) and "ELBO" not in str(found.lines())
    assert torch.isfinite(objective.losses(model, x, model.draw(x))["model"])
    px = draw.px  # equal images have no distance
    again = px.score(px.mean, None)
    assert again.abs().max() < 1e-2


def test_the_features_are_fixed_and_the_same_in_every_process():
    torch.manual_seed(1)
    one = networks.FixedFeatures((1, 8, 8))
    torch.manual_seed(2)
    two = networks.FixedFeatures((1, 8, 8))
    x = torch.rand(3, 2, 1, 8, 8)
    assert torch.equal(one(x), two(x)) and not list(one.parameters())
    assert all(a.dtype == torch.float32 for a in one.state_dict().values())


@pytest.mark.parametrize("name", ["ms_ssim", "feature_reconstruction"])
def test_tables_of_columns_are_refused(name: str):
    x = torch.randn(20, 4)
    with pytest.raises(InputError, match="needs images"):
        recipes.Recipe(name).build(latens.recipes.choices.DataInfo(latens.data.infer(x.numpy()), 20, x))
