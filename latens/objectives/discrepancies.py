"""Discrepancies between two samples, and the codes of a batch held against draws from the prior."""

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
    """As many independent draws from the prior as there are codes, ``[K B, Z]``; from each row's own p(z|c)."""
    k, batch = draw.log_px.shape
    lead = (k,) if draw.p.batch_shape else (k * batch,)
    return flat_codes(draw.p.sample(torch.Size(lead)), leading=len(lead) + len(draw.p.batch_shape)).flatten(0, -2)


def square_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, ``[N, Z]``, ``[M, Z]`` -> ``[N, M]``, from the differences: exact 0 for equal points."""
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)


def mmd(a: Tensor, b: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    """The square of the maximum mean discrepancy (Gretton et al. 2012) of two samples ``[N, Z]`` and ``[M, Z]``,
    unbiased: E k(a, a') + E k(b, b') - 2 E k(a, b) over pairs of different points.

    k(a, b) = sum_s C_s / (C_s + |a - b|^2), inverse multiquadrics with C_s = 2 Z s: for s = 1 the mean square distance
    of two draws from N(0, I) (Tolstikhin et al. 2018). It may be negative.
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
    """The mean over ``directions`` ``[P, Z]`` (of any length) of the squared 2-Wasserstein distance between two samples
    ``[N, Z]`` of equal size projected to a line: of sorted values (Bonneel et al. 2015)."""
    lines = directions / directions.norm(dim=-1, keepdim=True)
    return ((a @ lines.mT).sort(0).values - (b @ lines.mT).sort(0).values).square().mean()


def transport_cost(a: Tensor, b: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Entropic optimal transport min_P <P, C> + epsilon KL(P || uniform) with C = squared distances, between samples
    ``[N, Z]`` and ``[M, Z]``, by ``iterations`` of Sinkhorn's in the log domain (Cuturi 2013).

    The value is that of the dual, a lower bound that rises with the iterations; its gradient is that of <P, C> at the
    plan found.
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
    """OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 with :func:`transport_cost`: 0 for equal samples, and the squared
    2-Wasserstein distance as epsilon falls to 0 (Feydy et al. 2019)."""
    own = transport_cost(a, a, epsilon, iterations) + transport_cost(b, b, epsilon, iterations)
    return transport_cost(a, b, epsilon, iterations) - own / 2


class PriorDiscrepancy(Penalty):
    """A discrepancy between the codes of a batch and as many draws from the prior."""

    joint = True

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        return self.between(draw.codes.flatten(0, 1), prior_codes(draw))


class MMD(PriorDiscrepancy):
    """:func:`mmd` between codes and prior."""

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        return mmd(codes, drawn)


class SlicedWasserstein(PriorDiscrepancy):
    """:func:`sliced_wasserstein` between codes and prior along ``directions`` random lines (Kolouri et al. 2019)."""

    def __init__(self, directions: int = 50):
        super().__init__()
        require(is_whole(directions) and directions >= 1, "directions", "a whole number from 1", directions)
        self.directions = int(directions)

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        return sliced_wasserstein(codes, drawn, standard_normal([self.directions], codes[0]))


class Sinkhorn(PriorDiscrepancy):
    """:func:`sinkhorn_divergence` between codes and prior (Patrini et al. 2019)."""

    def __init__(self, epsilon: float = 1.0, iterations: int = 30):
        super().__init__()
        require(is_number(epsilon) and epsilon > 0, "epsilon", "a positive number", epsilon)
        require_count(iterations, "iterations")
        self.epsilon, self.iterations = float(epsilon), int(iterations)

    def between(self, codes: Tensor, drawn: Tensor) -> Tensor:
        return sinkhorn_divergence(codes, drawn, self.epsilon, self.iterations)
