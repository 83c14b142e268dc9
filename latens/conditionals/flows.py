"""Flow posteriors: normal noise transformed by invertible steps, then scaled and shifted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.errors import is_whole, require_count
from latens.tensors.numerics import positive
from latens.tensors.trees import Tree


class FlowStep(nn.Module):
    """One invertible step of a flow; its parameters are ``width`` numbers that the network gives for each row."""

    width: int

    def forward(self, parameters: Tensor) -> d.Transform:
        """The map with these parameters ``[..., width]``."""
        raise NotImplementedError


class PlanarStep(FlowStep):
    """:class:`latens.distributions.Planar` with v, w and b from the network: 2 Z + 1 numbers; 0 gives the identity."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.width = dim, 2 * dim + 1

    def forward(self, parameters: Tensor) -> d.Transform:
        """The map with these parameters ``[..., 2 Z + 1]``."""
        v, w, b = parameters.split([self.dim, self.dim, 1], -1)
        return d.Planar(v, w, b.squeeze(-1))


class RadialStep(FlowStep):
    """:class:`latens.distributions.Radial` with center, alpha and beta from the network: Z + 2 numbers.

    beta = alpha (positive(raw) - 1), so that a raw 0 gives the identity.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.width = dim, dim + 2

    def forward(self, parameters: Tensor) -> d.Transform:
        """The map with these parameters ``[..., Z + 2]``."""
        center, alpha, beta = parameters.split([self.dim, 1, 1], -1)
        alpha = positive(alpha, 1e-3)
        return d.Radial(center, alpha.squeeze(-1), (alpha * (positive(beta) - 1)).squeeze(-1))


class AutoregressiveStep(FlowStep):
    r"""Each coordinate transformed given the coordinates before it.

    .. math:: z_i = t(u_i;\, m(u_1, \dots, u_{i-1}, \mathrm{context}))

    where m is a masked network. From u to z takes one pass; from z to u takes Z passes.

    Args:
        dim: the dimensions of z, Z.
        context: how many numbers the network gives for each row.
        bins: 0 for an affine t, the inverse autoregressive flow (Kingma et al. 2016); otherwise t is a monotone
            rational quadratic spline with this many bins on [-5, 5] (Durkan et al. 2019).
        hidden: the widths of the hidden layers of m.
        reverse: whether the order is Z … 1.
        coupling: whether there are two groups of coordinates instead of Z, so that the inverse takes two passes.
    """

    def __init__(
        self, dim: int, context: int, bins: int = 0, *, hidden: Sequence[int] = (64, 64), reverse: bool = False,
        coupling: bool = False,
    ):  # fmt: skip
        super().__init__()
        require_count(context, "context", 0, 10_000)
        if bins or not is_whole(bins):
            require_count(bins, "bins", 2)
        from zuko.flows.autoregressive import MaskedAutoregressiveTransform
        from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

        shapes = [(bins,), (bins,), (bins - 1,)] if bins else [(), ()]
        self.width = context
        self.inner = MaskedAutoregressiveTransform(
            dim, context, order=torch.arange(dim).flip(0) if reverse else torch.arange(dim),
            passes=2 if coupling else None, hidden_features=list(hidden), activation=nn.SiLU, shapes=shapes,
            univariate=MonotonicRQSTransform if bins else MonotonicAffineTransform,
        )  # fmt: skip

    def forward(self, parameters: Tensor) -> d.Transform:
        """The map with these parameters ``[..., context]``."""
        return d.Foreign(self.inner(parameters if self.width else None))


class FlowPosterior(Conditional):
    r"""A posterior that is a normalising flow (Rezende & Mohamed 2015).

    .. math:: z = g(x) + \sqrt{h(x)} \odot T_L(\dots T_1(u)), \qquad u \sim \mathcal{N}(0, I)

    .. math:: \ln q(z \mid x) = \ln \mathcal{N}(u; 0, I) - \sum_l \ln |\det \partial T_l| - \frac12 \sum_i \ln h_i(x)

    The steps act before the affine map, on noise whose spread is 1 for every row. ``ValueError`` if the network does
    not give the right number of outputs.

    Args:
        network: maps x to ``[..., 2 Z + sum of the steps' widths]``: g, the raw h, then the parameters of each step.
        dim: the dimensions of z, Z.
        steps: the maps T.
        reads: the keys of the condition that the network sees.
    """

    def __init__(self, network: nn.Module, dim: int, steps: Sequence[FlowStep], reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        self.dim, self.steps = dim, nn.ModuleList(steps)
        self.widths = [step.width for step in steps]

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z]``."""
        if output.shape[-1] != 2 * self.dim + sum(self.widths):
            raise ValueError(
                f"FlowPosterior must get 2 x {self.dim} + {' + '.join(map(str, self.widths))} outputs, "
                f"got {output.shape[-1]}"
            )
        mean, raw, *parts = output.split([self.dim, self.dim, *self.widths], -1)
        base = d.DiagonalNormal(torch.zeros_like(mean), torch.ones_like(mean))
        steps = [step(part) for step, part in zip(self.steps, parts, strict=True)]
        return d.Pushforward(base, d.Composed([*steps, d.Affine(mean, positive(raw, 1e-8).sqrt())]))
