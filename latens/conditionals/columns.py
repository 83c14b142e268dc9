"""Likelihood p(x|z) of a table with columns of several kinds, which each have a family."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.conditionals.column import Allowed, ColumnLikelihood, Limited, Pins, Restriction
from latens.conditionals.heads import HEADS, Head, Spread
from latens.errors import InputError
from latens.tensors.trees import Tree

FURTHEST = 1.0  # a log weight is shifted by at most this, so that no level is made frequent by the shift alone


def _codes_of(source: int | str, x: Tensor, c: Tree) -> Tensor:
    """The codes ``[...]`` of a column of x ``[..., columns]``, or of a condition ``[B]`` or ``[..., B, 1]``."""
    if isinstance(source, int):
        return x[..., source]
    if not isinstance(c, Mapping) or source not in c:
        raise ValueError(f"levels depend on the condition {source!r}, which was not given: pass it in c")
    return c[source].squeeze(-1) if c[source].dim() > 1 else c[source]


def _confined(part: d.Heaped, rules: Sequence[Limited | Pins], cells: Sequence[Sequence[Tensor]]) -> d.Heaped:
    """Columns of numbers, restricted by one rule each, given the cells of the sources."""
    atoms = [rule.atom if isinstance(rule, Pins) else 0 for rule in rules]
    if any(atoms):
        states = [rule.state(each) if isinstance(rule, Pins) and rule.atom else torch.zeros_like(each[0])
                  for rule, each in zip(rules, cells)]  # fmt: skip
        part = part.pinned(torch.stack(states, -1), torch.tensor(atoms, device=states[0].device))
    if all(atoms):
        return part
    limits, signs = (torch.stack(each, -1) for each in zip(*(rule.side(each) for rule, each in zip(rules, cells))))
    after = torch.tensor([rule.after for rule in rules], device=limits.device)
    return part.on_side(part.margins.cut(limits, signs, after))


def _size(atoms: int) -> int:
    """The number of atoms for which room is made, so that columns with similar numbers are evaluated together."""
    return 0 if not atoms else 8 if atoms <= 8 else 128


def _stages(size: int, sources_of: Mapping[int, Sequence[int | str]]) -> list[list[int]]:
    """The columns in an order in which they can be drawn; columns in the same stage do not depend on each other."""
    stage: list[int] = []
    for j in range(size):
        sources = [source for source in sources_of.get(j, ()) if isinstance(source, int)]
        if any(source >= j for source in sources):
            raise ValueError(f"columns {sources}, which restrict column {j}, must come before it")
        stage.append(max((stage[source] + 1 for source in sources), default=0))
    return [[j for j in range(size) if stage[j] == k] for k in range(max(stage) + 1)]


class TableLikelihood(Conditional):
    r"""The likelihood of a table, with a family for each column; missing cells (NaN) are left out.

    .. math:: p(x \mid z) = \prod_j p_j(x_j \mid z)

    ln p(x) is a density of the user's data: it includes the Jacobian of every column's unit. Columns of the same family
    (and number of levels) are evaluated together. Learned scales never fall below 1e-3 of the unit; :meth:`floor_hits`
    lists the columns whose scale would.

    Args:
        network: maps z to ``[..., sum of outputs]``, the outputs of column 0 first.
        columns: how each column is modelled.
        allowed: which levels or numbers a column can have, given conditions and the columns before it; the column's
            distribution is normalised over them.
        reads: the keys of the condition that the network sees.

    Raises:
        ValueError: the network does not give the right number of outputs.
        InputError: there are no columns.

    >>> columns = [ColumnLikelihood("normal", shift=170, unit=10), ColumnLikelihood("categorical", levels=3)]
    >>> likelihood = TableLikelihood(nn.Linear(2, 4), columns)
    >>> likelihood(torch.zeros(5, 2)).log_prob(torch.tensor([[180.0, 2.0]]).expand(5, 2)).shape
    torch.Size([5])
    """

    seen: Tensor | None
    members_at: Tensor
    raws: Tensor

    def __init__(
        self, network: nn.Module, columns: Sequence[ColumnLikelihood], *, allowed: Sequence[Restriction] = (),
        reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, reads)
        self.columns = tuple(columns)
        if not self.columns:
            raise InputError("the likelihood of a table has no columns", "give at least one column")
        self._restrict(allowed)
        groups: dict[tuple[object, ...], list[int]] = {}
        for j, column in enumerate(self.columns):
            size = column.levels if column.law is None else _size(len(column.law.atoms))
            key = (column.family, size, column.scale, column.components, *column.phases.items(), j in self.allowed)
            groups.setdefault(key, []).append(j)
        ends = torch.tensor([0] + [column.outputs for column in self.columns]).cumsum(0)
        self.ends: list[int] = ends.tolist()
        self.outputs = self.ends[-1]
        seen = [column.seen or (-math.inf, math.inf) for column in self.columns]
        self.register_buffer("seen", torch.tensor(seen, dtype=torch.float64).T if any(
            column.seen for column in self.columns) else None, persistent=False)  # fmt: skip
        self.heads, self.members, self.sizes = nn.ModuleList(), list(groups.values()), []
        for i, members in enumerate(self.members):
            index = torch.tensor(members)
            alike = [self.columns[j] for j in members]
            self.heads.append(HEADS[alike[0].family](alike))
            outputs = torch.tensor([column.outputs for column in alike]).unsqueeze(-1)
            place = torch.arange(int(outputs.max()))
            raw = ends[index].unsqueeze(-1) + torch.minimum(place, outputs - 1)
            self.register_buffer(f"own_{i}", place < outputs, persistent=False)
            self.register_buffer(f"index_{i}", index, persistent=False)
            self.register_buffer(f"raw_{i}", raw, persistent=False)
            self.sizes.append(tuple(raw.shape))
        indices, raws, _ = zip(*self._groups())
        places = torch.cat(indices)
        self.register_buffer("members_at", torch.stack([places, places.argsort()]), persistent=False)
        self.register_buffer("raws", torch.cat([*map(torch.flatten, raws)]), persistent=False)

    def _restrict(self, allowed: Sequence[Restriction]) -> None:
        self.allowed = {each.target: each for each in allowed}
        self.stages = _stages(len(self.columns), {target: each.sources for target, each in self.allowed.items()})
        for each in allowed:
            if isinstance(each, Allowed):
                self.register_buffer(f"allowed_{each.target}", each.levels, persistent=False)

    def _groups(self, heads: Iterable[Any] | None = None) -> list[tuple[Tensor, Tensor, Head]]:
        """For each family: its columns ``[n]``, the indices of their raw outputs ``[n, outputs]``, and its head.

        A column with fewer outputs than other columns of its group repeats the index of its last output.
        """
        return [(getattr(self, f"index_{i}"), getattr(self, f"raw_{i}"), cast(Head, head))
                for i, head in enumerate(self.heads if heads is None else heads)]  # fmt: skip

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        """As in :class:`Conditional`, with the levels that the conditions allow."""
        return self.distribution(self.output(given, c), given, c)

    def distribution(self, output: Tensor, given: Tree, c: Tree = None) -> Distribution:
        """p(x|z, c) over rows ``[..., columns]`` from raw outputs ``[..., sum of outputs]``."""
        if not self.allowed:
            return d.Observed(self.columns_at(output), 1)

        def given_cells(x: Tensor, only: Sequence[int] | None) -> tuple[d.Columns, list[int]]:
            return self.columns_at(output, x, only=only, c=c), self.members_of(only)

        return d.Observed(d.InOrder(given_cells, output.shape[:-1], len(self.columns), self.stages), 1)

    def members_of(self, only: Sequence[int] | None = None) -> list[int]:
        """The columns that are evaluated together with those in ``only``, in order; all columns if it is None."""
        return sorted(j for members in self.members if only is None or set(members) & set(only) for j in members)

    def columns_at(
        self, output: Tensor, x: Tensor | None = None, heads: Iterable[Any] | None = None,
        only: Sequence[int] | None = None, c: Tree = None,
    ) -> d.Columns:  # fmt: skip
        """The distribution of the columns, cell by cell, for the given raw outputs.

        Args:
            output: raw outputs, ``[..., sum of outputs]``.
            x: ``[..., columns]``; if given, columns are restricted to the levels that are allowed with it and c.
            heads: heads that give the distributions of the families, instead of the columns' own heads.
            only: if given, only :meth:`members_of` these columns are evaluated.
            c: the conditions ``[B]``.
        """
        if output.shape[-1] != self.outputs:
            raise ValueError(f"the network must give {self.outputs} outputs, got {output.shape[-1]}")
        found = self.members_of(only)
        chosen = [i for i, members in enumerate(self.members) if members[0] in found]
        groups, sizes = self._groups(heads), [self.sizes[i] for i in chosen]
        raws = self.raws if only is None else torch.cat([groups[i][1].flatten() for i in chosen])
        parts = []
        for i, size, raw in zip(chosen, sizes, output.index_select(-1, raws).split(list(map(math.prod, sizes)), -1)):
            members, (index, _, head) = self.members[i], groups[i]
            part = head(raw.unflatten(-1, size))
            index = index if only is None else torch.tensor(list(map(found.index, members)), device=index.device)
            parts.append((index, part if x is None else self._among(part, members, x, c)))
        if only is not None:
            return d.Columns(parts, len(found), None if self.seen is None else self.seen[:, found])
        return d.Columns(parts, len(found), self.seen, self.members_at)

    def _among(self, part: Distribution, members: list[int], x: Tensor, c: Tree) -> Distribution:
        """The columns of a group, restricted to what is allowed together with the cells in x and c."""
        if members[0] not in self.allowed:
            return part
        if isinstance(part, d.Pair):
            return d.Pair(*(self._among(each, members, x, c) for each in part.each))
        rules = [self.allowed[j] for j in members]
        cells = [torch.broadcast_tensors(x[..., j], *(_codes_of(source, x, c) for source in rule.sources))[1:]
                 for j, rule in zip(members, rules)]  # fmt: skip
        if isinstance(part, d.Heaped):
            return _confined(part, cast(list[Limited | Pins], rules), cells)
        found = []
        for j, rule, codes in zip(members, rules, cells):
            if not isinstance(rule, Allowed):
                found.append(rule.allowed(codes))
                continue
            levels = cast(Tensor, getattr(self, f"allowed_{j}"))
            found.append(levels[tuple(x.nan_to_num(nan=size - 1).long() for x, size in zip(codes, levels.shape))])
        return d.among(part, torch.stack(found, -2))

    def start(self, sample: Tensor) -> Tensor:
        """Set what the columns learn from a sample, and return raw outputs that give the sample's marginals.

        The outputs are the bias ``[outputs]`` for the network's last layer: mean and standard deviation (of ln x for
        "log_normal"), ln mean, frequencies of levels with one added to each count.

        Args:
            sample: ``[N, columns]``, NaN for missing cells.

        Raises:
            ValueError: the sample has a different number of columns.

        >>> likelihood = TableLikelihood(nn.Linear(1, 1), [ColumnLikelihood("poisson")])
        >>> round(likelihood.start(torch.tensor([[1.0], [3.0]])).exp().item(), 4)
        2.0
        """
        if sample.dim() != 2 or sample.shape[1] != len(self.columns):
            raise ValueError(f"the sample must have the shape [N, {len(self.columns)}], got {list(sample.shape)}")
        groups = self._groups()
        device = groups[0][0].device
        sample = sample.to(device, torch.float32 if device.type == "mps" else torch.float64)
        raw = sample.new_zeros(self.outputs)
        for i, (index, place, head) in enumerate(groups):
            own = getattr(self, f"own_{i}")
            raw[place[own]] = head.start(sample[:, index])[own].to(raw.dtype)
        return raw.to(torch.get_default_dtype())

    def counts(self, x: Tensor, weight: Tensor | None = None) -> list[Tensor]:
        """For :meth:`match`, how often each level or atom occurs in x ``[N, columns]``, with each row counted by its
        weight ``[N]``: ``[n, levels]`` for each family that has levels or atoms."""
        found = []
        for i, head in self._levelled():
            cells = x[:, self.members[i]]
            seen = (~cells.isnan()).double() * (1.0 if weight is None else weight.double().unsqueeze(-1))
            count = torch.zeros_like(head.offset, dtype=torch.float64)
            found.append(count.scatter_add(1, head.level(cells.nan_to_num(0.0)).T, seen.T))
        return found

    def _levelled(self) -> list[tuple[int, Any]]:
        """(index, head) of each family with levels or atoms."""
        return [(i, head) for i, head in enumerate(self.served) if head.offset is not None]

    @torch.no_grad()
    def match(self, counts: Sequence[Tensor], draws: Sequence[tuple[d.Columns, Tensor]]) -> None:
        r"""Shift the log weights of levels and atoms, so that their mean probability over draws equals their share of
        the data.

        .. math:: \ln w_l \leftarrow \ln w_l + \delta_l, \qquad
            \operatorname{mean}_{z \sim p(z)} \frac{w_l(z)\, e^{\delta_l}}{\sum_m w_m(z)\, e^{\delta_m}}
            = \frac{n_l}{\sum_m n_m}

        The shifts are found by iterative proportional fitting (Deming & Stephan 1940). After gradient descent alone,
        the shares in samples would still be visibly wrong.

        Args:
            counts: n, from :meth:`counts`.
            draws: the columns ``[B, columns]`` at draws of z, each with the mask of the cells that are present in a
                sample.
        """
        for (i, head), count in zip(self._levelled(), counts, strict=True):
            log = torch.cat([head.log_shares(px.parts[i][1]) for px, _ in draws])
            weights = log.double().softmax(-1).transpose(0, 1).contiguous()  # [columns, B, levels]
            seen = torch.cat([mask[:, self.members[i]] for _, mask in draws]).double().T.unsqueeze(1)
            seen = seen / seen.sum(-1, keepdim=True).clamp_min(1)
            share = count / count.sum(-1, keepdim=True).clamp_min(1e-300)
            shift = torch.zeros_like(count)
            for _ in range(100):
                factor = shift.exp().unsqueeze(-1)
                mean = (seen / (weights @ factor).mT @ weights).squeeze(1) * factor.squeeze(-1)
                step = torch.where((share > 0) & (mean > 0), (share / mean.clamp_min(1e-12)).log(), 0.0)
                before, shift = shift, (shift + step).clamp(-FURTHEST, FURTHEST)
                if (shift - before).abs().max() < 1e-5:
                    break
            head.offset += (shift - shift[:, :1]).to(head.offset)

    @property
    def measure(self) -> str:
        """The base measure of ln p(x), in words."""
        masses = sum(column.is_mass for column in self.columns)
        densities = len(self.columns) - masses
        return ", ".join([
            *([f"masses on the grid of {masses:,} column{'s' * (masses != 1)}"] if masses else []),
            *([f"densities of {densities:,}, per unit of the data"] if densities else []),
        ])  # fmt: skip

    @property
    def served(self) -> nn.ModuleList:
        """The heads with which ln p(x) is evaluated."""
        return self.heads

    def floor_hits(self) -> list[int]:
        """The columns (counted from 0) whose learned scale is at its floor: constant columns, or columns that the model
        copies.
        """
        hits: list[int] = []
        for index, _, head in self._groups(self.served):
            if isinstance(head, Spread):
                hits += index.cpu()[head.at_floor()].tolist()
        return sorted(hits)
