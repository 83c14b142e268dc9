"""Laws of the linear VAE, for which closed forms are known: probabilistic PCA, the exact bound and its gradients, beta
compared with c and collapse, the optimal variance, and PCA as the linear autoencoder."""

from __future__ import annotations

import functools
import re

import laws
import numpy as np
import pytest
import torch
from laws import LN_2PI, Z, t
from sklearn.datasets import load_digits
from torch import Tensor, nn

import latens
from latens import conditionals, distributions, evaluation, models, networks, objectives, priors
from latens.tensors.numerics import positive


def orthogonal_data(n: int, eigenvalues: list[float], seed: int) -> np.ndarray:
    """Rows whose sample covariance (divisor n) has exactly these eigenvalues, in a random basis, mean not zero."""
    rng = np.random.default_rng(seed)
    d = len(eigenvalues)
    g = rng.normal(size=(n, d))
    g -= g.mean(0)
    g = np.linalg.qr(g)[0] * np.sqrt(n)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return g * np.sqrt(eigenvalues) @ basis.T + rng.normal(size=d)


def cubature(samples: tuple[int, ...], like: Tensor) -> Tensor:
    """Noise of 2 Z points at +-sqrt(Z) e_i, for which means of quadratic functions under N(0, I) are exact (degree
    3)."""
    size = like.shape[-1]
    assert tuple(samples) == (2 * size,)
    points = torch.eye(size, dtype=like.dtype) * size**0.5
    return torch.cat([points, -points]).view(2 * size, *[1] * (like.dim() - 1), size).expand(2 * size, *like.shape)


# Linear VAE = probabilistic PCA


@pytest.mark.parametrize("n,d,q", [(400, 10, 3), (150, 5, 1), (300, 4, 3)])
def test_the_exact_elbo_is_the_log_likelihood_at_the_optimum(n, d, q, monkeypatch) -> None:
    x, *_ = laws.toy(n, d, q, seed=d)
    w, s2, ll = laws.ppca(x, q)
    b = x.mean(0)
    assert laws.gaussian_log_likelihood(x, w, b, s2).sum() == pytest.approx(ll, abs=1e-8 * n)
    mean, cov = laws.posterior(x, w, b, s2)
    var = np.diag(cov)
    assert np.abs(cov - np.diag(var)).max() < 1e-12  # R = I leaves the posterior diagonal
    lam = (w**2).sum(0) + s2
    assert 0.5 * (mean**2 + var - 1 - np.log(var)).mean(0) == pytest.approx(0.5 * np.log(lam / s2))
    assert laws.linear_elbo(x, w, b, s2, mean, var).sum() == pytest.approx(ll, abs=1e-8 * n)
    v = np.linalg.inv(w.T @ w + s2 * np.eye(q)) @ w.T
    model = laws.linear_vae(w, b, s2, laws.diagonal_posterior(v, b, var))
    monkeypatch.setattr("latens.distributions.normal.standard_normal", cubature)
    objective = objectives.ELBO(samples=2 * q, kl="closed")
    bound = objective.bound(objective.draw(model, t(x))).detach().numpy()  # the library's draw, exact in mean
    assert bound.sum() == pytest.approx(ll, abs=1e-8 * n)
    assert bound == pytest.approx(laws.linear_elbo(x, w, b, s2, mean, var), abs=1e-8)


def test_a_rotated_decoder_with_a_diagonal_encoder_loses_what_theory_says(monkeypatch) -> None:
    n, d, q = 300, 8, 3
    x, *_ = laws.toy(n, d, q, seed=2)
    w, s2, ll = laws.ppca(x, q)
    w = w @ np.linalg.qr(np.random.default_rng(1).normal(size=(q, q)))[0]
    b = x.mean(0)
    m = w.T @ w + s2 * np.eye(q)
    loss = n / 2 * (np.log(np.diag(m)).sum() - np.linalg.slogdet(m)[1])
    assert loss > n * 0.01
    v = np.linalg.inv(m) @ w.T
    model = laws.linear_vae(w, b, s2, laws.diagonal_posterior(v, b, s2 / np.diag(m)))  # the best diagonal q
    monkeypatch.setattr("latens.distributions.normal.standard_normal", cubature)
    objective = objectives.ELBO(samples=2 * q)
    bound = objective.bound(objective.draw(model, t(x))).sum().item()
    assert ll - bound == pytest.approx(loss, abs=1e-8 * n)


@pytest.mark.parametrize("variance", ["optimal", "learned"])
def test_a_trained_linear_vae_is_probabilistic_pca(variance) -> None:
    """Exact figures are deterministic. The Monte-Carlo ELBO has a standard error from 10 seeds of 20 draws; it exceeds
    the optimum by 4 standard errors with a probability below 1e-3 (t, 9 degrees of freedom) even if the gap is zero."""
    n, d, q = 512, 6, 2
    x, *_ = laws.toy(n, d, q, seed=11)
    w, s2, ll = laws.ppca(x, q)
    torch.manual_seed(3)
    model = models.VAE(
        priors.StandardNormal(q), conditionals.DiagonalNormalPosterior(nn.Linear(d, 2 * q)),
        conditionals.NormalLikelihood(nn.Linear(q, d), variance=variance),
    ).double()  # fmt: skip
    latens.train(model, objectives.ELBO(samples=4), x, epochs=300, batch_size=128, learning_rate=0.02, seed=1)
    net = model.likelihood.network
    trained_w, trained_b = net.weight.detach().numpy(), net.bias.detach().numpy()
    trained_s2 = model.likelihood.observation_variance.item()
    mean_ll = laws.gaussian_log_likelihood(x, trained_w, trained_b, trained_s2).mean()
    assert ll / n - 0.05 < mean_ll <= ll / n + 1e-9
    elbos = np.array([evaluation.elbo(model, t(x), draws=20, seed=s).elbo for s in range(10)])
    error = elbos.std(ddof=1) / np.sqrt(10)
    assert error < 0.005
    assert ll / n - 0.05 < elbos.mean() < ll / n + 4 * error
    assert trained_s2 == pytest.approx(s2, rel=0.02)
    assert laws.principal_cosines(trained_w, w).min() > 0.999
    nll = evaluation.nll(model, t(x), k=50)
    assert nll.mean == pytest.approx(-ll / n, abs=0.05)


@pytest.mark.parametrize("q", [3, 10])
def test_the_linear_autoencoder_finds_the_pca_subspace_of_digits(q) -> None:
    x = load_digits().data  # raw 64 columns, all rows; the biases start at the centre and move freely
    d = x.shape[1]
    axes = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:q].T
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(d, q), nn.Linear(q, d)
    centre = torch.tensor(x.mean(0), dtype=torch.float32)
    networks.start_at(decoder, centre)
    networks.start_at(encoder, -encoder.weight.detach() @ centre)
    model = models.VAE(
        priors.StandardNormal(q),
        conditionals.PointMassPosterior(encoder),
        conditionals.NormalLikelihood(decoder, variance=1.0),
    )
    latens.train(
        model, objectives.ELBO(beta=0), x, epochs=150, batch_size=128, learning_rate=0.05, weight_decay=0.0, clip=0.0
    )
    cosines = laws.principal_cosines(model.likelihood.network.weight.detach().double().numpy(), axes)
    assert cosines.min() > 0.999, cosines
    centred = x - x.mean(0)
    best = (centred**2).sum() - ((centred @ axes) ** 2).sum()
    with torch.no_grad():
        output = model.decode(model.encode(torch.tensor(x, dtype=torch.float32)).mean).mean.double().numpy()
    assert best * (1 - 1e-5) < ((x - output) ** 2).sum() < best * 1.002


# The Monte-Carlo bound and its gradients


def test_the_monte_carlo_elbo_and_its_gradients_are_those_of_the_closed_form() -> None:
    """5 rows, twice, and 32 coordinates of the gradient, each a two-sided z test at 4.5: false alarm rate below
    3e-4."""
    d, q, b_rows = 4, 2, 5
    x, w, b, s2 = laws.toy(b_rows, d, q, seed=5)
    rng = np.random.default_rng(6)
    v, var = rng.normal(size=(q, d)) * 0.3, np.array([0.3, 0.7])
    model = laws.linear_vae(w, b, s2, laws.diagonal_posterior(v, b, var))
    torch.manual_seed(1)
    draw = model.draw(t(x), k=100_000)
    exact = laws.linear_elbo(x, w, b, s2, (x - b) @ v.T, var)
    for kl in ("closed", "sampled"):
        terms = (draw.log_px - draw.rate(kl)).detach().numpy()
        assert np.abs(laws.z_score(terms, exact)).max() < Z
    # gradients: averages over 400 replicates of 100 draws against autograd of the closed form
    objective = objectives.ELBO(samples=100)
    parameters = [p for p in model.parameters() if p.requires_grad]
    replicates = []
    for _ in range(400):
        loss = objective.losses(model, t(x), objective.draw(model, t(x)))["model"]
        replicates.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).numpy())
    output = model.posterior.network(t(x))
    mean, h = output[:, :q], positive(output[:, q:], 1e-8)
    net = model.likelihood.network
    square = ((t(x) - net(mean)) ** 2).sum(-1) + (h * net.weight.square().sum(0)).sum(-1)
    elbo = -0.5 * (square / s2 + d * np.log(2 * np.pi * s2)) - 0.5 * (mean**2 + h - 1 - h.log()).sum(-1)
    assert elbo.detach().numpy() == pytest.approx(exact, abs=1e-9)
    truth = torch.cat([g.flatten() for g in torch.autograd.grad(-elbo.mean(), parameters)]).numpy()
    found = np.array(replicates)
    spread = found.std(0)
    noisy = spread > 1e-12
    assert np.abs(laws.z_score(found[:, noisy], truth[noisy])).max() < Z
    assert found[:, ~noisy].mean(0) == pytest.approx(truth[~noisy], abs=1e-9)


@pytest.mark.parametrize("m,s", [(0.3, 0.8), (-1.0, 0.5)])
def test_the_toy_gradient_has_its_closed_form(m, s) -> None:
    """With p(z) = N(0,1) and p(x|z) = N(z,1), dELBO/dm = x - 2m and dELBO/dln s = 1 - 2 s^2 (two z tests at 4.5:
    1.4e-5)."""
    x, mean, log_s = 1.7, torch.tensor([m], dtype=torch.float64), torch.tensor([np.log(s)], dtype=torch.float64)
    mean, log_s = mean.requires_grad_(), log_s.requires_grad_()
    posterior = laws.Fixed(
        lambda _: distributions.DiagonalNormal(mean.expand(20_000, 1), (2 * log_s).exp().expand(20_000, 1))
    )
    model = laws.linear_vae(np.ones((1, 1)), np.zeros(1), 1.0, posterior)
    torch.manual_seed(0)
    draw = model.draw(torch.full((20_000, 1), x, dtype=torch.float64))
    z = draw.z[0, :, 0].detach().numpy()
    grads = torch.autograd.grad(draw.log_px.mean() - draw.rate("closed").mean(), [mean, log_s])
    per_row = [x - z - m, (x - z) * (z - m) - s**2 + 1]  # the reparameterised gradient of one draw, by hand
    for grad, terms, truth in zip(grads, per_row, [x - 2 * m, 1 - 2 * s**2]):
        assert grad.item() == pytest.approx(terms.mean(), abs=1e-9)
        assert abs(laws.z_score(terms, truth)) < Z


# Beta and c, collapse

EIGENVALUES = [9.0, 5.0, 3.0, 1.5, 0.6, 0.3]


class ConstantVariance(nn.Module):
    """The encoder [V x + a, raw h] of the linear VAE, whose variance is one number per dimension."""

    def __init__(self, d: int, q: int):
        super().__init__()
        self.mean, self.h = nn.Linear(d, q), nn.Parameter(torch.zeros(q))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        return torch.cat([mean, self.h.expand_as(mean)], -1)


@functools.cache
def fit_exactly(beta: float, c: float) -> tuple[np.ndarray, models.VAE]:
    """(data, model) after L-BFGS on the library's loss, whose expectation cubature makes exact."""
    torch.manual_seed(0)
    x, d, q = orthogonal_data(40, EIGENVALUES, seed=4), 6, 6
    model = models.VAE(
        priors.StandardNormal(q), conditionals.DiagonalNormalPosterior(ConstantVariance(d, q)),
        conditionals.NormalLikelihood(nn.Linear(q, d), variance=c),
    ).double()  # fmt: skip
    objective = objectives.ELBO(beta=beta, samples=2 * q)
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=1000,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=0,
    )
    data = t(x)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective.losses(model, data, objective.draw(model, data))["model"]
        loss.backward()
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latens.distributions.normal.standard_normal", cubature)
        optimizer.step(closure)
    return x, model


@pytest.mark.parametrize("beta,c", [(1, 0.25), (4, 0.25), (1, 1), (1, 2), (8, 1), (1, 20)])
def test_beta_times_c_decides_which_units_are_active(beta, c) -> None:
    x, model = fit_exactly(beta, c)
    lam = np.array(EIGENVALUES)
    expected = np.maximum(lam - beta * c, 0)
    norms = model.likelihood.network.weight.detach().square().sum(0).numpy()
    order = np.argsort(-norms)
    assert norms[order] == pytest.approx(expected, rel=0.01, abs=1e-3)
    q = model.encode(t(x))
    assert q.variance[0].detach().numpy()[order] == pytest.approx(np.minimum(beta * c / lam, 1), rel=0.01)
    active = evaluation.active_units(q.mean.detach())
    assert int(active.sum()) == (lam > beta * c).sum()


def test_beta_and_c_have_the_same_optimum_and_another_value(monkeypatch) -> None:
    (x, a), (_, b) = fit_exactly(4, 0.25), fit_exactly(1, 1)
    monkeypatch.setattr("latens.distributions.normal.standard_normal", cubature)
    wa, wb = (m.likelihood.network.weight.detach().numpy() for m in (a, b))
    assert wa @ wa.T == pytest.approx(wb @ wb.T, abs=1e-3)
    bounds = [objectives.ELBO(beta, 12).bound(m.draw(t(x), 12)).mean().item() for m, beta in ((a, 4), (b, 1))]
    assert abs(bounds[0] - bounds[1]) > 0.1


# The optimal variance


def squared_residual(x: np.ndarray, model: models.VAE) -> float:
    """The mean over rows and columns of E_q (x - f(z))^2 for a linear decoder, in closed form."""
    net = model.likelihood.network
    w, b = net.weight.detach().numpy(), net.bias.detach().numpy()
    q = model.encode(t(x))
    mean, var = q.mean.detach().numpy(), q.variance.detach().numpy()
    return float((((x - b - mean @ w.T) ** 2).sum(1) + var @ (w**2).sum(0)).mean() / x.shape[1])


def test_the_settled_variance_is_the_mean_square_of_decoded_posterior_samples() -> None:
    """With one latent dimension, 2,000 rows of 20 columns and 64 draws, the settled value has a relative standard error
    below sqrt(2 / 128,000) / 20 = 2e-4, so the tolerance 1e-3 is 5 standard errors (false alarm rate 6e-7)."""
    n, d, s = 2000, 20, 64
    x, *_ = laws.toy(n, d, 1, seed=8, noise=0.7)
    torch.manual_seed(0)
    model = models.VAE(
        priors.StandardNormal(1),
        conditionals.DiagonalNormalPosterior(nn.Linear(d, 2)),
        conditionals.NormalLikelihood(nn.Linear(1, d)),
    ).double()
    latens.train(model, objectives.ELBO(samples=s), x, epochs=2, batch_size=250, learning_rate=0.03)
    s2 = model.likelihood.variance.item()
    assert s2 == pytest.approx(squared_residual(x, model), rel=1e-3)
    with torch.no_grad():
        at_the_mean = float(((t(x) - model.decode(model.encode(t(x)).mean).mean) ** 2).mean())
    assert at_the_mean < 0.99 * s2  # the value at the mean code is too small
    # with the settled value, the mean of -log p(x|z) is D/2 (ln 2 pi s2 + 1) per row of D columns
    distortion = evaluation.distortion(model, t(x), draws=64).mean().item()
    assert distortion == pytest.approx(d / 2 * (LN_2PI + np.log(s2) + 1), abs=1e-3 * d / 2)


def test_at_the_optimal_variance_the_distortion_is_its_entropy_exactly() -> None:
    x, w, b, _ = laws.toy(40, 5, 2, seed=9)
    v = np.random.default_rng(0).normal(size=(2, 5)) * 0.2
    model = laws.linear_vae(w, b, 0.3, laws.diagonal_posterior(v, b, np.array([0.2, 0.5])))
    likelihood = model.likelihood = conditionals.NormalLikelihood(model.likelihood.network).double()
    torch.manual_seed(0)
    draw = model.draw(t(x), k=7)
    likelihood.settle(likelihood.observe(t(x), draw))
    residual = ((t(x) - draw.px.mean) ** 2).mean().item()
    assert likelihood.variance.item() == pytest.approx(residual, rel=1e-12)
    again = likelihood(draw.z).log_prob(t(x))
    assert -again.mean().item() == pytest.approx(5 / 2 * (np.log(2 * np.pi * residual) + 1), rel=1e-12)
    # the gradient at constant variance is that of D/2 ln(mean square), in which the optimum is inserted
    parameters = list(likelihood.network.parameters()) + list(model.posterior.parameters())
    held = torch.autograd.grad(-again.mean(), parameters, retain_graph=True)
    closed = torch.autograd.grad(5 / 2 * ((t(x) - draw.px.mean) ** 2).mean().log(), parameters)
    for a, c in zip(held, closed):
        assert a.numpy() == pytest.approx(c.numpy(), rel=1e-9, abs=1e-12)


def test_the_optimal_variance_skips_missing_cells_weighs_rows_and_keeps_its_floor() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4))
    x[rng.random(x.shape) < 0.3] = np.nan
    shift, unit = np.array([1.0, -2.0, 0.0, 5.0]), np.array([2.0, 1.0, 0.5, 3.0])
    likelihood = conditionals.NormalLikelihood(
        laws.affine(np.ones((4, 1)), np.zeros(4)), shift=t(shift), unit=t(unit)
    ).double()
    posterior = laws.Fixed(lambda x: distributions.DiagonalNormal(x.new_zeros(len(x), 1), x.new_full((len(x), 1), 0.2)))
    model = models.VAE(priors.StandardNormal(1).double(), posterior, likelihood)
    draw = model.draw(t(x), k=3)
    weight = rng.random(30)
    draw.weight = t(weight)
    likelihood.settle(likelihood.observe(t(x), draw))
    z = draw.z.numpy()  # f(z) = z in every column, in units of ``unit``
    squares, weights = 0.0, 0.0
    for k in range(3):
        for i in range(30):
            for j in range(4):
                if not np.isnan(x[i, j]):
                    squares += weight[i] * ((x[i, j] - shift[j]) / unit[j] - z[k, i, 0]) ** 2
                    weights += weight[i]
    assert likelihood.variance.item() == pytest.approx(squares / weights, rel=1e-12)
    assert likelihood.data_variance.numpy() == pytest.approx(squares / weights * unit**2, rel=1e-12)
    likelihood.settle(torch.zeros(2, dtype=torch.float64))
    assert likelihood.variance.item() == pytest.approx(likelihood.floor)


def test_constant_data_leaves_the_variance_at_its_floor_and_everything_finite() -> None:
    x = np.full((64, 3), 2.0)
    torch.manual_seed(0)
    model = models.VAE(
        priors.StandardNormal(1),
        conditionals.DiagonalNormalPosterior(nn.Linear(3, 2)),
        conditionals.NormalLikelihood(nn.Linear(1, 3), floor=1e-2),
    ).double()
    latens.train(model, objectives.ELBO(), x, epochs=150, batch_size=32, learning_rate=0.05)
    assert model.likelihood.variance.item() == pytest.approx(1e-2, rel=1e-6)
    assert np.isfinite(evaluation.elbo(model, t(x)).elbo)


@pytest.mark.parametrize(
    "active, beta, said",
    [
        (5, 1.0, None),
        (3, 1.0, "2 of 5 latent dimensions are.*3 eigenvalues.*largest: 9, 4, 2.*c = 1 .*choose latent_dim = 3"),
        (1, 3.0, "4 of 5.*2 eigenvalues.*exceed beta x c = 3 .*training has not yet used them"),
        (0, 20.0, "5 of 5.*0 eigenvalues.*lower beta.*latent_dim = 1"),
    ],
)  # fmt: skip
def test_the_warning_of_collapse_counts_eigenvalues_above_beta_c(active: int, beta: float, said: str | None) -> None:
    x = orthogonal_data(200, [9.0, 4.0, 2.0, 0.5, 0.25, 0.125], seed=4)
    posterior = laws.diagonal_posterior(np.zeros((5, 6)), x.mean(0), np.ones(5))
    model = laws.linear_vae(np.zeros((6, 5)), x.mean(0), 1.0, posterior)
    found = evaluation.collapse_warning(model, t(x), active, 5, beta)
    assert found is None if said is None else re.search(said, str(found)), found


def test_where_theory_is_silent_the_warning_of_collapse_leaves_training_open() -> None:
    found = evaluation.collapse_warning(nn.Module(), torch.zeros(3, 2), 0, 2, 0.5)
    assert "at beta = 0.5 the data do not need them, or training has not yet used them" in str(found)
