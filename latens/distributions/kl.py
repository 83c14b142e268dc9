r""":math:`\operatorname{KL}(q \,\|\, p)` in closed form, in nats, for the pairs in a table.

The table is a plain dictionary keyed by two types, because torch's own dispatch breaks graph capture. Torch's normal
types are first converted to latens' types, so that foreign parts get the same closed forms.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution

from latens.distributions.low_rank import LowRankNormal
from latens.distributions.normal import DiagonalNormal, FullNormal
from latens.distributions.product import Flat, Joint
from latens.distributions.relaxed import OneHot
from latens.distributions.sphere import PowerSpherical, SphereUniform, VonMisesFisher
from latens.tensors.numerics import broadcast_shape


def canonical(distribution: Distribution) -> Distribution:
    """``Independent(Normal, 1)`` and ``MultivariateNormal`` as latens' types; other distributions are unchanged."""
    if isinstance(distribution, td.Independent) and distribution.reinterpreted_batch_ndims == 1:
        base = distribution.base_dist
        if type(base) is td.Normal:
            return DiagonalNormal(base.loc, base.scale.square())
    if type(distribution) is td.MultivariateNormal:
        return FullNormal(distribution.loc, distribution.scale_tril)
    return distribution


def _diagonal_diagonal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    ratio = q.variance / p.variance
    return 0.5 * (ratio + (q.loc - p.loc) ** 2 / p.variance - 1 - ratio.log()).sum(-1)


def _full(distribution: DiagonalNormal | FullNormal) -> FullNormal:
    if isinstance(distribution, FullNormal):
        return distribution
    return FullNormal(distribution.loc, torch.diag_embed(distribution.variance.sqrt()))


def _full_full(q: DiagonalNormal | FullNormal, p: DiagonalNormal | FullNormal) -> Tensor:
    q, p = _full(q), _full(p)
    size = q.loc.shape[-1]
    lead = broadcast_shape(q.loc.shape[:-1], p.loc.shape[:-1])
    p_tril, q_tril = (d.scale_tril.expand(*lead, size, size) for d in (p, q))
    spread = torch.linalg.solve_triangular(p_tril, q_tril, upper=False).square().sum((-2, -1))
    distance = p.whiten(q.loc.expand(*lead, size)).square().sum(-1)
    return 0.5 * (spread + distance - size) + p.half_log_det - q.half_log_det


def _full_diagonal(q: FullNormal | LowRankNormal, p: DiagonalNormal) -> Tensor:
    spread = (q.variance + (q.loc - p.loc) ** 2) / p.variance
    return 0.5 * (spread - 1 + p.variance.log()).sum(-1) - q.half_log_det


CLOSED: dict[tuple[type, type], Callable[..., Tensor]] = {
    (DiagonalNormal, DiagonalNormal): _diagonal_diagonal,
    (FullNormal, DiagonalNormal): _full_diagonal,
    (LowRankNormal, DiagonalNormal): _full_diagonal,
    (DiagonalNormal, FullNormal): _full_full,
    (FullNormal, FullNormal): _full_full,
    (VonMisesFisher, SphereUniform): lambda q, p: q.rate_from_uniform(),
    (PowerSpherical, SphereUniform): lambda q, p: q.rate_from_uniform(),
    (OneHot, OneHot): lambda q, p: q.rate_from(p),
}


def has_closed_kl(q: Distribution, p: Distribution) -> bool:
    """Whether the table has this pair or, for products, every pair of their parts."""
    if isinstance(q, Flat) and isinstance(p, Flat):
        return has_closed_kl(q.base, p.base)
    if isinstance(q, Joint) and isinstance(p, Joint):
        return len(q.parts) == len(p.parts) and all(map(has_closed_kl, q.parts, p.parts))
    return (type(canonical(q)), type(canonical(p))) in CLOSED


def detached(q: Distribution) -> Distribution:
    """The same normal distribution with detached parameters, so that its density has a gradient only in z.

    Raises ``ValueError`` for any other kind.
    """
    q = canonical(q)
    if isinstance(q, DiagonalNormal):
        return DiagonalNormal(q.loc.detach(), q.variance.detach())
    if isinstance(q, FullNormal):
        return FullNormal(q.loc.detach(), q.scale_tril.detach())
    if isinstance(q, LowRankNormal):
        return LowRankNormal(q.loc.detach(), q.diagonal.detach(), q.factor.detach())
    raise ValueError(f"the parameters of {type(q).__name__} cannot be detached: use a normal posterior")


def closed_kl(q: Distribution, p: Distribution) -> Tensor:
    r""":math:`\operatorname{KL}(q \,\|\, p)` over the event, in nats, in the batch shape of q.

    For q = N(m, diag v) and p = N(n, diag w) it is

    .. math:: \frac12 \sum_i \left[\frac{v_i}{w_i} + \frac{(m_i - n_i)^2}{w_i} - 1 - \ln \frac{v_i}{w_i}\right],

    and for covariances Q and P of Z dimensions

    .. math:: \frac12 \left[\operatorname{tr}(P^{-1} Q) + (m - n)^\top P^{-1} (m - n) - Z
        + \ln \frac{\det P}{\det Q}\right].

    ``ValueError`` if the table has no closed form for the pair; use the sampled rate then.

    >>> q = DiagonalNormal(torch.tensor([0.7]), torch.tensor([0.16]))
    >>> round(closed_kl(q, DiagonalNormal(torch.zeros(1), torch.ones(1))).item(), 5)
    0.74129
    """
    if isinstance(q, Flat) and isinstance(p, Flat):
        return closed_kl(q.base, p.base).sum(-1)
    if isinstance(q, Joint) and isinstance(p, Joint) and has_closed_kl(q, p):
        return torch.stack([closed_kl(a, b) for a, b in zip(q.parts, p.parts, strict=True)]).sum(0)
    q, p = canonical(q), canonical(p)
    formula = CLOSED.get((type(q), type(p)))
    if formula is None:
        raise ValueError(
            f"no closed form for KL({type(q).__name__} || {type(p).__name__}): use kl='sampled' or kl='auto'"
        )
    return formula(q, p)
