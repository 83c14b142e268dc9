"""Hierarchies of codes, drawn from the top layer to the bottom, each given the layers above it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal, Drawn, center
from latens.models.draw import Draw
from latens.tensors.numerics import positive
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree, rows


def normal_of(raw: Tensor) -> DiagonalNormal:
    """N(g, diag h) from ``[..., 2 Z]``: g, then the raw h."""
    mean, spread = raw.chunk(2, -1)
    return DiagonalNormal(mean, positive(spread, 1e-8))


class Rung(nn.Module):
    """One layer z of ``size`` numbers.

    It has p(z|h) and q(z|h, d) for a state h ``[..., *state]`` from the layers above and features d ``[B, ...]`` of x;
    ``forward(h, z)`` gives the state for the layers below.
    """

    size: int

    def prior(self, h: Tensor) -> DiagonalNormal:
        """p(z|h), ``[..., size]``."""
        raise NotImplementedError

    def posterior(self, h: Tensor, d: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        """q(z|h, d), ``[..., size]``, where p is the prior at h."""
        raise NotImplementedError


class MarkovRung(Rung):
    r"""A layer that depends only on the code above it (Sønderby et al. 2016).

    p(z|h) = N(g(h), diag v(h)), where h is the code above; at the top (``above`` None) it is N(0, I). Below the top, q
    is the product of the prior and a normal that x gives:

    .. math:: \frac1{h_q} = \frac1{h_p} + \frac1{h_x}, \qquad g_q = h_q \left(\frac{g_p}{h_p} + \frac{g_x}{h_x}\right)

    Args:
        size: the number of dimensions of the layer.
        below: a network from features d to ``[..., 2 size]``, the normal that x gives.
        above: a network from h to ``[..., 2 size]``, the prior; None at the top.
    """

    def __init__(self, size: int, below: nn.Module, above: nn.Module | None = None):
        super().__init__()
        self.size, self.below, self.above = size, below, above

    def prior(self, h: Tensor) -> DiagonalNormal:
        """p(z|h), ``[..., size]``."""
        if self.above is not None:
            return normal_of(self.above(h))
        zeros = h.new_zeros(()).expand(*h.shape[:-1], self.size)
        return DiagonalNormal(zeros, zeros + 1)

    def posterior(self, h: Tensor, d: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        """The product of the prior and the normal that x gives, ``[..., size]``."""
        said = normal_of(self.below(d))
        if self.above is None:
            return DiagonalNormal(said.loc.expand(p.loc.shape), said.variance)
        variance = 1 / (1 / p.variance + 1 / said.variance)
        return DiagonalNormal(variance * (p.loc / p.variance + said.loc / said.variance), variance)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """z itself, which is the state below."""
        return z


class ResidualRung(Rung):
    r"""A layer attached to a stream of features, with a posterior relative to the prior (Vahdat & Kautz 2020; Child
    2021).

    .. math:: p(z \mid h) = \mathcal{N}(g, \operatorname{diag} v), \qquad
        q(z \mid h, d) = \mathcal{N}(g + a(h, d), \operatorname{diag} v\, b(h, d)), \qquad
        h' = \mathrm{after}(h + \mathrm{into}(z))

    Args:
        size: the dimensions of the code, Z.
        above: a network from h to ``[..., 2 Z]``, the prior.
        below: a network from h and d, joined on ``axis``, to ``[..., 2 Z]``, the change that x makes.
        into: a network from z to a tensor like h.
        after: a network from the stream to the next state.
        axis: the axis on which h and d are joined, counted from the end.
    """

    def __init__(
        self, size: int, above: nn.Module, below: nn.Module, into: nn.Module, after: nn.Module, axis: int = -1
    ):
        super().__init__()
        self.size, self.above, self.below, self.into, self.after, self.axis = size, above, below, into, after, axis

    def prior(self, h: Tensor) -> DiagonalNormal:
        """p(z|h), ``[..., size]``."""
        return normal_of(self.above(h))

    def posterior(self, h: Tensor, d: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        """q(z|h, d), ``[..., size]``."""
        lead = h.shape[: h.dim() + self.axis]
        joined = torch.cat([h, d.expand(*lead, *d.shape[self.axis :])], self.axis)
        change = normal_of(self.below(joined))
        return DiagonalNormal(p.loc + change.loc, p.variance * change.variance)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """The next state h', in the shape of h."""
        return self.after(h + self.into(z))


class Upward(nn.Module):
    """Features of x for each rung, from the top: ``first(x, c)``, and then each stage applied to the features before
    it.
    """

    def __init__(self, first: nn.Module, stages: Sequence[nn.Module]):
        super().__init__()
        self.first, self.stages = first, nn.ModuleList(stages)

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of the condition that the first stage sees."""
        return self.first.reads  # type: ignore[return-value]

    def forward(self, x: Tree, c: Tree = None) -> tuple[Tensor, ...]:
        """The features of each rung, from the top to the bottom, each ``[B, ...]``."""
        found = [self.first(x, c)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return tuple(found[::-1])


class Ladder(nn.Module):
    r"""A hierarchical VAE whose prior and posterior both run from the top layer downwards.

    .. math:: p(z_1)\, p(z_2 \mid z_1) \cdots p(x \mid z), \qquad q(z_1 \mid x)\, q(z_2 \mid z_1, x) \cdots

    A draw's z is the tuple of layers, ``rates`` gives the KL of each layer, and E[w] = p(x) as for any VAE. With a
    single :class:`MarkovRung` it is a plain VAE (Sønderby et al. 2016; Vahdat & Kautz 2020; Child 2021).

    Args:
        upward: ``upward(x, c)`` gives the features of each rung.
        rungs: the layers, from the top.
        likelihood: ``likelihood(h, c)`` of the last state, flattened.
        start: the learned state above the top rung; None for a fixed 0.
    """

    def __init__(self, upward: nn.Module, rungs: Sequence[Rung], likelihood: nn.Module, start: Tensor | None = None):
        super().__init__()
        self.upward, self.rungs, self.likelihood = upward, nn.ModuleList(rungs), likelihood
        if start is None:
            self.register_buffer("start", torch.zeros(1), persistent=False)
        else:
            self.start = nn.Parameter(start)
        self.layers = tuple(rung.size for rung in rungs)

    @property
    def reads(self) -> frozenset[str]:
        """The keys of the condition that the parts read."""
        return frozenset((*self.upward.reads, *self.likelihood.reads))  # type: ignore[misc]

    def _descend(
        self, lead: Sequence[int], choose: Callable[[int, DiagonalNormal], Tensor],
        features: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, list[Tensor], list[DiagonalNormal], list[DiagonalNormal]]:  # fmt: skip
        """A pass through all rungs: (last state, codes, q, p). ``choose(number, q)`` gives the code of a rung. Without
        features, q equals p.
        """
        h = self.start.expand(*lead, *self.start.shape)
        codes, posteriors, priors = [], [], []
        for number, rung in enumerate(self.rungs):
            p = rung.prior(h)  # type: ignore[operator]
            q = p if features is None else rung.posterior(h, features[number], p)  # type: ignore[operator]
            z = choose(number, q)
            h = rung(h, z)
            codes.append(z)
            posteriors.append(q)
            priors.append(p)
        return h.flatten(len(lead)), codes, posteriors, priors

    def draw(self, x: Tree, k: int = 1, c: Tree = None) -> Draw:
        """k draws for each row of x, with log-densities ``[k, B]``; the ``layers`` of the draw are the rungs."""
        if k < 1:
            raise ValueError(f"the number of draws k must be at least 1, got {k}")
        h, codes, qs, ps = self._descend((k, rows(x)), lambda _, q: rsample_rows(q), self.upward(x, c))
        q, p, z = beside(qs), beside(ps), torch.cat(codes, -1)
        px = self.likelihood(h, c)
        draw = Draw(tuple(codes), px.log_prob(x), p.log_prob(z), q.log_prob(z), px, p, q, c, layers=self.layers)
        return draw.check(k, rows(x))

    def encode(self, x: Tree, c: Tree = None) -> Drawn:
        """q(z|x) of all layers, concatenated, ``[B, Z]``. Its ``mean`` is the mean of each layer given the means of the
        layers above.
        """
        features, n = self.upward(x, c), rows(x)
        means = self._descend((1, n), lambda _, q: q.loc, features)[1]
        return Drawn(
            torch.cat(means, -1).squeeze(0),
            lambda k: torch.cat(self._descend((k, n), lambda _, q: rsample_rows(q), features)[1], -1),
        )

    def decode(self, z: Tensor, c: Tree = None) -> Distribution:
        """p(x|z) for the codes of all layers ``[..., Z]``."""
        parts = z.split(self.layers, -1)
        return self.likelihood(self._descend(z.shape[:-1], lambda number, _: parts[number])[0], c)

    def sample(self, n: int, c: Tree = None, mean: bool = False) -> Tensor:
        """n new rows: each layer from its prior, then x, or with ``mean`` the value that stands for p(x|z)."""
        with torch.no_grad():
            px = self.likelihood(self._descend((1, n), lambda _, q: rsample_rows(q))[0], c)
            return (center(px) if mean else px.sample()).squeeze(0)


def rsample_rows(q: DiagonalNormal) -> Tensor:
    """A reparameterised draw of a normal ``[K, B, Z]``, whose noise is drawn by rows (axis 1)."""
    return q.loc + q.variance.sqrt() * standard_normal(q.loc.shape[:1], q.loc[0])


def beside(parts: list[DiagonalNormal]) -> DiagonalNormal:
    """Several normals concatenated to one, ``[..., sum of sizes]``."""
    return DiagonalNormal(torch.cat([q.loc for q in parts], -1), torch.cat([q.variance for q in parts], -1))
