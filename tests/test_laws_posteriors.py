"""Laws of the richer posteriors: flows agree with autograd's Jacobians and quadrature, covariances with scipy, weights
with p(x), noise follows rows, and a semi-amortised posterior is refined to its optimum."""

from __future__ import annotations

import itertools

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import nn

from latens import InputError, conditionals, distributions, evaluation, models, priors
from latens import distributions as d
from latens.data import infer
from latens.recipes import Recipe
from latens.recipes.choices import DataInfo
from latens.tensors import randomness

D, Q = 4, 2
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
LOG_P = laws.gaussian_log_likelihood(X, W, B, S2)
MEAN, COV = laws.posterior(X, W, B, S2)
V = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
WIDE = laws.raw(2.0 * np.linalg.eigvalsh(COV).max() * np.ones(Q), 1e-8)


def net(further: np.ndarray) -> nn.Linear:
    """A network from x to the exact mean, a raw variance above the exact one, and constants."""
    bias = np.concatenate([-V @ B, WIDE, further])
    return laws.affine(np.vstack([V, np.zeros((len(bias) - Q, D))]), bias)


def flow(steps: list[conditionals.FlowStep], spread: float = 0.5) -> conditionals.FlowPosterior:
    """A flow whose parameters, including those of masked networks, are perturbed by random numbers."""
    torch.manual_seed(5)
    for p in nn.ModuleList(steps).parameters():
        p.data = torch.randn_like(p) * 0.15
    further = np.random.default_rng(3).normal(size=sum(step.width for step in steps)) * spread
    return conditionals.FlowPosterior(net(further), Q, steps).double()


def chained() -> conditionals.ChainedPosterior:
    """The posterior q(a|x) q(b|x, a) over two codes, a little wider than exact."""
    precision = np.linalg.inv(COV)
    first = laws.diagonal_posterior(V[:1], B, 1.3 * COV[:1, 0])
    context = conditionals.PointMassPosterior(laws.affine(V, -V @ B))
    slope = -precision[1, 0] / precision[1, 1]  # E[b | x, a] = m_b + slope (a - m_a)
    weight = np.array([[-slope, 1.0, slope], [0.0, 0.0, 0.0]])
    bias = np.array([0.0, laws.raw(1.3 / precision[1, 1], 1e-8)])
    second = conditionals.DiagonalNormalPosterior(laws.affine(weight, bias))
    return conditionals.ChainedPosterior(first, context, second, 1).double()


def low_rank() -> conditionals.LowRankNormalPosterior:
    return conditionals.LowRankNormalPosterior(net(np.array([0.2, -0.3])), 1).double()


POSTERIORS = {
    "low rank": low_rank,
    "planar": lambda: flow([conditionals.PlanarStep(Q) for _ in range(3)]),
    "radial": lambda: flow([conditionals.RadialStep(Q) for _ in range(3)]),
    "iaf": lambda: flow([conditionals.AutoregressiveStep(Q, 3, reverse=bool(n)) for n in range(2)]),
    "spline": lambda: flow([conditionals.AutoregressiveStep(Q, 3, 4, reverse=bool(n)) for n in range(2)]),
    "chained": chained,
}
FLOWS = ["planar", "radial", "iaf", "spline"]


def vae(name: str) -> models.VAE:
    return laws.linear_vae(W, B, S2, POSTERIORS[name]())


# Importance weights


@pytest.mark.parametrize("name", [*POSTERIORS, "semi-amortised"])
def test_the_mean_weight_is_p_of_x(name: str) -> None:
    """E[w] = p(x) for 6 rows and 100,000 draws, |z| < 4.5: false alarm rate below 5e-5 for each posterior. The standard
    deviation of the weights is below 4 p(x)."""
    model = semi_amortised(steps=40).eval() if name == "semi-amortised" else vae(name)
    torch.manual_seed(1)
    with torch.no_grad():
        w = np.exp(model.draw(t(X), 100_000).log_w.numpy() - LOG_P)
    assert w.std(0).max() < 4 and np.abs(laws.z_score(w, 1.0)).max() < Z


def test_exact_posteriors_make_every_weight_p_of_x() -> None:
    """The exact normal is written as a low-rank normal and as a chain q(a|x) q(b|x, a)."""
    h = 0.5 * np.linalg.eigvalsh(COV).min() * np.ones(Q)
    root = np.linalg.cholesky(COV - np.diag(h))
    further = np.concatenate([laws.raw(h, 1e-8), root.flatten()])
    exact = laws.affine(np.vstack([V, np.zeros((len(further), D))]), np.concatenate([-V @ B, further]))
    narrow = chained()
    with torch.no_grad():
        narrow.first.network.bias[1] = laws.raw(COV[0, 0], 1e-8)
        narrow.second.network.bias[1] = laws.raw(1 / np.linalg.inv(COV)[1, 1], 1e-8)
    for posterior in (conditionals.LowRankNormalPosterior(exact, Q), narrow):
        model = laws.linear_vae(W, B, S2, posterior)
        assert np.abs(model.draw(t(X), 50).log_w.detach().numpy() - LOG_P).max() < 1e-9


# Low rank


def test_a_low_rank_normal_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    loc, h, u = rng.normal(size=(3, 5)), rng.uniform(0.2, 2, (3, 5)), rng.normal(size=(3, 5, 2))
    q, z = distributions.LowRankNormal(t(loc), t(h), t(u)), rng.normal(size=(4, 3, 5)) * 2
    covs = [np.diag(h[i]) + u[i] @ u[i].T for i in range(3)]
    for i in range(3):
        expected = stats.multivariate_normal(loc[i], covs[i]).logpdf(z[:, i])
        assert q.log_prob(t(z))[:, i].numpy() == pytest.approx(expected, abs=1e-9)
        assert q.entropy()[i].item() == pytest.approx(stats.multivariate_normal(loc[i], covs[i]).entropy(), abs=1e-9)
        assert q.variance[i].numpy() == pytest.approx(np.diag(covs[i]), abs=1e-12)
        m, v = rng.normal(size=5), rng.uniform(0.5, 2, 5)
        p = distributions.DiagonalNormal(t(m), t(v))
        exact = laws.gaussian_kl(loc[i], covs[i], m, np.diag(v))
        assert distributions.closed_kl(q, p)[i].item() == pytest.approx(exact, abs=1e-9)


def test_a_nearly_flat_low_rank_normal_keeps_its_digits_in_single_precision() -> None:
    """In 300 dimensions, with variances of 1e-6 and directions of length 17, log-densities of its draws agree with
    scipy on the same float32 numbers. (The difference of two sums of 10^8 would be 6 nats off.)"""
    torch.manual_seed(0)
    h, u = torch.rand(300) * 1e-4 + 1e-6, torch.randn(300, 3)
    q = distributions.LowRankNormal(torch.zeros(300), h, u)
    z = q.rsample((5,))
    cov = np.diag(h.double().numpy()) + u.double().numpy() @ u.double().numpy().T
    exact = stats.multivariate_normal(np.zeros(300), cov).logpdf(z.double().numpy())
    assert q.log_prob(z).numpy() == pytest.approx(exact, abs=0.1)


def test_draws_of_a_low_rank_normal_have_its_covariance() -> None:
    """200,000 draws, 15 products of deviations, |z| < 4.5 (false alarm rate 1e-4)."""
    rng = np.random.default_rng(1)
    h, u = rng.uniform(0.2, 2, 5), rng.normal(size=(5, 2))
    torch.manual_seed(0)
    z = distributions.LowRankNormal(torch.zeros(5).double(), t(h), t(u)).sample((200_000,)).numpy()
    for i, j in itertools.combinations_with_replacement(range(5), 2):
        exact = (u @ u.T)[i, j] + (h[i] if i == j else 0)
        assert abs(laws.z_score(z[:, i] * z[:, j], exact)) < Z


# Flows


def transforms() -> dict[str, d.Transform]:
    rng = np.random.default_rng(7)

    def numbers(*shape: int) -> torch.Tensor:
        return t(rng.normal(size=shape))

    def bent(bins: int, coupling: bool) -> d.Transform:
        torch.manual_seed(bins)
        step = conditionals.AutoregressiveStep(3, 2, bins, coupling=coupling).double()
        return step(numbers(4, 2))

    found = {
        "affine": d.Affine(numbers(4, 3), numbers(4, 3).exp()),
        "planar": d.Planar(3 * numbers(4, 3), 2 * numbers(4, 3), numbers(4)),
        "planar that would fold": d.Planar(-3 * torch.ones(4, 3).double(), torch.ones(4, 3).double(), numbers(4)),
        "radial": d.Radial(numbers(4, 3), numbers(4).exp(), numbers(4).exp()),
        "radial that pulls": d.Radial(numbers(4, 3), torch.full((4,), 0.5).double(), torch.full((4,), -0.45).double()),
        "iaf": bent(0, False), "spline": bent(5, False), "coupling": bent(5, True),
    }  # fmt: skip
    found["inverse"] = d.Inverse(found["spline"])
    found["composed"] = d.Composed([found["planar"], found["radial"], found["iaf"], found["affine"]])
    return found


@pytest.mark.parametrize("name", transforms())
def test_log_determinants_agree_with_autograd_and_the_inverse_undoes_the_map(name: str) -> None:
    transform = transforms()[name]
    u = t(np.random.default_rng(0).normal(size=(5, 4, 3)))
    z, log_det = transform.forward(u)
    assert z.shape == u.shape and log_det.shape == u.shape[:-1]
    for k, i in itertools.product(range(5), range(4)):

        def one(row, k=k, i=i):
            whole = u.clone()
            whole[k, i] = row
            return transform.forward(whole)[0][k, i]

        jacobian = torch.autograd.functional.jacobian(one, u[k, i])
        sign, exact = np.linalg.slogdet(jacobian.numpy())
        assert sign > 0 and log_det[k, i].item() == pytest.approx(exact, abs=1e-8)
    back, again = transform.inverse(z)
    assert back.detach().numpy() == pytest.approx(u.numpy(), abs=1e-9)
    assert again.detach().numpy() == pytest.approx(log_det.detach().numpy(), abs=1e-8)


def test_planar_and_radial_steps_are_the_published_maps() -> None:
    rng = np.random.default_rng(1)
    v, w, b, u = rng.normal(size=3), rng.normal(size=3), 0.3, rng.normal(size=3)
    step = d.Planar(t(v), t(w), t(b))
    used = step.v.numpy()
    assert used @ w > -1 and np.cross(used - v, w) == pytest.approx(0, abs=1e-12)  # moved along w only
    assert step.forward(t(u))[0].numpy() == pytest.approx(u + used * np.tanh(w @ u + b), abs=1e-12)
    center, alpha, beta = rng.normal(size=3), 0.7, -0.2
    r = np.linalg.norm(u - center)
    expected = u + beta / (alpha + r) * (u - center)
    assert d.Radial(t(center), t(alpha), t(beta)).forward(t(u))[0].numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["planar", "radial"])
def test_raw_zeros_leave_the_normal_as_it_is(name: str) -> None:
    step = conditionals.PlanarStep(Q) if name == "planar" else conditionals.RadialStep(Q)
    q = conditionals.FlowPosterior(net(np.zeros(step.width)), Q, [step])(t(X))
    plain = conditionals.DiagonalNormalPosterior(net(np.zeros(0)))(t(X))
    z = plain.rsample((7,))
    assert q.log_prob(z).detach().numpy() == pytest.approx(plain.log_prob(z).detach().numpy(), abs=1e-9)
    assert q.center.detach().numpy() == pytest.approx(plain.mean.detach().numpy(), abs=1e-12)


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_kept_from_drawing_is_the_density_through_the_inverse(name: str) -> None:
    q = POSTERIORS[name]()(t(X))
    z = q.rsample((20,))
    assert q.log_prob(z).detach().numpy() == pytest.approx(q.log_prob(z.clone()).detach().numpy(), abs=1e-10)
    z, log_q = q.rsample_and_log_prob(20)
    assert log_q.detach().numpy() == pytest.approx(q.log_prob(z).detach().numpy(), abs=1e-10)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_has_mass_one_and_its_draws_have_its_density(name: str) -> None:
    """The trapezoid rule over a box around all draws gives mass 1 and the means and products of 50,000 draws: |z| < 5
    for each of 5 numbers."""
    q = POSTERIORS[name]()(t(X[:1]))
    torch.manual_seed(0)
    with torch.no_grad():
        z = q.sample((50_000,))[:, 0].numpy()
        low, high = z.min(0) - z.std(0), z.max(0) + z.std(0)
        axes = [np.linspace(a, b, 301) for a, b in zip(low, high)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        density = q.log_prob(t(points.reshape(-1, 1, Q))).exp().numpy().reshape(301, 301)
    mass = density * np.prod([a[1] - a[0] for a in axes])
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    for powers in ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2)):
        exact = (mass * points[..., 0] ** powers[0] * points[..., 1] ** powers[1]).sum()
        assert abs(laws.z_score(z[:, 0] ** powers[0] * z[:, 1] ** powers[1], exact)) < Z + 0.5


@pytest.mark.parametrize("name", ["planar", "radial"])
def test_gradients_of_a_density_go_through_the_inverse(name: str) -> None:
    """Compare with central differences of ln q(z), for a z that was not drawn, in every number of the encoder."""
    posterior, z = POSTERIORS[name](), t(MEAN + 0.1)
    bias = posterior.network.bias
    [grad] = torch.autograd.grad(posterior(t(X)).log_prob(z).sum(), [bias])
    for i in range(len(bias)):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                bias[i] += step
                values.append(posterior(t(X)).log_prob(z).sum().item())
                bias[i] -= step
        assert grad[i].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-6)


def test_one_code_is_enough_for_every_flow() -> None:
    for make in (conditionals.PlanarStep, conditionals.RadialStep, lambda n: conditionals.AutoregressiveStep(n, 2),
                 lambda n: conditionals.AutoregressiveStep(n, 2, 4)):  # fmt: skip
        step = make(1).double()
        u = torch.linspace(-3, 3, 7).double().view(7, 1)
        z, log_det = step(torch.full((7, step.width), 0.3).double()).forward(u)
        slopes = np.gradient(z[:, 0].detach().numpy(), u[:, 0].numpy())
        assert (slopes > 0).all() and log_det.isfinite().all()


# Noise


@pytest.mark.parametrize("name", [*POSTERIORS, "semi-amortised"])
def test_noise_depends_on_the_row_alone(name: str) -> None:
    """With shared noise, a row has the same draws whatever its neighbours, and two processes draw what one would."""
    model = (semi_amortised() if name == "semi-amortised" else vae(name)).eval()

    def drawn(rows: slice, layout) -> np.ndarray:
        torch.manual_seed(3)
        with layout, torch.no_grad():
            return model.draw(t(X[rows]), 4).z.numpy()

    assert distributions.has_row_noise(model.encode(t(X)))
    together = drawn(slice(0, 6), randomness.shared())
    for i in range(6):
        assert drawn(slice(i, i + 1), randomness.shared())[:, 0] == pytest.approx(together[:, i], abs=1e-9)
    joint = drawn(slice(0, 6), randomness.part(0, 6))
    halves = [drawn(slice(0, 2), randomness.part(0, 6)), drawn(slice(2, 6), randomness.part(2, 6))]
    assert np.concatenate(halves, 1) == pytest.approx(joint, abs=1e-9)
    assert len(np.unique(joint[..., 0].round(6))) == 24  # all draws of all rows differ


@pytest.mark.parametrize("name", [*POSTERIORS, "semi-amortised"])
def test_codes_are_functions_of_the_row_alone(name: str) -> None:
    model = semi_amortised() if name == "semi-amortised" else vae(name)
    together = evaluation.codes(model, t(X)).numpy()
    assert np.array_equal(together, evaluation.codes(model, t(X)).numpy())
    assert np.concatenate([evaluation.codes(model, t(X[i : i + 1])) for i in range(6)]) == pytest.approx(
        together, abs=1e-9
    )


# Semi-amortised


def semi_amortised(steps: int = 4, rate: float = 0.3, exact: bool = True) -> models.SemiAmortised:
    """The linear model with an inexact encoder. With ``exact``, the noise has the moments of N(0, I), so that the bound
    of the linear-Gaussian model over this noise is the closed form."""
    torch.manual_seed(0)
    posterior = laws.diagonal_posterior(0.5 * V, B + 0.3, 3 * np.diag(COV))
    likelihood = conditionals.NormalLikelihood(laws.affine(W, B), variance=S2)
    model = models.SemiAmortised(priors.StandardNormal(Q), posterior, likelihood, Q, steps=steps, rate=rate).double()
    if exact:
        points = np.sqrt(Q) * np.eye(Q)
        model.noise = t(np.concatenate([points, -points]))
    return model


def closed_bound(q: distributions.DiagonalNormal) -> np.ndarray:
    return laws.linear_elbo(X, W, B, S2, q.mean.detach().numpy(), q.variance.detach().numpy())


def test_every_step_raises_the_bound_and_many_reach_its_maximum() -> None:
    """The maximum over diagonal normals has the exact mean, and variances 1 / the diagonal of the exact precision."""
    bounds = [closed_bound(models.VAE.encode(semi_amortised(), t(X)))]
    bounds += [closed_bound(semi_amortised(steps).encode(t(X))) for steps in (1, 2, 3, 4, 8)]
    for before, after in itertools.pairwise(bounds):
        assert (after > before).all()
    q = semi_amortised(400).eval().encode(t(X))
    assert q.mean.detach().numpy() == pytest.approx(MEAN, abs=1e-6)
    assert q.variance.detach().numpy() == pytest.approx(
        np.tile(1 / np.diag(np.linalg.inv(COV)), (6, 1)), rel=1e-6
    )


def test_evaluation_refines_without_gradients_outside_and_leaves_none_behind() -> None:
    model = semi_amortised(exact=False)
    trained = model.train().encode(t(X))
    model.eval()
    with torch.no_grad():
        q = model.encode(t(X))
    assert not q.mean.requires_grad and trained.mean.requires_grad
    assert q.mean.numpy() == pytest.approx(trained.mean.detach().numpy(), abs=1e-12)
    assert q.variance.numpy() == pytest.approx(trained.variance.detach().numpy(), abs=1e-12)
    assert all(p.grad is None for p in model.parameters())
    found = evaluation.nll(model, t(X), k=5000)
    assert (np.abs(found.rows.numpy() + LOG_P) < Z * found.row_error.numpy()).all()


def test_training_differentiates_through_the_steps() -> None:
    """Compare with central differences of the refined mean and variance in encoder and decoder, along 4 directions."""
    model = semi_amortised(exact=False).train()
    parameters = [*model.posterior.parameters(), *model.likelihood.network.parameters()]

    def value() -> torch.Tensor:
        q = model.encode(t(X))
        return (q.mean * t(X[:, :Q])).sum() + q.variance.sum()

    laws.assert_slopes(value, parameters, rel=1e-5)


# Refusals


@pytest.mark.parametrize(
    "recipe, options",
    [("low_rank", {"rank": 0}), ("low_rank", {"rank": 3}), ("planar", {"steps": 0}), ("iaf", {"steps": 1.5}),
     ("semi_amortised", {"steps": 0}), ("semi_amortised", {"rate": 0})],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(recipe: str, options: dict[str, float]) -> None:
    info = DataInfo(infer(X), len(X), torch.as_tensor(X, dtype=torch.float32))
    with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
        Recipe(recipe, latent_dim=2, **options).build(info)
