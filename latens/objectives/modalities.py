"""Additions to a bound for several modalities."""

from __future__ import annotations

from torch import Tensor, nn

from latens.conditionals.modalities import Experts
from latens.distributions import closed_kl
from latens.models.draw import Draw
from latens.objectives.base import Penalty, mean_over_rows
from latens.objectives.bounds import ELBO
from latens.tensors.trees import Tree


class ELBOWithSingles(ELBO):
    """The ELBO of all modalities plus the ELBO of each modality alone, so that an expert also works if others are
    missing.

    The loss is minus their sum (Wu & Goodman 2018, with subsets of a single modality).
    """

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the sum of the mean bounds}, a scalar."""
        total = super().losses(model, x, draw)["model"]
        for name, part in _experts(model).parts(x).items():
            single = model.draw({name: part}, self.samples, draw.c)  # type: ignore[operator]
            total = total - mean_over_rows(self.bound(single), draw.weight)
        return {"model": total}


class Agreement(Penalty):
    r"""Makes each expert agree with the joint posterior (Suzuki, Nakayama & Matsuo 2016).

    .. math:: \sum_m \operatorname{KL}(q(z \mid x) \,\|\, q_m(z \mid x_m))

    over the modalities, for complete rows.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The mean over rows, in nats, a scalar."""
        normals, present = _experts(model).opinions(x, draw.c)
        complete = present.all(-1)
        apart = [closed_kl(draw.q, q) * complete for q in normals]
        return mean_over_rows(sum(apart[1:], apart[0]), draw.weight)


def _experts(model: nn.Module) -> Experts:
    posterior = model.posterior
    if not isinstance(posterior, Experts):
        raise ValueError(f"the posterior of this objective must have several experts, got {type(posterior).__name__}")
    return posterior
