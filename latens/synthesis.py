"""How good rows drawn from a run are: synthetic tables held against the rows it was fitted to and rows held out."""

from __future__ import annotations

from typing import Any

import numpy as np

from latens import outputs
from latens.data.rows import Rows
from latens.evaluation.synthetic import Frame, SyntheticEvaluation, evaluate_synthetic, frame
from latens.run import Run
from latens.schema import Column, Table

ROWS = 20_000
LEAST = 40  # rows on either side, below which nothing can be told


def frame_of(table: Any, schema: Table) -> Frame:
    """The modelled and the given columns of an arrow table as plain numbers and codes."""
    fields = [f for f in schema.fields if f in schema.outer or f.name in schema.conditions]
    columns = {f.name: _plain(f, table.column(f.name)) for f in fields}
    return frame(columns, {f.name: "categorical" if f.outputs_codes else "numeric" for f in fields})


def _plain(field: Column, cells: Any) -> np.ndarray:
    numbers, _ = field.encode(cells)
    return np.nan_to_num(numbers, nan=-1).astype(np.int64) if field.outputs_codes else numbers


def evaluate_samples(run: Run, train: Rows, held: Rows, *, seed: int = 0) -> SyntheticEvaluation | None:
    """Samples of a run on a table beside held-out rows: marginals, dependence, usefulness, detection, memorisation.

    As many rows are drawn as there are training rows, at most 20,000, with their gaps as ``latens sample`` writes them.
    None for anything but a table, for a model without a density, and for fewer than 40 rows on either side.
    """
    if not isinstance(train.schema, Table) or min(len(train), len(held)) < LEAST:
        return None
    n = min(ROWS, len(train))
    drawn = outputs.sample(run, n, mean=False, seed=seed)
    frames = [frame_of(table, train.schema) for table in (train.x, held.x, drawn)]
    return evaluate_synthetic(*frames, seed=seed, rows=ROWS)
