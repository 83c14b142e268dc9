"""Priors made of the model's own posterior at some data, learned or real, and priors of two groups of codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals import DiagonalNormalPosterior
from latens.errors import require
from latens.tensors.trees import Tree


class PseudoInputs(nn.Module):
    """Learned data ``[K, *event]``: shift + unit * parameter, or where ``log`` is true exp of that less ``plus``, which
    is 1 for counts and 0 for what is always positive.

    ``start``: the data they begin as, in the user's units; they stay in the user's units, learned in the encoder's.
    """

    shift: Tensor
    unit: Tensor
    log: Tensor
    plus: Tensor

    def __init__(
        self, start: Tensor, shift: Tensor, unit: Tensor, *, log: Tensor | bool = False, plus: Tensor | float = 1.0
    ):
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("unit", unit)
        self.register_buffer("log", torch.as_tensor(log), persistent=False)
        self.register_buffer("plus", torch.as_tensor(plus), persistent=False)
        seen = torch.where(self.log, (torch.where(self.log, start, 1.0) + self.plus).clamp_min(1e-300).log(), start)
        self.inner = nn.Parameter(((seen - shift) / unit).to(unit.dtype))

    def forward(self) -> Tensor:
        x = self.shift + self.unit * self.inner
        return torch.where(self.log, torch.where(self.log, x, 0.0).exp() - self.plus, x)


class Vamp(nn.Module):
    """p(z) = sum_k w_k q(z|u_k), q the model's posterior and u_k learned pseudo-inputs (Tomczak & Welling 2018).

    ``posterior``: the very module of the model, a :class:`latens.conditionals.DiagonalNormalPosterior`; it is shared,
    saved once and counted once. ``inputs``: a module without arguments that gives the K pseudo-inputs. ``c``: the
    conditions that they are seen under, ``{key: [K]}``, which stay as they are; the prior itself is the same for every
    condition. The weights w are learned from 1/K. Raises ``ValueError`` for a posterior of another kind.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, posterior: nn.Module, inputs: nn.Module, c: Tree = None):
        super().__init__()
        _require_normal(posterior)
        self.posterior, self.inputs, self.given = posterior, inputs, _Held(c)
        self.logits = nn.Parameter(torch.zeros(len(inputs())))

    def forward(self, c: Tree = None) -> Distribution:
        q = self.posterior(self.inputs(), self.given())
        return d.NormalMixture(self.logits, q.mean, q.variance)


class Exemplar(nn.Module):
    """p(z) = (1/M) sum_m N(z; g(x_m), s^2 I), g the means of the model's posterior, x_m rows of the training set and s
    learned (Norouzi, Fleet & Norouzi 2020).

    ``x, c``: M rows in the model's layout with their conditions, kept in buffers, so that they are saved with the
    model. While training, a row's own prior leaves out the exemplars that are equal to it (:meth:`without`), so that no
    row is explained by itself; rows are compared by a projection of their values, so what a transform makes anew in
    every epoch is not recognised. The prior is the same for every condition. Raises ``ValueError`` for a posterior of
    another kind, and for fewer than two rows.
    """

    reads: tuple[str, ...] = ()
    x: Tensor
    directions: Tensor

    def __init__(self, posterior: nn.Module, x: Tensor, c: Tree = None):
        super().__init__()
        _require_normal(posterior)
        require(len(x) >= 2, "the number of exemplars", "at least 2", len(x))
        self.posterior, self.given = posterior, _Held(c)
        self.register_buffer("x", x.clone())
        directions = torch.randn(x[0].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("directions", directions, persistent=False)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, c: Tree = None) -> Distribution:
        loc = self.posterior(self.x, self.given()).mean
        return d.NormalMixture(loc.new_zeros(len(loc)), loc, (2 * self.log_scale).exp().expand_as(loc))

    def without(self, p: d.NormalMixture, x: Tensor) -> Distribution:
        """p for each row of ``x``, leaving out the exemplars that the row equals (all are kept where all do)."""
        mine, theirs = self._mark(x).unsqueeze(-1), self._mark(self.x)
        same = (mine - theirs).abs() <= 1e-9 * theirs.abs()  # B x M
        same = same & ~same.all(-1, keepdim=True)
        return d.NormalMixture(p.logits.masked_fill(same, -torch.inf), p.loc, p.component_variance)

    @torch.no_grad()
    def _mark(self, x: Tensor) -> Tensor:
        """One number a row that tells rows apart, ``[B]``."""
        return (x.double().nan_to_num(nan=-7.25) * self.directions.to(x.device)).flatten(1).sum(-1)


class ChainedPrior(nn.Module):
    """p(a) p(b|a) over z = (a, b) side by side: ``first`` a prior, ``second`` a
    :class:`latens.conditionals.DiagonalNormalPosterior`, or a ``DitheredNormal``, ``[..., A]`` -> ``size``
    dimensions of b (Tomczak & Welling 2018; Ballé et al. 2018)."""

    def __init__(self, first: nn.Module, second: nn.Module, size: int):
        super().__init__()
        self.first, self.second, self.size, self.reads = first, second, size, tuple(getattr(first, "reads", ()))

    def forward(self, c: Tree = None) -> Distribution:
        return d.Chained(self.first(c), self.second, self.size)


class _Held(nn.Module):
    """A flat mapping of tensors kept in buffers, or None."""

    def __init__(self, c: Tree):
        super().__init__()
        self.names = tuple(c) if c else ()
        for name in self.names:
            self.register_buffer(f"of_{self.names.index(name)}", c[name].clone())

    def forward(self) -> Tree:
        return {name: getattr(self, f"of_{number}") for number, name in enumerate(self.names)} or None


def _require_normal(posterior: nn.Module) -> None:
    if not isinstance(posterior, DiagonalNormalPosterior):
        raise ValueError(
            f"a prior made of the posterior needs one that is diagonal normal, got {type(posterior).__name__}"
        )
