"""Priors p(z): modules whose ``forward(c)`` returns a distribution over codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal
from latens.errors import is_whole, require
from latens.trees import Tree


class StandardNormal(nn.Module):
    """p(z) = N(0, I) in ``dim`` dimensions.

    Raises ``ValueError`` for a dimension below 1.

    >>> StandardNormal(3)().event_shape
    torch.Size([3])
    """

    reads: tuple[str, ...] = ()
    zeros: Tensor
    ones: Tensor

    def __init__(self, dim: int):
        super().__init__()
        require(is_whole(dim) and dim >= 1, "the latent dimension", "a whole number from 1", dim)
        self.dim = int(dim)
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        self.register_buffer("ones", torch.ones(dim), persistent=False)

    def forward(self, c: Tree = None) -> Distribution:
        return DiagonalNormal(self.zeros, self.ones)
