"""Train several small models of one structure in one batched run.

A step of S models is one evaluation with a leading axis S on weights, rows and noise (``torch.vmap``), so that the
overhead of a step is paid once, not S times. All else is each model's own: order of rows, noise, schedule, validation,
best weights. Each model becomes, to rounding, what training it alone gives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latens.data.loader import ArrayLoader, Batch
from latens.errors import FitError, InputError
from latens.tensors import trees
from latens.tensors.randomness import Drawn, Key, cuda_devices, recorded, reseed, seeded, taped
from latens.training.callbacks import Interrupted, Progress, StopSignal
from latens.training.checkpoint import Checkpoints
from latens.training.member import Member, MemberLoss, joined, require_alike, stacked
from latens.training.settings import learning_rate_at
from latens.training.stacked import NotTogether, Stack
from latens.training.step import trimmed_mean
from latens.training.threads import threads_for

CELLS = 4_000_000  # of the rows validated at once


class Together:
    """Trains members in one batched run; a :class:`Member` replaces the :class:`latens.training.Trainer` of a model.

    The models share structure, number of rows, ``batch_size`` and ``epochs``; seeds, learning rates and other numbers
    may differ. The noise of model s at step t comes from (seed s, t); it is drawn outside the step and passed to
    :func:`latens.tensors.randomness.standard_normal`. A member that stops early leaves the batch, and its ``finish()``
    is called; one whose loss or gradient is not finite leaves with that error as its ``failure``.

    Args:
        members: the trainers of the models.
        store: for the joint checkpoint.
        names: of the members, in the joint checkpoint.
        progress: of the run.

    Raises:
        NotTogether: the models cannot be trained as one: another structure, several players, noise that is not drawn
            through ``standard_normal``, operations without a batching rule.
    """

    def __init__(
        self, members: Sequence[Member], *, store: Checkpoints | None = None, names: Sequence[str] = (),
        progress: Progress | None = None,
    ):  # fmt: skip
        self.members, self.store, self.progress = list(members), store, progress or Progress()
        self.names = list(names) or [str(number) for number in range(len(self.members))]
        self.active = self.members
        require_alike(self.members)
        self._drawn: dict[Any, list[Drawn]] = {}
        self._held: tuple[Any, ...] | None = None
        self._saved = -math.inf
        first = self.members[0]
        batch = next(first.loader.batches(0)).to(first.processes.device)
        with seeded(0):
            self.used = self._try_alone(first, batch)
            self._stack()
            if store is None or not store.exists():
                self._try_batched()

    # Whether the models can be trained together

    def _noise_of(self, member: Member, batch: Batch, key: int) -> list[Drawn]:
        """The noise that a draw takes from ``standard_normal``; ``NotTogether`` where it uses other randomness."""
        shape = (key, len(batch.rows))
        if shape not in self._drawn:
            reseed(0)
            with recorded() as drawn, torch.no_grad():
                member.objective.draw(member.model, batch.x, batch.c)
            after = torch.get_rng_state()
            reseed(0)
            for each in drawn:
                each.again()
            if not torch.equal(after, torch.get_rng_state()):
                raise NotTogether("a part draws noise of its own")
            self._drawn[shape] = drawn
        return self._drawn[shape]

    def _try_alone(self, member: Member, batch: Batch) -> list[bool]:
        """Which trained parameters the loss depends on."""
        member.model.train()
        self._noise_of(member, batch, Key.STEP)
        losses, _, _ = member.forward(batch.x, batch.c, batch.weight)
        found = torch.autograd.grad(losses["model"], member.player.parameters, allow_unused=True)
        of = {id(p): g is not None for p, g in zip(member.player.parameters, found, strict=True)}
        return [of[id(p)] for p in member.player.ordered]

    def _try_batched(self) -> None:
        """Compare the losses of a first step, batched, with those of each model alone."""
        batches = [next(m.loader.batches(0)).to(m.processes.device) for m in self.active]
        with torch.no_grad():
            try:
                together = self._losses(batches)[0].tolist()
            except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, StopIteration) as error:
                raise NotTogether(f"a part cannot be batched ({' '.join(str(error).split())[:200]})") from error
            for member, batch, found in zip(self.active, batches, together, strict=True):
                reseed(member.settings.seed, Key.STEP, member.step)
                alone = member.forward(batch.x, batch.c, batch.weight)[0]["model"].item()
                if not math.isclose(alone, found, rel_tol=1e-3, abs_tol=1e-3) and math.isfinite(alone):
                    raise NotTogether("a part gives other numbers when batched")

    # Weights and optimiser

    def _stack(self) -> None:
        """Stack the weights of the active members, and their optimisers' moments."""
        trained = [[p for p, used in zip(m.player.ordered, self.used, strict=True) if used] for m in self.active]
        for member in self.active:
            member.model.train()
        self.stack = Stack([MemberLoss(member) for member in self.active], trained)
        self._batched = torch.vmap(self._one, in_dims=0, randomness="error")
        self._validated = torch.vmap(
            torch.vmap(self._one, in_dims=(None, None, None, 0, 0)), in_dims=0, randomness="error"
        )
        self._held = None
        places = [start for start, *_ in self.stack.places] + [self.stack.weights.shape[1]]
        self._segments = []  # (weights, gradients, moments, weight decay) of each member
        for s, member in enumerate(self.active):
            count, segments = 0, []
            for group, decay in member.player.groups:
                inside = {id(p) for p in group}
                begin, count = count, count + sum(id(p) in inside for p in trained[s])
                if begin == count:
                    continue
                columns = slice(places[begin], places[count])
                segments.append((columns, decay))
            self._segments.append(segments)
        self._take_moments(trained)

    def _take_moments(self, trained: list[list[nn.Parameter]]) -> None:
        """Make the members' moments views of the joint ones."""
        self._moments = torch.zeros_like(self.stack.weights), torch.zeros_like(self.stack.weights)
        for s, (member, parameters) in enumerate(zip(self.active, trained, strict=True)):
            held = member.player.moments
            views = zip(*(self.stack.own(matrix, s) for matrix in self._moments), strict=True)
            for p, pair in zip(parameters, views, strict=True):
                for old, view in zip(held.get(p, ()), pair, strict=False):
                    view.copy_(old)
                held[p] = pair

    # One step

    def _one(self, learned: list[Tensor], rest: dict[str, Tensor], numbers: Any, noise: Any, given: Any) -> Any:
        """(loss, terms, observations) of one model; this is the function that is batched."""
        weights = dict(zip(self.stack.names, learned, strict=True)) | rest
        with taped(noise), self.stack.swapped(weights, numbers):
            return self.stack.first(given["x"], given.get("c"), given.get("weight"), self.active[0].observers)

    def _losses(self, batches: Sequence[Batch]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(losses ``[S]``, terms ``[S, 2]``, observations ``[S, …]``) of a step."""
        noise = []
        for member, batch in zip(self.active, batches, strict=True):
            drawn = self._noise_of(member, batch, Key.STEP)
            reseed(member.settings.seed, Key.STEP, member.step)
            noise.append([each.again() for each in drawn])
            member.set_anneal()
        tape = [torch.stack(column) for column in zip(*noise, strict=True)]
        stack = self.stack
        return self._batched(stack.leaves, stack.rest, stack.numbers, tape, joined(batches))

    def _step(self, batches: Sequence[Batch]) -> None:
        """One step of all active members; those that fail leave."""
        batches = [b.to(m.processes.device) for m, b in zip(self.active, batches, strict=True)]
        losses, terms, observed = self._losses(batches)
        found = torch.autograd.grad(losses.sum(), self.stack.leaves)
        torch._foreach_copy_(self.stack.split(self.stack.grads), list(found))
        norms = torch.linalg.vector_norm(self.stack.grads, dim=1)
        figures = torch.cat([losses.detach()[:, None], terms, norms[:, None].to(terms)], 1).tolist()
        moved = [False] * len(self.active)
        for s, (member, (loss, _, _, norm)) in enumerate(zip(self.active, figures, strict=True)):
            clip, moved[s] = member.settings.clip, math.isfinite(loss) and norm < member.settings.longest
            if moved[s] and 0 < clip < norm:
                self.stack.grads[s] *= clip / norm
            if moved[s]:
                self._move(s, member)
        for s, (member, (loss, _, _, norm)) in enumerate(zip(self.active, figures, strict=True)):
            if not moved[s]:
                self.leave_out(member, batches[s], [loss, norm])
        for s, (member, (loss, distortion, rate, _)) in enumerate(zip(self.active, figures, strict=True)):
            if moved[s]:
                member.follow({name: value[s] for name, value in observed.items()})
                member.averaged.update(member.step)
                member.step, member.position = member.step + 1, member.position + 1
                member.sums = [a + b for a, b in zip(member.sums, (loss, distortion, rate, 1.0), strict=True)]
        if observed:
            self.stack.follow()
        self._leave()

    def _move(self, s: int, member: Member) -> None:
        """Make a member's AdamW step on its row of the joint weights."""
        factor = learning_rate_at(member.step, member.steps, member.settings) / float(member.settings.learning_rate)
        weights, grads = self.stack.weights[s], self.stack.grads[s]
        member.player.count()
        for columns, decay in self._segments[s]:
            moments = [tuple(matrix[s, columns] for matrix in self._moments)]
            member.player.fused_([weights[columns]], [grads[columns]], moments, factor, decay)

    def leave_out(self, member: Member, batch: Batch, numbers: list[float]) -> None:
        """Let a member count a skipped update, or find why it fails; its weights stay as they were."""
        try:
            with torch.enable_grad():
                member.leave_out(batch, slice(0, len(batch.rows)), len(batch.rows), numbers)
        except FitError as error:
            member.failure = error
            member.progress.note(str(error))

    def _leave(self) -> None:
        """Remove finished and failed members from the batch."""
        staying = [m for m in self.active if m.failure is None and not m.finished]
        if len(staying) < len(self.active):
            self.active = staying
            if staying:
                self._stack()

    # Validation

    def end_round(self) -> None:
        """Validate all members at once, and let each judge its weights."""
        found = self.validate() if self._validates_together() else [None] * len(self.active)
        for member, figures in zip(self.active, found, strict=True):
            member.found = figures
            member.end_round()
            member.found = None
        self.progress.round(self.active[0].history[-1])

    def _validates_together(self) -> bool:
        loaders = [m.validation for m in self.active]
        if not all(isinstance(loader, ArrayLoader) for loader in loaders):
            return False
        sizes = {(loader.rows, loader.batch_size, loader.weight is None) for loader in loaders}  # type: ignore[union-attr]
        return len(sizes) == 1

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """The figures of :meth:`latens.training.Trainer.validate` for each active member; all batches of one size are "
        "evaluated at once."""
        for member in self.active:
            member.set_anneal(1.0)
            member.model.eval()
        if self._held is None:
            self._held = tuple(self._prepare_held())
        live = self.stack.weights.clone() if any(m.averaged.tensors for m in self.active) else None
        kept = {name: t.clone() for name, t in self.stack.rest.items()} if live is not None else {}
        for member in self.active if live is not None else ():
            for name, tensor in member.averaged.tensors.items():
                path, _, leaf = name.rpartition(".")
                getattr(member.model.get_submodule(path), leaf).copy_(tensor)
        losses, means, sizes = [], [], []
        stack = self.stack
        for size, noise, given in self._held:
            loss, term, _ = self._validated(stack.leaves, stack.rest, stack.numbers, noise, given)
            losses.append(loss)
            means.append(term)
            sizes.append(torch.full((loss.shape[1],), float(size)))
        if live is not None:
            stack.weights.copy_(live)
            for name, tensor in kept.items():
                stack.rest[name].copy_(tensor)
        for member in self.active:
            member.model.train()
        weight = torch.cat(sizes).double()
        each, two = torch.cat(losses, 1).cpu().double(), torch.cat(means, 1).cpu().double()
        rows = []
        for loss, (distortion, rate) in zip(each, (two * weight[:, None]).sum(1) / weight.sum(), strict=True):
            rows.append({
                "validation_bound": -((loss * weight).sum() / weight.sum()).item(),
                "validation_trimmed": -trimmed_mean(loss, weight),
                "validation_rate": rate.item(), "validation_distortion": distortion.item(),
            })  # fmt: skip
        return rows

    def _prepare_held(self) -> Any:
        """(rows of a batch, noise ``[S, n, …]``, rows ``[S, n, …]``) of n batches of one size; held-out rows and noise
        are the same in each validation."""
        columns: list[tuple[list[Batch], list[Tensor]]] = []
        loaders: list[Any] = [member.validation for member in self.active]
        for number, batches in enumerate(zip(*(loader.batches(0) for loader in loaders), strict=True)):
            there = [b.to(m.processes.device) for m, b in zip(self.active, batches, strict=True)]
            noise = []
            for member, batch in zip(self.active, there, strict=True):
                drawn = self._noise_of(member, batch, Key.VALIDATE)
                reseed(member.settings.seed, Key.VALIDATE, number)
                noise.append([each.again() for each in drawn])
            columns.append((there, [torch.stack(column) for column in zip(*noise, strict=True)]))
        while columns:
            size = len(columns[0][0][0].rows)
            cells = max(1, sum(leaf.numel() for leaf in trees.leaves(joined(columns[0][0]))))
            count = sum(len(b[0].rows) == size for b, _ in columns[: max(1, CELLS // cells)])
            some, columns = columns[:count], columns[count:]
            given = stacked([joined(batches) for batches, _ in some], 1)
            yield size, [torch.stack(each, 1) for each in zip(*(noise for _, noise in some), strict=True)], given

    # The run

    def run(self) -> Together:
        """Train all members to the end, from the start or from the joint checkpoint if there is one."""
        if self.store is not None and self.store.exists():
            self.load()
            self._saved = time.monotonic()
        for member in self.members:
            member.since = time.monotonic()
        first = self.members[0]
        threads = threads_for(first.model, first.settings, len(self.members))
        with torch.random.fork_rng(devices=cuda_devices()), threads, StopSignal() as stop:
            steps = max(m.steps for m in self.members)
            self.progress.start(max((m.step for m in self.active), default=steps), steps)
            try:
                while self.active:
                    self._epoch(stop)
            finally:
                self.progress.close()
        if stop.asked:
            raise Interrupted
        return self

    def _epoch(self, stop: StopSignal) -> None:
        """Train for the rest of an epoch, or until a member leaves."""
        there, lead = self.active, self.active[0]
        for batches in zip(*(m.loader.batches(m.epoch, m.position) for m in there), strict=True):
            self._step(batches)
            if lead.step % 10 == 0:
                _, distortion, rate = torch.tensor([m.means() for m in there], dtype=torch.float64).mean(0).tolist()
                self.progress.step(lead.step, rate, distortion)
            if stop.asked:
                self.save()
                raise Interrupted
            if time.monotonic() - self._saved > lead.settings.checkpoint_seconds:
                self.save()
            if self.active is not there:
                return
        self._end_epoch(lead)

    def _end_epoch(self, lead: Member) -> None:
        """Run hooks, validate if it is time, and finish members at the end of training."""
        for member in self.active:
            for module in member.epochal:
                module.after_epoch()
            member.epoch, member.position = member.epoch + 1, 0
        self.stack.follow()
        if lead.epoch % lead.every == 0 or lead.epoch == lead.settings.epochs:
            self.end_round()
        for member in self.active:
            if member.stopped or member.epoch >= int(member.settings.epochs):
                member.settle_and_save()
                member.finish()
                self.stack.release(member.model)
        self._leave()

    # Checkpoints

    def save(self) -> None:
        """Write the joint checkpoint of the active members; the folders of the others have theirs."""
        self._saved = time.monotonic()
        if self.store is None or not self.active:
            return
        tensors: dict[str, Tensor] = {}
        records: dict[str, Any] = {}
        for member, name in zip(self.members, self.names, strict=True):
            if member in self.active:
                found, records[name] = member.saved()
                tensors |= {f"{name}//{key}": tensor for key, tensor in found.items()}
        self.store.save(tensors, {"step": self.active[0].step, "names": self.names, "members": records})

    def load(self) -> None:
        """Restore the joint checkpoint."""
        assert self.store is not None
        tensors, record = self.store.load()
        if record.get("names") != self.names:
            raise InputError(f"{self.store.folder} belongs to other runs", "restore it from a copy, or fit again")
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in record["members"]}
        for key, tensor in tensors.items():
            name, _, inner = key.partition("//")
            groups[name][inner] = tensor
        self.active = []
        for member, name in zip(self.members, self.names, strict=True):
            if name in groups:
                member.restore(groups[name], record["members"][name])
                self.active.append(member)
            elif member.store is not None and member.store.exists():
                member.load()
        self._stack()
