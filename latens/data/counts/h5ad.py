"""Read .h5ad files of any version: matrices, names, columns of labels (Virshup et al. 2021, anndata).

Files are not trusted: links out of the file are refused, and every shape and index is checked before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from latens.errors import InputError

_SUSPECT = 1 << 28  # a declared size of at least this many bytes is compared with the stored size
_RATIO = 10_000  # no filter compresses real values by more than this factor
ObsColumn = tuple[np.ndarray, tuple[str, ...] | None]  # (numbers or codes, the words that codes stand for or None)


@dataclass
class Store:
    """The contents of a file or an AnnData-like object; matrices and columns are read when their functions are called.

    Args:
        what: what messages call the file or object.
        matrices: functions that read the matrices of cells x genes ``[N, G]``, by "X", "raw/X" and "layers/NAME".
        columns: functions that read the columns of obs, by name.
        genes: a function from the name of a matrix to the names of its genes, or None.
        cells: a function that gives the names of the cells, or None.
    """

    what: str
    matrices: dict[str, Callable[[], Any]]
    columns: dict[str, Callable[[], ObsColumn]]
    genes: Callable[[str], tuple[str, ...] | None]
    cells: Callable[[], tuple[str, ...] | None] = lambda: None


def store_of(file: Any, path: Path) -> Store:
    """The contents of an open file; nothing is read yet."""
    reader = _Reader(path)
    root = reader.members(file)
    layers = root.get("layers")
    raw = reader.members(root["raw"]) if reader.is_group(root.get("raw")) else {}
    places = {"X": root.get("X"), "raw/X": raw.get("X", root.get("raw.X"))}
    if reader.is_group(layers):
        places |= {f"layers/{name}": member for name, member in reader.members(layers).items()}
    matrices: dict[str, Callable[[], Any]] = {
        name: partial(reader.matrix, member, name) for name, member in places.items() if member is not None
    }
    variables = {"raw/X": raw.get("var", root.get("raw.var"))}

    def genes(name: str) -> tuple[str, ...] | None:
        return reader.index_of(variables.get(name, root.get("var")), "var")

    def cells() -> tuple[str, ...] | None:
        with suppress(InputError):  # names of rows are optional
            return reader.index_of(root.get("obs"), "obs")
        return None

    return Store(str(path), matrices, reader.columns(root.get("obs"), root.get("uns")), genes, cells)


class _Reader:
    """Reads the contents of one file; every fault becomes a message that names the file."""

    def __init__(self, path: Path):
        self.path = path

    def refuse(self, what: str) -> InputError:
        """The error for a damaged file; ``what`` says what is wrong."""
        return InputError(f"{self.path} is damaged or not an .h5ad file ({what})", "write it again with anndata")

    @staticmethod
    def is_group(member: Any) -> bool:
        import h5py

        return isinstance(member, h5py.Group)

    def members(self, group: Any) -> dict[str, Any]:
        """The members of a group by name; links to other files are refused."""
        import h5py

        found = {}
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise self.refuse(f"{group.name}/{name} is a link to another file")
            found[name] = group.get(name)
        return {name: member for name, member in found.items() if member is not None}

    def values(self, member: Any, what: str, ndim: int = 1) -> np.ndarray:
        """All values of a dataset, text as ``str``. A declared size beyond what the file can hold is refused."""
        import h5py

        if not isinstance(member, h5py.Dataset) or member.ndim != ndim:
            raise self.refuse(f"{what} is missing or not an array with {ndim} {'axis' if ndim == 1 else 'axes'}")
        if member.is_virtual or member.external:
            raise self.refuse(f"{what} lies in another file")
        declared = math.prod(member.shape) * member.dtype.itemsize
        if declared > _SUSPECT and declared > _RATIO * member.id.get_storage_size():
            raise self.refuse(f"{what} declares {declared:,} bytes but holds {member.id.get_storage_size():,}")
        if h5py.check_string_dtype(member.dtype) is not None:
            return member.asstr(errors="replace")[()].astype(str)
        values = member[()]
        if values.dtype.kind == "S":
            return np.char.decode(values, "utf-8", "replace")
        if values.dtype.hasobject:
            raise self.refuse(f"{what} is neither numbers nor text")
        return values

    def numbers(self, member: Any, what: str, ndim: int = 1) -> np.ndarray:
        values = self.values(member, what, ndim)
        if values.dtype.kind not in "biuf":
            raise self.refuse(f"{what} does not hold numbers")
        return values

    # Matrices

    def matrix(self, member: Any, what: str) -> Any:
        """A dense array ``[N, G]``, or a compressed matrix as scipy's CSR."""
        from scipy import sparse

        if not self.is_group(member):
            return sparse.csr_array(self.numbers(member, what, 2))
        form = self.word(member, "encoding-type") or self.word(member, "h5sparse_format")
        by_columns = form.startswith("csc")
        if not form.startswith(("csr", "csc")):
            states = f"has the encoding {form!r}" if form else "states no encoding"
            raise self.refuse(f"{what} {states}, but only an array, csr or csc matrix can be read")
        declared = np.asarray(member.attrs.get("shape", member.attrs.get("h5sparse_shape", ())))
        if declared.shape != (2,) or declared.dtype.kind not in "iu" or declared.min() < 0:
            raise self.refuse(f"{what} does not state its shape")
        shape = tuple(int(n) for n in declared)
        inside = self.members(member)
        data, indices, starts = (
            self.numbers(inside.get(name), f"{what}/{name}") for name in ("data", "indices", "indptr")
        )
        self.check_compressed(data, indices, starts, shape[::-1] if by_columns else shape, what)
        kind = sparse.csc_array if by_columns else sparse.csr_array
        return sparse.csr_array(kind((data, indices, starts), shape=shape))

    def check_compressed(
        self, data: np.ndarray, indices: np.ndarray, starts: np.ndarray, shape: tuple[int, ...], what: str
    ) -> None:
        """Refuse a compressed matrix whose three arrays disagree with each other or with its shape."""
        major, minor = shape
        if indices.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
            raise self.refuse(f"the indices of {what} are not integers")
        if len(starts) != major + 1:
            raise self.refuse(f"{what}/indptr has {len(starts):,} entries but needs {major + 1:,}")
        if len(data) != len(indices) or int(starts[0]) != 0 or int(starts[-1]) != len(data):
            raise self.refuse(
                f"{what} has {len(data):,} values and {len(indices):,} indices, but indptr runs from "
                f"{int(starts[0]):,} to {int(starts[-1]):,}"
            )
        falling = np.flatnonzero(starts[1:] < starts[:-1])
        if len(falling):
            raise self.refuse(f"{what}/indptr falls after entry {int(falling[0])} (counted from 0)")
        beyond = np.flatnonzero((indices < 0) | (indices >= minor))
        if len(beyond):
            place = int(beyond[0])
            inside = f"must have numbers from 0 to {minor - 1:,}"
            raise self.refuse(f"{what}/indices has {int(indices[place])} at {place}, but {inside}")

    def word(self, member: Any, name: str) -> str:
        value = member.attrs.get(name, "")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    # Tables: a group of columns, or one array of records in old files

    def columns(self, table: Any, extra: Any) -> dict[str, Callable[[], ObsColumn]]:
        """The columns of obs by name, as functions that read them; the index is left out."""
        if self.is_group(table):
            inside = self.members(table)
            index = self.word(table, "_index") or "_index"
            order = {str(name): place for place, name in enumerate(np.ravel(table.attrs.get("column-order", ())))}
            old = self.members(inside["__categories"]) if self.is_group(inside.get("__categories")) else {}
            return {
                name: partial(self.column, member, name, old.get(name))
                for name, member in sorted(inside.items(), key=lambda item: order.get(item[0], len(order)))
                if name not in (index, "__categories")
            }
        if table is None or table.dtype.names is None:
            return {}
        words = self.members(extra) if self.is_group(extra) else {}
        return {
            name: partial(self.record, table, name, words.get(f"{name}_categories"))
            for name in table.dtype.names
            if name not in ("index", "_index")
        }

    def column(self, member: Any, name: str, categories: Any = None, table: str = "obs") -> ObsColumn:
        """A column in any encoding: as values, as values with a mask, or as codes of categories."""
        what = f"{table}/{name}"
        if not self.is_group(member):
            values = self.values(member, what)
            return (values, None) if categories is None else self.coded(values, self.values(categories, what), what)
        inside = self.members(member)
        if "codes" in inside:
            categories = self.values(inside.get("categories"), f"{what}/categories")
            return self.coded(self.numbers(inside["codes"], f"{what}/codes"), categories, what)
        values = self.values(inside.get("values"), f"{what}/values")
        if "mask" in inside:
            mask = self.values(inside["mask"], f"{what}/mask").astype(bool)
            if mask.shape != values.shape or mask.any():
                raise missing_label(self.path, name, int(mask.argmax()))
        return values, None

    def record(self, table: Any, name: str, categories: Any) -> ObsColumn:
        values = self.values(table, "obs")[name]
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "replace")
        if values.dtype.kind not in "biufU":
            raise self.refuse(f"obs/{name} is neither numbers nor text")
        if categories is None:
            return values, None
        return self.coded(values, self.values(categories, f"uns/{name}_categories"), f"obs/{name}")

    def coded(self, codes: np.ndarray, categories: np.ndarray, what: str) -> ObsColumn:
        """(codes of the words that occur, in the order of the categories; the words), or (the numbers, None) if the
        categories are numbers."""
        if codes.dtype.kind not in "iu" or (codes.size and int(codes.max()) >= len(categories)):
            raise self.refuse(f"the codes of {what} do not fit its {len(categories):,} categories")
        if codes.size and int(codes.min()) < 0:
            raise missing_label(self.path, what.removeprefix("obs/"), int((codes < 0).argmax()))
        if categories.dtype.kind != "U":
            return categories[codes], None
        used, codes = np.unique(codes, return_inverse=True)
        return codes.astype(np.int64), tuple(categories[used].tolist())

    def index_of(self, table: Any, what: str) -> tuple[str, ...] | None:
        """The row names of a table."""
        if self.is_group(table):
            inside = self.members(table)
            member = inside.get(self.word(table, "_index") or "_index", inside.get("index"))
            if member is None:
                return None
            names, words = self.column(member, "index", None, what)
            return tuple(words[code] for code in names) if words else tuple(names.astype(str).tolist())
        if table is None or table.dtype.names is None:
            return None
        name = next((n for n in ("index", "_index") if n in table.dtype.names), None)
        if name is None:
            return None
        values = self.values(table, what)[name]
        return tuple((np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values).tolist())


def missing_label(what: object, name: str, row: int) -> InputError:
    """The error for a column of labels with a gap."""
    return InputError(f"{what}: the label {name!r} of row {row} (counted from 0) is missing", "fill it")
