"""Data on disk as consecutive blocks of rows, each read by itself, so that memory holds a few blocks whatever their
number."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from latens.data.array_files import npy_header, sentences
from latens.errors import InputError
from latens.schema import require_numeric
from latens.tensors import trees
from latens.tensors.trees import Tree

BLOCK_ROWS = 1 << 16  # rows of a block where the data has no blocks of its own ...
BLOCK_BYTES = 1 << 25  # ... and its bytes, which decide where a row is large

Leaf = Any  # whatever has a length and gives rows for [slice]


class Blocks(Protocol):
    """Rows on disk, in consecutive blocks.

    ``rows``: their number; ``sizes``: rows of each block; ``read(block)``: the rows of one block in the model's form,
    (x, c), fresh tensors that nobody else holds; several threads may call it at once. Blocks may say ``row_bytes``,
    about how much memory a row takes, by which a loader chooses how many to hold.
    """

    rows: int
    sizes: list[int]

    def read(self, block: int) -> tuple[Tree, Tree]: ...


def starts(sizes: Sequence[int]) -> np.ndarray:
    """The number of each block's first row, and of the row after the last: ``[blocks + 1]`` int64.

    >>> starts([3, 4]).tolist()
    [0, 3, 7]
    """
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


def cut(rows: int, size: int) -> list[int]:
    """``rows`` in blocks of ``size``, the last one smaller.

    >>> cut(10, 4)
    [4, 4, 2]
    """
    return [min(size, rows - start) for start in range(0, rows, size)]


def bytes_of(tree: Tree) -> int:
    """Bytes of all leaves of a tree of tensors or arrays."""
    return sum(leaf.nbytes for leaf in trees.leaves(tree))


class LazyBlocks:
    """Blocks of anything with a length and rows by ``[slice]``: an HDF5 dataset, a memory map, a folder of images.

    ``x`` and ``c`` are trees of such leaves; each slice becomes a tensor of its own. A block has ``block_rows`` rows,
    by default 65,536 and at most 32 MiB. Slicing must bear several threads. Raises ``InputError`` without rows, or
    where leaves differ in length.

    >>> blocks = LazyBlocks({"a": np.arange(10)}, block_rows=4)
    >>> blocks.sizes, blocks.read(2)
    ([4, 4, 2], ({'a': tensor([8, 9])}, None))
    """

    def __init__(self, x: Leaf, c: Leaf = None, *, block_rows: int | None = None):
        self._tree = (x, c)
        lengths = {len(leaf) for leaf in trees.leaves(self._tree)}
        if len(lengths) != 1:
            raise InputError(f"the parts of the data have {sorted(lengths)} rows: give each the same number")
        self.rows = lengths.pop()
        if self.rows == 0:
            raise InputError("the data has no rows: give at least one")
        self.row_bytes = max(1, bytes_of(self._slice(0, 1)))
        self.sizes = cut(self.rows, block_rows or max(1, min(BLOCK_ROWS, BLOCK_BYTES // self.row_bytes)))
        self._starts = starts(self.sizes)

    def read(self, block: int) -> tuple[Tree, Tree]:
        start = int(self._starts[block])
        return self._slice(start, start + self.sizes[block])

    def _slice(self, start: int, stop: int) -> Any:
        return trees.map_tree(lambda leaf: _own(leaf[start:stop]), self._tree)


class NpyBlocks:
    """Blocks of an .npy file, by memory map: ``encode(array [B, ...]) -> (x, c)``, by default (tensor, None).

    The header is checked against the size of the file before anything is mapped, objects are never unpickled, and each
    block is a map of its own, so that pages already read are given back. Blocks as in :class:`LazyBlocks`. Raises
    ``InputError`` for a missing, damaged, truncated or empty file, and for values that are not numbers.
    """

    def __init__(
        self, path: str | os.PathLike[str], encode: Callable[[np.ndarray], tuple[Tree, Tree]] | None = None,
        *, block_rows: int | None = None,
    ):  # fmt: skip
        self._path, self._encode = Path(path).expanduser(), encode
        self._header = _npy_header(self._path)
        shape, _, dtype, _ = self._header
        self.rows, self.row_bytes = shape[0], max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
        self.sizes = cut(self.rows, block_rows or max(1, min(BLOCK_ROWS, BLOCK_BYTES // self.row_bytes)))
        self._starts = starts(self.sizes)

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self._header[0][1:]

    def read(self, block: int) -> tuple[Tree, Tree]:
        start = int(self._starts[block])
        shape, fortran, dtype, offset = self._header
        try:
            mapped = np.memmap(self._path, dtype, "r", offset, shape, "F" if fortran else "C")
        except (OSError, ValueError) as error:
            raise InputError(f"{self._path} can no longer be read ({error}): put it back as it was") from error
        array = np.array(mapped[start : start + self.sizes[block]], dtype.newbyteorder("="), order="C")
        return (torch.from_numpy(array), None) if self._encode is None else self._encode(array)


def _own(values: Any) -> Tensor:
    """A tensor with memory of its own."""
    return values.clone() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def _npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype and offset of the data of an .npy file of numbers, whose size must fit them."""
    if not path.is_file():
        raise InputError(f"there is no file {path}: correct the path")
    with sentences(path), open(path, "rb") as file:
        shape, fortran, dtype = npy_header(file, path.stat().st_size, str(path))
        offset = file.tell()
    require_numeric(dtype, str(path))
    if not shape or shape[0] == 0:
        raise InputError(f"{path} has the shape {shape}, without rows: give an array with one row per datum")
    return shape, fortran, dtype, offset


class GatheredRows:
    """A tree of ``count`` rows that is filled in any order, several threads at once, each row by one of them.

    ``space``: memory for at least so many rows that is used again, the ``space`` of a former one; None takes memory for
    ``capacity`` rows. (Taking large memory anew for every window breaks the heap into pieces.)
    """

    def __init__(self, count: int, capacity: int = 0, space: Tree = None):
        self.count, self._capacity = count, max(count, capacity)
        self.space: Tree = space
        self._lock = threading.Lock()

    def put(self, tree: Tree, where: slice | Tensor, kept: Tensor | None = None) -> None:
        """Let the rows ``where`` be those of ``tree``, or of ``kept`` among them."""
        with self._lock:
            if self.space is None:
                self.space = trees.map_tree(lambda leaf: leaf.new_empty((self._capacity, *leaf.shape[1:])), tree)
        own, given = trees.leaves(self.space), trees.leaves(tree)
        if forms(own) != forms(given):
            raise InputError(f"blocks of the data have {forms(own)} and {forms(given)} in a row: encode all alike")
        for target, leaf in zip(own, given):
            target[where] = leaf if kept is None else leaf[kept]

    def tree(self) -> Tree:
        return trees.take(self.space, slice(0, self.count))


def forms(leaves: Sequence[Tensor]) -> str:
    """What one row of each leaf is, in words.

    >>> forms([torch.zeros(7, 3)])
    'float32 (3,)'
    """
    return ", ".join(f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape[1:])}" for leaf in leaves)


def read_block(blocks: Blocks, block: int) -> tuple[Tree, Tree]:
    """The rows of one block, whose number must be the one declared."""
    tree = blocks.read(block)
    if {leaf.shape[0] for leaf in trees.leaves(tree)} != {blocks.sizes[block]}:
        found = sorted({leaf.shape[0] for leaf in trees.leaves(tree)})
        raise InputError(f"block {block} has {found} rows and declares {blocks.sizes[block]}: encode every row once")
    return tree


def concat(parts: Sequence[Tree]) -> Tree:
    """The rows of several trees of one structure, one after the other.

    >>> concat([{"a": torch.tensor([1])}, {"a": torch.tensor([2, 3])}])
    {'a': tensor([1, 2, 3])}
    """
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {key: concat([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(concat(list(values)) for values in zip(*parts))
    return torch.cat(list(parts))


def gather(blocks: Blocks, numbers: Sequence[int] | np.ndarray | Tensor) -> tuple[Tree, Tree]:
    """(x, c) of the rows of these numbers, in their order, which may repeat; only blocks that hold one are read, each
    once. Raises ``InputError`` for no number, or one out of range.

    >>> gather(LazyBlocks(np.arange(10) * 2, block_rows=3), [7, 0])
    (tensor([14,  0]), None)
    """
    wanted = np.asarray(numbers, dtype=np.int64)
    if wanted.ndim != 1 or len(wanted) == 0:
        raise InputError("no row numbers to gather: give at least one")
    outside = np.flatnonzero((wanted < 0) | (wanted >= blocks.rows))
    if len(outside):
        raise InputError(f"there is no row {wanted[outside[0]]}: the data has the rows 0 to {blocks.rows - 1}")
    first = starts(blocks.sizes)
    owner = np.searchsorted(first, wanted, "right") - 1
    result = GatheredRows(len(wanted))
    for block in np.unique(owner).tolist():
        where = np.flatnonzero(owner == block)
        local = torch.from_numpy(wanted[where] - first[block])
        result.put(read_block(blocks, block), torch.from_numpy(where), local)
    return result.tree()
