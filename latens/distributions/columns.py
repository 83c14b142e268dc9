"""One distribution over the columns of a table, made of parts that each give some of the columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.base import center, is_extrapolating
from latens.distributions.event import InUnits
from latens.tensors.numerics import broadcast_shape


class Columns(Distribution):
    """The columns of a table, independent of each other; each part models some of them.

    The last axis has ``size`` columns, and ln p(x) ``[..., size]`` has one term for each. Wrap it in ``Observed(…, 1)``
    to sum over the observed columns. ``ValueError`` if the parts do not give ``size`` columns in total.

    Args:
        parts: pairs (index, distribution): the part's last axis, of n entries, holds the columns that ``index`` (int64
            ``[n]``) names. Together the indices are a permutation of 0 … size-1; only their number is checked.
        size: the number of columns.
        seen: ``[2, size]``, the least and the greatest value that a draw may have. A draw outside is repeated, at most
            30 times, and then clipped; in the context :func:`latens.distributions.extrapolating` the limits are
            ignored.
        places: ``[2, size]``, if known already: the concatenated indices of all parts, and the place of each column
            among them.

    >>> from latens.distributions import Bernoulli, Normal
    >>> px = Columns([(torch.tensor([1]), Bernoulli(torch.zeros(1))),
    ...               (torch.tensor([2, 0]), Normal(torch.zeros(2), torch.ones(2)))], 3)
    >>> px.log_prob(torch.tensor([0.0, 1.0, 0.0]))
    tensor([-0.9189, -0.6931, -0.9189])
    """

    arg_constraints: dict = {}

    def __init__(
        self, parts: Sequence[tuple[Tensor, Distribution]], size: int, seen: Tensor | None = None,
        places: Tensor | None = None,
    ):  # fmt: skip
        self.parts, self.size, self.seen = tuple(parts), size, seen
        self.widths = [len(index) for index, _ in self.parts]
        if sum(self.widths) != size:
            raise ValueError(f"the parts must give {size} columns, got {sum(self.widths)}")
        if places is None:
            indices = torch.cat([index for index, _ in self.parts])
            places = torch.stack([indices, indices.argsort()])
        self.places = places
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
        return joined.index_select(-1, self.places[1])

    def _each(self, evaluate: Callable[[Distribution], Tensor]) -> Tensor:
        return self._assemble([evaluate(part) for _, part in self.parts])

    @property
    def mean(self) -> Tensor:
        """Means ``[..., size]``; NaN for categories, which have none."""
        return self._each(lambda part: part.mean)

    @property
    def variance(self) -> Tensor:
        """Variances ``[..., size]``; NaN for categories."""
        return self._each(lambda part: part.variance)

    @property
    def center(self) -> Tensor:
        """Means, modes of categories and medians of ordered levels, ``[..., size]``."""
        return self._each(center)

    @property
    def fill(self) -> Tensor:
        """A value in the support of each column, ``[size]``."""
        return self._assemble([_fill(part, index) for index, part in self.parts])

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., size]`` within ``seen``, without gradients."""
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
        """ln p(x_j) of each column, in nats, ``[..., size]``."""
        each = value.index_select(-1, self.places[0]).split(self.widths, -1)
        return self._assemble([part.log_prob(cells) for (_, part), cells in zip(self.parts, each)])


def _fill(part: Distribution, index: Tensor) -> Tensor:
    if isinstance(part, InUnits):
        fill = part.shift + part.unit * getattr(part.base, "fill", 0.0)
    else:
        fill = torch.as_tensor(getattr(part, "fill", 0.0), device=index.device)
    return fill.expand(len(index))
