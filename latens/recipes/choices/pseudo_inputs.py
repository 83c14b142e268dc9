"""Rows of the data as parts of a model: exemplars, and the starting values of pseudo-inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens import priors
from latens.errors import InputError, is_whole, require
from latens.recipes.choices.arrays import standardisation
from latens.recipes.choices.info import DataInfo
from latens.recipes.choices.tables import numbers_of
from latens.schema import Schema
from latens.tensors.trees import Tree


def rows_for(info: DataInfo, components: int | str, usual: int = 100) -> tuple[Tensor, Tree]:
    """``components`` evenly spaced rows of the sample in the model's layout, with their conditions. "auto" takes
    ``usual`` rows, or all rows if there are fewer."""
    if components == "auto":
        components = min(usual, info.rows)
        info.choices["components"] = f"components = {components}: the smaller of {usual} and the {info.rows:,} rows"
    good = is_whole(components) and 2 <= int(components) <= info.rows
    require(good, "components", f"'auto' or a whole number from 2 to {info.rows:,}, the number of rows", components)
    x, c = spread_rows(info, int(components))
    return x, {name: values.double() for name, values in c.items()}


def spread_rows(info: DataInfo, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """``count`` evenly spaced rows of the sample, with their conditions. Without a sample they are zeros, which are
    replaced when a run is loaded from its folder."""
    if info.sample is None:
        x = torch.zeros(count, *info.shape, dtype=getattr(torch, info.schema.storage))
        return x, {name: torch.zeros(count) for name in info.reads}
    pick = torch.arange(count) * len(info.sample) // count
    return info.sample[pick], {name: info.sample_c[name][pick] for name in info.reads}


def linear_units(info: DataInfo, why: str, remedy: str) -> Tensor:
    """The unit of each cell, ``[*shape]``, for data that the encoder sees on a linear scale.

    ``InputError``, with ``why`` and the remedy, for counts, and for a table with levels, gaps, or a column that the
    encoder sees on a logarithmic scale."""
    if not isinstance(info.schema, Schema):
        columns = numbers_of(info, why, remedy)
        for column, name in zip(columns, info.schema.modelled):
            if column.how:
                raise InputError(f"column {name.name!r} is seen on a logarithmic scale, but {why}", remedy)
        return torch.tensor([column.unit for column in columns])
    if info.schema.kind == "count":
        raise InputError(f"counts are seen on a logarithmic scale, but {why}", remedy)
    return standardisation(info)[1]


def pseudo_inputs_for(info: DataInfo, components: int | str) -> tuple[nn.Module, Tree]:
    """Pseudo-inputs that begin as rows of the data, and the conditions of these rows.

    ``InputError`` for tables with levels or gaps."""
    if not isinstance(info.schema, Schema):
        why = "learned pseudo-inputs need a number in every cell"
        columns = numbers_of(info, why, "use the recipe 'exemplar', whose inputs are rows")
        start, c = rows_for(info, components, 50)
        shift = torch.tensor([column.shift for column in columns], dtype=start.dtype)
        unit = torch.tensor([column.unit for column in columns])
        log = torch.tensor([bool(column.how) for column in columns])
        plus = torch.tensor([float(column.how == "log1p") for column in columns])
        return priors.PseudoInputs(start, shift, unit, log=log, plus=plus), c
    start, c = rows_for(info, components, 50)
    return priors.PseudoInputs(start, *standardisation(info), log=info.schema.kind == "count"), c
