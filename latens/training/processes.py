"""One or several processes, on whatever device there is, through accelerate."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from latens.errors import InputError


def is_first() -> bool:
    """Whether this is the main process of a run, as the launcher says in the environment."""
    return os.environ.get("RANK", "0") == "0"


def launched() -> int:
    """How many processes the launcher says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_device(name: str) -> None:
    """``InputError`` unless "auto" or a device of this machine."""
    if name != "auto":
        usable_device(name)


def usable_device(name: str) -> torch.device:
    """The torch device of that name; ``InputError`` where there is no such kind, or none of it on this machine."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"unknown device {name!r}: give auto, cpu, cuda, cuda:1, mps, …") from None
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"the device {name!r} cannot be used here ({reason}): give cpu or auto") from None
    return device


def _leave() -> None:
    """Take the group down: one whose threads live on may abort a process that has already answered."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)


class Processes:
    """The processes of a run: which device this one has, which rows of a joint batch are its own, and sums over all.

    ``device``: "auto" (accelerate's choice: CUDA, MPS, … or CPU) or a torch device. Started by ``accelerate launch`` or
    ``torchrun``, a run has several processes; every joint batch is split among them and gradients are summed
    explicitly, so that the update is that of one process on the joint batch.
    """

    def __init__(self, device: str = "auto"):
        from accelerate import PartialState

        if launched() > 1:
            from torch.distributed import nn  # noqa: F401  (imported later, its defaults hold the group for ever)

        state = PartialState(cpu=True) if device == "cpu" else PartialState()
        self.device = state.device if device == "auto" else usable_device(device)
        self.count, self.index = state.num_processes, state.process_index
        if self.count > 1:
            atexit.register(_leave)

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def share(self, total: int) -> slice:
        """The rows of a joint batch of ``total`` rows that belong to this process."""
        return slice(total * self.index // self.count, total * (self.index + 1) // self.count)

    def owns(self, number: int) -> bool:
        """Whether the batch of that number is this process's, where whole batches are dealt out."""
        return number % self.count == self.index

    def sum(self, tensors: Sequence[MaybeTensor], factor: float = 1.0) -> list[MaybeTensor]:
        """The sum over the processes of factor x tensor, in one exchange; with one process, the tensors themselves."""
        present = [t for t in tensors if t is not None]
        if self.count == 1 or not present:
            return list(tensors)
        from torch import distributed

        flat = torch.cat([t.detach().to(self.device, torch.float64).flatten() for t in present]) * factor
        distributed.all_reduce(flat)
        parts = iter(flat.split([t.numel() for t in present]))
        return [None if t is None else next(parts).view(t.shape).to(t) for t in tensors]

    def any(self, value: bool) -> bool:
        """Whether the value is true in any process."""
        return value if self.count == 1 else bool(self.sum([torch.tensor([float(value)])])[0].item() > 0)

    def first(self, action: Callable[[], object]) -> None:
        """Let the main process alone act on the run folder; where it fails, every process stops."""
        try:
            if self.is_main:
                action()
        except BaseException:
            self.any(True)
            raise
        if self.any(False):
            raise InputError("the main process stopped: its message says why")
