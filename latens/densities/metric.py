"""Codes drawn by a Markov chain from the regions where, by a learned metric, the data lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.densities.base import Codes, Density
from latens.densities.mixtures import some
from latens.errors import InputError, is_number, require, require_count
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree

STARTS = 2000  # chains begin at up to this many codes
MARGIN = 0.1  # on either side, the box extends beyond the codes by this share of their range

InverseMetric = Callable[[Tensor], Tensor]  # [N, D] -> [N, D, D]


class OnMetric(Distribution):
    r"""A density from a metric over codes, drawn by Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011).

    .. math:: p(z) \propto \sqrt{\det G^{-1}(z)}

    within a box (Chadebec et al. 2022). Momenta have unit variance, and all leapfrog steps have the same size.
    Proposals outside the box are rejected. Each sample has its own chain, from a randomly drawn start. The constant is
    unknown, so ``log_prob`` raises ``NotImplementedError``.

    Args:
        inverse: a function from z ``[N, D]`` to :math:`G^{-1}(z)` ``[N, D, D]``.
        starts: ``[M, D]``, codes at which chains begin.
        box: ``[2, D]``, its low and high ends.
        size: ``[D]``, the step in each dimension.
        moves: the number of proposals in each chain.
        leaps: the number of leapfrog steps in each proposal.
    """

    arg_constraints: dict = {}

    def __init__(self, inverse: InverseMetric, starts: Tensor, box: Tensor, size: Tensor, moves: int, leaps: int):
        self.inverse, self.starts, self.box = inverse, starts, box
        self.size, self.moves, self.leaps = size, moves, leaps
        self.accepted = math.nan  # the share of the proposals that were accepted in the last sample
        super().__init__(torch.Size(), starts.shape[1:], validate_args=False)

    def unnormalised(self, z: Tensor) -> Tensor:
        r""":math:`\ln \sqrt{\det G^{-1}(z)}`, ``[N, D]`` -> ``[N]``; -inf outside the box."""
        inside = ((z >= self.box[0]) & (z <= self.box[1])).all(-1)
        return torch.where(inside, 0.5 * torch.linalg.slogdet(self.inverse(z))[1], -math.inf)

    def log_prob(self, value: Tensor) -> Tensor:
        """Raises ``NotImplementedError``, as the constant is unknown."""
        raise NotImplementedError("the density on a metric is known only up to a constant: use another kind")

    def _force(self, z: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            return torch.autograd.grad(0.5 * torch.linalg.slogdet(self.inverse(z))[1].sum(), z)[0]

    def _move(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(the chains after one proposal each, accepted or not; the probability of acceptance)."""
        momentum = torch.randn_like(z)
        before = self.unnormalised(z) - 0.5 * momentum.square().sum(-1)
        to, moving = z, momentum + 0.5 * self.size * self._force(z)
        for leap in range(1, self.leaps + 1):
            to = to + self.size * moving
            moving = moving + (0.5 if leap == self.leaps else 1.0) * self.size * self._force(to)
        after = self.unnormalised(to) - 0.5 * moving.square().sum(-1)
        chance = (after - before).nan_to_num(-math.inf).clamp_max(0).exp()
        return torch.where((torch.rand_like(chance) < chance).unsqueeze(-1), to, z), chance

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, D]``, each of which is the end of a separate chain."""
        z, chances = self.starts[torch.randint(len(self.starts), (torch.Size(sample_shape).numel(),))], []
        for _ in range(self.moves):
            z, chance = self._move(z)
            chances.append(float(chance.mean()))
        self.accepted = sum(chances) / max(len(chances), 1)
        return z.view(*sample_shape, *self.event_shape)


class MetricChain(Density):
    """The chains' starts, box and step size; the metric itself stays in the model. See :func:`metric`."""

    has_log_prob = False
    starts: Tensor
    box: Tensor
    step: Tensor

    def __init__(self, size: int, starts: int, moves: int, leaps: int, model: Any = None):
        super().__init__(size=size, starts=starts, moves=moves, leaps=leaps)
        self.inverse = inverse_of(model)
        self.register_buffer("starts", torch.zeros(starts, size))
        self.register_buffer("box", torch.zeros(2, size))
        self.register_buffer("step", torch.ones(size))

    def forward(self, c: Tree = None) -> OnMetric:
        """The distribution over codes ``[D]``."""
        return OnMetric(
            self.inverse, self.starts, self.box, self.step, self.config["moves"], self.config["leaps"]
        )


def inverse_of(model: Any) -> InverseMetric:
    """The function :math:`G^{-1}` of a model with a metric over its codes, which is the model's method
    ``inverse_metric``. ``InputError`` for other models."""
    found = getattr(model, "inverse_metric", None)
    if not callable(found):
        raise InputError("this model has no metric over its codes", "use another density, or a recipe that learns one")
    return found


def metric(codes: Codes, *, moves: int = 100, leaps: int = 10, step: float | str = "auto") -> MetricChain:
    """A density proportional to the root of det G⁻¹(z), where G is the model's metric (Chadebec et al. 2022).

    Its support is the range of the codes, extended by a tenth on either side. It is sampled by Hamiltonian Monte Carlo.

    Args:
        codes: the codes to which it is fitted.
        moves: the number of proposals in each chain.
        leaps: the number of leapfrog steps in each proposal.
        step: the step in units of the codes' spread; "auto" is the step at which about 4 of 5 proposals are accepted.
    """
    for name, value in (("moves", moves), ("leaps", leaps)):
        require_count(value, name, most=10_000)
    good = step == "auto" or (is_number(step) and float(step) > 0)
    require(good, "step", "'auto' or a positive number", step)
    z = some(codes.reals().train, STARTS)
    density = MetricChain(codes.size, len(z), int(moves), int(leaps), codes.model).to(z.dtype)
    low, high = codes.train.amin(0), codes.train.amax(0)
    density.starts.copy_(z)
    density.box.copy_(torch.stack([low - MARGIN * (high - low), high + MARGIN * (high - low)]))
    unit = codes.standardisation()[1]
    density.step.copy_((0.3 if step == "auto" else float(step)) * unit)
    if step == "auto":
        with seeded(codes.seed, Key.METRIC_CHAIN):
            _tune(density, z)
    return density


def _tune(density: MetricChain, z: Tensor, rounds: int = 40) -> None:
    """Lengthen the step if more than 4 of 5 proposals are accepted, and shorten it if fewer are."""
    for number in range(rounds):
        z, chance = density()._move(z[:200])
        density.step.mul_(math.exp((float(chance.mean()) - 0.8) / math.sqrt(1 + number)))
