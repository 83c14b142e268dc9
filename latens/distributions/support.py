"""The values that a likelihood can produce; data with other values are refused before they are modelled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from latens.distributions.event import InUnits, Observed, OnGrid
from latens.distributions.modalities import Modalities
from latens.errors import InputError
from latens.tensors.trees import Tree

# the values that torch's constraints allow, by the name of the constraint's class
_WORDS = {
    "_Boolean": "0 and 1", "_IntegerInterval": "the whole numbers {low:g} to {high:g}",
    "_IntegerGreaterThan": "whole numbers of at least {low:g}", "_Interval": "numbers from {low:g} to {high:g}",
    "_GreaterThan": "numbers above {low:g}", "_GreaterThanEq": "numbers of at least {low:g}",
}  # fmt: skip


def require_support(px: Distribution, x: Tree, first_row: int = 0) -> None:
    """Raise ``InputError`` for the first value of x, with rows on the leading axis, that has no probability under
    ``px``.

    Missing cells (NaN) are left to the model. A distribution that does not know its support accepts every value.
    Supports that are tensors must be the same for all rows. ``first_row`` is the number of the first row of x, for the
    message.
    """
    if isinstance(px, Modalities):
        found = px.pieces.split(x) if isinstance(x, Tensor) and px.pieces is not None else x
        for name in found.keys() & px.parts.keys() if isinstance(found, dict) else ():
            require_support(px.parts[name], found[name], first_row)
        return
    while isinstance(px, Independent):
        px = px.base_dist
    fitting = supported(px, x) if isinstance(x, Tensor) else None
    if fitting is None or not isinstance(x, Tensor) or bool((fitting := fitting | x.isnan()).all()):
        return
    row, *cell = (~fitting).nonzero()[0].tolist()
    where = f"row {row + first_row}" + (f", cell {cell[0] if len(cell) == 1 else tuple(cell)}" if cell else "")
    name, words = _described(px)
    raise InputError(
        f"{where} (counted from 0) has {x[(row, *cell)].item():g}, but the likelihood {name} takes {words}",
        "convert the values to these, or use another likelihood",
    )


def supported(px: Distribution, x: Tensor) -> Tensor | None:
    """The mask of values in the support of an elementwise distribution, in the shape of x; None if it is unknown."""
    if isinstance(px, Observed):
        return supported(px.base, x)
    if isinstance(px, InUnits):
        return supported(px.base, (x - px.shift) / px.unit)
    if isinstance(px, OnGrid):
        level = (x - px.first) / px.step
        inside = supported(px.base, level.round())
        return None if inside is None else inside & ((level - level.round()).abs() <= 1e-3)
    try:
        found = px.support.check(x)  # type: ignore[union-attr]
    except (NotImplementedError, AttributeError, RuntimeError, ValueError):
        return None
    return found.view(x.shape) if isinstance(found, Tensor) and found.numel() == x.numel() else None


def _described(px: Distribution) -> tuple[str, str]:
    """(the name of the elementwise distribution; the values that it takes)."""
    grid = None
    while isinstance(px, Observed | InUnits | OnGrid):
        grid, px = px if isinstance(px, OnGrid) else grid, px.base
    support = px.support
    ends = (getattr(support, f"{end}_bound", 0) for end in ("lower", "upper"))
    low, high = (torch.as_tensor(end).double().flatten()[0].item() for end in ends)
    if grid is not None:
        first, last = grid.first + grid.step * low, grid.first + grid.step * high
        return type(px).__name__, f"{high - low + 1:g} evenly spaced numbers from {first:g} to {last:g}"
    return type(px).__name__, _WORDS.get(type(support).__name__, str(support)).format(low=low, high=high)
