"""The latent space: codes, active units, why units collapse, and how regular the space is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal, canonical, center, closed_kl, flat_mean
from latens.evaluation.likelihood import chunks, evaluating
from latens.tensors import trees
from latens.tensors.trees import Tree

ACTIVE = 0.01


def codes(model: nn.Module, x: Tree, c: Tree = None, *, sample: bool = False) -> Tensor:
    """The codes of rows: posterior means E[z|x] (on a sphere, directions; for categories, modes), ``[N, Z]``.

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``.
        c: their conditions.
        sample: whether to return a draw from q(z|x) for each row instead.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> codes(model, torch.randn(7, 5)).shape
    torch.Size([7, 2])
    """
    return _of_posteriors(model, x, c, (lambda q: q.sample()) if sample else center)[0]


def codes_and_means(model: nn.Module, x: Tree, c: Tree = None) -> tuple[Tensor, Tensor]:
    """(:func:`codes`; the means from which active units are found, :func:`latens.distributions.flat_mean`), ``[N, Z]``
    each."""
    found, means = _of_posteriors(model, x, c, center, flat_mean)
    return found, means


def _of_posteriors(
    model: nn.Module, x: Tree, c: Tree, *functions: Callable[[Distribution], Tree]
) -> tuple[Tensor, ...]:
    """The value of each function of q(z|x), flattened to ``[N, Z]``."""

    def each(xs: Tree, cs: Tree) -> tuple[Tensor, ...]:
        q = model.encode(xs, cs)  # type: ignore[operator]
        return tuple(trees.flat_codes(function(q), leading=1).detach().cpu() for function in functions)

    with evaluating(model):
        return trees.below((each(xs, cs) for _, xs, cs in chunks(model, x, c)), trees.rows(x))


@torch.no_grad()
def decode(model: nn.Module, z: Tensor, c: Tree = None, *, count: int = 2048) -> Tensor:
    """The mean of p(x|z) at each code, or its mode for categories: ``[N, *event]``.

    If the prior's space is a sphere or has categories, codes are first moved to the nearest point of that space.

    Args:
        model: the model.
        z: codes, ``[N, Z]``.
        c: conditions.
        count: the number of rows that are decoded together.
    """
    project = getattr(getattr(model, "prior", None), "project", None)

    def each(codes: Tensor, given: Tree) -> Tensor:
        px = model.decode(codes if project is None else project(codes), given)  # type: ignore[operator]
        return center(px).cpu()

    return trees.below((each(zs, cs) for _, zs, cs in chunks(model, z, c, count)), len(z))


def active_units(means: Tensor, prior_variance: Tensor | float = 1.0, threshold: float = ACTIVE) -> Tensor:
    r"""Which dimensions of z depend on x (Burda et al. 2016), ``[Z]`` bool:

    .. math:: \mathrm{Var}_x\, E[z_i|x] > 0.01\, \mathrm{Var}\, z_i

    Args:
        means: ``[N, Z]``, from :func:`codes_and_means`. On a sphere these are means inside it, which shrink to 0 with
            the rate, while directions would keep varying; in a hyperbolic ball they are tangent vectors at 0.
        prior_variance: Var z_i under the prior, ``[Z]`` or a number.
        threshold: replaces 0.01.

    >>> active_units(torch.tensor([[-1.0, 0.01], [1.0, -0.01]])).tolist()
    [True, False]
    """
    return means.var(0, correction=min(1, len(means) - 1)) > threshold * prior_variance


@torch.no_grad()
def prior_variance(model: nn.Module, x: Tree, c: Tree = None) -> Tensor | float:
    """The variance of each dimension of z under the prior, ``[Z]``, averaged over the conditions of the first rows; 1
    if the prior has no moments."""
    _, xs, cs = next(chunks(model, trees.take(x, slice(0, 512)), trees.take(c, slice(0, 512))))
    p = model.draw(xs, 1, cs).p  # type: ignore[operator]
    try:
        mean, variance = (moment.reshape(-1, moment.shape[-1]) for moment in (p.mean, p.variance))
    except (AttributeError, NotImplementedError):
        return 1.0
    return (variance.mean(0) + mean.var(0, correction=0)).cpu()


def rate_per_dimension(model: nn.Module, x: Tree, c: Tree = None) -> Tensor | None:
    r"""The mean over rows of :math:`KL(q(z_i|x) \,\|\, p(z_i))`, ``[Z]`` nats; None if q or p is not diagonal
    normal."""
    totals, count = None, 0
    with evaluating(model):
        for _, xs, cs in chunks(model, x, c):
            draw = model.draw(xs, 1, cs)  # type: ignore[operator]
            q, p = canonical(draw.q), canonical(draw.p)
            if not isinstance(q, DiagonalNormal) or not isinstance(p, DiagonalNormal):
                return None
            each = closed_kl(q.each(), p.each()).flatten(0, -2).sum(0).cpu()
            totals, count = (each if totals is None else totals + each), count + trees.rows(xs)
    return None if totals is None else totals / count


def collapse_warning(
    model: nn.Module, x: Tensor, active: int, latent_dim: int, beta: float = 1.0, noise: float | None = None
) -> str | None:
    """A sentence on inactive units, with the cause if theory gives one (:func:`why_inactive`); None if every unit is
    active. The cause is found from the eigenvalues of the rows ``x [N, *event]``."""
    if active >= latent_dim:
        return None
    idle = latent_dim - active
    head = (
        f"{idle} of {latent_dim} latent dimensions {'is' if idle == 1 else 'are'} inactive (variance of E[z|x] below "
        f"{ACTIVE} of the prior's)"
    )
    cause, remedy = why_inactive(model, x, active, latent_dim, beta, noise)
    return f"{head}: {cause}; {remedy}"


def why_inactive(
    model: nn.Module, x: Tensor | None, active: int, latent_dim: int, beta: float = 1.0, noise: float | None = None
) -> tuple[str, str]:
    """(why dimensions are inactive, what to do).

    A linear decoder with noise variance c keeps exactly the directions of the data whose covariance eigenvalue exceeds
    beta c (Lucas et al. 2019). So the eigenvalues of the data, in the units of the likelihood, are compared with
    beta c. If the likelihood has no such c, the eigenvalues of the correlation matrix are compared with beta times
    ``noise``, the share of the variance that reconstructions miss."""
    likelihood = getattr(model, "likelihood", None)
    variance = getattr(likelihood, "observation_variance", None)
    longer = "train longer, or warm up the KL (kl_warmup)"
    if x is None or (variance is None and noise is None):
        either = f"at beta = {beta:g} the data do not need them, or training has not yet used them"
        return either, f"lower beta or latent_dim, {longer}"
    rows = x.flatten(1).double()[:20_000]
    if variance is not None:
        scaled, c = ((rows - _flat(likelihood.shift)) / _flat(likelihood.unit)).numpy(), float(variance.detach())  # type: ignore[union-attr]
        bar = f"beta x c = {beta * c:.3g} (in the same units, of the standardised data)"
        of, lower = "covariance", "beta or the observation variance c"
    else:
        assert noise is not None
        spread, c = rows.std(0, correction=0), noise
        scaled = (rows / spread)[:, spread > 0].numpy()
        bar, of, lower = f"beta x {c:.2g}, the share of variance that reconstructions miss", "correlation", "beta"
    eigenvalues = np.linalg.svd(scaled - scaled.mean(0), compute_uv=False) ** 2 / len(scaled)
    expected = int((eigenvalues > beta * c).sum())
    if expected > active:
        return f"{expected} eigenvalues of the data's {of} exceed {bar}: training has not yet used them", longer
    largest = ", ".join(f"{v:.3g}" for v in eigenvalues[:3])
    return (
        f"{expected} eigenvalues of the data's {of} (largest: {largest}) exceed {bar}, and a linear decoder would use "
        "no more",
        f"lower {lower}, or choose latent_dim = {max(1, expected)}",
    )


def _flat(value: Tensor) -> Tensor:
    return value.detach().cpu().double().flatten() if value.dim() else value.detach().cpu().double()


@dataclass(frozen=True)
class EnergyDistance:
    r"""The energy distance between codes a and sampled codes b (Székely & Rizzo 2013), with its null distribution.

    .. math:: 2\, E|a - b| - E|a - a'| - E|b - b'|

    Attributes:
        value: the distance.
        null, null_high: the mean and the 95 % quantile of the same statistic for two sets of sampled codes, of the same
            sizes.
    """

    value: float
    null: float
    null_high: float


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    r""":math:`2\, E|a - b| - E|a - a'| - E|b - b'|` over all pairs of different rows of ``a`` and ``b``, ``[N, Z]``
    each (unbiased; Székely & Rizzo 2013)."""
    from scipy.spatial.distance import cdist, pdist

    return float(2 * cdist(a, b).mean() - pdist(a).mean() - pdist(b).mean())


def distance_from_sampled(means: np.ndarray, sampled: np.ndarray, *, seed: int = 0, size: int = 1000) -> EnergyDistance:
    """The energy distance from codes to sampled codes, ``[N, Z]`` each; the null compares random halves of ``sampled``.

    At most ``size`` rows of each are compared.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(means), len(sampled) // 2)

    def pick(values: np.ndarray) -> np.ndarray:
        return values[rng.choice(len(values), size, replace=False)]

    value = energy_distance(pick(means), pick(sampled))
    null = []
    for _ in range(20):
        order = rng.permutation(len(sampled))
        null.append(energy_distance(sampled[order[:size]], sampled[order[size : 2 * size]]))
    return EnergyDistance(value, float(np.mean(null)), float(np.quantile(null, 0.95)))


def interpolate(first: Tensor, second: Tensor, steps: int = 11) -> Tensor:
    """Straight lines between codes: from two ``[N, Z]`` to ``[steps, N, Z]``."""
    t = torch.linspace(0, 1, steps).view(-1, 1, 1)
    return first * (1 - t) + second * t


@dataclass(frozen=True)
class Smoothness:
    """How smooth decoded straight lines between the codes of two rows are.

    Attributes:
        roughness: the largest step along a decoded line divided by the mean step, averaged over lines; 1 means that all
            steps are equal.
        midpoint: the distance of decoded midpoints from the nearest training row, divided by the same distance of
            held-out rows. Near 1, midpoints look like data; far above 1, the lines leave the data.
    """

    roughness: float
    midpoint: float


def smoothness(decoded: Tensor, train: Tensor, held_out: Tensor) -> Smoothness:
    """The smoothness of decoded lines, ``[steps, N, *event]``, given training and held-out rows in the same units."""
    from scipy.spatial.distance import cdist

    path = decoded.double().flatten(2)
    steps = (path[1:] - path[:-1]).norm(dim=-1)
    roughness = float((steps.max(0).values / steps.mean(0).clamp_min(1e-12)).mean())
    near = train.double().flatten(1)[:5000].numpy()
    middle = cdist(path[len(path) // 2].numpy(), near).min(1).mean()
    usual = cdist(held_out.double().flatten(1)[:1000].numpy(), near).min(1).mean()
    return Smoothness(roughness, float(middle / max(usual, 1e-12)))
