"""What latens asks of a distribution, beyond torch's own interface."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.kl import canonical
from latens.distributions.located import Located
from latens.tensors.randomness import seeded
from latens.tensors.trees import Tree

_beyond = False


@contextlib.contextmanager
def extrapolating(on: bool = True) -> Iterator[None]:
    """Inside, draws of a table's columns go on beyond the range of the data where the density does."""
    global _beyond
    before, _beyond = _beyond, on
    try:
        yield
    finally:
        _beyond = before


def is_extrapolating() -> bool:
    return _beyond


class PointMass(Located):
    """All mass at ``loc`` (event: the last axis): the posterior of a plain autoencoder.

    It has no density: ``log_prob`` raises, and whatever would need one is refused rather than invented.
    """

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        return self.loc.expand([*sample_shape, *self.loc.shape])

    def log_prob(self, value: Tensor) -> Tensor:
        raise ValueError("a point mass has no density; use a posterior with a density for rates and likelihoods")


def rsample_and_log_prob(q: Distribution, k: int) -> tuple[Tree, Tensor | None]:
    """k reparameterised draws of q and their log-density: z ``[K, B, Z]``, log q(z|x) ``[K, B]``.

    A distribution may answer both at once through a method of this name (a flow that caches its inverse);
    a point mass answers ``None`` for the density. Raises ``ValueError`` for a q that cannot be
    reparameterised.
    """
    if isinstance(q, PointMass):
        return q.rsample((k,)), None
    if hasattr(q, "rsample_and_log_prob"):
        return q.rsample_and_log_prob(k)
    if not q.has_rsample:
        raise ValueError(f"{type(q).__name__} cannot be reparameterised, so it cannot serve as a posterior here")
    z = canonical(q).rsample(torch.Size((k,)))
    return z, q.log_prob(z)


def has_row_noise(q: Distribution) -> bool:
    """Whether q draws through :func:`latens.tensors.randomness.standard_normal` and so follows the noise layout."""
    return bool(getattr(canonical(q), "row_noise", False))


def center(px: Distribution) -> Tensor:
    """The value that stands for a distribution: its mean, its mode where values are categories, a direction on a
    sphere, and the mean of 256 draws (always the same ones) where torch knows none of them, as for flows.
    """
    return _first_known(px, "center", "mean", "mode")


def flat_mean(q: Distribution) -> Tensor:
    """E[z] in coordinates in which it is a mean: inside the sphere and between the categories, where :func:`center` is
    on them, and for a curved space the ``tangent`` vector at 0; elsewhere the same as :func:`center`."""
    return _first_known(q, "tangent", "mean", "center", "mode")


def _first_known(px: Distribution, *names: str) -> Tensor:
    for name in names:
        try:
            value = getattr(px, name, None)
        except NotImplementedError:
            continue
        ours = name in ("center", "tangent")  # known where they are there; torch gives a mean of NaN for an unknown one
        if value is not None and (ours or not isinstance(value, Tensor) or not torch.isnan(value).all()):
            return value
    with seeded(0):
        return px.sample(torch.Size((256,))).mean(0)
