"""A prior whose draws a network accepts or rejects."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from latens import distributions as d
from latens.errors import is_whole, require
from latens.tensors.numerics import log_mean_exp
from latens.tensors.trees import Tree


class ResampledPrior(nn.Module):
    r"""N(0, I) changed by a learned acceptance a(z) (LARS, Bauer & Mnih 2019).

    A draw of N(0, I) is accepted with probability a(z) = sigmoid(network(z)); the T-th draw is always accepted. See
    :class:`latens.distributions.Resampled` for the density. A = E[a(z)] is estimated from ``points`` draws of N(0, I),
    which are new in every training step. In evaluation it is the mean over 2^14 fixed draws that training never saw;
    the relative standard error of A is then at most :math:`\sqrt{(1 / A - 1) / 2^{14}}`, the same error for every row.
    ``ValueError`` for sizes below 1.

    Args:
        network: a network from ``[..., Z]`` to ``[..., 1]``.
        dim: the dimensions of z, Z.
        truncation: the number of tries, T.
        points: the number of draws for A in each training step.
    """

    EVALUATED = 2**14
    reads: tuple[str, ...] = ()
    zeros: Tensor
    held_out: Tensor

    def __init__(self, network: nn.Module, dim: int, truncation: int = 100, points: int = 1024):
        super().__init__()
        require(is_whole(truncation) and truncation >= 1, "truncation", "a whole number from 1", truncation)
        require(is_whole(points) and points >= 1, "points", "a whole number from 1", points)
        self.network, self.truncation, self.points = network, int(truncation), int(points)
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        fixed = torch.Generator().manual_seed(0)
        draws = torch.randn(self.EVALUATED, dim, generator=fixed, dtype=torch.float64)
        self.register_buffer("held_out", draws.to(self.zeros), persistent=False)

    def log_accept(self, z: Tensor) -> Tensor:
        """ln a(z), ``[..., Z]`` -> ``[...]``."""
        return logsigmoid(self.network(z)).squeeze(-1)

    def log_mean_accept(self) -> Tensor:
        """ln A, a scalar."""
        like, size = self.zeros, len(self.zeros)
        if self.training:  # every process draws the same points
            z = torch.randn(self.points, size, dtype=like.dtype, device=like.device)
        else:
            z = self.held_out
        return log_mean_exp(self.log_accept(z), 0)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[Z]``."""
        base = d.DiagonalNormal(self.zeros, torch.ones_like(self.zeros))
        return d.Resampled(base, self.log_accept, self.log_mean_accept(), self.truncation)
