"""Flow posteriors: normal noise bent by invertible steps, then scaled and shifted."""

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
    """One invertible step of a flow; it takes ``width`` numbers ``[..., width]`` of the datum and gives the map."""

    width: int

    def forward(self, parameters: Tensor) -> d.Transform:
        raise NotImplementedError


class PlanarStep(FlowStep):
    """:class:`latens.distributions.Planar` with v, w, b given by the datum: 2 Z + 1 numbers; all 0 is the identity."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.width = dim, 2 * dim + 1

    def forward(self, parameters: Tensor) -> d.Transform:
        v, w, b = parameters.split([self.dim, self.dim, 1], -1)
        return d.Planar(v, w, b.squeeze(-1))


class RadialStep(FlowStep):
    """:class:`latens.distributions.Radial` with center, alpha, beta given by the datum: Z + 2 numbers. beta = alpha
    (positive(raw) - 1), so that a raw 0 is the identity.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.width = dim, dim + 2

    def forward(self, parameters: Tensor) -> d.Transform:
        center, alpha, beta = parameters.split([self.dim, 1, 1], -1)
        alpha = positive(alpha, 1e-3)
        return d.Radial(center, alpha.squeeze(-1), (alpha * (positive(beta) - 1)).squeeze(-1))


class AutoregressiveStep(FlowStep):
    """z_i = t(u_i; what a masked network makes of u_1 … u_{i-1} and of ``context`` numbers of the datum), one pass
    from u to z, Z passes back.

    ``bins`` = 0: t is affine, the inverse autoregressive flow (Kingma et al. 2016); otherwise a monotone rational
    quadratic spline of so many bins on [-5, 5] (Durkan et al. 2019). ``reverse``: the order is Z … 1. ``coupling``: two
    groups of coordinates instead of Z, and two passes back.
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
        return d.Foreign(self.inner(parameters if self.width else None))


class FlowPosterior(Conditional):
    """q(z|x): z = g(x) + sqrt(h(x)) * T_L(… T_1(u)), u ~ N(0, I) (Rezende & Mohamed 2015).

    ln q = ln N(u; 0, I) - sum_l ln |det dT_l| - sum_i ln h_i / 2. The network gives ``[..., 2 Z + sum of the steps'
    widths]``: g, the raw h, then what each step takes. The steps act before the affine map, so that the spread of the
    noise they see is 1 for every datum. Raises ``ValueError`` for another number of outputs.
    """

    def __init__(self, network: nn.Module, dim: int, steps: Sequence[FlowStep], reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        self.dim, self.steps = dim, nn.ModuleList(steps)
        self.widths = [step.width for step in steps]

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        if output.shape[-1] != 2 * self.dim + sum(self.widths):
            raise ValueError(
                f"FlowPosterior needs 2 x {self.dim} + {' + '.join(map(str, self.widths))} outputs, "
                f"got {output.shape[-1]}"
            )
        mean, raw, *parts = output.split([self.dim, self.dim, *self.widths], -1)
        base = d.DiagonalNormal(torch.zeros_like(mean), torch.ones_like(mean))
        steps = [step(part) for step, part in zip(self.steps, parts, strict=True)]
        return d.Pushforward(base, d.Composed([*steps, d.Affine(mean, positive(raw, 1e-8).sqrt())]))
