"""Models with a critic: of their codes, or of the data they make. Their last weights are served."""

from __future__ import annotations

from torch import nn

from latens import models, networks, objectives, priors
from latens.errors import InputError
from latens.recipes.bounds import ae, vae
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, standardisation

FEATURES = 64  # of a datum, that a critic's odds are made from


def aae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    """The autoencoder whose codes a critic cannot tell from draws of N(0, I). (Makhzani et al. 2016)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    critic = networks.mlp(model.prior.dim, 1)  # type: ignore[arg-type]
    return model, objective + weight * objectives.PriorCritic(critic)


def wae_gan(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 10.0
) -> tuple[nn.Module, objectives.Objective]:
    """The adversarial autoencoder with a critic that knows the density of N(0, I). (Tolstikhin et al. 2018)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    critic = networks.mlp(model.prior.dim, 1)  # type: ignore[arg-type]
    return model, objective + weight * objectives.PriorCritic(critic, known=True)


def vae_gan(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    """The VAE that reconstructs a critic's features, its decoder also a generator that the critic watches.
    (Larsen et al. 2016)"""
    critic = _critic(info, network)
    model, _ = vae(info, latent_dim=latent_dim, likelihood="normal", network=network, prior="standard")
    return model, objectives.FeatureELBO(critic, weight)


def gan(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", slope: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    """A generator and a critic whose slope is kept small, no posterior: the other kind of generative model.
    (Goodfellow et al. 2014; Mescheder et al. 2018)"""
    critic, size = _critic(info, network), latent_size(info, latent_dim)
    decoder = likelihood_for(info, size, "normal", network, variance=1.0)
    model = models.Generator(priors.StandardNormal(size), decoder)
    model.compile_mode = "off" if slope else "full"  # type: ignore[assignment]
    return model, objectives.Adversarial(critic, slope, standardisation(info)[1])


def _critic(info: DataInfo, network: str) -> objectives.DataCritic:
    if info.is_table or info.schema.kind == "count":
        raise InputError(
            "a critic of data needs arrays of numbers or pixels, through which it can move a generator; for tables and "
            "counts use vae, aae or wae_gan"
        )
    head = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, 1))
    return objectives.DataCritic(encoder(info, [FEATURES], network), head, info.reads)
