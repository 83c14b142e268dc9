"""Laws of the likelihoods of table columns and counts: scipy's densities, mass 1, samples, extreme parameters, units,
missing cells, starts, offsets and capture. The counts' rows in the table of test_laws_distributions are not repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import integrate, special, stats
from torch import Tensor, nn

from latens import conditionals, distributions
from latens.conditionals import ColumnLikelihood, TableLikelihood
from latens.conditionals.heads import HEADS, NegativeBinomialHead, Spread
from latens.data.tables import kinds
from latens.distributions import InUnits
from latens.errors import InputError

# Densities: parameters of some cells, the same distribution in scipy, and the interval


@dataclass
class Row:
    make: Callable[..., torch.distributions.Distribution]
    parameters: np.ndarray  # [parameters, cells]
    scipy: Callable[..., object]
    low: float
    high: float


TABLE = {
    "StudentT": Row(
        distributions.StudentT, np.array([[0.5, 2.5, 5.0, 1e7], [-3, 0, 10, 1], [0.1, 1, 5, 2]]),
        lambda df, loc, scale: stats.t(df, loc, scale), -np.inf, np.inf,
    ),
    "LogNormal": Row(
        distributions.LogNormal, np.array([[-2, 0, 1, 3.0], [0.01, 1, 0.5, 0.1]]),
        lambda loc, variance: stats.lognorm(np.sqrt(variance), scale=np.exp(loc)), 0, np.inf,
    ),
    "LogNormal in units": Row(
        distributions.LogNormal, np.array([[-2, 0, 1, 3.0], [0.01, 1, 0.5, 0.1], [1, 2, 3, 0], [0.1, 1, 0.5, 0.3]]),
        lambda loc, v, shift, unit: stats.lognorm(unit * np.sqrt(v), scale=np.exp(shift + unit * loc)), 0, np.inf,
    ),
    "Beta": Row(
        lambda a, b: distributions.Beta(a, b, -1.0, 4.0), np.array([[1, 2, 30.0, 1e3], [1, 5, 1.5, 2e3]]),
        lambda a, b: stats.beta(a, b, -1, 5), -1, 4,
    ),
    "TruncatedNormal": Row(
        lambda loc, scale: distributions.TruncatedNormal(loc, scale, t(-1.0).to(loc), t(4.0).to(loc)),
        np.array([[-4, 0, 1.5, 6.0, 20], [1, 0.5, 40, 3, 2]]),
        lambda loc, scale: stats.truncnorm((-1 - loc) / scale, (4 - loc) / scale, loc, scale), -1, 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_densities_and_moments_agree_with_scipy(name) -> None:
    row = TABLE[name]
    px, reference = row.make(*map(t, row.parameters)), row.scipy(*row.parameters)
    x = np.array([reference.ppf(q) for q in (1e-5, 0.01, 0.2, 0.5, 0.9, 0.999)])
    assert px.log_prob(t(x)).numpy() == pytest.approx(reference.logpdf(x), rel=2e-8, abs=2e-8)
    mean, variance = reference.stats("mv")
    exists = np.isfinite(mean) & np.isfinite(variance)
    assert px.mean.numpy()[exists] == pytest.approx(mean[exists], rel=1e-7)
    assert px.variance.numpy()[exists] == pytest.approx(variance[exists], rel=1e-6)
    assert np.isfinite(px.log_prob(torch.as_tensor(getattr(px, "fill", 0.0)).double()).numpy()).all()
    outside = [v for v in (row.low - 1, row.high + 1) if np.isfinite(v)]
    for value in outside:
        assert (px.log_prob(t(value)) == -torch.inf).all()


@pytest.mark.parametrize("name", TABLE)
def test_samples_follow_the_density(name) -> None:
    """20,000 draws per cell agree with scipy's distribution function by Kolmogorov-Smirnov, p > 1e-5 for each of 4 or 5
    cells (5e-5 by chance; fixed seed), and log p(x) in float32 equals that in float64 to 1e-4 of its size."""
    row = TABLE[name]
    px, reference = row.make(*map(t, row.parameters)), row.scipy(*row.parameters)
    torch.manual_seed(1)
    x = px.sample((20_000,)).numpy()
    for cell in range(x.shape[1]):
        own = row.scipy(*row.parameters[:, cell])
        assert stats.kstest(x[:, cell], own.cdf).pvalue > 1e-5, (name, cell)
    single = row.make(*(t(p).float() for p in row.parameters)).log_prob(t(x[:200]).float())
    assert single.dtype == torch.float32
    assert single.double().numpy() == pytest.approx(reference.logpdf(x[:200]), rel=1e-3, abs=2e-3)


@pytest.mark.parametrize("kind", ["ContinuousBernoulli", "TruncatedNormal"])
def test_draws_by_the_inverse_distribution_function_carry_its_gradient(kind) -> None:
    """dx/dp = -(dF/dp)(x) / p(x), F by quadrature and its derivative by central differences."""
    cases = {"ContinuousBernoulli": [(-3.0,), (0.01,), (40.0,)],
             "TruncatedNormal": [(0.3, 0.5), (-7.0, 1.0), (9.0, 0.7)]}  # fmt: skip

    def make(*p: Tensor) -> torch.distributions.Distribution:
        if kind == "ContinuousBernoulli":
            return distributions.ContinuousBernoulli(p[0])
        return distributions.TruncatedNormal(p[0], p[1], t(0.0), t(1.0))

    nodes, weights = np.polynomial.legendre.leggauss(80)

    def cdf(x: float, *p: float) -> float:
        log_p = make(*map(t, p)).log_prob(t((nodes + 1) / 2 * x)).numpy()
        return float((weights * np.exp(log_p)).sum() * x / 2)

    for case in cases[kind]:
        parameters = [t(v).requires_grad_() for v in case]
        for seed in range(3):
            torch.manual_seed(seed)
            x = make(*parameters).rsample()
            found = [g.item() for g in torch.autograd.grad(x, parameters)]
            density = make(*parameters).log_prob(x).exp().item()
            for i, value in enumerate(case):
                step = 1e-5
                moved = [case[:i] + (value + s * step,) + case[i + 1 :] for s in (1, -1)]
                slope = (cdf(x.item(), *moved[0]) - cdf(x.item(), *moved[1])) / (2 * step)
                assert found[i] == pytest.approx(-slope / density, rel=1e-4, abs=1e-7), (case, seed, i)


# The continuous Bernoulli


def test_continuous_bernoulli_has_mass_one_and_its_known_means() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x, w = (nodes + 1) / 2, weights / 2
    lam = np.array([1e-8, 1e-4, 0.1, 0.3, 0.49, 0.5 - 1e-6, 0.5, 0.5 + 1e-6, 0.6, 0.7, 0.9, 1 - 1e-4])
    px = distributions.ContinuousBernoulli(t(special.logit(lam)))
    p = px.log_prob(t(x[:, None])).exp().numpy()
    assert w @ p == pytest.approx(1, abs=1e-10)
    assert px.mean.numpy() == pytest.approx(w @ (p * x[:, None]), abs=1e-9)
    second = w @ (p * x[:, None] ** 2) - px.mean.numpy() ** 2
    assert px.variance.numpy() == pytest.approx(second, abs=1e-9)
    for share, mean, plain_mass in ((0.3, 0.430223, 0.472), (0.1, 0.33012, 0.364), (1e-4, None, 0.109)):
        found = distributions.ContinuousBernoulli(t(special.logit(share)))
        assert mean is None or found.mean.item() == pytest.approx(mean, abs=1e-5)
        log_c = np.log(2 * np.arctanh(1 - 2 * share) / (1 - 2 * share))
        plain = 0.25 * np.log(share) + 0.75 * np.log(1 - share)
        assert found.log_prob(t(0.25)).item() == pytest.approx(log_c + plain, abs=1e-12)
        grey = distributions.Bernoulli(t(special.logit(share))).log_prob(t(x))  # no density of grey values
        assert w @ grey.exp().numpy() == pytest.approx(plain_mass, abs=6e-4)
        assert np.exp(-log_c) == pytest.approx(plain_mass, abs=6e-4)
    half = distributions.ContinuousBernoulli(t(0.0)).log_prob(t([0.0, 0.3, 1.0]))  # ln C = ln 2
    assert half.numpy() == pytest.approx(0, abs=1e-12)
    assert (px.log_prob(t(-0.01)) == -torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_has_smooth_gradients_and_samples(dtype) -> None:
    """d log p / d logits = x - mean, everywhere; 100,000 draws, |z| < 4.5 (false alarm rate 7e-6 each of 9)."""
    logits = torch.tensor([-1e4, -80.0, -0.5, -4e-6, 0.0, 4e-6, 0.5, 3.0, 1e4], dtype=dtype).requires_grad_()
    px = distributions.ContinuousBernoulli(logits)
    for value in (0.0, 0.25, 1.0):
        (grad,) = torch.autograd.grad(px.log_prob(torch.full_like(logits, value)).sum(), logits)
        assert grad.numpy() == pytest.approx(value - px.mean.detach().numpy(), abs=2e-6)
    torch.manual_seed(0)
    x = px.sample((100_000,)).double().numpy()
    assert x.min() >= 0 and x.max() <= 1
    error = np.sqrt(px.variance.detach().double().numpy() / len(x))
    assert (np.abs(x.mean(0) - px.mean.detach().double().numpy()) < Z * error + 1e-6).all()


# Counts

GRID = np.array(np.meshgrid([1e-8, 1e-2, 1, 30, 1e4, 1e8], [1e-8, 1e-2, 0.5, 3, 100, 1e4, 1e10], [0, 1, 5, 1e3, 1e6]))
MU, THETA, X = GRID.reshape(3, -1)


def test_negative_binomial_agrees_with_scipy_if_scipy_is_exact() -> None:
    mild = (MU >= 1e-2) & (MU <= 30) & (THETA >= 0.5) & (THETA <= 3) & (X <= 5)
    mu, theta, x = MU[mild], THETA[mild], X[mild]
    found = distributions.NegativeBinomial(t(np.log(mu)), t(np.log(theta))).log_prob(t(x)).numpy()
    assert found == pytest.approx(stats.nbinom(theta, theta / (theta + mu)).logpmf(x), rel=7e-15, abs=7e-15)


def test_negative_binomial_is_the_sum_of_its_factors_for_all_parameters() -> None:
    """ln p(x) = sum_{i < x} ln[(theta + i) / (1 + i)] - theta ln(1 + mu/theta) - x ln(1 + theta/mu), factor by factor,
    for mu and theta from 1e-8 to 1e10 and up to a million counts, where scipy is off by up to a tenth of its size."""
    found = distributions.NegativeBinomial(t(np.log(MU)), t(np.log(THETA))).log_prob(t(X)).numpy()
    i = np.arange(1e6)
    for theta in np.unique(THETA):
        grown = np.concatenate([[0.0], np.cumsum(np.log((theta + i) / (1 + i)))])
        own = theta == THETA
        expected = grown[X[own].astype(int)] - theta * np.log1p(MU[own] / theta) - X[own] * np.log1p(theta / MU[own])
        assert found[own] == pytest.approx(expected, rel=3e-11, abs=1e-9)


def test_extreme_counts_have_finite_gradients_and_keep_their_digits_in_float32() -> None:
    """On the same grid of parameters, float32 agrees with float64 to 3e-6 of the size."""
    for name, further in (("NegativeBinomial", ()), ("ZeroInflatedNegativeBinomial", (-1e3, 0.0, 1e3))):
        make = getattr(distributions, name)
        for logit in further or (None,):
            results = []
            for dtype in (torch.float64, torch.float32):
                leaves = [t(np.log(v)).to(dtype).requires_grad_() for v in (MU, THETA)]
                if logit is not None:
                    leaves.append(torch.full((len(MU),), logit, dtype=dtype).requires_grad_())
                log_p = make(*leaves).log_prob(t(X).to(dtype))
                grads = torch.autograd.grad(log_p.sum(), leaves)
                assert torch.isfinite(log_p).all() and (log_p <= 1e-5).all()
                assert all(torch.isfinite(g).all() for g in grads)
                results.append(log_p.detach().double().numpy())
            assert results[1] == pytest.approx(results[0], rel=3e-6, abs=1e-4)


LN_MEANS = torch.linspace(-6, 9, 40, dtype=torch.float64).repeat(12, 1)
LN_THETAS = {
    "per column": torch.linspace(-8, 12, 40, dtype=torch.float64), "per cell": torch.linspace(-8, 12, 480).double(),
    "of all": torch.tensor(0.3).double(), "per row": torch.linspace(-2, 2, 12, dtype=torch.float64),
}  # fmt: skip


@pytest.mark.parametrize("storage", [torch.float64, torch.int32])
@pytest.mark.parametrize("shape", LN_THETAS)
def test_gradients_of_the_negative_binomial_are_those_of_its_gamma_form(shape: str, storage: torch.dtype) -> None:
    """The second route is the textbook form with lgamma, differentiated twice by autograd, in float64. It loses about
    1e-9 by cancellation."""
    log_theta = LN_THETAS[shape].reshape({"per cell": (12, 40), "per row": (12, 1)}.get(shape, LN_THETAS[shape].shape))
    x = distributions.NegativeBinomial(LN_MEANS, log_theta).sample().to(storage)
    weights = torch.linspace(-1, 2, 480, dtype=torch.float64).view(12, 40)

    def textbook(m: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        theta, none = s.exp(), torch.logaddexp(torch.zeros(()).double(), m - s)
        gammas = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x.double() + 1)
        return gammas + x * (m - s - none) - theta * none

    found = []
    for log_p in (lambda m, s: distributions.NegativeBinomial(m, s).log_prob(x), textbook):
        leaves = LN_MEANS.clone().requires_grad_(), log_theta.clone().requires_grad_()
        first = torch.autograd.grad((log_p(*leaves) * weights).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum((g * g.detach().cos()).sum() for g in first), leaves)
        once = torch.autograd.grad((log_p(*leaves) * weights).sum(), leaves)
        assert [g.shape for g in once] == [leaf.shape for leaf in leaves]
        found.append([log_p(*leaves).detach(), *(g.detach() for g in first), *once, *second])
    for ours, expected in zip(*found, strict=True):
        assert ours.numpy() == pytest.approx(expected.numpy(), rel=1e-7, abs=1e-6)


def test_negative_binomials_broadcast_compile_and_allow_transforms() -> None:
    """Several draws of the mean share one row of counts; compiled, under ``vmap`` and for one parameter alone the
    gradients are the same."""
    m = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    s = torch.randn(4, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0, 1.0, 7.0, 300.0]] * 5, dtype=torch.float64)

    def log_p(m: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return distributions.NegativeBinomial(m, s).log_prob(x)

    expected = torch.stack([log_p(each, s) for each in m])
    grads = torch.autograd.grad(expected.sum(), (m, s))
    whole = log_p(m, s)
    assert torch.allclose(whole, expected, rtol=1e-12)
    compiled = torch.compile(log_p, backend="eager", fullgraph=True)
    for each in (log_p, compiled):
        for ours, theirs in zip(torch.autograd.grad(each(m, s).sum(), (m, s)), grads, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-10)
    assert torch.allclose(torch.vmap(log_p, (0, None))(m, s), expected, rtol=1e-12)
    assert torch.allclose(torch.func.grad(lambda m: log_p(m, s.detach()).sum())(m.detach()), grads[0], rtol=1e-10)
    assert torch.allclose(torch.autograd.grad(log_p(m.detach(), s).sum(), s)[0], grads[1], rtol=1e-10)
    assert torch.allclose(torch.autograd.grad(log_p(m, s.detach()).sum(), m)[0], grads[0], rtol=1e-10)


def test_cells_that_are_not_counts_have_no_gradient() -> None:
    m, s = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    log_p = distributions.NegativeBinomial(m, s).log_prob(torch.tensor([-1.0, 0.5, 3.0, torch.nan]))
    assert log_p.isneginf().tolist() == [True, True, False, True]
    for gradient in torch.autograd.grad(log_p.sum(), (m, s)):
        assert (gradient != 0).tolist() == [False, False, True, False]


def test_large_theta_is_poisson_and_small_theta_all_zeros() -> None:
    mu, x = np.array([0.1, 3.0, 200.0, 1e6]), np.array([0.0, 2.0, 230.0, 1_001_000.0])
    poisson = distributions.Poisson(t(np.log(mu))).log_prob(t(x)).numpy()
    assert poisson == pytest.approx(stats.poisson(mu).logpmf(x), rel=1e-9)
    found = distributions.NegativeBinomial(t(np.log(mu)), t(40.0)).log_prob(t(x)).numpy()
    assert found == pytest.approx(poisson, rel=1e-10)
    none = distributions.NegativeBinomial(t(np.log(mu)), t(-40.0)).log_prob(t(0.0)).numpy()
    assert none == pytest.approx(0, abs=1e-15)
    single = distributions.Poisson(t(np.log(mu)).float()).log_prob(t(x).float()).numpy()
    assert single == pytest.approx(poisson, abs=5e-3)  # a million counts, to a few thousandths of a nat in float32
    for leaf in (-1e3, 1e3):
        rate = torch.tensor(leaf, requires_grad=True)
        for value in (0.0, 1e6):
            log_p = distributions.Poisson(rate).log_prob(torch.tensor(value))
            assert torch.isfinite(log_p) and torch.isfinite(torch.autograd.grad(log_p, rate)[0])


@pytest.mark.parametrize("value", [-1.0, 0.5, 7.25])
def test_values_that_are_not_counts_have_no_mass(value) -> None:
    zero = t([0.0])
    for px in (distributions.Poisson(zero), distributions.NegativeBinomial(zero, zero),
               distributions.ZeroInflatedNegativeBinomial(zero, zero, zero)):  # fmt: skip
        assert px.log_prob(t([value])).item() == -np.inf


# Extreme parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_densities_far_from_their_data_have_finite_values_and_gradients(dtype) -> None:
    wide = torch.tensor([-1e4, -50, -1.0, 0.0, 0.5, 1.0, 50, 1e4], dtype=dtype)
    loc, scale = (v.flatten() for v in torch.meshgrid(wide, wide.abs().clamp_min(1e-3), indexing="ij"))
    zero, one = torch.zeros_like(loc), torch.ones_like(loc)
    cuts = torch.tensor([-50.0, -49.999, 0.0, 60.0], dtype=dtype).expand(len(loc), 4)
    cases = [
        (distributions.StudentT, (scale, loc, one), (-1e6, 0.0, 1e6)),
        (lambda a, b: distributions.LogNormal(a, b), (loc, scale), (1e-30, 1.0, 1e30)),
        (distributions.Beta, (scale, scale.flip(0)), (0.0, 0.5, 1.0)),
        (lambda a, b: distributions.TruncatedNormal(a, b, zero, one), (loc, scale), (0.0, 0.25, 1.0)),
        (distributions.ContinuousBernoulli, (loc,), (0.0, 0.5, 1.0)),
        (lambda a: distributions.Ordinal(a, cuts), (loc,), (0, 1, 2, 4)),
    ]
    for make, parameters, values in cases:
        leaves = [p.clone().requires_grad_() for p in parameters]
        for value in values:
            log_p = make(*leaves).log_prob(torch.full_like(loc, value))
            grads = torch.autograd.grad(log_p.sum(), leaves)
            assert torch.isfinite(log_p).all(), (make, value)
            assert all(torch.isfinite(g).all() for g in grads), (make, value)


def test_truncated_normals_far_away_are_exponentials_with_mass_one() -> None:
    """p(x) -> r e^-rx / (1 - e^-r) on [0, 1] with r = -loc / scale^2 as loc -> -inf; mass by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x, w = (nodes + 1) / 2, weights / 2
    for loc, scale in ((-1e8, 1e4), (-1e10, 1e5), (-3e3, 20.0), (0.4, 1e5), (0.5, 0.05), (1.2, 0.3),
                       (-300.0, 50.0), (0.4, 50.0), (2.0, 5.0), (-20.0, 1.0)):  # fmt: skip
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            px = distributions.TruncatedNormal(*(t(v).to(dtype) for v in (loc, scale, 0.0, 1.0)))
            log_p = px.log_prob(t(x).to(dtype)).double().numpy()
            assert w @ np.exp(log_p) == pytest.approx(1, abs=tolerance)
            mean = w @ (np.exp(log_p) * x)
            close = 2e-2 if dtype == torch.float32 else 1e-4
            assert px.mean.item() == pytest.approx(mean, rel=close)
            assert px.variance.item() == pytest.approx(w @ (np.exp(log_p) * (x - mean) ** 2), rel=close)
            if loc < -1e7:
                r = -loc / scale**2
                assert log_p == pytest.approx(np.log(r) - r * x - np.log(-np.expm1(-r)), abs=1e-3)


# Tables of columns

FAMILIES = {
    "normal": ColumnLikelihood("normal", shift=170, unit=10),
    "student_t": ColumnLikelihood("student_t", shift=-3, unit=0.5),
    "log_normal": ColumnLikelihood("log_normal", shift=2, unit=0.7),
    "beta": ColumnLikelihood("beta", low=0, high=5, shift=0.3, unit=1.5),
    "truncated_normal": ColumnLikelihood("truncated_normal", low=0, high=100, shift=40, unit=20),
    "poisson": ColumnLikelihood("poisson", shift=1.0, unit=0.5),
    "negative_binomial": ColumnLikelihood("negative_binomial", shift=1.5),
    "zero_inflated_negative_binomial": ColumnLikelihood("zero_inflated_negative_binomial", shift=1.5),
    "bernoulli": ColumnLikelihood("bernoulli"),
    "categorical": ColumnLikelihood("categorical", levels=4),
    "ordinal": ColumnLikelihood("ordinal", levels=5),
    "continuous_bernoulli": ColumnLikelihood("continuous_bernoulli", low=-1, high=1),
}
NETWORK = ("normal", "student_t", "log_normal", "beta", "truncated_normal", "negative_binomial",
           "zero_inflated_negative_binomial")  # fmt: skip
MIXED = (
    list(FAMILIES.values()) + [replace(FAMILIES[name], scale="network") for name in NETWORK]
    + [replace(FAMILIES["normal"], shift=-5.0), ColumnLikelihood("categorical", levels=9), FAMILIES["ordinal"]]
)  # fmt: skip


def softplus(v: float) -> float:
    return float(np.log1p(np.exp(v + np.log(np.e - 1))))


def column_log_p(column: ColumnLikelihood, raw: np.ndarray, x: float) -> float:
    """ln p of one column by scipy, with learned parameters at their initial values."""
    name, f = column.family, column.shift + column.unit * raw[0]
    network = column.scale == "network"
    scale = np.sqrt((softplus(raw[-1]) if network else 1.0) ** 2 + 1e-6)
    if name == "normal":
        return stats.norm(f, column.unit * scale).logpdf(x)
    if name == "student_t":
        return stats.t(5, f, column.unit * scale).logpdf(x)
    if name == "log_normal":
        return stats.lognorm(column.unit * scale, scale=np.exp(f)).logpdf(x)
    if name == "beta":
        share, total = special.expit(f), 2 / scale**2
        return stats.beta(total * share, total * (1 - share), column.low, column.high - column.low).logpdf(x)
    if name == "truncated_normal":
        s = column.unit * scale
        return stats.truncnorm((column.low - f) / s, (column.high - f) / s, f, s).logpdf(x)
    if name == "poisson":
        return stats.poisson(np.exp(f)).logpmf(x)
    if "binomial" in name:
        theta, mu = np.exp(raw[-1]) if network else 1.0, np.exp(f)
        mass = stats.nbinom(theta, theta / (theta + mu)).pmf(x)
        zero = special.expit(raw[1]) if name.startswith("zero") else 0.0
        return np.log((1 - zero) * mass + zero * (x == 0))
    if name == "bernoulli":
        return stats.bernoulli(special.expit(f)).logpmf(x)
    if name == "categorical":
        return special.log_softmax(raw)[int(x)]
    if name == "ordinal":
        cuts = special.logit(np.arange(1, column.levels) / column.levels)
        return np.log(np.diff(special.expit(cuts - f), prepend=0, append=1)[int(x)])
    share = special.expit(f)
    width = column.high - column.low
    u = (x - column.low) / width
    log_c = np.log(2 * np.arctanh(1 - 2 * share) / (1 - 2 * share))
    return log_c + u * np.log(share) + (1 - u) * np.log1p(-share) - np.log(width)


def table(rows: int, seed: int = 0) -> tuple[TableLikelihood, Tensor, np.ndarray]:
    """(a likelihood of all families with the identity as its network, raw outputs ``[rows, outputs]``, data)."""
    columns = [MIXED[i] for i in np.random.default_rng(3).permutation(len(MIXED))]
    likelihood = TableLikelihood(nn.Identity(), columns).double()
    torch.manual_seed(seed)
    raw = torch.randn(rows, likelihood.outputs, dtype=torch.float64)
    with torch.no_grad():
        x = likelihood(raw).sample().numpy()
    for j, column in enumerate(columns):
        if column.family == "beta":
            x[:, j] = x[:, j].clip(0.01 * column.high, 0.99 * column.high)
    return likelihood, raw, x


def test_a_row_is_the_sum_of_its_observed_columns_by_scipy() -> None:
    likelihood, raw, x = table(6)
    missing = np.random.default_rng(1).random(x.shape) < 0.3
    missing[0], missing[1] = True, False
    ends = np.cumsum([0] + [column.outputs for column in likelihood.columns])
    each = np.array([[
        column_log_p(column, raw[i, ends[j] : ends[j + 1]].numpy(), x[i, j])
        for j, column in enumerate(likelihood.columns)] for i in range(len(x))
    ])  # fmt: skip
    raw.requires_grad_()
    holes = t(np.where(missing, np.nan, x))
    px = likelihood(raw)
    assert px.cells(t(x)).detach().numpy() == pytest.approx(each, rel=2e-5, abs=2e-5)
    found = px.log_prob(holes)
    assert found.detach().numpy() == pytest.approx(np.where(missing, 0, each).sum(1), abs=1e-3)
    assert (px.cells(holes).detach().numpy()[missing] == 0).all() and found[0].item() == 0
    grads = torch.autograd.grad(found.sum(), [raw, *likelihood.parameters()])
    assert all(torch.isfinite(g).all() for g in grads)
    assert (grads[0][0] == 0).all()
    # K draws of the codes against one batch of data
    many = likelihood(raw.expand(3, *raw.shape)).log_prob(holes)
    assert many.shape == (3, 6) and many[2].detach().numpy() == pytest.approx(found.detach().numpy(), abs=1e-12)
    assert np.isfinite(px.base.log_prob(px.base.fill).detach().numpy()).all()


def test_single_precision_gives_the_results_of_double_precision() -> None:
    likelihood, raw, x = table(5)
    expected = likelihood(raw).cells(t(x)).detach().numpy()
    single = TableLikelihood(nn.Identity(), likelihood.columns)
    for data in (t(x), t(x).float()):
        found = single(raw.float()).cells(data)
        assert found.detach().double().numpy() == pytest.approx(expected, rel=2e-4, abs=2e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_of_a_column_have_its_mean_and_variance(name) -> None:
    """40,000 rows; |z| < 4.5 for mean and variance (1.4e-5 per family); categories: frequencies of 4 levels."""
    column = FAMILIES[name]
    likelihood = TableLikelihood(nn.Identity(), [column]).double()
    torch.manual_seed(2)
    raw = torch.randn(column.outputs, dtype=torch.float64)
    with torch.no_grad():
        px = likelihood(raw.expand(40_000, -1))
        x = px.sample().numpy()[:, 0]
        assert np.isfinite(px.log_prob(t(x[:, None])).numpy()).all()
        if name == "categorical":
            p = special.softmax(raw.numpy())
            z = (np.bincount(x.astype(int), minlength=4) - len(x) * p) / np.sqrt(len(x) * p * (1 - p))
            assert np.abs(z).max() < Z
            assert (px.center == raw.argmax()).all() and px.mean.isnan().all()
            return
        mean, variance = px.mean[0].item(), px.variance[0].item()
    assert abs(x.mean() - mean) < Z * np.sqrt(variance / len(x))
    square = (x - mean) ** 2
    assert abs(square.mean() - variance) < Z * square.std() / np.sqrt(len(x))


def test_the_median_stands_for_ordered_levels() -> None:
    px = TableLikelihood(nn.Identity(), [FAMILIES["ordinal"]])(torch.tensor([[-9.0], [0.0], [9.0], [0.6]]))
    assert px.center[:, 0].tolist() == [0, 2, 4, 3]


SHIFTABLE = ("normal", "student_t", "truncated_normal", "beta", "continuous_bernoulli", "log_normal")


@pytest.mark.parametrize("name", SHIFTABLE)
def test_a_change_of_units_changes_log_p_by_the_log_jacobian(name) -> None:
    """If x' = c + k x, then ln p' = ln p - ln k; for log-normals x' = k x."""
    column = FAMILIES[name]
    plain = TableLikelihood(nn.Identity(), [column]).double()
    raw = torch.randn(30, column.outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = plain(raw).sample().numpy()
        if column.low is not None:  # near an edge, float32 has too few digits below a large shift for any density
            x = x.clip(0.99 * column.low + 0.01 * column.high, 0.01 * column.low + 0.99 * column.high)
        for shift, factor in ((0.0, 10.0), (3.0, 0.01), (1.6e9, 1.0)):
            move = lambda v, shift=shift, factor=factor: shift + factor * v
            if name == "log_normal":
                other, y = replace(column, shift=column.shift + np.log(factor)), factor * x
            else:
                ends = {end: move(getattr(column, end)) for end in ("low", "high") if getattr(column, end) is not None}
                if name not in ("beta", "continuous_bernoulli"):
                    ends |= {"shift": move(column.shift), "unit": factor * column.unit}
                other, y = replace(column, **ends), move(x)
            found = TableLikelihood(nn.Identity(), [other]).double()(raw).log_prob(t(y))
            tolerance = 2e-5 if shift > 1e9 else 1e-9
            assert (found - plain(raw).log_prob(t(x))).numpy() == pytest.approx(-np.log(factor), abs=tolerance)
            single = (
                TableLikelihood(nn.Identity(), [other])(raw.float()).log_prob(t(y)).double()
            )  # the network in float32
            assert single.numpy() == pytest.approx(found.numpy(), rel=1e-3, abs=1e-3)


def test_initial_outputs_reproduce_the_marginals() -> None:
    """The initial mean of each column is the sample's, and so is the deviation if it has a scale; 30 % of cells are
    missing."""
    rng = np.random.default_rng(0)
    n = 4000
    sample = {
        "normal": rng.normal(172, 13, n), "student_t": rng.normal(-2.9, 0.4, n),
        "log_normal": rng.lognormal(2.5, 0.4, n), "beta": 5 * rng.beta(2, 6, n),
        "truncated_normal": rng.normal(50, 8, n).clip(0, 100),
        "poisson": rng.poisson(7, n), "negative_binomial": rng.negative_binomial(2, 0.2, n),
        "zero_inflated_negative_binomial": rng.negative_binomial(3, 0.3, n) * (rng.random(n) > 0.1),
        "bernoulli": rng.random(n) < 0.2, "categorical": rng.choice(4, n, p=[0.7, 0.2, 0.1, 0]),
        "ordinal": rng.choice(5, n, p=[0.1, 0.5, 0.2, 0, 0.2]), "continuous_bernoulli": 2 * rng.beta(2, 5, n) - 1,
    }  # fmt: skip
    for scale in ("learned", "network"):
        columns = [replace(c, scale=scale if name in NETWORK else "learned") for name, c in FAMILIES.items()]
        x = np.stack([sample[name] for name in FAMILIES], 1).astype(float)
        x[rng.random(x.shape) < 0.3] = np.nan
        likelihood = TableLikelihood(nn.Identity(), columns)
        raw = likelihood.start(t(x))
        assert raw.dtype == torch.float32 and raw.shape == (likelihood.outputs,)
        with torch.no_grad():
            px = likelihood(raw.expand(1, -1))
            mean, variance = px.mean[0].double().numpy(), px.variance[0].double().numpy()
            levels = torch.arange(5.0)[:, None].minimum(torch.tensor([(c.levels or 9) - 1.0 for c in columns]))
            p = px.base.log_prob(levels).exp().numpy()
        for j, name in enumerate(FAMILIES):
            seen = x[~np.isnan(x[:, j]), j]
            if name in ("categorical", "ordinal", "bernoulli"):
                size = columns[j].levels or 2
                expected = (np.bincount(seen.astype(int), minlength=size) + 1) / (len(seen) + size)
                assert p[:size, j] == pytest.approx(expected, abs=1e-4)
            elif name == "log_normal":
                assert mean[j] == pytest.approx(np.exp(np.log(seen).mean() + np.log(seen).var() / 2), rel=1e-3)
            else:
                assert mean[j] == pytest.approx(seen.mean(), rel=1e-3), name
            if name in NETWORK and name != "log_normal":
                assert variance[j] == pytest.approx(seen.var(), rel=2e-2), (scale, name)
    empty = TableLikelihood(nn.Identity(), MIXED)
    assert torch.isfinite(empty.start(t(np.full((3, len(MIXED)), np.nan)))).all()
    assert all(torch.isfinite(p).all() for p in empty.parameters())
    with pytest.raises(ValueError, match=r"shape \[N, 22\], got \[3, 4\]"):
        empty.start(torch.zeros(3, 4))


def test_scales_have_a_floor_and_say_which_columns_reached_it() -> None:
    columns = [FAMILIES["poisson"], replace(FAMILIES["normal"], shift=0.0, unit=2.0), FAMILIES["student_t"],
               replace(FAMILIES["normal"], shift=0.0, unit=2.0)]  # fmt: skip
    likelihood = TableLikelihood(nn.Identity(), columns)
    assert likelihood.floor_hits() == []
    likelihood.start(t(np.stack([np.arange(9), np.full(9, 0.0), np.arange(9), np.arange(9)], 1)))
    assert likelihood.floor_hits() == [1]
    head = next(h for h in likelihood.heads if type(h).__name__ == "NormalHead")
    with torch.no_grad():
        head.log_scale.fill_(-200.0)
    assert likelihood.floor_hits() == [1, 3]
    px = likelihood(torch.zeros(1, 4))
    assert px.variance[0, 1].item() == pytest.approx((2.0 * 1e-3) ** 2)
    log_p = px.log_prob(torch.zeros(1, 4))
    assert torch.isfinite(log_p).all() and torch.isfinite(torch.autograd.grad(log_p.sum(), head.log_scale)[0]).all()


def test_ten_thousand_levels_do_not_widen_the_other_columns() -> None:
    columns = [ColumnLikelihood("categorical", levels=10_000)] + [ColumnLikelihood("categorical", levels=3)] * 50
    likelihood = TableLikelihood(nn.Identity(), columns)
    raw = torch.zeros(8, likelihood.outputs)
    shapes = [part.logits.shape for _, part in likelihood(raw).base.parts]
    assert shapes == [(8, 1, 10_000), (8, 50, 3)]
    expected = -np.log(10_000) - 50 * np.log(3)
    assert likelihood(raw).log_prob(torch.zeros(8, 51)).numpy() == pytest.approx(expected, rel=1e-6)
    ordinal = TableLikelihood(nn.Identity(), [ColumnLikelihood("ordinal", levels=10_000)])
    levels = torch.arange(10_000.0).unsqueeze(-1)
    total = ordinal(torch.zeros(10_000, 1)).log_prob(levels).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_the_columns_are_captured_as_one_graph() -> None:
    likelihood, raw, x = table(4)
    single = TableLikelihood(nn.Linear(3, likelihood.outputs), likelihood.columns)
    z = torch.randn(2, 4, 3)
    data = t(np.where(np.random.default_rng(0).random(x.shape) < 0.3, np.nan, x))

    def loss(z: Tensor, x: Tensor) -> Tensor:
        return -single(z).log_prob(x).mean()

    eager = loss(z, data)
    captured = torch.compile(loss, fullgraph=True, backend="eager")(z, data)
    assert captured.item() == pytest.approx(eager.item(), rel=1e-6)
    parameters = list(single.parameters())
    for a, b in zip(torch.autograd.grad(eager, parameters), torch.autograd.grad(captured, parameters)):
        assert torch.isfinite(a).all() and torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_every_family_has_a_head_and_the_network_may_give_its_scale_if_it_has_one() -> None:
    assert tuple(HEADS) == conditionals.FAMILIES
    for name, column in FAMILIES.items():
        if issubclass(HEADS[name], Spread | NegativeBinomialHead):
            assert replace(column, scale="network").outputs == column.outputs + 1
        else:
            with pytest.raises(InputError, match="no scale for the network"):
                replace(column, scale="network")


@pytest.mark.parametrize("fields,words", [
    ({"family": "gaussian"}, "must be one of normal, student_t"), ({"family": "categorical"}, "levels must be"),
    ({"family": "ordinal", "levels": 1}, "2 or more, got 1"), ({"family": "normal", "levels": 3}, "must be omitted"),
    ({"family": "normal", "unit": 0.0}, "unit above 0"), ({"family": "beta"}, "low < high"),
    ({"family": "beta", "low": 1.0, "high": 1.0}, "low < high"), ({"family": "poisson", "low": 0.0}, "low and high"),
    ({"family": "normal", "shift": float("nan")}, "must be finite"), ({"family": "normal", "scale": "x"}, "scale must"),
    ({"family": "poisson", "scale": "network"}, "no scale for the network"),
])  # fmt: skip
def test_contradicting_columns_are_refused_in_one_sentence(fields, words) -> None:
    with pytest.raises(InputError, match=words) as caught:
        ColumnLikelihood(**fields)
    assert str(caught.value).count(".") - str(caught.value).count("0.") <= 2


def test_other_numbers_of_outputs_and_of_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="must give 2 outputs, got 3"):
        TableLikelihood(nn.Identity(), [FAMILIES["normal"], FAMILIES["poisson"]])(torch.zeros(1, 3))
    with pytest.raises(InputError, match="at least one column"):
        TableLikelihood(nn.Identity(), [])
    with pytest.raises(ValueError, match="must give 2 columns, got 1"):
        distributions.Columns([(torch.tensor([0]), distributions.Poisson(torch.zeros(1)))], 2)


def test_whole_numbers_may_have_any_storage_type() -> None:
    likelihood = TableLikelihood(nn.Identity(), list(FAMILIES.values()))
    raw = torch.randn(3, likelihood.outputs, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([170, 3, 7, 2, 40, 3, 0, 5, 1, 3, 4, 0]).expand(3, -1)
    expected = likelihood(raw).log_prob(x.double()).detach().numpy()
    assert np.isfinite(expected).all()
    for dtype in (torch.uint8, torch.int64, torch.int16, torch.float32):
        assert likelihood(raw).log_prob(x.to(dtype)).detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_filled_cells_lie_in_the_support_whatever_the_units() -> None:
    base = distributions.Normal(torch.zeros(2), torch.ones(2))
    part = InUnits(base, t([1.6e9, -3.0]), t([1e-10, 1.0]))
    px = distributions.Columns([(torch.tensor([1, 0]), part)], 2)
    assert px.fill.tolist() == [-3.0, 1.6e9] and px.batch_shape == (2,)


# Counts of whole rows, with library sizes


@pytest.mark.parametrize("event", [(5,), (2, 3)])
@pytest.mark.parametrize("dispersion", ["learned", "network"])
@pytest.mark.parametrize("zeros", [False, True])
def test_counts_read_their_parameters_and_their_library_size(event, dispersion, zeros) -> None:
    rng = np.random.default_rng(0)
    name = "ZeroInflatedNegativeBinomialLikelihood" if zeros else "NegativeBinomialLikelihood"
    likelihood = getattr(conditionals, name)(nn.Identity(), event, dispersion=dispersion, offset="size").double()
    p = likelihood.parameters_per_cell
    assert p == 1 + zeros + (dispersion == "network")
    output = rng.normal(size=(3, 4, *((p,) if p > 1 else ()), *event))
    likelihood.network = laws.Fixed(lambda z: t(output))
    if dispersion == "learned":
        theta = rng.uniform(0.5, 4, event)
        with torch.no_grad():
            likelihood.log_theta.copy_(t(np.log(theta)))
    size = np.array([10.0, 200, 35, 1])
    x = rng.poisson(3, (4, *event))
    each = np.zeros((3, 4))
    for k, i in np.ndindex(3, 4):
        own = output[k, i] if p > 1 else output[k, i][None]
        mu = size[i] * special.softmax(own[0])
        th = np.exp(own[-1]) if dispersion == "network" else theta
        mass = stats.nbinom(th, th / (th + mu)).pmf(x[i])
        zero = special.expit(own[1]) if zeros else 0.0
        each[k, i] = np.log((1 - zero) * mass + zero * (x[i] == 0)).sum()
    for offset in (size, size[:, None]):
        px = likelihood(torch.zeros(3, 4, 2), {"size": t(np.log(offset)), "other": None})
        assert px.log_prob(t(x)).detach().numpy() == pytest.approx(each, abs=1e-9)
        if not zeros:
            assert px.mean.flatten(2).sum(-1)[1].detach().numpy() == pytest.approx(size)
    assert likelihood.reads == ("size",)
    with pytest.raises(ValueError, match="reads the condition 'size', which was not given"):
        likelihood(torch.zeros(3, 4, 2))


def test_the_network_gets_the_offset_only_if_it_reads_it() -> None:
    class Net(nn.Module):
        def forward(self, z: Tensor, c: dict | None = None) -> Tensor:
            self.seen = sorted(c or ())
            return torch.zeros(*z.shape[:-1], 3)

    c = {"size": torch.zeros(4), "batch": torch.zeros(4)}
    for reads, given in (((), []), (("batch",), ["batch"]), (("size", "batch"), ["batch", "size"])):
        likelihood = conditionals.PoissonLikelihood(Net(), offset="size", reads=reads)
        px = likelihood(torch.zeros(2, 4, 1), c)
        assert likelihood.network.seen == given and set(likelihood.reads) == {"size", *reads}
        assert px.mean.sum(-1).numpy() == pytest.approx(1)
    plain = conditionals.PoissonLikelihood(Net())(torch.zeros(2, 4, 1))
    assert plain.mean.numpy() == pytest.approx(1)  # e^0, no softmax without an offset


def test_shares_of_rows_have_mass_one_and_gaps() -> None:
    likelihood = conditionals.ContinuousBernoulliLikelihood(nn.Identity())
    px = likelihood(torch.zeros(2, 3, dtype=torch.float64))
    found = px.log_prob(t([[0.0, 0.5, 1.0], [np.nan, 0.1, 2.0]]))
    assert found.tolist() == [pytest.approx(0.0, abs=1e-15), -np.inf]
    total, _ = integrate.quad(lambda v: px.base.log_prob(t(v)).exp()[0, 0].item(), 0, 1)
    assert total == pytest.approx(1)


CANDIDATES = {  # families on a grid: values, and the same law in scipy
    "normal": (lambda rng: rng.normal(5, 3, 4000), lambda v: stats.norm(v.mean(), v.std())),
    "log_normal": (lambda rng: rng.lognormal(1, 0.5, 4000),
                   lambda v: stats.lognorm(np.log(v).std(), 0, np.exp(np.log(v).mean()))),
}  # fmt: skip


@pytest.mark.parametrize("step", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_are_compared_as_masses_on_the_grid(name: str, step: float) -> None:
    """Densities have scipy's mass of each grid point, whatever the unit of the grid."""
    draw, of = CANDIDATES[name]
    values = np.maximum(np.rint(draw(np.random.default_rng(1)) / step), 1) * step
    train, test = values[::2], np.unique(values[1::2])
    found = kinds._score(name, train, test, step)
    law = of(train)
    mass = law.cdf(test + step / 2) - law.cdf(test - step / 2)
    seen = mass > 1e-9
    np.testing.assert_allclose(found[seen], np.log(mass[seen]), atol=2e-3)


def test_the_choice_of_a_family_does_not_depend_on_the_unit() -> None:
    rng = np.random.default_rng(3)
    values = np.maximum(np.rint(rng.lognormal(1, 0.8, 3000)), 1)
    names = ("normal", "student_t", "log_normal")
    assert len({kinds.best_family(values * unit, names, step=unit) for unit in (1, 0.01, 1000)}) == 1


def test_the_slope_of_stirling_remainders_is_that_of_digamma() -> None:
    """s'(z) = psi(z) - ln z + 1 / (2 z), of which differences lose about 1e-15 of the terms, in float64."""
    z = np.concatenate([np.geomspace(1e-3, 16, 50), np.linspace(16.001, 40, 50)])
    expected = special.digamma(z) - np.log(z) + 0.5 / z
    assert distributions.counts.stirling_slope(t(z)).numpy() == pytest.approx(expected, rel=1e-10, abs=2e-15)
