"""latens: variational autoencoders, composed as the mathematics is.

Nothing heavy is imported until it is used: ``import latens`` is quick, and the parts arrive on first access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = (
    "api", "conditionals", "data", "distributions", "errors", "estimator", "evaluation", "fitting", "models",
    "networks", "numerics", "objectives", "priors", "randomness", "recipes", "report", "run", "schema",
    "training", "trees",
)  # fmt: skip
_NAMES = {
    "InputError": "errors", "Recipe": "recipes", "VAE": "estimator", "load": "estimator", "train": "api",
}  # fmt: skip

__all__ = ["InputError", "Recipe", "VAE", "__version__", "load", "train", *_MODULES]

if TYPE_CHECKING:
    from latens.api import train
    from latens.errors import InputError
    from latens.estimator import VAE, load
    from latens.recipes import Recipe


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"latens.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"latens.{name}")
    raise AttributeError(f"module 'latens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
