"""A first layer for codes in the Poincaré ball."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latens.errors import require_count


class Gyroplanes(nn.Module):
    r"""Signed hyperbolic distances to hyperplanes of the ball of curvature -c, ``[..., inputs]`` -> ``[..., outputs]``.

    .. math:: f_j(z) = \frac{2 \lVert a_j \rVert}{\sqrt{c}\, (1 - c \lVert p_j \rVert^2)}
        \operatorname{arsinh}
        \frac{2 \sqrt{c}\, \langle u_j, a_j \rangle}{(1 - c \lVert u_j \rVert^2) \lVert a_j \rVert},
        \qquad u_j = (-p_j) \oplus z

    with learned orientations :math:`a_j` and offsets :math:`p_j`. As c -> 0, it becomes the linear map :math:`4 \langle
    z - p_j, a_j \rangle` (Ganea, Bécigneul & Hofmann 2018; Mathieu et al. 2019).

    >>> Gyroplanes(2, 5)(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(self, inputs: int, outputs: int, c: float = 1.0):
        super().__init__()
        require_count(outputs, "features", most=100_000)
        self.c = float(c)
        self.orientation = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.offset = nn.Parameter(torch.randn(outputs, inputs) * 0.1)  # tangent vectors at 0

    def forward(self, z: Tensor) -> Tensor:
        """``[..., inputs]`` -> ``[..., outputs]``."""
        c, root, a = self.c, math.sqrt(self.c), self.orientation
        length = self.offset.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
        p = torch.tanh(root * length / 2) * self.offset / (root * length)
        zp, za, zz = z @ p.mT, z @ a.mT, z.square().sum(-1, keepdim=True)  # [..., outputs], [..., 1]
        pp, pa, size = p.square().sum(-1), (p * a).sum(-1), a.square().sum(-1).clamp_min(1e-12).sqrt()
        along, across, below = 1 - 2 * c * zp + c * zz, 1 - c * pp, 1 - 2 * c * zp + c * c * pp * zz
        ua = (across * za - along * pa) / below
        uu = (along.square() * pp - 2 * along * across * zp + across.square() * zz) / below.square()
        distance = torch.asinh(2 * root * ua / ((1 - c * uu).clamp_min(1e-7) * size))
        return 2 * size / (root * across) * distance
