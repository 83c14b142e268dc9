"""Posteriors, likelihoods and priors for the given data, assembled from stem, condition, network and head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from latens import conditionals, networks, priors
from latens.errors import InputError
from latens.recipes.choices.arrays import (
    COUNTS,
    LIKELIHOODS,
    likelihood_name,
    mean_of,
    never_seen,
    offset_of,
    standardisation,
    variance_of,
    varying_cells,
)
from latens.recipes.choices.info import DataInfo, network_kind, one_of
from latens.recipes.choices.tables import columns_likelihood, seen_as
from latens.schema import Schema

MIXTURE, LARGEST_MIXTURE = 32, 128  # the least and the most components of a mixture prior
ROWS_OF_COMPONENT = 300
MIXTURE_ROWS = 5000


def condition_for(info: DataInfo) -> networks.Condition | None:
    """The network for the conditions; None if there are no conditions. Each part has a separate one.

    ``InputError`` for a condition with missing cells."""
    for column in info.conditions:
        if column.missing:
            raise InputError(
                f"the condition {column.name!r} is missing in {column.missing:.1%} of the rows",
                "fill it, leave those rows out, or use the recipe 'm2', which takes gaps",
            )
    return networks.Condition({column.name: seen_as(column) for column in info.conditions}) if info.conditions else None


def encoder(info: DataInfo, outputs: Sequence[int], network: str, heads: str = "shared") -> nn.Module:
    """A network from data to ``sum(outputs)`` numbers: linear heads on one trunk, or a separate network for each
    head."""
    one_of("heads", heads, ("shared", "separate"))
    name, condition = network_kind(info, network), condition_for(info)
    stem, shape = stem_for(info)
    if condition is not None:
        if name == "conv":
            shape = (shape[0] + condition.features, *shape[1:])
        elif name == "sequence":
            shape = (shape[0], shape[1] + condition.features)
        else:
            stem, shape = nn.Sequential(stem, networks.Flatten(shape)), (math.prod(shape) + condition.features,)
    if heads == "separate":
        net: nn.Module = networks.Concatenate(*(networks.encoder(name, shape, size) for size in outputs))
    else:
        net = networks.encoder(name, shape, sum(outputs))
    if condition is not None:
        kind = {"conv": "image", "sequence": "sequence"}.get(name, "vector")
        return networks.Conditioned(net, condition, stem=stem, kind=kind)
    return nn.Sequential(stem, net)


def stem_for(info: DataInfo) -> tuple[nn.Module, tuple[int, ...]]:
    """The layers before the network of an encoder, and the shape of their output."""
    if isinstance(info.schema, Schema):
        (shift, unit), varying = standardisation(info), varying_cells(info)
        if varying is not None:  # if a cell that never varied changes later, it must not drown the other cells
            unit = torch.where(varying, unit, torch.inf)
        standardize = networks.Standardize(shift, unit)
        counts = info.schema.kind == "count"
        return (nn.Sequential(networks.Log1p(), standardize) if counts else standardize), info.shape
    wide = torch.float64 if info.schema.storage == "float64" else torch.float32
    stem = networks.ColumnFeatures([seen_as(column) for column in info.schema.modelled], wide=wide)
    return stem, (stem.features,)


def posterior_for(info: DataInfo, latent_dim: int, posterior: str, network: str, heads: str) -> nn.Module:
    """q(z|x): diagonal or full normal, or a point mass."""
    one_of("posterior", posterior, ("diagonal", "full", "point"))
    if posterior == "point":
        return conditionals.PointMassPosterior(encoder(info, [latent_dim], network), info.reads)
    if posterior == "full":
        sizes = [latent_dim, latent_dim * (latent_dim + 1) // 2]
        return conditionals.FullNormalPosterior(encoder(info, sizes, network, heads), info.reads)
    return conditionals.DiagonalNormalPosterior(encoder(info, [latent_dim, latent_dim], network, heads), info.reads)


def prior_for(info: DataInfo, latent_dim: int, prior: str, components: int | None = None) -> nn.Module:
    """p(z): N(0, I), a learned mixture of normals (given the condition, if any), or one normal p(z|c). "auto" is the
    mixture for tables of at least 5,000 rows, whose codes form groups, and N(0, I) for other data. Without a condition,
    a mixture has one component per 300 rows, at least 32 and at most 128. ``InputError`` for a conditional prior
    without a condition."""
    one_of("prior", prior, ("auto", "standard", "mixture", "conditional"))
    condition = condition_for(info)
    if components is None:
        many = info.rows // ROWS_OF_COMPONENT if info.is_table and condition is None else 0
        components = min(max(MIXTURE, many), LARGEST_MIXTURE)
    if prior == "auto":
        prior = "mixture" if info.is_table and info.rows >= MIXTURE_ROWS else "standard"
        if prior == "mixture":
            info.choices["prior"] = (
                f"prior = mixture: {components} normals, for a table of at least {MIXTURE_ROWS:,} rows"
            )
    if prior == "standard":
        return priors.StandardNormal(latent_dim)
    if condition is None:
        if prior == "conditional":
            raise InputError(
                "prior = conditional needs a condition, but none is named",
                "name a column with --condition, or pass --prior standard",
            )
        return priors.NormalMixturePrior(latent_dim, components)
    outputs = components * (1 + 2 * latent_dim) if prior == "mixture" else 2 * latent_dim
    net = networks.OnCondition(networks.mlp(condition.features, outputs, (64,)), condition)
    if prior == "mixture":
        return priors.NormalMixturePrior(latent_dim, components, net, info.reads)
    return priors.ConditionalNormal(net, info.reads)


def _decoder(info: DataInfo, network: str, inputs: int, shape: Sequence[int]) -> tuple[nn.Module, nn.Module]:
    """(decoder, the decoder's network without the condition), from codes ``[..., inputs]`` to ``[..., *shape]``."""
    condition = condition_for(info)
    inputs += 0 if condition is None else condition.features
    net = networks.decoder(network, inputs, shape)
    if info.is_table and network != "linear":  # so that the decoder starts from a linear one, the best for few rows
        net = networks.Sum(networks.decoder("linear", inputs, shape), net)
    return net if condition is None else networks.Conditioned(net, condition), net


def through(first: nn.Module, likelihood: nn.Module) -> nn.Module:
    """The likelihood with a network that sees ``first(z)`` instead of z."""
    net: Any = likelihood.network
    if isinstance(net, networks.Conditioned):
        net.stem = nn.Sequential(first, net.stem)
    else:
        likelihood.network = nn.Sequential(first, net)
    return likelihood


def likelihood_for(
    info: DataInfo, latent_dim: int, likelihood: str, network: str, variance: float | str = "optimal",
    missing: str = "mar", dependence: str = "codes",
) -> nn.Module:  # fmt: skip
    """p(x|z) for the data, with output biases that give the data's mean. ``missing`` is "mar" (at random) or "mnar"
    (tables). ``InputError`` for an option that does not apply to the data."""
    name, reads = network_kind(info, network), info.reads
    if info.is_table:
        one_of("likelihood", likelihood, LIKELIHOODS)
        if likelihood != "auto":
            raise InputError(
                f"likelihood = {likelihood} is for arrays, but each column of a table has its own",
                f"pass --column NAME={likelihood}",
            )
        if variance not in ("optimal", "learned", 1.0):
            raise InputError(
                f"variance = {variance} is for arrays, but each column of a table learns its scale", "omit --variance"
            )
        return columns_likelihood(info, lambda shape: _decoder(info, name, latent_dim, shape), missing, dependence)
    if dependence not in ("auto", "codes"):
        raise InputError(f"dependence = {dependence} is for tables, but these data are an array", "omit --dependence")
    if missing != "mar":
        raise InputError(f"missing = {missing} is for tables, but these data are an array", "omit --missing")
    kind, schema = likelihood_name(info, likelihood), info.schema
    assert isinstance(schema, Schema)
    if kind == "normal":
        shift, unit = standardisation(info)
        net, _ = _decoder(info, name, latent_dim, info.shape)
        return conditionals.NormalLikelihood(
            net, variance_of(variance), shift=shift, unit=unit, varying=varying_cells(info), rows=info.rows,
            reads=reads,
        )
    if kind == "bernoulli":
        net, inner = _decoder(info, name, latent_dim, info.shape)
        if info.sample is not None:
            networks.start_at(inner, mean_of(info).clamp(0.02, 0.98).logit())
        return conditionals.BernoulliLikelihood(net, reads)
    if kind == "continuous_bernoulli":
        return conditionals.ContinuousBernoulliLikelihood(_decoder(info, name, latent_dim, info.shape)[0], reads)
    if kind in COUNTS:
        return _counts(info, kind, name, latent_dim)
    levels = int(schema.levels or 2)
    if kind == "categorical":
        net, _ = _decoder(info, name, latent_dim, (levels, *info.shape))
        return conditionals.CategoricalLikelihood(net, reads, span=schema.span)
    part = conditionals.DiscretizedLogisticLikelihood(nn.Identity(), levels, span=schema.span, reads=reads)
    part.network, inner = _decoder(info, name, latent_dim, (part.parameters_per_cell, *info.shape))
    if info.sample is not None:
        low, high = schema.ends
        location = (mean_of(info) - low) * 2 / (high - low) - 1
        networks.start_at(inner, torch.stack([location, torch.full_like(location, -2.0)]))
    return part


def perceptual_for(info: DataInfo, latent_dim: int, network: str, score: str, weight: float) -> nn.Module:
    """A similarity score of images that replaces a likelihood; ``score`` is "ms_ssim" or "features". ``InputError`` for
    rows that are not images."""
    schema = info.schema
    if not schema.is_image or not isinstance(schema, Schema):
        raise InputError(
            f"a similarity score needs images, but these data have {info.columns} columns", "use the recipe 'vae'"
        )
    shift, unit = standardisation(info)
    net, _ = _decoder(info, network_kind(info, network), latent_dim, info.shape)
    if score == "features":
        return conditionals.FeatureReconstruction(net, info.shape, weight, shift=shift, unit=unit, reads=info.reads)
    low, high = schema.ends
    return conditionals.StructuralSimilarity(
        net, info.shape, weight, high - low, shift=shift, unit=unit, reads=info.reads
    )


def _counts(info: DataInfo, kind: str, network: str, latent_dim: int) -> nn.Module:
    """A likelihood of counts. Its log means start at those of the data or, if the total is given, at each cell's share
    of the total. Half a count is added to the total of each cell, and half a count to the joint total of the cells
    that are always 0."""
    pseudo = torch.full(info.shape, 0.5)
    more: dict[str, Any] = {"pseudo": pseudo} if kind == "poisson" else {"pseudo": pseudo, "shape": info.shape}
    if info.sample is not None:
        total, unseen = info.rows * float(mean_of(info).sum()), never_seen(info)
        pseudo[unseen] /= unseen.sum()
        added = float(pseudo.sum())
        more["smoothing"] = 1 / (info.rows + 1) if offset_of(info) is None else added / (total + added)
    part = getattr(conditionals, COUNTS[kind])(nn.Identity(), **more, offset=offset_of(info), reads=info.reads)
    cells = () if part.parameters_per_cell == 1 else (part.parameters_per_cell,)
    part.network, inner = _decoder(info, network, latent_dim, (*cells, *info.shape))
    if info.sample is not None:
        start = (mean_of(info) + pseudo / info.rows).log()
        further = torch.full((part.parameters_per_cell - 1, *info.shape), -3.0)
        networks.start_at(inner, start if not cells else torch.cat([start.unsqueeze(0), further]))
    return part
