"""Sums of gradients over processes, sent in buckets while the rest of the backward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from latens.training.processes import Processes

BUCKET = 1 << 18  # the least number of values that are sent together (1 MiB of float32)


class _Bucket:
    """Parameters of one dtype and device whose gradients are sent together. Each has a flag: whether any process has a
    gradient for it."""

    def __init__(self, parameters: list[nn.Parameter]):
        self.parameters = parameters
        self.sizes = [p.numel() for p in parameters]
        self.flat = parameters[0].detach().new_zeros(sum(self.sizes) + len(parameters))
        *parts, self.flags = self.flat.split([*self.sizes, len(parameters)])
        self.parts = [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]
        self.missing = 0

    def filled(self) -> Tensor:
        """All gradients and flags, with zeros for the gradients that this process does not have."""
        if self.missing:
            for part, flag in zip(self.parts, self.flags.tolist(), strict=True):
                if not flag:
                    part.zero_()
        return self.flat


class Reduction:
    """Sums the gradients of parameters, and the figures of the step, over the processes of a run.

    A bucket is sent when it has all its gradients and every bucket before it has been sent (Li et al. 2020). So all
    processes send in the same order, whatever the order of their backward passes. The figures are sent with the last
    bucket, so a small model needs only one exchange per step.

    Args:
        parameters: the parameters whose gradients are summed; the gradients of the last parameters are ready first.
        processes: the processes of the run.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], processes: Processes):
        self.processes, self.buckets = processes, [_Bucket(group) for group in _groups(parameters)]
        self._place = {p: (bucket, n) for bucket in self.buckets for n, p in enumerate(bucket.parameters)}
        self._waits: list[Callable[[], None]] = []  # one per bucket that has been sent
        self._factor = 1.0

    @contextmanager
    def receiving(self, factor: float) -> Iterator[None]:
        """A block in which a backward pass gives the gradients. They are multiplied by ``factor``, this process's
        fraction of the joint batch."""
        self._factor, self._waits = factor, []
        for bucket in self.buckets:
            bucket.flags.zero_()
            bucket.missing = len(bucket.parameters)
        hooks = [p.register_hook(partial(self._receive, p)) for p in self._place]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _receive(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        bucket, number = self._place[parameter]
        torch.mul(gradient, self._factor, out=bucket.parts[number])
        bucket.flags[number] = 1
        bucket.missing -= 1
        self._send(lambda bucket: bucket.missing == 0)

    def _send(self, ready: Callable[[_Bucket], bool]) -> None:
        """Send the buckets in order while they are ready. The last bucket waits for :meth:`finish`."""
        while len(self._waits) < len(self.buckets) - 1 and ready(self.buckets[len(self._waits)]):
            self._waits.append(self.processes.begin_sum(self.buckets[len(self._waits)].filled()))

    @torch.no_grad()
    def finish(self, figures: Sequence[Tensor]) -> tuple[dict[nn.Parameter, Tensor | None], list[Tensor]]:
        """({parameter: the sum of its gradients, None if no process has one}, the sums of ``figures``)."""
        self._send(lambda bucket: True)
        last = [bucket.filled() for bucket in self.buckets[-1:]]
        summed = self.processes.sum([*last, *figures])
        for flat, total in zip(last, summed):
            flat.copy_(total)
        for wait in self._waits:
            wait()
        found: dict[nn.Parameter, Tensor | None] = {}
        for bucket in self.buckets:
            for p, part, flag in zip(bucket.parameters, bucket.parts, bucket.flags.tolist(), strict=True):
                found[p] = part if flag else None
        return found, summed[len(last) :]


def _groups(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters of the same dtype and device in buckets, the last parameters first."""
    groups: list[list[nn.Parameter]] = []
    size = BUCKET
    for p in reversed(parameters):
        if size >= BUCKET or (p.dtype, p.device) != (groups[-1][0].dtype, groups[-1][0].device):
            groups.append([])
            size = 0
        groups[-1].append(p)
        size += p.numel()
    return groups
