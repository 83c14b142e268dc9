"""One or several processes on any device, through accelerate."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor

from latens.errors import FitError, InputError
from latens.machine.launcher import launched, was_restarted


def check_device(name: str) -> None:
    """Raise ``InputError`` unless ``name`` is "auto" or a device of this machine."""
    if name != "auto":
        usable_device(name)


def usable_device(name: str) -> torch.device:
    """The torch device of that name. Raise ``InputError`` if the kind is unknown, or this machine has no such
    device."""
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
    """Destroy the process group. Otherwise its threads may abort a process that has already finished."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


class LostProcess(FitError):
    """Another process of the run has ended, so this one cannot go on."""


@contextmanager
def _all_here(remedy: str = "see its message") -> Iterator[None]:
    """A block that communicates with the other processes. It raises ``LostProcess`` if one of them has ended."""
    try:
        yield
    except RuntimeError as error:  # raised by the transport, with a text that differs by backend
        if launched() == 1:
            raise
        raise LostProcess(f"another process of this run has ended, or cannot be reached: {remedy}") from error


def _rejoin() -> None:
    """After a restart by torchrun, meet the other processes under a new name. The store may outlive the attempt,
    and then still holds the addresses of processes that have ended."""
    from torch import distributed

    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (was_restarted() and kept and launched() > 1) or distributed.is_initialized():
        return
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = f"latens-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    store = distributed.PrefixStore(attempt, distributed.TCPStore(*place, is_master=False))
    rank, count = int(os.environ["RANK"]), launched()
    distributed.init_process_group(store=store, rank=rank, world_size=count)


class Processes:
    """The processes of a run: the device of this process, its share of a joint batch, and sums over all processes.

    ``device`` is "auto" (accelerate's choice: CUDA, MPS, … or CPU) or a torch device. Under ``accelerate launch`` or
    ``torchrun`` a run has several processes. They split each joint batch and sum their gradients, so the update is the
    same as that of one process on the joint batch.
    """

    def __init__(self, device: str = "auto"):
        from accelerate import PartialState

        if launched() > 1:
            from torch.distributed import nn  # noqa: F401  (a later import would keep the group alive)

        with _all_here("check MASTER_ADDR, and set GLOO_SOCKET_IFNAME to the network between the machines"):
            _rejoin()
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
        """Whether batch ``number`` belongs to this process, when whole batches are dealt out to the processes."""
        return number % self.count == self.index

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of the tensors over processes, in one exchange with the precision of the most precise tensor
        (float64 for whole numbers). With one process, return the tensors themselves. Raises ``FitError`` if a process
        has ended."""
        if self.count == 1 or not tensors:
            return list(tensors)
        kinds = {t.dtype if t.is_floating_point() else torch.float64 for t in tensors}
        flat = torch.cat([t.detach().to(self.device, reduce(torch.promote_types, kinds)).flatten() for t in tensors])
        self.begin_sum(flat)()
        return [part.view(t.shape).to(t) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors)]

    def begin_sum(self, flat: Tensor) -> Callable[[], None]:
        """Begin to replace a tensor by its sum over processes. The returned function waits for the sum."""
        from torch import distributed

        with _all_here():
            work = distributed.all_reduce(flat, async_op=True)

        def wait() -> None:
            with _all_here():
                work.wait()

        return wait

    def any(self, value: bool) -> bool:
        """Whether the value is true in any process."""
        return value if self.count == 1 else bool(self.sum([torch.tensor([float(value)])])[0].item() > 0)

    def first(self, action: Callable[[], object]) -> None:
        """Run ``action`` in the main process only. If it fails, all processes stop: the main process raises the error
        of ``action``, and the others raise ``InputError``."""
        try:
            if self.is_main:
                action()
        except BaseException:
            self.any(True)
            raise
        if self.any(False):
            raise InputError("the main process stopped: see its message")
