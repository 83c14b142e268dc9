"""The ways back from Arrow tables to the frames that :func:`latens.data.tables.frames.as_table` took: each turns a
table into a frame of one library and gives columns the dtypes they had, where the values allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowBack:
    """A table in the types of a schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        for j, name in enumerate(table.column_names):
            own, wanted = (
                table.schema.field(j).type,
                self.schema.field(name).type if name in self.schema.names else None,
            )
            if wanted in (None, own) or (pa.types.is_boolean(wanted) and not pa.types.is_null(own)):
                continue
            with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a value that the type cannot hold
                table = table.set_column(j, name, table.column(j).cast(wanted))
        same = self.schema.names == table.column_names and self.schema.types == table.schema.types
        return table.cast(self.schema) if same else table


class NarwhalsBack:
    """A frame of the library, with the dtypes of another one."""

    def __init__(self, frame: Any) -> None:
        self.schema, self.backend = frame.schema, frame.implementation

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
            except Exception:  # each library has its own for a value that the dtype cannot hold
                continue
            frame = frame if cut else frame.with_columns(changed)
        return frame.to_native()


class PandasBack:
    """A pandas frame with the labels and dtypes of another one; ``index`` is that one's."""

    def __init__(self, frame: Any) -> None:
        self.columns, self.index = frame.columns, frame.index
        self.position = {str(label): j for j, label in enumerate(frame.columns)}
        self.dtypes = list(frame.dtypes)

    def __call__(self, table: pa.Table) -> Any:
        import pandas

        positions = [self.position.get(name) for name in table.column_names]
        series = {
            j: self._as(table.column(j), None if position is None else self.dtypes[position])
            for j, position in enumerate(positions)
        }
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

    @staticmethod
    def _as(column: pa.ChunkedArray, dtype: Any) -> Any:
        """The column as ``dtype`` where that loses nothing, and as pandas reads it otherwise."""
        import pandas
        import pyarrow as pa

        if dtype == np.dtype(object):
            return pandas.Series(column.to_pylist(), dtype=object)
        own = column.to_pandas()
        if dtype is None or own.dtype == dtype:
            return own
        try:
            if isinstance(dtype, pandas.ArrowDtype):
                return pandas.Series(pandas.array(column.cast(dtype.pyarrow_dtype), dtype=dtype))
            if pandas.api.types.is_extension_array_dtype(dtype) and hasattr(dtype, "__from_arrow__"):
                if dtype.kind == "b" and not pa.types.is_boolean(column.type):
                    return own
                changed = pandas.Series(dtype.__from_arrow__(column.cast(_arrow_type(dtype, column.type))))
                return changed if column.null_count == int(changed.isna().sum()) else own
            elif isinstance(dtype, pandas.CategoricalDtype) and not own.dropna().isin(dtype.categories).all():
                return own
            else:
                changed = own.astype(dtype)
        except (ValueError, TypeError, OverflowError, pa.ArrowException):
            return own
        lost = changed.isna() != own.isna()
        if dtype.kind in "iub":  # numpy cuts 1.5 to 1, and wraps 300 to 44
            lost |= (changed != own) & own.notna()
        return own if bool(lost.any()) else changed


def _arrow_type(dtype: Any, type: pa.DataType) -> pa.DataType:
    """The Arrow type that a nullable pandas dtype of numbers reads; ``type`` for other dtypes."""
    import pyarrow as pa

    kind = getattr(dtype, "numpy_dtype", None)
    return type if kind is None or kind.kind not in "iufb" else pa.from_numpy_dtype(kind)


class StructuredBack:
    """A structured array with the fields' dtypes of another one."""

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
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
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
    """A mapping of columns: arrays where the other one has arrays, and lists elsewhere."""

    def __init__(self, columns: Mapping[Any, Any]) -> None:
        self.labels = {str(label): label for label in columns}
        self.dtypes = {str(label): getattr(values, "dtype", None) for label, values in columns.items()}

    def __call__(self, table: pa.Table) -> dict[Any, Sequence[Any] | np.ndarray]:
        return {
            self.labels.get(name, name): _numpy(column, dtype)
            if isinstance(dtype := self.dtypes.get(name), np.dtype)
            else column.to_pylist()
            for name, column in zip(table.column_names, table.columns)
        }
