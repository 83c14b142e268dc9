"""One pass over rows on disk that infers their schema and keeps a sample and the rows held out in memory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latens.data.infer import distinct
from latens.data.ranges import cells_of, has_ranges, ranges_of_parts
from latens.data.rows import LABEL, Asked, Rows, as_matrix, is_number, require_for_table, rows_like, rows_of
from latens.data.splits import held_count
from latens.data.streams.loader import StreamLoader
from latens.data.streams.samples import held_out_rows
from latens.data.streams.sources import AsTable, Stream, joined_rows
from latens.data.tables.kinds import SAMPLE, ColumnScan, sampled, schema_of
from latens.data.tables.reading import Hints, Read, read_columns
from latens.data.tables.rules import with_rules_of_all
from latens.errors import InputError, concerning
from latens.schema import AnySchema, Schema, Table, chunks
from latens.schema.arrow import arrow_type, pa
from latens.schema.form import Form
from latens.tensors.trees import Tree

MOST_VALUES = 1_000_000  # a column's form is found from up to this many distinct cells of text
SAMPLE_CELLS = 20_000_000  # the sample keeps at most this many numbers in memory
LEAST = 256  # the sample has at least this many rows, however wide they are
_SAMPLE = 2**62 + 33  # the seed of the sample

Seen = Callable[[int], None]  # called with the number of rows read so far


class Encoded:
    """The blocks of a stream in the model's form; a :class:`~latens.data.streams.blocks.Blocks`. A value that does not
    fit the schema is refused with the number of its row in the whole data.
    """

    def __init__(self, stream: Stream, schema: AnySchema, given: Table | None = None):
        self.stream, self.schema, self.given = stream, schema, given
        self.sizes, self.rows, self.units = stream.sizes, stream.rows, stream.units
        self.row_bytes = 8 * schema.columns
        self._firsts = stream.firsts

    def read(self, block: int) -> tuple[Tree, Tree]:
        """(x, c) of one block."""
        return self.encode(self.stream.piece(block), int(self._firsts[block]))

    def encode(
        self, piece: Any, first: int, unknown: dict[str, int] | None = None, broken: dict[str, int] | None = None, *,
        is_read: bool = False,
    ) -> tuple[Tree, Tree]:  # fmt: skip
        """(x, c) of rows, the first of which has the number ``first``. ``unknown`` collects levels that the fit never
        saw, and ``broken`` rows that break rules, as in :meth:`latens.schema.Table.to_model`. ``is_read`` says that
        columns of text are values already."""
        where = self.stream.origin
        if isinstance(self.schema, Table):
            is_read = is_read or self.stream.forms is not None
            piece = piece if is_read else read_columns(piece, where, Hints().like(self.schema.fields)).table
            x = torch.from_numpy(
                self.schema.to_model(piece, where, first_row=first, unknown=unknown, broken=broken)
            )
            with concerning(f"counting rows from row {first:,} on" if first else where):
                given = {} if self.given is None else self.given.conditions_of(piece, where)
            return x, {name: torch.from_numpy(values) for name, values in given.items()} or None
        with concerning(f"{where}, counting rows from row {first:,} on" if first else where):
            rows = rows_like(piece, self.schema, self.given, where=where)
            return rows.inside, rows.c


@dataclass(frozen=True, eq=False)
class Streamed:
    """N rows on disk, and the part of them that is in memory.

    Args:
        stream: the rows in the user's form.
        schema: what a row is.
        given: the schema of the conditions, or None.
        seen: a uniform sample of the rows that are not held out.
        held: the rows held out for validation, or None.
        numbers: the numbers of the held-out rows, increasing.
    """

    stream: Stream
    schema: AnySchema
    given: Table | None
    seen: Rows
    held: Rows | None
    numbers: np.ndarray

    def __len__(self) -> int:
        return self.stream.rows

    @property
    def where(self) -> str:
        """What messages call the data."""
        return self.stream.origin

    @property
    def kept(self) -> int:
        """The number of rows for training."""
        return self.stream.rows - len(self.numbers)

    def loader(self, batch_size: int, seed: int, workers: int = 2) -> StreamLoader:
        """Batches of the training rows. The data, the seed and the stream's ``order`` decide their order."""
        order = self.stream.order
        return StreamLoader(
            Encoded(self.stream, self.schema, self.given), batch_size=batch_size, seed=seed, exclude=self.numbers,
            window=order.window, window_rows=order.window_rows, window_bytes=order.window_bytes, workers=workers,
        )  # fmt: skip


def survey(
    stream: Stream, asked: Asked | None = None, *, validation: float | str = "auto", seed: int = 0,
    schema: AnySchema | None = None, given: Table | None = None, seen: Seen = lambda rows: None,
) -> Streamed:  # fmt: skip
    """Pass once over a stream to find its schema (unless one is given), a sample of its rows, and the held-out rows.

    The sample is uniform, has at most 20,000 rows, and does not depend on ``seed``; the held-out rows do. A matrix with
    missing cells, or of which the user named columns, is a table, as in :func:`latens.data.rows.rows_of`.

    Raises:
        InputError: the schema cannot be inferred, or a value does not fit the given schema.
    """
    asked = asked or Asked()
    if stream.rows < 2:
        raise InputError(f"{stream.origin} has {stream.rows} row", "give at least 2")
    stream = _as_asked(stream, asked, schema)
    numbers = held_out_rows(stream.rows, held_count(stream.rows, validation), seed)
    looked = _looked_at(stream)
    scan = None if schema is not None else _scan(stream, asked, seen)
    kept: list[Any] = []
    held: list[Any] = []
    for first, piece in stream.pieces():
        for into, wanted in ((kept, looked), (held, numbers)):
            if len(part := _take(piece, wanted, first)):
                into.append(part)
        if scan is not None and scan.update(piece, first, asked):
            return survey(AsTable(stream), asked, validation=validation, seed=seed, seen=seen)
        seen(first + len(piece))
        del piece
    sample = joined_rows(kept)
    if scan is not None:
        with concerning(stream.origin):
            schema = _with_ranges(scan, scan.schema(sample, asked))
        given = schema if isinstance(schema, Table) and schema.conditions else None
    assert schema is not None
    apart = np.flatnonzero(~np.isin(looked, numbers))
    rest = _rows(stream, sample, schema, given)
    return Streamed(
        stream, schema, given, rest.take(apart) if len(apart) else rest,
        _rows(stream, joined_rows(held), schema, given) if held else None, numbers,
    )  # fmt: skip


def _looked_at(stream: Stream) -> np.ndarray:
    """The numbers of the rows of the sample: as many as for data in memory, or fewer if rows are wide."""
    count = max(LEAST, min(SAMPLE, SAMPLE_CELLS // max(1, stream.cells)))
    return sampled(stream.rows) if count == SAMPLE else held_out_rows(stream.rows, min(count, stream.rows), _SAMPLE)


def _rows(stream: Stream, x: Any, schema: AnySchema, given: Table | None) -> Rows:
    found = None if stream.forms is None else Read(x, stream.forms)
    return rows_like(x, schema, given, where=stream.origin, found=found)


def _scan(stream: Stream, asked: Asked, seen: Seen) -> _TableScan | _ArrayScan:
    return _ArrayScan(stream, seen) if stream.arrow is None else _TableScan(stream, asked, seen)


def _with_ranges(scan: _TableScan | _ArrayScan, schema: AnySchema) -> AnySchema:
    """The schema. If it is the schema of an array, it gets the ranges of all rows, which takes another pass."""
    if not isinstance(schema, Schema) or not has_ranges(schema):
        return schema

    def parts() -> Iterator[np.ndarray]:
        for first, piece in scan.stream.pieces():
            array = piece if isinstance(piece, np.ndarray) else as_matrix(scan.read(piece))
            yield from (cells_of(array[rows], schema) for rows in chunks(array))
            scan.seen(first + len(piece))

    kind = next(parts()).dtype
    low, high = (cells_of(each[None].astype(kind), schema) for each in scan.extremes)
    return dataclasses.replace(schema, ranges=ranges_of_parts(parts(), schema, low.min(0), high.max(0)))


def _take(piece: Any, numbers: np.ndarray, first: int) -> Any:
    """The rows of a piece whose numbers are in ``numbers`` (increasing); its first row has the number ``first``."""
    inside = numbers[slice(*np.searchsorted(numbers, [first, first + len(piece)]))] - first
    return piece[inside] if isinstance(piece, np.ndarray) else piece.take(inside)


def _as_asked(stream: Stream, asked: Asked, schema: AnySchema | None) -> Stream:
    """The stream, with a matrix turned into a table if the schema, or an option of the user, is about columns."""
    if stream.arrow is None and isinstance(schema, Table):
        return AsTable(stream, [field.name for field in schema.fields])
    named = bool(asked.columns) or any(name != LABEL for name in asked.condition)
    if schema is None and named and stream.arrow is None and len(getattr(stream, "event", ())) == 1:
        stream = AsTable(stream)
    if schema is None and stream.arrow is not None:
        require_for_table(asked, stream.origin)
    return stream


def text_forms(stream: Stream, hints: Hints, most: int = MOST_VALUES) -> dict[str, Form]:
    """The forms of those columns of text that hold only numbers, dates or truth values. If the first block of a column
    holds only these, the distinct cells of all blocks are checked, at most ``most`` per column."""
    first = stream.piece(0)
    names = list(read_columns(first, stream.origin, hints).forms)
    distinct: dict[str, Any] = {name: pa.array([], first.schema.field(name).type) for name in names}
    for _, piece in stream.pieces() if names else ():
        for name, known in distinct.items():
            if len(known) < most:
                distinct[name] = pa.concat_arrays([known, piece.column(name).unique()]).unique()
    found = {name: read_columns(pa.table({name: values}), stream.origin, hints) for name, values in distinct.items()}
    return {name: read.forms[name] for name, read in found.items() if name in read.forms}


def _table_schema(
    scans: list[ColumnScan], sample: Any, asked: Asked, forms: Mapping[str, Form] | None = None
) -> AnySchema:
    """The schema of a table. It is the schema of an array if all columns are whole numbers on one scale, or the user
    named a kind."""
    complete = all(is_number(s.type) and s.whole and s.present and not s.missing for s in scans)
    if not (asked.columns or asked.condition or asked.rules) and (complete or asked.kind != "auto"):
        edges = sample.slice(0, 0)
        if complete:  # the sample may miss the extremes, which decide about levels and constants
            ends = [pa.array([scan.low, scan.high]).cast(scan.type) for scan in scans]
            edges = pa.table(ends, schema=sample.schema)
        found = rows_of(pa.concat_tables([sample, edges]), None, asked).schema
        if isinstance(found, Schema):
            return _of_all(found, scans[0].rows)
    return schema_of(scans, sample, asked.columns, condition=asked.condition, forms=forms)


def _of_all(schema: Schema, rows: int) -> Schema:
    """The schema, whose reason gives the number of all rows, instead of the number of rows in the sample."""
    return dataclasses.replace(schema, reason=re.sub(", [0-9,]+ x", f", {rows:,} x", schema.reason, count=1))


class _TableScan:
    """What one pass over a table sees: a :class:`latens.data.tables.kinds.ColumnScan` per column."""

    def __init__(self, stream: Stream, asked: Asked, seen: Seen):
        self.stream, self.where, self.seen = stream, stream.origin, seen
        self.is_read = stream.forms is not None
        self.forms = text_forms(stream, asked.hints) if stream.forms is None else stream.forms
        self.hints = Hints(frozenset(stream.names or ()) - set(self.forms), known=self.forms, settled=True)
        means = {} if self.is_read else {name: arrow_type(form.means) for name, form in self.forms.items()}
        self.scans = [ColumnScan(field.name, means.get(field.name, field.type)) for field in stream.arrow]

    def update(self, piece: Any, first: int, asked: Asked) -> bool:
        """Take more rows into account; returns False, because the data remain a table."""
        for scan, cells in zip(self.scans, self.read(piece).columns):
            scan.update(cells, first)
        return False

    def schema(self, sample: Any, asked: Asked) -> AnySchema:
        """The schema, from the pass and a sample of rows; the rules of a table take further passes."""
        sample = self.read(sample)
        found = _table_schema(self.scans, sample, asked, self.forms)
        if not isinstance(found, Table):
            return found
        return with_rules_of_all(found, sample, self._pieces, asked.rules, "the data")

    def _pieces(self) -> Iterator[tuple[int, Any]]:
        for first, piece in self.stream.pieces():
            yield first, self.read(piece)
            self.seen(first + len(piece))

    @property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest number of each column."""
        return np.array([scan.low for scan in self.scans]), np.array([scan.high for scan in self.scans])

    def read(self, piece: Any) -> Any:
        """The values of a piece."""
        return piece if self.is_read or not self.forms else read_columns(piece, self.where, self.hints).table


class _ArrayScan:
    """What one pass over an array sees: the extremes of each cell, and whether all numbers are whole."""

    def __init__(self, stream: Stream, seen: Seen):
        self.stream, self.where, self.rows, self.seen = stream, stream.origin, stream.rows, seen
        self.low: np.ndarray | None = None
        self.high: np.ndarray | None = None
        self.whole = True
        self.distinct: np.ndarray | None = np.zeros(0, np.float16)  # None once they are too many

    def update(self, piece: np.ndarray, first: int, asked: Asked) -> bool:
        """Take more rows into account; returns True if they show that the array is a table with missing cells."""
        if piece.dtype.kind == "f":
            matrix = piece.ndim == 2 and asked.kind == "auto" and asked.layout == "auto"
            if matrix and np.isnan(piece).any():
                return True
            bad = ~np.isfinite(piece)
            if bad.any():
                row, *cell = np.argwhere(bad)[0].tolist()
                place = f"{self.where}, row {row + first}, position {cell} (counted from 0)"
                raise InputError(f"{place} has {piece[(row, *cell)]}", "give finite numbers")
            self.whole = self.whole and bool((piece == np.floor(piece)).all())
            self.distinct = None if self.distinct is None else distinct(piece, self.distinct)
        low, high = piece.min(0), piece.max(0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        return False

    @property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest number at each position of a row."""
        assert self.low is not None and self.high is not None
        return self.low, self.high

    def read(self, piece: np.ndarray) -> np.ndarray:
        """The piece itself."""
        return piece

    def schema(self, sample: np.ndarray, asked: Asked) -> Schema:
        """The schema, from the pass and a sample of rows; ``InputError`` if the user asked for conditions."""
        if asked.condition:
            raise InputError(f"{self.where} is a streamed array, which has no labels for a condition",
                             "use a Parquet table")  # fmt: skip
        few = self.whole or self.distinct is not None
        kind = "continuous" if asked.kind == "auto" and not few else asked.kind
        seen = np.concatenate([sample, *(each[None] for each in self.extremes)])
        found = self._inferred(seen, kind, asked)
        values = self.distinct if asked.kind == "auto" and found.span and found.levels else None
        if values is not None and found.between(values).any():
            found = self._inferred(seen, "continuous", asked)  # some values between the levels are not in the sample
        return _of_all(found, self.rows)

    def _inferred(self, seen: np.ndarray, kind: str, asked: Asked) -> Schema:
        found = rows_of(seen, None, dataclasses.replace(asked, kind=kind, condition=()), where=self.where).schema
        assert isinstance(found, Schema)
        return found
