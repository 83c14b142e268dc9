"""Posteriors refined by Hamiltonian dynamics."""

from __future__ import annotations

from torch import nn

from latens import models, objectives
from latens.recipes.choices import DataInfo, latent_size, likelihood_for, posterior_for, prior_for
from latens.recipes.choices.dynamics import centroid_metric


def hvae(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 3, step_size: float = 0.05, tempering: float = 0.5,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with tempered leapfrog steps on its posterior draws. (Caterini, Doucet & Sejdinovic 2018)"""
    size = latent_size(info, latent_dim)
    parts = _parts(info, size, network, likelihood, variance)
    return models.Hamiltonian(*parts, steps=steps, step_size=step_size, tempering=tempering), objectives.ELBO()


def rhvae(
    info: DataInfo, *, latent_dim: int | str = 2, steps: int = 3, step_size: float = 0.01, tempering: float = 0.5,
    centroids: int = 20, temperature: float = 1.0, floor: float = 0.1, iterations: int = 3, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The same dynamics in a learned metric around the codes of some rows. (Chadebec, Mantoux & Allassonnière 2020)"""
    size = latent_size(info, latent_dim)
    parts = _parts(info, size, network, likelihood, variance)
    metric = centroid_metric(info, size, network, centroids, temperature, floor)
    options = {"steps": steps, "step_size": step_size, "tempering": tempering, "iterations": iterations}
    return models.RiemannianHamiltonian(*parts, metric, **options), objectives.ELBO()  # type: ignore[arg-type]


def annealed(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 5, step_size: float = 0.05, keep: float = 0.5,
    power: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE whose draws are annealed from q to p(z|x) by leapfrog steps. (Geffner & Domke 2021; Zhang et al. 2021)"""
    size = latent_size(info, latent_dim)
    parts = _parts(info, size, network, likelihood, variance)
    model = models.Hamiltonian(*parts, steps=steps, step_size=step_size, anneal=True, keep=keep, power=power)
    return model, objectives.ELBO()


def _parts(
    info: DataInfo, size: int, network: str, likelihood: str, variance: float | str
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """(prior, posterior, likelihood) before any dynamics."""
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    return prior_for(info, size, "standard"), posterior, likelihood_for(info, size, likelihood, network, variance)
