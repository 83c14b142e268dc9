"""Folders of images of any kind as arrays, or as rows that are decoded when they are indexed."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.data.images import pixels
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "pixels"})
