"""Elementwise likelihoods of counts 0, 1, 2, …: Poisson, negative binomial, and negative binomial with extra zeros.

Each is evaluated from deviances and Stirling remainders (Loader 2000), so that counts of a million keep their digits in
float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from latens.tensors.numerics import LOG_2PI, broadcast_shape

LIMIT = 46.0  # means and dispersions are between e^-46 = 1e-20 and e^46 = 1e20: finite in float32, far beyond any data


def stirling(z: Tensor) -> Tensor:
    r"""The remainder of Stirling's formula, about 1 / (12 z), for z > 0.

    .. math:: \ln \Gamma(z) - \left[(z - \tfrac12) \ln z - z + \tfrac12 \ln 2\pi\right]

    >>> round(stirling(torch.tensor(1.0, dtype=torch.float64)).item(), 12)
    0.081061466795
    """
    large = z > 16
    far = torch.where(large, z, 16.0)
    square = far.square().reciprocal()
    series = 1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))
    near = torch.where(large, 1.0, z)
    exact = torch.lgamma(near + 1) - (near + 0.5) * near.log() + near - LOG_2PI / 2
    return torch.where(large, (1 / 12 - square * series) / far, exact)


def _deviance(x: Tensor, r: Tensor) -> Tensor:
    """x [e^r - 1 - r] >= 0: half the deviance of x from the mean x e^r."""
    return x * (torch.expm1(r) - r)


def _whole(value: Tensor, log_p: Tensor) -> Tensor:
    """``log_p`` for whole numbers >= 0, and -inf for other values."""
    return torch.where((value >= 0) & (value == value.floor()), log_p, -torch.inf)


class Poisson(Distribution):
    r"""Counts with mean and variance :math:`e^{\eta}`.

    .. math:: \ln p(x) = x \eta - e^{\eta} - \ln x!

    Values may have any storage type; values that are negative or not whole have mass 0.

    Args:
        log_rate: :math:`\eta`, ``[...]``, clamped to ±46.

    >>> round(Poisson(torch.tensor(0.0)).log_prob(torch.tensor(2)).exp().item(), 4)  # e^-1 / 2
    0.1839
    """

    arg_constraints = {"log_rate": constraints.real}
    support = constraints.nonnegative_integer
    fill = 0.0

    def __init__(self, log_rate: Tensor):
        self.log_rate = log_rate.clamp(-LIMIT, LIMIT)
        super().__init__(log_rate.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """exp(log_rate), ``[...]``."""
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        """exp(log_rate), ``[...]``."""
        return self.mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]`` as floats, without gradients."""
        with torch.no_grad():
            return torch.poisson(self.mean.expand([*sample_shape, *self._batch_shape]))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each count, in nats, ``[...]``; -inf if x is negative or not whole."""
        x = value.to(self.log_rate.dtype)
        k = torch.where(x > 0, x, 1.0)
        log_k = k.log()
        some = -_deviance(k, self.log_rate - log_k) - stirling(k) - 0.5 * (log_k + LOG_2PI)
        return _whole(x, torch.where(x > 0, some, -self.log_rate.exp()))


class NegativeBinomial(Distribution):
    r"""Counts with mean :math:`\mu` and variance :math:`\mu + \mu^2 / \theta`; Poisson as :math:`\theta \to \infty`.

    .. math:: p(x) = \frac{\Gamma(x + \theta)}{\Gamma(\theta)\, x!}
        \left(\frac{\theta}{\theta + \mu}\right)^\theta \left(\frac{\mu}{\theta + \mu}\right)^x

    This is scipy's ``nbinom(theta, theta / (theta + mu))``, stable for :math:`\theta` from 1e-20 to 1e20. Values that
    are negative or not whole have mass 0.

    Args:
        log_mean: :math:`\ln \mu`, ``[...]``, clamped to ±46.
        log_theta: :math:`\ln \theta`, ``[...]``, clamped to ±46.

    >>> px = NegativeBinomial(torch.tensor(1.0).log(), torch.tensor(1.0).log())  # geometric, p = 1/2
    >>> px.log_prob(torch.tensor([0, 1, 2])).exp()
    tensor([0.5000, 0.2500, 0.1250])
    """

    arg_constraints = {"log_mean": constraints.real, "log_theta": constraints.real}
    support = constraints.nonnegative_integer
    fill = 0.0

    def __init__(self, log_mean: Tensor, log_theta: Tensor):
        self.log_mean, self.log_theta = log_mean.clamp(-LIMIT, LIMIT), log_theta.clamp(-LIMIT, LIMIT)
        super().__init__(broadcast_shape(log_mean.shape, log_theta.shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        r""":math:`\mu`, ``[...]``."""
        return self.log_mean.exp().expand(self._batch_shape)

    @property
    def variance(self) -> Tensor:
        r""":math:`\mu + \mu^2 / \theta`, ``[...]``."""
        return self.log_mean.exp() + (2 * self.log_mean - self.log_theta).exp().expand(self._batch_shape)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]``: Poisson with a rate drawn from Gamma(theta, theta / mu); no gradients."""
        with torch.no_grad():
            theta = self.log_theta.exp().expand(self._batch_shape)
            rate = td.Gamma(theta, torch.ones_like(theta), validate_args=False).sample(torch.Size(sample_shape))
            return torch.poisson(rate * (self.log_mean - self.log_theta).exp())

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each count, in nats, ``[...]``; -inf if x is negative or not whole."""
        x = value.to(self.log_mean.dtype)
        theta = self.log_theta.exp()
        k = torch.where(x > 0, x, 1.0)
        log_k = k.log()
        grown = -logsigmoid(self.log_theta - log_k)  # ln(1 + x / theta)
        none = -logsigmoid(self.log_theta - self.log_mean)  # ln(1 + mu / theta)
        ratio = grown - none  # ln (x + theta) / (mu + theta)
        deviance = _deviance(theta, ratio) + _deviance(k, ratio + self.log_mean - log_k)
        remainder = stirling(k + theta) - stirling(theta) - stirling(k)
        some = remainder - deviance - 0.5 * (grown + log_k + LOG_2PI)
        return _whole(x, torch.where(x > 0, some, -theta * none))


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    r"""Zero with probability :math:`\pi`, otherwise a :class:`NegativeBinomial` count (Greene 1994; Lopez et al. 2018).

    .. math:: p(x) = \pi\, [x = 0] + (1 - \pi) \operatorname{NB}(x; \mu, \theta), \qquad \pi = \frac{1}{1 + e^{-a}}

    Args:
        log_mean: :math:`\ln \mu`, ``[...]``.
        log_theta: :math:`\ln \theta`, ``[...]``.
        zero_logits: a, ``[...]``.

    >>> px = ZeroInflatedNegativeBinomial(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0))
    >>> px.log_prob(torch.tensor([0, 1])).exp()  # 1/2 + 1/2 1/2, 1/2 1/4
    tensor([0.7500, 0.1250])
    """

    def __init__(self, log_mean: Tensor, log_theta: Tensor, zero_logits: Tensor):
        super().__init__(log_mean, log_theta)
        self.zero_logits = zero_logits
        self._batch_shape = broadcast_shape(self._batch_shape, zero_logits.shape)

    @property
    def mean(self) -> Tensor:
        r""":math:`(1 - \pi) \mu`, ``[...]``."""
        return (-self.zero_logits).sigmoid() * super().mean

    @property
    def variance(self) -> Tensor:
        r""":math:`(1 - \pi)(\mu + \mu^2 / \theta + \pi \mu^2)`, ``[...]``."""
        spread = self.zero_logits.sigmoid() * super().mean.square()
        return (-self.zero_logits).sigmoid() * (super().variance + spread)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ...]`` as floats, without gradients."""
        with torch.no_grad():
            counts = super().sample(sample_shape)
            return torch.where(torch.rand_like(counts) < self.zero_logits.sigmoid(), 0.0, counts)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each count, in nats, ``[...]``; -inf if x is negative or not whole."""
        counted = logsigmoid(-self.zero_logits) + super().log_prob(value)
        none = torch.where(value == 0, counted, 0.0)
        return torch.where(value == 0, torch.logaddexp(logsigmoid(self.zero_logits), none), counted)
