"""Rows of an array as symbols, and the parts of the rows that the model's form loses."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.runs.coding.cells import MOST_COUNTED, array_masses, elementwise, groups_of, require_masses
from latens.runs.coding.rans import Stack
from latens.runs.coding.rounding import Rounding
from latens.schema import Schema
from latens.schema.arrays import levels_of

KINDS = "biufcSUmM"  # numpy kinds that an array in a file may have
MOST_INFLATED = 1040  # a byte of deflated data stands for at most this many bytes


class ArrayCells:
    """The cells of an array's rows: levels, or counts up to a largest count per cell.

    Args:
        schema: what a row is.
        tops: the largest count of each cell ``[D]``, to which larger counts are cut; None for levels.
    """

    def __init__(self, schema: Schema, tops: np.ndarray | None = None):
        if tops is not None and (tops.shape != (schema.columns,) or not ((tops >= 0) & (tops < MOST_COUNTED)).all()):
            raise ValueError("its largest counts are not valid")
        self.schema, self.tops = schema, tops
        self.groups = groups_of(tops, schema.columns)
        self.weight = sum(len(group.places) * (group.top + 1) for group in self.groups)

    def part(self, rows: slice) -> ArrayCells:
        """The cells of some rows."""
        return self

    def symbols(self, x: np.ndarray) -> np.ndarray:
        """The symbols ``[N, D]`` of rows in the model's form."""
        if self.schema.span and self.schema.levels:
            x = np.rint(levels_of(x, self.schema.span, self.schema.levels)[0])
        x = x.reshape(len(x), -1)
        return (x if self.tops is None else np.minimum(x, self.tops)).astype(np.int64)

    def inside(self, symbols: np.ndarray, rows: slice) -> Tensor:
        """x in the model's form."""
        x: np.ndarray = symbols
        if self.schema.span:
            x = self.schema.span[0] + self.schema.step * symbols
        return torch.from_numpy(x.astype(self.schema.storage).reshape(len(x), *self.schema.shape))

    def push(self, stack: Stack, px: Any, symbols: np.ndarray, rows: slice, rounding: Rounding, batch: int) -> None:
        """Put the symbols on the stack."""
        require_masses(px)
        found = [(group, array_masses(px, group, rounding)) for group in self.groups]
        for group, masses in reversed(found):
            if masses is not None:
                stack.push(*masses.interval(symbols[:, group.places].reshape(-1)))

    def pop(self, stack: Stack, px: Any, rows: slice, rounding: Rounding, batch: int) -> np.ndarray:
        """Take the symbols from the stack."""
        size = elementwise(px).batch_shape[0]
        found = np.zeros((size, self.schema.columns), np.int64)
        for group in self.groups:
            masses = array_masses(px, group, rounding)
            if masses is not None:
                popped = stack.pop(masses.find, size * len(group.places))
                found[:, group.places] = popped.reshape(size, -1)
        return found


def patch(x: np.ndarray, back: np.ndarray) -> dict[str, np.ndarray]:
    """The places at which an array differs in any bit from another array of the same shape and type, and its cells
    there."""
    one, other = (np.ascontiguousarray(each).view(np.uint8).reshape(x.size, -1) for each in (x, back))
    at = np.flatnonzero((one != other).any(-1))
    return {"at": at, "cells": x.reshape(-1)[at]} if len(at) else {}


def patched(back: np.ndarray, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array from which :func:`patch` was made."""
    if "at" in kept:
        back = np.array(back)
        back.reshape(-1)[kept["at"]] = kept["cells"]
    return back


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays, each of a kind in ``KINDS``, as bytes; no bytes if there are no arrays."""
    if not arrays:
        return b""
    kinds = [[name, array.dtype.newbyteorder("<").str, list(array.shape)] for name, array in arrays.items()]
    head = json.dumps(kinds, separators=(",", ":")).encode()
    cells = (np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in arrays.values())
    return zlib.compress(b"".join([struct.pack("<I", len(head)), head, *cells]), 9)


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of :func:`packed`; ``ValueError`` if they are damaged."""
    if not data:
        return {}
    found, inflated = {}, Inflated(data)
    try:
        (length,) = struct.unpack("<I", inflated.read(4))
        for name, kind, shape in json.loads(inflated.read(length)):
            dtype = np.dtype(kind)
            if dtype.kind not in KINDS or not all(isinstance(size, int) and size >= 0 for size in shape):
                raise ValueError("an array of another kind")
            count = int(np.prod(shape, dtype=object))
            found[str(name)] = np.frombuffer(inflated.read(count * dtype.itemsize), dtype, count).reshape(shape)
    except (zlib.error, struct.error, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not inflated.is_at_end():
        raise ValueError("there are further bytes after its arrays")
    return found


class Inflated:
    """Deflated bytes that are inflated only as far as they are read, because a few bytes may expand to very many."""

    def __init__(self, data: bytes):
        self.opened, self.rest = zlib.decompressobj(), data

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes; ``ValueError`` if fewer remain."""
        if count == 0:
            return b""
        if count > MOST_INFLATED * (len(self.rest) + 64):
            raise ValueError("it is cut off")
        found = self.opened.decompress(self.rest, count)
        self.rest = self.opened.unconsumed_tail
        if len(found) < count:
            raise ValueError("it is cut off")
        return found

    def is_at_end(self) -> bool:
        """Whether all bytes have been read."""
        return not self.opened.decompress(self.rest, 1) and self.opened.eof and not self.opened.unused_data
