"""The training loop: each player lowers its own loss. The whole state can be saved, and training then continues exactly
as if it had not been interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latens.data.loader import Batch, Loader
from latens.errors import FitError, InputError
from latens.machine.compiler import can_compile, compiled, takes_gradients
from latens.machine.processor import keep_memory
from latens.models.draw import Draw
from latens.objectives.base import Objective, check_disjoint
from latens.tensors.randomness import Key, cuda_devices, part, reseed
from latens.training.average import Average
from latens.training.callbacks import Interrupted, Progress, StopSignal
from latens.training.checkpoint import Log, load_state, restoring, state_of
from latens.training.diagnosis import find_cause, not_finite, nothing_moved
from latens.training.players import PlayerOptimizer, gradients, norm_of
from latens.training.precision import products_in, warn_if_slow
from latens.training.processes import Processes
from latens.training.reduction import Reduction
from latens.training.settings import Settings, anneal_at, epochs_a_round, learning_rate_at
from latens.training.step import Step, terms, trimmed_mean
from latens.training.threads import threads_for

REFITS, STEPS_OF_REFIT = 4, 10  # the most refits of a prior to the codes, and the steps of each
CODES = 100_000  # the most rows whose codes a prior is refitted to
COST_OF_CLOSING = 0.01  # the last step may lower the held-out bound by this many nats


def parts_with(hook: str, *modules: nn.Module) -> dict[str, Any]:
    """{name: sub-module} of the sub-modules that define a hook; a shared one appears once."""
    named = ((f"{number}.{name}", part) for number, m in enumerate(modules) for name, part in m.named_modules())
    found = {id(part): (name, part) for name, part in reversed([*named]) if hasattr(part, hook)}
    return dict(reversed(found.values()))


class Trainer:
    """Trains ``model`` under ``objective`` on the batches of ``loader``.

    In each step the trainer draws, computes the losses, and computes the gradient of each player's loss with respect to
    the parameters of that player. It sums the gradients over processes and clips them. Then all players move at once.

    After :meth:`run`, the model holds the weights with the best validation bound, or the last weights, averaged if the
    settings say so. To choose the best weights, the bound is computed with the objective's final weights (those after
    warm-up). It is the mean over batches without the highest and lowest tenth, so that a few extreme rows do not
    decide. ``history`` has one row per validation.

    A part may define these hooks:

    * ``observe(x, draw)`` returns sums over the batch of a step, or None;
    * ``after_step(observed)`` receives these sums, added up over processes (None for a part without ``observe``);
    * ``after_epoch()`` is called after each epoch;
    * ``settle(observed)`` receives the sums over the training set, once, after training;
    * ``seen(draw)``, ``expect(rows)`` and ``maximise(sums)`` are the steps of expectation maximisation after training,
      repeated while the held-out bound gains (see :class:`latens.priors.NormalMixturePrior`);
    * ``needs_grad_at_eval`` is true if the part needs gradients in evaluation too.

    Args:
        model: the model, trained in place.
        objective: its objective.
        loader: batches of training rows.
        validation: batches of held-out rows, or None.
        settings: the settings, with a value in place of every "auto".
        log: checkpoints, progress, callbacks, and the function that receives the history.
        processes: the processes of the run; by default one, or those that the launcher started.
        backend: the backend of ``torch.compile``.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, loader: Loader, validation: Loader | None, settings: Settings,
        log: Log | None = None, *, processes: Processes | None = None, backend: str = "inductor",
    ):  # fmt: skip
        self.processes = processes or Processes(settings.device)
        self.model = model.to(self.processes.device)
        self.objective = objective.to(self.processes.device)
        self.loader, self.validation, self.settings = loader, validation, settings
        log = log or Log()
        self.store, self.progress, self.on_round = log.store, log.progress or Progress(), log.on_round
        self.closing = log.closing
        self.callbacks, self.about, self.halted = log.callbacks, log.about, False
        if self.processes.count > int(settings.batch_size):
            raise InputError(
                f"batch_size {settings.batch_size} cannot be split over {self.processes.count} processes",
                "raise it, or start fewer processes",
            )
        self._require_whole_batches()
        players = objective.players(model)
        check_disjoint(players)
        self.players = {name: PlayerOptimizer((model, objective), player, settings) for name, player in players.items()}
        self.observers = parts_with("observe", model, objective)
        self.followers = parts_with("after_step", model, objective)
        self.epochal = list(parts_with("after_epoch", model, objective).values())
        self._annealed = [module for module in objective.modules() if isinstance(module, Objective)]
        self.steps = int(settings.epochs) * len(loader)
        self.every = epochs_a_round(int(settings.epochs), len(loader))
        self.step = self.epoch = self.position = self.best_epoch = self.rounds_without = 0
        self.history: list[dict[str, Any]] = []
        self.best: float | None = None
        self.best_state: dict[str, Tensor] = {}
        self.averaged = Average(model, 0.0 if settings.average == "auto" else float(settings.average))
        self.sums, self.skipped = [0.0] * 4, 0  # loss, distortion, rate, updates of this round; skipped updates
        self.stopped, self.finished, self.seconds = False, False, 0.0
        self.since = self._saved = time.monotonic()
        self._precision = products_in(settings.precision, self.model, self.objective)
        warn_if_slow(settings.precision, self.processes.device, self.progress.note)
        step = Step(self.model, self.objective, self.players, self.observers, self.processes, settings)
        self.forward: Callable[..., Any] = step.losses
        self._reductions: dict[tuple[str, ...], Reduction] = {}  # keyed by the names of the players that move
        self._stop = False  # whether any process had been asked to stop at the last step
        self._captured = False
        if settings.compile and can_compile(model, backend, self.processes.device, self.progress.note):
            whole = getattr(model, "compile_mode", "full") == "full"
            self._captured = whole and takes_gradients() and step.can_descend
            self.forward = compiled(step.whole if self._captured else step.losses, model, backend)

    def _require_whole_batches(self) -> None:
        """Raise ``InputError`` if an objective that compares the rows of a batch would get part of a batch, or
        weights."""
        if not self.objective.joint:
            return
        if self.processes.count > 1:
            raise InputError(
                f"this objective compares the rows of a batch, so a step cannot be split over {self.processes.count} "
                "processes",
                "start one process",
            )
        if getattr(self.loader, "weight", None) is not None:
            raise InputError(
                "this objective compares the rows of a batch, and is not defined for weighted rows",
                "omit the sample weights, or use a recipe whose loss is a mean over rows",
            )

    # One step

    @contextmanager
    def _noise(self, start: int, total: int) -> Iterator[None]:
        """A block with the noise of the step for the rows from ``start``, out of ``total``; a total of 0 means all. The
        network's products have the precision of the settings."""
        reseed(self.settings.seed, Key.STEP, self.step)
        with part(start, total), self._precision:
            yield

    def _update_captured(self, batch: Batch) -> None:
        """One step: first the captured graph, then what cannot be part of it."""
        factor = learning_rate_at(self.step, self.steps, self.settings) / float(self.settings.learning_rate)
        scalars = torch.tensor([player.scalars(factor) for player in self.players.values()], dtype=torch.float64)
        with self._noise(0, 0):
            figures, observed = self.forward(batch.x, batch.c, batch.weight, scalars)
        count, (sound, *numbers) = len(self.players), figures.tolist()
        if not sound:
            for player in self.players.values():
                player.taken -= 1
            size = len(batch.rows)
            return self.leave_out(batch, slice(0, size), size, numbers[:count] + numbers[count + 2 :])
        self._taken(numbers, observed)

    def _taken(self, numbers: list[float], observed: dict[str, Tensor]) -> None:
        """Finish a step: hooks, averages, counters. ``numbers`` are losses, distortion, rate and more."""
        self.follow(observed)
        self.averaged.update(self.step)
        count = len(self.players)
        terms = self._terms(numbers) if self.callbacks else {}
        self.step += 1
        self.position += 1
        figures = numbers[list(self.players).index("model")], *numbers[count : count + 2], 1.0
        self.sums = [a + b for a, b in zip(self.sums, figures, strict=True)]
        self._tell("step", self.step, terms)

    def _terms(self, numbers: list[float]) -> dict[str, float]:
        """The figures of a step by name, for callbacks."""
        ending = {name: "" if name == "model" else f"_{name}" for name in self.players}
        active = [name for name, player in self.players.items() if self.step % player.every == 0]
        count = len(self.players)
        losses = {f"loss{ending[name]}": value for name, value in zip(self.players, numbers)}
        norms = {f"gradient_norm{ending[name]}": value for name, value in zip(active, numbers[count + 2 :])}
        rate = {"learning_rate": learning_rate_at(self.step, self.steps, self.settings)}
        return losses | dict(zip(("distortion", "rate"), numbers[count:])) | norms | rate

    def _tell(self, what: str, *figures: Any) -> None:
        """Call a method of all callbacks, in the main process, and note whether any of them asks to stop."""
        if self.processes.is_main:
            answers = [getattr(each, what)(*figures) for each in self.callbacks]
            self.halted = self.halted or any(isinstance(each, bool | np.bool_) and bool(each) for each in answers)

    def update(self, batch: Batch, stop: bool = False) -> None:
        """One step on this process's share of a joint batch. ``stop``: whether this process was asked to stop."""
        batch, self._stop = batch.to(self.processes.device), stop
        self.set_anneal()
        if self._captured:
            return self._update_captured(batch)
        total, several = batch.total or len(batch.rows), self.processes.count > 1
        share = self.processes.share(total)
        with self._noise(share.start, total if several else 0):
            losses, terms, observed = self.forward(batch.x, batch.c, batch.weight)
        if losses.keys() != self.players.keys():
            raise ValueError(
                f"the objective gives losses of {', '.join(losses)} but has the players {', '.join(self.players)}",
                "return one loss per player",
            )
        active = {name: player for name, player in self.players.items() if self.step % player.every == 0}
        paid = {name: losses[name] for name in active}
        figures = torch.stack([*(losses[name].detach() for name in self.players), *terms])
        if several:
            grads, figures, observed = self._reduced(paid, active, figures, observed, len(batch.rows) / total)
        else:
            grads = gradients(paid, active)
        norms = [norm_of(each).to(figures) for each in grads.values()]
        count, numbers = len(losses), torch.stack([*figures, *norms]).tolist()  # one transfer from the device
        values, lengths = numbers[:count], numbers[count + 2 :]
        if not (all(map(math.isfinite, values)) and all(length < self.settings.longest for length in lengths)):
            return self.leave_out(batch, share, total, values + lengths)
        factor = learning_rate_at(self.step, self.steps, self.settings) / float(self.settings.learning_rate)
        for (name, player), norm in zip(active.items(), lengths, strict=True):
            player.update(grads[name], norm, factor, self.settings.clip)
        self._taken(numbers, observed)

    def _reduced(
        self, losses: dict[str, Tensor], active: dict[str, PlayerOptimizer], figures: Tensor,
        observed: dict[str, Tensor], fraction: float,
    ) -> tuple[dict[str, list[Tensor | None]], Tensor, dict[str, Tensor]]:  # fmt: skip
        """(gradients of the players, figures, observed sums) of the joint batch, computed from this process's share,
        which is a ``fraction`` of it."""
        if (key := tuple(active)) not in self._reductions:
            parameters = [p for name in reversed(active) for p in active[name].parameters]
            self._reductions[key] = Reduction(parameters, self.processes)
        reduction = self._reductions[key]
        with reduction.receiving(fraction):
            gradients(losses, active)
        stop = torch.tensor([float(self._stop)], device=self.processes.device)
        found, (figures, stop, *sums) = reduction.finish([figures * fraction, stop, *observed.values()])
        self._stop = bool(stop.item())
        grads = {name: [found[p] for p in player.parameters] for name, player in active.items()}
        return grads, figures, dict(zip(observed, sums, strict=True))

    def leave_out(self, batch: Batch, share: slice, total: int, judged: list[float]) -> None:
        """Count a skipped update. Stop the run if no update may be skipped, or if all updates since the last validation
        were skipped."""
        none_made = not self.sums[3] and self.skipped + 1 >= min(self.every * len(self.loader), self.steps)
        if self.settings.longest == math.inf or (none_made and not all(map(math.isfinite, judged))):
            self._stop_at_non_finite(batch, share, total)
        if none_made:
            self.save()
            raise FitError(nothing_moved(self.skipped + 1, judged[-1], self.settings))
        self.skipped, self.step, self.position = self.skipped + 1, self.step + 1, self.position + 1
        self._tell("step", self.step, {"skipped": 1.0})

    def follow(self, observed: dict[str, Tensor]) -> None:
        """Let the parts that observe a step update their buffers, from the sums over all processes."""
        for name, module in self.followers.items():
            if name not in self.observers or name in observed:
                module.after_step(observed.get(name))

    def set_anneal(self, value: float | None = None) -> None:
        """Set the warm-up factor of the rate to ``value``, or to the value of the schedule at this step."""
        for module in self._annealed:
            module.anneal.fill_(self._anneal_at(self.step, module) if value is None else value)

    def _anneal_at(self, step: int, module: Objective) -> float:
        return anneal_at(step, self.steps, self.settings, module.warmup)

    def _stop_at_non_finite(self, batch: Batch, share: slice, total: int) -> None:
        """Raise the error that names the term and the rows that are not finite. They are found by repeating the step's
        draw. The weights stay as before the step."""

        def draw_rows(rows: slice) -> Draw:
            some = batch.part(rows)
            with self._noise(share.start + rows.start, total):
                draw = self.objective.draw(self.model, some.x, some.c)
            draw.weight = some.weight
            return draw

        losses = self.objective.losses(self.model, batch.x, draw_rows(slice(0, len(batch.rows))))
        term, positions = find_cause(draw_rows, losses, self.players, self.processes, share, total)
        self.save()
        joint = torch.zeros(total, dtype=torch.int64)
        joint[share] = batch.rows if batch.numbers is None else batch.numbers
        joint = self.processes.sum([joint.to(self.processes.device)])[0].cpu()
        rows = joint[positions].tolist() if positions else joint.tolist()
        raise not_finite(self.step, term, rows, bool(positions), self.settings, self.store)

    # Validation, best weights, early stopping

    def end_round(self) -> None:
        """Validate the weights, and add a row to the history."""
        loss, distortion, rate = self.means()
        row = {
            "step": self.step, "epoch": self.epoch,
            "learning_rate": learning_rate_at(self.step - 1, self.steps, self.settings),
            "train_bound": -loss, "train_rate": rate, "train_distortion": distortion,
        }  # fmt: skip
        row |= {"skipped": self.skipped} if self.settings.longest < math.inf else {}
        self.sums, self.skipped = [0.0] * 4, 0
        if self.validation is not None:
            with self.averaged.served() as served:
                row |= self.validate(self.validation)
                self._judge(row["validation_trimmed"], served)
        row["seconds"] = round(self.seconds + time.monotonic() - self.since, 3)
        self.history.append(row)
        self.progress.round(row)
        if self.processes.is_main:
            self.on_round(self.history)
        self._tell("round", dict(row))

    def means(self) -> list[float]:
        """Mean loss, distortion and rate per row since the last validation."""
        return [value / self.sums[3] if self.sums[3] else math.nan for value in self.sums[:3]]

    def _judge(self, bound: float, served: dict[str, Tensor]) -> None:
        """Keep the weights if they are the best. Stop after ``patience`` validations without improvement, counted from
        the end of warm-up."""
        if getattr(self.objective, "keeps_last", False) or self.settings.keep == "last":
            return
        if not math.isfinite(bound):
            self.progress.note(
                f"the validation bound is not finite at epoch {self.epoch}: these weights are not considered"
            )
        elif self.best is None or bound > self.best:
            self.best, self.best_epoch, self.rounds_without = bound, self.epoch, 0
            self.best_state = {name: tensor.clone() for name, tensor in served.items()}
        elif all(self._anneal_at(self.step - 1, module) == 1 for module in self._annealed):
            self.rounds_without += 1
            self.stopped |= 0 < int(self.settings.patience) <= self.rounds_without

    def validate(self, loader: Loader) -> dict[str, float]:
        """Bound, rate and distortion with the objective's final weights and the same noise every time."""
        self.set_anneal(1.0)
        self.model.eval()
        sums, losses = torch.zeros(4, dtype=torch.float64), torch.zeros(2, len(loader), dtype=torch.float64)
        with torch.enable_grad() if parts_with("needs_grad_at_eval", self.model) else torch.no_grad():
            for number, batch, draw in self._dealt(loader.batches(0), Key.VALIDATE):
                loss = self.objective.losses(self.model, batch.x, draw)["model"].detach()
                figures = torch.stack([loss, *terms(draw), torch.ones_like(loss)])
                sums += figures.cpu().double() * len(batch.rows)
                losses[:, number] = torch.stack([loss, torch.full_like(loss, len(batch.rows))])
        self.model.train()
        sums, losses = self.processes.sum([sums, losses])
        loss, distortion, rate, size = sums.tolist()
        return {
            "validation_bound": -loss / size,
            "validation_trimmed": -trimmed_mean(*losses),
            "validation_rate": rate / size,
            "validation_distortion": distortion / size,
        }

    def _dealt(self, batches: Iterator[Batch], key: int) -> Iterator[tuple[int, Batch, Draw]]:
        """(number, batch, draw) of this process's batches, with seeds from (key, batch)."""
        for number, batch in enumerate(batches):
            if self.processes.owns(number):
                batch = batch.to(self.processes.device)
                reseed(self.settings.seed, key, number)
                draw = self.objective.draw(self.model, batch.x, batch.c)
                draw.weight = batch.weight
                yield number, batch, draw

    # The run

    def run(self) -> Trainer:
        """Train to the end, from the start or from the checkpoint if there is one.

        Raises:
            Interrupted: after the first Ctrl-C, with a checkpoint of the last complete step.
            NonFiniteError: a loss or gradient is not finite.
        """
        keep_memory()
        self.since, self._saved = time.monotonic(), -math.inf  # so the first checkpoint is written after the first step
        if self.store is not None and self.store.exists():
            self.load()
            self._saved = self.since
        with torch.random.fork_rng(cuda_devices()), threads_for(self.model, self.settings), StopSignal() as stop:
            self.progress.start(self.step, self.steps)
            try:
                self._tell("start", self.step, self.steps, self.about)
                self._train(stop)
                self.settle_and_save()
            finally:
                self.progress.close()
                self._tell("end")
        if self.processes.any(stop.asked):
            raise Interrupted
        return self

    def _train(self, stop: StopSignal) -> None:
        self.model.train()
        if self._captured:
            for player in self.players.values():
                player.prepare()
        while self.epoch < int(self.settings.epochs) and not self.stopped and not self.finished:
            for batch in self.loader.batches(self.epoch, self.position, self.processes.share):
                self.update(batch, stop.asked)
                if self.step % 10 == 0:
                    _, distortion, rate = self.means()
                    self.progress.step(self.step, rate, distortion)
                if self._is_asked(stop):
                    self.save()
                    raise Interrupted
                if self._halts():
                    break
                if time.monotonic() - self._saved > self.settings.checkpoint_seconds:
                    self.save()
            for module in self.epochal:
                module.after_epoch()
            self.epoch, self.position = self.epoch + 1, 0
            if self.stopped or self.epoch % self.every == 0 or self.epoch == self.settings.epochs:
                self.end_round()
                self._halts()

    def _is_asked(self, stop: StopSignal) -> bool:
        """Whether this process was asked to stop, or any process had been by the last step."""
        return self._stop or (self.processes.count == 1 and stop.asked)

    def _halts(self) -> bool:
        """Whether a callback of any process has asked to stop. If so, the run ends with its next validation."""
        self.stopped |= bool(self.callbacks) and self.processes.any(self.halted)
        return self.stopped

    def settle_and_save(self) -> None:
        """Take the best or averaged weights, fit the parts that have a closed form, and write the last checkpoint."""
        if not self.finished:
            if self.best_state:
                load_state(self.model, self.best_state, "the best weights")
            elif self.averaged.tensors:
                load_state(self.model, self.averaged.tensors, "the averaged weights")
            self._settle()
            self.finished = True
            self.save()
        self.set_anneal(1.0)
        self.model.eval()

    @torch.no_grad()
    def _settle(self) -> None:
        """Fit the parts that have a closed form to the training set: first the optimal variance, then the prior."""
        parts = parts_with("settle", self.model, self.objective)
        parts = {name: part for name, part in parts.items() if name in self.observers}
        for name, total in self._totals("observe", parts).items():
            parts[name].settle(total)
        self._refit(parts_with("maximise", self.model))
        if self.closing is not None and self.validation is not None:
            self._keep(self.closing, COST_OF_CLOSING)

    def _refit(self, parts: dict[str, Any]) -> None:
        """Expectation maximisation on the codes of the training set, repeated while the held-out bound gains."""
        codes = self._codes(parts) if parts and self.validation is not None else {}

        def step() -> None:
            for _ in range(STEPS_OF_REFIT):
                sums = [sum(map(parts[name].expect, rows.split(8192))) for name, rows in codes.items()]
                for name, total in zip(codes, self.processes.sum(sums), strict=True):
                    parts[name].maximise(total)

        for _ in range(REFITS if codes else 0):
            if not self._keep(step):
                break

    def _keep(self, step: Callable[[], None], cost: float = 0.0) -> bool:
        """Take a step, and undo it unless the held-out bound gains, or loses less than ``cost``. Returns whether the
        step was kept."""
        before, kept = self._bound(), {name: tensor.clone() for name, tensor in state_of(self.model).items()}
        step()
        keeps = self._bound() > before - cost
        if not keeps:
            load_state(self.model, kept, "the weights before the last step")
        return keeps

    def _bound(self) -> float:
        assert self.validation is not None
        return self.validate(self.validation)["validation_trimmed"]

    def _codes(self, parts: dict[str, Any]) -> dict[str, Tensor]:
        """For each part that can be refitted, what it has seen of this process's training rows. All processes together
        show it at most ``CODES`` rows."""
        found: dict[str, list[Tensor]] = {name: [] for name in parts}
        every = max(1, -(-len(self.loader) * int(self.settings.batch_size) // CODES))
        for _, _, draw in self._dealt(islice(self._rows(), 0, None, every), Key.SETTLE):
            for name, each in parts.items():
                found[name] += [] if (rows := each.seen(draw)) is None else [rows]
        return {name: torch.cat([parts[name].nothing, *rows]) for name, rows in found.items()
                if self.processes.any(bool(rows))}  # fmt: skip

    def _rows(self) -> Iterator[Batch]:
        """The batches of the training set in a fixed order, for a model that is not being trained."""
        self.model.eval()
        in_order = getattr(self.loader, "in_order", None)
        return (in_order() if in_order else self.loader).batches(0)

    def _totals(self, hook: str, parts: dict[str, Any]) -> dict[str, Tensor]:
        """The sums of what parts observe in one pass over the training set, always with the same noise."""
        totals: dict[str, Tensor] = {}
        if not parts:
            return totals
        for _, batch, draw in self._dealt(self._rows(), Key.SETTLE):
            for name, module in parts.items():
                value = getattr(module, hook)(batch.x, draw)
                if value is not None:
                    totals[name] = totals.get(name, 0) + value.double()
        return dict(zip(totals, self.processes.sum([*totals.values()]), strict=True))

    # Checkpoints

    def save(self) -> None:
        """Write a checkpoint with everything that a continued run needs."""
        self._saved = time.monotonic()
        if self.store is None or not self.processes.is_main:
            return
        groups = {
            "model": state_of(self.model), "objective": state_of(self.objective), "best": self.best_state,
            "averaged": self.averaged.tensors,
        }  # fmt: skip
        groups |= {f"optimizer.{name}": player.state() for name, player in self.players.items()}
        tensors = {f"{group}/{name}": tensor for group, values in groups.items() for name, tensor in values.items()}
        record = {name: getattr(self, name) for name in _RECORD}
        record["seconds"] = self.seconds + time.monotonic() - self.since
        self.store.save(tensors, record)

    def load(self) -> None:
        """Restore the checkpoint."""
        assert self.store is not None
        tensors, record = self.store.load()
        with restoring(self.store.folder / "state.json"):
            self._take_up(record)
            groups: dict[str, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = tensor.to(self.processes.device)
            load_state(self.model, groups.get("model", {}), "the checkpoint")
            load_state(self.objective, groups.get("objective", {}), "the checkpoint")
            self.averaged.load(groups.get("averaged", {}))
            self.best_state = groups.get("best", {})
            for name, player in self.players.items():
                player.load(groups.get(f"optimizer.{name}", {}))

    def _take_up(self, record: dict[str, Any]) -> None:
        """Restore the figures of a checkpoint, each with its original type."""
        for name in _RECORD:
            own, found = getattr(self, name), record.get(name, getattr(self, name))
            kinds = {float: (float, int), type(None): (float, int, type(None))}.get(type(own), (type(own),))
            if type(found) not in kinds or (type(own) is int and found < 0):
                raise ValueError(f"{name} is {found!s:.40}")
            setattr(self, name, found)
        figures = [*self.sums, *(value for row in self.history for value in row.values())]
        if len(self.sums) != 4 or not all(type(value) in (float, int, type(None)) for value in figures):
            raise ValueError("its figures are not numbers")


_RECORD = (
    "step", "epoch", "position", "history", "sums", "skipped", "best", "best_epoch", "rounds_without", "stopped",
    "finished", "seconds",
)  # fmt: skip
