"""Hierarchies of codes: drawn from the top layer to the bottom, each given those above it."""

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
    """One layer z of ``size`` numbers: p(z|h) and q(z|h, d) for a state h ``[..., *state]`` from the layers above and
    features d ``[B, ...]`` of x, and ``forward(h, z)``, the state for the layers below.
    """

    size: int

    def prior(self, h: Tensor) -> DiagonalNormal:
        raise NotImplementedError

    def posterior(self, h: Tensor, d: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        raise NotImplementedError


class MarkovRung(Rung):
    """p(z|h) = N(g(h), diag v(h)), where h is the code above, or N(0, I) at the top (``above`` None); below the top q
    is the product of the prior with a normal that x says (Sønderby et al. 2016):

    1/h_q = 1/h_p + 1/h_x,  g_q = h_q (g_p / h_p + g_x / h_x).
    """

    def __init__(self, size: int, below: nn.Module, above: nn.Module | None = None):
        super().__init__()
        self.size, self.below, self.above = size, below, above

    def prior(self, h: Tensor) -> DiagonalNormal:
        if self.above is not None:
            return normal_of(self.above(h))
        zeros = h.new_zeros(()).expand(*h.shape[:-1], self.size)
        return DiagonalNormal(zeros, zeros + 1)

    def posterior(self, h: Tensor, d: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        said = normal_of(self.below(d))
        if self.above is None:
            return DiagonalNormal(said.loc.expand(p.loc.shape), said.variance)
        variance = 1 / (1 / p.variance + 1 / said.variance)
        return DiagonalNormal(variance * (p.loc / p.variance + said.loc / said.variance), variance)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return z


class ResidualRung(Rung):
    """A layer beside a stream of features: h' = after(h + into(z)), with p(z|h) = N(g, diag v) and
    q = N(g + a(h, d), diag v b(h, d)), what x says relative to the prior (Vahdat & Kautz 2020; Child 2021).

    ``above``: h -> ``[..., 2 Z]``; ``below``: (h and d joined on ``axis``) -> ``[..., 2 Z]``; ``into``: z -> like h.
    """

    def __init__(
        self, size: int, above: nn.Module, below: nn.Module, into: nn.Module, after: nn.Module, axis: int = -1
    ):
        super().__init__()
        self.size, self.above, self.below, self.into, self.after, self.axis = size, above, below, into, after, axis

    def prior(self, h: Tensor) -> DiagonalNormal:
        return normal_of(self.above(h))

    def posterior(self, h: Tensor, d: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        lead = h.shape[: h.dim() + self.axis]
        joined = torch.cat([h, d.expand(*lead, *d.shape[self.axis :])], self.axis)
        change = normal_of(self.below(joined))
        return DiagonalNormal(p.loc + change.loc, p.variance * change.variance)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return self.after(h + self.into(z))


class Upward(nn.Module):
    """Features of x for each rung, the top one first: ``first(x, c)``, then each of ``stages`` on what came before."""

    def __init__(self, first: nn.Module, stages: Sequence[nn.Module]):
        super().__init__()
        self.first, self.stages = first, nn.ModuleList(stages)

    @property
    def reads(self) -> tuple[str, ...]:
        return self.first.reads  # type: ignore[return-value]

    def forward(self, x: Tree, c: Tree = None) -> tuple[Tensor, ...]:
        found = [self.first(x, c)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return tuple(found[::-1])


class Ladder(nn.Module):
    """p(z_1) p(z_2|z_1) … p(x|z) and q(z_1|x) q(z_2|z_1, x) …, both from the top layer z_1 downwards.

    ``upward(x, c)`` gives the features of each rung; the state starts as ``start`` (learned) and passes through the
    rungs; ``likelihood(h, c)`` sees the last state, flattened. A draw's z is the tuple of layers, ``rates`` has the KL
    of each, and E[w] = p(x) as for any VAE; one :class:`MarkovRung` is one. (Sønderby et al. 2016; Vahdat & Kautz 2020;
    Child 2021)
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
        """Through all rungs: (last state, codes, q, p); z is chosen from q, which is p where there are no features."""
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
        """k draws for each row of x; ``layers`` of the draw are the rungs."""
        if k < 1:
            raise ValueError(f"the number of draws k must be at least 1, got {k}")
        h, codes, qs, ps = self._descend((k, rows(x)), lambda _, q: rsample_rows(q), self.upward(x, c))
        q, p, z = beside(qs), beside(ps), torch.cat(codes, -1)
        px = self.likelihood(h, c)
        draw = Draw(tuple(codes), px.log_prob(x), p.log_prob(z), q.log_prob(z), px, p, q, c, layers=self.layers)
        return draw.check(k, rows(x))

    def encode(self, x: Tree, c: Tree = None) -> Drawn:
        """q(z|x) of all layers side by side; its ``mean`` takes the mean of each layer at the means of those above."""
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
        """n data: each layer from its prior, then x, or what stands for p(x|z)."""
        with torch.no_grad():
            px = self.likelihood(self._descend((1, n), lambda _, q: rsample_rows(q))[0], c)
            return (center(px) if mean else px.sample()).squeeze(0)


def rsample_rows(q: DiagonalNormal) -> Tensor:
    """A draw of a normal ``[K, B, Z]``, its noise by rows (axis 1)."""
    return q.loc + q.variance.sqrt() * standard_normal(q.loc.shape[:1], q.loc[0])


def beside(parts: list[DiagonalNormal]) -> DiagonalNormal:
    """Normals as one, side by side."""
    return DiagonalNormal(torch.cat([q.loc for q in parts], -1), torch.cat([q.variance for q in parts], -1))
