"""Convert Arrow tables back to the frames that :func:`latens.data.tables.frames.as_table` took: each class here makes
frames of one library and gives columns the dtypes that they had, if the values allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from latens.data.tables.types import plain_type, shown
from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.cells import plain


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
    """Like ``cast``, but also to dictionaries of other values or with narrower indices."""
    if not pa.types.is_dictionary(wanted):
        return column.cast(wanted)
    cells = plain(column).cast(wanted.value_type).dictionary_encode()
    indices = cells.indices.cast(wanted.index_type)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, cells.dictionary, ordered=wanted.ordered)])


class NarwhalsBack:
    """Makes frames of the library of another frame, with its dtypes."""

    def __init__(self, frame: Any) -> None:
        self.empty, self.schema, self.backend = frame.head(0), frame.schema, frame.implementation

    def __call__(self, table: pa.Table) -> Any:
        import narwhals as nw

        frame = nw.from_arrow(table, backend=self.backend)
        for name, dtype in frame.schema.items():
            wanted = self.schema.get(name, dtype)
            if wanted == dtype:
                continue
            try:
                changed = frame[name].cast(wanted)
                cut = dtype.is_numeric() and not wanted.is_float() and (changed.cast(dtype) != frame[name]).any()
            except Exception:  # each library raises its own error for a value that the dtype cannot hold
                continue
            frame = frame if cut else frame.with_columns(changed)
        return frame.to_native()


def category_cells(categories: Any, name: str) -> pa.Array:
    """The categories of a pandas column as an Arrow array; those without a plain type (intervals, periods, words among
    numbers) as words. ``InputError`` if two are written the same."""
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
    """Makes pandas frames with the labels and dtypes of another frame.

    Args:
        columns: the index of labels.
        dtypes: the dtypes of the columns, in order.
        intervals: for columns of intervals, by their position, the dtype that they have as categories.
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
            changed = own.astype(dtype)
        except (ValueError, TypeError, OverflowError, pa.ArrowException):
            return own
        lost = changed.isna() != own.isna()
        if dtype.kind in "iub":  # numpy cuts 1.5 to 1, and wraps 300 to 44
            lost |= (changed != own) & own.notna()
        return own if bool(lost.any()) else changed


def _nullable(column: pa.ChunkedArray, dtype: Any, own: Any) -> Any:
    """Cells as a pandas dtype that can read Arrow's; ``own`` if that would lose some."""
    import pandas

    if isinstance(dtype, pandas.ArrowDtype):
        column = column.cast(dtype.pyarrow_dtype)
    changed = pandas.Series(dtype.__from_arrow__(column))
    return changed if column.null_count == int(changed.isna().sum()) else own


def _categorical(column: pa.ChunkedArray, dtype: Any, own: Any) -> Any:
    """Cells as categories of that dtype, followed by levels that it lacks; ``own`` if those are of another type."""
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
    """Makes matrices ``[N, D]`` of a dtype, or of float64 if columns are fractions; a table with words stays one."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __call__(self, table: pa.Table) -> Any:
        is_a = pa.types
        kinds = (is_a.is_null, is_a.is_boolean, is_a.is_integer, is_a.is_floating)
        if not all(any(test(type) for test in kinds) for type in table.schema.types):
            return table
        columns = [np.asarray(column.to_numpy(), dtype=np.float64) for column in table.columns]
        fractions = [np.float64] if pa.float64() in table.schema.types else []
        return np.column_stack(columns).astype(np.result_type(self.dtype, *fractions))


class StructuredBack:
    """Makes structured arrays with the dtypes of another one's fields."""

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
        with np.errstate(invalid="ignore"):
            changed = values.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return values
    return values if dtype.kind in "iub" and (changed != values).any() else changed


class ColumnsBack:
    """Makes mappings of columns: arrays with the ``dtypes`` of another mapping's arrays, lists for its lists."""

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
