"""Two stages learned side by side, neither moved by the other's loss."""

from __future__ import annotations

from torch import Tensor, nn

from latens.models.draw import Draw
from latens.models.stages import TwoStage
from latens.objectives.base import Player, mean_over_rows
from latens.objectives.bounds import ELBO
from latens.tensors.trees import Tree


class TwoStageELBO(ELBO):
    """The player "model" maximises the first stage's ELBO, the player "second" that of the second stage on the first's
    codes, which it does not move (Dai & Wipf 2019, who train them in turn; here the second follows the first)."""

    def draw(self, model: nn.Module, x: Tree, c: Tree = None) -> Draw:
        return _stages(model).first_draw(x, self.samples, c)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        second = _stages(model).second_draw(draw.codes.detach())
        bound = second.log_px - self.anneal * second.rate(self.kl)
        return super().losses(model, x, draw) | {"second": -mean_over_rows(bound.mean(0), draw.weight)}

    def players(self, model: nn.Module) -> dict[str, Player]:
        second = list(_stages(model).second.parameters())
        own = {id(p) for p in second}
        return {"model": Player([p for p in model.parameters() if id(p) not in own]), "second": Player(second)}


def _stages(model: nn.Module) -> TwoStage:
    if not isinstance(model, TwoStage):
        raise ValueError(f"this objective trains a TwoStage model, got {type(model).__name__}")
    return model
