"""Posteriors on curved spaces: the sphere, the torus, the Poincare ball."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.distributions.hyperbolic import edge, from_tangent
from latens.tensors.numerics import positive
from latens.tensors.trees import Tree


def _direction(output: Tensor) -> tuple[Tensor, Tensor]:
    """(unit vector ``[..., m]``, concentration ``[...]``) of ``[..., m + 1]`` outputs; raw 0 is concentration 4 m: a
    mean of length 0.94 (m = 2) to 0.88 (m large), power spherical 0.89 to 0.80."""
    direction, raw = output[..., :-1], output[..., -1]
    return normalize(direction, dim=-1, eps=1e-6), 4 * direction.shape[-1] * positive(raw, 1e-3)


class VonMisesFisherPosterior(Conditional):
    """q(z|x) = vMF(mu(x), kappa(x)) on S^(m-1); the network gives ``[..., m + 1]`` (Davidson et al. 2018)."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.VonMisesFisher(*_direction(output))


class PowerSphericalPosterior(Conditional):
    """q(z|x) power spherical on S^(m-1); the network gives ``[..., m + 1]`` (De Cao & Aziz 2020)."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.PowerSpherical(*_direction(output))


class TorusPosterior(Conditional):
    """q(z|x) = prod_j vonMises(t_j): the network gives ``[..., 3 D]``, a direction and a concentration for each circle.

    The code of a circle is (cos t, sin t), so that nothing tears where the angle jumps: a product of spheres S^1
    (Davidson, Tomczak & Gavves 2019).
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.Flat(d.VonMisesFisher(*_direction(output.unflatten(-1, (-1, 3)))))


class _BallPosterior(Conditional):
    """Base of posteriors in the ball of curvature ``-c``; the location comes as a tangent vector at 0. No variance is
    beyond the ``widest``, and no location nearer to the edge than the ``reach`` of its variance, so that draws are
    where their density says."""

    kind: type[d.WrappedNormal] | type[d.RiemannianNormal]

    def __init__(self, network: nn.Module, c: float = 1.0, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        self.c = float(c)

    def _about(self, tangent: Tensor, raw: Tensor) -> Distribution:
        n, free = tangent.shape[-1], positive(raw, 1e-6)
        variance = free / (1 + free / self.kind.widest(n, self.c))
        room = (0.95 * edge(self.c) - self.kind.reach(variance, n, self.c)).unsqueeze(-1)
        length = tangent.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
        return self.kind(from_tangent(tangent * room * torch.tanh(length / room) / length, self.c), variance, self.c)


class WrappedNormalPosterior(_BallPosterior):
    """q(z|x) wrapped normal in the Poincare ball; the network gives ``[..., 2 n]``: tangent vector, raw variance."""

    kind = d.WrappedNormal

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return self._about(*output.chunk(2, -1))


class RiemannianNormalPosterior(_BallPosterior):
    """q(z|x) Riemannian normal in the Poincare ball; the network gives ``[..., n + 1]``: tangent vector, raw
    variance."""

    kind = d.RiemannianNormal

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return self._about(output[..., :-1], output[..., -1])
