"""Counts in .h5ad files and sparse matrices, made dense one batch at a time."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.data.counts import sparse
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "sparse"})
