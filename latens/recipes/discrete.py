"""Codes that are categories or entries of a codebook, wholly or in part."""

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
    """latent_dim one-hot variables; if a temperature is given, draws carry a straight-through gradient."""
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
    r"""Categorical codes relaxed to the simplex by Gumbel noise.

    Each variable is drawn as a softmax of its log-probabilities plus Gumbel noise, so that gradients can pass. Prior
    and posterior are the densities of these relaxed draws, so the bound belongs to the relaxed model.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \beta\, (\ln p(z) - \ln q(z|x))]

        z_v = \mathrm{softmax}((\ln \pi_v(x) + \text{Gumbel noise}) / \tau)

    Use it when codes should be nearly categorical and gradients must flow. After 468 steps on Fashion-MNIST it was the
    worst of the categorical recipes, 75 nats behind straight_through.

    Args:
        latent_dim: Number of categorical variables, a whole number from 1 to 65,536; auto: the smaller of 16 and the
            number of columns.
        categories: Categories of each variable, a whole number from 2.
        temperature: τ of the posterior, a number from 0.4 to 1,000; lower is nearer to categories and has noisier
            gradients.
        prior_temperature: τ of the prior, whose categories are equally likely, a number above 0, at most 1,000.

    References:
        * Jang, Gu & Poole (2017), Categorical reparameterization with Gumbel-softmax. ICLR
        * Maddison, Mnih & Teh (2017), The concrete distribution: A continuous relaxation of discrete random variables.
          ICLR
    """
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
    r"""Categorical codes with the gradient of their relaxation.

    Draws are one-hot; in the backward pass they have the gradient of the relaxed draw, which is biased but has little
    noise. The rate is exact.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta \sum_v \mathrm{KL}(q(z_v|x) \,\|\, \text{uniform})

    Use it when codes must be exact categories and the fit should be quick: it is as fast as vae. vimco is unbiased and
    has a better bound, but takes four times as long.

    Args:
        latent_dim: Number of categorical variables, a whole number from 1 to 65,536; auto: the smaller of 16 and the
            number of columns.
        categories: Categories of each variable, a whole number from 2.
        temperature: Temperature of the relaxation that gives the gradient, a number above 0.

    References:
        * Bengio, Léonard & Courville (2013), Estimating or propagating gradients through stochastic neurons for
          conditional computation. arXiv:1308.3432
        * Jang, Gu & Poole (2017), Categorical reparameterization with Gumbel-softmax. ICLR
    """
    require(temperature is not None, "temperature", "a positive number", temperature)
    model = _categories(info, latent_dim, categories, temperature, likelihood, variance, network)
    return model, objectives.ELBO(beta)


def reinforce(
    info: DataInfo, *, latent_dim: int | str = "auto", categories: int = 10, samples: int = 4, beta: float = 1.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""Categorical codes with an unbiased score-function gradient.

    The gradient of the encoder weights the score of each draw by how much better the draw is than the mean of the row's
    other draws, which is a baseline without parameters. The gradient is unbiased, but noisy.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta \sum_v \mathrm{KL}(q(z_v|x) \,\|\, \text{uniform})

        \text{gradient of the encoder:}\quad \tfrac{1}{K} \sum_{k} (f_k - \bar f_{-k})\, \nabla \ln q(z_k|x) - \beta\,
        \nabla \mathrm{KL}, \quad f = \ln p(x|z)

    Use it when the gradient must be unbiased, or a relaxation makes no sense. On Fashion-MNIST it is behind
    straight_through and vimco after 468 steps.

    Args:
        latent_dim: Number of categorical variables, a whole number from 1 to 65,536; auto: the smaller of 16 and the
            number of columns.
        categories: Categories of each variable, a whole number from 2.
        samples: K, the draws of z for each row, a whole number from 2.

    References:
        * Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning.
          Machine Learning 8
        * Kool, van Hoof & Welling (2019), Buy 4 REINFORCE samples, get a baseline for free! ICLR workshop
    """
    model = _categories(info, latent_dim, categories, None, likelihood, variance, network)
    return model, objectives.Reinforce(beta, samples)


def vimco(
    info: DataInfo, *, latent_dim: int | str = "auto", categories: int = 10, k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""Categorical codes under the importance-weighted bound.

    This is the bound of iwae for draws that carry no gradient. The score of each draw is weighted by the amount that
    the bound loses if the draw's weight is replaced by the geometric mean of the other weights. The gradient is
    unbiased.

    .. math::

        \text{maximise}\quad \mathbb{E}\, L, \quad L = \ln \tfrac{1}{k} \sum_{j=1}^{k} w_j

        \text{gradient of the encoder:}\quad \nabla L + \sum_{j=1}^{k} (L - L_{-j})\, \nabla \ln q(z_j|x)

    Use it when codes are categories and the likelihood of held-out rows matters: on Fashion-MNIST it has the best NLL
    of the recipes with purely discrete codes, but takes five times as long as vae.

    Args:
        latent_dim: Number of categorical variables, a whole number from 1 to 65,536; auto: the smaller of 16 and the
            number of columns.
        categories: Categories of each variable, a whole number from 2.
        k: Draws of z for each row, a whole number from 2.

    References:
        * Mnih & Rezende (2016), Variational inference for Monte Carlo objectives. ICML
    """
    model = _categories(info, latent_dim, categories, None, likelihood, variance, network)
    return model, objectives.Vimco(k)


def _quantised(
    info: DataInfo, book: conditionals.Codebook, net: nn.Module, likely: nn.Module, positions: int,
    layout: tuple[int, int] | None = None,
) -> models.VAE:  # fmt: skip
    """The nearest code of one codebook at each position. The codebook starts with encoder outputs of the sample of
    rows."""
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
    """A string of codes, each from an encoder that sees the whole row."""
    size = positions * book.codes.shape[-1]
    likely = likelihood_for(info, size, likelihood, network, variance)
    return _quantised(info, book, encoder(info, [size], network), likely, positions)


def vq(
    info: DataInfo, *, latent_dim: int | str = "auto", codes: int = 64, code_dim: int = 4, commitment: float = 0.25,
    decay: float | None = 0.99, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""Codes from a codebook of vectors: the nearest one at each position.

    The encoder gives a vector at each of V positions, and the nearest code of the codebook replaces it; in the backward
    pass the gradient goes straight through. Each code is a moving average of the vectors that choose it, and unused
    codes restart next to the most used one. The rate is the constant V ln K.

    .. math::

        \text{maximise}\quad \ln p(x|z) - V \ln K - a \sum_{v} \lVert f_v(x) - \mathrm{stop}(z_v) \rVert^2

        z_v = \text{the code nearest to}\ f_v(x) \ \text{of}\ e_1, \dots, e_K

    Use it when rows should become short strings of symbols, for storage or for a model of strings (`latens density RUN
    --kind autoregressive`). Draws from its uniform prior are poor until such a density is fitted.

    Args:
        latent_dim: V, the number of positions, a whole number from 1 to 65,536; auto: the smaller of 16 and the number
            of columns.
        codes: K, the number of codes in the codebook, a whole number from 2.
        code_dim: Dimensions of a code, a whole number from 1.
        commitment: a, the weight of the distance between the encoder's output and the codes, a number from 0.
        decay: Share of the moving averages that is kept in a step, a number between 0 and 1; none: the gradient moves
            the codes.

    References:
        * van den Oord, Vinyals & Kavukcuoglu (2017), Neural discrete representation learning. NeurIPS
    """
    book = conditionals.Codebook(1, codes, code_dim, decay)
    model = _string(info, book, latent_size(info, latent_dim), likelihood, variance, network)
    objective = objectives.ELBO() + commitment * objectives.Commitment()
    return model, objective if decay is not None else objective + objectives.CodebookLoss()


def vq_grid(
    info: DataInfo, *, latent_dim: int | str = 8, halvings: int | str = "auto", codes: int = 64,
    commitment: float = 0.25, decay: float = 0.99, likelihood: str = "auto", variance: float | str = "optimal",
) -> Built:  # fmt: skip
    r"""Vectors from a codebook, one for each position of a grid over an image.

    It is like vq, but convolutions halve the image until the grid is small, and then restore its size. Each code
    describes its part of the image.

    .. math::

        \text{maximise}\quad \ln p(x|z) - V \ln K - a \sum_{v} \lVert f_v(x) - \mathrm{stop}(z_v) \rVert^2

        z_v = \text{the code nearest to}\ f_v(x) \ \text{of}\ e_1, \dots, e_K, \quad v \ \text{a position of the grid}

    Use it when images should be reconstructed closely from few bits: on Fashion-MNIST its error is close to that of ae.
    Compared with vae, it has a sixteenth of the parameters and takes fifteen times the processor time. Samples need a
    density of its grids of codes (`latens density RUN --kind pixelcnn`).

    Args:
        latent_dim: Dimensions of a code, a whole number from 1 to 65,536.
        halvings: How often the sides of the image are halved, a whole number from 0; auto: until a side is near 7.
        codes: K, the number of codes in the codebook, a whole number from 2.
        commitment: a, the weight of the distance between the encoder's output and the codes, a number from 0.
        decay: Share of the moving averages that is kept in a step, a number between 0 and 1.

    References:
        * van den Oord, Vinyals & Kavukcuoglu (2017), Neural discrete representation learning. NeurIPS
    """
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
    r"""Codes from several codebooks; each encodes the error of those before it.

    It is like vq, but the vector at a position is the sum of one code from each of L codebooks, so that L codebooks of
    K codes describe K to the power L vectors. The rate is the constant V L ln K.

    .. math::

        \text{maximise}\quad \ln p(x|z) - V L \ln K - a \sum_{v} \lVert f_v(x) - \mathrm{stop}(z_v) \rVert^2

        z_v = e^1 + \dots + e^L, \quad e^l \ \text{nearest to}\ f_v(x) - e^1 - \dots - e^{l - 1}

    Use it when a single codebook would have to be very large, or when codes should have shorter, coarser versions. On
    Fashion-MNIST it reconstructs better than vq, with a higher rate and a worse NLL.

    Args:
        latent_dim: V, the number of positions, a whole number from 1 to 65,536; auto: the smaller of 16 and the number
            of columns.
        levels: L, the number of codebooks, a whole number from 1 to 1,000.
        codes: K, the number of codes in each codebook, a whole number from 2.
        code_dim: Dimensions of a code, a whole number from 1.
        commitment: a, the weight of the distance between the encoder's output and the codes, a number from 0.
        decay: Share of the moving averages that is kept in a step, a number between 0 and 1.

    References:
        * Zeghidour et al. (2021), SoundStream: An end-to-end neural audio codec. IEEE/ACM Transactions on Audio,
          Speech, and Language Processing 30
        * Lee et al. (2022), Autoregressive image generation using residual quantization. CVPR
    """
    book = conditionals.Codebook(levels, codes, code_dim, decay)
    model = _string(info, book, latent_size(info, latent_dim), likelihood, variance, network)
    return model, objectives.ELBO() + commitment * objectives.Commitment()


def fsq(
    info: DataInfo, *, latent_dim: int | str = "auto", levels: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""Numbers rounded to a few levels: a grid of codes without a codebook.

    Each output of the encoder is squeezed by tanh into [-1, 1] and rounded to one of a few evenly spaced levels; in the
    backward pass the gradient ignores the rounding. There is no codebook to learn, so no code can go unused. The rate
    is the constant Z ln levels.

    .. math::

        \text{maximise}\quad \ln p(x|z) - Z \ln \mathrm{levels}

        z = \mathrm{round}_{\mathrm{levels}}(\tanh f(x))

    Use it when discrete codes should be simple to train: there is no commitment and no restart. On Fashion-MNIST its
    NLL equals that of vq, and draws from its prior are the best of the discrete recipes.

    Args:
        levels: Levels of each dimension, a whole number from 2.

    References:
        * Mentzer et al. (2024), Finite scalar quantization: VQ-VAE made simple. ICLR
    """
    size = latent_size(info, latent_dim)
    posterior = conditionals.FiniteScalars(encoder(info, [size], network), levels, info.reads)
    prior = priors.UniformCodesPrior(priors.FiniteGrid(levels), size)
    return models.VAE(prior, posterior, likelihood_for(info, size, likelihood, network, variance)), objectives.ELBO()


def _numbers_and_categories(
    info: DataInfo, latent_dim: int | str, variables: int, categories: int, temperature: float, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """latent_dim normal numbers, and categorical variables next to them."""
    require_count(variables, "variables")
    size = latent_size(info, latent_dim)
    prior = priors.NormalAndCategoriesPrior(size, variables, categories)
    net = encoder(info, [2 * size, variables * categories], network)
    posterior = conditionals.NormalAndCategoriesPosterior(net, size, categories, temperature, info.reads)
    likely = likelihood_for(info, size + variables * categories, likelihood, network, variance)
    return models.VAE(prior, posterior, likely)


def joint_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", variables: int = 1, categories: int = 10,
    temperature: float = 1.0, beta: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    r"""Normal and categorical variables together in one code.

    Some codes are numbers, as in vae. Others are categories with a straight-through gradient, which can represent
    classes that numbers capture badly. Both rates are exact.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z, y|x)}[\ln p(x|z, y)] - \beta\, (\mathrm{KL}(q(z|x) \,\|\, \mathcal{N}(0,
        I)) + \mathrm{KL}(q(y|x) \,\|\, \text{uniform}))

    Use it when the data have both kinds of causes and no labels. The categories may remain unused: `latens report`
    shows whether they are used, and joint_capacity_vae makes them carry information. With labels, use m2.

    Args:
        latent_dim: Number of normal variables, a whole number from 1 to 65,536; auto: the smaller of 16 and the number
            of columns.
        variables: Number of categorical variables, a whole number from 1 to 1,000.
        categories: Categories of each variable, a whole number from 2.
        temperature: Temperature of the relaxation that gives the gradient, a number above 0.

    References:
        * Dupont (2018), Learning disentangled joint continuous and discrete representations. NeurIPS
    """
    model = _numbers_and_categories(
        info, latent_dim, variables, categories, temperature, likelihood, variance, network
    )  # fmt: skip
    return model, objectives.ELBO(beta)


def joint_capacity_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", variables: int = 1, categories: int = 10,
    temperature: float = 1.0, capacity: float = 25.0, category_capacity: float | str = "auto", weight: float = 100.0,
    warmup: float = 0.5, likelihood: str = "auto", variance: float | str = 1.0, network: str = "auto",
) -> Built:  # fmt: skip
    r"""Normal and categorical variables, whose rates grow to capacities.

    It is like joint_vae, but the rate of the numbers and the rate of the categories are each held at a target, so that
    the categories have to carry information. Targets grow from 0 over the first part of training. The observation
    variance is fixed.

    .. math::

        \text{minimise}\quad \mathbb{E}_x\, \mathbb{E}_{q}[-\ln p(x|z, y)] + \gamma\, |R_z - s\, C_z| + \gamma\, |R_y -
        s\, C_y|

        s = \min(1, t / (\mathrm{warmup} \cdot T)) \ \text{at step}\ t \ \text{of}\ T, \quad R \ \text{the mean rates}

    Use it when categories should be used, and factors should emerge one after another. This costs likelihood: on
    Fashion-MNIST its NLL is 48 nats above that of joint_vae.

    Args:
        latent_dim: Number of normal variables, a whole number from 1 to 65,536; auto: the smaller of 16 and the number
            of columns.
        variables: Number of categorical variables, a whole number from 1 to 1,000.
        categories: Categories of each variable, a whole number from 2.
        temperature: Temperature of the relaxation that gives the gradient, a number above 0.
        capacity: C_z, the rate of the numbers at the end of warm-up, nats per row, a number from 0.
        category_capacity: C_y, the rate of the categories at the end of warm-up, nats per row, a number from 0 to
            variables × ln categories; auto: this maximum.
        weight: γ, the weight of the distances from the targets, a number above 0.
        warmup: Fraction of the training steps over which the targets grow from 0, a number from 0 to 1.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0 (kept fixed), optimal or learned. Other likelihoods have none.

    References:
        * Dupont (2018), Learning disentangled joint continuous and discrete representations. NeurIPS
    """
    model = _numbers_and_categories(
        info, latent_dim, variables, categories, temperature, likelihood, variance, network
    )  # fmt: skip
    most = variables * math.log(categories)
    asked = most if category_capacity == "auto" else category_capacity
    good = is_number(asked) and 0 <= float(asked) <= most
    require(good, "category_capacity", f"'auto' or nats from 0 to variables x ln categories = {most:.4g}", asked)
    return model, objectives.RateTargets([capacity, float(asked)], weight, warmup)
