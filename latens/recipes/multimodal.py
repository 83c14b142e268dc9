"""Several modalities of one row, any of which may be missing.

The recipes cut one array or table into ``modalities`` pieces (rows of images from the top, stretches of sequences,
columns in their order); for a mapping of modalities put the same parts together in Python.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from latens import conditionals, models, objectives, priors
from latens.errors import is_number, require
from latens.recipes.choices import DataInfo, latent_size, posterior_for
from latens.recipes.choices.modalities import modality_parts


def poe(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Product of experts and prior, trained with each modality alone too: the MVAE. (Wu & Goodman 2018)"""
    kind = conditionals.ProductOfExperts
    model = _of_experts(info, kind, latent_dim, modalities, likelihood, variance, network)
    return model, objectives.ELBOWithSingles(beta)


def moe(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, k: int = 1, likelihood: str = "auto",
    variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Mixture of experts under the importance-weighted bound of k draws: the MMVAE. (Shi et al. 2019)"""
    kind = conditionals.MixtureOfExperts
    return _of_experts(info, kind, latent_dim, modalities, likelihood, variance, network), objectives.IWAE(k)


def mopoe(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Mixture over all subsets of modalities of the products of their experts. (Sutter, Daunhawer & Vogt 2021)"""
    kind = conditionals.MixtureOfProducts
    return _of_experts(info, kind, latent_dim, modalities, likelihood, variance, network), objectives.ELBO(beta)


def _of_experts(
    info: DataInfo, kind: Callable[..., nn.Module], latent_dim: int | str, modalities: int, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """The model whose posterior is put together from one expert a modality."""
    size = latent_size(info, latent_dim)
    experts, given, pieces = modality_parts(info, size, modalities, network, likelihood, variance)
    return models.VAE(priors.StandardNormal(size), kind(experts, pieces), given)


def joint(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, agreement: float = 0.1,
    likelihood: str = "auto", variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """One posterior of all modalities, and one of each that learns to agree with it: the JMVAE.
    (Suzuki, Nakayama & Matsuo 2016)"""
    require(is_number(agreement) and agreement >= 0, "agreement", "a number from 0", agreement)
    size = latent_size(info, latent_dim)
    experts, given, pieces = modality_parts(info, size, modalities, network, likelihood, variance)
    posterior = conditionals.JointAndSingles(experts, posterior_for(info, size, "diagonal", network, "shared"), pieces)
    model = models.VAE(priors.StandardNormal(size), posterior, given)
    return model, objectives.ELBO() + agreement * objectives.Agreement()
