"""latens: variational autoencoders, put together from parts as in the mathematics.

No heavy package is imported before it is used: ``import latens`` is quick, and the parts are imported on first access.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def late(
    package: str, names: Mapping[str, str], endings: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports a file when one of its names is first
    used. ``names`` is {file: its names, separated by spaces}; the key "" lists the files that are names themselves.
    ``endings`` are endings that a name may omit (``conditionals.Normal``)."""
    places = {name: file for file, several in names.items() for name in several.split()}

    def get(name: str) -> Any:
        name = next((name + ending for ending in endings if name + ending in places), name)
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not places[name]:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(places), sorted(places)


if TYPE_CHECKING:
    from latens.api import plot
    from latens.api.estimator import VAE, load
    from latens.api.training import train
    from latens.errors import InputError
    from latens.recipes import Recipe
    from latens.runs.batches import encoder, imputer, scorer
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "errors": "InputError", "recipes": "Recipe", "api": "plot", "api.estimator": "VAE load",
        "api.training": "train",
        "runs.batches": "encoder imputer scorer",
        "": "api conditionals data densities distributions errors evaluation models networks objectives priors recipes "
        "report runs schema tensors training",
    })  # fmt: skip
    __all__ += ["__version__"]
