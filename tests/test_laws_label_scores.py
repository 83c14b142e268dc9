"""Laws of the scores of codes against labels: naive implementations, and codes whose scores are known."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from latens import evaluation
from latens.errors import InputError
from latens.evaluation import labels as scores
from latens.tensors.randomness import Key

RNG = np.random.default_rng(0)
LABELS = np.arange(150) % 3
APART = np.eye(3)[LABELS] * 20 + RNG.normal(size=(150, 3))
MIXED = np.eye(3)[LABELS] * 1.5 + RNG.normal(size=(150, 3))
NOISE = RNG.normal(size=(150, 3))


def naive_knn(codes: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int) -> float:
    right = 0
    for row, own in zip(test, truth):
        distances = [math.dist(row, other) for other in codes]
        near = Counter(labels[i] for i in sorted(range(len(codes)), key=distances.__getitem__)[:k])
        right += min(near, key=lambda value: (-near[value], value)) == own
    return right / len(test)


def naive_agreement(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    pairs = list(combinations(range(len(a)), 2))
    both = sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
    left, right = sum(a[i] == a[j] for i, j in pairs), sum(b[i] == b[j] for i, j in pairs)
    chance = left * right / len(pairs)

    def entropy(values: list) -> float:
        return -sum(c / len(a) * math.log(c / len(a)) for c in Counter(values).values())

    h = entropy(list(a)), entropy(list(b)), entropy(list(zip(a, b)))
    return (both - chance) / ((left + right) / 2 - chance), 2 * (h[0] + h[1] - h[2]) / (h[0] + h[1])


@pytest.mark.parametrize("codes", [APART, MIXED, NOISE], ids=["apart", "mixed", "noise"])
def test_scores_equal_their_definitions(codes: np.ndarray) -> None:
    known, new = slice(0, 100), slice(100, 150)
    for k in (1, 2, 5):
        found = evaluation.knn_accuracy(codes[known], LABELS[known], codes[new], LABELS[new], k=k)
        assert found == pytest.approx(naive_knn(codes[known], LABELS[known], codes[new], LABELS[new], k), abs=1e-12)
    start = int(np.random.default_rng([0, Key.CLUSTERS]).integers(2**31))
    clusters = KMeans(3, n_init=10, random_state=start).fit_predict(codes)
    assert evaluation.cluster_agreement(codes, LABELS) == pytest.approx(naive_agreement(LABELS, clusters), abs=1e-12)


def test_the_probe_is_where_its_gradient_vanishes() -> None:
    """The gradient is that of the penalised cross-entropy; a second descent gives the same weights."""
    x, y = MIXED[:100], LABELS[:100]
    weight, bias = np.zeros((3, 3)), np.zeros(3)
    for _ in range(20_000):
        logits = x @ weight.T + bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        error = p - np.eye(3)[y]
        weight -= 0.01 * (error.T @ x + weight)
        bias -= 0.01 * error.sum(0)
    expected = np.mean((MIXED[100:] @ weight.T + bias).argmax(1) == LABELS[100:])
    assert evaluation.linear_probe(x, y, MIXED[100:], LABELS[100:]) == pytest.approx(expected, abs=1e-12)


def test_classes_far_apart_are_found_and_noise_is_chance() -> None:
    found = evaluation.evaluate_labels(APART, APART, LABELS)
    assert (found.classes, found.fitted_rows, found.rows, found.most_common) == (3, 75, 75, pytest.approx(1 / 3))
    for each in found.scores.values():
        assert (each.linear_probe, each.knn_accuracy) == (1, 1)
        assert each.adjusted_rand_index == pytest.approx(1) == each.normalised_mutual_information
    lost = evaluation.evaluate_labels(NOISE, APART, LABELS).scores
    # a share of 75 rows has the standard error 0.054: 4.5 of them
    assert lost["codes"].linear_probe == pytest.approx(1 / 3, abs=0.25) and lost["data"].linear_probe == 1
    assert abs(lost["codes"].adjusted_rand_index) < 0.1


def test_units_and_words_do_not_matter() -> None:
    found = evaluation.evaluate_labels(MIXED, MIXED * [1, 100, 0.01], np.array(["a", "b", "c"])[LABELS])
    assert found.to_json() == evaluation.evaluate_labels(MIXED * [10, 1, 1], MIXED, LABELS).to_json()
    assert found.table()[1][:2] == ["codes", "3"] and len(found.table()) == 4


def test_halves_contain_every_class_and_share_no_row() -> None:
    classes = np.array([0] * 7 + [1] * 4 + [2])
    first, second = scores.stratified_halves(classes)
    assert sorted([*first, *second]) == list(range(12))
    assert np.bincount(classes[first]).tolist() == [4, 2, 1] and np.bincount(classes[second]).tolist() == [3, 2]


@pytest.mark.parametrize(
    "codes, labels, sentence",
    [
        (APART, LABELS[:-1], "there are labels of shape [149] and 150 codes: give one label for each code"),
        (APART, LABELS * 0, "all labels are 0: give rows of at least two classes"),
        (APART, np.arange(150), "the labels have 150 different values: give at most 100 classes"),
        (APART[:, 0], LABELS, "codes must be rows [n, d], got an array of shape [150]"),
        (np.where(APART > 20, np.nan, APART), LABELS, "codes, row 0: a number is not finite: leave such rows out"),
        (APART[:3], LABELS[:3], "every class of the labels has only one row: give more rows of each class"),
    ],
)
def test_what_has_no_scores_is_reported_in_one_sentence(codes: np.ndarray, labels: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluation.evaluate_labels(codes, APART[: len(codes)], labels)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "arguments, k, sentence",
    [
        ((APART, LABELS, APART, LABELS), 0, "k must be a whole number from 1 to 150, the number of rows, got 0"),
        ((APART, LABELS, APART[:, :2], LABELS), 1, "test codes must be rows of 3 numbers, got shape [150, 2]"),
        ((APART, LABELS, APART, LABELS[:9]), 1,
         "there are 9 test labels and 150 test codes: give one label for each code"),
    ],
)
def test_rows_for_the_test_must_fit_the_others(arguments: tuple, k: int, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluation.knn_accuracy(*arguments, k=k)
    assert str(caught.value) == sentence
