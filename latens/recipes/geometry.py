"""Codes on curved spaces: the sphere, the torus, hyperbolic space."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, networks, objectives, priors
from latens.choices import DataInfo, encoder, latent_size, likelihood_for, through

Built = tuple[nn.Module, objectives.Objective]


def _at_least_two(info: DataInfo, latent_dim: int | str) -> int:
    return max(2, latent_size(info, latent_dim)) if latent_dim == "auto" else latent_size(info, latent_dim)


def sphere(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Von Mises-Fisher posterior on the unit sphere of latent_dim coordinates, uniform prior. (Davidson et al. 2018)"""
    size = _at_least_two(info, latent_dim)
    prior = priors.UniformSphere(size)
    posterior = conditionals.VonMisesFisher(encoder(info, [size, 1], network), info.reads)
    model = models.VAE(prior, posterior, likelihood_for(info, size, likelihood, network, variance))
    return model, objectives.ELBO(beta)


def power_spherical(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Power spherical posterior on the unit sphere, uniform prior, everything in closed form. (De Cao & Aziz 2020)"""
    size = _at_least_two(info, latent_dim)
    prior = priors.UniformSphere(size)
    posterior = conditionals.PowerSpherical(encoder(info, [size, 1], network), info.reads)
    model = models.VAE(prior, posterior, likelihood_for(info, size, likelihood, network, variance))
    return model, objectives.ELBO(beta)


def torus(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim angles, von Mises posterior, uniform prior; a code is the cosine and sine of each. (Falorsi et al.
    2018)"""
    size = latent_size(info, latent_dim)
    posterior = conditionals.Torus(encoder(info, [3 * size], network), info.reads)
    likely = likelihood_for(info, 2 * size, likelihood, network, variance)
    return models.VAE(priors.UniformTorus(size), posterior, likely), objectives.ELBO(beta)


def poincare(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, curvature: float = 1.0,
    prior_scale: float | str = "auto", features: int = 128, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    """Wrapped normals in the Poincare ball, a decoder that begins with distances to hyperplanes. (Mathieu et al.
    2019)"""
    size = latent_size(info, latent_dim)
    prior = priors.BallNormal(size, curvature, prior_scale)
    posterior = conditionals.WrappedNormal(encoder(info, [size, size], network), curvature, info.reads)
    first = networks.Gyroplanes(size, features, curvature)
    likely = through(first, likelihood_for(info, features, likelihood, network, variance))
    return models.VAE(prior, posterior, likely), objectives.ELBO(beta)


def poincare_riemannian(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, curvature: float = 1.0,
    prior_scale: float | str = "auto", features: int = 128, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    """Riemannian normals in the Poincare ball, decoder as for poincare. (Mathieu et al. 2019)"""
    size = latent_size(info, latent_dim)
    prior = priors.BallNormal(size, curvature, prior_scale, riemannian=True)
    posterior = conditionals.RiemannianNormal(encoder(info, [size, 1], network), curvature, info.reads)
    first = networks.Gyroplanes(size, features, curvature)
    likely = through(first, likelihood_for(info, features, likelihood, network, variance))
    return models.VAE(prior, posterior, likely), objectives.ELBO(beta)
