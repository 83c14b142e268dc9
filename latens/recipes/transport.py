"""Autoencoders whose codes are held against draws from the prior by a distance between samples."""

from __future__ import annotations

from torch import nn

from latens import objectives
from latens.recipes.bounds import ae
from latens.recipes.choices import DataInfo


def wae_mmd(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 100.0
) -> tuple[nn.Module, objectives.Objective]:
    """The autoencoder with the MMD between codes and N(0, I). (Tolstikhin et al. 2018)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    return model, objective + weight * objectives.MMD()


def sliced_wae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 100.0,
    directions: int = 50,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The autoencoder with the sliced Wasserstein distance between codes and N(0, I). (Kolouri et al. 2019)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    return model, objective + weight * objectives.SlicedWasserstein(directions)


def sinkhorn_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 10.0,
    epsilon: float = 1.0, iterations: int = 30,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The autoencoder with the Sinkhorn divergence between codes and N(0, I). (Patrini et al. 2019)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    return model, objective + weight * objectives.Sinkhorn(epsilon, iterations)
