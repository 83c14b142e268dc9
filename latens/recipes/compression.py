"""Codes that can be rounded and written down: noise in the place of rounding, and what their prior needs to be told."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, networks, objectives, priors
from latens.errors import is_whole, require
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, network_name, through
from latens.recipes.choices.hierarchy import block


def hyperprior(
    info: DataInfo, *, latent_dim: int | str = "auto", hyper_dim: int | str = "auto", components: int = 8,
    beta: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
    missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Codes with noise in the place of rounding, their scales told by hyper_dim codes more, which have a learned prior:
    the rate is the length of a code in nats. (Ballé et al. 2018)"""
    size = latent_size(info, latent_dim)
    hyper = max(1, size // 4) if hyper_dim == "auto" else hyper_dim
    require(is_whole(hyper) and int(hyper) >= 1, "hyper_dim", "'auto' or a whole number from 1", hyper_dim)
    scales = conditionals.DitheredNormal(block(int(hyper), size, network_name(info, network)))
    prior = priors.ChainedPrior(priors.DitheredMixturePrior(int(hyper), components), scales, size)
    posterior = conditionals.UnitUniformPosterior(encoder(info, [int(hyper), size], network), info.reads)
    likely = likelihood_for(info, size, likelihood, network, variance, missing)
    return models.VAE(prior, posterior, through(networks.Last(size), likely)), objectives.ELBO(beta)
