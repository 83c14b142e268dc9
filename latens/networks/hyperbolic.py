"""A first layer for codes in the Poincare ball."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latens.errors import require_count


class Gyroplanes(nn.Module):
    """Signed hyperbolic distances of points ``[..., n]`` of the ball of curvature -c to ``outputs`` hyperplanes.

    f_j(z) = 2 |a_j| / (sqrt(c) (1 - c |p_j|^2)) asinh(2 sqrt(c) <u, a_j> / ((1 - c |u|^2) |a_j|)), u = (-p_j) + z in
    the sense of Moebius, with orientation a_j and offset p_j; as c -> 0 the linear map 4 <z - p_j, a_j>. (Ganea,
    Becigneul & Hofmann 2018; Mathieu et al. 2019)

    >>> Gyroplanes(2, 5)(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(self, inputs: int, outputs: int, c: float = 1.0):
        super().__init__()
        require_count(outputs, "features", most=100_000)
        self.c = float(c)
        self.orientation = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.offset = nn.Parameter(torch.randn(outputs, inputs) * 0.1)  # of tangent vectors at 0

    def forward(self, z: Tensor) -> Tensor:
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
