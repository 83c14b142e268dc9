"""How one column of a table is modelled: its family, and the centre, spread and bounds of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latens.errors import InputError, is_number, is_whole
from latens.schema.law import SAME, Law, is_value

FAMILIES = (
    "normal", "student_t", "log_normal", "beta", "truncated_normal", "poisson", "negative_binomial",
    "zero_inflated_negative_binomial", "bernoulli", "categorical", "ordinal", "continuous_bernoulli", "heaped",
)  # fmt: skip
_WITHOUT_SCALE = ("poisson", "bernoulli", "categorical", "ordinal", "continuous_bernoulli")
LOCATIONS = {"zero_inflated_negative_binomial": 2}  # number of outputs apart from the scale, if it is not 1
_BOUNDED = ("beta", "truncated_normal")
_LEVELLED = ("categorical", "ordinal")
_MASSES = (*_LEVELLED, "bernoulli", "poisson", "negative_binomial", "zero_inflated_negative_binomial")


@dataclass(frozen=True)
class ColumnLikelihood:
    """How one column is modelled, in plain values.

    Args:
        family: one of ``FAMILIES``.
        levels: the number of levels, for "categorical" and "ordinal" (codes 0 … levels-1).
        shift: the centre of the column, so that raw outputs are around 0. For "normal", "student_t" and
            "truncated_normal" it is in the user's units. For "log_normal" it is the centre of ln x, for counts of ln
            mean, for "beta", "bernoulli" and "continuous_bernoulli" of the logit, and for "ordinal" of the latent
            location.
        unit: the spread of the column on the same scale, > 0, so that raw outputs have a spread of about 1.
        low: the lower end for "beta", "truncated_normal" and "continuous_bernoulli" (0 by default for the last).
        high: the upper end for the same families (1 by default for "continuous_bernoulli").
        scale: "learned", one number for the column, or "network", a further output. It is the scale of a continuous
            family (for "beta", a + b = 2 / scale²), and ln theta of negative binomials.
        law: the atoms, grid and margin of "heaped"; shift and unit then belong to the score T(x).
        seen: for a family without a law, the smallest and the largest value of the data, between which draws stay.
        components: the number of logistics in the margin of "heaped"; the network gives their locations, scales and
            weights.
        support: the smallest and the largest value that a "heaped" column can have; they are the limits of draws that
            may leave the range of the values seen.

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
        if self.family not in FAMILIES:
            raise InputError(f"the family of a column must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        if self.family == "continuous_bernoulli" and self.low is None and self.high is None:
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", 1.0)
        if fault := self._fault():
            raise InputError(f"column of the family {self.family!r}: {fault}")

    def _fault(self) -> str | None:
        """The first contradiction between the fields, in words, or None."""
        return self._fault_of_levels() or self._fault_of_numbers() or self._fault_of_scale()

    def _fault_of_levels(self) -> str | None:
        if self.family not in _LEVELLED:
            return None if self.levels is None else f"levels must be omitted, got {self.levels!r}"
        least = 1 if self.family == "categorical" else 2  # one level, if only the gaps of a column carry information
        if not (is_whole(self.levels) and self.levels >= least):
            return f"levels must be a whole number of {least} or more, got {self.levels!r}"
        return None

    def _fault_of_numbers(self) -> str | None:
        if not (is_number(self.shift) and is_number(self.unit) and self.unit > 0):
            return f"shift must be finite and unit above 0, got {self.shift!r} and {self.unit!r}"
        if self.family in (*_BOUNDED, "continuous_bernoulli"):
            if not (is_number(self.low) and is_number(self.high) and self.low < self.high):
                return f"low and high must be finite and low < high, got {self.low!r} and {self.high!r}"
        elif self.low is not None or self.high is not None:
            return f"low and high must be omitted, got {self.low!r} and {self.high!r}"
        return None

    def _fault_of_scale(self) -> str | None:
        if (self.family == "heaped") != (self.law is not None):
            return f"law must be given for the family 'heaped' alone, got {self.law!r}"
        if self.scale not in ("learned", "network"):
            return f"scale must be 'learned' or 'network', got {self.scale!r}"
        if not is_whole(self.components) or self.components < 1:
            return f"components must be a whole number from 1, got {self.components!r}"
        if self.components > 1 and (self.law is None or self.scale != "network"):
            return f"components must be 1 unless it is 'heaped' with scale='network', got {self.components!r}"
        if self.scale == "network" and self.family in _WITHOUT_SCALE:
            return "scale must be 'learned', because the family has no scale for the network to give"
        return None

    @cached_property
    def outputs(self) -> int:
        """The number of raw outputs of this column."""
        if self.family == "categorical":
            return self.levels or 0
        atoms = 0 if self.law is None else len(self.law.atoms)
        phases = sum(self.phases.values())
        if self.components > 1:
            return 3 * self.components + phases + atoms
        return LOCATIONS.get(self.family, 1) + phases + atoms + (self.scale == "network")

    @property
    def phases(self) -> dict[str, int]:
        """For dates with cycles, the number of phases of each cycle; each phase has a log weight."""
        return {} if self.law is None else self.law.phases

    @property
    def is_mass(self) -> bool:
        """Whether ln p is the logarithm of a probability, not of a density per unit of the column.

        It is the probability of a level, of a count, of an atom, of a grid point in a column with atoms, or of a value
        in a column of few values.
        """
        return self.family in _MASSES or (self.law is not None and bool(self.law.atoms or self.law.places))

    @property
    def width(self) -> float:
        """The width by which the probability of a grid point is divided in ln p, in the column's units.

        It is the step of the grid if there are no atoms, and otherwise 1.
        """
        law = self.law
        return 1.0 if self.is_mass or law is None or law.step is None else law.step


@dataclass(frozen=True)
class Allowed:
    """The levels that a column can have, given conditions and the levels of columns before it.

    Args:
        target: index of the column.
        sources: what restricts it: names of conditions, and indices of columns.
        levels: bool ``[*levels of the sources + 1, levels]``, true for allowed levels; the last entry of each source is
            "missing".
    """

    target: int
    sources: tuple[int | str, ...]
    levels: Tensor


@dataclass(frozen=True)
class Limited:
    """A column whose values are limited by conditions and by columns before it: none of its values is below any of
    theirs or, with ``falling``, above any of theirs.

    Args:
        target: index of the column, which is "heaped" or has levels.
        sources: what limits it: names of conditions, and indices of columns. A missing source sets no limit.
        numbers: for each source, the numbers that its codes stand for; None if it has no codes.
        own: the numbers that the target's codes stand for; None if it has no codes.
        falling: whether the target lies below its sources.
        strict: whether values equal to a source are excluded.
    """

    target: int
    sources: tuple[int | str, ...]
    numbers: tuple[tuple[float, ...] | None, ...]
    own: tuple[float, ...] | None = None
    falling: bool = False
    strict: bool = False

    @property
    def sign(self) -> int:
        """1, or -1 if the target lies below its sources."""
        return -1 if self.falling else 1

    @property
    def after(self) -> bool:
        """Whether a value that equals its limit counts as below it."""
        return self.strict != self.falling

    def side(self, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(:meth:`limit`; ``[...]``, 1 if the values lie above it, -1 if below), from the sources' cells ``[...]``
        each."""
        limit = self.limit(values)
        return limit, torch.full_like(limit, self.sign)

    def limit(self, values: Sequence[Tensor]) -> Tensor:
        """The number that the target may not pass ``[...]``, NaN for none, from the sources' cells ``[...]`` each."""
        found = []
        for cells, numbers in zip(values, self.numbers, strict=True):
            if numbers is not None:
                table = torch.tensor([*numbers, math.nan], dtype=cells.dtype, device=cells.device)
                cells = table[cells.nan_to_num(nan=len(numbers)).long().clamp(0, len(numbers))]
            found.append((self.sign * cells).nan_to_num(nan=-math.inf))
        most = torch.stack(torch.broadcast_tensors(*found)).amax(0)
        return torch.where(most.isinf(), math.nan, self.sign * most)

    def allowed(self, values: Sequence[Tensor]) -> Tensor:
        """Which levels of the target the sources' cells ``[...]`` allow, ``[..., levels]``."""
        limit = self.limit(values)
        own = torch.tensor(self.own, dtype=limit.dtype, device=limit.device)
        over = self.sign * (own - limit.unsqueeze(-1))
        slack = SAME * limit.unsqueeze(-1).abs()
        return (over > slack if self.strict else over >= -slack) | limit.isnan().unsqueeze(-1)


@dataclass(frozen=True)
class Pins:
    r"""A column x that always has one of the values A where another column y has certain values, and never where it has
    others; see :class:`latens.schema.rules.Pinned`.

    .. math:: p(x \mid y) \propto p(x) \cdot \begin{cases} [x \in A] & \text{state}(y) = 1 \\
        [x \notin A] & \text{state}(y) = -1 \\ 1 & \text{state}(y) = 0 \end{cases}

    Args:
        target: index of the column, which is "heaped" or has levels.
        sources: the other column: the name of a condition, or the index of a column.
        values: the values; codes of levels, or one number.
        keys: values of the other column.
        states: for each key, 1 for always, -1 for never, 0 for both.
        rest: the same for other values; a missing cell has 0.
        sign: 1 if the column's other numbers are above the value, -1 if they are below it; 0 for levels, and for other
            numbers.
        levels: the number of levels of the column.
        atom: for a number with sign 0, which atom it is, counted from 1.

    >>> pins = Pins(1, (0,), (0.0,), (0.0,), (1,), -1, 1)
    >>> limit, side = pins.side([torch.tensor([0.0, 2.5, math.nan])])  # at most 0, above 0, any number
    >>> limit.tolist(), side.tolist()
    ([0.0, 0.0, nan], [-1.0, 1.0, 1.0])
    """

    target: int
    sources: tuple[int | str, ...]
    values: tuple[float, ...]
    keys: tuple[float, ...]
    states: tuple[int, ...]
    rest: int
    sign: int
    levels: int = 0
    atom: int = 0

    @property
    def after(self) -> bool:
        """Whether a number that equals the value counts as below it."""
        return self.sign > 0

    def state(self, values: Sequence[Tensor]) -> Tensor:
        """1, -1 or 0 ``[...]``, from the other column's cells ``[...]``."""
        (cells,) = values
        keys, states = (torch.tensor(each, dtype=cells.dtype, device=cells.device) for each in (self.keys, self.states))
        moved = torch.where(is_value(cells.unsqueeze(-1), keys), states - self.rest, 0.0).sum(-1)
        return torch.where(cells.isnan(), 0.0, self.rest + moved)

    def side(self, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As in :class:`Limited`; for sign 0, there is no limit."""
        state = self.state(values) * abs(self.sign)
        limit = torch.where(state == 0, math.nan, self.values[0])
        return limit.to(state.dtype), torch.where(state > 0, -self.sign, self.sign).to(state.dtype)

    def allowed(self, values: Sequence[Tensor]) -> Tensor:
        """As in :class:`Limited`."""
        state = self.state(values).unsqueeze(-1)
        own = torch.isin(torch.arange(self.levels, device=state.device), torch.tensor(self.values, device=state.device))
        return torch.where(own, state >= 0, state <= 0)


Restriction = Allowed | Limited | Pins
