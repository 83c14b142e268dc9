"""Total correlation of the codes, estimated from a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latens.distributions import DiagonalNormal, Normal, canonical
from latens.errors import is_whole, require
from latens.models.draw import Draw
from latens.objectives.base import Penalty
from latens.tensors.trees import Tree

WEIGHTINGS = ("stratified", "weighted", "plain")


def log_shares(batch: int, rows: int, weighting: str, dtype: torch.dtype | None = None) -> Tensor:
    r"""ln w_ij, ``[B, B]``: the share of row j of a batch in the estimate of the aggregate posterior at z_i.

    .. math:: q(z_i) = \sum_j w_{ij}\, q(z_i \mid x_j)

    where z_i was drawn from q(z|x_i) and the data have ``rows`` rows N.

    Args:
        batch: the number of rows in a batch, B.
        rows: the number of rows in the data, N.
        weighting: "stratified": w_ii = 1/N, since row i is one of N, and (1 - 1/N) / (B - 1) for the other rows; then
            E[q(z_i)] over the choice of the other rows is exact. (Chen et al. 2018 give a different share to one of the
            other rows; this is the average over the choice of that row.) "weighted": 1 / (N B), a lower bound on ln
            q(z) in expectation (Chen et al. 2018). "plain": 1 / B.
        dtype: the dtype of the result.

    >>> log_shares(2, 10, "stratified").exp()
    tensor([[0.1000, 0.9000],
            [0.9000, 0.1000]])
    """
    size = max(rows, batch)
    if weighting != "stratified" or batch == 1:
        count = batch * size if weighting == "weighted" else batch
        return torch.full((batch, batch), -math.log(count), dtype=dtype)
    own = torch.eye(batch, dtype=dtype)
    return own * -math.log(size) + (1 - own) * math.log((1 - 1 / size) / (batch - 1))


class TotalCorrelation(Penalty):
    r"""The total correlation of the aggregate posterior, in nats, estimated from a batch (Chen et al. 2018).

    .. math:: \operatorname{KL}\left(q(z) \,\middle\|\, \prod_j q(z_j)\right), \qquad
        q(z) = \frac1N \sum_n q(z \mid x_n)

    It is the mean of :math:`\ln q(z_i) - \sum_j \ln q(z_{ij})`, with the shares of :func:`log_shares`. It takes memory
    for ``[K, B, B]`` numbers per dimension. ``ValueError`` for a posterior that is not diagonal normal.

    Args:
        rows: the number of rows in the data, N.
        weighting: see :func:`log_shares`; "weighted" is too high by (Z - 1) ln N, a constant.
    """

    joint = True

    def __init__(self, rows: int, weighting: str = "stratified"):
        super().__init__()
        require(is_whole(rows) and rows >= 1, "the number of rows", "a whole number from 1", rows)
        require(weighting in WEIGHTINGS, "weighting", f"one of {', '.join(WEIGHTINGS)}", weighting)
        self.rows, self.weighting = int(rows), weighting

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The estimate, in nats, a scalar."""
        q, z = canonical(draw.q), draw.codes  # K x B x Z
        if not isinstance(q, DiagonalNormal):
            raise ValueError(f"the posterior must be a diagonal normal for total correlation, got {type(q).__name__}")
        shares = log_shares(z.shape[1], self.rows, self.weighting, z.dtype).to(z.device)
        joint, marginals = shares, torch.zeros_like(z[..., 0])
        for loc, variance, value in zip(q.loc.unbind(-1), q.variance.unbind(-1), z.unbind(-1)):
            log_q = Normal(loc, variance).log_prob(value.unsqueeze(-1))  # K x B x B: ln q(z_i|x_j) of one dimension
            joint, marginals = joint + log_q, marginals + torch.logsumexp(log_q + shares, -1)
        return (torch.logsumexp(joint, -1) - marginals).mean()
