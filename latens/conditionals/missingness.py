"""Joint likelihood of a table and of which of its cells are missing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.column import ColumnLikelihood
from latens.conditionals.columns import TableLikelihood
from latens.errors import InputError
from latens.tensors.trees import Tree

SEEN = ("normal", "log_normal", "heaped")  # families whose values the mechanism can see, unless the column has atoms


class SelfMaskedColumns(TableLikelihood):
    r""":class:`TableLikelihood` with cells missing because of their value (not-MIWAE, Ipsen, Mattei & Frellsen 2021).

    .. math:: p(x_o, s \mid z), \qquad \operatorname{logit} p(s_j = \text{missing} \mid x_j) = b_j + a_j u_j

    where :math:`u_j` is the value (ln of the value for log-normal columns), centred and scaled by the column's mean and
    spread; for heaped columns without atoms, it is the score T(x). For other columns the slope :math:`a_j` stays 0.
    Slopes start at 0, and :meth:`start` sets the biases to the shares of missing cells, so training starts from cells
    that are missing at random. See :class:`latens.distributions.SelfMasked`.

    Raises:
        InputError: a column has several components, and so no single location from which to draw its missing cells.

    >>> likelihood = SelfMaskedColumns(nn.Linear(2, 1), [ColumnLikelihood("normal")])
    >>> px = likelihood(torch.zeros(5, 2))
    >>> px.log_prob(torch.full((5, 1), torch.nan)).exp()  # nothing is observed, and half of the cells are missing
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000], grad_fn=<ExpBackward0>)
    """

    sees: Tensor

    def __init__(self, network: nn.Module, columns: Sequence[ColumnLikelihood], *, reads: tuple[str, ...] = ()):
        super().__init__(network, columns, reads=reads)
        if any(column.components > 1 for column in self.columns):
            wrong = "cells that are missing because of their value need columns of one component"
            raise InputError(wrong, "use components=1")
        self.slope = nn.Parameter(torch.zeros(len(self.columns)))
        self.bias = nn.Parameter(torch.zeros(len(self.columns)))
        sees = torch.tensor([c.family in SEEN and not (c.law and c.law.atoms) for c in self.columns])
        self.register_buffer("sees", sees, persistent=False)

    def distribution(self, output: Tensor, given: Tree, c: Tree = None) -> Distribution:
        """p(x, s|z, c) over rows ``[..., columns]`` from raw outputs ``[..., sum of outputs]``."""
        px = super().distribution(output, given)
        assert isinstance(px, d.Observed) and isinstance(px.base, d.Columns)
        return d.SelfMasked(px.base, torch.where(self.sees, self.slope, 0.0), self.bias)

    def start(self, sample: Tensor) -> Tensor:
        """As in :class:`TableLikelihood`, with the biases set to the shares of missing cells."""
        with torch.no_grad():
            share = (sample.isnan().sum(0) + 0.5) / (len(sample) + 1)
            self.bias.copy_(share.logit())
        return super().start(sample)
