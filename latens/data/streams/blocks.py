"""Data on disk as consecutive blocks of rows; each block is read alone, so that memory holds only a few blocks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latens.errors import InputError
from latens.tensors import trees
from latens.tensors.trees import Tree


class Blocks(Protocol):
    """Rows on disk in consecutive blocks.

    Attributes:
        rows: the number of rows.
        sizes: the number of rows of each block.
        row_bytes: optional; the approximate memory of a row in bytes, from which a loader chooses how many rows to
            hold.
        units: optional; for each block, the number of its unit. The blocks of a unit are best read in order.
    """

    rows: int
    sizes: list[int]

    def read(self, block: int) -> tuple[Tree, Tree]:
        """(x, c) of one block in the model's form, as new tensors that nothing else uses; several threads may call
        this."""
        ...


def starts(sizes: Sequence[int]) -> np.ndarray:
    """The number of the first row of each block, and lastly the number of rows: ``[blocks + 1]`` int64.

    >>> starts([3, 4]).tolist()
    [0, 3, 7]
    """
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


def cut(rows: int, size: int) -> list[int]:
    """The sizes of the blocks when ``rows`` are cut into blocks of ``size``; the last may be smaller.

    >>> cut(10, 4)
    [4, 4, 2]
    """
    return [min(size, rows - start) for start in range(0, rows, size)]


class GatheredRows:
    """A tree of ``count`` rows that several threads fill in any order, each row once.

    ``space`` is memory to reuse, the ``space`` of an earlier object with room for ``count`` rows. With None, memory for
    ``capacity`` rows is allocated. (Allocating large memory for every window would fragment the heap.)
    """

    def __init__(self, count: int, capacity: int = 0, space: Tree = None):
        self.count, self._capacity = count, max(count, capacity)
        self.space: Tree = space
        self._lock = threading.Lock()

    def put(self, tree: Tree, where: slice | Tensor, kept: Tensor | None = None) -> None:
        """Write the rows of ``tree``, or only its rows ``kept`` ``[M]``, to the rows ``where`` ``[M]``; ``InputError``
        for a block of another form."""
        with self._lock:
            if self.space is None:
                self.space = trees.map_tree(lambda leaf: leaf.new_empty((self._capacity, *leaf.shape[1:])), tree)
        own, given = trees.leaves(self.space), trees.leaves(tree)
        if forms(own) != forms(given):
            what = f"the rows of one block are {forms(own)}, but the rows of another are {forms(given)}"
            raise InputError(what, "encode all blocks in the same form")
        for target, leaf in zip(own, given):
            target[where] = leaf if kept is None else leaf[kept]

    def tree(self) -> Tree:
        """The filled rows, a tree of tensors ``[count, ...]``."""
        return trees.take(self.space, slice(0, self.count))


def forms(leaves: Sequence[Tensor]) -> str:
    """Describe one row of each leaf by dtype and shape.

    >>> forms([torch.zeros(7, 3)])
    'float32 (3,)'
    """
    return ", ".join(f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape[1:])}" for leaf in leaves)


def read_block(blocks: Blocks, block: int) -> tuple[Tree, Tree]:
    """The rows of one block; ``InputError`` unless it has as many as it declares."""
    tree = blocks.read(block)
    if {leaf.shape[0] for leaf in trees.leaves(tree)} != {blocks.sizes[block]}:
        found = sorted({leaf.shape[0] for leaf in trees.leaves(tree)})
        what = f"block {block} has {' and '.join(map(str, found))} rows but declares {blocks.sizes[block]}"
        raise InputError(what, "encode every row once")
    return tree


def concat(parts: Sequence[Tree]) -> Tree:
    """Concatenate the rows of several trees of the same structure.

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
