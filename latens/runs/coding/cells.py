"""The cells of rows as symbols, with whole-number frequencies from p(x|z)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from latens import distributions as d
from latens.errors import InputError
from latens.runs.coding.masses import LOGIT, SCALE, Heaps, Levels, Logistics, shares
from latens.runs.coding.rounding import Rounding

COUNTS: dict[type, tuple[str, ...]] = {
    d.Poisson: ("log_rate",), d.NegativeBinomial: ("log_mean", "log_theta"),
    d.ZeroInflatedNegativeBinomial: ("log_mean", "log_theta", "zero_logits"),
}  # fmt: skip
LEVELS = (d.Bernoulli, d.Categorical, d.Ordinal)
LOCATION = 2.0**-16  # step of locations, for scales of at least 0.001
MOST_COUNTED = 1 << 12  # larger counts are stored separately from the code


def elementwise(px: Any) -> Any:
    """The distribution of single cells in the likelihood of rows."""
    while isinstance(px, d.Observed | Independent):
        px = px.base if isinstance(px, d.Observed) else px.base_dist
    return px


def require_masses(px: Any) -> None:
    """Raise ``InputError`` unless an array's cells have masses."""
    base = elementwise(px)
    base = base.base if isinstance(base, d.OnGrid) else base
    if type(base) not in (d.DiscretizedLogistic, *LEVELS, *COUNTS):
        name = type(base.base if isinstance(base, d.InUnits) else base).__name__
        raise InputError(
            f"the likelihood of this run ({name}) gives densities, but coding needs masses",
            "fit whole numbers with --kind levels, binary or count, or compress the rows as a table",
        )


@dataclass(frozen=True)
class Group:
    """Cells that are coded together: their places ``[n]`` in a flattened row, and their largest count."""

    places: np.ndarray
    top: int = 0


def tops_of(x: np.ndarray) -> np.ndarray:
    """For each cell ``[D]``, the largest count that is coded, found from rows in the model's form."""
    found: np.ndarray = x.reshape(len(x), -1).max(0).clip(0, MOST_COUNTED - 1).astype(np.int64)
    return found


def groups_of(tops: np.ndarray | None, cells: int) -> list[Group]:
    """Groups of cells with about the same largest count; each group is coded together."""
    if tops is None:
        return [Group(np.arange(cells))]
    size = np.array([int(top).bit_length() for top in tops])
    return [Group(np.flatnonzero(size == each), int(tops[size == each].max())) for each in np.unique(size)]


def array_masses(px: Distribution, group: Group, rounding: Rounding) -> Any:
    """The masses of a group of cells of an array's rows, flattened to ``[B * n]``."""
    base: Any = elementwise(px)
    base = base.base if isinstance(base, d.OnGrid) else base
    if isinstance(base, d.DiscretizedLogistic):
        return _discretized(base, rounding)
    if type(base) in COUNTS:
        if group.top == 0:
            return None
        rows = base.batch_shape[0]
        parameters = [getattr(base, name).expand(base.batch_shape).reshape(rows, -1)[:, group.places]
                      for name in COUNTS[type(base)]]  # fmt: skip
        return by_value(type(base)(*parameters), group.top + 1, rounding)
    return by_value(base, 2 if isinstance(base, d.Bernoulli) else base.logits.shape[-1], rounding)


def by_value(px: Any, size: int, rounding: Rounding) -> Levels:
    """The masses of the values 0 … size-1 of every cell, from their log-probabilities."""
    if isinstance(px, d.Categorical):
        return Levels(rounding(px.logits.reshape(-1, size).clamp_min(-1e6).numpy(), LOGIT))
    return among(px, np.arange(size, dtype=np.float64), rounding)


def among(px: Any, values: np.ndarray, rounding: Rounding) -> Levels:
    """The masses of some values ``[n]`` of every cell, from their log-probabilities."""
    each = torch.from_numpy(values).reshape(-1, *[1] * len(px.batch_shape)).expand(-1, *px.batch_shape)
    logits = px.log_prob(each).reshape(len(values), -1).T
    return Levels(rounding(logits.clamp_min(-1e6).numpy(), LOGIT))


def _discretized(px: d.DiscretizedLogistic, rounding: Rounding) -> Logistics:
    """The masses of levels between the edges 2 k / (L - 1) - 1 - 1 / (L - 1)."""
    size = px.levels
    step = 2.0 ** -(4 + size.bit_length())
    location = rounding(px.loc.reshape(len(px.loc), -1).numpy(), step) * step
    log_scale = rounding(px.log_scale.reshape(len(location), -1).numpy(), SCALE)
    weights = None
    if px.logits is not None:
        logits = rounding(px.logits.reshape(len(location), -1).numpy(), LOGIT)
        weights = np.ascontiguousarray(shares(logits.T).T)
    return Logistics((2.0 * np.arange(size + 1) - 1.0) / (size - 1) - 1.0, location, log_scale, weights)


def heaped_masses(px: d.Heaped, column: int, places: np.ndarray, symbols: np.ndarray, rounding: Rounding) -> Any:
    """The masses of B cells of one numeric column that has atoms, a grid and a range."""
    margins = px.margins.column(column)
    middles = torch.from_numpy((places[1:] + places[:-1]) / 2).unsqueeze(-1)
    scores = margins.score(middles)[0].squeeze(-1).numpy()
    edges = np.concatenate([[-np.inf], scores, [np.inf]])
    location = rounding(px.loc[..., column].T.numpy(), LOCATION) * LOCATION
    log_scale = rounding(px.scale[..., column].log().T.numpy(), SCALE)
    weights = None
    if len(location) > 1:
        weights = np.ascontiguousarray(shares(rounding(px.log_mixing[..., column].T.numpy(), LOGIT).T).T)
    floor = float(margins.lowest) if any(margins.floors) else None
    smooth = Logistics(edges, location, log_scale, weights, floor)
    if not len(symbols):
        return smooth
    order = np.argsort(symbols)
    logits = rounding(px.log_weights[..., column, : 1 + len(symbols)].clamp_min(-1e6).numpy(), LOGIT)
    found = shares(logits)
    return Heaps(smooth, np.concatenate([found[:, :1], found[:, 1:][:, order]], -1), symbols[order])


def flat(x: Tensor | np.ndarray) -> np.ndarray:
    """Rows as ``[B, cells]``."""
    x = x.numpy() if isinstance(x, Tensor) else x
    return x.reshape(len(x), -1)
