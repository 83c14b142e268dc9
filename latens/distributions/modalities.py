"""Several kinds of data of one row, and what their experts say of its codes."""

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
    >>> pieces.split(torch.arange(3.0))
    {'left': tensor([0.]), 'right': tensor([1., 2.])}
    """

    def __init__(self, sizes: Mapping[str, int], axis: int):
        self.sizes, self.axis = dict(sizes), axis

    def split(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.sizes, x.split(list(self.sizes.values()), self.axis), strict=True))

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([parts[name] for name in self.sizes], self.axis)


class Modalities(Distribution):
    """Independent data by name: ln p(x) = sum_m ln p_m(x_m) over the modalities that x has.

    A modality that is no key of x is missing; where a row of it is NaN its own distribution counts it as unobserved.
    With ``pieces`` x may be, and samples are, one array that holds them all.
    """

    arg_constraints: dict = {}

    def __init__(self, parts: Mapping[str, Distribution], pieces: Pieces | None = None):
        self.parts, self.pieces = dict(parts), pieces
        shapes = {tuple(part.batch_shape) for part in self.parts.values()}
        if len(shapes) > 1:
            raise ValueError(f"the modalities differ in their leading axes: {sorted(shapes)}")
        super().__init__(torch.Size(shapes.pop()), validate_args=False)

    def _each(self, evaluate: Callable[[Distribution], Tensor]) -> Tree:
        found = {name: evaluate(part) for name, part in self.parts.items()}
        return found if self.pieces is None else self.pieces.join(found)

    @property
    def center(self) -> Tree:
        return self._each(center)

    @property
    def mean(self) -> Tree:
        return self._each(lambda part: part.mean)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tree:
        return self._each(lambda part: part.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tree) -> Tensor:
        if isinstance(value, Tensor):
            if self.pieces is None:
                raise ValueError(f"x must be a mapping of {', '.join(self.parts)}")
            value = self.pieces.split(value)
        unknown = [name for name in value if name not in self.parts]
        if unknown:
            raise ValueError(f"there is no modality {unknown[0]!r}; there are {', '.join(self.parts)}")
        terms = [self.parts[name].log_prob(part) for name, part in value.items()]
        return sum(terms[1:], terms[0])


class ExpertMixture(NormalMixture):
    """A mixture of normals as a posterior: its weights are given, not learned, so that a draw from a component chosen
    at random carries the whole gradient. The choice takes its noise by rows. ``[B, J, Z]``."""

    has_rsample = True
    row_noise = True

    def rsample_and_log_prob(self, k: int) -> tuple[Tensor, Tensor]:
        """k draws ``[k, B, Z]`` and ln q ``[k, B]``."""
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
    """The normalised product of the normals that are ``present`` ``[B, M]``, and of N(0, I) where ``with_prior`` or
    where none is: 1/h = sum_m 1/h_m, g = h sum_m g_m / h_m (Wu & Goodman 2018)."""
    mask = present.to(normals[0].loc).unsqueeze(-1)  # B x M x 1
    precisions = torch.stack([1 / q.variance for q in normals], -2) * mask
    weighted = precisions * torch.stack([q.loc for q in normals], -2)
    total = precisions.sum(-2) + (1.0 if with_prior else (mask.sum(-2) == 0).to(mask))
    return DiagonalNormal(weighted.sum(-2) / total, 1 / total)


def mixture_of_products(
    normals: Sequence[DiagonalNormal], present: Tensor, subsets: Sequence[Sequence[int]]
) -> ExpertMixture:
    """The even mixture of the products of each subset whose members are all present; N(0, I) where there is none.

    Single experts are a mixture of experts (Shi et al. 2019), all subsets a mixture of products (Sutter et al. 2021).
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
