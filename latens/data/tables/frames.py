"""Convert data frames to Arrow tables and back: pandas, polars, pyarrow, structured arrays, mappings of columns, and
anything that narwhals knows or that offers an Arrow stream (DuckDB)."""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from latens.data.tables.frame_backs import (
    ArrowBack,
    ColumnsBack,
    NarwhalsBack,
    PandasBack,
    StructuredBack,
    category_cells,
)
from latens.data.tables.types import plain, plain_type, require_names, shown
from latens.errors import InputError
from latens.schema.arrow import pa

KNOWN = "a data frame (pandas, polars, pyarrow, DuckDB), a structured array or a mapping of columns"


def is_frame(x: Any) -> bool:
    """Whether ``x`` is of a type that :func:`as_table` takes; nothing is imported or computed to find out.

    >>> is_frame({"a": [1]}), is_frame(np.zeros((3, 2))), is_frame([[1]])
    (True, False, False)
    """
    if isinstance(x, np.ndarray):
        return x.dtype.names is not None
    named = any(hasattr(type(x), name) for name in ("columns", "column_names", "schema"))
    return isinstance(x, Mapping) or named


def as_table(x: Any, *, finite: bool = True) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    """A frame as a table of plain types (:mod:`latens.data.tables.types`), and the way back.

    The way back turns any table into a frame of the library that ``x`` came from. A column of ``x`` keeps its dtype if
    the values allow it (whole numbers with gaps do not); labels that are not strings are restored; a missing cell is
    what the library writes for one. A period becomes the time of its start, and intervals and categories without an
    Arrow type become words. A lazy polars frame comes back as an eager one, a relation of a database as a pyarrow
    table. Rows get a new pandas index, since a table may hold other rows than ``x``; ``back.index`` has the old one.
    With ``finite``, infinite numbers are refused.

    Raises:
        InputError: ``x`` is not a frame or has no rows, two columns have one name, or a column holds mixed objects or
            a type without a plain one; the message has the column and the first row concerned, counted from 0.

    >>> import pandas
    >>> frame = pandas.DataFrame({"a": [1, 2], 7: pandas.Categorical(["u", None], ["v", "u"])})
    >>> table, back = as_table(frame)
    >>> table.to_pydict(), back(table).equals(frame)
    ({'a': [1, 2], '7': ['u', None]}, True)
    >>> as_table({"a": ["x", ["y"]]})
    Traceback (most recent call last):
    latens.errors.InputError: the data: row 1 of column 'a' is a list, row 0 is text: give a column values of one kind
    """
    table, back = _converted(x)
    require_names(table.column_names, "the data")
    if table.num_columns == 0 or table.num_rows == 0:
        raise InputError(f"the data has {'no rows' if table.num_columns else 'no columns'}", "give some")
    return plain(table, "the data", finite=finite).unify_dictionaries(), back


def without_odd(x: Any, optional: Callable[[str], bool]) -> tuple[Any, list[str]]:
    """(the frame without those of its ``optional`` columns that :func:`as_table` refuses, such as lists and objects;
    their names).

    >>> without_odd({"a": [1, 2], "b": [[1], [2]], "c": ["u", "v"]}, lambda name: name != "a")
    ({'a': [1, 2], 'c': ['u', 'v']}, ['b'])
    """
    labels = x.keys() if isinstance(x, Mapping) else getattr(x, "column_names", getattr(x, "columns", ()))
    names, odd = [str(label) for label in labels], []
    for name in filter(optional, names):
        try:
            as_table(_chosen(x, {name}), finite=False)
        except InputError:
            odd.append(name)
    return (_chosen(x, set(names) - set(odd)) if odd else x), odd


def _chosen(x: Any, names: set[str]) -> Any:
    """The frame with only these columns, in its order."""
    import narwhals as nw

    if isinstance(x, Mapping):
        return {label: values for label, values in x.items() if str(label) in names}
    if type(x).__module__.partition(".")[0] == "pandas":
        return x.loc[:, [str(label) in names for label in x.columns]]
    frame = nw.from_native(x)
    return frame.select([name for name in frame.collect_schema().names() if name in names]).to_native()


def repeated_labels(index: Any) -> list[str]:
    """A warning if a label of a pandas index names several rows; nothing if there is no index (None)."""
    if index is None or index.is_unique:
        return []
    label = index[index.duplicated()].tolist()[0]
    return [
        f"the index of the data has the label {label!r} more than once: rows come back in their order with that index, "
        "but joining them by label is ambiguous: join them by position"
    ]


def _converted(x: Any) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    library = type(x).__module__.partition(".")[0]
    if isinstance(x, pa.Table):
        return x, ArrowBack(x.schema)
    if isinstance(x, pa.RecordBatch):
        return pa.Table.from_batches([x]), ArrowBack(x.schema, "batch")
    if isinstance(x, pa.RecordBatchReader):
        return x.read_all(), ArrowBack(x.schema, "reader")
    if library == "pandas" and hasattr(x, "columns"):
        return _from_pandas(x), PandasBack.of(x)
    if isinstance(x, np.ndarray) and x.dtype.names is not None:
        return _from_columns({name: x[name] for name in x.dtype.names}), StructuredBack(x.dtype)
    if isinstance(x, Mapping):
        dtypes = {label: getattr(values, "dtype", None) for label, values in x.items()}
        return _from_columns(x), ColumnsBack(dtypes)
    return _from_narwhals(x)


def _from_narwhals(x: Any) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    import narwhals as nw

    frame = nw.from_native(x, pass_through=True)
    if isinstance(frame, nw.LazyFrame) and frame.implementation.is_polars():
        frame = frame.collect()
    if isinstance(frame, nw.DataFrame):
        if len(set(frame.columns)) < len(frame.columns):
            require_names(frame.columns, "the data")
        for name, dtype in frame.schema.items():
            if dtype == nw.Object:
                raise InputError(f"the data: column {shown(name)} holds objects", "give numbers, words or dates")
        return frame.to_arrow(), NarwhalsBack(frame)
    if hasattr(x, "__arrow_c_stream__"):
        try:
            table = pa.RecordBatchReader.from_stream(x).read_all()
        except pa.ArrowInvalid as error:  # a single column has a stream too
            raise InputError(f"{_called(x)} is not a table", f"give {KNOWN}") from error
        return table, ArrowBack(table.schema)
    if isinstance(frame, nw.LazyFrame):
        table = frame.collect("pyarrow").to_native()
        return table, ArrowBack(table.schema)
    raise InputError(f"{_called(x)} is not a table", f"give {KNOWN}")


def _called(x: Any) -> str:
    return f"an object of the type {type(x).__module__.removeprefix('builtins')}.{type(x).__qualname__}".replace(
        " .", " "
    )


# Columns of Python objects


def _from_columns(columns: Mapping[Any, Any]) -> pa.Table:
    """A table of columns that are sequences, arrays or Arrow arrays, of equal length; labels become text."""
    names, arrays = [str(label) for label in columns], []
    require_names(names, "the data")
    for name, values in zip(names, columns.values()):
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            what = f"the data: column {shown(name)} is {_with_article(_kind(values))}"
            raise InputError(what, "give a sequence of values")
        if isinstance(values, np.ndarray) and values.ndim != 1:
            shape = f"the shape {values.shape}"
            raise InputError(f"the data: column {shown(name)} has {shape}", "give it one value per row")
        arrays.append(_array(values, name))
        if len(arrays[-1]) != len(arrays[0]):
            raise InputError(
                f"the data: column {shown(name)} has {len(arrays[-1]):,} rows, column {shown(names[0])} has "
                f"{len(arrays[0]):,}",
                "give all columns the same number",
            )
    return pa.Table.from_arrays(arrays, names=names)


def _array(values: Any, name: str) -> pa.Array | pa.ChunkedArray:
    """One column as Arrow; an ``InputError`` names the first row of another kind than those before it."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if not hasattr(values, "dtype"):
        values = list(values)
    elif isinstance(values, np.ndarray):
        values = _in_units(values.astype(values.dtype.newbyteorder("="), copy=False))
    try:
        array = pa.array(values, from_pandas=True)
        if pa.types.is_decimal(array.type) and getattr(values, "dtype", None) in (None, np.dtype(object)):
            array = array.cast(pa.decimal128(38, array.type.scale))  # objects have no width
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        _require_one_kind(values, name)
        reason = " ".join(str(error).split()).rstrip(".")
        what = f"the data: column {shown(name)} cannot be converted ({reason:.120})"
        raise InputError(what, f"give numbers, words or dates, or leave it out with --drop {shown(name)}") from error
    doubtful = plain_type(array.type) is None or pa.types.is_date(array.type)  # a time among dates would lose its hours
    if doubtful and getattr(values, "dtype", None) in (None, np.dtype(object)):
        _require_one_kind(values, name)
    return array


def _in_units(values: np.ndarray) -> np.ndarray:
    """Times and durations in a unit that Arrow has: days, seconds or fractions of a second."""
    if values.dtype.kind not in "mM" or (unit := np.datetime_data(values.dtype)[0]) in ("s", "ms", "us", "ns"):
        return values
    days = values.dtype.kind == "M" and unit in ("Y", "M", "W", "D")
    return values.astype(f"{values.dtype.kind}8[{'D' if days else 's' if unit in 'YMWDhm' else 'ns'}]")


def _require_one_kind(values: Iterable[Any], name: str) -> None:
    first: tuple[int, str] | None = None
    for row, value in enumerate(values):
        kind = _kind(value)
        if kind == "missing":
            continue
        if kind not in _KINDS:
            what = f"the data: row {row} of column {shown(name)} is {_with_article(kind)}"
            if first is not None:
                raise InputError(f"{what}, row {first[0]} is {_KINDS[first[1]]}", "give a column values of one kind")
            way = f"write such cells as numbers, words or dates, or leave the column out with --drop {shown(name)}"
            raise InputError(what, way)
        if first is not None and kind != first[1]:
            raise InputError(
                f"the data: row {row} of column {shown(name)} is {_KINDS[kind]}, row {first[0]} is {_KINDS[first[1]]}",
                "give a column values of one kind",
            )
        first = (row, kind) if first is None else first


_KINDS = {
    "str": "text", "bool": "true or false", "number": "a number", "datetime": "a time", "date": "a date",
    "time": "a time of day", "timedelta": "a duration",
}  # fmt: skip


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _kind(value: Any) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return "missing"
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, (numbers.Real, decimal.Decimal)):
        return "number"
    if isinstance(value, datetime.datetime | np.datetime64):
        return "datetime"
    if isinstance(value, datetime.date):
        return "date"
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return "timedelta"
    return "str" if isinstance(value, str) else type(value).__name__


def _from_pandas(frame: Any) -> pa.Table:
    import pandas

    names = [str(label) for label in frame.columns]
    require_names(names, "the data")
    arrays = []
    for j, name in enumerate(names):
        series = frame.iloc[:, j]
        if isinstance(series.dtype, pandas.PeriodDtype):
            series = series.dt.to_timestamp()
        if isinstance(series.dtype, pandas.IntervalDtype):
            series = series.astype("category")
        if isinstance(series.dtype, pandas.CategoricalDtype):
            codes = pa.array(series.cat.codes.to_numpy(), mask=series.isna().to_numpy())
            words = category_cells(series.cat.categories, name)
            arrays.append(pa.DictionaryArray.from_arrays(codes, words, ordered=bool(series.cat.ordered)))
            continue
        if isinstance(series.dtype, pandas.SparseDtype):
            series = series.sparse.to_dense()
        arrays.append(_array(series, name))
    return pa.Table.from_arrays(arrays, names=names)
