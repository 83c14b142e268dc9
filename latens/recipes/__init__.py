"""Published models by name; each is a short combination of parts.

A recipe is a function ``recipe(info, *, options) -> (model, objective)``; its signature is its configuration. Every
public function in the file of a group is a recipe.
"""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.recipes.catalogue import CATALOGUE, GROUPS, Recipe, RecipeFunction, find, installed, is_own, options
    from latens.recipes.descriptions import Description, Option, describe, families, listing
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "catalogue": "CATALOGUE GROUPS Recipe RecipeFunction find installed is_own options",
        "descriptions": "Description Option describe families listing",
    })  # fmt: skip
