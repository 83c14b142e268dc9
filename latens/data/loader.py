"""Batches with a saved position.

A loader is anything with ``rows``, ``__len__`` (batches an epoch) and ``batches(epoch, start)``: the position is the
pair (epoch, batch), two integers, and the batches from any position on are a function of it and of the seed.
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


@dataclass
class Batch:
    """x, c: trees with B rows; weight: ``[B]`` or None; rows: the index ``[B]`` of each row in the loader's data, which
    random transforms go by; numbers: its number in the user's data, which messages name (default: rows)."""

    x: Tree
    c: Tree
    weight: Tensor | None
    rows: Tensor
    numbers: Tensor | None = None

    def part(self, index: slice) -> Batch:
        """The rows of one process."""
        return Batch(*(trees.take(tree, index) for tree in (self.x, self.c, self.weight, self.rows, self.numbers)))

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        x, c, weight = (trees.to_device(tree, device) for tree in (self.x, self.c, self.weight))
        return Batch(x, c, weight, self.rows, self.numbers)


class Loader(Protocol):
    """What the training loop and the evaluations ask of data."""

    rows: int

    def __len__(self) -> int: ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


class ArrayLoader:
    """Batches of in-memory tensors, each one index operation; 8-bit data stays 8-bit.

    With ``shuffle``, every epoch has its own order, a function of (seed, epoch), and the rows that do not fill a last
    batch are left out of that epoch; without, all rows come in order. ``weight`` is scaled to mean 1 over the data.
    ``transform(x, rows, seed)`` is applied to each batch, with a seed of (seed, epoch), or a fixed one without shuffle.
    ``numbers``: the number of each row in the user's data, for messages. Raises ``InputError`` where no weight is
    positive.
    """

    def __init__(
        self, x: Tree, c: Tree = None, weight: Tensor | None = None, *, batch_size: int, seed: int = 0,
        shuffle: bool = True, transform: Transform | None = None, numbers: Tensor | None = None,
    ):  # fmt: skip
        self.x, self.c, self.numbers = x, c, numbers
        self.rows = trees.rows((x, c))
        if weight is not None and not weight.sum() > 0:
            raise InputError(
                f"the sample weights of all {self.rows} rows of a part of the data are zero: give some a positive one"
            )
        self.weight = None if weight is None else weight * (self.rows / weight.sum())
        self.batch_size = min(batch_size, self.rows)
        self.seed, self.shuffle, self.transform = seed, shuffle, transform

    def __len__(self) -> int:
        return self.rows // self.batch_size if self.shuffle else -(-self.rows // self.batch_size)

    def order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.rows)
        generator = torch.Generator().manual_seed(seed_of(self.seed, Key.ORDER, epoch))
        return torch.randperm(self.rows, generator=generator)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = self.order(epoch)
        seed = seed_of(self.seed, Key.TRANSFORM, epoch if self.shuffle else 0)
        for number in range(start, len(self)):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            index = rows if self.shuffle else slice(int(rows[0]), int(rows[-1]) + 1)
            x = trees.take(self.x, index)
            if self.transform is not None:
                x = self.transform(x, rows, seed)
            numbers = rows if self.numbers is None else self.numbers[rows]
            yield Batch(x, trees.take(self.c, index), trees.take(self.weight, index), rows, numbers)

    def in_order(self) -> ArrayLoader:
        """The same data without shuffle: every row once, in order, its transform fixed."""
        other = copy.copy(self)
        other.shuffle = False
        return other
