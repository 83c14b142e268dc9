"""How strange rows are: -ln p(x) with its error, the columns that make them so, and calibrated p-values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latens import distributions as d
from latens import evaluation, trees
from latens.atomic import write_text
from latens.data.rows import Rows
from latens.errors import InputError, is_whole
from latens.evaluation import NLL
from latens.evaluation.anomaly import Conformal, contributions
from latens.evaluation.likelihood import chunk_rows, evaluating, model_device
from latens.randomness import reseed, shared
from latens.run import CALIBRATION, Run
from latens.schema import AnySchema, Table
from latens.training.checkpoint import sealed, unseal

ROWS, CELLS = 5_000, 20_000_000  # of the held-out rows that p-values are calibrated on
TERMS, WIDEST = 64, 2_000  # draws for the terms of columns, and columns they are taken of at most
TOP = 3
_TERMS = 62  # key of the seed


@dataclass(frozen=True)
class Calibration:
    """Scores -ln p(x) of held-out rows with ``k`` draws, and the mean of each column's term over them."""

    conformal: Conformal
    reference: np.ndarray | None
    k: int

    def to_json(self) -> dict[str, Any]:
        reference = None if self.reference is None else [None if v != v else v for v in self.reference.tolist()]
        return {"format": 1, "k": self.k, "reference": reference, "scores": self.conformal.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Calibration:
        try:
            reference = fields["reference"]
            values = None if reference is None else [np.nan if v is None else v for v in reference]
            array = None if values is None else np.array(values, dtype=float)
            if not is_whole(fields["k"]) or fields["k"] < 1 or (array is not None and array.ndim != 1):
                raise ValueError("k or reference")
            return cls(Conformal.from_json(fields["scores"]), array, int(fields["k"]))
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise InputError(f"{CALIBRATION} is not one ({error}): restore it from a copy or fit again") from None


@dataclass(frozen=True)
class Scores:
    """-ln p(x) of each row; ``strangeness`` ``[N]``: the same as a density of each column's own scale (see
    :meth:`latens.schema.Column.log_slope`), by which rows are ranked and p-values taken; ``p_values`` ``[N]`` and
    ``columns``, ``excess`` ``[N, 3]`` where they can be had."""

    nll: NLL
    strangeness: np.ndarray
    p_values: np.ndarray | None
    columns: np.ndarray | None
    excess: np.ndarray | None


def column_terms(run: Run, rows: Rows, k: int = TERMS) -> np.ndarray | None:
    """-E[ln p(x_j|z)] of each cell over p(z|x), by self-normalised importance sampling with ``k`` draws, ``[N, D]``
    nats, NaN where a cell is missing; None for images, and where the likelihood does not split by column.
    """
    model: Any = run.model
    x, c, device = rows.inside, rows.c, model_device(run.model)
    if x.ndim != 2 or x.shape[1] > WIDEST:
        return None
    count, found = max(1, chunk_rows(x, k)[0] // 2), []
    for start in range(0, len(x), count):
        part = slice(start, start + count)
        xs, cs = (trees.to_device(tree, device) for tree in (x[part], trees.take(c, part)))
        with evaluating(model), torch.no_grad(), shared():
            reseed(0, _TERMS)
            draw = model.draw(xs, k, cs)
            if not isinstance(draw.px, d.Observed) or not draw.has_density:
                return None
            weights = draw.log_w.double().softmax(0)
            terms = -(weights.unsqueeze(-1) * draw.px.cells(xs).double()).sum(0)
            if xs.is_floating_point():
                terms = torch.where(xs.isnan(), torch.nan, terms)
        found.append(terms.cpu())
    return torch.cat(found).numpy() - slopes(rows)


def slopes(rows: Rows) -> np.ndarray:
    """ln |dx/du| of each cell, ``[N, D]``, 0 where it is missing; a single 0 for data that are no table."""
    if not isinstance(rows.schema, Table):
        return np.zeros((1, 1))
    x = np.asarray(rows.inside, dtype=np.float64)
    found = [column.log_slope(x[:, j]) for j, column in enumerate(rows.schema.modelled)]
    return np.nan_to_num(np.stack(found, 1), nan=0.0)


def calibrate(run: Run, held: Rows, k: int = 100) -> Calibration | None:
    """From rows that were not trained on, evenly spaced where there are many; None for a model without a density."""
    most = max(50, min(ROWS, CELLS // max(1, held.schema.columns * k // 10)))
    if len(held) > most:
        held = held.take(np.arange(most) * len(held) // most)
    if not has_density(run, held):
        return None
    found = evaluation.nll(run.model, held.inside, k, held.c, shared_noise=True).rows.numpy() - slopes(held).sum(1)
    if not np.isfinite(found).all():
        return None
    terms = column_terms(run, held)
    seen = None if terms is None else (~np.isnan(terms)).sum(0)
    reference = None
    if terms is not None and seen is not None:
        reference = np.where(seen > 0, np.nansum(terms, 0) / np.maximum(seen, 1), np.nan)
    return Calibration(Conformal(found), reference, k)


def has_density(run: Run, rows: Rows) -> bool:
    """Whether the model gives a bound on ln p(x), so that rows have scores."""
    return no_bound(run, rows) is None


def require_score(run: Run, rows: Rows) -> None:
    """``InputError`` with the reason where rows have no score."""
    reason = no_bound(run, rows)
    if reason is not None:
        raise InputError(
            f"{run.folder}: {reason}, so there is no bound on ln p(x) and rows have no score: fit the recipe 'vae'"
        )


def no_bound(run: Run, rows: Rows) -> str | None:
    """Why the model gives no bound on ln p(x); None where it does."""
    model: Any = run.model
    one = (trees.take(tree, slice(0, 1)) for tree in (rows.inside, rows.c))
    x, c = (trees.to_device(tree, model_device(run.model)) for tree in one)
    with evaluating(model):
        return model.draw(x, 1, c).no_bound


def score(run: Run, rows: Rows, k: int, calibration: Calibration | None) -> Scores:
    """Scores of rows; p-values only where they were calibrated with as many draws, so that scores are exchangeable."""
    found = evaluation.nll(run.model, rows.inside, k, rows.c, shared_noise=True)
    strangeness = found.rows.numpy() - slopes(rows).sum(1)
    p_values = columns = excess = None
    if calibration is not None:
        if calibration.k == k:
            p_values = calibration.conformal.p_values(np.nan_to_num(strangeness, nan=np.inf))
        terms = column_terms(run, rows)
        if terms is not None and calibration.reference is not None:
            if len(calibration.reference) != terms.shape[1]:
                raise InputError(f"{CALIBRATION} is of another run: restore it from a copy or fit again")
            columns, excess = contributions(terms, calibration.reference, TOP)
    return Scores(found, strangeness, p_values, columns, excess)


def write_calibration(folder: Path, found: Calibration | None) -> None:
    """Keep the calibration beside the run."""
    if found is not None:
        write_text(folder / CALIBRATION, sealed(found.to_json()))


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration of a run, its checksum verified; None where it has none."""
    path = folder / CALIBRATION
    if not path.exists():
        return None
    return Calibration.from_json(unseal(path, f"{folder} has no calibration"))


def as_table(found: Scores, schema: AnySchema) -> Any:
    """Scores as an arrow table, one row a row."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "log_px": -found.nll.rows.numpy(), "standard_error": found.nll.row_error.numpy(),
        "effective_sample_size": found.nll.ess.numpy(),
    }  # fmt: skip
    if isinstance(schema, Table):
        columns["strangeness"] = found.strangeness
    if found.p_values is not None:
        columns["p_value"] = found.p_values
    if found.columns is not None and found.excess is not None:
        names = schema.names or tuple(f"column_{j + 1}" for j in range(schema.columns))
        for place in range(found.columns.shape[1]):
            which = [names[j] if j >= 0 else None for j in found.columns[:, place].tolist()]
            columns[f"column_{place + 1}"] = pa.array(which, pa.string())
            columns[f"excess_{place + 1}"] = pa.array(found.excess[:, place], from_pandas=True)
    return pa.table(columns)
