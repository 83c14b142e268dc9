"""Lower bounds on ln p(x)."""

from __future__ import annotations

from torch import Tensor, nn

from latens.errors import is_number, is_whole, require
from latens.models.draw import Draw
from latens.objectives.base import Objective, mean_over_rows
from latens.tensors.numerics import log_mean_exp
from latens.tensors.trees import Tree


def annealed_log_w(draw: Draw, anneal: Tensor) -> Tensor:
    """ln p(x|z) + anneal [ln p(z) - ln q(z|x)], ``[K, B]``; ``ValueError`` where there is no bound."""
    if draw.no_bound is not None or draw.log_qz is None:
        return draw.log_w  # says why
    return draw.log_px + anneal * (draw.log_pz - draw.log_qz)


class ELBO(Objective):
    """E_q[ln p(x|z)] - beta KL(q(z|x) || p(z)), the mean over ``samples`` draws (Kingma & Welling 2014).

    beta = 1 is the evidence lower bound; other values are Higgins et al. 2017. For a normal likelihood with fixed c,
    beta c has the same optimum as (1, beta c), not the same value. ``kl``: "auto" (closed form where there is one),
    "closed" or "sampled". beta = 0 leaves the distortion alone: the loss of a plain autoencoder, which needs no
    density of q. Raises ``ValueError`` for a negative beta or fewer than one sample.
    """

    def __init__(self, beta: float = 1.0, samples: int = 1, kl: str = "auto"):
        super().__init__()
        require(is_number(beta) and beta >= 0, "beta", "a number from 0", beta)
        require(is_whole(samples) and samples >= 1, "samples", "a whole number from 1", samples)
        if kl not in ("auto", "closed", "sampled"):
            raise ValueError(f"kl must be 'auto', 'closed' or 'sampled', got {kl!r}")
        self.beta, self._rated, self.samples, self.kl = float(beta), beta != 0, samples, kl

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, ``[B]`` nats."""
        if not self._rated:
            return draw.log_px.mean(0)
        return (draw.log_px - self.beta * self.anneal * draw.rate(self.kl)).mean(0)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}


class IWAE(Objective):
    """E[ln (1/k) sum_k w_k], w = p(x|z) p(z) / q(z|x): tighter with every k (Burda et al. 2016).

    With ``m`` > 1 the mean of m such bounds (MIWAE, Rainforth et al. 2018); with ``mix`` in [0, 1] the combination
    mix ELBO + (1 - mix) IWAE (CIWAE, same paper), the ELBO taken with the sampled rate. The value is the bound itself,
    not a surrogate of its gradient. Raises ``ValueError`` for k or m below 1 or a mix outside [0, 1].
    """

    def __init__(self, k: int, m: int = 1, mix: float = 0.0):
        super().__init__()
        require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
        require(is_whole(m) and m >= 1, "m", "a whole number from 1", m)
        require(is_number(mix) and 0 <= mix <= 1, "mix", "a number from 0 to 1", mix)
        self.k, self.m, self.mix, self.samples = k, m, mix, k * m

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, ``[B]`` nats."""
        log_w = annealed_log_w(draw, self.anneal)  # (k m) x B
        if len(log_w) != self.k * self.m:
            raise ValueError(f"this objective takes {self.k * self.m} draws a row, the draw has {len(log_w)}")
        tight = log_mean_exp(log_w.unflatten(0, (self.k, self.m)), 0).mean(0)
        return tight if self.mix == 0 else self.mix * log_w.mean(0) + (1 - self.mix) * tight

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}
