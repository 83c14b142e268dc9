"""The normal density on an interval, computed from the end nearer to its location, so that it is stable far away."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.special import log_ndtr

from latens.distributions.continuous import EDGE, ContinuousBernoulli
from latens.tensors.numerics import LOG_2PI, broadcast_shape, log1mexp


class TruncatedNormal(Distribution):
    r"""A normal, given that it lies in an interval, low <= x <= high.

    .. math:: \ln p(x) = \ln \mathcal{N}(x; \mu, \sigma^2)
        - \ln\left[\Phi\!\left(\frac{\mathrm{high} - \mu}{\sigma}\right)
        - \Phi\!\left(\frac{\mathrm{low} - \mu}{\sigma}\right)\right]

    It is stable however far :math:`\mu` lies from the interval, because everything is computed from the nearer end.
    Values that rounding puts outside the interval have the density of the end; values outside by more than 1e-6 of the
    width have density 0.

    Args:
        loc: :math:`\mu`, ``[...]``.
        scale: :math:`\sigma > 0`, ``[...]``.
        low: the lower end, ``[...]``.
        high: the upper end, > ``low``, ``[...]``.

    >>> px = TruncatedNormal(torch.tensor(0.0), torch.tensor(1e4), torch.tensor(2.0), torch.tensor(4.0))
    >>> round(px.log_prob(torch.tensor(3.0)).exp().item(), 6)  # nearly uniform
    0.5
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor):
        self.loc, self.scale, self.low, self.high = loc, scale, low, high
        super().__init__(broadcast_shape(loc.shape, scale.shape, low.shape, high.shape), validate_args=False)
        # mirrored so that the upper end is the one nearer to loc; its distance is set to 0 if loc is in the interval
        self._sign = torch.where(low + high > 2 * loc, -1.0, 1.0).to(loc.dtype)
        mirrored = self._sign < 0
        self._far = torch.where(mirrored, loc - high, low - loc) / scale
        self._near = torch.where(mirrored, loc - low, high - loc) / scale
        self._width = (high - low) / scale

    @property
    def support(self) -> constraints.Constraint:
        """The interval [low, high]."""
        return constraints.interval(self.low, self.high)

    @property
    def fill(self) -> Tensor:
        """The middle of the interval."""
        return (self.low + self.high) / 2

    def _log_share(self) -> Tensor:
        """d = ln Phi(near) - ln Phi(far) > 0."""
        near, far, width = self._near, self._far, self._width
        thin = width < torch.finfo(width.dtype).eps ** (1 / 3)
        middle = near - width / 2
        slope = (-0.5 * (middle.square() - middle.clamp_max(0).square() + LOG_2PI) - _excess(middle)).exp()
        tail = near.clamp_max(0)
        gap = torch.where(near > 0, far, -width)
        difference = _excess(near) - _excess(far) + 0.5 * gap * (far + tail)
        return torch.where(thin, slope * width, torch.where(thin, 1.0, difference))

    @property
    def log_mass(self) -> Tensor:
        r"""The log mass of the normal on the interval, ``[...]``.

        .. math:: \ln[\Phi((\mathrm{high} - \mu) / \sigma) - \Phi((\mathrm{low} - \mu) / \sigma)]
        """
        tail = self._near.clamp_max(0)
        return _excess(self._near) + log1mexp(self._log_share()) - 0.5 * tail.square()

    def _ratios(self) -> tuple[Tensor, Tensor]:
        """phi / [Phi(near) - Phi(far)] at the far end and at the near end."""
        tail = self._near.clamp_max(0)
        log_mass = _excess(self._near) + log1mexp(self._log_share()) + LOG_2PI / 2
        far = torch.where(self._near > 0, self._far, -self._width) * (self._far + tail)
        return (-0.5 * far - log_mass).exp(), (-0.5 * (self._near.square() - tail.square()) - log_mass).exp()

    def _tilted(self) -> tuple[Tensor, ContinuousBernoulli]:
        """(mask of the cells in which the closed-form moments cancel; the density to use for these). They cancel if the
        location is far outside, or if the interval is narrow. The density then tends to an exponential one, written as
        a function of the distance from the near end in widths of the interval.
        """
        small = torch.finfo(self._near.dtype).eps ** (1 / 6)
        thin = self._width < 2 * small
        slope = torch.where(thin, self._near - self._width / 2, self._near)
        return thin | (self._near < -1 / small), ContinuousBernoulli(slope * self._width)

    @property
    def mean(self) -> Tensor:
        """E[x], ``[...]``."""
        far, near = self._ratios()
        cancels, tilted = self._tilted()
        limit = torch.where(self._sign < 0, self.low, self.high) - self._sign * (self.high - self.low) * tilted.mean
        mean = torch.where(cancels, limit, self.loc + self._sign * self.scale * (far - near))
        return torch.minimum(torch.maximum(mean, self.low), self.high)

    @property
    def variance(self) -> Tensor:
        """Var[x], ``[...]``, with a relative error of about 2e-5 in float64 and about 2 % in float32."""
        far, near = self._ratios()
        cancels, tilted = self._tilted()
        ratio = 1 + self._far * far - self._near * near - (far - near).square()
        bounded = self.scale.square() * torch.minimum(ratio.clamp_min(0), self._width.square() / 4)
        return torch.where(cancels, (self.high - self.low).square() * tilted.variance, bounded)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws ``[*sample_shape, ...]`` by the inverse distribution function.

        In the tail, Newton's method on ln Phi is used, measured from the near end.
        """
        shape = [*sample_shape, *self._batch_shape]
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp_min(torch.finfo(self.loc.dtype).eps)
        share = (-self._log_share()).exp()
        target = (share + u * (1 - share)).log()  # ln [Phi(t) / Phi(near)], t in [far, near]
        deep = self._near < -4
        tail = torch.where(deep, self._near, -4.0)
        depth = -target / (tail.abs() + 1 / tail.abs())
        for _ in range(4):
            at = tail - depth
            log_ratio = _excess(at) - _excess(tail) + 0.5 * depth * (2 * tail - depth)
            depth = depth + (log_ratio - target) * (_excess(at) + LOG_2PI / 2).exp()
        shallow = torch.special.ndtri((target + log_ndtr(torch.where(deep, 0.0, self._near))).exp())
        t = torch.where(deep, self._near - depth, shallow)
        x = torch.where(
            deep, torch.where(self._sign < 0, self.low, self.high) - self._sign * self.scale * depth,
            self.loc + self._sign * self.scale * t,
        )  # fmt: skip
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each value, in nats, ``[...]``; -inf outside the interval."""
        slack = EDGE * (self.high - self.low)
        inside = (value >= self.low - slack) & (value <= self.high + slack)
        x = torch.minimum(torch.maximum(value.to(self.loc.dtype), self.low), self.high)
        t = self._sign * (x - self.loc) / self.scale
        edge = torch.where(self._sign < 0, self.low, self.high)
        tail = self._near.clamp_max(0)
        beyond = torch.where(self._near > 0, t, self._sign * (x - edge) / self.scale)  # t - tail, without losing digits
        log_mass = _excess(self._near) + log1mexp(self._log_share())
        log_p = -0.5 * (beyond * (t + tail) + LOG_2PI) - self.scale.log() - log_mass
        return torch.where(inside, log_p, -torch.inf)


def _excess(v: Tensor) -> Tensor:
    """ln Phi(v) + min(v, 0)^2 / 2."""
    below = torch.special.erfcx(-v.clamp_max(0) / math.sqrt(2)).log() - math.log(2)
    return torch.where(v > 0, log_ndtr(v.clamp_min(0)), below)
