"""Match samples to the data after the model is trained: the shares of levels and atoms of tables, and the distribution
of each column of a vector."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.conditionals import TableLikelihood
from latens.distributions import Columns
from latens.evaluation.likelihood import evaluating
from latens.runs import outputs
from latens.runs.record import Run
from latens.schema import Schema
from latens.schema.ranges import SeenValues
from latens.tensors.randomness import Key, seeded

FEWEST, MOST, CELLS = 500, 20_000, 4_000_000  # a round draws as many rows as there are in training, within these limits
COUNTED = 200_000  # shares are counted in at most this many rows
WIDEST = 256  # vectors with more columns are drawn without maps
HEAP = 0.005  # a number that at least this share of the rows have is a heap
_LEVELS = np.unique([*np.linspace(0, 1, 41), *1 / (1 + np.exp(np.linspace(-12, 12, 61)))])  # the quantiles of a piece
ROUNDS = 2  # several, since columns depend on those before them, whose shares a round changes


def can_match(run: Run) -> bool:
    """Whether the run has a schema, and a model that generates rows with a separate distribution for each column."""
    likelihood = getattr(run.model, "likelihood", None)
    return run.schema is not None and isinstance(likelihood, TableLikelihood) and hasattr(run.model, "generated")


def match(run: Run, x: Tensor, weight: Tensor | None = None) -> None:
    """Give samples of a run the same shares of levels and atoms as its training rows.

    See :meth:`latens.conditionals.TableLikelihood.match`. Samples are drawn as in :func:`latens.runs.outputs.sample`,
    with the conditions and gaps of the data.

    Args:
        run: the run; its likelihood is changed in place.
        x: training rows as the model sees them, ``[N, columns]``.
        weight: the weight of each row, ``[N]``.
    """
    likelihood: TableLikelihood = run.model.likelihood  # type: ignore[assignment]
    every = -(-len(x) // COUNTED)
    counts = likelihood.counts(x[::every].double(), None if weight is None else weight[::every])
    rows = min(max(FEWEST, len(x)), MOST, max(1, CELLS // len(likelihood.columns)))
    for number in range(ROUNDS):
        with evaluating(run.model), seeded(int(run.settings.seed), Key.SETTLE, number), torch.no_grad():
            draws = [_columns(*each) for each in outputs.drawn(run, rows, number)]
        likelihood.match(counts, draws)


def _columns(px: Any, x: Tensor, seen: Tensor) -> tuple[Columns, Tensor]:
    """The distribution of the columns, each given the columns before it in a draw; and the mask of the draw."""
    given = getattr(px.base, "given", None)
    return (px.base if given is None else given(x.masked_fill(~seen, torch.nan))), seen


def can_map(run: Run) -> bool:
    """Whether the run's data are vectors of few numbers, and its model generates rows."""
    schema = run.schema
    if not (isinstance(schema, Schema) and schema.layout == "vector" and schema.kind == "continuous"):
        return False
    return schema.columns <= WIDEST and schema.ranges is not None and hasattr(run.model, "sample")


def mapped(run: Run, x: Tensor) -> Schema:
    """The schema of a run on vectors, with a map for each column whose samples differ from the training rows ``x``
    ``[N, columns]``. A map takes quantiles of samples to those of the data, so that samples have the heaps and tails of
    the data."""
    schema: Schema = run.schema  # type: ignore[assignment]
    ranges: SeenValues = schema.ranges  # type: ignore[assignment]
    values = np.concatenate([x[:: -(-len(x) // COUNTED)].double().numpy(), [ranges.low, ranges.high]])
    rows = min(MOST, CELLS // schema.columns)
    c, _ = outputs.conditions(run, rows, {}, int(run.settings.seed))
    with evaluating(run.model), seeded(int(run.settings.seed), Key.SETTLE, ROUNDS), torch.no_grad():
        draws = run.model.sample(rows, c).double().cpu().numpy()  # type: ignore[operator]
    settled = ranges.settled(draws)
    maps = tuple(
        quantile_map(draws[:, j], values[:, j]) if _differ(settled[:, j], values[:, j]) else ()
        for j in range(schema.columns)
    )
    return replace(schema, ranges=replace(ranges, maps=maps if any(maps) else ()))


def _differ(draws: np.ndarray, values: np.ndarray) -> bool:
    """Whether the distribution of many draws ``[M]`` is farther from that of values ``[N]`` than if the values were N
    draws, in three of four cases (Kolmogorov 1933)."""
    at = np.unique(np.concatenate([draws, values]))
    share = [np.searchsorted(np.sort(each), at, "right") / len(each) for each in (draws, values)]
    return bool(np.abs(share[0] - share[1]).max() > 1 / np.sqrt(len(values)))


def quantile_map(draws: np.ndarray, values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Points (at, to) of the increasing map that takes quantiles of draws ``[M]`` to those of values ``[N]``; () if the
    draws are all the same. A heap of the values has a flat piece, as wide as its share of the draws.

    >>> at, to = quantile_map(np.linspace(-3, 3, 1001), np.repeat([0.0, 1.0, 2.0], [500, 300, 200]))
    >>> [round(float((np.interp(np.linspace(-3, 3, 1001), at, to) == value).mean()), 2) for value in (0, 1, 2)]
    [0.5, 0.3, 0.2]
    """
    draws, values = np.sort(draws), np.sort(values)
    _, first, seen = np.unique(values, return_index=True, return_counts=True)
    is_heap = (seen >= 2) & (seen >= HEAP * len(values))
    starts = np.unique([0, *first[is_heap], *(first + seen)[is_heap], len(values)])
    points: list[tuple[float, float]] = []
    for low, high in pairwise(starts.tolist()):  # each piece is a heap, or the values between two heaps
        levels = _LEVELS if values[low] < values[high - 1] else _LEVELS[:0]
        place = np.unique(np.rint((high - low - 1) * levels).astype(np.int64)) + low
        ends = [(low / len(values), values[low]), (high / len(values), values[high - 1])]
        points += [ends[0], *zip((place + 0.5) / len(values), values[place]), ends[1]]
    share, to = np.array(points).T
    at = np.quantile(draws, share)
    for k in range(1, len(at)):  # a jump takes no width
        at[k] = max(at[k], np.nextafter(at[k - 1], np.inf))
    return (tuple(at.tolist()), tuple(to.tolist())) if draws[0] < draws[-1] else ()
