"""How good rows drawn from a run are: synthetic tables held against the rows it was fitted to and rows held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from latens.data.rows import Rows
from latens.densities import Fitted
from latens.evaluation.summary import spaced
from latens.evaluation.synthetic import Frame, SyntheticEvaluation, evaluate_synthetic, frame
from latens.runs import outputs, scoring
from latens.runs.record import Run
from latens.schema import Column, Table
from latens.tensors.randomness import Key

ROWS = 20_000
LEAST = 40  # rows on either side, below which nothing can be told


def frame_of(columns: Sequence[Column], numbers: Iterable[np.ndarray]) -> Frame:
    """Columns, each with its numbers, as a table without a library: codes are whole, and -1 where they are missing."""
    pairs = list(zip(columns, numbers))
    cells = {f.name: np.nan_to_num(x, nan=-1).round().astype(int) if f.outputs_codes else x for f, x in pairs}
    return frame(cells, {f.name: "categorical" if f.outputs_codes else "numeric" for f in columns})


def evaluate_samples(
    run: Run, train: Rows, held: Rows, *, seed: int = 0, density: Fitted | None = None
) -> SyntheticEvaluation | None:
    """Samples of a run on a table, and the oracle, beside held-out rows: marginals, dependence, usefulness, detection,
    memorisation.

    As many rows are drawn as there are training rows, at most 20,000, as ``latens sample`` writes them: with their
    gaps. The oracle is drawn alike from p(x|z) at the codes of as many training rows: what a perfect density of the
    codes would give, so that what is lacking in it is the likelihood's fault, and what is lacking beyond it the
    density's.
    None for anything but a table, for a model without a density, and for fewer than 40 rows on either side.
    """
    if not isinstance(run.schema, Table) or min(len(train), len(held)) < LEAST or not scoring.has_density(run, held):
        return None
    n = min(ROWS, len(train))
    again = outputs.drawn_again(run, train.take(spaced(len(train), n).numpy()), seed)
    drawn = outputs.sample(run, n, mean=False, seed=seed, density=density)
    fields = [f for f in run.schema.fields if f in run.schema.outer or f.name in run.schema.conditions]
    train_, held_, drawn_, again_ = (
        frame_of(fields, (f.encode(x.column(f.name))[0] for f in fields)) for x in (train.x, held.x, drawn, again)
    )
    return evaluate_synthetic(train_, held_, drawn_, oracle=again_, seed=seed, rows=ROWS)


def halves(rows: Rows) -> tuple[Rows, Rows]:
    """The rows in two random halves, the same for the same number of rows."""
    order = np.random.default_rng([0, Key.HALVES]).permutation(len(rows))
    return rows.take(np.sort(order[::2])), rows.take(np.sort(order[1::2]))
