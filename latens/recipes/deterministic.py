"""Autoencoders without a density of the code: what keeps their codes usable is a penalty."""

from __future__ import annotations

from torch import nn

from latens import objectives, priors
from latens.errors import InputError
from latens.recipes.bounds import ae
from latens.recipes.choices import DataInfo, linear_units, standardisation


def rae_l2(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", code_weight: float = 1.0,
    weight: float = 1e-3,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The autoencoder with small codes (-ln p(z)) and small decoder weights. (Ghosh et al. 2020)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    return model, objective + code_weight * objectives.CodeEnergy() + weight * objectives.DecoderWeights()


def rae_gp(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", code_weight: float = 1.0,
    weight: float = 0.1,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The autoencoder with small codes and a decoder that changes slowly with the code. (Ghosh et al. 2020)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    model.compile_mode = "off"  # type: ignore[assignment]
    return model, objective + code_weight * objectives.CodeEnergy() + weight * objectives.DecoderJacobian()


def denoising_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", hidden: float = 0.25, noise: float = 0.0
) -> tuple[nn.Module, objectives.Objective]:
    """The autoencoder that sees a share of the cells, or noisy ones, and gives back all. (Vincent et al. 2008)"""
    if noise and info.is_table:
        raise InputError("noise is for arrays of one kind of numbers; in a table hide cells instead: hidden")
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    unit = 1.0 if info.is_table else standardisation(info)[1]
    return model, objectives.Denoising(objective, hidden, noise, unit)


def contractive_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    """The autoencoder whose code changes slowly with the datum: |dz/dx|^2 as a penalty. (Rifai et al. 2011)"""
    unit = linear_units(info, "the code cannot be followed along it: use rae_l2, denoising_ae or sparse_ae")
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    model.compile_mode = "off"  # type: ignore[assignment]
    return model, objective + weight * objectives.EncoderJacobian(unit)


def sparse_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", code_weight: float = 1.0,
    weight: float = 1e-3,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The autoencoder with a Laplace prior, whose energy is the L1 norm of the code, and small decoder weights, without
    which codes would shrink to nothing. (Olshausen & Field 1996)"""
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    model.prior = priors.Laplace(model.prior.dim)  # type: ignore[arg-type]
    return model, objective + code_weight * objectives.CodeEnergy() + weight * objectives.DecoderWeights()
