"""Missing cells given the observed ones, by self-normalised importance sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latens import distributions as d
from latens.distributions import rsample_and_log_prob
from latens.errors import is_whole, require
from latens.evaluation.likelihood import evaluating, model_device
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed
from latens.tensors.trees import Tree

CELLS = 4_000_000  # numbers in a chunk that is decoded together


@dataclass(frozen=True)
class Imputation:
    """Missing cells of rows, given the observed ones.

    Attributes:
        filled: the rows, ``[N, *event]``, with missing cells replaced by E[x_m | x_o], or by the most probable level.
        spread: the standard deviation of missing cells given the observed ones (for levels, one minus the probability
            of the level); 0 for observed cells.
        draws: ``[m, N, *event]`` draws from p(x_m | x_o), or None.
        ess: the effective sample size of each row, ``[N]``.
    """

    filled: Tensor
    spread: Tensor
    draws: Tensor | None
    ess: Tensor


def impute(
    model: nn.Module, x: Any, c: Tree = None, *, k: int = 1000, draws: int = 0, sweeps: int = 0, seed: int = 0,
    first_row: int = 0,
) -> Imputation:  # fmt: skip
    r"""Fill the missing cells (NaN) of rows in the model's form (Mattei & Frellsen 2019).

    With :math:`z_1, \dots, z_k \sim q(z|x_o)` and weights that sum to 1,

    .. math::
        w_i \propto \frac{p(x_o|z_i)\, p(z_i)}{q(z_i|x_o)}, \qquad
        E[x_m|x_o] \approx \sum_i w_i\, E[x_m|z_i], \qquad p(l|x_o) \approx \sum_i w_i\, p(l|z_i)

    for numbers and for levels l. A draw takes :math:`z_i` with probability :math:`w_i`, and then x_m from p(x_m|z_i).
    Rows without missing cells are copied.

    Args:
        model: the model.
        x: rows, ``[N, *event]``.
        c: their conditions.
        k: draws of z per row, at least 1.
        draws: the number of filled copies to draw, at least 0.
        sweeps: use it for an encoder that has never seen a gap, and hence proposes poorly. Each z_i then comes from
            q(z|x_o, x_m) after this many rounds of x_m ~ p(x_m|z), z ~ q(z|x_o, x_m) (Rezende, Mohamed & Wierstra
            2014). The weights are computed for this proposal.
        seed: the seed of the draws.
        first_row: the index of the first row, if x is a piece of a stream.

    Raises:
        InputError: k < 1 or draws < 0.
    """
    require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
    require(is_whole(draws) and draws >= 0, "draws", "a whole number from 0", draws)
    device, event = model_device(model), x.shape[1:]
    count = max(1, CELLS // (max(64, int(torch.tensor(event).prod())) * k))
    parts = []
    for start in range(0, len(x), count):
        rows = slice(start, start + count)
        xs, cs = x[rows], trees.take(c, rows)
        missing = xs.isnan() if xs.is_floating_point() else torch.zeros_like(xs, dtype=torch.bool)
        holes = missing.flatten(1).any(1)
        filled, spread = xs.clone(), torch.zeros_like(xs, dtype=torch.get_default_dtype())
        drawn = xs.expand(draws, *xs.shape).clone() if draws else None
        ess = torch.full((len(xs),), float("nan"))
        if holes.any():
            with evaluating(model), torch.no_grad():
                reseed(seed, Key.IMPUTE, start + first_row)
                given = trees.to_device(trees.take(cs, holes), device)
                found = _fill(model, xs[holes].to(device), given, k, draws, sweeps)
            some = missing[holes]
            filled[holes] = torch.where(some, found.filled.to(xs.dtype), xs[holes])
            spread[holes] = torch.where(some, found.spread.to(spread.dtype), 0.0)
            ess[holes] = found.ess.to(ess.dtype)
            if drawn is not None and found.draws is not None:
                drawn[:, holes] = torch.where(some, found.draws.to(xs.dtype), xs[holes])
        parts.append(Imputation(filled, spread, drawn, ess))
    joined = None if not draws else torch.cat([p.draws for p in parts if p.draws is not None], 1)
    return Imputation(
        torch.cat([p.filled for p in parts]), torch.cat([p.spread for p in parts]), joined,
        torch.cat([p.ess for p in parts]),
    )  # fmt: skip


def _fill(model: Any, x: Tensor, c: Tree, k: int, draws: int, sweeps: int) -> Imputation:
    if sweeps:
        px, log_w = _swept(model, x, c, k, sweeps)
    else:
        draw = model.draw(x, k, c)
        px, log_w = draw.px, draw.log_w if draw.has_density else torch.zeros_like(draw.log_px)
    weights = log_w.double().softmax(0)  # K x B
    base = px.base if isinstance(px, d.Observed) else px
    in_order = base if isinstance(base, d.InOrder) else None
    base = base if in_order is None else in_order.given(x)
    w = weights.reshape(*weights.shape, *[1] * (x.dim() - 1))
    if isinstance(base, d.Columns):
        filled, spread = _columns(base, weights, x.isnan())
    else:
        filled, spread = _moments(base, w)
    completed = None
    if isinstance(px, d.SelfMasked):  # the weights belong to the drawn values
        completed = px.completed(x)
        seen = ~completed.isnan().any(0)
        mean = (w * completed.double()).sum(0)
        deviation = (w * (completed.double() - mean).square()).sum(0).sqrt()
        filled, spread = torch.where(seen, mean, filled), torch.where(seen, deviation, spread)
    drawn = None
    if draws:
        chosen = torch.multinomial(weights.T.float().clamp_min(1e-30), draws, replacement=True).T  # m x B
        every = px.sample() if in_order is None else in_order.completed(x)  # K x B x event
        if completed is not None:
            every = torch.where(completed.isnan(), every.to(completed.dtype), completed)
        drawn = every[chosen, torch.arange(len(x), device=x.device)]
    return Imputation(
        filled.cpu(), spread.cpu(), None if drawn is None else drawn.cpu(), 1 / weights.square().sum(0).cpu()
    )


def _swept(model: Any, x: Tensor, c: Tree, k: int, sweeps: int) -> tuple[Any, Tensor]:
    """(p(x|z) at k draws per row, each from the posterior given a different completion of the row; their log-weights
    ``[K, B]``)."""
    count = len(x)
    whole, given = (trees.map_tree(lambda leaf: leaf.repeat(k, *[1] * (leaf.dim() - 1)), tree) for tree in (x, c))
    missing = whole.isnan()
    z = model.encode(whole, given).sample()
    for _ in range(sweeps):
        completed = torch.where(missing, model.decode(z, given).sample().to(whole.dtype), whole)
        z, log_pz, log_qz = _proposed(model, completed, given)
    z = trees.map_tree(lambda leaf: leaf.unflatten(0, (k, count)), z)
    px = model.decode(z, c)
    if isinstance(px, d.Observed) and isinstance(px.base, d.InOrder):  # each column sees the completed row
        px = d.Observed(px.base.given(completed.unflatten(0, (k, count))), 1)
    log_px = px.log_prob(x)
    if log_qz is None or getattr(px, "no_density", None):
        return px, torch.zeros_like(log_px)
    if log_pz is None:
        log_pz = (model.prior(c) if getattr(model.prior, "reads", ()) else model.prior()).log_prob(z)
    return px, log_px + log_pz.view(k, count) - log_qz.view(k, count)


def _proposed(model: Any, x: Tensor, c: Tree) -> tuple[Tree, Tensor | None, Tensor | None]:
    """(z ~ q(z|x) for each row ``[B, Z]``, ln p(z), ln q(z|x)).

    Models that draw in several steps, such as ladders, give ln p(z) with the draw; for others it is None, and the
    density of the prior.
    """
    q = model.encode(x, c)
    if q.has_rsample or isinstance(q, d.PointMass) or hasattr(q, "rsample_and_log_prob"):
        z, log_qz = rsample_and_log_prob(q, 1)
        return trees.map_tree(lambda leaf: leaf.squeeze(0), z), None, log_qz
    draw = model.draw(x, 1, c)
    return draw.codes.squeeze(0), draw.log_pz, draw.log_qz


def _moments(base: Any, w: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) of the mixture over K of an elementwise distribution; for categories, the result of
    :func:`_levels`."""
    if isinstance(base, d.Categorical):
        return _levels(base.logits.double().softmax(-1), w.unsqueeze(-1))
    mean = base.mean.double()
    total = (w * mean).sum(0)
    try:
        second = (w * (base.variance.double() + mean.square())).sum(0)
    except NotImplementedError:
        second = (w * mean.square()).sum(0)
    return total, (second - total.square()).clamp_min(0).sqrt()


def _levels(probabilities: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """(the most probable level; the total probability of all other levels)."""
    top, level = (w * probabilities).sum(0).max(-1)
    return level.double(), 1 - top


def _columns(base: d.Columns, weights: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
    """The moments of a table's columns, group by group. For columns with a law, only ``missing`` cells ``[B, columns]``
    have moments; they are 0 elsewhere."""
    size, rows = base.size, weights.shape[1]
    filled, spread = (torch.zeros(rows, size, dtype=torch.float64, device=weights.device) for _ in range(2))
    w = weights.unsqueeze(-1)
    for index, part in base.parts:
        if isinstance(part, d.Bernoulli):
            one = part.mean.double()
            filled[:, index], spread[:, index] = _levels(torch.stack([1 - one, one], -1), w.unsqueeze(-1))
        elif isinstance(part, d.Ordinal):
            above = (part.loc.unsqueeze(-1) - part.cutpoints).sigmoid().double()  # P(x > level)
            ends = torch.ones_like(above[..., :1])
            each = torch.cat([ends, above], -1) - torch.cat([above, 0 * ends], -1)
            filled[:, index], spread[:, index] = _levels(each, w.unsqueeze(-1))
        elif isinstance(part, d.Heaped):
            for place, j in enumerate(index.tolist()):
                holes = missing[:, j].nonzero().squeeze(-1)
                if len(holes):
                    found = _heaped(part.cells(holes, place), w[:, holes])
                    filled[holes, j], spread[holes, j] = (each.squeeze(-1) for each in found)
        else:
            filled[:, index], spread[:, index] = _moments(part, w)
    return filled, spread


def _heaped(part: d.Heaped, w: Tensor) -> tuple[Tensor, Tensor]:
    """(the value that represents the mixture over K; the standard deviation around it)."""
    masses, first, second = part.masses()
    total = (w.unsqueeze(-1) * masses).sum(0)
    margin = total[..., 0].clamp_min(1e-300)
    first, second = ((w * masses[..., 0] * each).sum(0) / margin for each in (first, second))
    return d.standing(total, first, second, part.margins)
