"""Samples of data too large to hold: functions of (seed, row number), whatever the order and size of the chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens import trees
from latens.data.streams.blocks import concat
from latens.errors import InputError, is_whole, require
from latens.randomness import _int64, _mix, seed_of

_HELD_OUT, _SAMPLE = 31, 32  # keys of the seeds


def _hashes(seed: int, numbers: Tensor) -> Tensor:
    """64 mixed bits of (seed, number), one to one in the number: ``[N]`` int64."""
    return _mix(_mix(numbers + _int64(seed)))


class BottomK:
    """A uniform sample of ``k`` rows of a stream: those of the smallest hash of (seed, row number).

    It is the same whatever the order of the chunks and their sizes, two of the same k and seed can be merged, and a row
    seen twice counts once (bottom-k sketch: Cohen and Kaplan 2007). A chunk is a tree of tensors, or a pyarrow table or
    record batch; all of one kind.

    >>> sample = BottomK(3, seed=0)
    >>> for first in range(0, 100, 10):
    ...     sample.update(first, torch.arange(first, first + 10))
    >>> numbers, rows = sample.result()
    >>> len(numbers), torch.equal(numbers, rows)
    (3, True)
    """

    def __init__(self, k: int, seed: int = 0):
        require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
        self.k, self.seed = k, seed
        self._key = seed_of(seed, _SAMPLE)
        self._limit: int | None = None  # the k-th smallest hash, as of late: what is larger cannot count
        self._hashes = torch.empty(0, dtype=torch.int64)
        self._numbers = torch.empty(0, dtype=torch.int64)
        self._parts: list[Any] = []  # rows in the order of _numbers

    def update(self, first_row: int, table: Any) -> None:
        """See the rows ``first_row, first_row + 1, ...`` of the stream."""
        rows = _rows_of(table)
        numbers = torch.arange(first_row, first_row + rows)
        hashes = _hashes(self._key, numbers)
        if self._limit is None:
            inside = hashes.argsort()[: self.k]
        else:
            inside = torch.nonzero(hashes < self._limit)[:, 0]
        if len(inside):
            self._add(hashes[inside], numbers[inside], [_take(table, inside)])

    def merge(self, other: BottomK) -> None:
        """See what ``other`` has seen."""
        if (self.k, self.seed) != (other.k, other.seed):
            raise ValueError(f"samples of other k or seed do not merge: {self.k, self.seed} and {other.k, other.seed}")
        if other._parts:
            self._add(other._hashes, other._numbers, other._parts)  # in the order of its parts

    def result(self) -> tuple[Tensor, Any]:
        """The row numbers, increasing, ``[min(k, N)]`` int64, and the rows. Raises ``InputError`` where none was
        seen."""
        if not self._parts:
            raise InputError("the data has no rows to sample: give at least one")
        self._prune()
        order = self._numbers.argsort()
        return self._numbers[order], _take(_join(self._parts), order)

    def _add(self, hashes: Tensor, numbers: Tensor, parts: list[Any]) -> None:
        self._hashes, self._numbers = torch.cat([self._hashes, hashes]), torch.cat([self._numbers, numbers])
        self._parts = [*self._parts, *parts]
        if len(self._hashes) > 2 * self.k:
            self._prune()

    def _prune(self) -> None:
        """Keep the k smallest hashes, each once."""
        smallest = torch.from_numpy(np.unique(self._hashes.numpy(), return_index=True)[1])[: self.k]
        self._hashes, self._numbers = self._hashes[smallest], self._numbers[smallest]
        self._parts = [_take(_join(self._parts), smallest)]
        self._limit = int(self._hashes[-1]) if len(smallest) == self.k else None


def _is_arrow(table: Any) -> bool:
    return hasattr(table, "num_rows") and hasattr(table, "schema")


def _rows_of(table: Any) -> int:
    return table.num_rows if _is_arrow(table) else trees.rows(table)


def _take(table: Any, index: Tensor) -> Any:
    """Rows with memory of their own."""
    return table.take(index.numpy()) if _is_arrow(table) else trees.take(table, index)


def _join(parts: list[Any]) -> Any:
    if not _is_arrow(parts[0]):
        return concat(parts)
    import pyarrow as pa

    return pa.concat_tables(part if isinstance(part, pa.Table) else pa.Table.from_batches([part]) for part in parts)


def held_out_rows(rows: int, count: int, seed: int = 0) -> np.ndarray:
    """``count`` distinct row numbers below ``rows``, increasing int64: every set of that size equally likely.

    Memory goes with ``count`` (or with what is left, if that is less, and the answer). Raises ``InputError`` unless
    0 <= count <= rows.

    >>> held_out_rows(10**12, 3, seed=1).shape
    (3,)
    >>> held_out_rows(5, 5).tolist()
    [0, 1, 2, 3, 4]
    """
    if not (is_whole(rows) and is_whole(count) and 0 <= count <= rows):
        raise InputError(f"cannot hold out {count} of {rows} rows: give a number from 0 to {rows}")
    if count > rows // 2:
        return np.setdiff1d(np.arange(rows, dtype=np.int64), held_out_rows(rows, rows - count, seed), True)
    key, drawn = seed_of(seed, _HELD_OUT), np.empty(0, dtype=np.int64)
    start = 0
    while len(drawn) < count:  # the first `count` different numbers of an endless sequence of independent ones
        fresh = _hashes(key, torch.arange(start, start + 2 * count + 16)).numpy()
        start += len(fresh)
        drawn = np.concatenate([drawn, (fresh & (2**63 - 1)) % rows])  # 63 bits: uniform within rows / 2^63
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return np.sort(drawn[:count])
