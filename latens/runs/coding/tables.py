"""The columns of a table as symbols, and the parts of a table that the model does not reproduce.

The cells of the file are compared with the cells that the decoder will make. Cells that differ (a level that the fit
never saw, a number off the grid or out of range) are stored next to the code. Columns in which many cells differ,
columns with a density but no grid, and columns that are not modelled are stored whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens import distributions as d
from latens.conditionals import ColumnLikelihood, ColumnsInOrder, TableLikelihood
from latens.data.rows import rows_like
from latens.data.tables.reading import Hints, read_columns, written
from latens.errors import InputError
from latens.runs.coding.cells import COUNTS, MOST_COUNTED, among, by_value, elementwise, heaped_masses
from latens.runs.coding.layers import CELLS
from latens.runs.coding.masses import MOST
from latens.runs.coding.rans import Stack
from latens.runs.coding.rounding import Rounding
from latens.schema import AnySchema, Schema, Table
from latens.schema.arrow import pa, pc
from latens.schema.ranges import nearest_place

MOST_SPELLED = 1 << 12  # at most this many texts of a column may be spelt differently from how latens writes them
MOST_SINGLY = 1 << 12  # columns with more values are coded as if the margin had no cycles and ended at no other column
MANY = 0.25  # a column is stored whole if a larger share of its cells differs
MOST_ROWS = 64  # a byte of Parquet holds at most this many levels or spellings, as these are distinct
_COUNTS = ("poisson", "negative_binomial", "zero_inflated_negative_binomial")


@dataclass(frozen=True)
class Places:
    """The values that a column's symbols stand for and, for numbers with atoms, which symbols are the atoms."""

    values: np.ndarray
    grid: int
    atoms: np.ndarray

    @classmethod
    def of(cls, column: ColumnLikelihood, top: int) -> Places | None:
        """The places of a column, for counts up to ``top``; None for a density, or if there would be too many."""
        none = np.zeros(0, np.int64)
        if column.law is None:
            size = {"bernoulli": 2, "categorical": column.levels, "ordinal": column.levels}.get(column.family)
            size = top + 1 if column.family in _COUNTS and top < MOST_COUNTED else size
            return None if size is None else cls(np.arange(size, dtype=np.float64), size, none)
        law = column.law
        places: np.ndarray
        if law.places:
            places = np.array(law.places, dtype=np.float64)
        elif law.step:
            first, last = (round((end - law.origin) / law.step) for end in (law.knots[0], law.knots[-1]))
            if not 0 < last - first < MOST - 1000:
                return None
            places = law.origin + np.arange(first, last + 1) * law.step
        else:
            return None
        symbols: list[int] = []
        beyond: list[float] = []
        for atom in law.atoms:
            near = int(np.abs(places - atom).argmin())
            if abs(places[near] - atom) > 1e-9 * max(1.0, abs(atom)):
                near = len(places) + len(beyond)
                beyond.append(atom)
            symbols.append(near)
        return cls(np.append(places, beyond), len(places), np.array(symbols, dtype=np.int64))

    def symbols(self, x: np.ndarray) -> np.ndarray:
        """For each number, the symbol of the nearest value; 0 for NaN."""
        places = self.values[: self.grid]
        found = nearest_place(places, np.nan_to_num(x, nan=places[0]))
        for symbol in range(self.grid, len(self.values)):
            found[np.abs(x - self.values[symbol]) <= 1e-6 * np.abs(self.values[symbol])] = symbol
        return found


class TableCells:
    """The cells of a table's rows.

    Args:
        schema: the columns.
        columns: the likelihoods of the columns.
        tops: the largest count of each column.
        x: ``[N, D]`` in the model's form: the columns that are not coded; for coded columns, NaN marks missing cells.
        coded: which columns are coded, ``[D]``.
    """

    def __init__(
        self, schema: Table, columns: Sequence[ColumnLikelihood], tops: np.ndarray, x: np.ndarray, coded: np.ndarray
    ):  # fmt: skip
        self.schema, self.columns, self.tops, self.x, self.coded = schema, columns, tops, x, coded
        self.places = [Places.of(column, int(top)) if code else None for column, top, code in zip(columns, tops, coded)]
        levels = [len(places.values) for places, column in zip(self.places, columns) if places and column.law is None]
        self.weight = len(columns) + sum(levels)

    def part(self, rows: slice) -> TableCells:
        """The cells of some rows."""
        return TableCells(self.schema, self.columns, self.tops, self.x[rows], self.coded)

    def symbols(self, x: np.ndarray) -> np.ndarray:
        """The symbols ``[N, D]`` of rows in the model's form."""
        found = np.zeros(x.shape, np.int64)
        for j, places in enumerate(self.places):
            if places is not None:
                found[:, j] = places.symbols(x[:, j].astype(np.float64))
        return found

    def values(self, symbols: np.ndarray, rows: slice) -> np.ndarray:
        """x ``[B, D]`` in the model's form."""
        x = np.array(self.x[rows])
        for j, places in enumerate(self.places):
            if places is not None:
                x[:, j] = np.where(np.isnan(x[:, j]), np.nan, places.values[symbols[:, j]])
        return x

    def inside(self, symbols: np.ndarray, rows: slice) -> Tensor:
        """x in the model's form, as a tensor."""
        return torch.from_numpy(self.values(symbols, rows))

    def _masses(self, px: Any, x: np.ndarray, j: int, live: np.ndarray, rounding: Rounding) -> Any:
        """The masses of column j in the rows ``live``; x holds the columns before it."""
        base, position = elementwise(px), j
        if isinstance(base, d.InOrder):
            before = torch.from_numpy(x)
            before[:, j:] = torch.nan
            base, members = base.columns(before, [j])
            position = members.index(j)
        index, part = next(each for each in base.parts if bool((each[0] == position).any()))
        place, places = int((index == position).nonzero()), self.places[j]
        rows = torch.from_numpy(live)
        assert places is not None
        if isinstance(part, d.Heaped):
            own = part.cells(rows, place)
            if (isinstance(own, d.Seasonal) or own.cut is not None) and len(places.values) <= MOST_SINGLY:
                return among(own, places.values, rounding)
            own = own if own.cut is None else own.on_side(None)
            return heaped_masses(own, 0, places.values[: places.grid], places.atoms, rounding)
        return by_value(_some(part, place, rows), len(places.values), rounding)

    def _live(self, j: int, rows: slice) -> np.ndarray:
        return np.flatnonzero(~np.isnan(self.x[rows, j]))

    def push(self, stack: Stack, px: Any, symbols: np.ndarray, rows: slice, rounding: Rounding, batch: int) -> None:
        """Put the symbols on the stack."""
        x = self.values(symbols, rows)
        for j in reversed(range(len(self.columns))):
            live = self._live(j, rows)
            if self.places[j] is not None and len(live):
                rounding.at(batch, CELLS + j)
                stack.push(*self._masses(px, x.copy(), j, live, rounding).interval(symbols[live, j]))

    def pop(self, stack: Stack, px: Any, rows: slice, rounding: Rounding, batch: int) -> np.ndarray:
        """Take the symbols from the stack."""
        x, found = np.array(self.x[rows]), np.zeros(self.x[rows].shape, np.int64)
        for j, places in enumerate(self.places):
            live = self._live(j, rows)
            if places is not None and len(live):
                rounding.at(batch, CELLS + j)
                masses = self._masses(px, x.copy(), j, live, rounding)
                found[live, j] = stack.pop(masses.find, len(live))
                x[live, j] = places.values[found[live, j]]
        return found


def _some(part: Any, place: int, rows: Tensor) -> Any:
    """One column of a part of a table's distribution, in some rows."""
    if isinstance(part, d.Categorical):
        return d.Categorical(part.logits[rows, place])
    if isinstance(part, d.Ordinal):
        cutpoints = part.cutpoints.expand(*part.batch_shape, part.cutpoints.shape[-1])
        return d.Ordinal(part.loc[rows, place], cutpoints[rows, place])
    names = ("logits",) if isinstance(part, d.Bernoulli) else COUNTS[type(part)]
    return type(part)(*(getattr(part, name).expand(part.batch_shape)[rows, place] for name in names))


# What the model does not reproduce


def remade(
    schema: AnySchema, x: np.ndarray, like: Any, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Columns made from x ``[N, D]`` in the model's form, for the conditions ``known`` (arrow arrays), in the types of
    the schema ``like``."""
    if isinstance(schema, Schema):
        user = schema.to_user(x.reshape(len(x), *schema.shape))
        table = pa.table([pa.array(column) for column in user.T], names=list(schema.names or like.names))
    else:
        table = schema.to_user(x, {name: known[name] for name in schema.conditions if known and name in known})
        forms = {f.name: f.form for f in schema.fields if f.form}
        table = written(table, forms, as_text=bool(like.metadata and b"text" in like.metadata))
    found = {}
    for name in table.column_names:
        if name not in like.names:
            continue
        wanted = like.field(name).type
        plain = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
        try:
            cells = table.column(name)
            cells = cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells
            found[name] = cells.cast(plain)
        except (pa.ArrowException, ValueError):
            continue
    return found


def differs(cells: Any, made: Any) -> np.ndarray:
    """Which cells of two columns of the same type differ in any bit, including NaN and the sign of 0, ``[N]``."""
    null, other = cells.is_null().to_numpy(), made.is_null().to_numpy()
    if pa.types.is_null(cells.type):
        return np.zeros(len(cells), bool)
    if pa.types.is_floating(cells.type):
        kind = f"u{cells.type.bit_width // 8}"
        one, two = (np.ascontiguousarray(pc.fill_null(each, 0).to_numpy()).view(kind) for each in (cells, made))
        equal = one == two
    else:
        equal = pc.fill_null(pc.equal(cells, made), False).to_numpy()
    return np.where(null | other, null != other, ~equal)


def packed_table(table: Any) -> np.ndarray:
    """An arrow table as bytes of Parquet."""
    import pyarrow.parquet as parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", compression_level=19, write_statistics=False)
    return np.frombuffer(sink.getvalue(), np.uint8)


def unpacked_table(data: np.ndarray, rows: int | None = None) -> Any:
    """The table from which :func:`packed_table` made the bytes; ``ValueError`` unless it has that many rows, or can
    hold the number of rows that it declares."""
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(data.tobytes())))
    declared = file.metadata.num_rows
    if declared != rows and (rows is not None or declared > MOST_ROWS * len(data)):
        raise ValueError(f"a part of it has {declared:,} rows")
    return file.read()


def plain(table: Any) -> Any:
    """The table with dictionaries replaced by their values."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    return table


def dictionaries(table: Any) -> dict[str, np.ndarray]:
    """The levels of each column that is a dictionary."""
    found = {}
    for name, field in zip(table.column_names, table.schema):
        if pa.types.is_dictionary(field.type):
            levels = table.column(name).unify_dictionaries()
            levels = levels.chunk(0).dictionary if levels.num_chunks else pa.array([], field.type.value_type)
            found[f"levels {name}"] = packed_table(pa.table({"": levels}))
    return found


def spelled(cells: Any, made: Any) -> Any:
    """A small table: for each text that the decoder makes, the original text of most of its cells, such as a word with
    blanks around it or the mark of a gap. None if the cells are not text, or have too many different texts."""
    if not pa.types.is_string(cells.type):
        return None
    if len(pc.unique(made)) > MOST_SPELLED:
        return None
    pairs = pa.table({"made": made, "cells": cells}).group_by(["made", "cells"]).aggregate([([], "count_all")])
    pairs = pairs.sort_by([("count_all", "descending"), ("made", "ascending"), ("cells", "ascending")])
    first = np.unique(pc.index_in(pairs["made"], pc.unique(pairs["made"]), skip_nulls=False), return_index=True)[1]
    return pairs.take(first).select(["made", "cells"])


def respelled(made: Any, spelling: Any) -> Any:
    """The cells ``made`` with the spellings of :func:`spelled`."""
    keys, texts = (spelling.column(name).combine_chunks() for name in ("made", "cells"))
    index = pc.index_in(made, keys, skip_nulls=False)
    known_ = texts.take(index.combine_chunks() if isinstance(index, pa.ChunkedArray) else index)
    return pa.chunked_array([pc.if_else(index.is_valid().combine_chunks(), known_, made.combine_chunks())])


def residue(original: Any, made: Mapping[str, Any], whole: set[str]) -> tuple[dict[str, np.ndarray], set[str]]:
    """(what the columns ``made`` lack compared with the original table, as named arrays; the columns that are stored
    whole: those in ``whole``, those not made, and those in which many cells differ)."""
    kept, cells = {}, plain(original)
    for name in original.column_names:
        if name in whole or name not in made:
            whole = whole | {name}
            continue
        wanted, found = cells.column(name), made[name]
        at = np.flatnonzero(differs(wanted, found))
        if len(at) and (spelling := spelled(wanted, found)) is not None:
            kept[f"spelt {name}"] = packed_table(spelling)
            at = np.flatnonzero(differs(wanted, respelled(found, spelling)))
        if len(at) > MANY * len(original):
            whole = whole | {name}
            kept.pop(f"spelt {name}", None)
        elif len(at):
            kept[f"at {name}"] = np.diff(at, prepend=0).astype(np.int64)
            kept[f"cells {name}"] = packed_table(pa.table({"": wanted.take(at)}))
    kept |= dictionaries(original)
    kept["schema"] = np.frombuffer(original.schema.serialize(), np.uint8)
    if names := [name for name in original.column_names if name in whole]:
        kept["whole"] = packed_table(cells.select(names).replace_schema_metadata(None))
    return kept, whole


def schema_of(kept: Mapping[str, np.ndarray]) -> Any:
    """The arrow schema of the table from which :func:`residue` was taken."""
    return pa.ipc.read_schema(pa.py_buffer(kept["schema"].tobytes()))


def rebuilt(kept: Mapping[str, np.ndarray], made: Mapping[str, Any], rows: int) -> Any:
    """The table from which :func:`residue` was taken."""
    schema = schema_of(kept)
    whole = unpacked_table(kept["whole"], rows) if "whole" in kept else None
    columns = []
    for field in schema:
        cells: Any = made.get(field.name)
        if f"spelt {field.name}" in kept:
            cells = respelled(cells, unpacked_table(kept[f"spelt {field.name}"]))
        if whole is not None and field.name in whole.column_names:
            column = whole.column(field.name)
        elif f"at {field.name}" in kept:
            odd = unpacked_table(kept[f"cells {field.name}"], len(kept[f"at {field.name}"])).column(0)
            index = np.arange(rows)
            index[np.cumsum(kept[f"at {field.name}"])] = rows + np.arange(len(odd))
            column = pa.chunked_array([*cells.chunks, *odd.cast(cells.type).chunks], cells.type).take(pa.array(index))
        else:
            column = cells
        columns.append(_levelled(column, field, kept))
    return pa.table(columns, schema=schema)


def _levelled(column: Any, field: Any, kept: Mapping[str, np.ndarray]) -> Any:
    if not pa.types.is_dictionary(field.type):
        return column.cast(field.type)
    levels = unpacked_table(kept[f"levels {field.name}"]).column(0).combine_chunks()
    index = pc.index_in(column, levels).cast(field.type.index_type).combine_chunks()
    return pa.DictionaryArray.from_arrays(index, levels.cast(field.type.value_type), ordered=field.type.ordered)


def known(kept: Mapping[str, np.ndarray], schema: AnySchema, given: Table | None, rows: int) -> Any:
    """The rows in the columns that are stored whole; cells of other columns are missing."""
    types = schema_of(kept)
    whole = unpacked_table(kept["whole"], rows) if "whole" in kept else pa.table({})
    table = pa.table({
        f.name: whole.column(f.name) if f.name in whole.column_names else pa.nulls(rows, f.type) for f in types
        if f.name
    })  # fmt: skip
    if not (types.metadata and b"text" in types.metadata and isinstance(schema, Table)):
        return rows_like(table, schema, given, check=False)
    read = read_columns(table, "the file", Hints().like(schema.fields, True), is_file=True)
    return rows_like(read.table, schema, given, found=read, check=False)


def coded_columns(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which columns of x ``[N, D]`` can be coded; the largest count of each column)."""
    if type(model.likelihood) not in (TableLikelihood, ColumnsInOrder):
        name = type(model.likelihood).__name__
        raise InputError(f"compress cannot use the likelihood of this run ({name})", "fit the table with --recipe vae")
    columns = model.likelihood.columns
    tops = np.array([int(np.nan_to_num(x[:, j]).max(initial=0)) if column.family in _COUNTS else 0
                     for j, column in enumerate(columns)], dtype=np.int64)  # fmt: skip
    good = [(x[:, j] >= 0) | np.isnan(x[:, j]) for j in range(x.shape[1])]
    coded = [Places.of(column, int(top)) is not None and (column.family not in _COUNTS or bool(fits.all()))
             for column, top, fits in zip(columns, tops, good)]  # fmt: skip
    return np.array(coded, dtype=bool), tops

