"""Numbers on their way out of a model: moved to their levels, clipped to their range, cast to the user's dtype."""

from __future__ import annotations

from typing import Any

import numpy as np


def levels_of(x: np.ndarray, span: tuple[float, float], levels: int) -> tuple[np.ndarray, float]:
    """The position of each number ``x [N, ...]`` among ``levels`` evenly spaced ones over the span, as floats, and how
    far rounding to the dtype of ``x``, or to a text, may leave a position from a whole number.

    >>> levels_of(np.array([0, 0.5, 1]), (0, 1), 3)
    (array([0., 1., 2.]), 0.001)
    """
    rounding = float(np.finfo(x.dtype).eps) * 0.51 * (levels - 1) if x.dtype.kind == "f" else 0.0
    return (x.astype(np.float64) - span[0]) / (span[1] - span[0]) * (levels - 1), max(1e-3, rounding)


def within(x: np.ndarray, span: tuple[float, float], levels: int | None) -> np.ndarray:
    """``x`` clipped to the span; numbers within rounding of a level become that level."""
    low, high = span
    if levels:
        level, loose = levels_of(x, span, levels)
        nearest = np.rint(level)
        x = np.where(np.abs(level - nearest) <= loose, low + (high - low) * nearest / (levels - 1), x)
    return np.clip(x, low, high)


def cast(x: np.ndarray, dtype: np.dtype[Any], levels: int | None) -> np.ndarray:
    """``x`` in the user's dtype; integers are rounded and clipped to 0 .. levels - 1, or to the range of the dtype, so
    that none wraps around."""
    if x.dtype == dtype:
        return x
    if dtype.kind == "b":
        return x >= 0.5
    if dtype.kind == "f":
        if x.dtype.kind != "f" or x.dtype.itemsize <= dtype.itemsize:
            return x.astype(dtype)
        limit = np.finfo(dtype).max
        return np.clip(x, -limit, limit).astype(dtype)
    info = np.iinfo(dtype)
    low, high = (0, levels - 1) if levels else (int(info.min), int(info.max))
    if x.dtype.kind == "f":
        top = x.dtype.type(min(high, float(np.finfo(x.dtype).max)))
        if int(top) > high:  # no float is 2**63 - 1, and rounding it up would overflow
            top = np.nextafter(top, x.dtype.type(0))
        return np.clip(np.rint(x), x.dtype.type(low), top).astype(dtype)
    if x.dtype.kind == "b":
        return x.astype(dtype)
    source = np.iinfo(x.dtype)
    return np.clip(x, max(low, int(source.min)), min(high, int(source.max))).astype(dtype)
