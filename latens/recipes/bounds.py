"""The VAE, its bounds, and the plain autoencoder."""

from __future__ import annotations

import math

from torch import nn

from latens import models, objectives, priors
from latens.errors import InputError
from latens.recipes.choices import DataInfo, latent_size, likelihood_for, posterior_for, prior_for


def vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", heads: str = "shared", posterior: str = "diagonal",
    prior: str = "auto", missing: str = "mar", dependence: str = "auto", samples: int = 1, kl: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Standard, mixture or conditional prior, normal posterior, ELBO. (Kingma & Welling 2014; Rezende et al. 2014)"""
    if posterior == "point" and beta != 0:
        raise InputError("a point posterior has no density and so no rate to weigh: use the recipe 'ae', or beta = 0")
    size = latent_size(info, latent_dim)
    model = models.VAE(
        prior_for(info, size, prior),
        posterior_for(info, size, posterior, network, heads),
        likelihood_for(info, size, likelihood, network, variance, missing, dependence),
    )
    return model, objectives.ELBO(beta, samples, kl)


def beta_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 4.0, likelihood: str = "auto",
    variance: float | str = 1.0, network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the rate weighted by beta, at a fixed observation variance. (Higgins et al. 2017)"""
    return vae(info, latent_dim=latent_dim, beta=beta, likelihood=likelihood, variance=variance, network=network)


def iwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the importance-weighted bound of k draws; with missing cells MIWAE, not-MIWAE where missing="mnar".
    (Burda, Grosse & Salakhutdinov 2016)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.IWAE(k)


def miwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, m: int = 4, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the mean of m importance-weighted bounds of k draws each. (Rainforth et al. 2018)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.IWAE(k, m=m)


def ciwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, mix: float = 0.5, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under mix ELBO + (1 - mix) IWAE(k), of the same draws. (Rainforth et al. 2018)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.IWAE(k, mix=mix)


def piwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, m: int = 4, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE whose encoder is moved by MIWAE(m, k) and all else by IWAE(m k): two players. (Rainforth et al. 2018)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.PIWAE(k, m)


def sticking_the_landing(
    info: DataInfo, *, latent_dim: int | str = "auto", samples: int = 1, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the ELBO, its gradient without the score of q. (Roeder, Wu & Duvenaud 2017)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.StickingTheLanding(samples)


def dreg(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """IWAE with the doubly reparametrised gradient of the encoder. (Tucker et al. 2019)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.DReG(k)


def renyi(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, alpha: float = 0.5, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the Rényi bound of order alpha from k draws. (Li & Turner 2016)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.Renyi(alpha, k)


def vr_max(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the largest of k log-weights, which is no bound on log p(x). (Li & Turner 2016)"""
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.Renyi(-math.inf, k)


def tvo(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, partitions: int = 8, first: float = 0.03,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the thermodynamic bound of k draws, between ELBO and IWAE. (Masrani, Le & Wood 2019)"""
    model = _model(info, latent_dim, likelihood, variance, network, missing)
    return model, objectives.Thermodynamic(k, partitions, first)


def _model(
    info: DataInfo, latent_dim: int | str, likelihood: str, variance: float | str, network: str, missing: str
) -> nn.Module:
    """The model of the recipe ``vae``, for another objective."""
    return vae(
        info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network, missing=missing
    )[0]


def ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto"
) -> tuple[nn.Module, objectives.Objective]:
    """The plain autoencoder: point-mass posterior, squared error. No bound on log p(x). (Rumelhart et al. 1986)"""
    size = latent_size(info, latent_dim)
    model = models.VAE(
        priors.StandardNormal(size),
        posterior_for(info, size, "point", network, "shared"),
        likelihood_for(info, size, "auto" if info.is_table else "normal", network, variance=1.0),
    )
    return model, objectives.ELBO(beta=0.0)
