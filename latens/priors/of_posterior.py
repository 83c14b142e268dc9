"""Priors made of the model's own posterior at some rows, learned or real; and priors of two groups of codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals import DiagonalNormalPosterior
from latens.errors import require
from latens.tensors.trees import Tree


class PseudoInputs(nn.Module):
    """Learned rows ``[K, *event]`` in the user's units. They are learned in the encoder's units: shift + unit ×
    parameter.

    Args:
        start: ``[K, *event]``, the starting values of the rows, in the user's units.
        shift: the encoder's centre.
        unit: the encoder's scale.
        log: if true, a cell is the exponential of that sum, minus ``plus``.
        plus: 1 for counts, 0 for values that are always positive.
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
        """The rows, ``[K, *event]``."""
        x = self.shift + self.unit * self.inner
        return torch.where(self.log, torch.where(self.log, x, 0.0).exp() - self.plus, x)


class Vamp(nn.Module):
    r"""The mixture of the posteriors at learned pseudo-inputs (Tomczak & Welling 2018).

    .. math:: p(z) = \sum_k w_k\, q(z \mid u_k)

    The weights w are learned, starting at 1/K. The prior is the same for every condition.

    Args:
        posterior: the model's own module, a :class:`latens.conditionals.DiagonalNormalPosterior`, which is shared:
            saved once and counted once. ``ValueError`` for another kind.
        inputs: a module without arguments that gives the K pseudo-inputs u.
        c: the conditions ``{key: [K]}`` under which the posterior sees them; they are not learned.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, posterior: nn.Module, inputs: nn.Module, c: Tree = None):
        super().__init__()
        _require_normal(posterior)
        self.posterior, self.inputs, self.given = posterior, inputs, _Held(c)
        self.logits = nn.Parameter(torch.zeros(len(inputs())))

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[Z]``."""
        q = self.posterior(self.inputs(), self.given())
        return d.NormalMixture(self.logits, q.mean, q.variance)


class Exemplar(nn.Module):
    r"""The equally weighted mixture of normals around the posterior means of M training rows (Norouzi, Fleet & Norouzi
    2020).

    .. math:: p(z) = \frac1M \sum_m \mathcal{N}(z; g(x_m), s^2 I)

    The scale s is learned. In training, the prior of a row leaves out the exemplars that equal the row
    (:meth:`without`), so that no row explains itself. Rows are compared by a projection of their values, so a row that
    a transform changes in each epoch is not recognised. The prior is the same for every condition.

    Args:
        posterior: the model's own module, a :class:`latens.conditionals.DiagonalNormalPosterior`. ``ValueError`` for
            another kind.
        x: M >= 2 rows in the model's layout, which are saved with the model.
        c: their conditions, ``{key: [M]}``.
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
        """p(z) over codes ``[Z]``."""
        loc = self.posterior(self.x, self.given()).mean
        return d.NormalMixture(loc.new_zeros(len(loc)), loc, (2 * self.log_scale).exp().expand_as(loc))

    def without(self, p: d.NormalMixture, x: Tensor) -> Distribution:
        """For each row of x ``[B, *event]``, p without the exemplars that equal the row (p itself if all do)."""
        mine, theirs = self._mark(x).unsqueeze(-1), self._mark(self.x)
        same = (mine - theirs).abs() <= 1e-9 * theirs.abs()  # B x M
        same = same & ~same.all(-1, keepdim=True)
        return d.NormalMixture(p.logits.masked_fill(same, -torch.inf), p.loc, p.component_variance)

    @torch.no_grad()
    def _mark(self, x: Tensor) -> Tensor:
        """One number for each row, by which rows can be distinguished, ``[B]``."""
        return (x.double().nan_to_num(nan=-7.25) * self.directions.to(x.device)).flatten(1).sum(-1)


class ChainedPrior(nn.Module):
    r"""Two groups of codes z = (a, b), where b is given a (Tomczak & Welling 2018; Ballé et al. 2018).

    .. math:: p(z) = p(a)\, p(b \mid a)

    Args:
        first: the prior of a.
        second: a :class:`latens.conditionals.DiagonalNormalPosterior` or ``DitheredNormal``, from ``[..., A]`` to b.
        size: the number of dimensions of b.
    """

    def __init__(self, first: nn.Module, second: nn.Module, size: int):
        super().__init__()
        self.first, self.second, self.size, self.reads = first, second, size, tuple(getattr(first, "reads", ()))

    def forward(self, c: Tree = None) -> Distribution:
        """p(z) over codes ``[A + size]``."""
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
            f"the posterior of such a prior must be a diagonal normal, got {type(posterior).__name__}"
        )
