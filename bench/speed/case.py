"""A case of the comparison: contenders that do the same work, the two whose ratio is reported, and the goal."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Repetition = Callable[[int], dict[str, Any]]  # round -> {"value": figure in the case's unit, and any other figures}
Build = Callable[["Size"], Repetition]  # called once in its own process: for imports, data and other set-up


class Absent(Exception):
    """Raised when this machine lacks a library, a device or data; the message says which, and the contender is
    skipped."""


@dataclass(frozen=True)
class Size:
    """How much work to do: the usual amount, that of a quick check (``quick``), or the largest (``full``)."""

    quick: bool = False
    full: bool = False

    def of(self, usual: Any, quick: Any, full: Any = None) -> Any:
        return quick if self.quick else full if self.full and full is not None else usual


@dataclass(frozen=True)
class Case:
    """A case. ``ours`` and ``theirs`` are the contenders of the ratio; ``floor`` does only the unavoidable part of the
    work. ``unit`` is the unit of the figures: with "/s" in it, higher is better, otherwise lower is. Contenders in
    ``once`` are so slow that they run only once. ``summary`` computes further figures from {contender: {"values",
    "median", "min", "more": [what the repetitions returned]}}."""

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
        """The factor by which ``one`` is better than ``other``."""
        return one / other if "/s" in self.unit else other / one


def all_cases() -> list[Case]:
    """The ``CASES`` of every file in ``cases``, in order."""
    from speed import cases

    modules = (importlib.import_module(f"speed.cases.{m.name}") for m in pkgutil.iter_modules(cases.__path__))
    return [case for module in sorted(modules, key=lambda m: m.ORDER) for case in module.CASES]


def chosen(names: list[str]) -> list[Case]:
    """The named cases, or all of them; ``table`` also selects ``table-512``."""
    everything = all_cases()
    unknown = [n for n in names if not any(c.name == n or c.name.startswith(n + "-") for c in everything)]
    if unknown:
        raise SystemExit(f"no case {unknown[0]!r}; there are {', '.join(c.name for c in everything)}")
    return [c for c in everything if not names or any(c.name == n or c.name.startswith(n + "-") for n in names)]
