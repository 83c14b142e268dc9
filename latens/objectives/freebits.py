"""Rates that are free up to a floor."""

from __future__ import annotations

import torch
from torch import Tensor

from latens.errors import is_number, require
from latens.models.draw import Draw
from latens.objectives.base import mean_over_rows
from latens.objectives.bounds import ELBO


class FreeBits(ELBO):
    r"""The ELBO with a free rate of ``floor`` nats in each layer (Kingma et al. 2016).

    .. math:: \operatorname{E}_q[\ln p(x \mid z)]
        - \beta \sum_l \max\left(\mathrm{floor},\, \operatorname{E}_{\text{batch}} \operatorname{KL}_l\right)

    A rate below the floor counts as the floor and has no gradient, so no layer gains from lowering its rate further.
    :math:`\operatorname{KL}_l` is the rate of layer l (``Draw.rates``; a plain VAE has one layer), averaged over draws
    and over the rows of the batch (with several processes, each averages over its own rows). The value never exceeds
    the ELBO, so it is a bound too. ``InputError`` for a negative floor.

    Args:
        floor: nats, from 0.
        beta: from 0.
        samples: draws per row.
        kl: see :class:`ELBO`.
    """

    def __init__(self, floor: float = 0.0, beta: float = 1.0, samples: int = 1, kl: str = "auto"):
        super().__init__(beta, samples, kl)
        require(is_number(floor) and floor >= 0, "free_bits", "a number of nats from 0", floor)
        self.floor = float(floor)

    def bound(self, draw: Draw) -> Tensor:
        """The bound of each row, in nats, ``[B]``."""
        if not self._rated:
            return draw.log_px.mean(0)
        rates = draw.rates(self.kl).mean(1)  # L x B
        means = torch.stack([mean_over_rows(rate, draw.weight) for rate in rates])
        counted = torch.where((means > self.floor).unsqueeze(-1), rates, self.floor)
        return draw.log_px.mean(0) - self.beta * self.anneal * counted.sum(0)


def elbo_with(free_bits: float, beta: float = 1.0) -> ELBO:
    """The ELBO; if ``free_bits`` is not 0, with this floor, in nats, under the rate of each layer."""
    return ELBO(beta) if free_bits == 0 else FreeBits(free_bits, beta)
