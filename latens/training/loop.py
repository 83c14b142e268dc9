"""The training loop: players descend their own losses; everything it knows can be saved and continued exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from latens.data.loader import ArrayLoader, Batch, Loader
from latens.models.draw import Draw
from latens.objectives.base import Objective, check_disjoint
from latens.randomness import cuda_devices, part, seed_of
from latens.training.callbacks import Interrupted, Progress, StopSignal
from latens.training.checkpoint import Checkpoints, load_state, state_of
from latens.training.players import PlayerOptimizer, clipped_update, gradients
from latens.training.processes import Processes
from latens.training.settings import Settings, anneal_at, epochs_a_round, learning_rate_at

_TRAIN, _VALIDATE, _SETTLE = 11, 12, 13  # keys of the seeds


class NonFiniteError(ArithmeticError):
    """The loss or a gradient was no longer finite; names the term, the step and the rows."""


def parts_with(hook: str, *modules: nn.Module) -> dict[str, nn.Module]:
    """The sub-modules that define a hook, by name."""
    named = ((f"{number}.{name}", part) for number, m in enumerate(modules) for name, part in m.named_modules())
    return {name: part for name, part in named if hasattr(part, hook)}


class Trainer:
    """Trains ``model`` under ``objective`` on the batches of ``loader``.

    Per step: draw, losses, the gradient of each player's loss with respect to its own parameters alone, reduced over
    processes, clipped; then all players move at once. ``settings`` must be settled (no "auto" left). After ``run`` the
    model holds the weights that are served: the best by validation bound where there is validation (the objective judged
    at its final schedule values), averaged if asked for. ``history`` has one row a round of validation.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, loader: Loader, validation: Loader | None, settings: Settings,
        *, store: Checkpoints | None = None, progress: Progress | None = None, processes: Processes | None = None,
        on_round: Callable[[list[dict[str, Any]]], None] = lambda history: None,
    ):  # fmt: skip
        self.processes = processes or Processes(settings.device)
        self.model = model.to(self.processes.device)
        self.objective = objective.to(self.processes.device)
        self.loader, self.validation, self.settings = loader, validation, settings
        self.store, self.progress, self.on_round = store, progress or Progress(), on_round
        players = objective.players(model)
        check_disjoint(players)
        self.players = {name: PlayerOptimizer(model, player, settings) for name, player in players.items()}
        self.observers = parts_with("observe", model, objective)
        self.steps = int(settings.epochs) * len(loader)
        self.every = epochs_a_round(int(settings.epochs), len(loader))
        self.step, self.epoch, self.position = 0, 0, 0
        self.history: list[dict[str, Any]] = []
        self.best: float | None = None
        self.best_epoch, self.rounds_without = 0, 0
        self.best_state: dict[str, Tensor] = {}
        self.averaged = {n: t.clone() for n, t in state_of(model).items()} if settings.average else {}
        self.sums = torch.zeros(4, dtype=torch.float64)  # loss, distortion, rate, batches since the last round
        self.stopped, self.finished, self.seconds = False, False, 0.0
        self._forward = self._compiled() if settings.compile else self._losses

    # One step

    def _losses(self, x: Any, c: Any, weight: Tensor | None) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        draw = self.objective.draw(self.model, x, c)
        draw.weight = weight
        losses = self.objective.losses(self.model, x, draw)
        observed = {name: part.observe(x, draw) for name, part in self.observers.items()}  # type: ignore[operator]
        return losses, _terms(draw), {name: value for name, value in observed.items() if value is not None}

    def _compiled(self) -> Any:
        return torch.compile(self._losses, fullgraph=getattr(self.model, "compile_mode", "full") == "full")

    def update(self, joint: Batch) -> None:
        """One step on a joint batch, of which this process takes its share."""
        total = len(joint.rows)
        share = self.processes.share(total)
        batch = joint.part(share).to(self.processes.device) if self.processes.count > 1 else joint.to(self.processes.device)
        fraction = len(batch.rows) / total
        anneal = anneal_at(self.step, self.steps, self.settings)
        self._set_anneal(anneal)
        torch.manual_seed(seed_of(self.settings.seed, _TRAIN, self.step))
        with part(share.start, total if self.processes.count > 1 else 0):
            losses, terms, observed = self._forward(batch.x, batch.c, batch.weight)
        active = {n: p for n, p in self.players.items() if self.step % p.every == 0}
        grads = gradients({n: losses[n] * fraction for n in active}, active)
        for name in grads:
            grads[name] = self.processes.sum(grads[name])
        figures = torch.stack([losses["model"].detach().cpu().double(), *terms.cpu().double()]) * fraction
        [figures] = self.processes.sum([figures])
        norms = {n: torch.nn.utils.get_total_norm(g) if (g := [x for x in grads[n] if x is not None]) else 0.0 for n in grads}
        if not all(torch.isfinite(losses[n]) for n in losses) or not all(torch.isfinite(torch.as_tensor(v)) for v in norms.values()):
            self._diagnose(batch, share, total)
        rate = learning_rate_at(self.step, self.steps, self.settings) / self.settings.learning_rate
        for name, player in active.items():
            clipped_update(player, grads[name], norms[name], rate, self.settings.clip)
        for name, value in zip(observed, self.processes.sum(list(observed.values())), strict=True):
            self.observers[name].after_step(value)  # type: ignore[operator]
        self._average()
        self.step += 1
        self.position += 1
        self.sums += torch.cat([figures, torch.ones(1, dtype=torch.float64)])

    @torch.no_grad()
    def _average(self) -> None:
        if self.averaged:
            # a warm-up of the decay, so that the start is forgotten (as in exponential averages of weights generally)
            decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
            for name, tensor in state_of(self.model).items():
                target = self.averaged[name]
                target.lerp_(tensor, 1 - decay) if tensor.is_floating_point() else target.copy_(tensor)

    def _set_anneal(self, value: float) -> None:
        for module in self.objective.modules():
            if isinstance(module, Objective):
                module.anneal.fill_(value)

    def _diagnose(self, batch: Batch, share: slice, total: int) -> None:
        """Repeat the step's draw and say which term of which rows is not finite."""
        torch.manual_seed(seed_of(self.settings.seed, _TRAIN, self.step))
        with torch.no_grad(), part(share.start, total if self.processes.count > 1 else 0):
            draw = self.objective.draw(self.model, batch.x, batch.c)
            terms = {"distortion -ln p(x|z)": draw.log_px, "ln p(z)": draw.log_pz}
            if draw.has_density:
                terms |= {"ln q(z|x)": draw.log_qz, "rate KL(q || p)": draw.rate()}
        kept = f"the last good checkpoint is kept in {self.store.folder}" if self.store and self.store.exists() else (
            "no checkpoint had been written yet")  # fmt: skip
        advice = f"{kept}; lower learning_rate (now {self.settings.learning_rate:g}) or clip (now {self.settings.clip:g})"
        for name, value in terms.items():
            bad = ~torch.isfinite(value).all(0)
            if bad.any():
                rows = batch.rows[bad.nonzero().flatten().cpu()].tolist()
                shown = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
                raise NonFiniteError(f"at step {self.step} the term {name} is not finite for rows {shown}: {advice}")
        rows = batch.rows.tolist()
        raise NonFiniteError(
            f"at step {self.step} the gradient is not finite though every term is, in the batch of rows "
            f"{', '.join(map(str, rows[:5]))}…: {advice}"
        )

    # Rounds: validation, best weights, early stopping

    def _round(self, learning_rate: float) -> None:
        loss, distortion, rate = (self.sums[:3] / self.sums[3]).tolist()
        row = {
            "step": self.step, "epoch": self.epoch, "learning_rate": learning_rate,
            "train_bound": -loss, "train_rate": rate, "train_distortion": distortion,
        }  # fmt: skip
        self.sums.zero_()
        if self.validation is not None:
            with self._served():
                row |= self._validate(self.validation)
            self._judge(row["validation_bound"])
        row["seconds"] = round(self.seconds + time.monotonic() - self._since, 3)
        self.history.append(row)
        self.progress.round(row)
        if self.processes.is_main:
            self.on_round(self.history)

    def _judge(self, bound: float) -> None:
        if not getattr(self.objective, "keeps_last", False):
            if self.best is None or bound > self.best:
                self.best, self.best_epoch, self.rounds_without = bound, self.epoch, 0
                with self._served():
                    self.best_state = {name: tensor.clone() for name, tensor in state_of(self.model).items()}
            else:
                self.rounds_without += 1
                annealed = self.step >= self.settings.kl_warmup * self.steps
                self.stopped = annealed and 0 < int(self.settings.patience) <= self.rounds_without

    def _served(self) -> _Swapped:
        """Inside, the model holds the averaged weights, if there are any."""
        return _Swapped(self.model, self.averaged)

    def _validate(self, loader: Loader) -> dict[str, float]:
        """Bound, rate and distortion at the objective's final form, with the same noise every time."""
        self._set_anneal(1.0)
        self.model.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        grad = torch.enable_grad() if parts_with("needs_grad_at_eval", self.model) else torch.no_grad()
        with grad:
            for number, batch in enumerate(loader.batches(0)):
                batch = batch.to(self.processes.device)
                torch.manual_seed(seed_of(self.settings.seed, _VALIDATE, number))
                draw = self.objective.draw(self.model, batch.x, batch.c)
                draw.weight = batch.weight
                loss = self.objective.losses(self.model, batch.x, draw)["model"].detach()
                count = len(batch.rows)
                figures = torch.stack([loss.cpu().double(), *_terms(draw).cpu().double()]) * count
                sums += torch.cat([figures, torch.tensor([float(count)], dtype=torch.float64)])
        self.model.train()
        loss, distortion, rate = (sums[:3] / sums[3]).tolist()
        return {"validation_bound": -loss, "validation_rate": rate, "validation_distortion": distortion}

    # The run

    def run(self) -> Trainer:
        """Train to the end, from the start or from the checkpoint if the store has one.

        Raises :class:`Interrupted` after a first Ctrl-C, with a checkpoint of the last whole step, and
        :class:`NonFiniteError` where a loss or gradient is not finite.
        """
        self._since = self._saved = time.monotonic()
        if self.store is not None and self.store.exists():
            self.load()
        with torch.random.fork_rng(devices=cuda_devices()), StopSignal() as stop:
            self.progress.start(self.step, self.steps)
            try:
                self._train(stop)
                self._finish()
            finally:
                self.progress.close()
        return self

    def _train(self, stop: StopSignal) -> None:
        self.model.train()
        while self.epoch < int(self.settings.epochs) and not self.stopped and not self.finished:
            for batch in self.loader.batches(self.epoch, self.position):
                self.update(batch)
                self._report()
                if self.processes.any(stop.asked):
                    self.save()
                    raise Interrupted
                if self.processes.any(time.monotonic() - self._saved > self.settings.checkpoint_seconds):
                    self.save()
            for hook in parts_with("after_epoch", self.model, self.objective).values():
                hook.after_epoch()  # type: ignore[operator]
            self.epoch, self.position = self.epoch + 1, 0
            if self.epoch % self.every == 0 or self.epoch == self.settings.epochs:
                self._round(learning_rate_at(self.step - 1, self.steps, self.settings))

    def _report(self) -> None:
        if self.step % 10 == 0:
            loss, distortion, rate, _ = (self.sums / self.sums[3]).tolist()
            self.progress.step(self.step, rate, distortion)

    def _finish(self) -> None:
        if not self.finished:
            if self.best_state:
                load_state(self.model, self.best_state, "the best weights")
            elif self.averaged:
                load_state(self.model, self.averaged, "the averaged weights")
            self._settle()
            self.finished = True
            self.save()
        self._set_anneal(1.0)
        self.model.eval()

    @torch.no_grad()
    def _settle(self) -> None:
        """One pass over the training set for parts that are fitted to it in closed form (the optimal variance)."""
        parts = parts_with("settle", self.model, self.objective)
        parts = {name: part for name, part in parts.items() if name in self.observers}
        if not parts:
            return
        self.model.eval()
        totals: dict[str, Tensor] = {}
        for number, batch in enumerate(self._in_order()):
            batch = batch.to(self.processes.device)
            torch.manual_seed(seed_of(self.settings.seed, _SETTLE, number))
            draw = self.objective.draw(self.model, batch.x, batch.c)
            draw.weight = batch.weight
            for name, module in parts.items():
                value = module.observe(batch.x, draw)  # type: ignore[operator]
                if value is not None:
                    totals[name] = totals.get(name, 0) + value.cpu().double()
        for name, value in totals.items():
            parts[name].settle(value)  # type: ignore[operator]

    def _in_order(self) -> Iterator[Batch]:
        loader = self.loader
        if isinstance(loader, ArrayLoader):
            loader = ArrayLoader(loader.x, loader.c, loader.weight, batch_size=loader.batch_size, seed=loader.seed,
                                 shuffle=False, transform=loader.transform)  # fmt: skip
        return loader.batches(0)

    # Checkpoints

    def save(self) -> None:
        """Write everything that a continued run needs."""
        self._saved = time.monotonic()
        if self.store is None or not self.processes.is_main:
            return
        groups = {
            "model": state_of(self.model), "objective": state_of(self.objective), "best": self.best_state,
            "averaged": self.averaged, "loop": {"sums": self.sums},
        }  # fmt: skip
        groups |= {f"optimizer.{name}": player.state() for name, player in self.players.items()}
        tensors = {f"{group}/{name}": tensor for group, values in groups.items() for name, tensor in values.items()}
        record = {name: getattr(self, name) for name in _RECORD}
        record["seconds"] = self.seconds + time.monotonic() - self._since
        self.store.save(tensors, record)

    def load(self) -> None:
        """Continue from the store."""
        assert self.store is not None
        tensors, record = self.store.load()
        groups: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = tensor.to(self.processes.device)
        load_state(self.model, groups.get("model", {}), "the checkpoint")
        load_state(self.objective, groups.get("objective", {}), "the checkpoint")
        self.best_state, self.averaged = groups.get("best", {}), groups.get("averaged", {})
        self.sums = groups["loop"]["sums"].cpu()
        for name, player in self.players.items():
            player.load(groups.get(f"optimizer.{name}", {}))
        for name in _RECORD:
            setattr(self, name, record[name])


_RECORD = ("step", "epoch", "position", "history", "best", "best_epoch", "rounds_without", "stopped", "finished", "seconds")


def _terms(draw: Draw) -> Tensor:
    """Mean distortion and rate (NaN without a density), detached, ``[2]``."""
    distortion = draw.log_px.detach().mean().neg()
    rate = draw.rate().detach().mean() if draw.has_density else torch.full_like(distortion, float("nan"))
    return torch.stack([distortion, rate])


class _Swapped:
    """Exchange the model's tensors with another set while inside."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]):
        self.model, self.tensors = model, tensors

    def __enter__(self) -> None:
        self.kept = {n: t.clone() for n, t in state_of(self.model).items()} if self.tensors else {}
        if self.tensors:
            load_state(self.model, self.tensors, "the averaged weights")

    def __exit__(self, *error: object) -> None:
        if self.kept:
            load_state(self.model, self.kept, "the live weights")
