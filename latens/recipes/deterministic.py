"""Autoencoders without a density of the code, whose codes a penalty keeps usable."""

from __future__ import annotations

from torch import nn

from latens import objectives, priors
from latens.errors import InputError
from latens.recipes.bounds import ae
from latens.recipes.choices import DataInfo, linear_units, standardisation


def rae_l2(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", code_weight: float = 1.0,
    weight: float = 1e-3,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The autoencoder with small codes and small decoder weights.

    Codes pay for their distance from 0, and the decoder for the size of its weights, because large weights could undo
    the first penalty. There is no noise and no density of x, so no bound.

    .. math::

        \text{minimise}\quad -\ln p(x|z) - a \ln p(z) + \lambda\, \lVert \theta \rVert^2, \quad z = g(x)

        -\ln p(z) = \tfrac{1}{2} \lVert z \rVert^2 + \text{constant}

    Use it when you want the sharpness of an autoencoder and codes in one place. On Fashion-MNIST its draws from N(0, I)
    are far better than those of ae, and codes drawn from a mixture fitted afterwards (`latens density RUN`) give better
    samples still.

    Args:
        code_weight: a, the weight of -ln p(z), a number from 0.
        weight: λ, the weight of the sum of squared decoder weights, a number from 0.

    References:
        * Ghosh et al. (2020), From variational to deterministic autoencoders. ICLR
    """
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    return model, objective + code_weight * objectives.CodeEnergy() + weight * objectives.DecoderWeights()


def rae_gp(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", code_weight: float = 1.0,
    weight: float = 0.1,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The autoencoder with small codes and a decoder that changes slowly.

    In place of the size of its weights, the decoder pays for the squared norm of its Jacobian in the code, estimated
    with one random projection for each draw (Hutchinson). f is the output of the decoder's network: the standardised
    mean of a normal likelihood. Steps differentiate twice and are not compiled.

    .. math::

        \text{minimise}\quad -\ln p(x|z) - a \ln p(z) + \lambda\, \lVert \partial f / \partial z \rVert^2, \quad z =
        g(x)

    Use it when neighbouring codes should decode alike. On Fashion-MNIST rae_l2 is ahead of it in reconstruction and in
    samples.

    Args:
        code_weight: a, the weight of -ln p(z), a number from 0.
        weight: λ, the weight of the squared Jacobian norm, a number from 0.

    References:
        * Ghosh et al. (2020), From variational to deterministic autoencoders. ICLR
    """
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    model.compile_mode = "off"  # type: ignore[assignment]
    return model, objective + code_weight * objectives.CodeEnergy() + weight * objectives.DecoderJacobian()


def denoising_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", hidden: float = 0.25, noise: float = 0.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""The autoencoder that restores rows from corrupted ones.

    In each step the encoder sees the row with some cells hidden, as missing cells are, or with normal noise added; the
    loss is that of the whole, clean row. The code has to use how cells depend on each other. After training, rows are
    encoded uncorrupted.

    .. math::

        \text{minimise}\quad \mathbb{E}_{\tilde x}[-\ln p(x \,|\, z = g(\tilde x))]

    Use it when codes should be robust or rows will come with gaps. On Fashion-MNIST a mixture fitted to its codes gave
    the best samples of all recipes; draws from N(0, I) are as poor as those of ae.

    Args:
        hidden: Probability that a cell is hidden, a number from 0 to below 1.
        noise: Standard deviation of the noise, in standard deviations of the data (arrays only), a number from 0.

    References:
        * Vincent et al. (2008), Extracting and composing robust features with denoising autoencoders. ICML
    """
    if noise and info.is_table:
        raise InputError(f"noise = {noise} is for arrays, and these data are a table", "hide cells with --hidden")
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    unit = 1.0 if info.is_table else standardisation(info)[1]
    return model, objectives.Denoising(objective, hidden, noise, unit)


def contractive_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""The autoencoder whose code changes slowly with the row.

    The encoder pays for the squared norm of its Jacobian in the standardised row, estimated with one random projection
    for each row. Only directions that reconstruction needs stay sensitive. It needs data that the encoder sees on a
    linear scale: no counts, levels or gaps. Steps differentiate twice and are not compiled.

    .. math::

        \text{minimise}\quad -\ln p(x|z) + \lambda\, \lVert \partial g / \partial x \rVert^2, \quad z = g(x)

    Use it when small changes of a row should not move its code. On Fashion-MNIST it reconstructs nearly as well as ae,
    and a mixture fitted to its codes samples about as well.

    Args:
        weight: λ, the weight of the squared Jacobian norm, a number from 0.

    References:
        * Rifai et al. (2011), Contractive auto-encoders: Explicit invariance during feature extraction. ICML
    """
    unit = linear_units(info, "contractive_ae needs a linear one", "use rae_l2, denoising_ae or sparse_ae")
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    model.compile_mode = "off"  # type: ignore[assignment]
    return model, objective + weight * objectives.EncoderJacobian(unit)


def sparse_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", code_weight: float = 1.0,
    weight: float = 1e-3,
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The autoencoder with a Laplace prior: few numbers of a code are large.

    The energy of a Laplace prior is the L1 norm of the code, which pulls small coordinates to 0. The decoder pays for
    the size of its weights, because otherwise codes could shrink at no cost.

    .. math::

        \text{minimise}\quad -\ln p(x|z) + a\, \lVert z \rVert_1 + \lambda\, \lVert \theta \rVert^2, \quad z = g(x)

    Use it when a row should be described by few active numbers. On Fashion-MNIST draws from its prior are far better
    than those of ae, and worse than those of rae_l2.

    Args:
        code_weight: a, the weight of the L1 norm, a number from 0.
        weight: λ, the weight of the sum of squared decoder weights, a number from 0.

    References:
        * Olshausen & Field (1996), Emergence of simple-cell receptive field properties by learning a sparse code for
          natural images. Nature 381
    """
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    model.prior = priors.Laplace(model.prior.dim)  # type: ignore[arg-type]
    return model, objective + code_weight * objectives.CodeEnergy() + weight * objectives.DecoderWeights()
