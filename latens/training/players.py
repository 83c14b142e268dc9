"""Optimisers of the players: each descends its own loss with respect to its own parameters only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from latens.objectives.base import Player
from latens.training.settings import Settings

_DECAYED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class PlayerOptimizer:
    """AdamW over one player's parameters; weight decay touches the weights of linear and convolutional maps alone.

    ``modules``: where those maps are looked for. ``options`` of the player override the learning rate (``lr``, the peak
    of its schedule), ``weight_decay`` and AdamW's own options.
    """

    def __init__(self, modules: Iterable[nn.Module], player: Player, settings: Settings):
        self.parameters = list({id(p): p for p in player.parameters}.values())
        self.every = player.every
        options: dict[str, Any] = {"lr": settings.learning_rate, "betas": (0.9, settings.beta2)} | player.options
        decay = options.pop("weight_decay", settings.weight_decay)
        weights = {id(m.weight) for root in modules for m in root.modules() if isinstance(m, _DECAYED)}
        decayed = [p for p in self.parameters if decay and id(p) in weights]
        others = [p for p in self.parameters if not decay or id(p) not in weights]
        groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
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
        self.optimizer.state.clear()
        for name, tensor in tensors.items():
            number, _, key = name.partition(".")
            parameter = self._ordered[int(number)]
            moment = tensor.shape == parameter.shape and key != "step"
            self.optimizer.state[parameter][key] = laid_out_like(parameter, tensor) if moment else tensor

    def update(self, grads: list[Tensor | None], norm: float, factor: float, clip: float) -> None:
        """One step at ``factor`` x the peak rate, the gradient scaled to the norm ``clip`` if longer (0: never)."""
        if self.optimizer is None:
            return
        scale = clip / norm if 0 < clip < norm else None
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = laid_out_like(parameter, grad if scale is None or grad is None else grad * scale)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * factor
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None


def gradients(losses: dict[str, Tensor], players: dict[str, PlayerOptimizer]) -> dict[str, list[Tensor | None]]:
    """The gradient of each player's loss with respect to its own parameters; all are taken before anyone moves."""
    found: dict[str, list[Tensor | None]] = {}
    names = list(losses)
    for name in names:
        parameters = players[name].parameters
        last = name == names[-1]
        if not parameters or not losses[name].requires_grad:
            found[name] = [None] * len(parameters)
            continue
        found[name] = list(torch.autograd.grad(losses[name], parameters, retain_graph=not last, allow_unused=True))
    return found


def laid_out_like(parameter: Tensor, value: Tensor | None) -> Tensor | None:
    """A gradient or moment in the memory layout of its parameter. ``autograd.grad`` leaves a convolution's gradient
    channels-last, and the fused optimiser walks all as flat memory: other layouts would pair weights with the wrong
    gradients."""
    if value is None or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)


def norm_of(grads: list[Tensor | None]) -> Tensor:
    """The norm of all of them as one vector, 0 for none."""
    present = [g for g in grads if g is not None]
    return torch.nn.utils.get_total_norm(present) if present else torch.zeros(())
