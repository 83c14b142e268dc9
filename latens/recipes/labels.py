"""Labels: given, or known for some rows only."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, objectives
from latens.errors import InputError
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, posterior_for, prior_for
from latens.recipes.choices.classes import with_class


def cvae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """Prior, posterior and likelihood given a condition, as p(x|c). (Sohn, Lee & Yan 2015)"""
    if not info.conditions:
        raise InputError("cvae models the data given a condition, and none is named: name a column with --condition")
    size = latent_size(info, latent_dim)
    model = models.VAE(
        prior_for(info, size, "conditional"), posterior_for(info, size, "diagonal", network, "shared"),
        likelihood_for(info, size, likelihood, network, variance),
    )  # fmt: skip
    return model, objectives.ELBO(beta)


def m2(
    info: DataInfo, *, latent_dim: int | str = "auto", classes: int | str = "auto", classification: float = 10.0,
    likelihood: str = "auto", variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """A class beside the codes, the first condition, which may be missing in some or all rows: it classifies them.
    (Kingma et al. 2014)"""
    size = latent_size(info, latent_dim)
    whole, without, name, count = with_class(info, classes)
    if variance == "optimal":
        raise InputError("the optimal variance needs one draw a row, and m2 has one a class: use 'learned' or a number")
    parts = (prior_for(without, size, "standard"), posterior_for(whole, size, "diagonal", network, "shared"),
             likelihood_for(whole, size, likelihood, network, variance),
             conditionals.Features(encoder(without, [count], network), without.reads))  # fmt: skip
    return models.Classified(*parts, count, name), objectives.SemiSupervisedELBO(classification)
