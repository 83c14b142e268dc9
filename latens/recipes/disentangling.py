"""The VAE with a rate that is asked for, or with a penalty on how its codes hang together."""

from __future__ import annotations

from torch import nn

from latens import networks, objectives
from latens.errors import is_number, require
from latens.recipes.bounds import vae
from latens.recipes.choices import DataInfo


def capacity_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", capacity: float = 25.0, weight: float = 100.0,
    warmup: float = 0.5, likelihood: str = "auto", variance: float | str = 1.0, network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE whose rate is held at a capacity that grows from 0 over the first part of training, at a fixed
    observation variance. (Burgess et al. 2018)"""
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.RateTarget(capacity, weight, warmup)


def rate_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", rate: float = 10.0, weight: float = 100.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the lowest distortion at a given rate: a point of the rate-distortion curve. (Alemi et al. 2018)"""
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.RateTarget(rate, weight)


def beta_tc_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 6.0, weighting: str = "stratified",
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the total correlation in its rate weighted by beta, estimated from the batch with "stratified" or
    "weighted" shares. (Chen et al. 2018)"""
    require(is_number(beta) and beta >= 1, "beta", "a number from 1", beta)
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objective + (beta - 1) * objectives.TotalCorrelation(info.rows, weighting)


def factor_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", gamma: float = 5.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with gamma times the total correlation of its codes, as a critic sees it. (Kim & Mnih 2018)"""
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    critic = networks.mlp(model.prior.dim, 1)  # type: ignore[arg-type]
    return model, objective + gamma * objectives.CorrelationCritic(critic)


def dip_vae_i(
    info: DataInfo, *, latent_dim: int | str = "auto", off: float = 10.0, diagonal: float = 100.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the covariance of its posterior means drawn to the identity. (Kumar et al. 2018)"""
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objective + 1.0 * objectives.CovariancePenalty(off, diagonal)


def dip_vae_ii(
    info: DataInfo, *, latent_dim: int | str = "auto", off: float = 10.0, diagonal: float = 10.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the covariance of its aggregate posterior drawn to the identity. (Kumar et al. 2018)"""
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objective + 1.0 * objectives.CovariancePenalty(off, diagonal, within=True)


def info_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", alpha: float = 0.5, weight: float = 100.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the rate weighted by 1 - alpha, and alpha + weight - 1 times the MMD between codes and prior; alpha
    = 1 is the MMD-VAE. (Zhao, Song & Ermon 2019)"""
    require(is_number(alpha) and alpha <= 1, "alpha", "a number up to 1", alpha)
    require(is_number(weight) and alpha + weight >= 1, "weight", "a number from 1 - alpha", weight)
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.ELBO(1 - alpha) + (alpha + weight - 1) * objectives.MMD()
