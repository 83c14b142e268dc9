"""Codes that can be rounded and stored, with noise instead of rounding during training."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, networks, objectives, priors
from latens.errors import is_whole, require
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, network_name, through
from latens.recipes.choices.hierarchy import block


def hyperprior(
    info: DataInfo, *, latent_dim: int | str = "auto", hyper_dim: int | str = "auto", components: int = 8,
    beta: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
    missing: str = "mar",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Codes that can be rounded, whose scales are described by further codes.

    The posterior is uniform noise of width 1 around the encoder's output, which imitates the error of rounding to whole
    numbers. Each code z has a normal density whose scale is decoded from the hyper-codes a; a has a learned density.
    The rate is the length, in nats, of the message that an entropy coder would write.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q}[\ln p(x|z) + \beta\, (\ln p(a) + \ln p(z|a))]

        q(a, z|x) = \mathcal{U}(a - g_a(x); \pm \tfrac{1}{2})\, \mathcal{U}(z - g_z(x); \pm \tfrac{1}{2})

        p(z|a) = \mathcal{N}(0, \mathrm{diag}\, s(a)) \ \text{plus the same noise}

    Use it when rows are to be compressed. beta is the price of a nat: a sweep over beta gives the curve of length and
    distortion. As a generative model it is close to vae on Fashion-MNIST. Importance weights cannot close the gap of
    its bound, because the posterior reaches no code outside its box.

    Args:
        latent_dim: Dimensions of z, a whole number from 1 to 65,536; auto: the smaller of 16 and the number of columns.
        hyper_dim: Dimensions of a, a whole number from 1; auto: a quarter of latent_dim, at least 1.
        components: Normals in the learned density of each dimension of a, a whole number from 1.
        beta: Weight of the rate, a number from 0; 1 is the ELBO, a larger weight gives shorter codes.

    References:
        * Ballé et al. (2018), Variational image compression with a scale hyperprior. ICLR
    """
    size = latent_size(info, latent_dim)
    hyper = max(1, size // 4) if hyper_dim == "auto" else hyper_dim
    require(is_whole(hyper) and int(hyper) >= 1, "hyper_dim", "'auto' or a whole number from 1", hyper_dim)
    scales = conditionals.DitheredNormal(block(int(hyper), size, network_name(info, network)))
    prior = priors.ChainedPrior(priors.DitheredMixturePrior(int(hyper), components), scales, size)
    posterior = conditionals.UnitUniformPosterior(encoder(info, [int(hyper), size], network), info.reads)
    likely = likelihood_for(info, size, likelihood, network, variance, missing)
    return models.VAE(prior, posterior, through(networks.Last(size), likely)), objectives.ELBO(beta)
