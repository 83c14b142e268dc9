"""Rows of a run's data as bytes, and back without any change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import nn

from latens import models
from latens.data.counts.sparse import SparseRows
from latens.data.lazy import Lazy
from latens.data.rows import Rows, as_table, is_counts, rows_like, sparse_rows
from latens.data.tables import frames
from latens.errors import InputError
from latens.evaluation.likelihood import evaluating
from latens.runs.coding import tables
from latens.runs.coding.arrays import ArrayCells, packed, patch, patched, unpacked
from latens.runs.coding.blocks import Bits, exactly, lanes_of, rows_of_block
from latens.runs.coding.cells import tops_of
from latens.runs.coding.container import Container, damaged
from latens.runs.coding.rans import Exhausted
from latens.schema import AnySchema, Schema, Table
from latens.tensors import trees


@dataclass(frozen=True)
class Packed:
    """Rows as bytes: the file, the number of its bytes that hold coded cells, and whether all cells that the model
    reads are coded."""

    data: bytes
    rows: int
    coded: int
    is_whole: bool = True


@dataclass(frozen=True)
class Unpacked:
    """Rows that were bytes: ``x`` in its original form, whether its matrix was sparse, and the arrays stored with
    it."""

    x: Any
    is_table: bool = False
    is_sparse: bool = False
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    key: str = "x"
    frame: dict[str, Any] | None = None


class Codec:
    """Lossless compression with a run (bits back, Townsend, Bird & Barber 2019).

    A row takes about -ELBO / ln 2 bits, and every machine gives the same bytes: networks compute in float64 on one
    thread, their outputs are rounded to a grid, and all further steps use whole numbers.

    Args:
        model: the model of a fitted run. Its likelihood must give masses (levels, 0 and 1, counts, columns of a table
            on a grid). Its codes must be categories or entries of codebooks, or its posterior must be a diagonal normal
            and its prior a normal or a mixture of normals; or it is a :class:`latens.models.Ladder`.
        schema: what a row is.
        given: the schema of the conditions.

    Raises:
        InputError: the model has other parts, or there is no schema.
    """

    def __init__(self, model: nn.Module, schema: AnySchema | None, given: Table | None = None):
        if schema is None:
            raise InputError("the run has no schema (your own parts on a tree of data)", "fit an array or a table")
        self.schema, self.given = schema, given
        if type(model) not in (models.VAE, models.Ladder):
            raise InputError(
                "compress takes models with one layer of codes, or a ladder of layers, such as vae and ladder, but the "
                f"model of this run is {type(model).__name__}", "fit with --recipe vae",
            )
        self.model = exactly(model)
        self.fingerprint = fingerprint(model)

    def encode(self, x: Any) -> bytes:
        """Rows as bytes: an array, a sparse matrix (:meth:`decode` makes it dense), or a frame of pandas, polars or
        Arrow.

        Raises:
            InputError: a row does not fit the run's schema, there are no rows, or a frame has labels or types that
                cannot be stored.
        """
        if not frames.is_frame(x):
            is_table = isinstance(self.schema, Table)
            x = sparse_rows(x) if is_counts(x) else x if isinstance(x, Lazy) else np.asarray(x)
            x = as_table(x, [f.name for f in self.schema.fields]) if is_table else x  # type: ignore[union-attr]
            return self.pack(rows_like(x, self.schema, self.given), x if is_table else None).data
        table, back = frames.as_table(x)
        frame = {"back": frames.recorded(back), "index": _index(back)}
        if frame["back"] is None:
            raise InputError("the frame has labels or types that no file can store", "give it as an arrow table")
        rows = rows_like(table, self.schema, self.given, check=not isinstance(self.schema, Table))
        return self.pack(rows, table, frame).data

    def decode(self, data: bytes) -> Any:
        """The rows from which :meth:`encode` made the bytes, bit for bit: an array, or a frame of the same library.

        Raises:
            InputError: the bytes are damaged, or come from another run or a newer format.
        """
        found = self.unpack(data)
        with _verified():
            frame = found.frame or {}
            back = frames.restored(frame.get("back"))
            if back is None:
                return found.x
            x = back(found.x)
            if frame.get("index") is not None:
                x.index = frames.index_of(frame["index"])
            return x

    def pack(
        self, rows: Rows, original: Any = None, frame: dict[str, Any] | None = None, *,
        beside: Mapping[str, np.ndarray] | None = None, key: str = "x",
    ) -> Packed:  # fmt: skip
        """Rows as bytes.

        Args:
            rows: the rows, as the run reads them.
            original: for a table, all its columns as they are in the file, an arrow table.
            frame: how to make a frame from the rows again.
            beside: further arrays to store with an array.
            key: the name of the array among them.

        Raises:
            InputError: a row does not fit, or a sparse matrix has numbers that float32 cannot hold.
        """
        with _plainly(self.model):
            if original is not None:
                return self._pack_table(rows, original, frame)
            return self._pack_array(rows, beside or {}, key)

    def unpack(self, data: bytes) -> Unpacked:
        """The rows from which :meth:`pack` made the bytes; see :meth:`decode`."""
        container = Container.read(data)
        if container.head["run"] != self.fingerprint:
            raise InputError("the file was compressed with another run", "name the run that it was compressed with")
        _require_possible(container, self.schema.columns)
        with _plainly(self.model), _verified():
            return (self._unpack_table if container.head.get("table") else self._unpack_array)(container)

    # Arrays

    def _pack_array(self, rows: Rows, beside: Mapping[str, np.ndarray], key: str) -> Packed:
        schema = self.schema
        assert isinstance(schema, Schema)
        x = _whole(rows.x)
        inside = schema.to_model(x)
        tops = tops_of(inside) if schema.kind == "count" else None
        cells = ArrayCells(schema, tops)
        symbols = cells.symbols(inside)
        kept = {} if rows.c is None else {f"c_{name}": value.numpy() for name, value in rows.c.items()}
        c = _exact_conditions(kept)
        blocks = self._blocks(symbols, c, cells)
        kept |= patch(x, self._in_form(cells, symbols, x.dtype))
        kept |= {} if tops is None else {"tops": tops}
        kept |= {f"beside {name}": array for name, array in beside.items()}
        head = {"rows": len(x), "run": self.fingerprint, "dtype": x.dtype.str}
        head |= {"key": key} if key != "x" else {}
        head |= {"sparse": True} if isinstance(rows.x, SparseRows) else {}
        packed_ = Container(head, blocks, packed(kept)).packed()
        return Packed(packed_, len(x), sum(len(data) for _, data in blocks))

    def _in_form(self, cells: ArrayCells, symbols: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        assert isinstance(self.schema, Schema)
        plain = self.schema.__class__(**{**vars(self.schema), "constant": (), "constant_values": ()})
        return plain.to_user(cells.inside(symbols, slice(None)).numpy()).astype(dtype)

    def _unpack_array(self, container: Container) -> Unpacked:
        schema, kept = self.schema, unpacked(container.residue)
        assert isinstance(schema, Schema)
        cells = ArrayCells(schema, kept.get("tops"))
        symbols = self._rows(container, _exact_conditions(kept), cells, schema.columns)
        x = patched(self._in_form(cells, symbols, np.dtype(container.head["dtype"])), kept)
        head = container.head
        return Unpacked(x, False, bool(head.get("sparse")), _beside(kept), str(head.get("key", "x")))

    # Tables

    def _pack_table(self, rows: Rows, original: Any, frame: dict[str, Any] | None) -> Packed:
        kept: dict[str, np.ndarray]
        if isinstance(self.schema, Schema):
            x = np.array(self.schema.to_model(np.asarray(rows.x)))
            tops = tops_of(x) if self.schema.kind == "count" else None
            cells: Any = ArrayCells(self.schema, tops)
            symbols = cells.symbols(x)
            kept = {} if tops is None else {"tops": tops}
            kept |= {} if rows.c is None else {f"c_{name}": value.numpy() for name, value in rows.c.items()}
            made = tables.remade(self.schema, cells.inside(symbols, slice(None)).numpy(), original.schema)
            kept |= tables.residue(original, made, set())[0]
            c = _exact_conditions(kept)
        else:
            kept, cells, symbols, made, c = self._fixed(rows, original)
        back = tables.rebuilt(kept, made, len(original))
        for name in original.column_names:
            if tables.differs(*(tables.plain(each.select([name])).column(0) for each in (original, back))).any():
                kind = original.schema.field(name).type
                raise InputError(f"column {name!r} has the type {kind}, which no file can store", "leave it out")
        blocks = self._blocks(symbols, c, cells)
        head = {"rows": len(original), "run": self.fingerprint, "table": True, "frame": frame}
        data = Container(head, blocks, packed(kept)).packed()
        every = bool(np.all(kept.get("coded", True)))
        return Packed(data, len(original), sum(len(data) for _, data in blocks), every)

    def _fixed(self, rows: Rows, original: Any) -> tuple[dict[str, np.ndarray], Any, np.ndarray, Any, Any]:
        """The parts of a table: (what is stored besides the code, cells, symbols, the columns that the symbols give,
        conditions)."""
        schema = self.schema
        assert isinstance(schema, Table)
        x = rows.inside[:].numpy().copy()
        x[~np.isfinite(x)] = np.nan
        coded, tops = tables.coded_columns(self.model, x)
        while True:
            fixed = np.where(coded & ~np.isnan(x), 0, x).astype(x.dtype)
            cells = tables.TableCells(schema, self.model.likelihood.columns, tops, fixed, coded)
            symbols = cells.symbols(x)
            values = cells.values(symbols, slice(None))
            made = tables.remade(schema, values, original.schema, rows.handed_through)
            whole = set(schema.conditions) | {name for name, code in zip(schema.names, coded) if not code}
            kept, whole = tables.residue(original, made, whole & set(original.column_names))
            now = coded & np.array([name not in whole for name in schema.names])
            if (now == coded).all():
                break
            coded = now
        told = tables.known(kept, schema, self.given, len(x))
        inside = told.inside[:].numpy()
        for j, name in enumerate(schema.names):
            if not coded[j] and inside[:, j].tobytes() != x[:, j].tobytes():
                kept[f"x {name}"] = x[:, j]
            if coded[j] and np.isnan(x[:, j]).any():
                kept[f"gaps {name}"] = np.packbits(np.isnan(x[:, j]))
        kept |= {"coded": coded.astype(np.uint8), "tops": tops}
        c = _exact_conditions({f"c_{name}": value.numpy() for name, value in (told.c or {}).items()})
        return kept, cells, symbols, made, c

    def _unpack_table(self, container: Container) -> Unpacked:
        schema, kept, rows = self.schema, unpacked(container.residue), container.head["rows"]
        if isinstance(schema, Schema):
            cells: Any = ArrayCells(schema, kept.get("tops"))
            symbols = self._rows(container, _exact_conditions(kept), cells, schema.columns)
            inside, known = cells.inside(symbols, slice(None)).numpy(), {}
        else:
            told = tables.known(kept, schema, self.given, rows)
            coded, fixed = kept["coded"].astype(bool), told.inside[:].numpy().copy()
            for j, name in enumerate(schema.names):
                if coded[j]:
                    fixed[:, j] = 0
                if f"gaps {name}" in kept:
                    fixed[np.unpackbits(kept[f"gaps {name}"], count=rows).astype(bool), j] = np.nan
                fixed[:, j] = kept.get(f"x {name}", fixed[:, j])
            cells = tables.TableCells(schema, self.model.likelihood.columns, kept["tops"], fixed, coded)
            c = _exact_conditions({f"c_{name}": value.numpy() for name, value in (told.c or {}).items()})
            symbols = self._rows(container, c, cells, schema.columns)
            inside, known = cells.values(symbols, slice(None)), told.handed_through
        made = tables.remade(schema, inside, tables.schema_of(kept), known)
        return Unpacked(tables.rebuilt(kept, made, rows), True, frame=container.head.get("frame"))

    # Blocks

    def _blocks(self, symbols: np.ndarray, c: Any, cells: Any) -> list[tuple[int, bytes]]:
        most, found = rows_of_block(symbols.shape[1]), []
        for first in range(0, len(symbols), most):
            rows = slice(first, first + most)
            data = Bits(self.model, trees.take(c, rows), cells.part(rows)).encode(symbols[rows])
            found.append((len(symbols[rows]), data))
        return found

    def _rows(self, container: Container, c: Any, cells: Any, width: int) -> np.ndarray:
        found, first = [], 0
        for rows, data in container.blocks:
            part = slice(first, first + rows)
            found.append(Bits(self.model, trees.take(c, part), cells.part(part)).decode(data, rows, width))
            first += rows
        return np.concatenate(found)


def fingerprint(model: nn.Module) -> str:
    """An identifier of the run for a file: a digest of the weights, in the order of their names."""
    digest = blake2b(digest_size=8)
    for _, value in sorted(model.state_dict().items()):
        digest.update(f"{value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _require_possible(container: Container, width: int) -> None:
    """Raise ``InputError`` unless the blocks can hold as many rows as the head claims, before memory is allocated."""
    most = rows_of_block(width)
    for number, (rows, data) in enumerate(container.blocks):
        is_last = number + 1 == len(container.blocks)
        if rows > most or (rows < most and not is_last) or len(data) < 8 * lanes_of(rows * width):
            raise damaged("its head is not valid")


def _beside(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The further arrays that were stored with an array; also from files of earlier versions."""
    found = {name.removeprefix("beside "): array for name, array in kept.items() if name.startswith("beside ")}
    if "labels" in kept:
        found["y"] = kept["labels"]
    if "names" in kept:
        names = json.loads(kept["names"].tobytes())
        found[f"{names['of']}s"] = np.array(names["names"], dtype=np.str_)
    return found


def _whole(x: Any) -> np.ndarray:
    """All rows; ``InputError`` if a sparse matrix, which is held as float32, may have been rounded."""
    if not isinstance(x, Lazy):
        return np.asarray(x)
    found = x.whole()
    wider = x.kind == np.float32 and not np.can_cast(x.given, np.float32)
    if wider and ((np.abs(found) >= 2**24) | (found != np.rint(found))).any():
        raise InputError("a sparse matrix has numbers that float32 may have rounded", "give it as a dense array")
    return found


def _exact_conditions(kept: dict[str, np.ndarray]) -> Any:
    found = {name[2:]: torch.tensor(value) for name, value in kept.items() if name.startswith("c_")}
    return {name: v.double() if v.is_floating_point() else v for name, v in found.items()} or None


def _index(back: Any) -> Any:
    """The index of the rows of a pandas frame, as plain values; None if there is none."""
    index = getattr(back, "index", None)
    try:
        return None if index is None else frames.index_record(index)
    except TypeError:
        raise InputError("the index of the frame has labels that no file can store", "reset the index") from None


@contextmanager
def _plainly(model: nn.Module) -> Iterator[None]:
    """Within the block, no gradients and one thread, so that matrix products always add in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with evaluating(model), torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _verified() -> Iterator[None]:
    """Report any error inside the block as a file that cannot be verified."""
    try:
        yield
    except InputError:
        raise
    except Exhausted:
        raise damaged("it does not decode with this run") from None
    except Exception as error:
        raise damaged(" ".join(str(error).split())[:150]) from None
