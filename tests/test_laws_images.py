"""Laws of the scores of images: naive implementations in plain loops, closed forms for normal densities, unbiasedness,
and the values for identical, distant and copied rows. All in float64; every seed is fixed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from laws import Z, z_score
from scipy.linalg import sqrtm

from latens import evaluation
from latens.errors import InputError
from latens.evaluation import images

RNG = np.random.default_rng(0)
SETS = {
    "apart": (RNG.normal(size=(30, 3)), RNG.normal(size=(25, 3)) + 5),
    "near": (RNG.normal(size=(30, 3)), RNG.normal(size=(25, 3)) * 1.5 + 0.5),
    "one number": (RNG.normal(size=(12, 1)), RNG.normal(size=(10, 1))),
    "within": (RNG.normal(size=(30, 3)), RNG.normal(size=(25, 3)) * 0.2),
}


def naive_frechet(a: np.ndarray, b: np.ndarray) -> float:
    s, t = (np.atleast_2d(np.cov(v.T)) for v in (a, b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t))))


def naive_kernel(a: np.ndarray, b: np.ndarray) -> float:
    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(x, y)) / len(x) + 1) ** 3

    def mean(p: np.ndarray, q: np.ndarray, same: bool) -> float:
        values = [k(x, y) for i, x in enumerate(p) for j, y in enumerate(q) if not (same and i == j)]
        return sum(values) / len(values)

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


def naive_neighbours(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, ...]:
    def radius(rows: np.ndarray, i: int) -> float:
        return sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    near_real = [radius(real, i) for i in range(len(real))]
    near_fake = [radius(fake, i) for i in range(len(fake))]
    inside = [[math.dist(x, y) <= r for x, r in zip(real, near_real)] for y in fake]
    precision = sum(map(any, inside)) / len(fake)
    recall = sum(any(math.dist(x, y) <= r for y, r in zip(fake, near_fake)) for x in real) / len(real)
    density = sum(map(sum, inside)) / (k * len(fake))
    return precision, recall, density, sum(map(any, zip(*inside))) / len(real)


@pytest.mark.parametrize("which", SETS)
def test_distances_equal_their_definitions(which: str) -> None:
    a, b = SETS[which]
    assert evaluation.frechet_distance(a, b) == pytest.approx(naive_frechet(a, b), rel=1e-6)
    assert evaluation.kernel_distance(a, b) == pytest.approx(naive_kernel(a, b), rel=1e-10)
    for k in (1, 3, 5):
        assert evaluation.neighbour_scores(a, b, k=k) == pytest.approx(naive_neighbours(a, b, k), abs=1e-12)


def test_the_frechet_distance_of_known_normals_has_its_closed_form() -> None:
    """For commuting covariances it is |m - n|^2 + sum (sqrt(s) - sqrt(t))^2 over their eigenvalues. One case is 0, and
    the root of its rounding error is 1e-8."""
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    s, t, m, n = RNG.random(4), np.array([0.0, 1, 2, 3]), RNG.normal(size=4), RNG.normal(size=4)
    found = images.frechet_of_moments(m, turn * s @ turn.T, n, turn * t @ turn.T)
    assert found == pytest.approx(((m - n) ** 2).sum() + ((np.sqrt(s) - np.sqrt(t)) ** 2).sum(), abs=1e-6)


def test_the_kernel_distance_is_unbiased() -> None:
    """For a ~ N(0, I), b ~ N(m, I) in d = 2, E k by Gauss-Hermite quadrature; z of 400 repetitions, one comparison
    each (false-alarm rate 7e-6)."""
    node, weight = np.polynomial.hermite_e.hermegauss(12)
    grid = np.stack(np.meshgrid(node, node, indexing="ij"), -1).reshape(-1, 2)
    w = np.outer(weight, weight).ravel() / (2 * np.pi)

    def mean(p: np.ndarray, q: np.ndarray) -> float:
        return float(w @ (((grid + p) @ (grid + q).T / 2 + 1) ** 3) @ w)

    rng, zero = np.random.default_rng(1), np.zeros(2)
    for shift in (zero, np.array([0.5, -1.0])):
        truth = mean(zero, zero) + mean(shift, shift) - 2 * mean(zero, shift)
        found = np.array([
            evaluation.kernel_distance(rng.normal(size=(9, 2)), rng.normal(size=(7, 2)) + shift) for _ in range(400)
        ])  # fmt: skip
        assert abs(z_score(found, truth)) < Z


def test_identical_sets_are_perfect_and_distant_ones_share_nothing() -> None:
    a = RNG.normal(size=(50, 4))
    assert evaluation.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    precision, recall, density, coverage = evaluation.neighbour_scores(a, a)
    assert (precision, recall, coverage) == (1, 1, 1) and density > 0.9
    assert evaluation.neighbour_scores(a, a + 100) == (0, 0, 0, 0)


def test_the_nearest_row_is_that_of_a_loop() -> None:
    a, b = RNG.normal(size=(20, 3, 2)), RNG.normal(size=(300, 3, 2))
    index, distance = evaluation.nearest_rows(a, b)
    loops = [[math.dist(x.ravel(), y.ravel()) for y in b] for x in a]
    assert index.tolist() == [row.index(min(row)) for row in loops]
    assert distance == pytest.approx([min(row) for row in loops], abs=1e-12)


def naive_ssim(x: np.ndarray, y: np.ndarray, extent: float) -> float:
    """The SSIM of one image ``[H, W]``, window by window."""
    side = min(11, *(s - (s + 1) % 2 for s in x.shape))
    weight = {(i, j): math.exp(-((i - side // 2) ** 2 + (j - side // 2) ** 2) / 4.5)
              for i in range(side) for j in range(side)}  # fmt: skip
    total, found = sum(weight.values()), []
    for top in range(x.shape[0] - side + 1):
        for left in range(x.shape[1] - side + 1):
            cells = [(w / total, x[top + i, left + j], y[top + i, left + j]) for (i, j), w in weight.items()]
            mx, my = sum(w * p for w, p, _ in cells), sum(w * q for w, _, q in cells)
            sx, sy = sum(w * (p - mx) ** 2 for w, p, _ in cells), sum(w * (q - my) ** 2 for w, _, q in cells)
            sxy = sum(w * (p - mx) * (q - my) for w, p, q in cells)
            c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
            found.append((2 * mx * my + c1) * (2 * sxy + c2) / ((mx**2 + my**2 + c1) * (sx + sy + c2)))
    return sum(found) / len(found)


@pytest.mark.parametrize("shape", [(8, 8), (13, 15), (28, 11), (2, 12, 12), (5, 4)])
def test_reconstructions_are_scored_by_their_definitions(shape: tuple[int, ...]) -> None:
    x = RNG.integers(0, 256, (3, *shape)).astype(float)
    y = np.clip(x + RNG.normal(size=x.shape) * 20, 0, 255)
    channels = (lambda image: image) if len(shape) == 3 else (lambda image: image[None])
    naive = [np.mean([naive_ssim(p, q, 255) for p, q in zip(channels(a), channels(b))]) for a, b in zip(x, y)]
    assert evaluation.ssim(x, y, 255) == pytest.approx(naive, abs=1e-10)
    ratio = [10 * math.log10(255**2 / (sum((p - q) ** 2 for p, q in zip(a.flat, b.flat)) / a.size))
             for a, b in zip(x, y)]  # fmt: skip
    assert evaluation.psnr(x, y, 255) == pytest.approx(ratio, abs=1e-10)


def test_equal_images_are_perfect_in_any_unit() -> None:
    x = RNG.random((2, 12, 12))
    assert evaluation.ssim(x, x, 1) == pytest.approx([1, 1]) and np.isposinf(evaluation.psnr(x, x, 1)).all()
    y = RNG.random((2, 12, 12))
    assert evaluation.ssim(255 * x, 255 * y, 255) == pytest.approx(evaluation.ssim(x, y, 1), abs=1e-12)
    assert evaluation.psnr(255 * x, 255 * y, 255) == pytest.approx(evaluation.psnr(x, y, 1), abs=1e-12)


@pytest.fixture(scope="module")
def evaluated() -> images.ImageEvaluation:
    """Scores of rows from a mixture of three classes, for samples that are perfect, copies, or of a single class."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 4, 4)) * 4

    def rows(n: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % classes
        return centres[labels] + rng.normal(size=(n, 4, 4)), labels

    (train, labels), (real, _) = rows(600), rows(300)
    samples = {"perfect": rows(150)[0], "copies": train[:150], "one class": rows(150, 1)[0]}
    return evaluation.evaluate_images(samples, real, train, labels=labels)


def test_samples_of_known_faults_show_them(evaluated: images.ImageEvaluation) -> None:
    assert evaluated.rows == 150 and [*evaluated.features] == ["PCA, 16 components", "classifier, 64 units"]
    for sides in evaluated.features.values():
        floor, perfect, collapsed = sides["real"], sides["perfect"], sides["one class"]
        assert perfect.frechet == pytest.approx(floor.frechet, rel=0.5)
        assert collapsed.frechet > 3 * floor.frechet and collapsed.kernel > 3 * abs(floor.kernel)
        assert collapsed.precision > 0.8 and collapsed.recall < 0.5 and collapsed.coverage < 0.5 < floor.coverage
    assert evaluated.copies == {"real": 0, "perfect": 0, "copies": 1, "one class": 0}
    assert evaluated.closer["copies"] == 1 and evaluated.nearest["copies"] == 0
    # P(closer) of 150 and 150 rows has a standard error of at most 0.034
    assert evaluated.closer["perfect"] == pytest.approx(0.5, abs=4.5 * 0.034)
    assert len(evaluated.table()) == 9 and len(evaluated.lines()) == 4
    assert evaluated.notes[0].startswith("the accuracy of the classifier is")


def test_without_labels_there_is_no_classifier_and_a_note_says_so() -> None:
    x = RNG.normal(size=(60, 3))
    for labels, words in ((None, "no labels are known"), (np.zeros(60), "the labels have 1 values")):
        found = evaluation.evaluate_images({"draws": x[:20]}, x[20:], x, labels=labels)
        assert [*found.features] == ["PCA, 3 components"] and found.notes[0].startswith(words)


A, B = SETS["near"]
BAD: dict[str, Any] = {
    "the features have 3 and 2 numbers per row: use the same features for both": lambda: (
        evaluation.frechet_distance(A, B[:, :2])
    ),
    "features must be at least 2 rows [n, d], got an array of shape [1, 3]": (
        lambda: evaluation.kernel_distance(A[:1], B)
    ),
    "features, row 2: a number is not finite: leave such rows out": lambda: evaluation.frechet_distance(
        np.where(np.arange(30)[:, None] == 2, np.nan, A), B
    ),
    "k must be a whole number from 1 to 24, the number of rows minus 1, got 0": (
        lambda: evaluation.neighbour_scores(A, B, k=0)
    ),
    "images have shape [30, 3] and reconstructions [25, 3]: give one reconstruction for each image": lambda: (
        evaluation.psnr(A, B, 1)
    ),
    "images must be [N, H, W] or [N, C, H, W], got shape [30, 3]": lambda: evaluation.ssim(A, A, 1),
    "extent must be a positive number, got 0": lambda: evaluation.psnr(A, A, 0),
    "draws have rows of shape [2] and real ones of [3]: give rows of one shape": lambda: evaluation.evaluate_images(
        {"draws": B[:, :2]}, A, A
    ),
    "there are 30 real rows and 3 samples: give at least 16 rows and 8 samples": lambda: evaluation.evaluate_images(
        {"draws": B[:3]}, A, A
    ),
}


@pytest.mark.parametrize("sentence", BAD)
def test_impossible_scores_are_refused_in_one_sentence(sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        BAD[sentence]()
    assert str(caught.value) == sentence
