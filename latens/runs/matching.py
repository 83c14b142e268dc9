"""Match samples to the data after the model is trained: the shares of levels and atoms, and the margins of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.conditionals import TableLikelihood
from latens.distributions import Columns
from latens.evaluation.likelihood import evaluating
from latens.runs import margins, outputs
from latens.runs.record import Run
from latens.tensors.randomness import Key, seeded

FEWEST, MOST, CELLS = 500, 20_000, 4_000_000  # a round draws as many rows as there are in training, within these limits
COUNTED = 200_000  # shares are counted in at most this many rows
MAPPED = 2_000, 100_000  # the fewest and the most draws from which maps of margins are made
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


def map_margins(run: Run, x: Tensor, weight: Tensor | None = None) -> None:
    """Give samples of a run the margins of its training rows, by maps in ``run.data`` (:mod:`latens.runs.margins`). The
    arguments are those of :func:`match`, which comes first."""
    schema, random = run.schema, np.random.default_rng([int(run.settings.seed), Key.MARGINS])
    if schema is None or not any(margins.columns_of(schema)) or not hasattr(run.model, "sample"):
        return
    every = -(-len(x) // COUNTED)
    values = x[::every].double().cpu().numpy()
    if weight is not None:
        share = weight[::every].double().cpu().numpy()
        values = values[random.choice(len(values), len(values), p=share / share.sum())]
    rows = min(max(MAPPED[0], 4 * len(values)), MAPPED[1], max(1, CELLS // schema.columns))
    with evaluating(run.model), seeded(int(run.settings.seed), Key.MARGINS), torch.no_grad():
        if can_match(run):
            parts = [draw.double().masked_fill(~seen, torch.nan) for _, draw, seen in outputs.drawn(run, rows, ROUNDS)]
        else:
            c, _ = outputs.conditions(run, rows, {}, int(run.settings.seed))
            parts = [run.model.sample(rows, c).double()]  # type: ignore[operator]
    if maps := margins.learned(schema, torch.cat(parts).cpu().numpy(), values):
        run.data["margins"] = maps
