"""Tables: convert files and data frames to arrow tables and back, and find out what each column is."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.data.tables import frames, kinds, rules
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "frames kinds rules"})
