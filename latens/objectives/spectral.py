"""How much the maps of a network can stretch their inputs, and a penalty on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens.errors import is_whole, require
from latens.models.draw import Draw
from latens.objectives.base import Penalty
from latens.tensors.trees import Tree

MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def largest_singular_values(matrices: Tensor, rounds: int = 15) -> Tensor:
    r"""The spectral norms ``[N]`` of matrices ``[N, O, I]``, by ``rounds`` of the power method from a fixed start.

    It is :math:`u^\top W v` with detached unit vectors u and v, so that the gradient is :math:`u v^\top`. The result is
    never above the norm. It falls short by a few hundredths if the two largest singular values are close, and
    otherwise by a relative error of about :math:`(s_2 / s_1)^{4\, \mathrm{rounds}}`.

    >>> round(largest_singular_values(torch.diag(torch.tensor([1.0, 3.0, 2.0])).unsqueeze(0)).item(), 5)
    3.0
    """
    held = matrices.detach()
    v = torch.arange(1, matrices.shape[-1] + 1, device=held.device).to(held).sin().expand(len(held), -1)
    for _ in range(rounds):
        u = nn.functional.normalize((held @ v.unsqueeze(-1)).squeeze(-1), dim=-1)
        v = nn.functional.normalize((held.mT @ u.unsqueeze(-1)).squeeze(-1), dim=-1)
    u = nn.functional.normalize((held @ v.unsqueeze(-1)).squeeze(-1), dim=-1)
    return (u.unsqueeze(1) @ matrices @ v.unsqueeze(-1)).view(-1)


class SpectralNorms(Penalty):
    """The sum of the largest singular values of the model's linear and convolutional maps (Yoshida & Miyato 2017).

    A convolution counts as the matrix of its kernel, ``[O, I x cells]`` (Vahdat & Kautz 2020). The penalty limits how
    far noise in one layer can move the layers after it. ``InputError`` for fewer than one round.
    """

    def __init__(self, rounds: int = 15):
        super().__init__()
        require(is_whole(rounds) and rounds >= 1, "rounds", "a whole number from 1", rounds)
        self.rounds = rounds

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The sum, a scalar."""
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for part in model.modules():
            if isinstance(part, MAPS):
                matrix = part.weight.flatten(1)
                by_shape.setdefault(matrix.shape, []).append(matrix)
        each = [largest_singular_values(torch.stack(found), self.rounds) for found in by_shape.values()]
        return torch.cat(each).sum()
