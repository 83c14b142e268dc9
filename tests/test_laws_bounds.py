"""Laws of the bounds: importance weights, identities between objectives checked by naive loops, reductions, the
aggregation of likelihood estimates, and the exact likelihood of a nonlinear decoder on a grid."""

from __future__ import annotations

import itertools

import laws
import numpy as np
import pytest
import torch
from laws import LN_2PI, Z, t
from scipy import stats
from sklearn.datasets import load_digits
from torch import distributions as td
from torch import nn

import latens
from latens import conditionals, distributions, evaluation, models, objectives, priors
from latens.evaluation import likelihood as likelihood_module
from latens.tensors import randomness

D, Q = 4, 2
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
LOG_P = laws.gaussian_log_likelihood(X, W, B, S2)
MEAN, COV = laws.posterior(X, W, B, S2)
V = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T


def foreign(make):
    """A posterior that is a torch distribution around the exact mean."""
    return laws.Fixed(lambda x: make((x - t(B)) @ t(V).T))


WIDE = 1.5 * COV  # every posterior below is wide enough for finite chi-square
POSTERIORS = {
    "diagonal": lambda: laws.diagonal_posterior(V, B, 1.6 * np.linalg.eigvalsh(COV).max() * np.ones(Q)),
    "full": lambda: laws.full_posterior(0.9 * V, B, WIDE),
    "torch Independent(Normal)": lambda: foreign(lambda m: td.Independent(td.Normal(m, torch.full_like(m, 0.5)), 1)),
    "torch MultivariateNormal": lambda: foreign(lambda m: td.MultivariateNormal(m, t(WIDE).expand(len(m), Q, Q))),
    "torch Independent(Laplace)": lambda: foreign(lambda m: td.Independent(td.Laplace(m, torch.full_like(m, 0.4)), 1)),
    "torch Independent(StudentT)": lambda: foreign(
        lambda m: td.Independent(td.StudentT(torch.full_like(m, 5.0), m, torch.full_like(m, 0.4)), 1)
    ),
}


def vae(name: str) -> models.VAE:
    return laws.linear_vae(W, B, S2, POSTERIORS[name]())


def naive_log_w(model: models.VAE, draw: models.Draw) -> np.ndarray:
    """ln p(x|z) + ln p(z) - ln q(z|x) of every draw, one number at a time through scipy (normal posteriors)."""
    z, q = draw.z.detach().numpy(), model.encode(t(X))
    mean = q.mean.detach().numpy()
    if hasattr(q, "scale_tril"):
        cov = (q.scale_tril @ q.scale_tril.mT).detach().numpy()
    else:
        cov = np.stack([np.diag(v) for v in q.variance.detach().numpy()])
    out = np.empty(z.shape[:2])
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            log_px = stats.norm(B + W @ z[k, i], np.sqrt(S2)).logpdf(X[i]).sum()
            log_pz = stats.norm.logpdf(z[k, i]).sum()
            out[k, i] = log_px + log_pz - stats.multivariate_normal(mean[i], cov[i]).logpdf(z[k, i])
    return out


# Importance weights


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_with_the_exact_posterior_every_log_weight_is_log_p_of_x(kind) -> None:
    x, w, b, s2 = X, W, B, S2
    if kind == "diagonal":  # orthogonal columns make the exact posterior diagonal
        w, s2, _ = laws.ppca(laws.toy(50, D, Q, seed=3)[0], Q)
    mean, cov = laws.posterior(x, w, b, s2)
    v = np.linalg.inv(w.T @ w + s2 * np.eye(Q)) @ w.T
    q = laws.diagonal_posterior(v, b, np.diag(cov)) if kind == "diagonal" else laws.full_posterior(v, b, cov)
    model = laws.linear_vae(w, b, s2, q)
    truth = laws.gaussian_log_likelihood(x, w, b, s2)
    for k in (1, 50):
        assert np.abs(model.draw(t(x), k).log_w.detach().numpy() - truth).max() < 1e-9
    result = evaluation.nll(model, t(x), k=20)
    assert result.rows.numpy() == pytest.approx(-truth, abs=1e-9)
    assert result.ess.numpy() == pytest.approx(20, abs=1e-6) and result.row_error.max() < 1e-6
    elbo = objectives.ELBO(kl="sampled")
    assert elbo.bound(elbo.draw(model, t(x))).detach().numpy() == pytest.approx(truth, abs=1e-9)


def test_the_exact_posterior_given_the_observed_cells_gives_the_marginal_of_the_observed_cells() -> None:
    """Zero variance with missing data: log w = log N(x_o; b_o, W_o W_o^T + s2 I), scipy's marginal."""
    rng = np.random.default_rng(0)
    x = X.copy()
    x[rng.random(x.shape) < 0.4] = np.nan
    x[0] = np.nan  # a row with nothing observed has log p = 0
    means, covs, truth = [], [], []
    for row in x:
        o = ~np.isnan(row)
        mean, cov = laws.posterior(row[None, o], W[o], B[o], S2) if o.any() else (np.zeros((1, Q)), np.eye(Q))
        means.append(mean[0])
        covs.append(np.linalg.cholesky(cov))
        truth.append(laws.gaussian_log_likelihood(row[o], W[o], B[o], S2)[0] if o.any() else 0.0)
    q = distributions.FullNormal(t(np.array(means)), t(np.array(covs)))
    model = laws.linear_vae(W, B, S2, laws.Fixed(lambda _: q))
    assert np.abs(model.draw(t(x), 9).log_w.detach().numpy() - truth).max() < 1e-9


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_mean_weight_is_p_of_x_for_every_posterior(name) -> None:
    """E[w] = p(x), 6 rows, 200,000 draws, |z| < 4.5: false alarm rate below 5e-5 for each posterior."""
    torch.manual_seed(1)
    with torch.no_grad():
        log_w = vae(name).draw(t(X), 200_000).log_w.numpy()
    assert np.abs(laws.z_score(np.exp(log_w - LOG_P), 1.0)).max() < Z


@pytest.mark.parametrize("name", ["diagonal", "full", "torch Independent(Normal)", "torch MultivariateNormal"])
def test_log_weights_are_those_of_a_naive_loop(name) -> None:
    model = vae(name)
    torch.manual_seed(2)
    draw = model.draw(t(X), 5)
    assert draw.log_w.detach().numpy() == pytest.approx(naive_log_w(model, draw), abs=1e-9)


def test_a_point_mass_has_distortion_and_no_bound() -> None:
    model = laws.linear_vae(W, B, S2, conditionals.PointMassPosterior(laws.affine(V, -V @ B)))
    draw = model.draw(t(X), 2)
    assert draw.log_qz is None and not draw.has_density
    expected = stats.norm((X - B) @ V.T @ W.T + B, np.sqrt(S2)).logpdf(X).sum(1)
    assert draw.log_px[0].detach().numpy() == pytest.approx(expected, abs=1e-9)
    assert evaluation.distortion(model, t(X)).numpy() == pytest.approx(-expected, abs=1e-9)
    objective = objectives.ELBO(beta=0)
    assert objective.losses(model, t(X), draw)["model"].item() == pytest.approx(-expected.mean())
    for act in (
        lambda: draw.log_w, lambda: draw.rate(), lambda: draw.rate("sampled"), lambda: evaluation.nll(model, t(X), 3),
        lambda: evaluation.elbo(model, t(X)), lambda: objectives.IWAE(2).losses(model, t(X), draw),
        lambda: objectives.ELBO().losses(model, t(X), draw), lambda: draw.q.log_prob(draw.z),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="density"):
            act()


# The importance-weighted bound


def test_the_importance_weighted_bound_rises_to_log_p_as_theory_says() -> None:
    """L_k for k = 1, 5, 10, 30, from 2.2 x 1,600 k / chi2 replicates, so that the standard error of each gap is below
    5 % of the gap, and the tolerance of 40 % is at least 8 standard errors. For the order and for L_1 the tolerance is
    4 standard errors (five comparisons, false alarm rate 3e-4)."""
    mean, cov = laws.posterior(X[:1], W, B, S2)
    q_cov = 1.5 * np.diag(np.diag(cov))
    q_mean = mean[0] + 0.4 * np.sqrt(np.diag(cov))
    x2 = laws.chi2(mean[0], cov, q_mean, q_cov)
    grid = np.linspace(-8, 8, 801)
    points = np.stack(np.meshgrid(grid, grid), -1) * 0.5 + mean[0]
    p = stats.multivariate_normal(mean[0], cov).pdf(points)
    q = stats.multivariate_normal(q_mean, q_cov).logpdf(points)
    ratio = np.where(p > 0, p**2 * np.exp(-np.maximum(q, -600)), 0)
    assert (ratio.sum() * (0.5 * 16 / 800) ** 2 - 1) == pytest.approx(x2, rel=1e-6)  # the closed form itself
    assert 0.3 < x2 < 1.0
    v = t(q_mean)
    posterior = laws.Fixed(
        lambda x: distributions.DiagonalNormal(v.expand(len(x), Q), t(np.diag(q_cov)).expand(len(x), Q))
    )
    model = laws.linear_vae(W, B, S2, posterior)
    torch.manual_seed(5)
    bounds = {}
    with torch.no_grad():
        for k in (1, 5, 10, 30):
            objective, rows = objectives.IWAE(k), int(2.2 * 1600 * k / x2)
            parts = []
            for start in range(0, rows, 20_000):
                x = t(X[:1]).expand(min(20_000, rows - start), D)
                parts.append(objective.bound(objective.draw(model, x)))
            bounds[k] = torch.cat(parts).numpy()
    values = {k: (v.mean(), v.std() / np.sqrt(len(v))) for k, v in bounds.items()}
    exact = laws.linear_elbo(X[:1], W, B, S2, q_mean[None], np.diag(q_cov))[0]
    assert abs(values[1][0] - exact) < 4 * values[1][1]
    ks = list(values)
    for low, high in itertools.pairwise(ks):
        assert values[low][0] < values[high][0] + 4 * np.hypot(values[low][1], values[high][1])
    assert values[30][0] < LOG_P[0] + 4 * values[30][1]
    for k in ks[1:]:
        gap = LOG_P[0] - values[k][0]
        assert values[k][1] < 0.05 * gap
        assert k * gap == pytest.approx(x2 / 2, rel=0.4)


# Identities between objectives, against naive loops


@pytest.mark.parametrize("name", ["diagonal", "full"])
@pytest.mark.parametrize("k", [1, 2, 7])
def test_iwae_is_the_naive_loop_and_its_value_is_the_bound(name, k) -> None:
    model, objective = vae(name), objectives.IWAE(k)
    torch.manual_seed(3)
    draw = objective.draw(model, t(X))
    assert draw.log_px.shape == (k, len(X))
    log_w = naive_log_w(model, draw)
    rows = [laws.log_mean_exp(list(log_w[:, i])) for i in range(len(X))]
    assert objective.bound(draw).detach().numpy() == pytest.approx(rows, abs=1e-9)
    assert objective.losses(model, t(X), draw)["model"].item() == pytest.approx(-np.mean(rows), abs=1e-9)
    # its gradient is that of sum_k w~_k ln w_k with the normalised weights held constant
    parameters = list(model.parameters())
    plain = torch.autograd.grad(objective.losses(model, t(X), draw)["model"], parameters, retain_graph=True)
    surrogate = -(torch.softmax(draw.log_w, 0).detach() * draw.log_w).sum(0).mean()
    for a, b in zip(plain, torch.autograd.grad(surrogate, parameters)):
        assert a.numpy() == pytest.approx(b.numpy(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_iwae_of_one_draw_is_the_elbo_with_the_sampled_rate(name) -> None:
    model = vae(name)
    torch.manual_seed(4)
    draw = model.draw(t(X), 1)
    naive = naive_log_w(model, draw)[0]
    one, elbo = objectives.IWAE(1), objectives.ELBO(kl="sampled")
    assert one.bound(draw).detach().numpy() == pytest.approx(naive, abs=1e-9)
    assert elbo.bound(draw).detach().numpy() == pytest.approx(naive, abs=1e-9)
    parameters = list(model.parameters())
    a = torch.autograd.grad(one.losses(model, t(X), draw)["model"], parameters, retain_graph=True)
    b = torch.autograd.grad(elbo.losses(model, t(X), draw)["model"], parameters)
    assert all(np.allclose(g, h, rtol=1e-9, atol=1e-12) for g, h in zip(a, b))


def test_elbo_is_the_naive_loop_for_every_rate_and_beta() -> None:
    torch.manual_seed(5)
    for name in ("diagonal", "full"):
        model = vae(name)
        draw = model.draw(t(X), 3)
        q = model.encode(t(X))
        cov = [np.diag(v) for v in q.variance.detach().numpy()]
        if name == "full":
            cov = list((q.scale_tril @ q.scale_tril.mT).detach().numpy())
        closed = [laws.gaussian_kl(m, s, np.zeros(Q), np.eye(Q)) for m, s in zip(q.mean.detach().numpy(), cov)]
        z = draw.z.detach().numpy()
        log_px = np.array(
            [[stats.norm(B + W @ z[k, i], S2**0.5).logpdf(X[i]).sum() for i in range(6)] for k in range(3)]
        )
        sampled = (log_px - naive_log_w(model, draw)).mean(0)
        for beta in (1.0, 0.0, 4.0):
            for kl, rate in (("auto", closed), ("closed", closed), ("sampled", sampled)):
                bound = objectives.ELBO(beta, 3, kl).bound(draw).detach().numpy()
                assert bound == pytest.approx(log_px.mean(0) - beta * np.array(rate), abs=1e-9)


def test_miwae_and_ciwae_meet_their_limits() -> None:
    model = vae("diagonal")
    torch.manual_seed(6)
    draw = model.draw(t(X), 6)
    log_w = naive_log_w(model, draw)
    elbo, tight = log_w.mean(0), np.array([laws.log_mean_exp(list(log_w[:, i])) for i in range(len(X))])

    def value(objective):
        assert objective.samples == 6
        return objective.bound(draw).detach().numpy()

    assert value(objectives.IWAE(1, m=6)) == pytest.approx(elbo, abs=1e-9)  # MIWAE(M, 1) = ELBO
    assert value(objectives.IWAE(6, m=1)) == pytest.approx(tight, abs=1e-9)  # MIWAE(1, K) = IWAE(K)
    assert value(objectives.IWAE(6, mix=1.0)) == pytest.approx(elbo, abs=1e-9)
    assert value(objectives.IWAE(6, mix=0.0)) == pytest.approx(tight, abs=1e-9)
    assert value(objectives.IWAE(6, mix=0.25)) == pytest.approx(0.25 * elbo + 0.75 * tight, abs=1e-9)
    for k, m in ((2, 3), (3, 2)):  # m bounds of k draws each: any draws may share a bound, but the axes are fixed

        def naive(groups):
            return np.array([np.mean([laws.log_mean_exp(list(log_w[g, i])) for g in groups]) for i in range(len(X))])

        index = np.arange(6)
        either = [naive(index.reshape(m, k)), naive(index.reshape(k, m).T)]
        found = value(objectives.IWAE(k, m=m))
        assert any(np.allclose(found, e, atol=1e-9) for e in either)
        mixed = value(objectives.IWAE(k, m=m, mix=0.5))
        assert mixed == pytest.approx(0.5 * elbo + 0.5 * found, abs=1e-9)


def test_the_evaluated_elbo_equals_the_objective_and_its_terms_add_up() -> None:
    """elbo with 4,000 draws compared with the closed form, 6 rows, |z| < 4.5 (false alarm rate 4e-5), where the
    standard error is that of 4,000 draws of ln p(x|z)."""
    model = vae("diagonal")
    found = evaluation.elbo(model, t(X), draws=4000)
    q = model.encode(t(X))
    mean, var = q.mean.detach().numpy(), q.variance.detach().numpy()
    exact = laws.linear_elbo(X, W, B, S2, mean, var)
    with torch.no_grad():
        spread = model.draw(t(X), 4000).log_px.std(0).numpy()
    assert (np.abs(found.rows.numpy() - exact) < Z * spread / np.sqrt(4000)).all()
    rate = [laws.gaussian_kl(m, np.diag(v), np.zeros(Q), np.eye(Q)) for m, v in zip(mean, var)]
    assert found.rate.numpy() == pytest.approx(rate, abs=1e-9)
    assert found.elbo == pytest.approx(found.rows.mean().item())
    assert found.standard_error == pytest.approx(found.rows.numpy().std(ddof=1) / np.sqrt(6))


# Sums over dimensions and means over rows

OBJECTIVES = [
    objectives.ELBO(), objectives.ELBO(kl="sampled", samples=3), objectives.ELBO(beta=4), objectives.IWAE(4),
    objectives.IWAE(2, m=2, mix=0.3),
]  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{type(o).__name__}-{o.samples}")
def test_losses_are_means_over_rows(objective) -> None:
    """Repeating all rows leaves the loss unchanged; a weight of 2 equals repeating the row. Rows share their noise."""
    model = vae("diagonal")

    def loss(x, weight=None):
        torch.manual_seed(7)
        with randomness.shared():
            draw = objective.draw(model, t(x))
        draw.weight = None if weight is None else t(weight) * (len(x) / np.sum(weight))
        return objective.losses(model, t(x), draw)["model"].item()

    assert loss(np.concatenate([X, X])) == pytest.approx(loss(X), rel=1e-12)
    weight = np.array([2, 1, 0, 1, 3, 1])
    assert loss(X, weight) == pytest.approx(loss(np.repeat(X, weight, axis=0)), rel=1e-12)
    rows = [loss(X[i : i + 1]) for i in range(len(X))]
    assert loss(X) == pytest.approx(np.mean(rows), rel=1e-12)


@pytest.mark.parametrize("name", ["diagonal", "full"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{type(o).__name__}-{o.samples}")
def test_gradients_are_the_slopes_of_the_reported_value(objective, name) -> None:
    """Compare with central differences along 4 random directions at fixed noise: no term is detached."""
    model = vae(name)
    parameters = list(model.parameters())

    def loss() -> torch.Tensor:
        torch.manual_seed(8)
        return objective.losses(model, t(X), objective.draw(model, t(X)))["model"]

    laws.assert_slopes(loss, parameters, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 3, 2)])
def test_densities_are_sums_over_the_dimensions_whatever_their_shape(shape) -> None:
    rng = np.random.default_rng(0)
    w, b, x = rng.normal(size=(6, Q)), rng.normal(size=6), rng.normal(size=(5, 6))
    net = nn.Sequential(laws.affine(w, b), nn.Unflatten(-1, shape))
    likelihood = conditionals.NormalLikelihood(net, variance=0.5).double()
    z = rng.normal(size=(3, 5, Q))
    found = likelihood(t(z)).log_prob(t(x).view(5, *shape)).detach().numpy()
    expected = [[stats.norm(b + w @ z[k, i], 0.5**0.5).logpdf(x[i]).sum() for i in range(5)] for k in range(3)]
    assert found == pytest.approx(np.array(expected), abs=1e-9)
    # repeating each column, with a code that is repeated as well, doubles both terms
    q = distributions.DiagonalNormal(t(z[0]), t(np.full((5, Q), 0.3)))
    twice = distributions.DiagonalNormal(t(np.tile(z[0], 2)), t(np.full((5, 2 * Q), 0.3)))
    p = [priors.StandardNormal(n).double()() for n in (Q, 2 * Q)]
    assert distributions.closed_kl(twice, p[1]).numpy() == pytest.approx(2 * distributions.closed_kl(q, p[0]).numpy())


# The estimates of rows are averaged as logarithms


@pytest.mark.parametrize("shared_noise", [False, True])
@pytest.mark.parametrize("k", [1, 7, 10])
def test_nll_uses_exactly_k_draws_per_row_and_averages_logarithms(k, shared_noise, monkeypatch) -> None:
    """Chunks of 4 draws and 2 rows give the same as the whole matrix of log-weights."""
    model = vae("diagonal")
    monkeypatch.setattr(likelihood_module, "CELLS", 4 * D)
    monkeypatch.setattr(likelihood_module, "require_support", lambda *_: None)  # this check draws as well
    seen: dict[int, list[np.ndarray]] = {i: [] for i in range(len(X))}
    original = model.draw

    def recording(x, n=1, c=None):
        draw = original(x, n, c)
        for row, values in zip(x.numpy(), draw.log_w.detach().numpy().T):
            seen[int(np.abs(X - row).sum(1).argmin())].extend(values)
        return draw

    model.draw = recording
    result = evaluation.nll(model, t(X), k=k, shared_noise=shared_noise)
    assert all(len(values) == k == len(set(values)) for values in seen.values())  # no chunk repeats another's draws
    naive = np.array([-laws.log_mean_exp(seen[i]) for i in range(len(X))])
    assert result.rows.numpy() == pytest.approx(naive, abs=1e-9)
    assert result.mean == pytest.approx(naive.mean()) and result.k == k
    pooled = -laws.log_mean_exp([v for values in seen.values() for v in values])
    assert abs(result.mean - pooled) > 0.05  # pooling over rows gives a different number
    assert result.standard_error == pytest.approx(naive.std(ddof=1) / np.sqrt(len(X)))
    for i in range(len(X)):
        w = np.exp(np.array(seen[i]) - max(seen[i]))
        assert result.ess[i].item() == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
        if k > 1:
            assert result.row_error[i].item() == pytest.approx(w.std(ddof=1) / w.mean() / np.sqrt(k), rel=1e-6)


def test_nll_lands_on_log_p_within_its_own_errors() -> None:
    """With 50,000 draws (chi-square near 1) the bias chi2/(2k) is small compared with the error; 6 rows at 4.5 standard
    errors, false alarm rate 4e-5 each."""
    for name in POSTERIORS:
        result = evaluation.nll(vae(name), t(X), k=50_000)
        assert (np.abs(result.rows.numpy() + LOG_P) < Z * result.row_error.numpy()).all(), name
        assert result.row_error.max() < 0.02


# The truth on a grid


def test_nll_of_a_trained_nonlinear_model_meets_the_truth_on_the_latent_grid() -> None:
    """The decoder is a tanh network of 2 codes trained on digits; the trapezoid rule on [-6, 6]^2 gives the truth. For
    12 rows the estimate is not below it by more than 4 standard errors on average or 4.5 in any row (false alarm rate
    1e-4), nor above it by more than 0.15 nats."""
    torch.manual_seed(0)
    x = load_digits().data[:600]
    model = models.VAE(
        priors.StandardNormal(2),
        conditionals.DiagonalNormalPosterior(nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4))),
        conditionals.NormalLikelihood(
            nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 64)), variance="optimal"
        ),
    )
    latens.train(model, objectives.ELBO(), x / 4, epochs=120, batch_size=100, learning_rate=0.01)
    model.double()
    rows = x[::50] / 4
    net, s2 = model.likelihood.network, model.likelihood.variance.item()
    w0, b0, w1, b1 = (p.detach().numpy() for p in net.parameters())

    def truth(points: int) -> np.ndarray:
        line = np.linspace(-6, 6, points)
        weight = np.full(points, line[1] - line[0])
        weight[[0, -1]] /= 2
        z = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
        f = np.tanh(z @ w0.T + b0) @ w1.T + b1
        square = (f**2).sum(1)[:, None] - 2 * f @ rows.T + (rows**2).sum(1)
        log_joint = -0.5 * (square / s2 + 64 * np.log(2 * np.pi * s2)) - 0.5 * (z**2).sum(1)[:, None] - LN_2PI
        log_joint += np.log(np.outer(weight, weight)).reshape(-1, 1)
        top = log_joint.max(0)
        return -(top + np.log(np.exp(log_joint - top).sum(0)))

    exact = truth(301)
    assert exact == pytest.approx(truth(201), abs=1e-6)
    result = evaluation.nll(model, t(rows), k=5000)
    found, error = result.rows.numpy(), result.row_error.numpy()
    assert (found > exact - Z * error).all()
    assert (found - exact).mean() > -4 * np.sqrt((error**2).sum()) / len(rows)
    assert (found - exact).mean() < 0.15
    assert evaluation.elbo(model, t(rows), draws=200).elbo < -exact.mean()
    assert (evaluation.codes(model, t(x / 4)).var(0) > 0.1).all()  # after training, both dimensions are in use
