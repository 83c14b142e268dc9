"""The density of a distance, known up to a constant: normaliser, distribution function and draws by quadrature.

A distribution on a curved space (a sphere, a hyperbolic ball) that is symmetric about a point reduces to the density of
the distance from that point. Gauss-Legendre nodes on a window that holds all of the mass give its integral up to
rounding. Derivatives with respect to the parameters follow from differentiating the sum, without Bessel functions or
rejection.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from latens.tensors.randomness import standard_normal

_NODES, _TABLE, _NEWTON = 64, 65, 4


def wide(like: Tensor) -> torch.dtype:
    """float64, or float32 on devices that have no wider type; the shape of ``like`` does not matter."""
    return torch.float32 if like.device.type == "mps" else torch.float64


_X, _W = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_NODES))


class RadialDistance:
    """A distance r in [low, high] with the density exp(log_kernel(r)) / Z. All numbers are float64.

    Args:
        log_kernel: a function from distances ``[N, *batch]`` to log-densities up to a constant; it closes over
            parameters in the batch shape.
        low: ``[*batch]``, the start of the window, which must hold all of the mass up to rounding.
        high: ``[*batch]``, the end of the window; no derivative goes through ``low`` and ``high``.

    >>> half = RadialDistance(lambda r: -(r**2) / 2, torch.zeros(()), torch.tensor(9.0))
    >>> round(half.log_normaliser.exp().item() ** 2 * 2 / torch.pi, 10)
    1.0
    """

    def __init__(self, log_kernel: Callable[[Tensor], Tensor], low: Tensor, high: Tensor):
        self.log_kernel = log_kernel
        self.low, self.high = (bound.detach().to(wide(bound)) for bound in (low, high))

    def _nodes(self, high: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes ``[N, *shape]`` on [low, high], and the logarithms of their weights."""
        x, w = (v.to(high).view(-1, *[1] * high.dim()) for v in (_X, _W))
        half = (high - self.low) / 2
        return self.low + half * (1 + x), (w * half).log()

    @property
    def log_normaliser(self) -> Tensor:
        """ln Z, differentiable with respect to the parameters, ``[*batch]``."""
        r, log_w = self._nodes(self.high)
        return torch.logsumexp(self.log_kernel(r) + log_w, 0)

    def mean(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """E[function(r)], differentiable with respect to the parameters, ``[*batch]``."""
        r, log_w = self._nodes(self.high)
        return ((self.log_kernel(r) + log_w).softmax(0) * function(r)).sum(0)

    def cdf(self, r: Tensor) -> Tensor:
        """P(distance <= r), differentiable with respect to the parameters, ``[..., *batch]``."""
        s, log_w = self._nodes(r)
        return torch.exp(torch.logsumexp(self.log_kernel(s) + log_w, 0) - self.log_normaliser)

    def rsample(self, samples: torch.Size | list[int] | tuple[int, ...]) -> Tensor:
        """Reparameterised draws, ``[*samples, *batch]``.

        The distribution function is inverted at a uniform random number, by a table and then Newton's method. The
        derivative is implicit, dr = -dF(r) / f(r) (Figurnov, Mohamed & Mnih 2018).
        """
        u = torch.special.ndtr(standard_normal(samples, self.low))
        with torch.no_grad():
            steps = torch.linspace(0, 1, _TABLE, dtype=self.low.dtype, device=self.low.device)
            grid = self.low + (self.high - self.low) * steps.view(-1, *[1] * self.low.dim())
            log_f = self.log_kernel(grid) - self.log_normaliser
            f = torch.nan_to_num(log_f.exp(), nan=0.0)
            rise = torch.cat([torch.zeros_like(f[:1]), ((f[1:] + f[:-1]) / 2).cumsum(0)])
            rise = rise / rise[-1]
            flat = u.reshape(-1, *self.low.shape)
            below = (flat.unsqueeze(1) > rise).sum(1).clamp(1, _TABLE - 1) - 1  # [n, *batch]
            left, right = (rise.gather(0, index) for index in (below, below + 1))
            share = ((flat - left) / (right - left).clamp_min(1e-300)).clamp(0.01, 0.99)
            r = (self.low + (self.high - self.low) * (below + share) / (_TABLE - 1)).reshape(u.shape)
            for _ in range(_NEWTON):
                step = (self.cdf(r) - u) * torch.exp(self.log_normaliser - self.log_kernel(r.unsqueeze(0)).squeeze(0))
                reach = (self.high - self.low) / _TABLE
                r = torch.minimum(torch.maximum(r - step.clamp(-reach, reach), self._least), self.high)
            density = torch.exp(self.log_kernel(r.unsqueeze(0)).squeeze(0) - self.log_normaliser)
        if not torch.is_grad_enabled():
            return r
        moved = self.cdf(r)
        return r - (moved - moved.detach()) / density.clamp_min(1e-30)

    @property
    def _least(self) -> Tensor:
        return self.low + 1e-9 * (self.high - self.low)
