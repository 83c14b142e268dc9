"""Lower bounds on ln p(x)."""

from __future__ import annotations

from torch import Tensor, nn

from latens.errors import is_number, is_whole, require
from latens.models.draw import Draw
from latens.objectives.base import Objective, mean_over_rows
from latens.tensors.numerics import log_mean_exp
from latens.tensors.trees import Tree


def annealed_log_w(draw: Draw, anneal: Tensor) -> Tensor:
    """ln p(x|z) + anneal [ln p(z) - ln q(z|x)], in nats, ``[K, B]``; ``ValueError`` if there is no bound."""
    if draw.no_bound is not None or draw.log_qz is None:
        return draw.log_w  # which raises the error with the reason
    return draw.log_px + anneal * (draw.log_pz - draw.log_qz)


class ELBO(Objective):
    r"""The evidence lower bound, with a weight on the rate (Kingma & Welling 2014; beta: Higgins et al. 2017).

    .. math:: \operatorname{E}_q[\ln p(x \mid z)] - \beta \operatorname{KL}(q(z \mid x) \,\|\, p(z)) \le \ln p(x)
        \quad \text{for } \beta = 1

    For a normal likelihood with a fixed variance c, (beta, c) has the same optimum as (1, beta c), but not the same
    value. With beta = 0 only the distortion is left: the loss of a plain autoencoder, which needs no density of q.

    Args:
        beta: from 0.
        samples: draws per row, at least 1.
        kl: "auto" (closed form if there is one), "closed" or "sampled".

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, beta: float = 1.0, samples: int = 1, kl: str = "auto"):
        super().__init__()
        require(is_number(beta) and beta >= 0, "beta", "a number from 0", beta)
        require(is_whole(samples) and samples >= 1, "samples", "a whole number from 1", samples)
        if kl not in ("auto", "closed", "sampled"):
            raise ValueError(f"kl must be 'auto', 'closed' or 'sampled', got {kl!r}")
        self.beta, self._rated, self.samples, self.kl = float(beta), beta != 0, samples, kl

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, in nats, ``[B]``."""
        if not self._rated:
            return draw.log_px.mean(0)
        return (draw.log_px - self.beta * self.anneal * draw.rate(self.kl)).mean(0)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean bound}, a scalar."""
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}


class IWAE(Objective):
    r"""The importance-weighted bound, tighter with every k (Burda et al. 2016).

    .. math:: \operatorname{E}\left[\ln \frac1k \sum_{i=1}^k w_i\right] \le \ln p(x), \qquad
        w = \frac{p(x \mid z)\, p(z)}{q(z \mid x)}

    The value is the bound itself, not a surrogate that only has the bound's gradient.

    Args:
        k: the number of draws in each logarithm, at least 1.
        m: the result is the mean of m such bounds (MIWAE, Rainforth et al. 2018).
        mix: in [0, 1]; the result is mix ELBO + (1 - mix) IWAE, where the ELBO has the sampled rate (CIWAE, same
            paper).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, k: int, m: int = 1, mix: float = 0.0):
        super().__init__()
        require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
        require(is_whole(m) and m >= 1, "m", "a whole number from 1", m)
        require(is_number(mix) and 0 <= mix <= 1, "mix", "a number from 0 to 1", mix)
        self.k, self.m, self.mix, self.samples = k, m, mix, k * m

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, in nats, ``[B]``."""
        log_w = annealed_log_w(draw, self.anneal)  # (k m) x B
        if len(log_w) != self.k * self.m:
            raise ValueError(f"the draw must have {self.k * self.m} draws per row, got {len(log_w)}")
        tight = log_mean_exp(log_w.unflatten(0, (self.k, self.m)), 0).mean(0)
        return tight if self.mix == 0 else self.mix * log_w.mean(0) + (1 - self.mix) * tight

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean bound}, a scalar."""
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}
