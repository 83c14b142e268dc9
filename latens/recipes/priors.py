"""The VAE under other priors of the codes, which are learned with the model."""

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
    r"""The VAE with a learned mixture of normals as its prior.

    Weights, means and variances of the components are trained with the model, so that the prior can have clusters where
    the codes have them. With conditions, a network gives a mixture for each condition. The rate is estimated from the
    draws.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        p(z) = \sum_{j=1}^{J} w_j\, \mathcal{N}(z; m_j, \mathrm{diag}\, v_j)

    Use it when the data fall into groups, as most tables do: vae uses this prior by default for tables of at least
    5,000 rows. It takes no more time than vae and was a few nats better on Fashion-MNIST, with better samples.

    Args:
        components: J, the number of normals, a whole number from 1.

    References:
        * Jiang et al. (2017), Variational deep embedding: An unsupervised and generative approach to clustering. IJCAI
    """
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = prior_for(info, size, "mixture", components)
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def vamp(
    info: DataInfo, *, latent_dim: int | str = "auto", components: int | str = "auto", likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""The VAE whose prior is a mixture of its own posteriors at learned rows.

    The prior is a mixture of the posteriors of pseudo-inputs, which start as rows of the data and are trained with the
    model. So the prior follows the codes wherever they go. All cells of a row must be numbers: for tables with levels
    or gaps, use exemplar.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        p(z) = \sum_{k=1}^{K} w_k\, q(z|u_k), \quad w \ \text{and}\ u_k \ \text{learned}

    Use it when samples matter: on Fashion-MNIST its draws are nearly as good as those of a mixture fitted to vae's
    codes afterwards, in about the time of vae and without a second fit.

    Args:
        components: K, the number of pseudo-inputs, a whole number from 2 to the number of rows; auto: the smaller of 50
            and the number of rows.

    References:
        * Tomczak & Welling (2018), VAE with a VampPrior. AISTATS
    """
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = priors.Vamp(posterior, *pseudo_inputs_for(info, components))
    return _model(info, size, prior, posterior, likelihood, variance, network), objectives.ELBO()


def hierarchical_vamp(
    info: DataInfo, *, latent_dim: int | str = "auto", second_dim: int = 8, components: int | str = "auto",
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""Two groups of codes, the first under the prior of vamp.

    The codes are (a, b): a has latent_dim dimensions and a mixture of posteriors as its prior; b has second_dim
    dimensions and a normal prior given a. Posterior and decoder see both. As in vamp, all cells of a row must be
    numbers.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q}[\ln p(x|a, b) + \ln p(a) + \ln p(b|a) - \ln q(a|x) - \ln q(b|x, a)]

        p(a) = \sum_{k=1}^{K} w_k\, q(a|u_k)

    Use it when vamp is not flexible enough. On Fashion-MNIST its NLL is one nat better than that of vamp, with similar
    samples, but it takes one and a half times as long as vae.

    Args:
        latent_dim: Dimensions of a, a whole number from 1 to 65,536; auto: the smaller of 16 and the number of columns.
        second_dim: Dimensions of b, a whole number from 1 to 65,536; auto as for latent_dim.
        components: K, the number of pseudo-inputs, a whole number from 2 to the number of rows; auto: the smaller of 50
            and the number of rows.

    References:
        * Tomczak & Welling (2018), VAE with a VampPrior. AISTATS
    """
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
    r"""The VAE whose prior is a set of normals around the codes of training rows.

    The means are the posterior means of some training rows, evenly spaced in the data; all normals share one learned
    width. During training, a row's own exemplar is left out of its prior, so that no row explains itself. The exemplars
    are saved with the model, which thus contains those rows.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        p(z) = \tfrac{1}{M} \sum_{m=1}^{M} \mathcal{N}(z; g(x_m), s^2 I)

    Use it when samples and likelihood both matter, and rows may be kept in the run: on Fashion-MNIST it is 10 nats
    ahead of vae, and only sinkhorn_ae has better draws from the prior. It takes tables with levels. Do not use it if
    training rows are confidential.

    Args:
        components: M, the number of exemplars, a whole number from 2 to the number of rows; auto: the smaller of 100
            and the number of rows.

    References:
        * Norouzi, Fleet & Norouzi (2020), Exemplar VAE: Linking generative models, nearest neighbor retrieval, and data
          augmentation. NeurIPS
    """
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = priors.Exemplar(posterior, *rows_for(info, components))
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def flow_prior(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 4, bins: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE with a normalising flow of spline couplings as its prior.

    The prior is N(0, I) bent by invertible maps: in each step one half of the dimensions decides how splines move the
    other half. With conditions the maps depend on the condition.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        \ln p(z) = \ln \mathcal{N}(T^{-1}(z); 0, I) + \ln |\mathrm{det}\, \partial T^{-1} / \partial z|

    Use it when the prior should have any shape and no rows may be stored: on Fashion-MNIST it is 9 nats ahead of vae
    and its draws are nearly as good as those of vamp, but it takes twice as long as vae.

    Args:
        steps: Number of couplings, a whole number from 1 to 1,000.
        bins: Bins of each spline, on [-5, 5], a whole number from 2 to 1,000.

    References:
        * Chen et al. (2017), Variational lossy autoencoder. ICLR
        * Durkan, Bekasov, Murray & Papamakarios (2019), Neural spline flows. NeurIPS
    """
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
    r"""The VAE whose prior is N(0, I) with draws accepted by a network (LARS).

    A draw z of N(0, I) is accepted with the learned probability a(z), and the T-th draw is accepted in any case. The
    mean A of a(z) is estimated from draws of N(0, I).

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        p(z) = \mathcal{N}(z; 0, I) \left[ (1 - r)\, a(z) / A + r \right], \quad r = (1 - A)^{T - 1}

    Use it when the prior should stay N(0, I) with regions cut out. On Fashion-MNIST it gains less than mixture, which
    is faster, and its samples are far behind those of vamp and exemplar.

    Args:
        truncation: T, the number of the draw that is accepted in any case, a whole number from 1; 1 is N(0, I).

    References:
        * Bauer & Mnih (2019), Resampled priors for variational autoencoders. AISTATS
    """
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    prior = priors.ResampledPrior(networks.mlp(size, 1, (64, 64)), size, truncation)
    return _model(info, size, prior, posterior, likelihood, variance, network, missing), objectives.ELBO()


def _model(
    info: DataInfo, size: int, prior: nn.Module, posterior: nn.Module, likelihood: str, variance: float | str,
    network: str, missing: str = "mar",
) -> nn.Module:  # fmt: skip
    return models.VAE(prior, posterior, likelihood_for(info, size, likelihood, network, variance, missing))
