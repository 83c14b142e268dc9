"""Fill missing cells of the user's rows. Observed cells, and columns that are not modelled, are unchanged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from latens import evaluation
from latens.data.lazy import Lazy
from latens.data.rows import Rows
from latens.data.tables.types import held, index_names, joined_type
from latens.runs.outputs import require_memory
from latens.runs.record import Run
from latens.schema import Column, Table
from latens.schema.arrow import is_empty, listed, plain, typed

SWEEPS, CHAINS = 10, 100  # for a model fitted to complete rows: rounds of completion, and the most draws


@dataclass(frozen=True)
class Imputed:
    """Rows with their missing cells filled.

    A cell with a level that the model never saw is not missing, and stays unchanged.

    Attributes:
        filled: the rows in the user's form.
        draws: filled copies, as many as were requested.
        spread: an arrow table of the modelled columns with the standard deviation of each filled cell (for a level, the
            probability of all other levels); null for observed cells.
        missing: {column: number of filled cells}, constant columns included.
        left: {column: number of cells that stay missing}, for columns that are not modelled.
    """

    filled: Any
    draws: list[Any]
    spread: Any
    missing: dict[str, int]
    left: dict[str, int] = field(default_factory=dict)


def impute(run: Run, rows: Rows, *, k: int = 1000, draws: int = 0, seed: int = 0, first_row: int = 0) -> Imputed:
    """Fill the missing cells of rows; see :func:`latens.evaluation.impute`. Arrays have no missing cells."""
    if not isinstance(rows.schema, Table):
        require_memory(draws * len(rows), rows.schema.columns, f"{draws:,} filled copies")
        x = rows.in_order(rows.x.whole() if isinstance(rows.x, Lazy) else rows.x)
        return Imputed(x, [x] * draws, None, {})
    sweeps = 0 if any(column.missing for column in rows.schema.modelled) else SWEEPS
    k = min(k, CHAINS) if sweeps else k
    require_memory(k, rows.schema.columns, f"{k:,} draws per row (--k)")
    require_memory(draws * len(rows), rows.schema.columns, f"{draws:,} filled copies")
    found = evaluation.impute(
        run.model, rows.inside, rows.c, k=k, draws=draws, sweeps=sweeps, seed=seed, first_row=first_row
    )
    missing = rows.missing
    copies = [] if found.draws is None else [_filled(rows, each.numpy()) for each in found.draws]
    filled = _filled(rows, found.filled.numpy())
    counts = {name: is_empty(rows.x.column(name)) & ~is_empty(filled.column(name)) for name in filled.column_names}
    made = {name: int(count.sum()) for name, count in counts.items() if count.any()}
    left = {name: int(is_empty(filled.column(name)).sum()) for name in rows.handed_through if name not in made}
    left = {name: count for name, count in left.items() if count}
    return Imputed(filled, copies, _spread(rows.schema, found.spread, missing), made, left)


def notes(filled: dict[str, int], unknown: dict[str, int], left: dict[str, int]) -> list[str]:
    """Remarks about cells that were not filled."""
    found = []
    if left:
        many, count = len(left) > 1, sum(left.values())
        found.append(
            f"column{'s' * many} {listed(list(map(repr, left)), 5)} {'are' if many else 'is'} not modelled: {count:,} "
            f"missing cell{'s' * (count > 1)} of {'them' if many else 'it'} stay{'s' * (count == 1)} missing"
        )
    found += [f"column {name!r}: levels not seen in the fit are unchanged" for name in unknown]
    return found + ([] if any(filled.values()) else ["no cell is missing: the rows are written unchanged"])


def numbered(table: Any, number: int) -> Any:
    """A filled copy with the copy's number in its first column (:func:`copy_column`); a row index stays in front."""
    import pyarrow as pa

    place, name = len(index_names(table.schema)), copy_column(table.column_names)
    return table.add_column(place, name, pa.array(np.full(len(table), number)))


def copy_column(names: Sequence[str]) -> str:
    """The name "imputation", with a number appended if a column has that name already.

    >>> copy_column(["a"]), copy_column(["imputation", "imputation_2"])
    ('imputation', 'imputation_3')
    """
    free = (f"imputation_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain(["imputation"], free) if name not in names)


def copy_notes(names: Sequence[str]) -> list[str]:
    """A remark if the column with the number of the copy could not get its usual name."""
    taken = copy_column(names)
    if taken == "imputation":
        return []
    return [f"the data have a column 'imputation': the number of the copy is in the column {taken!r}"]


def _filled(rows: Rows, values: np.ndarray) -> Any:
    """The table with null cells replaced by those of ``values``; a level that the model never saw is kept."""
    import pyarrow as pa

    assert isinstance(rows.schema, Table)
    numbers = dict(zip(rows.schema.names, values.T))
    if rows.schema.rules:
        numbers = rows.schema.filled(rows.schema.numbers(rows.x, rows.where), values)
    columns = dict(zip(rows.x.column_names, rows.x.columns))
    for column in rows.schema.fields:
        name, modelled = column.name, column.name in numbers
        if name in columns and (modelled or column.kind == "constant"):
            made = rows.schema.decoded(column, numbers[name]) if modelled else column.repeat(len(rows))
            columns[name] = _coalesced(made, columns[name], column)
    return pa.table(columns)


def _coalesced(decoded: Any, cells: Any, column: Column) -> Any:
    """Cells with null ones replaced by the decoded values, in their own type if it holds the values of the column."""
    import pyarrow as pa
    from pyarrow import compute as pc

    if pa.types.is_null(cells.type):
        return pa.chunked_array([decoded])
    made, own = plain(decoded), plain(cells)
    empty = own.is_null(nan_is_null=pa.types.is_floating(own.type))
    type = _filled_type(column, own.type, made if column.kind == "constant" else None)
    try:
        own = own.cast(type)
    except pa.ArrowInvalid:  # observed cells stay as they are, so filled ones are rounded to their type
        type = own.type
    values = pc.if_else(empty, typed(made, str(type)), own) if pc.any(empty).as_py() else own
    if pa.types.is_dictionary(cells.type):
        return _as_dictionary(values, pa.dictionary(pa.int32(), type, cells.type.ordered), cells)
    return pa.chunked_array([values])


def _filled_type(column: Column, own: Any, constant: Any = None) -> Any:
    """The type of a column of ``own`` after its gaps are filled: ``own`` if it holds all values that the column of the
    fit can have, else a wider type. It depends on the values of no row, so all parts of a file get the same."""
    made = column.possible() if constant is None else constant
    wider = (type for type in (joined_type(own, made.type), made.type) if type is not None)
    return next((type for type in (own, *wider) if held(made, type) is not None), own)


def _as_dictionary(values: Any, type: Any, cells: Any) -> Any:
    """Values as a dictionary array, whose levels are those of the cells, in their order, followed by new levels."""
    import pyarrow as pa
    from pyarrow import compute as pc

    known = cells.combine_chunks().dictionary.cast(type.value_type)
    levels = pa.chunked_array([known, values]).unique().drop_null()
    codes = pc.index_in(values, value_set=levels, skip_nulls=True).cast(type.index_type)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(codes, levels, ordered=type.ordered)])


def _spread(schema: Table, spread: torch.Tensor, missing: np.ndarray) -> Any:
    import pyarrow as pa

    columns = zip(schema.names, spread.double().numpy().T, missing.T)
    return pa.table({name: pa.array(values, mask=~holes) for name, values, holes in columns})
