"""Images compared as people see them: by similarity scores, which are not likelihoods and give no bound on ln p(x)."""

from __future__ import annotations

from torch import nn

from latens import models, objectives, priors
from latens.recipes.choices import DataInfo, latent_size, perceptual_for, posterior_for

Built = tuple[nn.Module, objectives.Objective]


def _alike(info: DataInfo, latent_dim: int | str, network: str, score: str, weight: float, beta: float) -> Built:
    size = latent_size(info, latent_dim)
    likeness = perceptual_for(info, size, network, score, weight)
    model = models.VAE(priors.StandardNormal(size), posterior_for(info, size, "diagonal", network, "shared"), likeness)
    return model, objectives.ELBO(beta)


def ms_ssim(
    info: DataInfo, *, latent_dim: int | str = "auto", weight: float = 1.0, beta: float = 1.0, network: str = "auto"
) -> Built:
    r"""The VAE of images compared by structural similarity, not by pixels.

    A similarity score at up to five scales (MS-SSIM), times the number D of cells of an image, takes the place of ln
    p(x|z). It is not a density of x, so there is no bound and no NLL.

    .. math::

        \text{maximise}\quad -w\, D\, \mathbb{E}_{q(z|x)}[1 - \text{MS-SSIM}(x, f(z))] - \beta\,\mathrm{KL}(q(z|x)
        \,\|\, p(z))

    Use it when images should look right in structure and contrast, and likelihood does not matter. On Fashion-MNIST its
    samples are better than those of vae, but its error in pixels is higher.

    Args:
        weight: w, the weight of the score, a number above 0; with a higher weight the code carries more information.
        beta: Weight of the rate, a number from 0; only its ratio to weight matters.

    References:
        * Snell et al. (2017), Learning to generate images with perceptual similarity metrics. ICIP
    """
    return _alike(info, latent_dim, network, "ms_ssim", weight, beta)


def feature_reconstruction(
    info: DataInfo, *, latent_dim: int | str = "auto", weight: float = 1.0, beta: float = 1.0, network: str = "auto"
) -> Built:
    r"""The VAE of images compared by features of a fixed network.

    The squared distance between features of a fixed network, times the number D of cells of an image, takes the place
    of ln p(x|z). The network is a random convolutional one (the paper uses a trained classifier). The distance is not a
    density of x, so there is no bound and no NLL.

    .. math::

        \text{maximise}\quad -\tfrac{w}{2}\, \mathbb{E}_{q(z|x)} \lVert \phi(x) - \phi(f(z)) \rVert^2 \cdot D -
        \beta\,\mathrm{KL}(q(z|x) \,\|\, p(z))

    Use it when edges and texture should be kept, and likelihood does not matter. On Fashion-MNIST its reconstructions
    are closer than those of vae even in pixels, and its samples are slightly better.

    Args:
        weight: w, the weight of the distance, a number above 0; with a higher weight the code carries more information.
        beta: Weight of the rate, a number from 0; only its ratio to weight matters.

    References:
        * Hou, Shen, Sun & Qiu (2017), Deep feature consistent variational autoencoder. WACV
    """
    return _alike(info, latent_dim, network, "features", weight, beta)
