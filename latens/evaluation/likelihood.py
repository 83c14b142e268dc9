"""Likelihoods: the bound and its two terms, and importance-weighted estimates of -ln p(x), with their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latens.distributions import has_row_noise
from latens.distributions import require_support as require_supported
from latens.errors import InputError, is_whole, require
from latens.evaluation.joint import LogJoint, require_real_codes
from latens.evaluation.tails import FEWEST, Tail, largest_k_hat
from latens.machine.processor import keep_memory
from latens.models.draw import Draw
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed, shared, untouched
from latens.tensors.trees import Tree

CELLS = 1_000_000  # numbers in a chunk that is decoded together, few enough for caches to help
ONCE = 4_000_000  # the same for a single pass over the rows; smaller chunks would cost more in overhead
_LOOKED = 4096  # rows that are checked together
LEAST = 512  # a row counts as at least this many numbers, because of the networks' hidden layers
PROPOSALS = ("encoder", "mixture", "auto")
PILOT = 100  # "auto" chooses the proposal of a row by this many draws
_WIDE, _SHARES = 1.5, (0.5, 0.4, 0.1)  # the mixture: how much q is widened; shares of q, of the widened q, of the prior


@dataclass(frozen=True)
class NLL:
    r"""-ln p(x) by importance weighting with ``k`` draws per row (Burda et al. 2016).

    Attributes:
        rows: :math:`-\ln \frac{1}{K} \sum_k w_k` of each row, ``[N]`` float64, nats; its expectation is an upper bound
            on -ln p(x).
        row_error: its standard error by the delta method, :math:`sd(w) / (\bar w \sqrt K)`, ``[N]``.
        ess: the effective sample size :math:`(\sum w)^2 / \sum w^2`, ``[N]`` in [1, K].
        k: the number of draws K.
        k_hat: the Pareto shape of the largest weights (:func:`latens.evaluation.pareto_shape`), ``[N]``; None if it is
            not known.
        mixed: whether the draws of a row came from the mixture of proposals, ``[N]`` bool; None if they never did.
    """

    rows: Tensor
    row_error: Tensor
    ess: Tensor
    k: int
    k_hat: Tensor | None = None
    mixed: Tensor | None = None

    @property
    def unreliable(self) -> float | None:
        """The share of rows for which K draws are too few.

        For such a row, k-hat is above :func:`latens.evaluation.largest_k_hat` of K and the effective sample size is
        below K / 2. The largest weights have then probably not been drawn, and the estimate is too high by an unknown
        amount. None if k-hat is not known.
        """
        if self.k_hat is None or self.k < FEWEST:
            return None
        few = (self.k_hat > largest_k_hat(self.k)) & (self.ess < self.k / 2)
        return float(few.double().mean())

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
    """The standard error of the mean over rows ``[N]``; NaN for a single row."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else float("nan")


def spaced(rows: int, wanted: int | None) -> Tensor:
    """The indices of ``wanted`` evenly spaced rows out of ``rows``; of all rows if ``wanted`` is None.

    >>> spaced(10, 4).tolist()
    [0, 2, 5, 7]
    """
    return torch.arange(rows) if wanted is None or wanted >= rows else torch.arange(wanted) * rows // wanted


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """nats / (dimensions ln 2): bits per dimension of a row.

    If whole numbers are modelled by a density of x + u with u in [0, 1), the figure can be compared with the figure of
    a discrete model. For a density of (x + u) / 256, add 8 first.

    >>> bits_per_dimension(784 * math.log(256), 784)
    8.0
    """
    return nats / (dimensions * math.log(2))


def chunk_rows(x: Tree, draws: int) -> tuple[int, int]:
    """(rows, draws) of a chunk, so that memory is bounded for any number of rows and draws. The number of rows is a
    power of two, so that the chunks of a stream are the same as in memory, whatever the number of draws."""
    cells = max(LEAST, sum(leaf[0].numel() for leaf in trees.leaves(x)))
    at_once = max(1, min(draws, CELLS // cells))
    return 1 << max(0, (CELLS // (cells * at_once)).bit_length() - 1), at_once


def rows_at_once(cells: int) -> int:
    """The number of rows, with ``cells`` numbers each, to process together in one pass.

    >>> rows_at_once(10), rows_at_once(784), rows_at_once(10**7)
    (7812, 5102, 1)
    """
    return max(1, ONCE // max(LEAST, cells))


def model_device(model: nn.Module) -> torch.device:
    """The device of the model's parameters, or the CPU."""
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _leaf(values: Any) -> Any:
    """Arrays as tensors; lazy rows are unchanged, as they become tensors when they are indexed."""
    return torch.as_tensor(values) if isinstance(values, np.ndarray) else values


def as_tensors(*data: Tree) -> list[Any]:
    """Trees of arrays as trees of tensors."""
    return [trees.map_tree(_leaf, tree) for tree in data]


def on_device(model: nn.Module, rows: slice | Tensor, *data: Tree) -> list[Any]:
    """The selected rows of each tree, on the device of the model."""
    device = model_device(model)
    return [trees.to_device(trees.take(tree, rows), device) for tree in data]


def chunks(model: nn.Module, x: Tree, c: Tree, count: int | None = None) -> Iterator[tuple[slice, Any, Any]]:
    """(rows, x, c) of consecutive parts, on the device of the model; a part has ``count`` rows, or as many as
    :func:`rows_at_once` says."""
    count = count or rows_at_once(sum(leaf[0].numel() for leaf in trees.leaves(x)))
    for start in range(0, trees.rows(x), count):
        rows = slice(start, start + count)
        yield rows, *on_device(model, rows, x, c)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode for a block, without gradients (unless a part needs them) and without changing
    the caller's random state. Everything is restored afterwards, even after an error."""
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
    """Raise ``InputError`` for the first value of x to which the likelihood gives no probability, such as 2 for a
    Bernoulli or a fraction for counts.

    The check is made once, so that densities need not repeat it in every step. Lazy rows are checked by their schema;
    models without p(x|z) are not checked.
    """
    leaves = trees.leaves(x)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        return
    one, given = on_device(model, slice(0, 1), x, c)
    try:
        with evaluating(model):
            ones = trees.map_tree(torch.ones_like, one)  # nearly every support contains 1
            px = model.draw(ones, 1, given).px  # type: ignore[operator]
    except Exception:  # an error of the user's own parts is raised again, with a message, when they get the rows
        return
    for rows, xs, _ in chunks(model, x, None, _LOOKED):
        require_supported(px, xs, rows.start)


def nll(
    model: nn.Module, x: Tree, k: int = 100, c: Tree = None, *, seed: int = 0, shared_noise: bool = False,
    batch_size: int | None = None, proposal: str = "encoder",
) -> NLL:  # fmt: skip
    r"""-ln p(x) of each row by importance weighting (Burda et al. 2016):

    .. math:: -\ln \frac{1}{K} \sum_{k=1}^K \frac{p(x|z_k)\, p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    Its expectation is an upper bound on -ln p(x), which is loose if q fits badly: see ``ess`` and ``unreliable``.
    Memory does not grow with K or N.

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``.
        k: draws per row, K.
        c: conditions.
        seed: the seed of the draws.
        shared_noise: whether all rows get the same K noise vectors, so that a value depends neither on other rows nor
            on their order. Otherwise draws are independent, as the standard error of the mean requires.
        batch_size: the number of rows in a chunk; by default chosen by memory.
        proposal: "encoder": q(z|x). "mixture": the defensive mixture (Hesterberg 1995) of q (0.5), q with standard
            deviations 1.5 times as large (0.4) and the prior (0.1). Its weights are bounded, even if the weights of q
            are not. "auto": the mixture for rows in which the k-hat of 100 pilot draws is too high for q, and lower for
            the mixture. Pilot draws are not used again, so E[w] = p(x) in each case.

    Raises:
        InputError: k < 1; an unknown proposal; a posterior without a density; for a mixture, shared noise, or codes
            that are not one vector of real numbers.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> found = nll(model, torch.randn(7, 5), k=20)
    >>> found.rows.shape, found.k, found.mean > 0
    (torch.Size([7]), 20, True)
    """
    _require_estimable(model, k, proposal, shared_noise)
    x, c = as_tensors(x, c)
    require_support(model, x, c)
    count, at_once = chunk_rows(x, k)
    count = min(count, batch_size) if batch_size else count
    if shared_noise and not _follows_layout(model, x, c):
        count = 1  # rows one by one, each from the same seed, so that all rows get the same draws
    found, mixed = [], []
    with evaluating(model):
        for rows, xs, cs in chunks(model, x, c, count):

            def encoder(draws: int, xs: Any = xs, cs: Any = cs) -> Tensor:
                with shared() if shared_noise else nullcontext():
                    return model.draw(xs, draws, cs).log_w  # type: ignore[operator]

            weigh = partial(_weighted, at_once=at_once, seed=seed, row=0 if shared_noise else rows.start + 1)
            figures, wide = weigh(encoder, k), torch.zeros(trees.rows(xs), dtype=torch.bool)
            if proposal != "encoder":
                wide = _mixed(LogJoint(model, xs, cs), encoder, proposal, weigh)
                figures[:, wide] = _of_mixture(model, wide, xs, cs, partial(weigh, k=k, key=Key.MIXTURE))
            found.append(figures)
            mixed.append(wide)
    values, errors, sizes, k_hat = torch.cat(found, 1)
    return NLL(values, errors, sizes, k, k_hat, None if proposal == "encoder" else torch.cat(mixed))


def _require_estimable(model: nn.Module, k: int, proposal: str, shared_noise: bool) -> None:
    require(is_whole(k) and k >= 1, "k", "a whole number from 1", k)
    require(proposal in PROPOSALS, "proposal", f"one of {', '.join(PROPOSALS)}", proposal)
    if proposal != "encoder":
        require_real_codes(model)
        if shared_noise:
            raise InputError("shared noise needs the encoder's proposal", "omit proposal, or shared_noise")


def _mixed(
    joint: LogJoint, encoder: Callable[[int], Tensor], proposal: str, weigh: Callable[..., Tensor]
) -> Tensor:
    """The rows that need the mixture, ``[B]`` bool."""
    if proposal == "mixture":
        return torch.ones(joint.rows, dtype=torch.bool)
    own, other = (weigh(draw, PILOT, key=Key.PROPOSAL)[3] for draw in (encoder, _Mixture(joint).log_w))
    return (own > largest_k_hat(PILOT)) & (other < own)


def _of_mixture(model: nn.Module, wide: Tensor, x: Tree, c: Tree, weigh: Callable[..., Tensor]) -> Tensor:
    """The result of :func:`_weighted` for the rows that need the mixture, ``[4, W]``."""
    if not wide.any():
        return torch.empty(4, 0, dtype=torch.float64)
    return weigh(_Mixture(LogJoint(model, *on_device(model, wide.nonzero().flatten(), x, c))).log_w)


def _weighted(
    draw: Callable[[int], Tensor], k: int, *, at_once: int, seed: int, row: int, key: Key = Key.EVALUATE
) -> Tensor:
    """(-ln of the mean of k weights, its standard error, effective sample size, k-hat) of B rows, ``[4, B]`` float64.
    ``draw(n)`` gives the log weights of n draws, ``[n, B]``."""
    tail = Tail(k)
    first = second = torch.full((), -math.inf, dtype=torch.float64)
    for number, done in enumerate(range(0, k, at_once)):
        reseed(seed, key, number, row)
        log_w = draw(min(at_once, k - done)).double().cpu()
        first = torch.logaddexp(first, torch.logsumexp(log_w, 0))
        second = torch.logaddexp(second, torch.logsumexp(2 * log_w, 0))
        tail.add(log_w)
    return torch.stack([*of_sums(first, second, k), tail.k_hat()])


def of_sums(first: Tensor, second: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(-ln of the mean of k weights, its standard error, the effective sample size), from ln of the sum of the weights
    and ln of the sum of their squares, ``[B]`` each."""
    ess = torch.exp(2 * first - second)
    relative = (k / ess - 1).clamp_min(0) / max(k - 1, 1)  # Var(w) / (k mean(w)^2)
    return math.log(k) - first, relative.sqrt() if k > 1 else torch.full_like(first, math.nan), ess


class _Mixture:
    """The defensive mixture of a normal q, the widened q and the prior, as a proposal of codes."""

    def __init__(self, joint: LogJoint):
        if not joint.has_normal_posterior:
            raise InputError(
                f"the mixture of proposals needs a normal posterior, but this is {type(joint.q).__name__}",
                "use the encoder's proposal",
            )
        self.joint, self.mean = joint, joint.q.mean

    def _log_density(self, z: Tensor) -> Tensor:
        q, p = self.joint.q, self.joint.p
        narrowed = self.mean + (z - self.mean) / _WIDE
        parts = [q.log_prob(z), q.log_prob(narrowed) - z.shape[-1] * math.log(_WIDE), p.log_prob(z)]
        return torch.stack([part + math.log(share) for part, share in zip(parts, _SHARES)]).logsumexp(0)

    def log_w(self, draws: int) -> Tensor:
        """The log weights of new draws, ``[draws, B]``."""
        joint = self.joint
        own = joint.q.sample(torch.Size((draws,)))
        lead = (draws,) if joint.p.batch_shape else (draws, joint.rows)
        parts = torch.stack([own, self.mean + _WIDE * (own - self.mean), joint.p.sample(torch.Size(lead))])
        which = torch.tensor(_SHARES).multinomial(draws * joint.rows, replacement=True).view(1, draws, joint.rows, 1)
        z = parts.gather(0, which.to(own.device).expand(1, *own.shape)).squeeze(0)
        return joint(z) - self._log_density(z)


def _follows_layout(model: nn.Module, x: Tree, c: Tree) -> bool:
    encode = getattr(model, "encode", None)
    return encode is not None and has_row_noise(encode(*on_device(model, slice(0, 1), x, c)))


def elbo(model: nn.Module, x: Tree, c: Tree = None, *, draws: int = 5, kl: str = "auto", seed: int = 0) -> Bound:
    r"""The evidence lower bound of each row, with its terms (Kingma & Welling 2014):

    .. math:: -KL(q(z|x) \,\|\, p(z)) - E_{q(z|x)}[-\ln p(x|z)] \le \ln p(x)

    The first term is minus the rate, the second minus the distortion.

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``.
        c: conditions.
        draws: posterior draws per row, over which the distortion is averaged.
        kl: "auto" (in closed form if there is one), "closed" or "sampled".
        seed: the seed of the draws.

    Raises:
        InputError: the posterior has no density. (An autoencoder has no bound; see :func:`distortion`.)

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
    """-ln p(x|z) of each row, averaged over ``draws`` posterior draws, ``[N]`` nats. Unlike the bound, it exists even
    if the posterior is a point mass."""
    return torch.cat([draw.distortion.mean(0).double().cpu() for draw in _draws(model, x, c, draws, seed)])


def _draws(model: nn.Module, x: Tree, c: Tree, k: int, seed: int) -> Iterator[Draw]:
    x, c = as_tensors(x, c)
    require_support(model, x, c)
    for rows, xs, cs in chunks(model, x, c, max(1, chunk_rows(x, 1)[0] // k)):
        with evaluating(model):
            reseed(seed, Key.EVALUATE, k, rows.start + 1)
            draw = model.draw(xs, k, cs)  # type: ignore[operator]
        yield draw
