"""Independent second routes for the tests of laws: closed forms in numpy and scipy, in float64 and without latens, and
small builders that put known numbers into the library's parts.

Normal quantiles: a single two-sided |z| < 4.5 fails by chance once in 147,000; with m comparisons in a test the chance
is at most m times that (Bonferroni). Every seed is fixed, so a test that passes once always passes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from latens import conditionals, models, priors

Z = 4.5  # two-sided false-alarm rate 6.8e-6 for one comparison
LN_2PI = float(np.log(2 * np.pi))


# Closed forms


def ppca(x: np.ndarray, q: int) -> tuple[np.ndarray, float, float]:
    """Maximum-likelihood probabilistic PCA (Tipping & Bishop 1999): W (R = I), s2, total log-likelihood."""
    n, d = x.shape
    lam, u = np.linalg.eigh(np.cov(x.T, bias=True))
    lam, u = lam[::-1], u[:, ::-1]
    s2 = float(lam[q:].mean())
    w = u[:, :q] * np.sqrt(lam[:q] - s2)
    return w, s2, -n / 2 * (d * LN_2PI + np.log(lam[:q]).sum() + (d - q) * np.log(s2) + d)


def gaussian_log_likelihood(x: np.ndarray, w: np.ndarray, b: np.ndarray, s2: float) -> np.ndarray:
    """log N(x; b, W W^T + s2 I) of each row."""
    return np.atleast_1d(stats.multivariate_normal(b, w @ w.T + s2 * np.eye(len(b))).logpdf(x))


def posterior(x: np.ndarray, w: np.ndarray, b: np.ndarray, s2: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[n, q]`` and covariance ``[q, q]`` of p(z|x) of the linear-Gaussian model."""
    m = w.T @ w + s2 * np.eye(w.shape[1])
    return (x - b) @ w @ np.linalg.inv(m), s2 * np.linalg.inv(m)


def linear_elbo(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, s2: float, mean: np.ndarray, var: np.ndarray
) -> np.ndarray:
    """ELBO of each row for q = N(mean, diag var), in closed form: E_q|x-b-Wz|^2 = |x-b-Wm|^2 + sum_i |w_i|^2 var_i."""
    d = len(b)
    square = ((x - b - mean @ w.T) ** 2).sum(-1) + (var * (w**2).sum(0)).sum(-1)
    kl = 0.5 * (mean**2 + var - 1 - np.log(var)).sum(-1)
    return -0.5 * (square / s2 + d * np.log(2 * np.pi * s2)) - kl


def gaussian_kl(m0: np.ndarray, s0: np.ndarray, m1: np.ndarray, s1: np.ndarray) -> float:
    """KL(N(m0, s0) || N(m1, s1)) for covariance matrices."""
    d = m1 - m0
    inverse = np.linalg.inv(s1)
    return 0.5 * float(
        np.trace(inverse @ s0) + d @ inverse @ d - len(d) + np.linalg.slogdet(s1)[1] - np.linalg.slogdet(s0)[1]
    )


def chi2(m0: np.ndarray, s0: np.ndarray, m1: np.ndarray, s1: np.ndarray) -> float:
    """chi^2(p || q) = int p^2/q - 1 for p = N(m0, s0), q = N(m1, s1); needs 2 s0^-1 - s1^-1 > 0."""
    p, q = np.linalg.inv(s0), np.linalg.inv(s1)
    a = 2 * p - q
    assert np.linalg.eigvalsh(a).min() > 0, "the chi-square divergence is infinite"
    h = 2 * p @ m0 - q @ m1
    exponent = 0.5 * h @ np.linalg.solve(a, h) - m0 @ p @ m0 + 0.5 * m1 @ q @ m1
    logdet = [np.linalg.slogdet(s)[1] for s in (p, q, a)]
    return float(np.exp(logdet[0] - 0.5 * logdet[1] - 0.5 * logdet[2] + exponent) - 1)


def principal_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of the principal angles between two column spaces."""
    return np.linalg.svd(np.linalg.qr(a)[0].T @ np.linalg.qr(b)[0], compute_uv=False)


def log_mean_exp(values: np.ndarray) -> float:
    """ln mean exp, computed naively but safely, one list at a time."""
    top = max(values)
    return float(top + np.log(sum(np.exp(v - top) for v in values) / len(values)))


def z_score(sample: np.ndarray, truth: float | np.ndarray, axis: int = 0) -> np.ndarray:
    """(mean - truth) / standard error along ``axis``."""
    n = sample.shape[axis]
    return (sample.mean(axis) - truth) / (sample.std(axis, ddof=1) / np.sqrt(n))


def assert_slopes(value: Callable[[], Tensor], parameters: list[nn.Parameter], rel: float, abs: float = 1e-12) -> None:
    """Check autograd's slopes of ``value()`` along 4 random directions of the parameters against central
    differences."""
    grads, rng = torch.autograd.grad(value(), parameters), np.random.default_rng(0)
    for _ in range(4):
        direction, values = [t(rng.normal(size=p.shape)) for p in parameters], []
        for step in (1e-5, -2e-5, 1e-5):  # the last brings them back
            with torch.no_grad():
                for p, way in zip(parameters, direction, strict=True):
                    p += step * way
            values.append(value().item())
        slope = sum((g * way).sum().item() for g, way in zip(grads, direction, strict=True))
        assert np.isclose((values[0] - values[1]) / 2e-5, slope, rtol=rel, atol=abs)


# Known numbers inside the library's parts


def t(values: np.ndarray | float | list) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


def affine(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """The map z -> weight z + bias as an nn.Linear in float64."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(t(weight))
        layer.bias.copy_(t(bias))
    return layer


def raw(value: np.ndarray, floor: float) -> np.ndarray:
    """The number whose shifted softplus plus floor is ``value``: softplus(raw + ln(e - 1)) + floor = value."""
    return np.log(np.expm1(value - floor)) - np.log(np.expm1(1.0))


def diagonal_posterior(v: np.ndarray, b: np.ndarray, var: np.ndarray) -> conditionals.DiagonalNormalPosterior:
    """q(z|x) = N(V (x - b), diag var)."""
    q, d = v.shape
    net = affine(np.vstack([v, np.zeros((q, d))]), np.concatenate([-v @ b, raw(var, 1e-8)]))
    return conditionals.DiagonalNormalPosterior(net)


def full_posterior(v: np.ndarray, b: np.ndarray, cov: np.ndarray) -> conditionals.FullNormalPosterior:
    """q(z|x) = N(V (x - b), cov)."""
    q, d = v.shape
    tril = np.linalg.cholesky(cov)
    tril[np.diag_indices(q)] = raw(np.diag(tril), 1e-4)
    entries = tril[np.tril_indices(q)]
    net = affine(np.vstack([v, np.zeros((len(entries), d))]), np.concatenate([-v @ b, entries]))
    return conditionals.FullNormalPosterior(net)


def linear_vae(w: np.ndarray, b: np.ndarray, s2: float, posterior: nn.Module) -> models.VAE:
    """p(z) = N(0, I), p(x|z) = N(W z + b, s2 I) and the given posterior, float64."""
    likelihood = conditionals.NormalLikelihood(affine(w, b), variance=s2)
    model = models.VAE(priors.StandardNormal(w.shape[1]), posterior, likelihood).double()
    return model


class Fixed(nn.Module):
    """A conditional that returns ``make(given)``, as a user's own part may do."""

    def __init__(self, make: Callable[[Tensor], object]):
        super().__init__()
        self.make = make

    def forward(self, given: Tensor) -> object:
        return self.make(given)


def toy(n: int, d: int, q: int, seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Linear-Gaussian data: x ``[n, d]``, W, b, s2."""
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=(d, q)), rng.normal(size=d)
    x = rng.normal(size=(n, q)) @ w.T + b + noise * rng.normal(size=(n, d))
    return x, w, b, noise**2
