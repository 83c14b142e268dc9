"""Posteriors on curved spaces: the sphere, the torus, the Poincare ball."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.distributions.hyperbolic import HOLDS, from_tangent, largest_scale, reach
from latens.numerics import positive
from latens.trees import Tree


def _direction(output: Tensor) -> tuple[Tensor, Tensor]:
    """(unit vector ``[..., m]``, concentration ``[...]``) of ``[..., m + 1]`` outputs; raw 0 is concentration m."""
    direction, raw = output[..., :-1], output[..., -1]
    return normalize(direction, dim=-1, eps=1e-6), direction.shape[-1] * positive(raw, 1e-3)


class VonMisesFisher(Conditional):
    """q(z|x) = vMF(mu(x), kappa(x)) on S^(m-1); the network gives ``[..., m + 1]`` (Davidson et al. 2018)."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.VonMisesFisher(*_direction(output))


class PowerSpherical(Conditional):
    """q(z|x) power spherical on S^(m-1); the network gives ``[..., m + 1]`` (De Cao & Aziz 2020)."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.PowerSpherical(*_direction(output))


class Torus(Conditional):
    """q(z|x) = prod_j vonMises(t_j): the network gives ``[..., 3 D]``, a direction and a concentration for each circle.

    The code of a circle is (cos t, sin t), so that nothing tears where the angle jumps (Mikulski & Duda 2019).
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.Flat(d.VonMisesFisher(*_direction(output.unflatten(-1, (-1, 3)))))


class _InBall(Conditional):
    """Base of posteriors in the ball of curvature ``-c``; the location comes as a tangent vector v at 0.

    Draws keep to what the ball holds: the variance is h m / (h + m), h > 0 from the raw output and m the largest for
    it, and v is shortened to |v| l / sqrt(|v|^2 + l^2), l the distance that the draws' own reach leaves.
    """

    riemannian = False

    def __init__(self, network: nn.Module, c: float = 1.0, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        self.c = float(c)

    def held(self, tangent: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(location, variance)."""
        n = tangent.shape[-1]
        most = largest_scale(n, self.c, self.riemannian, HOLDS - 0.5) ** 2
        h = positive(raw, 1e-6)
        variance = h * (most / (h + most))
        a, b = reach(n, self.riemannian)
        square = self.c * (variance.unsqueeze(-1) if self.riemannian else variance.amax(-1, keepdim=True))
        left = (HOLDS - a * square - b * square.sqrt()) / self.c**0.5
        shorter = left * (tangent.square().sum(-1, keepdim=True) + left.square()).rsqrt()
        return from_tangent(tangent * shorter, self.c), variance


class WrappedNormal(_InBall):
    """q(z|x) wrapped normal in the Poincare ball; the network gives ``[..., 2 n]``: tangent vector, raw variance."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        tangent, raw = output.chunk(2, -1)
        return d.WrappedNormal(*self.held(tangent, raw), self.c)


class RiemannianNormal(_InBall):
    """q(z|x) Riemannian normal in the Poincare ball; the network gives ``[..., n + 1]``: tangent vector, raw
    variance."""

    riemannian = True

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        tangent, raw = output[..., :-1], output[..., -1]
        return d.RiemannianNormal(*self.held(tangent, raw), self.c)
