"""Elementwise likelihoods of counts 0, 1, 2, …: Poisson, negative binomial, and negative binomial with extra zeros.

Each is evaluated from deviances and Stirling remainders (Loader 2000), so that counts of a million keep their digits in
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid, softplus

from latens.tensors.numerics import LOG_2PI, broadcast_shape

LIMIT = 46.0  # means and dispersions are between e^-46 = 1e-20 and e^46 = 1e20: finite in float32, far beyond any data


def stirling(z: Tensor) -> Tensor:
    r"""The remainder of Stirling's formula, about 1 / (12 z), for z > 0.

    .. math:: \ln \Gamma(z) - \left[(z - \tfrac12) \ln z - z + \tfrac12 \ln 2\pi\right]

    >>> round(stirling(torch.tensor(1.0, dtype=torch.float64)).item(), 12)
    0.081061466795
    """
    large = z > 16
    near = torch.where(large, 1.0, z)
    exact = torch.lgamma(near + 1) - (near + 0.5) * near.log() + near - LOG_2PI / 2
    return torch.where(large, _stirling_from_16(torch.where(large, z, 16.0)), exact)


def _stirling_from_16(z: Tensor) -> Tensor:
    square = z.square().reciprocal()
    series = 1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))
    return (1 / 12 - square * series) / z


_UP_TO_16 = stirling(torch.arange(1, 17, dtype=torch.float64))


def stirling_of_counts(k: Tensor) -> Tensor:
    """:func:`stirling` of whole numbers k > 0, without gradients; those up to 16 are looked up.

    >>> stirling_of_counts(torch.tensor([1.0, 2.0, 16.0, 17.0]))
    tensor([0.0811, 0.0413, 0.0052, 0.0049])
    """
    near = _UP_TO_16.to(k).index_select(0, k.clamp(1, 16).long().view(-1) - 1).view(k.shape)
    return torch.where(k <= 16, near, _stirling_from_16(k.clamp_min(16)))


def stirling_slope(z: Tensor) -> Tensor:
    """The derivative of :func:`stirling`, about -1 / (12 z^2), for z > 0, without gradients.

    >>> round(stirling_slope(torch.tensor(1.0, dtype=torch.float64)).item(), 12)  # 1 / 2 - Euler's constant
    -0.077215664902
    """
    near, far = z.clamp_max(16), z.clamp_min(16)
    square = far.square().reciprocal()
    series = 1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132)))
    return torch.where(z > 16, -square * series, torch.digamma(near) - near.log() + 0.5 / near)


def _deviance(x: Tensor, r: Tensor) -> Tensor:
    """x [e^r - 1 - r] >= 0: half the deviance of x from the mean x e^r."""
    return x * (torch.expm1(r) - r)


def _softplus(value: Tensor) -> Tensor:
    return softplus(value, threshold=40.0)  # the default, 20, has errors of 2e-9


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
        traced = torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
        if traced or x.device.type != "cpu":
            return _log_mass(x, self.log_mean, self.log_theta)
        log_p: Tensor = _LogMass.apply(x, self.log_mean, self.log_theta)
        return log_p


def _log_mass(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """ln p(x) of negative binomial counts, for compilers, accelerators and gradients of gradients."""
    theta = log_theta.exp()
    k = torch.where(x > 0, x, 1.0)
    log_k = k.log()
    grown = -logsigmoid(log_theta - log_k)  # ln(1 + x / theta)
    none = -logsigmoid(log_theta - log_mean)  # ln(1 + mu / theta)
    ratio = grown - none  # ln (x + theta) / (mu + theta)
    deviance = _deviance(theta, ratio) + _deviance(k, ratio + log_mean - log_k)
    remainder = stirling(k + theta) - stirling(theta) - stirling(k)
    some = remainder - deviance - 0.5 * (grown + log_k + LOG_2PI)
    return _whole(x, torch.where(x > 0, some, -theta * none))


class _LogMass(torch.autograd.Function):
    r""":func:`_log_mass`, with logarithms and gammas only where x > 0, and with its gradients in closed form:

    .. math:: \frac{\partial \ln p}{\partial \ln \mu} = \frac{(x - \mu)\, \theta}{\mu + \theta}, \qquad
        \frac{\partial \ln p}{\partial \ln \theta} = \theta \left[\psi(x + \theta) - \psi(\theta)
        - \ln \frac{\mu + \theta}{\theta}\right] - \frac{\partial \ln p}{\partial \ln \mu}

    Differences of :math:`\psi` are taken as logarithms and derivatives of Stirling remainders, as they are for ln p.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
        """ln p(x), of the shape to which the arguments broadcast."""
        theta, none = log_theta.exp(), _softplus(log_mean - log_theta)  # ln(1 + mu / theta)
        log_p = (none * -theta).expand(broadcast_shape(x.shape, none.shape)).clone()
        x, none = x.expand_as(log_p), none.expand_as(log_p)
        where = (x.reshape(-1) > 0).nonzero().view(-1)

        def there(values: Tensor) -> Tensor:
            """The values of the cells in which x > 0."""
            if values.shape != x.shape[x.dim() - values.dim() :]:
                values = values.expand_as(x)
            return values.reshape(-1).index_select(0, where.remainder(values.numel()))

        k, of_theta = there(x), there(theta)
        log_k = k.log()
        grown = _softplus(log_k - there(log_theta))  # ln(1 + x / theta)
        ratio, total = grown - there(none), k + of_theta
        of_size = _deviance(of_theta, ratio)
        deviance = of_size + _deviance(k, ratio + there(log_mean) - log_k)
        remainder = stirling(total) - there(stirling(theta)) - stirling_of_counts(k)
        log_p.view(-1)[where] = remainder - deviance - 0.5 * (grown + log_k + LOG_2PI)
        not_counts = x != x.floor().clamp_min(0.0)
        if any(ctx.needs_input_grad):
            by_mean = (x - log_mean.exp()) * none.neg().exp()
            by_theta = none * -theta - by_mean
            slope = stirling_slope(total) - there(stirling_slope(theta))
            by_theta.view(-1)[where] = of_theta * slope + 0.5 * k / total - of_size
            slopes = (slope.masked_fill_(not_counts, 0.0) for slope in (by_mean, by_theta))
            ctx.save_for_backward(x, log_mean, log_theta, *slopes)
        return log_p.masked_fill_(not_counts, -torch.inf)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of log_mean and log_theta; they can be differentiated again."""
        x, log_mean, log_theta, by_mean, by_theta = ctx.saved_tensors
        if torch.is_grad_enabled():
            parameters = [p for p, needed in zip((log_mean, log_theta), ctx.needs_input_grad[1:]) if needed]
            log_p = _log_mass(x, log_mean, log_theta)
            grads = iter(torch.autograd.grad(log_p, parameters, gradient, create_graph=True))
            return None, *(next(grads) if needed else None for needed in ctx.needs_input_grad[1:])
        slopes = ((by_mean, log_mean), (by_theta, log_theta))
        return None, *((gradient * slope).sum_to_size(parameter.shape) for slope, parameter in slopes)


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
