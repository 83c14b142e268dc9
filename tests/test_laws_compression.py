"""Laws of codes with noise instead of rounding: densities agree with scipy's distribution functions, masses add up to 1
as code lengths require, and weights agree with quadrature over the box that the posterior reaches."""

from __future__ import annotations

import itertools

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import integrate, special, stats
from torch import nn

from latens import InputError, conditionals, models, networks, objectives, priors
from latens import distributions as d
from latens.data import infer
from latens.recipes import Recipe, choices
from latens.tensors import randomness

D = 3
X, W, B, S2 = laws.toy(6, D, 1, seed=4)


def log_interval(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """ln[Phi(high) - Phi(low)] by scipy, from the tail nearer to both."""
    low, high = np.where(low + high > 0, -high, low), np.where(low + high > 0, -low, high)
    top, below = special.log_ndtr(high), special.log_ndtr(low)
    return top + np.log(-np.expm1(below - top))


def mixture_log_p(z: np.ndarray, w: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The log-density of a mixture blurred by uniform noise at each z in one dimension; w, m, s ``[C]``."""
    z = np.asarray(z)[..., None]
    return special.logsumexp(np.log(w) + log_interval((z - 0.5 - m) / s, (z + 0.5 - m) / s), axis=-1)


def numbers(c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(c)
    return rng.dirichlet(np.ones(c)), rng.normal(size=c) * 2, rng.uniform(0.2, 2, c)


def dithered(c: int, dim: int = 1) -> d.DitheredMixture:
    w, m, s = numbers(c)
    return d.DitheredMixture(*(t(v).expand(dim, c) for v in (np.log(w), m, s**2)))


@pytest.mark.parametrize("c", [1, 4])
def test_a_blurred_density_is_a_difference_of_distribution_functions(c: int) -> None:
    p, z = dithered(c), np.linspace(-30, 30, 241)
    assert p.log_prob(t(z[:, None])).numpy() == pytest.approx(mixture_log_p(z, *numbers(c)), rel=1e-9, abs=1e-9)
    mass, _ = integrate.quad(lambda y: p.log_prob(t([y])).exp().item(), -30, 30, limit=200)
    assert mass == pytest.approx(1, abs=1e-8)
    for start in (0.0, 0.3, -0.5):  # whole numbers with any offset: each density is the mass that is rounded to it
        whole = t(np.arange(-40, 41)[:, None] + start)
        assert p.log_prob(whole).exp().sum().item() == pytest.approx(1, abs=1e-12)
    convolved, _ = integrate.quad(  # the other way to the same density: the noise integrated out
        lambda u: (numbers(c)[0] * stats.norm.pdf(0.7 - u, numbers(c)[1], numbers(c)[2])).sum(), -0.5, 0.5
    )
    assert p.log_prob(t([0.7])).exp().item() == pytest.approx(convolved, rel=1e-9)


@pytest.mark.parametrize("s", [1e-3, 0.1, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("z", [0.0, 0.4999, 0.5, 3.0, -80.0])
def test_the_interval_keeps_its_digits_and_gradients_for_narrow_and_wide_normals(s: float, z: float) -> None:
    for dtype, within in ((torch.float64, 1e-9), (torch.float32, 2e-5)):
        at, spread = torch.tensor([z], dtype=dtype).requires_grad_(), torch.tensor([[s]], dtype=dtype).requires_grad_()
        zero = torch.zeros(1, 1, dtype=dtype)
        found = d.DitheredMixture(zero, zero, spread.square()).log_prob(at)
        z_, s_ = at.detach().double().numpy(), spread.item()  # up to rounding
        exact = log_interval((z_ - 0.5) / s_, (z_ + 0.5) / s_)[0]
        if s < 1e3:
            assert found.item() == pytest.approx(exact, rel=within, abs=within)
        else:
            assert found.item() == pytest.approx(stats.norm.logpdf(z_[0], 0, s_), abs=1e-6)  # scipy cancels
        assert all(g.isfinite().all() for g in torch.autograd.grad(found, (at, spread)))


@pytest.mark.parametrize("c", [1, 4])
def test_draws_have_the_density_and_the_declared_moments(c: int) -> None:
    """200,000 draws: mean, second moment and the distribution function at five points, |z| < 4.5 (rate 5e-5)."""
    p = dithered(c, 2)
    torch.manual_seed(0)
    z = p.sample((200_000,))
    assert z.shape == (200_000, 2)
    z = z[:, 1].numpy()
    w, m, s = numbers(c)
    mean = (w * m).sum()
    second = (w * (m**2 + s**2)).sum() + 1 / 12
    assert p.mean[1].item() == pytest.approx(mean) and p.variance[1].item() == pytest.approx(second - mean**2)
    assert abs(laws.z_score(z, mean)) < Z and abs(laws.z_score(z**2, second)) < Z
    for at in np.quantile(z, [0.05, 0.3, 0.5, 0.7, 0.95]):
        below, _ = integrate.quad(lambda y: np.exp(mixture_log_p(np.array(y), w, m, s)), -40, at, limit=300)
        assert abs(laws.z_score((z < at).astype(float), below)) < Z


def test_the_uniform_posterior_is_a_box_of_side_one() -> None:
    """Draws fill the box: mean and variance of 200,000, |z| < 4.5; ln q = 0 inside, and no mass outside."""
    torch.manual_seed(1)
    q = d.UnitUniform(t([[0.3, 1e6]]))
    z, log_q = q.rsample_and_log_prob(200_000)
    assert (log_q == 0).all() and log_q.shape == (200_000, 1)
    away = (z - q.loc).numpy()[:, 0]
    assert np.abs(away).max() <= 0.5 + 1e-9
    assert np.abs(laws.z_score(away, 0.0)).max() < Z and np.abs(laws.z_score(away**2, 1 / 12)).max() < Z
    assert torch.equal(q.mean, q.loc) and q.variance.numpy() == pytest.approx(1 / 12)
    assert q.log_prob(q.loc + 0.499).item() == 0 and q.log_prob(q.loc + t([0.0, 0.501])).item() == -np.inf


# The model: one code, one hyper-code


def model() -> models.VAE:
    torch.manual_seed(3)
    scales = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))
    prior = priors.ChainedPrior(priors.DitheredMixturePrior(1, 3), conditionals.DitheredNormal(scales), 1)
    prior.first.raw.data += torch.randn_like(prior.first.raw)
    posterior = conditionals.UnitUniformPosterior(nn.Linear(D, 2))
    net = nn.Sequential(networks.Last(1), nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, D))
    return models.VAE(prior, posterior, conditionals.NormalLikelihood(net, variance=S2)).double()


def softplus(raw: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(raw + np.log(np.expm1(1.0)))) + 1e-2


def run(network: nn.Module, x: np.ndarray) -> np.ndarray:
    for layer in network:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        elif isinstance(layer, nn.Tanh):
            x = np.tanh(x)
    return x


def log_prior(vae: models.VAE, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ln p(z), ln p(y|z)) in numpy and scipy."""
    logits, loc, raw = vae.prior.first.raw.detach().numpy()[0]
    log_pz = mixture_log_p(z, special.softmax(logits), loc, np.sqrt(softplus(raw)))
    s = np.sqrt(softplus(run(vae.prior.second.network, z[..., None])[..., 0]))
    return log_pz, log_interval((y - 0.5) / s, (y + 0.5) / s)


def log_px(vae: models.VAE, y: np.ndarray) -> np.ndarray:
    """ln p(x|y) of each row, ``[..., N]``."""
    f = run(vae.likelihood.network, y[..., None])
    square = ((f[..., None, :] - X) ** 2).sum(-1)
    return -0.5 * (square / S2 + D * np.log(2 * np.pi * S2))


def test_the_rate_is_that_of_a_naive_loop() -> None:
    vae = model()
    torch.manual_seed(0)
    draw = vae.draw(t(X), 4)
    assert draw.codes.shape == (4, 6, 2)
    z, y = draw.codes.detach().numpy().transpose(2, 0, 1)
    log_pz, log_py = log_prior(vae, z, y)
    assert draw.rate().detach().numpy() == pytest.approx(-log_pz - log_py, abs=1e-9)  # ln q = 0: code lengths
    rows = log_px(vae, y)[:, np.arange(6), np.arange(6)]
    bound = (rows + log_pz + log_py).mean(0)
    assert objectives.ELBO(samples=4).bound(draw).detach().numpy() == pytest.approx(bound, abs=1e-9)


def test_code_lengths_add_up_to_one_code() -> None:
    """The sum of exp(-length) over all whole numbers is 1, so a code with these lengths exists (Kraft)."""
    prior = model().prior()
    z, y = (t(v.ravel()) for v in np.meshgrid(np.arange(-15, 16), np.arange(-40, 41), indexing="ij"))
    assert prior.log_prob(torch.stack([z, y], -1)).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_the_mean_weight_is_the_share_of_p_of_x_in_the_box() -> None:
    """E[w] is the integral of p(x, z, y) over the box, here by Gauss-Legendre: 100,000 draws for each of 6 rows, |z| <
    4.5 (false alarm rate 4e-5). It is below p(x), which the trapezoid rule gives over the plane: uniform noise reaches
    no further, so no number of draws closes the gap, and the estimate is a lower bound."""
    vae = model()
    torch.manual_seed(1)
    with torch.no_grad():
        log_w = vae.draw(t(X), 100_000).log_w.numpy()
        loc = vae.encode(t(X)).mean.numpy()
    node, weight = np.polynomial.legendre.leggauss(40)
    box = np.empty(6)
    for i in range(6):
        z, y = np.meshgrid(loc[i, 0] + node / 2, loc[i, 1] + node / 2, indexing="ij")
        joint = sum(log_prior(vae, z, y)) + log_px(vae, y)[..., i]
        box[i] = np.log((np.exp(joint) * np.outer(weight, weight) / 4).sum())
    assert np.abs(laws.z_score(np.exp(log_w - box), 1.0)).max() < Z
    z, y = np.meshgrid(np.linspace(-12, 12, 401), np.linspace(-12, 12, 401), indexing="ij")
    prior = np.exp(sum(log_prior(vae, z, y))) * 0.06**2
    assert prior.sum() == pytest.approx(1, abs=1e-6)
    whole = np.log((prior[..., None] * np.exp(log_px(vae, y))).sum((0, 1)))
    assert (box < whole - 0.05).all() and (log_w.mean(0) < box).all()


def test_samples_follow_the_hierarchy() -> None:
    """E[y^2] = E_z[h(z)] + 1/12 and E[z] by the trapezoid rule: 200,000 draws, |z| < 4.5."""
    vae = model()
    torch.manual_seed(2)
    with torch.no_grad():
        z, y = vae.prior().sample((200_000,)).numpy().T
    line = np.linspace(-15, 15, 2001)
    p = np.exp(log_prior(vae, line, line)[0]) * (line[1] - line[0])
    spread = softplus(run(vae.prior.second.network, line[:, None])[:, 0])
    assert abs(laws.z_score(z, (p * line).sum())) < Z
    assert abs(laws.z_score(y**2, (p * spread).sum() + 1 / 12)) < Z
    assert abs(laws.z_score(y**2 * z, (p * line * (spread + 1 / 12)).sum())) < Z


def test_noise_depends_on_the_row_alone() -> None:
    """With shared noise, a row has the same draws whatever its neighbours, and two processes draw what one would."""
    vae = model()

    def drawn(rows: slice, layout) -> np.ndarray:
        torch.manual_seed(3)
        with layout, torch.no_grad():
            return vae.draw(t(X[rows]), 4).codes.numpy()

    assert d.has_row_noise(vae.encode(t(X)))
    together = drawn(slice(0, 6), randomness.shared())
    for i in range(6):
        assert drawn(slice(i, i + 1), randomness.shared())[:, 0] == pytest.approx(together[:, i], abs=1e-12)
    halves = [drawn(slice(0, 2), randomness.part(0, 6)), drawn(slice(2, 6), randomness.part(2, 6))]
    assert np.concatenate(halves, 1) == pytest.approx(drawn(slice(0, 6), randomness.part(0, 6)), abs=1e-12)


def test_the_recipe_puts_these_parts_together_and_refuses_what_it_cannot_honour() -> None:
    x = torch.as_tensor(X, dtype=torch.float32)
    info = choices.DataInfo(infer(X.astype("float32")), len(X), x)
    built, _ = Recipe("hyperprior", latent_dim=3, hyper_dim=2).build(info)
    draw = built.draw(x, 2)
    assert draw.codes.shape == (2, 6, 5) and isinstance(draw.q, d.UnitUniform)
    moved = draw.codes + torch.cat([torch.ones(2), torch.zeros(3)])  # no decoder gets the hyper-code
    assert torch.equal(built.decode(moved).mean, built.decode(draw.codes).mean)
    assert built.sample(7).shape == (7, D)
    for options in ({"hyper_dim": 0}, {"hyper_dim": 1.5}, {"components": 0}):
        with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
            Recipe("hyperprior", latent_dim=2, **options).build(info)


def test_every_part_is_trained() -> None:
    """Gradients reach the encoder, the scales and the density of the hyper-codes."""
    vae = model()
    torch.manual_seed(5)
    objective = objectives.ELBO()
    loss = objective.losses(vae, t(X), objective.draw(vae, t(X)))["model"]
    for name, p in vae.named_parameters():
        [slope] = torch.autograd.grad(loss, p, retain_graph=True)
        assert slope.isfinite().all() and slope.abs().max() > 0, name
    assert sum(1 for _ in itertools.chain(vae.prior.parameters())) == 5
