r"""What codes say about labels, by a linear probe, nearest neighbours and clusters, compared with PCA codes and the raw
rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latens.errors import InputError, is_whole, require
from latens.evaluation.arrays import finite_rows, standardised
from latens.evaluation.shown import InNotebooks
from latens.tensors.randomness import Key

CLASSES = 100  # labels with more values than this are not classes
NEIGHBOURS = 5


@dataclass(frozen=True)
class LabelScores:
    """Scores of one representation against labels; see :func:`label_scores`."""

    dimensions: int
    linear_probe: float
    knn_accuracy: float
    adjusted_rand_index: float
    normalised_mutual_information: float


@dataclass(frozen=True)
class LabelEvaluation(InNotebooks):
    """Scores of codes, of PCA codes of the same dimension, and of the raw rows, all on the same rows.

    Attributes:
        classes, fitted_rows, rows: the number of classes, of rows from which probe and neighbours learn, and of rows
            that are scored.
        most_common: the share of the most common class among the scored rows: the accuracy of a constant answer.
        scores: {"codes", "pca", "data"} -> scores.
    """

    classes: int
    fitted_rows: int
    rows: int
    most_common: float
    scores: Mapping[str, LabelScores]

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's types."""
        return asdict(self)

    def records(self) -> list[dict[str, Any]]:
        """One row per representation."""
        return [{"representation": name, **asdict(scores)} for name, scores in self.scores.items()]

    def table(self) -> list[list[str]]:
        """Headings, and one row per representation, as text."""
        head = ["", "dimensions", "linear probe", f"{NEIGHBOURS}-NN", "ARI", "NMI"]
        return [head] + [
            [name, str(s.dimensions), f"{s.linear_probe:.1%}", f"{s.knn_accuracy:.1%}", f"{s.adjusted_rand_index:.3f}",
             f"{s.normalised_mutual_information:.3f}"] for name, s in self.scores.items()
        ]  # fmt: skip


def evaluate_labels(codes: np.ndarray, data: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> LabelEvaluation:
    """Scores of codes, of PCA codes of the same dimension, and of the raw rows.

    A random half of the rows of each class fits the probe, the neighbours and PCA; the other half is scored. The model
    that gives the codes may have seen either half.

    Args:
        codes: ``[n, d]``.
        data: the raw rows as numbers, ``[n, D]``.
        labels: ``[n]``, numbers or words.
        seed: the seed of the halves and of k-means.

    Raises:
        InputError: labels have a different length, a single value or more than 100, or no label has two rows; or codes
            are not finite.
    """
    from sklearn.decomposition import PCA

    codes, classes = checked(codes, labels)
    if len(data) != len(codes):
        raise InputError(f"there are {len(data):,} rows of data and {len(codes):,} of codes",
                         "give one code for each row")  # fmt: skip
    first, second = stratified_halves(classes, seed)
    flat = np.asarray(data, dtype=np.float64).reshape(len(data), -1)
    flat = standardised(flat, flat[first])
    size = min(codes.shape[1], flat.shape[1], len(first))
    pca = PCA(size, svd_solver="full", random_state=seed).fit(flat[first])
    sides = {"codes": codes, "pca": pca.transform(flat), "data": flat}
    scores = {
        name: label_scores(side[first], classes[first], side[second], classes[second], seed=seed)
        for name, side in sides.items()
    }
    share = np.bincount(classes[second]).max() / len(second)
    return LabelEvaluation(int(classes.max()) + 1, len(first), len(second), float(share), scores)


def label_scores(
    codes: np.ndarray, labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray, *, seed: int = 0
) -> LabelScores:
    """:func:`linear_probe`, :func:`knn_accuracy` with 5 neighbours, and :func:`cluster_agreement` of the test rows, all
    on codes standardised by the training rows."""
    codes, test_codes = (np.asarray(each, dtype=np.float64) for each in (codes, test_codes))
    known, new = standardised(codes), standardised(test_codes, codes)
    agreement = cluster_agreement(new, test_labels, seed=seed)
    near = knn_accuracy(known, labels, new, test_labels, k=min(NEIGHBOURS, len(known)))
    return LabelScores(codes.shape[1], linear_probe(known, labels, new, test_labels), near, *agreement)


def linear_probe(codes: np.ndarray, labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray) -> float:
    """The accuracy of multinomial logistic regression on test rows (Alain & Bengio 2017). The penalty is scikit-learn's
    default: half the squared length of the weights is added to the summed cross-entropy in nats.

    Args:
        codes, test_codes: ``[n, d]`` and ``[m, d]``, in units of their standard deviations.
        labels, test_labels: ``[n]`` and ``[m]``.

    Raises:
        InputError: labels have a different length than codes or a single value, or test codes have a different size.
    """
    from sklearn.linear_model import LogisticRegression

    _require_same(codes, labels, test_codes, test_labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of convergence: the figure describes the probe as it was found
        probe = LogisticRegression(max_iter=200).fit(codes, labels)
    return float(probe.score(test_codes, test_labels))


def knn_accuracy(
    codes: np.ndarray, labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray, *, k: int = NEIGHBOURS
) -> float:
    """The share of test rows whose label is the most common label among their k nearest rows. If several labels are
    equally common there, the first in sorted order counts.

    Args:
        codes, test_codes: ``[n, d]`` and ``[m, d]``; distances are Euclidean.
        labels, test_labels: ``[n]`` and ``[m]``.
        k: the number of neighbours, from 1 to n.

    Raises:
        InputError: as :func:`linear_probe` does, or k is out of range.
    """
    from sklearn.neighbors import KNeighborsClassifier

    _require_same(codes, labels, test_codes, test_labels)
    most = len(codes)
    require(is_whole(k) and 1 <= k <= most, "k", f"a whole number from 1 to {most:,}, the number of rows", k)
    return float(KNeighborsClassifier(k, algorithm="brute").fit(codes, labels).score(test_codes, test_labels))


def cluster_agreement(codes: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    r"""(adjusted Rand index, normalised mutual information) of labels and clusters. k-means finds as many clusters as
    there are classes, as the best of 10 starts.

    The adjusted Rand index (Hubert & Arabie 1985) is 1 for equal partitions and on average 0 for random ones. The
    normalised mutual information is :math:`2 I(u; v) / (H(u) + H(v))`, in [0, 1].

    Args:
        codes: ``[n, d]``.
        labels: ``[n]``.
        seed: the seed of the starts.

    Raises:
        InputError: as :func:`linear_probe` does.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    codes, classes = checked(codes, labels)
    start = int(np.random.default_rng([seed, Key.CLUSTERS]).integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings that there are fewer distinct rows than clusters
        found = KMeans(int(classes.max()) + 1, n_init=10, random_state=start).fit_predict(codes)
    return float(adjusted_rand_score(classes, found)), float(normalized_mutual_info_score(classes, found))


def checked(codes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(codes ``[n, d]`` float64; classes ``[n]``, whole numbers from 0); ``InputError`` if no scores exist."""
    codes, labels = finite_rows(codes, "codes"), np.asarray(labels)
    if labels.shape != (len(codes),):
        wrong = f"there are labels of shape {list(labels.shape)} and {len(codes):,} codes"
        raise InputError(wrong, "give one label for each code")
    values, classes = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise InputError(f"all labels are {values[0]}", "give rows of at least two classes")
    if len(values) > CLASSES:
        raise InputError(f"the labels have {len(values):,} different values", f"give at most {CLASSES} classes")
    return codes, classes.astype(np.int64)


def stratified_halves(classes: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The row numbers of two random halves, each with half the rows of each class; an odd row goes to the first half.

    Raises:
        InputError: no class has two rows.
    """
    rng = np.random.default_rng([seed, Key.HALVES])
    order = rng.permutation(len(classes))
    place = np.empty(len(classes), dtype=np.int64)
    for value in range(classes.max() + 1):
        own = order[classes[order] == value]
        place[own] = np.arange(len(own)) % 2
    if not place.any():
        raise InputError("every class of the labels has only one row", "give more rows of each class")
    return np.flatnonzero(place == 0), np.flatnonzero(place == 1)


def _require_same(codes: np.ndarray, labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray) -> None:
    checked(codes, labels)
    if np.shape(test_codes)[1:] != np.shape(codes)[1:] or not len(test_codes):
        raise InputError(f"test codes must be rows of {np.shape(codes)[1]} numbers, got shape {list(test_codes.shape)}")
    if np.shape(test_labels) != (len(test_codes),):
        raise InputError(f"there are {np.size(test_labels):,} test labels and {len(test_codes):,} test codes",
                         "give one label for each code")  # fmt: skip
