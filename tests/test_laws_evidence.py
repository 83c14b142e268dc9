"""Laws of estimates of ln p(x): annealing, two-sided bounds, quadrature, tails of weights, and the gaps of a bound.

The exact values come from linear Gaussian models in closed form, from small sums, or from brute force in numpy.
"""

from __future__ import annotations

import math

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import Tensor, nn

from latens import conditionals, evaluation, models, priors
from latens.errors import InputError
from latens.evaluation.annealing import _Path, _simulated
from latens.evaluation.joint import LogJoint
from latens.evaluation.likelihood import _mixed
from latens.evaluation.tails import Tail

D, Q = 6, 3
RNG = np.random.default_rng(5)
W, B, S2 = 0.7 * RNG.normal(size=(D, Q)), RNG.normal(size=D), 0.5
X = B + RNG.normal(size=(64, Q)) @ W.T + math.sqrt(S2) * RNG.normal(size=(64, D))
LOG_P = laws.gaussian_log_likelihood(X, W, B, S2)
PRECISION = W.T @ W / S2 + np.eye(Q)


def linear(off: float = 0.0, widen: float = 1.0, prior: nn.Module | None = None) -> models.VAE:
    """p(x|z) = N(W z + B, S2 I) with the best diagonal q, shifted by ``off`` and widened."""
    v = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
    model = laws.linear_vae(W, B, S2, laws.diagonal_posterior(v, B - off, widen / np.diag(PRECISION)))
    if prior is not None:
        model.prior = prior
    return model.double()


# Annealed importance sampling


@pytest.mark.parametrize("off, widen", [(0.0, 1.0), (0.5, 0.3), (0.3, 4.0)])
def test_annealing_lands_on_ln_p_where_weights_of_the_encoder_do_not(off, widen) -> None:
    """For 64 rows and 16 chains of 60 temperatures, the mean of exp(ln p-hat - ln p) is 1 within 4.5 standard errors
    (7e-6 each), and the mean of ln p-hat is at most 0.1 nats below and at most 4.5 standard errors above."""
    found = evaluation.annealed_nll(linear(off, widen), t(X), chains=16, temperatures=60, seed=1)
    excess = -found.rows.numpy() - LOG_P
    ratio = np.exp(excess)
    assert abs(ratio.mean() - 1) < Z * ratio.std() / 8
    assert -0.1 < excess.mean() < Z * excess.std() / 8
    assert 0.5 < found.acceptance < 0.9 and found.mean_ess > 8
    assert (found.rows.shape, found.k, found.temperatures) == ((64,), 16, 60)


def test_with_one_temperature_annealing_equals_importance_weighting() -> None:
    """The weights are then p(x, z) / q(z|x) of the initial draws: the effective sample size, averaged over 64 rows,
    agrees with that of ``nll`` within 4.5 standard errors of the difference."""
    model = linear(0.3)
    one, plain = evaluation.annealed_nll(model, t(X), chains=50, temperatures=1), evaluation.nll(model, t(X), 50)
    difference = one.ess - plain.ess
    assert abs(difference.mean()) < Z * difference.std() / 8
    assert math.isnan(one.acceptance)


def test_a_move_keeps_its_density() -> None:
    """From exact draws of p(z|x), moves at beta = 1 keep mean and covariance: 4,000 chains of one row with 20 moves of
    a large step size; 3 + 9 moments at 4.5 standard errors (false alarm rate 8e-5)."""
    torch.manual_seed(0)
    mean, covariance = laws.posterior(X[:1], W, B, S2)
    path = _Path(LogJoint(linear(0.5, 0.3), t(X[:1])))
    z = t(stats.multivariate_normal(mean[0], covariance).rvs(4000, random_state=1)).unsqueeze(1)
    start, accepted = z, []
    with torch.no_grad():
        for _ in range(20):
            z, taken = path.move(z, 1.0, torch.full((1,), 0.9, dtype=torch.float64))
            accepted.append(taken.double().mean().item())
    assert 0.2 < np.mean(accepted) < 0.98 and not torch.equal(z, start)
    centred = z.squeeze(1).numpy() - mean
    assert (np.abs(centred.mean(0)) < Z * np.sqrt(np.diag(covariance) / 4000)).all()
    products = centred[:, :, None] * centred[:, None, :]
    assert (np.abs(products.mean(0) - covariance) < Z * products.std(0) / math.sqrt(4000)).all()


def test_the_certificate_holds_the_truth_in_99_of_100_repetitions() -> None:
    """For models of one and of three latent dimensions and 100 repetitions of 20 rows each, the mean of ln p lies in
    the interval in at least 99 repetitions (the interval covers more than its 99 %, since both ends are bounds), and
    both bounds, averaged over repetitions, are within 0.02 nats of that mean."""
    for q in (1, 3):
        rng = np.random.default_rng(q)
        w, b, s2 = rng.normal(size=(4, q)), rng.normal(size=4), 0.5
        v = np.linalg.inv(w.T @ w + s2 * np.eye(q)) @ w.T
        variance = s2 / np.diag(w.T @ w + s2 * np.eye(q))
        model = laws.linear_vae(w, b, s2, laws.diagonal_posterior(v, b - 0.1, 1.3 * variance)).double()
        x, _ = _simulated(model, None, 2000, seed=q)
        found = evaluation.certify(model, rows=2000, chains=8, temperatures=30, seed=q)
        truth = laws.gaussian_log_likelihood(x.numpy(), w, b, s2)
        lower, upper = found.lower.numpy() - truth, found.upper.numpy() - truth
        parts = [evaluation.Certificate(t(low), t(high)).interval
                 for low, high in zip(lower.reshape(100, 20), upper.reshape(100, 20))]  # fmt: skip
        assert sum(low <= 0 <= high for low, high in parts) >= 99
        assert -0.02 < lower.mean() < 0 < upper.mean() < 0.02


# Quadrature


def test_quadrature_is_exact_for_one_and_two_dimensions() -> None:
    """This holds down to posteriors with a standard deviation of 0.003, which a fixed grid would miss."""
    for q in (1, 2):
        for s2 in (1.0, 1e-2, 1e-5):
            w = RNG.normal(size=(D, q))
            model = laws.linear_vae(w, B, s2, laws.diagonal_posterior(np.zeros((q, D)), B, np.ones(q))).double()
            x = B + RNG.normal(size=(5, q)) @ w.T + math.sqrt(s2) * RNG.normal(size=(5, D))
            found = evaluation.grid_nll(model, t(x))
            assert -found.rows.numpy() == pytest.approx(laws.gaussian_log_likelihood(x, w, B, s2), abs=1e-8)
            assert found.row_error.max() < 1e-6


def test_quadrature_finds_every_mode() -> None:
    """A decoder that folds z, x = |z| + noise, has two narrow modes far apart; the truth is two normal integrals."""

    class Fold(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.abs() * 2

    model = models.VAE(
        priors.StandardNormal(1),
        conditionals.DiagonalNormalPosterior(nn.Linear(1, 2)),
        conditionals.NormalLikelihood(Fold(), variance=1e-4),
    ).double()
    x = np.array([[1.0], [3.0], [5.0]])
    line = np.linspace(-9, 9, 2_000_001)
    density = stats.norm.pdf(x, 2 * np.abs(line), 0.01) * stats.norm.pdf(line)
    found = evaluation.grid_nll(model, t(x))
    assert -found.rows.numpy() == pytest.approx(np.log(density.sum(1) * (line[1] - line[0])), abs=1e-6)


# Tails of weights


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.5, 0.9])
def test_the_shape_of_a_tail_is_that_of_maximum_likelihood_shrunk_towards_a_half(shape) -> None:
    """scipy's maximum-likelihood fit of 400 excesses is the second route; it is shrunk 10 / 410 of the way to 0.5."""
    y = stats.genpareto(shape, scale=2.0).rvs((400, 8), random_state=3)
    fitted = np.array([stats.genpareto.fit(column, floc=0)[0] for column in y.T])
    expected = (400 * fitted + 5) / 410
    assert evaluation.pareto_shape(t(y)).numpy() == pytest.approx(expected, abs=0.05)


def test_k_hat_does_not_depend_on_the_chunks_and_tells_good_weights_from_bad() -> None:
    torch.manual_seed(0)
    log_w = torch.randn(1000, 5, dtype=torch.float64)
    whole, parts = Tail(1000), Tail(1000)
    whole.add(log_w)
    for part in log_w.split(77):
        parts.add(part)
    assert torch.equal(whole.k_hat(), parts.k_hat())
    exact = laws.linear_vae(W[:, :1], B, S2, laws.diagonal_posterior(*_best_of(W[:, :1])))
    good = evaluation.nll(exact.double(), t(X), 100)
    assert good.unreliable == 0
    bad = evaluation.nll(linear(1.0, 0.05), t(X), 100)
    assert bad.unreliable > 0.9
    assert evaluation.nll(linear(), t(X), 10).unreliable is None


def _best_of(w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    m = w.T @ w + S2 * np.eye(w.shape[1])
    return np.linalg.inv(m) @ w.T, B, np.diag(S2 * np.linalg.inv(m))


# The mixture of proposals


@pytest.mark.parametrize("proposal", ["encoder", "mixture", "auto"])
def test_weights_of_every_proposal_have_the_mean_p_of_x(proposal) -> None:
    """A q three times too narrow: E[w] = p(x) on average over 64 rows of 2,000 draws, at 4.5 standard errors (false
    alarm rate 7e-6); the mixture has the smaller errors."""
    model = linear(0.2, 0.3)
    found = evaluation.nll(model, t(X), 2000, proposal=proposal, seed=2)
    ratio = np.exp(-found.rows.numpy() - LOG_P)
    assert abs(ratio.mean() - 1) < Z * ratio.std() / 8
    if proposal == "mixture":
        assert found.mixed is not None and found.mixed.all()
        assert found.row_error.mean() < evaluation.nll(model, t(X), 2000, seed=2).row_error.mean()
    assert (found.mixed is None) == (proposal == "encoder")


def test_auto_keeps_the_encoder_if_it_equals_the_posterior() -> None:
    exact = laws.linear_vae(W[:, :1], B, S2, laws.diagonal_posterior(*_best_of(W[:, :1]))).double()
    found = evaluation.nll(exact, t(X), 100, proposal="auto")
    assert found.mixed is not None and not found.mixed.any()
    assert torch.equal(found.rows, evaluation.nll(exact, t(X), 100).rows)


def test_auto_chooses_the_mixture_only_if_its_tail_is_lighter() -> None:
    """Three rows: q bad and the mixture good, both bad and the mixture worse, q good."""
    tails = [t([0.9, 0.9, 0.1]), t([0.2, 1.5, 0.0])]
    joint = LogJoint(linear(), t(X[:3]))
    weighed = [torch.stack([torch.zeros_like(tail)] * 3 + [tail]) for tail in tails]
    wide = _mixed(joint, lambda draws: torch.empty(draws, 3), "auto", lambda *_, **__: weighed.pop(0))
    assert wide.tolist() == [True, False, False]


# The gaps of the bound


def test_the_gaps_of_a_linear_model_are_those_of_its_best_diagonal_normal() -> None:
    """The approximation gap is 1/2 (sum ln L_ii - ln det L) for the precision L of p(z|x), the same in every row. The
    amortisation gap is the difference of two bounds in closed form. 64 rows of 1,000 draws at 4.5 standard errors; the
    entropy is exact."""
    model = linear(0.4, 0.5)
    gaps = evaluation.inference_gaps(model, t(X), t(LOG_P), draws=1000)
    expected = 0.5 * (np.log(np.diag(PRECISION)).sum() - np.linalg.slogdet(PRECISION)[1])
    found = gaps.approximation.numpy()
    assert found.mean() == pytest.approx(expected, abs=0.02 + Z * found.std() / 8)
    with torch.no_grad():
        q = model.encode(t(X))
    own = laws.linear_elbo(X, W, B, S2, q.mean.numpy(), q.variance.numpy())
    loss = (gaps.approximation + gaps.amortisation).numpy() - (LOG_P - own)
    assert abs(loss.mean()) < Z * loss.std() / 8


def test_the_parts_of_the_rate_add_up_and_are_those_of_the_finite_mixture() -> None:
    """Both parts are checked for q(z) = mean of 40 posteriors by quadrature in numpy over one latent dimension; 2,000
    draws, within 4.5 of the stated standard errors."""
    means, variances = RNG.normal(size=40), RNG.uniform(0.05, 0.3, 40)

    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            row = x[:, 0].long()
            return torch.stack([t(means)[row], t(np.log(variances))[row]], 1)

    model = models.VAE(
        priors.StandardNormal(1), conditionals.DiagonalNormalPosterior(Rows()),
        conditionals.NormalLikelihood(nn.Linear(1, 1)),
    ).double()  # fmt: skip
    x = t(np.arange(40.0)[:, None])
    with torch.no_grad():
        q = model.encode(x)
    mean, sd = q.mean.numpy()[:, 0], q.variance.numpy()[:, 0] ** 0.5
    line = np.linspace(-8, 8, 40_001)
    each = stats.norm.pdf(line[:, None], mean, sd)
    mixture = each.mean(1)
    step = line[1] - line[0]
    marginal = (mixture * (np.log(mixture) - stats.norm.logpdf(line))).sum() * step
    information = (each * (np.log(each + 1e-300) - np.log(mixture)[:, None])).sum(0).mean() * step
    repeated = x.repeat(50, 1)  # 50 draws of each posterior; q(z) is the same mixture
    found = evaluation.rate_parts(model, repeated, drawn=2000)
    assert abs(found.mutual_information - information) < Z * found.mutual_information_error
    assert abs(found.marginal - marginal) < Z * found.marginal_error
    rate = evaluation.elbo(model, x).rate.mean().item()
    assert marginal + information == pytest.approx(rate, abs=1e-6)


def test_estimates_for_arrays_are_those_for_tensors() -> None:
    """Estimates for arrays equal those for tensors."""
    w = W[:, :2]
    model = laws.linear_vae(w, B, S2, laws.diagonal_posterior(np.zeros((2, D)), B, np.ones(2))).double()
    for estimate in (evaluation.nll, evaluation.annealed_nll, evaluation.grid_nll):
        more = {"k": 5} if estimate is evaluation.nll else {}
        few = {"chains": 2, "temperatures": 3} if estimate is evaluation.annealed_nll else more
        assert torch.equal(estimate(model, X[:3], **few).rows, estimate(model, t(X[:3]), **few).rows)
    values = evaluation.rate_parts(model, X), evaluation.inference_gaps(model, X[:3], t(LOG_P[:3]), steps=2, draws=5)
    assert values[0].rows == 64 and values[1].approximation.shape == (3,)


# Messages


def test_impossible_estimates_are_refused_with_the_reason() -> None:
    sphere = models.VAE(
        priors.UniformSphere(3), conditionals.VonMisesFisherPosterior(nn.Linear(D, 4)),
        conditionals.NormalLikelihood(nn.Linear(3, D)),
    )  # fmt: skip
    x = t(X).float()
    for estimate in (evaluation.annealed_nll, evaluation.grid_nll, evaluation.rate_parts):
        with pytest.raises(InputError, match=r"UniformSphere.*iw"):
            estimate(sphere, x)
    with pytest.raises(InputError, match="one or two latent dimensions, but the model has 3"):
        evaluation.grid_nll(linear(), t(X))
    with pytest.raises(InputError, match="temperatures"):
        evaluation.annealed_nll(linear(), t(X), temperatures=0)
    with pytest.raises(InputError, match="log_px has 3 values but x has 64 rows"):
        evaluation.inference_gaps(linear(), t(X), t(LOG_P[:3]))
    with pytest.raises(InputError, match="proposal must be one of encoder, mixture, auto"):
        evaluation.nll(linear(), t(X), proposal="wide")
    with pytest.raises(InputError, match="nll must be one of iw, ais, grid"):
        evaluation.Estimator("hmc")
