"""Posteriors q(z|x): distributions over codes, parametrised by a network's output."""

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
        """A point mass at ``[..., Z]``."""
        return d.PointMass(output)


class DiagonalNormalPosterior(Conditional):
    r"""The usual posterior (Kingma & Welling 2014); the network gives ``[..., 2 Z]``: g, then the raw h.

    .. math:: q(z \mid x) = \mathcal{N}(z; g(x), \operatorname{diag} h(x)), \qquad
        z = g(x) + \sqrt{h(x)} \odot \varepsilon

    h is the **variance**: h = softplus(raw + ln(e - 1)) + 1e-8, so that a raw output of 0 means h = 1. ``ValueError``
    for an odd number of outputs.

    >>> q = DiagonalNormalPosterior(nn.Identity())(torch.zeros(5, 4))
    >>> q.mean.shape, round(q.variance[0, 0].item(), 4)
    (torch.Size([5, 2]), 1.0)
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z]``."""
        if output.shape[-1] % 2:
            raise ValueError(
                f"DiagonalNormalPosterior must get an even number of outputs (g and h), got {output.shape[-1]}"
            )
        mean, raw = output.chunk(2, -1)
        return d.DiagonalNormal(mean, positive(raw, 1e-8))


class UnitUniformPosterior(Conditional):
    r"""Uniform on the box of side 1 around g(x) ``[..., Z]``, which the network gives.

    The noise imitates rounding (Ballé et al. 2017). The posterior reaches no code outside the box, so the mean of its
    importance weights is :math:`\int_{\text{box}} p(x, z)\, dz`, which is below p(x).
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z]``."""
        return d.UnitUniform(output)


class DitheredNormal(Conditional):
    """N(0, diag h(a)) blurred by uniform noise of width 1, for codes with that noise (Ballé et al. 2018).

    The network gives ``[..., Z]``, the raw h, which stays above 0.01.
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """The density of b given a, over ``[..., Z]``."""
        spread = positive(output, 1e-2).unsqueeze(-1)
        return d.DitheredMixture(torch.zeros_like(spread), torch.zeros_like(spread), spread)


class FullNormalPosterior(Conditional):
    r"""A posterior with a full covariance; the network gives ``[..., Z + Z(Z+1)/2]``.

    .. math:: q(z \mid x) = \mathcal{N}(z; g(x), L(x) L(x)^\top)

    The outputs are g, and then L row by row with a raw diagonal. ``ValueError`` if the number of outputs fits no Z.
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z]``."""
        total = output.shape[-1]
        size = (math.isqrt(9 + 8 * total) - 3) // 2
        if size * (size + 3) != 2 * total:
            raise ValueError(f"FullNormalPosterior must get Z + Z(Z+1)/2 outputs for some Z, got {total}")
        row, column = torch.tril_indices(size, size)
        tril = output.new_zeros(*output.shape[:-1], size, size)
        tril[..., row, column] = output[..., size:]
        diagonal = tril.diagonal(dim1=-2, dim2=-1)
        tril = tril - torch.diag_embed(diagonal) + torch.diag_embed(positive(diagonal, 1e-4))
        return d.FullNormal(output[..., :size], tril)


class LowRankNormalPosterior(Conditional):
    r"""A posterior whose covariance is a diagonal plus a few directions (Ong, Nott & Smith 2018).

    .. math:: q(z \mid x) = \mathcal{N}(z; g(x), \operatorname{diag} h(x) + U(x) U(x)^\top)

    The network gives ``[..., Z (2 + rank)]``: g, then the raw h, then U row by row. ``ValueError`` if the number of
    outputs fits no Z.

    Args:
        network: maps x to the outputs.
        rank: the number of columns of U, at least 1.
        reads: the keys of the condition that the network sees.
    """

    def __init__(self, network: nn.Module, rank: int, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        require(is_whole(rank) and rank >= 1, "rank", "a whole number from 1", rank)
        self.rank = int(rank)

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z]``."""
        size, rest = divmod(output.shape[-1], 2 + self.rank)
        if rest:
            raise ValueError(
                f"LowRankNormalPosterior of rank {self.rank} must get Z x {2 + self.rank} outputs, "
                f"got {output.shape[-1]}"
            )
        mean, raw, factor = output.split([size, size, size * self.rank], -1)
        return d.LowRankNormal(mean, positive(raw, 1e-8), factor.unflatten(-1, (size, self.rank)))


class ChainedPosterior(nn.Module):
    r"""Two groups of codes z = (a, b), where b is given a (Tomczak & Welling 2018).

    .. math:: q(z \mid x) = q(a \mid x)\, q(b \mid x, a)

    Args:
        first: q(a|x), a conditional.
        context: a network from x to ``[..., H]``, the features of x that b sees.
        second: a conditional from ``[..., H + A]`` to b.
        size: the number of dimensions of b.
    """

    def __init__(self, first: nn.Module, context: PointMassPosterior, second: DiagonalNormalPosterior, size: int):
        super().__init__()
        self.first, self.context, self.second, self.size = first, context, second, size
        self.reads = tuple(dict.fromkeys((*getattr(first, "reads", ()), *context.reads)))

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        """q(z|x) over codes ``[..., A + size]``."""
        h = self.context(given, c).mean

        def second(a: Tensor) -> Distribution:
            return self.second(torch.cat([h.expand(*a.shape[:-1], h.shape[-1]), a], -1))

        return d.Chained(self.first(given, c), second, self.size)
