"""Codes as whole numbers, with whole-number frequencies from the posterior and the prior.

A real dimension is cut into 2^14 bins that are equally likely under N(0, 1), or under a normal with the mean and
variance of the prior, and z is the middle of a bin (Townsend, Bird & Barber 2019). Codebook entries and categories are
whole numbers already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens import distributions as d
from latens.errors import InputError
from latens.runs.coding import exact
from latens.runs.coding.masses import LOGIT, SCALE, Levels, NormalBins, Uniform, scale_of
from latens.runs.coding.rans import Stack
from latens.runs.coding.rounding import Rounding

BITS = 14
STEP = 2.0**-14  # step of locations, in units of the prior's standard deviation


@cache
def _bins() -> tuple[np.ndarray, np.ndarray]:
    """(edges ``[2^BITS + 1]``, middles ``[2^BITS]``) of equally likely bins of N(0, 1)."""
    inverse, count = exact.normal().inverse, 1 << BITS
    return inverse(np.arange(count + 1) / count), inverse((np.arange(count) + 0.5) / count)


class Alphabet(ABC):
    """p(z) over codes as whole numbers ``[B, dim]``, one distribution for all rows or one per row."""

    dim: int

    @abstractmethod
    def codes(self, numbers: np.ndarray) -> Tensor:
        """The codes z ``[B, Z]`` that the whole numbers stand for."""

    @abstractmethod
    def push(self, stack: Stack, numbers: np.ndarray, which: np.ndarray | None) -> None:
        """Put the whole numbers ``[B, dim]`` and the components ``[B]`` of :meth:`pop_component` on the stack."""

    @abstractmethod
    def pop(self, stack: Stack, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Take (whole numbers ``[B, dim]``, components ``[B]``) from the stack."""

    def pop_component(self, stack: Stack, z: Tensor, rounding: Rounding) -> np.ndarray | None:
        """Take components ``[B]`` from the stack, with probability p(component|z); None if there are none."""
        return None

    def push_component(self, stack: Stack, z: Tensor, which: np.ndarray | None, rounding: Rounding) -> None:
        """Put the components back."""
        assert which is None

    @abstractmethod
    def pop_posterior(self, stack: Stack, q: Any, rounding: Rounding) -> np.ndarray:
        """Take the whole numbers ``[B, dim]`` of a draw of q(z|x) from the stack."""

    @abstractmethod
    def push_posterior(self, stack: Stack, numbers: np.ndarray, q: Any, rounding: Rounding) -> None:
        """Put the whole numbers of the draw back on the stack."""


def codes_under(p: Any, rounding: Rounding) -> Alphabet:
    """The alphabet of codes for a prior's distribution p; ``InputError`` for a kind of prior that has none."""
    if type(p) is d.UniformCodes:
        return Entries(p)
    return Categories(p, rounding) if type(p) is d.OneHot and len(p.batch_shape) == 0 else Bins(p, rounding)


class Entries(Alphabet):
    """Entries of codebooks, all equally likely. The posterior is certain of them, so it frees no bits."""

    def __init__(self, p: d.UniformCodes):
        self.books, self.positions = p.codes, p.positions
        self.dim = len(self.books) * self.positions
        self.masses = Uniform(p.codes.shape[1])

    def codes(self, numbers: np.ndarray) -> Tensor:
        """z ``[B, V D]``: at each position, the sum of the entries of the L books."""
        index = torch.from_numpy(numbers).reshape(len(numbers), self.positions, -1)
        found = torch.stack([book[index[..., level]] for level, book in enumerate(self.books)])
        return found.sum(0).flatten(-2)

    def push(self, stack: Stack, numbers: np.ndarray, which: np.ndarray | None) -> None:
        """Put the entries ``[B, V L]`` on the stack."""
        stack.push(*self.masses.interval(numbers.reshape(-1)))

    def pop(self, stack: Stack, rows: int, dim: int) -> tuple[np.ndarray, None]:
        """Take the entries from the stack."""
        return stack.pop(self.masses.find, rows * dim).reshape(rows, dim), None

    def pop_posterior(self, stack: Stack, q: Any, rounding: Rounding) -> np.ndarray:
        """The entries ``[B, V L]`` that q chose."""
        require_posterior(q, d.Quantised)
        return np.asarray(q.index.flatten(1).numpy())

    def push_posterior(self, stack: Stack, numbers: np.ndarray, q: Any, rounding: Rounding) -> None:
        """Nothing, since :meth:`pop_posterior` took nothing."""


class Categories(Alphabet):
    """Categories as one-hot vectors."""

    def __init__(self, p: d.OneHot, rounding: Rounding):
        self.size, self.dim = p.categories, p.variables
        self.logits = rounding(_log_shares(p), LOGIT)

    def codes(self, numbers: np.ndarray) -> Tensor:
        """z ``[B, V K]``."""
        return torch.nn.functional.one_hot(torch.from_numpy(numbers), self.size).flatten(1).double()

    def _levels(self, rows: int) -> Levels:
        return Levels(np.broadcast_to(self.logits, (rows, *self.logits.shape)).reshape(-1, self.size))

    def push(self, stack: Stack, numbers: np.ndarray, which: np.ndarray | None) -> None:
        """Put the categories ``[B, V]`` on the stack."""
        stack.push(*self._levels(len(numbers)).interval(numbers.reshape(-1)))

    def pop(self, stack: Stack, rows: int, dim: int) -> tuple[np.ndarray, None]:
        """Take the categories from the stack."""
        return stack.pop(self._levels(rows).find, rows * dim).reshape(rows, dim), None

    def _posterior(self, q: Any, rounding: Rounding) -> Levels:
        require_posterior(q, d.OneHot)
        return Levels(rounding(_log_shares(q), LOGIT).reshape(-1, self.size))

    def pop_posterior(self, stack: Stack, q: Any, rounding: Rounding) -> np.ndarray:
        """Take the categories ``[B, V]`` of a draw of q from the stack."""
        masses, rows = self._posterior(q, rounding), q.batch_shape[0]
        return stack.pop(masses.find, rows * q.variables, turned=True).reshape(rows, -1)

    def push_posterior(self, stack: Stack, numbers: np.ndarray, q: Any, rounding: Rounding) -> None:
        """Put the categories ``[B, V]`` of the draw back on the stack."""
        stack.push(*self._posterior(q, rounding).interval(numbers.reshape(-1)), turned=True)


def _log_shares(p: d.OneHot) -> np.ndarray:
    return np.asarray(p.log_p.clamp_min(-1e6).numpy())


class Bins(Alphabet):
    """Real numbers as bins. If p is a mixture, the bits spent on the component are recovered too.

    Args:
        p: the prior's distribution, over codes ``[Z]`` or ``[B, Z]``; float64.
        rounding: the rounding for this part of the file.

    Raises:
        InputError: the prior is of a kind that cannot be coded.
    """

    def __init__(self, p: Any, rounding: Rounding):
        require_prior(p)
        self.p, self.shift, self.unit = p, torch.zeros(()), torch.ones(())
        self.dim = p.loc.shape[-1]
        if isinstance(p, d.NormalMixture) and len(p.batch_shape) == 0:
            location = rounding(p.mean.numpy(), 2.0**-8)
            width = np.maximum(rounding(p.variance.sqrt().numpy(), 2.0**-8), 1)
            self.shift, self.unit = (torch.from_numpy(each * 2.0**-8) for each in (location, width))
        self.normals: Normals | None
        if isinstance(p, d.NormalMixture):
            self.normals = Normals(p.loc, p.component_variance, self, rounding)
            self.logits = rounding(p.logits.log_softmax(-1).numpy(), LOGIT)
        else:
            plain = not bool(p.loc.any()) and bool((p.variance == 1).all())
            self.normals = None if plain else Normals(p.loc, p.variance, self, rounding)

    def codes(self, bins: np.ndarray) -> Tensor:
        """The codes z ``[B, Z]`` that the bins stand for."""
        return torch.from_numpy(_bins()[1][bins]) * self.unit + self.shift

    def _component_shares(self, z: Tensor, rounding: Rounding) -> Levels:
        return Levels(rounding(self.p._joint(z).numpy(), LOGIT))

    def _component_levels(self, rows: int) -> Levels:
        return Levels(np.broadcast_to(self.logits, (rows, self.logits.shape[-1])))

    def push(self, stack: Stack, bins: np.ndarray, which: np.ndarray | None) -> None:
        """Put the bins ``[B, Z]`` and the components on the stack."""
        if self.normals is None:
            stack.push(*Uniform(1 << BITS).interval(bins.reshape(-1)))
            return
        stack.push(*self.normals.of(len(bins), which).interval(bins.reshape(-1)))
        if which is not None:
            stack.push(*self._component_levels(len(bins)).interval(which))

    def pop(self, stack: Stack, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Take (bins ``[B, Z]``, components ``[B]``) from the stack."""
        if self.normals is None:
            return stack.pop(Uniform(1 << BITS).find, rows * dim).reshape(rows, dim), None
        which = None
        if isinstance(self.p, d.NormalMixture):
            which = stack.pop(self._component_levels(rows).find, rows)
        return stack.pop(self.normals.of(rows, which).find, rows * dim).reshape(rows, dim), which

    def pop_component(self, stack: Stack, z: Tensor, rounding: Rounding) -> np.ndarray | None:
        """Take components ``[B]`` from the stack, with probability p(component|z); None if there are none."""
        if not isinstance(self.p, d.NormalMixture):
            return None
        return stack.pop(self._component_shares(z, rounding).find, len(z), turned=True)

    def push_component(self, stack: Stack, z: Tensor, which: np.ndarray | None, rounding: Rounding) -> None:
        """Put the components back."""
        if which is not None:
            stack.push(*self._component_shares(z, rounding).interval(which), turned=True)

    def _posterior(self, q: Any, rounding: Rounding) -> NormalBins:
        require_posterior(q, d.DiagonalNormal)
        return Normals(q.loc, q.variance, self, rounding).of(len(q.loc))

    def pop_posterior(self, stack: Stack, q: Any, rounding: Rounding) -> np.ndarray:
        """Take the bins ``[B, Z]`` of a draw of q from the stack."""
        return stack.pop(self._posterior(q, rounding).find, q.loc.numel(), turned=True).reshape(q.loc.shape)

    def push_posterior(self, stack: Stack, numbers: np.ndarray, q: Any, rounding: Rounding) -> None:
        """Put the bins of the draw back on the stack."""
        stack.push(*self._posterior(q, rounding).interval(numbers.reshape(-1)), turned=True)


class Quantiles(Bins):
    """Real numbers as bins that are equally likely under a normal of each row: N(shift, unit^2), where location and
    scale of p ``[B, Z]`` are rounded to 1/256 of a standard deviation and to 1/64 of its logarithm."""

    def __init__(self, p: d.DiagonalNormal, rounding: Rounding):
        unit = scale_of(rounding(p.variance.sqrt().log().numpy(), SCALE))
        self.p, self.normals, self.dim = p, None, p.loc.shape[-1]
        self.unit = torch.from_numpy(unit)
        self.shift = torch.from_numpy(rounding((p.loc / self.unit).numpy(), 2.0**-8) * 2.0**-8 * unit)


class Normals:
    """Diagonal normals ``[..., Z]``, as distributions over the bins of a prior."""

    def __init__(self, loc: Tensor, variance: Tensor, prior: Bins, rounding: Rounding):
        self.location = rounding(((loc - prior.shift) / prior.unit).numpy(), STEP) * STEP
        self.log_scale = rounding((variance.sqrt() / prior.unit).log().numpy(), SCALE)

    def of(self, rows: int, which: np.ndarray | None = None) -> NormalBins:
        """The bins of ``rows`` x Z cells; if there are components, each row uses the normals of its component."""
        found = [part[..., which, :] if which is not None else np.broadcast_to(part, (rows, part.shape[-1]))
                 for part in (self.location, self.log_scale)]  # fmt: skip
        return NormalBins(_bins()[0], *(part.reshape(-1) for part in found))


def require_prior(p: Any) -> None:
    """Raise ``InputError`` unless codes can be coded under the prior."""
    mixture = isinstance(p, d.NormalMixture) and type(p) is d.NormalMixture and not p.batch_shape
    if not (type(p) is d.DiagonalNormal or mixture):
        raise InputError(
            "compress takes priors that are normals, mixtures of normals, categories or entries of codebooks; the "
            f"prior of this run is {type(p).__name__}",
            "fit with --recipe vae",
        )


def require_posterior(q: Any, kind: type) -> None:
    """Raise ``InputError`` unless the posterior is of this kind, so that the coder can draw codes from it."""
    if type(q) is not kind:
        raise InputError(
            f"compress takes {kind.__name__} posteriors under the prior of this run, not {type(q).__name__}",
            "fit with --recipe vae",
        )
