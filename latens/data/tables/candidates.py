"""Choose the density that suits a column: candidates are fitted to one half of a sample and scored on the other.

The densities are marginal, fitted in closed form or by a few steps of EM: the choice rests on the support and the shape
of the tails, which the latent variable rarely changes. Scores are mean ln p in nats per cell: of the mass of the cell's
place if the column has a grid, else of the density in the column's unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

MARGIN = 0.01  # nats per cell that a later candidate must gain over an earlier, simpler one
FEW = 250  # with fewer held-out values, a gain must also exceed two standard errors
DEGREES = (3.0, 5.0, 10.0)


def best_family(values: np.ndarray, candidates: Sequence[str], step: float | None = None) -> str:
    """The candidate with the best held-out score.

    Args:
        values: finite values ``[N]`` of a column, in no particular order.
        candidates: names of densities, the simplest first; a later one must be better by ``MARGIN`` and, if there
            are few values, by two standard errors of the paired difference.
        step: the grid on which the values lie; a density is then scored by its mass around each value.

    >>> rng = np.random.default_rng(0)
    >>> best_family(np.exp(rng.normal(size=4000)), ("normal", "student_t", "log_normal"))
    'log_normal'
    """
    if len(candidates) == 1 or len(values) < 20:
        return candidates[0]
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
    return best


def _score(name: str, train: np.ndarray, test: np.ndarray, step: float | None = None) -> np.ndarray:
    """ln p of each held-out value ``[N]``; for a density on a grid, ln of its integral over the value's place."""
    if step is None:
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


_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "normal": _normal, "student_t": _student_t, "log_normal": _log_normal,
}
