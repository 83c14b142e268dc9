"""How good the samples of a run are: synthetic tables compared with training rows and held-out rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from latens.data.rows import Rows
from latens.densities import Fitted
from latens.evaluation.likelihood import spaced
from latens.evaluation.synthetic import Frame, SyntheticEvaluation, evaluate_synthetic, frame
from latens.runs import outputs, scoring
from latens.runs.record import Run
from latens.schema import Column, Table
from latens.tensors.randomness import Key

ROWS = 20_000
LEAST = 40  # a comparison needs at least this many rows on each side


def frame_of(columns: Sequence[Column], numbers: Iterable[np.ndarray]) -> Frame:
    """Columns and their numbers as a plain table: codes are whole numbers, with -1 for missing cells."""
    pairs = list(zip(columns, numbers))
    cells = {f.name: np.nan_to_num(x, nan=-1).round().astype(int) if f.outputs_codes else x for f, x in pairs}
    return frame(cells, {f.name: "categorical" if f.outputs_codes else "numeric" for f in columns})


PHASES = {"year": "month", "week": "weekday", "day": "hour"}  # what the phases of each cycle are called


def with_cycles(columns: Sequence[Column], numbers: Sequence[np.ndarray]) -> Frame:
    """As :func:`frame_of`, with the month, the weekday and the hour of each date as further columns next to it."""
    plain, cells, kinds = frame_of(columns, numbers), {}, {}
    for column, values in zip(columns, numbers):
        cells[column.name], kinds[column.name] = plain.columns[column.name], plain.kinds[column.name]
        for cycle, codes in (column.law.in_cycles(values) if column.law else {}).items():
            name = f"{PHASES[cycle]} of {column.name}"
            if name not in plain.columns:
                cells[name], kinds[name] = codes, "categorical"
    return frame(cells, kinds)


def evaluate_samples(
    run: Run, train: Rows, held: Rows, *, seed: int = 0, density: Fitted | None = None
) -> SyntheticEvaluation | None:
    """Compare samples of a table with training and held-out rows: marginals, dependence, usefulness, detection,
    memorisation.

    There are as many samples as training rows, at most 20,000; they have gaps, like the output of ``latens sample``.
    The oracle is drawn from p(x|z) at the codes of as many training rows, so it shows what a perfect density of codes
    would give. Errors of the oracle are due to the likelihood; the additional errors of samples are due to the density
    of the codes.

    Returns:
        The evaluation; None if the data are not a table, if the model has no density, or if either side has fewer than
        40 rows.
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
    """Two random halves of the rows; the split depends only on their number."""
    order = np.random.default_rng([0, Key.HALVES]).permutation(len(rows))
    return rows.take(np.sort(order[::2])), rows.take(np.sort(order[1::2]))
