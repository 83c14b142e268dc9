"""Priors p(z): modules whose ``forward(c)`` returns a distribution over codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal
from latens.errors import is_whole, require
from latens.numerics import positive
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


class ConditionalNormal(nn.Module):
    """p(z|c) = N(g(c), diag h(c)): each level or value of the condition has codes of its own (Sohn, Lee & Yan 2015).

    ``network`` takes ``{key: c[key]}`` for the keys in ``reads`` and gives ``[B, 2 Z]``: g, then the raw variance.
    Raises ``ValueError`` where a key was not given.
    """

    def __init__(self, network: nn.Module, reads: tuple[str, ...]):
        super().__init__()
        self.network, self.reads = network, tuple(reads)

    def forward(self, c: Tree = None) -> Distribution:
        missing = [key for key in self.reads if c is None or key not in c]
        if missing:
            raise ValueError(f"the prior reads the condition {missing[0]!r}, which was not given")
        mean, raw = self.network({key: c[key] for key in self.reads}).chunk(2, -1)
        return DiagonalNormal(mean, positive(raw, 1e-8))
