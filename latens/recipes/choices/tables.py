"""Tables: how columns enter the networks, and which likelihoods they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from latens import conditionals, networks
from latens.errors import InputError
from latens.networks import Seen
from latens.recipes.choices.info import DataInfo, one_of
from latens.schema import Column, Table
from latens.schema.column import CODED, LOGARITHMIC
from latens.schema.law import is_value
from latens.schema.rules import Combinations, Confined, Pinned, Rule

ROWS_OF_SCALES = 2000  # with fewer rows, the density of a number has one component, whose scale ignores the codes
COMPONENTS = 3  # with at least that many rows, the density of a number has this many components
MOST_IN_ORDER = 64  # at most this many columns are autoregressive, since each of them takes a pass in draws
BEFORE = 64  # hidden units of the network by which a column depends on the columns before it


def seen_as(column: Column) -> Seen:
    """How a network sees a column."""
    if column.outputs_codes:
        return Seen(len(column.levels or ()))
    return Seen(None, LOGARITHMIC.get(column.kind, ""), column.shift, column.unit, column.law)


def numbers_of(info: DataInfo, why: str, remedy: str) -> list[Seen]:
    """The columns of a table with a number in every cell, in the form in which a network sees them. For any other table
    the ``InputError`` names the first column with levels or gaps, ``why`` these cannot be used, and the remedy."""
    for column in info.schema.modelled:  # type: ignore[union-attr]
        if column.outputs_codes or column.missing:
            has = "levels" if column.outputs_codes else "missing cells"
            raise InputError(f"column {column.name!r} has {has}, but {why}", remedy)
    return [seen_as(column) for column in info.schema.modelled]  # type: ignore[union-attr]


def allowed_in(schema: Table) -> list[conditionals.Restriction]:
    """What rules allow modelled columns to hold, given others and conditions. A column has one such rule: samples keep
    another one by being drawn again."""
    names = schema.names
    place: dict[str, int | str] = {name: name for name in schema.conditions} | {n: j for j, n in enumerate(names)}
    found: dict[str, conditionals.Restriction] = {}
    for rule in sorted(schema.rules, key=lambda rule: isinstance(rule, Pinned)):
        if rule.target in names and set(rule.sources) <= set(place):
            sources = tuple(place[name] for name in rule.sources)
            own = _restriction(rule, names.index(rule.target), sources, schema)
            if own is not None:
                found.setdefault(rule.target, own)
    return [*found.values()]


def _restriction(
    rule: Rule, target: int, sources: tuple[int | str, ...], schema: Table
) -> conditionals.Restriction | None:  # fmt: skip
    fields = schema.ruled
    if isinstance(rule, Combinations):
        return conditionals.Allowed(target, sources, torch.from_numpy(~np.isnan(rule.rows[..., :-1])))
    if isinstance(rule, Confined):
        numbers = tuple(_numbers(fields[name]) for name in rule.sources)
        return conditionals.Limited(target, sources, numbers, _numbers(fields[rule.target]), rule.falling, rule.strict)
    differences = {each.target for each in schema.rules if each.bounds and not isinstance(each, Confined)}
    later = any(isinstance(source, int) and source > target for source in sources)
    if not isinstance(rule, Pinned) or later or differences & {rule.target, *rule.sources}:
        return None
    own, atom = fields[rule.target], 0
    if not rule.sign and own.law is not None:
        atom = 1 + int(is_value(np.array(own.law.atoms), rule.values[0]).argmax())
    size = len(own.levels or ())
    return conditionals.Pins(target, sources, rule.values, rule.keys, rule.states, rule.rest, rule.sign, size, atom)


def _numbers(column: Column) -> tuple[float, ...] | None:
    """The numbers that the codes of a column stand for; None if it has no codes."""
    return tuple(float(level) for level in column.levels or ()) if column.kind in CODED else None


def columns_likelihood(
    info: DataInfo, decoder: Callable[[Sequence[int]], tuple[nn.Module, nn.Module]], missing: str = "mar",
    dependence: str = "codes",
) -> conditionals.TableLikelihood:
    """The product of the columns' likelihoods; before training, the network gives the marginals of the columns. With
    ``missing`` "mnar", also the likelihood of which cells are missing. ``InputError`` for options that exclude each
    other."""
    one_of("missing", missing, ("mar", "mnar"))
    one_of("dependence", dependence, ("auto", "codes", "autoregressive"))
    columns = info.schema.modelled  # type: ignore[union-attr]
    if dependence == "autoregressive" and missing == "mnar":
        raise InputError("dependence = autoregressive cannot be combined with missing = mnar", "omit one of the two")
    heads = [_head(column, info, missing) for column in columns]
    net, inner = decoder((sum(head.outputs for head in heads),))
    allowed = allowed_in(info.schema)  # type: ignore[arg-type]
    part: conditionals.TableLikelihood
    if missing == "mnar":
        info.choices["missing"] = "missing = mnar: whether a cell is missing may depend on its own value"
        if allowed:
            info.choices["missing"] += "; rules limit samples, but ln p(x) is not normalised for them"
        part = conditionals.SelfMaskedColumns(net, heads, reads=info.reads)
    elif _sees_columns(info, dependence):
        seen = [seen_as(column) for column in columns]
        part = conditionals.ColumnsInOrder(net, heads, seen, hidden=BEFORE, allowed=allowed, reads=info.reads)
    else:
        part = conditionals.TableLikelihood(net, heads, allowed=allowed, reads=info.reads)
    if info.sample is not None:
        networks.start_at(inner, part.start(info.sample))
    return part


def _head(column: Column, info: DataInfo, missing: str) -> conditionals.ColumnLikelihood:
    head = likelihood_of(column)
    if missing == "mnar":
        return replace(head, family="normal") if head.family == "student_t" else head
    if info.rows < ROWS_OF_SCALES or head.law is None or head.law.is_complete:
        return head
    return replace(head, scale="network", components=COMPONENTS)


def _sees_columns(info: DataInfo, dependence: str) -> bool:
    """Whether columns depend on the columns before them."""
    if dependence != "auto":
        return dependence == "autoregressive"
    size = len(info.schema.modelled)  # type: ignore[union-attr]
    if info.rows < ROWS_OF_SCALES or not 1 < size <= MOST_IN_ORDER:
        return False
    info.choices["dependence"] = "dependence = autoregressive: columns depend on the code and the columns before them"
    return True


def likelihood_of(column: Column) -> conditionals.ColumnLikelihood:
    """The likelihood that the schema names, in the column's own centre and spread."""
    if column.law is not None:
        spread = column.law.knots[-1] - column.law.knots[0]
        unit = spread / 4 if column.kind in LOGARITHMIC else column.unit
        return conditionals.ColumnLikelihood("heaped", unit=unit, law=column.law, support=column.support)
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
        seen=(column.low, column.high) if column.is_number else None,  # type: ignore[arg-type]
    )
