"""ln p(x) of models with one or two latent dimensions, by adaptive quadrature over the codes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from latens.errors import InputError
from latens.evaluation.joint import LogJoint, require_real_codes
from latens.evaluation.likelihood import CELLS, LEAST, NLL, as_tensors, chunks, evaluating, on_device, require_support
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed
from latens.tensors.trees import Tree

_NODES, _BOXES, _ROUNDS = 5, 24, 30  # Gauss-Legendre nodes per side, boxes per side at first, most halvings


def grid_nll(model: nn.Module, x: Tree, c: Tree = None, *, tolerance: float = 1e-6) -> NLL:
    r"""-ln p(x) of each row by quadrature, exact up to a stated error:

    .. math:: -\ln \int p(x|z)\, p(z)\, dz

    The region contains 1,000 draws of the prior with a margin of four standard deviations, and the encoder's posterior
    of the row with a margin of ten. The integral over the region is a sum over boxes with 5 Gauss-Legendre nodes along
    each side. Boxes are halved along each side until halving changes neither a box nor any box that touches it by more
    than a hundredth of ``tolerance`` times the whole integral.

    Args:
        model: a model with one layer of one or two latent dimensions in R^d.
        x: rows in the model's form, ``[N, *event]``.
        c: conditions.
        tolerance: the tolerance just described, as a share of p(x).

    Returns:
        -ln p(x) of each row; its ``row_error`` is the sum of the last changes, in nats, and ``k`` is the mean number of
        codes at which a row was evaluated.

    Raises:
        InputError: there are more than two latent dimensions, or codes are not one vector of real numbers.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5), variance=1.0))
    >>> grid_nll(model, torch.randn(3, 5)).rows.shape
    torch.Size([3])
    """
    require_real_codes(model)
    x, c = as_tensors(x, c)
    require_support(model, x, c)
    values, errors, counts = [], [], 0
    with evaluating(model), torch.no_grad():
        reseed(0, Key.EVALUATE)
        for _, xs, cs in chunks(model, x, c, 64):
            joint = LogJoint(model, xs, cs)
            if joint.dim > 2:
                raise InputError(
                    f"the grid is for one or two latent dimensions, but the model has {joint.dim}",
                    "use ais, or iw, for the NLL",
                )
            integral = _Integral(model, xs, cs, joint)
            value, error = integral.solve(tolerance)
            values.append(-value)
            errors.append(error)
            counts += integral.evaluations
    found = torch.cat(values)
    return NLL(found, torch.cat(errors), torch.ones_like(found), round(counts / len(found)))


class _Integral:
    """The integrals of B rows over boxes of equal size. A box is identified by its row and its place ``[M, Z]`` in the
    row's region, which has 24 x 2^level places along each side."""

    def __init__(self, model: nn.Module, x: Tree, c: Tree, joint: LogJoint):
        self.model, self.x, self.c, self.joint, self.evaluations = model, x, c, joint, 0
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(_NODES))
        self.nodes = self._product(nodes)
        self.log_weights = self._product(weights).log().sum(-1)
        self.corners = self._product(torch.tensor([0, 1]))
        self.around = self._product(torch.tensor([-1, 0, 1]))
        self.at_once = max(1, CELLS // max(LEAST, sum(leaf[0].numel() for leaf in trees.leaves(x))) // len(self.nodes))
        self.low, self.side = self._region()
        self.scale = joint.spread()

    def _product(self, values: Tensor) -> Tensor:
        """All combinations of the values along the Z axes, ``[..., Z]``."""
        return torch.cartesian_prod(*[values] * self.joint.dim).view(-1, self.joint.dim)

    def _region(self) -> tuple[Tensor, Tensor]:
        """(the lowest corner of each row's region; the lengths of its sides), ``[B, Z]`` each."""
        p, rows = self.joint.p, self.joint.rows
        draws = p.sample(torch.Size((1000,) if p.batch_shape else (1000, rows))).double().cpu()
        low, high = draws.amin(0) - 4 * draws.std(0), draws.amax(0) + 4 * draws.std(0)
        if self.joint.has_normal_posterior:
            mean, reach = self.joint.q.mean.double().cpu(), 10 * self.joint.q.variance.double().cpu().sqrt()
            low, high = torch.minimum(low, mean - reach), torch.maximum(high, mean + reach)
        return low, high - low

    def _log_parts(self, row: Tensor, place: Tensor, level: int) -> Tensor:
        """ln of the integral over each box, ``[M]`` float64."""
        half = self.side[row] / (2 * _BOXES * 2**level)
        centre = self.low[row] + (2 * place + 1) * half
        count, found = len(self.nodes), []
        self.evaluations += len(row) * count
        for start in range(0, len(row), self.at_once):
            part = slice(start, start + self.at_once)
            z = centre[part].unsqueeze(1) + half[part].unsqueeze(1) * self.nodes
            joint = LogJoint(self.model, *on_device(self.model, row[part].repeat_interleave(count), self.x, self.c))
            codes = z.flatten(0, 1).to(self.scale).unsqueeze(0)
            found.append(joint(codes).squeeze(0).double().cpu().view(-1, count))
        log_density = torch.cat(found).nan_to_num(nan=-math.inf)
        return (log_density + self.log_weights).logsumexp(1) + half.log().sum(1)

    def _total(self, row: Tensor, log_parts: Tensor) -> Tensor:
        """ln of the sum over the boxes of each row, ``[B]``."""
        top = torch.full((self.joint.rows,), -math.inf, dtype=torch.float64).scatter_reduce(0, row, log_parts, "amax")
        top = top.clamp_min(torch.finfo(torch.float64).min)
        return top + torch.zeros_like(top).scatter_add(0, row, (log_parts - top[row]).exp()).log()

    def _touching(self, row: Tensor, place: Tensor, chosen: Tensor, level: int) -> Tensor:
        """Mask ``[M]`` of the boxes that are chosen or touch a chosen box of the same row. A narrow peak that begins in
        one box may extend into the next without reaching the nodes there."""
        size = _BOXES * 2**level + 2

        def key(rows: Tensor, places: Tensor) -> Tensor:
            found = rows
            for axis in range(places.shape[-1]):
                found = found * size + places[..., axis] + 1
            return found

        near = key(row[chosen].unsqueeze(1), place[chosen].unsqueeze(1) + self.around)
        return torch.isin(key(row, place), near.flatten())

    def solve(self, tolerance: float) -> tuple[Tensor, Tensor]:
        """(ln of each integral; the sum of its last changes), ``[B]`` each."""
        first = self._product(torch.arange(_BOXES))
        row = torch.arange(self.joint.rows).repeat_interleave(len(first))
        place = first.repeat(self.joint.rows, 1)
        log_parts = self._log_parts(row, place, 0)
        done = [(row[:0], log_parts[:0])]
        error = torch.zeros(self.joint.rows, dtype=torch.float64)
        for level in range(_ROUNDS):
            count = len(self.corners)
            finer = (2 * place.unsqueeze(1) + self.corners).flatten(0, 1)
            rows = row.repeat_interleave(count)
            parts = self._log_parts(rows, finer, level + 1)
            total = self._total(*(torch.cat(each) for each in zip(*done, (rows, parts))))
            change = ((parts.view(-1, count).logsumexp(1) - total[row]).exp() - (log_parts - total[row]).exp()).abs()
            open_ = self._touching(row, place, change > tolerance / 100, level)
            error = error.scatter_add(0, row[~open_], change[~open_])
            kept = open_.repeat_interleave(count)
            done.append((rows[~kept], parts[~kept]))
            row, place, log_parts = rows[kept], finer[kept], parts[kept]
            if not len(row):
                break
        error = error.index_fill(0, row.unique(), math.inf)
        return self._total(*(torch.cat(each) for each in zip(*done, (row, log_parts)))), error
