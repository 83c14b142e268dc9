"""One step: the draw, the losses and the gradients. If the step is captured as one graph, the optimiser is part of
it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from latens.distributions import has_row_noise
from latens.errors import InputError
from latens.models.draw import Draw
from latens.objectives.base import Objective, mean_over_rows
from latens.training.players import PlayerOptimizer, gradients, norm_of
from latens.training.processes import Processes
from latens.training.settings import Settings


class Step:
    """The computation of a step from a batch. The loop handles seeds, counters and hooks.

    ``observers`` are the parts that sum something over each batch, by name.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, players: dict[str, PlayerOptimizer], observers: dict[str, Any],
        processes: Processes, settings: Settings,
    ):  # fmt: skip
        self.model, self.objective, self.players, self.observers = model, objective, players, observers
        self.processes, self.clip, self.longest = processes, float(settings.clip), settings.longest

    @property
    def can_descend(self) -> bool:
        """Whether the whole step can be one graph. That needs a single process, and players that all move in every
        step."""
        return self.processes.count == 1 and all(p.every == 1 and p.ordered for p in self.players.values())

    def losses(self, x: Any, c: Any, weight: Tensor | None) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """(loss of each player, (distortion, rate) ``[2]``, {observer: observed sums}); ``weight`` is ``[B]``. Raises
        ``InputError`` if there are several processes and the posterior cannot be split over them."""
        draw = self.objective.draw(self.model, x, c)
        draw.weight = weight
        if self.processes.count > 1 and not has_row_noise(draw.q):
            raise InputError(
                f"several processes need a posterior whose noise is drawn by rows, but {type(draw.q).__name__} draws "
                "noise in another way",
                "draw it through latens.tensors.randomness.standard_normal, or use one process",
            )
        losses = self.objective.losses(self.model, x, draw)
        observed = {name: part.observe(x, draw) for name, part in self.observers.items()}
        return losses, terms(draw), {name: value for name, value in observed.items() if value is not None}

    def whole(self, x: Any, c: Any, weight: Tensor | None, scalars: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward pass, backward pass and optimiser in one function. Returns ((whether the update was made, losses,
        distortion, rate, norms), observed sums); ``weight`` is ``[B]``. Nothing moves if a loss is not finite, or a
        norm is not below ``longest``."""
        losses, means, observed = self.losses(x, c, weight)
        grads = gradients(losses, self.players)
        values, norms = torch.stack(list(losses.values())).detach(), [norm_of(each) for each in grads.values()]
        with torch.no_grad():
            sound = values.isfinite().all() & (torch.stack(norms) < self.longest).all()
            for (name, player), norm, each in zip(self.players.items(), norms, scalars, strict=True):
                player.descend(grads[name], norm, each, self.clip, sound)
        return torch.cat([sound.to(values).view(1), values, means.to(values), torch.stack(norms).to(values)]), observed


def trimmed_mean(values: Tensor, weights: Tensor) -> float:
    """The weighted mean without the highest and lowest tenth of the values; NaN if any value is not finite.

    >>> trimmed_mean(torch.tensor([1e9, *range(1, 10)]), torch.ones(10))
    5.5
    """
    if not values.isfinite().all():
        return math.nan
    cut = len(values) // 10
    kept = values.argsort()[cut : len(values) - cut]
    return ((values * weights)[kept].sum() / weights[kept].sum()).item()


@torch.no_grad()
def terms(draw: Draw) -> Tensor:
    """Mean distortion and rate (NaN if q has no density), ``[2]`` nats, detached."""
    distortion = mean_over_rows(draw.distortion.mean(0), draw.weight)
    if draw.log_qz is None:
        return torch.stack([distortion, torch.full_like(distortion, float("nan"))])
    return torch.stack([distortion, mean_over_rows(draw.rate().mean(0), draw.weight)])
