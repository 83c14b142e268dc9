"""Runs: fitting one, keeping it in a folder, and what can be made with it."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.runs import imputing, scoring
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "imputing scoring"})
