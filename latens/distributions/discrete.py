"""Elementwise likelihoods of data with finitely many values: 0/1, categories, ordered levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from latens.tensors.numerics import broadcast_shape, log1mexp_of_log

NEVER = -1e4  # the logit of a forbidden level: its probability underflows to 0, while gradients stay finite


class Bernoulli(Distribution):
    r"""Values 0 and 1, of any storage type.

    .. math:: \ln p(x) = x \eta - \ln(1 + e^\eta), \qquad p(x = 1) = \frac{1}{1 + e^{-\eta}}

    Args:
        logits: :math:`\eta`, ``[...]``.

    >>> Bernoulli(torch.zeros(2)).log_prob(torch.tensor([0, 1]))
    tensor([-0.6931, -0.6931])
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.boolean

    def __init__(self, logits: Tensor):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """p(x = 1), ``[...]``."""
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        """p (1 - p), ``[...]``."""
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]`` of 0.0 and 1.0, without gradients."""
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand([*sample_shape, *self._batch_shape]))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``."""
        logits, value = torch.broadcast_tensors(self.logits, value.to(self.logits.dtype))
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    def summed(self, value: Tensor, missing: Tensor) -> Tensor:
        r""":math:`\sum_d x_d \eta_d - \ln(1 + e^{\eta_d})` over the observed cells, ``[K, B]``, as matrix products.

        The logits are ``[K, B, D]``; all K draws share the data ``value`` ``[B, D]``, in which ``missing`` marks the
        cells to leave out.
        """
        logits, observed = self.logits.transpose(0, 1), (~missing).to(self.logits.dtype)  # B x K x D
        filled = torch.where(missing, 0.0, value.to(self.logits.dtype))
        zero = torch.bmm(softplus(logits, threshold=40.0), observed.unsqueeze(-1))
        return (torch.bmm(logits, filled.unsqueeze(-1)) - zero).squeeze(-1).t()


class Categorical(td.Categorical):
    r"""Categories 0 … L-1, of any storage type.

    .. math:: p(x = k) = \frac{e^{\eta_k}}{\sum_l e^{\eta_l}}

    Categories have no mean, so the mode stands for the distribution.

    Args:
        logits: :math:`\eta`, ``[..., L]``, unnormalised log-probabilities.

    >>> px = Categorical(torch.tensor([0.0, 1.0, 0.0]))
    >>> px.center.item(), round(px.log_prob(torch.tensor(1.0)).item(), 4)  # ln e / (e + 2)
    (1, -0.5514)
    """

    def __init__(self, logits: Tensor):
        super().__init__(logits=logits, validate_args=False)

    @property
    def center(self) -> Tensor:
        """The mode, ``[...]``."""
        return self.logits.argmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``."""
        lead = broadcast_shape(value.shape, self._batch_shape)
        index = value.long().unsqueeze(-1).expand(*lead, 1)
        return self.logits.expand(*lead, self.logits.shape[-1]).gather(-1, index).squeeze(-1)


def among(px: Distribution, allowed: Tensor) -> Categorical:
    """The distribution of levels given that the level is allowed.

    It is p(k) divided by the sum of p over the allowed levels if ``allowed`` ``[..., L]`` is true for k, and else 0.

    >>> among(Bernoulli(torch.zeros(1)), torch.tensor([[False, True]])).log_prob(torch.ones(1)).tolist()
    [0.0]
    """
    if isinstance(px, Categorical):
        logits = px.logits
    else:
        levels = [torch.full(px.batch_shape, float(k), device=allowed.device) for k in range(allowed.shape[-1])]
        logits = torch.stack([px.log_prob(level) for level in levels], -1)
    return Categorical(torch.where(allowed, logits, NEVER))


class DiscretizedLogistic(Distribution):
    r"""Ordered levels 0 … L-1 under a mixture of logistic densities: the probability of a level is the mass of its bin.

    With :math:`y = 2x/(L-1) - 1` in [-1, 1] and half a bin :math:`d = 1/(L-1)`,

    .. math:: p(x) = \sum_m w_m \left[\sigma\!\left(\frac{y + d - \mu_m}{s_m}\right)
        - \sigma\!\left(\frac{y - d - \mu_m}{s_m}\right)\right].

    The lowest bin reaches to -inf and the highest to +inf, so that the masses sum to 1 for every :math:`\mu` and s
    (Kingma et al. 2016; mixtures: Salimans et al. 2017). With a and b the two arguments of :math:`\sigma`, the
    logarithm of the difference is computed as -softplus(-a) - softplus(b) + ln(1 - exp(b - a)), whose gradients stay
    finite however far y is from :math:`\mu`.

    Args:
        loc: :math:`\mu`, ``[M, ...]``, the M components first, in units of y.
        log_scale: ln s, ``[M, ...]``, in units of y.
        levels: L, at least 2.
        logits: ``[M, ...]``, whose softmax over M is w; None for one component.

    >>> px = DiscretizedLogistic(torch.zeros(1, 1), torch.zeros(1, 1), 4)
    >>> round(px.log_prob(torch.arange(4.0).view(4, 1)).exp().sum().item(), 6)
    1.0
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}

    def __init__(self, loc: Tensor, log_scale: Tensor, levels: int, logits: Tensor | None = None):
        self.loc, self.log_scale = torch.broadcast_tensors(loc, log_scale)
        self.levels, self.logits = levels, logits
        super().__init__(self.loc.shape[1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The whole numbers 0 … L-1."""
        return constraints.integer_interval(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The mean of the logistics, clipped but not rounded, in levels, ``[...]``, within half a level of the exact
        mean."""
        scale = self.log_scale.exp()
        inside = scale * (softplus((self.loc + 1) / scale) - softplus((self.loc - 1) / scale))  # E[clip(y)] + 1
        weights = 1.0 if self.logits is None else self.logits.softmax(0)
        return (weights * inside).sum(0) * (self.levels - 1) / 2

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]`` of levels as floats, without gradients."""
        with torch.no_grad():
            shape = [*sample_shape, *self._batch_shape]
            if self.logits is None:
                loc, log_scale = self.loc[0], self.log_scale[0]
            else:
                weights = self.logits.movedim(0, -1)
                chosen = td.Categorical(logits=weights, validate_args=False).sample(torch.Size(sample_shape))
                chosen = chosen.reshape(-1, *self._batch_shape)
                loc, log_scale = (t.gather(0, chosen).reshape(shape) for t in (self.loc, self.log_scale))
            tiny = torch.finfo(self.loc.dtype).eps
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(tiny, 1 - tiny)
            y = loc + log_scale.exp() * (u.log() - torch.log1p(-u))
            return ((y + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each level, in nats, ``[...]``."""
        value = value.to(self.loc.dtype)
        # further leading axes of the value are placed between the axis of components and those of the batch
        lead = [1] * max(0, value.dim() - len(self._batch_shape))
        loc, log_scale = (p.reshape(len(p), *lead, *self._batch_shape) for p in (self.loc, self.log_scale))
        bin_half = 1 / (self.levels - 1)
        inverse = torch.exp(-log_scale)
        centered = value * (2 * bin_half) - 1 - loc
        lowest, highest = value <= 0, value >= self.levels - 1
        above = torch.where(highest, 0.0, softplus(-(centered + bin_half) * inverse))
        below = torch.where(lowest, 0.0, softplus((centered - bin_half) * inverse))
        width = torch.where(lowest | highest, 0.0, log1mexp_of_log(math.log(2 * bin_half) - log_scale))
        log_mass = width - above - below
        if self.logits is None:
            return log_mass.squeeze(0)
        log_weight = self.logits.log_softmax(0)
        return torch.logsumexp(log_mass + log_weight.reshape(len(log_weight), *lead, *log_weight.shape[1:]), 0)
