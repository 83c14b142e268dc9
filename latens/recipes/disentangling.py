"""The VAE with a rate that you choose, or with a penalty on dependence between dimensions of the code."""

from __future__ import annotations

from torch import nn

from latens import networks, objectives
from latens.errors import is_number, require
from latens.recipes.bounds import vae
from latens.recipes.choices import DataInfo


def capacity_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", capacity: float = 25.0, weight: float = 100.0,
    warmup: float = 0.5, likelihood: str = "auto", variance: float | str = 1.0, network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE whose rate follows a capacity that grows during training.

    The rate is held at a target that rises from 0 to the capacity over the first part of training, so that the code
    takes up the most useful directions first. The observation variance is fixed, as in beta_vae. Rate and distortion
    are means over the batch.

    .. math::

        \text{minimise}\quad \mathbb{E}_x\, \mathbb{E}_{q(z|x)}[-\ln p(x|z)] + \gamma\, |R - s\, C|

        R = \mathbb{E}_x\, \mathrm{KL}(q(z|x) \,\|\, p(z)), \quad s = \min(1, t / (\mathrm{warmup} \cdot T)) \ \text{at
        step}\ t \ \text{of}\ T

    Use it when factors should emerge one after another, or when you know how many nats a code may carry. This costs
    likelihood: on Fashion-MNIST its NLL is 47 nats above that of vae.

    Args:
        capacity: C, the rate at the end of warm-up, nats per row, a number from 0.
        weight: γ, the weight of the distance from the target, a number above 0. It must exceed the nats of distortion
            that one nat of rate saves; otherwise the target is not reached.
        warmup: Fraction of the training steps over which the target grows from 0, a number from 0 to 1.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0 (kept fixed), optimal or learned. Other likelihoods have none.

    References:
        * Burgess et al. (2018), Understanding disentangling in beta-VAE. arXiv:1804.03599
    """
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.RateTarget(capacity, weight, warmup)


def rate_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", rate: float = 10.0, weight: float = 100.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE with the lowest distortion at a rate that you choose.

    The rate is held at a target from the first step on. One run gives one point of the curve of rate and distortion; a
    sweep over rates gives the curve.

    .. math::

        \text{minimise}\quad \mathbb{E}_x\, \mathbb{E}_{q(z|x)}[-\ln p(x|z)] + \gamma\, |R - R_0|

        R = \mathbb{E}_x\, \mathrm{KL}(q(z|x) \,\|\, p(z))

    Use it when the code has a budget, when you compare models at the same rate, or when a VAE's rate collapses to 0.
    The bound is best if the rate is left free (vae).

    Args:
        rate: R_0, the target of the rate, nats per row, a number from 0.
        weight: γ, the weight of the distance from the target, a number above 0. It must exceed the nats of distortion
            that one nat of rate saves; otherwise the target is not reached.

    References:
        * Alemi et al. (2018), Fixing a broken ELBO. ICML
    """
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.RateTarget(rate, weight)


def beta_tc_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 6.0, weighting: str = "stratified",
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE with the total correlation of its codes weighted by beta.

    The rate is the sum of three terms: the information that the code has about the row, the total correlation between
    the dimensions of the code, and the distance of each dimension from its prior. Only the second term is weighted by
    beta. It is estimated from the posteriors of a batch.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z)) - (\beta - 1)\,
        \mathrm{TC}

        \mathrm{TC} = \mathrm{KL}(q(z) \,\|\, \prod_j q(z_j)), \quad q(z) = \tfrac{1}{N} \sum_{n=1}^{N} q(z|x_n)

    Use it when dimensions should be independent and codes informative. Large batches estimate the total correlation
    better. On Fashion-MNIST its NLL is 15 nats above that of vae, and its samples are no better.

    Args:
        beta: Weight of the total correlation, a number from 1; 1 is the ELBO.
        weighting: How a batch represents all rows: stratified (a row and the other rows of its batch are weighted as in
            the data), weighted (the lower bound of the paper) or plain (all rows of the batch equally).

    References:
        * Chen et al. (2018), Isolating sources of disentanglement in variational autoencoders. NeurIPS
    """
    require(is_number(beta) and beta >= 1, "beta", "a number from 1", beta)
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objective + (beta - 1) * objectives.TotalCorrelation(info.rows, weighting)


def factor_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", gamma: float = 5.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE with a critic that keeps the dimensions of its codes independent.

    A critic learns to distinguish codes from codes in which each dimension is shuffled over the batch independently.
    Its log-odds estimate the total correlation, which is added to the loss of the model.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z)) - \gamma\, \mathrm{TC}

        \mathrm{TC} = \mathrm{KL}(q(z) \,\|\, \prod_j q(z_j)) \approx \mathbb{E}_{q(z)}[\text{log-odds of the critic}]

    Use it when dimensions should be independent and the batch is too small for beta_tc_vae. On Fashion-MNIST its
    samples from N(0, I) are better than those of vae, with a bound 3 nats worse. Its last weights are kept, not its
    best.

    Args:
        gamma: γ, the weight of the total correlation, a number from 0.

    References:
        * Kim & Mnih (2018), Disentangling by factorising. ICML
    """
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    critic = networks.mlp(model.prior.dim, 1)  # type: ignore[arg-type]
    return model, objective + gamma * objectives.CorrelationCritic(critic)


def dip_vae_i(
    info: DataInfo, *, latent_dim: int | str = "auto", off: float = 10.0, diagonal: float = 100.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE whose posterior means have a covariance near the identity.

    The covariance of the posterior means over the batch is pulled towards the identity: entries off the diagonal to 0,
    and entries on the diagonal to 1.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z)) - a \sum_{i \ne j}
        C_{ij}^2 - d \sum_i (C_{ii} - 1)^2

        C = \mathrm{Cov}_x\, \mathbb{E}[z|x]

    Use it when dimensions of the code should be uncorrelated: it needs neither a critic nor a large batch. On
    Fashion-MNIST its samples are closer to the data than those of vae (Fréchet distance 84 compared with 173), at the
    cost of 23 nats of NLL.

    Args:
        off: a, the weight of covariances between dimensions, a number from 0.
        diagonal: d, the weight of variances that differ from 1, a number from 0.

    References:
        * Kumar, Sattigeri & Balakrishnan (2018), Variational inference of disentangled latent concepts from unlabeled
          observations. ICLR
    """
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objective + 1.0 * objectives.CovariancePenalty(off, diagonal)


def dip_vae_ii(
    info: DataInfo, *, latent_dim: int | str = "auto", off: float = 10.0, diagonal: float = 10.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE whose codes as a whole have a covariance near the identity.

    It is like dip_vae_i, but for the covariance of drawn codes. This is the covariance of the posterior means plus the
    mean of the posterior variances. Dimensions that carry no information already satisfy it.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z)) - a \sum_{i \ne j}
        C_{ij}^2 - d \sum_i (C_{ii} - 1)^2

        C = \mathrm{Cov}_x\, \mathbb{E}[z|x] + \mathbb{E}_x\, \mathrm{Cov}[z|x]

    Use it when codes should fill N(0, I) and be uncorrelated: on Fashion-MNIST its draws from the prior are the best of
    this family, at the cost of 11 nats of NLL.

    Args:
        off: a, the weight of covariances between dimensions, a number from 0.
        diagonal: d, the weight of variances that differ from 1, a number from 0.

    References:
        * Kumar, Sattigeri & Balakrishnan (2018), Variational inference of disentangled latent concepts from unlabeled
          observations. ICLR
    """
    model, objective = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objective + 1.0 * objectives.CovariancePenalty(off, diagonal, within=True)


def info_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", alpha: float = 0.5, weight: float = 100.0,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE with part of its rate replaced by the MMD between codes and prior.

    The rate keeps the codes of each row near the prior; the maximum mean discrepancy (MMD) keeps the codes of all rows
    together near it. With α = 1 there is no rate (the MMD-VAE), and codes may be as informative as they like; with α =
    0 and λ = 1 it is the VAE.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - (1 - \alpha)\, \mathrm{KL}(q(z|x) \,\|\, p(z)) - (\alpha
        + \lambda - 1)\, \mathrm{MMD}^2(q(z), p(z))

    Use it when codes carry too little, or should match the prior without losing detail: on Fashion-MNIST its
    reconstructions and its samples are better than those of vae, at the cost of 3 nats of NLL. Large batches estimate
    the MMD better.

    Args:
        alpha: α, the share of the rate that is left out, a number up to 1.
        weight: λ, the weight of the MMD, a number from 0.5 with the default α (in general, from 1 - α).

    References:
        * Zhao, Song & Ermon (2019), InfoVAE: Balancing learning and inference in variational autoencoders. AAAI
    """
    require(is_number(alpha) and alpha <= 1, "alpha", "a number up to 1", alpha)
    require(is_number(weight) and alpha + weight >= 1, "weight", "a number from 1 - alpha", weight)
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.ELBO(1 - alpha) + (alpha + weight - 1) * objectives.MMD()
