"""Runs: fit one, store it in a folder, and use it."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.runs import imputing, scoring
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "imputing scoring"})
