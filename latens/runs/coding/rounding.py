"""Outputs of networks rounded to a grid, in the same way on every machine.

Sums of float64 differ between machines by a relative 1e-15. If a number lies so close to the midpoint between two
places of the grid that this could matter, the encoder records in which direction it was rounded.
"""

from __future__ import annotations

import struct

import numpy as np

from latens.errors import InputError

NEAR = 2.0**-20  # closer than this to the midpoint, in steps of the grid, the direction is recorded
FARTHEST = 2.0**40  # numbers beyond this many steps are clipped


def varints(values: list[int]) -> bytes:
    """Whole numbers >= 0 as bytes of seven bits each."""
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def from_varints(data: bytes) -> list[int]:
    """The numbers from which :func:`varints` made the bytes; ``ValueError`` if the last number is incomplete.

    >>> from_varints(varints([0, 300]))
    [0, 300]
    """
    out, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            out.append(value)
            value, shift = 0, 0
        elif shift > 63:
            raise ValueError("a number is too long")
    if shift:
        raise ValueError("a number is cut off")
    return out


class Rounding:
    """Round to a grid. The encoder records the direction of close cases, and the decoder uses these records.

    The calls after each call of :meth:`at` are identified by their order.
    """

    def __init__(self, told: bytes | None = None):
        self.decodes, self.key = told is not None, (0, 0, 0)
        self.told: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        for item in struct.iter_unpack("<IHHIB", told or b""):
            self.told.setdefault(item[:3], []).append(item[3:])

    def at(self, batch: int, part: int) -> None:
        """State to which part of which batch the next calls belong."""
        self.key = (batch, part, 0)

    def __call__(self, values: np.ndarray, step: float) -> np.ndarray:
        """For each number, the nearest place of the grid, int64; ``InputError`` for NaN."""
        scaled = np.asarray(values, np.float64, order="C") / step  # in C order, which numbers the cells
        most = max(scaled.max(initial=0.0), -scaled.min(initial=0.0))
        if np.isnan(most):
            raise InputError("the run's networks give values that are not numbers", "check the data, or fit again")
        if most > FARTHEST:
            np.clip(scaled, -FARTHEST, FARTHEST, out=scaled)
        nearest = np.floor(scaled + 0.5)
        if self.decodes:
            for cell, way in self.told.get(self.key, ()):
                if cell >= scaled.size:
                    raise ValueError("a rounding belongs to a cell that does not exist")
                nearest.reshape(-1)[cell] = np.floor(scaled.reshape(-1)[cell]) + bool(way)
        else:
            far = 0.5 - NEAR * (np.maximum(1.0, np.abs(scaled) * 2.0**-24) if most > 2.0**24 else 1.0)
            cells = np.flatnonzero(np.abs(scaled - nearest) > far)
            if len(cells):
                ways = (nearest > scaled).reshape(-1)[cells]
                self.told[self.key] = list(zip(cells.tolist(), ways.astype(int).tolist()))
        self.key = (*self.key[:2], self.key[2] + 1)
        return nearest.astype(np.int64)

    def packed(self) -> bytes:
        """The recorded directions as bytes."""
        return b"".join(struct.pack("<IHHIB", *key, *item) for key, items in self.told.items() for item in items)
