"""Discrepancies between two samples, and between the codes of a batch and draws from the prior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latens.errors import is_number, is_whole, require, require_count
from latens.models.draw import Draw
from latens.objectives.base import Penalty
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree, flat_codes

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def prior_codes(draw: Draw) -> Tensor:
    """Independent draws from the prior (from each row's own p(z|c)), one for each code, ``[K B, Z]``."""
    k, batch = draw.log_px.shape
    lead = (k,) if draw.p.batch_shape else (k * batch,)
    return flat_codes(draw.p.sample(torch.Size(lead)), leading=len(lead) + len(draw.p.batch_shape)).flatten(0, -2)


def square_distances(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`\lVert a_i - b_j \rVert^2`, from ``[N, Z]`` and ``[M, Z]`` to ``[N, M]``. It is computed from
    differences, so that it is exactly 0 for equal points.
    """
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)


def mmd(a: Tensor, b: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    r"""The squared maximum mean discrepancy of two samples ``[N, Z]`` and ``[M, Z]``, unbiased (Gretton et al. 2012).

    .. math:: \operatorname{E} k(a, a') + \operatorname{E} k(b, b') - 2 \operatorname{E} k(a, b), \qquad
        k(a, b) = \sum_s \frac{C_s}{C_s + \lVert a - b \rVert^2}

    over pairs of different points, with inverse multiquadrics of :math:`C_s = 2 Z s`; for s = 1 this is the mean
    squared distance of two draws from N(0, I) (Tolstikhin et al. 2018). The result may be negative.
    """

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        square = square_distances(one, other)
        widths = [2.0 * a.shape[-1] * s for s in scales]
        return torch.stack([width / (width + square) for width in widths]).sum(0)

    def within(points: Tensor) -> Tensor:
        n = len(points)
        return (kernel(points, points).sum() - n * len(scales)) / max(n * (n - 1), 1)

    return within(a) + within(b) - 2 * kernel(a, b).mean()


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance of two samples ``[N, Z]`` projected onto lines, averaged over lines (Bonneel
    et al. 2015).

    On a line it is the mean squared difference of sorted values. ``directions`` ``[P, Z]`` may have any length.
    """
    lines = directions / directions.norm(dim=-1, keepdim=True)
    return ((a @ lines.mT).sort(0).values - (b @ lines.mT).sort(0).values).square().mean()


def transport_cost(a: Tensor, b: Tensor, epsilon: float, iterations: int) -> Tensor:
    r"""Entropic optimal transport between samples ``[N, Z]`` and ``[M, Z]`` (Cuturi 2013).

    .. math:: \min_P \langle P, C \rangle + \epsilon \operatorname{KL}(P \,\|\, \text{uniform}), \qquad
        C_{ij} = \lVert a_i - b_j \rVert^2

    by ``iterations`` of Sinkhorn's algorithm in the log domain. It returns the value of the dual problem, a lower bound
    that rises with the iterations. Its gradient is the gradient of :math:`\langle P, C \rangle` at the plan found.
    """
    cost = square_distances(a, b)
    n, m = cost.shape
    fixed = cost.detach()
    f, g = fixed.new_zeros(n), fixed.new_zeros(m)
    for _ in range(iterations):
        f = -epsilon * (torch.logsumexp((g - fixed) / epsilon, 1) - math.log(m))
        g = -epsilon * (torch.logsumexp((f.unsqueeze(1) - fixed) / epsilon, 0) - math.log(n))
    plan = ((f.unsqueeze(1) + g - cost) / epsilon - math.log(n * m)).exp()
    return f.mean() + g.mean() + epsilon * (1 - plan.sum())


def sinkhorn_divergence(a: Tensor, b: Tensor, epsilon: float = 1.0, iterations: int = 30) -> Tensor:
    r"""The Sinkhorn divergence of two samples ``[N, Z]`` and ``[M, Z]``, a scalar (Feydy et al. 2019).

    .. math:: \operatorname{OT}(a, b) - \tfrac12 \operatorname{OT}(a, a) - \tfrac12 \operatorname{OT}(b, b)

    with :func:`transport_cost`. It is 0 for equal samples, and tends to the squared 2-Wasserstein distance as epsilon
    falls to 0.
    """
    own = transport_cost(a, a, epsilon, iterations) + transport_cost(b, b, epsilon, iterations)
    return transport_cost(a, b, epsilon, iterations) - own / 2


class PriorDiscrepancy(Penalty):
    """A discrepancy between the codes of a batch and the same number of draws from the prior."""

    joint = True

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        """The discrepancy between ``codes`` and ``drawn``, ``[N, Z]`` each, a scalar."""
        raise NotImplementedError

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The discrepancy between the draw's codes and the prior, a scalar."""
        return self.between(draw.codes.flatten(0, 1), prior_codes(draw))


class MMD(PriorDiscrepancy):
    """:func:`mmd` between codes and prior."""

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        """:func:`mmd`, a scalar."""
        return mmd(codes, drawn)


class SlicedWasserstein(PriorDiscrepancy):
    """:func:`sliced_wasserstein` between codes and prior along ``directions`` random lines (Kolouri et al. 2019)."""

    def __init__(self, directions: int = 50):
        super().__init__()
        require(is_whole(directions) and directions >= 1, "directions", "a whole number from 1", directions)
        self.directions = int(directions)

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        """:func:`sliced_wasserstein`, a scalar."""
        return sliced_wasserstein(codes, drawn, standard_normal([self.directions], codes[0]))


class Sinkhorn(PriorDiscrepancy):
    """:func:`sinkhorn_divergence` between codes and prior (Patrini et al. 2019), with ``epsilon`` > 0."""

    def __init__(self, epsilon: float = 1.0, iterations: int = 30):
        super().__init__()
        require(is_number(epsilon) and epsilon > 0, "epsilon", "a positive number", epsilon)
        require_count(iterations, "iterations")
        self.epsilon, self.iterations = float(epsilon), int(iterations)

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        """:func:`sinkhorn_divergence`, a scalar."""
        return sinkhorn_divergence(codes, drawn, self.epsilon, self.iterations)
