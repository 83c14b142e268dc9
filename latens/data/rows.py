"""Rows of data in the user's form, with the schema that reads them, and their conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.data import counts, tables
from latens.data.infer import SHARED_SCALE_COLUMNS, infer
from latens.data.lazy import Lazy, Subset, View
from latens.data.tables.reading import Hints, Read, read_columns
from latens.data.tables.types import INDEX, index_names, index_notes, with_index
from latens.errors import InputError
from latens.schema import KINDS, LIBRARY, AnySchema, Column, Odd, Schema, Table, chunks, sift_array, sift_table
from latens.schema.arrow import as_numbers, is_empty, listed, pa, require_once
from latens.schema.column import CODED
from latens.schema.ranges import SeenValues
from latens.tensors.trees import Tree

LEAST_SIZE = 1e-3  # a row without any counts is treated as having this total, so that its logarithm is finite
LABEL = "label"  # the name of labels that are not a column of a table


@dataclass(frozen=True)
class Asked:
    """What the user has said about the data.

    Args:
        columns: the kinds of columns, ``{name: kind}``.
        condition: the columns that are given, not modelled.
        kind, layout: the kind and the layout of an array; see :func:`latens.data.infer`.
        formats: the forms of columns of text, ``{name: form}``.
        rules: rules between columns; with "none" among them, no rules are searched for.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    condition: tuple[str, ...] = ()
    kind: str = "auto"
    layout: str = "auto"
    formats: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rules: tuple[str, ...] = ()

    @property
    def hints(self) -> Hints:
        """The options that concern columns of text."""
        words = {name for name, kind in self.columns.items() if kind.partition(":")[0] in CODED}
        return Hints(frozenset(words), formats=self.formats)


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows in the user's form.

    Args:
        x: an array in the user's layout, an arrow table, or a :class:`latens.data.lazy.Lazy`.
        schema: what a row is.
        given: the schema of the conditions (of the table itself, or of the labels), or None.
        cells: the conditions, an arrow table of N rows, or None.
        labels: one value per row ``[N]``, words as codes of ``label_names``; or None.
        label_names: the words that the codes of labels stand for, or None.
        where: what messages call the data.
        back: the function from an arrow table to a frame of the library that ``x`` came from, or None.
        found: for a table, how its columns of text are written, and their cells as they were found.
        order: for each column of the user's array, its place in the schema, if columns were matched by name and have
            another order; else None.
        index: the columns that name the rows in their file, an arrow table of N rows, or None.
        kept: columns to put in front of the output for these rows, an arrow table of N rows, or None.
        notes: what a person should know about how the columns were found, in sentences.
        row_names: the name of each row, or None.
        row_kind: what the row names refer to, "file" or "cell".
    """

    x: Any
    schema: AnySchema
    given: Table | None = None
    cells: Any = None
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    where: str = "the data"
    back: Any = None
    found: Read | None = None
    order: np.ndarray | None = None
    row_names: tuple[str, ...] | None = None
    row_kind: str = ""
    index: Any = None
    kept: Any = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Any) -> Rows:
        """The rows with these numbers ``[B]``, in that order."""
        index = np.asarray(rows)
        return dataclasses.replace(
            self, x=taken(self.x, index), cells=None if self.cells is None else self.cells.take(index),
            labels=None if self.labels is None else self.labels[index],
            found=None if self.found is None else self.found.take(index),
            row_names=None if self.row_names is None else tuple(np.array(self.row_names, dtype=object)[index].tolist()),
            index=None if self.index is None else self.index.take(index),
            kept=None if self.kept is None else self.kept.take(index),
        )  # fmt: skip

    @property
    def are_sparse(self) -> bool:
        """Whether the rows are a sparse matrix."""
        return isinstance(self.x, counts.sparse.SparseRows)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the columns in the user's order."""
        names = self.schema.names
        return names if names is None or self.order is None else tuple(names[j] for j in self.order)

    def in_order(self, x: Any) -> Any:
        """Put the columns of an array ``[N, D]`` from the schema's order into the user's order."""
        return x if self.order is None else x[:, self.order]

    @cached_property
    def unknown(self) -> dict[str, int]:
        """For each column, the number of cells with a level that the fit never saw; these cells count as missing."""
        return self._encoded[1] if isinstance(self.schema, Table) else {}

    @property
    def broken(self) -> dict[str, int]:
        """For each rule, by its text, the number of rows that break it; the rule's target counts as missing there."""
        return self._encoded[2] if isinstance(self.schema, Table) else {}

    @property
    def warnings(self) -> list[str]:
        """What a person should know before trusting results from these rows, in sentences."""
        return [*self.remarks, *unknown_levels(self.unknown), *broken_rules(self.broken)]

    @property
    def remarks(self) -> list[str]:
        """What was done to read the rows and to find their columns, in sentences."""
        return [*self.notes, *(self.found.notes if self.found else ())]

    def written(self, table: Any, *, as_text: bool = False) -> Any:
        """Write a table of N rows with its text in the form in which it was found; see
        :func:`latens.data.tables.reading.written`."""
        return table if self.found is None else self.found.written(table, as_text=as_text)

    def sifted(self, *, refuse: bool = True) -> tuple[Rows, list[Odd]]:
        """(the same rows, with values that their column cannot hold hidden from the model; the odd cells). Lazy rows
        are not checked. For ``refuse``, see :func:`latens.schema.sift_table`."""
        if isinstance(self.x, Lazy):
            return self, []
        if isinstance(self.schema, Table):
            unread = {} if self.found is None else self.found.unread_texts
            inside, odd = sift_table(self.schema, self.x, self.where, unread, refuse=refuse)
        else:
            inside, odd = sift_array(self.schema, self.x)
        rows = dataclasses.replace(self)
        vars(rows).update(inside=torch.from_numpy(np.array(inside)))  # sets a cached property of the rows
        return rows, odd

    @property
    def missing(self) -> np.ndarray:
        """Mask ``[N, D]`` of the modelled cells of a table that the user left empty."""
        assert isinstance(self.schema, Table)
        found = np.stack([is_empty(self.x.column(name)) for name in self.schema.names], 1)
        for name, texts in ({} if self.found is None else self.found.unread_texts).items():
            if name in self.schema.names:
                found[list(texts), self.schema.names.index(name)] = False
        return found

    @property
    def handed_through(self) -> dict[str, Any]:
        """The columns of a table that pass through unchanged (conditions, and columns that are not modelled)."""
        if not isinstance(self.schema, Table):
            return {}
        made = {field.name for field in self.schema.outer}
        kept = [f.name for f in self.schema.fields if f.name not in made]
        return {name: self.x.column(name) for name in kept if name in self.x.column_names}

    def named(self, table: Any) -> Any:
        """Put the columns that name these rows, and the columns ``kept``, in front of an arrow table of N rows."""
        like = self.found.stored if self.found else getattr(self.x, "schema", None)
        for name in reversed(() if self.kept is None else self.kept.column_names):
            if name not in table.column_names:
                table = table.add_column(0, self.kept.schema.field(name), self.kept.column(name))
        return with_index(table, self.index, like)

    @property
    def complete(self) -> bool:
        """Whether no cell of a table is missing; True for arrays, which have no gaps."""
        return not isinstance(self.schema, Table) or not bool(np.isnan(np.asarray(self.inside)).any())

    @cached_property
    def inside(self) -> Tensor | Lazy:
        """x in the model's form, ``[N, *shape]``."""
        if isinstance(self.x, Lazy):
            return View(self.x, self.schema.shape, self.schema.storage)
        if isinstance(self.schema, Table):
            return torch.from_numpy(self._encoded[0])
        return torch.from_numpy(np.array(self.schema.to_model(self.x)))

    @cached_property
    def _encoded(self) -> tuple[np.ndarray, dict[str, int], dict[str, int]]:
        """The numbers ``[N, D]`` of a table, and the counts that :attr:`unknown` and :attr:`broken` give."""
        assert isinstance(self.schema, Table)
        found: tuple[dict[str, int], dict[str, int]] = {}, {}
        return self.schema.to_model(self.x, self.where, unknown=found[0], broken=found[1]), *found

    @cached_property
    def c(self) -> Tree:
        """The conditions in the model's form, ``{name: [N]}``, or None."""
        found: dict[str, Tensor] = {}
        if self.given is not None:
            values = self.given.conditions_of(self.cells, self.where)
            found = {name: torch.from_numpy(numbers) for name, numbers in values.items()}
        if isinstance(self.schema, Schema) and self.schema.has_library:
            found[LIBRARY] = library_sizes(self.inside).clamp_min(LEAST_SIZE).log()
        return found or None


def unknown_levels(unknown: Mapping[str, int]) -> list[str]:
    """A warning for each column with levels that were never seen in the fit.

    >>> unknown_levels({"cut": 2})
    ["column 'cut': 2 cells with levels that were never seen in the fit; they count as missing"]
    """
    return [
        f"column {name!r}: {count:,} cell{'s' * (count > 1)} with levels that were never seen in the fit; they count "
        "as missing"
        for name, count in unknown.items()
    ]


def broken_rules(broken: Mapping[str, int]) -> list[str]:
    """A warning for each rule that rows break.

    >>> broken_rules({"start <= end": 1})
    ['rule start <= end: 1 row breaks it; the cell that it bounds counts as missing there']
    """
    return [
        f"rule {text}: {count:,} row{'s' * (count > 1)} break{'s' * (count == 1)} it; the cell that it bounds counts "
        "as missing there"
        for text, count in broken.items()
    ]


def taken(x: Any, index: np.ndarray) -> Any:
    """The rows ``index`` ``[B]`` of an array, an arrow table, lazy rows (as a view) or :class:`Rows`."""
    if isinstance(x, Lazy):
        return Subset(x, index)
    return x[index] if isinstance(x, np.ndarray) else x.take(index)


def library_sizes(x: Tensor | Lazy, count: int = 1024) -> Tensor:
    """The total of each row of counts, ``[N]`` floats."""
    if isinstance(x, Lazy):
        return torch.cat([x[i : i + count].sum(-1) for i in range(0, len(x), count)]).float()
    return x.sum(-1).float()


def canonical_order(x: Tensor | Lazy, weight: np.ndarray | None = None) -> np.ndarray:
    """An order ``[N]`` of the rows that depends only on their contents, so that a fit does not depend on the order in
    which the rows are given."""
    first = np.arange(len(x)) if weight is None else np.argsort(weight, kind="stable")
    flat = _digests(x) if isinstance(x, Lazy) else x.numpy().reshape(len(x), -1)
    flat = np.ascontiguousarray(flat[first])
    bytes_of_rows = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    return first[np.argsort(bytes_of_rows, kind="stable")]


def _digests(x: Lazy, count: int = 1024) -> np.ndarray:
    """A digest of sixteen bytes for each row; equal rows have equal digests."""
    rows = (row.tobytes() for i in range(0, len(x), count) for row in x[i : i + count].numpy())
    return np.array([list(blake2b(row, digest_size=16).digest()) for row in rows], dtype=np.uint8)


def is_counts(x: Any) -> bool:
    """Whether x is a sparse matrix or annotated counts (an object with .X and .obs that is not a data frame)."""
    annotated = hasattr(x, "X") and hasattr(x, "obs") and not tables.frames.is_frame(x)
    return annotated or (hasattr(x, "nnz") and hasattr(x, "tocsr"))


def sparse_rows(X: Any, layer: str | None = None) -> counts.sparse.SparseRows:
    """Sparse counts as rows that become dense one batch at a time. ``layer`` chooses a matrix of annotated counts, as
    in :func:`latens.data.counts.sparse.counts_of`."""
    return counts.sparse.counts_of(X, layer=layer).x if hasattr(X, "obs") else counts.sparse.SparseRows(X)


def rows_of(
    x: Any, names: Sequence[str] | None = None, asked: Asked | None = None, *, labels: np.ndarray | None = None,
    label_names: tuple[str, ...] | None = None, where: str = "the data", found: Read | None = None,
) -> Rows:  # fmt: skip
    """Rows with the schema that their values suggest; ``labels`` are ``[N]``.

    A table of at least 16 columns is read as an array if all hold whole numbers 0 .. levels - 1 on one scale (pixels in
    columns), or all hold 0 and 1. In any other table each column has a separate schema. A matrix is read as such a
    table if it has missing cells (NaN), or if the user named some of its columns (column_1, …).

    Raises:
        InputError: as in :func:`latens.data.infer` and :func:`latens.data.infer_table`, or a condition does not exist.
    """
    asked = asked or Asked()
    if asked.kind not in ("auto", *KINDS):
        raise InputError(f"the kind must be one of auto, {', '.join(KINDS)}, got {asked.kind!r}")
    common: dict[str, Any] = {"labels": labels, "label_names": label_names, "where": where}
    if _is_matrix_of_columns(x, asked, where):
        x = as_table(x, names)
    if isinstance(x, Lazy | np.ndarray):
        x = counts.sparse.SparseRows.of(x) if isinstance(x, Lazy) else x
        _require_no_columns(asked, where)
        schema = (_lazy_schema if isinstance(x, Lazy) else _array_schema)(x, names, asked)
        return _with_given(Rows(x, schema, notes=getattr(x, "notes", ()), **common), asked)
    require_for_table(asked, where)
    common["notes"] = tuple(index_notes(x.schema))
    x, common["index"] = without_index(x, [*asked.columns, *asked.condition])
    if found is None:
        found = read_columns(x, where, asked.hints)
        x = found.table
    array = None if asked.columns or asked.condition or asked.rules else _one_scale(x, asked)
    if array is not None:
        return Rows(array, _array_schema(array, x.column_names, asked), **common)
    table = tables.kinds.infer_table(x, asked.columns, condition=asked.condition, forms=found.forms)
    table = tables.rules.with_rules_of_table(table, x, asked.rules, where)
    given = table if table.conditions else None
    return Rows(x, table, given, x.select(list(table.conditions)) if given else None, found=found, **common)


def _is_matrix_of_columns(x: Any, asked: Asked, where: str) -> bool:
    """Whether an array is read as a table: it has missing cells, or the user named some of its columns."""
    if not isinstance(x, np.ndarray) or x.ndim != 2:
        return False
    named = bool(asked.columns) or any(name != LABEL for name in asked.condition)
    if asked.kind == asked.layout == "auto":
        return named or (x.dtype.kind == "f" and bool(np.isnan(x).any()))
    if named:
        _refuse_both(asked, where)
    return False


def require_for_table(asked: Asked, where: str) -> None:
    """Raise ``InputError`` for an option that applies only to arrays."""
    if asked.layout != "auto":
        raise InputError(f"--layout is for arrays, but {where} is a table", "omit --layout")
    if asked.kind != "auto" and (asked.columns or asked.condition):
        _refuse_both(asked, where)


def without_index(table: Any, known: Iterable[str]) -> tuple[Any, Any]:
    """(the table without the columns that hold a pandas index; these columns, or None if there are none). Columns in
    ``known`` stay in the table."""
    names = [name for name in index_names(table.schema) if name not in set(known)]
    return (table.drop_columns(names), table.select(names)) if names else (table, None)


def _refuse_both(asked: Asked, where: str) -> None:
    one, other = "--kind" if asked.kind != "auto" else "--layout", "--column" if asked.columns else "--condition"
    what = f"{one} reads {where} as an array of one kind of values, but {other} needs columns"
    raise InputError(what, "omit one of them")


def _require_no_columns(asked: Asked, where: str) -> None:
    if set(asked.columns) - set(asked.condition):
        raise InputError(f"{where} has no named columns, which --column needs", "pass --kind for an array")


def rows_like(
    x: Any, schema: AnySchema, given: Table | None = None, *, names: Sequence[str] | None = None,
    labels: np.ndarray | None = None, label_names: tuple[str, ...] | None = None, where: str = "the data",
    found: Read | None = None, check: bool = True,
) -> Rows:  # fmt: skip
    """New rows for an existing schema. Columns are matched by name if both sides have names; columns that the schema
    lacks are ignored. ``labels`` are ``[N]``. Without ``check``, values that do not fit are left for
    :meth:`Rows.sifted`.

    Raises:
        InputError: a column is missing, or a value does not fit; the message names the first such place.
    """
    names = getattr(x, "names", names) if isinstance(x, Lazy) else names
    rows = Rows(x, schema, given, None, labels, label_names, where, notes=tuple(getattr(x, "notes", ())))
    if hasattr(x, "column_names"):
        rows = _indexed(rows, found)
    if isinstance(schema, Table):
        rows = _like_table(rows, schema, names, found, lenient=not check)
    else:
        rows = _like_array(rows, schema, names, found, check)
    if not len(rows):
        raise InputError(f"{where} has no rows", "give at least one")
    return rows


def _indexed(rows: Rows, found: Read | None) -> Rows:
    """The rows of a table with its row index moved to ``index``."""
    schema = rows.schema
    known = [f.name for f in schema.fields] if isinstance(schema, Table) else schema.names or ()
    x, index = without_index(rows.x, known)
    if found is not None and found.text is not None and "" in found.text.column_names:
        index = found.text.select([""]).rename_columns([f"{INDEX}0__"])
    left = [name for name in x.column_names if name not in known] if isinstance(schema, Table) else []
    return dataclasses.replace(rows, x=x, index=index, notes=(*rows.notes, *columns_left(left, rows.where)))


def with_kept(rows: Rows, kept: Any) -> Rows:
    """The rows, with columns to put in front of their output, an arrow table of N rows."""
    found = dataclasses.replace(rows, kept=kept)
    vars(found).update({name: vars(rows)[name] for name in ("inside", "c") if name in vars(rows)})
    return found


def _like_table(rows: Rows, schema: Table, names: Sequence[str] | None, found: Read | None, *, lenient: bool) -> Rows:
    x = rows.x[:].numpy() if isinstance(rows.x, Lazy) and rows.x.ndim == 2 else rows.x
    if isinstance(x, np.ndarray):
        wanted = [f.name for f in schema.fields]
        if names is None and (x.ndim != 2 or x.shape[1] != len(wanted)):
            columns = f"{len(wanted)} columns ({listed(wanted)})"
            raise InputError(f"{rows.where} is an array of shape {x.shape}", f"give {columns}, as in the fit")
        x = as_table(x, wanted if names is None else names)
    if found is None:
        found = read_columns(x, rows.where, Hints().like(schema.fields, lenient))
        x = found.table
    return dataclasses.replace(rows, x=x, found=found, cells=None if rows.given is None else x)


def _like_array(rows: Rows, schema: Schema, names: Sequence[str] | None, found: Read | None, check: bool) -> Rows:
    x, cells, where = rows.x, None, rows.where
    if rows.given is not None:
        none = ", which the model takes as a condition"
        cells = _given_cells(x, rows.given.conditions, rows.labels, rows.label_names, where, none)
    if hasattr(x, "column_names") and found is None:
        x = read_columns(x, where).table
    x, order, left = _columns_found(x, schema, names, where)
    if isinstance(x, Lazy):
        _check_lazy(x, schema)
    elif check:
        schema.check(x)
    return dataclasses.replace(rows, x=x, cells=cells, order=order, notes=(*rows.notes, *left))


def _columns_found(
    x: Any, schema: Schema, names: Sequence[str] | None, where: str
) -> tuple[Any, np.ndarray | None, tuple[str, ...]]:
    """(x with its columns in the schema's order; :attr:`Rows.order`; a note on columns left out). Columns are matched
    by name if both sides have names, else by position."""
    table = hasattr(x, "column_names")
    names = tuple(x.column_names) if table else names
    if schema.names is None or names is None:
        return (array_of(x, schema, where) if table else x), None, ()
    index, order, left = matched(names, schema.names, where)
    if table:
        return as_matrix(x, schema.names), order, left
    same = order is None and not left
    return (x if same else x.columns(index) if isinstance(x, counts.sparse.SparseRows) else x[:, index]), order, left


def matched(
    names: Sequence[str], wanted: Sequence[str], where: str
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Match columns by name.

    Returns:
        Three things: for each wanted column, its place among ``names``; for each of the ``names`` that is wanted, its
            place among the wanted columns, or None if the orders agree; and a note on the other columns, if there are
            any.

    >>> matched(["c", "x", "a"], ["a", "c"], "here")
    (array([2, 0]), array([1, 0]), ('here: 1 column that the model was not fitted to is left out (x)',))

    Raises:
        InputError: a wanted name is missing, or occurs twice.
    """
    there, places = ({name: j for j, name in enumerate(each)} for each in (names, wanted))
    known = [name for name in names if name in places]
    _require_matched(names, wanted, known, where)
    order = np.array([places[name] for name in known])
    same = bool((order[1:] > order[:-1]).all())
    left = columns_left([name for name in names if name not in places], where)
    return np.array([there[name] for name in wanted]), None if same else order, left


def _require_matched(names: Sequence[str], wanted: Sequence[str], known: Sequence[str], where: str) -> None:
    if not known:
        raise InputError(
            f"{where} has none of the {len(wanted):,} columns that the model was fitted to ({listed(wanted, 4)}); it "
            f"has {listed(names, 4)}",
            "give the columns the names that they had in the fit",
        )
    there = set(known)
    if missing := [name for name in wanted if name not in there]:
        others = f" and {len(missing) - 1:,} others of {len(wanted):,}" if len(missing) > 1 else ""
        raise InputError(
            f"{where} has no column {missing[0]!r}{others}, which the model was fitted to (it has {listed(names, 6)})",
            "add or rename columns",
        )
    require_once(known, where)


def known_columns(schema: AnySchema, given: Table | None = None) -> set[str]:
    """The names of the columns to which a model was fitted."""
    tables = [part for part in (schema, given) if isinstance(part, Table)]
    return {field.name for part in tables for field in part.fields} | set(schema.names or ())


def columns_left(names: Sequence[str], where: str) -> tuple[str, ...]:
    """A note on columns that the model does not know, if there are any."""
    one = len(names) == 1
    some = f"{len(names):,} column{'s' * (not one)} that the model was not fitted to {'is' if one else 'are'}"
    return (f"{where}: {some} left out ({listed(names, 4)})",) if names else ()


def _check_lazy(x: Lazy, schema: Schema) -> None:
    """Raise ``InputError`` unless lazy rows have the schema's shape and, if they are sparse, valid values."""
    schema.check_shape(x.shape, x.kind)
    if isinstance(x, counts.sparse.SparseRows):
        bad, wanted = schema.misfits(x.csr.data)
        if bad is not None:
            entry = int(bad.argmax())
            raise schema.refusal(x.csr.data[entry], x.position(entry), wanted)


def as_table(x: np.ndarray, names: Sequence[str] | None = None) -> Any:
    """A matrix ``[N, D]`` as an arrow table, with null for NaN; columns without names become column_1, column_2, …"""
    header = [f"column_{j + 1}" for j in range(x.shape[1])] if names is None else [str(name) for name in names]
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        x = x.astype(np.float64)
    columns = [pa.array(np.ascontiguousarray(column), from_pandas=True) for column in x.T]
    return pa.table(columns, names=header)


def as_matrix(table: Any, names: Sequence[str] | None = None, *, gaps: bool = False) -> np.ndarray:
    """The columns of an arrow table as one matrix ``[N, D]`` of their common type; ``InputError`` unless all columns
    are numbers. With ``gaps``, missing cells are NaN; otherwise they are refused."""
    columns = []
    for name in names or table.column_names:
        cells = table.column(name)
        numbers = numbers_of(cells)
        if numbers is None:
            what = f"column {name!r} is of the type {cells.type}, but only numbers fit here"
            raise InputError(what, f"leave it out with --drop {name!r}")
        if not gaps and np.isnan(numbers).any():
            row = int(np.isnan(numbers).argmax())
            what = f"row {row} (counted from 0): column {name!r} is missing, but only complete rows fit here"
            raise InputError(what, "fill the cell, or leave the row out")
        columns.append(numbers if cells.null_count or str(cells.type) == "bool" else cells.to_numpy())
    out = np.empty((len(table), len(columns)), np.result_type(*columns))
    for j, column in enumerate(columns):
        out[:, j] = column
    return out


def numbers_of(cells: Any) -> np.ndarray | None:
    """Cells that are numbers as ``[N]`` float64, NaN for null; None if they are words, dates or times."""
    return as_numbers(cells, "")


def array_of(table: Any, schema: Schema, where: str) -> np.ndarray:
    """The columns of a table that the schema of an array names, in the schema's order, as a matrix ``[N, D]``.
    ``InputError`` if a column is missing or does not hold numbers."""
    names = schema.names
    if names is None:
        if table.num_columns != schema.columns:
            what = f"{where} has {table.num_columns} columns, but the model was fitted to {schema.columns}"
            raise InputError(what, "give the same columns in the same order")
        names = tuple(table.column_names)
    matched(table.column_names, names, where)
    return as_matrix(table, names)


def _one_scale(table: Any, asked: Asked) -> np.ndarray | None:
    """The table as a matrix, if all its columns are whole numbers on one scale or the user named a kind; else None."""
    if asked.kind != "auto":
        try:
            return as_matrix(table)
        except InputError as error:
            raise InputError(f"--kind {asked.kind} reads the table as an array of one kind: {error}") from error
    complete = not any(column.null_count for column in table.columns)
    wide = table.num_columns >= SHARED_SCALE_COLUMNS
    if len(table) < 2 or not wide or not complete or not all(map(is_number, table.schema.types)):
        return None
    if not all(_is_8_bit(column) for column in table.columns):
        return None
    array = as_matrix(table)
    found = infer(array)
    return array if found.is_discrete and not found.span else None


def _is_8_bit(cells: Any) -> bool:
    """Whether all numbers of a column are whole and from 0 to 255, which levels on one scale must be."""
    numbers = (as_numbers(chunk) for chunk in cells.chunks)
    return all(bool(((n >= 0) & (n <= 255) & (n == np.floor(n))).all()) for n in numbers if n is not None)


def is_number(type: Any) -> bool:
    """Whether an arrow type holds integers, truth values or floats."""
    return pa.types.is_integer(type) or pa.types.is_boolean(type) or pa.types.is_floating(type)


def _array_schema(x: np.ndarray, names: Sequence[str] | None, asked: Asked) -> Schema:
    return infer(x, names, asked.kind, layout=asked.layout)


def _lazy_schema(x: Lazy, names: Sequence[str] | None, asked: Asked) -> Schema:
    """The schema of lazy rows: from the first rows, or from all rows of sparse counts."""
    first = x.rows(np.arange(min(len(x), 256)))
    if isinstance(x, counts.sparse.SparseRows):
        return _sparse_schema(x, first, names, asked)
    levels = {1: 256, 2: 65_536}.get(x.kind.itemsize) if x.kind.kind == "u" and asked.kind == "auto" else None
    schema = infer(first, None, asked.kind, levels, layout=asked.layout)
    seen = f" (from the first {len(first)} of {len(x):,} rows)"
    reason = schema.reason.partition(": ")[2] + seen
    ranges = _lazy_ranges(x, schema) if levels is None else None
    return dataclasses.replace(schema, constant=(), constant_values=(), ranges=ranges, reason=reason)


def _lazy_ranges(x: Lazy, schema: Schema) -> SeenValues | None:
    """The ranges of lazy rows, from two passes over all of them; None if such rows have no ranges, or a number is not
    finite."""
    from latens.data.ranges import cells_of, has_ranges, ranges_of_parts

    if not has_ranges(schema):
        return None

    def parts() -> Iterator[np.ndarray]:
        return (cells_of(x.rows(np.arange(len(x))[rows]), schema) for rows in chunks(x))

    ends = [(part.min(0), part.max(0)) for part in parts()]
    low, high = np.min([low for low, _ in ends], 0), np.max([high for _, high in ends], 0)
    return ranges_of_parts(parts(), schema, low, high) if np.isfinite([low, high]).all() else None


def _sparse_schema(x: counts.sparse.SparseRows, first: np.ndarray, names: Sequence[str] | None, asked: Asked) -> Schema:
    found = counts.sparse.column_summaries(x.csr)
    whole = found.whole and (x.csr.nnz == 0 or x.csr.data.min() >= 0)
    kind = asked.kind if asked.kind != "auto" else "count" if whole else "continuous"
    schema = infer(first, x.names if names is None else names, kind, layout=asked.layout)
    _check_lazy(x, schema)
    high, same = float(found.high.max(initial=0.0)), np.flatnonzero(found.variance == 0)
    return dataclasses.replace(
        schema, dtype=x.given.name, constant=tuple(same.tolist()), constant_values=tuple(found.high[same].tolist()),
        low=min(0.0, schema.low), high=high, ranges=None,
        storage="float32" if high < 2**24 else "float64",
        reason=f"sparse, {x.shape[0]:,} x {x.shape[1]:,}, {found.zeros.mean():.0%} zeros, up to {high:g}: "
        + ("counts" if kind == "count" else kind),
    )  # fmt: skip


# Labels and columns of obs as conditions


def _with_given(rows: Rows, asked: Asked) -> Rows:
    """The rows with their labels, or columns of obs, as conditions, if the user asked for them."""
    if not asked.condition:
        return rows
    cells = _given_cells(rows.x, asked.condition, rows.labels, rows.label_names, rows.where)
    specs = {}
    for name, column in zip(cells.column_names, cells.columns):
        few = len(column.unique()) <= 100
        specs[name] = asked.columns.get(name, "categorical" if few or str(column.type) == "string" else "continuous")
    schema = tables.kinds.infer_table(cells.append_column("", [np.arange(len(cells)) % 7 / 8]), specs)
    given = Table(tuple(schema.field(name) for name in specs), schema.storage).given(tuple(specs))
    return dataclasses.replace(rows, given=given, cells=cells)


def _given_cells(
    x: Any, names: Sequence[str], labels: np.ndarray | None, label_names: tuple[str, ...] | None, where: str,
    none: str = " for a condition",
) -> Any:  # fmt: skip
    """An arrow table of the conditions: columns of obs by name, and labels as "label". ``none`` ends the message if
    there are no labels."""
    obs, found = getattr(x, "obs", {}), {}
    for name in names:
        if name in obs:
            values, words = obs[name]()
        elif name != LABEL:
            remedy = f"name one of {listed(tuple(obs))}" if obs else f"name {LABEL!r} for its labels"
            raise InputError(f"{where} has no column {name!r} for a condition", remedy)
        elif labels is None:
            raise InputError(f"{where} has no labels{none}", "name them with --labels")
        else:
            values, words = labels, label_names
        found[name] = pa.array([str(v) for v in np.asarray(words)[values]] if words else values)
    return pa.table(found)


def condition_column(given: Table, name: str) -> Column:
    """The column of the condition with that name; if there is none, the ``InputError`` lists the conditions."""
    if name not in given.conditions:
        there = listed(given.conditions)
        raise InputError(f"there is no condition {name!r}", f"name one of {there}" if there else "omit it")
    return given.field(name)
