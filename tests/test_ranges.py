"""Samples of arrays have values that the data could have: in the range, on the grid, or among the few distinct
values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commanding import done

import latens
from latens.data import infer
from latens.distributions import Normal, Observed, drawing_within
from latens.runs.margins import quantile_map
from latens.schema import Schema

N = 400
rng = np.random.default_rng(0)
y, x = np.mgrid[:12, :12]
at = rng.uniform(2, 10, (N, 2, 1, 1))
spots = np.exp(-((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2) / 8)
gamma = rng.gamma(2, 2, N)
# name: (array, the step of its grid, whether no other values may occur)
ARRAYS: dict[str, tuple[np.ndarray, float, bool]] = {
    "16-bit images": ((spots * 999 - 500).astype(np.int16), 1, False),
    "images of 0 and 255": ((spots > 0.4).astype(np.uint8) * 255, 255, True),
    "images of three greys": (np.array([0, 127, 255], np.uint8)[np.digitize(spots, [0.3, 0.6])], 1, True),
    "bytes up to 200": ((spots * 200).astype(np.uint8), 1, False),
    "images in tens": (np.rint(spots * 20).astype(np.int32) * 10 - 100, 10, False),
    "two scales of channels": (np.stack([spots * 9, -1e4 * spots], 1).astype(np.float32), 0, False),
    "fractions with zeros": (np.where(spots < 0.1, 0, spots).astype(np.float32), 0, False),
    "fractions": (rng.beta(2, 5, (N, 4)), 0, False),
    "half precision": (rng.uniform(2, 3, (N, 3)).astype(np.float16), 0, False),
    "big-endian": (rng.uniform(5, 9, (N, 3)).astype(">f4"), 0, False),
    "cents": (np.round(rng.gamma(2, 20, (N, 3)), 2), 0.01, False),
    "tenths in float32": (np.round(rng.normal(size=(N, 3)), 1).astype(np.float32), 0.1, False),
    "whole numbers": (rng.integers(-50, 50, (N, 5)), 1, False),
    "unsigned": (rng.integers(300, 60_000, (N, 3)).astype(np.uint16), 1, False),
    "signs": (rng.choice([-1, 1], (N, 20)), 2, True),
    "answers": (np.asfortranarray(rng.integers(1, 6, (N, 6)).astype(float)), 1, True),
    "uneven levels": (rng.choice([0.25, 1 / 3, 0.5, np.pi], (N, 4)), 0, True),
    "large whole numbers": (rng.integers(0, 40, (N, 3)) * 7 + 10**12, 7, False),
}


def fitted(array: np.ndarray, **options: object) -> latens.VAE:
    return latens.VAE(latent_dim=2, epochs=2, random_state=0, **options).fit(array)  # type: ignore[arg-type]


def columns(array: np.ndarray, layout: str) -> np.ndarray:
    return array.reshape(-1, array.shape[-1]) if layout in ("vector", "TC") else array.reshape(-1, 1)


@pytest.mark.parametrize("name", ARRAYS)
def test_samples_have_values_of_the_data(name: str) -> None:
    array, step, is_all = ARRAYS[name]
    vae = fitted(array)
    seen = columns(array, vae.schema_.layout)
    for new in (vae.sample(300, random_state=0), vae.sample(300, mean=True, random_state=0), vae.reconstruct(array)):
        assert new.dtype == array.dtype.newbyteorder("=") and new.shape[1:] == array.shape[1:]
        found = columns(new, vae.schema_.layout)
        assert (found >= seen.min(0)).all() and (found <= seen.max(0)).all()
    drawn = columns(vae.sample(300, random_state=0), vae.schema_.layout).astype(np.float64)
    if step:
        places = (drawn - seen.min(0).astype(np.float64)) / step
        np.testing.assert_allclose(places, np.rint(places), atol=1e-3)
        digits = max(0, round(-np.log10(step)))
        assert np.array_equal(drawn.astype(seen.dtype), np.round(drawn, digits).astype(seen.dtype))
    if is_all:
        assert all(np.isin(drawn[:, j], seen[:, j]).all() for j in range(seen.shape[1]))
    schema = vae.schema_
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    inside = schema.to_model(array)
    np.testing.assert_allclose(schema.to_user(schema.settled(inside)), schema.to_user(inside), rtol=1e-6)


def test_channels_have_ranges_of_their_own() -> None:
    x = np.cumsum(np.exp(rng.normal(size=(N, 9, 2))), 1) * [1, 1000]
    for array, layout in ((x, "TC"), (x[:, :, None], "HWC"), (np.moveaxis(x, -1, 1)[..., None], "CHW")):
        schema = infer(array, layout=layout)
        settled = schema.to_user(schema.settled(schema.to_model(array * 0 + 1e9)))
        channels = (settled if layout != "CHW" else np.moveaxis(settled, 1, -1)).reshape(-1, 2)
        np.testing.assert_allclose(channels, np.broadcast_to(x.max((0, 1)), channels.shape), rtol=1e-6)


@pytest.mark.parametrize("column", [rng.uniform(0, 1, N), rng.uniform(-5, 90, N), np.rint(rng.uniform(0, 100, N))])
def test_samples_heap_at_the_ends_of_the_range_only_if_the_data_do(column: np.ndarray) -> None:
    heaped = np.where(rng.random(N) < 0.4, 0.0, gamma)
    new = fitted(np.c_[column, heaped]).sample(4000, random_state=0)
    for end in (column.min(), column.max()):
        assert (new[:, 0] == end).mean() < 0.025
    assert abs((new[:, 1] == 0).mean() - (heaped == 0).mean()) < 0.12  # five standard errors of 400 rows


normal = np.random.default_rng(1).normal(size=(3000, 8))
one = normal[:, 0]
HEAPED = np.c_[
    np.where(normal[:, 1] < 0.28, 0, np.exp(one)),  # 61 % zeros, then a long tail
    np.where(normal[:, 1] < -0.25, 5.0, np.where(normal[:, 2] < -1, 2.0, 10 * normal[:, 3])),  # heaps in the middle
    np.minimum(100, np.rint(90 + 20 * one)),  # many at the high end of a grid
    np.where(normal[:, 4] < 0.5, -999.0, normal[:, 5]),  # an atom far from the other values
    (normal[:, 6] < -0.5).astype(float), np.rint(np.exp(1 + one)),  # an indicator, and counts
    np.round(np.exp(normal[:, 7] * 1.5), 2), one,  # cents with a long tail, and a normal
]  # fmt: skip


@pytest.mark.parametrize("draws", [np.sort(one), np.exp(one), one.round(1)])
def test_a_map_of_quantiles_takes_draws_to_the_distribution_of_the_values(draws: np.ndarray) -> None:
    for values in HEAPED.T:
        _, at, to = quantile_map(draws, values)
        found = np.sort(np.interp(draws, at, to))
        heaps, seen = np.unique(values, return_counts=True)
        repeated = 0 if len(np.unique(draws)) == len(draws) else (draws == np.median(draws)).mean()
        for heap in heaps[seen > 60]:
            assert abs((found == heap).mean() - (values == heap).mean()) < 0.002 + 2 * repeated
        levels = np.linspace(0.02, 0.98, 49)
        place = [np.searchsorted(np.sort(values), np.quantile(found, levels, method="nearest"), side) / len(values)
                 for side in ("left", "right")]  # fmt: skip
        assert (place[0] <= levels + 0.02 + 2 * repeated).all() and (place[1] >= levels - 0.02 - 2 * repeated).all()
        assert found[0] == values.min() and found[-1] == values.max() and (np.diff(to) >= 0).all()


@pytest.mark.parametrize("how", ["estimator", "float32", "file", "streamed", "with a condition"])
def test_samples_of_vectors_have_the_heaps_and_tails_of_the_data(how: str, tmp_path: Path) -> None:
    array = HEAPED.astype(np.float32) if how in ("float32", "streamed") else HEAPED
    if how in ("file", "streamed"):
        np.save(tmp_path / "a.npy", array)
        stream = ["--stream"] if how == "streamed" else []
        done("fit", tmp_path / "a.npy", "--out", tmp_path / "run", "--epochs", 3, "--latent-dim", 2, *stream)
        done("sample", tmp_path / "run", "-n", 20_000, "--out", tmp_path / "b.npy")
        new = np.load(tmp_path / "b.npy")
    else:
        given = {"y": one > 0} if how == "with a condition" else {}
        vae = latens.VAE(latent_dim=2, epochs=3, random_state=0).fit(array, **given)
        new = vae.sample(20_000, random_state=1)
    for seen, drawn in zip(array.T, new.T):
        values, counts = np.unique(seen, return_counts=True)
        for value, share in zip(values, counts / len(seen)):
            # four standard errors of 20,000 samples, and of the 3,000 draws from which the map is made: with 60 heaps,
            # a false alarm in less than 1 of 200 runs
            allowed = 4 * np.sqrt(share / 20_000 + share / 3000)
            assert share < 0.01 or abs((drawn == value).mean() - share) < allowed, (value, share)
        assert seen.min() <= drawn.min() and drawn.max() <= seen.max()
        assert abs(np.quantile(drawn, 0.99) - np.quantile(seen, 0.99)) <= 0.35 * np.ptp(np.quantile(seen, [0.9, 0.998]))


def test_extrapolated_draws_go_beyond_the_range_on_their_grid() -> None:
    vae = fitted(rng.integers(0, 30, (N, 3)) * 2)
    inside, beyond = (vae.sample(2000, random_state=0, extrapolate=on) for on in (False, True))
    assert inside.min() == 0 and inside.max() == 58 and beyond.min() < -3 and beyond.max() > 61
    assert not (beyond % 2).any()


@pytest.mark.parametrize("rows", [3, 20, 80])
def test_the_ends_of_few_rows_are_heaps_only_where_cells_lie_on_them(rows: int) -> None:
    some = rng.gamma(2, 2, (rows, 3))
    assert infer(some).ranges.heaped == ((False, False),) * 3
    some[: max(3, rows // 4), 0] = 0
    assert infer(some).ranges.heaped[0][0] and infer(some).ranges.heaped[1:] == ((False, False),) * 2


def test_draws_within_limits_are_those_of_the_truncated_distribution() -> None:
    px = Observed(Normal(torch.zeros(2), torch.ones(2)), 1)
    with drawing_within((np.array([0.0, -np.inf]), np.array([np.inf, np.inf]))):
        new = px.sample((40_000,))
    assert new[:, 0].min() >= 0 and abs(new[:, 0].mean().item() - np.sqrt(2 / np.pi)) < 0.02
    assert abs(new[:, 1].mean().item()) < 0.02 and (px.sample((1000,)) < 0).any()


def test_samples_of_an_array_file_stay_in_its_range_unless_extrapolated(tmp_path: Path) -> None:
    array = ARRAYS["16-bit images"][0]
    np.save(tmp_path / "a.npy", array)
    done("fit", tmp_path / "a.npy", "--out", tmp_path / "run", "--epochs", 1)
    done("sample", tmp_path / "run", "--out", tmp_path / "b.npy")
    new = np.load(tmp_path / "b.npy")
    assert new.dtype == array.dtype and new.min() >= array.min() and new.max() <= array.max()
    done("sample", tmp_path / "run", "--extrapolate", "--out", tmp_path / "c.npy")
    assert np.load(tmp_path / "c.npy").min() < array.min()
