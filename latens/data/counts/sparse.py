"""Counts of cells x genes, or of documents x words: sparse in memory, dense one batch at a time.

:func:`read_h5ad` and :func:`counts_of` find the raw counts in an .h5ad file or an AnnData-like object, and note where
they were.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.array_files import Found, read_arrays, sentences
from latens.data.counts.h5ad import ObsColumn, Store, missing_label, store_of
from latens.data.lazy import Lazy, Subset
from latens.errors import InputError
from latens.schema.arrow import listed

SIZES = ("n_counts", "total_counts", "nCount_RNA")  # names that tools give to the library size, a column of obs
PARTS = ("indices", "indptr", "row", "col", "offsets", "format", "shape", "data", "_is_array")  # of a sparse .npz
TARGET = 1e4  # the library size to which tools scale before ln(1 + x)
_FORMATS = {
    "csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "bsr": ("indices", "indptr"), "coo": ("row", "col"),
    "dia": ("offsets",),
}  # fmt: skip
_SUSPECT = 10_000  # a file that declares more rows or columns than this per stored value is refused
_CLOSE = 1e-2  # restored counts must be whole numbers up to this error,
_ROUNDED = 5e-4  # plus this fraction of each count, since logarithms may be stored with three decimals
_PIECE = 1 << 22  # stored values that are checked together


class SparseRows(Lazy):
    """A sparse matrix ``[N, D]`` in memory, float32; only the rows that are indexed become dense.

    Args:
        matrix: a scipy matrix or array of any format, or a dense array.
        what: what messages call the data.
        names: the names of the columns (genes), or None.
        obs: functions that read columns of data about the rows, by name.
        notes: how the matrix was found, one sentence each.
        given: the dtype in which the values were given; None for the matrix's own dtype.

    Raises:
        InputError: a value is not finite, or the matrix is damaged.

    >>> from scipy import sparse
    >>> rows = SparseRows(sparse.coo_array(([3.0, 1.0], ([0, 2], [1, 0])), shape=(3, 2)))
    >>> rows[[2, 0]].tolist(), rows.shape
    ([[1.0, 0.0], [0.0, 3.0]], (3, 2))
    """

    kind = np.dtype(np.float32)

    def __init__(
        self, matrix: Any, what: str = "the data", names: tuple[str, ...] | None = None,
        obs: Mapping[str, Callable[[], ObsColumn]] | None = None, notes: tuple[str, ...] = (),
        given: np.dtype[Any] | None = None,
    ):  # fmt: skip
        self._given = getattr(matrix, "dtype", self.kind) if given is None else given
        self.csr = _csr(matrix, what, np.float32)
        self.shape = tuple(self.csr.shape)
        self.names, self.obs, self.notes = names, obs or {}, notes

    @property
    def given(self) -> np.dtype[Any]:
        """The dtype of the matrix."""
        return self._given

    @staticmethod
    def of(x: Lazy) -> Lazy:
        """``x``; if it is a view of sparse rows, the viewed rows as a sparse matrix."""
        if not isinstance(x, Subset) or not isinstance(x.lazy, SparseRows):
            return x
        whole, index = x.lazy, x.index
        obs = {name: partial(_some, column, index) for name, column in whole.obs.items()}
        return SparseRows(whole.csr[index], names=whole.names, obs=obs, notes=whole.notes, given=whole.given)

    def columns(self, index: np.ndarray) -> SparseRows:
        """The same rows with only the columns of these numbers, in the given order."""
        names = None if self.names is None else tuple(self.names[j] for j in index)
        return SparseRows(self.csr[:, index], names=names, obs=self.obs, notes=self.notes, given=self.given)

    def position(self, entry: int) -> tuple[int, int]:
        """(row, column) of a stored value."""
        return _row_of(self.csr, entry), int(self.csr.indices[entry])

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The dense rows ``[B, D]``, float32."""
        return self.csr[index].toarray()


def _some(column: Callable[[], ObsColumn], index: np.ndarray) -> ObsColumn:
    values, words = column()
    return values[index], words


@dataclass
class Counts(Found):
    """Counts as found.

    Args:
        x: the counts ``[N, G]``.
        names: the names of the genes, or None.
        labels: one label per row, or None.
        label_names: the words that codes of labels stand for, or None.
        fingerprint: SHA-256 of shape and values; explicit zeros and the order of entries do not matter.
        columns: the columns of obs that could be labels.
        source: where the counts were found ("layers/counts", "X", "raw/X", ...).
        whole: whether all values are whole and none is negative.
        notes: how the counts were found, one sentence each.
        row_names: the names of the cells, or None.
    """

    row_kind: str = "cell"
    columns: tuple[str, ...] = ()
    source: str = ""
    whole: bool = True


def read_h5ad(path: str | os.PathLike[str], *, layer: str | None = None, labels: str | None = None) -> Counts:
    """Read counts from an .h5ad file that any version of anndata wrote.

    Without ``layer``, the counts are the first of these that holds only whole, non-negative numbers: the layer
    "counts", X, raw/X. If none does, raw/X or X may be ln(1 + 1e4 count / n) with the library size n in obs (n_counts,
    total_counts or nCount_RNA). The counts are then restored, provided that they are whole within 0.01 + 0.0005 count.
    Otherwise X is taken unchanged, and a note says so.

    Args:
        path: the file.
        layer: a layer, "X" or "raw/X", taken unchanged.
        labels: a column of obs.

    Raises:
        InputError: the file, layer or column does not exist, the file is damaged, or a value is negative or not finite.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise InputError(f"{place} does not exist or is not a file", "give an .h5ad file")
    with sentences(place):
        try:
            import h5py
        except ImportError as error:
            raise InputError(f"{place} cannot be read without h5py", "install it with pip install h5py") from error
        if not h5py.is_hdf5(place):
            raise InputError(f"{place} is not an .h5ad file, as it does not start as HDF5 does", "get it again")
        with _opened(place) as file:
            store = store_of(file, place)
            obs = {name: partial(_column_of, place, name) for name in store.columns}
            return _counts(store, layer, labels, obs)


def _opened(place: Path) -> Any:
    """The file, opened without a lock, since some folders forbid locks; with a lock if this process has already opened
    it with one."""
    import h5py

    try:
        return h5py.File(place, "r", locking=False)
    except OSError:
        return h5py.File(place, "r")


def _column_of(place: Path, name: str) -> ObsColumn:
    """A column of obs, read from the file when it is needed."""
    with sentences(place), _opened(place) as file:
        return store_of(file, place).columns[name]()


def read_sparse(path: Path) -> SparseRows | None:
    """The matrix that ``scipy.sparse.save_npz`` wrote, read without unpickling; None for another .npz. Raises
    ``InputError`` if it is damaged."""
    from scipy import sparse

    part = read_arrays(path, ("format", "shape", "data"))
    if part is None:
        return None
    form = str(part["format"].astype(str)) if part["format"].dtype.kind in "SU" else ""
    names = _FORMATS.get(form, ())
    shape = part["shape"]
    if not names or not set(names) <= set(part) or shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise InputError(f"{path}: the sparse matrix is damaged (its format {form!r})", "write it again with save_npz")
    if shape.max() > _SUSPECT * (1 + part["data"].size):
        size = f"{shape[0]:,} x {shape[1]:,} cells and stores {part['data'].size:,}"
        raise InputError(f"{path}: the sparse matrix declares {size}", "write it again with save_npz")
    arrays = tuple(part[name] for name in names)
    content = (part["data"], arrays) if form == "coo" else (part["data"], *arrays)
    return SparseRows(getattr(sparse, f"{form}_array")(content, shape=tuple(shape.tolist())), str(path))


def stored_parts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that ``scipy.sparse.save_npz`` writes for a matrix."""
    from scipy import sparse

    csr = sparse.csr_array(x)
    names = _FORMATS["csr"]
    whole = {"format": np.array(b"csr"), "shape": np.array(csr.shape), "data": csr.data}
    return {name: getattr(csr, name) for name in names} | whole


def counts_of(data: Any, *, layer: str | None = None, labels: str | None = None) -> Counts:
    """Counts of an AnnData-like object (with .X, .obs, .var_names, perhaps .layers and .raw), found as in
    :func:`read_h5ad`.

    >>> from types import SimpleNamespace
    >>> found = counts_of(SimpleNamespace(X=np.array([[0, 2], [1, 0]]), obs={}, var_names=["a", "b"]))
    >>> found.x[:].tolist(), found.names, found.source
    ([[0.0, 2.0], [1.0, 0.0]], ('a', 'b'), 'X')
    """
    raw = getattr(data, "raw", None)
    layers = getattr(data, "layers", None) or {}
    held = {"X": getattr(data, "X", None), "raw/X": getattr(raw, "X", None)}
    held |= {f"layers/{name}": layers[name] for name in layers}
    obs = getattr(data, "obs", None)

    def genes(name: str) -> tuple[str, ...] | None:
        found = getattr(raw if name == "raw/X" else data, "var_names", None)
        return None if found is None else tuple(str(gene) for gene in found)

    matrices: dict[str, Callable[[], Any]] = {
        name: partial(_itself, matrix) for name, matrix in held.items() if matrix is not None
    }
    columns: dict[str, Callable[[], ObsColumn]] = {}
    for name in () if obs is None else obs:
        columns[str(name)] = partial(_object_column, obs, name)
    return _counts(Store("the data", matrices, columns, genes), layer, labels, columns)


def _itself(matrix: Any) -> Any:
    """A matrix of an object, read into memory; the matrix of a backed AnnData stays in its file until then."""
    return matrix.to_memory() if hasattr(matrix, "to_memory") else matrix


@dataclass(frozen=True, eq=False)
class ColumnSummaries:
    """The mean, variance (divided by N), largest value and fraction of zeros of each column ``[D]``, zeros included;
    and whether every value of the matrix is whole."""

    mean: np.ndarray
    variance: np.ndarray
    high: np.ndarray
    zeros: np.ndarray
    whole: bool


def column_summaries(matrix: Any) -> ColumnSummaries:
    r"""Summarise the columns of a sparse matrix ``[N, D]`` without making it dense, in float64.

    With the mean m and Z zeros in a column, its variance is :math:`(\sum (x - m)^2 + Z m^2) / N`, the sum over the
    stored values.

    >>> found = column_summaries(np.array([[0, 2], [4, 2]]))
    >>> found.mean.tolist(), found.variance.tolist(), found.zeros.tolist()
    ([2.0, 2.0], [4.0, 0.0], [0.5, 0.0])
    """
    csr = _csr(matrix)
    rows, columns = csr.shape
    total, square, stored = np.zeros(columns), np.zeros(columns), np.zeros(columns, np.int64)
    high = np.full(columns, -np.inf)
    whole = True
    for data, indices in _pieces(csr):
        total += np.bincount(indices, data, columns)
        stored += np.bincount(indices, minlength=columns)
        np.maximum.at(high, indices, data)
        whole = whole and bool((data == np.rint(data)).all())
    mean = total / max(rows, 1)
    for data, indices in _pieces(csr):
        square += np.bincount(indices, (data - mean[indices]) ** 2, columns)
    absent = rows - stored
    high = np.where(absent > 0, np.maximum(high, 0), high)
    return ColumnSummaries(mean, (square + absent * mean**2) / max(rows, 1), high, absent / max(rows, 1), whole)


# Which matrix holds the counts


def _counts(store: Store, layer: str | None, labels: str | None, obs: Mapping[str, Callable[[], ObsColumn]]) -> Counts:
    """The counts of a store, chosen or found, with labels and the functions that read the columns of obs."""
    if labels is not None and labels not in store.columns:
        remedy = f"choose one of {listed(tuple(store.columns))}" if store.columns else "omit --labels, as it has none"
        raise InputError(f"the obs of {store.what} has no labels {labels!r}", remedy)
    source, csr, notes = _chosen(store, layer) if layer is not None else _found(store)
    rows = csr.shape[0]
    values, label_names = (None, None) if labels is None else _labels(store, labels, rows)
    names = store.genes(source)
    if names is not None and len(names) != csr.shape[1]:
        what = f"{store.what}: {source} has {csr.shape[1]:,} columns and {len(names):,} names"
        raise InputError(what, "write it again with a name for each column")
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        remedy = "make names unique (var_names_make_unique() of anndata)"
        raise InputError(f"{store.what} has two genes called {twice!r}", remedy)
    x = SparseRows(csr, f"{store.what}, {source}", names, obs, tuple(notes))
    whole = _is_whole(csr) and _lowest(csr) >= 0
    cells = store.cells()
    return Counts(
        x, names, values, label_names=label_names, columns=tuple(store.columns), source=source, whole=whole,
        notes=notes, fingerprint=fingerprint_of(x.csr),
        row_names=cells if cells is not None and len(cells) == rows else None,
    )  # fmt: skip


def _chosen(store: Store, layer: str) -> tuple[str, Any, list[str]]:
    place = layer if layer in store.matrices else f"layers/{layer}" if layer != "raw" else "raw/X"
    if place not in store.matrices:
        there = listed([name.removeprefix("layers/") for name in store.matrices]) or "none"
        raise InputError(f"{store.what} has no layer {layer!r}", f"pass --layer with one of {there}")
    csr = _read(store, place)
    notes = [] if _is_whole(csr) else [f"{place} does not hold whole numbers; its values are taken unchanged"]
    return place, csr, notes


def _found(store: Store) -> tuple[str, Any, list[str]]:
    """The first matrix of raw counts, counts restored from their logarithms, or X unchanged."""
    read: dict[str, Any] = {}
    for place in ("layers/counts", "X", "raw/X"):
        if place in store.matrices:
            csr = read[place] = _read(store, place)
            if _is_whole(csr):
                return place, csr, [] if place == "X" else [f"the counts are taken from {place}"]
    if not read:
        raise InputError(f"{store.what} has no X", "give a file with a matrix of cells x genes")
    for place in ("raw/X", "X"):
        for column in SIZES:
            if place in read and column in store.columns:
                restored = _restored(read[place], store.columns[column]()[0])
                if restored is not None:
                    how = f"round(expm1({place}) x obs[{column!r}] / {TARGET:,.0f})"
                    return place, restored, [f"counts restored from their logarithms: {how}"]
    place = "X" if "X" in read else next(iter(read))
    return place, read[place], [f"no raw counts were found; the continuous values of {place} are taken unchanged"]


def _restored(csr: Any, sizes: np.ndarray) -> Any | None:
    """The counts whose ln(1 + TARGET count / size) the matrix holds, or None if they are not whole.

    Because of rounding, large counts always pass as whole. So most counts must be small for the test to be valid.
    """
    good = sizes.shape == (csr.shape[0],) and sizes.dtype.kind in "iuf" and bool((sizes > 0).all())
    if not good or _lowest(csr) < 0 or csr.max() > np.log(2.0**53):
        return None
    repeated = np.repeat(sizes.astype(np.float64), np.diff(csr.indptr))
    counts = np.expm1(csr.data.astype(np.float64)) * repeated / TARGET
    away = np.abs(counts - np.rint(counts))
    if not csr.nnz or (away > _CLOSE + _ROUNDED * counts).any() or np.median(counts) > _CLOSE / _ROUNDED:
        return None
    csr = csr.copy()
    csr.data = np.rint(counts).astype(csr.dtype)
    return csr


def _read(store: Store, place: str) -> Any:
    """A matrix of the store; ``InputError`` if its numbers are whole and one is negative."""
    csr = _csr(store.matrices[place](), f"{store.what}, {place}")
    if _is_whole(csr) and _lowest(csr) < 0:
        entry = int((csr.data < 0).argmax())
        where = f"row {_row_of(csr, entry)}, column {int(csr.indices[entry])} (counted from 0)"
        raise InputError(f"{store.what}, {place}: the count {csr.data[entry]:g} at {where} is negative", "correct it")
    return csr


def _labels(store: Store, name: str, rows: int) -> ObsColumn:
    values, label_names = store.columns[name]()
    if values.shape != (rows,):
        what = f"{store.what}: the column {name!r} of obs has {values.size:,} entries for {rows:,} rows"
        raise InputError(what, "write the file again, or choose other labels")
    if label_names is None and values.dtype.kind == "U":
        words, values = np.unique(values, return_inverse=True)
        label_names = tuple(words.tolist())
        gap: np.ndarray = words[values] == ""
    else:
        gap = values != values
    if gap.any():
        raise missing_label(store.what, name, int(gap.argmax()))
    return (values.astype(np.int64) if label_names else values), label_names


def _object_column(frame: Any, name: str) -> ObsColumn:
    """A column of a data frame: categories as codes, numbers unchanged, other values as text."""
    column = frame[name]
    if hasattr(column, "cat"):
        codes, words = np.asarray(column.cat.codes), np.asarray(column.cat.categories)
        if (codes < 0).any():
            raise missing_label("the data", name, int((codes < 0).argmax()))
        if words.dtype.kind in "biuf":
            return words[codes], None
        used, codes = np.unique(codes, return_inverse=True)
        return codes.astype(np.int64), tuple(str(word) for word in words[used])
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        return values, None
    gaps = [value is None or value != value for value in values.tolist()]
    if any(gaps):
        raise missing_label("the data", name, gaps.index(True))
    return values.astype(str), None


# Sparse arithmetic


def _csr(matrix: Any, what: str = "the data", dtype: Any = None) -> Any:
    """The matrix as sorted CSR that stores each cell once and no zeros; ``InputError`` if a value is not finite."""
    from scipy import sparse

    if isinstance(matrix, SparseRows):
        matrix = matrix.csr
    if not sparse.issparse(matrix):
        matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise InputError(f"{what} must be a matrix of numbers with two axes, got {matrix.dtype}, {matrix.shape}")
    csr = sparse.csr_array(matrix)
    try:
        csr.check_format(full_check=True)
    except ValueError as error:
        raise InputError(f"{what}: the sparse matrix is damaged ({error})", "build it again") from None
    if not csr.has_canonical_format or np.count_nonzero(csr.data) < csr.nnz:
        csr = csr.copy()  # the user's own matrix is not changed
        csr.sum_duplicates()
        csr.eliminate_zeros()
    with np.errstate(over="ignore"):
        csr = csr if dtype is None else csr.astype(dtype, copy=False)
    if csr.dtype.kind == "f" and not np.isfinite(csr.data).all():
        entry = int((~np.isfinite(csr.data)).argmax())
        where = f"row {_row_of(csr, entry)}, column {int(csr.indices[entry])} (counted from 0)"
        place = f"{what}: the value {csr.data[entry]} at {where}"
        raise InputError(f"{place} is not finite", "fill it, or leave the row out")
    return csr


def _row_of(csr: Any, entry: int) -> int:
    return int(np.searchsorted(csr.indptr, entry, side="right")) - 1


def _pieces(csr: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, csr.nnz, _PIECE):
        part = slice(start, start + _PIECE)
        yield csr.data[part].astype(np.float64), csr.indices[part]


def _is_whole(csr: Any) -> bool:
    return csr.dtype.kind in "biu" or all(bool((data == np.rint(data)).all()) for data, _ in _pieces(csr))


def _lowest(csr: Any) -> float:
    """The smallest stored value, 0 if nothing is stored."""
    return float(csr.data.min()) if csr.nnz else 0.0


def fingerprint_of(csr: Any) -> str:
    """SHA-256 of the shape and the values of a canonical CSR matrix."""
    digest = hashlib.sha256(f"{csr.shape}".encode())
    for values, dtype in ((csr.indptr, "<i8"), (csr.indices, "<i8"), (csr.data, "<f4")):
        for start in range(0, len(values), _PIECE):
            digest.update(values[start : start + _PIECE].astype(dtype).tobytes())
    return digest.hexdigest()
