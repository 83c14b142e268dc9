"""The Poincaré ball: hyperbolic space of curvature -c, as the open ball of radius 1 / sqrt(c).

Densities are per unit of hyperbolic volume, and distances are hyperbolic. Points that rounding would put on the
boundary are held at 1 - 1e-5 of the radius, which is at distance :func:`edge` from 0. If a distribution had mass
farther out, its density would not be that of its draws; so its ``reach`` from its location must stay within this
distance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from latens.distributions.located import Located
from latens.distributions.radial import RadialDistance, wide
from latens.distributions.sphere import log_area
from latens.tensors.numerics import LOG_2PI, broadcast_shape
from latens.tensors.randomness import standard_normal

_EDGE, _TINY = 1e-5, 1e-15
_DEVIATIONS = 5.0


def _square(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True)


def add(x: Tensor, y: Tensor, c: float) -> Tensor:
    r"""Möbius addition: y moved by the translation that takes 0 to x (Ungar 2008), ``[..., n]``.

    .. math:: x \oplus y = \frac{(1 + 2c\, x^\top y + c \lVert y \rVert^2)\, x + (1 - c \lVert x \rVert^2)\, y}
        {1 + 2c\, x^\top y + c^2 \lVert x \rVert^2 \lVert y \rVert^2}
    """
    xy, xx, yy = (x * y).sum(-1, keepdim=True), _square(x), _square(y)
    top = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    return top / (1 + 2 * c * xy + c * c * xx * yy).clamp_min(_TINY)


def edge(c: float) -> float:
    """The largest distance from 0 of a point that is distinguishable from the boundary: 2 artanh(1 - 1e-5) / sqrt(c).

    >>> round(edge(1.0), 2)
    12.21
    """
    return 2 * math.atanh(1 - _EDGE) / math.sqrt(c)


def inside(x: Tensor, c: float) -> Tensor:
    """x ``[..., n]``, pulled back inside the ball if it lies on or beyond the edge."""
    most = (1 - _EDGE) / math.sqrt(c)
    length = _square(x).clamp_min(_TINY).sqrt()
    return torch.where(length > most, x * (most / length), x)


def _length(x: Tensor) -> Tensor:
    return _square(x).clamp_min(_TINY**2).sqrt()


def from_tangent(v: Tensor, c: float) -> Tensor:
    r"""The point at distance r = norm of v from 0 in the direction of v, ``[..., n]``.

    .. math:: \tanh\!\left(\tfrac12 \sqrt{c}\, r\right) \frac{v}{\sqrt{c}\, r}
    """
    length, root = _length(v), math.sqrt(c)
    return inside(torch.tanh(root * length / 2) * v / (root * length), c)


def to_tangent(x: Tensor, c: float) -> Tensor:
    r"""The inverse of :func:`from_tangent`, ``[..., n]``.

    .. math:: \frac{2 \operatorname{artanh}(\sqrt{c} \lVert x \rVert)}{\sqrt{c} \lVert x \rVert}\, x
    """
    length, root = _length(x), math.sqrt(c)
    return 2 * torch.atanh((root * length).clamp_max(1 - _EDGE / 2)) * x / (root * length)


def log_sinh_ratio(r: Tensor) -> Tensor:
    """ln(sinh(r) / r) for r >= 0, without overflow and with a finite gradient at 0.

    >>> log_sinh_ratio(torch.tensor([0.0, 1e-4, 1000.0], dtype=torch.float64)).tolist()[::2]
    [0.0, 992.39909754]
    """
    small = r < 1e-2
    big = torch.where(small, torch.ones_like(r), r)
    series = r.square() / 6 - r.square().square() / 180
    return torch.where(small, series, big + torch.log(-torch.expm1(-2 * big)) - torch.log(2 * big))


class _InBall(Located):
    """Base: a ``loc`` ``[..., n]`` in the ball of curvature -``c``, and a distribution of the tangent vector there.

    The mean is ``loc``, the point with the least expected squared distance; the variance is that of the tangent vector.
    """

    def __init__(self, loc: Tensor, c: float):
        super().__init__(inside(loc, c))
        self.c, self.n = float(c), loc.shape[-1]

    @staticmethod
    def reach(variance: Tensor, n: int, c: float) -> Tensor:
        """The distance from ``loc`` that holds all but about 1e-5 of the mass, ``[...]``."""
        raise NotImplementedError

    @staticmethod
    def widest(n: int, c: float) -> float:
        """The variance whose ``reach`` is three quarters of the distance from 0 to the edge."""
        raise NotImplementedError

    @property
    def tangent(self) -> Tensor:
        """``loc`` as a tangent vector at 0, whose length is the distance of ``loc`` from 0, ``[..., n]``."""
        return to_tangent(self.loc, self.c)

    def _tangent(self, samples: torch.Size) -> Tensor:
        """Draws of the tangent vector, whose length is the distance from ``loc``, ``[*samples, *batch, n]``."""
        raise NotImplementedError

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., n]``."""
        return inside(add(self.loc, from_tangent(self._tangent(torch.Size(sample_shape)), self.c), self.c), self.c)

    def _seen_from_loc(self, value: Tensor) -> Tensor:
        return to_tangent(add(-self.loc, value, self.c), self.c)


class WrappedNormal(_InBall):
    r"""A normal tangent vector v ~ N(0, diag variance), carried to ``loc`` and mapped onto the ball.

    .. math:: \ln q(z) = \ln \mathcal{N}(v; 0, \operatorname{diag} \sigma^2)
        - (n - 1) \ln \frac{\sinh(\sqrt{c}\, r)}{\sqrt{c}\, r}, \qquad r = \lVert v \rVert = d(z, \mathrm{loc})

    (Nagano et al. 2019; Mathieu et al. 2019)

    Args:
        loc: ``[..., n]``, in the ball.
        variance: :math:`\sigma^2 > 0`, ``[..., n]``.
        c: > 0; the curvature is -c.
    """

    def __init__(self, loc: Tensor, variance: Tensor, c: float = 1.0):
        super().__init__(torch.broadcast_tensors(loc, variance)[0], c)
        self._spread = variance.expand(self.loc.shape)

    @staticmethod
    def reach(variance: Tensor, n: int, c: float) -> Tensor:
        """The distance from ``loc`` that holds all but about 1e-5 of the mass, ``[...]``."""
        spread = variance.expand(*variance.shape[:-1], n)
        return spread.sum(-1).sqrt() + _DEVIATIONS * spread.amax(-1).sqrt()

    @staticmethod
    def widest(n: int, c: float) -> float:
        """The variance whose ``reach`` is three quarters of the distance from 0 to the edge."""
        return (0.75 * edge(c) / (math.sqrt(n) + _DEVIATIONS)) ** 2

    @property
    def variance(self) -> Tensor:
        """Variance of the tangent vector, ``[..., n]``."""
        return self._spread

    def _tangent(self, samples: torch.Size) -> Tensor:
        return self._spread.sqrt() * standard_normal(samples, self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z) per unit of hyperbolic volume, in nats, ``[...]``."""
        v = self._seen_from_loc(value)
        normal = -0.5 * (v.square() / self._spread + self._spread.log() + LOG_2PI).sum(-1)
        return normal - (self.n - 1) * log_sinh_ratio(math.sqrt(self.c) * _length(v).squeeze(-1))


class RiemannianNormal(_InBall):
    r"""The normal of largest entropy on the ball (Said, Bombrun & Berthoumieu 2014).

    .. math:: q(z) = \frac1Z \exp\!\left(-\frac{d(z, \mathrm{loc})^2}{2 \sigma^2}\right), \qquad
        Z = |S^{n-1}| \int_0^\infty e^{-r^2 / (2 \sigma^2)} \left(\frac{\sinh(\sqrt{c}\, r)}{\sqrt{c}}\right)^{n-1} dr

    The integral is computed by quadrature; distances are drawn by inverting their distribution function.

    Args:
        loc: ``[..., n]``, in the ball.
        variance: :math:`\sigma^2 > 0`, ``[...]``.
        c: > 0; the curvature is -c.

    >>> q = RiemannianNormal(torch.zeros(2), torch.ones(()))
    >>> round(q.log_normaliser.exp().item(), 5)
    8.8636
    """

    def __init__(self, loc: Tensor, variance: Tensor, c: float = 1.0):
        super().__init__(loc.expand(*broadcast_shape(loc.shape[:-1], variance.shape), loc.shape[-1]), c)
        self._spread = variance.expand(self.loc.shape[:-1])

    @property
    def _distance(self) -> RadialDistance:
        spread, root, power = self._spread.to(wide(self.loc)), math.sqrt(self.c), self.n - 1

        def log_kernel(r: Tensor) -> Tensor:
            found = -r.square() / (2 * spread)
            return found + power * (log_sinh_ratio(root * r) + r.clamp_min(1e-300).log()) if power else found

        with torch.no_grad():
            # r / spread = power sqrt(c) coth(sqrt(c) r) at the mode: fixed-point steps from above
            mode = power * root * spread + (power * spread).sqrt()
            for _ in range(30):
                mode = (mode + power * root * spread / torch.tanh((root * mode).clamp_min(1e-12))) / 2
            deviation = spread.sqrt()  # the curvature of the logarithm is at least 1 / spread
            low, high = (mode - 13 * deviation).clamp_min(0), mode + 13 * deviation
        return RadialDistance(log_kernel, low, high)

    @property
    def log_normaliser(self) -> Tensor:
        """ln Z, ``[...]``."""
        area = log_area(self.n) if self.n > 1 else math.log(2)
        return (self._distance.log_normaliser + area).to(self.loc)

    @staticmethod
    def reach(variance: Tensor, n: int, c: float) -> Tensor:
        """The distance from ``loc`` that holds all but about 1e-5 of the mass, ``[...]``."""
        # the mode r = (n - 1) sqrt(c) variance coth(sqrt(c) r), and coth x < 1 + 1/x
        return (n - 1) * math.sqrt(c) * variance + (math.sqrt(n - 1) + _DEVIATIONS) * variance.sqrt()

    @staticmethod
    def widest(n: int, c: float) -> float:
        """The variance whose ``reach`` is three quarters of the distance from 0 to the edge."""
        a, b = (n - 1) * math.sqrt(c), math.sqrt(n - 1) + _DEVIATIONS
        return (2 * 0.75 * edge(c) / (b + math.sqrt(b * b + 4 * a * 0.75 * edge(c)))) ** 2  # a s^2 + b s = 3/4 edge

    @property
    def variance(self) -> Tensor:
        """E[r²] / n in each coordinate of the tangent vector, ``[..., n]``."""
        square = self._distance.mean(torch.square).to(self.loc)  # n directions share the squared distance
        return (square / self.n).unsqueeze(-1).expand(self.loc.shape)

    def _tangent(self, samples: torch.Size) -> Tensor:
        distance = self._distance.rsample(samples).to(self.loc)
        return distance.unsqueeze(-1) * normalize(standard_normal(samples, self.loc), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z) per unit of hyperbolic volume, in nats, ``[...]``."""
        return -_square(self._seen_from_loc(value)).squeeze(-1) / (2 * self._spread) - self.log_normaliser
