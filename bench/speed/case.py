"""What a comparison is: contenders that do the same work, whose figures count, and what was aimed at."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Repetition = Callable[[int], dict[str, Any]]  # number of the round -> {"value": figure in the case's unit, more …}
Build = Callable[["Size"], Repetition]  # in a process of its own: imports, data, everything that is paid once


class Absent(Exception):
    """A peer, a device or data that this machine lacks; the sentence says so, and the contender is skipped."""


@dataclass(frozen=True)
class Size:
    """How much work: the usual, a smoke run's (``quick``), or the largest (``full``)."""

    quick: bool = False
    full: bool = False

    def of(self, usual: Any, quick: Any, full: Any = None) -> Any:
        return quick if self.quick else full if self.full and full is not None else usual


@dataclass(frozen=True)
class Case:
    """``ours`` and ``theirs``: the contenders of the ratio. ``floor``: the contender that is the least the work can
    take. ``unit``: of the figures; those with "/s" in it are better when higher, all others when lower. ``once``:
    contenders that take so long that they run one repetition. ``summary``: further figures, from {contender:
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
    """Of every file in ``cases``: its ``CASES``, in the order of the files' numbers."""
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
