"""One or several processes, on whatever device there is, through accelerate."""

from __future__ import annotations

import torch
from torch import Tensor


class Processes:
    """The processes of a run: which device this one has, which rows of a joint batch are its own, and sums over all.

    ``device``: "auto" (accelerate's choice: CUDA, MPS, … or CPU) or a torch device. Started by ``accelerate launch`` or
    ``torchrun``, a run has several processes; every joint batch is split among them and gradients are summed
    explicitly, so that the update is that of one process on the joint batch.
    """

    def __init__(self, device: str = "auto"):
        from accelerate import PartialState

        state = PartialState(cpu=True) if device == "cpu" else PartialState()
        self.device = state.device if device == "auto" else torch.device(device)
        self.count, self.index = state.num_processes, state.process_index

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def share(self, total: int) -> slice:
        """The rows of a joint batch of ``total`` rows that belong to this process."""
        return slice(total * self.index // self.count, total * (self.index + 1) // self.count)

    def sum(self, tensors: list[Tensor | None]) -> list[Tensor]:
        """The sum over the processes of each tensor, in one exchange; with one process, the tensors themselves."""
        if self.count == 1 or not tensors:
            return tensors  # type: ignore[return-value]
        from torch import distributed

        present = [t for t in tensors if t is not None]
        flat = torch.cat([t.detach().double().flatten() for t in present]).to(self.device)
        distributed.all_reduce(flat)
        parts = iter(flat.split([t.numel() for t in present]))
        return [None if t is None else next(parts).view(t.shape).to(t) for t in tensors]  # type: ignore[misc]

    def any(self, value: bool) -> bool:
        """Whether the value is true in any process."""
        if self.count == 1:
            return value
        [total] = self.sum([torch.tensor([float(value)])])
        return bool(total.item() > 0)
