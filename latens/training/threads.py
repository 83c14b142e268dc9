"""The number of threads for a step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from latens.networks import has_convolutions
from latens.training.settings import Settings

SMALL = 40_000_000  # multiplications (weights x rows) up to which waking a second thread costs more than it saves


def is_small(model: nn.Module, rows: int, models: int = 1) -> bool:
    """Whether a step is too small for several threads; from counts alone, since a resumed run must add in the same
    order.

    >>> is_small(nn.Linear(10, 64), 512), is_small(nn.Linear(784, 512), 128), is_small(nn.Conv2d(1, 8, 3), 8)
    (True, False, False)
    """
    weights = sum(p.numel() for p in model.parameters())
    return not has_convolutions(model) and weights * rows * models <= SMALL


@contextmanager
def threads_for(model: nn.Module, settings: Settings, models: int = 1) -> Iterator[None]:
    """For the length of a block, compute on one thread where a step is small and idle threads sleep (OMP_WAIT_POLICY,
    which the command line sets). Threads that spin, the default of other processes, need no waking."""
    before, sleep = torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if before > 1 and sleep and is_small(model, int(settings.batch_size), models):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
