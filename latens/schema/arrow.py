"""The arrow library, imported on first use, and the conversion of cells of any arrow type to numbers and back."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.errors import InputError, damaged

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import compute as pc
else:

    class _Late:
        """A module that is loaded when one of its names is first used."""

        def __init__(self, name: str):
            self._name = name

        def __getattr__(self, name: str) -> Any:
            module = importlib.import_module(self._name)
            self.__dict__.update(vars(module))
            return getattr(module, name)

    pa, pc = _Late("pyarrow"), _Late("pyarrow.compute")

__all__ = ["pa", "pc"]


DAY = 86_400.0
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def plain(cells: Any) -> Any:
    """The cells in one chunk: dictionaries become their values, and all text has the type string."""
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    if isinstance(cells, pa.ChunkedArray):  # there are no chunks
        cells = pa.array([], cells.type)
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_large_string(cells.type) or pa.types.is_string_view(cells.type):
        cells = cells.cast(pa.string())
    return cells


def is_empty(cells: Any) -> np.ndarray:
    """Mask ``[N]`` of the missing cells: null, or NaN among floats."""
    cells = plain(cells)
    empty = cells.is_null(nan_is_null=pa.types.is_floating(cells.type))
    return empty.to_numpy(zero_copy_only=False)


def as_numbers(cells: Any, time: str | None = None) -> np.ndarray | None:
    """The cells as ``[N]`` float64, NaN for null. None if they are not numbers, truth values, dates or times, or if
    their kind of time is not ``time`` (see :func:`kind_of_time`).

    Dates are in days since 1970-01-01 by the clocks of their zone; times of day and time spans are in seconds.
    Raises ``InputError`` for a date that cannot be read.
    """
    cells = plain(cells)
    kind = cells.type
    if time is not None and not pa.types.is_null(kind) and kind_of_time(kind) != time:
        return None
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _days(cells)
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        unit = _SECONDS[str(kind.unit)]
        return _floats(cells.cast(pa.int32() if kind.bit_width == 32 else pa.int64())) * unit
    is_a = pa.types
    if any(test(kind) for test in (is_a.is_integer, is_a.is_floating, is_a.is_boolean, is_a.is_decimal)):
        return _floats(cells)
    return np.full(len(cells), np.nan) if is_a.is_null(kind) else None


NARROW = {"float": np.float32, "halffloat": np.float16}  # floats of fewer digits than the model's numbers


def as_written(numbers: np.ndarray, type: str, decimals: int) -> np.ndarray:
    """Numbers ``[N]`` from narrow floats, rounded to ``decimals`` wherever the rounded number is the same narrow float.

    >>> as_written(np.array([np.float32(56.8), 1 / 3]), "float", 1).tolist()
    [56.8, 0.3333333333333333]
    """
    near = np.round(numbers, decimals)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(near.astype(NARROW[type]) == numbers.astype(NARROW[type]), near, numbers)


def in_words(value: Any, type: str) -> str:
    """A number of the model as text, written as a value of the named arrow type; values of other types are unchanged.

    >>> in_words(18992.0, "date32[day]"), in_words(52200.0, "time64[us]"), in_words(0.5, "double")
    ('2021-12-31', '14:30:00', '0.5')
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if type == "bool":
        return str(bool(value))
    if not type.startswith(("date", "time", "duration")):
        return f"{value:g}"
    return str(value_of(_temporal(pa.array([float(value)]), arrow_type(type))[0]))


def value_of(cell: Any) -> Any:
    """An arrow scalar as a Python value, whose dates, times and durations are cut to microseconds.

    >>> value_of(pa.scalar(1_999, pa.time64("ns")))
    datetime.time(0, 0, 0, 1)
    """
    kind = cell.type
    if getattr(kind, "unit", "") != "ns":
        return cell.as_py()
    if pa.types.is_timestamp(kind):
        return cell.cast(pa.timestamp("us", kind.tz), safe=False).as_py()
    return cell.cast(pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us"), safe=False).as_py()


def _days(cells: Any) -> np.ndarray:
    """Dates or timestamps as days since 1970-01-01 by the clocks of their zone."""
    kind = cells.type
    cells = cells if getattr(kind, "tz", None) is None else pc.local_timestamp(cells)
    try:
        cells = cells.cast(pa.timestamp("us" if not str(kind).startswith("timestamp[ns") else "ns"))
    except pa.ArrowInvalid as error:
        raise InputError(f"a date cannot be read ({error})", "correct it, or leave its column out") from error
    seconds = _SECONDS["ns" if "ns" in str(cells.type)[:13] else "us"]
    return _floats(cells.cast(pa.int64())) * (seconds / DAY)


def _floats(cells: Any) -> np.ndarray:
    if not pa.types.is_floating(cells.type):
        cells = cells.cast(pa.float64(), safe=False)
    return cells.to_numpy(zero_copy_only=False).astype(np.float64)


def as_levels(cells: Any) -> Any:
    """Cells as levels that JSON can hold: dates and decimals as text, times of day and durations as whole numbers in
    their unit, and other values unchanged.

    >>> import pyarrow as pa
    >>> as_levels(pa.array([0, None], pa.int32()).cast(pa.date32())).to_pylist()
    ['1970-01-01', None]
    """
    cells = plain(cells)
    if pa.types.is_time(cells.type) or pa.types.is_duration(cells.type):
        return cells.cast(pa.int32() if cells.type.bit_width == 32 else pa.int64())
    is_text = pa.types.is_temporal(cells.type) or pa.types.is_decimal(cells.type)
    return cells.cast(pa.string()) if is_text else cells


def of_levels(levels: Sequence[Any], type: str) -> Any:
    """The inverse of :func:`as_levels`: levels as cells. If the named arrow type is a dictionary of dates, times or
    decimals, the cells have the type of its values.

    >>> of_levels([2**63, None], "uint64").type
    DataType(uint64)
    """
    is_large = any(isinstance(level, int) and level >> 63 > 0 for level in levels)
    cells, wanted = pa.array(list(levels), pa.uint64() if is_large else None), arrow_type(type)
    if not pa.types.is_dictionary(wanted):
        return cells
    wanted = wanted.value_type
    if pa.types.is_time(wanted) and wanted.bit_width == 32:
        cells = cells.cast(pa.int32())
    return cells.cast(wanted) if pa.types.is_temporal(wanted) or pa.types.is_decimal(wanted) else cells


def kind_of_time(type: Any) -> str:
    """"dates", "times of day" or "durations"; "" for any other type."""
    if pa.types.is_date(type) or pa.types.is_timestamp(type):
        return "dates"
    return "times of day" if pa.types.is_time(type) else "durations" if pa.types.is_duration(type) else ""


def first_whole(cells: Any) -> int | None:
    """The first observed whole number, exact even beyond 2^53; None for other types or if all cells are missing."""
    observed = plain(cells).drop_null()
    return int(observed[0].as_py()) if pa.types.is_integer(observed.type) and len(observed) else None


def typed(cells: Any, type: str, levels: Sequence[Any] = ()) -> Any:
    """The cells in the named arrow type. Whole numbers are rounded and clipped to its range; ``levels`` are the values
    of a dictionary.
    """
    wanted = arrow_type(type)
    if cells.type == wanted:
        return cells
    if pa.types.is_temporal(wanted) and pa.types.is_floating(cells.type):
        return _temporal(cells, wanted)
    if pa.types.is_integer(wanted) and pa.types.is_floating(cells.type):
        info = np.iinfo(wanted.to_pandas_dtype())
        numbers = cells.to_numpy(zero_copy_only=False)
        missing = np.isnan(numbers)
        top = float(info.max) if float(info.max) <= info.max else np.nextafter(float(info.max), 0.0)
        whole = np.clip(np.rint(np.where(missing, 0.0, numbers)), float(info.min), top)
        return pa.array(whole.astype(info.dtype), type=wanted, mask=missing)
    if pa.types.is_dictionary(wanted):
        if not levels:
            return _encoded(typed(cells, str(wanted.value_type)), wanted)
        levels = of_levels(levels, type).cast(wanted.value_type)
        codes = pc.index_in(cells.cast(wanted.value_type), value_set=levels, skip_nulls=True)
        return pa.DictionaryArray.from_arrays(codes.cast(wanted.index_type), levels, ordered=wanted.ordered)
    if pa.types.is_decimal(wanted) and not pa.types.is_decimal(cells.type) and not pa.types.is_string(cells.type):
        return _decimals(cells.cast(pa.float64()), wanted)
    return cells.cast(wanted, safe=False)


def _decimals(cells: Any, wanted: Any) -> Any:
    """Numbers as decimals of that type, clipped to its range."""
    most = (1 - 1e-15) * 10.0 ** (wanted.precision - wanted.scale) - 0.5 * 10.0**-wanted.scale
    numbers = cells.to_numpy(zero_copy_only=False)
    return pa.array(np.clip(numbers, -most, most), mask=np.isnan(numbers)).cast(wanted, safe=False)


def _encoded(cells: Any, wanted: Any) -> Any:
    """Values as a dictionary of that type, with wider indices if there are more values than the type can index."""
    found = cells.dictionary_encode()
    fits = len(found.dictionary) <= np.iinfo(wanted.index_type.to_pandas_dtype()).max
    indices = found.indices.cast(wanted.index_type) if fits else found.indices
    return pa.DictionaryArray.from_arrays(indices, found.dictionary, ordered=wanted.ordered)


def _temporal(cells: Any, wanted: Any) -> Any:
    numbers = cells.to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    numbers = np.where(missing, 0.0, numbers)
    if pa.types.is_time(wanted) or pa.types.is_duration(wanted):
        whole = np.rint(np.clip(numbers / _SECONDS[str(wanted.unit)], -9e18, 9e18))
        if pa.types.is_time(wanted):
            whole = np.clip(whole, 0, DAY / _SECONDS[str(wanted.unit)] - 1)
        kind = pa.int32() if wanted.bit_width == 32 else pa.int64()
        return pa.array(whole.astype(kind.to_pandas_dtype()), kind, mask=missing).cast(wanted)
    if pa.types.is_date32(wanted):
        return pa.array(np.rint(numbers).astype(np.int32), pa.int32(), mask=missing).cast(wanted)
    whole = np.rint(np.clip(numbers * DAY * 1e6, -9e18, 9e18)).astype(np.int64)
    return by_clocks(pa.array(whole, pa.int64(), mask=missing).cast(pa.timestamp("us")), wanted)


def by_clocks(found: Any, wanted: Any) -> Any:
    """Timestamps without a zone as timestamps of the wanted type, by the clocks of its zone."""
    if getattr(wanted, "tz", None) is not None:  # in spring one hour is skipped, in autumn one occurs twice
        found = pc.assume_timezone(found, wanted.tz, ambiguous="earliest", nonexistent="latest")
    return found.cast(wanted, safe=False)


def nanoseconds(cells: Any) -> np.ndarray:
    """The observed timestamps as whole nanoseconds since 1970-01-01 by the clocks of their zone, ``[observed]``.

    >>> nanoseconds(pa.array([1_000_000_007, None], pa.timestamp("ns"))).tolist()
    [1000000007]
    """
    cells = plain(cells).drop_null()
    cells = cells if cells.type.tz is None else pc.local_timestamp(cells)
    return cells.cast(pa.int64()).to_numpy(zero_copy_only=False)


def in_nanoseconds(days: np.ndarray, tick: int) -> np.ndarray:
    """Days since 1970-01-01 as whole nanoseconds ``[N]``, rounded to multiples of the tick.

    >>> in_nanoseconds(np.array([1.0 + 2**-40]), 100).tolist()
    [86400000000100]
    """
    day = np.floor(days)
    rest = np.rint((days - day) * (DAY * 1e9 / tick)).astype(np.int64) * tick
    return day.astype(np.int64) * 86_400_000_000_000 + rest


def arrow_type(text: str) -> Any:
    """The arrow type that a text names, the inverse of ``str(type)``; ``InputError`` if no type has that name.

    >>> str(arrow_type("timestamp[us, tz=UTC]")), str(arrow_type("dictionary<values=string, indices=int8, ordered=1>"))
    ('timestamp[us, tz=UTC]', 'dictionary<values=string, indices=int8, ordered=1>')
    """
    if match := re.fullmatch(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>", text):
        return pa.dictionary(arrow_type(match[2]), arrow_type(match[1]), match[3] == "1")
    if match := re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", text):
        return pa.timestamp(match[1], match[2])
    if match := re.fullmatch(r"decimal(\d+)\((\d+), (-?\d+)\)", text):
        sizes = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}
        return sizes[match[1]](int(match[2]), int(match[3]))
    try:
        return pa.type_for_alias(text)
    except ValueError:
        raise damaged(f"names the unknown type {text!r}") from None


def require_once(names: Sequence[Any], where: str) -> None:
    """Raise ``InputError`` if two columns have the same name."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where} has two columns called {str(twice)!r}", "rename one")


def listed(names: Sequence[str], most: int = 12) -> str:
    """The first ``most`` names, separated by commas, and the number of the remaining names.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(short(str(name)) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def short(name: str, most: int = 40) -> str:
    """The name on one line, cut to ``most`` characters."""
    name = name.replace("\n", "\\n")
    return name if len(name) <= most else name[: most - 1] + "…"
