"""Annealed importance sampling of ln p(x), and the two-sided bounds that certify an estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latens.errors import is_whole, require
from latens.evaluation.joint import LogJoint, require_real_codes
from latens.evaluation.likelihood import (
    NLL,
    as_tensors,
    chunk_rows,
    chunks,
    evaluating,
    of_sums,
    require_support,
    standard_error,
)
from latens.models.hamiltonian import gradient
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed
from latens.tensors.trees import Tree

LEAPFROG = 10  # leapfrog steps per move
_WANTED = 0.65  # step sizes are chosen so that this share of moves is accepted (Neal 2011)
_PILOT, _PILOT_CHAINS = 100, 4


@dataclass(frozen=True)
class Annealed(NLL):
    """-ln p(x) by annealed importance sampling (Neal 2001): :class:`NLL` over ``k`` chains per row.

    Attributes:
        temperatures: the number of temperatures T.
        acceptance: the mean share of accepted moves.
    """

    temperatures: int = 0
    acceptance: float = math.nan


@dataclass(frozen=True)
class Certificate:
    r"""How far an estimate of ln p(x) can be off, judged on rows that the model drew itself (Grosse, Ghahramani & Adams
    2015).

    In expectation, lower :math:`\le \ln p(x) \le` upper for every row.

    Attributes:
        lower: the estimate of ln p(x), ``[N]`` nats.
        upper: the estimate of the reverse chains, which start at the code from which the row was drawn, ``[N]`` nats.
    """

    lower: Tensor
    upper: Tensor

    @property
    def gap(self) -> float:
        """The mean of upper - lower over rows, nats."""
        return float((self.upper - self.lower).mean())

    @property
    def standard_error(self) -> float:
        """The standard error of the gap, nats."""
        return standard_error(self.upper - self.lower)

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) for the mean of ln p(x) over the rows, with a confidence of 99 %, in nats.

        Each end is one of the bounds, widened by 2.6 standard errors of the gap.
        """
        error = 2.576 * self.standard_error if len(self.lower) > 1 else math.inf
        return float(self.lower.mean()) - error, float(self.upper.mean()) + error

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text."""
        low, high = self.interval
        gap = f"a gap of {self.gap:.3f} ± {self.standard_error:.3f}"
        rows = f"{len(self.lower):,} rows drawn from the model"
        return [("certificate", f"{low:.3f} <= ln p(x) <= {high:.3f} nats for {rows}, {gap}")]

    def to_json(self) -> dict[str, Any]:
        """The means of both bounds and of their gap, nats."""
        return {
            "lower": float(self.lower.mean()), "upper": float(self.upper.mean()), "gap": self.gap,
            "interval": list(self.interval), "standard_error": self.standard_error, "rows": len(self.lower),
        }  # fmt: skip


@dataclass(frozen=True)
class _Schedule:
    """Inverse temperatures ``[T + 1]`` from 0 to 1, and the step size of each move, ``[T + 1, B]``."""

    beta: Tensor
    steps: Tensor


class _Path:
    r"""The path from a start f_0 to p(x, z) for B rows:
    :math:`\ln f_\beta = (1 - \beta) \ln f_0(z) + \beta \ln p(x, z)`.

    f_0 is the encoder's posterior if that is a normal, and otherwise the prior.
    """

    def __init__(self, joint: LogJoint):
        self.joint, self.scale = joint, joint.spread()
        self.start = joint.q if joint.has_normal_posterior else joint.p

    def draw(self, chains: int) -> Tensor:
        """Codes from f_0, ``[C, B, Z]``."""
        lead = self.start.batch_shape
        return self.start.sample(torch.Size((chains,) if lead else (chains, self.joint.rows)))

    def climb(self, z: Tensor) -> Tensor:
        """ln p(x, z) - ln f_0(z), ``[C, B]``."""
        return self.joint(z) - self.start.log_prob(z)

    def move(self, z: Tensor, beta: Tensor | float, step: Tensor) -> tuple[Tensor, Tensor]:
        """(codes after one move of Hamiltonian Monte Carlo that leaves f_beta invariant (Neal 2011); whether each was
        accepted, ``[C, B]``). The step size is ``step`` ``[B]`` standard deviations, jittered by a fifth."""

        def log_density(at: Tensor) -> Tensor:
            base = self.start.log_prob(at)
            return base + beta * (self.joint(at) - base)

        size = (step * (0.8 + 0.4 * torch.rand_like(step))).unsqueeze(-1) * self.scale
        momentum = torch.randn_like(z)
        before = log_density(z) - 0.5 * momentum.square().sum(-1)
        at, slope = z, gradient(log_density, z)
        moved = momentum
        for _ in range(LEAPFROG):
            moved = moved + 0.5 * size * slope
            at = at + size * moved
            slope = gradient(log_density, at)
            moved = moved + 0.5 * size * slope
        gain = log_density(at) - 0.5 * moved.square().sum(-1) - before
        accepted = torch.rand_like(gain).log() < gain  # false if the gain is NaN
        return torch.where(accepted.unsqueeze(-1), at, z), accepted

    def schedule(self, temperatures: int) -> _Schedule:
        """Temperatures and step sizes from a pilot run of separate chains.

        Adapting step sizes while the chains are weighted would bias the estimate; the pilot chains are not weighted.
        Step sizes are chosen row by row so that about two thirds of the moves are accepted. Temperatures are evenly
        spaced in the arc length :math:`\\int sd_\\beta[\\ln p(x, z) - \\ln f_0(z)] d\\beta` (Gelman & Meng 1998).
        """
        beta = torch.linspace(0, 1, _PILOT + 1).square().tolist()  # closer together near f_0, where most changes
        step = torch.full((self.joint.rows,), 0.5 * self.joint.dim**-0.25).to(self.scale)
        z, steps, spread = self.draw(_PILOT_CHAINS), [step], []
        for at in beta[1:]:
            spread.append(self.climb(z).std(0).nan_to_num(0, 0, 0).mean())
            z, accepted = self.move(z, at, step)
            step = step * torch.exp(accepted.to(step).mean(0) - _WANTED)
            steps.append(step)
        lengths = torch.stack(spread).cpu().double() * torch.tensor(beta).diff().double()
        lengths = lengths + lengths.sum() / (4 * _PILOT) + 1e-12  # every stretch gets some temperatures
        along = torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0)])
        wanted = torch.linspace(0, 1, temperatures + 1, dtype=torch.float64) * along[-1]
        found = _interpolated(wanted, along, torch.tensor(beta, dtype=torch.float64).unsqueeze(-1)).squeeze(-1)
        found[0], found[-1] = 0.0, 1.0
        smooth = torch.stack(steps).log().cpu().double()
        smooth = torch.stack([smooth[max(0, n - 5) : n + 6].mean(0) for n in range(len(smooth))])
        sizes = _interpolated(found, torch.tensor(beta, dtype=torch.float64), smooth).exp()
        return _Schedule(found, sizes.to(self.scale))


def _interpolated(at: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation at ``at`` ``[M]`` of ``values`` ``[N, B]``, known at increasing ``places`` ``[N]``."""
    right = torch.searchsorted(places, at).clamp(1, len(places) - 1)
    share = ((at - places[right - 1]) / (places[right] - places[right - 1]))[:, None]
    return values[right - 1] * (1 - share) + values[right] * share


def _forward(path: _Path, schedule: _Schedule, chains: int) -> tuple[Tensor, float]:
    """(ln of the weights of chains from f_0 to p(x, z), ``[C, B]`` float64; the share of accepted moves)."""
    z = path.draw(chains)
    log_w, moves = torch.zeros(z.shape[:2], dtype=torch.float64), []
    for number in range(1, len(schedule.beta)):
        rise = float(schedule.beta[number] - schedule.beta[number - 1])
        log_w += rise * path.climb(z).double().cpu()
        if number < len(schedule.beta) - 1:  # a move at the end would change no weight
            z, accepted = path.move(z, float(schedule.beta[number]), schedule.steps[number])
            moves.append(float(accepted.double().mean()))
    return log_w, sum(moves) / len(moves) if moves else math.nan


def _reverse(path: _Path, schedule: _Schedule, z: Tensor) -> Tensor:
    """The same weights for the reversed chains, from exact draws of p(z|x) ``[C, B, Z]`` to f_0: ``[C, B]``."""
    log_w = torch.zeros(z.shape[:2], dtype=torch.float64)
    for number in range(len(schedule.beta) - 1, 0, -1):
        if number < len(schedule.beta) - 1:
            z, _ = path.move(z, float(schedule.beta[number]), schedule.steps[number])
        log_w += float(schedule.beta[number] - schedule.beta[number - 1]) * path.climb(z).double().cpu()
    return log_w


def annealed_nll(
    model: nn.Module, x: Tree, c: Tree = None, *, chains: int = 16, temperatures: int = 200, seed: int = 0
) -> Annealed:
    r"""-ln p(x) of each row by annealed importance sampling (Neal 2001; Wu et al. 2017).

    Chains start at the encoder's posterior (or at the prior, if the posterior is not a normal). Hamiltonian Monte Carlo
    moves them while the density changes into p(x, z) over T temperatures:

    .. math:: \ln w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \left[\ln p(x, z_{t-1}) - \ln f_0(z_{t-1})\right]

    E[w] = p(x), so the expectation is an upper bound on -ln p(x), as with :func:`latens.evaluation.nll`, but a tighter
    one. Temperatures and step sizes come from a pilot run on each row.

    Args:
        model: a model with one layer of codes in R^d.
        x: rows in the model's form, ``[N, *event]``.
        c: conditions.
        chains: chains per row, C.
        temperatures: T, at least 1.
        seed: the seed of the chains.

    Raises:
        InputError: codes are not one vector of real numbers, or there are no chains or no temperatures.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> found = annealed_nll(model, torch.randn(7, 5), chains=4, temperatures=10)
    >>> found.rows.shape, found.k, found.temperatures
    (torch.Size([7]), 4, 10)
    """
    _require_chains(model, chains, temperatures)
    x, c = as_tensors(x, c)
    require_support(model, x, c)
    count, _ = chunk_rows(x, chains)
    log_w, accepted = [], []
    with evaluating(model):
        for rows, xs, cs in chunks(model, x, c, count):
            reseed(seed, Key.ANNEAL, rows.start)
            path = _Path(LogJoint(model, xs, cs))
            found, share = _forward(path, path.schedule(temperatures), chains)
            log_w.append(found)
            accepted.append(share)
    found = torch.cat(log_w, 1)
    figures = of_sums(found.logsumexp(0), (2 * found).logsumexp(0), chains)
    return Annealed(*figures, chains, temperatures=temperatures, acceptance=sum(accepted) / len(accepted))


def _require_chains(model: nn.Module, chains: int, temperatures: int) -> None:
    require(is_whole(chains) and chains >= 1, "chains", "a whole number from 1", chains)
    require(is_whole(temperatures) and temperatures >= 1, "temperatures", "a whole number from 1", temperatures)
    require_real_codes(model)


def certify(
    model: nn.Module, c: Tree = None, *, rows: int = 64, chains: int = 16, temperatures: int = 200, seed: int = 0
) -> Certificate:
    r"""A lower and an upper bound on ln p(x) of rows that the model draws itself, by bidirectional Monte Carlo (Grosse,
    Ghahramani & Adams 2015).

    For :math:`x \sim p(x|z^*)` with :math:`z^* \sim p(z)`, the code :math:`z^*` is an exact draw of p(z|x). Chains from
    there back to the start bound ln p(x) from above:

    .. math:: E\left[\ln \tfrac1C \sum_c w_c\right] \le \ln p(x) \le
        E\left[-\ln \tfrac1C \sum_c \tfrac{1}{w'_c}\right]

    The gap says how far estimates with these settings can be off if the model describes the data well. On data that it
    does not describe well, they can be off further.

    Args:
        model: a model with one layer of codes in R^d.
        c: conditions, one row for each row to draw.
        rows: the number of rows to draw; ignored if there are conditions.
        chains, temperatures, seed: see :func:`annealed_nll`.

    Raises:
        InputError: as :func:`annealed_nll`.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> certify(model, rows=7, chains=4, temperatures=10).lower.shape
    torch.Size([7])
    """
    _require_chains(model, chains, temperatures)
    x, codes = _simulated(model, c, rows, seed)
    lower, upper = [], []
    with evaluating(model):
        for part, xs, cs in chunks(model, x, c, chunk_rows(x, chains)[0]):
            reseed(seed, Key.ANNEAL, part.start, 1)
            path = _Path(LogJoint(model, xs, cs))
            schedule = path.schedule(temperatures)
            forward, _ = _forward(path, schedule, chains)
            z = codes[part].to(path.scale).expand(chains, -1, -1)
            backward = _reverse(path, schedule, z)
            lower.append(forward.logsumexp(0) - math.log(chains))
            upper.append(math.log(chains) - (-backward).logsumexp(0))
    return Certificate(torch.cat(lower), torch.cat(upper))


def _simulated(model: nn.Module, c: Tree, rows: int, seed: int) -> tuple[Tree, Tensor]:
    """(rows drawn from the model; the codes from which they were drawn, ``[N, Z]``)."""
    rows = rows if c is None else trees.rows(c)
    require(is_whole(rows) and rows >= 1, "rows", "a whole number from 1", rows)
    with evaluating(model), torch.no_grad():
        reseed(seed, Key.ANNEAL, 0, 2)
        p = model._run("prior", c=c)  # type: ignore[operator]
        z = p.sample(torch.Size(() if p.batch_shape else (rows,)))
        return model.decode(z, c).sample(), z  # type: ignore[operator]
