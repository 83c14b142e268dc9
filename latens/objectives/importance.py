"""Other functions of the importance weights of several draws: Rényi bounds and the thermodynamic bound."""

from __future__ import annotations

import math

from torch import Tensor, nn

from latens.errors import is_number, is_whole, require, require_count
from latens.models.draw import Draw
from latens.objectives.base import Objective, mean_over_rows
from latens.objectives.bounds import annealed_log_w
from latens.tensors.numerics import log_mean_exp
from latens.tensors.trees import Tree


class _OfWeights(Objective):
    """An objective that is a function of the k log-weights of each row."""

    def __init__(self, k: int):
        super().__init__()
        require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
        self.samples = int(k)

    def bound(self, draw: Draw) -> Tensor:
        """The objective of each row, in nats, ``[B]``."""
        raise NotImplementedError

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"model": minus the mean objective}, a scalar."""
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}


class Renyi(_OfWeights):
    r"""The Rényi bound (Li & Turner 2016).

    .. math:: \frac{1}{1 - \alpha} \ln \frac1k \sum_{i=1}^k w_i^{1 - \alpha}, \qquad
        w = \frac{p(x \mid z)\, p(z)}{q(z \mid x)}

    alpha = 1 (the limit) is the ELBO, alpha = 0 is IWAE; the value falls as alpha rises. For alpha >= 0 it is, in
    expectation, a lower bound on ln p(x). For alpha < 0 it is not a bound. For alpha = -inf it is the largest ln w
    (VR-max), which exceeds IWAE by up to ln k; ``latens evaluate`` then still prints the ELBO and the
    importance-weighted estimate. As k grows, the value tends to ln p(x) minus Rényi's divergence of q(z|x) from p(z|x).
    ``ValueError`` for k below 1, and for an alpha that is not a number.

    Args:
        alpha: a number, or -inf.
        k: draws per row, at least 1.
    """

    def __init__(self, alpha: float, k: int):
        super().__init__(k)
        require(is_number(alpha) or alpha == -math.inf, "alpha", "a number, or -inf", alpha)
        self.alpha = float(alpha)

    def bound(self, draw: Draw) -> Tensor:
        """The objective of each row, in nats, ``[B]``."""
        log_w = annealed_log_w(draw, self.anneal)  # k x B
        if self.alpha == 1:
            return log_w.mean(0)
        if self.alpha == -math.inf:
            return log_w.max(0).values
        return log_mean_exp((1 - self.alpha) * log_w, 0) / (1 - self.alpha)


class Thermodynamic(_OfWeights):
    r"""The thermodynamic bound (TVO, Masrani, Le & Wood 2019).

    .. math:: \sum_{j=0}^{J-1} (b_{j+1} - b_j) \operatorname{E}_{b_j}[\ln w], \qquad 0 = b_0 < b_1 < \dots < b_J = 1

    where the mean is taken under weights proportional to :math:`w^{b_j}` of k draws. It is the left Riemann sum of
    :math:`\ln p(x) = \int_0^1 \operatorname{E}_b[\ln w]\, db`, where the mean is under :math:`q^{1 - b}\, p(x, z)^b`.
    The integrand rises with b. This also holds on the k draws, on which the integral is the importance-weighted bound,
    so ELBO <= this <= IWAE on the same draws. The gradient is that of this value through z, not the paper's covariance.
    ``ValueError`` for sizes below 1, and for a ``first`` outside (0, 1).

    Args:
        k: draws per row, at least 1.
        partitions: J; 1 gives the ELBO.
        first: b_1; b_1 … b_J = 1 are evenly spaced in ln b.
    """

    def __init__(self, k: int, partitions: int = 8, first: float = 0.03):
        super().__init__(k)
        require_count(partitions, "partitions", most=10_000)
        require(is_number(first) and 0 < first < 1, "first", "a number between 0 and 1", first)
        rising = [first ** (1 - j / (partitions - 1)) for j in range(partitions)] if partitions > 1 else [1.0]
        self.betas = [0.0, *rising]

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, in nats, ``[B]``."""
        log_w = annealed_log_w(draw, self.anneal)  # k x B
        total = log_w.new_zeros(log_w.shape[1])
        for low, high in zip(self.betas, self.betas[1:], strict=False):
            total = total + (high - low) * ((low * log_w).softmax(0) * log_w).sum(0)
        return total
