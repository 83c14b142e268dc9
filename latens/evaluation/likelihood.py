"""Likelihoods: the bound, its two terms, and importance-weighted estimates of -ln p(x) with their errors."""

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

CELLS = 1_000_000  # numbers of one decoded chunk that are held at once: what caches still help with
ONCE = 4_000_000  # the same of one pass over the rows: with fewer, waking threads and asking for memory cost more
_LOOKED = 4096  # rows looked at together
LEAST = 512  # what a row counts at least: the hidden layers of the networks


@dataclass(frozen=True)
class NLL:
    """-ln p(x) by importance weighting with exactly ``k`` draws, nats.

    ``rows``: -ln (1/k) sum_k w_k of each row, ``[N]`` float64: in expectation an upper bound on -ln p(x).
    ``row_error``: its standard error by the delta method, sd(w) / (mean(w) sqrt k). ``ess``: effective sample size (sum
    w)^2 / sum w^2, in [1, k]. ``mean`` and ``standard_error`` are over the rows (the mean of the rows' logarithms, not
    the logarithm of a pooled mean).
    """

    rows: Tensor
    row_error: Tensor
    ess: Tensor
    k: int

    @property
    def mean(self) -> float:
        return float(self.rows.mean())

    @property
    def standard_error(self) -> float:
        return standard_error(self.rows)

    @property
    def mean_ess(self) -> float:
        return float(self.ess.mean())


@dataclass(frozen=True)
class Bound:
    """The evidence lower bound of each row and its terms, nats: elbo = -(rate + distortion), ``[N]`` float64 each."""

    rate: Tensor
    distortion: Tensor
    draws: int

    @property
    def rows(self) -> Tensor:
        return -(self.rate + self.distortion)

    @property
    def elbo(self) -> float:
        return float(self.rows.mean())

    @property
    def standard_error(self) -> float:
        return standard_error(self.rows)


def standard_error(values: Tensor) -> float:
    """Standard error of the mean over rows; NaN for one row."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else float("nan")


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """nats / (dimensions ln 2): the bits that one of the datum's dimensions costs.

    For whole-number data modelled by a density of x + u, u in [0, 1), this is comparable as it stands; for a density
    of (x + u) / 256 add 8.

    >>> bits_per_dimension(784 * math.log(256), 784)
    8.0
    """
    return nats / (dimensions * math.log(2))


def chunk_rows(x: Tree, draws: int) -> tuple[int, int]:
    """(rows, draws) to hold at once, so that memory is bounded for any number of either."""
    cells = max(LEAST, sum(leaf[0].numel() for leaf in trees.leaves(x)))
    at_once = max(1, min(draws, CELLS // cells))
    return max(1, CELLS // (cells * at_once)), at_once


def rows_at_once(cells: int) -> int:
    """Rows of so many numbers to hold in one pass over them.

    >>> rows_at_once(10), rows_at_once(784), rows_at_once(10**7)
    (7812, 5102, 1)
    """
    return max(1, ONCE // max(LEAST, cells))


def model_device(model: nn.Module) -> torch.device:
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _leaf(values: Any) -> Any:
    """Arrays as tensors; what makes its rows when it is indexed stays as it is."""
    return torch.as_tensor(values) if isinstance(values, np.ndarray) else values


def on_device(model: nn.Module, rows: slice, *data: Tree) -> list[Any]:
    """Those rows of each tree, where the model is."""
    device = model_device(model)
    return [trees.to_device(trees.take(tree, rows), device) for tree in data]


def chunks(model: nn.Module, x: Tree, c: Tree, count: int | None = None) -> Iterator[tuple[slice, Any, Any]]:
    """(rows, x, c) of consecutive parts, where the model is: ``count`` rows each, or as many as memory has room for."""
    count = count or rows_at_once(sum(leaf[0].numel() for leaf in trees.leaves(x)))
    for start in range(0, trees.rows(x), count):
        rows = slice(start, start + count)
        yield rows, *on_device(model, rows, x, c)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode, nothing is differentiated (unless a part asks for it), and the caller's
    random numbers are left alone; outside, everything is as before, however the block ended.
    """
    keep_memory()
    was_training = model.training
    model.eval()
    try:
        with torch.set_grad_enabled(bool(parts_asking_for_gradients(model))), untouched():
            yield
    finally:
        model.train(was_training)


def parts_asking_for_gradients(model: nn.Module) -> list[nn.Module]:
    """Parts whose evaluation differentiates (Hamiltonian refinement)."""
    return [part for part in model.modules() if getattr(part, "needs_grad_at_eval", False)]


def require_support(model: nn.Module, x: Tree, c: Tree = None) -> None:
    """``InputError`` for the first value of x that the model's likelihood gives no probability: 2 for a Bernoulli,
    fractions for counts. It is looked for once, at the door, so that densities need not look in every step. Rows that
    are made when they are indexed are left to the schema they come from, and models without a p(x|z) to themselves."""
    leaves = trees.leaves(x)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        return
    one, given = on_device(model, slice(0, 1), x, c)
    try:
        with evaluating(model):
            ones = trees.map_tree(torch.ones_like, one)  # in nearly every support
            px = model.draw(ones, 1, given).px  # type: ignore[operator]
    except Exception:  # whatever parts of one's own raise comes again, in words, where the rows themselves meet them
        return
    for rows, xs, _ in chunks(model, x, None, _LOOKED):
        require_supported(px, xs, rows.start)


def nll(
    model: nn.Module, x: Tree, k: int = 100, c: Tree = None, *, seed: int = 0, shared_noise: bool = False,
    batch_size: int | None = None,
) -> NLL:  # fmt: skip
    """-ln p(x) of each row by importance weighting: -ln (1/k) sum_k p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q(z|x).

    Exactly ``k`` draws a row, in chunks, so that memory does not grow with k or N (Burda et al. 2016). With
    ``shared_noise`` every row gets the same k noise vectors, so that its value depends neither on its neighbours nor on
    the order; otherwise draws are independent and the standard error of the mean is honest. The estimate is too high
    (the likelihood too low) where q fits badly, whatever k: look at ``ess``. Raises ``ValueError`` for a posterior
    without a density and for k < 1.
    """
    require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
    x, c = (trees.map_tree(_leaf, tree) for tree in (x, c))
    require_support(model, x, c)
    count, at_once = chunk_rows(x, k)
    count = min(count, batch_size) if batch_size else count
    if shared_noise and not _follows_layout(model, x, c):
        count = 1  # foreign noise: one row at a time from the same seed gives each the same draws
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
    """Rate, distortion and ELBO of each row, the distortion averaged over ``draws`` posterior draws.

    Raises ``ValueError`` for a posterior without a density (a plain autoencoder has no bound; see ``distortion``).
    """
    rates, distortions = [], []
    for draw in _draws(model, x, c, draws, seed):
        rates.append(draw.rate(kl).mean(0).double().cpu())
        distortions.append(draw.distortion.mean(0).double().cpu())
    return Bound(torch.cat(rates), torch.cat(distortions), draws)


def distortion(model: nn.Module, x: Tree, c: Tree = None, *, draws: int = 1, seed: int = 0) -> Tensor:
    """-ln p(x|z) of each row averaged over posterior draws, ``[N]`` nats; defined for a point mass too."""
    return torch.cat([draw.distortion.mean(0).double().cpu() for draw in _draws(model, x, c, draws, seed)])


def _draws(model: nn.Module, x: Tree, c: Tree, k: int, seed: int) -> Iterator[Draw]:
    x, c = (trees.map_tree(_leaf, tree) for tree in (x, c))
    require_support(model, x, c)
    for rows, xs, cs in chunks(model, x, c, max(1, chunk_rows(x, 1)[0] // k)):
        with evaluating(model):
            reseed(seed, Key.EVALUATE, k, rows.start + 1)
            draw = model.draw(xs, k, cs)  # type: ignore[operator]
        yield draw
