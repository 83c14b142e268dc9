"""The VAE with richer posteriors than a diagonal normal."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from latens import conditionals, models, objectives
from latens.errors import is_whole, require, require_count
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, posterior_for, prior_for

Built = tuple[nn.Module, objectives.Objective]


def full_covariance(
    info: DataInfo, *, latent_dim: int | str = "auto", likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A normal posterior with a full covariance, by its Cholesky factor. (Kingma & Welling 2019)"""
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "full", network, "shared")
    return _model(info, size, posterior, likelihood, variance, network, missing), objectives.ELBO()


def low_rank(
    info: DataInfo, *, latent_dim: int | str = "auto", rank: int = 2, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A normal posterior whose covariance is a diagonal plus rank directions. (Ong, Nott & Smith 2018)"""
    size = latent_size(info, latent_dim)
    require(is_whole(rank) and 1 <= rank <= size, "rank", f"a whole number from 1 to latent_dim = {size}", rank)
    net = encoder(info, [size, size, size * rank], network)
    posterior = conditionals.LowRankNormalPosterior(net, rank, info.reads)
    return _model(info, size, posterior, likelihood, variance, network, missing), objectives.ELBO()


def planar(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A posterior bent by planar steps, their numbers given by the encoder. (Rezende & Mohamed 2015)"""
    size = latent_size(info, latent_dim)
    bends = [conditionals.PlanarStep(size) for _ in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def radial(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A posterior bent by radial steps, their numbers given by the encoder. (Rezende & Mohamed 2015)"""
    size = latent_size(info, latent_dim)
    bends = [conditionals.RadialStep(size) for _ in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def iaf(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 2, context: int = 16, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A posterior of inverse autoregressive steps, which see context numbers of the encoder. (Kingma et al. 2016)"""
    size = latent_size(info, latent_dim)
    bends = [conditionals.AutoregressiveStep(size, context, reverse=bool(n % 2)) for n in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def neural_spline(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 2, bins: int = 8, context: int = 16,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A posterior of autoregressive rational quadratic splines, which see context numbers of the encoder. (Durkan et
    al. 2019)"""
    require_count(bins, "bins", 2)
    size = latent_size(info, latent_dim)
    bends = [conditionals.AutoregressiveStep(size, context, bins, reverse=bool(n % 2)) for n in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def semi_amortised(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 4, rate: float = 0.3, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """The encoder's normal posterior improved by a few gradient steps for each datum. (Kim et al. 2018)"""
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    likely = likelihood_for(info, size, likelihood, network, variance, missing)
    prior = prior_for(info, size, "auto")
    return models.SemiAmortised(prior, posterior, likely, size, steps=steps, rate=rate), objectives.ELBO()


def _count(steps: int) -> int:
    require_count(steps, "steps")
    return int(steps)


def _bent(
    info: DataInfo, size: int, bends: Sequence[conditionals.FlowStep], likelihood: str, variance: float | str,
    network: str, missing: str,
) -> nn.Module:  # fmt: skip
    """The model whose posterior is a diagonal normal bent by steps, their numbers given by the encoder."""
    net = encoder(info, [size, size, *(bend.width for bend in bends)], network)
    posterior = conditionals.FlowPosterior(net, size, bends, info.reads)
    return _model(info, size, posterior, likelihood, variance, network, missing)


def _model(
    info: DataInfo, size: int, posterior: nn.Module, likelihood: str, variance: float | str, network: str, missing: str
) -> nn.Module:
    likely = likelihood_for(info, size, likelihood, network, variance, missing)
    return models.VAE(prior_for(info, size, "auto"), posterior, likely)
