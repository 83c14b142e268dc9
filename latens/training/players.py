"""Optimisers of the players: each lowers its own loss, by moving its own parameters only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from latens.objectives.base import Player
from latens.training.settings import Settings

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MOMENTS = ("exp_avg", "exp_avg_sq")
_SWEEP = 32  # steps between searches for subnormal moments


class PlayerOptimizer:
    """AdamW (Loshchilov & Hutter 2019) for one player's parameters.

    Weight decay applies only to the weights of linear and convolutional maps, which are found in ``modules``. The
    player's ``options`` override the learning rate (``lr``, the peak of its schedule), ``betas``, ``eps`` and
    ``weight_decay``; any other option is a ``ValueError``. torch's own AdamW is not used, because importing it takes
    half a second.
    """

    def __init__(self, modules: Iterable[nn.Module], player: Player, settings: Settings):
        self.parameters = list({id(p): p for p in player.parameters}.values())
        self.every = player.every
        options = _options(player, settings)
        self.peak, self.betas, self.eps = float(options["lr"]), options["betas"], options["eps"]
        self.groups = self._groups(modules, float(options["weight_decay"]))
        self.ordered = [p for group, _ in self.groups for p in group]
        self.moments: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        self.taken = 0

    def _groups(self, modules: Iterable[nn.Module], decay: float) -> list[tuple[list[nn.Parameter], float]]:
        """[(parameters, weight decay)], with the parameters that decay first."""
        weights = {id(m.weight) for root in modules for m in root.modules() if isinstance(m, WEIGHTED)} if decay else {}
        decayed = [p for p in self.parameters if id(p) in weights]
        others = [p for p in self.parameters if id(p) not in weights]
        return [(group, each) for group, each in ((decayed, decay), (others, 0.0)) if group]

    def prepare(self) -> None:
        """Create moments of zero for the parameters that have none yet."""
        for p in self.ordered:
            if p not in self.moments:
                self.moments[p] = torch.zeros_like(p), torch.zeros_like(p)

    @torch.no_grad()
    def count(self) -> None:
        """Count a step. Every 32 steps, set subnormal moments to 0, because some processors compute a hundred times
        slower with them. The moments of weights whose inputs are always 0 (a pixel at the border) decay to such
        values."""
        self.taken += 1
        if self.taken % _SWEEP == 0:
            for moment in (m for pair in self.moments.values() for m in pair):
                moment.copy_(torch.hardshrink(moment, torch.finfo(moment.dtype).tiny))

    def scalars(self, factor: float) -> list[float]:
        """The numbers that change from step to step: the learning rate, and the bias corrections of both moments."""
        self.count()
        return [self.peak * factor, *(1 / (1 - beta**self.taken) ** power for beta, power in zip(self.betas, (1, 0.5)))]

    def descend(self, grads: list[Tensor | None], norm: Tensor, scalars: Tensor, clip: float, sound: Tensor) -> None:
        r"""The step of :meth:`update` in plain operations, which a graph can capture. Parameters move only where
        ``sound`` is true.

        .. math::
            m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
            p \leftarrow (1 - \eta \lambda) p - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

        (Kingma & Ba 2015; Loshchilov & Hutter 2019). ``scalars`` come from :meth:`scalars`.
        """
        rate, first, second = scalars.unbind()
        beta1, beta2 = self.betas
        by_parameter = {id(p): g for p, g in zip(self.parameters, grads, strict=True)}
        for group, decay in self.groups:
            for p in group:
                grad = by_parameter[id(p)]
                if grad is None:
                    continue
                if clip > 0:
                    grad = grad * torch.where(norm > clip, clip / norm, 1.0).to(grad)
                m = self.moments[p][0].lerp(grad, 1 - beta1)
                v = beta2 * self.moments[p][1] + (1 - beta2) * grad * grad
                step = rate * first * m / (v.sqrt() * second + self.eps)
                moved = p - step if not decay else p * (1 - rate * decay) - step
                for old, new in zip((*self.moments[p], p), (m, v, moved), strict=True):
                    old.copy_(torch.where(sound, new, old))

    def state(self) -> dict[str, Tensor]:
        """{name: tensor} of both moments of each parameter, and the number of steps."""
        moments = {n: self.moments[p] for n, p in enumerate(self.ordered) if p in self.moments}
        named = {f"{n}.{key}": value for n, pair in moments.items() for key, value in zip(_MOMENTS, pair, strict=True)}
        return named | {"taken": torch.tensor(self.taken)} if named else {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self.taken = int(tensors["taken"]) if tensors else 0
        self.moments = {}
        for n, p in enumerate(self.ordered):
            if f"{n}.{_MOMENTS[0]}" in tensors:
                if any(tensors[f"{n}.{key}"].shape != p.shape for key in _MOMENTS):
                    raise ValueError(f"the moments of parameter {n} have a different shape")
                first, second = (laid_out_like(p, tensors[f"{n}.{key}"]) for key in _MOMENTS)
                self.moments[p] = first, second

    def update(self, grads: list[Tensor | None], norm: float, factor: float, clip: float) -> None:
        """One step with ``factor`` times the peak learning rate. A gradient longer than ``clip`` is shortened to that
        norm; 0 never shortens it."""
        self.prepare()
        if not all(p.device.type in ("cpu", "cuda") for p in self.ordered):
            scalars = torch.tensor(self.scalars(factor))
            with torch.no_grad():
                self.descend(grads, torch.tensor(norm), scalars, clip, torch.tensor(True))
            return
        self.count()
        scale = clip / norm if 0 < clip < norm else None
        by_parameter = {
            id(p): laid_out_like(p, g if scale is None else g * scale)
            for p, g in zip(self.parameters, grads, strict=True)
            if g is not None
        }
        for group, decay in self.groups:
            moved = [p for p in group if id(p) in by_parameter]
            found, moments = [by_parameter[id(p)] for p in moved], [self.moments[p] for p in moved]
            self._descend_fused(moved, found, moments, factor, decay)

    @torch.no_grad()
    def _descend_fused(
        self, parameters: list[Any], grads: list[Tensor], moments: list[Any], factor: float, decay: float
    ) -> None:
        """The step by torch's fused kernel, for tensors of the same layout on CPU or CUDA."""
        by_kind: dict[Any, list[Any]] = {}
        for each in zip(parameters, grads, moments, strict=True):
            by_kind.setdefault((each[0].device, each[0].dtype), []).append(each)
        for (device, _), several in by_kind.items():
            ps, gs, ms = zip(*several, strict=True)
            first, second = zip(*ms, strict=True)
            torch._fused_adamw_(
                ps, gs, first, second, [], [torch.tensor(float(self.taken), device=device)] * len(ps),
                lr=self.peak * factor, beta1=self.betas[0], beta2=self.betas[1], weight_decay=decay, eps=self.eps,
                amsgrad=False, maximize=False,
            )  # fmt: skip


def _options(player: Player, settings: Settings) -> dict[str, Any]:
    """The options of the optimiser: those of the player, otherwise those of the run."""
    options: dict[str, Any] = {
        "lr": settings.learning_rate, "betas": (0.9, settings.beta2), "eps": 1e-8,
        "weight_decay": settings.weight_decay,
    }  # fmt: skip
    for name in player.options:
        if name not in options:
            raise ValueError(f"the options of a player are {', '.join(options)}; got {name!r}")
    return options | player.options


def gradients(losses: dict[str, Tensor], players: dict[str, PlayerOptimizer]) -> dict[str, list[Tensor | None]]:
    """The gradient of each player's loss with respect to that player's parameters. All are computed before any player
    moves."""
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


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A gradient or moment of the same shape in the memory layout of its parameter. ``autograd.grad`` returns the
    gradient of a convolution channels-last, but the fused optimiser treats all tensors as flat memory. A different
    layout would pair weights with the wrong gradients."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)


def norm_of(grads: list[Tensor | None]) -> Tensor:
    """The norm of all gradients taken as one vector, a scalar; 0 if there are none."""
    present = [g for g in grads if g is not None]
    return torch.nn.utils.get_total_norm(present) if present else torch.zeros(())
