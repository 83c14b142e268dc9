"""Keep other packages from importing what they do not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from opcode import opname
from typing import Any


@contextmanager
def without_pandas() -> Iterator[None]:
    """Within the block, pyarrow behaves as if pandas were not installed, unless it is imported already.

    pyarrow would import pandas at its first array, to see whether the array is made of pandas objects. That takes a
    third of the time of importing torch. Python code can still import pandas. After the block, pyarrow looks for pandas
    again.

    >>> with without_pandas():
    ...     import pyarrow
    ...     pyarrow.array([1, None]).null_count
    1
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.meta_path.insert(0, _Absent)
    try:
        yield
    finally:
        sys.meta_path.remove(_Absent)
        record = getattr(getattr(sys.modules.get("pyarrow"), "lib", None), "_pandas_api", None)
        if record is not None:  # versions of pyarrow without such a record return None
            record.__init__()


class _Absent:
    """A finder of modules that hides pandas, unless Python code imports it."""

    @classmethod
    def find_spec(cls, name: str, *places: Any) -> None:
        """Return None, which leaves the search to the other finders. Raise ``ModuleNotFoundError`` for pandas."""
        if name == "pandas" and not _is_asked_by_python():
            raise ModuleNotFoundError(f"No module named {name!r}")


def _is_asked_by_python() -> bool:
    """Whether the import comes from an ``import`` statement or importlib. An import by compiled code seems to come from
    the Python line that called that code."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("importlib._bootstrap"):
        frame = frame.f_back
    here = opname[frame.f_code.co_code[frame.f_lasti]]
    return here == "IMPORT_NAME" or frame.f_globals.get("__name__", "").startswith("importlib")
