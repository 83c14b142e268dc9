"""Further functions of the importance weights of several draws: Rényi bounds and the thermodynamic bound."""

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
        """The objective of each row, ``[B]`` nats."""
        raise NotImplementedError

    def losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        return {"model": -mean_over_rows(self.bound(draw), draw.weight)}


class Renyi(_OfWeights):
    """1 / (1 - alpha) ln (1/k) sum_k w_k^(1 - alpha), w = p(x|z) p(z) / q(z|x) (Li & Turner 2016).

    alpha = 1 (the limit) is the ELBO, alpha = 0 IWAE; it falls as alpha rises. From 0 on it is a lower bound on ln p(x)
    in expectation. Below 0 it is none: for alpha = -inf it is max_k ln w_k (VR-max), above IWAE by up to ln k, and what
    ``latens evaluate`` prints is the ELBO and the importance-weighted estimate all the same. As k grows it tends to ln
    p(x) - D_alpha(q(z|x) || p(z|x)), Rényi's divergence. Raises ``ValueError`` for k below 1 and an alpha that is no
    number.
    """

    def __init__(self, alpha: float, k: int):
        super().__init__(k)
        require(is_number(alpha) or alpha == -math.inf, "alpha", "a number, or -inf", alpha)
        self.alpha = float(alpha)

    def bound(self, draw: Draw) -> Tensor:
        log_w = annealed_log_w(draw, self.anneal)  # k x B
        if self.alpha == 1:
            return log_w.mean(0)
        if self.alpha == -math.inf:
            return log_w.max(0).values
        return log_mean_exp((1 - self.alpha) * log_w, 0) / (1 - self.alpha)


class Thermodynamic(_OfWeights):
    """sum_j (b_{j+1} - b_j) E_{b_j}[ln w], 0 = b_0 < b_1 < … < b_J = 1, the mean under weights proportional to w^b_j of
    k draws (TVO, Masrani, Le & Wood 2019).

    It is the left Riemann sum of ln p(x) = int_0^1 E_b[ln w] db, the mean under q^(1 - b) p(x, z)^b. The integrand
    rises with b, for the k draws too, where the integral is the importance-weighted bound: ELBO <= this <= IWAE on the
    same draws. J = ``partitions``; b_1 = ``first``, b_2 … b_J = 1 spaced evenly in ln b; J = 1 is the ELBO. The
    gradient is that of this value through z, not the paper's covariance. Raises ``ValueError`` for sizes below 1 and a
    ``first`` outside (0, 1).
    """

    def __init__(self, k: int, partitions: int = 8, first: float = 0.03):
        super().__init__(k)
        require_count(partitions, "partitions", most=10_000)
        require(is_number(first) and 0 < first < 1, "first", "a number between 0 and 1", first)
        rising = [first ** (1 - j / (partitions - 1)) for j in range(partitions)] if partitions > 1 else [1.0]
        self.betas = [0.0, *rising]

    def bound(self, draw: Draw) -> Tensor:
        log_w = annealed_log_w(draw, self.anneal)  # k x B
        total = log_w.new_zeros(log_w.shape[1])
        for low, high in zip(self.betas, self.betas[1:], strict=False):
            total = total + (high - low) * ((low * log_w).softmax(0) * log_w).sum(0)
        return total
