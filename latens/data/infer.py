"""Turn any array-like into an array, and infer the schema of an array."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import InputError
from latens.schema import KINDS, LAYOUTS, MAX_LEVELS, Schema, chunks, levels_of, require_numeric
from latens.schema.arrow import require_once

SHARED_SCALE_COLUMNS = 16  # vectors with fewer columns are never levels on one scale
SPANS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # the usual ranges of floats in images
MAX_DISTINCT = 256  # floats with at most this many different values may be levels
MAX_LOSS = 1e-3  # float32 may lose this fraction of a column's standard deviation


def as_array(x: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The numbers of an array-like, and its column names or None.

    Args:
        x: a numpy array, a pandas or polars data frame or series, a pyarrow table, a torch tensor, nested
            lists, or anything with ``__array__``. Memory is shared if the library allows it.

    Raises:
        InputError: values that are not numbers (text, objects, dates, complex), masked or missing cells, a ragged
            list, a sparse matrix, or a data frame with two columns of one name.

    >>> array, names = as_array([[1, 2], [3, 4]])
    >>> array.shape, names
    ((2, 2), None)
    """
    if isinstance(x, str | bytes | os.PathLike):
        raise InputError(f"the data must be an array, got the text {str(x)!r}", "read a file with latens.data.read")
    if hasattr(x, "nnz") and hasattr(x, "toarray"):
        raise InputError("a sparse matrix is not an array", "pass the dense X.toarray()")
    if _is_frame(x):
        return _from_frame(x)
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise InputError(f"the data have {int(x.mask.sum()):,} masked cells", "fill them with X.filled(value)")
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a torch tensor, perhaps with a gradient or on another device
        x = x.detach().cpu()
        if str(x.dtype) == "torch.bfloat16":  # numpy has no bfloat16
            x = x.float()
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"no array can be made of this {type(x).__name__} ({reason})", "give rows of numbers of equal length"
        ) from error
    require_numeric(array.dtype)
    return array, None


def infer(
    x: Any, names: Sequence[str] | None = None, kind: str = "auto", levels: int | None = None, *, layout: str = "auto"
) -> Schema:  # fmt: skip
    """Infer the schema of an array: layout, kind of values, dtype kept in memory.

    *Layout.* 2 axes are vectors; 3 axes are images ``N x H x W``; 4 axes are images, ``N x C x H x W`` if the second
    axis has 1 to 4 entries, and ``N x H x W x C`` if only the last axis has.

    *Kind.* Booleans and {0, 1} are binary. Whole numbers 0..255 are levels in three cases: the dtype is uint8, the data
    are images, or the data are vectors with at least 16 columns on one scale. One scale means that at least half of the
    columns that vary reach half of the largest value overall. There are max + 1 levels, or 256 if max > 127. Floats
    with at most 256 different values, evenly spaced over 0..1 or -1..1 (in images: over any range), are levels too:
    they keep their numbers and have masses, not densities. Everything else is continuous; if all floats lie in 0..1
    (in images: in -1..1 or 0..255), the model's output is clipped to that range.

    *Storage.* uint8 for 8-bit data and up to 256 levels, otherwise float32, or float64 if float32 would
    lose more than a thousandth of a column's standard deviation.

    Args:
        x: ``[N, D]``, ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]``; anything :func:`as_array` reads. Sequences
            ``[N, T, C]`` of at most three channels and at least 4 C steps are recognised.
        names: column names, which replace those of ``x``.
        kind: "auto", "continuous", "binary", "levels" or "count".
        levels: number of levels; implies kind "levels".
        layout: "auto", or one of ``latens.schema.LAYOUTS``: "TC" for sequences N x T x C.

    Raises:
        InputError: the data are empty, have a single row or an unusual number of axes, hold a value that is not finite
            (the message has its position), or have values that are not of the given kind.

    >>> infer(np.arange(12.0).reshape(3, 2, 2)).reason
    'float64, 3 x 2 x 2, whole numbers 0..11: 12 levels'
    >>> infer([[1.5, 1600000000.0], [2.5, 1600000001.0]]).storage
    'float64'
    """
    from latens.data.ranges import ranges_of

    kind = _wanted_kind(kind, levels)
    array, found = as_array(x)
    layout, shape, note = _asked_layout(array, layout) if layout != "auto" else _layout(array)
    if len(array) < 2:
        raise InputError(f"fitting needs at least 2 rows, got n_samples={len(array)}", "give more rows")
    if names is None:
        names = found
    names = None if names is None else tuple(str(name) for name in names)
    scan = _scan(array)
    draft = Schema(shape, layout, "continuous", dtype=array.dtype.name, storage="float64", names=names)
    if not scan.finite:
        draft.check(array)  # raises, with the position
    kind, levels, span, why = _kind_and_span(array, scan, layout, kind, levels)
    constant = _constant_cells(scan, draft)
    storage = "float32" if kind == "levels" and span else _storage(array, scan, kind, levels)
    schema = Schema(
        shape, layout, kind, levels, array.dtype.name, storage, names, tuple(constant), float(scan.low.min()),
        float(scan.high.max()), _reason(array, scan, why, note), span, tuple(constant.values()),
    )  # fmt: skip
    if kind != "continuous":
        schema.check(array)  # the values may not be of the kind asked for
    return dataclasses.replace(schema, ranges=ranges_of(array, schema))


def _is_frame(x: Any) -> bool:
    return hasattr(x, "columns") and hasattr(x, "shape") and not isinstance(x, np.ndarray)


def _from_frame(frame: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The array and names of a data frame, column by column, because one column of text would turn the numbers of
    the whole frame into objects."""
    labels = list(getattr(frame, "column_names", frame.columns))
    require_once(labels, "the data frame")
    columns = [np.asarray(frame[label]) for label in labels]
    for label, column in zip(labels, columns):
        if column.dtype == object and any(_is_missing(value) for value in column):
            raise InputError(f"column {str(label)!r} has missing cells", "fill them, or leave those rows out")
        require_numeric(column.dtype, f"column {str(label)!r}")
    dtype = np.result_type(*columns) if columns else np.dtype(float)
    array = np.empty((frame.shape[0], len(columns)), dtype)
    for position, column in enumerate(columns):
        array[:, position] = column
    return array, tuple(labels) if labels and all(isinstance(label, str) for label in labels) else None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def _wanted_kind(kind: str, levels: int | None) -> str:
    if kind not in ("auto", *KINDS):
        raise InputError(f"the kind must be one of auto, {', '.join(KINDS)}, got {kind!r}")
    if levels is None:
        return kind
    if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or not 2 <= levels <= MAX_LEVELS:
        raise InputError(f"levels must be a whole number from 2 to {MAX_LEVELS:,}, got {levels!r}")
    if kind not in ("auto", "levels"):
        raise InputError(f"levels={levels} belongs to kind 'levels', not to {kind!r}", "omit one of them")
    return "levels"


def _asked_layout(x: np.ndarray, layout: str) -> tuple[str, tuple[int, ...], str]:
    """Layout, event shape and a note, for a layout that the user named."""
    if layout not in LAYOUTS:
        raise InputError(f"the layout must be one of auto, {', '.join(LAYOUTS)}, got {layout!r}")
    if x.ndim != LAYOUTS[layout] or x.size == 0:
        axes = f"{LAYOUTS[layout]} axes, none empty"
        what = f"the layout {layout} needs {axes}, got the shape {x.shape}"
        raise InputError(what, "omit --layout, or name another layout")
    event = x.shape[1:]
    shape = (1, *event) if layout == "HW" else (event[2], *event[:2]) if layout == "HWC" else event
    return layout, shape, f"; read as {layout}, as asked"


def _layout(x: np.ndarray) -> tuple[str, tuple[int, ...], str]:
    """Layout, event shape, and a note if several layouts were possible."""
    if x.ndim == 2 and x.shape[1] == 0:
        raise InputError(f"0 feature(s) (shape={x.shape}) while a minimum of 1 is required", "give at least one column")
    if x.ndim in (2, 3, 4) and x.size == 0:
        raise InputError(f"the data are empty, with the shape {x.shape} (n_samples={len(x)})", "give some rows")
    if x.ndim == 2:
        return "vector", x.shape[1:], ""
    if x.ndim == 3:
        steps, channels = x.shape[1:]
        if channels <= 3 and steps >= 4 * channels:
            return "TC", x.shape[1:], f"; read as sequences, steps x channels, {steps} x {channels}"
        return "HW", (1, *x.shape[1:]), ""
    if x.ndim == 4:
        _, a, b, c = x.shape
        if a <= 4:
            note = f"; read as channels x height x width, {a} x {b} x {c}" if c <= 4 else ""
            return "CHW", (a, b, c), note
        if c <= 4:
            return "HWC", (c, a, b), ""
        what = f"images of the shape {x.shape} have more than 4 channels"
        raise InputError(what, "put 1 to 4 channels on the second or the last axis")
    remedy = "give a first axis of rows (Reshape your data)" if x.ndim < 2 else "flatten some of the axes"
    raise InputError(f"the data must be a table (2 axes) or images (3 or 4), got the shape {x.shape}", remedy)


@dataclass
class _Scan:
    """What one pass over the data sees; ``low`` and ``high`` hold one value per cell."""

    low: np.ndarray
    high: np.ndarray
    finite: bool
    small: np.ndarray | None  # the mask of the numbers 0..255 that occur; None if other numbers occur


def _scan(x: np.ndarray) -> _Scan:
    low, high = x[0].copy(), x[0].copy()
    small: np.ndarray | None = np.zeros(256, dtype=bool)
    with np.errstate(invalid="ignore"):
        for rows in chunks(x):
            part = x[rows]
            np.minimum(low, part.min(axis=0), out=low)  # NaN stays NaN
            np.maximum(high, part.max(axis=0), out=high)
            if small is not None:
                small = _mark_small(part, small)
    finite = bool(np.isfinite(low).all() and np.isfinite(high).all())
    return _Scan(low.ravel(), high.ravel(), finite, small)


def _mark_small(part: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    if not (part.min() >= 0 and part.max() <= 255):
        return None
    codes = part.astype(np.uint8)
    if part.dtype.kind == "f" and not np.array_equal(codes, part):
        return None
    seen[codes] = True
    return seen


def _kind_and_span(
    x: np.ndarray, scan: _Scan, layout: str, kind: str, levels: int | None
) -> tuple[str, int | None, tuple[float, float] | None, str]:
    """Kind, number of levels, span, and a description."""
    if scan.small is None and kind in ("auto", "levels") and (grid := _grid(x, scan, layout, kind, levels)):
        count, span = grid
        return "levels", count, span, f"{count} levels, evenly spaced from {span[0]:g} to {span[1]:g}"
    kind, levels, why = _kind(x, scan, layout, kind, levels)
    if kind != "continuous" or x.dtype.kind != "f":
        return kind, levels, None, why
    ends = _usual_span(float(scan.low.min()), float(scan.high.max()), every=layout not in ("vector", "TC"))
    return kind, levels, ends, why + (f"; the model's output is clipped to {ends[0]:g}..{ends[1]:g}" if ends else "")


def _kind(x: np.ndarray, scan: _Scan, layout: str, kind: str, levels: int | None) -> tuple[str, int | None, str]:
    """Kind, number of levels, and a description."""
    if kind in ("continuous", "binary", "count"):
        return kind, 2 if kind == "binary" else None, f"{kind}{'s' * (kind == 'count')}, as asked"
    if kind == "levels":
        if levels is None:
            top = int(min(max(scan.high.max(), 1), MAX_LEVELS))
            levels = _levels(top)
            if levels > MAX_LEVELS:
                what = f"the largest value, {scan.high.max():g}, would make more than {MAX_LEVELS:,} levels"
                raise InputError(what, "use kind 'continuous'")
        return "levels", int(levels), f"{levels} levels, as asked"
    if scan.small is None:
        return "continuous", None, "continuous"
    values = np.flatnonzero(scan.small)
    if x.dtype.kind == "b" or values.tolist() == [0, 1]:
        return "binary", 2, "binary"
    top = int(values[-1])
    if x.dtype == np.uint8:
        return ("levels", _levels(top), f"{_levels(top)} levels") if top > 1 else ("binary", 2, "binary")
    if len(values) < 3:
        return "continuous", None, "continuous, as fewer than 3 values occur"
    if layout not in ("vector", "TC"):
        return "levels", _levels(top), f"{_levels(top)} levels"
    if len(scan.high) < SHARED_SCALE_COLUMNS:
        return "continuous", None, f"continuous, as a table of fewer than {SHARED_SCALE_COLUMNS} columns"
    varying = scan.high[scan.high > scan.low]
    if np.median(varying) < top / 2:
        return "continuous", None, "continuous, as the columns have different scales"
    return "levels", _levels(top), f"{_levels(top)} levels, as the columns share one scale"


def distinct(x: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray | None:
    """The different values of ``x``, of any shape, and of ``seen`` ``[M]``, sorted; None if there are more than
    MAX_DISTINCT."""
    found = np.zeros(0, x.dtype) if seen is None else seen
    step = 1 << 12  # in steps, so that the search ends early if values hardly repeat
    for start in range(0, x.size, step):
        found = np.union1d(found, x.reshape(-1)[start : start + step])
        if len(found) > MAX_DISTINCT:
            return None
        step = 1 << 20
    return found


def _grid(
    x: np.ndarray, scan: _Scan, layout: str, kind: str, levels: int | None
) -> tuple[int, tuple[float, float]] | None:
    """(levels, span) of floats that are evenly spaced, with exactly ``levels`` levels if that is given; None if they
    are not."""
    if x.dtype.kind != "f" or not scan.finite:
        return None
    image, varying = layout not in ("vector", "TC"), scan.high[scan.high > scan.low]
    if not len(varying) or (kind == "auto" and not image and len(scan.high) < SHARED_SCALE_COLUMNS):
        return None
    low, high, values = float(scan.low.min()), float(scan.high.max()), distinct(x)
    if values is None:
        return None
    for span in filter(None, (_usual_span(low, high, every=True), (low, high) if image else None)):
        found = _spacing(values, span, levels)
        shared = np.median(varying) - span[0] >= (high - span[0]) / 2
        if found and (image or shared or kind == "levels"):
            return found, span
    return None


def _spacing(values: np.ndarray, span: tuple[float, float], levels: int | None) -> int | None:
    """The smallest number L of evenly spaced levels over the span that include all values. None if they may do so by
    chance: a value between the ends lies within the rounding r of one of L levels with probability 2 (L - 1) r."""
    inside = int(((values > span[0]) & (values < span[1])).sum())
    for count in range(2, MAX_DISTINCT + 1) if levels is None else [levels]:
        level, loose = levels_of(values, span, count)
        if np.abs(level - np.rint(level)).max() <= loose:
            by_chance = (count - 1) * (2 * loose) ** inside > 0.01
            return count if levels or not by_chance or (span in SPANS and not inside) else None
    return None


def _usual_span(low: float, high: float, *, every: bool) -> tuple[float, float] | None:
    """The first of the usual ranges that holds all values, or None; without ``every``, only 0..1 is tried."""
    return next((span for span in SPANS[: None if every else 1] if span[0] <= low < high <= span[1]), None)


def _levels(top: int) -> int:
    """The number of levels for a largest value. Values above 127 mean 8-bit data with 256 levels, even if 255 does not
    occur."""
    return 256 if 127 < top < 256 else top + 1


def _storage(x: np.ndarray, scan: _Scan, kind: str, levels: int | None) -> str:
    if kind == "count":
        return "float32" if scan.high.max() < 2**24 else "float64"
    if kind != "continuous":
        return "uint8" if levels and levels <= 256 else "float32"
    if x.dtype in (np.uint8, np.bool_):
        return "uint8"
    exact = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return "float32" if exact or _fits_float32(x, scan) else "float64"


def _fits_float32(x: np.ndarray, scan: _Scan) -> bool:
    """Whether rounding to float32 loses at most MAX_LOSS of every varying column's standard deviation."""
    low, high = scan.low.astype(np.float64), scan.high.astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    if largest.max() > np.finfo(np.float32).max:
        return False
    span = high - low
    worst = np.maximum(largest * 2.0**-24, 2.0**-150)  # half the spacing of float32
    # The standard deviation is at least span / sqrt(2 N). This bound nearly always decides without a second pass.
    doubtful = np.flatnonzero((span > 0) & (worst > MAX_LOSS * span / np.sqrt(2 * len(x))))
    for column in doubtful.tolist():
        cell: Any = (slice(None), *np.unravel_index(column, x.shape[1:]))
        values = x[cell].astype(np.float64)
        loss = np.abs(values - values.astype(np.float32)).max()
        if loss > MAX_LOSS * span[column] * np.std((values - low[column]) / span[column]):
            return False
    return True


def _constant_cells(scan: _Scan, schema: Schema) -> dict[int, float]:
    """The flat indexes, in the model's layout, of the cells that never vary, and their values."""
    same, value = (cells.reshape(schema.user_shape) for cells in (scan.low == scan.high, scan.low))
    if schema.layout == "HWC":
        same, value = np.moveaxis(same, -1, 0), np.moveaxis(value, -1, 0)
    cells = np.flatnonzero(same.ravel())
    return dict(zip(cells.tolist(), value.ravel()[cells].astype(float).tolist()))


def _reason(x: np.ndarray, scan: _Scan, why: str, note: str) -> str:
    size = " x ".join(f"{n:,}" for n in x.shape)
    whole = "whole numbers " if x.dtype.kind in "iu" or scan.small is not None else ""
    return f"{x.dtype.name}, {size}, {whole}{scan.low.min():.6g}..{scan.high.max():.6g}: {why}{note}"
