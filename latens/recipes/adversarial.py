"""Models with a critic of their codes, or of the data they make. Their last weights are kept, not the best."""

from __future__ import annotations

from torch import nn

from latens import models, networks, objectives, priors
from latens.errors import InputError
from latens.recipes.bounds import ae, vae
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, standardisation

FEATURES = 64  # a critic computes its odds from this many features of a row


def aae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""The autoencoder whose codes a critic cannot tell from draws of N(0, I).

    A critic learns to distinguish codes from draws of the prior; the encoder learns to deceive it. The codes of all
    rows together fill the prior, while the code of each row has no noise. There is no density of x, so there is no
    bound. The last weights are kept, not the best.

    .. math::

        \text{model:}\quad \text{minimise}\quad \mathbb{E}_x[-\ln p(x|z) + \lambda\, \mathrm{softplus}(-c(z))], \quad z
        = g(x)

        \text{critic:}\quad \text{minimise}\quad \mathbb{E}_{z \sim \mathcal{N}(0, I)}[\mathrm{softplus}(-c(z))] +
        \mathbb{E}_x[\mathrm{softplus}(c(g(x)))]

    Use it when you want an autoencoder that can be sampled, and a discrepancy in closed form (wae_mmd) is too weak. On
    Fashion-MNIST aae and wae_mmd differ little; the samples of sinkhorn_ae are better.

    Args:
        weight: λ, the weight of deceiving the critic, a number from 0.

    References:
        * Makhzani et al. (2016), Adversarial autoencoders. ICLR workshop
    """
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    critic = networks.mlp(model.prior.dim, 1)  # type: ignore[arg-type]
    return model, objective + weight * objectives.PriorCritic(critic)


def wae_gan(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 10.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""The adversarial autoencoder with a critic that knows the prior.

    It is like aae, but the density of the prior is part of the critic's odds, so that the critic's network has to learn
    only the density of the codes.

    .. math::

        \text{model:}\quad \text{minimise}\quad \mathbb{E}_x[-\ln p(x|z) + \lambda\, \mathrm{softplus}(-c(z))], \quad z
        = g(x)

        \text{critic:}\quad \text{minimise}\quad \mathbb{E}_{z \sim \mathcal{N}(0, I)}[\mathrm{softplus}(-c(z))] +
        \mathbb{E}_x[\mathrm{softplus}(c(g(x)))]

        c(z) = \mathrm{net}(z) + \ln \mathcal{N}(z; 0, I) + H

    Use it when samples matter more than reconstructions: compared with aae on Fashion-MNIST, its draws are better, but
    its error is higher. Its default weight is ten times that of aae.

    Args:
        weight: λ, the weight of deceiving the critic, a number from 0.

    References:
        * Tolstikhin et al. (2018), Wasserstein auto-encoders. ICLR
    """
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    critic = networks.mlp(model.prior.dim, 1)  # type: ignore[arg-type]
    return model, objective + weight * objectives.PriorCritic(critic, known=True)


def vae_gan(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""The VAE that reconstructs a critic's features instead of pixels.

    There are three players. Encoder and prior minimise the rate and the distance between features F that a critic
    computes. The decoder minimises the same distance, and deceives the critic with reconstructions and with draws from
    the prior. The critic distinguishes both from the data. The likelihood that is reported is a by-product. The last
    weights are kept, not the best.

    .. math::

        \text{encoder:}\quad \text{minimise}\quad \mathrm{KL}(q(z|x) \,\|\, p(z)) + D, \quad D = \tfrac{1}{2} \lVert
        F(x) - F(\tilde x) \rVert^2

        \text{decoder:}\quad \text{minimise}\quad w\, D + \tfrac{1}{2} \mathbb{E}[\mathrm{softplus}(-c(\tilde x)) +
        \mathrm{softplus}(-c(\hat x))]

        \tilde x \ \text{decoded from}\ z \sim q(z|x), \quad \hat x \ \text{from}\ z \sim p(z)

    Use it when images should look sharp rather than be close in pixels, and you have many images and time to tune. With
    the defaults and 468 steps on Fashion-MNIST, it was behind every other recipe in reconstruction. It takes images,
    sequences and other arrays, but no tables or counts.

    Args:
        weight: w, the weight of the distance of features for the decoder, a number from 0.

    References:
        * Larsen, Sønderby, Larochelle & Winther (2016), Autoencoding beyond pixels using a learned similarity metric.
          ICML
    """
    critic = _critic(info, network)
    model, _ = vae(info, latent_dim=latent_dim, likelihood="normal", network=network, prior="standard")
    return model, objectives.FeatureELBO(critic, weight)


def gan(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", slope: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""A generator and a critic, without a posterior, so rows have no codes.

    The generator turns draws of N(0, I) into data, and the critic learns to distinguish these from the rows of the
    data. The critic's slope at the rows is kept small; otherwise the two may go round in circles and never converge.
    The model can only be sampled: it encodes, reconstructs and scores nothing. The last weights are kept, not the best.

    .. math::

        \text{generator:}\quad \text{minimise}\quad \mathbb{E}_{z \sim \mathcal{N}(0, I)}[\mathrm{softplus}(-c(f(z)))]

        \text{critic:}\quad \text{minimise}\quad \mathbb{E}_x[\mathrm{softplus}(-c(x)) + \tfrac{\gamma}{2} \lVert
        \partial c / \partial x \rVert^2] + \mathbb{E}_z[\mathrm{softplus}(c(f(z)))]

    Use it when you want to compare a VAE with the other main kind of generative model. It needs long training: after
    468 steps on Fashion-MNIST its samples are worse than those of vae. It takes images, sequences and other arrays, but
    no tables or counts.

    Args:
        network: Generator and critic: auto (conv for images and sequences of at least 12 pixels or steps, otherwise
            mlp), mlp, residual, conv or linear.
        slope: γ, the weight of the critic's squared slope at the standardised rows, a number from 0.

    References:
        * Goodfellow et al. (2014), Generative adversarial nets. NeurIPS
        * Mescheder, Geiger & Nowozin (2018), Which training methods for GANs do actually converge? ICML
    """
    critic, size = _critic(info, network), latent_size(info, latent_dim)
    decoder = likelihood_for(info, size, "normal", network, variance=1.0)
    model = models.Generator(priors.StandardNormal(size), decoder)
    model.compile_mode = "off" if slope else "full"  # type: ignore[assignment]
    return model, objectives.Adversarial(critic, slope, standardisation(info)[1])


def _critic(info: DataInfo, network: str) -> objectives.DataCritic:
    if info.is_table or info.schema.kind == "count":
        raise InputError(
            "a critic of data needs an array of numbers or pixels, but these data are a table or counts",
            "use the recipe 'vae', 'aae' or 'wae_gan'",
        )
    head = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, 1))
    return objectives.DataCritic(encoder(info, [FEATURES], network), head, info.reads)
