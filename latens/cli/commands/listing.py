"""The catalogue of recipes, and one of them in full."""

from __future__ import annotations

from latens.cli.commands.answer import Answer
from latens.recipes import CATALOGUE, describe, installed, listing


def recipes(name: str | None) -> Answer:
    """The list of all recipes, or what the docstring of one says."""
    if name is not None:
        found = describe(name)
        return Answer(found.text(), found.to_json())
    others = [{"name": name, "place": point.value} for name, points in installed().items() for point in points]
    return Answer(listing(), {"recipes": [describe(each).to_json() for each in CATALOGUE], "installed": others})
