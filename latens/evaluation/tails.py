"""Whether importance weights can be averaged, judged by the shape of their tail."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST = 25  # a tail can be judged from at least this many draws, which give five weights in it
_EQUAL = 1e-4


def tail_size(draws: int) -> int:
    """The number of largest weights that form the tail of ``draws`` weights: min(draws / 5, 3 sqrt(draws)) (Vehtari et
    al. 2024).

    >>> tail_size(100), tail_size(1000)
    (20, 95)
    """
    return math.ceil(min(draws / 5, 3 * math.sqrt(draws)))


def largest_k_hat(draws: int) -> float:
    r"""The largest :math:`\hat k` for which the mean of ``draws`` weights can be trusted,
    :math:`\min(1 - 1 / \log_{10} K, 0.7)` (Vehtari et al. 2024).

    >>> largest_k_hat(100), largest_k_hat(10**6)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(draws), 0.7) if draws > 10 else 0.0


class Tail:
    """The largest of the log weights of B rows, gathered chunk by chunk.

    Args:
        draws: K, the total number of draws of each row.
    """

    def __init__(self, draws: int):
        self.draws, self.size = draws, tail_size(draws)
        self._largest: Tensor | None = None

    def add(self, log_w: Tensor) -> None:
        """Add the log weights of further draws, ``[k, B]``."""
        seen = log_w if self._largest is None else torch.cat([self._largest, log_w])
        self._largest = seen.topk(min(self.size + 1, len(seen)), dim=0).values

    def k_hat(self) -> Tensor:
        """The Pareto k-hat of each row, ``[B]``; NaN with fewer than 25 draws. It is -inf if the weights in the tail
        differ by less than a ten-thousandth, as they do for the exact posterior."""
        assert self._largest is not None
        if self.draws < FEWEST:
            return torch.full(self._largest.shape[1:], math.nan, dtype=torch.float64)
        largest = (self._largest - self._largest[0]).double().exp()
        excess = largest[:-1] - largest[-1]
        return pareto_shape(torch.where(excess[0] < _EQUAL, 0.0, excess))


def pareto_shape(excess: Tensor) -> Tensor:
    r"""The shape k of the generalised Pareto distribution of excesses, ``[M, B]``, all at least 0 -> ``[B]``.

    .. math:: p(y) = \frac1\sigma \left(1 + \frac{k y}{\sigma}\right)^{-1/k - 1}

    The estimate of Zhang & Stephens (2009) is a posterior mean on a grid of :math:`-k / \sigma`. It is shrunk towards
    0.5 with the weight of ten observations (Vehtari et al. 2024). Moments of order 1/k and above do not exist, so
    weights with k above 0.5 have no variance. Excesses that are all 0 give -inf.

    >>> y = torch.rand(10_000, 1, dtype=torch.float64) ** -0.4 - 1  # a tail of shape 0.4
    >>> abs(pareto_shape(y).item() - 0.4) < 0.1
    True
    """
    y = excess.double().sort(0).values
    count = len(y)
    constant = y[-1] <= 0
    y = torch.where(constant, torch.ones_like(y), y).clamp_min(1e-300)
    quartile = y[max(0, int(count / 4 + 0.5) - 1)]
    points = 30 + int(math.sqrt(count))
    grid = torch.arange(1, points + 1, dtype=torch.float64).unsqueeze(-1)
    theta = 1 / y[-1] + (1 - (points / (grid - 0.5)).sqrt()) / (3 * quartile)  # [P, B]
    shape = torch.stack([torch.log1p(-each * y).mean(0) for each in theta])
    likelihood = count * ((-theta / shape).log() - shape - 1)
    weight = likelihood.nan_to_num(nan=-math.inf).softmax(0)
    best = (weight * theta).sum(0)
    k = torch.log1p(-best * y).mean(0)
    k = (count * k + 10 * 0.5) / (count + 10)
    return torch.where(constant, torch.full_like(k, -math.inf), k)
