"""Densities changed by a learned rejection of draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Resampled(Distribution):
    r"""Draws of ``base`` that are accepted with probability a(z); the T-th draw is always accepted (Bauer & Mnih 2019).

    .. math:: \ln p(z) = \ln p_{\text{base}}(z) + \ln\left[(1 - r) \frac{a(z)}{A} + r\right], \qquad
        A = \operatorname{E}_{\text{base}}[a], \quad r = (1 - A)^{T - 1}

    Args:
        base: the proposal, event ``[Z]``.
        log_accept: maps z ``[..., Z]`` to ln a(z) <= 0, ``[...]``.
        log_mean_accept: ln A, a scalar.
        truncation: T, at least 1.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self, base: Distribution, log_accept: Callable[[Tensor], Tensor], log_mean_accept: Tensor, truncation: int
    ):
        self.base, self.truncation = base, truncation
        self.log_accept, self.log_mean_accept = log_accept, log_mean_accept
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(z), in nats, ``[...]``."""
        rest = (self.truncation - 1) * torch.log1p(-self.log_mean_accept.exp().clamp_max(1 - 1e-6))  # ln r
        kept = torch.log(-torch.expm1(rest)) if self.truncation > 1 else torch.full_like(rest, -torch.inf)
        tilt = torch.logaddexp(kept + self.log_accept(value) - self.log_mean_accept, rest)
        return self.base.log_prob(value) + tilt

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., Z]``, without gradients."""
        with torch.no_grad():
            z = self.base.sample(torch.Size(sample_shape))
            refused = self._refused(z)
            for _ in range(self.truncation - 1):  # a row rejected every time keeps its last draw
                if not refused.any():
                    break
                z = torch.where(refused.unsqueeze(-1), self.base.sample(torch.Size(sample_shape)), z)
                refused = refused & self._refused(z)
            return z

    def _refused(self, z: Tensor) -> Tensor:
        return torch.rand(z.shape[:-1], dtype=z.dtype, device=z.device).log() >= self.log_accept(z)
