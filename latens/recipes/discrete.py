"""Codes that are categories, entries of a book, or partly so."""

from __future__ import annotations

import math

import torch
from torch import nn

from latens import conditionals, models, objectives, priors
from latens.errors import is_number, require, require_count
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for
from latens.recipes.choices.grids import grid_encoder, grid_likelihood, grids_for
from latens.tensors import trees

Built = tuple[nn.Module, objectives.Objective]


def _categories(
    info: DataInfo, latent_dim: int | str, categories: int, temperature: float | None, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """latent_dim one-hot variables; draws carry a straight-through gradient where there is a temperature."""
    size = latent_size(info, latent_dim)
    prior = priors.UniformCategories(size, categories)
    posterior = conditionals.OneHotPosterior(
        encoder(info, [size * categories], network), categories, temperature, info.reads
    )
    return models.VAE(prior, posterior, likelihood_for(info, size * categories, likelihood, network, variance))


def gumbel_softmax(
    info: DataInfo, *, latent_dim: int | str = "auto", categories: int = 10, temperature: float = 0.67,
    prior_temperature: float = 0.5, beta: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim categorical variables relaxed to the simplex; the bound is one on the relaxed model. (Jang, Gu & Poole
    2017; Maddison, Mnih & Teh 2017)"""
    size = latent_size(info, latent_dim)
    prior = priors.UniformCategories(size, categories, prior_temperature)
    posterior = conditionals.RelaxedPosterior(
        encoder(info, [size * categories], network), categories, temperature, info.reads
    )
    likely = likelihood_for(info, size * categories, likelihood, network, variance)
    return models.VAE(prior, posterior, likely), objectives.ELBO(beta)


def straight_through(
    info: DataInfo, *, latent_dim: int | str = "auto", categories: int = 10, temperature: float = 1.0,
    beta: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim categorical variables, the gradient that of their relaxation. (Bengio, Leonard & Courville 2013; Jang,
    Gu & Poole 2017)"""
    require(temperature is not None, "temperature", "a positive number", temperature)
    model = _categories(info, latent_dim, categories, temperature, likelihood, variance, network)
    return model, objectives.ELBO(beta)


def reinforce(
    info: DataInfo, *, latent_dim: int | str = "auto", categories: int = 10, samples: int = 4, beta: float = 1.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim categorical variables, the gradient a score function whose baseline is the other draws. (Williams
    1992; Kool, van Hoof & Welling 2019)"""
    model = _categories(info, latent_dim, categories, None, likelihood, variance, network)
    return model, objectives.Reinforce(beta, samples)


def vimco(
    info: DataInfo, *, latent_dim: int | str = "auto", categories: int = 10, k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim categorical variables under the importance-weighted bound, by score functions. (Mnih & Rezende
    2016)"""
    model = _categories(info, latent_dim, categories, None, likelihood, variance, network)
    return model, objectives.Vimco(k)


def _quantised(
    info: DataInfo, book: conditionals.Codebook, net: nn.Module, likely: nn.Module, positions: int,
    layout: tuple[int, int] | None = None,
) -> models.VAE:  # fmt: skip
    """Nearest codes of one book at each position; the book begins with the codes of the sample of rows."""
    posterior = conditionals.NearestCode(net, book, info.reads)
    if info.sample is not None:
        rows = slice(0, 2048 if layout is None else 256)
        with torch.no_grad():
            before = posterior(info.sample[rows], trees.take(info.sample_c, rows)).before
        book.start(before.reshape(-1, book.codes.shape[-1]))
    return models.VAE(priors.UniformCodesPrior(book, positions, layout), posterior, likely)


def _string(
    info: DataInfo, book: conditionals.Codebook, positions: int, likelihood: str, variance: float | str, network: str
) -> models.VAE:
    """Codes in a row, each of all the data."""
    size = positions * book.codes.shape[-1]
    likely = likelihood_for(info, size, likelihood, network, variance)
    return _quantised(info, book, encoder(info, [size], network), likely, positions)


def vq(
    info: DataInfo, *, latent_dim: int | str = "auto", codes: int = 64, code_dim: int = 4, commitment: float = 0.25,
    decay: float | None = 0.99, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim nearest codes of a book of moving averages, dead codes restarted; without decay moved by the gradient.
    (van den Oord, Vinyals & Kavukcuoglu 2017)"""
    book = conditionals.Codebook(1, codes, code_dim, decay)
    model = _string(info, book, latent_size(info, latent_dim), likelihood, variance, network)
    objective = objectives.ELBO() + commitment * objectives.Commitment()
    return model, objective if decay is not None else objective + objectives.CodebookLoss()


def vq_grid(
    info: DataInfo, *, latent_dim: int | str = 8, halvings: int | str = "auto", codes: int = 64,
    commitment: float = 0.25, decay: float = 0.99, likelihood: str = "auto", variance: float | str = "optimal",
) -> Built:  # fmt: skip
    """As vq for images: a nearest code of latent_dim numbers for each position of a grid, which convolutions halve so
    many times. (van den Oord, Vinyals & Kavukcuoglu 2017)"""
    size, sizes = latent_size(info, latent_dim), grids_for(info, halvings)
    book, (rows, columns) = conditionals.Codebook(1, codes, size, decay), sizes[-1]
    likely = grid_likelihood(info, sizes, size, likelihood, variance)
    model = _quantised(info, book, grid_encoder(info, sizes, size), likely, rows * columns, (rows, columns))
    return model, objectives.ELBO() + commitment * objectives.Commitment()


def residual_vq(
    info: DataInfo, *, latent_dim: int | str = "auto", levels: int = 3, codes: int = 32, code_dim: int = 4,
    commitment: float = 0.25, decay: float = 0.99, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    """As vq, each code the sum of one a level, of what the levels before left over. (Zeghidour et al. 2021; Lee et al.
    2022)"""
    book = conditionals.Codebook(levels, codes, code_dim, decay)
    model = _string(info, book, latent_size(info, latent_dim), likelihood, variance, network)
    return model, objectives.ELBO() + commitment * objectives.Commitment()


def fsq(
    info: DataInfo, *, latent_dim: int | str = "auto", levels: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim numbers, each rounded to one of a few levels: a grid of codes and no book. (Mentzer et al. 2024)"""
    size = latent_size(info, latent_dim)
    posterior = conditionals.FiniteScalars(encoder(info, [size], network), levels, info.reads)
    prior = priors.UniformCodesPrior(priors.FiniteGrid(levels), size)
    return models.VAE(prior, posterior, likelihood_for(info, size, likelihood, network, variance)), objectives.ELBO()


def _numbers_and_categories(
    info: DataInfo, latent_dim: int | str, variables: int, categories: int, temperature: float, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """latent_dim normal numbers beside categorical variables."""
    require_count(variables, "variables")
    size = latent_size(info, latent_dim)
    net = encoder(info, [2 * size, variables * categories], network)
    posterior = conditionals.NormalAndCategoriesPosterior(net, size, categories, temperature, info.reads)
    likely = likelihood_for(info, size + variables * categories, likelihood, network, variance)
    return models.VAE(priors.NormalAndCategoriesPrior(size, variables, categories), posterior, likely)


def joint_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", variables: int = 1, categories: int = 10,
    temperature: float = 1.0, beta: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    """Latent_dim normal numbers beside categorical variables with a straight-through gradient. (Dupont 2018)"""
    model = _numbers_and_categories(
        info, latent_dim, variables, categories, temperature, likelihood, variance, network
    )  # fmt: skip
    return model, objectives.ELBO(beta)


def joint_capacity_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", variables: int = 1, categories: int = 10,
    temperature: float = 1.0, capacity: float = 25.0, category_capacity: float | str = "auto", weight: float = 100.0,
    warmup: float = 0.5, likelihood: str = "auto", variance: float | str = 1.0, network: str = "auto",
) -> Built:  # fmt: skip
    """As joint_vae, the rates of the numbers and of the categories each held at a capacity that grows from 0 over the
    first part of training; the categories' can at most be what they hold. (Dupont 2018)"""
    model = _numbers_and_categories(
        info, latent_dim, variables, categories, temperature, likelihood, variance, network
    )  # fmt: skip
    most = variables * math.log(categories)
    asked = most if category_capacity == "auto" else category_capacity
    good = is_number(asked) and 0 <= float(asked) <= most
    require(good, "category_capacity", f"'auto' or nats from 0 to variables x ln categories = {most:.4g}", asked)
    return model, objectives.RateTargets([capacity, float(asked)], weight, warmup)
