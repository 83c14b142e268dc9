"""Likelihood p(x|z) of a table whose columns are of several kinds: a family for each column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.conditionals.heads import HEADS, Head, NegativeBinomialHead, Spread
from latens.errors import InputError, is_number, is_whole
from latens.schema.law import Law
from latens.trees import Tree

FAMILIES = tuple(HEADS)
_BOUNDED = ("beta", "truncated_normal")
_LEVELLED = ("categorical", "ordinal")
_MASSES = (*_LEVELLED, "bernoulli", "poisson", "negative_binomial", "zero_inflated_negative_binomial")


def _size(atoms: int) -> int:
    """Up to how many atoms the columns have that are evaluated together."""
    return 0 if not atoms else 8 if atoms <= 8 else 128


@dataclass(frozen=True)
class ColumnLikelihood:
    """How one column is modelled: plain values only.

    Args:
        family: one of ``FAMILIES``.
        levels: number of levels, for "categorical" and "ordinal" (codes 0 … levels-1).
        shift, unit: centre and spread of the column, so that raw outputs are about 0 and 1 wide: in the user's units
            for "normal", "student_t" and "truncated_normal", of ln x for "log_normal", of ln mean for counts, of the
            logit for "beta", "bernoulli" and "continuous_bernoulli", of the latent location for "ordinal".
        low, high: the interval of "beta", "truncated_normal" and "continuous_bernoulli" (0 and 1 unless given).
        scale: "learned", one number for the column, or "network", a further output: the scale of a continuous family
            (that of "beta": a + b = 2 / scale^2), ln theta of negative binomials.
        law: the atoms, grid and margin of "heaped", whose location is that of the score T(x).
        seen: of a family without a law, the smallest and the largest value of the data, between which draws stay.
        components: how many logistics the margin of "heaped" is a mixture of, whose places, scales and weights the
            network gives.
        support: the smallest and the largest value that the column can have, as far as draws of "heaped" go where they
            go beyond those seen.

    Raises:
        InputError: the values contradict each other.

    >>> ColumnLikelihood("categorical", levels=7).outputs, ColumnLikelihood("normal", shift=170, unit=10).outputs
    (7, 1)
    """

    family: str
    levels: int | None = None
    shift: float = 0.0
    unit: float = 1.0
    low: float | None = None
    high: float | None = None
    scale: str = "learned"
    law: Law | None = None
    seen: tuple[float, float] | None = None
    components: int = 1
    support: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.family not in HEADS:
            raise InputError(f"the family of a column must be one of {', '.join(FAMILIES)}, got {self.family!r}.")
        if self.family == "continuous_bernoulli" and self.low is None and self.high is None:
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", 1.0)
        if fault := self._fault():
            raise InputError(f"a column of the family {self.family!r} {fault}.")

    def _fault(self) -> str | None:
        """The first contradiction between the fields, in words."""
        if self.family in _LEVELLED:
            if not (is_whole(self.levels) and self.levels >= 2):
                return f"needs levels, a whole number of 2 or more, got {self.levels!r}"
        elif self.levels is not None:
            return f"takes no levels, got {self.levels!r}"
        if not (is_number(self.shift) and is_number(self.unit) and self.unit > 0):
            return f"needs a finite shift and a unit above 0, got {self.shift!r} and {self.unit!r}"
        if self.family in (*_BOUNDED, "continuous_bernoulli"):
            if not (is_number(self.low) and is_number(self.high) and self.low < self.high):
                return f"needs low < high, two finite numbers, got {self.low!r} and {self.high!r}"
        elif self.low is not None or self.high is not None:
            return f"takes no low and high, got {self.low!r} and {self.high!r}"
        if (self.family == "heaped") != (self.law is not None):
            return f"needs a law if and only if it is heaped, got {self.law!r}"
        if self.scale not in ("learned", "network"):
            return f"needs scale 'learned' or 'network', got {self.scale!r}"
        if not is_whole(self.components) or self.components < 1:
            return f"needs components, a whole number from 1, got {self.components!r}"
        if self.components > 1 and (self.law is None or self.scale != "network"):
            return "has one component: more are for heaped ones whose scale is that of the network"
        if self.scale == "network" and not issubclass(HEADS[self.family], Spread | NegativeBinomialHead):
            return "has no scale for the network to give; leave scale at 'learned'"
        return None

    @property
    def outputs(self) -> int:
        """Number of raw outputs of this column."""
        if self.family == "categorical":
            return self.levels or 0
        atoms = 0 if self.law is None else len(self.law.atoms)
        if self.components > 1:
            return 3 * self.components + atoms
        return HEADS[self.family].locations + atoms + (self.scale == "network")

    @property
    def is_mass(self) -> bool:
        """Whether ln p is that of a mass (of a level, a count, an atom, a place of the grid among atoms, one of few
        values), not of a density in the column's unit."""
        return self.family in _MASSES or (self.law is not None and bool(self.law.atoms or self.law.places))


class Columns(Conditional):
    """p(x|z) = prod_j p_j(x_j|z), one family a column; NaN cells are left out.

    The network gives ``[..., sum of outputs]``, the outputs of column 0 first. ln p(x) is a density of the user's data:
    it carries the Jacobian of every column's unit. Columns of one family (and number of levels) are evaluated together.
    Learned scales never fall below 1e-3 of the unit: :meth:`floor_hits` names the columns that would.
    Raises ``ValueError`` where the network gives another number of outputs, and ``InputError`` for no columns.

    >>> columns = [ColumnLikelihood("normal", shift=170, unit=10), ColumnLikelihood("categorical", levels=3)]
    >>> likelihood = Columns(nn.Linear(2, 4), columns)
    >>> likelihood(torch.zeros(5, 2)).log_prob(torch.tensor([[180.0, 2.0]]).expand(5, 2)).shape
    torch.Size([5])
    """

    seen: Tensor | None

    def __init__(self, network: nn.Module, columns: Sequence[ColumnLikelihood], *, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        self.columns = tuple(columns)
        if not self.columns:
            raise InputError("a table's likelihood needs at least one column, got none.")
        groups: dict[tuple[str, int | None, str, int], list[int]] = {}
        for j, column in enumerate(self.columns):
            size = column.levels if column.law is None else _size(len(column.law.atoms))
            groups.setdefault((column.family, size, column.scale, column.components), []).append(j)
        ends = torch.tensor([0] + [column.outputs for column in self.columns]).cumsum(0)
        self.outputs = int(ends[-1])
        seen = [column.seen or (-math.inf, math.inf) for column in self.columns]
        self.register_buffer("seen", torch.tensor(seen, dtype=torch.float64).T if any(
            column.seen for column in self.columns) else None, persistent=False)  # fmt: skip
        self.heads = nn.ModuleList()
        for i, members in enumerate(groups.values()):
            index = torch.tensor(members)
            alike = [self.columns[j] for j in members]
            self.heads.append(HEADS[alike[0].family](alike))
            outputs = torch.tensor([column.outputs for column in alike]).unsqueeze(-1)
            place = torch.arange(int(outputs.max()))
            raw = ends[index].unsqueeze(-1) + torch.minimum(place, outputs - 1)
            self.register_buffer(f"own_{i}", place < outputs, persistent=False)
            self.register_buffer(f"index_{i}", index, persistent=False)
            self.register_buffer(f"raw_{i}", raw, persistent=False)

    def _groups(self) -> list[tuple[Tensor, Tensor, Head]]:
        """Of each family: the columns ``[n]``, the places of their raw outputs ``[n, outputs]`` (where a column has
        fewer, of its last), and the head."""
        return [(getattr(self, f"index_{i}"), getattr(self, f"raw_{i}"), cast(Head, head))
                for i, head in enumerate(self.heads)]  # fmt: skip

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        if output.shape[-1] != self.outputs:
            raise ValueError(f"the columns need {self.outputs} outputs of the network, got {output.shape[-1]}")
        parts = [(index, head(output[..., raw])) for index, raw, head in self._groups()]
        return d.Observed(d.Columns(parts, len(self.columns), self.seen), 1)

    def start(self, sample: Tensor) -> Tensor:
        """Sets what the columns learn from a sample ``[N, columns]`` of the data (NaN: missing), and gives the raw
        outputs ``[outputs]`` with which every column has the sample's marginal: mean and deviation (of ln x for
        "log_normal"), ln mean, frequencies of levels with one more of each. A bias for the network's last layer.

        Raises ``ValueError`` for a sample of another width.

        >>> likelihood = Columns(nn.Linear(1, 1), [ColumnLikelihood("poisson")])
        >>> round(likelihood.start(torch.tensor([[1.0], [3.0]])).exp().item(), 4)
        2.0
        """
        if sample.dim() != 2 or sample.shape[1] != len(self.columns):
            raise ValueError(f"expected a sample of shape [N, {len(self.columns)}], got {list(sample.shape)}")
        groups = self._groups()
        device = groups[0][0].device
        sample = sample.to(device, torch.float32 if device.type == "mps" else torch.float64)
        raw = sample.new_zeros(self.outputs)
        for i, (index, place, head) in enumerate(groups):
            own = getattr(self, f"own_{i}")
            raw[place[own]] = head.start(sample[:, index])[own].to(raw.dtype)
        return raw.to(torch.get_default_dtype())

    @property
    def measure(self) -> str:
        """The base measure of ln p(x), in words."""
        masses = sum(column.is_mass for column in self.columns)
        densities = len(self.columns) - masses
        return ", ".join([
            *([f"masses on the grid of {masses:,} column{'s' * (masses != 1)}"] if masses else []),
            *([f"densities of {densities:,}, per unit of the data"] if densities else []),
        ])  # fmt: skip

    def floor_hits(self) -> list[int]:
        """The columns (counted from 0) whose learned scale is at its floor: constant, or copied by the model."""
        hits: list[int] = []
        for index, _, head in self._groups():
            if isinstance(head, Spread):
                hits += index.cpu()[head.at_floor()].tolist()
        return sorted(hits)
