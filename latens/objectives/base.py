"""The base of objectives: what is optimised, and by which player."""

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
    """The mean over the batch of one value per row ``[..., B]``, with sample weights (mean 1 over the data) applied."""
    return values.mean() if weight is None else (values * weight).mean()


@dataclass
class Player:
    """A set of parameters with a separate loss.

    Args:
        parameters: the parameters that the loss moves.
        options: options of the optimiser.
        every: the player moves in every n-th step.
    """

    parameters: list[nn.Parameter]
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1


class Objective(nn.Module):
    """Base of all objectives: losses per row, sums over the dimensions and means over the batch, in nats.

    ``draw`` decides how many draws are taken. ``losses`` gives, for each player, one scalar to minimise. ``players``
    gives the parameters that each loss moves. ``objective + weight * penalty`` adds a penalty.

    Attributes:
        samples: draws per row.
        warmup: the fraction of the steps over which ``anneal`` rises from 0 to 1, unless the settings say otherwise.
        anneal: set by the training loop during KL warm-up; at 1 the objective has its final form, in which early
            stopping evaluates it.
        keeps_last: whether the last weights are the result, whatever the validation bound says.
        joint: whether the loss is not a mean over rows, so that it can neither be split over processes nor be weighted
            by row.
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
        """The draw from which the losses are computed."""
        return model.draw(x, self.samples, c)  # type: ignore[operator]

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{player: loss}, scalars; the loss of the player "model" is minus the bound."""
        raise NotImplementedError

    def players(self, model: nn.Module) -> dict[str, Player]:
        """{player: parameters and optimiser options}; the sets are disjoint."""
        return {"model": Player([p for p in model.parameters() if p.requires_grad])}

    def __add__(self, term: Penalty | tuple[float, Penalty]) -> Objective:
        weight, penalty = term if isinstance(term, tuple) else (1.0, term)
        return Penalised(self, weight, penalty)


class Penalty(nn.Module):
    """A term added to the loss of the player named ``player``; ``weight * penalty`` can be added to an objective.

    A penalty with parameters (a critic) gives its player's loss in ``own_losses``, and the player in ``players``.
    For ``keeps_last`` and ``joint``, see :class:`Objective`. ``ValueError`` if the weight is negative, or not a
    number.
    """

    player: str = "model"
    keeps_last: bool = False
    joint: bool = False

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The penalty, a scalar."""
        raise NotImplementedError

    def own_losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{player: loss} for players that the penalty adds."""
        return {}

    def players(self) -> dict[str, Player]:
        """{player: parameters} for players that the penalty adds."""
        return {}

    def __rmul__(self, weight: float) -> tuple[float, Penalty]:
        require(is_number(weight) and weight >= 0, f"the weight of {type(self).__name__}", "a number from 0", weight)
        return (float(weight), self)


class Penalised(Objective):
    """An objective plus a weighted penalty: loss = -bound + weight × penalty."""

    def __init__(self, objective: Objective, weight: float, penalty: Penalty):
        super().__init__()
        self.objective, self.weight, self.penalty = objective, weight, penalty
        self.samples = objective.samples
        self.keeps_last = objective.keeps_last or penalty.keeps_last
        self.joint = objective.joint or penalty.joint

    def draw(self, model: nn.Module, x: Tree, c: Tree = None) -> Draw:
        """The draw of the objective."""
        return self.objective.draw(model, x, c)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """The losses of the objective, with the penalty added to its player's loss, and the penalty's own losses."""
        losses = self.objective.losses(model, x, draw)
        payer = self.penalty.player
        losses[payer] = losses[payer] + self.weight * self.penalty(model, x, draw)
        return losses | self.penalty.own_losses(model, x, draw)

    def players(self, model: nn.Module) -> dict[str, Player]:
        """The players of the objective and of the penalty."""
        return self.objective.players(model) | self.penalty.players()


def check_disjoint(players: dict[str, Player]) -> None:
    """Raise ``ValueError`` if two players share a parameter."""
    owner: dict[int, str] = {}
    for name, player in players.items():
        for parameter in _unique(player.parameters):
            if id(parameter) in owner:
                raise ValueError(f"players {owner[id(parameter)]!r} and {name!r} share a parameter: give it to one")
            owner[id(parameter)] = name


def _unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(p): p for p in parameters}.values())
