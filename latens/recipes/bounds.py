"""The VAE, its bounds, and the plain autoencoder."""

from __future__ import annotations

import math

from torch import nn

from latens import models, objectives, priors
from latens.errors import InputError
from latens.recipes.choices import DataInfo, latent_size, likelihood_for, posterior_for, prior_for


def vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", heads: str = "shared", posterior: str = "diagonal",
    prior: str = "auto", missing: str = "mar", dependence: str = "auto", samples: int = 1, kl: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The variational autoencoder, with parts chosen to suit the data.

    The encoder gives the mean g(x) and the variance h(x) of the code of a row; the code is drawn as z = g(x) + √h(x)
    noise, and the decoder gives the parameters of p(x|z). Likelihood and network are chosen from the values and the
    shape of the data, and the rate is exact if it has a closed form. If cells are missing, the ELBO is a bound on ln p
    of the observed cells.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) = \mathcal{N}(g(x), \mathrm{diag}\, h(x))

    Use it when you begin: it is the default, it is fast, and the report of its run shows what to change. If codes do
    not fill the prior, try vamp, exemplar or `latens density`; if the bound is loose, try iwae.

    Args:
        beta: Weight of the rate, a number from 0; 1 is the ELBO, and a point posterior needs 0.
        heads: shared (mean and variance are linear maps of the output of one network) or separate (one network each).
        posterior: diagonal (independent dimensions), full (a full covariance) or point (no noise, as in ae; with beta
            0).
        prior: standard (N(0, I)), mixture (32 learned normals), conditional (one normal for each value of the
            condition), or auto: mixture for tables of at least 5,000 rows, otherwise standard.
        dependence: For tables: codes (columns are independent given z), autoregressive (each column also depends on
            those before it), or auto: autoregressive for 2 to 64 columns and at least 2,000 rows.
        samples: Draws of z for each row in a training step, a whole number from 1.
        kl: How the rate is computed: closed (exactly; refused if there is no closed form), sampled (from the draws) or
            auto (closed if possible).

    References:
        * Kingma & Welling (2014), Auto-encoding variational Bayes. ICLR
        * Rezende, Mohamed & Wierstra (2014), Stochastic backpropagation and approximate inference in deep generative
          models. ICML
    """
    if posterior == "point" and beta != 0:
        raise InputError("a point posterior has no density, hence no rate", "use the recipe 'ae', or --beta 0")
    size = latent_size(info, latent_dim)
    model = models.VAE(
        prior_for(info, size, prior),
        posterior_for(info, size, posterior, network, heads),
        likelihood_for(info, size, likelihood, network, variance, missing, dependence),
    )
    return model, objectives.ELBO(beta, samples, kl)


def beta_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 4.0, likelihood: str = "auto",
    variance: float | str = 1.0, network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE with its rate weighted by beta, at a fixed observation variance.

    A beta above 1 gives a lower rate and a higher distortion: codes keep less information, reconstructions are blurred
    more, and codes tend to vary along separate factors. With a fixed variance c, a normal likelihood has the same
    optimum at (c, β) as at (β c, 1). So beta then chooses the noise, and a variance that adapts to the data would undo
    part of its effect.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

    Use it when dimensions of the code should be few and interpretable, and some detail may be lost. On Fashion-MNIST
    its samples are better than those of vae (docs/catalogue.md), with a worse bound. To choose a rate in nats instead
    of a weight, use rate_vae.

    Args:
        beta: Weight of the rate, a number from 0; above 1 lowers the rate, 1 is the ELBO.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0 (kept fixed), optimal or learned; the last two adapt to beta. Other likelihoods have none.

    References:
        * Higgins et al. (2017), beta-VAE: Learning basic visual concepts with a constrained variational framework. ICLR
    """
    return vae(info, latent_dim=latent_dim, beta=beta, likelihood=likelihood, variance=variance, network=network)


def iwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE under the importance-weighted bound of k draws.

    The k draws of a row are averaged as importance weights before the logarithm is taken. The bound rises with k and
    tends to ln p(x), so the model can be good even if the true posterior is not normal. For tables with missing cells,
    this is the bound that the literature calls MIWAE; with missing=mnar, it is not-MIWAE.

    .. math::

        \text{maximise}\quad \mathbb{E}\,\ln \tfrac{1}{k} \sum_{j=1}^{k} w_j

        w_j = p(x|z_j)\, p(z_j) / q(z_j|x), \quad z_j \sim q(z|x)

    Use it when the likelihood of held-out rows matters most, or cells are missing. With 8 draws it takes about four
    times as long as vae, and it was 20 nats ahead on Fashion-MNIST after 468 steps. The gradient of the encoder gets
    noisier as k grows; dreg and piwae address this.

    References:
        * Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders. ICLR
        * Mattei & Frellsen (2019), MIWAE: Deep generative modelling and imputation of incomplete data sets. ICML
        * Ipsen, Mattei & Frellsen (2021), not-MIWAE: Deep generative modelling with missing not at random data. ICLR
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.IWAE(k)


def miwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, m: int = 4, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE under the mean of m importance-weighted bounds of k draws each.

    The k m draws of a row are split into m groups. More groups average out the noise of the encoder's gradient; larger
    groups make the bound tighter. With m = 1 it is iwae, with k = 1 the ELBO over m draws. (A method for missing data
    has the same name; here that method is the recipe iwae.)

    .. math::

        \text{maximise}\quad \mathbb{E}\, \tfrac{1}{m} \sum_{i=1}^{m} \ln \tfrac{1}{k} \sum_{j=1}^{k} w_{ij}

        w_{ij} = p(x|z_{ij})\, p(z_{ij}) / q(z_{ij}|x)

    Use it when iwae gains from more draws and you have time: the decoder does k m times the work of a single draw. On
    Fashion-MNIST it was 27 nats ahead of vae, the lowest NLL of all recipes, and took about seventeen times as long.

    Args:
        k: Draws in each bound, a whole number from 1.
        m: Number of bounds that are averaged, a whole number from 1; k m draws are taken for each row.

    References:
        * Rainforth et al. (2018), Tighter variational bounds are not necessarily better. ICML
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.IWAE(k, m=m)


def ciwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, mix: float = 0.5, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE under a mixture of ELBO and importance-weighted bound.

    Both bounds are taken from the same k draws. The ELBO gives the encoder a gradient that does not fade as k grows;
    the importance-weighted bound gives the decoder a tighter objective.

    .. math::

        \text{maximise}\quad \mathbb{E}\left[ \mathrm{mix}\, \tfrac{1}{k} \sum_{j=1}^{k} \ln w_j + (1 - \mathrm{mix})
        \ln \tfrac{1}{k} \sum_{j=1}^{k} w_j \right]

        w_j = p(x|z_j)\, p(z_j) / q(z_j|x)

    Use it when the encoder should keep a clear gradient while the bound is tightened. On Fashion-MNIST its
    reconstructions are as good as those of vae, and its NLL lies between vae and iwae.

    Args:
        mix: Share of the ELBO, a number from 0 (iwae) to 1 (the ELBO of k draws).

    References:
        * Rainforth et al. (2018), Tighter variational bounds are not necessarily better. ICML
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.IWAE(k, mix=mix)


def piwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, m: int = 4, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Encoder and decoder trained under two importance-weighted bounds.

    Two players use the same k m draws. The encoder ascends the mean of m bounds of k draws, whose gradient has less
    noise. Everything else ascends the single bound of all k m draws, which is tighter.

    .. math::

        \text{encoder:}\quad \text{maximise}\quad \mathbb{E}\, \tfrac{1}{m} \sum_{i=1}^{m} \ln \tfrac{1}{k}
        \sum_{j=1}^{k} w_{ij}

        \text{decoder, prior:}\quad \text{maximise}\quad \mathbb{E} \ln \tfrac{1}{k m} \sum_{i=1}^{m} \sum_{j=1}^{k}
        w_{ij}

    Use it when many draws help the decoder but hurt the encoder. It is the slowest of the bounds (130 s on
    Fashion-MNIST, compared with 5 s for vae); its samples from the prior were better than those of the other
    importance-weighted bounds.

    Args:
        k: Draws in each of the encoder's bounds, a whole number from 1.
        m: Number of the encoder's bounds, a whole number from 1; k m draws are taken for each row.

    References:
        * Rainforth et al. (2018), Tighter variational bounds are not necessarily better. ICML
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.PIWAE(k, m)


def sticking_the_landing(
    info: DataInfo, *, latent_dim: int | str = "auto", samples: int = 1, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE whose gradient of the ELBO leaves out the score of q.

    The rate is estimated from the draws, and the parameters of q are held fixed inside ln q, so that the gradient
    reaches the encoder only through z. It has the same mean as the plain gradient, because the score has mean 0. If
    q(z|x) is the true posterior, the gradient is 0 for every draw. The posterior must be normal.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

    Use it when a model is near its optimum and only the noise of gradients is left to remove, as with a good posterior
    and a long run. With the default budgets it gives the same results as vae, at the same cost.

    Args:
        samples: Draws of z for each row in a training step, a whole number from 1.

    References:
        * Roeder, Wu & Duvenaud (2017), Sticking the landing: Simple, lower-variance gradient estimators for variational
          inference. NeurIPS
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.StickingTheLanding(samples)


def dreg(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The importance-weighted VAE with the doubly reparametrised gradient.

    The bound is that of iwae. The noise of the score of q grows with k relative to the signal, so the encoder's
    gradient is rewritten without the score: each draw counts with the square of its normalised weight. Decoder and
    prior follow the plain gradient. The posterior must be normal.

    .. math::

        \text{maximise}\quad \mathbb{E}\,\ln \tfrac{1}{k} \sum_{j=1}^{k} w_j

        \text{gradient of the encoder:}\quad \sum_{j=1}^{k} v_j^2\, \frac{\partial \ln w_j}{\partial z_j} \frac{\partial
        z_j}{\partial \phi}

        v_j = w_j / \sum_{i} w_i

    Use it when iwae is to be trained with many draws. With 8 draws on Fashion-MNIST its bound equals that of iwae,
    but it takes one and a half times as long.

    References:
        * Tucker et al. (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives. ICLR
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.DReG(k)


def renyi(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, alpha: float = 0.5, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE under the Rényi bound of order alpha.

    The k weights of a row are averaged with the power 1 - α. The bound falls as α rises: α = 1 is the ELBO, α = 0 the
    importance-weighted bound, and a negative α gives a value that can exceed ln p(x). A smaller α makes q cover the
    posterior; a larger α lets q settle on one mode.

    .. math::

        \text{maximise}\quad \mathbb{E}\, \tfrac{1}{1 - \alpha} \ln \tfrac{1}{k} \sum_{j=1}^{k} w_j^{1 - \alpha}

        w_j = p(x|z_j)\, p(z_j) / q(z_j|x)

    Use it when you want a bound between ELBO and iwae, or posteriors that cover all modes. With the default α = 0.5 it
    equals iwae within the spread of seeds on Fashion-MNIST.

    Args:
        alpha: Order of the divergence, a number, or -inf (vr_max); 1 is the ELBO, 0 is iwae, and below 0 the value is
            not a bound.

    References:
        * Li & Turner (2016), Rényi divergence variational inference. NeurIPS
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.Renyi(alpha, k)


def vr_max(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE trained on the best of k draws, which is not a bound on ln p(x).

    Only the draw with the largest weight has a gradient. The value is the Rényi bound of order -∞, and exceeds
    the importance-weighted bound by at most ln k. `latens evaluate` therefore reports the ELBO and the
    importance-weighted NLL.

    .. math::

        \text{maximise}\quad \mathbb{E} \max_{j \le k}\, \ln w_j

        w_j = p(x|z_j)\, p(z_j) / q(z_j|x)

    Use it when you want to compare with the paper, or want the gradient of a single draw with much of the gain of
    several. On Fashion-MNIST its NLL is one nat above that of iwae.

    References:
        * Li & Turner (2016), Rényi divergence variational inference. NeurIPS
    """
    return _model(info, latent_dim, likelihood, variance, network, missing), objectives.Renyi(-math.inf, k)


def tvo(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, partitions: int = 8, first: float = 0.03,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE under the thermodynamic bound, between ELBO and IWAE.

    ln p(x) is the integral, over b from 0 to 1, of the mean of ln w under a density between q(z|x) and the posterior.
    The bound is the left Riemann sum of this integral; its means are taken over the k draws, weighted by w to the power
    b. On the same draws it lies between the ELBO and the importance-weighted bound. Training uses the gradient of this
    value through z; the paper uses a covariance instead.

    .. math::

        \text{maximise}\quad \mathbb{E} \sum_{i=0}^{J - 1} (b_{i+1} - b_i) \sum_{j=1}^{k} v_{ij} \ln w_j, \quad v_{ij}
        \propto w_j^{b_i}

        0 = b_0 < b_1 < \dots < b_J = 1

    Use it when you want to compare bounds. On Fashion-MNIST its NLL equals that of iwae, at the same cost.

    Args:
        partitions: J, the number of intervals, a whole number from 1 to 10,000; 1 is the ELBO.
        first: b_1, a number between 0 and 1; those after it are evenly spaced in ln b. It has no effect if partitions
            is 1.

    References:
        * Masrani, Le & Wood (2019), The thermodynamic variational objective. NeurIPS
    """
    model = _model(info, latent_dim, likelihood, variance, network, missing)
    return model, objectives.Thermodynamic(k, partitions, first)


def _model(
    info: DataInfo, latent_dim: int | str, likelihood: str, variance: float | str, network: str, missing: str
) -> nn.Module:
    """The model of the recipe ``vae``, for use with another objective."""
    return vae(
        info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network, missing=missing
    )[0]


def ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto"
) -> tuple[nn.Module, objectives.Objective]:
    r"""The plain autoencoder: no noise on the code, squared error.

    The encoder gives one code for each row, and the decoder is trained to return the row. For arrays the loss is the
    squared error in units of the standardised data; for tables it comes from the likelihoods of their columns. Nothing
    makes codes lie anywhere in particular, so there is no density p(x) and no bound; N(0, I) merely takes the place of
    a prior.

    .. math::

        \text{minimise}\quad -\ln p(x \,|\, z = g(x)), \quad p(x|z) = \mathcal{N}(f(z), I) \ \text{for arrays}

    Use it when only codes and reconstructions matter: its error is the lowest of all recipes on Fashion-MNIST. To
    sample new data, fit a density to its codes afterwards (`latens density RUN`). This gave good samples there, whereas
    draws from N(0, I) did not.

    References:
        * Rumelhart, Hinton & Williams (1986), Learning internal representations by error propagation. In Parallel
          distributed processing 1, MIT Press
    """
    size = latent_size(info, latent_dim)
    model = models.VAE(
        priors.StandardNormal(size),
        posterior_for(info, size, "point", network, "shared"),
        likelihood_for(info, size, "auto" if info.is_table else "normal", network, variance=1.0),
    )
    return model, objectives.ELBO(beta=0.0)
