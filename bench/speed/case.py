"""A comparison: contenders that do the same work, which of them make the ratio, and the goal."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Repetition = Callable[[int], dict[str, Any]]  # number of the round -> {"value": figure in the case's unit, more …}
Build = Callable[["Size"], Repetition]  # run in its own process: imports, data, everything paid once


class Absent(Exception):
    """A library, a device or data that this machine lacks; the sentence says which, and the contender is skipped."""


@dataclass(frozen=True)
class Size:
    """How much work: the usual amount, that of a smoke run (``quick``), or the largest (``full``)."""

    quick: bool = False
    full: bool = False

    def of(self, usual: Any, quick: Any, full: Any = None) -> Any:
        return quick if self.quick else full if self.full and full is not None else usual


@dataclass(frozen=True)
class Case:
    """``ours`` and ``theirs``: the contenders of the ratio. ``floor``: the contender that does only the unavoidable
    part of the work. ``unit``: of the figures; those with "/s" in it are better when higher, all others when lower.
    ``once``: contenders so slow that they run only once. ``summary``: further figures, from {contender:
    {"values", "median", "min", "more": [what the repetitions gave]}}."""

    name: str
    title: str
    goal: str
    unit: str
    contenders: Mapping[str, Build]
    ours: str
    theirs: str | None = None
    floor: str | None = None
    repeats: int = 5
    once: tuple[str, ...] = ()
    summary: Callable[[dict[str, Any]], dict[str, Any]] | None = field(default=None)

    def better(self, one: float, other: float) -> float:
        """How many times better ``one`` is than ``other``."""
        return one / other if "/s" in self.unit else other / one


def all_cases() -> list[Case]:
    """The ``CASES`` of every file in ``cases``, in order."""
    from speed import cases

    modules = (importlib.import_module(f"speed.cases.{m.name}") for m in pkgutil.iter_modules(cases.__path__))
    return [case for module in sorted(modules, key=lambda m: m.ORDER) for case in module.CASES]


def chosen(names: list[str]) -> list[Case]:
    """The named cases, or all; ``table`` names ``table-512`` too."""
    everything = all_cases()
    unknown = [n for n in names if not any(c.name == n or c.name.startswith(n + "-") for c in everything)]
    if unknown:
        raise SystemExit(f"no case {unknown[0]!r}; there are {', '.join(c.name for c in everything)}")
    return [c for c in everything if not names or any(c.name == n or c.name.startswith(n + "-") for n in names)]
