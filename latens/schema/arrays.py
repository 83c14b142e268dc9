"""Arrays of one kind of values: what each column or pixel is, and the conversion to the model's form and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import InputError, damaged
from latens.schema.ranges import SeenValues


def levels_of(x: np.ndarray, span: tuple[float, float], levels: int) -> tuple[np.ndarray, float]:
    """(the position of each number ``x [N, ...]`` among ``levels`` evenly spaced levels over the span, as floats; how
    far rounding, to the dtype of ``x`` or in text, may move a position from a whole number).

    >>> positions, slack = levels_of(np.array([0, 0.5, 1]), (0, 1), 3)
    >>> positions.tolist(), slack
    ([0.0, 1.0, 2.0], 0.001)
    """
    rounding = float(np.finfo(x.dtype).eps) * 0.51 * (levels - 1) if x.dtype.kind == "f" else 0.0
    return (x.astype(np.float64) - span[0]) / (span[1] - span[0]) * (levels - 1), max(1e-3, rounding)


def within(x: np.ndarray, span: tuple[float, float], levels: int | None) -> np.ndarray:
    """``x``, of any shape, clipped to the span; numbers within rounding of a level become that level."""
    low, high = span
    if levels:
        level, loose = levels_of(x, span, levels)
        nearest = np.rint(level)
        x = np.where(np.abs(level - nearest) <= loose, low + (high - low) * nearest / (levels - 1), x)
    return np.clip(x, low, high)


def cast(x: np.ndarray, dtype: np.dtype[Any], levels: int | None) -> np.ndarray:
    """``x``, of any shape, in the user's dtype. Integers are rounded and clipped to 0 .. levels - 1, or to the range of
    the dtype, so that no value wraps around."""
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
        if int(top) > high:  # no float equals 2**63 - 1, and rounding it up would overflow
            top = np.nextafter(top, x.dtype.type(0))
        return np.clip(np.rint(x), x.dtype.type(low), top).astype(dtype)
    if x.dtype.kind == "b":
        return x.astype(dtype)
    source = np.iinfo(x.dtype)
    return np.clip(x, max(low, int(source.min)), min(high, int(source.max))).astype(dtype)


LAYOUTS = {"vector": 2, "TC": 3, "HW": 3, "HWC": 4, "CHW": 4}  # layout: number of axes of the user's array
KINDS = ("continuous", "binary", "levels", "count")
STORAGES = ("uint8", "float32", "float64")
MAX_LEVELS = 65_536
LIBRARY = "log_library_size"  # the condition that holds ln(total) of each row of counts
LIBRARY_COLUMNS = 50  # counts with at least this many columns are modelled as shares of their total
BEYOND_FLOAT32 = "it is beyond the range of float32, so give the data in another unit"
_LOGARITHM = 20.0  # ln(1 + x) of a count never exceeds this
_CHUNK = 1 << 20  # cells that are checked together, so that no temporary array is large


def chunks(x: Any) -> Iterator[slice]:
    """Slices of rows that cover an array or lazy rows ``x`` ``[N, ...]``, with about a million cells per slice."""
    step = max(1, _CHUNK // max(1, math.prod(x.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(x), step))


def require_numeric(dtype: np.dtype[Any], what: str = "the data") -> None:
    """Raise ``InputError`` unless ``dtype`` is boolean, integer or floating point.

    >>> require_numeric(np.dtype("U3"), "scores.npy")
    Traceback (most recent call last):
    latens.errors.InputError: scores.npy: the values are text (dtype <U3): give numbers
    """
    if dtype.kind in "biuf":
        return
    if dtype.kind == "c":
        raise InputError(f"{what}: Complex data not supported (dtype {dtype})", "give real numbers")
    kinds = {"O": "text or Python objects", "U": "text", "S": "text", "M": "dates", "m": "time spans"}
    found = kinds.get(dtype.kind, "not plain numbers")
    raise InputError(f"{what}: the values are {found} (dtype {dtype})", "give numbers")


def place(layout: str, names: tuple[str, ...] | None, index: tuple[int, ...]) -> str:
    """A position in the user's array, in words.

    >>> place("vector", ("age", "height"), (3, 1)), place("HWC", None, (0, 4, 5, 2))
    ("row 3, column 'height' (counted from 0)", 'row 0, pixel (4, 5), channel 2 (counted from 0)')
    """
    row, *cell = (int(i) for i in index)
    if layout == "vector":
        where = f"column {names[cell[0]]!r}" if names else f"column {cell[0]}"
    elif layout == "TC":
        where = f"time {cell[0]}, channel {cell[1]}"
    elif layout == "HW":
        where = f"pixel ({cell[0]}, {cell[1]})"
    else:
        height, width, channel = cell if layout == "HWC" else (*cell[1:], cell[0])
        where = f"pixel ({height}, {width}), channel {channel}"
    return f"row {row}, {where} (counted from 0)"


@dataclass(frozen=True)
class Schema:
    """What one row of an array is. The schema checks values, and converts them between two forms of the same numbers:
    the user's (layout and dtype as given) and the model's (``[N, *shape]`` in the storage dtype).

    Args:
        shape: event shape of one row in the model's layout, (D,), (T, C) or (C, H, W).
        layout: the user's layout without the axis of rows: "vector", "TC" (sequences, time first), "HW", "HWC" or
            "CHW".
        kind: "continuous"; "binary", values 0 and 1; "levels", whole numbers 0 .. levels - 1; or "count", whole
            numbers from 0.
        levels: number of levels; 2 for binary, None for continuous values and counts.
        dtype: the user's numpy dtype, in which samples and reconstructions are returned.
        storage: the dtype kept in memory, "uint8", "float32" or "float64".
        names: column names of a vector, if it has any.
        constant: flat indexes (into ``shape``) of the cells that never vary.
        low, high: smallest and largest value seen.
        reason: a plain sentence on what was seen.
        span: for floats on levels, the values of the lowest and the highest level, between which the other levels are
            evenly spaced (None: levels stand for 0 .. levels - 1); for continuous values, the range to which the
            model's output is clipped (None: no clipping).
        constant_values: for each cell in ``constant``, the value that the user always gets for it.
        ranges: the values seen, to which draws are moved; None if any value may be drawn.

    Raises:
        InputError: the fields contradict each other.

    >>> schema = Schema((1, 2, 2), "HW", "levels", levels=17, dtype="int64", storage="uint8", high=16.0)
    >>> x = np.array([[[0, 16], [3, 4]]])
    >>> schema.to_model(x).shape, schema.to_model(x).dtype
    ((1, 1, 2, 2), dtype('uint8'))
    >>> schema.to_user(np.array([[[[0.2, 16.4], [99.0, -5.0]]]]))
    array([[[ 0, 16],
            [16,  0]]])
    """

    shape: tuple[int, ...]
    layout: str
    kind: str
    levels: int | None = None
    dtype: str = "float32"
    storage: str = "float32"
    names: tuple[str, ...] | None = None
    constant: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 1.0
    reason: str = ""
    span: tuple[float, float] | None = None
    constant_values: tuple[float, ...] = ()
    ranges: SeenValues | None = None

    def __post_init__(self) -> None:
        if fault := self._fault_of_shape() or self._fault_of_kind() or self._fault_of_cells():
            raise InputError(f"the schema of the data is not valid: {fault}")

    def _fault_of_shape(self) -> str:
        """The first contradiction between fields of the shape, in words; "" if there is none."""
        if self.layout not in LAYOUTS:
            return f"layout {self.layout!r} is not one of {', '.join(LAYOUTS)}"
        if len(self.shape) != {"vector": 1, "TC": 2}.get(self.layout, 3) or min(self.shape) < 1:
            return f"shape {self.shape} does not fit the layout {self.layout!r}"
        if self.layout == "HW" and self.shape[0] != 1:
            return f"shape {self.shape} has {self.shape[0]} channels and layout 'HW' one"
        if self.ranges is not None and len(self.ranges.low) not in (1, self.shape[self._channel]):
            return f"{len(self.ranges.low)} ranges do not fit shape {self.shape}"
        return ""

    def _fault_of_kind(self) -> str:
        if self.kind not in KINDS:
            return f"kind {self.kind!r} is not one of {', '.join(KINDS)}"
        if self.kind == "levels" and not 2 <= (self.levels or 0) <= MAX_LEVELS:
            return f"levels must be between 2 and {MAX_LEVELS:,}, got {self.levels}"
        if self.kind != "levels" and self.levels != {"continuous": None, "count": None, "binary": 2}[self.kind]:
            return f"a {self.kind} schema cannot have levels={self.levels}"
        if not _is_numeric(self.dtype):
            return f"dtype {self.dtype!r} is not a numeric numpy dtype"
        if self.storage not in STORAGES:
            return f"storage {self.storage!r} is not one of {', '.join(STORAGES)}"
        if self.storage == "uint8" and (self.levels or 0) > 256:
            return f"{self.levels} levels do not fit storage 'uint8'"
        return ""

    def _fault_of_cells(self) -> str:
        if self.names is not None and (self.layout != "vector" or len(self.names) != self.columns):
            return f"{len(self.names)} names do not fit shape {self.shape}"
        if any(not 0 <= cell < self.columns for cell in self.constant):
            return f"a constant cell lies outside shape {self.shape}"
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            return f"{self.low}..{self.high} is not a range"
        if self.span is not None and not (len(self.span) == 2 and self.span[0] < self.span[1]):
            return f"{self.span} is not a span"
        if self.constant_values and len(self.constant_values) != len(self.constant):
            return f"{len(self.constant_values)} values do not fit {len(self.constant)} constant cells"
        return ""

    @property
    def _channel(self) -> int:
        """The axis of ``shape`` along which each entry has a range."""
        return 0 if self.is_image else -1

    @property
    def columns(self) -> int:
        """Number of cells in a row."""
        return math.prod(self.shape)

    @property
    def step(self) -> float:
        """The distance between two neighbouring levels; 0 if there are no levels."""
        return (self.ends[1] - self.ends[0]) / (self.levels - 1) if self.levels else 0.0

    @property
    def is_image(self) -> bool:
        """Whether a row is an image."""
        return self.layout not in ("vector", "TC")

    @property
    def is_sequence(self) -> bool:
        """Whether a row is a sequence."""
        return self.layout == "TC"

    @property
    def is_discrete(self) -> bool:
        """Whether values are levels, that is whole numbers 0 .. levels - 1, or floats evenly spaced over ``span``."""
        return self.kind in ("binary", "levels")

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest possible value; for continuous values without a span, the lowest and highest
        seen."""
        return self.span or ((0.0, float(self.levels - 1)) if self.levels else (self.low, self.high))

    @property
    def has_library(self) -> bool:
        """Whether rows are counts with many columns, modelled given their total, the library size (Lopez et al.
        2018)."""
        return self.kind == "count" and self.layout == "vector" and self.columns >= LIBRARY_COLUMNS

    @property
    def user_shape(self) -> tuple[int, ...]:
        """Shape of one row in the user's layout.

        >>> Schema((3, 28, 20), "HWC", "continuous").user_shape
        (28, 20, 3)
        """
        if self.layout == "HW":
            return self.shape[1:]
        return (*self.shape[1:], self.shape[0]) if self.layout == "HWC" else self.shape

    def check(self, x: np.ndarray) -> None:
        """Raise ``InputError`` unless ``x``, in the user's layout, has this schema's shape and values; the message
        names the first wrong position and its value."""
        self.check_shape(x.shape, x.dtype)
        for rows in chunks(x):
            part = x[rows]
            bad, wanted = self.misfits(part)
            if bad is not None:
                row, *cell = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
                raise self.refusal(part[(row, *cell)], (row + rows.start, *cell), wanted)

    def misfits(self, part: np.ndarray) -> tuple[np.ndarray | None, str]:
        """(mask of the values that do not fit this schema, or None if all fit; what is wrong with them, in words)."""
        if self.levels and self.span:
            between = self.between(part)
            return between if between.any() else None, self._wanted(0, part)
        whole_only, least, most = self._limits
        if not part.size or part.dtype == bool or (part.dtype == np.uint8 and most >= 255):
            return None, ""
        with np.errstate(invalid="ignore"):
            low, high = part.min(), part.max()  # NaN if any value is NaN
        if not (np.isfinite(low) and np.isfinite(high)):
            return ~np.isfinite(part), "it must be a finite number"
        if not least <= float(low) <= float(high) <= most:
            return (part < least) | (part > most), self._wanted(most, part) if whole_only else BEYOND_FLOAT32
        if whole_only and part.dtype.kind == "f" and not np.array_equal(part, floor := np.floor(part)):
            return part != floor, self._wanted(most, part)
        return None, ""

    @property
    def _limits(self) -> tuple[bool, float, float]:
        """(whether all values are whole; the smallest and the largest possible value)."""
        if self.kind == "continuous" and self.storage != "uint8":
            limit = float(np.finfo(np.float32).max) if self.storage == "float32" else np.inf
            return False, -limit, limit
        return True, 0, self.levels - 1 if self.levels else 255 if self.storage == "uint8" else np.inf

    def between(self, x: np.ndarray) -> np.ndarray:
        """Mask of the floats ``[N, *user_shape]`` that lie between the levels."""
        assert self.levels and self.span
        level, loose = levels_of(x, self.span, self.levels)
        with np.errstate(invalid="ignore"):
            return ~((np.abs(level - np.rint(level)) <= loose) & (level > -0.5) & (level < self.levels - 0.5))

    def to_model(self, x: np.ndarray) -> np.ndarray:
        """Convert an array to the model's layout and storage dtype.

        Args:
            x: ``[N, *user_shape]``, any numeric dtype.

        Returns:
            ``[N, *shape]`` in ``storage``, contiguous; shares memory with ``x`` if nothing had to change.

        Raises:
            InputError: the shape differs, or a value is not finite or not of this kind; the message has its position.
        """
        x = np.asarray(x)
        self.check(x)
        if self.layout == "HW":
            x = x[:, None]
        elif self.layout == "HWC":
            x = np.moveaxis(x, -1, 1)
        return np.ascontiguousarray(x, dtype=self.storage)

    def to_user(self, x: np.ndarray, *, mean: bool = False) -> np.ndarray:
        """Convert the model's numbers back to the user's layout and dtype. Integers are rounded and clipped to their
        range, floats are clipped to ``span``, and cells that never vary get their constant value.

        Args:
            x: ``[N, *shape]``, any numeric dtype.
            mean: whether these are means; means of counts are not rounded (0.3 stays 0.3).

        Returns:
            ``[N, *user_shape]`` in ``dtype``; means of counts in a floating dtype.

        Raises:
            InputError: the shape differs.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.shape or x.ndim != 1 + len(self.shape):
            raise InputError(f"the array must be of shape {_any_rows(self.shape)}, got {x.shape}")
        if self.span:
            x = within(x, self.span, self.levels)
        if self.constant_values:
            x = x.reshape(len(x), -1).copy()
            x[:, list(self.constant)] = self.constant_values
            x = x.reshape(-1, *self.shape)
        if self.layout == "HW":
            x = x[:, 0]
        elif self.layout == "HWC":
            x = np.moveaxis(x, 1, -1)
        dtype = np.dtype(self.dtype)
        if self.kind == "count":
            x = np.maximum(x, 0) if mean else np.rint(np.maximum(x, 0))
            dtype = np.dtype(self.storage) if mean and dtype.kind != "f" else dtype
        return np.ascontiguousarray(cast(x, dtype, self.levels))

    def settled(self, x: np.ndarray, *, mean: bool = False, beyond: bool = False) -> np.ndarray:
        """Numbers ``[N, *shape]`` of a model as the user gets them: moved into the range of the data, and to values
        that occur in the data. Cells of images and sequences have the range of their channel.

        Args:
            x: numbers.
            mean: whether these are means, which may lie between the values of the data.
            beyond: whether numbers may lie outside the range of the data.
        """
        if self.ranges is None:
            return x
        moved = np.moveaxis(np.asarray(x), self._channel + self.is_image, -1)
        return np.moveaxis(self.ranges.settled(moved, mean=mean, beyond=beyond), -1, self._channel + self.is_image)

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(least, greatest) continuous values, broadcastable against rows ``[N, *shape]``; a draw outside is repeated.
        None if there are no limits."""
        if self.ranges is None or self.kind != "continuous":
            return None
        low, high = self.ranges.limits
        return (low[:, None, None], high[:, None, None]) if self.is_image else (low, high)

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, fields: Any) -> Schema:
        """The schema that :meth:`to_json` wrote; ``InputError`` if a field is missing, unknown or of a wrong type.

        >>> schema = Schema((2,), "vector", "binary", 2, names=("a", "b"))
        >>> Schema.from_json(schema.to_json()) == schema
        True
        """
        if not isinstance(fields, dict):
            raise damaged(f"is a {type(fields).__name__}, not a mapping")
        known = {field.name for field in dataclasses.fields(cls)}
        if missing := sorted(known - set(fields) - {"span", "constant_values", "ranges"}):  # absent from older runs
            raise damaged(f"lacks {', '.join(missing)}")
        if unknown := sorted(str(name) for name in set(fields) - known):
            raise damaged(f"has unknown fields ({', '.join(unknown)})")
        typed = {name: _typed(name, fields[name]) for name in known & set(fields) - {"ranges"}}
        ranges = fields.get("ranges")
        return cls(**typed, ranges=None if ranges is None else SeenValues.from_json(ranges))

    def describe(self) -> str:
        """The data in one or two lines.

        >>> print(Schema((2,), "vector", "continuous", reason="float64, 9 x 2, 0..5: continuous").describe())
        2 columns, continuous, kept as float32
        float64, 9 x 2, 0..5: continuous
        """
        if self.is_image:
            channels, height, width = self.shape
            what = f"images of {height} x {width} pixels, {channels} channel{'s'[: channels > 1]}"
        elif self.is_sequence:
            what = f"sequences of {self.shape[0]:,} steps, {self.shape[1]} channel{'s'[: self.shape[1] > 1]}"
        else:
            what = f"{self.columns:,} column{'s'[: self.columns > 1]}"
        kind = f"{self.levels} levels" if self.kind == "levels" else self.kind
        kind += f" from {self.span[0]:g} to {self.span[1]:g}" if self.span else ""
        line = f"{what}, {kind}, kept as {self.storage}"
        if self.constant:
            line += f"; {len(self.constant):,} of {self.columns:,} never vary"
        return f"{line}\n{self.reason}" if self.reason else line

    def check_shape(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Raise ``InputError`` unless the shape, in the user's layout, fits this schema and the dtype is numeric."""
        require_numeric(dtype)
        wanted = self.user_shape
        if shape[1:] == wanted and len(shape) == 1 + len(wanted):
            return
        remedy = "give rows like those of the fit"
        if shape == wanted:
            remedy = "if it is a single row, pass x[None] (Reshape your data)"
        elif len(shape) == 1:
            remedy = "give it a first axis of rows (Reshape your data)"
        raise InputError(f"the data must be of shape {_any_rows(wanted)}, got {shape}", remedy)

    def _wanted(self, top: float, values: np.ndarray) -> str:
        if self.kind == "count":
            return "counts must be whole numbers from 0" + _instead(values)
        if self.levels and self.span:
            which = f"{self.levels:,} evenly spaced numbers from {self.span[0]:g} to {self.span[1]:g}"
            return f"give one of the {which}; for values in between, fit with kind continuous"
        if self.kind == "binary":
            return "give 0 or 1, as the data are binary"
        if self.kind == "levels":
            return f"give one of the whole numbers 0..{top} ({self.levels} levels)"
        return "give whole numbers 0..255, as the data are kept in 8 bits"

    def refusal(self, value: Any, index: tuple[int, ...], wanted: str) -> InputError:
        """The error for a value at a position of the user's array that does not fit."""
        shown = "NaN" if value != value else f"{value.item()!r}"
        return InputError(f"the data have {shown} at {place(self.layout, self.names, index)}", wanted)


def _is_numeric(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def _instead(values: np.ndarray) -> str:
    """What values look like that are not counts, in words; "" if at least half of them are whole.

    >>> _instead(np.array([0.0, 0.69, 1.1, 0.0])), _instead(np.array([0.0, 3.0, 0.5, 2.0]))
    (', and these look like log-normalised values; give raw counts', '')
    """
    seen = values[values != 0]
    if 2 * np.count_nonzero(seen != np.rint(seen)) <= len(seen):
        return ""
    what = "scaled values, some below 0" if seen.min() < 0 else "log-normalised values"
    if what[0] == "l" and seen.max() > _LOGARITHM:
        what = "normalised values"
    return f", and these look like {what}; give raw counts"


def _any_rows(shape: tuple[int, ...]) -> str:
    return f"(n, {', '.join(str(size) for size in shape)})"


def _typed(name: str, value: Any) -> Any:
    """A field read from JSON, with lists as tuples; ``InputError`` if its type is wrong."""

    def whole(item: Any) -> bool:
        return isinstance(item, int) and not isinstance(item, bool)

    def items(test: Any) -> bool:
        return isinstance(value, list | tuple) and all(map(test, value))

    if name in ("shape", "constant"):
        good = items(whole)
    elif name == "names":
        good = value is None or items(lambda item: isinstance(item, str))
    elif name == "levels":
        good = value is None or whole(value)
    elif name in ("low", "high"):
        good = whole(value) or isinstance(value, float)
    elif name in ("span", "constant_values"):
        good = (name == "span" and value is None) or items(lambda item: whole(item) or isinstance(item, float))
    else:
        good = isinstance(value, str)
    if not good:
        raise damaged(f"has {name} = {value!r:.60}, which is of the wrong type")
    if name in ("low", "high"):
        return float(value)
    return tuple(value) if isinstance(value, list) else value
