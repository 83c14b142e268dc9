"""Autoencoders without a density of the code; a penalty keeps their codes usable."""

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

    One penalty grows with the distance of codes from 0, another with the size of the decoder's weights, because large
    weights could undo the first penalty. There is no noise and no density of x, so there is no bound.

    .. math::

        \text{minimise}\quad -\ln p(x|z) - a \ln p(z) + \lambda\, \lVert \theta \rVert^2, \quad z = g(x)

        -\ln p(z) = \tfrac{1}{2} \lVert z \rVert^2 + \text{constant}

    Use it when you want the sharpness of an autoencoder, but codes that stay close together. On Fashion-MNIST its draws
    from N(0, I) are far better than those of ae. Codes drawn from a mixture fitted afterwards (`latens density RUN`)
    give better samples still.

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

    Instead of the size of the decoder's weights, the penalty is the squared norm of its Jacobian with respect to the
    code, estimated with one random projection for each draw (Hutchinson). f is the output of the decoder's network; for
    a normal likelihood, it is the standardised mean. Training steps differentiate twice and are not compiled.

    .. math::

        \text{minimise}\quad -\ln p(x|z) - a \ln p(z) + \lambda\, \lVert \partial f / \partial z \rVert^2, \quad z =
        g(x)

    Use it when neighbouring codes should decode alike. On Fashion-MNIST rae_l2 is better in both reconstruction and
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
    r"""The autoencoder that restores rows from corrupted rows.

    In each step the encoder sees the row with some cells hidden, as if they were missing, or with normal noise added.
    The loss is computed for the whole, clean row, so the code has to use the dependence between cells. After training,
    rows are encoded without corruption.

    .. math::

        \text{minimise}\quad \mathbb{E}_{\tilde x}[-\ln p(x \,|\, z = g(\tilde x))]

    Use it when codes should be robust, or new rows will have gaps. On Fashion-MNIST a mixture fitted to its codes gave
    the best samples of all recipes; draws from N(0, I) are as poor as those of ae.

    Args:
        hidden: Probability that a cell is hidden, a number from 0 to below 1.
        noise: Standard deviation of the noise, in standard deviations of the data (arrays only), a number from 0.

    References:
        * Vincent et al. (2008), Extracting and composing robust features with denoising autoencoders. ICML
    """
    if noise and info.is_table:
        raise InputError(f"noise = {noise} is for arrays, but these data are a table", "hide cells with --hidden")
    model, objective = ae(info, latent_dim=latent_dim, network=network)
    unit = 1.0 if info.is_table else standardisation(info)[1]
    return model, objectives.Denoising(objective, hidden, noise, unit)


def contractive_ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto", weight: float = 1.0
) -> tuple[nn.Module, objectives.Objective]:
    r"""The autoencoder whose code changes slowly with the row.

    The penalty is the squared norm of the encoder's Jacobian with respect to the standardised row, estimated with
    one random projection for each row. Only the directions that reconstruction needs stay sensitive. The encoder must
    see the data on a linear scale: no counts, levels or gaps. Training steps differentiate twice and are not compiled.

    .. math::

        \text{minimise}\quad -\ln p(x|z) + \lambda\, \lVert \partial g / \partial x \rVert^2, \quad z = g(x)

    Use it when small changes of a row should not move its code. On Fashion-MNIST it reconstructs nearly as well as ae,
    and a mixture fitted to its codes gives about equally good samples.

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
    r"""The autoencoder with a Laplace prior: few coordinates of a code are large.

    The energy of a Laplace prior is the L1 norm of the code, which pulls small coordinates to 0. The size of the
    decoder's weights is penalised too, because otherwise codes could shrink at no cost.

    .. math::

        \text{minimise}\quad -\ln p(x|z) + a\, \lVert z \rVert_1 + \lambda\, \lVert \theta \rVert^2, \quad z = g(x)

    Use it when a row should be described by few active numbers. On Fashion-MNIST draws from its prior are far better
    than those of ae, but worse than those of rae_l2.

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
