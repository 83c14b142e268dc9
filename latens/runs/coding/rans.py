"""An entropy coder: a stack of symbols, from which the last pushed symbol is popped first.

It uses range asymmetric numeral systems (Duda 2013) on many lanes that share one stack of words (Giesen 2014; Townsend,
Bird & Barber 2019), so that numpy processes all lanes together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PRECISION = 28  # the frequencies of all symbols that are possible in a cell add up to 2^28
TOTAL = 1 << PRECISION
_LOW = np.uint64(1 << 32)  # the smallest state of a lane between operations
_MASK, _BITS, _WORD = np.uint64(TOTAL - 1), np.uint64(PRECISION), np.uint64(32)
_FULL = np.uint64(64 - PRECISION)

Find = Callable[[np.ndarray, slice], tuple[np.ndarray, np.ndarray, np.ndarray]]


class Exhausted(ValueError):
    """More symbols were popped than were pushed."""


def borrowed(count: int, first: int = 0) -> np.ndarray:
    """The words ``[count]`` that an empty stack lends; they are always the same (splitmix64, Steele, Lea & Flood
    2014)."""
    with np.errstate(over="ignore"):
        z = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _turned(slots: np.ndarray) -> np.ndarray:
    """The bits with their lower and upper halves swapped."""
    half = np.uint64(PRECISION // 2)
    return ((slots << half) & _MASK) | (slots >> half)


def first_heads(lanes: int) -> np.ndarray:
    """Initial states of lanes, from 2^32 to 2^33, so that the symbols popped first look random."""
    return _LOW + borrowed(lanes, 1 << 40).astype(np.uint64)


class Stack:
    """Lanes, and the words below them.

    Args:
        lanes: the number of symbols that are processed together.
        lends: whether words may be popped from an empty stack; ``lent`` counts them.
        words: the words on the stack, uint32.
        heads: the states of the lanes; by default :func:`first_heads`.
    """

    def __init__(
        self, lanes: int, *, lends: bool = False, words: np.ndarray | None = None, heads: np.ndarray | None = None
    ):
        self.heads = first_heads(lanes) if heads is None else heads.astype(np.uint64)
        self.size, self.lends, self.lent = 0 if words is None else len(words), lends, 0
        self.buffer = np.empty(max(1024, 2 * self.size), np.uint32)
        self.buffer[: self.size] = () if words is None else words

    @property
    def words(self) -> np.ndarray:
        """The words on the stack, the oldest first."""
        return self.buffer[: self.size]

    def _put(self, words: np.ndarray) -> None:
        if self.size + len(words) > len(self.buffer):
            self.buffer = np.concatenate([self.words, np.empty(self.size + len(words) + 1024, np.uint32)])
        self.buffer[self.size : self.size + len(words)] = words
        self.size += len(words)

    def _take(self, count: int) -> np.ndarray:
        if count > self.size:
            if not self.lends:
                raise Exhausted("the stack is empty")
            more = borrowed(count - self.size, self.lent)[::-1]
            self.lent += len(more)
            self.buffer = np.concatenate([more, self.buffer])
            self.size += len(more)
        self.size -= count
        return self.buffer[self.size : self.size + count]

    def push(self, start: np.ndarray, frequency: np.ndarray, *, turned: bool = False) -> None:
        """Put symbols ``[n]`` on the stack, the last of them first.

        A symbol is the interval of length ``frequency`` >= 1 that begins at ``start``, out of ``TOTAL``. With
        ``turned``, this is the inverse of a :meth:`pop` with ``turned``.
        """
        start, frequency, lanes = start.astype(np.uint64), frequency.astype(np.uint64), len(self.heads)
        most, rest = (frequency << _FULL) - np.uint64(1), np.uint64(TOTAL) - frequency  # 2^64 - 1 for f = TOTAL
        for first in range((len(start) - 1) // lanes * lanes, -1, -lanes):
            cells = slice(first, first + lanes)
            f = frequency[cells]
            h = self.heads[: len(f)]  # a view, which is changed in place
            over = h > most[cells]
            words = h[over]
            if len(words):
                self._put(words.astype(np.uint32))
                np.right_shift(h, _WORD, out=h, where=over)
            whole = h // f
            if turned:
                h[:] = (whole << _BITS) + _turned(h - whole * f + start[cells])
            else:  # (whole << BITS) + h - whole f + start
                whole *= rest[cells]
                h += whole
                h += start[cells]

    def pop(self, find: Find, count: int, *, turned: bool = False) -> np.ndarray:
        """Take ``count`` symbols from the stack.

        ``find(slots, cells)`` maps numbers below ``TOTAL``, the slots, to the symbols in whose intervals they lie, with
        the starts and frequencies of these; ``cells`` says which of the ``count`` symbols are meant. The slots come
        from the symbols pushed last; with ``turned`` they look random even if those symbols do not.
        """
        found, lanes = np.empty(count, np.int64), len(self.heads)
        for first in range(0, count, lanes):
            cells = slice(first, min(first + lanes, count))
            h = self.heads[: cells.stop - first]
            slots = (_turned(h & _MASK) if turned else h & _MASK).view(np.int64)
            found[cells], start, frequency = find(slots, cells)
            h >>= _BITS
            h *= frequency.view(np.uint64)
            h += (slots - start).view(np.uint64)
            short = h < _LOW
            few = h[short]
            if len(few):
                h[short] = (few << _WORD) | self._take(len(few))
        return found
