"""One or several processes on any device, through accelerate."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from latens.errors import InputError


def is_first() -> bool:
    """Whether this is the main process of a run, according to the launcher's environment variables."""
    return os.environ.get("RANK", "0") == "0"


def launched() -> int:
    """The number of processes, according to the launcher's environment variables."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_device(name: str) -> None:
    """``InputError`` unless ``name`` is "auto" or a device of this machine."""
    if name != "auto":
        usable_device(name)


def usable_device(name: str) -> torch.device:
    """The torch device of that name; ``InputError`` for an unknown kind, or one that this machine lacks."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"unknown device {name!r}", "pass auto, cpu, cuda, cuda:1, mps, …") from None
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"the device {name!r} cannot be used here ({reason})", "pass cpu or auto") from None
    return device


def _leave() -> None:
    """Destroy the process group, whose threads may otherwise abort a process that has already finished."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)


class Processes:
    """The processes of a run: the device of this one, its share of a joint batch, and sums over all.

    ``device`` is "auto" (accelerate's choice: CUDA, MPS, … or CPU) or a torch device. Under ``accelerate launch`` or
    ``torchrun`` a run has several processes. They split each joint batch and sum their gradients, so that the update is
    that of one process on the joint batch.
    """

    def __init__(self, device: str = "auto"):
        from accelerate import PartialState

        if launched() > 1:
            from torch.distributed import nn  # noqa: F401  (imported later, its defaults would keep the group alive)

        state = PartialState(cpu=True) if device == "cpu" else PartialState()
        self.device = state.device if device == "auto" else usable_device(device)
        self.count, self.index = state.num_processes, state.process_index
        if self.count > 1:
            atexit.register(_leave)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the run folder."""
        return self.index == 0

    def share(self, total: int) -> slice:
        """The rows of a joint batch of ``total`` rows that belong to this process."""
        return slice(total * self.index // self.count, total * (self.index + 1) // self.count)

    def owns(self, number: int) -> bool:
        """Whether batch ``number`` belongs to this process, where whole batches are distributed."""
        return number % self.count == self.index

    def sum(self, tensors: Sequence[MaybeTensor], factor: float = 1.0) -> list[MaybeTensor]:
        """The sums over processes of factor x tensor, in one exchange; with one process, the tensors themselves."""
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
        """Run ``action`` in the main process only; where it fails, all processes stop. Raises there what ``action``
        raises, and ``InputError`` in the others."""
        try:
            if self.is_main:
                action()
        except BaseException:
            self.any(True)
            raise
        if self.any(False):
            raise InputError("the main process stopped: see its message")
