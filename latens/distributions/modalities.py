"""Several kinds of data about one row, and what experts for each kind say about its codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.base import center
from latens.distributions.mixture import NormalMixture
from latens.distributions.normal import DiagonalNormal
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree


class Pieces:
    """How one array holds several modalities: ``sizes`` along ``axis`` (counted from the end), by name.

    >>> pieces = Pieces({"left": 1, "right": 2}, -1)
    >>> {name: part.tolist() for name, part in pieces.split(torch.arange(3.0)).items()}
    {'left': [0.0], 'right': [1.0, 2.0]}
    """

    def __init__(self, sizes: Mapping[str, int], axis: int):
        self.sizes, self.axis = dict(sizes), axis

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """The modalities of an array, by name."""
        return dict(zip(self.sizes, x.split(list(self.sizes.values()), self.axis), strict=True))

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The array that holds the given modalities."""
        return torch.cat([parts[name] for name in self.sizes], self.axis)


class Modalities(Distribution):
    r"""Modalities that are independent given the codes, by name.

    .. math:: \ln p(x) = \sum_{m \text{ present}} \ln p_m(x_m)

    A modality that is not a key of x is missing; if a modality is NaN in a row, its own distribution treats it as
    unobserved there. ``ValueError`` if the parts differ in batch shape.

    Args:
        parts: the distribution of each modality.
        pieces: if given, samples are one array that holds all modalities, and x may be such an array too.
    """

    arg_constraints: dict = {}

    def __init__(self, parts: Mapping[str, Distribution], pieces: Pieces | None = None):
        self.parts, self.pieces = dict(parts), pieces
        first, *others = (part.batch_shape for part in self.parts.values())  # no set, as traced sizes are unhashable
        if any(shape != first for shape in others):
            shapes = sorted({tuple(part.batch_shape) for part in self.parts.values()})
            raise ValueError(f"all modalities must have the same batch shape, got {shapes}")
        super().__init__(torch.Size(first), validate_args=False)

    def _each(self, evaluate: Callable[[Distribution], Tensor]) -> Tree:
        found = {name: evaluate(part) for name, part in self.parts.items()}
        return found if self.pieces is None else self.pieces.join(found)

    @property
    def center(self) -> Tree:
        """The value that stands for each modality, as a mapping or, if there are ``pieces``, as one array."""
        return self._each(center)

    @property
    def mean(self) -> Tree:
        """The mean of each modality, as a mapping or, if there are ``pieces``, as one array."""
        return self._each(lambda part: part.mean)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tree:
        """Draws of each modality, as a mapping or, if there are ``pieces``, as one array."""
        return self._each(lambda part: part.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tree) -> Tensor:
        """The sum of ln p over the modalities that ``value`` has, in nats, ``[...]``; ``ValueError`` for an unknown
        modality.
        """
        if isinstance(value, Tensor):
            if self.pieces is None:
                raise ValueError(f"x must be a mapping of {', '.join(self.parts)}")
            value = self.pieces.split(value)
        unknown = [name for name in value if name not in self.parts]
        if unknown:
            raise ValueError(f"there is no modality {unknown[0]!r}: use {', '.join(self.parts)}")
        terms = [self.parts[name].log_prob(part) for name, part in value.items()]
        return sum(terms[1:], terms[0])


class ExpertMixture(NormalMixture):
    """A mixture of normals as a posterior, ``[B, J, Z]``.

    Its weights are fixed, not learned, so that a draw from a randomly chosen component carries the whole gradient. The
    component is chosen with noise from :func:`latens.tensors.randomness.standard_normal`.
    """

    has_rsample = True
    row_noise = True

    def rsample_and_log_prob(self, k: int) -> tuple[Tensor, Tensor]:
        """k draws ``[k, B, Z]`` and ln q ``[k, B]``, in nats."""
        noise = standard_normal((k,), self.loc[..., 0, :1])
        level = torch.special.ndtr(noise).clamp_max(1 - 1e-6)
        index = (level > self.weights.cumsum(-1)[..., :-1]).sum(-1)[..., None, None]
        parts = (
            part.expand(k, *part.shape).gather(-2, index.expand(*index.shape[:-1], part.shape[-1])).squeeze(-2)
            for part in (self.loc, self.component_variance)
        )
        loc, variance = parts
        z = loc + variance.sqrt() * standard_normal((k,), self.loc[..., 0, :])
        return z, self.log_prob(z)


def product(normals: Sequence[DiagonalNormal], present: Tensor, with_prior: bool) -> DiagonalNormal:
    r"""The normalised product of the normals that are present (Wu & Goodman 2018).

    .. math:: \frac1h = \sum_m \frac1{h_m}, \qquad g = h \sum_m \frac{g_m}{h_m}

    N(0, I) is a further factor if ``with_prior`` is true, and in rows without any normal.

    Args:
        normals: M normals :math:`\mathcal{N}(g_m, h_m)`, ``[B, Z]``.
        present: ``[B, M]``, which of the normals are factors in each row.
        with_prior: whether N(0, I) is a factor too.
    """
    mask = present.to(normals[0].loc).unsqueeze(-1)  # B x M x 1
    precisions = torch.stack([1 / q.variance for q in normals], -2) * mask
    weighted = precisions * torch.stack([q.loc for q in normals], -2)
    total = precisions.sum(-2) + (1.0 if with_prior else (mask.sum(-2) == 0).to(mask))
    return DiagonalNormal(weighted.sum(-2) / total, 1 / total)


def mixture_of_products(
    normals: Sequence[DiagonalNormal], present: Tensor, subsets: Sequence[Sequence[int]]
) -> ExpertMixture:
    """The equally weighted mixture of the products of those subsets whose members are all present; N(0, I) if there
    are none.

    With single experts it is a mixture of experts (Shi et al. 2019), with all subsets a mixture of products (Sutter et
    al. 2021).

    Args:
        normals: M normals, ``[B, Z]``.
        present: ``[B, M]``.
        subsets: the indices of the members of each subset.
    """
    whole = [present[..., list(s)].all(-1) for s in subsets]
    ones = torch.ones_like(present)
    parts = [product([normals[m] for m in s], ones[..., list(s)], False) for s in subsets]
    prior = DiagonalNormal(torch.zeros_like(parts[0].loc), torch.ones_like(parts[0].loc))
    usable = torch.stack([*whole, ~torch.stack(whole, -1).any(-1)], -1)
    logits = torch.where(usable, 0.0, -torch.inf).to(parts[0].loc)
    loc, variance = (
        torch.stack([getattr(q, name) for q in (*parts, prior)], -2) for name in ("loc", "variance")
    )
    return ExpertMixture(logits, loc, variance)
