"""Additions to a bound for discrete codes: score-function gradients, and losses that tie codes and encoder together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens.errors import is_whole, require
from latens.models.draw import Draw
from latens.objectives.base import Penalty, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.tensors.numerics import log_mean_exp
from latens.tensors.trees import Tree


def _with_score(bound: Tensor, signal: Tensor, log_q: Tensor | None) -> Tensor:
    """The bound; sum_k signal_k d ln q_k is added to its gradient, but not to its value."""
    if log_q is None:
        raise ValueError("the posterior has no density, which a score function needs: use one that has")
    return bound + (signal.detach() * (log_q - log_q.detach())).sum(0)


class Reinforce(ELBO):
    r"""The ELBO for draws that carry no gradient, by the score function (Williams 1992).

    .. math:: \frac1K \sum_k \left(f_k - \bar f_{-k}\right) \nabla \ln q(z_k \mid x), \qquad
        f = \ln p(x \mid z) - \beta\, \mathrm{rate}

    where the mean of the other draws is the baseline (Kool, van Hoof & Welling 2019). The value is the ELBO, and the
    gradient is unbiased. ``ValueError`` for fewer than 2 samples.

    Args:
        beta: from 0.
        samples: K, at least 2.
        kl: see :class:`ELBO`.
    """

    def __init__(self, beta: float = 1.0, samples: int = 4, kl: str = "auto"):
        super().__init__(beta, samples, kl)
        require(is_whole(samples) and samples >= 2, "samples", "a whole number from 2", samples)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean bound, with the score's gradient}, a scalar."""
        f = draw.log_px - self.beta * self.anneal * draw.rate(self.kl)  # K x B
        signal = (f - f.mean(0)) / (len(f) - 1)  # each minus the mean of the others, divided by K
        return {"model": -mean_over_rows(_with_score(f.mean(0), signal, draw.log_qz), draw.weight)}


class Vimco(IWAE):
    r"""The importance-weighted bound L of draws that carry no gradient (Mnih & Rezende 2016).

    .. math:: \sum_k (L - L_{-k}) \nabla \ln q(z_k \mid x)

    where :math:`L_{-k}` has the geometric mean of the other weights instead of :math:`w_k`. The value is the bound, and
    the gradient is unbiased. ``ValueError`` for k below 2.
    """

    def __init__(self, k: int):
        super().__init__(k)
        require(is_whole(k) and k >= 2, "k", "a whole number from 2", k)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean bound, with the score's gradient}, a scalar."""
        bound, log_qz = self.bound(draw), draw.log_qz
        assert log_qz is not None
        log_w = (draw.log_px + self.anneal * (draw.log_pz - log_qz)).detach()  # K x B
        others = (log_w.sum(0) - log_w) / (len(log_w) - 1)
        own = torch.eye(len(log_w), dtype=torch.bool, device=log_w.device).unsqueeze(-1)
        without = log_mean_exp(torch.where(own, others, log_w.unsqueeze(0)), 1)
        return {"model": -mean_over_rows(_with_score(bound, bound - without, log_qz), draw.weight)}


class Commitment(Penalty):
    r"""Keeps an encoder close to the codes that it chooses (van den Oord et al. 2017).

    .. math:: \lVert f(x) - \operatorname{stop}(\mathrm{code}) \rVert^2

    It is summed over the dimensions of a row and averaged over the batch, so a batch given twice has the same loss.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The mean over rows, a scalar."""
        return mean_over_rows((draw.q.before - draw.q.value.detach()).square().sum(-1), draw.weight)  # type: ignore[attr-defined]


class CodebookLoss(Penalty):
    r"""Moves the codes of a codebook towards the encoder's output (van den Oord et al. 2017).

    .. math:: \lVert \operatorname{stop}(f(x)) - \mathrm{code} \rVert^2

    It is for a codebook that is trained by gradient. It is summed over the dimensions of a row and averaged over the
    batch.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The mean over rows, a scalar."""
        return mean_over_rows((draw.q.before.detach() - draw.q.code).square().sum(-1), draw.weight)  # type: ignore[attr-defined]
