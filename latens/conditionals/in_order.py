"""Likelihood of a table whose columns depend on each other beyond the codes: each sees those before it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import silu

from latens import distributions as d
from latens.conditionals.column import Allowed, ColumnLikelihood
from latens.conditionals.columns import TableLikelihood
from latens.networks import Before, Seen
from latens.tensors.trees import Tree


class ColumnsInOrder(TableLikelihood):
    r"""Columns that each see those before them, in the order of the table (NADE, Larochelle & Murray 2011).

    .. math:: p(x \mid z) = \prod_j p_j(x_j \mid z, x_1, \dots, x_{j-1})

    The density is exact and takes one pass. With r(z) the raw outputs of :class:`TableLikelihood`, those of column j
    are

    .. math:: r_j(z) + V_j \operatorname{silu}\!\left(A \operatorname{silu}\!\left(U r(z)
        + \sum_{i < j} W_i\, \mathrm{features}_i(x_i)\right)\right)

    with V starting at 0, and they go through heads of their own. Missing cells contribute nothing.

    Columns that see each other can do without the codes (Chen et al. 2017): the bound would be best where q(z|x) is the
    prior. So no gradient passes from here into r, and in training ln p(x) also has the gradient of the
    :class:`TableLikelihood` that sees z alone: codes are learned as if there were no earlier columns, and these explain
    what the codes leave.

    Args:
        network: maps z to ``[..., sum of outputs]``.
        columns: how each column is modelled.
        seen: how each column enters the network through which later columns see it.
        hidden: width of that network.
        allowed: see :class:`TableLikelihood`.
        reads: the keys of the condition that the network sees.

    >>> columns = [ColumnLikelihood("normal"), ColumnLikelihood("categorical", levels=3)]
    >>> likelihood = ColumnsInOrder(nn.Linear(2, 4), columns, [Seen(), Seen(3)], hidden=8)
    >>> likelihood(torch.zeros(5, 2)).log_prob(torch.tensor([[0.5, 2.0]]).expand(5, 2)).shape
    torch.Size([5])
    """

    places: Tensor

    def __init__(
        self, network: nn.Module, columns: Sequence[ColumnLikelihood], seen: Sequence[Seen], *, hidden: int = 64,
        allowed: Sequence[Allowed] = (), reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, columns, allowed=allowed, reads=reads)
        self.own = copy.deepcopy(self.heads)
        self.before, self.told = Before(seen, hidden), nn.Linear(self.outputs, hidden)
        self.mixed = nn.Linear(hidden, hidden)
        self.most = max(column.outputs for column in self.columns)
        self.further = nn.Parameter(torch.zeros(len(self.columns), hidden, self.most))
        self.register_buffer("places", torch.tensor(self._places(range(len(self.columns)))), persistent=False)

    def _places(self, only: Sequence[int]) -> list[int]:
        """The indices of the raw outputs of some columns in a flat ``[columns, most]``."""
        return [place * self.most + i for place, j in enumerate(only) for i in range(self.columns[j].outputs)]

    def _either(self) -> list[Callable[[Tensor], Distribution]]:
        """For each family, what evaluates its own head and its leader on raw outputs ``[2, ..., n, outputs]``.

        It makes one call where the heads have no parameters, since they differ in nothing else.
        """

        def pair(own: nn.Module, lead: nn.Module, raw: Tensor) -> Distribution:
            first, second = raw.unbind()
            return d.Pair(own(first), lead(second))

        return [partial(pair, own, lead) if any(True for _ in own.parameters()) else own
                for own, lead in zip(self.own, self.heads)]  # fmt: skip

    @property
    def served(self) -> nn.ModuleList:
        """The heads with which ln p(x) is evaluated, which see earlier columns."""
        return self.own

    def start(self, sample: Tensor) -> Tensor:
        """As in :class:`TableLikelihood`, with both sets of heads set alike."""
        raw = super().start(sample)
        self.own.load_state_dict(self.heads.state_dict())
        return raw

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., columns]`` from raw outputs ``[..., sum of outputs]``."""
        raw = output.detach()
        told = self.told(raw).unsqueeze(-2)

        def after(x: Tensor, only: Sequence[int] | None) -> tuple[d.Columns, list[int]]:
            hidden = silu(self.mixed(silu(told + self.before(x, only))))
            further = self.further if only is None else self.further[list(only)]
            further = torch.einsum("...dh,dho->...do", hidden, further).flatten(-2)
            if only is None:
                moved = raw + further.index_select(-1, self.places)
            else:
                moved = raw.expand(*further.shape[:-1], -1).clone()
                own = [k for j in only for k in range(self.ends[j], self.ends[j + 1])]
                moved[..., own] += further[..., self._places(only)]
            px, members = partial(self.columns_at, moved, x, self.own, only), self.members_of(only)
            if not torch.is_grad_enabled():
                return px(), members
            both = torch.stack([moved, output.expand_as(moved)])
            return d.Led(px, self.columns_at(both, x, self._either(), only)), members

        return d.Observed(d.InOrder(after, raw.shape[:-1], len(self.columns)), 1)
