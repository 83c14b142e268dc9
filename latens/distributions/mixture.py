"""Mixtures of diagonal normals over codes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.distributions.normal import LOG_2PI
from latens.tensors.numerics import broadcast_shape
from latens.tensors.randomness import standard_normal


class NormalMixture(Distribution):
    r"""A mixture of diagonal normals over the last axis.

    .. math:: p(z) = \sum_j w_j\, \mathcal{N}(z; \mu_j, \operatorname{diag} \sigma_j^2)

    Draws are exact and carry no gradient.

    Args:
        logits: ``[..., J]``, whose softmax is w.
        loc: :math:`\mu`, ``[..., J, Z]``.
        variance: :math:`\sigma^2 > 0`, ``[..., J, Z]``.

    >>> p = NormalMixture(torch.zeros(2), torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
    >>> p.mean.tolist(), p.variance.tolist()
    ([0.0], [2.0])
    """

    arg_constraints = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "component_variance": constraints.independent(constraints.positive, 2),
    }
    has_rsample = False

    def __init__(self, logits: Tensor, loc: Tensor, variance: Tensor):
        lead = broadcast_shape(logits.shape, loc.shape[:-1], variance.shape[:-1])
        self.logits, self.loc = logits.expand(lead), loc.expand(*lead, loc.shape[-1])
        self.component_variance = variance.expand(*lead, loc.shape[-1])
        super().__init__(lead[:-1], loc.shape[-1:], validate_args=False)

    @property
    def weights(self) -> Tensor:
        """w, ``[..., J]``."""
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Tensor:
        r""":math:`\sum_j w_j \mu_j`, ``[..., Z]``."""
        return (self.weights.unsqueeze(-1) * self.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        r""":math:`\sum_j w_j [\sigma_j^2 + (\mu_j - \mathrm{mean})^2]`, ``[..., Z]``."""
        around = self.component_variance + (self.loc - self.mean.unsqueeze(-2)).square()
        return (self.weights.unsqueeze(-1) * around).sum(-2)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., Z]``, without gradients."""
        with torch.no_grad():
            which = torch.distributions.Categorical(logits=self.logits).sample(torch.Size(sample_shape))
            index = which[..., None, None].expand(*which.shape, 1, self.loc.shape[-1])
            loc, variance = (
                torch.gather(part.expand(*sample_shape, *part.shape), -2, index).squeeze(-2)
                for part in (self.loc, self.component_variance)
            )
            return loc + variance.sqrt() * standard_normal(torch.Size(), loc)

    def _joint(self, value: Tensor) -> Tensor:
        """ln w_j + ln N(z; component j), in nats, ``[..., J]``. The square is expanded into a matrix product, in
        float64, since digits cancel."""
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        z, loc, precision = value.to(wide), self.loc.to(wide), self.component_variance.to(wide).reciprocal()
        squares = torch.cat([z * z, z], -1).unsqueeze(-2) @ torch.cat([precision, -2 * loc * precision], -1).mT
        rest = (loc.square() * precision - precision.log() + LOG_2PI).sum(-1)
        return self.logits.log_softmax(-1) - 0.5 * (squares.squeeze(-2) + rest).to(self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(z), in nats, ``[...]``."""
        return self._joint(value).logsumexp(-1)

    def shares(self, value: Tensor) -> Tensor:
        """The probability that z comes from each component, ``[..., J]``."""
        return self._joint(value).softmax(-1)
