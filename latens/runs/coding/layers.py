"""The codes of a batch of rows on the stack: one layer of codes, or the layers of a ladder.

The encoder takes codes by the posterior and puts them back by the prior; the decoder does the opposite. A ladder draws
its layers from the top down, each given those above it, in the posterior and in the prior, so that all of its codes are
taken before the cells of the rows are put on the stack (Townsend et al. 2020 do so with convolutional hierarchies).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens import models
from latens.runs.coding.latent import Alphabet, Quantiles, codes_under
from latens.runs.coding.rans import Stack
from latens.runs.coding.rounding import Rounding
from latens.tensors.trees import Tree

PRIOR, POSTERIOR, SHARES, CELLS = range(4)  # the parts of a batch whose numbers are rounded; columns follow CELLS
LAST = (1 << 16) - 1  # the parts of a ladder's layers are counted down from here


class Layers(ABC):
    """How codes z ``[B, Z]`` are taken from the stack and put back.

    What a method returns next to z, ``taken``, is for the method that puts it back. ``c`` holds the conditions of the
    batch, and ``batch`` is its number.
    """

    dim: int = 1  # bits are needed for this many whole numbers of a row

    def __init__(self, model: Any, rounding: Rounding):
        self.model, self.rounding = model, rounding

    @abstractmethod
    def pop_posterior(self, stack: Stack, x: Tensor, c: Tree, batch: int) -> tuple[Tensor, Any]:
        """Take codes by q(z|x)."""

    @abstractmethod
    def push(self, stack: Stack, taken: Any) -> None:
        """Put codes back by p(z)."""

    @abstractmethod
    def pop(self, stack: Stack, rows: int, c: Tree, batch: int) -> tuple[Tensor, Any]:
        """Take codes of ``rows`` rows by p(z)."""

    @abstractmethod
    def push_posterior(self, stack: Stack, taken: Any, x: Tensor, c: Tree, batch: int) -> None:
        """Put codes back by q(z|x)."""


def layers_of(model: Any, rounding: Rounding) -> Layers:
    """The layers of codes of a :class:`latens.models.VAE` or a :class:`latens.models.Ladder`."""
    return Rungs(model, rounding) if isinstance(model, models.Ladder) else OneLayer(model, rounding)


@dataclass
class _Taken:
    """The whole numbers of a layer, their alphabet, and components of a mixture prior or the state above a rung."""

    alphabet: Alphabet
    numbers: np.ndarray
    which: np.ndarray | None = None
    state: Tensor | None = None


class OneLayer(Layers):
    """The codes of a VAE."""

    def _alphabet(self, c: Tree, batch: int) -> Alphabet:
        self.rounding.at(batch, PRIOR)
        found = codes_under(self.model._run("prior", c=c), self.rounding)
        self.dim = found.dim
        return found

    def pop_posterior(self, stack: Stack, x: Tensor, c: Tree, batch: int) -> tuple[Tensor, _Taken]:
        """Take the codes of x ``[B, ...]``; under a mixture prior also components, by their shares given z."""
        alphabet = self._alphabet(c, batch)
        self.rounding.at(batch, POSTERIOR)
        numbers = alphabet.pop_posterior(stack, self.model.encode(x, c), self.rounding)
        z = alphabet.codes(numbers)
        self.rounding.at(batch, SHARES)
        return z, _Taken(alphabet, numbers, alphabet.pop_component(stack, z, self.rounding))

    def push(self, stack: Stack, taken: _Taken) -> None:
        """Put codes and components back."""
        taken.alphabet.push(stack, taken.numbers, taken.which)

    def pop(self, stack: Stack, rows: int, c: Tree, batch: int) -> tuple[Tensor, _Taken]:
        """Take codes and components."""
        alphabet = self._alphabet(c, batch)
        numbers, which = alphabet.pop(stack, rows, alphabet.dim)
        return alphabet.codes(numbers), _Taken(alphabet, numbers, which)

    def push_posterior(self, stack: Stack, taken: _Taken, x: Tensor, c: Tree, batch: int) -> None:
        """Put components back, then the codes of x ``[B, ...]``."""
        alphabet = taken.alphabet
        self.rounding.at(batch, SHARES)
        alphabet.push_component(stack, alphabet.codes(taken.numbers), taken.which, self.rounding)
        self.rounding.at(batch, POSTERIOR)
        alphabet.push_posterior(stack, taken.numbers, self.model.encode(x, c), self.rounding)


class Rungs(Layers):
    """The layers of a ladder, from the top. Each is cut into bins that are equally likely under its prior, given the
    layers above it."""

    def __init__(self, model: models.Ladder, rounding: Rounding):
        super().__init__(model, rounding)
        self.dim = sum(model.layers)

    def _top(self, rows: int) -> Tensor:
        start = self.model.start
        return start.expand(rows, *start.shape)

    def _alphabet(self, p: Any, number: int, batch: int) -> Quantiles:
        self.rounding.at(batch, LAST - 2 * number)
        return Quantiles(p, self.rounding)

    def pop_posterior(self, stack: Stack, x: Tensor, c: Tree, batch: int) -> tuple[Tensor, list[_Taken]]:
        """Take the codes of x ``[B, ...]`` layer by layer."""
        features, state, found = self.model.upward(x, c), self._top(len(x)), []
        for number, rung in enumerate(self.model.rungs):
            p = rung.prior(state)
            alphabet = self._alphabet(p, number, batch)
            self.rounding.at(batch, LAST - 2 * number - 1)
            q = rung.posterior(state, features[number], p)
            numbers = alphabet.pop_posterior(stack, q, self.rounding)
            found.append(_Taken(alphabet, numbers, state=state))
            state = rung(state, alphabet.codes(numbers))
        return _joined(found), found

    def push(self, stack: Stack, taken: list[_Taken]) -> None:
        """Put the layers back, the lowest first, so that the decoder finds the top layer first."""
        for layer in reversed(taken):
            layer.alphabet.push(stack, layer.numbers, None)

    def pop(self, stack: Stack, rows: int, c: Tree, batch: int) -> tuple[Tensor, list[_Taken]]:
        """Take the layers, from the top."""
        state, found = self._top(rows), []
        for number, rung in enumerate(self.model.rungs):
            alphabet = self._alphabet(rung.prior(state), number, batch)
            numbers, _ = alphabet.pop(stack, rows, rung.size)
            found.append(_Taken(alphabet, numbers, state=state))
            state = rung(state, alphabet.codes(numbers))
        return _joined(found), found

    def push_posterior(self, stack: Stack, taken: list[_Taken], x: Tensor, c: Tree, batch: int) -> None:
        """Put the codes of x ``[B, ...]`` back, the lowest layer first."""
        features = self.model.upward(x, c)
        for number, layer in reversed([*enumerate(taken)]):
            rung, state = self.model.rungs[number], layer.state
            self.rounding.at(batch, LAST - 2 * number - 1)
            q = rung.posterior(state, features[number], rung.prior(state))
            layer.alphabet.push_posterior(stack, layer.numbers, q, self.rounding)


def _joined(layers: list[_Taken]) -> Tensor:
    return torch.cat([layer.alphabet.codes(layer.numbers) for layer in layers], -1)
