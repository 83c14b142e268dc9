"""The ways to estimate -ln p(x), with one interface."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from latens.errors import is_whole, require
from latens.evaluation.annealing import Annealed, annealed_nll
from latens.evaluation.grid import grid_nll
from latens.evaluation.likelihood import NLL, PROPOSALS, nll
from latens.evaluation.tails import largest_k_hat
from latens.tensors.trees import Tree

METHODS = ("iw", "ais", "grid")


@dataclass(frozen=True)
class Estimator:
    """How -ln p(x) of rows is estimated.

    Args:
        method: "iw", importance weighting (:func:`latens.evaluation.nll`); "ais", annealed importance sampling
            (:func:`latens.evaluation.annealed_nll`); "grid", quadrature for one or two latent dimensions
            (:func:`latens.evaluation.grid_nll`).
        k, proposal: for "iw", the number of draws per row and their source; k = 0 omits the estimate.
        chains, temperatures: the settings of "ais".

    Raises:
        InputError: a value is out of range.

    >>> Estimator("ais", temperatures=500).temperatures
    500
    """

    method: str = "iw"
    k: int = 100
    proposal: str = "encoder"
    chains: int = 16
    temperatures: int = 200

    def __post_init__(self) -> None:
        require(self.method in METHODS, "nll", f"one of {', '.join(METHODS)}", self.method)
        require(self.proposal in PROPOSALS, "proposal", f"one of {', '.join(PROPOSALS)}", self.proposal)
        require(is_whole(self.k) and self.k >= 0, "k", "a whole number from 0", self.k)
        for name in ("chains", "temperatures"):
            value = getattr(self, name)
            require(is_whole(value) and value >= 1, name, "a whole number from 1", value)

    @property
    def off(self) -> bool:
        """Whether there is nothing to estimate."""
        return self.method == "iw" and self.k == 0

    def __call__(self, model: nn.Module, x: Tree, c: Tree = None, *, seed: int = 0) -> NLL:
        """-ln p(x) of each row, ``[N]`` nats."""
        if self.method == "grid":
            return grid_nll(model, x, c)
        if self.method == "ais":
            return annealed_nll(model, x, c, chains=self.chains, temperatures=self.temperatures, seed=seed)
        return nll(model, x, self.k, c, seed=seed, proposal=self.proposal)

    def conditions(self, found: NLL) -> str:
        """The conditions of an estimate, as text."""
        rows = f"{len(found.rows):,} rows"
        if self.method == "grid":
            return f"quadrature, {found.k:,} codes per row, largest error {float(found.row_error.max()):.1g}, {rows}"
        if isinstance(found, Annealed):
            return (
                f"annealed, {found.k} chains of {found.temperatures} temperatures, {found.acceptance:.0%} accepted, "
                f"effective {found.mean_ess:.1f}, {rows}"
            )
        mixed = "" if found.mixed is None else f", mixture for {float(found.mixed.double().mean()):.0%}"
        return f"K = {found.k}, effective {found.mean_ess:.1f}{mixed}, {rows}"

    def verdict(self, found: NLL) -> str | None:
        """A sentence if the draws are too few for more than one row in a hundred, else None."""
        if found.unreliable is None or found.unreliable <= 0.01:
            return None
        return (
            f"too high by an unknown amount: K = {found.k} draws are too few for {found.unreliable:.0%} of these rows "
            f"(Pareto k-hat above {largest_k_hat(found.k):.2g}); use more draws, or ais"
        )
