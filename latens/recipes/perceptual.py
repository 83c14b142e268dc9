"""Images compared as people see them: scores of likeness and no likelihoods, so no bound on ln p(x)."""

from __future__ import annotations

from torch import nn

from latens import models, objectives, priors
from latens.recipes.choices import DataInfo, latent_size, perceptual_for, posterior_for

Built = tuple[nn.Module, objectives.Objective]


def _alike(info: DataInfo, latent_dim: int | str, network: str, score: str, weight: float, beta: float) -> Built:
    size = latent_size(info, latent_dim)
    likeness = perceptual_for(info, size, network, score, weight)
    model = models.VAE(priors.StandardNormal(size), posterior_for(info, size, "diagonal", network, "shared"), likeness)
    return model, objectives.ELBO(beta)


def ms_ssim(
    info: DataInfo, *, latent_dim: int | str = "auto", weight: float = 1.0, beta: float = 1.0, network: str = "auto"
) -> Built:
    """The VAE of images with the structural similarity at several scales in the place of a likelihood. (Snell et al.
    2017)"""
    return _alike(info, latent_dim, network, "ms_ssim", weight, beta)


def feature_reconstruction(
    info: DataInfo, *, latent_dim: int | str = "auto", weight: float = 1.0, beta: float = 1.0, network: str = "auto"
) -> Built:
    """The VAE of images with the distance of features, of a fixed random network, in the place of a likelihood. (Hou et
    al. 2017)"""
    return _alike(info, latent_dim, network, "features", weight, beta)
