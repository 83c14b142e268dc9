"""Codes on curved spaces: the sphere, the torus, hyperbolic space."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from latens import conditionals, models, networks, objectives, priors
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, through

Built = tuple[nn.Module, objectives.Objective]


def sphere(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Von Mises-Fisher posterior on the unit sphere of latent_dim coordinates, uniform prior. (Davidson et al. 2018)"""
    kind = conditionals.VonMisesFisherPosterior
    return _on_sphere(info, kind, latent_dim, likelihood, variance, network), objectives.ELBO(beta)


def power_spherical(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Power spherical posterior on the unit sphere, uniform prior, everything in closed form. (De Cao & Aziz 2020)"""
    kind = conditionals.PowerSphericalPosterior
    return _on_sphere(info, kind, latent_dim, likelihood, variance, network), objectives.ELBO(beta)


def torus(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim angles, von Mises posterior, uniform prior; a code is the cosine and sine of each, a product of
    spheres. (Davidson, Tomczak & Gavves 2019)"""
    size = latent_size(info, latent_dim)
    posterior = conditionals.TorusPosterior(encoder(info, [3 * size], network), info.reads)
    likely = _of_unit_variance(2, likelihood_for(info, 2 * size, likelihood, network, variance))
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
    posterior = conditionals.WrappedNormalPosterior(encoder(info, [size, size], network), curvature, info.reads)
    return _in_ball(info, prior, posterior, features, likelihood, variance, network), objectives.ELBO(beta)


def poincare_riemannian(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, curvature: float = 1.0,
    prior_scale: float | str = "auto", features: int = 128, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    """Riemannian normals in the Poincare ball, decoder as for poincare. (Mathieu et al. 2019)"""
    size = latent_size(info, latent_dim)
    prior = priors.BallNormal(size, curvature, prior_scale, riemannian=True)
    posterior = conditionals.RiemannianNormalPosterior(encoder(info, [size, 1], network), curvature, info.reads)
    return _in_ball(info, prior, posterior, features, likelihood, variance, network), objectives.ELBO(beta)


def _on_sphere(
    info: DataInfo, kind: Callable[..., nn.Module], latent_dim: int | str, likelihood: str, variance: float | str,
    network: str,
) -> models.VAE:  # fmt: skip
    """The model on the unit sphere of R^latent_dim with a posterior of that kind."""
    size = max(2, latent_size(info, latent_dim)) if latent_dim == "auto" else latent_size(info, latent_dim)
    prior, posterior = priors.UniformSphere(size), kind(encoder(info, [size, 1], network), info.reads)
    likely = _of_unit_variance(size, likelihood_for(info, size, likelihood, network, variance))
    return models.VAE(prior, posterior, likely)


def _of_unit_variance(m: int, likelihood: nn.Module) -> nn.Module:
    """The likelihood whose network sees coordinates of a unit sphere of R^m times sqrt(m): under the uniform prior they
    then have variance 1, as those of N(0, I) have. Left at 1/m the codes hardly move the decoder at first, and the
    rate falls to 0 before it has learned to use them."""
    return through(networks.Scale(math.sqrt(m)), likelihood)


def _in_ball(
    info: DataInfo, prior: priors.BallNormal, posterior: nn.Module, features: int, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """The model whose decoder begins with distances to hyperplanes of the ball."""
    first = networks.Gyroplanes(prior.dim, features, prior.c)
    return models.VAE(prior, posterior, through(first, likelihood_for(info, features, likelihood, network, variance)))
