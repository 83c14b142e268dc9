"""The common base of distributions around a point."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, constraints


class Located(Distribution):
    """Base of distributions over the last axis whose mean is ``loc`` ``[..., Z]``; ``loc`` has the full batch shape.

    They draw by :func:`latens.tensors.randomness.standard_normal`.
    """

    arg_constraints = {"loc": constraints.real_vector}
    has_rsample = True
    row_noise = True

    def __init__(self, loc: Tensor):
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``loc``, ``[..., Z]``."""
        return self.loc
