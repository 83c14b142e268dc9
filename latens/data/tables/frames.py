"""Data frames to arrow tables and back: pandas, polars, pyarrow, structured arrays, mappings of columns, and anything
that narwhals knows or that offers an Arrow stream (DuckDB).

Each class whose name ends in Back makes the frames of one library from tables, and gives columns their former dtypes
if the values allow it. A run stores it as plain values, so that a loaded run gives the same frames as the fitted one.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from latens.data.tables.types import held, plain_table, plain_type, require_names, shown
from latens.errors import InputError
from latens.schema.arrow import as_levels, of_levels, pa, pc, plain


class ArrowBack:
    """Makes tables with the types of a schema; ``form`` is "table", "batch" or "reader"."""

    def __init__(self, schema: pa.Schema, form: str = "table") -> None:
        self.schema, self.form = schema, form

    def __call__(self, table: pa.Table) -> Any:
        found = self._typed(table)
        if self.form == "reader":
            return found.to_reader()
        return found if self.form == "table" else _one_batch(found)

    def _typed(self, table: pa.Table) -> pa.Table:
        for j, name in enumerate(table.column_names):
            own = table.schema.field(j).type
            wanted = self.schema.field(name).type if name in self.schema.names else own
            if wanted == own or (pa.types.is_boolean(wanted) and not pa.types.is_null(own)):
                continue
            with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):  # the type cannot hold a value
                table = table.set_column(j, name, _cast(table.column(j), wanted))
        if sorted(table.column_names) == sorted(self.schema.names):
            table = table.select(self.schema.names)
        same = self.schema.names == table.column_names and self.schema.types == table.schema.types
        return table.cast(self.schema) if same else table


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """The column in that type, also in dictionaries with other values or narrower indices; the same column if the type
    cannot hold it."""
    if not pa.types.is_dictionary(wanted):
        found = held(column, wanted)
        return column if found is None else found
    cells = plain(column).cast(wanted.value_type).dictionary_encode()
    indices = cells.indices.cast(wanted.index_type)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, cells.dictionary, ordered=wanted.ordered)])


class NarwhalsBack:
    """Makes frames of the library of another frame, with its dtypes."""

    def __init__(self, frame: Any) -> None:
        self.empty, self.schema, self.backend = frame.head(0), frame.schema, frame.implementation

    def __call__(self, table: pa.Table) -> Any:
        import narwhals as nw

        # the metadata of polars name the levels of its Enums, which may not be those of this table
        fields = [pa.field(f.name, f.type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
        frame = nw.from_arrow(pa.Table.from_arrays(table.columns, schema=pa.schema(fields)), backend=self.backend)
        for name, dtype in frame.schema.items():
            wanted = self.schema.get(name, dtype)
            if wanted == dtype:
                continue
            try:
                changed = frame[name].cast(wanted)
                exact = (dtype.is_numeric() or dtype.is_temporal()) and not wanted.is_float()
                cut = exact and (changed.cast(dtype) != frame[name]).any()
                cut |= dtype.is_float() and wanted.is_float() and (changed.is_finite() != frame[name].is_finite()).any()
            except Exception:  # each library raises its own error for a value that the dtype cannot hold
                continue
            frame = frame if cut else frame.with_columns(changed)
        return frame.to_native()


def category_cells(categories: Any, name: str) -> pa.Array:
    """The categories of a pandas column as an Arrow array. Categories without a plain type (intervals, periods, words
    among numbers) become words. ``InputError`` if two categories are written the same."""
    try:
        cells = pa.array(categories, from_pandas=True)
        cells = None if plain_type(cells.type) is None else cells.cast(plain_type(cells.type))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        cells = None
    if cells is not None:
        return cells
    words = [str(level) for level in categories]
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        what = f"the data: column {shown(name)} has two categories that are both written {shown(twice)}"
        raise InputError(what, "rename one of them")
    return pa.array(words, pa.string())


class PandasBack:
    """Makes pandas frames with the labels and dtypes of a given frame.

    Args:
        columns: the index of the column labels.
        dtypes: the dtypes of the columns, in order.
        intervals: for each column of intervals, by its position, its dtype as categories.
        index: the index of the rows, or None.
    """

    def __init__(self, columns: Any, dtypes: Sequence[Any], intervals: Mapping[int, Any], index: Any = None) -> None:
        self.columns, self.dtypes, self.intervals, self.index = columns, list(dtypes), dict(intervals), index
        self.position = {str(label): j for j, label in enumerate(columns)}

    @classmethod
    def of(cls, frame: Any) -> PandasBack:
        """The way back to frames like this one."""
        import pandas

        intervals = {
            j: frame.iloc[:, j].astype("category").dtype
            for j, dtype in enumerate(frame.dtypes)
            if isinstance(dtype, pandas.IntervalDtype)
        }
        return cls(frame.columns, frame.dtypes, intervals, frame.index)

    def __call__(self, table: pa.Table) -> Any:
        import pandas

        positions = [self.position.get(name) for name in table.column_names]
        series = {j: self._column(table.column(j), position) for j, position in enumerate(positions)}
        frame = pandas.DataFrame(series, index=pandas.RangeIndex(table.num_rows), copy=False)
        known = [position for position in positions if position is not None]
        if known == list(range(len(self.columns))) == positions:
            frame.columns = self.columns
        elif known == positions:
            frame.columns = self.columns.take(known)
        else:
            labels = [n if p is None else self.columns[p] for n, p in zip(table.column_names, positions)]
            frame.columns = pandas.Index(labels, tupleize_cols=False)
        return frame

    def _column(self, column: pa.ChunkedArray, position: int | None) -> Any:
        dtype = None if position is None else self.dtypes[position]
        if position in self.intervals:
            found = self._as(column, self.intervals[position])
            return found if found.dtype != self.intervals[position] else found.astype(dtype)
        return self._as(column, dtype)

    @staticmethod
    def _as(column: pa.ChunkedArray, dtype: Any) -> Any:
        """The column as ``dtype`` if that loses nothing, else as pandas reads it."""
        import pandas

        if dtype == np.dtype(object):
            return pandas.Series(column.to_pylist(), dtype=object)
        own = column.to_pandas()
        if isinstance(dtype, pandas.CategoricalDtype):
            return _categorical(column, dtype, own)
        if dtype is None or own.dtype == dtype:
            return own
        if isinstance(dtype, pandas.PeriodDtype):
            return own.dt.to_period(dtype.freq) if own.dtype.kind == "M" else own
        try:
            if hasattr(dtype, "__from_arrow__"):
                return _nullable(column, dtype, own)
            with np.errstate(over="ignore"):
                changed = own.astype(dtype)
        except (ValueError, TypeError, OverflowError, pa.ArrowException):
            return own
        lost = changed.isna() != own.isna()
        if dtype.kind in "iub":  # numpy would turn 1.5 into 1, and 300 into 44
            lost |= (changed != own) & own.notna()
        elif dtype.kind == "f" and own.dtype.kind == "f":  # and 100,000 into infinity in float16
            lost |= np.isinf(changed) & ~np.isinf(own)
        return own if bool(lost.any()) else changed


def _nullable(column: pa.ChunkedArray, dtype: Any, own: Any) -> Any:
    """Cells in a pandas dtype that can hold Arrow's values; ``own`` if some values would be lost."""
    import pandas

    if isinstance(dtype, pandas.ArrowDtype):
        column = _cast(column, dtype.pyarrow_dtype)
        if column.type != dtype.pyarrow_dtype:
            return own
    changed = pandas.Series(dtype.__from_arrow__(column))
    return changed if column.null_count == int(changed.isna().sum()) else own


def _categorical(column: pa.ChunkedArray, dtype: Any, own: Any) -> Any:
    """Cells as categories of that dtype, followed by levels that it lacks; ``own`` if the levels have another type."""
    import pandas

    words, cells = category_cells(dtype.categories, ""), plain(column)
    try:
        cells = cells.cast(words.type)
    except pa.ArrowException:
        return own
    more = pc.unique(cells.filter(pc.invert(pc.is_in(cells, words)))).drop_null()
    if len(more):
        if words.type != pa.array(dtype.categories, from_pandas=True).type:
            return own
        words = pa.concat_arrays([words, more])
        dtype = pandas.CategoricalDtype(words.to_pandas(), dtype.ordered)
    codes = pc.index_in(cells, value_set=words, skip_nulls=True).fill_null(-1)
    return pandas.Series(pandas.Categorical.from_codes(codes.to_numpy(), dtype=dtype))


class MatrixBack:
    """Makes matrices ``[N, D]`` of a dtype, or of float64 if the dtype cannot hold the cells; a table with words stays
    a table."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __call__(self, table: pa.Table) -> Any:
        is_a = pa.types
        kinds = (is_a.is_null, is_a.is_boolean, is_a.is_integer, is_a.is_floating)
        if not all(any(test(type) for test in kinds) for type in table.schema.types):
            return table
        matrix = np.column_stack([np.asarray(column.to_numpy(), dtype=np.float64) for column in table.columns])
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return matrix.astype(np.result_type(dtype, np.float64) if pa.float64() in table.schema.types else dtype)
        with np.errstate(invalid="ignore"):
            changed = matrix.astype(dtype)
        return changed if np.array_equal(changed, matrix) else matrix


class StructuredBack:
    """Makes structured arrays with the dtypes of a given array's fields."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __call__(self, table: pa.Table) -> np.ndarray:
        columns = [
            _numpy(column, self.dtype[name] if name in (self.dtype.names or ()) else None)
            for name, column in zip(table.column_names, table.columns)
        ]
        out = np.empty(table.num_rows, [(name, c.dtype) for name, c in zip(table.column_names, columns)])
        for name, column in zip(table.column_names, columns):
            out[name] = column
        return out


def _numpy(column: pa.ChunkedArray, dtype: np.dtype | None) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if dtype == np.dtype(object):
        return np.array([*column.to_pylist(), None], dtype=object)[:-1]
    values = column.to_numpy()
    if dtype is None or values.dtype == dtype:
        return values
    if column.null_count and dtype.kind not in "fMO":
        return values
    if dtype.kind == "U":
        longest = max((len(value) for value in values), default=1)
        return values.astype(f"U{max(longest, dtype.itemsize // 4)}")
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            changed = values.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return values
    both = dtype.kind == values.dtype.kind == "f"
    lost = np.isinf(changed) != np.isinf(values) if both else changed != values if dtype.kind in "iub" else np.zeros(1)
    return values if lost.any() else changed


class ColumnsBack:
    """Makes mappings of columns: arrays with these ``dtypes``, and lists for columns that were lists."""

    def __init__(self, dtypes: Mapping[Any, Any]) -> None:
        self.labels = {str(label): label for label in dtypes}
        self.dtypes = {str(label): dtype for label, dtype in dtypes.items()}

    def __call__(self, table: pa.Table) -> dict[Any, Sequence[Any] | np.ndarray]:
        return {
            self.labels.get(name, name): _numpy(column, dtype)
            if isinstance(dtype := self.dtypes.get(name), np.dtype)
            else column.to_pylist()
            for name, column in zip(table.column_names, table.columns)
        }


_PLAIN = (str, int, float, bool, type(None))


def recorded(back: Any) -> dict[str, Any] | None:
    """A way back as a mapping that JSON can hold; None if some labels or dtypes cannot be written.

    >>> recorded(ColumnsBack({"a": np.dtype("f4"), "b": None}))
    {'library': 'mapping', 'labels': ['a', 'b'], 'dtypes': ['<f4', None]}
    """
    try:
        if isinstance(back, PandasBack):
            return {"library": "pandas"} | _pandas_record(back)
        if isinstance(back, ArrowBack):
            return {"library": "pyarrow", "form": back.form, "schema": _packed(back.schema)}
        if isinstance(back, NarwhalsBack) and back.backend.is_polars():
            return {"library": "polars", "schema": _packed(back.empty.to_arrow().schema)}
        if isinstance(back, StructuredBack):
            return {"library": "numpy", "dtype": np.lib.format.dtype_to_descr(back.dtype)}
        if isinstance(back, ColumnsBack) and all(isinstance(label, _PLAIN) for label in back.labels.values()):
            kinds = [kind.str if isinstance(kind, np.dtype) else None for kind in back.dtypes.values()]
            return {"library": "mapping", "labels": list(back.labels.values()), "dtypes": kinds}
    except (TypeError, ValueError, AttributeError, pa.ArrowException):
        pass
    return None


def restored(record: Any) -> Any:
    """The way back that :func:`recorded` wrote; None if there is none, or if its library is not installed.

    Raises:
        InputError: the record is damaged.
    """
    if record is None:
        return None
    try:
        return _BACKS[record["library"]](record)
    except ImportError:
        return None
    except Exception as error:  # several libraries read the record, and raise errors of any kind
        what = "run.json is damaged (its entry data.frame)"
        raise InputError(what, "restore it from a copy, or fit again") from error


def _packed(schema: Any) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _unpacked(text: str) -> Any:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))


def _polars(record: dict[str, Any]) -> NarwhalsBack:
    import narwhals as nw
    import polars

    return NarwhalsBack(nw.from_native(polars.from_arrow(_unpacked(record["schema"]).empty_table())))


def _structured(record: dict[str, Any]) -> StructuredBack:
    descr: Any = [tuple(tuple(part) if isinstance(part, list) else part for part in field) for field in record["dtype"]]
    return StructuredBack(np.lib.format.descr_to_dtype(descr))


def _columns(record: dict[str, Any]) -> ColumnsBack:
    kinds = [None if kind is None else np.dtype(kind) for kind in record["dtypes"]]
    return ColumnsBack(dict(zip(record["labels"], kinds, strict=True)))


# pandas


def _pandas_record(back: PandasBack) -> dict[str, Any]:
    return {
        "columns": index_record(back.columns), "dtypes": [dtype_record(dtype) for dtype in back.dtypes],
        "intervals": {str(j): dtype_record(dtype) for j, dtype in back.intervals.items()},
    }  # fmt: skip


def _pandas(record: dict[str, Any]) -> PandasBack:
    intervals = {int(j): dtype_of(dtype) for j, dtype in record["intervals"].items()}
    return PandasBack(index_of(record["columns"]), [dtype_of(dtype) for dtype in record["dtypes"]], intervals)


_BACKS: dict[str, Any] = {
    "pandas": _pandas, "polars": _polars, "numpy": _structured, "mapping": _columns,
    "pyarrow": lambda record: ArrowBack(_unpacked(record["schema"]), str(record["form"])),
}  # fmt: skip


def dtype_record(dtype: Any) -> Any:
    """The name of a pandas dtype, or a mapping if a name is not enough.

    >>> import pandas
    >>> dtype_record(pandas.CategoricalDtype([1, 2]))["categories"]
    {'dtype': 'int64', 'name': None, 'type': 'int64', 'values': [1, 2]}
    """
    import pandas

    if isinstance(dtype, pandas.CategoricalDtype):
        return {"categories": index_record(dtype.categories), "ordered": bool(dtype.ordered)}
    if isinstance(dtype, pandas.StringDtype):
        return {"string": dtype.storage, "nullable": dtype.na_value is pandas.NA}
    if isinstance(dtype, pandas.ArrowDtype):
        return {"arrow": _packed(pa.schema([("", dtype.pyarrow_dtype)]))}
    if isinstance(dtype, pandas.SparseDtype):
        fill = getattr(dtype.fill_value, "item", lambda: dtype.fill_value)()
        return {"sparse": str(dtype.subtype), "fill": None if pandas.isna(fill) else fill}
    if dtype_of(str(dtype)) != dtype:
        raise TypeError(f"no words for {dtype}")
    return str(dtype)


def dtype_of(record: Any) -> Any:
    """The dtype that :func:`dtype_record` wrote."""
    import pandas

    if isinstance(record, str):
        return pandas.api.types.pandas_dtype(record)
    if "categories" in record:
        return pandas.CategoricalDtype(index_of(record["categories"]), record["ordered"])
    if "arrow" in record:
        return pandas.ArrowDtype(_unpacked(record["arrow"]).field(0).type)
    if "sparse" in record:
        return pandas.SparseDtype(record["sparse"], np.nan if record["fill"] is None else record["fill"])
    return pandas.StringDtype(record["string"], na_value=pandas.NA if record["nullable"] else np.nan)


def index_record(index: Any) -> dict[str, Any]:
    """A pandas index of any kind (labels of columns, categories) as plain values."""
    import pandas

    if isinstance(index, pandas.MultiIndex):
        levels = [index_record(level) for level in index.levels]
        return {"levels": levels, "codes": [codes.tolist() for codes in index.codes], "names": list(index.names)}
    found: dict[str, Any] = {"dtype": dtype_record(index.dtype), "name": index.name}
    if not isinstance(index.name, _PLAIN):
        raise TypeError("a name that is no plain value")
    if isinstance(index, pandas.RangeIndex):
        return found | {"range": [index.start, index.stop, index.step]}
    if isinstance(index, pandas.IntervalIndex):
        return found | {"left": index_record(index.left), "right": index_record(index.right)}
    if isinstance(index, pandas.CategoricalIndex):
        return found | {"codes": index.codes.tolist()}
    if isinstance(index, pandas.PeriodIndex):
        return found | {"ordinals": index.asi8.tolist()}
    if index.dtype == object and all(map(_is_label, index)):
        return found | {"values": [list(value) if isinstance(value, tuple) else value for value in index]}
    cells = pa.array(index, from_pandas=True)
    found |= {"type": str(cells.type), "values": as_levels(cells).to_pylist()}
    return found | ({"freq": index.freqstr} if index.dtype.kind in "mM" else {})


def _is_label(value: Any) -> bool:
    return all(isinstance(part, _PLAIN) for part in (value if isinstance(value, tuple) else (value,)))


def index_of(record: dict[str, Any]) -> Any:
    """The index that :func:`index_record` wrote."""
    import pandas

    if "levels" in record:
        levels = [index_of(level) for level in record["levels"]]
        return pandas.MultiIndex(levels, record["codes"], names=record["names"], verify_integrity=True)
    dtype, name = dtype_of(record["dtype"]), record["name"]
    if "left" in record:
        left, right = index_of(record["left"]), index_of(record["right"])
        return pandas.IntervalIndex.from_arrays(left, right, closed=dtype.closed, name=name, dtype=dtype)
    if "codes" in record:
        return pandas.CategoricalIndex(pandas.Categorical.from_codes(record["codes"], dtype=dtype), name=name)
    if "ordinals" in record:
        return pandas.PeriodIndex.from_ordinals(record["ordinals"], freq=dtype.freq, name=name)
    if "range" in record:
        return pandas.RangeIndex(*record["range"], name=name)
    if "type" not in record:
        values = [tuple(value) if isinstance(value, list) else value for value in record["values"]]
        return pandas.Index(values, dtype=dtype, name=name, tupleize_cols=False)
    cells = of_levels(record["values"], f"dictionary<values={record['type']}, indices=int32, ordered=0>")
    values = cells.to_pylist() if dtype == np.dtype(object) else cells.to_pandas()
    found: Any = pandas.Index(values, dtype=dtype, name=name)
    if record.get("freq"):
        found.freq = record["freq"]
    return found


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


def settled(x: Any) -> Any:
    """The data in memory: a lazy polars frame is computed, masked cells of a matrix become NaN, and other data are left
    as they are.

    >>> settled(np.ma.masked_array([[1, 2], [3, 4]], [[False, True], [False, False]])).tolist()
    [[1.0, nan], [3.0, 4.0]]
    """
    if type(x).__module__.startswith("polars") and type(x).__name__ == "LazyFrame":
        return x.collect()
    if isinstance(x, np.ma.MaskedArray) and x.ndim == 2 and x.dtype.kind in "biuf":
        wide = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        return np.ma.filled(x.astype(wide), np.nan) if np.ma.is_masked(x) else x.data
    return x


def as_table(x: Any, *, finite: bool = True) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    """A frame as a table of plain types (:mod:`latens.data.tables.types`), and the way back.

    The way back turns any table into a frame of the library that ``x`` came from. A column of ``x`` keeps its dtype if
    the values allow it (whole numbers with gaps do not). Labels that are not strings are restored. A missing cell gets
    the library's own mark. A period becomes the time of its start; intervals, and categories without an Arrow type,
    become words. A lazy polars frame comes back as an eager frame, and a relation of a database as a pyarrow table.
    Rows get a new pandas index, since a table may hold other rows than ``x``; ``back.index`` has the old index. With
    ``finite``, infinite numbers are refused.

    Raises:
        InputError: ``x`` is not a frame or has no rows, two columns have one name, or a column holds mixed objects or
            has a type without a plain type. The message has the column and the first row concerned, counted from 0.

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
        raise InputError(f"the data have {'no rows' if table.num_columns else 'no columns'}", "give some")
    return plain_table(table, "the data", finite=finite).unify_dictionaries(), back


def without_odd(x: Any, optional: Callable[[str], bool]) -> tuple[Any, list[str]]:
    """(the frame without the ``optional`` columns that :func:`as_table` refuses, such as lists and objects; the names
    of these columns).

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
    if _library(x) == "pandas":
        return x.loc[:, [str(label) in names for label in x.columns]]
    frame = nw.from_native(x)
    return frame.select([name for name in frame.collect_schema().names() if name in names]).to_native()


def repeated_labels(index: Any) -> list[str]:
    """A warning if a label of a pandas index names several rows; no warning for an index of None."""
    if index is None or index.is_unique:
        return []
    label = index[index.duplicated()].tolist()[0]
    return [
        f"the index of the data has the label {label!r} more than once: rows come back in their order with that index, "
        "but joining them by label is ambiguous: join them by position"
    ]


def _library(x: Any) -> str:
    """The package of a frame's class, or "pandas" for a class derived from its frames (a geopandas frame)."""
    packages = [each.__module__.partition(".")[0] for each in type(x).__mro__]
    return "pandas" if "pandas" in packages else packages[0]


def _converted(x: Any) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    library = _library(x)
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
        wide = [name for name, dtype in frame.schema.items() if dtype in (nw.Int128, nw.UInt128)]  # Arrow has none
        back = NarwhalsBack(frame)
        try:
            frame = frame.with_columns(*(nw.col(name).cast(nw.Int64) for name in wide)) if wide else frame
        except Exception:  # each library raises its own error
            raise InputError(f"the data: column {shown(wide[0])} has 128 bits", "cast it to 64 bits") from None
        return frame.to_arrow(), back
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
    """One column as Arrow; an ``InputError`` names the first row whose kind differs from that of the rows before it."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if not hasattr(values, "dtype"):
        values = list(values)
    elif isinstance(values, np.ndarray):
        values = _in_units(values.astype(values.dtype.newbyteorder("="), copy=False))
    try:
        array = pa.array(values, from_pandas=True)
        if pa.types.is_decimal(array.type) and getattr(values, "dtype", None) in (None, np.dtype(object)):
            array = array.cast(pa.decimal128(38, array.type.scale))  # Python decimals have no fixed width
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        _require_one_kind(values, name)
        reason = " ".join(str(error).split()).rstrip(".")
        what = f"the data: column {shown(name)} cannot be converted ({reason:.120})"
        raise InputError(what, f"give numbers, words or dates, or leave it out with --drop {shown(name)}") from error
    doubtful = plain_type(array.type) is None or pa.types.is_date(array.type)  # as dates, times would lose their hours
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
