"""What is optimised, and by which player."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latens.errors import is_number, require
from latens.models.draw import Draw
from latens.tensors.trees import Tree


def mean_over_rows(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over the batch of one value a row, sample weights (mean 1 over the data) applied."""
    return values.mean() if weight is None else (values * weight).mean()


@dataclass
class Player:
    """Who descends a loss: its parameters, options of its optimiser, and how often it moves (every n-th step)."""

    parameters: list[nn.Parameter]
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1


class Objective(nn.Module):
    """Base of all objectives.

    ``draw`` owns how many draws are taken; ``losses`` gives one scalar to minimise for each player; ``players`` says
    which parameters each loss moves. Losses are per datum: sums over the dimensions, means over the batch, nats.
    ``objective + weight * penalty`` adds penalties. During KL warm-up the training loop sets ``anneal`` from 0 to 1;
    at 1 the objective has its final form, the one that early stopping judges. ``warmup``: the fraction of the steps
    over which it does where the settings name none. ``keeps_last``: the last weights are served, none are judged.
    ``joint``: the loss is no mean over rows, so that it cannot be split over processes or weighted by row.
    """

    samples: int = 1
    warmup: float = 0.0
    keeps_last: bool = False
    joint: bool = False
    anneal: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anneal", torch.ones(()), persistent=False)

    def draw(self, model: nn.Module, x: Tree, c: Tree = None) -> Draw:
        return model.draw(x, self.samples, c)  # type: ignore[operator]

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{player: loss}; the player "model" minimises minus the bound."""
        raise NotImplementedError

    def players(self, model: nn.Module) -> dict[str, Player]:
        """{player: parameters and optimiser options}; the sets are disjoint."""
        return {"model": Player([p for p in model.parameters() if p.requires_grad])}

    def __add__(self, term: Penalty | tuple[float, Penalty]) -> Objective:
        weight, penalty = term if isinstance(term, tuple) else (1.0, term)
        return Penalised(self, weight, penalty)


class Penalty(nn.Module):
    """A term ``penalty(model, x, draw) -> scalar`` that the player named ``player`` pays.

    A penalty with parameters of its own (a critic) gives its own player's loss in ``own_losses`` and ``players``.
    ``keeps_last`` and ``joint`` as for :class:`Objective`. ``weight * penalty`` raises ``ValueError`` for a weight that
    is no number from 0.
    """

    player: str = "model"
    keeps_last: bool = False
    joint: bool = False

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        raise NotImplementedError

    def own_losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        return {}

    def players(self) -> dict[str, Player]:
        return {}

    def __rmul__(self, weight: float) -> tuple[float, Penalty]:
        require(is_number(weight) and weight >= 0, f"the weight of {type(self).__name__}", "a number from 0", weight)
        return (float(weight), self)


class Penalised(Objective):
    """loss = -bound + weight x penalty."""

    def __init__(self, objective: Objective, weight: float, penalty: Penalty):
        super().__init__()
        self.objective, self.weight, self.penalty = objective, weight, penalty
        self.samples = objective.samples
        self.keeps_last = objective.keeps_last or penalty.keeps_last
        self.joint = objective.joint or penalty.joint

    def draw(self, model: nn.Module, x: Tree, c: Tree = None) -> Draw:
        return self.objective.draw(model, x, c)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        losses = self.objective.losses(model, x, draw)
        payer = self.penalty.player
        losses[payer] = losses[payer] + self.weight * self.penalty(model, x, draw)
        return losses | self.penalty.own_losses(model, x, draw)

    def players(self, model: nn.Module) -> dict[str, Player]:
        return self.objective.players(model) | self.penalty.players()


def check_disjoint(players: dict[str, Player]) -> None:
    """Raise ``ValueError`` where two players share a parameter."""
    owner: dict[int, str] = {}
    for name, player in players.items():
        for parameter in _unique(player.parameters):
            if id(parameter) in owner:
                raise ValueError(f"players {owner[id(parameter)]!r} and {name!r} share a parameter")
            owner[id(parameter)] = name


def _unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(p): p for p in parameters}.values())
