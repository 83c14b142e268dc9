"""Laws over the table of distributions: mass 1, moments, samples, scipy, finite gradients, divergences, missing cells,
units of the data, and densities of dequantised data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import integrate, stats
from torch import Tensor, nn
from torch import distributions as td

from latens import conditionals, distributions, evaluation, models, networks, priors
from latens.data.transforms import binarize, dequantize
from latens.evaluation.likelihood import bits_per_dimension
from latens.tensors.numerics import log1mexp, log1mexp_of_log, log_mean_exp, positive

# The table of likelihoods: a new likelihood is one more row, and all laws below apply to it


@dataclass
class Row:
    """``make(dtype)`` gives a distribution over some cells; ``values`` is the support, None for the real line.
    ``log_p(x)`` is an independent log-density of each cell at x; ``moments`` are exact mean and variance of each cell,
    None if there are none."""

    make: Callable[[torch.dtype], td.Distribution]
    values: np.ndarray | None
    log_p: Callable[[np.ndarray], np.ndarray]
    moments: tuple[np.ndarray, np.ndarray] | None


LOC, VAR = np.array([-1.3, 0.0, 2.5, 40.0]), np.array([0.16, 1.0, 9.0, 1e-4])
LOGITS = np.array([-3.0, -0.1, 0.0, 2.0])
MANY = np.random.default_rng(0).normal(size=(4, 5)) * 2
RATES, THETAS = np.array([0.02, 1.0, 4.0, 40.0]), np.array([0.5, 1.0, 3.0, 1e3])
EXTRA = 1 / (1 + np.exp(-LOGITS))
CUTS = np.array([[-1.0, 0.0, 1.0], [-4.0, 0.5, 0.6], [0.0, 3.0, 9.0], [-9.0, -1.0, 2.0]])
ORDERED = np.diff(stats.logistic.cdf(CUTS - LOGITS[:, None]), prepend=0, append=1)


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(values - values.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def logistic_masses(loc: np.ndarray, log_scale: np.ndarray, levels: int, weights: np.ndarray) -> np.ndarray:
    """``[cells, levels]`` from differences of scipy's distribution function (survival function above the middle)."""
    half = 1 / (levels - 1)
    y = np.linspace(-1, 1, levels)
    total = np.zeros((loc.shape[1], levels))
    for m, s, w in zip(loc, np.exp(log_scale), weights):
        low, high = (y - half - m[:, None]) / s[:, None], (y + half - m[:, None]) / s[:, None]
        low[:, 0], high[:, -1] = -np.inf, np.inf
        below, above = (
            stats.logistic.cdf(high) - stats.logistic.cdf(low),
            stats.logistic.sf(low) - stats.logistic.sf(high),
        )
        total += w[:, None] * np.where(low > 0, above, below)
    return total


def discretized(levels: int, components: int) -> Row:
    rng = np.random.default_rng(levels + components)
    loc = np.concatenate([rng.uniform(-1.5, 1.5, (components, 6)), np.full((components, 1), 0.3)], 1)
    log_scale = rng.uniform(-3.5, 0.5, loc.shape)
    logits = rng.normal(size=loc.shape)
    weights = softmax(logits, 0)
    masses = logistic_masses(loc, log_scale, levels, weights)
    values = np.arange(levels)
    mean = masses @ values

    def make(dtype: torch.dtype) -> td.Distribution:
        mixture = None if components == 1 else t(logits).to(dtype)
        return distributions.DiscretizedLogistic(t(loc).to(dtype), t(log_scale).to(dtype), levels, mixture)

    cells = np.arange(loc.shape[1])
    return Row(
        make, values, lambda x: np.log(masses[cells, x.astype(int)]),
        (mean, masses @ values**2 - mean**2),
    )  # fmt: skip


def categorical_log_p(x: np.ndarray) -> np.ndarray:
    return np.log(softmax(MANY, 1))[np.arange(4), x.astype(int)]


def nb_log_p(x: np.ndarray) -> np.ndarray:
    return stats.nbinom(THETAS, THETAS / (THETAS + RATES)).logpmf(x)


TABLE = {
    "Normal": Row(
        lambda dtype: distributions.Normal(t(LOC).to(dtype), t(VAR).to(dtype)), None,
        lambda x: stats.norm(LOC, np.sqrt(VAR)).logpdf(x), (LOC, VAR),
    ),
    "InUnits(Normal)": Row(
        lambda dtype: distributions.InUnits(
            distributions.Normal(t(LOC).to(dtype), t(VAR).to(dtype)), t(3.0).to(dtype), t([2.0, 0.1, 1, 5]).to(dtype)
        ), None,
        lambda x: stats.norm(3 + np.array([2.0, 0.1, 1, 5]) * LOC, np.array([2.0, 0.1, 1, 5]) * np.sqrt(VAR)).logpdf(x),
        (3 + np.array([2.0, 0.1, 1, 5]) * LOC, np.array([2.0, 0.1, 1, 5]) ** 2 * VAR),
    ),
    "Bernoulli": Row(
        lambda dtype: distributions.Bernoulli(t(LOGITS).to(dtype)), np.arange(2),
        lambda x: stats.bernoulli(1 / (1 + np.exp(-LOGITS))).logpmf(x),
        stats.bernoulli(1 / (1 + np.exp(-LOGITS))).stats("mv"),
    ),
    "Categorical": Row(
        lambda dtype: distributions.Categorical(t(MANY).to(dtype)), np.arange(5), categorical_log_p, None
    ),
    "Poisson": Row(
        lambda dtype: distributions.Poisson(t(np.log(RATES)).to(dtype)), np.arange(120),
        lambda x: stats.poisson(RATES).logpmf(x), (RATES, RATES),
    ),
    "NegativeBinomial": Row(
        lambda dtype: distributions.NegativeBinomial(t(np.log(RATES)).to(dtype), t(np.log(THETAS)).to(dtype)),
        np.arange(250), nb_log_p, (RATES, RATES + RATES**2 / THETAS),
    ),
    "ZeroInflatedNegativeBinomial": Row(
        lambda dtype: distributions.ZeroInflatedNegativeBinomial(
            t(np.log(RATES)).to(dtype), t(np.log(THETAS)).to(dtype), t(LOGITS).to(dtype)
        ), np.arange(250),
        lambda x: np.logaddexp(np.where(x == 0, np.log(EXTRA), -np.inf), np.log1p(-EXTRA) + nb_log_p(x)),
        ((1 - EXTRA) * RATES, (1 - EXTRA) * (RATES + RATES**2 / THETAS + EXTRA * RATES**2)),
    ),
    "Ordinal": Row(
        lambda dtype: distributions.Ordinal(t(LOGITS).to(dtype), t(CUTS).to(dtype)), np.arange(4),
        lambda x: np.log(ORDERED[np.arange(4), x.astype(int)]),
        (ORDERED @ np.arange(4), ORDERED @ np.arange(4) ** 2 - (ORDERED @ np.arange(4)) ** 2),
    ),
} | {
    f"DiscretizedLogistic-{levels}-{m}": discretized(levels, m)
    for levels, m in ((2, 1), (17, 1), (256, 1), (17, 3), (256, 5))
}  # fmt: skip
EACH = pytest.mark.parametrize("name", TABLE)


def support(row: Row, cells: int) -> np.ndarray:
    """Every value of every cell, ``[values, cells]``."""
    assert row.values is not None
    return np.repeat(row.values[:, None], cells, 1)


@EACH
def test_the_density_agrees_with_an_independent_one_and_has_mass_one(name) -> None:
    row = TABLE[name]
    px = row.make(torch.float64)
    cells = px.batch_shape.numel()
    if row.values is not None:
        x = support(row, cells)
        found = px.log_prob(t(x)).numpy()
        assert found == pytest.approx(np.array([row.log_p(v) for v in x]), abs=1e-7)  # differences of scipy's cdf
        assert np.exp(found).sum(0) == pytest.approx(1, abs=1e-13)
        assert np.array_equal(px.log_prob(torch.from_numpy(x).byte()).numpy(), found)  # any storage type
        return
    mean, variance = row.moments
    line = np.linspace(-40, 40, 4001)[:, None] * np.sqrt(variance) + mean
    found = px.log_prob(t(line)).numpy()
    assert found == pytest.approx(row.log_p(line), rel=1e-9, abs=1e-9)
    assert integrate.trapezoid(np.exp(found), line, axis=0) == pytest.approx(1, abs=1e-9)


@EACH
def test_samples_have_the_moments_and_frequencies_of_the_density(name) -> None:
    """200,000 draws per cell: frequencies of all values (those expected 25 times or more), mean and variance, |z| <
    4.5. At most 1,800 comparisons, a false alarm rate of 1.2 % for the widest row; seeds are fixed."""
    n, row = 200_000, TABLE[name]
    px = row.make(torch.float64)
    torch.manual_seed(len(name))
    x = px.sample((n,)).double().numpy()
    if row.values is not None:
        counts = np.stack([(x == v).sum(0) for v in row.values])
        assert counts.sum() == x.size  # nothing outside the support
        p = np.exp(np.array([row.log_p(v) for v in support(row, x.shape[1])]))
        z = (counts - n * p) / np.sqrt(n * p * (1 - p) + 1e-300)
        assert np.abs(z[(n * p >= 25) & (n * (1 - p) >= 25)]).max() < Z
        assert (counts[n * p < 25] < 25 + 5 * 5 + 20).all()
    if row.moments is not None:
        mean, variance = row.moments
        assert (np.abs(x.mean(0) - mean) < Z * np.sqrt(variance / n)).all()
        square = (x - mean) ** 2
        error = square.std(0) / np.sqrt(
            n
        )  # standard error of the sample variance; below a variance of 1e-3 of the range there are too few events
        seen = variance > (1e-3 if row.values is not None else 0)
        assert (np.abs(square.mean(0) - variance) < Z * error + 1e-12)[seen].all()
        if "Discretized" not in name:
            assert px.mean.numpy() == pytest.approx(np.broadcast_to(mean, px.mean.shape), rel=1e-9, abs=1e-12)
            assert px.variance.numpy() == pytest.approx(np.broadcast_to(variance, px.mean.shape), rel=1e-9)
        else:
            assert np.abs(px.mean.numpy() - mean).max() < 0.5  # as documented


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_the_edges_of_the_support(name, dtype) -> None:
    px, row = TABLE[name].make(dtype), TABLE[name]
    leaves = [v.requires_grad_() for v in vars(px).values() if isinstance(v, Tensor) and v.is_floating_point()]
    if "InUnits" in name:
        leaves = [px.base.loc.requires_grad_(), px.base._variance.requires_grad_()]
    values = [-1e4, 0.0, 1e4] if row.values is None else [row.values.min(), row.values.max()]
    for value in values:
        log_p = px.log_prob(torch.full(px.batch_shape, float(value), dtype=dtype))
        assert torch.isfinite(log_p).all()
        for grad in torch.autograd.grad(log_p.sum(), leaves, allow_unused=True):
            assert grad is None or torch.isfinite(grad).all()


EXTREME = {
    "Bernoulli": lambda p: distributions.Bernoulli(p * 1e4),
    "Categorical": lambda p: distributions.Categorical(torch.stack([p * 1e4, -p * 1e4, p * 0], -1)),
    "Normal floor": lambda p: distributions.Normal(p * 100, torch.full_like(p, 1e-6)),
}


@pytest.mark.parametrize("name", EXTREME)
def test_saturated_parameters_have_finite_values_and_gradients_in_float32(name) -> None:
    p = torch.tensor([-1.0, 1.0], requires_grad=True)
    for value in (0, 1):
        log_p = EXTREME[name](p).log_prob(torch.tensor([value, value]))
        (grad,) = torch.autograd.grad(log_p.sum(), p)
        assert torch.isfinite(log_p).all() and torch.isfinite(grad).all()


# The discretised logistic


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("components", [1, 3])
def test_discretised_logistics_sum_to_one_everywhere(levels, components) -> None:
    loc = np.array([-30.0, -1.7, -1.0, -0.2, 0.0, 0.9999, 1.3, 50.0])
    scales = np.array([-7.0, -5.5, -2.0, 0.0, 3.0])
    for shift in range(components):
        grid = t(np.array(list(itertools.product(loc, scales))).T)
        mean = torch.stack([grid[0] + 0.3 * m * (1 - 2 * shift) for m in range(components)])
        log_scale = torch.stack([grid[1].roll(m) for m in range(components)])
        logits = (
            None if components == 1 else torch.linspace(-9, 2, components, dtype=torch.float64)[:, None].expand_as(mean)
        )
        px = distributions.DiscretizedLogistic(mean, log_scale, levels, logits)
        x = torch.arange(levels, dtype=torch.float64)[:, None].expand(levels, grid.shape[1])
        log_p = px.log_prob(x)
        assert torch.isfinite(log_p).all()
        assert log_p.exp().sum(0).numpy() == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("components", [1, 3])
def test_discretised_logistics_are_finite_ten_thousand_scales_away_in_float32(levels, components) -> None:
    for log_scale in (-7.0, -2.0, 3.0):
        distance = 1e4 * np.exp(log_scale)
        loc = (
            torch.tensor([[-1 - distance, 1 + distance, 0.0, -distance, distance]])
            .repeat(components, 1)
            .requires_grad_()
        )
        scale = torch.full_like(loc, log_scale).requires_grad_()
        logits = None if components == 1 else torch.zeros_like(loc).requires_grad_()
        px = distributions.DiscretizedLogistic(loc, scale, levels, logits)
        x = torch.arange(levels)[:, None].expand(levels, 5)
        log_p = px.log_prob(x)
        inputs = [v for v in (loc, scale, logits) if v is not None]
        assert torch.isfinite(log_p).all()
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(log_p.sum(), inputs))
        # and they have the right sign: far below every level, loc should rise
        (grad,) = torch.autograd.grad(px.log_prob(torch.full((5,), levels - 1)).sum(), loc)
        assert (grad[:, 0] > 0).all()


# Densities of discrete data


@pytest.mark.parametrize("columns", [1, 12, 784])
def test_the_uniform_density_costs_exactly_eight_bits(columns) -> None:
    x = torch.randint(0, 256, (30, columns), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x.clamp_(max=254)  # 255 + u may round to 256 in float32: see the next test
    flat = td.Independent(td.Uniform(torch.zeros(columns), torch.full((columns,), 256.0), validate_args=False), 1)

    class Flat(nn.Module):
        def forward(self, z: Tensor) -> td.Distribution:
            return flat.expand(z.shape[:-1])

    prior = priors.StandardNormal(1)
    exact = laws.Fixed(lambda x: distributions.DiagonalNormal(torch.zeros(len(x), 1), torch.ones(len(x), 1)))
    model = models.VAE(prior, exact, Flat())
    result = evaluation.nll(model, dequantize(x, torch.arange(30), seed=3), k=4)
    assert bits_per_dimension(result.mean, columns) == pytest.approx(8.0, abs=1e-5)  # densities in float32
    assert bits_per_dimension(columns * np.log(256), columns) == 8.0


def test_dequantised_values_stay_within_their_level() -> None:
    """floor(x + u) = x for each of 2.6 million draws at each level."""
    for level in (0, 1, 16, 127, 254, 255):
        x = torch.full((1024, 2560), level, dtype=torch.uint8)
        y = dequantize(x, torch.arange(1024), seed=5)
        assert y.dtype == torch.float32
        assert (y.floor() == level).all(), level


def test_dequantised_densities_bound_the_mass() -> None:
    """E_u ln p(x + u) <= ln P(x), where P(x) is the integral of p over the level: for logistic and normal densities of
    17 and 256 levels and 4,000 draws of u, at most 4.5 standard errors above (340 comparisons: 1.2e-3, one-sided)."""
    rows = torch.arange(4000)
    for levels in (17, 256):
        for loc, log_scale in ((-0.4, -1.0), (0.2, -3.0), (0.9, -5.0)):
            unit = (levels - 1) / 2
            centre, scale = (loc + 1) * unit + 0.5, np.exp(log_scale) * unit
            px = distributions.DiscretizedLogistic(t([[loc]]), t([[log_scale]]), levels)
            for x in range(0, levels, 5):
                y = dequantize(torch.full((4000, 1), x, dtype=torch.uint8), rows, seed=x).double().numpy()[:, 0]
                below = stats.logistic(centre, scale).logpdf(y)
                assert below.mean() < px.log_prob(t([x])).item() + Z * below.std() / np.sqrt(4000) + 1e-6
                normal = stats.norm(centre, scale)
                high, low = normal.logcdf([x + 1, x]) if x < centre else normal.logsf([x, x + 1])
                mass = high + np.log1p(-np.exp(low - high)) if high > -np.inf else -np.inf
                density = normal.logpdf(y)
                assert density.mean() < mass + Z * density.std() / np.sqrt(4000) + 1e-6


def test_binarised_pixels_are_one_with_the_probability_of_their_grey_value() -> None:
    """5 levels, 40,000 draws, |z| < 4.5 (false alarm rate 3e-5)."""
    for level in (0, 1, 100, 254, 255):
        p = level / 255
        ones = (
            binarize(torch.full((40_000, 1), level, dtype=torch.uint8), torch.arange(40_000), seed=1).double().numpy()
        )
        assert abs(ones.mean() - p) <= Z * np.sqrt(p * (1 - p) / 40_000)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_a_sum_over_cells_by_products_is_the_sum_of_the_cells(dtype: torch.dtype, tolerance: float) -> None:
    """Many draws of the same rows, some missing cells and logits up to 30. With gradients, cells are summed one by one;
    without, by products."""
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(scale=10, size=(7, 5, 40)), dtype=dtype)
    x = torch.tensor(rng.random((5, 40)), dtype=dtype)
    x[rng.random((5, 40)) < 0.2] = torch.nan
    for value in (x, (x.nan_to_num() > 0.5).to(torch.uint8)):
        p = distributions.Observed(distributions.Bernoulli(logits), 1)
        with torch.no_grad():
            found = p.log_prob(value)
        assert found.shape == (7, 5)
        assert found.numpy() == pytest.approx(p.cells(value).sum(-1).numpy(), rel=tolerance)


# The variance of draws is the declared variance


def test_a_million_draws_have_the_declared_variance() -> None:
    """The relative standard error of a sample variance of 10^6 draws is 0.14 %; the tolerance is 1 %, 7 of these
    errors."""
    n = 1_000_000
    h = np.array([0.16, 1e-3, 4.0])
    mean = np.array([1.0, -3.0, 0.0])
    cov = np.array([[0.16, 0.05, 0.0], [0.05, 0.3, -0.1], [0.0, -0.1, 1.0]])
    torch.manual_seed(0)
    diagonal = laws.diagonal_posterior(np.zeros((3, 2)), np.zeros(2), h)(torch.zeros(1, 2, dtype=torch.float64))
    assert diagonal.variance.detach().numpy()[0] == pytest.approx(h, rel=1e-9)
    full = laws.full_posterior(np.zeros((3, 2)), np.zeros(2), cov)(torch.zeros(1, 2, dtype=torch.float64))
    normal = conditionals.NormalLikelihood(
        laws.affine(np.zeros((1, 1)), np.zeros(1)), variance=0.16, unit=t(3.0)
    ).double()
    with torch.no_grad():
        cases = {
            "DiagonalNormal": (diagonal.rsample((n,))[:, 0], np.diag(h)),
            "FullNormal": (full.rsample((n,))[:, 0], cov),
            "Normal": (distributions.Normal(t(mean), t(h)).rsample((n,)), np.diag(h)),
            "likelihood in units": (normal(torch.zeros(n, 1, dtype=torch.float64)).sample(), np.array([[9 * 0.16]])),
        }
    for name, (z, truth) in cases.items():
        found = np.atleast_2d(np.cov(z.numpy().T))
        assert np.diag(found) == pytest.approx(np.diag(truth), rel=0.01), name
        spread = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
        assert np.abs(found - truth).max() < 0.01 * spread.max(), name
    assert full.variance.detach().numpy()[0] == pytest.approx(np.diag(cov), rel=1e-9)
    assert normal.data_variance.item() == pytest.approx(9 * 0.16, rel=1e-6)


def test_normal_posteriors_have_the_density_and_entropy_of_scipy() -> None:
    rng = np.random.default_rng(0)
    mean, a = rng.normal(size=3), rng.normal(size=(3, 3))
    cov = a @ a.T + 0.2 * np.eye(3)
    z = rng.normal(size=(7, 3))
    for q, c in (
        (distributions.DiagonalNormal(t(mean), t(np.diag(cov))), np.diag(np.diag(cov))),
        (distributions.FullNormal(t(mean), t(np.linalg.cholesky(cov))), cov),
    ):
        reference = stats.multivariate_normal(mean, c)
        assert q.log_prob(t(z)).numpy() == pytest.approx(reference.logpdf(z), abs=1e-9)
        assert q.entropy().item() == pytest.approx(reference.entropy(), abs=1e-9)


# Divergences

KINDS = {
    "diagonal": lambda m, c: distributions.DiagonalNormal(m, c.diagonal(dim1=-2, dim2=-1)),
    "full": lambda m, c: distributions.FullNormal(m, torch.linalg.cholesky(c)),
    "torch diagonal": lambda m, c: td.Independent(td.Normal(m, c.diagonal(dim1=-2, dim2=-1).sqrt()), 1),
    "torch full": lambda m, c: td.MultivariateNormal(m, c),
}


@pytest.mark.parametrize("q_kind,p_kind", list(itertools.product(KINDS, KINDS)))
def test_divergences_in_closed_form_are_those_of_numpy(q_kind, p_kind) -> None:
    rng = np.random.default_rng(0)
    means, covs = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 3, 3))
    covs = covs @ covs.swapaxes(-1, -2) + 0.3 * np.eye(3)
    for side, kind in enumerate((q_kind, p_kind)):
        if "diagonal" in kind:
            covs[side] *= np.eye(3)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        (m0, m1), (c0, c1) = t(means).to(dtype), t(covs).to(dtype)
        q, p = KINDS[q_kind](m0, c0), KINDS[p_kind](m1, c1)
        expected = [laws.gaussian_kl(*args) for args in zip(means[0], covs[0], means[1], covs[1])]
        assert distributions.has_closed_kl(q, p)
        found = distributions.closed_kl(q, p)
        assert found.dtype == dtype and found.numpy() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        one = KINDS[p_kind](m1[0], c1[0])  # one prior for all rows
        expected = [laws.gaussian_kl(m, c, means[1, 0], covs[1, 0]) for m, c in zip(means[0], covs[0])]
        assert distributions.closed_kl(q, one).numpy() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert distributions.closed_kl(q, q).numpy() == pytest.approx(0, abs=tolerance)


def test_divergences_have_their_known_values() -> None:
    q = distributions.DiagonalNormal(t([0.7]), t([0.16]))
    assert distributions.closed_kl(q, priors.StandardNormal(1)()).item() == pytest.approx(0.7412907319, abs=1e-9)
    found, _ = integrate.quad(
        lambda z: stats.norm(0.7, 0.4).pdf(z) * (stats.norm(0.7, 0.4).logpdf(z) - stats.norm.logpdf(z)),
        -4,
        5,
        epsabs=1e-12,
    )
    assert found == pytest.approx(0.7412907319, abs=1e-9)
    with pytest.raises(ValueError, match="no closed form"):
        distributions.closed_kl(td.Independent(td.Laplace(torch.zeros(1), torch.ones(1)), 1), q)


def test_tiny_and_huge_variances_have_finite_divergence_gradients() -> None:
    for dtype in (torch.float32, torch.float64):
        for scale in (1e-8, 1.0, 1e8):
            mean, variance = (
                torch.ones(2, dtype=dtype).requires_grad_(),
                torch.full((2,), scale, dtype=dtype).requires_grad_(),
            )
            value = distributions.closed_kl(
                distributions.DiagonalNormal(mean, variance), priors.StandardNormal(2).to(dtype)()
            )
            grads = torch.autograd.grad(value, [mean, variance])
            assert torch.isfinite(value) and all(torch.isfinite(g).all() for g in grads)


# Missing cells and units


@pytest.mark.parametrize("name", TABLE)
def test_missing_cells_are_left_out_and_gradients_stay_finite(name) -> None:
    row = TABLE[name]
    base = row.make(torch.float64)
    leaves = [v.requires_grad_() for v in vars(base).values() if isinstance(v, Tensor) and v.is_floating_point()]
    px = distributions.Observed(base, 1)
    cells = px.event_shape[0]
    torch.manual_seed(0)
    x = base.sample((9,)).double().numpy() if row.values is not None else base.sample((9,)).detach().numpy()
    missing = np.random.default_rng(1).random(x.shape) < 0.4
    missing[0], missing[1] = True, False
    each = np.stack([row.log_p(v) for v in x])
    found = px.log_prob(t(np.where(missing, np.nan, x)))
    assert found.detach().numpy() == pytest.approx(np.where(missing, 0, each).sum(1), abs=1e-9)
    assert px.cells(t(x)).detach().numpy() == pytest.approx(each, abs=1e-9) and cells == x.shape[1]
    if leaves:
        for grad in torch.autograd.grad(found.sum(), leaves, allow_unused=True):
            assert grad is None or torch.isfinite(grad).all()


@pytest.mark.parametrize("name", TABLE)
def test_complete_rows_have_the_same_cells_with_and_without_a_mask(name, monkeypatch) -> None:
    px = distributions.Observed(TABLE[name].make(torch.float64), 1)
    torch.manual_seed(0)
    x = px.sample((9,)).double()
    plain = px.cells(x)
    monkeypatch.setattr("latens.distributions.event.surely_complete", lambda value: False)
    assert torch.equal(px.cells(x), plain)


@pytest.mark.parametrize("mask", [False, True])
def test_a_model_of_data_with_missing_cells_has_finite_gradients(mask) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5)) * 3 + 7
    x[rng.random(x.shape) < 0.4] = np.nan
    x[0] = np.nan
    torch.manual_seed(0)
    shift, unit = t(np.full(5, 7.0)), t(np.full(5, 3.0))
    encoder = nn.Sequential(networks.Standardize(shift, unit, mask=mask), nn.Linear(10 if mask else 5, 4)).double()
    model = models.VAE(
        priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(encoder),
        conditionals.NormalLikelihood(nn.Linear(2, 5), variance="learned", shift=shift, unit=unit),
    ).double()  # fmt: skip
    draw = model.draw(t(x), 3)
    assert torch.isfinite(draw.log_w).all()
    assert (draw.log_px[:, 0] == 0).all()
    grads = torch.autograd.grad(draw.log_w.sum(), list(model.parameters()))
    assert all(torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("shift,unit", [(0.0, 1.0), (3.0, 10.0), (-1e3, 1e-3), (1.6e9, 1.0), (1.6e9, 0.01)])
def test_a_change_of_units_changes_log_p_by_the_log_jacobian(shift, unit) -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=(6, 4)).round(3)
    x = shift + unit * u  # float64 keeps 1.6e9 +- 1 to 2e-7
    u = (x - shift) / unit
    net = laws.affine(rng.normal(size=(4, 2)), rng.normal(size=4))
    z = t(rng.normal(size=(6, 2)))
    plain = conditionals.NormalLikelihood(net, variance=0.7).double()
    user = conditionals.NormalLikelihood(net, variance=0.7, shift=t(shift), unit=t(unit)).double()
    inside, outside = plain(z).log_prob(t(u)), user(z).log_prob(t(x))
    assert (outside - inside).detach().numpy() == pytest.approx(-4 * np.log(unit), abs=1e-9)
    f = net(z).detach().numpy()
    expected = stats.norm(shift + unit * f, unit * np.sqrt(plain.variance.item())).logpdf(x).sum(1)
    assert outside.detach().numpy() == pytest.approx(expected, rel=1e-6, abs=1e-4)
    assert user(z).mean.detach().numpy() == pytest.approx(shift + unit * f, rel=1e-12)
    # a float32 network with data in float64: the digits below the shift survive
    single = conditionals.NormalLikelihood(
        laws.affine(np.zeros((4, 2)), np.zeros(4)).float(), shift=t(shift), unit=t(unit)
    )
    found = single(z.float()).log_prob(t(x)).detach().double().numpy()
    assert found == pytest.approx(stats.norm.logpdf(u).sum(1) - 4 * np.log(unit), rel=1e-5)


def test_units_may_differ_by_cell() -> None:
    unit = np.array([0.1, 1.0, 10.0])
    user = conditionals.NormalLikelihood(
        laws.affine(np.zeros((3, 1)), np.zeros(3)), variance=1.0, unit=t(unit)
    ).double()
    x = np.random.default_rng(0).normal(size=(5, 3))
    found = user(torch.zeros(2, 5, 1, dtype=torch.float64)).log_prob(t(x))
    assert found.shape == (2, 5)
    assert found[1].detach().numpy() == pytest.approx(stats.norm(0, unit).logpdf(x).sum(1))


# Conditionals read the output of their network as documented


def test_categorical_logits_lie_on_the_axis_before_the_event() -> None:
    rng = np.random.default_rng(0)
    for event in ((3,), (2, 3)):
        logits = rng.normal(size=(4, 5, 6, *event))  # K x B x levels x event
        x = rng.integers(0, 6, (5, *event))
        likelihood = conditionals.CategoricalLikelihood(laws.Fixed(lambda z, logits=logits: t(logits)))
        found = likelihood(torch.zeros(4, 5, 2)).log_prob(torch.from_numpy(x)).numpy()
        log_p = np.log(softmax(logits, 2))
        expected = np.zeros((4, 5))
        for k, i in np.ndindex(4, 5):
            for cell in np.ndindex(*event):
                expected[k, i] += log_p[(k, i, x[(i, *cell)], *cell)]
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("components,scale", [(1, "network"), (1, "learned"), (3, "network"), (3, "learned")])
def test_discretised_logistic_parameters_lie_on_the_axis_before_the_event(components, scale) -> None:
    rng = np.random.default_rng(0)
    levels, m = 17, components
    likelihood = conditionals.DiscretizedLogisticLikelihood(nn.Identity(), levels, components=m, scale=scale).double()
    output = rng.normal(size=(4, 5, likelihood.parameters_per_cell, 2, 3))
    likelihood.network = laws.Fixed(lambda z: t(output))
    x = rng.integers(0, levels, (5, 2, 3))
    found = likelihood(torch.zeros(4, 5, 2)).log_prob(torch.from_numpy(x)).detach().numpy()
    expected = np.zeros((4, 5))
    for k, i in np.ndindex(4, 5):
        cells = output[k, i].reshape(-1, 6)
        log_scale = cells[m : 2 * m] if scale == "network" else np.full((m, 6), likelihood.log_scale.item())
        log_scale = np.log1p(np.exp(log_scale + 7)) - 7  # bounded below as documented
        weights = softmax(cells[-m:], 0) if m > 1 else np.ones((1, 6))
        masses = logistic_masses(cells[:m], log_scale, levels, weights)
        expected[k, i] = np.log(masses[np.arange(6), x[i].ravel()]).sum()
    assert found == pytest.approx(expected, abs=1e-7)


def test_the_logarithm_of_a_small_share_agrees_with_numpy() -> None:
    """ln(1 - exp(-t)) from ln t for t from 1e-40 to 30, to 1e-12 of its value, also where the series takes over."""
    logs = np.concatenate([np.linspace(-92, 3.4, 500), np.log(1e-4) + np.array([-1e-3, -1e-9, 0.0, 1e-9])])
    value = np.exp(logs)
    truth = np.where(value > 0.7, np.log1p(-np.exp(-value)), np.log(-np.expm1(-value)))
    assert log1mexp_of_log(t(logs)).numpy() == pytest.approx(truth, rel=1e-12, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discretised_logistics_have_finite_second_derivatives_at_any_scale(dtype) -> None:
    """Wide scales (e^71 occurs in training) and levels at and between the ends; float64 compared with finite
    differences."""
    scales = torch.tensor([-7.0, -2.0, 0.0, 4.0, 9.0, 20.0, 71.0, 87.0], dtype=dtype, requires_grad=True)
    loc = torch.linspace(-60, 60, 8, dtype=dtype, requires_grad=True)
    for level in (0.0, 1.0, 100.0, 255.0):

        def slope(at: Tensor, level: float = level) -> Tensor:
            px = distributions.DiscretizedLogistic(loc.unsqueeze(0), at.unsqueeze(0), 256)
            [found] = torch.autograd.grad(px.log_prob(torch.full((8,), level)).sum(), at, create_graph=True)
            return found

        [second] = torch.autograd.grad(slope(scales).sum(), scales)
        assert second.isfinite().all()
        if dtype == torch.float64:
            h = 1e-5
            difference = (slope(scales + h) - slope(scales - h)) / (2 * h)
            assert second.numpy() == pytest.approx(difference.detach().numpy(), rel=1e-4, abs=1e-6)


# Numerics


def test_small_functions_agree_with_numpy() -> None:
    values = np.concatenate([np.geomspace(1e-300, 1, 50), np.linspace(0.1, 800, 200)])
    with np.errstate(divide="ignore"):
        expected = np.where(values < 1, np.log(-np.expm1(-values)), np.log1p(-np.exp(-values)))
    assert log1mexp(t(values)).numpy() == pytest.approx(expected, rel=1e-12, abs=1e-300)
    x = t(values).clamp_min(1e-30).float().requires_grad_()
    assert torch.isfinite(torch.autograd.grad(log1mexp(x).sum(), x)[0]).all()
    y = np.geomspace(1e-6, 500, 40)
    assert positive(t(laws.raw(y, 0.0))).numpy() == pytest.approx(y, rel=1e-6)
    wide = np.random.default_rng(0).normal(size=(9, 4)) * 500
    expected = [laws.log_mean_exp(list(wide[:, i])) for i in range(4)]
    assert log_mean_exp(t(wide), 0).numpy() == pytest.approx(expected)
