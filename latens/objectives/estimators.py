"""Estimators of the encoder's gradient other than the plain gradient of the bound."""

from __future__ import annotations

from torch import Tensor, nn

from latens.distributions import detached
from latens.errors import is_whole, require
from latens.models.draw import Draw
from latens.objectives.base import Objective, Player, mean_over_rows
from latens.objectives.bounds import IWAE, annealed_log_w
from latens.tensors.trees import Tree


def _with_held_density(draw: Draw, anneal: Tensor) -> Tensor:
    """ln w of each draw, with the parameters of q(z|x) detached inside ln q, ``[K, B]``: the encoder's gradient goes
    only through z.
    """
    log_w = annealed_log_w(draw, anneal)
    assert isinstance(draw.z, Tensor) and draw.log_qz is not None
    return log_w + anneal * (draw.log_qz - detached(draw.q).log_prob(draw.z))


class StickingTheLanding(Objective):
    r"""The ELBO without the score of q in its gradient (Roeder, Wu & Duvenaud 2017).

    The value is that of the ELBO with the sampled rate. The gradient has the same mean, since
    :math:`\operatorname{E}_q[\nabla \ln q] = 0`. If q(z|x) = p(z|x), the encoder's gradient is 0 for every draw, which
    the plain gradient is not.

    ``ValueError`` for samples below 1 and, in the first step, for a posterior that is not normal.
    """

    def __init__(self, samples: int = 1):
        super().__init__()
        require(is_whole(samples) and samples >= 1, "samples", "a whole number from 1", samples)
        self.samples = int(samples)

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, in nats, ``[B]``."""
        return _with_held_density(draw, self.anneal).mean(0)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean bound}, a scalar."""
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}


class EncoderApart(Objective):
    """Two players: "encoder" moves the posterior's parameters by a separate loss, "model" moves all others.

    The loss of "model" is minus a bound; this bound is reported, and decides which weights are kept.
    """

    def players(self, model: nn.Module) -> dict[str, Player]:
        """{"model": all other parameters, "encoder": those of the posterior}."""
        encoder = [p for p in model.posterior.parameters() if p.requires_grad]  # type: ignore[union-attr]
        own = {id(p) for p in encoder}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        return {"model": Player(others), "encoder": Player(encoder)}


class PIWAE(EncoderApart):
    """MIWAE(k, m) for the encoder, and IWAE(m k) of the same draws for everything else (Rainforth et al. 2018).

    More draws in a logarithm help the decoder, but drown the encoder's gradient in noise; here each gets what it needs.
    ``ValueError`` for k or m below 1.
    """

    def __init__(self, k: int, m: int):
        super().__init__()
        self.outer, self.inner = IWAE(k, m=m), IWAE(k * m)
        self.samples = k * m

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus IWAE(m k), "encoder": minus MIWAE(k, m)}, scalars."""
        return self.inner.losses(model, x, draw) | {"encoder": self.outer.losses(model, x, draw)["model"]}


class DReG(EncoderApart):
    r"""IWAE(k) with the doubly reparametrised gradient of the encoder (Tucker et al. 2019).

    .. math:: \sum_k v_k^2\, \frac{\partial \ln w_k}{\partial z_k} \frac{\partial z_k}{\partial \varphi}

    where v are the normalised weights. It has the mean of IWAE's gradient, without the score of q, whose noise grows
    with k relative to the signal. During KL warm-up, ln w = ln p(x|z) + a [ln p(z) - ln q], and v² becomes (1 - a) v +
    a v² by the same argument. ``ValueError`` for k below 1 and, in the first step, for a posterior that is not normal.
    """

    def __init__(self, k: int):
        super().__init__()
        self.plain, self.samples = IWAE(k), int(k)

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus IWAE(k), "encoder": the surrogate with this gradient}, scalars."""
        log_w = _with_held_density(draw, self.anneal)  # k x B
        v = log_w.detach().softmax(0)
        through = ((1 - self.anneal + self.anneal * v) * v * log_w).sum(0)
        return self.plain.losses(model, x, draw) | {"encoder": -mean_over_rows(through, draw.weight)}
