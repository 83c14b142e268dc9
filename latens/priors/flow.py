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
    r"""A normalising flow, z = T(u) with u ~ N(0, I): spline couplings with alternating halves (Durkan et al. 2019).

    .. math:: \ln p(z) = \ln \mathcal{N}(T^{-1}(z); 0, I) + \ln \left|\det \frac{\partial T^{-1}}{\partial z}\right|

    Per step, a density takes one pass and a draw takes two. ``ValueError`` for sizes below 1, and if a key of the
    condition was not given.

    Args:
        dim: the dimensions of z, Z.
        steps: the number of couplings.
        bins: the number of bins of each spline on [-5, 5], at least 2.
        network: a network from ``{key: c[key]}``, for the keys in ``reads``, to ``[B, context]``; T then depends on its
            output.
        context: the size of this output.
        reads: the keys of the condition.

    >>> p = FlowPrior(3)()
    >>> p.sample((5,)).shape, p.log_prob(torch.zeros(5, 3)).shape
    (torch.Size([5, 3]), torch.Size([5]))
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
        """p(z|c) over codes ``[Z]``, or ``[B, Z]`` with a condition."""
        seen = self.zeros
        if self.network is not None:
            require_given(self.reads, c)
            seen = self.network({key: c[key] for key in self.reads})
        base = self.zeros.expand(*seen.shape[:-1], -1)
        steps = [d.Inverse(step(seen)) for step in self.steps]
        return d.Pushforward(d.DiagonalNormal(base, torch.ones_like(base)), d.Composed(steps))
