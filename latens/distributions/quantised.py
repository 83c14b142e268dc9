"""Codes from a codebook: all mass on one entry, and uniform over the entries."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution


class Quantised(Distribution):
    """All mass on one of finitely many codes, ``value`` ``[..., Z]``: ln q = 0 there and -inf elsewhere.

    It is a mass, not a density. If the prior has masses too, the bound on ln p(x) holds.

    Args:
        value: ``[..., Z]``, which may carry a straight-through gradient.
        before: ``[..., Z]``, the values before quantisation.
        index: ``[..., V, L]``, the entry that each of V positions chose at each of L levels.
        code: ``value``, but with the gradient of the codebook; or None.
    """

    arg_constraints: dict = {}
    has_rsample = True
    row_noise = True

    def __init__(self, value: Tensor, before: Tensor, index: Tensor, code: Tensor | None = None):
        self.value, self.before, self.index, self.code = value, before, index, code
        super().__init__(value.shape[:-1], value.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``value``, ``[..., Z]``."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zeros, ``[..., Z]``."""
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Copies of ``value``, ``[*sample_shape, ..., Z]``."""
        return self.value.expand(*sample_shape, *self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at ``value`` and -inf elsewhere, in nats, ``[...]``."""
        here = (value == self.value).all(-1)
        return torch.where(here, 0.0, -math.inf).to(value.dtype)


class UniformCodes(Distribution):
    r"""V independent positions; each is the sum, over L levels, of one of K equally likely codes.

    .. math:: \ln p(z) = -V L \ln K

    ``log_prob`` assumes that its argument is such a code. This is true if the posterior quantises with the same
    codebook. With L > 1, sums of different entries may coincide. The sum then has the mass of all these combinations.
    ``log_prob`` counts only the mass of the chosen entries, so the bound belongs to the model in which the entries are
    the code.

    Args:
        codes: ``[L, K, D]``.
        positions: V; the event is ``[V * D]``.

    >>> p = UniformCodes(torch.zeros(1, 8, 2), 3)
    >>> round(p.log_prob(torch.zeros(6)).item(), 4)  # -3 ln 8
    -6.2383
    """

    arg_constraints: dict = {}
    row_noise = True

    def __init__(self, codes: Tensor, positions: int):
        self.codes, self.positions = codes, positions
        super().__init__(torch.Size(), torch.Size((positions * codes.shape[-1],)), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The mean code, ``[V * D]``."""
        return self.codes.mean(1).sum(0).repeat(self.positions)

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate of a code, ``[V * D]``."""
        return self.codes.var(1, correction=0).sum(0).repeat(self.positions)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, V * D]``."""
        levels, size, _ = self.codes.shape
        index = torch.randint(size, (levels, *sample_shape, self.positions), device=self.codes.device)
        return sum(book[chosen] for book, chosen in zip(self.codes, index)).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """-V L ln K, in nats, ``[...]``."""
        levels, size, _ = self.codes.shape
        return value.new_full(value.shape[:-1], -self.positions * levels * math.log(size))
