"""Arrays inside a page, in gzip and base64. Bytes of the same significance are stored together, as this packs
better."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

KINDS = ("float16", "float32", "float64", "int16", "int32", "uint8", "uint16")


def packed(x: np.ndarray) -> str:
    """The text of one array: the first bytes of all its numbers, then all second bytes and so on, in gzip and base64.

    Raises:
        ValueError: its dtype is not in :data:`KINDS`.
    """
    if x.dtype.name not in KINDS:
        raise ValueError(f"a page holds no {x.dtype}")
    little = np.ascontiguousarray(x.astype(x.dtype.newbyteorder("<"), copy=False))
    planes = little.reshape(-1, 1).view(np.uint8).T
    return base64.b64encode(gzip.compress(planes.tobytes(), 9, mtime=0)).decode()


def unpacked(text: str, dtype: str) -> np.ndarray:
    """The numbers ``[N]`` from which :func:`packed` made the text.

    >>> unpacked(packed(np.array([1.5, -2.0], dtype="float32")), "float32").tolist()
    [1.5, -2.0]
    """
    kind = np.dtype(dtype).newbyteorder("<")
    planes = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(kind)[:, 0].astype(dtype)


class ArrayBlocks:
    """The arrays of a page by name, with what the page needs to read them."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    def add(self, name: str, x: Any) -> str:
        """Add an array, and return its name."""
        x = np.asarray(x)
        self.texts[name], self.kinds[name] = packed(x), x.dtype.name
        return name
