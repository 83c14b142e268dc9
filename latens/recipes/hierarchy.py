"""Hierarchies of codes."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, objectives, priors
from latens.errors import is_number, is_whole, require
from latens.recipes.choices import DataInfo, latent_size, likelihood_for, posterior_for
from latens.recipes.choices.hierarchy import block, layer_sizes, markov_ladder, residual_ladder
from latens.recipes.choices.info import network_name


def ladder(
    info: DataInfo, *, latent_dim: int | str = "auto", layers: int = 3, free_bits: float = 0.0, beta: float = 1.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The ladder VAE: layers of codes, each given the one above; q is the prior times what x says.
    (Sønderby et al. 2016)"""
    sizes = layer_sizes(info, latent_size(info, latent_dim), layers)
    return markov_ladder(info, sizes, network, likelihood, variance), objectives.elbo_with(free_bits, beta)


def deep_ladder(
    info: DataInfo, *, latent_dim: int | str = 2, depth: int = 1, free_bits: float = 0.0, beta: float = 1.0,
    spectral: float = 0.0, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Many layers of codes beside one stream of features, on grids from one cell to the whole image; latent_dim numbers
    a cell, depth layers a grid; spectral weighs the sum of the maps' largest singular values. (Vahdat & Kautz 2020;
    Child 2021)"""
    require(is_whole(depth) and 1 <= depth <= 50, "depth", "a whole number from 1 to 50", depth)
    network = "conv" if network == "auto" and info.schema.is_image else network_name(info, network)
    require(is_number(spectral) and spectral >= 0, "spectral", "a number from 0", spectral)
    model = residual_ladder(info, latent_size(info, latent_dim), depth, network, likelihood, variance)
    objective = objectives.elbo_with(free_bits, beta)
    return model, objective + spectral * objectives.SpectralNorms() if spectral else objective


def two_stage(
    info: DataInfo, *, latent_dim: int | str = "auto", likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """A VAE, and a second one of its codes, from which samples come. (Dai & Wipf 2019)"""
    size = latent_size(info, latent_dim)
    kind = "linear" if network == "linear" else "mlp"
    second = models.VAE(
        priors.StandardNormal(size), conditionals.DiagonalNormalPosterior(block(size, 2 * size, kind, 256)),
        conditionals.NormalLikelihood(block(size, size, kind, 256), variance="learned"),
    )  # fmt: skip
    model = models.TwoStage(
        priors.StandardNormal(size), posterior_for(info, size, "diagonal", network, "shared"),
        likelihood_for(info, size, likelihood, network, variance), second,
    )  # fmt: skip
    return model, objectives.TwoStageELBO()
