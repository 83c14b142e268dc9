"""What each column or pixel of the data is, and how the user's data become the model's numbers and are restored.

This package reads no files and knows no networks. :mod:`latens.data` examines the data and makes a :class:`Schema`
(arrays of one kind of values) or a :class:`Table` (mixed columns). The run folder stores it, and all data that enter
or leave a model pass through it.
"""

from typing import Any

from latens.schema.arrays import (
    KINDS,
    LAYOUTS,
    LIBRARY,
    MAX_LEVELS,
    STORAGES,
    Schema,
    chunks,
    levels_of,
    place,
    require_numeric,
)
from latens.schema.column import Column
from latens.schema.form import Times
from latens.schema.odd import BEYOND, BROKEN, IMPOSSIBLE, UNSEEN, Odd, sift_array, sift_table
from latens.schema.table import Table

AnySchema = Schema | Table

__all__ = [
    "BEYOND", "BROKEN", "IMPOSSIBLE", "KINDS", "LAYOUTS", "LIBRARY", "MAX_LEVELS", "STORAGES", "UNSEEN", "AnySchema",
    "Column", "Odd", "Schema", "Table", "Times", "chunks", "levels_of", "place", "require_numeric", "schema_from_json",
    "sift_array", "sift_table",
]  # fmt: skip


def schema_from_json(fields: Any) -> AnySchema:
    """The :class:`Table` or :class:`Schema` that was written as JSON; ``InputError`` if the fields are not valid."""
    return Table.from_json(fields) if isinstance(fields, dict) and "table" in fields else Schema.from_json(fields)
