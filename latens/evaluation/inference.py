"""Where the bound loses nats: the gap to ln p(x) of single rows, and the two parts of the rate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latens.distributions import DiagonalNormal
from latens.errors import InputError, is_whole, require
from latens.evaluation.joint import LogJoint, require_real_codes
from latens.evaluation.likelihood import (
    CELLS,
    as_tensors,
    chunk_rows,
    chunks,
    evaluating,
    require_support,
    spaced,
    standard_error,
)
from latens.evaluation.shown import InNotebooks
from latens.tensors import trees
from latens.tensors.numerics import LOG_2PI
from latens.tensors.randomness import Key, reseed
from latens.tensors.trees import Tree

_DRAWS, _STEPS, _RATE = 16, 300, 0.05


@dataclass(frozen=True)
class InferenceGaps(InNotebooks):
    r"""What the bound of each row loses (Cremer, Li & Duvenaud 2018), ``[N]`` nats each.

    .. math:: \ln p(x) - \mathrm{ELBO} = [\ln p(x) - \max_q \mathrm{ELBO}_q] + [\max_q \mathrm{ELBO}_q - \mathrm{ELBO}]

    The first bracket is the approximation gap, the second the amortisation gap.

    Attributes:
        approximation: the part of the gap that remains for the best diagonal normal q.
        amortisation: the part that the encoder loses compared with the row's best q.
    """

    approximation: Tensor
    amortisation: Tensor

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text."""
        return [
            (f"{name} gap", f"{float(values.mean()):.3f} ± {standard_error(values):.3f} nats  ({len(values):,} rows)")
            for name, values in vars(self).items()
        ]

    def records(self) -> list[dict[str, Any]]:
        """Both gaps of each row."""
        pairs = zip(self.approximation.tolist(), self.amortisation.tolist())
        return [{"approximation": first, "amortisation": second} for first, second in pairs]

    def to_json(self) -> dict[str, Any]:
        """Means over rows and their standard errors, nats."""
        return {
            name: {"mean": float(values.mean()), "standard_error": standard_error(values)}
            for name, values in vars(self).items()
        }


@dataclass(frozen=True)
class RateParts(InNotebooks):
    r"""The parts of the mean rate (Hoffman & Johnson 2016), nats.

    .. math:: E_x\, KL(q(z|x) \,\|\, p(z)) = E_x\, KL(q(z|x) \,\|\, q(z)) + KL(q(z) \,\|\, p(z)), \qquad
        q(z) = \tfrac1N \sum_n q(z|x_n)

    The first term is the mutual information of row and code.

    Attributes:
        mutual_information: the mutual information of row and code; at most ln N.
        marginal: :math:`KL(q(z) \,\|\, p(z))`, which a prior fitted to the codes would save.
        mutual_information_error, marginal_error: standard errors over the drawn codes.
        rows: the number of rows, N.
    """

    mutual_information: float
    marginal: float
    mutual_information_error: float
    marginal_error: float
    rows: int

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text."""
        limit = f"at most ln {self.rows:,} = {math.log(self.rows):.2f}"
        return [
            (
                "mutual information",
                f"{self.mutual_information:.3f} ± {self.mutual_information_error:.3f} nats ({limit})",
            ),
            ("KL(q(z) || p(z))", f"{self.marginal:.3f} ± {self.marginal_error:.3f} nats"),
        ]

    def to_json(self) -> dict[str, Any]:
        """The figures, nats."""
        return asdict(self)


def inference_gaps(
    model: nn.Module, x: Tree, log_px: Tensor, c: Tree = None, *, steps: int = _STEPS, draws: int = 500, seed: int = 0
) -> InferenceGaps:
    """The approximation gap and the amortisation gap of each row.

    Adam finds the best diagonal normal of a row, starting from the encoder's q, with gradients from 16 draws. Both
    bounds are then averaged over the same number of fresh draws.

    Args:
        model: a model with one layer of codes in R^d and a diagonal normal posterior.
        x: rows in the model's form, ``[N, *event]``.
        log_px: ln p(x) of each row, ``[N]`` nats, for example minus the rows of
            :func:`latens.evaluation.annealed_nll`.
        c: conditions.
        steps: the number of steps of Adam.
        draws: the number of draws for each bound.
        seed: the seed of the draws.

    Raises:
        InputError: the posterior is not diagonal normal, or ``log_px`` has a different length.

    >>> from latens import conditionals, models, priors
    >>> from latens.evaluation import grid_nll
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5), variance=1.0))
    >>> x = torch.randn(3, 5)
    >>> gaps = inference_gaps(model, x, -grid_nll(model, x).rows, steps=50)
    >>> gaps.approximation.shape, gaps.amortisation.shape
    (torch.Size([3]), torch.Size([3]))
    """
    require(is_whole(steps) and steps >= 0, "steps", "a whole number from 0", steps)
    require_real_codes(model)
    x, c = as_tensors(x, c)
    if len(log_px) != trees.rows(x):
        raise InputError(
            f"log_px has {len(log_px)} values but x has {trees.rows(x)} rows", "pass one value of ln p(x) for each row"
        )
    require_support(model, x, c)
    own: list[Tensor] = []
    best: list[Tensor] = []
    with evaluating(model):
        for rows, xs, cs in chunks(model, x, c, chunk_rows(x, _DRAWS)[0]):
            joint = LogJoint(model, xs, cs)
            if not isinstance(joint.q, DiagonalNormal):
                raise InputError(
                    f"the gaps are defined for diagonal normal posteriors, but this is {type(joint.q).__name__}",
                    "omit them for this model",
                )
            reseed(seed, Key.INFERENCE, rows.start)
            found = _best(joint, joint.q, steps)
            for q, values in ((joint.q, own), (found, best)):
                values.append(_bound(joint, q, draws))
    bound, reached = torch.cat(own), torch.cat(best)
    reached = torch.maximum(bound, reached)
    return InferenceGaps(log_px.double() - reached, reached - bound)


def _best(joint: LogJoint, q: DiagonalNormal, steps: int) -> DiagonalNormal:
    """The diagonal normal with the largest bound for each row, found from q."""
    centre, log_sd = q.mean.detach(), 0.5 * q.variance.detach().log()
    moved, widened = (torch.zeros_like(centre).requires_grad_() for _ in range(2))  # in standard deviations of q

    def normal() -> tuple[Tensor, Tensor]:
        return centre + log_sd.exp() * moved, log_sd + widened

    optimiser = torch.optim.Adam([moved, widened], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for _ in range(steps):
        with torch.enable_grad():
            mean, own = normal()
            z = mean + own.exp() * torch.randn(_DRAWS, *mean.shape).to(mean)
            bound = joint(z).mean(0) + own.sum(-1)
            moved.grad, widened.grad = torch.autograd.grad(-bound.sum(), [moved, widened])
        optimiser.step()
        schedule.step()
    mean, own = normal()
    return DiagonalNormal(mean.detach(), (2 * own.detach()).exp())


def _bound(joint: LogJoint, q: DiagonalNormal, draws: int) -> Tensor:
    """The ELBO of each row under q, ``[B]`` float64, with the entropy of q in closed form."""
    total, left = torch.zeros(joint.rows, dtype=torch.float64), draws
    while left > 0:
        count = min(left, _DRAWS)
        total += joint(q.sample(torch.Size((count,)))).double().sum(0).cpu()
        left -= count
    return total / draws + q.entropy().double().cpu()


def rate_parts(model: nn.Module, x: Tree, c: Tree = None, *, drawn: int = 2000, seed: int = 0) -> RateParts:
    """The mutual information of rows and codes, and the distance from the aggregate posterior to the prior.

    Args:
        model: a model with one layer of codes in R^d, a diagonal normal posterior and a prior that reads no condition.
        x: rows in the model's form, ``[N, *event]``; q(z) is the mixture of the posteriors of all these rows.
        c: conditions.
        drawn: the number of evenly spaced rows whose codes are drawn.
        seed: the seed of the draws.

    Raises:
        InputError: the posterior is not diagonal normal, or the prior reads a condition.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> parts = rate_parts(model, torch.randn(50, 5))
    >>> 0 <= parts.mutual_information <= math.log(50)
    True
    """
    require(is_whole(drawn) and drawn >= 1, "drawn", "a whole number from 1", drawn)
    require_real_codes(model)
    x, c = as_tensors(x, c)
    means, variances, p = [], [], None
    with evaluating(model), torch.no_grad():
        for _, xs, cs in chunks(model, x, c):
            joint = LogJoint(model, xs, cs)
            q, p = joint.q, joint.p
            if not isinstance(q, DiagonalNormal) or p.batch_shape:
                what = "a prior that reads a condition" if p.batch_shape else f"the posterior {type(q).__name__}"
                raise InputError(
                    "the parts of the rate are defined for diagonal normal posteriors and one prior for all rows, but "
                    f"this model has {what}",
                    "omit them for this model",
                )
            means.append(q.mean)
            variances.append(q.variance)
        mean, variance = torch.cat(means).double(), torch.cat(variances).double()
        picked = spaced(len(mean), drawn).to(mean.device)
        reseed(seed, Key.INFERENCE, 0, 1)
        z = DiagonalNormal(mean[picked], variance[picked]).sample()
        own = DiagonalNormal(mean[picked], variance[picked]).log_prob(z)
        aggregate = _log_aggregate(z, mean, variance)
        assert p is not None
        information, marginal = own - aggregate, aggregate - p.log_prob(z.to(means[0])).double()
    return RateParts(
        float(information.mean()), float(marginal.mean()), standard_error(information), standard_error(marginal),
        len(mean),
    )  # fmt: skip


def _log_aggregate(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """ln of the mean density of N diagonal normals at codes ``[M, Z]``: ``[M]``; memory is bounded."""
    precision = 1 / variance
    constant = -0.5 * (mean.square() * precision + variance.log() + LOG_2PI).sum(-1)
    found = []
    for part in z.split(max(1, CELLS // len(mean))):
        log_q = constant + part @ (mean * precision).T - 0.5 * part.square() @ precision.T
        found.append(log_q.logsumexp(-1) - math.log(len(mean)))
    return torch.cat(found)
