"""latens: variational autoencoders, composed as the mathematics is.

Nothing heavy is imported until it is used: ``import latens`` is quick, and the parts arrive on first access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = (
    "api", "conditionals", "data", "densities", "distributions", "errors", "evaluation", "models", "networks",
    "objectives", "priors", "recipes", "report", "runs", "schema", "tensors", "training",
)  # fmt: skip
_NAMES = {
    "InputError": "errors", "Recipe": "recipes", "VAE": "api.estimator", "load": "api.estimator",
    "train": "api.training",
}  # fmt: skip

__all__ = ["InputError", "Recipe", "VAE", "__version__", "load", "train", *_MODULES]

if TYPE_CHECKING:
    from latens.api.estimator import VAE, load
    from latens.api.training import train
    from latens.errors import InputError
    from latens.recipes import Recipe


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"latens.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"latens.{name}")
    raise AttributeError(f"module 'latens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
