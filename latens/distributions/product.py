"""Products of independent distributions, as one distribution over flat codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution


class Flat(Distribution):
    """Independent copies, which are the last batch axis of ``base``, as one event ``[D * size]``.

    The torus is the product of circles. So ``Flat`` of von Mises-Fisher distributions on the circle, with batch
    ``[..., D]``, is a distribution of D angles, as (cos t_1, sin t_1, cos t_2, …).
    """

    arg_constraints: dict = {}

    def __init__(self, base: Distribution):
        self.base = base
        *lead, count = base.batch_shape
        self._inner = torch.Size((count, *base.event_shape))
        super().__init__(torch.Size(lead), torch.Size((self._inner.numel(),)), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the base can be reparameterised."""
        return self.base.has_rsample

    @property
    def row_noise(self) -> bool:
        """Whether the base draws its noise by rows."""
        return bool(getattr(self.base, "row_noise", False))

    def _flat(self, value: Tensor) -> Tensor:
        return value.flatten(-len(self._inner))

    @property
    def mean(self) -> Tensor:
        """The mean of the base, flattened, ``[..., D * size]``."""
        return self._flat(self.base.mean)

    @property
    def center(self) -> Tensor:
        """The value that stands for the base, flattened, ``[..., D * size]``."""
        found = getattr(self.base, "center", None)
        return self._flat(self.base.mean if found is None else found)

    @property
    def variance(self) -> Tensor:
        """The variance of the base, flattened, ``[..., D * size]``."""
        return self._flat(self.base.variance)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., D * size]``."""
        return self._flat(self.base.rsample(torch.Size(sample_shape)))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., D * size]``, without gradients."""
        with torch.no_grad():
            return self._flat(self.base.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the copies' ln p, in nats, ``[...]``."""
        return self.base.log_prob(value.unflatten(-1, self._inner)).sum(-1)


class Joint(Distribution):
    r"""Independent parts, concatenated on the last axis, as for codes that are partly numbers and partly categories.

    .. math:: p(z) = \prod_j p_j(z_j)

    Args:
        parts: distributions with the same batch shape, and events ``[Z_j]``.
    """

    arg_constraints: dict = {}
    has_rsample = True

    def __init__(self, parts: Sequence[Distribution]):
        self.parts = tuple(parts)
        self._sizes = [part.event_shape[-1] for part in parts]
        super().__init__(parts[0].batch_shape, torch.Size((sum(self._sizes),)), validate_args=False)

    @property
    def row_noise(self) -> bool:
        """Whether every part draws its noise by rows."""
        return all(getattr(part, "row_noise", False) for part in self.parts)

    @property
    def mean(self) -> Tensor:
        """The means of the parts, concatenated, ``[..., Z]``."""
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Tensor:
        """The variances of the parts, concatenated, ``[..., Z]``."""
        return torch.cat([part.variance for part in self.parts], -1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., Z]``."""
        return torch.cat([part.rsample(torch.Size(sample_shape)) for part in self.parts], -1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., Z]``, without gradients."""
        return torch.cat([part.sample(torch.Size(sample_shape)) for part in self.parts], -1)

    def log_probs(self, value: Tensor) -> Tensor:
        r""":math:`\ln p_j(z_j)` of each of the J parts, in nats, ``[J, ...]``."""
        each = zip(self.parts, value.split(self._sizes, -1), strict=True)
        return torch.stack([part.log_prob(piece) for part, piece in each])

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(z), in nats, ``[...]``."""
        return self.log_probs(value).sum(0)
