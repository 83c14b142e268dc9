"""Choose the rows to hold out: at random, in whole groups, the latest rows, or the same share of every level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.errors import InputError
from latens.tensors.randomness import Key, seed_of

KINDS = ("group", "time", "stratified")


@dataclass(frozen=True, eq=False)
class Split:
    """How held-out rows are chosen.

    Args:
        kind: "group" (no group is on both sides), "time" (the latest rows) or "stratified" (the same share of every
            value).
        values: ``[N]``, the group, time or level of each row as a code, numbered in increasing order.
    """

    kind: str
    values: np.ndarray

    @classmethod
    def of(cls, kind: str, cells: Any, name: str) -> Split:
        """The split by the cells of a column; ``InputError`` for an unknown kind, a missing cell, or texts as times."""
        if kind not in KINDS:
            raise InputError(f"--split must be {', '.join(f'{k}=COLUMN' for k in KINDS)}, got {kind}={name}")
        values = cells if isinstance(cells, np.ndarray) else _plain_values(cells)
        missing = np.array([v is None or v != v for v in values], dtype=bool)
        if missing.any():
            row = int(missing.argmax())
            raise InputError(f"--split {kind}={name}: row {row} (counted from 0) has no value", "fill it")
        if kind == "time" and values.dtype.kind in "OUS":
            what = f"--split time={name}: the column holds texts, which have no order in time"
            raise InputError(what, "name a column of dates or numbers")
        return cls(kind, np.unique(values, return_inverse=True)[1])


def _plain_values(cells: Any) -> np.ndarray:
    from latens.schema.arrow import as_numbers, plain

    numbers = as_numbers(cells)
    return np.array(plain(cells).to_pylist(), dtype=object) if numbers is None else numbers


def held_count(rows: int, validation: float | str) -> int:
    """The number of rows to hold out. With "auto" it is a tenth of the rows, at most 5,000, or 0 if there are fewer
    than 200 rows; otherwise ``validation`` is the fraction of all rows.

    ``InputError`` for a fraction outside [0, 1), or one that leaves no rows for training or for validation.

    >>> held_count(10**8, "auto"), held_count(1000, 0.25), held_count(100, "auto")
    (5000, 250, 0)
    """
    if validation == "auto":
        return min(rows // 10, 5000) if rows >= 200 else 0
    if not isinstance(validation, int | float) or isinstance(validation, bool) or not 0 <= validation < 1:
        raise InputError(f"validation must be 'auto', a fraction from 0 to below 1, or data, got {validation!r}")
    held = round(rows * validation)
    if rows - held < 1 or (validation > 0 and held < 1):
        side = "training" if rows - held < 1 else "validation"
        what = f"a validation fraction of {validation:g} leaves none of {rows} rows for {side}"
        raise InputError(what, "give another fraction")
    return held


def split_rows(rows: int, validation: float | str, seed: int, split: Split | None = None) -> tuple[Tensor, Tensor]:
    """(training rows, validation rows) as row numbers in the order of the data. A random part is held out unless
    ``split`` is given. ``validation`` and errors are as in :func:`held_count`.
    """
    held = held_count(rows, validation)
    if validation == "auto" and split is not None:
        held = min(max(rows // 10, 1), 5000)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed_of(seed, Key.SPLIT)))
    out = order[:held].numpy().copy() if split is None or not held else _chosen(split, held, order.numpy())
    del order
    mask = np.zeros(rows, dtype=bool)
    mask[out] = True
    return torch.from_numpy(np.flatnonzero(~mask)), torch.from_numpy(np.flatnonzero(mask))


def _chosen(split: Split, held: int, order: np.ndarray) -> np.ndarray:
    """About ``held`` row numbers, chosen as the split says."""
    values = split.values
    if split.kind == "time":
        latest = np.argsort(values, kind="stable")
        return latest[-held:]
    sizes = np.bincount(values)
    if split.kind == "stratified":
        ranks = np.empty(len(values), dtype=np.int64)  # the rank of each row among the rows of its level, at random
        by_level = order[np.argsort(values[order], kind="stable")]
        ranks[by_level] = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.flatnonzero(ranks < np.floor(sizes * (held / len(values)) + 0.5)[values])
    if len(sizes) < 2:
        raise InputError("--split group: all rows are of one group, so none can be held out", "name another column")
    groups = dict.fromkeys(values[order].tolist())  # the groups, in random order
    taken: list[int] = []
    count = 0
    for group in groups:
        if count + sizes[group] <= held and len(taken) < len(sizes) - 1:
            taken.append(group)
            count += int(sizes[group])
    return np.flatnonzero(np.isin(values, taken or [sizes.argmin()]))
