"""Ordered levels: a latent logistic number cut into intervals."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from latens.tensors.numerics import broadcast_shape, log1mexp


class Ordinal(Distribution):
    r"""Ordered levels 0 … L-1: a logistic number around ``loc``, cut into intervals (McCullagh 1980, proportional
    odds).

    .. math:: P(x \le k) = \sigma(c_k - \mathrm{loc}), \qquad c_0 < \dots < c_{L-2}

    .. math:: \ln p(k) = \ln \sigma(c_k - \mathrm{loc}) + \ln \sigma(\mathrm{loc} - c_{k-1})
        + \ln\left(1 - e^{c_{k-1} - c_k}\right)

    In the second formula, the lowest and the highest level have no term for the cutpoint that they lack. The formula is
    exact however far away ``loc`` is. The median stands for the distribution.

    Args:
        loc: ``[..., n]``.
        cutpoints: c, ``[n, L-1]`` or ``[..., n, L-1]``, increasing.

    >>> px = Ordinal(torch.zeros(1), torch.tensor([[-1.0, 1.0]]))
    >>> round(px.log_prob(torch.tensor([[0], [1], [2]])).exp().sum().item(), 6)
    1.0
    """

    arg_constraints = {"loc": constraints.real}
    fill = 0.0

    def __init__(self, loc: Tensor, cutpoints: Tensor):
        self.loc, self.cutpoints = loc, cutpoints
        super().__init__(broadcast_shape(loc.shape, cutpoints.shape[:-1]), validate_args=False)

    @property
    def _above(self) -> Tensor:
        """P(x > k), ``[..., L-1]``."""
        return (self.loc.unsqueeze(-1) - self.cutpoints).sigmoid()

    @property
    def mean(self) -> Tensor:
        r"""Mean level, :math:`\sum_k P(x > k)`, ``[..., n]``."""
        return self._above.sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of the level, ``[..., n]``."""
        above = self._above
        odd = 2 * torch.arange(above.shape[-1], dtype=above.dtype, device=above.device) + 1
        return (above * odd).sum(-1) - above.sum(-1).square()

    @property
    def support(self) -> constraints.Constraint:
        """The whole numbers 0 … L-1."""
        return constraints.integer_interval(0, self.cutpoints.shape[-1])

    @property
    def center(self) -> Tensor:
        """The median level, ``[..., n]``."""
        return (self.cutpoints < self.loc.unsqueeze(-1)).sum(-1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., n]`` of levels, without gradients."""
        with torch.no_grad():
            u = torch.rand([*sample_shape, *self._batch_shape], dtype=self.loc.dtype, device=self.loc.device)
            latent = self.loc + torch.logit(u, eps=torch.finfo(u.dtype).tiny)
            return (self.cutpoints < latent.unsqueeze(-1)).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each level, in nats, ``[..., n]``."""
        top = self.cutpoints.shape[-1]
        lead = broadcast_shape(value.shape, self.cutpoints.shape[:-1])
        level = value.long().expand(lead)
        cutpoints = self.cutpoints.expand(*lead, top)

        def cut(index: Tensor) -> Tensor:
            return cutpoints.gather(-1, index.clamp(0, top - 1).unsqueeze(-1)).squeeze(-1)

        high, low = cut(level), cut(level - 1)
        lowest, highest = level <= 0, level >= top
        below = torch.where(highest, 0.0, logsigmoid(high - self.loc))
        above = torch.where(lowest, 0.0, logsigmoid(self.loc - low))
        ends = lowest | highest
        return below + above + torch.where(ends, 0.0, log1mexp(torch.where(ends, 1.0, high - low)))
