"""Data larger than memory: blocks on disk, batches with exact positions, and one pass that sees all rows."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.data.streams import survey
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "survey"})
