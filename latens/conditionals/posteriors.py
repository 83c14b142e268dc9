"""Posteriors q(z|x): what a network's output says of the codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.numerics import positive
from latens.trees import Tree


class PointMass(Conditional):
    """All mass at the network's output ``[..., Z]``: the encoder of a plain autoencoder."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.PointMass(output)


class DiagonalNormal(Conditional):
    """q(z|x) = N(g(x), diag h(x)); the network gives ``[..., 2 Z]``: g, then the raw h.

    h is the **variance**: h = softplus(raw + ln(e - 1)) + 1e-8, so that a raw output of 0 means h = 1, and the draw is
    z = g + sqrt(h) * noise (Kingma & Welling 2014).
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        if output.shape[-1] % 2:
            raise ValueError(f"DiagonalNormal needs an even number of outputs (g and h), got {output.shape[-1]}")
        mean, raw = output.chunk(2, -1)
        return d.DiagonalNormal(mean, positive(raw, 1e-8))


class FullNormal(Conditional):
    """q(z|x) = N(g(x), L L^T); the network gives ``[..., Z + Z(Z+1)/2]``: g, then L row by row, diagonal raw."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        total = output.shape[-1]
        size = (math.isqrt(9 + 8 * total) - 3) // 2
        if size * (size + 3) != 2 * total:
            raise ValueError(f"FullNormal needs Z + Z(Z+1)/2 outputs for some Z, got {total}")
        row, column = torch.tril_indices(size, size)
        tril = output.new_zeros(*output.shape[:-1], size, size)
        tril[..., row, column] = output[..., size:]
        diagonal = tril.diagonal(dim1=-2, dim2=-1)
        tril = tril - torch.diag_embed(diagonal) + torch.diag_embed(positive(diagonal, 1e-4))
        return d.FullNormal(output[..., :size], tril)
