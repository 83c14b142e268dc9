"""What latens requires of a distribution beyond torch's own interface."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.kl import canonical
from latens.distributions.located import Located
from latens.tensors.numerics import surely_missing
from latens.tensors.randomness import seeded
from latens.tensors.trees import Tree

REDRAWS = 30  # a cell outside the range of the data is drawn again at most this many times
_beyond = False
_limits: tuple[Tensor, Tensor] | None = None


@contextlib.contextmanager
def extrapolating(on: bool = True) -> Iterator[None]:
    """In this context, draws of a table's columns may lie outside the range of the data, if the density is positive."""
    global _beyond
    before, _beyond = _beyond, on
    try:
        yield
    finally:
        _beyond = before


def is_extrapolating() -> bool:
    """Whether the context :func:`extrapolating` is active."""
    return _beyond


@contextlib.contextmanager
def drawing_within(limits: tuple[np.ndarray, np.ndarray] | None) -> Iterator[None]:
    """In this context, :class:`latens.distributions.Observed` repeats draws of cells outside these ``limits``, which
    broadcast against rows of an array. It does not if :func:`extrapolating` is active too."""
    global _limits
    before, _limits = _limits, None if limits is None else (torch.from_numpy(limits[0]), torch.from_numpy(limits[1]))
    try:
        yield
    finally:
        _limits = before


def drawn_again(x: Tensor, draw: Callable[[], Tensor]) -> Tensor:
    """x, with each cell outside the limits of :func:`drawing_within` replaced by another ``draw``, at most ``REDRAWS``
    times."""
    if _limits is None or _beyond:
        return x
    low, high = (end.to(x) for end in _limits)
    for _ in range(REDRAWS):
        beyond = (x < low) | (x > high)
        if not beyond.any():
            break
        x = torch.where(beyond, draw(), x)
    return x


class PointMass(Located):
    """All mass at ``loc`` ``[..., Z]``: the posterior of a plain autoencoder.

    It has no density: ``log_prob`` raises ``ValueError``, so that whatever needs a density is refused and none is
    invented.
    """

    @property
    def variance(self) -> Tensor:
        """Zeros, ``[..., Z]``."""
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Copies of ``loc``, ``[*sample_shape, ..., Z]``."""
        return self.loc.expand([*sample_shape, *self.loc.shape])

    def log_prob(self, value: Tensor) -> Tensor:
        """Raises ``ValueError``, as there is no density."""
        raise ValueError("a point mass has no density: use a posterior with a density for rates and likelihoods")


def rsample_and_log_prob(q: Distribution, k: int) -> tuple[Tree, Tensor | None]:
    r"""k reparameterised draws z of q, ``[K, B, Z]``, and :math:`\ln q(z \mid x)`, ``[K, B]``, in nats.

    A distribution may give both at once by a method of this name (as a flow does, which caches its inverse). For a
    point mass the density is ``None``. ``ValueError`` if q cannot be reparameterised.

    >>> from latens.distributions import DiagonalNormal
    >>> z, log_q = rsample_and_log_prob(DiagonalNormal(torch.zeros(4, 2), torch.ones(4, 2)), 3)
    >>> z.shape, log_q.shape
    (torch.Size([3, 4, 2]), torch.Size([3, 4]))
    """
    if isinstance(q, PointMass):
        return q.rsample((k,)), None
    if hasattr(q, "rsample_and_log_prob"):
        return q.rsample_and_log_prob(k)
    if not q.has_rsample:
        raise ValueError(f"{type(q).__name__} cannot be reparameterised: use a posterior that has rsample")
    z = canonical(q).rsample(torch.Size((k,)))
    return z, q.log_prob(z)


def has_row_noise(q: Distribution) -> bool:
    """Whether q draws by :func:`latens.tensors.randomness.standard_normal`, and so follows its layout of noise."""
    return bool(getattr(canonical(q), "row_noise", False))


def center(px: Distribution) -> Tensor:
    """The value that stands for a distribution, in the shape of a draw.

    It is the mean; for categories the mode; on a sphere the mean direction. If none of these is known, as for flows, it
    is the mean of 256 fixed draws.
    """
    return _first_known(px, "center", "mean", "mode")


def flat_mean(q: Distribution) -> Tensor:
    """E[z] in coordinates in which a mean makes sense, in the shape of a draw.

    It lies inside the sphere and between the categories, while :func:`center` lies on the sphere and on a category. In
    a hyperbolic space it is the ``tangent`` vector at 0; otherwise it equals :func:`center`.
    """
    return _first_known(q, "tangent", "mean", "center", "mode")


def _first_known(px: Distribution, *names: str) -> Tensor:
    for name in names:
        try:
            value = getattr(px, name, None)
        except NotImplementedError:
            continue
        ours = name in ("center", "tangent")  # if these exist, they are known; torch's mean is NaN if unknown
        if value is not None and (ours or not isinstance(value, Tensor) or not surely_missing(value)):
            return value
    with seeded(0):
        return px.sample(torch.Size((256,))).mean(0)
