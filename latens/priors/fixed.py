"""Priors without parameters: on spheres, tori, balls and grids, and over categories."""

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
    """Base of priors without parameters, each on its own space.

    ``like`` is a point of the space, ``[Z]``, from which size, type and device are taken.
    """

    reads: tuple[str, ...] = ()
    like: Tensor

    def __init__(self, dim: int, least: int = 1):
        super().__init__()
        require(is_whole(dim) and dim >= least, "the latent dimension", f"a whole number from {least}", dim)
        self.dim = int(dim)
        self.register_buffer("like", torch.zeros(self.dim), persistent=False)

    def project(self, z: Tensor) -> Tensor:
        """The point of the space nearest to z ``[..., Z]``, so that lines and walks through codes stay where the
        decoder was trained.
        """
        raise NotImplementedError


class UniformSphere(_Fixed):
    """p(z) uniform on the unit sphere in ``dim`` >= 2 dimensions (Davidson et al. 2018); ``ValueError`` for fewer."""

    def __init__(self, dim: int):
        super().__init__(dim, 2)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over unit vectors ``[dim]``."""
        return distributions.SphereUniform(self.like)

    def project(self, z: Tensor) -> Tensor:
        """z / norm of z, ``[..., dim]``."""
        return normalize(z, dim=-1)


class UniformTorus(_Fixed):
    """p(z) uniform on ``dim`` circles; the code of each circle is (cos t, sin t), so a code has ``2 dim`` numbers."""

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[2 dim]``."""
        return distributions.Flat(distributions.SphereUniform(self.like.unsqueeze(-1).expand(-1, 2)))

    def project(self, z: Tensor) -> Tensor:
        """The nearest point of each circle, ``[..., 2 dim]``."""
        return normalize(z.unflatten(-1, (-1, 2)), dim=-1).flatten(-2)


class BallNormal(_Fixed):
    """p(z) around 0 in the Poincaré ball of curvature -c: a wrapped or a Riemannian normal (Mathieu et al. 2019).

    Args:
        dim: the dimensions of the ball, n.
        c: the ball has curvature -c, c > 0.
        scale: the square root of the variance; "auto" is 1, or less if 1 would reach too close to the boundary (volume
            grows with the dimension). ``InputError`` for a larger scale.
        riemannian: whether the normal is Riemannian instead of wrapped.
    """

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
        """p(z) over points of the ball ``[dim]``."""
        like = self.like[0] if self.riemannian else self.like
        return self.kind(self.like, torch.full_like(like, self.scale**2), self.c)

    def project(self, z: Tensor) -> Tensor:
        """z, pulled back inside the ball, ``[..., dim]``."""
        return inside(z, self.c)


class UniformCategories(_Fixed):
    """p(z) of ``dim`` independent variables with K equally likely categories each; codes are ``[dim * K]``.

    Args:
        dim: the number of variables.
        categories: K, at least 2.
        temperature: None for one-hot codes; a number in (0, 1000] for codes relaxed to the simplex.
    """

    def __init__(self, dim: int, categories: int, temperature: float | None = None):
        super().__init__(dim)
        require(is_whole(categories) and categories >= 2, "categories", "a whole number from 2", categories)
        good = temperature is None or (is_number(temperature) and 0 < temperature <= 1000)
        require(good, "the temperature of the prior", "a positive number up to 1,000", temperature)
        self.categories, self.temperature = int(categories), temperature

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[dim * K]``."""
        logits = self.like.unsqueeze(-1).expand(-1, self.categories)
        if self.temperature is None:
            return distributions.OneHot(logits)
        return distributions.Relaxed(logits, self.temperature)

    def project(self, z: Tensor) -> Tensor:
        """The nearest one-hot vectors; with a temperature, the nearest points of the simplices, ``[..., dim * K]``."""
        z = z.unflatten(-1, (-1, self.categories))
        if self.temperature is not None:
            return normalize(z.clamp_min(1e-6), p=1, dim=-1).flatten(-2)
        return torch.zeros_like(z).scatter(-1, z.argmax(-1, keepdim=True), 1.0).flatten(-2)


class NormalAndCategoriesPrior(nn.Module):
    """p(z) = N(0, I) in ``dim`` dimensions, next to ``variables`` with equally likely categories (Dupont 2018)."""

    reads: tuple[str, ...] = ()

    def __init__(self, dim: int, variables: int, categories: int):
        super().__init__()
        self.numbers, self.kinds = StandardNormal(dim), UniformCategories(variables, categories)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[dim + variables * categories]``."""
        return distributions.Joint([self.numbers(), self.kinds()])

    def project(self, z: Tensor) -> Tensor:
        """Codes ``[..., Z]`` with the numbers unchanged and the categories as the nearest one-hot vectors."""
        numbers, kinds = z.tensor_split([self.numbers.dim], -1)
        return torch.cat([numbers, self.kinds.project(kinds)], -1)


class UniformCodesPrior(_Fixed):
    """p(z) of V positions, each of which is one of the equally likely codes of a codebook: ln p = -V L ln K.

    Args:
        book: a module with ``codes`` ``[L, K, D]``, shared with the posterior.
        positions: the number of positions, V.
        layout: (rows, columns) if the positions form a grid, for densities of codes that depend on neighbours.
    """

    def __init__(self, book: nn.Module, positions: int, layout: tuple[int, int] | None = None):
        super().__init__(positions)
        self.book, self.layout = book, layout

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[V * D]``."""
        return distributions.UniformCodes(self.book.codes.detach(), self.dim)  # type: ignore[operator]

    def project(self, z: Tensor) -> Tensor:
        """The nearest codes of the codebook, ``[..., V * D]``."""
        codes, _ = self.book(z.unflatten(-1, (self.dim, -1)))
        return codes.flatten(-2)


class FiniteGrid(nn.Module):
    """``levels`` evenly spaced numbers in [-1, 1], as a codebook of codes with one dimension (Mentzer et al. 2024)."""

    codes: Tensor

    def __init__(self, levels: int):
        super().__init__()
        require(is_whole(levels) and levels >= 2, "levels", "a whole number from 2", levels)
        self.register_buffer("codes", torch.linspace(-1, 1, levels).view(1, -1, 1), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(nearest numbers ``[..., 1]``, their indices ``[..., 1]``)."""
        book = self.codes[0, :, 0]
        index = (z - book).abs().argmin(-1, keepdim=True)
        return book[index], index
