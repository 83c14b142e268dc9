"""Arrow, imported when it is first used: arrays and images do not need it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import compute as pc
else:

    class _Late:
        """A module that is loaded when one of its names is first used."""

        def __init__(self, name: str):
            self._name = name

        def __getattr__(self, name: str) -> Any:
            module = importlib.import_module(self._name)
            self.__dict__.update(vars(module))
            return getattr(module, name)

    pa, pc = _Late("pyarrow"), _Late("pyarrow.compute")

__all__ = ["pa", "pc"]
