r"""A block of rows by bits back (Frey & Hinton 1997; Townsend, Bird & Barber 2019).

For every batch, the encoder pops z ~ q(z|x) from the stack, then pushes x under p(x|z) and z under p(z). The net length

.. math:: -\log_2 p(x \mid z) - \log_2 p(z) + \log_2 q(z \mid x),

is on average -ELBO / ln 2. The decoder reverses each operation, in reverse order. Batches grow with the stack, so that
the stack is too short only for the first row.
"""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from latens.runs.coding.latent import BITS
from latens.runs.coding.layers import CELLS, layers_of
from latens.runs.coding.rans import Stack, borrowed, first_heads
from latens.runs.coding.rounding import Rounding, from_varints, varints
from latens.tensors import trees
from latens.tensors.trees import Tree

BLOCK = 1 << 23  # cells per block
BATCH = 1 << 18  # cells per batch
PER_LANE = 1 << 12  # cells per lane; each lane costs six bytes
LANES = 512


class Likelihood(Protocol):
    """How the cells of rows become symbols ``[B, D]`` int64, and the form in which the model sees them."""

    weight: int  # how many numbers the masses of one row take

    def inside(self, symbols: np.ndarray, rows: slice) -> Tensor:
        """Some rows of the block in the model's form."""

    def push(self, stack: Stack, px: Any, symbols: np.ndarray, rows: slice, rounding: Rounding, batch: int) -> None:
        """Put the symbols on the stack."""

    def pop(self, stack: Stack, px: Any, rows: slice, rounding: Rounding, batch: int) -> np.ndarray:
        """Take the symbols from the stack."""


class Damaged(ValueError):
    """A block that cannot be decoded."""


def lanes_of(cells: int) -> int:
    """The number of lanes for this many cells: a power of two, small enough that the lanes cost little.

    >>> lanes_of(64), lanes_of(1 << 20), lanes_of(1 << 40)
    (1, 256, 512)
    """
    return min(LANES, 1 << max(0, (cells // PER_LANE).bit_length() - 1))


def rows_of_block(width: int) -> int:
    """The largest number of rows of ``width`` cells in a block."""
    return max(1, BLOCK // max(1, width))


@dataclass
class Bits:
    """A block: a model in float64, the conditions of its rows, and their likelihood."""

    model: Any
    c: Tree
    likelihood: Likelihood

    def _most(self, width: int) -> int:
        return max(1, BATCH // max(width, self.likelihood.weight))

    def _px(self, z: Tensor, rows: slice, batch: int, rounding: Rounding) -> Any:
        rounding.at(batch, CELLS)
        return self.model.decode(z, trees.take(self.c, rows))

    def encode(self, symbols: np.ndarray) -> bytes:
        """The rows ``[N, D]`` as bytes."""
        count, width = symbols.shape
        stack, rounding = Stack(lanes_of(symbols.size), lends=True), Rounding()
        layers, most, first = layers_of(self.model, rounding), self._most(width), 0
        sizes: list[int] = []
        while first < count:
            room = stack.size * 32 // (layers.dim * BITS)
            size = min(max(1, min(room, 4 * sizes[-1])) if sizes else 1, most, count - first)
            rows, batch = slice(first, first + size), len(sizes)
            x = self.likelihood.inside(symbols[rows], rows)
            z, taken = layers.pop_posterior(stack, x, trees.take(self.c, rows), batch)
            self.likelihood.push(stack, self._px(z, rows, batch, rounding), symbols[rows], rows, rounding, batch)
            layers.push(stack, taken)
            sizes.append(size)
            first += size
        told = rounding.packed()
        head = varints([len(stack.heads), stack.lent, layers.dim, len(told), len(sizes), *sizes])
        body = struct.pack("<I", len(head)) + head + told + stack.heads.astype("<u8").tobytes()
        body += stack.words.astype("<u4").tobytes()
        return body + _digest(body) + _digest(symbols.astype("<i8").tobytes())

    def decode(self, data: bytes, count: int, width: int) -> np.ndarray:
        """The rows ``[N, D]`` from which :meth:`encode` made the bytes.

        Raises:
            Damaged: the bytes are not a block, or another model coded them.
        """
        body, own, theirs = data[:-16], data[-16:-8], data[-8:]
        if len(data) < 24 or _digest(body) != own:
            raise Damaged("a checksum does not match")
        stack, rounding, sizes, dim, lent = _opened(body, count, count * width)
        if max(sizes) > self._most(width):
            raise Damaged("the head of a block is not valid")
        layers = layers_of(self.model, rounding)
        parts: list[np.ndarray] = []  # memory is bounded by the words in the block, not by what its head claims
        first = count
        for batch in reversed(range(len(sizes))):
            rows, size = slice(first - sizes[batch], first), sizes[batch]
            c = trees.take(self.c, rows)
            z, taken = layers.pop(stack, size, c, batch)
            if layers.dim != dim:
                raise Damaged("the head of a block is not valid")
            symbols = self.likelihood.pop(stack, self._px(z, rows, batch, rounding), rows, rounding, batch)
            parts.append(symbols)
            layers.push_posterior(stack, taken, self.likelihood.inside(symbols, rows), c, batch)
            first -= size
        found = np.concatenate(parts[::-1])
        if _digest(found.astype("<i8").tobytes()) != theirs:
            raise Damaged("the checksum of the rows does not match")
        left = np.array_equal(stack.heads, first_heads(len(stack.heads)))
        if not left or not np.array_equal(stack.words, borrowed(lent)[::-1]):
            raise Damaged("something is left over")
        return found


def _opened(body: bytes, count: int, cells: int) -> tuple[Stack, Rounding, list[int], int, int]:
    """(stack, directions of roundings, sizes of batches, dimensions of z, number of borrowed words) of a block."""
    try:
        (length,) = struct.unpack_from("<I", body)
        lanes, lent, dim, told, batches, *sizes = from_varints(body[4 : 4 + length])
        at = 4 + length
        rounding = Rounding(body[at : at + told])
        heads = np.frombuffer(body, "<u8", lanes, at + told)
        words = np.frombuffer(body, "<u4", -1, at + told + 8 * lanes)
    except (ValueError, struct.error) as error:
        raise Damaged(str(error)) from None
    sound = sum(sizes) == count and len(sizes) == batches and all(sizes)
    sound = sound and 1 <= lanes <= lanes_of(cells) and lanes.bit_count() == 1  # earlier files have fewer lanes
    if not sound or not 1 <= dim <= 1 << 20 or lent > len(words) + lanes * 2 + dim or (heads < 1 << 32).any():
        raise Damaged("the head of a block is not valid")
    return Stack(lanes, words=words, heads=heads), rounding, sizes, dim, lent


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def exactly(model: Any) -> Any:
    """A copy of a model that computes in float64 on the processor, without gradients."""
    return copy.deepcopy(model).to("cpu", torch.float64).eval().requires_grad_(False)
