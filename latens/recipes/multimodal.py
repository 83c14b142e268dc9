"""Several modalities of one row, any of which may be missing.

The recipes cut one array or table into ``modalities`` pieces: rows of images from the top, stretches of sequences, or
columns in their order. For a mapping of modalities, put the same parts together in Python.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from latens import conditionals, models, objectives, priors
from latens.errors import is_number, require
from latens.recipes.choices import DataInfo, latent_size, posterior_for
from latens.recipes.choices.modalities import modality_parts


def poe(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Several modalities whose experts are multiplied: the MVAE.

    Each modality has its own encoder, an expert. The posterior is the product of the prior and the experts of the
    modalities that a row has. The loss also contains the ELBO of each modality alone, so that each expert can be used
    if other modalities are missing.

    .. math::

        \text{maximise}\quad L(x) + \sum_{m} L(x_m), \quad L(x) = \mathbb{E}_{q(z|x)}[\ln p(x|z)] -
        \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) \propto \mathcal{N}(z; 0, I) \prod_{m} q_m(z|x_m)

    Use it when a row has several kinds of data, any of which may be missing, and together they should say more than
    each alone. If one expert is much more certain than the rest, it dominates the product; moe weighs all experts
    equally.

    Args:
        modalities: Number of pieces into which the data are cut (rows of an image, stretches of a sequence, columns), a
            whole number from 2 to the number of rows, steps or columns.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0, or learned (by gradient). Other likelihoods have none.

    References:
        * Wu & Goodman (2018), Multimodal generative models for scalable weakly-supervised learning. NeurIPS
    """
    kind = conditionals.ProductOfExperts
    model = _of_experts(info, kind, latent_dim, modalities, likelihood, variance, network)
    return model, objectives.ELBOWithSingles(beta)


def moe(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, k: int = 1, likelihood: str = "auto",
    variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Several modalities whose experts are mixed: the MMVAE.

    The posterior is the equally weighted mixture of the experts of the modalities that a row has: each expert must
    explain all modalities by itself, which makes codes of different modalities comparable. With k above 1 the bound is
    that of iwae.

    .. math::

        \text{maximise}\quad \mathbb{E}\,\ln \tfrac{1}{k} \sum_{j=1}^{k} w_j, \quad w_j = p(x|z_j)\, p(z_j) / q(z_j|x)

        q(z|x) = \tfrac{1}{M} \sum_{m=1}^{M} q_m(z|x_m)

    Use it when one modality should be generated from another. Details that only one modality shows are reconstructed
    worse than by poe: on Fashion-MNIST, with images cut in half, its NLL is 43 nats above that of poe, but it takes
    half the time.

    Args:
        modalities: Number of pieces into which the data are cut (rows of an image, stretches of a sequence, columns), a
            whole number from 2 to the number of rows, steps or columns.
        k: Draws of z for each row, a whole number from 1.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0, or learned (by gradient). Other likelihoods have none.

    References:
        * Shi, Siddharth, Paige & Torr (2019), Variational mixture-of-experts autoencoders for multi-modal deep
          generative models. NeurIPS
    """
    kind = conditionals.MixtureOfExperts
    return _of_experts(info, kind, latent_dim, modalities, likelihood, variance, network), objectives.IWAE(k)


def mopoe(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Several modalities: a mixture over all subsets of products of experts.

    The posterior is an equally weighted mixture over all non-empty subsets of the modalities that a row has; each
    component is the product of the experts in the subset. It lies between moe (subsets of one) and poe (the full set).
    The prior is not one of the experts.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \beta\, (\ln p(z) - \ln q(z|x))]

        q(z|x) = \tfrac{1}{2^M - 1} \sum_{S \ne \emptyset} q_S(z|x), \quad q_S(z|x) \propto \prod_{m \in S} q_m(z|x_m)

    Use it when any subset of modalities may be given. On Fashion-MNIST, with images cut in half, its NLL lies between
    those of moe and poe.

    Args:
        modalities: Number of pieces into which the data are cut (rows of an image, stretches of a sequence, columns), a
            whole number from 2 to the number of rows, steps or columns, at most 8.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0, or learned (by gradient). Other likelihoods have none.

    References:
        * Sutter, Daunhawer & Vogt (2021), Generalized multimodal ELBO. ICLR
    """
    kind = conditionals.MixtureOfProducts
    return _of_experts(info, kind, latent_dim, modalities, likelihood, variance, network), objectives.ELBO(beta)


def _of_experts(
    info: DataInfo, kind: Callable[..., nn.Module], latent_dim: int | str, modalities: int, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """The model whose posterior combines one expert for each modality."""
    size = latent_size(info, latent_dim)
    experts, given, pieces = modality_parts(info, size, modalities, network, likelihood, variance)
    return models.VAE(priors.StandardNormal(size), kind(experts, pieces), given)


def joint(
    info: DataInfo, *, latent_dim: int | str = "auto", modalities: int = 2, agreement: float = 0.1,
    likelihood: str = "auto", variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Several modalities: a joint posterior, and experts that agree with it.

    One network encodes rows that have all modalities. Each expert learns to match that posterior; if modalities are
    missing, the product of the remaining experts replaces it.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z)) - a \sum_{m}
        \mathrm{KL}(q(z|x) \,\|\, q_m(z|x_m))

    Use it when most rows are complete: on Fashion-MNIST, with images cut in half, it has the best NLL and the best
    reconstructions of this family. If rows are often incomplete, use poe, which learns from them directly.

    Args:
        modalities: Number of pieces into which the data are cut (rows of an image, stretches of a sequence, columns), a
            whole number from 2 to the number of rows, steps or columns.
        agreement: a, the weight of the experts' agreement, a number from 0.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0, or learned (by gradient). Other likelihoods have none.

    References:
        * Suzuki, Nakayama & Matsuo (2016), Joint multimodal learning with deep generative models. arXiv:1611.01891
    """
    require(is_number(agreement) and agreement >= 0, "agreement", "a number from 0", agreement)
    size = latent_size(info, latent_dim)
    experts, given, pieces = modality_parts(info, size, modalities, network, likelihood, variance)
    posterior = conditionals.JointAndSingles(experts, posterior_for(info, size, "diagonal", network, "shared"), pieces)
    model = models.VAE(priors.StandardNormal(size), posterior, given)
    return model, objectives.ELBO() + agreement * objectives.Agreement()
