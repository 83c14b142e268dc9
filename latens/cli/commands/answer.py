"""The answer of a command, as text and as figures for JSON, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SPREAD = (
    "elbo", "rate", "distortion", "nll", "elbo_bits_per_dimension", "nll_bits_per_dimension", "rmse", "active_units",
)  # fmt: skip


@dataclass
class Answer:
    """A command's answer: ``text`` to print; ``figures`` for ``--json``, on a single line if ``in_a_line`` (when other
    lines of JSON came before); the exit ``status``."""

    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    in_a_line: bool = False


def table(pairs: list[tuple[str, str]], title: str) -> list[str]:
    """Lines of (name, figure) under a title, with the names aligned."""
    width = max((len(name) for name, _ in pairs), default=0)
    return [title, *(f"  {name:<{width}}  {value}" for name, value in pairs)]


def aligned(rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """Rows of cells as lines; the first ``words`` columns are left-aligned, the rest right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(cell.ljust(w) if i < words else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]


def spread(answers: list[Answer], counts: Callable[[Any], bool]) -> dict[str, dict[str, Any]]:
    """For each figure for which ``counts`` is true in all answers, its mean and standard deviation over the answers."""
    found: dict[str, dict[str, Any]] = {}
    for name in SPREAD:
        values = [answer.figures.get(name) for answer in answers]
        if answers and all(map(counts, values)):
            array = np.array(values, dtype=float)
            deviation = float(array.std(ddof=1)) if len(array) > 1 else None
            found[name] = {"mean": float(array.mean()), "sd": deviation, "values": array.tolist()}
    return found


def with_deviation(figure: dict[str, Any], digits: int) -> str:
    """A figure of :func:`spread` as "mean ± sd"."""
    return " ± ".join(f"{figure[part]:.{digits}f}" for part in ("mean", "sd") if figure[part] is not None)


def over_seeds(folder: Path, answers: list[Answer]) -> Answer:
    """Mean and standard deviation over seeds, for every figure that all seeds have."""
    found = spread(answers, lambda value: isinstance(value, int | float))
    lines = [(name, with_deviation(figure, 4)) for name, figure in found.items()]
    text = "\n".join(table(lines, f"{folder}: {len(answers)} seeds, mean ± standard deviation over seeds"))
    return Answer(text, {"runs": [answer.figures.get("run") for answer in answers], "seeds": found})
