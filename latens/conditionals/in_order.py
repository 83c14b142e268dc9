"""Likelihood of a table whose columns depend on each other beyond the codes: each depends on those before it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import silu

from latens import distributions as d
from latens.conditionals.column import ColumnLikelihood, Restriction
from latens.conditionals.columns import TableLikelihood
from latens.networks import Before, Seen
from latens.tensors.trees import Tree


class ColumnsInOrder(TableLikelihood):
    r"""Columns that each depend on the columns before them in the table (NADE, Larochelle & Murray 2011).

    .. math:: p(x \mid z) = \prod_j p_j(x_j \mid z, x_1, \dots, x_{j-1})

    The density is exact and takes one pass. Let r(z) be the raw outputs of :class:`TableLikelihood`. The raw outputs of
    column j are

    .. math:: r_j(z) + V_j \operatorname{silu}\!\left(A \operatorname{silu}\!\left(U r(z)
        + \sum_{i < j} W_i\, \mathrm{features}_i(x_i)\right)\right)

    where V starts at 0, and they go through separate heads. Missing cells contribute nothing.

    Columns that depend on each other can do without the codes (Chen et al. 2017): the bound would be best if q(z|x)
    equalled the prior. So no gradient passes from here into r. Instead, in training, ln p(x) also has the gradient of a
    :class:`TableLikelihood` that sees only z. Codes are learned as if there were no earlier columns, and earlier
    columns explain what the codes leave open.

    Args:
        network: maps z to ``[..., sum of outputs]``.
        columns: how each column is modelled.
        seen: the form in which each column enters the network for later columns.
        hidden: the width of that network.
        allowed: see :class:`TableLikelihood`.
        reads: the keys of the condition that the network sees.

    >>> columns = [ColumnLikelihood("normal"), ColumnLikelihood("categorical", levels=3)]
    >>> likelihood = ColumnsInOrder(nn.Linear(2, 4), columns, [Seen(), Seen(3)], hidden=8)
    >>> likelihood(torch.zeros(5, 2)).log_prob(torch.tensor([[0.5, 2.0]]).expand(5, 2)).shape
    torch.Size([5])
    """

    order: Tensor
    places: Tensor

    def __init__(
        self, network: nn.Module, columns: Sequence[ColumnLikelihood], seen: Sequence[Seen], *, hidden: int = 64,
        allowed: Sequence[Restriction] = (), reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, columns, allowed=allowed, reads=reads)
        self.own = copy.deepcopy(self.heads)
        self.before, self.told = Before(seen, hidden), nn.Linear(self.outputs, hidden)
        self.mixed = nn.Linear(hidden, hidden)
        widths = torch.tensor([column.outputs for column in self.columns])
        self.further = nn.Parameter(torch.zeros(len(self.columns), hidden, int(widths.max())))
        order = widths.argsort(stable=True)
        self.register_buffer("order", order, persistent=False)
        self.tiers = _tiers(widths[order].tolist())
        padded = torch.tensor([width for size, width in self.tiers for _ in range(size)])
        starts, place = padded.cumsum(0) - padded, torch.arange(int(widths.max()))
        rows, own = starts[order.argsort()].unsqueeze(-1) + place, place < widths.unsqueeze(-1)
        self.register_buffer("places", rows[own], persistent=False)

    def _further(self, hidden: Tensor, only: Sequence[int] | Tensor, tiers: Sequence[tuple[int, int]]) -> Tensor:
        """V_j h_j of the columns ``only``, ``[padded outputs, N]``, from their h ``[columns, ..., hidden]``. They are
        padded as :func:`_tiers` says."""
        hidden, weight = hidden.flatten(1, -2).mT, self.further[only].mT
        sizes = [size for size, _ in tiers]
        parts = zip(weight.split(sizes), hidden.split(sizes), tiers)
        return torch.cat([(v[:, :width] @ h).flatten(0, 1) for v, h, (_, width) in parts])

    def _either(self) -> list[Callable[[Tensor], Distribution]]:
        """For each family, a function that evaluates both its own head and the leading head on raw outputs ``[2, ...,
        n, outputs]``. If heads have no parameters, the two are the same, and a single call is enough.
        """

        def pair(own: nn.Module, lead: nn.Module, raw: Tensor) -> Distribution:
            first, second = raw.unbind()
            return d.Pair(own(first), lead(second))

        return [partial(pair, own, lead) if any(True for _ in own.parameters()) else own
                for own, lead in zip(self.own, self.heads)]  # fmt: skip

    @property
    def served(self) -> nn.ModuleList:
        """The heads with which ln p(x) is evaluated; they depend on earlier columns."""
        return self.own

    def start(self, sample: Tensor) -> Tensor:
        """As in :class:`TableLikelihood`; both sets of heads are set to the same values."""
        raw = super().start(sample)
        self.own.load_state_dict(self.heads.state_dict())
        return raw

    def distribution(self, output: Tensor, given: Tree, c: Tree = None) -> Distribution:
        """p(x|z, c) over rows ``[..., columns]`` from raw outputs ``[..., sum of outputs]``."""
        raw = output.detach()
        told = self.told(raw)

        def after(x: Tensor, only: Sequence[int] | None) -> tuple[d.Columns, list[int]]:
            columns = self.order if only is None else only
            tiers = self.tiers if only is None else [(1, self.columns[j].outputs) for j in only]
            before = self.before(x, columns)[(slice(None), *[None] * (told.dim() - x.dim()))]
            hidden = silu(self.mixed(silu(told + before)))
            further = self._further(hidden, columns, tiers)
            if only is None:
                moved = raw + further.index_select(0, self.places).T.unflatten(0, hidden.shape[1:-1])
            else:
                moved = raw.expand(*hidden.shape[1:-1], -1)
                own = [k for j in only for k in range(self.ends[j], self.ends[j + 1])]
                found = moved[..., own] + further.T.unflatten(0, hidden.shape[1:-1])
                moved = moved.index_copy(-1, torch.tensor(own, device=raw.device), found)
            px, members = partial(self.columns_at, moved, x, self.own, only, c), self.members_of(only)
            if not torch.is_grad_enabled():
                return px(), members
            both = torch.stack([moved, output.expand_as(moved)])
            return d.Led(px, self.columns_at(both, x, self._either(), only, c)), members

        return d.Observed(d.InOrder(after, raw.shape[:-1], len(self.columns)), 1)


def _tiers(widths: Sequence[int]) -> list[tuple[int, int]]:
    """(number of columns, width) of one or two runs of columns sorted by width. The cut between the runs is where
    padding each run to its widest column takes the fewest outputs.

    >>> _tiers([1, 2, 2, 90, 100]), _tiers([3, 3])
    ([(3, 2), (2, 100)], [(2, 3)])
    """
    count, widest = len(widths), widths[-1]
    cut = min(range(count), key=lambda cut: cut * widths[cut - 1] + (count - cut) * widest)
    return [(cut, widths[cut - 1])] * (cut > 0) + [(count - cut, widest)]
