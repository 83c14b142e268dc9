"""Posteriors on curved spaces: the sphere, the torus, the Poincaré ball."""

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
    """(unit vector ``[..., m]``, concentration ``[...]``) from ``[..., m + 1]`` outputs.

    A raw 0 gives the concentration 4 m, and thus a mean of length 0.94 (m = 2) to 0.88 (large m); for the power
    spherical distribution, 0.89 to 0.80.
    """
    direction, raw = output[..., :-1], output[..., -1]
    return normalize(direction, dim=-1, eps=1e-6), 4 * direction.shape[-1] * positive(raw, 1e-3)


class VonMisesFisherPosterior(Conditional):
    r"""A von Mises-Fisher posterior on :math:`S^{m-1}` (Davidson et al. 2018).

    .. math:: q(z \mid x) = \operatorname{vMF}(z; \mu(x), \kappa(x))

    The network gives ``[..., m + 1]``: a direction and the raw concentration.
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over unit vectors ``[..., m]``."""
        return d.VonMisesFisher(*_direction(output))


class PowerSphericalPosterior(Conditional):
    """A power spherical posterior on :math:`S^{m-1}` (De Cao & Aziz 2020).

    The network gives ``[..., m + 1]``: a direction and the raw concentration.
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over unit vectors ``[..., m]``."""
        return d.PowerSpherical(*_direction(output))


class TorusPosterior(Conditional):
    r"""A product of von Mises distributions of D angles (Davidson, Tomczak & Gavves 2019).

    .. math:: q(z \mid x) = \prod_j \operatorname{vonMises}(t_j)

    The network gives ``[..., 3 D]``: a direction and a raw concentration for each circle. The code of a circle is
    (cos t, sin t), which stays continuous when the angle wraps around.
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., 2 D]``."""
        return d.Flat(d.VonMisesFisher(*_direction(output.unflatten(-1, (-1, 3)))))


class _BallPosterior(Conditional):
    """Base of posteriors in the ball of curvature ``-c``; the location comes as a tangent vector at 0.

    Variances are kept below the ``widest``, and locations farther from the edge than the ``reach`` of their variance,
    so that draws follow their density.
    """

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
    """A wrapped normal posterior in the Poincaré ball; the network gives ``[..., 2 n]``.

    The outputs are a tangent vector and the raw variances. See :class:`latens.distributions.WrappedNormal`; ``c`` > 0
    is minus the curvature (Mathieu et al. 2019).
    """

    kind = d.WrappedNormal

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over points of the ball ``[..., n]``."""
        return self._about(*output.chunk(2, -1))


class RiemannianNormalPosterior(_BallPosterior):
    """A Riemannian normal posterior in the Poincaré ball; the network gives ``[..., n + 1]``.

    The outputs are a tangent vector and the raw variance. See :class:`latens.distributions.RiemannianNormal`; ``c`` > 0
    is minus the curvature (Mathieu et al. 2019).
    """

    kind = d.RiemannianNormal

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over points of the ball ``[..., n]``."""
        return self._about(output[..., :-1], output[..., -1])
