"""Laws of codes on curved spaces, by scipy's Bessel functions, quadrature over the space, moments of draws, and E[w] =
p(x) on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commanding import done, figures
from laws import Fixed, Z, t, z_score
from scipy import integrate, special
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import conditionals, evaluation, models, networks, priors, recipes
from latens import distributions as d
from latens.data import infer
from latens.distributions import closed_kl, hyperbolic
from latens.errors import InputError
from latens.evaluation.latent import codes_and_means, prior_variance
from latens.recipes import choices

KAPPAS = (1e-3, 0.1, 1.0, 10.0, 100.0, 1000.0, 1e4)
SPHERES = (d.VonMisesFisher, d.PowerSpherical)


def pole(m: int) -> torch.Tensor:
    return torch.eye(m, dtype=torch.float64)[0]


def bessel_kl(kappa: float, m: int) -> tuple[float, float]:
    """(I_(m/2) / I_(m/2-1), KL(vMF || uniform)) by scipy's scaled Bessel functions."""
    v = m / 2 - 1
    mean = special.ive(v + 1, kappa) / special.ive(v, kappa)
    log_bessel = np.log(special.ive(v, kappa)) + kappa
    area = np.log(2) + m / 2 * np.log(np.pi) - special.gammaln(m / 2)
    return mean, kappa * mean + v * np.log(kappa) - m / 2 * np.log(2 * np.pi) - log_bessel + area


@pytest.mark.parametrize("m", [2, 3, 5, 11, 50])
@pytest.mark.parametrize("kappa", KAPPAS)
def test_the_von_mises_fisher_rate_is_that_of_bessel_functions(kappa: float, m: int):
    mean, kl = bessel_kl(kappa, m)
    for dtype, within in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        k = torch.tensor(kappa, dtype=dtype, requires_grad=True)
        q = d.VonMisesFisher(pole(m).to(dtype), k)
        found = closed_kl(q, d.SphereUniform(pole(m).to(dtype)))
        if np.isfinite(kl):  # scipy underflows for small kappa in many dimensions
            assert found.item() == pytest.approx(kl, abs=within)
            assert q.resultant.item() == pytest.approx(mean, abs=within)
        # d KL / d kappa = kappa (1 - A^2 - (m - 1) A / kappa)
        [slope] = torch.autograd.grad(found, k)
        assert torch.isfinite(slope) and slope >= 0
        if np.isfinite(kl):
            assert slope.item() == pytest.approx(kappa * (1 - mean**2) - (m - 1) * mean, abs=max(within, 1e-7))


def test_the_rate_has_known_values_and_its_limit_for_small_kappa():
    for kappa, kl in ((1, 0.1515959239), (10, 1.9957323168), (100, 4.2983173665), (1000, 6.6009024595)):
        assert d.VonMisesFisher(pole(3), t(kappa)).rate_from_uniform().item() == pytest.approx(kl, abs=1e-9)
    for m, kl in ((5, 3.6899243123), (11, 4.8509534357), (50, 3.298781853)):
        assert d.VonMisesFisher(pole(m), t(20.0)).rate_from_uniform().item() == pytest.approx(kl, abs=1e-9)
    large = d.VonMisesFisher(pole(2000), t(1e-3))  # for small kappa: kappa^2 / 2m and kappa / m
    assert large.rate_from_uniform().item() == pytest.approx(1e-6 / 4000, abs=1e-9)
    assert large.resultant.item() == pytest.approx(1e-3 / 2000, rel=1e-6)


@pytest.mark.parametrize("kind", SPHERES)
@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("kappa", [0.05, 2.0, 60.0])
def test_a_density_on_the_sphere_has_mass_one_and_its_entropy(kind, kappa: float, m: int):
    """The second route is quadrature over the angle to the pole: area of the slices x density."""
    q = kind(pole(m), t(kappa))

    def density(angle: float) -> float:
        x = torch.zeros(m, dtype=torch.float64)
        x[0], x[1] = math.cos(angle), math.sin(angle)
        return q.log_prob(x).item()

    slices = 2 * math.pi ** ((m - 1) / 2) / math.gamma((m - 1) / 2)
    weight = lambda a: slices * math.sin(a) ** (m - 2)
    mass, _ = integrate.quad(lambda a: weight(a) * math.exp(density(a)), 0, math.pi, points=[0.1, 0.5], epsabs=1e-12)
    entropy, _ = integrate.quad(
        lambda a: -weight(a) * math.exp(density(a)) * density(a), 0, math.pi, points=[0.1, 0.5], epsabs=1e-11
    )
    assert mass == pytest.approx(1, abs=1e-9)
    assert q.entropy().item() == pytest.approx(entropy, abs=1e-8)
    assert q.rate_from_uniform().item() == pytest.approx(d.sphere.log_area(m) - entropy, abs=1e-8)


@pytest.mark.parametrize("kind", SPHERES)
@pytest.mark.parametrize("m", [2, 3, 16, 200])
@pytest.mark.parametrize("kappa", [0.01, 1.0, 30.0, 1e4])
def test_draws_lie_on_the_sphere_with_the_declared_moments_and_gradients(kind, m: int, kappa: float):
    """E[cos] and E[cos^2] of 20,000 draws have |z| < 4.5; the gradient of the mean draw is that of the mean, |z| <
    4.5."""
    torch.manual_seed(0)
    k = torch.full((20_000,), kappa, dtype=torch.float64, requires_grad=True)  # one for each draw
    x = kind(pole(m).flip(0), k).rsample()
    assert x.norm(dim=-1).detach().numpy() == pytest.approx(1, abs=1e-9)
    one = t(kappa).requires_grad_()
    q, cos = kind(pole(m).flip(0), one), x[:, -1].detach().numpy()
    assert abs(z_score(cos, q.resultant.item())) < Z
    assert abs(z_score(cos**2, q.second.item())) < Z
    assert abs(z_score(x[:, 0].detach().numpy(), 0.0)) < Z
    [truth] = torch.autograd.grad(q.resultant, one)
    [slopes] = torch.autograd.grad(x[:, -1].sum(), k)
    assert abs(z_score(slopes.numpy(), truth.item())) < Z


def test_the_radial_draws_are_the_inverse_of_the_distribution_function():
    """F(r(u)) = u to 1e-9 for the laws of angles and of hyperbolic distances, by scipy."""
    for q in (d.VonMisesFisher(pole(6), t(7.0))._angle, d.RiemannianNormal(t([0.0, 0.0, 0.0]), t(1.3))._distance):
        torch.manual_seed(3)
        u = torch.special.ndtr(torch.randn(6, dtype=torch.float64))
        torch.manual_seed(3)
        r = q.rsample((6,))
        density = lambda s, q=q: q.log_kernel(t([s])).exp().item()
        z, _ = integrate.quad(density, q.low.item(), q.high.item(), epsabs=1e-13)
        for one, share in zip(r.tolist(), u.tolist(), strict=True):
            part, _ = integrate.quad(density, q.low.item(), one, epsabs=1e-13)
            assert part / z == pytest.approx(share, abs=1e-9)


def test_a_product_of_von_mises_has_mass_one_on_the_torus_and_the_rate_of_its_circles():
    q = d.Flat(d.VonMisesFisher(t([[1.0, 0.0], [0.6, 0.8]]), t([0.7, 5.0])))
    angles = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
    a, b = torch.meshgrid(angles, angles, indexing="ij")
    z = torch.stack([a.cos(), a.sin(), b.cos(), b.sin()], -1)
    assert q.log_prob(z).exp().sum().item() * (2 * math.pi / 400) ** 2 == pytest.approx(1, abs=1e-10)
    uniform = priors.UniformTorus(2).double()()
    assert uniform.log_prob(z).exp().sum().item() * (2 * math.pi / 400) ** 2 == pytest.approx(1, abs=1e-12)
    rate = (q.log_prob(z).exp() * (q.log_prob(z) - uniform.log_prob(z))).sum().item() * (2 * math.pi / 400) ** 2
    assert closed_kl(q, uniform).item() == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("loc", [(0.0, 0.0), (0.3, -0.4)])
@pytest.mark.parametrize("kind", ["wrapped", "riemannian"])
def test_a_density_in_the_ball_has_mass_one(kind: str, loc: tuple[float, float], c: float):
    """The integral is in geodesic polar coordinates about a point that is not the mode: volume sinh(sqrt(c) r) /
    sqrt(c) dr dt."""
    mean = t(loc)
    q = d.WrappedNormal(mean, t([0.3, 0.2]), c) if kind == "wrapped" else d.RiemannianNormal(mean, t(0.25), c)
    x, w = np.polynomial.legendre.leggauss(200)
    r, w = t(4.0 * (x + 1)), t(4.0 * w)  # to distance 8
    angle = torch.arange(256, dtype=torch.float64) * (2 * math.pi / 256)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    root = math.sqrt(c)
    points = (torch.tanh(root * r / 2) / root).view(-1, 1, 1) * direction
    centre = hyperbolic.add(t([0.05, 0.02]), points, c)
    volume = (w * torch.sinh(root * r) / root).unsqueeze(-1) * (2 * math.pi / 256)
    assert (q.log_prob(centre).exp() * volume).sum().item() == pytest.approx(1, abs=1e-10)


def test_the_riemannian_normaliser_has_its_closed_form_in_two_dimensions():
    for sigma, z in ((0.3, 0.58276060646), (1.0, 8.8636023942), (2.0, 111.0796695)):
        closed = 2 * math.pi * sigma * math.sqrt(math.pi / 2) * math.exp(sigma**2 / 2) * math.erf(sigma / math.sqrt(2))
        found = d.RiemannianNormal(torch.zeros(2, dtype=torch.float64), t(sigma**2)).log_normaliser.exp().item()
        assert found == pytest.approx(closed, rel=1e-11) and closed == pytest.approx(z, rel=1e-9)


def test_moving_to_the_tangent_and_back_is_the_identity_and_planes_have_no_distance_to_themselves():
    v = t(np.random.default_rng(0).normal(size=(50, 4)))
    for c in (0.3, 1.0):
        again = hyperbolic.to_tangent(hyperbolic.from_tangent(v, c), c)
        assert again.numpy() == pytest.approx(v.numpy(), abs=1e-9)
    # -x + (x + y) = y
    x, y = (hyperbolic.from_tangent(v[:25] / 2, 1.0), hyperbolic.from_tangent(v[25:] / 2, 1.0))
    assert hyperbolic.add(-x, hyperbolic.add(x, y, 1.0), 1.0).numpy() == pytest.approx(y.numpy(), abs=1e-9)


def test_gyroplanes_are_the_naive_formula_and_flat_for_small_curvature():
    torch.manual_seed(0)
    for c in (1.0, 0.4):
        layer = networks.Gyroplanes(3, 4, c).double()
        z = hyperbolic.from_tangent(torch.randn(5, 3, dtype=torch.float64) * 0.5, c)
        p = hyperbolic.from_tangent(2 * layer.offset / 2, c)
        # the offset is a tangent vector of half length in the layer's own scale
        length = layer.offset.norm(dim=-1, keepdim=True)
        p = torch.tanh(math.sqrt(c) * length / 2) * layer.offset / (math.sqrt(c) * length)
        for i in range(5):
            for j in range(4):
                u = hyperbolic.add(-p[j], z[i], c)
                a = layer.orientation[j]
                inner = 2 * math.sqrt(c) * (u @ a) / ((1 - c * u @ u) * a.norm())
                factor = 2 * a.norm() / (math.sqrt(c) * (1 - c * p[j] @ p[j]))
                assert layer(z)[i, j].item() == pytest.approx((factor * inner.asinh()).item(), abs=1e-9)
    flat = networks.Gyroplanes(3, 2, 1e-6).double()
    z = torch.randn(4, 3, dtype=torch.float64)
    linear = 4 * ((z.unsqueeze(1) - flat.offset / 2) * flat.orientation).sum(-1)
    assert flat(z).detach().numpy() == pytest.approx(linear.detach().numpy(), abs=1e-3)


def _model(name: str) -> models.VAE:
    torch.manual_seed(5)
    prior, outputs, size, make = {
        "sphere": (priors.UniformSphere(3), 4, 3, conditionals.VonMisesFisherPosterior),
        "power": (priors.UniformSphere(3), 4, 3, conditionals.PowerSphericalPosterior),
        "torus": (priors.UniformTorus(1), 3, 2, conditionals.TorusPosterior),
        "wrapped": (priors.BallNormal(2), 4, 2, conditionals.WrappedNormalPosterior),
        "riemannian": (priors.BallNormal(2, riemannian=True), 3, 2, conditionals.RiemannianNormalPosterior),
    }[name]
    net = nn.Sequential(nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, 2))
    encoder = nn.Linear(2, outputs)
    with torch.no_grad():
        encoder.bias[-1] = {"sphere": -3.0, "torus": -2.2, "power": -3.0}.get(name, 0.0)  # so that weights vary little
    return models.VAE(prior, make(encoder), conditionals.NormalLikelihood(net, variance=0.5)).double()


def _prior_grid(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points of the space ``[N, size]`` and the prior's mass at each, by quadrature; they add up to 1."""
    angle = np.arange(200) * (2 * np.pi / 200)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    if name == "torus":
        return circle, np.full(200, 1 / 200)
    node, weight = np.polynomial.legendre.leggauss(120)
    if name in ("sphere", "power"):  # Archimedes: heights are uniform
        flat = np.sqrt(1 - node**2)[:, None, None] * circle
        height = np.broadcast_to(node[:, None, None], (120, 200, 1))
        return np.concatenate([flat, height], -1).reshape(-1, 3), np.repeat(weight / 2, 200) / 200
    r = 5 * (node + 1)  # geodesic distances to 10
    density = np.exp(-(r**2) / 2) * (r if name == "wrapped" else np.sinh(r))
    mass = weight * density / (weight * density).sum()
    return (np.tanh(r / 2)[:, None, None] * circle).reshape(-1, 2), np.repeat(mass, 200) / 200


@pytest.mark.parametrize("name", ["sphere", "power", "torus", "wrapped", "riemannian"])
def test_the_mean_weight_is_p_of_x(name: str):
    """E_q[w] agrees with p(x) by quadrature over the space in numpy: 60,000 draws (fewer if costly) for each of 2 rows,
    |z| < 4.5, false alarm rate below 1.4e-5 for each. The standard error is below 1 % of p(x)."""
    model, x = _model(name), t([[0.3, -0.2], [0.6, 0.4]])
    points, mass = _prior_grid(name)
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    w0, b0, w1, b1 = (p.detach().numpy() for p in model.likelihood.network.parameters())
    away = np.tanh(points @ w0.T + b0) @ w1.T + b1 - x.numpy()[:, None]  # rows x N x 2
    truth = (np.exp(-(away**2).sum(-1)) / np.pi * mass).sum(-1)  # variance 1/2
    torch.manual_seed(1)
    with torch.no_grad():
        w = model.draw(x, 25_000 if name == "riemannian" else 60_000).log_w.exp().numpy() / truth
    assert (np.abs(z_score(w, 1.0)) < Z).all()
    assert w.std(0).max() < 0.01 * len(w) ** 0.5


@pytest.mark.parametrize(
    ("n", "dtype"), [(2, torch.float32), (16, torch.float32), (64, torch.float32), (16, torch.float64)]
)
@pytest.mark.parametrize("kind", ["wrapped", "riemannian"])
def test_draws_keep_to_what_the_ball_holds_and_have_their_density(kind: str, n: int, dtype: torch.dtype):
    """For any outputs of a network, and for the prior, at most 1 of 2,000 draws lies within 1.5e-5 of the edge. For a p
    that is wider than q by a tenth (a fiftieth in 64 dimensions), E_q[p / q] = 1, |z| < 4.5. (With draws clamped to the
    edge, E_q[p / q] is .01 in 16 dimensions of variance 1.)"""
    law = {"wrapped": conditionals.WrappedNormalPosterior, "riemannian": conditionals.RiemannianNormalPosterior}[kind]
    wide = {"wrapped": d.WrappedNormal, "riemannian": d.RiemannianNormal}[kind]
    torch.manual_seed(2)
    for tangent, raw in ((0.0, 0.0), (1.0, -3.0), (100.0, 50.0), (1000.0, 0.0)):
        outputs = torch.full((1, n + (n if kind == "wrapped" else 1)), raw, dtype=dtype)
        outputs[:, :n] = tangent
        q = law(nn.Identity())(outputs)
        z = q.rsample((2000,))
        assert (z.norm(dim=-1) < 1 - 1.5e-5).float().mean() > 0.999, (tangent, raw)
        spread = (1.1 if n < 20 else 1.02) * q._spread
        w = (wide(q.loc, spread).log_prob(z) - q.log_prob(z)).double().exp().numpy()
        assert abs(w.mean(0) - 1) < Z * w.std(0) / len(w) ** 0.5 + 2e-3, (tangent, raw, w.mean(0))
    prior = priors.BallNormal(n, 1.0, riemannian=kind == "riemannian").to(dtype)
    assert (prior().sample((2000,)).norm(dim=-1) < 1 - 1.5e-5).float().mean() > 0.999
    with pytest.raises(InputError, match="the scale of the prior must be a number from 1e-6 to"):
        priors.BallNormal(n, 1.0, 10.0, riemannian=kind == "riemannian")


def test_the_rate_keeps_its_digits_in_single_precision_and_many_dimensions():
    """The rate is a small difference of two numbers of thousands of nats."""
    for kind in (d.VonMisesFisher, d.PowerSpherical):
        for kappa in (0.5, 30.0, 1e3):
            found = kind(pole(2000).float(), torch.tensor(kappa)).rate_from_uniform().item()
            assert found == pytest.approx(kind(pole(2000), t(kappa)).rate_from_uniform().item(), rel=1e-5, abs=1e-7)


def test_near_the_pole_of_a_concentrated_sphere_float32_keeps_its_digits():
    q = d.VonMisesFisher(pole(4).float(), torch.tensor(1e4))
    torch.manual_seed(0)
    z = q.rsample((5,))
    exact = d.VonMisesFisher(pole(4), t(1e4)).log_prob(z.double())
    assert q.log_prob(z).numpy() == pytest.approx(exact.numpy(), abs=0.02)


# How training starts, and which units count as active


ROUND = [("sphere", 6, 0.90), ("power_spherical", 6, 0.83), ("torus", 2, 0.93)]


@pytest.mark.parametrize(("name", "m", "length"), ROUND)
def test_a_code_on_a_sphere_starts_concentrated_and_its_decoder_sees_unit_variance(name: str, m: int, length: float):
    """Raw output 0 is concentration 4 m, to 0.1 %. For 20,000 draws of the prior, the decoder's first layer returns
    coordinates whose squares have mean 1: |z| < 4.5 for each of up to 12 (8e-5 in all)."""
    x = torch.randn(40, 5)
    model, _ = recipes.Recipe(name, latent_dim=6).build(choices.DataInfo(infer(x.numpy()), 40, x))
    q = model.posterior.distribution(torch.zeros(18 if name == "torus" else 7, dtype=torch.float64), None)
    kappa = 4.0 * m
    first = kappa / (kappa + m - 1) if name == "power_spherical" else bessel_kl(kappa, m)[0]
    assert first == pytest.approx(length, abs=0.01)
    found = q.base.resultant if name == "torus" else q.resultant
    assert found.numpy() == pytest.approx(first, rel=1e-3)
    [layer] = [part for part in model.modules() if isinstance(part, networks.Scale)]
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda _, given, out: seen.append(out.double()))
    torch.manual_seed(0)
    with torch.no_grad():
        model.decode(model.prior().sample(torch.Size((20_000,))))
    assert (np.abs(z_score(seen[0].numpy() ** 2, 1.0)) < Z).all()


@pytest.mark.parametrize("recipe", ["sphere", "power_spherical"])
def test_a_sphere_is_used_after_a_few_epochs(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three seeds have 6.4 to 7.0 nats; with a decoder that sees coordinates of variance 1/m, 0.00 to 0.21."""
    monkeypatch.chdir(tmp_path)
    done("fit", "digits", "--out", "run", "--recipe", recipe, "--epochs", "8", "--seed", "0")
    found = figures("evaluate", "run", "--k", "0")
    assert found["rate"] > 4 and found["active_units"] == 16, found


def _coded(prior: nn.Module, posteriors: Callable[[Tensor], Distribution]) -> models.VAE:
    """A model whose rows are indices into a table of posteriors."""
    decoder = conditionals.NormalLikelihood(nn.Linear(prior().event_shape[0], 1), variance=1.0)
    return models.VAE(prior, Fixed(lambda x: posteriors(x[:, 0].long())), decoder).double()


@pytest.mark.parametrize("kind", SPHERES)
@pytest.mark.parametrize(("kappa", "active"), [(0.5, 0), (1.5, 0), (16.0, 16)])
def test_directions_without_a_rate_are_not_active_units(kind, kappa: float, active: int):
    """For 2,000 uniform directions of R^16, Var E[z_i|x] is A^2 / 16, where A is the mean length; A^2 > 0.01 from kappa
    1.62 on for the von Mises-Fisher (1.68 for the power spherical), where the rate is 0.08 nats."""
    rng = np.random.default_rng(0)
    where = t((lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(rng.normal(size=(2000, 16))))
    model = _coded(priors.UniformSphere(16), lambda i: kind(where[i], t(kappa)))
    x = torch.arange(2000, dtype=torch.float64).unsqueeze(-1)
    z, means = codes_and_means(model, x)
    spread = prior_variance(model, x)
    assert z.norm(dim=-1).numpy() == pytest.approx(1, abs=1e-12)
    assert np.asarray(spread) == pytest.approx(1 / 16, abs=1e-12)
    length = kappa / (kappa + 15) if kind is d.PowerSpherical else bessel_kl(kappa, 16)[0]
    assert means.numpy() == pytest.approx(length * where.numpy(), abs=1e-9)
    assert int(evaluation.active_units(means, spread).sum()) == active


@pytest.mark.parametrize("riemannian", [False, True])
def test_units_of_the_ball_are_counted_in_tangent_vectors(riemannian: bool):
    """Locations at tangent vectors of variance 0.002 and 0.1 are below and above 0.01 of the prior's variance, which is
    that of the tangent vectors of 40,000 prior draws, |z| < 4.5."""
    prior = priors.BallNormal(3, riemannian=riemannian).double()
    rng = np.random.default_rng(1)
    tangent = t(rng.normal(size=(2000, 3)) * np.sqrt([0.002, 0.1, 0.1]))
    spread = t(0.3) if riemannian else t([0.3, 0.3, 0.3])
    make = d.RiemannianNormal if riemannian else d.WrappedNormal
    model = _coded(prior, lambda i: make(hyperbolic.from_tangent(tangent[i], 1.0), spread))
    x = torch.arange(2000, dtype=torch.float64).unsqueeze(-1)
    _, means = codes_and_means(model, x)
    assert means.numpy() == pytest.approx(tangent.numpy(), abs=1e-8)
    variance = np.asarray(prior_variance(model, x))
    torch.manual_seed(0)
    drawn = hyperbolic.to_tangent(prior().sample(torch.Size((40_000,))), 1.0).numpy()
    assert (np.abs(z_score(drawn**2, variance)) < Z).all()
    assert evaluation.active_units(means, t(variance)).tolist() == [False, True, True]


# The edge of the ball


def _distance(x: Tensor, y: Tensor, c: float) -> np.ndarray:
    """arcosh(1 + 2 c |x - y|^2 / ((1 - c |x|^2) (1 - c |y|^2))) / sqrt(c)."""
    square = lambda v: (v**2).sum(-1).numpy()
    ratio = c * square(x - y) / ((1 - c * square(x)) * (1 - c * square(y)))
    return np.arccosh(1 + 2 * ratio) / math.sqrt(c)


@pytest.mark.parametrize("kind", [conditionals.WrappedNormalPosterior, conditionals.RiemannianNormalPosterior])
@pytest.mark.parametrize("n", [2, 16, 64])
@pytest.mark.parametrize("c", [0.5, 2.0])
def test_draws_in_the_ball_are_where_their_density_says(kind, n: int, c: float):
    """Whatever the network returns: for 2,000 posteriors with outputs of standard deviation 30 no draw is clamped to
    the edge, not even in float32, and squared distances from their locations have the mean n x variance, |z| < 4.5."""
    torch.manual_seed(0)
    size = 2 * n if kind is conditionals.WrappedNormalPosterior else n + 1
    output = 30 * torch.randn(2000, size, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        q = kind(nn.Identity(), c).distribution(output.to(dtype), None)
        z = q.rsample()
        assert z.norm(dim=-1).max() < (1 - 1.02e-5) / math.sqrt(c)
        if dtype is torch.float64:
            square = _distance(z, q.loc, c) ** 2
            assert abs(z_score(square - q.variance.sum(-1).numpy(), 0.0)) < Z


@pytest.mark.parametrize("riemannian", [False, True])
@pytest.mark.parametrize("n", [2, 16, 64])
def test_the_prior_of_the_ball_keeps_its_mass_inside_and_refuses_a_greater_scale(riemannian: bool, n: int):
    """E_p[q(z) / p(z)] = 1 for a narrower q nearby: 30,000 draws, |z| < 4.5."""
    prior = priors.BallNormal(n, riemannian=riemannian).double()
    loc = torch.zeros(n, dtype=torch.float64)
    loc[0] = math.tanh(0.25 * prior.scale / 2)
    spread = t((1 - 0.4 / math.sqrt(n)) * prior.scale**2)
    q = prior.kind(loc, spread if riemannian else spread.expand(n))
    torch.manual_seed(1)
    z = prior().sample(torch.Size((30_000,)))
    weight = (q.log_prob(z) - prior().log_prob(z)).exp().numpy()
    assert abs(z_score(weight, 1.0)) < Z and weight.std() < 20
    with pytest.raises(InputError, match="scale of the prior"):
        priors.BallNormal(n, scale=1.5, riemannian=riemannian)
