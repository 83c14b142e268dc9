"""Floats on a grid become levels with numbers; floats in a common range, such as [0, 1], stay in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import latens
from latens import distributions as d
from latens.data import infer
from latens.data.streams.sources import open_stream
from latens.data.streams.survey import survey

rng = np.random.default_rng(0)
digits = load_digits().images[:300]
grey = rng.integers(0, 256, (40, 9, 9))
grey[0, 0, :2] = 0, 255

# array, levels, span
GRIDS = {
    "k/16": (digits / 16, 17, (0, 1)),
    "k/16 flat": (digits.reshape(300, -1) / 16, 17, (0, 1)),
    "k/255": (grey / 255, 256, (0, 1)),
    "k/255, float32": ((grey / 255).astype("float32"), 256, (0, 1)),
    "k/255, float32 times": (grey.astype("float32") * np.float32(1 / 255), 256, (0, 1)),
    "k/255, float16": ((grey / 255).astype("float16"), 256, (0, 1)),
    "from -1 to 1": (grey.astype("float32") / 127.5 - 1, 256, (-1, 1)),
    "-1, 0, 1": (grey % 3 - 1.0, 3, (-1, 1)),
    "-1 and 1": (grey % 2 * 2 - 1.0, 2, (-1, 1)),
    "standardised": ((grey / 255 - 0.1307) / 0.3081, 256, (-0.1307 / 0.3081, (1 - 0.1307) / 0.3081)),
    "halves": (grey % 3 / 2, 3, (0, 1)),
}
# array, span that it is clipped to
RANGES = {
    "no grid": (rng.random((40, 9, 9)), (0, 1)),
    "no grid, flat": (rng.random((40, 9)), (0, 1)),
    "no grid, -1 to 1": (rng.uniform(-1, 1, (40, 9, 9)), (-1, 1)),
    "no grid, to 255": (rng.uniform(0, 255, (40, 9, 9)), (0, 255)),
    "few columns": (rng.integers(0, 17, (40, 8)) / 16, (0, 1)),
    "three values by chance": (rng.choice([0, 0.123456, 1], (40, 9, 9)), (0, 1)),
    "normal": (rng.normal(size=(40, 9, 9)), None),
    "normal, flat": (rng.normal(size=(40, 9)), None),
}


@pytest.mark.parametrize("name", GRIDS)
def test_evenly_spaced_floats_are_levels(name: str) -> None:
    x, levels, span = GRIDS[name]
    schema = infer(x)
    assert (schema.kind, schema.levels) == ("levels", levels), schema.reason
    assert schema.span == pytest.approx(span)
    again = schema.to_user(schema.to_model(x))
    assert again.dtype == x.dtype
    assert np.abs(again.astype(float) - x).max() <= 4 * np.finfo(x.dtype).eps * np.abs(x).max()
    assert type(schema).from_json(schema.to_json()) == schema
    off = x.copy()
    off[3].flat[4] = span[0] + (span[1] - span[0]) * 0.4 / (levels - 1)
    with pytest.raises(latens.InputError, match="evenly spaced"):
        schema.check(off)


@pytest.mark.parametrize("name", RANGES)
def test_values_on_no_grid_are_continuous_and_clipped(name: str) -> None:
    x, span = RANGES[name]
    schema = infer(x)
    assert (schema.kind, schema.span) == ("continuous", span), schema.reason
    far = schema.to_user(schema.to_model(x) * 3)
    low, high = span or (-np.inf, np.inf)
    assert low <= far.min() and far.max() <= high


@pytest.mark.parametrize("name", [*GRIDS, *RANGES])
def test_a_stream_is_seen_as_an_array_is(name: str, tmp_path: Path) -> None:
    x = (GRIDS.get(name) or RANGES[name])[0]
    np.save(tmp_path / "x.npy", x)
    found, whole = survey(open_stream(str(tmp_path / "x.npy"))).schema, infer(x)
    assert (found.kind, found.levels, found.span) == (whole.kind, whole.levels, whole.span)


def test_a_grid_that_later_rows_break_is_not_a_grid(tmp_path: Path) -> None:
    x = rng.integers(0, 5, (30_000, 20)) / 4
    x[:, 0] = 0.5
    x[29_999, 1] = 0.6180339
    np.save(tmp_path / "x.npy", x)
    found = survey(open_stream(str(tmp_path / "x.npy"))).schema
    assert (found.kind, found.span) == ("continuous", (0, 1))


def test_masses_are_those_of_the_levels_and_sum_to_one() -> None:
    base = d.DiscretizedLogistic(torch.randn(1, 6, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64), 17)
    for first, step in ((0.0, 1 / 16), (-1.0, 1 / 8)):
        px = d.OnGrid(base, first, step)
        level = torch.arange(17, dtype=torch.float64).view(-1, 1).expand(17, 6)
        value = (first + step * level).float().double()
        assert torch.allclose(px.log_prob(value), base.log_prob(level))
        assert torch.allclose(px.log_prob(value).exp().sum(0), torch.ones(6, dtype=torch.float64))
        assert torch.allclose(px.mean, first + step * base.mean)
        drawn = (px.sample([50]) - first) / step
        assert torch.allclose(drawn, drawn.round())


@pytest.mark.parametrize("likelihood", ["auto", "categorical", "normal", "continuous_bernoulli"])
@pytest.mark.parametrize("shape", [(300, 8, 8), (300, 64)], ids=["images", "rows"])
def test_samples_lie_on_the_scale_of_the_data(shape: tuple[int, ...], likelihood: str, tmp_path: Path) -> None:
    x = digits.reshape(shape) / 16
    blank = x.std(0) == 0
    vae = latens.VAE(latent_dim=2, epochs=1, likelihood=likelihood, random_state=0).fit(x)
    vae.save(tmp_path / "run")
    for fitted in (vae, latens.load(tmp_path / "run")):
        for found in (fitted.sample(40, random_state=0), fitted.sample(40, mean=True), fitted.reconstruct(x)):
            assert found.dtype == x.dtype and found.min() >= 0 and found.max() <= 1
            assert (found[:, blank] == x[0][blank]).all()
    if likelihood in ("auto", "categorical"):
        assert np.isin(vae.sample(40), np.unique(x)).all()
