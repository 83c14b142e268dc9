"""Optimisers of the players: each descends its own loss with respect to its own parameters only."""

from __future__ import annotations

import math
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
        self._given = set(player.options)
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

    @property
    def can_descend(self) -> bool:
        """Whether :meth:`descend` knows all of its options."""
        known = {"lr", "betas", "eps", "weight_decay"}
        return self.every == 1 and self.optimizer is not None and self._given <= known

    def prepare(self) -> None:
        """Moments for :meth:`descend`: zeros where there are none yet, one count of steps for all."""
        assert self.optimizer is not None
        state = self.optimizer.state
        count = next((s["step"] for s in state.values()), torch.zeros(()))
        for p in self._ordered:
            if not state[p]:
                state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            state[p]["step"] = count
        self._count = count

    def scalars(self, factor: float) -> list[float]:
        """What changes from step to step: rate, and the corrections of both moments for their start at zero."""
        assert self.optimizer is not None
        beta1, beta2 = self.optimizer.defaults["betas"]
        self._count += 1
        taken = self._count.item()
        return [self.peak * factor, 1 / (1 - beta1**taken), 1 / math.sqrt(1 - beta2**taken)]

    def descend(self, grads: list[Tensor | None], norm: Tensor, scalars: Tensor, clip: float, sound: Tensor) -> None:
        """The same step as :meth:`update` in plain operations that can be captured, taken where ``sound`` is true.

        m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, p <- (1 - lr decay) p - lr m' / (sqrt(v') + eps), where m', v'
        are m, v over 1 - b^t (Kingma & Ba 2015; Loshchilov & Hutter 2019). ``scalars``: those of :meth:`scalars`.
        """
        assert self.optimizer is not None
        rate, first, second = scalars.unbind()
        (beta1, beta2), eps = self.optimizer.defaults["betas"], self.optimizer.defaults["eps"]
        by_parameter = {id(p): g for p, g in zip(self.parameters, grads, strict=True)}
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                grad, state = by_parameter[id(p)], self.optimizer.state[p]
                if grad is None:
                    continue
                if clip > 0:
                    grad = grad * torch.where(norm > clip, clip / norm, 1.0).to(grad)
                m = state["exp_avg"].lerp(grad, 1 - beta1)
                v = beta2 * state["exp_avg_sq"] + (1 - beta2) * grad * grad
                step = rate * first * m / (v.sqrt() * second + eps)
                moved = p - step if not group["weight_decay"] else p * (1 - rate * group["weight_decay"]) - step
                for old, new in ((state["exp_avg"], m), (state["exp_avg_sq"], v), (p, moved)):
                    old.copy_(torch.where(sound, new, old))

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
