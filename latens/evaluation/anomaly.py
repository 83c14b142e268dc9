"""How strange rows are: conformal p-values, the columns responsible, the closest known row, and how well a classifier
tells two groups of rows apart."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import InputError, is_whole, require

KEPT = 10_000  # the most calibration scores that are kept; half of them are the largest


class Conformal:
    r"""Conformal p-values of scores, from the scores of held-out rows; a higher score means a stranger row.

    .. math:: p(x) = \frac{1 + \#\{i : s_i \ge s(x)\}}{n + 1}

    If a row is exchangeable with the n calibration rows, P(p <= a) <= a for every a, whatever model gives the scores
    (Vovk et al. 2005). The p-values of several rows are positively dependent, which Benjamini-Hochberg allows (Bates et
    al. 2023). The usual score is -ln p(x), in nats.

    If there are more than 10,000 calibration scores, the 5,000 largest are kept, and 5,000 of the others at even
    distances. Then p-values up to 5000 / (n + 1) are exact, and larger p-values are too large by less than 1/5000.

    Args:
        calibration_scores: ``[n]``, finite.

    Raises:
        InputError: there are no scores, or a score is not finite.

    >>> conformal = Conformal(np.array([1.0, 2.0, 2.0, 4.0]))
    >>> conformal.p_values(np.array([0.0, 2.0, 3.0, 9.0])).tolist()
    [1.0, 0.8, 0.4, 0.2]
    """

    def __init__(self, calibration_scores: np.ndarray) -> None:
        scores = _scores(calibration_scores, "calibration_scores")
        require(len(scores) > 0, "calibration_scores", "at least one score", len(scores))
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(f"calibration_scores, row {row}: {scores[row]} is not finite", "leave such rows out")
        self.count = len(scores)
        self.values = np.sort(scores)[_kept(self.count)]

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """The p-value of each score, ``[N]`` in [1 / (n + 1), 1]; ``InputError`` if a score is NaN."""
        below = np.searchsorted(self.values, _scores(scores, "scores"), "left")  # the number of smaller kept scores
        ranks = np.append(-1, _kept(self.count))
        return (self.count - ranks[below]) / (self.count + 1)

    def to_json(self) -> dict[str, Any]:
        """The kept scores and their number, as JSON's types."""
        return {"count": self.count, "values": self.values.tolist()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Conformal:
        """The object that :meth:`to_json` described, with the same p-values; ``InputError`` if it is not valid.

        >>> Conformal.from_json(Conformal(np.array([3.0, 1.0])).to_json()).p_values(np.array([2.0])).item()
        0.666666
        """
        count, values = (stored.get(name) if isinstance(stored, Mapping) else None for name in ("count", "values"))
        if not is_whole(count) or not 1 <= count < 2**53:
            raise InputError("the calibration scores have no valid 'count'", "store them again with to_json")
        if not isinstance(values, list) or len(values) != min(count, KEPT) or not all(map(_is_float, values)):
            raise InputError(
                f"the calibration scores must be {min(count, KEPT)} finite numbers under 'values'",
                "store them again with to_json",
            )
        found = cls.__new__(cls)
        found.count, found.values = count, np.array(values, np.float64)
        if (np.diff(found.values) < 0).any():
            row = int(np.flatnonzero(np.diff(found.values) < 0)[0]) + 1
            raise InputError(f"the calibration scores do not ascend at value {row}", "store them again with to_json")
        return found


def _kept(count: int) -> np.ndarray:
    """The indices of the ``count`` ascending scores to keep: all, or some at even distances followed by the largest."""
    if count <= KEPT:
        return np.arange(count)
    half = KEPT // 2
    return np.append(np.arange(half) * (count - half) // half, np.arange(count - half, count))


def _is_float(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _scores(values: np.ndarray, name: str) -> np.ndarray:
    """The values as ``[N]`` float64 without NaN."""
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1:
        raise InputError(f"{name} must have one axis, got shape {scores.shape}", "give one score per row")
    if np.isnan(scores).any():
        raise InputError(f"{name}, row {int(np.isnan(scores).argmax())}: the score is NaN", "leave such rows out")
    return scores


def contributions(
    terms: np.ndarray, reference: np.ndarray, top: int = 3, first: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The columns that make each row strange, ranked by how much a cell's term exceeds its column's usual term.

    Args:
        terms: -ln p(x_j | .) of each cell, ``[N, D]`` nats, NaN if it is missing.
        reference: the mean of each column's terms over held-out rows, ``[D]`` nats; NaN for a column that is not to be
            named.
        top: the number of columns to name.
        first: a mask ``[N, D]`` of cells to name before all others; without a reference, the excess of such a cell is
            its whole term.

    Returns:
        (indices of columns, excesses in nats), ``[N, min(top, D)]`` each, the strangest first, ties in the order of the
        columns. A negative excess marks a cell that is more usual than most. Missing cells are never named; if fewer
        than ``top`` columns can be named, the row is padded with -1 and NaN.

    Raises:
        InputError: the shapes do not match.

    >>> columns, excess = contributions(np.array([[1.0, 9.0, 3.0], [np.nan, 2.0, 8.0]]), np.array([1.0, 2.0, 3.0]), 2)
    >>> columns.tolist(), excess.tolist()
    ([[1, 0], [2, 1]], [[7.0, 0.0], [5.0, 0.0]])
    """
    terms, reference = np.asarray(terms, np.float64), np.asarray(reference, np.float64)
    if terms.ndim != 2 or reference.shape != terms.shape[1:]:
        raise InputError(
            f"terms must be [rows, columns] and reference [columns], got shapes {terms.shape} and {reference.shape}",
            "give both from the same model",
        )
    require(is_whole(top) and top >= 1, "top", "a whole number of at least 1", top)
    with np.errstate(invalid="ignore"):
        excess = terms - reference
    if first is not None:
        excess = np.where(first & np.isnan(excess), terms, excess)
    named = ~np.isnan(excess)
    keys = (-np.where(named, excess, 0.0), ~named)
    order = np.lexsort(keys if first is None else (*keys, ~(first & named)))[:, :top]
    found = np.take_along_axis(excess, order, 1)
    return np.where(np.isnan(found), -1, order), found


@dataclass(frozen=True)
class AUROC:
    """The area under the receiver operating characteristic (``value``), and its standard error over rows."""

    value: float
    standard_error: float


def midranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, from 1; equal values get the mean of their ranks.

    >>> midranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def auroc(scores: np.ndarray, is_anomaly: np.ndarray) -> AUROC:
    """P(score of an anomaly > score of another row) + P(equal) / 2, with DeLong's standard error.

    Let A_i be the share of the n other rows that anomaly i exceeds, and B_j the share of the m anomalies that exceed
    row j; ties count half. The value is mean A = mean B, with variance var(A) / m + var(B) / n (DeLong et al. 1988),
    computed from midranks in O(N log N). If a group has only one row, its variance cannot be estimated, and the largest
    possible variance, value (1 - value), is used. The standard error is 0 if the groups do not overlap.

    Args:
        scores: ``[N]``.
        is_anomaly: ``[N]``, bool, or 0 and 1.

    Raises:
        InputError: one group is empty, or a score is NaN.

    >>> auroc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 0, 1, 1])).value
    0.875
    """
    scores, flags = _scores(scores, "scores"), np.asarray(is_anomaly)
    if flags.shape != scores.shape:
        raise InputError(f"is_anomaly has shape {flags.shape} and scores {scores.shape}", "give one of each per row")
    if not np.isin(flags, (0, 1)).all():
        row = int((~np.isin(flags, (0, 1))).argmax())
        raise InputError(
            f"is_anomaly, row {row}: {flags[row]!r} is neither 0 nor 1", "give 1 for anomalies, 0 otherwise"
        )
    flags = flags.astype(bool)
    m, n = int(flags.sum()), int((~flags).sum())
    if not m or not n:
        raise InputError(f"an AUROC needs anomalies and other rows, got {m} and {n}", "give rows of both kinds")
    among_all = midranks(scores)
    above = (among_all[flags] - midranks(scores[flags])) / n  # A
    below = 1 - (among_all[~flags] - midranks(scores[~flags])) / m  # B
    value = float(above.mean())
    parts = [each.var(ddof=1) if len(each) > 1 else value * (1 - value) for each in (above, below)]
    return AUROC(value, float(np.sqrt(parts[0] / m + parts[1] / n)))


def closer(distances: np.ndarray, floor: np.ndarray) -> AUROC:
    """P(a row is closer to the training rows than a held-out row), with ties counted half. The arguments are the
    distances of the rows, ``[n]``, and of the held-out rows, ``[m]``; ``InputError`` if one is empty."""
    return auroc(-np.append(distances, floor), np.repeat([1, 0], [len(distances), len(floor)]))


def boosted_trees(x: np.ndarray, y: np.ndarray, categorical: np.ndarray, seed: int) -> Any:
    """Fit histogram gradient boosting (Ke et al. 2017): a classifier if y has whole numbers, otherwise a regressor.

    The number of rounds is 100, or 200 / K with K classes, but at least 20.

    Args:
        x: ``[N, D]``, NaN for missing cells.
        y: ``[N]``.
        categorical: which columns hold codes of levels, ``[D]`` bool.
        seed: the seed of the fit.

    >>> x = np.arange(100.0)[:, None]
    >>> boosted_trees(x, (x[:, 0] > 50).astype(int), np.array([False]), 0).predict(np.array([[3.0], [90.0]])).tolist()
    [0, 1]
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor if y.dtype.kind == "f" else HistGradientBoostingClassifier
    x = np.where(np.isnan(x).all(0), 0.0, x)  # a column without values would have no bins
    classes = 2 if y.dtype.kind == "f" else max(2, len(np.unique(y)))
    rounds = max(20, 200 // classes)
    options = {"early_stopping": False, "categorical_features": categorical, "random_state": seed}
    return model(max_iter=rounds, **options).fit(x, y)


def logistic_regression(x: np.ndarray, y: np.ndarray, categorical: np.ndarray, seed: int) -> Any:
    """Fit logistic regression with a ridge penalty of weight 1; the arguments are those of :func:`boosted_trees`.

    Numbers enter in units of their standard deviation; a missing number becomes the mean, with a flag. Each level has a
    flag, and so does a missing level.

    >>> x = np.arange(100.0)[:, None]
    >>> fitted = logistic_regression(x, (x[:, 0] > 50).astype(int), np.array([False]), 0)
    >>> fitted.predict(np.array([[3.0], [90.0]])).tolist()
    [0, 1]
    """
    from sklearn.compose import make_column_transformer
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler())
    levels = OneHotEncoder(handle_unknown="ignore")
    features = make_column_transformer((numbers, ~categorical), (levels, categorical))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(features, LogisticRegression(max_iter=100)).fit(x, y)


def two_sample_auroc(
    a: np.ndarray, b: np.ndarray, categorical: np.ndarray, seed: int = 0,
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Any] = boosted_trees,
) -> AUROC:  # fmt: skip
    """How well a classifier tells rows of ``a`` from rows of ``b``: the classifier two-sample test (Lopez-Paz & Oquab
    2017).

    The value is the mean AUROC of K = 5 stratified folds; it is 0.5 if both have the same distribution. Folds share
    training rows, so the variance of the mean is the average variance of a fold (DeLong's) times 1 / K + 1 / (K - 1),
    instead of 1 / K (Nadeau & Bengio 2003).

    Args:
        a, b: ``[N, D]``, NaN for missing cells, at least 2 rows each.
        categorical: which columns hold codes of levels, ``[D]`` bool.
        seed: the seed of folds and fits.
        fit: :func:`boosted_trees` or :func:`logistic_regression`.

    >>> a = np.arange(100.0)[:, None]
    >>> two_sample_auroc(a + 1000, a, np.array([False])).value
    1.0
    """
    from sklearn.model_selection import StratifiedKFold

    x, is_a = np.concatenate([a, b]), np.repeat([1, 0], [len(a), len(b)])
    folds = []
    for train, held in StratifiedKFold(min(5, len(a), len(b)), shuffle=True, random_state=seed).split(x, is_a):
        classifier = fit(x[train], is_a[train], categorical, seed)
        folds.append(auroc(classifier.predict_proba(x[held])[:, 1], is_a[held]))
    variance = float(np.mean([each.standard_error**2 for each in folds]))
    shared = 1 / len(folds) + 1 / (len(folds) - 1)
    return AUROC(float(np.mean([each.value for each in folds])), math.sqrt(variance * shared))


def closest(numbers: np.ndarray, marks: np.ndarray, known_numbers: np.ndarray, known_marks: np.ndarray) -> np.ndarray:
    """The distance from each row to the closest known row, ``[N]``; it is an anomaly score itself (Ramaswamy et al.
    2000).

    The distance of two rows is the sum of |a - b| over numeric columns, plus the number of marks (codes, flags) that
    differ.

    >>> closest(np.array([[0.0], [5.0]]), np.array([[1], [1]]), np.array([[2.0], [4.5]]), np.array([[1], [0]])).tolist()
    [2.0, 1.5]
    """
    from scipy.spatial.distance import cdist

    found = np.empty(len(numbers))
    step = max(1, 2**22 // len(known_numbers))
    for start in range(0, len(found), step):
        rows = slice(start, start + step)
        distances = cdist(numbers[rows], known_numbers, "cityblock") if numbers.shape[1] else 0.0
        if marks.shape[1]:
            distances = distances + cdist(marks[rows], known_marks, "hamming") * marks.shape[1]
        found[rows] = np.min(distances, 1)
    return found
