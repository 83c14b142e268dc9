"""The report: a run as one self-contained HTML page."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.report.assembly import render, write
else:
    __getattr__, __dir__, __all__ = late(__name__, {"assembly": "render write"})
