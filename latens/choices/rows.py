"""Rows of the data as parts of a model: exemplars, and what pseudo-inputs begin as."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens import priors
from latens.choices.arrays import standardisation
from latens.choices.info import DataInfo
from latens.errors import InputError, is_whole, require
from latens.schema import Schema
from latens.trees import Tree


def rows_for(info: DataInfo, components: int | str, usual: int = 100) -> tuple[Tensor, Tree]:
    """So many rows of the sample, evenly spaced, in the model's layout, with their conditions; "auto" takes ``usual``,
    or all there are. Zeros where there is no sample (a run that is read from its folder fills them)."""
    if components == "auto":
        components = min(usual, info.rows)
        info.choices["components"] = f"components = {components}: the smaller of {usual} and the {info.rows:,} rows"
    good = is_whole(components) and 2 <= int(components) <= info.rows
    require(good, "components", f"'auto' or from 2 to the {info.rows:,} rows", components)
    count = int(components)
    if info.sample is None:
        x = torch.zeros(count, *info.shape, dtype=getattr(torch, info.schema.storage))
        return x, {name: torch.zeros(count, dtype=torch.float64) for name in info.reads}
    pick = torch.arange(count) * len(info.sample) // count
    return info.sample[pick], {name: info.sample_c[name][pick].double() for name in info.reads}


def pseudo_inputs_for(info: DataInfo, components: int | str) -> tuple[nn.Module, Tree]:
    """Pseudo-inputs that begin as rows of the data, and the conditions of those rows. ``InputError`` for tables."""
    if not isinstance(info.schema, Schema):
        raise InputError(
            "learned pseudo-inputs need cells that are all numbers, and a table's have levels and gaps: use the recipe "
            "'exemplar', whose inputs are rows, or 'mixture'"
        )
    start, c = rows_for(info, components, 50)
    return priors.PseudoInputs(start, *standardisation(info), log=info.schema.kind == "count"), c
