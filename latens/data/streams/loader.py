"""Batches of data larger than memory, with exact positions: blocks in random order, rows shuffled within windows.

An epoch is a function of (seed, epoch): blocks are permuted, consecutive blocks form windows, rows are permuted within
their window, and a batch may span two windows. To start at any batch, only the windows from there on are read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from latens.data.loader import Batch, Share, Transform, whole
from latens.data.streams.blocks import Blocks, GatheredRows, concat, read_block, starts
from latens.errors import InputError, is_whole, require
from latens.machine.processor import one_core_each
from latens.tensors import trees
from latens.tensors.randomness import Key, seed_of
from latens.tensors.trees import Tree

WINDOW_ROWS = 1 << 20
WINDOW_BYTES = 1 << 27

T = TypeVar("T")


def ahead(groups: Iterable[Sequence[Callable[[], T]]], workers: int) -> Generator[list[T]]:
    """Yield the results of each group of jobs, in order, while ``workers`` threads work on the next group.

    The caller must release a group before it asks for the next, so that at most two groups are in memory. An error in a
    job is raised here. When the iterator is closed, jobs that have not begun are dropped and the threads end. With 0
    workers, the caller's thread does the jobs when they are asked for.

    >>> list(ahead([[lambda: 1, lambda: 2], [lambda: 3]], workers=2))
    [[1, 2], [3]]
    """
    if workers == 0:
        for group in groups:
            yield [job() for job in group]
        return
    pool = ThreadPoolExecutor(workers, "latens-reader", initializer=one_core_each)
    try:
        each = iter(groups)

        def begin() -> list[Future[T]] | None:
            group = next(each, None)
            return None if group is None else [pool.submit(job) for job in group]

        futures = begin()
        while futures is not None:
            done = [future.result() for future in futures]
            futures = begin()
            yield done
            del done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Window:
    """Blocks that are shuffled together: the ``number`` of the window in its epoch, and the positions in the epoch that
    it fills, from ``start`` to before ``stop``."""

    number: int
    blocks: list[int]
    start: int
    stop: int


class StreamLoader:
    """Batches of the rows of ``blocks`` with bounded memory; a :class:`~latens.data.loader.Loader`.

    With ``shuffle``, each epoch has a different order, a function of (seed, epoch), and the rows that do not fill the
    last batch are left out of that epoch. Without it, all rows come in order. Results do not depend on ``workers``.

    A window has at least ``window`` blocks and 1,048,576 rows, or 128 MiB if that is less. Rows in different windows
    are not mixed within an epoch, but share windows in other epochs. Memory holds two windows (one in use, one being
    read) and a block for each worker. Blocks of a unit are read in order; ``window`` units take turns, one block at a
    time.

    Args:
        blocks: the data, see :class:`~latens.data.streams.blocks.Blocks`.
        batch_size: rows per batch, at most all of them.
        shuffle: whether rows are shuffled.
        seed: the seed of orders and transforms.
        exclude: the numbers of the held-out rows, increasing, ``[H]`` int64.
        window, window_rows: the smallest number of blocks, and of rows, that are shuffled together.
        window_bytes: the approximate largest number of bytes that are shuffled together.
        workers: the number of threads that read ahead; with 0, blocks are read when they are needed.
        transform: ``transform(x, rows, seed)`` for each batch, as in ``ArrayLoader``; ``rows`` are row numbers in the
            whole data, held-out rows included.

    Raises:
        InputError: the held-out rows are not increasing, are out of range, or are all rows. ``batches`` also raises
            the errors of reading.

    >>> class Numbers:
    ...     rows, sizes = 10, [3, 3, 3, 1]
    ...     def read(self, block):
    ...         return torch.arange(10).split(self.sizes)[block].clone(), None
    >>> loader = StreamLoader(Numbers(), batch_size=4, shuffle=False, exclude=[0, 5])
    >>> [batch.x.tolist() for batch in loader.batches(0)]
    [[1, 2, 3, 4], [6, 7, 8, 9]]
    """

    def __init__(
        self, blocks: Blocks, *, batch_size: int, seed: int = 0, shuffle: bool = True,
        exclude: Sequence[int] | np.ndarray | Tensor = (), window: int = 8, window_rows: int = WINDOW_ROWS,
        window_bytes: int = WINDOW_BYTES, workers: int = 2, transform: Transform | None = None,
    ):  # fmt: skip
        require(is_whole(batch_size) and batch_size >= 1, "batch_size", "a whole number from 1", batch_size)
        require(is_whole(window) and window >= 1, "window", "a whole number of blocks from 1", window)
        require(is_whole(workers) and workers >= 0, "workers", "a whole number from 0", workers)
        self.blocks, self.seed, self.shuffle, self.transform = blocks, seed, shuffle, transform
        self.window, self.window_rows, self.window_bytes, self.workers = window, window_rows, window_bytes, workers
        self.exclude = _increasing(exclude, blocks.rows)
        self._first = starts(blocks.sizes)
        self._cuts = np.searchsorted(self.exclude, self._first)  # where the held-out rows of each block begin and end
        self._kept = np.diff(self._first) - np.diff(self._cuts)
        self.rows = blocks.rows - len(self.exclude)
        if self.rows == 0:
            raise InputError(f"all {blocks.rows} rows are held out", "leave some for training")
        self.batch_size = min(batch_size, self.rows)

    def __len__(self) -> int:
        return self.rows // self.batch_size if self.shuffle else -(-self.rows // self.batch_size)

    def in_order(self) -> StreamLoader:
        """A loader of the same data without shuffling: every row once, in order, and the same transform every time."""
        other = copy.copy(self)
        other.shuffle = False
        return other

    def windows(self, epoch: int) -> list[Window]:
        """The windows of an epoch; blocks whose rows are all held out are skipped."""
        order = self._order(epoch) if self.shuffle else np.arange(len(self._kept))
        row_bytes = int(getattr(self.blocks, "row_bytes", 0))
        found: list[Window] = []
        chosen, start, stop = [], 0, 0
        for block in order[self._kept[order] > 0].tolist():
            chosen.append(block)
            stop += int(self._kept[block])
            enough = len(chosen) >= self.window and stop - start >= self.window_rows
            if enough or (stop - start) * row_bytes >= self.window_bytes:
                found.append(Window(len(found), chosen, start, stop))
                chosen, start = [], stop
        return [*found, Window(len(found), chosen, start, stop)] if chosen else found

    def _order(self, epoch: int) -> np.ndarray:
        """The blocks in the order of an epoch: units are permuted, and ``window`` of them take turns."""
        units = getattr(self.blocks, "units", None)
        bounds = np.arange(len(self._kept) + 1) if units is None else np.searchsorted(units, np.arange(units[-1] + 2))
        order = self._permutation(len(bounds) - 1, epoch, 0).tolist()
        taking_turns: list[int] = []
        for start in range(0, len(order), self.window):
            own = (range(bounds[unit], bounds[unit + 1]) for unit in order[start : start + self.window])
            taking_turns += [block for turn in zip_longest(*own) for block in turn if block is not None]
        return np.array(taking_turns)

    def batches(self, epoch: int, start: int = 0, share: Share = whole) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on, each reduced to the rows of this process (``share``). Only
        the windows that hold these rows are read."""
        seed = seed_of(self.seed, Key.TRANSFORM, epoch if self.shuffle else 0)
        for (x, c, rows), total in self._trees(epoch, start, share):
            if self.transform is not None:
                x = self.transform(x, rows, seed)
            yield Batch(x, c, None, rows, rows, total)

    def _trees(self, epoch: int, start: int, share: Share) -> Iterator[tuple[tuple[Tree, Tree, Tensor], int]]:
        """For each batch, ((x, c, rows) of this process, copied; the row numbers of the joint batch)."""
        size, first = self.batch_size, start * self.batch_size
        last = min(len(self) * size, self.rows)
        needed = [w for w in self.windows(epoch) if max(w.start, first) < min(w.stop, last)]
        own, left = share(size), None
        spaces: list[Tree] = []  # memory of finished windows, to reuse
        capacity = max((window.stop - window.start for window in needed), default=0)

        def jobs(window: Window) -> list[Callable[[], GatheredRows]]:
            space = spaces.pop() if spaces else None
            return self._jobs(epoch, window, GatheredRows(window.stop - window.start, capacity, space))

        with closing(ahead(map(jobs, needed), self.workers)) as filled:
            at = first - needed[0].start if needed else 0
            for group in filled:
                tree, space = group[0].tree(), group[0].space
                stop = len(tree[2])
                if left is not None:
                    at = min(stop, size - len(left[2]))
                    left = concat([left, trees.take(tree, slice(0, at))])
                    if len(left[2]) == size:
                        yield trees.take(left, own), size
                        left = None
                while stop - at >= size:
                    yield _copy(tree, at + own.start, at + own.stop), size
                    at += size
                if at < stop:
                    left = _copy(tree, at, stop)
                spaces.append(space)
                at = 0
        if left is not None and not self.shuffle:
            yield trees.take(left, share(len(left[2]))), len(left[2])

    def _jobs(self, epoch: int, window: Window, rows: GatheredRows) -> list[Callable[[], GatheredRows]]:
        """One job per block, which writes the block's rows to their places in the permutation of the window."""
        at = 0
        places = self._permutation(rows.count, epoch, window.number + 1) if self.shuffle else None
        jobs: list[Callable[[], GatheredRows]] = []
        for block in window.blocks:
            where = slice(at, at + int(self._kept[block]))
            at = where.stop
            jobs.append(_Read(self, block, rows, where if places is None else places[where]))
        return jobs

    def _permutation(self, count: int, epoch: int, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, Key.ORDER, epoch, number))
        return torch.randperm(count, generator=generator)

    def read(self, block: int, rows: GatheredRows, where: slice | Tensor) -> GatheredRows:
        """Put the rows of a block that are not held out into ``rows``."""
        first, size = int(self._first[block]), self.blocks.sizes[block]
        out = self.exclude[self._cuts[block] : self._cuts[block + 1]] - first
        kept = torch.from_numpy(np.delete(np.arange(size), out)) if len(out) else None
        rows.put((*read_block(self.blocks, block), torch.arange(first, first + size)), where, kept)
        return rows


@dataclass(frozen=True)
class _Read:
    loader: StreamLoader
    block: int
    rows: GatheredRows
    where: slice | Tensor

    def __call__(self) -> GatheredRows:
        return self.loader.read(self.block, self.rows, self.where)


def _copy(tree: Tree, start: int, stop: int) -> Any:
    """A copy of some rows, so that a batch that the caller keeps does not keep its whole window in memory."""
    return trees.map_tree(lambda leaf: leaf[start:stop].clone(), tree)


def _increasing(numbers: Sequence[int] | np.ndarray | Tensor, rows: int) -> np.ndarray:
    held = np.asarray(numbers, dtype=np.int64)
    if len(held) and (held[0] < 0 or held[-1] >= rows or (np.diff(held) <= 0).any()):
        what = f"the held-out rows must be increasing numbers from 0 to {rows - 1}"
        raise InputError(what, "sort them, and give each once")
    return held
