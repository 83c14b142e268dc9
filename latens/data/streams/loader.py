"""Batches of data larger than memory, with exact positions: blocks in a random order, shuffled within windows of them.

An epoch is a function of (seed, epoch): blocks are permuted, consecutive ones form windows, rows are permuted within
their window, and batches run on across windows. So the batches from any position on need only the windows from there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from latens.data.loader import Batch, Transform
from latens.data.streams.blocks import Blocks, GatheredRows, concat, read_block, starts
from latens.errors import InputError, is_whole, require
from latens.machine.processor import one_core_each
from latens.tensors import trees
from latens.tensors.randomness import Key, seed_of
from latens.tensors.trees import Tree

WINDOW_ROWS = 1 << 18
WINDOW_BYTES = 1 << 28

T = TypeVar("T")


def ahead(groups: Iterable[Sequence[Callable[[], T]]], workers: int) -> Generator[list[T]]:
    """The results of each group of jobs, in order, the next group being worked on by ``workers`` threads meanwhile.

    The caller must let go of a group before it asks for the next, so that no more than two are alive. An error in a job
    is raised here as itself; when the iterator is closed, jobs not begun are dropped and the threads have ended. With 0
    workers jobs are done here, when they are asked for.

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
    """Blocks that are shuffled together: ``number`` in the epoch, and the epoch's positions [start, stop) it fills."""

    number: int
    blocks: list[int]
    start: int
    stop: int


class StreamLoader:
    """Batches of the rows of ``blocks``, of which a bounded number is in memory; a :class:`~latens.data.loader.Loader`.

    With ``shuffle`` every epoch has its own order, a function of (seed, epoch), and the rows that do not fill a last
    batch are left out of that epoch; without, all rows come in order. Numbers do not depend on ``workers``.

    A window has at least ``window`` blocks and 262,144 rows, or 256 MiB if that is less: rows further apart in the
    epoch's order of blocks than that are not mixed within an epoch, and meet in other epochs. Memory holds two windows
    (one in use, one being read) and a block for each worker.

    Args:
        blocks: the data, see :class:`~latens.data.streams.blocks.Blocks`.
        batch_size: rows of a batch, at most all of them.
        exclude: increasing numbers of rows held out, ``[H]`` int64.
        window, window_rows, window_bytes: the least that is shuffled together, and about the most.
        workers: threads that read ahead; 0 reads when asked.
        transform: ``transform(x, rows, seed)`` of each batch, as in ``ArrayLoader``; ``rows`` are numbers in
            the whole data, rows held out counted.

    Raises ``InputError`` for held-out rows that are not increasing or out of range, or leave none; ``batches`` raises
    what reading raises.

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
        self._cuts = np.searchsorted(self.exclude, self._first)  # of the held-out rows, by block
        self._kept = np.diff(self._first) - np.diff(self._cuts)
        self.rows = blocks.rows - len(self.exclude)
        if self.rows == 0:
            raise InputError(f"all {blocks.rows} rows are held out", "leave some to train on")
        self.batch_size = min(batch_size, self.rows)

    def __len__(self) -> int:
        return self.rows // self.batch_size if self.shuffle else -(-self.rows // self.batch_size)

    def in_order(self) -> StreamLoader:
        """The same data without shuffle: every row once, in order, its transform fixed."""
        other = copy.copy(self)
        other.shuffle = False
        return other

    def windows(self, epoch: int) -> list[Window]:
        """The windows of an epoch; blocks of which all rows are held out are in none."""
        order = np.arange(len(self._kept))
        if self.shuffle:
            order = self._permutation(len(order), epoch, 0).numpy()
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

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on; only the windows that hold their rows are read."""
        seed = seed_of(self.seed, Key.TRANSFORM, epoch if self.shuffle else 0)
        for x, c, rows in self._trees(epoch, start):
            if self.transform is not None:
                x = self.transform(x, rows, seed)
            yield Batch(x, c, None, rows, rows)

    def _trees(self, epoch: int, start: int) -> Iterator[tuple[Tree, Tree, Tensor]]:
        """(x, c, rows) of each batch, with memory of its own."""
        size, first = self.batch_size, start * self.batch_size
        last = min(len(self) * size, self.rows)
        needed = [w for w in self.windows(epoch) if max(w.start, first) < min(w.stop, last)]
        left: Any = None
        spaces: list[Tree] = []  # of windows that are used up, for those to come
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
                        yield left
                        left = None
                while stop - at >= size:
                    yield _copy(tree, at, at + size)
                    at += size
                if at < stop:
                    left = _copy(tree, at, stop)
                spaces.append(space)
                at = 0
        if left is not None and not self.shuffle:
            yield left

    def _jobs(self, epoch: int, window: Window, rows: GatheredRows) -> list[Callable[[], GatheredRows]]:
        """One job a block, which lays its rows where the permutation of the window wants them."""
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
    """Rows with memory of their own, so that a batch that is kept keeps no window alive."""
    return trees.map_tree(lambda leaf: leaf[start:stop].clone(), tree)


def _increasing(numbers: Sequence[int] | np.ndarray | Tensor, rows: int) -> np.ndarray:
    held = np.asarray(numbers, dtype=np.int64)
    if len(held) and (held[0] < 0 or held[-1] >= rows or (np.diff(held) <= 0).any()):
        raise InputError(f"the held-out rows must be increasing numbers from 0 to {rows - 1}", "sort them, each once")
    return held
