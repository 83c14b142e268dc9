"""Codes on curved spaces: the sphere, the torus, hyperbolic space."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from latens import conditionals, models, networks, objectives, priors
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, through

Built = tuple[nn.Module, objectives.Objective]


def sphere(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""The VAE on the unit sphere: von Mises-Fisher posterior, uniform prior.

    A code is a point on the unit sphere: the encoder gives a direction μ(x) and a concentration κ(x). A uniform prior
    has no centre at which codes would crowd; the rate is exact and depends only on κ.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) \propto \exp(\kappa(x)\, \mu(x)^\top z), \quad p(z) \ \text{uniform on}\ \lVert z \rVert = 1

    Use it when direction is what matters, as in data of constant norm, or when codes are compared by angle. In many
    dimensions a sphere differs little from N(0, I): on Fashion-MNIST its NLL is 19 nats above that of vae, but its
    samples are better.

    Args:
        latent_dim: Coordinates of the sphere, a whole number from 2 to 65,536; the surface has one dimension fewer.
            auto: the smaller of 16 and the number of columns, but at least 2.

    References:
        * Davidson et al. (2018), Hyperspherical variational auto-encoders. UAI
    """
    kind = conditionals.VonMisesFisherPosterior
    return _on_sphere(info, kind, latent_dim, likelihood, variance, network), objectives.ELBO(beta)


def power_spherical(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""The VAE on the unit sphere with a power spherical posterior.

    It is like sphere, but draws and entropy of its density are in closed form: no draw is rejected, and no Bessel
    function is computed.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) \propto (1 + \mu(x)^\top z)^{\kappa(x)}, \quad p(z) \ \text{uniform on}\ \lVert z \rVert = 1

    Use it when sphere is too slow or unstable, especially in many dimensions. On Fashion-MNIST the two differ little.

    Args:
        latent_dim: Coordinates of the sphere, a whole number from 2 to 65,536; the surface has one dimension fewer.
            auto: the smaller of 16 and the number of columns, but at least 2.

    References:
        * De Cao & Aziz (2020), The power spherical distribution. arXiv:2006.04437
    """
    kind = conditionals.PowerSphericalPosterior
    return _on_sphere(info, kind, latent_dim, likelihood, variance, network), objectives.ELBO(beta)


def torus(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> Built:  # fmt: skip
    r"""The VAE whose codes are angles, with a uniform prior.

    Each dimension of the code is an angle with a von Mises posterior; the decoder sees its cosine and sine, so that its
    output is continuous as an angle passes 2π. The space of codes is a product of circles.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z)] - \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

        q(z|x) \propto \prod_{d} \exp(\kappa_d(x) \cos(z_d - \mu_d(x))), \quad p(z) \ \text{uniform}

    Use it when the data have periodic causes: hours, seasons, rotations, phases. For other data it gains nothing: it is
    the worst of this family on Fashion-MNIST, and four times as slow as vae.

    Args:
        latent_dim: Number of angles, a whole number from 1 to 65,536; auto: the smaller of 16 and the number of
            columns.

    References:
        * Davidson, Tomczak & Gavves (2019), Increasing expressivity of a hyperspherical VAE. arXiv:1910.02912
    """
    size = latent_size(info, latent_dim)
    posterior = conditionals.TorusPosterior(encoder(info, [3 * size], network), info.reads)
    likely = _of_unit_variance(2, likelihood_for(info, 2 * size, likelihood, network, variance))
    return models.VAE(priors.UniformTorus(size), posterior, likely), objectives.ELBO(beta)


def poincare(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, curvature: float = 1.0,
    prior_scale: float | str = "auto", features: int = 128, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    r"""The VAE in hyperbolic space with wrapped normals.

    Codes lie in the Poincaré ball, whose volume grows with distance as the number of leaves of a tree grows with depth.
    Posterior and prior are normals of the tangent space, wrapped onto the ball; the decoder begins with distances to
    hyperplanes of the ball. The rate is estimated from the draws.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \beta\, (\ln p(z) - \ln q(z|x))]

        q(z|x):\quad z = \mathrm{exp}_{\mu}(v), \quad v \sim \mathcal{N}(0, \mathrm{diag}\, h(x)); \quad p(z) \
        \text{the same with}\ \mu = 0 \ \text{and}\ h = s^2

    Use it when the data are organised as a tree, and hierarchy should appear as distance from the centre. It can also
    help if no tree is known: on Fashion-MNIST it is 12 nats ahead of vae, with better samples.

    References:
        * Mathieu et al. (2019), Continuous hierarchical representations with Poincaré variational auto-encoders.
          NeurIPS
    """
    size = latent_size(info, latent_dim)
    prior = priors.BallNormal(size, curvature, prior_scale)
    posterior = conditionals.WrappedNormalPosterior(encoder(info, [size, size], network), curvature, info.reads)
    return _in_ball(info, prior, posterior, features, likelihood, variance, network), objectives.ELBO(beta)


def poincare_riemannian(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, curvature: float = 1.0,
    prior_scale: float | str = "auto", features: int = 128, likelihood: str = "auto", variance: float | str = "optimal",
    network: str = "auto",
) -> Built:  # fmt: skip
    r"""The VAE in hyperbolic space with Riemannian normals.

    It is like poincare, but its density falls with the squared hyperbolic distance from the mean and has a single scale
    for all directions.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x)}[\ln p(x|z) + \beta\, (\ln p(z) - \ln q(z|x))]

        q(z|x) \propto \exp(-d(z, \mu(x))^2 / (2 h(x))), \quad p(z) \ \text{the same with}\ \mu = 0 \
        \text{and}\ h = s^2

    Use it when codes should be spread evenly in hyperbolic distance; poincare is faster and was no worse on
    Fashion-MNIST.

    References:
        * Mathieu et al. (2019), Continuous hierarchical representations with Poincaré variational auto-encoders.
          NeurIPS
    """
    size = latent_size(info, latent_dim)
    prior = priors.BallNormal(size, curvature, prior_scale, riemannian=True)
    posterior = conditionals.RiemannianNormalPosterior(encoder(info, [size, 1], network), curvature, info.reads)
    return _in_ball(info, prior, posterior, features, likelihood, variance, network), objectives.ELBO(beta)


def _on_sphere(
    info: DataInfo, kind: Callable[..., nn.Module], latent_dim: int | str, likelihood: str, variance: float | str,
    network: str,
) -> models.VAE:  # fmt: skip
    """The model on the unit sphere of R^latent_dim, with that kind of posterior."""
    size = max(2, latent_size(info, latent_dim)) if latent_dim == "auto" else latent_size(info, latent_dim)
    prior, posterior = priors.UniformSphere(size), kind(encoder(info, [size, 1], network), info.reads)
    likely = _of_unit_variance(size, likelihood_for(info, size, likelihood, network, variance))
    return models.VAE(prior, posterior, likely)


def _of_unit_variance(m: int, likelihood: nn.Module) -> nn.Module:
    """The likelihood whose network sees coordinates of a unit sphere of R^m times sqrt(m). Under the uniform prior
    these have variance 1, like coordinates under N(0, I). With a variance of 1/m, codes would hardly change the
    decoder's output at first, and the rate would fall to 0 before the decoder had learned to use them."""
    return through(networks.Scale(math.sqrt(m)), likelihood)


def _in_ball(
    info: DataInfo, prior: priors.BallNormal, posterior: nn.Module, features: int, likelihood: str,
    variance: float | str, network: str,
) -> models.VAE:  # fmt: skip
    """The model whose decoder begins with distances to hyperplanes of the ball."""
    first = networks.Gyroplanes(prior.dim, features, prior.c)
    return models.VAE(prior, posterior, through(first, likelihood_for(info, features, likelihood, network, variance)))
