"""Laws of the baselines of `latens compare`: naive implementations, densities with mass 1, known compressors, and
figures that cannot exist."""

from __future__ import annotations

import itertools
import lzma
import math
import zlib

import numpy as np
import pytest
from commanding import figures, refused
from scipy import integrate, stats
from sklearn.covariance import LedoitWolf

from latens.errors import InputError
from latens.evaluation import baselines
from latens.evaluation.baselines import BASELINES, Sides, baseline_rows

RNG = np.random.default_rng(0)
DENSITIES = ("independent", "gaussian", "factor_analysis", "mixture", "kde")


def sides(d: int = 2, n: int = 60) -> Sides:
    x = RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d)) * 3 + 5
    return Sides(x[: n // 2], x[n // 2 :], x[: n // 2].mean(0), x[: n // 2].std(0))


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_has_mass_1_in_the_units_of_the_data(name: str) -> None:
    """The integral is taken over an interval far wider than the data, in one dimension."""
    one = sides(1)
    grid = np.linspace(one.train.min() - 60, one.train.max() + 60, 40_001)
    found = BASELINES[name](Sides(one.train, grid[:, None], one.shift, one.unit), 1)[0]
    assert integrate.trapezoid(np.exp(-found), grid) == pytest.approx(1, abs=1e-4)


def test_normal_densities_are_those_of_scipy() -> None:
    both = sides(3)
    cells = stats.norm.logpdf(both.test, both.train.mean(0), both.train.std(0)).sum(1)
    assert -BASELINES["independent"](both, None)[0] == pytest.approx(cells, abs=1e-10)
    fitted = LedoitWolf().fit((both.train - both.shift) / both.unit)
    covariance = fitted.covariance_ * np.outer(both.unit, both.unit)
    whole = stats.multivariate_normal(both.shift, covariance).logpdf(both.test)
    assert -BASELINES["gaussian"](both, None)[0] == pytest.approx(whole, abs=1e-8)


def test_kernels_are_a_mixture_of_normal_densities() -> None:
    known, new = RNG.normal(size=(7, 2)), RNG.normal(size=(4, 2))
    naive = [-math.log(np.mean([stats.norm.pdf(x, k, 0.3).prod() for k in known])) for x in new]
    assert baselines._kernels(known, new, 0.3) == pytest.approx(naive, abs=1e-10)


def test_shares_of_levels_are_a_mass() -> None:
    known = RNG.integers(0, 3, (20, 2)).astype(float)
    every = np.array(list(itertools.product(range(3), repeat=2)), dtype=float)
    found, _ = BASELINES["independent"](Sides(known, every, np.zeros(2), np.ones(2), 1.0, 3), None)
    assert np.exp(-found).sum() == pytest.approx(1, abs=1e-12)
    one = [math.prod((sum(known[:, j] == row[j]) + 1) / 23 for j in (0, 1)) for row in every]
    assert np.exp(-found) == pytest.approx(one, abs=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "factor_analysis", "mixture", "kde"])
def test_the_unit_of_the_data_adds_its_logarithm(name: str) -> None:
    both = sides(2)
    other = Sides(both.train * 10, both.test * 10, both.shift * 10, both.unit * 10)
    gain = BASELINES[name](other, 1)[0] - BASELINES[name](both, 1)[0]
    assert gain == pytest.approx(np.full(len(both.test), 2 * math.log(10)), abs=1e-6)


def test_a_density_of_levels_bounds_their_entropy() -> None:
    """Uniform levels 0..15 in 3 cells have 4 bits per cell; a density of x + u gives fewer bits only by chance (0.1
    bits is 20 standard errors of the dequantised mean)."""
    x = RNG.integers(0, 16, (3000, 3)).astype(float)
    both = Sides(x[:2000], x[2000:], np.full(3, 7.5), np.full(3, 4.6), 1.0, 16)
    for row in baseline_rows([name for name in DENSITIES if name != "kde"], both, [1]):
        assert row.nll_bits_per_dimension is not None and row.nll is not None
        assert 3.99 < row.nll_bits_per_dimension < 4.5, row
        assert row.nll == pytest.approx(row.nll_bits_per_dimension * 3 * math.log(2))


def test_compressors_count_the_bytes_of_all_rows() -> None:
    x = RNG.integers(0, 4, (50, 6)).astype(float)
    both = Sides(x, x, np.zeros(6), np.ones(6), 1.0, 4)
    text = bytes(int(v) for v in x.ravel())
    sizes = {"zlib": len(zlib.compress(text, 9)), "lzma": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))}
    for row in baseline_rows([*sizes], both, [2]):
        assert row.nll_bits_per_dimension == pytest.approx(sizes[row.name] * 8 / 300)
        assert row.note.startswith("no density")


def test_a_cell_that_cannot_exist_says_why() -> None:
    for row in baseline_rows(["zlib", "lzma"], sides(), [2]):
        assert row.nll is row.nll_bits_per_dimension is None and row.note.startswith("it compresses bytes")
    said = r"there is no baseline 'kd' .did you mean kde.*: name one or more of independent, "
    with pytest.raises(InputError, match=said):
        baseline_rows(["kd"], sides(), [2])


@pytest.mark.usefixtures("one_thread", "in_place")
def test_compare_accepts_all_baselines() -> None:
    few = ("--latent-dims", "1,2", "--epochs", 1, "--k", 2, "--recipes", "vae")
    found = figures("compare", "levels.npy", "--validation", "levels.npy", "--baselines", "all", *few)["baselines"]
    names = [row["name"] for row in found]
    assert names == ["independent", "gaussian", "factor_analysis", "factor_analysis", "mixture", "kde", "zlib", "lzma"]
    assert [row["latent_dim"] for row in found][2:4] == [1, 2]
    assert all(row["nll"] > 0 for row in found)
    assert "baselines" not in figures("compare", "iris.npy", *few)
    assert "there is no baseline 'kd'" in refused("compare", "iris.npy", "--baselines", "kd", *few)
