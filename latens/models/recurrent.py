"""Codes drawn step by step in time, each given the data and codes before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal, Drawn, center
from latens.models.draw import Draw
from latens.models.ladder import beside, normal_of, rsample_rows
from latens.tensors.trees import Tree, rows


class Recurrent(nn.Module):
    r"""A VAE in time (Chung et al. 2015).

    .. math:: \prod_t p(z_t \mid h_{t-1})\, p(x_t \mid z_t, h_{t-1}), \qquad \prod_t q(z_t \mid x, h_{t-1}), \qquad
        h_t = \mathrm{cell}([\varphi_t, z_t], h_{t-1})

    A draw's ``layers`` are the steps.

    Args:
        features: ``features(x, c)`` gives phi ``[B, T, F]``, which the cell reads step by step; phi_t must depend only
            on x_t.
        prior: a network from h to ``[..., 2 Z]``.
        posterior: a network from (phi_t, h) to ``[..., 2 Z]``; with ``views``, it reads these instead of phi.
        cell: the recurrent cell.
        likelihood: reads all (z_t, h_{t-1}), flattened, ``[..., T (Z + H)]``; x_t must depend only on its own step.
        shape: the shape of one row.
        latent_dim: the dimensions of z at each step, Z.
        width: the size of the state, H.
        axis: the axis of time in a row, counted from the end.
        views: ``views(x, c)`` gives ``[B, T, V]``, which may look ahead.
    """

    def __init__(
        self, features: nn.Module, prior: nn.Module, posterior: nn.Module, cell: nn.Module, likelihood: nn.Module, *,
        shape: Sequence[int], latent_dim: int, width: int, axis: int = -2, views: nn.Module | None = None,
    ):  # fmt: skip
        super().__init__()
        self.features, self.prior, self.posterior, self.cell = features, prior, posterior, cell
        self.likelihood, self.views = likelihood, views
        self.shape, self.size, self.width, self.axis = tuple(shape), latent_dim, width, axis
        self.steps = self.shape[axis]
        self.start = nn.Parameter(torch.zeros(width))

    @property
    def reads(self) -> frozenset[str]:
        """The keys of the condition that the parts read."""
        parts = (self.features, self.likelihood, self.views)
        return frozenset(key for part in parts for key in getattr(part, "reads", ()))

    def _read(self, x: Tree, c: Tree) -> tuple[Tensor, Tensor]:
        phi = self.features(x, c)
        return phi, phi if self.views is None else self.views(x, c)

    def _follow(
        self, x: Tree, c: Tree, k: int, choose: Callable[[DiagonalNormal], Tensor] = rsample_rows
    ) -> tuple[Tensor, list[Tensor], DiagonalNormal, DiagonalNormal]:  # fmt: skip
        """A pass through x: (the input of the likelihood; codes; q and p of all steps, concatenated)."""
        phi, view = (part.expand(k, *part.shape) for part in self._read(x, c))
        h = self.start.expand(*phi.shape[:-2], self.width)
        seen, codes, posteriors, priors = [], [], [], []
        for t in range(self.steps):
            priors.append(normal_of(self.prior(h)))
            posteriors.append(normal_of(self.posterior(torch.cat([view[..., t, :], h], -1))))
            codes.append(choose(posteriors[-1]))
            seen.append(torch.cat([codes[-1], h], -1))
            h = self.cell(torch.cat([phi[..., t, :], codes[-1]], -1), h)
        return torch.cat(seen, -1), codes, beside(posteriors), beside(priors)

    def draw(self, x: Tree, k: int = 1, c: Tree = None) -> Draw:
        """k draws for each row of x, with log-densities ``[k, B]``."""
        if k < 1:
            raise ValueError(f"the number of draws k must be at least 1, got {k}")
        seen, codes, q, p = self._follow(x, c, k)
        px, z = self.likelihood(seen, c), torch.cat(codes, -1)
        draw = Draw(tuple(codes), px.log_prob(x), p.log_prob(z), q.log_prob(z), px, p, q, c,
                    layers=(self.size,) * self.steps)  # fmt: skip
        return draw.check(k, rows(x))

    def encode(self, x: Tree, c: Tree = None) -> Drawn:
        """q(z|x) of all steps, concatenated, ``[B, T Z]``. Its ``mean`` is the mean of each step given the means of the
        steps before it.
        """
        means = self._follow(x, c, 1, lambda q: q.loc)[1]
        return Drawn(torch.cat(means, -1).squeeze(0), lambda k: torch.cat(self._follow(x, c, k)[1], -1))

    def _generate(
        self, lead: Sequence[int], c: Tree, choose: Callable[[int, Tensor], Tensor],
        value: Callable[[Distribution], Tensor],
    ) -> tuple[Distribution, Tensor]:  # fmt: skip
        """A pass forward in time: (p(x|…), x). ``choose`` gives z_t, and ``value`` gives x_t from its distribution."""
        x = torch.zeros(*lead, *self.shape, dtype=self.start.dtype, device=self.start.device)
        h = self.start.expand(*lead, self.width)
        seen = [torch.zeros_like(h[..., :1]).expand(*lead, self.size + self.width)] * self.steps
        for t in range(self.steps):
            z = choose(t, h)
            seen[t] = torch.cat([z, h], -1)
            px = self.likelihood(torch.cat(seen, -1), c)
            found = value(px).to(x)
            now = torch.arange(self.steps, device=x.device).view(-1, *[1] * (-1 - self.axis)) == t
            x = torch.where(now, found, x)
            h = self.cell(torch.cat([self.features(x, c)[..., t, :], z], -1), h)
        return px, x

    def decode(self, z: Tensor, c: Tree = None) -> Distribution:
        """p(x|z) for the codes of all steps ``[..., T Z]``; states see the values that stand for earlier steps."""
        parts = z.split(self.size, -1)
        return self._generate(z.shape[:-1], c, lambda t, _: parts[t], center)[0]

    def sample(self, n: int, c: Tree = None, mean: bool = False) -> Tensor:
        """n new rows, step by step: z_t from its prior, then x_t, or with ``mean`` the value that stands for it."""
        with torch.no_grad():
            value = center if mean else (lambda px: px.sample())
            return self._generate((n,), c, lambda _, h: normal_of(self.prior(h)).rsample(), value)[1]
