"""Laws of Hamiltonian posteriors: volume, weights on the extended space, reversibility, annealing, the learned metric.

Each mistake of a published implementation (a second half-step with the old momentum, tempering that is overwritten,
different scales in sampling and density, different dynamics in evaluation) breaks one of these laws.
"""

from __future__ import annotations

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import Tensor, nn

from latens import conditionals, evaluation, models, priors, recipes
from latens.data import infer
from latens.models.hamiltonian import gradient
from latens.recipes import choices
from latens.tensors import randomness

D, Q = 4, 2
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
LOG_P = laws.gaussian_log_likelihood(X, W, B, S2)
MEAN, COV = laws.posterior(X, W, B, S2)
V = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T


def parts(wide: float = 2.0) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Linear prior and likelihood, and a q that is too wide and has a wrong mean."""
    q = laws.diagonal_posterior(0.8 * V, B, wide * np.diag(COV))
    return priors.StandardNormal(Q), q, conditionals.NormalLikelihood(laws.affine(W, B), variance=S2)


def metric() -> models.CentroidMetric:
    torch.manual_seed(7)
    net = conditionals.Features(nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, Q * (Q + 1) // 2)))
    found = models.CentroidMetric(net, t(X), Q, temperature=1.5, floor=0.3).double()
    found.centroids.copy_(t(MEAN))
    return found


def riemannian(**options) -> models.RiemannianHamiltonian:
    return models.RiemannianHamiltonian(*parts(), metric(), **{"step_size": 0.1, "iterations": 12} | options).double()


MODELS = {
    "plain": lambda: models.Hamiltonian(*parts(), steps=3, step_size=0.2),
    "one step": lambda: models.Hamiltonian(*parts(), steps=1, step_size=0.2, tempering=0.4),
    "tempered": lambda: models.Hamiltonian(*parts(), steps=4, step_size=0.15, tempering=0.3),
    "refreshed": lambda: models.Hamiltonian(*parts(), steps=3, step_size=0.2, keep=0.6),
    "annealed": lambda: models.Hamiltonian(*parts(), steps=4, step_size=0.2, anneal=True, keep=0.5, power=1.7),
    "annealed anew": lambda: models.Hamiltonian(*parts(), steps=3, step_size=0.25, anneal=True, keep=0.0),
    "Riemannian": lambda: riemannian(steps=2),
    "Riemannian tempered": lambda: riemannian(steps=2, tempering=0.6),
}


def unmoved(model: models.VAE) -> models.VAE:
    """The same parts with q_0 as the posterior."""
    return models.VAE(model.prior, model.posterior, model.likelihood).double()


@pytest.mark.parametrize("name", MODELS)
def test_the_mean_weight_is_p_of_x(name) -> None:
    """E[w] = p(x) for any number of steps and step size: 6 rows, |z| < 4.5 (false alarm rate 4e-5 per model); moved
    draws give better bounds than q_0."""
    torch.manual_seed(1)
    model = MODELS[name]().double()
    draws = 1500 if "Riemannian" in name else 20_000
    with torch.no_grad():
        log_w = model.draw(t(X), draws).log_w.numpy()
        before = unmoved(model).draw(t(X), draws).log_w.numpy()
    assert np.abs(laws.z_score(np.exp(log_w - LOG_P), 1.0)).max() < Z
    assert log_w.mean() < LOG_P.mean()
    if name in ("plain", "refreshed", "annealed"):
        assert log_w.mean() > before.mean()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "Riemannian"])
def test_the_reverse_paths_estimate_one_over_p_of_x(name) -> None:
    """E[1/w] = 1/p(x) over exact draws of p(z|x): 6 rows, |z| < 4.5 (false alarm rate 4e-5 per model). So -ln mean(1/w)
    lies above ln p(x) in expectation, and so does the mean of ln w."""
    torch.manual_seed(1)
    model = MODELS[name]().double()
    draws = 1500 if "Riemannian" in name else 20_000
    exact = stats.multivariate_normal(np.zeros(Q), COV).rvs((draws, 6), random_state=0)
    with torch.no_grad():
        log_w = model.back(t(X), t(MEAN + exact)).numpy()
    assert np.abs(laws.z_score(np.exp(LOG_P - log_w), 1.0)).max() < Z
    assert log_w.mean() > LOG_P.mean()


class Adapting(models.Hamiltonian):
    """Steps that are halved where the energy changed by more than a tenth, as samplers often adapt while they run."""

    def leapfrog(self, z, rho, log_density):
        def energy(z, rho):
            return log_density(z) - 0.5 * rho.square().sum(-1)

        moved, turned = super().leapfrog(z, rho, log_density)
        rough = ((energy(moved, turned) - energy(z, rho)).abs() > 0.1).unsqueeze(-1)
        half = super().leapfrog(*super().leapfrog(z, rho / 2, log_density), log_density)
        return torch.where(rough, half[0], moved), torch.where(rough, half[1], turned)


def test_step_sizes_are_not_adapted_while_chains_run() -> None:
    """Adapting steps breaks E[w] = p(x), which this test detects (|z| > 10). In latens no draw changes the model, and a
    chain depends on no other chain: by itself it takes the same path."""
    options = {"steps": 4, "step_size": 0.2, "anneal": True, "keep": 0.5}
    torch.manual_seed(1)
    with torch.no_grad():
        log_w = Adapting(*parts(), **options).double().draw(t(X), 20_000).log_w.numpy()
    assert np.abs(laws.z_score(np.exp(log_w - LOG_P), 1.0)).max() > 10
    model = models.Hamiltonian(*parts(), **options).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = []
    for rows in (slice(0, 6), slice(2, 3)):
        torch.manual_seed(6)
        with randomness.shared():
            drawn.append(model.draw(t(X[rows]), 3).log_w)
    assert torch.allclose(drawn[0][:, 2:3], drawn[1], atol=1e-12)
    evaluation.nll(model, t(X), k=500)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["plain", "Riemannian"])
def test_a_leapfrog_step_keeps_volume_and_can_be_undone(name) -> None:
    """|det d(z', rho')/d(z, rho)| = 1 to 1e-10 for a nonlinear density, and the step with -rho leads back."""
    model = MODELS[name]().double()
    torch.manual_seed(2)
    decoder = nn.Sequential(nn.Linear(Q, 7), nn.Tanh(), nn.Linear(7, 1)).double()

    def log_density(z):
        return -(z**4).sum(-1) / 4 + 3 * decoder(z).squeeze(-1)

    def step(both):
        z, rho = both.view(1, 1, 2 * Q).split(Q, -1)
        return torch.cat(model.leapfrog(z, rho, log_density), -1).flatten()

    for _ in range(3):
        start = torch.randn(2 * Q, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(step, start)
        assert abs(abs(torch.linalg.det(jacobian).item()) - 1) < 1e-10
        end = step(start).detach()
        flip = torch.cat([torch.ones(Q), -torch.ones(Q)]).double()
        assert (step(end * flip) * flip).detach().numpy() == pytest.approx(start.numpy(), abs=1e-9)


@pytest.mark.parametrize("name", ["plain", "Riemannian"])
def test_a_step_changes_the_energy_in_third_order(name) -> None:
    """For H = -ln pi(z) - ln N(rho; 0, G(z)), half the step size gives an eighth of the change (a factor of 7 to 9 in
    the mean of 50)."""
    torch.manual_seed(3)
    z, rho = 0.7 * torch.randn(2, 1, 50, Q, dtype=torch.float64)

    def log_density(z: Tensor) -> Tensor:
        return -(z**4).sum(-1) / 4

    def change(step_size: float) -> float:
        torch.manual_seed(0)
        given = {"step_size": step_size} | ({"iterations": 20} if name == "Riemannian" else {})
        model = riemannian(**given) if name == "Riemannian" else models.Hamiltonian(*parts(), **given).double()
        start, end = (z, rho), model.leapfrog(z, rho, log_density)
        energies = [-log_density(z) - model.log_momentum(z, rho) for z, rho in (start, end)]
        return (energies[1] - energies[0]).abs().mean().item()

    assert 7 < change(0.02) / change(0.01) < 9 and change(0.01) < 1e-5


def test_a_riemannian_step_keeps_volume_where_forces_are_shortened() -> None:
    """Forces of 300 to 3,000 are clipped to 1/eps: |det| = 1 to 1e-10, the step is undone to 1e-9, and the momentum
    changes by no more than the clipped forces and the metric allow."""
    model = riemannian().double()
    torch.manual_seed(2)
    limit = 1 / model.step_size.item()

    def log_density(z: Tensor) -> Tensor:
        return -1000 * (z**4).sum(-1) / 4

    def step(both: Tensor) -> Tensor:
        z, rho = both.view(1, 1, 2 * Q).split(Q, -1)
        return torch.cat(model.leapfrog(z, rho, log_density), -1).flatten()

    for _ in range(3):
        start = torch.randn(2 * Q, dtype=torch.float64)
        assert (1000 * start[:Q] ** 3).norm() > limit
        jacobian = torch.autograd.functional.jacobian(step, start)
        assert abs(abs(torch.linalg.det(jacobian).item()) - 1) < 1e-10
        end = step(start).detach()
        assert (end - start)[Q:].norm() < 1.5
        flip = torch.cat([torch.ones(Q), -torch.ones(Q)]).double()
        assert (step(end * flip) * flip).detach().numpy() == pytest.approx(start.numpy(), abs=1e-9)


def test_a_draw_equals_a_naive_loop_over_its_formulas() -> None:
    """Tempered leapfrog, written out in numpy with the same noise, gives the same z and every term of ln w."""
    model = MODELS["tempered"]().double()
    torch.manual_seed(3)
    draw = model.draw(t(X), 2)
    torch.manual_seed(3)
    q = model.posterior(t(X))
    noise, momenta = (torch.randn(2, len(X), Q, dtype=torch.float64).numpy() for _ in range(2))
    eps, b, steps = model.step_size.item(), model.raw_tempering.sigmoid().item(), 4

    def slope(z):
        return (X - B - z @ W.T) @ W / S2 - z

    z0 = q.loc.detach().numpy() + np.sqrt(q.variance.detach().numpy()) * noise
    root = [1 / ((1 - b**-0.5) * t**2 / steps**2 + b**-0.5) for t in range(steps + 1)]
    assert root[0] == pytest.approx(b**0.5) and root[-1] == pytest.approx(1)
    z, rho = z0, momenta / root[0]
    for k in range(1, steps + 1):
        rho = rho + eps / 2 * slope(z)
        z = z + eps * rho
        rho = (rho + eps / 2 * slope(z)) * root[k - 1] / root[k]
    assert draw.z.detach().numpy() == pytest.approx(z, abs=1e-10)
    for k, i in np.ndindex(2, len(X)):
        log_p = stats.norm(B + W @ z[k, i], S2**0.5).logpdf(X[i]).sum() + stats.norm.logpdf(z[k, i]).sum()
        first = stats.norm(q.loc[i].detach().numpy(), q.variance[i].sqrt().detach().numpy()).logpdf(z0[k, i]).sum()
        first += stats.norm(0, b**-0.5).logpdf(momenta[k, i] / root[0]).sum()
        determinant = Q * np.log(root[0] / root[-1])
        last = stats.norm.logpdf(rho[k, i]).sum()
        assert draw.log_w[k, i].item() == pytest.approx(log_p + last - first + determinant, abs=1e-9)


def test_an_annealed_draw_is_the_naive_loop_of_its_path() -> None:
    """The path is ln pi_t = (1 - s) ln q_0 + s ln p(x, z), s = (t/4)^1.7, with half of each momentum kept, written out
    in numpy."""
    model = MODELS["annealed"]().double()
    torch.manual_seed(3)
    draw = model.draw(t(X), 2)
    torch.manual_seed(3)
    q = model.posterior(t(X))
    loc, v = q.loc.detach().numpy(), q.variance.detach().numpy()
    noise, *momenta = (torch.randn(2, len(X), Q, dtype=torch.float64).numpy() for _ in range(5))
    eps, power, z = model.step_size.item(), model.log_power.exp().item(), loc + np.sqrt(v) * noise
    assert power == pytest.approx(1.7, abs=1e-6)

    def log_normal(rho):
        return stats.norm.logpdf(rho).sum(-1)

    log_w = -stats.norm(loc, np.sqrt(v)).logpdf(z).sum(-1)
    rho = momenta[0]
    for step in range(1, 5):
        s = (step / 4) ** power

        def slope(z, s=s):
            return s * ((X - B - z @ W.T) @ W / S2 - z) - (1 - s) * (z - loc) / v

        log_w = log_w - log_normal(rho)
        rho = rho + eps / 2 * slope(z)
        z = z + eps * rho
        rho = rho + eps / 2 * slope(z)
        log_w = log_w + log_normal(rho)
        if step < 4:
            rho = 0.5 * rho + 0.75**0.5 * momenta[step]
    log_w = log_w + stats.norm(B + z @ W.T, S2**0.5).logpdf(X).sum(-1) + stats.norm.logpdf(z).sum(-1)
    assert draw.z.detach().numpy() == pytest.approx(z, abs=1e-10)
    assert draw.log_w.detach().numpy() == pytest.approx(log_w, abs=1e-9)


def test_zero_steps_are_the_vae() -> None:
    vae, model = models.VAE(*parts()).double(), models.Hamiltonian(*parts(), steps=0).double()
    found = []
    for each in (vae, model):
        torch.manual_seed(4)
        draw = each.draw(t(X), 3)
        found.append((draw.log_w, draw.rate(), each.encode(t(X)).mean))
    assert all(torch.equal(a, b) for a, b in zip(*found))


@pytest.mark.parametrize("name", ["tempered", "annealed", "Riemannian"])
def test_evaluation_has_the_dynamics_of_training(name) -> None:
    """Weights are the same with and without gradients, in either mode; nothing in evaluation keeps a graph."""
    model, found = MODELS[name]().double(), []
    for training, on in ((True, True), (True, False), (False, True), (False, False)):
        model.train(training)
        torch.manual_seed(5)
        with torch.set_grad_enabled(on):
            draw = model.draw(t(X), 3)
        assert draw.log_w.requires_grad == on
        found.append(draw.log_w.detach().numpy())
    assert all(np.array_equal(found[0], each) for each in found)
    with pytest.raises(ValueError, match="closed form"):
        draw.rate("closed")
    assert torch.equal(draw.rate(), draw.log_qz - draw.log_pz)
    assert model.encode(t(X)).sample((3,)).shape == (3, 6, Q)
    assert torch.equal(model.encode(t(X)).mean, model.encode(t(X)).mean)
    estimate = evaluation.nll(model, t(X), k=1000)
    assert (np.abs(estimate.rows.numpy() + LOG_P) < Z * estimate.row_error.numpy() + 0.02).all()
    with randomness.shared():  # the same noise for every row: a row's weights do not depend on its neighbours
        torch.manual_seed(6)
        all_rows = model.draw(t(X), 3).log_w
        torch.manual_seed(6)
        assert torch.allclose(all_rows[:, 2:3], model.draw(t(X[2:3]), 3).log_w)


@pytest.mark.parametrize("name, learned", [("tempered", "raw_tempering"), ("annealed", "log_power")])
def test_the_gradient_is_that_of_finite_differences(name, learned) -> None:
    """The gradient is that of the mean log-weight with respect to all parameters and the posterior's bias, through the
    dynamics."""
    model = MODELS[name]().double()

    def value() -> torch.Tensor:
        torch.manual_seed(8)
        return model.draw(t(X), 4).log_w.mean()

    for parameter in (model.raw_step, getattr(model, learned), model.posterior.network.bias):
        [found] = torch.autograd.grad(value(), parameter)
        delta = torch.zeros_like(parameter)
        delta.view(-1)[0] = 1e-5
        with torch.no_grad():
            parameter += delta
            above = value().item()
            parameter -= 2 * delta
            below = value().item()
            parameter += delta
        assert found.view(-1)[0].item() == pytest.approx((above - below) / 2e-5, rel=1e-5)
    assert gradient(lambda z: (z**3).sum(-1), t([[2.0]])).item() == pytest.approx(12.0)


def long(steps: int, power: float) -> tuple[models.Hamiltonian, tuple[np.ndarray, ...]]:
    """Chains of fixed steps on a linear-Gaussian model with 10 latent dimensions, from N(0, I) to precisions of 3 to
    180."""
    x, w, b, s2 = laws.toy(8, 12, 10, seed=4)
    q = laws.diagonal_posterior(np.zeros((10, 12)), b, np.ones(10))
    likelihood = conditionals.NormalLikelihood(laws.affine(w, b), variance=s2)
    options = {"steps": steps, "step_size": 0.08, "anneal": True, "keep": 0.9, "power": power}
    return models.Hamiltonian(priors.StandardNormal(10), q, likelihood, **options).double(), (x, w, b, s2)


def test_annealing_forward_and_back_encloses_ln_p() -> None:
    """Bidirectional Monte Carlo (Grosse, Ghahramani & Adams 2015): 64 chains of 4,000 steps, 8 rows. The mean over
    rows of ln mean w forward, and of -ln mean(1/w) back from exact draws of p(z|x), are within 0.1 nats of ln p(x). In
    expectation the first is below and the second above, here each to 4.5 standard errors (sd(w) / (mean(w) sqrt 64) of
    a row; 7e-6). The means of ln w, which lose 0.2 nats, enclose it without a tolerance."""
    model, (x, w, b, s2) = long(4000, 4.0)
    truth = laws.gaussian_log_likelihood(x, w, b, s2)
    mean, cov = laws.posterior(x, w, b, s2)
    exact = mean + stats.multivariate_normal(np.zeros(10), cov).rvs((64, 8), random_state=1)
    torch.manual_seed(9)
    with torch.no_grad():
        forward = model.draw(t(x), 64).log_w.numpy() - truth
        back = model.back(t(x), t(exact)).numpy() - truth
    for sign, log_w in ((1, forward), (-1, back)):
        found = np.mean([laws.log_mean_exp(list(sign * column)) for column in log_w.T])
        weight = np.exp(sign * log_w)
        error = np.sqrt(((weight.std(0, ddof=1) / weight.mean(0)) ** 2 / 64).sum()) / 8
        assert abs(found) < 0.1 and found < Z * error
    assert -0.5 < forward.mean() < 0 < back.mean() < 0.5


def test_the_path_spends_its_steps_where_the_density_changes() -> None:
    """From a q_0 far wider than p(z|x), temperatures t/T leave 8 nats after 400 steps, and (t/T)^4 a quarter of
    this."""
    lost = {}
    for power in (1.0, 4.0):
        model, toy = long(400, power)
        torch.manual_seed(9)
        with torch.no_grad():
            lost[power] = laws.gaussian_log_likelihood(*toy).mean() - model.draw(t(toy[0]), 64).log_w.mean().item()
    assert 0 < lost[4.0] < 0.5 * lost[1.0]


# The metric


def test_the_metric_is_its_formula_and_positive_definite() -> None:
    model = metric()
    torch.manual_seed(10)
    z = 5 * torch.randn(20, Q, dtype=torch.float64)
    raw = model.network(t(X)).detach().numpy()
    found = model.inverse(z, model.squares()).detach().numpy()
    for n in range(len(z)):
        expected = 0.3 * np.eye(Q)
        for i in range(len(X)):
            tril = np.array([[raw[i, 0], 0], [raw[i, 1], raw[i, 2]]])
            expected += tril @ tril.T * np.exp(-((z[n].numpy() - MEAN[i]) ** 2).sum() / 1.5**2)
        assert found[n] == pytest.approx(expected, abs=1e-12)
        assert np.linalg.eigvalsh(found[n]).min() >= 0.3 - 1e-12


def test_momenta_follow_the_density_that_is_charged_for_them() -> None:
    """rho ~ N(0, G(z)): ln density against scipy, and second moments of 200,000 draws (|z| < 4.5, three numbers)."""
    model = riemannian()
    z = t(MEAN[:1] + 0.3)
    g = np.linalg.inv(model.metric.inverse(z, model.metric.squares())[0].detach().numpy())
    torch.manual_seed(11)
    noise = torch.randn(200_000, Q, dtype=torch.float64)
    rho, density = (part.detach() for part in model.momentum(z.expand(200_000, Q), noise))
    exact = stats.multivariate_normal(np.zeros(Q), g).logpdf(rho.numpy())
    assert density.numpy() == pytest.approx(exact, abs=1e-9)
    assert model.log_momentum(z.expand(200_000, Q), rho).detach().numpy() == pytest.approx(exact, abs=1e-9)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        assert abs(laws.z_score((rho[:, i] * rho[:, j]).numpy(), g[i, j])) < Z


def test_centroids_are_refreshed_after_an_epoch_and_saved() -> None:
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    info = choices.DataInfo(infer(x), 60, torch.as_tensor(x))
    model, _ = recipes.Recipe("rhvae", centroids=7, network="mlp").build(info)
    assert (model.metric.centroids == 0).all() and model.metric.rows.shape == (7, 5)
    model.after_epoch()
    codes = model.posterior(model.metric.rows).mean
    assert torch.equal(model.metric.centroids, codes.detach()) and (codes != 0).all()
    assert {"metric.centroids", "metric.rows"} <= set(model.state_dict())
    other, _ = recipes.Recipe("rhvae", centroids=7, network="mlp").build(choices.DataInfo(infer(x), 60))
    other.load_state_dict(model.state_dict())  # built again without data, as a saved run is
    assert torch.equal(other.metric.centroids, codes.detach())


def test_a_run_refreshes_the_centroids(tmp_path) -> None:
    import latens

    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    vae = latens.VAE(latent_dim=2, recipe=latens.Recipe("rhvae", centroids=5), epochs=2, batch_size=32, random_state=0)
    vae.fit(x)
    model = vae.run_.model
    assert (model.metric.centroids != 0).any()
    vae.save(tmp_path / "run")
    again = latens.load(tmp_path / "run")
    assert np.array_equal(vae.score_samples(x), again.score_samples(x))
    assert np.array_equal(vae.transform(x), again.transform(x))


def test_options_that_make_no_sense_are_refused() -> None:
    for name, value in (("steps", -1), ("step_size", 0.7), ("tempering", 0.0), ("keep", 1.5)):
        with pytest.raises(ValueError, match=name):
            models.Hamiltonian(*parts(), **{name: value})
    for options in ({"power": 2.0}, {"power": 0.0, "anneal": True}, {"keep": 0.5, "tempering": 0.5}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            models.Hamiltonian(*parts(), **options)
