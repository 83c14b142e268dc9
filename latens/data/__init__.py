"""Read data from a source as an array or a table, and infer its schema.

>>> import latens.data
>>> source = latens.data.read("digits")
>>> print(latens.data.infer(source.x).describe())
images of 8 x 8 pixels, 1 channel, 17 levels, kept as uint8; 3 of 64 never vary
float64, 1,797 x 8 x 8, whole numbers 0..16: 17 levels
"""

from typing import TYPE_CHECKING

from latens import late
from latens.data.infer import as_array, infer
from latens.data.sources import EMBEDDED, Source, columns_of, fingerprint, read
from latens.data.tables.files import read_table
from latens.data.writing import require_output, write

if TYPE_CHECKING:
    from latens.data.tables.kinds import infer_table
else:
    __getattr__, __dir__, __all__ = late(__name__, {"tables.kinds": "infer_table"})
    __all__ += [
        "EMBEDDED", "Source", "as_array", "columns_of", "fingerprint", "infer", "read", "read_table", "require_output",
        "write",
    ]  # fmt: skip
