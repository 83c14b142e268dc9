"""Products of categories as codes: one-hot vectors, drawn exactly or relaxed to the simplex.

Codes are flat, ``[..., V * K]``: V variables of K categories each. All noise is made from standard normal noise, so
that it follows the layout of :mod:`latens.tensors.randomness`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.tensors.randomness import standard_normal

SPREAD = 24.0  # the range of Gumbel noise: a billion draws lie between -3 and 21


def standard_gumbel(samples: torch.Size | list[int] | tuple[int, ...], like: Tensor) -> Tensor:
    """Gumbel noise ``[*samples, *like.shape]``: -ln(-ln u), u = Phi(normal noise), finite for every normal number."""
    return -torch.log(-torch.special.log_ndtr(standard_normal(samples, like)))


class _Categories(Distribution):
    """Base: V independent variables of K categories with ``logits`` ``[..., V, K]``; the event is ``[V * K]``."""

    arg_constraints = {"logits": constraints.independent(constraints.real, 2)}
    row_noise = True

    def __init__(self, logits: Tensor):
        self.log_p = logits.log_softmax(-1)
        self.variables, self.categories = logits.shape[-2:]
        super().__init__(logits.shape[:-2], torch.Size((self.variables * self.categories,)), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The probabilities, flattened, ``[..., V * K]``."""
        return self.log_p.exp().flatten(-2)

    @property
    def variance(self) -> Tensor:
        """p (1 - p) of each entry, ``[..., V * K]``."""
        return self.mean * (1 - self.mean)

    def _perturbed(self, samples: torch.Size) -> Tensor:
        """ln p + Gumbel noise, whose largest entry is a draw of the category (Gumbel 1954)."""
        noise = standard_gumbel(samples, self.log_p.flatten(-2))
        return self.log_p + noise.unflatten(-1, self.log_p.shape[-2:])

    def _hard(self, perturbed: Tensor) -> Tensor:
        best = perturbed.argmax(-1, keepdim=True)
        return torch.zeros_like(perturbed).scatter(-1, best, 1.0)

    def _split(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (self.variables, self.categories))


class OneHot(_Categories):
    r"""Independent categories as one-hot vectors.

    .. math:: \ln q(z) = \sum_v \ln p_v(z_v)

    Draws carry no gradient (score functions provide one), unless ``temperature`` is given. Then they carry the gradient
    of the relaxed draw at this temperature: the straight-through estimator, which is biased (Bengio, Leonard &
    Courville 2013; Jang et al. 2017).

    Args:
        logits: ``[..., V, K]``.
        temperature: > 0; None for no gradient.

    >>> q = OneHot(torch.zeros(1, 4))
    >>> round(q.log_prob(torch.tensor([0.0, 1.0, 0.0, 0.0])).item(), 4)  # -ln 4
    -1.3863
    """

    has_rsample = True

    def __init__(self, logits: Tensor, temperature: float | None = None):
        super().__init__(logits)
        self.temperature = temperature

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., V * K]``."""
        perturbed = self._perturbed(torch.Size(sample_shape))
        hard = self._hard(perturbed.detach())
        if self.temperature is not None:
            soft = (perturbed / self.temperature).softmax(-1)
            hard = hard + (soft - soft.detach())
        return hard.flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z), in nats, ``[...]``."""
        return (self._split(value.detach()) * self.log_p).sum((-2, -1))

    def rate_from(self, other: OneHot) -> Tensor:
        r""":math:`\operatorname{KL} = \sum_v \sum_k p_{vk} \ln(p_{vk} / r_{vk})`, where r is that of ``other``, in
        nats, ``[...]``.
        """
        return (self.log_p.exp() * (self.log_p - other.log_p)).sum((-2, -1))


class Relaxed(_Categories):
    r"""The Concrete distribution: softmax((ln p + Gumbel noise) / T) for each variable, on the simplex.

    .. math:: \ln q(y) = \sum_v \left[\ln \Gamma(K) + (K - 1) \ln T + \sum_k \left(\ln p_k - (T + 1) \ln y_k\right)
        - K \ln \sum_k p_k\, y_k^{-T}\right]

    It is per unit of the first K - 1 coordinates (Maddison, Mnih & Teh 2017). The largest coordinate is that of
    category k with probability :math:`p_k`. A coordinate y that underflows to 0 would have no density. So in single
    precision ln p is kept above 24 - 87 T, or above -10 if that is lower; below T = 0.4 some coordinates still
    underflow. ln q can be thousands of nats, and a rate is the small difference of two such numbers, so both are in
    float64.

    Args:
        logits: ``[..., V, K]``, whose softmax over K is p.
        temperature: T > 0.
    """

    has_rsample = True

    def __init__(self, logits: Tensor, temperature: float = 0.67):
        least = SPREAD + temperature * math.log(torch.finfo(logits.dtype).tiny)
        super().__init__(logits.log_softmax(-1).clamp_min(min(least, -10.0)))
        self.temperature = float(temperature)

    @property
    def variance(self) -> Tensor:
        """The variance of the one-hot limit, an upper bound on the variance, ``[..., V * K]``."""
        return super().variance

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., V * K]``."""
        perturbed = self._perturbed(torch.Size(sample_shape))
        return (perturbed / self.temperature).softmax(-1).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(y), in nats, ``[...]``."""
        count, t = self.categories, self.temperature
        log_y = self._split(value).clamp_min(torch.finfo(value.dtype).tiny).double().log()
        score = self.log_p - t * log_y
        each = (score - log_y).sum(-1) - count * torch.logsumexp(score, -1)
        return each.sum(-1) + self.variables * (math.lgamma(count) + (count - 1) * math.log(t))
