"""The form in which a network sees the columns of a table, and how a condition enters any network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from latens import distributions as d
from latens.distributions import Margins, Piecewise
from latens.schema.law import PERIODS, Law

WAVES = {"year": 2, "week": 3, "day": 3}  # the number of waves by which a network sees each cycle


@dataclass(frozen=True)
class Seen:
    """How a column enters a network: as a number, or as the code of one of ``levels`` levels.

    Args:
        levels: the number of levels; None for a number.
        how: what is centred and scaled: "" for the number, "log" for its logarithm, "log1p" for ln(1 + number).
        shift: the centre.
        unit: the scale, > 0.
        law: if it has atoms, the network also sees which of them the number is; if it has cycles, waves of their
            lengths.
    """

    levels: int | None = None
    how: str = ""
    shift: float = 0.0
    unit: float = 1.0
    law: Law | None = None


def width_of(levels: int) -> int:
    """The size of the learned vector for one of ``levels`` levels.

    >>> [width_of(n) for n in (2, 7, 100, 10_000)]
    [2, 7, 20, 40]
    """
    return levels if levels <= 8 else min(40, max(8, round(4 * levels**0.35)))


class Laws(nn.Module):
    """The atoms and margins of n columns as buffers."""

    edges: Tensor
    table: Tensor

    def __init__(
        self, laws: Sequence[Law], units: Sequence[float], supports: Sequence[tuple[float, float] | None] = ()
    ):
        super().__init__()
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        margins = Margins.of(laws, units, exact, supports)
        told = ("pieces", "grids", "floors")
        tensors = {f.name: getattr(margins, f.name) for f in fields(Margins) if f.name not in told}
        self.names, self.grids, self.floors = tuple(tensors), margins.grids, margins.floors
        for name, value in {**tensors, "edges": margins.pieces.edges, "table": margins.pieces.table}.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self) -> Margins:
        """The margins, on the device of the buffers."""
        pieces = Piecewise(self.edges, self.table)
        tensors = {name: getattr(self, name) for name in self.names}
        return Margins(**tensors, pieces=pieces, grids=self.grids, floors=self.floors)


class Calendars(nn.Module):
    """The months, weeks and days of n columns of dates as buffers."""

    def __init__(self, laws: Sequence[Law]):
        super().__init__()
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        periods = d.Periods.of(laws, Margins.of(laws, [1.0] * len(laws), exact))
        self.cycles, self.names = periods.cycles, tuple(f.name for f in fields(periods) if f.name != "cycles")
        for name in self.names:
            self.register_buffer(name, getattr(periods, name), persistent=False)

    def forward(self) -> d.Periods:
        """The periods, on the device of the buffers."""
        return d.Periods(**{name: getattr(self, name) for name in self.names}, cycles=self.cycles)


class ColumnFeatures(nn.Module):
    """Columns of numbers and codes as features: from ``[..., D]``, NaN for missing cells, to ``[..., features]``
    floats.

    A number is centred and scaled (after ln or ln(1 + x)). Beyond 5 units it is compressed (to 5 + ln(1 + excess)), so
    that a stray cell does not drown the others. It is 0 if missing, and a second feature is 1 if it is observed. A date
    that goes through cycles also enters as cosines and sines of its position in them, 0 if missing. A code
    selects a learned vector; a missing code selects the last vector of its table (Guo & Berkhahn 2016). If a column has
    atoms, a further learned vector says which of them x is; the first vector says that it is none. An atom that lies
    apart from the other values enters as the number 0.

    Args:
        columns: how each of the D columns enters.
        wide: the type in which centres are stored.
    """

    numbers: Tensor
    levelled: Tensor
    lasts: Tensor
    lawful: Tensor
    places: Tensor
    shift: Tensor
    unit: Tensor
    log: Tensor
    log1p: Tensor
    waving: Tensor
    lengths: Tensor

    def __init__(self, columns: Sequence[Seen], *, wide: torch.dtype = torch.float32):
        super().__init__()
        self.size = len(columns)
        numbers = {i: column for i, column in enumerate(columns) if column.levels is None}
        levels = {i: int(column.levels) for i, column in enumerate(columns) if column.levels is not None}
        laws = {i: column.law for i, column in numbers.items() if column.law is not None and column.law.atoms}
        self._see_numbers(numbers, wide)
        self.codes = list(levels)
        self.tables = nn.ModuleList(nn.Embedding(n + 1, width_of(n)) for n in levels.values())
        self._note("levelled", levels)
        self._note("lasts", levels.values())
        self._note("lawful", laws)
        self._note("places", map(list(numbers).index, laws))
        self.laws = Laws(list(laws.values()), [columns[i].unit for i in laws]) if laws else None
        counts = self._see_atoms(laws)
        waves = self._see_cycles(numbers, wide)
        vectors = (i for i, n in [*levels.items(), *counts.items()] for _ in range(width_of(n)))
        self.owners = [*numbers, *numbers, *waves, *waves, *vectors]  # the column to which each feature belongs
        self.features = len(self.owners)

    def _see_numbers(self, numbers: Mapping[int, Seen], wide: torch.dtype) -> None:
        self.hows = [column.how for column in numbers.values()]
        self.register_buffer("shift", torch.tensor([column.shift for column in numbers.values()], dtype=wide))
        self.register_buffer("unit", torch.tensor([column.unit for column in numbers.values()]))
        self._note("numbers", numbers)
        for how in ("log", "log1p"):
            self.register_buffer(how, torch.tensor([each == how for each in self.hows]).bool(), persistent=False)

    def _see_cycles(self, numbers: Mapping[int, Seen], wide: torch.dtype) -> list[int]:
        """The columns with cycles, each as often as it has waves."""
        waves = [(i, PERIODS[cycle] / k) for i, column in numbers.items() if column.law is not None
                 for cycle in column.law.cycles for k in range(1, 1 + WAVES[cycle])]  # fmt: skip
        self.has_waves = bool(waves)
        self._note("waving", [i for i, _ in waves])
        self.register_buffer("lengths", torch.tensor([each for _, each in waves], dtype=wide), persistent=False)
        return [i for i, _ in waves]

    def _see_atoms(self, laws: Mapping[int, Law]) -> dict[int, int]:
        self.apart = any(any(law.apart) for law in laws.values())
        counts = {i: 1 + len(law.atoms) for i, law in laws.items()}
        self.atoms = nn.ModuleList(nn.Embedding(n, width_of(n)) for n in counts.values())
        return counts

    def _note(self, name: str, places: Iterable[int]) -> None:
        self.register_buffer(name, torch.tensor(list(places), dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` -> ``[..., features]``."""
        atom, apart = self._atoms(x) if self.laws is not None else (None, None)
        parts = [self._number(x[..., self.numbers], apart)] if len(self.hows) else []
        parts += [self._waves(x[..., self.waving])] if self.has_waves else []
        if self.codes:
            codes = x.index_select(-1, self.levelled)
            codes = torch.where(codes.isnan(), self.lasts, codes).long()
            codes = torch.minimum(codes.clamp_min(0), self.lasts)
            parts += [table(code) for table, code in zip(self.tables, codes.unbind(-1))]
        parts += [] if atom is None else [table(each) for table, each in zip(self.atoms, atom.unbind(-1))]
        return torch.cat(parts, -1)

    def _atoms(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(for each column with atoms, the atom that x is, or 0 for none; whether a number is an atom that lies apart,
        or None if no column has such atoms).
        """
        margins = self.laws()  # type: ignore[misc]
        atom = margins.atom(x[..., self.lawful])  # NaN is no atom
        if not self.apart:
            return atom, None
        apart = torch.zeros_like(x[..., self.numbers], dtype=torch.bool)
        return atom, apart.index_copy(-1, self.places, margins.is_apart(atom))

    def _waves(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * (x / self.lengths).frac()
        found = torch.cat([angle.cos(), angle.sin()], -1).to(self.unit.dtype)
        return torch.where(found.isnan(), 0.0, found)

    def _number(self, x: Tensor, apart: Tensor | None) -> Tensor:
        missing = x.isnan()
        x = torch.where(missing, 1.0, x)
        if "log" in self.hows:
            x = torch.where(self.log, torch.where(self.log, x, 1.0).clamp_min(1e-300).log(), x)
        if "log1p" in self.hows:
            x = torch.where(self.log1p, torch.where(self.log1p, x, 0.0).clamp_min(0.0).log1p(), x)
        u = ((x - self.shift) / self.unit).to(self.unit.dtype)
        u = torch.where(u.abs() > 5, u.sign() * (5 + torch.log1p((u.abs() - 5).clamp_min(0.0))), u)
        unseen = missing if apart is None else missing | apart
        return torch.cat([torch.where(unseen, 0.0, u), (~missing).to(u.dtype)], -1)


class Before(nn.Module):
    """For each of D columns, features of the columns before it: from ``[..., D]``, NaN for missing cells, to ``[D, ...,
    size]``.

    It is the sum of learned linear maps of the earlier columns' features (of :class:`ColumnFeatures`); a missing cell
    adds nothing.
    """

    places: Tensor
    used: Tensor
    earlier: Tensor

    def __init__(self, columns: Sequence[Seen], size: int):
        super().__init__()
        self.columns = ColumnFeatures(columns)
        owners = torch.tensor(self.columns.owners)
        places = [(owners == j).nonzero().flatten().tolist() for j in range(len(columns))]
        most = max(map(len, places))
        padded = torch.tensor([row + [0] * (most - len(row)) for row in places])
        self.register_buffer("places", padded, persistent=False)
        used = torch.arange(most) < torch.tensor([[len(row)] for row in places])
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("earlier", torch.ones(len(columns), len(columns)).tril(-1), persistent=False)
        self.weight = nn.Parameter(torch.randn(len(columns), most, size) / used.sum(-1).view(-1, 1, 1) ** 0.5)

    def forward(self, x: Tensor, only: Sequence[int] | Tensor) -> Tensor:
        """The features for the columns ``only``, in this order: from ``[..., D]`` to ``[len(only), ..., size]``."""
        features = self.columns(x).index_select(-1, self.places.flatten()).unflatten(-1, self.places.shape)
        features = features * (self.used & ~x.isnan().unsqueeze(-1))  # [..., D, most]
        each = features.reshape(-1, *self.places.shape).transpose(0, 1) @ self.weight  # [D, N, size]
        return (self.earlier[only].to(each) @ each.flatten(1)).unflatten(1, (*x.shape[:-1], -1))


class Condition(nn.Module):
    """A mapping of named conditions ``[B]`` as features ``[B, features]``, as :class:`ColumnFeatures` makes them."""

    def __init__(self, columns: Mapping[str, Seen]):
        super().__init__()
        self.names = tuple(columns)
        self.columns = ColumnFeatures(tuple(columns.values()))

    @property
    def features(self) -> int:
        """The number of features."""
        return self.columns.features

    def forward(self, c: Mapping[str, Tensor]) -> Tensor:
        """From a mapping of ``[B]`` to ``[B, features]``."""
        dtype = self.columns.unit.dtype
        values = [c[name].to(dtype) if not c[name].is_floating_point() else c[name] for name in self.names]
        return self.columns(torch.stack([v.squeeze(-1) if v.dim() > 1 else v for v in values], -1))


class Conditioned(nn.Module):
    """A network that sees a condition in addition to its input: ``network([stem(given), features of c])``.

    Args:
        network: a network that takes the input with the features appended.
        condition: the module that gives the features.
        stem: a module applied to the input first; None for the identity.
        kind: where the features are appended: "image" as channels (``[..., C, H, W]``), "sequence" as channels of every
            step (``[..., T, C]``), "vector" on the last axis.
    """

    def __init__(
        self, network: nn.Module, condition: Condition, *, stem: nn.Module | None = None, kind: str = "vector"
    ):
        super().__init__()
        self.network, self.condition, self.kind = network, condition, kind
        self.stem = nn.Identity() if stem is None else stem

    def forward(self, given: Tensor, c: Mapping[str, Tensor]) -> Tensor:
        """The network's output for ``given`` ``[..., B, *event]`` and conditions ``[B]``."""
        h, features = self.stem(given), self.condition(c)
        size = features.shape[-1]
        if self.kind == "image":
            features = features[..., None, None].expand(*h.shape[:-3], size, *h.shape[-2:])
            return self.network(torch.cat([h, features], -3))
        if self.kind == "sequence":
            features = features.unsqueeze(-2)
        return self.network(torch.cat([h, features.expand(*h.shape[:-1], size)], -1))


class OnCondition(nn.Module):
    """A network that sees only the condition, as in a conditional prior."""

    def __init__(self, network: nn.Module, condition: Condition):
        super().__init__()
        self.network, self.condition = network, condition

    def forward(self, c: Mapping[str, Tensor]) -> Tensor:
        """The network's output for conditions ``[B]``."""
        return self.network(self.condition(c))
