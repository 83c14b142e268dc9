"""Data on disk as consecutive blocks of rows, each read by itself, so that memory holds a few blocks whatever their
number."""

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
            raise InputError(f"blocks of the data have {forms(own)} and {forms(given)} in a row", "encode all alike")
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
        raise InputError(f"block {block} has {found} rows and declares {blocks.sizes[block]}", "encode every row once")
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
