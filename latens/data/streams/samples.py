"""Samples of data too large for memory, as functions of (seed, row number) that do not depend on the chunks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latens.errors import InputError, is_whole
from latens.tensors.randomness import Key, _int64, _mix, seed_of


def _hashes(seed: int, numbers: Tensor) -> Tensor:
    """A 64-bit hash of (seed, number), one to one in the number: ``[N]`` int64."""
    return _mix(_mix(numbers + _int64(seed)))


def held_out_rows(rows: int, count: int, seed: int = 0) -> np.ndarray:
    """``count`` distinct row numbers below ``rows``, increasing int64; every set of this size is equally likely.

    Memory grows with ``count``, or with the number of rows not chosen if that is less, plus the answer. Raises
    ``InputError`` unless 0 <= count <= rows.

    >>> held_out_rows(10**12, 3, seed=1).shape
    (3,)
    >>> held_out_rows(5, 5).tolist()
    [0, 1, 2, 3, 4]
    """
    if not (is_whole(rows) and is_whole(count) and 0 <= count <= rows):
        raise InputError(f"{count} of {rows} rows cannot be held out", f"give a number from 0 to {rows}")
    if count > rows // 2:
        return np.setdiff1d(np.arange(rows, dtype=np.int64), held_out_rows(rows, rows - count, seed), True)
    key, drawn = seed_of(seed, Key.STREAM_SPLIT), np.empty(0, dtype=np.int64)
    start = 0
    while len(drawn) < count:  # the result is the first `count` distinct numbers of an endless independent sequence
        fresh = _hashes(key, torch.arange(start, start + 2 * count + 16)).numpy()
        start += len(fresh)
        drawn = np.concatenate([drawn, (fresh & (2**63 - 1)) % rows])  # 63 bits: uniform up to rows / 2^63
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return np.sort(drawn[:count])
