"""Priors with nothing to learn, on spheres, tori, balls and grids, and of categories."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize

from latens import distributions
from latens.distributions.hyperbolic import inside
from latens.errors import is_number, is_whole, require
from latens.priors.normal import StandardNormal
from latens.tensors.trees import Tree


class _Fixed(nn.Module):
    """Base of priors without parameters on a space of their own.

    ``like`` is a point of the space ``[Z]``: size, type and device. ``project`` brings any vector to the nearest point
    of the space, so that straight lines and walks through codes stay where the decoder has been.
    """

    reads: tuple[str, ...] = ()
    like: Tensor

    def __init__(self, dim: int, least: int = 1):
        super().__init__()
        require(is_whole(dim) and dim >= least, "the latent dimension", f"a whole number from {least}", dim)
        self.dim = int(dim)
        self.register_buffer("like", torch.zeros(self.dim), persistent=False)

    def project(self, z: Tensor) -> Tensor:
        raise NotImplementedError


class UniformSphere(_Fixed):
    """p(z) uniform on the unit sphere of R^dim (Davidson et al. 2018). Raises ``ValueError`` for dim < 2."""

    def __init__(self, dim: int):
        super().__init__(dim, 2)

    def forward(self, c: Tree = None) -> Distribution:
        return distributions.SphereUniform(self.like)

    def project(self, z: Tensor) -> Tensor:
        return normalize(z, dim=-1)


class UniformTorus(_Fixed):
    """p(z) uniform on ``dim`` circles; the code of each is (cos t, sin t), ``[2 dim]`` in all."""

    def forward(self, c: Tree = None) -> Distribution:
        return distributions.Flat(distributions.SphereUniform(self.like.unsqueeze(-1).expand(-1, 2)))

    def project(self, z: Tensor) -> Tensor:
        return normalize(z.unflatten(-1, (-1, 2)), dim=-1).flatten(-2)


class BallNormal(_Fixed):
    """p(z) about 0 in the Poincare ball of curvature -c with the given ``scale``: wrapped, or with ``riemannian`` the
    Riemannian normal (Mathieu et al. 2019). "auto": 1, or less where that would reach too near the boundary, as volume
    grows with the dimension; a wider scale is refused with ``InputError``."""

    def __init__(self, dim: int, c: float = 1.0, scale: float | str = "auto", riemannian: bool = False):
        super().__init__(dim)
        require(is_number(c) and 1e-6 <= c <= 1e6, "the curvature", "a number from 1e-6 to 1e6", c)
        self.kind = distributions.RiemannianNormal if riemannian else distributions.WrappedNormal
        most = math.sqrt(self.kind.widest(self.dim, c))
        scale = min(1.0, most) if scale == "auto" else scale
        valid = is_number(scale) and 1e-6 <= scale <= most * (1 + 1e-9)
        here = f"a number from 1e-6 to {most:.3g} in {dim} dimensions at curvature {c:g}, or 'auto'"
        require(valid, "the scale of the prior", here, scale)
        self.c, self.scale, self.riemannian = float(c), float(scale), riemannian

    def forward(self, c: Tree = None) -> Distribution:
        like = self.like[0] if self.riemannian else self.like
        return self.kind(self.like, torch.full_like(like, self.scale**2), self.c)

    def project(self, z: Tensor) -> Tensor:
        return inside(z, self.c)


class UniformCategories(_Fixed):
    """p(z) of ``dim`` independent variables with ``categories`` equal ones each: one-hot, or with a ``temperature``
    relaxed to the simplex. Codes are ``[dim * categories]``."""

    def __init__(self, dim: int, categories: int, temperature: float | None = None):
        super().__init__(dim)
        require(is_whole(categories) and categories >= 2, "categories", "a whole number from 2", categories)
        good = temperature is None or (is_number(temperature) and 0 < temperature <= 1000)
        require(good, "the temperature of the prior", "a positive number up to 1,000", temperature)
        self.categories, self.temperature = int(categories), temperature

    def forward(self, c: Tree = None) -> Distribution:
        logits = self.like.unsqueeze(-1).expand(-1, self.categories)
        if self.temperature is None:
            return distributions.OneHot(logits)
        return distributions.Relaxed(logits, self.temperature)

    def project(self, z: Tensor) -> Tensor:
        z = z.unflatten(-1, (-1, self.categories))
        if self.temperature is not None:
            return normalize(z.clamp_min(1e-6), p=1, dim=-1).flatten(-2)
        return torch.zeros_like(z).scatter(-1, z.argmax(-1, keepdim=True), 1.0).flatten(-2)


class NormalAndCategoriesPrior(nn.Module):
    """p(z) = N(0, I) in ``dim`` dimensions beside ``variables`` of equal categories (Dupont 2018)."""

    reads: tuple[str, ...] = ()

    def __init__(self, dim: int, variables: int, categories: int):
        super().__init__()
        self.numbers, self.kinds = StandardNormal(dim), UniformCategories(variables, categories)

    def forward(self, c: Tree = None) -> Distribution:
        return distributions.Joint([self.numbers(), self.kinds()])

    def project(self, z: Tensor) -> Tensor:
        numbers, kinds = z.tensor_split([self.numbers.dim], -1)
        return torch.cat([numbers, self.kinds.project(kinds)], -1)


class UniformCodesPrior(_Fixed):
    """p(z) of ``positions`` codes, each drawn from all entries of a ``book`` (a module with ``codes`` ``[L, K, D]``,
    shared with the posterior) with equal mass: ln p = -positions L ln K. ``layout``: (rows, columns) where the
    positions form a grid, for densities of codes that look at neighbours."""

    def __init__(self, book: nn.Module, positions: int, layout: tuple[int, int] | None = None):
        super().__init__(positions)
        self.book, self.layout = book, layout

    def forward(self, c: Tree = None) -> Distribution:
        return distributions.UniformCodes(self.book.codes.detach(), self.dim)  # type: ignore[operator]

    def project(self, z: Tensor) -> Tensor:
        codes, _ = self.book(z.unflatten(-1, (self.dim, -1)))
        return codes.flatten(-2)


class FiniteGrid(nn.Module):
    """``levels`` evenly spaced numbers in [-1, 1] as a book of codes of one dimension (Mentzer et al. 2024)."""

    codes: Tensor

    def __init__(self, levels: int):
        super().__init__()
        require(is_whole(levels) and levels >= 2, "levels", "a whole number from 2", levels)
        self.register_buffer("codes", torch.linspace(-1, 1, levels).view(1, -1, 1), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        book = self.codes[0, :, 0]
        index = (z - book).abs().argmin(-1, keepdim=True)
        return book[index], index
