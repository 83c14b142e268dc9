"""Scores of a run's codes and samples: compared with known factors, with labels, and as images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from latens import evaluation
from latens.data.lazy import Lazy
from latens.data.rows import Rows
from latens.densities import Fitted
from latens.errors import InputError
from latens.evaluation import Disentanglement, ImageEvaluation, LabelEvaluation
from latens.evaluation.images import ROWS as IMAGE_ROWS
from latens.evaluation.summary import spaced
from latens.models import Generator
from latens.runs import outputs
from latens.runs.record import Run
from latens.schema import Schema, Table

ROWS = 10_000  # codes of at most this many evenly spaced rows are scored


def disentanglement(
    run: Run, rows: Rows, factors: np.ndarray, names: tuple[str, ...] = (), *, seed: int = 0
) -> Disentanglement:
    """:func:`latens.evaluation.disentanglement` for the codes of at most 10,000 rows, and factors ``[N, f]``.

    Raises:
        InputError: the model gives no codes of rows, or the factors do not fit.
    """
    _require_codes(run)
    if len(factors) != len(rows):
        raise InputError(f"factors have {len(factors):,} rows, but the data have {len(rows):,}",
                         "give one row of factors for each row")  # fmt: skip
    picked = spaced(len(rows), ROWS).numpy()
    codes = outputs.codes(run, rows.take(picked)).astype(np.float64)
    return evaluation.disentanglement(codes, factors[picked], names, seed=seed)


def labels(run: Run, rows: Rows, classes: np.ndarray, *, seed: int = 0) -> LabelEvaluation:
    """:func:`latens.evaluation.evaluate_labels` for the codes of at most 10,000 rows, and classes ``[N]``.

    Raises:
        InputError: the model gives no codes of rows, or the classes do not fit.
    """
    _require_codes(run)
    picked = spaced(len(rows), ROWS).numpy()
    some = rows.take(picked)
    return evaluation.evaluate_labels(outputs.codes(run, some), numbers_of(some), classes[picked], seed=seed)


def classes_of(rows: Rows) -> np.ndarray | None:
    """The class of each row ``[N]``: its label or, if a column of levels is the only condition, its level there. None
    if there is neither."""
    if rows.labels is not None:
        return rows.labels
    fields = () if rows.given is None else rows.given.given_fields
    if len(fields) != 1 or not fields[0].levels:
        return None
    return rows.c[fields[0].name].numpy()


def numbers_of(rows: Rows) -> np.ndarray:
    """Rows as numbers ``[N, D]``: the cells of an array; for a table, a flag of 0 or 1 for each level, and numbers,
    with gaps filled by the mean."""
    inside: Any = rows.inside
    x = np.asarray(inside[:] if isinstance(inside, Lazy) else inside, dtype=np.float64).reshape(len(rows), -1)
    if not isinstance(rows.schema, Table):
        return x
    parts = []
    for j, column in enumerate(rows.schema.modelled):
        cells = x[:, j : j + 1]
        if column.outputs_codes:
            parts.append((cells == np.arange(len(column.levels or ()) or 1)).astype(np.float64))
        else:
            seen = ~np.isnan(cells)
            parts.append(np.where(seen, cells, cells[seen].mean() if seen.any() else 0.0))
    return np.concatenate(parts, 1)


def images(
    run: Run, train: Rows, held: Rows, *, seed: int = 0, density: Fitted | None = None
) -> ImageEvaluation:
    """Samples of an array run compared with held-out rows (:func:`latens.evaluation.evaluate_images`).

    Draws from p(x|z) and means of p(x|z) are compared. The number of each is half the number of held-out rows, at most
    5,000. For images, the PSNR and SSIM of up to 5,000 reconstructions are relative to the range of the data.

    Raises:
        InputError: the run was fitted to a table, or there are too few rows.
    """
    schema = require_array(run)
    size = max(1, min(IMAGE_ROWS, len(held) // 2))
    drawn = {
        name: outputs.sample(run, size, mean=mean, seed=seed, density=density)
        for name, mean in (("draws", False), ("means", True))
    }
    some = held.take(spaced(len(held), 2 * IMAGE_ROWS).numpy())
    train = train.take(spaced(len(train), 60_000).numpy())
    found = evaluation.evaluate_images(drawn, _array(some), _array(train), labels=train.labels, seed=seed)
    if isinstance(run.model, Generator) or not schema.is_image:
        return found
    return _with_reconstructions(found, run, schema, held.take(spaced(len(held), IMAGE_ROWS).numpy()))


def require_array(run: Run) -> Schema:
    """The schema of a run on an array or images; ``InputError`` for a run on a table."""
    if not isinstance(run.schema, Schema):
        raise InputError("--samples is for arrays and images, but the run was fitted to a table",
                         "omit it; samples of a table are compared with real rows without it")  # fmt: skip
    return run.schema


def _with_reconstructions(found: ImageEvaluation, run: Run, schema: Schema, rows: Rows) -> ImageEvaluation:
    x, again = (_channels_first(values, schema) for values in (_array(rows), outputs.reconstructed(run, rows)))
    extent = schema.ends[1] - schema.ends[0]
    if not extent > 0:
        return found
    ratio, similarity = (float(score(x, again, extent).mean()) for score in (evaluation.psnr, evaluation.ssim))
    return replace(found, psnr=ratio, ssim=similarity)


def _channels_first(x: Any, schema: Schema) -> np.ndarray:
    values = np.asarray(x, dtype=np.float64)
    return np.moveaxis(values, -1, 1) if schema.layout == "HWC" else values


def _array(rows: Rows) -> np.ndarray:
    """The rows in the user's layout."""
    return rows.x[:].numpy() if isinstance(rows.x, Lazy) else np.asarray(rows.x)


def _require_codes(run: Run) -> None:
    if isinstance(run.model, Generator):
        what = f"the recipe {run.name!r} gives no codes of rows, so there is nothing to score"
        raise InputError(what, "fit another recipe")
