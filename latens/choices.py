"""What "auto" means: sizes, likelihoods and networks chosen from the schema and the counts of the data.

Every choice is written down as a sentence in ``DataInfo.choices``; the run folder and the report show them. Choices
depend on the schema and the number of rows alone, so that a saved run is rebuilt without its data; the sample of rows
only sets the starting values of buffers and biases, which loading replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from latens import conditionals, networks
from latens.errors import InputError, is_whole, require
from latens.schema import Schema

LIKELIHOODS = ("auto", "normal", "bernoulli", "categorical", "discretized_logistic")
NETWORKS = ("auto", "mlp", "residual", "conv", "linear")
CONV_SIDE = 12  # images at least this large on both sides get convolutions


@dataclass
class DataInfo:
    """What a recipe may know of the data: schema, number of rows, a sample of rows in storage type (or None)."""

    schema: Schema
    rows: int
    sample: Tensor | None = None
    choices: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.schema.shape

    @property
    def columns(self) -> int:
        return self.schema.columns


def one_of(name: str, value: str, valid: Sequence[str]) -> str:
    """``value`` if it is valid, else an ``InputError`` that lists what is."""
    if value not in valid:
        raise InputError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
    return value


def latent_size(info: DataInfo, latent_dim: int | str) -> int:
    """The latent dimension: as given, or min(16, columns)."""
    if latent_dim == "auto":
        size = min(16, info.columns)
        info.choices["latent_dim"] = f"latent_dim = {size}: the smaller of 16 and the {info.columns} columns"
        return size
    require(is_whole(latent_dim) and int(latent_dim) >= 1, "latent_dim", "'auto' or a whole number from 1", latent_dim)
    if int(latent_dim) > info.columns:
        info.warnings.append(
            f"latent_dim {latent_dim} is more than the {info.columns} columns of the data: the dimensions left over "
            "stay inactive"
        )
    return int(latent_dim)


def likelihood_name(info: DataInfo, likelihood: str) -> str:
    """The likelihood that suits the values seen."""
    one_of("likelihood", likelihood, LIKELIHOODS)
    schema = info.schema
    if likelihood == "auto":
        likelihood = {"binary": "bernoulli", "levels": "discretized_logistic"}.get(schema.kind, "normal")
        words = {
            "bernoulli": "Bernoulli", "normal": "Normal with one observation variance",
            "discretized_logistic": f"DiscretizedLogistic over {schema.levels} levels",
        }[likelihood]  # fmt: skip
        info.choices["likelihood"] = f"likelihood = {words}: {schema.reason}"
    elif likelihood == "bernoulli" and schema.kind != "binary":
        raise InputError(
            "a Bernoulli likelihood needs values 0 and 1 only; for grey values use likelihood='discretized_logistic' "
            f"or 'normal' (seen: {schema.reason})"
        )
    elif likelihood in ("categorical", "discretized_logistic") and schema.levels is None:
        raise InputError(f"likelihood={likelihood!r} needs whole numbers from 0 (seen: {schema.reason}); use 'normal'")
    return likelihood


def network_name(info: DataInfo, network: str) -> str:
    """Convolutions for images at least 12 x 12, fully connected layers otherwise."""
    one_of("network", network, NETWORKS)
    large = info.schema.is_image and min(info.shape[-2:]) >= CONV_SIDE
    if network == "auto":
        network = "conv" if large else "mlp"
        why = f"{info.columns} columns"
        if info.schema.is_image:
            why = f"images of {info.shape[-2]} x {info.shape[-1]} pixels"
        info.choices["network"] = f"network = {network}: {why}"
    if network == "conv" and not info.schema.is_image:
        raise InputError("network='conv' needs images; this data has columns: use 'mlp', 'residual' or 'linear'")
    return network


def standardisation(info: DataInfo) -> tuple[Tensor, Tensor]:
    """(shift, unit) in the user's units: the mean of each cell, and the standard deviation, one for all pixels of
    images and for levels, one a column otherwise.

    A column that never varies gets a thousandth of the others' mean unit (1e-3 if none varies), so that it is kept and
    sampled as it is with a finite density; ``varying_cells`` leaves it out of the optimal variance. ``InputError``
    where the spread is beyond the floats that networks compute in.
    """
    schema, default = info.schema, torch.get_default_dtype()
    pooled = schema.is_image or schema.is_discrete
    wide = torch.float64 if schema.storage == "float64" else default
    if info.sample is None:
        return torch.zeros(schema.shape, dtype=wide), torch.ones(() if pooled else schema.shape)
    sample = info.sample.double()
    shift = sample.mean(0)
    unit = (sample - shift).square().mean().sqrt() if pooled else sample.std(0, correction=0)
    floats = torch.finfo(default)
    beyond = (unit != 0) & ~((unit >= floats.tiny) & (unit <= floats.max))
    if beyond.any():
        cell = int(beyond.flatten().nonzero()[0])
        where = f"column {schema.names[cell]!r}" if schema.names else "the data" if pooled else f"column {cell}"
        raise InputError(
            f"the standard deviation of {where}, {float(unit.flatten()[cell]):.3g}, is beyond {str(default)[6:]} "
            f"({floats.tiny:.0e} to {floats.max:.0e}): give the values in another unit"
        )
    rounding = 1e-12 * (shift.abs().max() if pooled else shift.abs())
    varies = unit > rounding
    usual = unit[varies].mean() if varies.any() else torch.ones((), dtype=unit.dtype)
    unit = torch.where(varies, unit, usual * (1.0 if pooled else 1e-3))
    return shift.to(wide), unit.to(default)


def varying_cells(info: DataInfo) -> Tensor | None:
    """A mask of the columns that vary, ``[*shape]``; None where all do, and for pixels, which share one unit."""
    if not info.schema.constant or info.schema.is_image or info.schema.is_discrete:
        return None
    mask = torch.ones(info.columns, dtype=torch.bool)
    mask[list(info.schema.constant)] = False
    return mask.view(info.shape) if mask.any() else None


def encoder(info: DataInfo, outputs: Sequence[int], network: str, heads: str = "shared") -> nn.Module:
    """A network from data to ``sum(outputs)`` numbers: linear heads on one trunk, or one network a head."""
    one_of("heads", heads, ("shared", "separate"))
    name = network_name(info, network)
    stem = networks.Standardize(*standardisation(info))
    if heads == "separate":
        apart = (networks.encoder(name, info.shape, size) for size in outputs)
        return nn.Sequential(stem, networks.Concatenate(*apart))
    return nn.Sequential(stem, networks.encoder(name, info.shape, sum(outputs)))


def posterior_for(info: DataInfo, latent_dim: int, posterior: str, network: str, heads: str) -> nn.Module:
    """q(z|x): diagonal or full normal, or a point mass."""
    one_of("posterior", posterior, ("diagonal", "full", "point"))
    if posterior == "point":
        return conditionals.PointMass(encoder(info, [latent_dim], network))
    if posterior == "full":
        return conditionals.FullNormal(encoder(info, [latent_dim, latent_dim * (latent_dim + 1) // 2], network, heads))
    return conditionals.DiagonalNormal(encoder(info, [latent_dim, latent_dim], network, heads))


def likelihood_for(
    info: DataInfo, latent_dim: int, likelihood: str, network: str, variance: float | str = "optimal"
) -> nn.Module:
    """p(x|z) for the data, its output biases at the data's mean."""
    kind, name, schema = likelihood_name(info, likelihood), network_name(info, network), info.schema
    if kind == "normal":
        shift, unit = standardisation(info)
        net = networks.decoder(name, latent_dim, info.shape)
        varying = varying_cells(info)
        return conditionals.Normal(net, _variance(variance), shift=shift, unit=unit, varying=varying)
    if kind == "bernoulli":
        net = networks.decoder(name, latent_dim, info.shape)
        if info.sample is not None:
            networks.start_at(net, _mean(info).clamp(0.02, 0.98).logit())
        return conditionals.Bernoulli(net)
    levels = int(schema.levels or 2)
    if kind == "categorical":
        return conditionals.Categorical(networks.decoder(name, latent_dim, (levels, *info.shape)))
    part = conditionals.DiscretizedLogistic(nn.Identity(), levels)
    part.network = networks.decoder(name, latent_dim, (part.parameters_per_cell, *info.shape))
    if info.sample is not None:
        location = _mean(info) * 2 / (levels - 1) - 1
        networks.start_at(part.network, torch.stack([location, torch.full_like(location, -2.0)]))
    return part


def _variance(variance: float | str) -> float | str:
    try:
        return variance if variance in ("learned", "optimal") else float(variance)
    except (TypeError, ValueError):
        raise InputError(f"variance must be a positive number, 'learned' or 'optimal', got {variance!r}") from None


def _mean(info: DataInfo) -> Tensor:
    assert info.sample is not None
    return info.sample.to(torch.get_default_dtype()).mean(0)
