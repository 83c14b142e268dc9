"""Batches with a position that can be saved.

A loader has ``rows``, ``__len__`` (batches per epoch) and ``batches(epoch, start)``. A position is the pair of integers
(epoch, batch). The position and the seed determine all batches from there on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latens.errors import InputError
from latens.tensors import trees
from latens.tensors.randomness import Key, seed_of
from latens.tensors.trees import Tree

Transform = Callable[[Tree, Tensor, int], Tree]  # (x, rows, seed) -> x
Share = Callable[[int], slice]  # from the number of rows of a joint batch to the rows of one process


def whole(total: int) -> slice:
    """All rows of a joint batch: the share of a process that runs alone."""
    return slice(0, total)


@dataclass
class Batch:
    """A batch of B rows.

    Args:
        x: the rows, a tree of tensors ``[B, ...]``.
        c: the conditions, a tree of tensors ``[B, ...]``, or None.
        weight: ``[B]`` or None.
        rows: ``[B]``, the index of each row in the loader's data, which seeds random transforms.
        numbers: ``[B]``, the number of each row in the user's data, for messages; ``rows`` by default.
        total: the number of rows of the joint batch, of which this batch is the share of one process; 0 if this batch
            is the joint batch.
    """

    x: Tree
    c: Tree
    weight: Tensor | None
    rows: Tensor
    numbers: Tensor | None = None
    total: int = 0

    def part(self, index: slice) -> Batch:
        """The share of rows of one process."""
        return Batch(*(trees.take(tree, index) for tree in (self.x, self.c, self.weight, self.rows, self.numbers)))

    def to(self, device: torch.device) -> Batch:
        """The batch with x, c and weight on a device; row numbers stay where they are."""
        if device.type == "cpu":
            return self
        x, c, weight = (trees.to_device(tree, device) for tree in (self.x, self.c, self.weight))
        return Batch(x, c, weight, self.rows, self.numbers, self.total)


class Loader(Protocol):
    """What training and evaluation require of a loader."""

    rows: int

    def __len__(self) -> int: ...

    def batches(self, epoch: int, start: int = 0, share: Share = whole) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on, each reduced to the rows of this process (``share``)."""
        ...


class ArrayLoader:
    """Batches of tensors in memory, each made by a single index operation. 8-bit data stay 8-bit.

    Args:
        x: the rows, a tree of tensors ``[N, ...]``.
        c: the conditions, a tree of tensors ``[N, ...]``, or None.
        batch_size: rows per batch.
        shuffle: whether rows are shuffled. Each epoch then has a different order, a function of (seed, epoch), and
            rows that do not fill the last batch are left out of that epoch. Without it, all rows come in order.
        seed: the seed of orders and transforms.
        weight: ``[N]``, scaled to mean 1 over the data.
        transform: ``transform(x, rows, seed)``, applied to each batch. Its seed depends on (seed, epoch); without
            ``shuffle`` it is the same in all epochs.
        numbers: ``[N]``, the number of each row in the user's data, for messages.

    Raises:
        InputError: no weight is positive.
    """

    def __init__(
        self, x: Tree, c: Tree = None, weight: Tensor | None = None, *, batch_size: int, seed: int = 0,
        shuffle: bool = True, transform: Transform | None = None, numbers: Tensor | None = None,
    ):  # fmt: skip
        self.x, self.c, self.numbers = x, c, numbers
        self.rows = trees.rows((x, c))
        if weight is not None and not weight.sum() > 0:
            what = f"the sample weights of all {self.rows} rows of the training or of the validation data are zero"
            raise InputError(what, "give one or more rows a positive weight")
        self.weight = None if weight is None else weight * (self.rows / weight.sum())
        self.batch_size = min(batch_size, self.rows)
        self.seed, self.shuffle, self.transform = seed, shuffle, transform

    def __len__(self) -> int:
        return self.rows // self.batch_size if self.shuffle else -(-self.rows // self.batch_size)

    def order(self, epoch: int) -> Tensor:
        """The row numbers ``[N]`` in the order of an epoch."""
        if not self.shuffle:
            return torch.arange(self.rows)
        generator = torch.Generator().manual_seed(seed_of(self.seed, Key.ORDER, epoch))
        return torch.randperm(self.rows, generator=generator)

    def batches(self, epoch: int, start: int = 0, share: Share = whole) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on, each reduced to the rows of this process (``share``)."""
        order = self.order(epoch)
        seed = seed_of(self.seed, Key.TRANSFORM, epoch if self.shuffle else 0)
        for number in range(start, len(self)):
            first = number * self.batch_size
            joint = order[first : first + self.batch_size]
            own = share(len(joint))
            rows = joint[own]
            index = rows if self.shuffle else slice(first + own.start, first + own.stop)
            x = trees.take(self.x, index)
            if self.transform is not None:
                x = self.transform(x, rows, seed)
            numbers = rows if self.numbers is None else self.numbers[rows]
            c, weight = trees.take(self.c, index), trees.take(self.weight, index)
            yield Batch(x, c, weight, rows, numbers, len(joint))

    def in_order(self) -> ArrayLoader:
        """A loader of the same data without shuffling: every row once, in order, and the same transform every time."""
        other = copy.copy(self)
        other.shuffle = False
        return other
