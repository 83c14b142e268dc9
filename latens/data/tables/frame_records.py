"""Write the ways back of :mod:`latens.data.tables.frame_backs` as plain values and restore them, so that a loaded run
gives the same frames as the fitted one."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from latens.data.tables.frame_backs import ArrowBack, ColumnsBack, NarwhalsBack, PandasBack, StructuredBack
from latens.errors import InputError
from latens.schema.arrow import pa
from latens.schema.cells import as_levels, of_levels

_PLAIN = (str, int, float, bool, type(None))


def recorded(back: Any) -> dict[str, Any] | None:
    """A way back as a mapping that JSON can hold; None if it has labels or dtypes that cannot be written.

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
        return _KINDS[record["library"]](record)
    except ImportError:
        return None
    except Exception as error:  # its parts are read by several libraries
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


_KINDS: dict[str, Any] = {
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
    if isinstance(index, pandas.IntervalIndex):
        return found | {"left": index_record(index.left), "right": index_record(index.right)}
    if isinstance(index, pandas.CategoricalIndex):
        return found | {"codes": index.codes.tolist()}
    if isinstance(index, pandas.PeriodIndex):
        return found | {"ordinals": index.asi8.tolist()}
    if index.dtype == object and all(isinstance(value, _PLAIN) for value in index):
        return found | {"values": index.tolist()}
    cells = pa.array(index, from_pandas=True)
    found |= {"type": str(cells.type), "values": as_levels(cells).to_pylist()}
    return found | ({"freq": index.freqstr} if index.dtype.kind in "mM" else {})


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
    if "type" not in record:
        return pandas.Index(record["values"], dtype=dtype, name=name)
    cells = of_levels(record["values"], f"dictionary<values={record['type']}, indices=int32, ordered=0>")
    values = cells.to_pylist() if dtype == np.dtype(object) else cells.to_pandas()
    found: Any = pandas.Index(values, dtype=dtype, name=name)
    if record.get("freq"):
        found.freq = record["freq"]
    return found
