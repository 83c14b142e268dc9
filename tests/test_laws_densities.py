"""Laws of densities of codes: mass 1, agreement with scipy and with naive loops, recovery of a known normal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import Z, t, z_score
from scipy import stats
from torch import Tensor, nn

from latens import densities
from latens.densities import Codes, Density
from latens.densities.flows import iaf, maf, spline
from latens.densities.metric import MetricChain, OnMetric, metric
from latens.densities.mixtures import kde, mixture
from latens.densities.stage import vae
from latens.densities.transformer import Autoregressive, Causal, Transformer, autoregressive
from latens.errors import InputError
from latens.tensors.randomness import seeded

pytestmark = pytest.mark.usefixtures("one_thread")

MEAN = np.array([3.0, -20.0])
COVARIANCE = np.array([[4.0, 1.2], [1.2, 0.5]])
NORMAL = stats.multivariate_normal(MEAN, COVARIANCE)

# name: how it is fitted to codes, and by how many nats its held-out -ln p may exceed the entropy
EXPLICIT: dict[str, tuple[Callable[[Codes], Density], float]] = {
    "mixture of one": (lambda codes: mixture(codes, components=1), 0.01),
    "mixture": (mixture, 0.02),
    "kde": (kde, 0.12),
    "maf": (lambda codes: maf(codes, hidden=16, epochs=20), 0.05),
    "iaf": (lambda codes: iaf(codes, hidden=16, transforms=2, epochs=20), 0.05),
    "spline": (lambda codes: spline(codes, hidden=16, transforms=2, epochs=20), 0.1),
}
FITTED: dict[str, tuple[Codes, Density]] = {}


def codes(rows: int = 2500, seed: int = 0) -> Codes:
    """Draws of the known normal, float64."""
    return Codes.split(t(NORMAL.rvs(rows, random_state=seed)), seed=seed)


def fitted(name: str) -> tuple[Codes, Density]:
    if name not in FITTED:
        found = codes()
        FITTED[name] = (found, EXPLICIT[name][0](found))
    return FITTED[name]


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_density_integrates_to_one_on_a_grid(name: str):
    _, density = fitted(name)
    spread = np.sqrt(np.diag(COVARIANCE))
    sides = [np.linspace(m - 8 * s, m + 8 * s, 241) for m, s in zip(MEAN, spread)]
    grid = t(np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2))
    cell = math.prod(side[1] - side[0] for side in sides)
    assert float(density.log_prob(grid).exp().sum()) * cell == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", EXPLICIT)
def test_a_known_normal_gives_back_its_entropy(name: str):
    """Mean -ln p over new draws of the normal is its entropy plus KL(normal || density) >= 0: within the excess stated
    in the table, and not below by more than 4.5 standard errors."""
    _, density = fitted(name)
    fresh = NORMAL.rvs(4000, random_state=99)
    excess = -density.log_prob(t(fresh)).numpy() + NORMAL.logpdf(fresh)  # of each draw, minus the noise of the entropy
    error = excess.std() / math.sqrt(len(excess))
    assert -Z * error < excess.mean() < EXPLICIT[name][1] + Z * error, (excess.mean(), error)


@pytest.mark.parametrize("name", EXPLICIT)
def test_samples_follow_the_density(name: str):
    """E_density[r(z) / p(z)] = 1 for a normal r narrower than p if samples and log_prob have the same distribution. 4.5
    standard errors: one false alarm in 147,000 each."""
    _, density = fitted(name)
    z = density.sample(6003, seed=5)
    assert z.shape == (6003, 2)
    inner = stats.multivariate_normal(MEAN, 0.5 * COVARIANCE)
    ratio = np.exp(inner.logpdf(z.numpy()) - density.log_prob(z).numpy())
    assert abs(z_score(ratio, 1.0)) < Z, ratio.mean()
    assert np.abs(z.numpy().mean(0) - MEAN).max() < 0.3  # samples are near the fitted normal


def test_sample_moments_of_the_mixture_are_within_four_standard_errors():
    _, density = fitted("mixture of one")
    z = density.sample(20_001, seed=1).numpy()
    mean, tril = density.loc[0].numpy(), density.scale_tril[0].numpy()  # type: ignore[union-attr, index]
    white = np.linalg.solve(tril, (z - mean).T).T
    assert np.abs(z_score(white, 0.0)).max() < 4
    products = np.stack([white[:, 0] ** 2, white[:, 1] ** 2, white[:, 0] * white[:, 1]], 1)
    assert np.abs(z_score(products, np.array([1.0, 1.0, 0.0]))).max() < 4


def test_a_mixture_is_the_sum_of_its_parts():
    """Compare with scipy, component by component, for very different units; two clusters are found as two
    components."""
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal([0, 1e4], [1, 30], (600, 2)), rng.normal([9, 1e4], [0.5, 60], (600, 2))])
    density = mixture(Codes.split(t(heaps)), components=2)
    z = heaps[::50]
    parts = [
        w + stats.multivariate_normal(m, s @ s.T).logpdf(z)
        for w, m, s in zip(density.logits.log_softmax(0).numpy(), density.loc.numpy(), density.scale_tril.numpy())
    ]
    np.testing.assert_allclose(density.log_prob(t(z)).numpy(), np.logaddexp(*parts), rtol=1e-10)
    assert np.allclose(sorted(density.loc[:, 0].tolist()), [0, 9], atol=0.2)


def test_the_number_of_components_is_the_one_with_the_most_likely_held_out_codes():
    rng = np.random.default_rng(3)
    corners = 20.0 * np.array(list(itertools.product([0, 1], [0, 1])))
    z = np.concatenate([rng.normal(corner, 1.0, (200, 2)) for corner in corners])
    assert mixture(Codes.split(t(z))).config["components"] == 4


def test_kernels_agree_with_scipy():
    z = NORMAL.rvs(80, random_state=2)
    density = kde(Codes(t(z), t(z[:5])), bandwidth=0.3)
    there = stats.gaussian_kde(z.T, bw_method=0.3)
    at = NORMAL.rvs(20, random_state=4)
    np.testing.assert_allclose(density.log_prob(t(at)).numpy(), there.logpdf(at.T), rtol=1e-7)


def test_a_dimension_that_does_not_vary_is_kept():
    z = t(np.c_[NORMAL.rvs(400, random_state=5)[:, 0], np.full(400, 7.0)])
    for fit in (mixture, kde, lambda c: maf(c, hidden=8, epochs=3)):
        drawn = fit(Codes.split(z)).sample(101, seed=0)
        assert torch.isfinite(drawn).all() and (drawn[:, 1] - 7).abs().max() < 5


# Second stage


def test_second_stage_bound_is_below_the_truth_and_near_it():
    """For a second VAE fitted to normal codes, the importance-weighted bound is within 0.25 nats of minus the entropy
    and on average not above the true ln p (4.5 standard errors); the mean of its samples is that of the codes to
    within 15 % of the spread, and their covariance to within 30 %."""
    found = codes(3000)
    density = vae(found, hidden=32, epochs=60)
    assert density.is_bound
    fresh = NORMAL.rvs(1000, random_state=9)
    with seeded(0):
        gap = NORMAL.logpdf(fresh) - density.log_prob(t(fresh)).numpy()
    error = gap.std() / math.sqrt(len(gap))
    assert -Z * error < gap.mean() < 0.25, (gap.mean(), error)
    z = density.sample(4001, seed=2).numpy()
    spread = np.sqrt(np.diag(COVARIANCE))
    assert (np.abs(z.mean(0) - MEAN) < 0.15 * spread).all()
    assert (np.abs(np.cov(z.T) - COVARIANCE) < 0.3 * np.outer(spread, spread)).all()


# Whole numbers


def strings(positions: int = 3, levels: int = 4) -> Transformer:
    with seeded(1):
        density = Transformer(positions, levels, width=8, layers=2, heads=2).double()
        for p in density.parameters():  # far from the near-uniform start
            p.data.add_(0.5 * torch.randn_like(p))
    return density


def test_masses_of_all_strings_sum_to_one():
    every = torch.tensor(list(itertools.product(range(4), repeat=3)))
    assert float(strings().log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_the_log_mass_is_the_product_of_step_by_step_conditionals():
    density = strings(5, 3)
    network: Causal = density.network
    drawn = density.sample(7, seed=3)
    for string, found in zip(drawn, density.log_prob(drawn)):
        total = 0.0
        for place in range(5):
            with torch.no_grad():
                conditional = network(string[None, :place])[0, -1].softmax(-1)
            total += math.log(conditional[string[place]])
        assert float(found) == pytest.approx(total, abs=1e-10)


def test_frequencies_of_sampled_strings_are_their_masses():
    """Chi-square over all 64 strings, 20,003 samples; p > 1e-5."""
    density = strings()
    every = torch.tensor(list(itertools.product(range(4), repeat=3)))
    expected = density.log_prob(every).exp().numpy() * 20_003
    drawn = density.sample(20_003, seed=7)
    counts = np.bincount((drawn * torch.tensor([16, 4, 1])).sum(1).numpy(), minlength=64)
    few = expected < 5
    seen, wanted = np.append(counts[~few], counts[few].sum()), np.append(expected[~few], expected[few].sum())
    keep = wanted > 0
    assert stats.chisquare(seen[keep], wanted[keep] * seen[keep].sum() / wanted[keep].sum()).pvalue > 1e-5


def test_a_chain_of_whole_numbers_is_learned():
    """A Markov chain over 4 levels and 6 positions is learned to within 0.15 nats of its entropy, ln 4 + 5 H(0.85)."""
    rng = np.random.default_rng(0)
    stay = rng.random((3000, 5)) < 0.85
    jumps = np.where(stay, 0, rng.integers(1, 4, (3000, 5)))
    z = np.c_[rng.integers(0, 4, 3000), np.zeros((3000, 5), int)]
    for place in range(5):
        z[:, place + 1] = (z[:, place] + jumps[:, place]) % 4
    found = Codes.split(torch.from_numpy(z), levels=4)
    density = autoregressive(found, width=32, layers=1, heads=2, epochs=12)
    step = -(0.85 * math.log(0.85) + 0.15 * math.log(0.05))
    score = float(density.log_prob(found.held).mean())
    error = float(density.log_prob(found.held).std()) / math.sqrt(len(found.held))
    assert abs(-score - (math.log(4) + 5 * step)) < 0.15 + Z * error, (score, math.log(4) + 5 * step)


# A metric


class Bowl(nn.Module):
    """G^-1(z) = diag exp(-(z_i - m_i)^2 / s_i^2): sqrt(det G^-1) is N(m, diag s^2) without its constant."""

    mean, spread = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 2.0]).double()

    def inverse_metric(self, z: Tensor) -> Tensor:
        return torch.diag_embed((-((z - self.mean) / self.spread).square()).exp())


def test_the_chain_on_a_metric_has_the_moments_of_its_density():
    """For 8,001 chains that begin far from their density, mean and squares are within 4.5 standard errors."""
    rng = np.random.default_rng(0)
    starts = t(rng.uniform(-12, 12, (500, 2)))
    density = metric(Codes.split(starts, model=Bowl()), moves=60)
    z = density.sample(8001, seed=1).numpy()
    white = (z - Bowl.mean.numpy()) / Bowl.spread.numpy()
    assert np.abs(z_score(white, 0.0)).max() < Z
    assert np.abs(z_score(white**2, 1.0)).max() < Z
    with pytest.raises(NotImplementedError, match="up to a constant"):
        density.log_prob(t(z[:2]))


def test_the_chain_of_a_flat_metric_is_uniform_over_its_box():
    """With a flat metric, draws are uniform over the box: Kolmogorov-Smirnov per dimension, p > 1e-5."""

    class Flat(nn.Module):
        def inverse_metric(self, z: Tensor) -> Tensor:
            return torch.eye(2, dtype=z.dtype) + 0 * z.unsqueeze(-1)

    starts = t(np.random.default_rng(0).uniform(0, 1, (400, 2)))
    density: MetricChain = metric(Codes.split(starts, model=Flat()), moves=40, leaps=3)
    z, box = density.sample(4001, seed=1).numpy(), density.box.numpy()
    assert (z >= box[0]).all() and (z <= box[1]).all()
    for column, low, high in zip(z.T, *box):
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-5
    assert isinstance(density(), OnMetric)


def test_a_model_without_a_metric_says_so():
    with pytest.raises(InputError, match="no metric"):
        metric(codes(20))


# All of them


def test_whole_numbers_and_reals_are_told_apart():
    whole = Codes.split(torch.randint(4, (20, 3)), levels=4)
    for name in ("mixture", "kde", "maf", "iaf", "spline", "vae"):
        with pytest.raises(InputError, match="whole numbers"):
            densities.KINDS[name].fit(whole)
    with pytest.raises(InputError, match="these are real"):
        autoregressive(codes(20))


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2500])
def test_any_number_of_samples_can_be_drawn(size: int):
    """The number need not be a multiple of the block that is drawn at once."""
    assert fitted("mixture")[1].sample(size, seed=0).shape == (size, 2)
    assert Autoregressive(strings().network, 3).sample((size,)).shape == (size, 3)
