"""What a batched run is made of: the trainer of each model, the step, and batches side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latens.data.loader import ArrayLoader, Batch
from latens.errors import FitError
from latens.training.loop import Trainer, parts_with
from latens.training.stacked import NotTogether
from latens.training.step import terms


class Member(Trainer):
    """The trainer of one of the models: everything but the step, and its validation where that was done for all."""

    found: dict[str, float] | None = None
    failure: FitError | None = None
    finish: Callable[[], None] = staticmethod(lambda: None)

    def validate(self, loader: Any) -> dict[str, float]:
        return super().validate(loader) if self.found is None else self.found

    @property
    def player(self) -> Any:
        return self.players["model"]

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What its checkpoint would hold."""
        own, memory = self.store, Memory()
        self.store = memory  # type: ignore[assignment]
        try:
            self.save()
        finally:
            self.store = own
        assert memory.kept is not None
        return memory.kept

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Continue from what :meth:`saved` gave."""
        own, memory = self.store, Memory()
        memory.save(tensors, record)
        self.store = memory  # type: ignore[assignment]
        try:
            self.load()
        finally:
            self.store = own


class MemberLoss(nn.Module):
    """Model and objective as one module whose ``forward`` is a step up to the losses: loss, terms ``[2]``, and what
    the ``observers`` see."""

    def __init__(self, member: Member):
        super().__init__()
        self.model, self.objective = member.model, member.objective

    def forward(self, x: Any, c: Any, weight: Tensor | None, observers: dict[str, Any]) -> Any:
        draw = self.objective.draw(self.model, x, c)
        draw.weight = weight
        loss = self.objective.losses(self.model, x, draw)["model"]
        observed = {name: part.observe(x, draw) for name, part in observers.items()}
        return loss, terms(draw), {name: value for name, value in observed.items() if value is not None}


class Memory:
    """A store that keeps what it is given."""

    folder = None
    kept: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def exists(self) -> bool:
        return self.kept is not None

    def save(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        self.kept = tensors, record

    def load(self) -> Any:
        return self.kept


def joined(batches: Sequence[Batch]) -> dict[str, Any]:
    """x, c and weight of several batches, those that are there, with a leading axis."""
    parts = {name: [getattr(batch, name) for batch in batches] for name in ("x", "c", "weight")}
    return {name: stacked(part) for name, part in parts.items() if part[0] is not None}


def stacked(given: Sequence[Any], dim: int = 0) -> Any:
    first = given[0]
    if isinstance(first, Tensor):
        return torch.stack(list(given), dim)
    if isinstance(first, tuple):
        return tuple(stacked([each[i] for each in given], dim) for i in range(len(first)))
    return {key: stacked([each[key] for each in given], dim) for key in first}


def require_alike(members: Sequence[Member]) -> None:
    """``NotTogether`` unless the runs take the same steps in the same rhythm, each with one player."""
    for member in members:
        if list(member.players) != ["model"] or member.player.every != 1 or not member.player.ordered:
            raise NotTogether("there are several players, or nothing to train")
        if member.settings.compile or member.processes.count > 1 or not isinstance(member.loader, ArrayLoader):
            raise NotTogether("the step is compiled, the rows are streamed, or there are several processes")
        if parts_with("needs_grad_at_eval", member.model):
            raise NotTogether("a part needs gradients at evaluation")
    rhythm = {
        (len(m.loader), m.loader.batch_size, m.settings.epochs, m.every, m.loader.weight is None)  # type: ignore[attr-defined]
        for m in members
    }
    if len(rhythm) != 1:
        raise NotTogether("the runs differ in their number of rows, batch_size or epochs")
