"""Optimisers of the players: each descends its own loss with respect to its own parameters only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from latens.objectives.base import Player
from latens.training.settings import Settings

_DECAYED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class PlayerOptimizer:
    """AdamW over one player's parameters; weight decay touches the weights of linear and convolutional maps alone.

    ``options`` of the player override the learning rate (``lr``) and AdamW's own options.
    """

    def __init__(self, model: nn.Module, player: Player, settings: Settings):
        self.parameters = list({id(p): p for p in player.parameters}.values())
        self.every = player.every
        options: dict[str, Any] = {"lr": settings.learning_rate, "betas": (0.9, settings.beta2)} | player.options
        decay = options.pop("weight_decay", settings.weight_decay)
        weights = {id(m.weight) for m in model.modules() if isinstance(m, _DECAYED)}
        groups = [
            {"params": [p for p in self.parameters if id(p) in weights], "weight_decay": decay},
            {"params": [p for p in self.parameters if id(p) not in weights], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.peak = options["lr"]
        self.optimizer = torch.optim.AdamW(groups, fused=self._can_fuse(), **options) if groups else None
        self._ordered = [p for group in groups for p in group["params"]]

    def _can_fuse(self) -> bool:
        return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in self.parameters)

    def state(self) -> dict[str, Tensor]:
        """{index.key: tensor} of the optimiser's state."""
        if self.optimizer is None:
            return {}
        return {
            f"{number}.{key}": value
            for number, p in enumerate(self._ordered)
            for key, value in self.optimizer.state.get(p, {}).items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        if self.optimizer is None:
            return
        for name, tensor in tensors.items():
            number, _, key = name.partition(".")
            parameter = self._ordered[int(number)]
            self.optimizer.state[parameter][key] = tensor.clone()


def gradients(losses: dict[str, Tensor], players: dict[str, PlayerOptimizer]) -> dict[str, list[Tensor | None]]:
    """The gradient of each player's loss with respect to its own parameters; all are taken before anyone moves."""
    found = {}
    names = list(losses)
    for name in names:
        parameters = players[name].parameters
        last = name == names[-1]
        if not parameters or not losses[name].requires_grad:
            found[name] = [None] * len(parameters)
            continue
        found[name] = list(torch.autograd.grad(losses[name], parameters, retain_graph=not last, allow_unused=True))
    return found


def clipped_update(player: PlayerOptimizer, grads: list[Tensor | None], norm: Tensor | float, factor: float, clip: float) -> None:
    """Scale the gradient to the norm ``clip`` where it is longer (0: never), then one step at ``factor`` x the peak rate."""
    if player.optimizer is None:
        return
    for parameter, grad in zip(player.parameters, grads, strict=True):
        parameter.grad = grad
    if clip > 0:
        torch.nn.utils.clip_grads_with_norm_(player.parameters, clip, torch.as_tensor(norm))
    for group in player.optimizer.param_groups:
        group["lr"] = player.peak * factor
    player.optimizer.step()
    player.optimizer.zero_grad(set_to_none=True)
