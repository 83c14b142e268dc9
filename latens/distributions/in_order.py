"""Columns one after the other, each given the columns before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.base import center
from latens.distributions.columns import Columns
from latens.tensors.numerics import broadcast_shape


class Pair(Distribution):
    """Two distributions over the same cells ``[..., n]`` as one distribution with batch shape ``[2, ..., n]``."""

    arg_constraints: dict = {}

    def __init__(self, first: Distribution, second: Distribution):
        self.each = first, second
        super().__init__(torch.Size([2, *first.batch_shape]), validate_args=False)

    @property
    def fill(self) -> Tensor | float:
        """A value in the support of the first distribution."""
        return getattr(self.each[0], "fill", 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x) of each cell under each of the two, ``[2, ..., n]``."""
        return torch.stack([part.log_prob(value) for part in self.each])


class Led(Columns):
    """Columns whose gradients are their own plus those of another likelihood's ln p(x).

    Args:
        px: the distribution that gives the columns.
        both: the columns, and the columns that lead them, along a first axis of 2; their ln p(x) is evaluated together.
    """

    def __init__(self, px: Callable[[], Columns], both: Columns):
        self.size, self.seen, self.places, self.widths = both.size, both.seen, both.places, both.widths
        self._px, self._both = px, both
        Distribution.__init__(self, both.batch_shape[1:], validate_args=False)

    @cached_property
    def parts(self) -> tuple[tuple[Tensor, Distribution], ...]:  # type: ignore[override]
        """The parts of the columns, made only on demand, as a training step does not need them."""
        return self._px().parts

    @property
    def fill(self) -> Tensor:
        """A value in the support of each column, ``[size]``."""
        return self._both.fill

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x_j) of each column, in nats, ``[..., size]``."""
        own, lead = self._both.log_prob(value).unbind()
        return own + (lead - lead.detach())


class InOrder(Distribution):
    r"""The columns of a row one after the other, each given the columns before it (Larochelle & Murray 2011).

    .. math:: p(x) = \prod_j p_j(x_j \mid x_1, \dots, x_{j-1})

    The density of the observed cells is exact. Draws take one pass per stage. For ``fill``, see
    :class:`~latens.distributions.Columns`. Wrap this distribution in ``Observed(…, 1)``.

    Args:
        columns: ``columns(x, None)`` gives, in one pass, the distribution of every column given the columns before it
            in x ``[..., D]``, where NaN carries no information. ``columns(x, only)`` gives the distributions of the
            columns ``only``, and perhaps of others. Both also give the indices of their columns, in order.
        batch_shape: ``[...]``.
        size: the number of columns, D.
        stages: the columns of each stage, which do not depend on each other; by default each stage is one column.
    """

    arg_constraints: dict = {}

    def __init__(
        self, columns: Callable[[Tensor, Sequence[int] | None], tuple[Columns, list[int]]],
        batch_shape: torch.Size, size: int, stages: Sequence[Sequence[int]] | None = None,
    ):  # fmt: skip
        self.columns, self.size, self.stages = columns, size, stages or [[j] for j in range(size)]
        super().__init__(torch.Size([*batch_shape, size]), validate_args=False)

    def given(self, value: Tensor) -> Columns:
        """The distribution of every column given the columns before it in ``value`` ``[..., D]``."""
        return self.columns(value, None)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(x_j) of each column given the columns before it, in nats, ``[..., D]``."""
        return self.given(value).log_prob(value)

    def _one_by_one(self, x: Tensor, value: Callable[[Columns], Tensor]) -> Tensor:
        """x with its missing cells filled, stage by stage, by ``value`` of the cells' distribution."""
        for stage in map(list, self.stages):
            px, members = self.columns(x, stage)
            found = value(px)[..., [members.index(j) for j in stage]].to(x.dtype)
            found = torch.where(x[..., stage].isnan(), found, x[..., stage])
            x = x.index_copy(-1, torch.tensor(stage, device=x.device), found)  # not in place, for exported graphs
        return x

    def _unseen(self, *lead: int) -> Tensor:
        return torch.full((*lead, *self.batch_shape), torch.nan, dtype=torch.float64)

    def completed(self, x: Tensor) -> Tensor:
        """x ``[..., D]`` with its missing cells drawn, given z and the columns before them."""
        with torch.no_grad():
            x = x.double().expand(broadcast_shape(x.shape, self.batch_shape))
            return self._one_by_one(x, lambda px: px.sample())

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., D]``, without gradients."""
        return self.completed(self._unseen(*sample_shape))

    @property
    def is_sequential(self) -> bool:
        """Whether each column is drawn after all columns before it."""
        return len(self.stages) == self.size

    def with_gaps(self, gaps: Callable[[Tensor, Sequence[int]], Tensor]) -> tuple[Tensor, Tensor]:
        """Draws ``[..., D]`` of rows in which cells are missing, and the mask of these cells.

        Columns that were fitted to rows with gaps have a distribution even if an earlier cell is missing. So a row is
        drawn in order: whether a cell is missing, given the values and gaps before it, and then its value given the
        same. If columns are drawn together, gaps depend on all values of a draw, and the columns of later stages are
        then drawn again. Missing cells get values, too.

        Args:
            gaps: a function of rows ``[..., D]`` and some columns, which returns the mask ``[..., columns]`` of missing
                cells. In a row that is drawn in order, only values and gaps before the column are known.
        """
        with torch.no_grad():
            if self.is_sequential:
                told, mask, stages = self._unseen(), torch.zeros(self.batch_shape, dtype=torch.bool), self.stages
                x = told.clone()
            else:
                x, stages = self.sample(), self.stages[1:]
                mask = gaps(x, range(self.size))
                told = x.masked_fill(mask, torch.nan)
            for stage in map(list, stages):
                if self.is_sequential:
                    mask[..., stage] = gaps(told, stage)
                px, members = self.columns(told, stage)
                x[..., stage] = px.sample()[..., [members.index(j) for j in stage]].to(x.dtype)
                told[..., stage] = x[..., stage].masked_fill(mask[..., stage], torch.nan)
            return x, mask

    @property
    def center(self) -> Tensor:
        """The value that stands for each column, given the values that stand for those before it, ``[..., D]``."""
        return self._one_by_one(self._unseen(), center)

    @property
    def mean(self) -> Tensor:
        """The same as :attr:`center`, ``[..., D]``."""
        return self.center
