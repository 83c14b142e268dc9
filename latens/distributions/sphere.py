"""The sphere :math:`S^{m-1}` in m dimensions: uniform, von Mises-Fisher and power spherical distributions. Densities
are per unit of area.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import normalize

from latens.distributions.radial import RadialDistance, wide
from latens.tensors.numerics import broadcast_shape
from latens.tensors.randomness import standard_normal

_REACH = 13.0  # all of the mass, up to rounding, lies within this many standard deviations of the mode


def log_area(m: int) -> float:
    r"""ln of the area of :math:`S^{m-1}`, which is :math:`2 \pi^{m/2} / \Gamma(m/2)`.

    >>> round(math.exp(log_area(3)) / math.pi, 12)
    4.0
    """
    return math.log(2) + m / 2 * math.log(math.pi) - math.lgamma(m / 2)


class SphereUniform(Distribution):
    """The uniform distribution on :math:`S^{m-1}`: density 1 / area. Its coordinates have mean 0 and variance 1/m.

    Args:
        like: ``[..., m]``, a tensor whose shape, type and device the distribution takes.
    """

    arg_constraints: dict = {}
    row_noise = True

    def __init__(self, like: Tensor):
        self.like = like  # [..., m]: shape, type and device
        super().__init__(like.shape[:-1], like.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Zeros, ``[..., m]``."""
        return torch.zeros_like(self.like)

    @property
    def variance(self) -> Tensor:
        """1/m, ``[..., m]``."""
        return torch.full_like(self.like, 1 / self.like.shape[-1])

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws, unit vectors ``[*sample_shape, ..., m]``."""
        return normalize(standard_normal(sample_shape, self.like), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """-ln area, in nats, ``[...]``."""
        return value.new_full(broadcast_shape(value.shape[:-1], self._batch_shape), -log_area(value.shape[-1]))


class _AboutDirection(Distribution):
    """Base of distributions on :math:`S^{m-1}` that are symmetric about a direction.

    Args:
        loc: unit vectors, ``[..., m]``.
        concentration: > 0, ``[...]``.
    """

    arg_constraints = {"loc": constraints.real_vector, "concentration": constraints.positive}
    has_rsample = True
    row_noise = True

    def __init__(self, loc: Tensor, concentration: Tensor):
        self.loc = loc.expand(*broadcast_shape(loc.shape[:-1], concentration.shape), loc.shape[-1])
        self.concentration = concentration.expand(self.loc.shape[:-1])
        self.m = loc.shape[-1]
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @property
    def center(self) -> Tensor:
        """The mean direction, a point on the sphere (``mean`` lies inside it), ``[..., m]``."""
        return self.loc

    @property
    def resultant(self) -> Tensor:
        """E[cos] of the angle to ``loc``, the length of the mean, ``[...]``."""
        raise NotImplementedError

    @property
    def second(self) -> Tensor:
        """E[cos²] of the angle to ``loc``, ``[...]``."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """``resultant`` times ``loc``, ``[..., m]``."""
        return self.resultant.unsqueeze(-1) * self.loc

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate, E[cos²] loc² + E[sin²] (1 - loc²) / (m - 1) - mean², ``[..., m]``."""
        along, square = self.second.unsqueeze(-1), self.loc.square()
        return along * square + (1 - along) * (1 - square) / (self.m - 1) - self.mean.square()

    def _fall(self, samples: torch.Size) -> Tensor:
        """Draws of 1 - cos of the angle to ``loc``, ``[*samples, *batch]``."""
        raise NotImplementedError

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, unit vectors ``[*sample_shape, ..., m]``."""
        fall = self._fall(torch.Size(sample_shape)).unsqueeze(-1)
        noise = standard_normal(sample_shape, self.loc)
        along = (noise * self.loc).sum(-1, keepdim=True)
        tangent = normalize(noise - along * self.loc, dim=-1)
        # 1 - cos instead of cos, so that nothing is lost to rounding near the pole
        return (1 - fall) * self.loc + (fall * (2 - fall)).clamp_min(1e-30).sqrt() * tangent

    @property
    def _entropy(self) -> Tensor:
        """The entropy in float64, so that the difference of two large numbers keeps its digits."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """The entropy, in nats per unit of area, ``[...]``."""
        return self._entropy.to(self.loc)

    def rate_from_uniform(self) -> Tensor:
        """KL to the uniform distribution, ln area - entropy, in nats, ``[...]``."""
        return (log_area(self.m) - self._entropy).to(self.loc)


class VonMisesFisher(_AboutDirection):
    r"""The von Mises-Fisher distribution on :math:`S^{m-1}`; for m = 2 the von Mises distribution.

    .. math:: f(x) = \frac1C \exp(\kappa\, \mu^\top x), \qquad
        C = |S^{m-2}| \int_0^\pi e^{\kappa \cos t} \sin^{m-2} t \, dt
        = (2 \pi)^{m/2} \frac{I_{m/2-1}(\kappa)}{\kappa^{m/2-1}}

    The integral is computed by quadrature in float64, for :math:`\kappa` in [1e-3, 1e5] and any m >= 2. The angle t is
    drawn by inverting its distribution function (Mardia & Jupp 2000; Davidson et al. 2018).

    Args:
        loc: :math:`\mu`, unit vectors ``[..., m]``.
        concentration: :math:`\kappa > 0`, ``[...]``.

    >>> q = VonMisesFisher(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(10.0))
    >>> round(q.rate_from_uniform().item(), 5)
    1.99573
    """

    @property
    def _angle(self) -> RadialDistance:
        kappa, power = self.concentration.to(wide(self.loc)), self.m - 2

        def log_kernel(t: Tensor) -> Tensor:
            # cos t - 1 without cancellation
            found = -2 * kappa * (t / 2).sin().square()
            return found + power * t.sin().clamp_min(1e-300).log() if power else found

        with torch.no_grad():
            # at the mode kappa sin^2 = power cos; the curvature there gives the width
            half = power / (2 * kappa)
            cos = 1 / (half + (half.square() + 1).sqrt())
            spread = (kappa * cos + power / (1 - cos.square()).clamp_min(1e-12) if power else kappa).rsqrt()
            mode = torch.atan2((1 - cos.square()).clamp_min(0).sqrt(), cos) if power else torch.zeros_like(kappa)
            low, high = (mode - _REACH * spread).clamp_min(0), (mode + _REACH * spread).clamp_max(math.pi)
        return RadialDistance(log_kernel, low, high)

    @property
    def _log_c(self) -> Tensor:
        """ln C minus the concentration."""
        return self._angle.log_normaliser + (log_area(self.m - 1) if self.m > 2 else math.log(2))

    @property
    def resultant(self) -> Tensor:
        """E[cos] of the angle to ``loc``, ``[...]``."""
        return self._angle.mean(torch.cos).to(self.loc)

    @property
    def second(self) -> Tensor:
        """E[cos²] of the angle to ``loc``, ``[...]``."""
        return self._angle.mean(lambda t: t.cos().square()).to(self.loc)

    def _fall(self, samples: torch.Size) -> Tensor:
        return (2 * (self._angle.rsample(samples) / 2).sin().square()).to(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln f(x) per unit of area, in nats, ``[...]``."""
        # for unit vectors cos - 1 = -|x - loc|^2 / 2
        return -self.concentration * (value - self.loc).square().sum(-1) / 2 - self._log_c.to(self.loc)

    @property
    def _entropy(self) -> Tensor:
        kappa = self.concentration.to(wide(self.loc))
        fall = self._angle.mean(lambda t: 2 * (t / 2).sin().square())
        return self._log_c + kappa * fall


class PowerSpherical(_AboutDirection):
    r"""The power spherical distribution on :math:`S^{m-1}`, with a density in closed form (De Cao & Aziz 2020).

    .. math:: f(x) = \frac1C (1 + \mu^\top x)^\kappa, \qquad C = 2^{a + b} \pi^b \frac{\Gamma(a)}{\Gamma(a + b)}, \quad
        a = \frac{m - 1}{2} + \kappa, \quad b = \frac{m - 1}{2}

    If t is the angle to :math:`\mu`, then (1 + cos t) / 2 ~ Beta(a, b).

    Args:
        loc: :math:`\mu`, unit vectors ``[..., m]``.
        concentration: :math:`\kappa > 0`, ``[...]``.
    """

    @property
    def _ab(self) -> tuple[Tensor, Tensor]:
        b = torch.full_like(self.concentration, (self.m - 1) / 2, dtype=wide(self.loc))
        return b + self.concentration, b

    @property
    def _log_c(self) -> Tensor:
        a, b = self._ab
        return (a + b) * math.log(2) + b * math.log(math.pi) + torch.lgamma(a) - torch.lgamma(a + b)

    @property
    def resultant(self) -> Tensor:
        """E[cos] of the angle to ``loc``, (a - b) / (a + b), ``[...]``."""
        a, b = self._ab
        return ((a - b) / (a + b)).to(self.loc)

    @property
    def second(self) -> Tensor:
        """E[cos²] of the angle to ``loc``, ``[...]``."""
        a, b = self._ab
        return (((a - b) / (a + b)).square() + 4 * a * b / ((a + b).square() * (a + b + 1))).to(self.loc)

    def _fall(self, samples: torch.Size) -> Tensor:
        a, b = self._ab
        power = self.m - 2

        def log_kernel(t: Tensor) -> Tensor:  # ln of (1 + cos t)^kappa sin^(m-2) t
            found = 2 * (a - b) * (t / 2).cos().clamp_min(1e-300).log()
            return found + power * t.sin().clamp_min(1e-300).log() if power else found

        with torch.no_grad():
            # at the mode tan^2(t/2) = power / (2 kappa + power)
            kappa = a - b
            mode = 2 * torch.atan(torch.sqrt(power / (2 * kappa + power))) if power else torch.zeros_like(kappa)
            curve = kappa / (1 + mode.cos()) + (power / mode.sin().square().clamp_min(1e-12) if power else 0.0)
            low, high = (mode - _REACH * curve.rsqrt()).clamp_min(0), (mode + _REACH * curve.rsqrt()).clamp_max(math.pi)
        return (2 * (RadialDistance(log_kernel, low, high).rsample(samples) / 2).sin().square()).to(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln f(x) per unit of area, in nats, ``[...]``."""
        half = (value + self.loc).square().sum(-1) / 2  # 1 + cos
        return self.concentration * half.clamp_min(1e-30).log() - self._log_c.to(self.loc)

    @property
    def _entropy(self) -> Tensor:
        a, b = self._ab
        mean_log = math.log(2) + torch.digamma(a) - torch.digamma(a + b)
        return self._log_c - (a - b) * mean_log
