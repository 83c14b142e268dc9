"""Sequences: steps of time, rows of an image from the top, cells of a vector in their order."""

from __future__ import annotations

from torch import nn

from latens import models, objectives
from latens.recipes.choices import DataInfo, latent_size, prior_for
from latens.recipes.choices.sequences import recurrent_model, sequence_likelihood, sequence_posterior, steps_for


def sequence_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """One code for a whole sequence; recurrent networks, or convolutions over time. (Fabius & van Amersfoort 2015)"""
    size, kind = latent_size(info, latent_dim), steps_for(info, network)
    model = models.VAE(
        prior_for(info, size, "standard"), sequence_posterior(info, size, kind),
        sequence_likelihood(info, size, kind, likelihood, variance),
    )  # fmt: skip
    if kind == "recurrent":
        model.compile_mode = "off"  # type: ignore[assignment]  # torch's recurrent layers cannot be captured
    return model, objectives.ELBO(beta)


def vrnn(
    info: DataInfo, *, latent_dim: int | str = 4, width: int = 64, free_bits: float = 0.0, beta: float = 1.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """A code for each step, given a recurrent state of all data and codes before it. (Chung et al. 2015)"""
    size, kind = latent_size(info, latent_dim), steps_for(info, network)
    return recurrent_model(info, size, width, kind, likelihood, variance), objectives.elbo_with(free_bits, beta)
