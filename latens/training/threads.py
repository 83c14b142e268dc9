"""The number of threads for a step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from latens.networks import has_convolutions
from latens.training.settings import Settings

SMALL = 40_000_000  # multiplications (weights x rows); up to this, waking a second thread costs more than it saves


def is_small(model: nn.Module, rows: int) -> bool:
    """Whether a step on this many rows is too small for several threads. The decision depends on counts alone. So a
    resumed run uses the same number of threads, and adds numbers in the same order.

    >>> is_small(nn.Linear(10, 64), 512), is_small(nn.Linear(784, 512), 128), is_small(nn.Conv2d(1, 8, 3), 8)
    (True, False, False)
    """
    weights = sum(p.numel() for p in model.parameters())
    return not has_convolutions(model) and weights * rows <= SMALL


@contextmanager
def threads_for(model: nn.Module, settings: Settings) -> Iterator[None]:
    """Within the block, torch uses one thread if a step is small and idle threads sleep (OMP_WAIT_POLICY, which the
    command line sets). Otherwise, and after the block, it uses as many threads as before. Without OMP_WAIT_POLICY, idle
    threads spin, so waking them costs nothing."""
    before, sleep = torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if before > 1 and sleep and is_small(model, int(settings.batch_size)):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
