"""Published models by name, each a short combination of parts.

A recipe is a function ``recipe(info, *, options) -> (model, objective)``; its signature is its configuration. Every
public function of a group's file is one.
"""

from latens.recipes.catalogue import CATALOGUE, GROUPS, Recipe, RecipeFunction, catalogue, find, options

__all__ = ["CATALOGUE", "GROUPS", "Recipe", "RecipeFunction", "catalogue", "find", "options"]
