"""The catalogue of recipes, and the full description of one recipe."""

from __future__ import annotations

from latens.cli.commands.answer import Answer
from latens.recipes import CATALOGUE, describe, installed, listing


def recipes(name: str | None) -> Answer:
    """The list of all recipes, or the docstring of one."""
    if name is not None:
        found = describe(name)
        return Answer(found.text(), found.to_json())
    others = [{"name": name, "place": point.value} for name, points in installed().items() for point in points]
    return Answer(listing(), {"recipes": [describe(each).to_json() for each in CATALOGUE], "installed": others})
