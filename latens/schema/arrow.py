"""Arrow, imported when it is first asked for something: arrays and images do without."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import compute as pc
else:

    class _Late:
        """The module of a name, loaded when something of it is used."""

        def __init__(self, name: str):
            self._name = name

        def __getattr__(self, name: str) -> Any:
            module = importlib.import_module(self._name)
            self.__dict__.update(vars(module))
            return getattr(module, name)

    pa, pc = _Late("pyarrow"), _Late("pyarrow.compute")

__all__ = ["pa", "pc"]
