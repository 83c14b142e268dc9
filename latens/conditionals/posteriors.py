"""Posteriors q(z|x): what a network's output says of the codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.errors import is_whole, require
from latens.tensors.numerics import positive
from latens.tensors.trees import Tree


class PointMassPosterior(Conditional):
    """All mass at the network's output ``[..., Z]``: the encoder of a plain autoencoder."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.PointMass(output)


class DiagonalNormalPosterior(Conditional):
    """q(z|x) = N(g(x), diag h(x)); the network gives ``[..., 2 Z]``: g, then the raw h.

    h is the **variance**: h = softplus(raw + ln(e - 1)) + 1e-8, so that a raw output of 0 means h = 1, and the draw is
    z = g + sqrt(h) * noise (Kingma & Welling 2014).
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        if output.shape[-1] % 2:
            raise ValueError(
                f"DiagonalNormalPosterior needs an even number of outputs (g and h), got {output.shape[-1]}"
            )
        mean, raw = output.chunk(2, -1)
        return d.DiagonalNormal(mean, positive(raw, 1e-8))


class UnitUniformPosterior(Conditional):
    """q(z|x) uniform on the box of side 1 around g(x) ``[..., Z]``, what the network gives: noise in the place of
    rounding (Ballé et al. 2017). It reaches no z outside, so importance weights have the mean int_box p(x, z) dz, which
    is below p(x)."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.UnitUniform(output)


class DitheredNormal(Conditional):
    """N(0, diag h(a)) blurred by uniform noise of width 1, for codes with that noise; the network gives ``[..., Z]``,
    the raw h, which stays above 0.01 (Ballé et al. 2018)."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        spread = positive(output, 1e-2).unsqueeze(-1)
        return d.DitheredMixture(torch.zeros_like(spread), torch.zeros_like(spread), spread)


class FullNormalPosterior(Conditional):
    """q(z|x) = N(g(x), L L^T); the network gives ``[..., Z + Z(Z+1)/2]``: g, then L row by row, diagonal raw."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        total = output.shape[-1]
        size = (math.isqrt(9 + 8 * total) - 3) // 2
        if size * (size + 3) != 2 * total:
            raise ValueError(f"FullNormalPosterior needs Z + Z(Z+1)/2 outputs for some Z, got {total}")
        row, column = torch.tril_indices(size, size)
        tril = output.new_zeros(*output.shape[:-1], size, size)
        tril[..., row, column] = output[..., size:]
        diagonal = tril.diagonal(dim1=-2, dim2=-1)
        tril = tril - torch.diag_embed(diagonal) + torch.diag_embed(positive(diagonal, 1e-4))
        return d.FullNormal(output[..., :size], tril)


class LowRankNormalPosterior(Conditional):
    """q(z|x) = N(g(x), diag h(x) + U(x) U(x)^T), U of ``rank`` columns; the network gives ``[..., Z (2 + rank)]``: g,
    then the raw h, then U row by row (Ong, Nott & Smith 2018).

    Raises ``ValueError`` where the outputs cannot be divided so.
    """

    def __init__(self, network: nn.Module, rank: int, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        require(is_whole(rank) and rank >= 1, "rank", "a whole number from 1", rank)
        self.rank = int(rank)

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        size, rest = divmod(output.shape[-1], 2 + self.rank)
        if rest:
            raise ValueError(
                f"LowRankNormalPosterior of rank {self.rank} needs Z x {2 + self.rank} outputs, got {output.shape[-1]}"
            )
        mean, raw, factor = output.split([size, size, size * self.rank], -1)
        return d.LowRankNormal(mean, positive(raw, 1e-8), factor.unflatten(-1, (size, self.rank)))


class ChainedPosterior(nn.Module):
    """q(a|x) q(b|x, a) over z = (a, b) side by side: two groups of codes, the second given the first.

    ``first``: q(a|x), a conditional. ``context``: a :class:`PointMassPosterior` x -> ``[..., H]``, what b sees of x.
    ``second``: a :class:`DiagonalNormalPosterior` ``[..., H + A]`` -> ``size`` dimensions of b. (Tomczak & Welling
    2018)
    """

    def __init__(self, first: nn.Module, context: PointMassPosterior, second: DiagonalNormalPosterior, size: int):
        super().__init__()
        self.first, self.context, self.second, self.size = first, context, second, size
        self.reads = tuple(dict.fromkeys((*getattr(first, "reads", ()), *context.reads)))

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        h = self.context(given, c).mean

        def second(a: Tensor) -> Distribution:
            return self.second(torch.cat([h.expand(*a.shape[:-1], h.shape[-1]), a], -1))

        return d.Chained(self.first(given, c), second, self.size)
