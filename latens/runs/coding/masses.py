"""Whole-number frequencies for the values of many cells, from whole-number parameters.

Every object has two methods. ``interval(symbol)`` gives the start and frequency of one symbol per cell;
``find(slots, cells)`` gives, for some of the cells, the symbols whose intervals contain the slots. Every symbol has a
frequency of at least 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any

import numpy as np

from latens.runs.coding import exact
from latens.runs.coding.rans import TOTAL
from latens.runs.coding.rounding import Rounding

LOGIT = 1 / 128  # step of log-probabilities
SCALE = 1 / 64  # step of log-scales
MOST = 1 << 22  # a cell has at most this many symbols
_FARTHEST = 40 * 128  # log-probabilities count as at most this many steps below the largest
_WAYS = 16  # parts into which a search cuts a range
_WIDEST = 4000  # a log-scale is at most this many steps from 0

_CUTS = np.arange(1, _WAYS)[:, None]

ALL = slice(None)
Cells = slice | np.ndarray  # selects some of the cells, in order


@cache
def _powers() -> np.ndarray:
    return exact.exp(-np.arange(_FARTHEST + 1) * LOGIT)


@cache
def _inverse_scales() -> np.ndarray:
    return exact.exp(-np.arange(-_WIDEST, _WIDEST + 1) * SCALE)


def _inverse(log_scale: np.ndarray) -> np.ndarray:
    """1 / s for log-scales in steps of ``SCALE``."""
    return _inverse_scales()[np.clip(log_scale, -_WIDEST, _WIDEST) + _WIDEST]


def scale_of(log_scale: np.ndarray) -> np.ndarray:
    """s for log-scales in steps of ``SCALE``, within 1e-27 and 1e27."""
    return _inverse(-log_scale)


def shares(logits: np.ndarray) -> np.ndarray:
    """The softmax of log-probabilities ``[..., n]`` in steps of ``LOGIT``; it is the same on every machine."""
    weights = _powers()[np.minimum(logits.max(-1, keepdims=True) - logits, _FARTHEST)]
    return weights / np.cumsum(weights, -1)[..., -1:]


class Uniform:
    """Symbols 0 … n-1, equally likely; n up to ``MOST``."""

    def __init__(self, size: int):
        self.size = size

    def interval(self, symbol: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(start, frequency) of each symbol."""
        start = symbol * TOTAL // self.size
        return start, (symbol + 1) * TOTAL // self.size - start

    def find(self, slots: np.ndarray, cells: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(symbol, start, frequency) of each slot."""
        symbol = ((slots + 1) * self.size - 1) // TOTAL
        return symbol, *self.interval(symbol)


class Levels:
    """Few symbols, each with a log-probability.

    Args:
        logits: ``[cells, n]`` int64, in steps of ``LOGIT``.
    """

    def __init__(self, logits: np.ndarray):
        size = logits.shape[-1]
        bits = min(24, 62 - 28 - size.bit_length())
        weights = np.floor(_powers() * (1 << bits)).astype(np.int64)
        below = weights[np.minimum(logits.max(-1, keepdims=True) - logits, _FARTHEST)].cumsum(-1)
        rising = below * (TOTAL - size) // below[:, -1:] + np.arange(1, size + 1)
        self.bounds = np.concatenate([np.zeros((len(logits), 1), np.int64), rising], -1)

    def interval(self, symbol: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(start, frequency) of each cell's symbol."""
        return self._at(symbol, ALL)

    def _at(self, symbol: np.ndarray, cells: slice) -> tuple[np.ndarray, np.ndarray]:
        bounds = self.bounds[cells]
        rows = np.arange(len(symbol))
        start = bounds[rows, symbol]
        return start, bounds[rows, symbol + 1] - start

    def find(self, slots: np.ndarray, cells: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(symbol, start, frequency) of each slot."""
        symbol = np.count_nonzero(self.bounds[cells, 1:] <= slots[:, None], -1)
        return symbol, *self._at(symbol, cells)


class Ordered(ABC):
    """Ordered symbols 0 … n-1 with a distribution function.

    The start of symbol k is 2 k + floor(F(k) (TOTAL - 2 n)), so that its frequency is at least 1 even if rounding makes
    F fall.

    Args:
        size: the number of symbols, n.
    """

    def __init__(self, size: int):
        self.size = size

    @abstractmethod
    def below(self, k: np.ndarray, cells: Cells) -> np.ndarray:
        """F(k), the share of the symbols below k ``[..., cells]``, for 0 < k < n; any number for other k."""

    def guess(self, share: np.ndarray, cells: Cells) -> np.ndarray | None:
        """Approximately the symbol at which the share is reached."""
        return None

    def starts(self, k: np.ndarray, cells: Cells) -> np.ndarray:
        """The start of symbol k ``[..., cells]``, 0 <= k <= n."""
        share = self.below(k, cells)
        share *= TOTAL - 2 * self.size
        found: np.ndarray = share.astype(np.int64)
        found += k
        found += k
        found[k == 0] = 0
        found[k == self.size] = TOTAL
        return found

    def interval(self, symbol: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(start, frequency) of each cell's symbol."""
        start = self.starts(symbol, ALL)
        return start, self.starts(symbol + 1, ALL) - start

    def find(self, slots: np.ndarray, cells: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(symbol, start, frequency) of each slot: a guess, and a search for guesses that are wrong."""
        first = self.guess((slots + 0.5) * (1 / TOTAL), cells)
        if first is None:
            return self._searched(slots, cells)
        np.minimum(np.maximum(first, 0, out=first), self.size - 1, out=first)
        share = slots + 0.5 - 2 * first  # symbols below take two each, whatever F is
        share *= 1 / (TOTAL - 2 * self.size)
        guess = self.guess(share, cells)
        assert guess is not None
        np.minimum(np.maximum(guess, 0, out=guess), self.size - 1, out=guess)
        start, end = self.starts(np.array((guess, guess + 1)), cells)
        wrong = np.flatnonzero((start > slots) | (end <= slots))
        end -= start
        if len(wrong):
            guess[wrong], start[wrong], end[wrong] = self._searched(slots[wrong], wrong + cells.start)
        return guess, start, end

    def _searched(self, slots: np.ndarray, cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(symbol, start, frequency) of each slot by search: its range of symbols is cut into ``_WAYS`` parts until it
        is one symbol."""
        low, width = np.zeros_like(slots), np.full_like(slots, self.size)
        start, end = np.zeros_like(slots), np.full_like(slots, TOTAL)
        each = np.arange(len(slots))
        while width.max() > 1:
            k = low + width * _CUTS // _WAYS
            at = np.concatenate([[start], self.starts(k, cells), [end]])
            k = np.concatenate([[low], k, [low + width]])
            found = np.count_nonzero(at[1:-1] <= slots, 0)
            low, start, end = k[found, each], at[found, each], at[found + 1, each]
            width = k[found + 1, each] - low
        return low, start, end - start


class NormalBins(Ordered):
    """Bins of normally distributed numbers.

    Args:
        edges: ``[n + 1]``, increasing; the first and the last count as -inf and inf.
        location: ``[cells]``.
        log_scale: ``[cells]`` int64, in steps of ``SCALE``.
    """

    def __init__(self, edges: np.ndarray, location: np.ndarray, log_scale: np.ndarray):
        super().__init__(len(edges) - 1)
        self.edges, self.location, self.inverse = edges, location, _inverse(log_scale)

    def below(self, k: np.ndarray, cells: Cells) -> np.ndarray:
        """The share below edge k."""
        return exact.normal()(self._standard(k, cells))

    def _standard(self, k: np.ndarray, cells: Cells) -> np.ndarray:
        t = self.edges.take(k)
        t -= self.location[cells]
        t *= self.inverse[cells]
        return t

    def guess(self, share: np.ndarray, cells: Cells) -> np.ndarray:
        """The bin that contains the quantile."""
        value = self.location[cells] + exact.normal().inverse(share) / self.inverse[cells]
        return np.searchsorted(self.edges, value) - 1


class Logistics(Ordered):
    r"""Places of numbers from a mixture of logistics.

    .. math:: F(k) = \sum_m w_m \frac{\sigma((t_k - \mu_m) / s_m) - \sigma((f - \mu_m) / s_m)}
        {1 - \sigma((f - \mu_m) / s_m)}

    Args:
        edges: t, ``[n + 1]``, increasing; the first and the last count as -inf and inf.
        location: ``[M, cells]``.
        log_scale: ``[M, cells]`` int64, in steps of ``SCALE``.
        weights: ``[M, cells]``, which sum to 1; None if there is one component.
        floor: f, below which there is no mass; None for no floor.
    """

    def __init__(
        self, edges: np.ndarray, location: np.ndarray, log_scale: np.ndarray, weights: np.ndarray | None = None,
        floor: float | None = None,
    ):  # fmt: skip
        super().__init__(len(edges) - 1)
        self.edges, self.location, self.weights = edges, location, weights
        steps = np.diff(edges)
        self.even = bool(np.isfinite(edges).all() and np.ptp(steps) < 1e-9 * steps[0])
        self.inverse = _inverse(log_scale)
        none = None if floor is None else exact.logistic()((floor - location) * self.inverse)
        self.cut = none if none is None or not none.any() else np.minimum(none, 1 - 2.0**-30)

    def below(self, k: np.ndarray, cells: Cells) -> np.ndarray:
        """The share below edge k."""
        edge, parts = self.edges.take(k), []
        for m in range(len(self.location)):
            share = edge - self.location[m, cells]
            share *= self.inverse[m, cells]
            share = exact.logistic()(share)
            if self.cut is not None:
                cut = self.cut[m, cells]
                share = np.maximum(share - cut, 0.0) / (1.0 - cut)
            if self.weights is not None:
                share *= self.weights[m, cells]
            parts.append(share)
        total: np.ndarray = sum(parts[1:], parts[0])
        return total

    def guess(self, share: np.ndarray, cells: Cells) -> np.ndarray | None:
        """The place that contains the quantile, for a single component."""
        if len(self.location) > 1 or self.cut is not None:
            return None
        value = share / (1.0 - share)
        np.log(value, out=value)
        value /= self.inverse[0, cells]
        value += self.location[0, cells]
        if not self.even:
            return np.searchsorted(self.edges[1:-1], value)
        value -= self.edges[0]
        value *= 1 / (self.edges[1] - self.edges[0])
        return value.astype(np.int64)


class Heaps(Ordered):
    """Places with a smooth distribution, and atoms.

    Args:
        places: the masses of the n places.
        weights: ``[cells, 1 + A]``, the shares of the smooth distribution and of the atoms, which sum to 1.
        symbols: ``[A]``, increasing, the symbol of each atom: a place, or a number from n on if the atom is at no
            place.
    """

    def __init__(self, places: Logistics, weights: np.ndarray, symbols: np.ndarray):
        super().__init__(max(places.size, int(symbols[-1]) + 1))
        self.places, self.weights, self.symbols = places, weights[:, 0], symbols
        atoms = np.cumsum(weights[:, 1:], -1)
        self.heaps = np.concatenate([np.zeros((len(atoms), 1)), atoms], -1)

    def below(self, k: np.ndarray, cells: Cells) -> np.ndarray:
        """The share of the symbols below k."""
        heap = np.searchsorted(self.symbols, k)
        inner = self.places.below(np.minimum(k, self.places.size), cells)
        smooth = np.where(k >= self.places.size, 1.0, np.where(k <= 0, 0.0, inner))
        return self.weights[cells] * smooth + self.heaps[cells][np.arange(k.shape[-1]), heap]


def rounded_scale(rounding: Rounding, log_scale: Any) -> np.ndarray:
    """ln s in steps of ``SCALE``."""
    return rounding(np.asarray(log_scale), SCALE)
