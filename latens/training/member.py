"""The parts of a batched run: the trainer of each model, the step, and joined batches."""

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
    """The trainer of one model of a batched run, without the step, and without validation where that is joint."""

    found: dict[str, float] | None = None
    failure: FitError | None = None
    finish: Callable[[], None] = staticmethod(lambda: None)

    def validate(self, loader: Any) -> dict[str, float]:
        """The figures of a joint validation, where there was one, otherwise of its own."""
        return super().validate(loader) if self.found is None else self.found

    @property
    def player(self) -> Any:
        """The optimiser of the only player."""
        return self.players["model"]

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, record) of its checkpoint."""
        own, memory = self.store, Memory()
        self.store = memory  # type: ignore[assignment]
        try:
            self.save()
        finally:
            self.store = own
        assert memory.kept is not None
        return memory.kept

    def restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Restore what :meth:`saved` returned."""
        own, memory = self.store, Memory()
        memory.save(tensors, record)
        self.store = memory  # type: ignore[assignment]
        try:
            self.load()
        finally:
            self.store = own


class MemberLoss(nn.Module):
    """Model and objective as one module, whose ``forward`` is a step up to its loss."""

    def __init__(self, member: Member):
        super().__init__()
        self.model, self.objective = member.model, member.objective

    def forward(self, x: Any, c: Any, weight: Tensor | None, observers: dict[str, Any]) -> Any:
        """(loss, terms ``[2]``, {observer: observed sums})."""
        draw = self.objective.draw(self.model, x, c)
        draw.weight = weight
        loss = self.objective.losses(self.model, x, draw)["model"]
        observed = {name: part.observe(x, draw) for name, part in observers.items()}
        return loss, terms(draw), {name: value for name, value in observed.items() if value is not None}


class Memory:
    """A store of checkpoints in memory."""

    folder = None
    kept: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def exists(self) -> bool:
        """Whether anything was saved."""
        return self.kept is not None

    def save(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Keep tensors and record."""
        self.kept = tensors, record

    def load(self) -> Any:
        """(tensors, record) as saved."""
        return self.kept


def joined(batches: Sequence[Batch]) -> dict[str, Any]:
    """x, c and weight of several batches, stacked along a leading axis; those that are None are left out."""
    parts = {name: [getattr(batch, name) for batch in batches] for name in ("x", "c", "weight")}
    return {name: stacked(part) for name, part in parts.items() if part[0] is not None}


def stacked(given: Sequence[Any], dim: int = 0) -> Any:
    """Equal trees as one, with their tensors stacked along ``dim``."""
    first = given[0]
    if isinstance(first, Tensor):
        return torch.stack(list(given), dim)
    if isinstance(first, tuple):
        return tuple(stacked([each[i] for each in given], dim) for i in range(len(first)))
    return {key: stacked([each[key] for each in given], dim) for key in first}


def require_alike(members: Sequence[Member]) -> None:
    """``NotTogether`` unless the runs have the same numbers of steps and validations, and one player each."""
    for member in members:
        if list(member.players) != ["model"] or member.player.every != 1 or not member.player.ordered:
            raise NotTogether("there are several players, or there is nothing to train")
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
