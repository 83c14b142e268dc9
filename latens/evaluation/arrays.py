"""Checks of arrays of codes and features, and their standardisation."""

from __future__ import annotations

import numpy as np

from latens.errors import InputError


def finite_rows(values: np.ndarray, what: str, least: int = 1) -> np.ndarray:
    """Rows of numbers ``[n, d]`` as float64. ``InputError`` about ``what`` for another shape, fewer than ``least``
    rows, or a number that is not finite.

    >>> finite_rows([[1, 2], [3, 4]], "codes").shape
    (2, 2)
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or len(found) < least or not found.shape[1]:
        rows = "rows" if least == 1 else f"at least {least} rows"
        raise InputError(f"{what} must be {rows} [n, d], got an array of shape {list(found.shape)}")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
        raise InputError(f"{what}, row {row}: a number is not finite", "leave such rows out")
    return found


def standardised(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Columns ``[n, d]`` minus the mean, and divided by the standard deviation, of ``of`` ``[m, d]`` (by default, of
    the columns themselves). A column that is constant in ``of`` is only shifted."""
    seen = values if of is None else of
    unit = seen.std(0)
    return (values - seen.mean(0)) / np.where(unit > 0, unit, 1)
