"""A second VAE that learns the distribution of the codes of a first VAE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens.distributions import Drawn, center, rsample_and_log_prob
from latens.models.draw import Draw
from latens.models.ladder import rsample_rows
from latens.models.vae import VAE
from latens.tensors.trees import Tree, rows


class TwoStage(VAE):
    r"""A VAE of x whose codes z are modelled by a second VAE (Dai & Wipf 2019).

    .. math:: p(u)\, p(z \mid u)\, p(x \mid z)

    Samples follow the distribution of the codes themselves, instead of the first prior. A draw has the codes z and u,
    and E[w] = p(x) under this model.

    Args:
        prior: the prior under which the first stage is trained (:class:`latens.objectives.TwoStageELBO`); the final
            model does not use it.
        posterior: q(z|x).
        likelihood: p(x|z).
        second: the VAE of the codes.
    """

    def __init__(self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module, second: VAE):
        super().__init__(prior, posterior, likelihood)
        self.second = second

    def first_draw(self, x: Tree, k: int = 1, c: Tree = None) -> Draw:
        """k draws of the first stage under its own prior."""
        return super().draw(x, k, c)

    def second_draw(self, z: Tensor) -> Draw:
        """A draw u for each code ``[K, B, Z]``: a draw of the second stage with the codes as its data."""
        q = self.second.encode(z)
        u = rsample_rows(q)  # type: ignore[arg-type]
        pz, p = self.second.decode(u), self.second.prior()
        return Draw(u, pz.log_prob(z), p.log_prob(u), q.log_prob(u), pz, p, q)

    def draw(self, x: Tree, k: int = 1, c: Tree = None) -> Draw:  # type: ignore[override]
        """k draws of z and u for each row, with log-densities ``[k, B]``."""
        if k < 1:
            raise ValueError(f"the number of draws k must be at least 1, got {k}")
        q = self._run("posterior", x, c=c)
        z, log_qz = rsample_and_log_prob(q, k)
        px, inner = self._run("likelihood", z, c=c), self.second_draw(z)
        assert log_qz is not None and inner.log_qz is not None
        both = Drawn(center(q), lambda k: q.sample(torch.Size((k,))))
        log_pz, log_qz = inner.log_px + inner.log_pz, log_qz + inner.log_qz
        return Draw((z, inner.z), px.log_prob(x), log_pz, log_qz, px, both, both, c).check(k, rows(x))

    def sample(self, n: int, c: Tree = None, mean: bool = False) -> Tensor:
        """n new rows: u ~ p(u), z ~ p(z|u), then x, or with ``mean`` the value that stands for p(x|z)."""
        with torch.no_grad():
            px = self.decode(self.second.sample(n), c)
            return center(px) if mean else px.sample()
