"""The base of all densities over codes, the codes to which they are fitted, and their training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.data.loader import ArrayLoader
from latens.distributions import PointMass
from latens.errors import InputError
from latens.models import Draw
from latens.objectives import ELBO, Objective
from latens.tensors.randomness import Key, seed_of, seeded
from latens.tensors.trees import Tree
from latens.training import Log, Progress, Settings, Trainer

AT_ONCE = 1000  # codes that are drawn or evaluated in one call


@dataclass(frozen=True)
class Codes:
    """Codes for fitting and for judging: real numbers, or whole numbers 0 … K - 1.

    Args:
        train: ``[N, D]``, codes for fitting.
        held: ``[M, D]``, codes for judging.
        levels: K for whole numbers, None for real numbers.
        grid: (rows, columns) if the D positions of whole numbers form a grid; otherwise they form a string.
        seed: the seed of the fit.
        progress: where progress is shown.
        model: the model of the codes, for densities that need it.
    """

    train: Tensor
    held: Tensor
    levels: int | None = None
    grid: tuple[int, int] | None = None
    seed: int = 0
    progress: Progress | None = None
    model: nn.Module | None = None

    @classmethod
    def split(cls, z: Tensor, *, seed: int = 0, **more: Any) -> Codes:
        """Split z ``[N, D]``: a random tenth of the rows, at most 10,000, is held out. ``InputError`` for fewer than 4
        rows."""
        if len(z) < 4:
            raise InputError(f"a density needs the codes of at least 4 rows, got {len(z)}", "give more rows")
        order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed_of(seed, Key.DENSITY_HELD_OUT)))
        held = min(10_000, max(2, len(z) // 10))
        return cls(z[order[held:].sort().values], z[order[:held].sort().values], seed=seed, **more)

    def reals(self) -> Codes:
        """These codes; ``InputError`` if they are whole numbers."""
        if self.levels is not None:
            raise InputError("this density is not for codes of whole numbers", "use 'autoregressive' or 'pixelcnn'")
        return self

    def wholes(self, kind: str) -> int:
        """The number of levels; ``InputError`` if the codes are real."""
        if self.levels is None:
            raise InputError(f"{kind!r} is for whole-number codes, but these are real", "use 'mixture' or 'maf'")
        return self.levels

    @property
    def size(self) -> int:
        """D, the number of dimensions or positions of a code."""
        return int(self.train.shape[1])

    def standardisation(self) -> tuple[Tensor, Tensor]:
        """(mean, standard deviation) of each dimension; the latter is 1 if a dimension does not vary."""
        unit, shift = torch.std_mean(self.train, 0, correction=0)
        return shift, torch.where(unit > 1e-12 * shift.abs(), unit, 1.0)


class Density(nn.Module):
    """A distribution over codes in the form of a prior: ``forward(c)`` returns it.

    Its state is in parameters and buffers; ``config`` holds the arguments with which it can be built again.

    Attributes:
        is_bound: whether ``log_prob`` is a lower bound in expectation.
        has_log_prob: whether there is a ``log_prob`` at all.
    """

    is_bound = False
    has_log_prob = True

    def __init__(self, **config: Any):
        super().__init__()
        self.config = config

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[D]``."""
        raise NotImplementedError

    @torch.no_grad()
    def log_prob(self, z: Tensor) -> Tensor:
        """ln p of each code, ``[N, D]`` -> ``[N]`` nats."""
        distribution = self()
        return torch.cat([distribution.log_prob(part) for part in z.split(AT_ONCE)])

    @torch.no_grad()
    def sample(self, n: int, seed: int | None = None) -> Tensor:
        """n codes, ``[n, D]``; with a seed always the same, and without changing the caller's generator."""
        if seed is not None:
            with seeded(seed, Key.DENSITY_FIT):
                return self.sample(n)
        distribution = self()
        return torch.cat([distribution.sample(torch.Size((size,))) for size in parts(n)])


def parts(n: int) -> Iterator[int]:
    """Sizes that add up to n, each at most the number of codes that are drawn in one call."""
    for start in range(0, n, AT_ONCE):
        yield min(AT_ONCE, n - start)


class Explicit(nn.Module):
    """A density of the data in the form of a model: it has no latent variable, and the distortion is -ln p(x)."""

    compile_mode = "off"

    def __init__(self, density: nn.Module):
        super().__init__()
        self.density = density

    def draw(self, x: Tensor, k: int = 1, c: Tree = None) -> Draw:
        """A draw with ``log_px`` = ln p(x), ``[k, B]``, and no codes."""
        p = self.density(c)
        log_p = p.log_prob(x).expand(k, -1)
        nothing = PointMass(log_p.new_zeros(len(x), 0))
        return Draw(nothing.rsample(torch.Size((k,))), log_p, torch.zeros_like(log_p), None, p, nothing, nothing, c)


def descend(
    model: nn.Module, codes: Codes, *, objective: Objective | None = None, epochs: int | str = "auto",
    rate: float | str = "auto",
) -> None:  # fmt: skip
    """Train a model of codes with the usual training loop, judged by the held-out codes; the model ends on the CPU.

    Args:
        model: the model; without an objective, a density of the codes, which is trained by maximum likelihood.
        codes: the codes on which it is trained.
        objective: the objective, for a model with a posterior.
        epochs: a number, or "auto".
        rate: the learning rate, or "auto".
    """
    seed = seed_of(codes.seed, Key.DENSITY_FIT)
    settings = Settings(epochs=epochs, learning_rate=rate, clip=100.0, seed=seed, keep="best")
    settled = settings.settle(len(codes.train), held=len(codes.held))
    loader = ArrayLoader(codes.train, batch_size=int(settled.batch_size), seed=settled.seed)
    held = ArrayLoader(codes.held, batch_size=512, shuffle=False)
    trained = Explicit(model) if objective is None else model
    Trainer(trained, objective or ELBO(beta=0.0), loader, held, settled, Log(progress=codes.progress)).run()
    model.to("cpu")
