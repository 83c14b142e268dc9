"""Tables: how a column enters the networks, and which likelihood it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from latens import conditionals, networks
from latens.choices.info import DataInfo
from latens.networks import Seen
from latens.schema import Column
from latens.schema.column import LOGARITHMIC


def seen_as(column: Column) -> Seen:
    """How a network sees a column."""
    if column.outputs_codes:
        return Seen(len(column.levels or ()))
    return Seen(None, LOGARITHMIC.get(column.kind, ""), column.shift, column.unit)


def columns_likelihood(
    info: DataInfo, decoder: Callable[[Sequence[int]], tuple[nn.Module, nn.Module]]
) -> conditionals.Columns:
    """The product of the columns' likelihoods, its untrained network giving the columns' marginals."""
    heads = [likelihood_of(column) for column in info.schema.modelled]  # type: ignore[union-attr]
    total = sum(head.outputs for head in heads)
    net, inner = decoder((total,))
    part = conditionals.Columns(net, heads, reads=info.reads)
    if info.sample is not None:
        networks.start_at(inner, part.start(info.sample))
    return part


def likelihood_of(column: Column) -> conditionals.ColumnLikelihood:
    """The likelihood that the schema names, in the column's own centre and spread."""
    bounded = column.kind == "bounded" and column.family != "normal"
    own_units = column.family in ("bernoulli", "categorical", "ordinal", "beta", "continuous_bernoulli")
    counts = column.kind == "count"
    return conditionals.ColumnLikelihood(
        column.family,
        len(column.levels or ()) if column.family in ("categorical", "ordinal") else None,
        0.0 if own_units else column.shift,
        1.0 if own_units or counts else column.unit,
        column.low if bounded else None,
        column.high if bounded else None,
    )
