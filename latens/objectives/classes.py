"""Learning with classes that are known only for some rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latens.errors import is_number, require
from latens.models.classes import ClassDraw
from latens.models.draw import Draw
from latens.objectives.base import mean_over_rows
from latens.objectives.bounds import ELBO
from latens.tensors.trees import Tree


class SemiSupervisedELBO(ELBO):
    r"""The bound of a model with a class that is known only for some rows (Kingma et al. 2014).

    For rows whose class is given, it is the bound on ln p(x|y) plus ``classification`` × ln q(y|x). For other rows it
    is a bound on ln p(x), in which the sum over classes is exact:

    .. math:: \sum_y q(y \mid x) \left[\mathrm{bound}_y(x) + \ln p(y) - \ln q(y \mid x)\right]

    ``classification`` times the share of labelled rows is the alpha of the paper. The constant ln p(y) of a given class
    is left out.

    Args:
        classification: the weight of ln q(y|x), from 0.
        samples: draws per row.
    """

    def __init__(self, classification: float = 10.0, samples: int = 1):
        super().__init__(1.0, samples)
        require(is_number(classification) and classification >= 0, "classification", "a number from 0", classification)
        self.classification = float(classification)

    def row_terms(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """(the bound of each row; ln q(y|x) of its class, or 0 if it has none), ``[B]`` each, in nats."""
        assert isinstance(draw, ClassDraw) and draw.each is not None
        each, log_qy = draw.each, draw.log_qy
        bounds = super().bound(each).t()  # B x Y
        missing = draw.given.isnan()
        at = draw.given.nan_to_num().long().unsqueeze(-1)
        classes = log_qy.shape[-1]
        free = (log_qy.exp() * (bounds - self.anneal * (log_qy + math.log(classes)))).sum(-1)
        bound = torch.where(missing, free, bounds.gather(-1, at).squeeze(-1))
        return bound, torch.where(missing, 0.0, log_qy.gather(-1, at).squeeze(-1))

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, in nats, ``[B]``."""
        return self.row_terms(draw)[0]

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean of bound + classification × ln q(y|x)}, a scalar."""
        bound, log_qy = self.row_terms(draw)
        return {"model": -mean_over_rows(bound + self.classification * log_qy, draw.weight)}
