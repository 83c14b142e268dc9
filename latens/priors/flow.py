"""A prior that is a normalising flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals import AutoregressiveStep
from latens.errors import is_whole, require, require_count
from latens.priors.normal import require_given
from latens.tensors.trees import Tree


class FlowPrior(nn.Module):
    """p(z): z = T(u), u ~ N(0, I), T a stack of spline couplings in alternating order (Durkan et al. 2019).

    ln p(z) = ln N(T^-1 z; 0, I) + ln |det dT^-1/dz|, one pass a step; a draw takes two. The splines are those of
    ``bins`` bins on [-5, 5]. With ``network`` (``{key: c[key]}`` for the keys in ``reads`` -> ``[B, context]``) T is
    that of the condition. Raises ``ValueError`` for sizes below 1 and where a key was not given.
    """

    zeros: Tensor

    def __init__(
        self, dim: int, steps: int = 4, bins: int = 8, *, network: nn.Module | None = None, context: int = 0,
        reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__()
        require_count(steps, "steps")
        require(is_whole(bins) and bins >= 2, "bins", "a whole number from 2", bins)
        self.network, self.reads = network, tuple(reads)
        self.steps = nn.ModuleList(
            AutoregressiveStep(dim, context, bins, reverse=bool(number % 2), coupling=True) for number in range(steps)
        )
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)

    def forward(self, c: Tree = None) -> Distribution:
        seen = self.zeros
        if self.network is not None:
            require_given(self.reads, c)
            seen = self.network({key: c[key] for key in self.reads})
        base = self.zeros.expand(*seen.shape[:-1], -1)
        steps = [d.Inverse(step(seen)) for step in self.steps]
        return d.Pushforward(d.DiagonalNormal(base, torch.ones_like(base)), d.Composed(steps))
