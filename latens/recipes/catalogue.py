"""Recipes by name: find one, list its options, build it for some data."""

from __future__ import annotations

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from itertools import chain
from typing import Any

from torch import nn

from latens import objectives
from latens.errors import InputError, concerning, nearest
from latens.recipes.choices import DataInfo
from latens.tensors import trees

RecipeFunction = Callable[..., tuple[nn.Module, objectives.Objective]]


# The files of recipes, in the order in which recipes are listed and searched.
GROUPS = (
    "bounds", "deterministic", "disentangling", "priors", "posteriors", "geometry", "discrete", "hierarchy",
    "hamiltonian", "compression", "adversarial", "transport", "labels", "multimodal", "perceptual", "sequences",
)  # fmt: skip


@cache
def _recipes(group: str) -> dict[str, RecipeFunction]:
    """The public functions defined in the file of a group: each is a recipe, named after the function."""
    module = importlib.import_module(f"latens.recipes.{group}")
    own = {name: value for name, value in vars(module).items() if inspect.isfunction(value) and name[0] != "_"}
    return {name: function for name, function in own.items() if function.__module__ == module.__name__}


class Catalogue(Mapping[str, RecipeFunction]):
    """{name: recipe}. Groups are searched in order; the file of a group is imported when the search reaches it."""

    def __getitem__(self, name: str) -> RecipeFunction:
        for found in map(_recipes, GROUPS):
            if name in found:
                return found[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(_recipes, GROUPS))

    def __len__(self) -> int:
        return sum(map(len, map(_recipes, GROUPS)))


CATALOGUE = Catalogue()


def family(name: str) -> str:
    """The group under which a recipe is listed; "your own" for a recipe outside the catalogue."""
    return next((group for group in GROUPS if name in _recipes(group)), "your own")


def installed() -> dict[str, list[EntryPoint]]:
    """{name: entry points} of the recipes in installed packages (the group ``latens.recipes``); nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group="latens.recipes"):
        same = found.setdefault(point.name, [])
        if ":" in point.value and point.name not in CATALOGUE and point.value not in [other.value for other in same]:
            same.append(point)
    return {name: points for name, points in sorted(found.items()) if points}


def of_package(point: EntryPoint) -> str:
    """The name of the package that an entry point belongs to."""
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


def is_own(name: str) -> bool:
    """Whether a recipe is the user's own: ``package:function``, or a recipe of an installed package. Its code runs only
    if the user names it, never because a file does."""
    return ":" in name or (name not in CATALOGUE and name in installed())


def find(name: str) -> RecipeFunction:
    """The recipe of that name, from the catalogue or from an installed package, or the function that
    ``package:function`` names. If there is none, the ``InputError`` suggests similar names."""
    if ":" not in name:
        if name in CATALOGUE:
            return CATALOGUE[name]
        others = installed()
        if name in others:
            return _of_points(name, others[name])
        near = difflib.get_close_matches(name, [*CATALOGUE, *others], 3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise InputError(
            f"unknown recipe {name!r}{hint}",
            "choose one that `latens recipes` lists, or name your own as package:function",
        )
    package, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(package)
    except (Exception, SystemExit) as error:
        said = f"recipe {name!r}: the package {package!r} cannot be imported ({_reason(error)})"
        raise InputError(said, "name the module that contains the recipe, and run the command in its folder") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(f"recipe {name!r}: {package!r} has no function {attribute!r}", "name one of its functions")
    return function


def _of_points(name: str, points: list[EntryPoint]) -> RecipeFunction:
    """The function of a name's entry point; ``InputError`` if there are several."""
    places = [f"{point.module}:{point.attr}" for point in points]
    if len(points) > 1:
        packages = " and ".join(sorted(map(of_package, points)))
        raise InputError(f"the packages {packages} each have a recipe {name!r}", f"name one as {' or '.join(places)}")
    with concerning(f"recipe {name!r} of the package {of_package(points[0])!r}"):
        return find(places[0])


def _reason(error: BaseException) -> str:
    """An exception raised by other code, in words, with the place where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())}; {last.filename}, line {last.lineno}"


def options(function: RecipeFunction) -> dict[str, inspect.Parameter]:
    """The options of a recipe, from its signature."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


METHODS = ("draw", "encode", "decode", "sample")  # which the model of a recipe must have


class Recipe:
    """A recipe's name and options; it takes part in scikit-learn's ``get_params``, ``set_params`` and ``clone``.

    An unknown name or option raises ``InputError`` at construction, with the valid ones.

    >>> Recipe("vae", beta=2.0).get_params()
    {'name': 'vae', 'beta': 2.0}
    """

    def __init__(self, name: str = "vae", **given: Any):
        self.name, self.given = name, given

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Name and options as one mapping."""
        return {"name": self.name} | self.given

    def set_params(self, **given: Any) -> Recipe:
        """Change the name or options in place; returns the recipe."""
        self.name = given.pop("name", self.name)
        self.given = self.given | given
        return self

    def __repr__(self) -> str:
        return f"Recipe({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.given.items())])})"

    def build(self, info: DataInfo, **more: Any) -> tuple[nn.Module, objectives.Objective]:
        """(model, objective) for the data; ``more`` holds the options of the caller (estimator, command line)."""
        function = find(self.name)
        valid = options(function)
        chosen = more | self.given
        for name in chosen:
            if name not in valid:
                raise InputError(_no_option(self.name, name, list(valid)))
        own = is_own(self.name)
        try:
            built = function(info, **chosen)
            if own:
                _try(self.name, built, info)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            if own:
                raise _failed(self.name, error) from error
            raise InputError(f"recipe {self.name!r}: {error}") from error
        except (Exception, SystemExit) as error:
            if not own:
                raise
            raise _failed(self.name, error) from error
        return built


def _failed(name: str, error: BaseException) -> InputError:
    """The error to raise if your own recipe fails."""
    return InputError(f"recipe {name!r} fails ({_reason(error)})", "correct the recipe")


def _no_option(recipe: str, name: str, valid: list[str]) -> str:
    hint, known = nearest(name, valid, repr), ", ".join(valid) or "none"
    return f"recipe {recipe!r} has no option {name!r}{hint}: it has {known}"


def _try(name: str, built: Any, info: DataInfo) -> None:
    """Raise ``InputError`` unless your own recipe returned a model with its methods and an objective. Then compute one
    loss and decode, so that a network of the wrong shape is found before anything is written."""
    model, objective = built if isinstance(built, tuple) and len(built) == 2 else (None, None)
    if not isinstance(model, nn.Module) or not isinstance(objective, objectives.Objective):
        given = f"({', '.join(type(p).__name__ for p in built)})" if isinstance(built, tuple) else type(built).__name__
        wanted = "(model, objective), a torch module and a latens Objective"
        raise InputError(f"recipe {name!r} returns {given}", f"return {wanted}")
    for method in METHODS:
        if not callable(getattr(model, method, None)):
            wrong = f"recipe {name!r} returns a model without the method {method}"
            raise InputError(wrong, f"give it {', '.join(METHODS[:-1])} and {METHODS[-1]}, as latens.models.VAE has")
    if info.sample is not None:
        x, c = info.sample[:2], trees.take(info.sample_c, slice(0, 2))
        draw = objective.draw(model, x, c)
        objective.losses(model, x, draw)
        model.decode(draw.codes[0], c)  # type: ignore[operator]
