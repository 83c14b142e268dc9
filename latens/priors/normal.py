"""Normal priors: N(0, I), one normal per condition, and a mixture of normals; and the Laplace prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions
from latens.distributions import DiagonalNormal
from latens.errors import is_whole, require
from latens.tensors.numerics import positive, raw_of
from latens.tensors.trees import Tree

LEAST_VARIANCE = 1e-4  # the least variance of a component of a mixture


def require_given(reads: tuple[str, ...], c: Tree) -> None:
    """Raise ``ValueError`` if a key of the condition that the prior reads was not given."""
    missing = [key for key in reads if c is None or key not in c]
    if missing:
        raise ValueError(f"the prior reads the condition {missing[0]!r}, which was not given: pass it in c")


class StandardNormal(nn.Module):
    """p(z) = N(0, I) in ``dim`` dimensions.

    Raises ``ValueError`` for a dimension below 1.

    >>> StandardNormal(3)().event_shape
    torch.Size([3])
    """

    reads: tuple[str, ...] = ()
    zeros: Tensor
    ones: Tensor

    def __init__(self, dim: int):
        super().__init__()
        require(is_whole(dim) and dim >= 1, "the latent dimension", "a whole number from 1", dim)
        self.dim = int(dim)
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        self.register_buffer("ones", torch.ones(dim), persistent=False)

    def forward(self, c: Tree = None) -> Distribution:
        """N(0, I) over codes ``[dim]``."""
        return DiagonalNormal(self.zeros, self.ones)


class Laplace(nn.Module):
    r"""A Laplace prior in ``dim`` dimensions, under which few coordinates of a code are far from 0.

    .. math:: p(z) = \prod_i \tfrac12 e^{-|z_i|}

    Raises ``ValueError`` for a dimension below 1.

    >>> Laplace(2)().log_prob(torch.zeros(2))
    tensor(-1.3863)
    """

    reads: tuple[str, ...] = ()
    zeros: Tensor

    def __init__(self, dim: int):
        super().__init__()
        require(is_whole(dim) and dim >= 1, "the latent dimension", "a whole number from 1", dim)
        self.dim = int(dim)
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[dim]``."""
        base = torch.distributions.Laplace(self.zeros, torch.ones_like(self.zeros), validate_args=False)
        return torch.distributions.Independent(base, 1, validate_args=False)


class ConditionalNormal(nn.Module):
    r"""A normal for each condition, so that every level or value has a separate region of codes (Sohn, Lee & Yan 2015).

    .. math:: p(z \mid c) = \mathcal{N}(z; g(c), \operatorname{diag} h(c))

    Raises ``ValueError`` if a key of the condition was not given.

    Args:
        network: a network from ``{key: c[key]}``, for the keys in ``reads``, to ``[B, 2 Z]``: g, then the raw variance.
        reads: the keys of the condition.
    """

    def __init__(self, network: nn.Module, reads: tuple[str, ...]):
        super().__init__()
        self.network, self.reads = network, tuple(reads)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z|c) over codes ``[B, Z]``."""
        require_given(self.reads, c)
        mean, raw = self.network({key: c[key] for key in self.reads}).chunk(2, -1)
        return DiagonalNormal(mean, positive(raw, 1e-8))


class NormalMixturePrior(nn.Module):
    r"""A mixture of normals, learned with the model (Jiang et al. 2017).

    .. math:: p(z) = \sum_j w_j\, \mathcal{N}(z; g_j, \operatorname{diag} h_j)

    After training, the trainer refits it to the codes: :meth:`expect` and :meth:`maximise` are a step of expectation
    maximisation (Dempster, Laird & Rubin 1977). After gradient descent alone, its means and shares would be visibly
    wrong in samples.

    ``ValueError`` for sizes below 1, and if a key of the condition was not given.

    Args:
        dim: the dimensions of z, Z.
        components: the number of components, J.
        network: a network from ``{key: c[key]}``, for the keys in ``reads``, to ``[B, J (1 + 2 Z)]``; weights, means
            and variances then depend on its output.
        reads: the keys of the condition.
    """

    def __init__(self, dim: int, components: int = 32, network: nn.Module | None = None, reads: tuple[str, ...] = ()):
        super().__init__()
        require(is_whole(dim) and dim >= 1, "the latent dimension", "a whole number from 1", dim)
        require(is_whole(components) and components >= 1, "components", "a whole number from 1", components)
        self.dim, self.components, self.network, self.reads = int(dim), int(components), network, tuple(reads)
        start = torch.zeros(components, 1 + 2 * dim)
        start[:, 1 : 1 + dim].normal_()
        self.start = nn.Parameter(start)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z|c) over codes ``[Z]``, or ``[B, Z]`` with a condition."""
        raw = self.start
        if self.network is not None:
            require_given(self.reads, c)
            raw = raw + self.network({key: c[key] for key in self.reads}).unflatten(-1, raw.shape)
        logits, loc, variance = raw.split([1, self.dim, self.dim], -1)
        return distributions.NormalMixture(logits.squeeze(-1), loc, positive(variance, LEAST_VARIANCE))

    @property
    def nothing(self) -> Tensor:
        """The result of :meth:`seen` for no rows."""
        return torch.zeros(0, 1 + self.dim, dtype=torch.float64)

    def seen(self, draw: Any) -> Tensor | None:
        """The draws of a batch, ``[K B, 1 + Z]`` in float64: the weight of each draw (its row's weight divided by K),
        and its code. None if the mixture depends on a condition, or if codes are drawn under another prior.
        """
        if self.network is not None or type(draw.p) is not distributions.NormalMixture:
            return None
        z = draw.codes.detach().double().cpu()
        share = torch.full(z.shape[:2], 1 / len(z), dtype=z.dtype)
        if draw.weight is not None:
            share = share * draw.weight.cpu()
        return torch.cat([share.unsqueeze(-1), z], -1).flatten(0, 1)

    @torch.no_grad()
    def expect(self, rows: Tensor) -> Tensor:
        r"""For each component, sums over rows of :meth:`seen`, ``[J, 1 + 2 Z]`` in float64.

        .. math:: \sum r_j,\; \sum r_j (z - g_j),\; \sum r_j (z - g_j)^2, \qquad
            r_j = w_j\, \mathcal{N}(z; g_j, \operatorname{diag} h_j) / p(z)
        """
        p, (weight, z) = self(), rows.split([1, self.dim], -1)
        mean, precision = p.loc.double().cpu(), 1 / p.component_variance.double().cpu()
        square = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(-1)
        share = (p.logits.double().cpu() + (precision.log().sum(-1) - square) / 2).softmax(-1) * weight
        mass, first, second = share.sum(0).unsqueeze(-1), share.T @ z, share.T @ z.square()
        return torch.cat([mass, first - mean * mass, second - 2 * mean * first + mean.square() * mass], -1)

    @torch.no_grad()
    def maximise(self, sums: Tensor) -> None:
        """Set weights, means and variances from the sums of :meth:`expect` over the training set.

        The earlier values count as one more row per component, so that a component without rows is kept.
        """
        p = self()
        mass, first, second = sums.to(p.loc).split([1, self.dim, self.dim], -1)
        move = first / (mass + 1)
        variance = (second + p.component_variance) / (mass + 1) - move.square()
        logits = (mass + p.weights.unsqueeze(-1)).log()
        self.start.copy_(torch.cat([logits, p.loc + move, raw_of(variance, LEAST_VARIANCE)], -1))


class DitheredMixturePrior(nn.Module):
    """A mixture of normals for each coordinate, blurred by uniform noise of width 1 (Ballé et al. 2018).

    The mixtures are learned. The prior is for codes that have this noise instead of rounding. ``ValueError`` for sizes
    below 1.

    Args:
        dim: the dimensions of z, Z.
        components: the number of components of each mixture.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, dim: int, components: int = 8):
        super().__init__()
        require(is_whole(dim) and dim >= 1, "the latent dimension", "a whole number from 1", dim)
        require(is_whole(components) and components >= 1, "components", "a whole number from 1", components)
        start = torch.zeros(dim, 3, components)
        start[:, 1] = torch.linspace(-2, 2, components) if components > 1 else 0.0
        self.raw = nn.Parameter(start)

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[Z]``."""
        logits, loc, spread = self.raw.unbind(-2)
        return distributions.DitheredMixture(logits, loc, positive(spread, 1e-2))
