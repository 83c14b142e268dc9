"""One array or table as several modalities: contiguous pieces, each with separate parts."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import torch

from latens import conditionals
from latens.distributions import Pieces
from latens.errors import InputError, is_whole
from latens.recipes.choices.info import DataInfo
from latens.recipes.choices.parts import likelihood_for, posterior_for
from latens.schema import AnySchema, Table
from latens.tensors.trees import Tree


def pieces_of(info: DataInfo, modalities: int) -> dict[str, DataInfo]:
    """The data cut into ``modalities`` pieces, as {name: what a recipe may know about the piece}: rows of images from
    the top, stretches of sequences, or columns in their order. ``InputError`` for fewer than two pieces, or for more
    pieces than rows, steps or columns."""
    axis = _axis(info)
    length = info.shape[axis]
    if not (is_whole(modalities) and 2 <= modalities <= length):
        raise InputError(f"modalities must be a whole number from 2 to {length}, got {modalities!r}")
    cuts = list(accumulate([length // modalities + (i < length % modalities) for i in range(modalities)], initial=0))
    info.choices["modalities"] = f"modalities = {modalities} pieces of " + ", ".join(
        str(stop - start) for start, stop in pairwise(cuts)
    )
    return {f"piece_{i + 1}": _piece(info, axis, *cut) for i, cut in enumerate(pairwise(cuts))}


def _axis(info: DataInfo) -> int:
    """The axis along which data are cut, counted from the end."""
    return -2 if len(info.shape) > 1 else -1


def _piece(info: DataInfo, axis: int, start: int, stop: int) -> DataInfo:
    schema = info.schema
    part: AnySchema
    if isinstance(schema, Table):
        part = replace(schema, fields=(*schema.modelled[start:stop], *schema.given_fields), rules=())
    else:
        shape = list(schema.shape)
        shape[axis] = stop - start
        flat = torch.zeros(schema.columns, dtype=torch.bool)
        flat[list(schema.constant)] = True
        constant = flat.view(schema.shape).narrow(axis, start, stop - start).flatten().nonzero().flatten().tolist()
        names = None if schema.names is None else schema.names[start:stop]
        part = replace(
            schema, shape=tuple(shape), names=names, constant=tuple(constant), constant_values=(), ranges=None
        )
    sample = None if info.sample is None else info.sample.narrow(axis, start, stop - start)
    return replace(info, schema=part, sample=sample)


def modality_parts(
    info: DataInfo, latent_dim: int, modalities: int, network: str, likelihood: str, variance: float | str
) -> tuple[dict[str, Tree], conditionals.ByModality, Pieces]:
    """(experts by name; the likelihood of all modalities; how the array holds them). ``InputError`` for the optimal
    variance, which is defined only for a single array."""
    found = pieces_of(info, modalities)
    axis = _axis(info)
    pieces = Pieces({name: part.shape[axis] for name, part in found.items()}, axis)
    if variance == "optimal":
        raise InputError(
            "the optimal variance is defined for a single array, but these data have several modalities",
            "pass --variance learned, or a number",
        )
    experts = {n: posterior_for(part, latent_dim, "diagonal", network, "shared") for n, part in found.items()}
    given = {n: likelihood_for(part, latent_dim, likelihood, network, variance) for n, part in found.items()}
    return experts, conditionals.ByModality(given, pieces), pieces
