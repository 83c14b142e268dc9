"""The VAE with richer posteriors than a diagonal normal."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from latens import conditionals, models, objectives
from latens.errors import is_whole, require, require_count
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, posterior_for, prior_for

Built = tuple[nn.Module, objectives.Objective]


def full_covariance(
    info: DataInfo, *, latent_dim: int | str = "auto", likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE with a normal posterior that has a full covariance.

    The encoder gives the mean and the Cholesky factor L of the covariance, Z (Z + 1) / 2 numbers for Z dimensions, so
    that dimensions may depend on each other given the row. The rate is exact for a standard normal prior.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) = \mathcal{N}(g(x), L(x) L(x)^\top)

    Use it when the code has few dimensions and a diagonal posterior is too narrow, as in linear models. With 16
    dimensions it learns more slowly than vae: after 468 steps on Fashion-MNIST it is 21 nats behind.

    References:
        * Kingma & Welling (2019), An introduction to variational autoencoders. Foundations and Trends in Machine
          Learning 12
    """
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "full", network, "shared")
    return _model(info, size, posterior, likelihood, variance, network, missing), objectives.ELBO()


def low_rank(
    info: DataInfo, *, latent_dim: int | str = "auto", rank: int = 2, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE whose posterior has a diagonal covariance plus a few directions.

    The covariance is a diagonal plus the outer products of a few vectors that the encoder gives. For codes of many
    dimensions this is cheaper than full_covariance.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) = \mathcal{N}(g(x), \mathrm{diag}\, h(x) + U(x) U(x)^\top)

    Use it when posteriors are long in a few directions and the code has too many dimensions for a full covariance. In
    short runs it is behind vae, by 11 nats on Fashion-MNIST.

    Args:
        rank: Columns of U, a whole number from 1 to latent_dim.

    References:
        * Ong, Nott & Smith (2018), Gaussian variational approximation with a factor covariance structure. Journal of
          Computational and Graphical Statistics 27
    """
    size = latent_size(info, latent_dim)
    require(is_whole(rank) and 1 <= rank <= size, "rank", f"a whole number from 1 to latent_dim = {size}", rank)
    net = encoder(info, [size, size, size * rank], network)
    posterior = conditionals.LowRankNormalPosterior(net, rank, info.reads)
    return _model(info, size, posterior, likelihood, variance, network, missing), objectives.ELBO()


def planar(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE with a posterior bent by planar flow steps.

    Normal noise u passes through steps, each of which pushes it along one direction; the encoder gives the vectors of
    each step. The result is scaled and shifted as in vae. The rate is estimated from the draws.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        z = g(x) + \sqrt{h(x)} \odot T_L(\dots T_1(u)), \quad u \sim \mathcal{N}(0, I)

        T(u) = u + v \tanh(w^\top u + b), \quad v, w, b \ \text{given by}\ x

    Use it when the posterior is bent in few dimensions, and as a baseline for flows. On Fashion-MNIST radial, iaf and
    neural_spline are better.

    Args:
        steps: L, the number of steps, a whole number from 1 to 1,000.

    References:
        * Rezende & Mohamed (2015), Variational inference with normalizing flows. ICML
    """
    size = latent_size(info, latent_dim)
    bends = [conditionals.PlanarStep(size) for _ in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def radial(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE with a posterior bent by radial flow steps.

    It is like planar, with steps that stretch or shrink space around a point.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        z = g(x) + \sqrt{h(x)} \odot T_L(\dots T_1(u)), \quad u \sim \mathcal{N}(0, I)

        T(u) = u + \beta\, (u - r) / (\alpha + \lVert u - r \rVert), \quad r, \alpha, \beta \ \text{given by}\ x

    Use it when a flow should be cheap: it needs few numbers from the encoder, and on Fashion-MNIST it was 3 nats ahead
    of vae in about the same time.

    Args:
        steps: L, the number of steps, a whole number from 1 to 1,000.

    References:
        * Rezende & Mohamed (2015), Variational inference with normalizing flows. ICML
    """
    size = latent_size(info, latent_dim)
    bends = [conditionals.RadialStep(size) for _ in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def iaf(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 2, context: int = 16, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE with a posterior of inverse autoregressive flow steps.

    In each step a masked network gives every coordinate a shift and a scale, computed from the coordinates before it
    and from some numbers that the encoder gives; the order is reversed in every step. A draw and its density take one
    pass.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        z = g(x) + \sqrt{h(x)} \odot T_L(\dots T_1(u)), \quad u \sim \mathcal{N}(0, I)

        T(u)_i = m_i + s_i u_i, \quad (m_i, s_i) \ \text{a function of}\ u_1, \dots, u_{i - 1}\ \text{and of}\ x

    Use it when a diagonal normal is too simple and codes have many dimensions. On Fashion-MNIST its gain over vae, one
    nat, is within the spread of seeds; the bounds with several draws (iwae) gain more.

    Args:
        steps: L, the number of steps, a whole number from 1 to 1,000.
        context: How many numbers of the encoder each step sees, a whole number from 0 to 10,000; with 0 the steps are
            the same for all rows.

    References:
        * Kingma et al. (2016), Improved variational inference with inverse autoregressive flow. NeurIPS
    """
    size = latent_size(info, latent_dim)
    bends = [conditionals.AutoregressiveStep(size, context, reverse=bool(n % 2)) for n in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def neural_spline(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 2, bins: int = 8, context: int = 16,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE with a posterior of autoregressive spline flow steps.

    It is like iaf, with a monotone rational quadratic spline for each coordinate instead of shift and scale: a single
    step can make several modes.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \ln p(z) - \ln q(z|x)]

        z = g(x) + \sqrt{h(x)} \odot T_L(\dots T_1(u)), \quad u \sim \mathcal{N}(0, I)

        T(u)_i = \mathrm{spline}_i(u_i), \quad \text{its knots a function of}\ u_1, \dots, u_{i - 1}\ \text{and of}\ x

    Use it when posteriors are far from normal, as with codes of few dimensions. On Fashion-MNIST it was 4 nats ahead of
    vae, the best of the flows, and took one and a half times as long.

    Args:
        steps: L, the number of steps, a whole number from 1 to 1,000.
        bins: Bins of each spline, on [-5, 5], a whole number from 2 to 1,000.
        context: How many numbers of the encoder each step sees, a whole number from 0 to 10,000; with 0 the steps are
            the same for all rows.

    References:
        * Durkan, Bekasov, Murray & Papamakarios (2019), Neural spline flows. NeurIPS
    """
    require_count(bins, "bins", 2)
    size = latent_size(info, latent_dim)
    bends = [conditionals.AutoregressiveStep(size, context, bins, reverse=bool(n % 2)) for n in range(_count(steps))]
    return _bent(info, size, bends, likelihood, variance, network, missing), objectives.ELBO()


def semi_amortised(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 4, rate: float = 0.3, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", missing: str = "mar",
) -> Built:  # fmt: skip
    r"""The VAE whose posterior is improved for each row by gradient steps.

    A few gradient steps on the row's own bound L start from the encoder's mean and variance. L is estimated with four
    fixed noise vectors; each step moves the mean by less than one standard deviation and changes the variance by less
    than a factor of e. Training differentiates through the steps, and every later use of the model takes them too.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, p(z))

        m \to m + s \tanh(r\, s\, \partial L / \partial m), \quad \ln h \to \ln h + \tanh(2 r\, \partial L / \partial
        \ln h), \quad s = \sqrt{h}

        q(z|x) = \mathcal{N}(m, \mathrm{diag}\, h) \ \text{after the last step}

    Use it when the encoder cannot keep up with the decoder. It takes about eighteen times as long as vae; on
    Fashion-MNIST its mean over seeds was 7 nats ahead with a spread of 33, so run several seeds.

    Args:
        steps: Steps for each row, a whole number from 1 to 1,000.
        rate: r, the size of a step in units of the posterior's own spread, a number above 0.

    References:
        * Kim et al. (2018), Semi-amortized variational autoencoders. ICML
    """
    size = latent_size(info, latent_dim)
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    likely = likelihood_for(info, size, likelihood, network, variance, missing)
    prior = prior_for(info, size, "auto")
    return models.SemiAmortised(prior, posterior, likely, size, steps=steps, rate=rate), objectives.ELBO()


def _count(steps: int) -> int:
    require_count(steps, "steps")
    return int(steps)


def _bent(
    info: DataInfo, size: int, bends: Sequence[conditionals.FlowStep], likelihood: str, variance: float | str,
    network: str, missing: str,
) -> nn.Module:  # fmt: skip
    """The model whose posterior is a diagonal normal bent by steps, whose numbers the encoder gives."""
    net = encoder(info, [size, size, *(bend.width for bend in bends)], network)
    posterior = conditionals.FlowPosterior(net, size, bends, info.reads)
    return _model(info, size, posterior, likelihood, variance, network, missing)


def _model(
    info: DataInfo, size: int, posterior: nn.Module, likelihood: str, variance: float | str, network: str, missing: str
) -> nn.Module:
    likely = likelihood_for(info, size, likelihood, network, variance, missing)
    return models.VAE(prior_for(info, size, "auto"), posterior, likely)
