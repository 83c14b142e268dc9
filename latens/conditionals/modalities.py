"""Posteriors and likelihoods of several modalities, any of which may be missing.

x is a mapping of modalities, or one array that holds them in pieces. A modality is missing in a row where all of its
cells there are NaN, and in every row where x has no such key (whole numbers have no NaN: leave the key out, or give
floats).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.distributions.modalities import Pieces, mixture_of_products, product
from latens.errors import InputError
from latens.tensors.trees import Tree

SUBSETS = 8  # modalities of which all subsets are taken


class Experts(nn.Module):
    """What the experts q_m(z|x_m), diagonal normals, say together; a subclass says how. They all read c alike."""

    def __init__(self, experts: Mapping[str, nn.Module], pieces: Pieces | None = None):
        super().__init__()
        self.experts, self.pieces = nn.ModuleDict(experts), pieces

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for part in self.children_reading() for key in part.reads))  # type: ignore[union-attr]

    def children_reading(self) -> list[nn.Module]:
        return list(self.experts.values())

    def parts(self, x: Tree) -> dict[str, Tensor]:
        """x as a mapping of the modalities that are there."""
        if isinstance(x, Tensor):
            if self.pieces is None:
                raise ValueError(f"x must be a mapping of {', '.join(self.experts)}")
            return self.pieces.split(x)
        unknown = [name for name in x if name not in self.experts]
        if unknown:
            raise ValueError(f"there is no modality {unknown[0]!r}; there are {', '.join(self.experts)}")
        return dict(x)

    def opinions(self, x: Tree, c: Tree = None) -> tuple[list[d.DiagonalNormal], Tensor]:
        """(q_m(z|x_m) of each modality that x has, whether it is present ``[B, M]``)."""
        normals, present = [], []
        for name, part in self.parts(x).items():
            there = torch.ones(len(part), dtype=torch.bool, device=part.device)
            if part.is_floating_point():
                there = ~part.isnan().flatten(1).all(1)
                part = torch.where(there.view(-1, *[1] * (part.dim() - 1)), part, 0.0)
            normals.append(self.experts[name](part, c))
            present.append(there)
        return normals, torch.stack(present, -1)

    def forward(self, x: Tree, c: Tree = None) -> Distribution:
        return self.together(*self.opinions(x, c))

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        raise NotImplementedError


class ProductOfExperts(Experts):
    """q(z|x) ∝ N(z; 0, I) prod_m q_m(z|x_m) over the modalities present (Wu & Goodman 2018)."""

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        return product(normals, present, with_prior=True)


class MixtureOfExperts(Experts):
    """q(z|x) = 1/M sum_m q_m(z|x_m) over the modalities present; N(0, I) where none is (Shi et al. 2019)."""

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        return mixture_of_products(normals, present, [(m,) for m in range(len(normals))])


class MixtureOfProducts(Experts):
    """q(z|x): the even mixture over all non-empty subsets of the modalities present, each the product of its experts;
    N(0, I) where none is (Sutter, Daunhawer & Vogt 2021)."""

    def __init__(self, experts: Mapping[str, nn.Module], pieces: Pieces | None = None):
        super().__init__(experts, pieces)
        if len(experts) > SUBSETS:
            raise InputError(
                f"a mixture over all subsets takes at most {SUBSETS} modalities, got {len(experts)}: use fewer, or a "
                "product or mixture of experts"
            )

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        every = range(len(normals))
        subsets = [s for size in every for s in itertools.combinations(every, size + 1)]
        return mixture_of_products(normals, present, subsets)


class JointAndSingles(Experts):
    """q(z|x) of a ``joint`` network where all modalities are present, else the product of the experts that are, which
    learn to agree with it; N(0, I) where none is (Suzuki, Nakayama & Matsuo 2016)."""

    def __init__(self, experts: Mapping[str, nn.Module], joint: nn.Module, pieces: Pieces | None = None):
        super().__init__(experts, pieces)
        self.joint = joint

    def children_reading(self) -> list[nn.Module]:
        return [*self.experts.values(), self.joint]

    def forward(self, x: Tree, c: Tree = None) -> Distribution:
        normals, present = self.opinions(x, c)
        some = product(normals, present, with_prior=False)
        if len(normals) < len(self.experts):
            return some
        whole = present.all(-1, keepdim=True)
        q = self.joint(_filled(x), c)
        return d.DiagonalNormal(
            torch.where(whole, q.loc, some.loc), torch.where(whole, q.variance, some.variance)
        )


def _filled(x: Tree) -> Tree:
    """The rows of missing modalities as zeros: what is said of them is not used."""
    if isinstance(x, Tensor):
        return torch.where(x.isnan(), 0.0, x) if x.is_floating_point() else x
    return {name: _filled(part) for name, part in x.items()}


class ByModality(nn.Module):
    """p(x|z) = prod_m p_m(x_m|z), a likelihood a modality."""

    def __init__(self, likelihoods: Mapping[str, nn.Module], pieces: Pieces | None = None):
        super().__init__()
        for name, part in likelihoods.items():
            if hasattr(part, "observe") and getattr(part, "mode", "") == "optimal":
                raise InputError(
                    f"the optimal variance is that of one array, and modality {name!r} is one of several: use "
                    "variance='learned' or a number"
                )
        self.likelihoods, self.pieces = nn.ModuleDict(likelihoods), pieces

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for part in self.likelihoods.values() for key in part.reads))  # type: ignore[union-attr]

    def forward(self, z: Tree, c: Tree = None) -> d.Modalities:
        return d.Modalities({name: part(z, c) for name, part in self.likelihoods.items()}, self.pieces)
