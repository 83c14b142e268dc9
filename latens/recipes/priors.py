"""The VAE under other priors of the codes, learned with the model."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, networks, objectives, priors
from latens.recipes.choices import (
    DataInfo,
    encoder,
    latent_size,
    likelihood_for,
    posterior_for,
    prior_for,
    pseudo_inputs_for,
    rows_for,
)
from latens.recipes.choices.parts import condition_for

Built = tuple[nn.Module, objectives.Objective]


def mixture(
    info: DataInfo, *, latent_dim: int | str = "auto", components: int = 32, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A learned mixture of normals as the prior, one of its own for each condition. (Jiang et al. 2017)"""
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = prior_for(info, size, "mixture", components)
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def vamp(
    info: DataInfo, *, latent_dim: int | str = "auto", components: int | str = "auto", likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """The mixture of the model's own posteriors at learned pseudo-inputs as the prior. (Tomczak & Welling 2018)"""
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = priors.Vamp(posterior, *pseudo_inputs_for(info, components))
    return _model(info, size, prior, posterior, likelihood, variance, network), objectives.ELBO()


def hierarchical_vamp(
    info: DataInfo, *, latent_dim: int | str = "auto", second_dim: int = 8, components: int | str = "auto",
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Two groups of codes, q(a|x) q(b|x, a) and p(a) p(b|a): a under a vamp prior in latent_dim dimensions, b in
    second_dim, both decoded. (Tomczak & Welling 2018)"""
    a, b, hidden = latent_size(info, latent_dim), latent_size(info, second_dim, "second_dim"), 64
    first = posterior_for(info, a, "diagonal", network, "shared")
    context = conditionals.PointMassPosterior(encoder(info, [hidden], network), info.reads)
    second = conditionals.DiagonalNormalPosterior(networks.mlp(hidden + a, 2 * b, (hidden,)))
    posterior = conditionals.ChainedPosterior(first, context, second, b)
    vamped = priors.Vamp(first, *pseudo_inputs_for(info, components))
    prior = priors.ChainedPrior(vamped, conditionals.DiagonalNormalPosterior(networks.mlp(a, 2 * b, (hidden,))), b)
    return _model(info, a + b, prior, posterior, likelihood, variance, network), objectives.ELBO()


def exemplar(
    info: DataInfo, *, latent_dim: int | str = "auto", components: int | str = "auto", likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """Normals of one learned width around the codes of training rows as the prior, each row's own left out while
    training; those rows are saved with the model. (Norouzi, Fleet & Norouzi 2020)"""
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = priors.Exemplar(posterior, *rows_for(info, components))
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def flow_prior(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 4, bins: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """A flow of spline couplings as the prior, that of the condition where there is one. (Chen et al. 2017; Durkan et
    al. 2019)"""
    size, condition = latent_size(info, latent_dim), condition_for(info)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    seen = None if condition is None else networks.OnCondition(nn.Identity(), condition)
    context = 0 if condition is None else condition.features
    prior = priors.FlowPrior(size, steps, bins, network=seen, context=context, reads=info.reads)
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def resampled(
    info: DataInfo, *, latent_dim: int | str = "auto", truncation: int = 100, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    """N(0, I) whose draws a learned network accepts or refuses as the prior (LARS). (Bauer & Mnih 2019)"""
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = priors.ResampledPrior(networks.mlp(size, 1, (64, 64)), size, truncation)
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def _model(
    info: DataInfo, size: int, prior: nn.Module, posterior: nn.Module, likelihood: str, variance: float | str,
    network: str, missing: str = "mar",
) -> nn.Module:  # fmt: skip
    return models.VAE(prior, posterior, likelihood_for(info, size, likelihood, network, variance, missing))
