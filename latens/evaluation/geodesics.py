"""Geodesics, the shortest curves between codes, for models that have a metric over codes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

InverseMetric = Callable[[Tensor], Tensor]  # [N, D] -> [N, D, D]

SEGMENTS = 64  # straight pieces of a curve
PLACES = 512  # the length of a curve is measured at this many points, or more
ROUNDS = 300  # the most steps of the descent


def curve_length(inverse: InverseMetric, points: Tensor) -> Tensor:
    r"""The length of a polyline ``[N, D]`` of codes in the metric G: the sum over small straight steps
    :math:`\delta` of :math:`\sqrt{\delta^\top G(z)\, \delta}`, with z in the middle of each.

    Args:
        inverse: the function from z ``[N, D]`` to :math:`G^{-1}(z)` ``[N, D, D]``, such as a model's
            ``inverse_metric``.
        points: the corners.
    """
    return _lengths(inverse, points).sum()


def geodesic(inverse: InverseMetric, first: Tensor, second: Tensor, steps: int = 11) -> Tensor:
    r"""The shortest curves between codes, from two ``[N, D]`` to ``[steps, N, D]``, at constant speed in the metric G.

    .. math:: \min_z \int_0^1 \sqrt{\dot z(t)^\top G(z(t))\, \dot z(t)}\; dt, \qquad z(0) = a, \; z(1) = b

    The straight line, as a polyline of 64 pieces, is improved by descent in its energy, whose minimum is the shortest
    curve at constant speed (Shao, Kumar & Fletcher 2018). So a curve is never longer than the straight line, and no
    small change shortens it; a shorter curve that is far from it can be missed.

    Args:
        inverse: the function from z ``[N, D]`` to :math:`G^{-1}(z)` ``[N, D, D]``, such as the method
            ``inverse_metric`` of the model of rhvae.
        first: the codes a.
        second: the codes b.
        steps: the number of points of a curve, including both ends.

    >>> import torch
    >>> flat = lambda z: torch.eye(2).expand(len(z), 2, 2)
    >>> geodesic(flat, torch.zeros(1, 2), torch.tensor([[2.0, 4.0]]), 3)[:, 0].round(decimals=6).tolist()
    [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]
    """
    curves = []
    with torch.no_grad():
        for ends in torch.stack([first, second], 1):
            straight = _spread(inverse, ends, SEGMENTS + 1)
            curve = _descended(inverse, straight)
            shortest = min(straight, curve, key=lambda points: float(curve_length(inverse, points)))
            curves.append(_spread(inverse, shortest, steps))
    return torch.stack(curves, 1)


def _lengths(inverse: InverseMetric, points: Tensor) -> Tensor:
    """The lengths of the small steps of a polyline, ``[(N - 1) n]``, of which each piece has n."""
    n = max(8, PLACES // (len(points) - 1))
    offsets = (torch.arange(n, dtype=points.dtype) + 0.5) / n
    steps = points[1:] - points[:-1]
    middles = (points[:-1, None] + offsets[:, None] * steps[:, None]).flatten(0, 1)
    steps = (steps / n).repeat_interleave(n, 0)
    return (steps * _metric_times(inverse, middles, steps)).sum(-1).clamp_min(0).sqrt()


def _metric_times(inverse: InverseMetric, z: Tensor, v: Tensor) -> Tensor:
    """G(z) v ``[N, D]``."""
    return torch.linalg.solve(inverse(z), v.unsqueeze(-1)).squeeze(-1)


def _spread(inverse: InverseMetric, points: Tensor, count: int) -> Tensor:
    """``count`` points of a polyline at equal distances in the metric; the ends stay."""
    gone = torch.cat([points.new_zeros(1), _lengths(inverse, points).cumsum(0)])
    n = (len(gone) - 1) // (len(points) - 1)
    wanted = torch.linspace(0, 1, count, dtype=points.dtype) * gone[-1]
    after = torch.searchsorted(gone, wanted).clamp(1, len(gone) - 1)
    share = (wanted - gone[after - 1]) / (gone[after] - gone[after - 1]).clamp_min(1e-30)
    at = ((after - 1 + share) / n).clamp(0, len(points) - 1)  # the number of the corner before, and a fraction
    corner = at.long().clamp_max(len(points) - 2)
    found = points[corner] + (at - corner).unsqueeze(-1) * (points[corner + 1] - points[corner])
    found[0], found[-1] = points[0], points[-1]
    return found


def _descended(inverse: InverseMetric, points: Tensor) -> Tensor:
    """The polyline after a descent in its energy, the sum of delta^T G delta over its pieces.

    A step solves the tridiagonal system of springs whose strength is that of the metric along each piece.
    """
    size = 1.0
    for _ in range(ROUNDS):
        inner = points[1:-1].detach().requires_grad_()
        with torch.enable_grad():
            parts = _energies(inverse, torch.cat([points[:1], inner, points[-1:]]))
            [slope] = torch.autograd.grad(parts.sum(), inner)
        pieces = (points[1:] - points[:-1]).square().sum(-1).clamp_min(1e-30)
        springs = 2 * parts / pieces
        if not parts.sum() > 0:
            break
        system = torch.diag(springs[:-1] + springs[1:]) - torch.diag(springs[1:-1], 1) - torch.diag(springs[1:-1], -1)
        step = torch.linalg.solve(system, slope)
        while size > 1e-6:
            moved = torch.cat([points[:1], inner - size * step, points[-1:]])
            gain = parts.sum() - _energies(inverse, moved).sum()
            if gain > 0.1 * size * (slope * step).sum():
                break
            size /= 2
        else:
            break
        points, size = moved, min(1.0, 2 * size)
        if gain < 1e-9 * parts.sum():
            break
    return points


def _energies(inverse: InverseMetric, points: Tensor) -> Tensor:
    """delta^T G(z) delta of each piece of a polyline, with z in its middle."""
    steps = points[1:] - points[:-1]
    return (steps * _metric_times(inverse, (points[1:] + points[:-1]) / 2, steps)).sum(-1)
