r"""How good sampled and reconstructed images are: distances between features, neighbours, copies, PSNR and SSIM.

A distance of samples means nothing without its features and its floor. The features here are fitted to training rows
(:func:`pca_features`, :func:`classifier_features`). The floor is the same distance, computed with as many other real
rows instead of samples. Distances in different features, or of different numbers of rows, cannot be compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from latens.errors import InputError, is_whole, require
from latens.evaluation.anomaly import closer
from latens.evaluation.arrays import finite_rows
from latens.evaluation.labels import CLASSES
from latens.evaluation.shown import InNotebooks
from latens.tensors.randomness import Key

ROWS = 5_000  # at most this many samples, and as many real rows, are compared
FITTED = 10_000  # features are fitted to at most this many training rows
COMPONENTS = 64
HIDDEN = (128, 64)  # the layers of the classifier, of which the last gives the features
NEIGHBOURS = 5
WINDOW, SIGMA = 11, 1.5  # side and standard deviation of the windows of SSIM, in pixels
LEAST = 16  # the fewest real rows, since their two halves are compared

Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SampleScores:
    """Figures of rows compared with the same number of real rows, in one space of features.

    Attributes:
        frechet: :func:`frechet_distance`, in squared units of the features.
        kernel: :func:`kernel_distance`.
        precision, recall, density, coverage: :func:`neighbour_scores`.
    """

    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class ImageEvaluation(InNotebooks):
    """Samples compared with real rows; see :func:`evaluate_images`.

    Attributes:
        rows: the number of rows on each side of a comparison.
        features: {what the features are: {"real" and the names of samples: scores}}.
        nearest: {"real" and the names of samples: mean distance to the nearest training row, in units of the data (root
            mean square over cells)}.
        copies: {the same names: share of rows that equal a training row}.
        closer: {names of samples: share of pairs of a sample and a held-out row in which the sample is closer to the
            training rows, with ties counted half}: 0.5 for perfect samples, more for copies.
        psnr, ssim: means over reconstructions, or None.
        notes: remarks.
    """

    rows: int
    features: Mapping[str, Mapping[str, SampleScores]]
    nearest: Mapping[str, float]
    copies: Mapping[str, float]
    closer: Mapping[str, float]
    psnr: float | None = None
    ssim: float | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's types."""
        return asdict(self)

    def records(self) -> list[dict[str, Any]]:
        """One row per space of features and kind of rows."""
        return [{"features": space, "rows": name, **asdict(scores)}
                for space, sides in self.features.items() for name, scores in sides.items()]  # fmt: skip

    def table(self) -> list[list[str]]:
        """Headings, and one row per space of features and kind of rows, as text."""
        head = ["features", "rows", "Fréchet", "kernel", "precision", "recall", "density", "coverage"]
        return [head] + [
            [space, name, f"{s.frechet:.4g}", f"{s.kernel:.3g}",
             *(f"{share:.3f}" for share in (s.precision, s.recall, s.density, s.coverage))]
            for space, sides in self.features.items() for name, s in sides.items()
        ]  # fmt: skip

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text."""
        found = []
        for name, distance in self.nearest.items():
            more = f", closer than held-out rows in {self.closer[name]:.1%}" if name in self.closer else ""
            found.append((f"nearest training row, {name}", f"{distance:.4g}{more}, {self.copies[name]:.1%} are copies"))
        if self.psnr is not None:
            found.append(("reconstructions", f"{self.psnr:.2f} dB PSNR" + (
                "" if self.ssim is None else f", {self.ssim:.4f} SSIM")))  # fmt: skip
        return found


def evaluate_images(
    samples: Mapping[str, np.ndarray], real: np.ndarray, train: np.ndarray, *, labels: np.ndarray | None = None,
    seed: int = 0,
) -> ImageEvaluation:  # fmt: skip
    """Compare samples with held-out rows, in features fitted to training rows.

    A random half of ``real`` is the reference. It is compared with each kind of samples, and with the other half of
    ``real``, which gives the floor. All sides have the same number of rows, at most 5,000.

    Args:
        samples: {name: rows ``[n, *event]``}, in the units of the data.
        real: held-out rows, ``[m, *event]``.
        train: training rows.
        labels: the classes of the training rows ``[N]``, for the features of a classifier.
        seed: the seed of the halves and of the features.

    Raises:
        InputError: rows have different shapes, or there are fewer than 16 real rows or 8 samples.
    """
    for name, rows in (*samples.items(), ("training rows", train)):
        if np.shape(rows)[1:] != np.shape(real)[1:]:
            shapes = f"{list(np.shape(rows)[1:])} and real ones of {list(np.shape(real)[1:])}"
            raise InputError(f"{name} have rows of shape {shapes}", "give rows of one shape")
    size = min(len(real) // 2, ROWS, *map(len, samples.values()))
    if size < LEAST // 2:
        raise InputError(f"there are {len(real)} real rows and {min(map(len, samples.values()), default=0)} samples",
                         f"give at least {LEAST} rows and {LEAST // 2} samples")  # fmt: skip
    order = np.random.default_rng([seed, Key.IMAGE_ROWS]).permutation(len(real))
    reference, other = (_flat(real)[rows] for rows in (order[:size], order[size : 2 * size]))
    sides = {"real": other} | {name: _flat(rows)[:size] for name, rows in samples.items()}
    spaces, notes = _spaces(_flat(train), labels, seed)
    found = {}
    for space, features in spaces.items():
        inside = features(reference)
        found[space] = {name: sample_scores(inside, features(rows)) for name, rows in sides.items()}
    distances = {name: nearest_rows(rows, _flat(train))[1] for name, rows in sides.items()}
    scale = math.sqrt(reference.shape[1])
    return ImageEvaluation(
        size, found, {name: float(each.mean()) / scale for name, each in distances.items()},
        {name: float((each == 0).mean()) for name, each in distances.items()},
        {name: closer(distances[name], distances["real"]).value for name in samples}, notes=notes,
    )  # fmt: skip


def _spaces(train: np.ndarray, labels: np.ndarray | None, seed: int) -> tuple[dict[str, Features], list[str]]:
    """({what the features are: features}, notes)."""
    order = np.random.default_rng([seed, Key.IMAGE_FEATURES]).permutation(len(train))[:FITTED]
    pca, kept = pca_features(train[order])
    spaces = {f"PCA, {kept} components": pca}
    if labels is None:
        return spaces, ["no labels are known, so there are no features of a classifier"]
    classes = len(np.unique(labels))
    if not 2 <= classes <= CLASSES:
        return spaces, [f"the labels have {classes:,} values, so there are no features of a classifier"]
    classifier, accuracy = classifier_features(train[order], labels[order], seed=seed)
    note = f"the accuracy of the classifier is {accuracy:.1%} on a tenth of the training rows, left out of its fit"
    return spaces | {f"classifier, {HIDDEN[-1]} units": classifier}, [note]


def pca_features(train: np.ndarray, components: int = COMPONENTS) -> tuple[Features, int]:
    """(a function from rows to their coordinates along the principal components of training rows, in units of the data;
    the number of components)."""
    from sklearn.decomposition import PCA

    flat = _flat(train)
    kept = min(components, *flat.shape)
    fitted = PCA(kept, svd_solver="full" if flat.shape[1] > len(flat) else "covariance_eigh").fit(flat)
    return lambda rows: fitted.transform(_flat(rows)), kept


def classifier_features(train: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> tuple[Features, float]:
    """(a function from rows to the last hidden layer, 64 units, of a classifier fitted to training rows; the accuracy
    of the classifier on a tenth of these rows, which is left out of the fit). Each cell is centred at its mean, and
    divided by the standard deviation of all cells."""
    from sklearn.neural_network import MLPClassifier

    flat = _flat(train)
    shift, unit = flat.mean(0), max(float(flat.std()), 1e-12)
    held = np.arange(len(flat)) % 10 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of convergence: the number of epochs is fixed on purpose
        network = MLPClassifier(HIDDEN, max_iter=20, batch_size=min(100, int((~held).sum())), random_state=seed)
        network.fit((flat[~held] - shift) / unit, labels[~held])

    def features(rows: np.ndarray) -> np.ndarray:
        inside = (_flat(rows) - shift) / unit
        for weight, bias in zip(network.coefs_[:-1], network.intercepts_[:-1]):
            inside = np.maximum(inside @ weight + bias, 0.0)
        return inside

    return features, float(network.score((flat[held] - shift) / unit, labels[held]))


# Distances between features


def sample_scores(real: np.ndarray, samples: np.ndarray) -> SampleScores:
    """All scores of samples compared with real rows, from features ``[n, d]`` and ``[m, d]``."""
    k = min(NEIGHBOURS, len(real) - 1, len(samples) - 1)
    return SampleScores(
        frechet_distance(real, samples), kernel_distance(real, samples), *neighbour_scores(real, samples, k=k)
    )


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""The Fréchet distance between normal densities with the moments of two sets of features (Heusel et al. 2017):

    .. math:: |\mu_a - \mu_b|^2 + \operatorname{tr}\big(S_a + S_b - 2 (S_a S_b)^{1/2}\big)

    With few rows it is biased upwards (Chong & Forsyth 2020), so compare it with the distance of the same number of
    real rows. Covariances are unbiased.

    Args:
        a, b: ``[n, d]`` and ``[m, d]``, n and m at least 2.

    Raises:
        InputError: features have different sizes or are not finite, or a set has fewer than two rows.

    >>> rows = np.array([[0.0], [2.0]])
    >>> frechet_distance(rows, 2 * rows + 3)
    18.0
    """
    a, b = _pair(a, b)
    return frechet_of_moments(a.mean(0), np.atleast_2d(np.cov(a.T)), b.mean(0), np.atleast_2d(np.cov(b.T)))


def frechet_of_moments(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """The Fréchet distance between two normal densities, given their means ``[d]`` and covariances ``[d, d]``."""
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""The squared maximum mean discrepancy of two sets of features, unbiased (KID; Bińkowski et al. 2018):

    .. math:: \frac{\sum_{i \ne j} k(a_i, a_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(b_i, b_j)}{m (m - 1)}
              - \frac{2 \sum_{ij} k(a_i, b_j)}{n m}, \quad k(x, y) = (x \cdot y / d + 1)^3

    Its mean is 0 if both sets come from the same density, so single values may be negative.

    Args:
        a, b: ``[n, d]`` and ``[m, d]``, n and m at least 2.

    Raises:
        InputError: as :func:`frechet_distance` does.
    """
    a, b = _pair(a, b)
    n, m = len(a), len(b)
    within = (_kernel_sum(a, a) - _kernel_of_self(a)) / (n * (n - 1))
    return within + (_kernel_sum(b, b) - _kernel_of_self(b)) / (m * (m - 1)) - 2 * _kernel_sum(a, b) / (n * m)


def _kernel_sum(a: np.ndarray, b: np.ndarray, count: int = 1024) -> float:
    parts = (a[start : start + count] @ b.T / a.shape[1] + 1 for start in range(0, len(a), count))
    return float(sum((part * part * part).sum() for part in parts))


def _kernel_of_self(a: np.ndarray) -> float:
    return float((((a * a).sum(1) / a.shape[1] + 1) ** 3).sum())


def neighbour_scores(
    real: np.ndarray, samples: np.ndarray, *, k: int = NEIGHBOURS
) -> tuple[float, float, float, float]:
    r"""(precision, recall, density, coverage). Each row has a ball that reaches to its k-th nearest neighbour in the
    same set.

    *Precision* is the share of samples in the ball of some real row; *recall* is the share of real rows in the ball of
    some sample (Kynkäänniemi et al. 2019). *Density* is the number of balls of real rows that contain a sample, divided
    by k and averaged over samples (it may exceed 1); *coverage* is the share of real rows whose ball holds a sample
    (Naeem et al. 2020).

    Args:
        real, samples: ``[n, d]`` and ``[m, d]``; distances are Euclidean, and balls are closed.
        k: the neighbour that a ball reaches, from 1 to the smaller number of rows minus 1.

    Raises:
        InputError: as :func:`frechet_distance` does, or k is out of range.
    """
    real, samples = _pair(real, samples)
    most = min(len(real), len(samples)) - 1
    require(is_whole(k) and 1 <= k <= most, "k", f"a whole number from 1 to {most:,}, the number of rows minus 1", k)
    near_real, near_sample = _radii(real, k), _radii(samples, k)
    balls, recalled, covered = np.zeros(len(samples)), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, distance in _distances(real, samples):
        inside = distance <= near_real[rows, None]
        balls += inside.sum(0)
        covered[rows] = inside.any(1)
        recalled[rows] = (distance <= near_sample).any(1)
    return float((balls > 0).mean()), float(recalled.mean()), float(balls.mean() / k), float(covered.mean())


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """The distance from each row to its k-th nearest other row."""
    return np.concatenate([np.partition(distance, k, axis=1)[:, k] for _, distance in _distances(rows, rows)])


def _distances(a: np.ndarray, b: np.ndarray, count: int = 512) -> Any:
    """(some rows of a, their distances to all rows of b), part by part."""
    from scipy.spatial.distance import cdist

    for start in range(0, len(a), count):
        rows = slice(start, start + count)
        yield rows, cdist(a[rows], b)


def nearest_rows(samples: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the number of the training row nearest to each sample; its Euclidean distance), ``[n]`` each.

    Args:
        samples, train: ``[n, *event]`` and ``[N, *event]``.

    >>> nearest_rows(np.array([[0.9], [5.0]]), np.array([[0.0], [1.0], [5.0]]))[0].tolist()
    [1, 2]
    """
    samples, train = _flat(samples), _flat(train)
    index, distance = np.empty(len(samples), dtype=np.int64), np.empty(len(samples))
    squares = (train * train).sum(1)
    for start in range(0, len(samples), 256):
        rows = slice(start, start + 256)
        index[rows] = (squares - 2 * samples[rows] @ train.T).argmin(1)
        distance[rows] = np.linalg.norm(samples[rows] - train[index[rows]], axis=1)
    return index, distance


# Reconstructions


def psnr(x: np.ndarray, again: np.ndarray, extent: float) -> np.ndarray:
    r"""The peak signal-to-noise ratio of each image, ``[N]`` decibels; infinite if image and reconstruction are equal:

    .. math:: 10 \log_{10} \frac{L^2}{\frac1D \sum_i (x_i - \hat x_i)^2}

    Args:
        x, again: images and their reconstructions, ``[N, *event]``.
        extent: L, the largest possible value minus the smallest (255 for 8-bit images).

    Raises:
        InputError: shapes differ, or the extent is not positive.
    """
    x, again = _images(x, again, extent)
    error = ((x - again).reshape(len(x), -1) ** 2).mean(1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(extent**2 / error)


def ssim(x: np.ndarray, again: np.ndarray, extent: float) -> np.ndarray:
    r"""The structural similarity of each image (Wang et al. 2004), ``[N]``, at most 1: the mean over windows of

    .. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
              {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}, \quad C_1 = (0.01 L)^2, C_2 = (0.03 L)^2

    Moments are weighted by a normal density with a standard deviation of 1.5 pixels, cut to 11 x 11 pixels (for smaller
    images, to the largest odd side that fits). Only windows inside the image count; channels are averaged.

    Args:
        x, again: images and their reconstructions, ``[N, H, W]`` or ``[N, C, H, W]``.
        extent: L, the largest possible value minus the smallest.

    Raises:
        InputError: as :func:`psnr` does, or rows are not images.
    """
    x, again = _images(x, again, extent)
    if x.ndim not in (3, 4):
        raise InputError(f"images must be [N, H, W] or [N, C, H, W], got shape {list(x.shape)}")
    side = min(WINDOW, *(size if size % 2 else size - 1 for size in x.shape[-2:]))
    require(side >= 1, "sides of images", "at least 1 pixel", min(x.shape[-2:]))
    weight = np.exp(-0.5 * ((np.arange(side) - side // 2) / SIGMA) ** 2)
    weight /= weight.sum()
    one, other = _smooth(x, weight), _smooth(again, weight)
    square, other_square, cross = (_smooth(v, weight) for v in (x * x, again * again, x * again))
    c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
    top = (2 * one * other + c1) * (2 * (cross - one * other) + c2)
    below = (one**2 + other**2 + c1) * (square - one**2 + other_square - other**2 + c2)
    return (top / below).reshape(len(x), -1).mean(1)


def _smooth(images: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted means over the windows that lie inside the images."""
    for axis in (-1, -2):
        size = images.shape[axis] - len(weight) + 1
        parts = (w * np.take(images, range(j, j + size), axis=axis) for j, w in enumerate(weight))
        images = sum(parts)
    return images


# Checks


def _images(x: np.ndarray, again: np.ndarray, extent: float) -> tuple[np.ndarray, np.ndarray]:
    if np.shape(x) != np.shape(again) or not np.size(x):
        raise InputError(f"images have shape {list(np.shape(x))} and reconstructions {list(np.shape(again))}",
                         "give one reconstruction for each image")  # fmt: skip
    require(extent > 0 and math.isfinite(extent), "extent", "a positive number", extent)
    return np.asarray(x, dtype=np.float64), np.asarray(again, dtype=np.float64)


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = (finite_rows(values, "features", 2) for values in (a, b))
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"the features have {a.shape[1]} and {b.shape[1]} numbers per row", "use the same features for both"
        )
    return a, b


def _flat(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
