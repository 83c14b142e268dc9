"""Densities tilted by a learned rejection of draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Resampled(Distribution):
    """Draws of ``base`` kept with probability a(z), the T-th one kept whatever it is (Bauer & Mnih 2019).

    ln p(z) = ln base(z) + ln[(1 - r) a(z) / A + r], A = E_base[a], r = (1 - A)^(T - 1). ``log_accept(z)`` gives ln a <=
    0 for ``[..., Z]``; ``log_mean_accept`` is ln A, a scalar; T = ``truncation``.
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
        rest = (self.truncation - 1) * torch.log1p(-self.log_mean_accept.exp().clamp_max(1 - 1e-6))  # ln r
        kept = torch.log(-torch.expm1(rest)) if self.truncation > 1 else torch.full_like(rest, -torch.inf)
        tilt = torch.logaddexp(kept + self.log_accept(value) - self.log_mean_accept, rest)
        return self.base.log_prob(value) + tilt

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        with torch.no_grad():
            z = self.base.sample(torch.Size(sample_shape))
            refused = self._refused(z)
            for _ in range(self.truncation - 1):  # what is refused to the end stays at its last draw
                if not refused.any():
                    break
                z = torch.where(refused.unsqueeze(-1), self.base.sample(torch.Size(sample_shape)), z)
                refused = refused & self._refused(z)
            return z

    def _refused(self, z: Tensor) -> Tensor:
        return torch.rand(z.shape[:-1], dtype=z.dtype, device=z.device).log() >= self.log_accept(z)
