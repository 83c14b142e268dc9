"""Choose the likelihood of a column: candidates are fitted to one half of a sample and scored on the other.

The densities are marginal, fitted in closed form or by a few steps of EM: the choice rests on the support and the shape
of the tails, which the latent variable rarely changes. Scores are mean ln p in nats per cell: of the mass of the cell's
place if the column has a grid, so that densities and masses compare, else of the density in the column's unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from latens.data.tables.laws import law_of
from latens.schema.law import SCALE

MARGIN = 0.01  # nats per cell that a later candidate must gain over an earlier, simpler one
FEW = 250  # with fewer held-out values, a gain must also exceed two standard errors
DEGREES = (3.0, 5.0, 10.0)
MASSES = ("poisson", "negative_binomial", "zero_inflated_negative_binomial", "heaped")


def best_family(values: np.ndarray, candidates: Sequence[str], step: float | None = None) -> tuple[str, str]:
    """The candidate with the best held-out score, and the scores in words.

    Args:
        values: finite values ``[N]`` of a column, in no particular order.
        candidates: names of likelihoods, the simplest first; a later one must be better by ``MARGIN`` and, if there
            are few values, by two standard errors of the paired difference.
        step: the grid on which the values lie; a density is then scored by its mass around each value.

    >>> rng = np.random.default_rng(0)
    >>> best_family(np.exp(rng.normal(size=4000)), ("normal", "student_t", "log_normal"))[0]
    'log_normal'
    """
    if len(candidates) == 1 or len(values) < 20:
        return candidates[0], ""
    order = np.random.default_rng(0).permutation(len(values))
    train, test = values[order[::2]], values[order[1::2]]
    scores = {name: _score(name, train, test, step) for name in candidates}
    best = candidates[0]
    for name in candidates[1:]:
        with np.errstate(invalid="ignore"):
            gain = scores[name] - scores[best]
        few = len(gain) < FEW and np.isfinite(gain).all()  # not for many values, where outliers widen the error
        error = gain.std() / np.sqrt(len(gain)) if few else 0.0
        if gain.mean() > max(MARGIN, 2 * error):
            best = name
    words = ", ".join(f"{name} {each.mean():.3f}" for name, each in scores.items() if np.isfinite(each).all())
    return best, f"held-out nats: {words}"


def _score(name: str, train: np.ndarray, test: np.ndarray, step: float | None = None) -> np.ndarray:
    """ln p of each held-out value ``[N]``; for a density on a grid, ln of its integral over the value's place."""
    if step is None or name in MASSES:
        return np.broadcast_to(_SCORES[name](train, test), test.shape)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    at = test[:, None] + step / 2 * nodes
    found = np.broadcast_to(_SCORES[name](train, at.ravel()), at.size).reshape(at.shape)
    return np.logaddexp.reduce(found + np.log(weights * step / 2), axis=1)


def _spread(values: np.ndarray) -> float:
    return float(values.std()) or 1e-12 * max(1.0, float(np.abs(values).max()))


def _normal(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    sd = _spread(train)
    return -0.5 * ((test - train.mean()) / sd) ** 2 - np.log(sd * math.sqrt(2 * math.pi))


def _student_t(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Student's t with the best of a few degrees of freedom; location and scale by EM (Lange, Little & Taylor 1989)."""
    found = []
    for df in DEGREES:
        loc, scale2 = float(np.median(train)), _spread(train) ** 2
        for _ in range(30):
            weight = (df + 1) / (df + (train - loc) ** 2 / scale2)
            loc = float((weight * train).sum() / weight.sum())
            scale2 = max(float((weight * (train - loc) ** 2).mean()), 1e-12 * _spread(train) ** 2)
        constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi * scale2)
        scores = [constant - (df + 1) / 2 * np.log1p((x - loc) ** 2 / (df * scale2)) for x in (train, test)]
        found.append((float(scores[0].mean()), scores[1]))
    return max(found, key=lambda pair: pair[0])[1]


def _log_normal(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    if train.min() <= 0 or test.min() <= 0:
        return np.array(-np.inf)
    return _normal(np.log(train), np.log(test)) - np.log(test)


def _poisson(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    from scipy import stats

    return stats.poisson(max(train.mean(), 1e-6)).logpmf(test)


def _negative_binomial(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    from scipy import stats

    mean, theta = _moments(train)
    return stats.nbinom(theta, theta / (theta + mean)).logpmf(test)


def _zero_inflated(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    from scipy import stats

    mean, theta = _moments(train[train > 0]) if (train > 0).any() else _moments(train)
    law = stats.nbinom(theta, theta / (theta + mean))
    zeros = float((train == 0).mean())
    extra = min(max((zeros - law.pmf(0)) / (1 - law.pmf(0)), 1e-6), 1 - 1e-6)
    masses = (1 - extra) * law.pmf(test) + extra * (test == 0)
    return np.log(np.maximum(masses, 1e-300))


def _heaped(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """ln of the masses of the grid's places (of whole numbers without a grid) under the column's law, whatever the
    codes."""
    from scipy.special import expit

    law = law_of(train)
    if law is None:
        return np.array(-np.inf)
    atoms = np.array([*law.atoms, np.inf])
    share = (np.searchsorted(np.sort(train), atoms, "right") - np.searchsorted(np.sort(train), atoms) + 0.5)[:-1]
    share = share / (len(train) + 0.5 * len(share) + 1)
    spread, half = law.knots[-1] - law.knots[0], (law.step or 1.0) / 2
    ends = [np.interp(at, law.knots, law.scores) + (np.minimum(at - law.knots[0], 0) + np.maximum(
        at - law.knots[-1], 0)) / spread for at in (test - half, test + half)]  # fmt: skip
    place = np.searchsorted(atoms, test)
    own = np.where(atoms[place] == test, np.append(share, 0.0)[place], 0.0)
    return np.log(np.maximum(own + (1 - share.sum()) * (expit(ends[1] / SCALE) - expit(ends[0] / SCALE)), 1e-300))


def _moments(values: np.ndarray) -> tuple[float, float]:
    mean = max(float(values.mean()), 1e-6)
    return mean, mean**2 / max(float(values.var()) - mean, 1e-6 * mean)


_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "normal": _normal, "student_t": _student_t, "log_normal": _log_normal, "poisson": _poisson,
    "negative_binomial": _negative_binomial, "zero_inflated_negative_binomial": _zero_inflated, "heaped": _heaped,
}  # fmt: skip
