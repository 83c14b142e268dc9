"""One distribution over the columns of a table, from parts that each give some of the columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.base import center, is_extrapolating
from latens.distributions.event import InUnits
from latens.tensors.numerics import broadcast_shape


class Columns(Distribution):
    """Elementwise over a last axis of ``size`` columns; part i, over a last axis of n_i, gives the columns ``index``.

    ln p(x) ``[..., size]`` holds one term a column, each by its part; wrap in ``Observed(…, 1)`` for the sum over the
    observed ones. ``parts``: pairs (index, distribution), index an int64 tensor ``[n_i]``; the indices together are a
    permutation of 0 … size-1 (only their number is checked: ``ValueError``). ``fill`` ``[size]`` lies in each column's
    support. ``seen`` ``[2, size]``: least and largest value of draws, which are made again, 30 times at most and then
    cut, where they are beyond; not inside :func:`latens.distributions.extrapolating`.

    >>> from latens.distributions import Bernoulli, Normal
    >>> px = Columns([(torch.tensor([1]), Bernoulli(torch.zeros(1))),
    ...               (torch.tensor([2, 0]), Normal(torch.zeros(2), torch.ones(2)))], 3)
    >>> px.log_prob(torch.tensor([0.0, 1.0, 0.0]))
    tensor([-0.9189, -0.6931, -0.9189])
    """

    arg_constraints: dict = {}

    def __init__(self, parts: Sequence[tuple[Tensor, Distribution]], size: int, seen: Tensor | None = None):
        self.parts, self.size, self.seen = tuple(parts), size, seen
        given = sum(len(index) for index, _ in self.parts)
        if given != size:
            raise ValueError(f"the parts give {given} columns, expected {size}")
        lead = broadcast_shape(*(part.batch_shape[:-1] for _, part in self.parts))
        super().__init__(torch.Size([*lead, size]), validate_args=False)

    def _assemble(self, pieces: list[Tensor]) -> Tensor:
        """One tensor ``[..., size]``, in the widest floating type, from the parts' ``[..., n_i]``."""
        dtype = torch.get_default_dtype() if all(not p.is_floating_point() for p in pieces) else None
        for piece in pieces:
            if piece.is_floating_point():
                dtype = piece.dtype if dtype is None else torch.promote_types(dtype, piece.dtype)
        lead = broadcast_shape(*(piece.shape[:-1] for piece in pieces))
        joined = torch.cat([piece.to(dtype).expand(*lead, piece.shape[-1]) for piece in pieces], -1)
        return joined[..., torch.cat([index for index, _ in self.parts]).argsort()]

    def _each(self, evaluate: Callable[[Distribution], Tensor]) -> Tensor:
        return self._assemble([evaluate(part) for _, part in self.parts])

    @property
    def mean(self) -> Tensor:
        """Means; NaN for categories, which have none."""
        return self._each(lambda part: part.mean)

    @property
    def variance(self) -> Tensor:
        """Variances; NaN for categories."""
        return self._each(lambda part: part.variance)

    @property
    def center(self) -> Tensor:
        """Means, modes of categories, medians of ordered levels."""
        return self._each(center)

    @property
    def fill(self) -> Tensor:
        """A value in the support of each column, ``[size]``."""
        return self._assemble([_fill(part, index) for index, part in self.parts])

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        with torch.no_grad():
            x = self._each(lambda part: part.sample(torch.Size(sample_shape)))
            if self.seen is None or is_extrapolating():
                return x
            low, high = self.seen.to(x.dtype)
            for _ in range(30):
                beyond = (x < low) | (x > high)
                if not beyond.any():
                    return x
                x = torch.where(beyond, self._each(lambda part: part.sample(torch.Size(sample_shape))), x)
            return torch.minimum(torch.maximum(x, low), high)

    def log_prob(self, value: Tensor) -> Tensor:
        return self._assemble([part.log_prob(value[..., index]) for index, part in self.parts])


def _fill(part: Distribution, index: Tensor) -> Tensor:
    if isinstance(part, InUnits):
        fill = part.shift + part.unit * getattr(part.base, "fill", 0.0)
    else:
        fill = torch.as_tensor(getattr(part, "fill", 0.0), device=index.device)
    return fill.expand(len(index))
