"""Likelihoods: the bound, its two terms, and importance-weighted estimates of -ln p(x), with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latens.distributions import has_row_noise
from latens.distributions import require_support as require_supported
from latens.errors import is_whole, require
from latens.machine.processor import keep_memory
from latens.models.draw import Draw
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed, shared, untouched
from latens.tensors.trees import Tree

CELLS = 1_000_000  # numbers in a decoded chunk, so that caches still help
ONCE = 4_000_000  # the same for one pass over the rows; with fewer, threads and memory cost more than arithmetic
_LOOKED = 4096  # rows checked together
LEAST = 512  # the least that a row counts, for the hidden layers of the networks


@dataclass(frozen=True)
class NLL:
    r"""-ln p(x) by importance weighting with ``k`` draws per row (Burda et al. 2016).

    Attributes:
        rows: :math:`-\ln \frac{1}{K} \sum_k w_k` of each row, ``[N]`` float64, nats; its expectation is an upper bound
            on -ln p(x).
        row_error: its standard error by the delta method, :math:`sd(w) / (\bar w \sqrt K)`, ``[N]``.
        ess: the effective sample size :math:`(\sum w)^2 / \sum w^2`, ``[N]`` in [1, K].
        k: the number of draws K.
    """

    rows: Tensor
    row_error: Tensor
    ess: Tensor
    k: int

    @property
    def mean(self) -> float:
        """The mean of -ln p(x) over rows, nats."""
        return float(self.rows.mean())

    @property
    def standard_error(self) -> float:
        """The standard error of the mean over rows, nats."""
        return standard_error(self.rows)

    @property
    def mean_ess(self) -> float:
        """The mean effective sample size of a row, from 1 to ``k``."""
        return float(self.ess.mean())


@dataclass(frozen=True)
class Bound:
    """The evidence lower bound, -(rate + distortion), and its two terms of each row, ``[N]`` float64, nats."""

    rate: Tensor
    distortion: Tensor
    draws: int

    @property
    def rows(self) -> Tensor:
        """The ELBO of each row, ``[N]`` nats."""
        return -(self.rate + self.distortion)

    @property
    def elbo(self) -> float:
        """The mean ELBO over rows, nats."""
        return float(self.rows.mean())

    @property
    def standard_error(self) -> float:
        """The standard error of the mean over rows, nats."""
        return standard_error(self.rows)


def standard_error(values: Tensor) -> float:
    """The standard error of the mean over rows; NaN for a single row."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else float("nan")


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """nats / (dimensions ln 2): bits for each dimension of a row.

    For whole numbers modelled by a density of x + u, u in [0, 1), the figure is comparable; for a density of
    (x + u) / 256, add 8.

    >>> bits_per_dimension(784 * math.log(256), 784)
    8.0
    """
    return nats / (dimensions * math.log(2))


def chunk_rows(x: Tree, draws: int) -> tuple[int, int]:
    """(rows, draws) of a chunk, so that memory is bounded for any number of either."""
    cells = max(LEAST, sum(leaf[0].numel() for leaf in trees.leaves(x)))
    at_once = max(1, min(draws, CELLS // cells))
    return max(1, CELLS // (cells * at_once)), at_once


def rows_at_once(cells: int) -> int:
    """The number of rows of ``cells`` numbers to take at once in a pass over them.

    >>> rows_at_once(10), rows_at_once(784), rows_at_once(10**7)
    (7812, 5102, 1)
    """
    return max(1, ONCE // max(LEAST, cells))


def model_device(model: nn.Module) -> torch.device:
    """The device of the model's parameters, or the CPU."""
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _leaf(values: Any) -> Any:
    """Arrays as tensors; lazy rows, made when indexed, are unchanged."""
    return torch.as_tensor(values) if isinstance(values, np.ndarray) else values


def on_device(model: nn.Module, rows: slice, *data: Tree) -> list[Any]:
    """The selected rows of each tree, on the device of the model."""
    device = model_device(model)
    return [trees.to_device(trees.take(tree, rows), device) for tree in data]


def chunks(model: nn.Module, x: Tree, c: Tree, count: int | None = None) -> Iterator[tuple[slice, Any, Any]]:
    """(rows, x, c) of consecutive parts on the device of the model: ``count`` rows each, or as many as
    :func:`rows_at_once` says."""
    count = count or rows_at_once(sum(leaf[0].numel() for leaf in trees.leaves(x)))
    for start in range(0, trees.rows(x), count):
        rows = slice(start, start + count)
        yield rows, *on_device(model, rows, x, c)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode for a block, without gradients (unless a part needs them) and without touching
    the caller's random state; all is restored afterwards, also after an error."""
    keep_memory()
    was_training = model.training
    model.eval()
    try:
        with torch.set_grad_enabled(bool(parts_asking_for_gradients(model))), untouched():
            yield
    finally:
        model.train(was_training)


def parts_asking_for_gradients(model: nn.Module) -> list[nn.Module]:
    """The parts that need gradients in evaluation (Hamiltonian refinement)."""
    return [part for part in model.modules() if getattr(part, "needs_grad_at_eval", False)]


def require_support(model: nn.Module, x: Tree, c: Tree = None) -> None:
    """``InputError`` for the first value of x to which the likelihood gives no probability, such as 2 for a Bernoulli
    or a fraction for counts.

    It is checked once, so that densities need not check in every step. Lazy rows are left to their schema, and models
    without p(x|z) are not checked.
    """
    leaves = trees.leaves(x)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        return
    one, given = on_device(model, slice(0, 1), x, c)
    try:
        with evaluating(model):
            ones = trees.map_tree(torch.ones_like, one)  # 1 is in nearly every support
            px = model.draw(ones, 1, given).px  # type: ignore[operator]
    except Exception:  # an error of the user's own parts comes up again, with a message, when they see the rows
        return
    for rows, xs, _ in chunks(model, x, None, _LOOKED):
        require_supported(px, xs, rows.start)


def nll(
    model: nn.Module, x: Tree, k: int = 100, c: Tree = None, *, seed: int = 0, shared_noise: bool = False,
    batch_size: int | None = None,
) -> NLL:  # fmt: skip
    r"""-ln p(x) of each row by importance weighting (Burda et al. 2016):

    .. math:: -\ln \frac{1}{K} \sum_{k=1}^K \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    Its expectation is an upper bound on -ln p(x), and a loose one where q fits badly: look at ``ess``. Memory does not
    grow with K or N.

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``.
        k: draws per row, K.
        c: conditions.
        seed: of the draws.
        shared_noise: whether all rows get the same K noise vectors, so that a value depends neither on other rows nor
            on their order; otherwise draws are independent, as the standard error of the mean assumes.
        batch_size: rows at once; without it, chosen by memory.

    Raises:
        InputError: k < 1; a posterior without a density.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> found = nll(model, torch.randn(7, 5), k=20)
    >>> found.rows.shape, found.k, found.mean > 0
    (torch.Size([7]), 20, True)
    """
    require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
    x, c = (trees.map_tree(_leaf, tree) for tree in (x, c))
    require_support(model, x, c)
    count, at_once = chunk_rows(x, k)
    count = min(count, batch_size) if batch_size else count
    if shared_noise and not _follows_layout(model, x, c):
        count = 1  # noise from elsewhere: one row at a time, from the same seed, gives all the same draws
    values, errors, sizes = [], [], []
    with evaluating(model):
        for rows, xs, cs in chunks(model, x, c, count):
            first = second = torch.full((trees.rows(xs),), -math.inf, dtype=torch.float64)
            for number, done in enumerate(range(0, k, at_once)):
                reseed(seed, Key.EVALUATE, number, 0 if shared_noise else rows.start + 1)
                with shared() if shared_noise else nullcontext():
                    draw = model.draw(xs, min(at_once, k - done), cs)  # type: ignore[operator]
                log_w = draw.log_w.double().cpu()
                first = torch.logaddexp(first, torch.logsumexp(log_w, 0))
                second = torch.logaddexp(second, torch.logsumexp(2 * log_w, 0))
            values.append(math.log(k) - first)
            sizes.append(torch.exp(2 * first - second))
            relative = (k / sizes[-1] - 1).clamp_min(0) / max(k - 1, 1)  # Var(w) / (k mean(w)^2)
            errors.append(relative.sqrt() if k > 1 else torch.full_like(first, math.nan))
    return NLL(torch.cat(values), torch.cat(errors), torch.cat(sizes), k)


def _follows_layout(model: nn.Module, x: Tree, c: Tree) -> bool:
    encode = getattr(model, "encode", None)
    return encode is not None and has_row_noise(encode(*on_device(model, slice(0, 1), x, c)))


def elbo(model: nn.Module, x: Tree, c: Tree = None, *, draws: int = 5, kl: str = "auto", seed: int = 0) -> Bound:
    r"""The evidence lower bound of each row, with its terms (Kingma & Welling 2014):

    .. math:: -\underbrace{KL(q(z|x) \,\|\, p(z))}_{\text{rate}}
        - \underbrace{E_{q(z|x)}[-\ln p(x|z)]}_{\text{distortion}} \le \ln p(x)

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``.
        c: conditions.
        draws: posterior draws per row, over which the distortion is averaged.
        kl: "auto" (in closed form where there is one), "closed" or "sampled".
        seed: of the draws.

    Raises:
        InputError: a posterior without a density; an autoencoder has no bound, see :func:`distortion`.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> bound = elbo(model, torch.randn(7, 5))
    >>> torch.allclose(bound.rows, -(bound.rate + bound.distortion))
    True
    """
    rates, distortions = [], []
    for draw in _draws(model, x, c, draws, seed):
        rates.append(draw.rate(kl).mean(0).double().cpu())
        distortions.append(draw.distortion.mean(0).double().cpu())
    return Bound(torch.cat(rates), torch.cat(distortions), draws)


def distortion(model: nn.Module, x: Tree, c: Tree = None, *, draws: int = 1, seed: int = 0) -> Tensor:
    """-ln p(x|z) of each row, averaged over ``draws`` posterior draws, ``[N]`` nats; it exists for a point mass too."""
    return torch.cat([draw.distortion.mean(0).double().cpu() for draw in _draws(model, x, c, draws, seed)])


def _draws(model: nn.Module, x: Tree, c: Tree, k: int, seed: int) -> Iterator[Draw]:
    x, c = (trees.map_tree(_leaf, tree) for tree in (x, c))
    require_support(model, x, c)
    for rows, xs, cs in chunks(model, x, c, max(1, chunk_rows(x, 1)[0] // k)):
        with evaluating(model):
            reseed(seed, Key.EVALUATE, k, rows.start + 1)
            draw = model.draw(xs, k, cs)  # type: ignore[operator]
        yield draw
