"""Codes from a book: all mass at one entry, and uniform over the entries."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution


class Quantised(Distribution):
    """All mass on one of finitely many codes, ``value`` ``[..., Z]``: ln q = 0 there, -inf elsewhere.

    A mass and not a density: with a prior that has masses too the bound on ln p(x) is a real one. ``value`` may carry a
    straight-through gradient. ``before``: what was quantised, ``[..., Z]``; ``index`` ``[..., V, L]``: the entries that
    each position chose at each level; ``code``: the same as ``value`` with the book's gradient instead, or None.
    """

    arg_constraints: dict = {}
    has_rsample = True
    row_noise = True

    def __init__(self, value: Tensor, before: Tensor, index: Tensor, code: Tensor | None = None):
        self.value, self.before, self.index, self.code = value, before, index, code
        super().__init__(value.shape[:-1], value.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.value

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.value.expand(*sample_shape, *self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        here = (value == self.value).all(-1)
        return torch.where(here, 0.0, -math.inf).to(value.dtype)


class UniformCodes(Distribution):
    """V independent positions, each the sum over levels l of one of K codes, uniformly: ln p = -V L ln K.

    ``codes`` ``[L, K, D]``; the event is ``[V * D]``. ``log_prob`` takes its argument to be such a code, as it is where
    a posterior quantises with the same book. Two ways to one sum have the masses of both, so with L > 1 this is the
    mass of the entries chosen, and the bound is one on their joint model.
    """

    arg_constraints: dict = {}
    row_noise = True

    def __init__(self, codes: Tensor, positions: int):
        self.codes, self.positions = codes, positions
        super().__init__(torch.Size(), torch.Size((positions * codes.shape[-1],)), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.codes.mean(1).sum(0).repeat(self.positions)

    @property
    def variance(self) -> Tensor:
        return self.codes.var(1, correction=0).sum(0).repeat(self.positions)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        levels, size, _ = self.codes.shape
        index = torch.randint(size, (levels, *sample_shape, self.positions), device=self.codes.device)
        return sum(book[chosen] for book, chosen in zip(self.codes, index)).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        levels, size, _ = self.codes.shape
        return value.new_full(value.shape[:-1], -self.positions * levels * math.log(size))
