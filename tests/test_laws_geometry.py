"""Codes on curved spaces: scipy's Bessel functions, quadrature over the space, moments of draws, and E[w] = p(x)
on a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from laws import Z, t, z_score
from scipy import integrate, special
from torch import nn

from latens import conditionals, models, networks, priors
from latens import distributions as d
from latens.distributions import closed_kl, hyperbolic

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


def test_the_rate_has_the_numbers_of_quadrature_and_of_three_dimensions():
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
    """By quadrature over the angle to the pole: area of the slices x density."""
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
    """E[cos] and E[cos^2] of 20,000 draws, |z| < 4.5; the gradient of the mean draw is that of the mean, |z| < 4.5."""
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
    """In geodesic polar coordinates about a point that is not the mode: volume sinh(sqrt(c) r) / sqrt(c) dr dt."""
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
    assert (q.log_prob(centre).exp() * volume).sum().item() == pytest.approx(1, abs=1e-8)


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
        "sphere": (priors.UniformSphere(3), 4, 3, conditionals.VonMisesFisher),
        "power": (priors.UniformSphere(3), 4, 3, conditionals.PowerSpherical),
        "torus": (priors.UniformTorus(1), 3, 2, conditionals.Torus),
        "wrapped": (priors.BallNormal(2), 4, 2, conditionals.WrappedNormal),
        "riemannian": (priors.BallNormal(2, riemannian=True), 3, 2, conditionals.RiemannianNormal),
    }[name]
    net = nn.Sequential(nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, 2))
    encoder = nn.Linear(2, outputs)
    with torch.no_grad():
        encoder.bias[-1] = {"sphere": -1.2, "torus": -1.2, "power": -2.2}.get(name, 0.0)  # so that weights are tame
    return models.VAE(prior, make(encoder), conditionals.Normal(net, variance=0.5)).double()


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
    """E_q[w] against p(x) by quadrature over the space, in numpy: 60,000 draws (fewer for costly ones) of 2 rows,
    |z| < 4.5: false alarms below 1.4e-5 for each. The standard error is below 1 % of p(x)."""
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


def test_near_the_pole_of_a_concentrated_sphere_float32_keeps_its_digits():
    q = d.VonMisesFisher(pole(4).float(), torch.tensor(1e4))
    torch.manual_seed(0)
    z = q.rsample((5,))
    exact = d.VonMisesFisher(pole(4), t(1e4)).log_prob(z.double())
    assert q.log_prob(z).numpy() == pytest.approx(exact.numpy(), abs=0.02)
