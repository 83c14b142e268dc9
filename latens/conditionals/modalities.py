"""Posteriors and likelihoods of several modalities, any of which may be missing.

x is a mapping of modalities, or one array that holds them in pieces. A modality is missing in a row if all of its cells
are NaN, and in every row if x lacks its key (whole numbers cannot be NaN: omit the key, or give floats).
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

SUBSETS = 8  # all subsets are used for at most this many modalities


class Experts(nn.Module):
    r"""The experts :math:`q_m(z \mid x_m)`, diagonal normals, and their combination, which a subclass defines.

    Args:
        experts: the posterior of each modality, by name; all read the same conditions.
        pieces: how one array holds the modalities, if x is an array.
    """

    def __init__(self, experts: Mapping[str, nn.Module], pieces: Pieces | None = None):
        super().__init__()
        self.experts, self.pieces = nn.ModuleDict(experts), pieces

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of the condition that any part sees."""
        return tuple(dict.fromkeys(key for part in self.children_reading() for key in part.reads))  # type: ignore[union-attr]

    def children_reading(self) -> list[nn.Module]:
        """The parts that may read a condition."""
        return list(self.experts.values())

    def parts(self, x: Tree) -> dict[str, Tensor]:
        """x as a mapping of its modalities, each ``[B, *event]``; ``ValueError`` for an unknown one."""
        if isinstance(x, Tensor):
            if self.pieces is None:
                raise ValueError(f"x must be a mapping of {', '.join(self.experts)}")
            return self.pieces.split(x)
        unknown = [name for name in x if name not in self.experts]
        if unknown:
            raise ValueError(f"there is no modality {unknown[0]!r}: use {', '.join(self.experts)}")
        return dict(x)

    def opinions(self, x: Tree, c: Tree = None) -> tuple[list[d.DiagonalNormal], Tensor]:
        r"""(:math:`q_m(z \mid x_m)` for each modality of x; whether it is present in each row, ``[B, M]``)."""
        normals, present = [], []
        for name, part in self.parts(x).items():
            there = torch.ones(part.shape[0], dtype=torch.bool, device=part.device)
            if part.is_floating_point():
                there = ~part.isnan().flatten(1).all(1)
                part = torch.where(there.view(-1, *[1] * (part.dim() - 1)), part, 0.0)
            normals.append(self.experts[name](part, c))
            present.append(there)
        return normals, torch.stack(present, -1)

    def forward(self, x: Tree, c: Tree = None) -> Distribution:
        """q(z|x) over codes ``[B, Z]``."""
        return self.together(*self.opinions(x, c))

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        """q(z|x) from the experts' normals ``[B, Z]``, and which of them are present ``[B, M]``."""
        raise NotImplementedError


class ProductOfExperts(Experts):
    r"""The product of the prior and the experts of all present modalities (Wu & Goodman 2018).

    .. math:: q(z \mid x) \propto \mathcal{N}(z; 0, I) \prod_m q_m(z \mid x_m)
    """

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        """The product, a diagonal normal over ``[B, Z]``."""
        return product(normals, present, with_prior=True)


class MixtureOfExperts(Experts):
    r"""The equally weighted mixture of the experts of all present modalities; N(0, I) if there are none (Shi et al.
    2019).

    .. math:: q(z \mid x) = \frac1M \sum_m q_m(z \mid x_m)
    """

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        """The mixture, over ``[B, Z]``."""
        return mixture_of_products(normals, present, [(m,) for m in range(len(normals))])


class MixtureOfProducts(Experts):
    """The equally weighted mixture over all non-empty subsets of the present modalities, each with the product of its
    experts.

    It is N(0, I) if no modality is present (Sutter, Daunhawer & Vogt 2021). ``InputError`` for more than 8 modalities.
    """

    def __init__(self, experts: Mapping[str, nn.Module], pieces: Pieces | None = None):
        super().__init__(experts, pieces)
        if len(experts) > SUBSETS:
            raise InputError(
                f"a mixture over all subsets takes at most {SUBSETS} modalities, got {len(experts)}",
                "use fewer, or a product or mixture of experts",
            )

    def together(self, normals: list[d.DiagonalNormal], present: Tensor) -> Distribution:
        """The mixture, over ``[B, Z]``."""
        every = range(len(normals))
        subsets = [s for size in every for s in itertools.combinations(every, size + 1)]
        return mixture_of_products(normals, present, subsets)


class JointAndSingles(Experts):
    """The posterior of a ``joint`` network if all modalities are present, else the product of the experts.

    The experts learn to agree with the joint network (Suzuki, Nakayama & Matsuo 2016). The posterior is N(0, I) if no
    modality is present.
    """

    def __init__(self, experts: Mapping[str, nn.Module], joint: nn.Module, pieces: Pieces | None = None):
        super().__init__(experts, pieces)
        self.joint = joint

    def children_reading(self) -> list[nn.Module]:
        """The experts and the joint network."""
        return [*self.experts.values(), self.joint]

    def forward(self, x: Tree, c: Tree = None) -> Distribution:
        """q(z|x), a diagonal normal over ``[B, Z]``."""
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
    """The data with zeros for missing cells; the network's output for rows with missing modalities is ignored."""
    if isinstance(x, Tensor):
        return torch.where(x.isnan(), 0.0, x) if x.is_floating_point() else x
    return {name: _filled(part) for name, part in x.items()}


class ByModality(nn.Module):
    r"""A likelihood for each modality; modalities are independent given z.

    .. math:: p(x \mid z) = \prod_m p_m(x_m \mid z)

    Raises:
        InputError: a modality has the optimal variance, which is defined only for a single array.
    """

    def __init__(self, likelihoods: Mapping[str, nn.Module], pieces: Pieces | None = None):
        super().__init__()
        for name, part in likelihoods.items():
            if hasattr(part, "observe") and getattr(part, "mode", "") == "optimal":
                raise InputError(
                    f"modality {name!r} has the optimal variance, which only a single array can have",
                    "use variance='learned' or a number",
                )
        self.likelihoods, self.pieces = nn.ModuleDict(likelihoods), pieces

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of the condition that any part sees."""
        return tuple(dict.fromkeys(key for part in self.likelihoods.values() for key in part.reads))  # type: ignore[union-attr]

    def forward(self, z: Tree, c: Tree = None) -> d.Modalities:
        """p(x|z) of all modalities, given z and conditions ``[B]``."""
        return d.Modalities({name: part(z, c) for name, part in self.likelihoods.items()}, self.pieces)
