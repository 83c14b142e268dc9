"""What a command found, as text for a person and as figures for a machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SPREAD = (
    "elbo", "rate", "distortion", "nll", "elbo_bits_per_dimension", "nll_bits_per_dimension", "rmse", "active_units",
)  # fmt: skip


@dataclass
class Answer:
    """A command's answer: text for a person, figures for a machine."""

    text: str
    figures: dict[str, Any] = field(default_factory=dict)


def table(pairs: list[tuple[str, str]], title: str) -> list[str]:
    """Lines of names and figures under a title."""
    width = max((len(name) for name, _ in pairs), default=0)
    return [title, *(f"  {name:<{width}}  {value}" for name, value in pairs)]


def over_seeds(folder: Path, answers: list[Answer]) -> Answer:
    """Mean and standard deviation over seeds of every number that all have."""
    spread: dict[str, Any] = {}
    for name in SPREAD:
        values = [answer.figures.get(name) for answer in answers]
        if all(isinstance(value, int | float) for value in values):
            array = np.array(values, dtype=float)
            deviation = float(array.std(ddof=1)) if len(array) > 1 else None
            spread[name] = {"mean": float(array.mean()), "sd": deviation, "values": array.tolist()}
    lines = [(name, f"{v['mean']:.4f}" + (f" ± {v['sd']:.4f}" if v["sd"] is not None else ""))
             for name, v in spread.items()]  # fmt: skip
    text = "\n".join(table(lines, f"{folder}: {len(answers)} seeds, mean ± standard deviation over seeds"))
    return Answer(text, {"runs": [answer.figures.get("run") for answer in answers], "seeds": spread})
