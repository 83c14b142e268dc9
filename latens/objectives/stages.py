"""Two stages that are learned at the same time; the loss of one does not move the other."""

from __future__ import annotations

from torch import Tensor, nn

from latens.models.draw import Draw
from latens.models.stages import TwoStage
from latens.objectives.base import Player, mean_over_rows
from latens.objectives.bounds import ELBO
from latens.tensors.trees import Tree


class TwoStageELBO(ELBO):
    """The ELBO of each stage of a :class:`latens.models.TwoStage` (Dai & Wipf 2019).

    The player "model" maximises the first stage's ELBO. The player "second" maximises the second stage's ELBO on the
    codes of the first stage, and does not change that stage. The paper trains one stage after the other; here both
    learn at the same time.
    """

    def draw(self, model: nn.Module, x: Tree, c: Tree = None) -> Draw:
        """The draw of the first stage."""
        return _stages(model).first_draw(x, self.samples, c)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the first stage's mean bound, "second": minus the second's}, scalars."""
        second = _stages(model).second_draw(draw.codes.detach())
        bound = second.log_px - self.anneal * second.rate(self.kl)
        return super().losses(model, x, draw) | {"second": -mean_over_rows(bound.mean(0), draw.weight)}

    def players(self, model: nn.Module) -> dict[str, Player]:
        """{"model": the first stage, "second": the second}."""
        second = list(_stages(model).second.parameters())
        own = {id(p) for p in second}
        return {"model": Player([p for p in model.parameters() if id(p) not in own]), "second": Player(second)}


def _stages(model: nn.Module) -> TwoStage:
    if not isinstance(model, TwoStage):
        raise ValueError(f"the model of this objective must be a TwoStage, got {type(model).__name__}")
    return model
