"""Objectives with a target rate, and reconstruction from corrupted data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor, nn

from latens.errors import is_number, require
from latens.models.draw import Draw
from latens.objectives.base import Objective
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree, map_tree


class RateTarget(Objective):
    r"""The lowest distortion at a rate of ``target`` nats (Alemi et al. 2018).

    .. math:: \mathrm{distortion} + \mathrm{weight} \cdot \left|\mathrm{rate} - \mathrm{target}\right|

    with means over the batch. It reaches the target if the weight exceeds the slope of the rate-distortion curve there.
    The target rises from 0 over the first part of training, as a growing capacity (Burgess et al. 2018).

    Args:
        target: nats per row, from 0.
        weight: > 0.
        warmup: the fraction of the steps over which the target rises, from 0 to 1.
    """

    joint = True

    def __init__(self, target: float, weight: float = 100.0, warmup: float = 0.0):
        super().__init__()
        require(is_number(target) and target >= 0, "the target rate", "a number of nats from 0", target)
        require(is_number(weight) and weight > 0, "weight", "a positive number", weight)
        require(is_number(warmup) and 0 <= warmup <= 1, "warmup", "a fraction from 0 to 1", warmup)
        self.target, self.weight, self.warmup = float(target), float(weight), float(warmup)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": distortion + weight × distance from the target}, a scalar."""
        return {"model": draw.distortion.mean() + self.weight * self.away(draw)}

    def away(self, draw: Draw) -> Tensor:
        """The distance of the mean rate from its target, in nats, a scalar."""
        return (draw.rate().mean() - self.anneal * self.target).abs()


class RateTargets(RateTarget):
    r""":class:`RateTarget` with a target for each part or layer of z (Dupont 2018).

    .. math:: \mathrm{distortion} + \mathrm{weight} \sum_l \left|\mathrm{rate}_l - \mathrm{target}_l\right|

    ``ValueError`` if a draw has a different number of parts (``Draw.rates``).
    """

    def __init__(self, targets: Sequence[float], weight: float = 100.0, warmup: float = 0.0):
        for target in targets:
            require(is_number(target) and target >= 0, "the target rate", "a number of nats from 0", target)
        super().__init__(sum(targets), weight, warmup)
        self.targets = tuple(map(float, targets))

    def away(self, draw: Draw) -> Tensor:
        """The sum of the distances of the rates from their targets, in nats, a scalar."""
        pairs = zip(draw.rates(), self.targets, strict=True)
        return torch.stack([(rate.mean() - self.anneal * to).abs() for rate, to in pairs]).sum()


class Denoising(Objective):
    """An objective whose posterior sees corrupted rows, while its likelihood sees the true rows (Vincent et al. 2008).

    Rows that are encoded after training are not corrupted.

    Args:
        objective: the objective that is optimised.
        hidden: the probability, in [0, 1), that a cell is hidden (NaN, like a missing cell).
        noise: the standard deviation, in units of ``unit``, of normal noise on cells that are not hidden, from 0.
        unit: the scale of the data.
    """

    unit: Tensor

    def __init__(
        self, objective: Objective, hidden: float = 0.0, noise: float = 0.0, unit: Tensor | float = 1.0
    ):  # fmt: skip
        super().__init__()
        require(is_number(hidden) and 0 <= hidden < 1, "hidden", "a fraction from 0 to below 1", hidden)
        require(is_number(noise) and noise >= 0, "noise", "a number from 0", noise)
        self.objective, self.hidden, self.noise = objective, float(hidden), float(noise)
        self.below = NormalDist().inv_cdf(hidden) if hidden else -math.inf
        self.samples, self.keeps_last, self.joint = objective.samples, objective.keeps_last, objective.joint
        self.register_buffer("unit", torch.as_tensor(unit))

    def corrupt(self, x: Tree) -> Tree:
        """The data in the form that the posterior sees, with each leaf in floats."""
        return map_tree(self._corrupt, x)

    def _corrupt(self, x: Tensor) -> Tensor:
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        if self.noise:
            x = x + self.noise * self.unit.to(x) * standard_normal([], x)
        if self.hidden:
            x = torch.where(standard_normal([], x) < self.below, torch.nan, x)
        return x

    def draw(self, model: nn.Module, x: Tree, c: Tree = None) -> Draw:
        """The draw, for which the posterior saw corrupted rows."""
        return model.draw(x, self.samples, c, seen=self.corrupt(x))  # type: ignore[operator]

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """The losses of the objective."""
        return self.objective.losses(model, x, draw)
