"""Laws of conformal p-values, contributions, the AUROC and its error, and closest rows, checked by numpy loops and
scikit-learn.

Stochastic tests compare with 4 standard errors: two-sided false-alarm rate 6e-5 for one comparison, one-sided 3e-5.
Every seed is fixed.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from latens.errors import InputError
from latens.evaluation import anomaly
from latens.evaluation.anomaly import (
    Conformal,
    auroc,
    closest,
    contributions,
    logistic_regression,
    two_sample_auroc,
)

SCORES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "continuous": lambda rng, n: rng.normal(size=n),
    "tied": lambda rng, n: rng.integers(0, 5, n).astype(float),
    "constant": lambda rng, n: np.zeros(n),
    "heavy": lambda rng, n: rng.standard_cauchy(n) * 1e100,
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n", [1, 2, 19, 400])
def test_p_values_count_the_calibration_scores_that_are_as_high(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    known, new = SCORES[kind](rng, n), SCORES[kind](rng, 50)
    new = np.concatenate([new, known, [-np.inf, np.inf]])
    expected = [(1 + sum(k >= score for k in known)) / (n + 1) for score in new]
    conformal = Conformal(known)
    assert conformal.p_values(new).tolist() == pytest.approx(expected, abs=1e-15)
    again = Conformal.from_json(json.loads(json.dumps(conformal.to_json(), allow_nan=False)))
    assert np.array_equal(again.p_values(new), conformal.p_values(new))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("n", [4, 19, 99])
def test_p_values_of_exchangeable_rows_are_super_uniform(kind: str, n: int) -> None:
    """P(p <= a) <= a; without ties p is uniform on 1/(n+1), ..., 1. 4,000 trials, 7 comparisons: false alarm rate
    4e-4."""
    rng, trials = np.random.default_rng(7 * n), 4000
    rows = SCORES[kind](rng, trials * (n + 1)).reshape(trials, n + 1)
    p = np.array([Conformal(row[1:]).p_values(row[:1])[0] for row in rows])
    for a in (0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0):
        exact = np.floor(a * (n + 1) + 1e-9) / (n + 1)
        error = np.sqrt(exact * (1 - exact) / trials)
        share = np.mean(p <= a + 1e-12)
        assert share <= exact + 4 * error
        if kind in ("continuous", "heavy"):
            assert share >= exact - 4 * error


@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_many_calibration_scores_are_thinned_without_losing_validity(kind: str) -> None:
    rng, n = np.random.default_rng(3), 34_567
    known, new = SCORES[kind](rng, n), SCORES[kind](rng, 2000)
    conformal = Conformal(known)
    exact = (1 + (known >= new[:, None]).sum(1)) / (n + 1)
    p = conformal.p_values(new)
    assert len(conformal.values) == anomaly.KEPT
    assert (p >= exact - 1e-15).all() and (p <= 1).all()
    if kind == "continuous":  # ties may lie entirely between two kept scores
        assert (p - exact).max() < 1 / 5000
    small = exact <= 5000 / (n + 1)
    assert np.array_equal(p[small], exact[small])
    again = Conformal.from_json(json.loads(json.dumps(conformal.to_json())))
    assert np.array_equal(again.p_values(new), p)


BAD_SCORES = {
    "empty": (np.zeros(0), "at least one score"),
    "two axes": (np.zeros((2, 2)), "one axis"),
    "NaN": (np.array([0.0, np.nan]), "row 1"),
    "infinite": (np.array([0.0, 1.0, np.inf]), "row 2"),
}


@pytest.mark.parametrize("case", BAD_SCORES)
def test_bad_calibration_scores_are_refused(case: str) -> None:
    values, words = BAD_SCORES[case]
    with pytest.raises(InputError, match=words):
        Conformal(values)


BAD_JSON = [
    None, [], {}, {"count": 0, "values": []}, {"count": True, "values": [1.0]}, {"count": 2, "values": [1.0]},
    {"count": 2, "values": [2.0, 1.0]}, {"count": 1, "values": ["1"]}, {"count": 1, "values": [float("nan")]},
    {"count": 1, "values": [10**400]}, {"count": 10**30, "values": [1.0]}, {"count": 1, "values": "1"},
]  # fmt: skip


@pytest.mark.parametrize("stored", BAD_JSON, ids=str)
def test_bad_stored_scores_are_refused(stored: object) -> None:
    with pytest.raises(InputError, match="to_json"):
        Conformal.from_json(stored)  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [1, 3, 9])
def test_contributions_are_the_largest_excesses_of_observed_cells(top: int) -> None:
    rng = np.random.default_rng(top)
    terms, reference = rng.gamma(2, size=(60, 5)), rng.gamma(2, size=5)
    terms[rng.random(terms.shape) < 0.4] = np.nan
    terms[0], terms[1, 2], reference[4] = np.nan, np.inf, np.nan
    columns, excess = contributions(terms, reference, top)
    assert columns.shape == excess.shape == (60, min(top, 5))
    for row, named, by in zip(terms, columns, excess):
        naive = sorted((-(row[j] - reference[j]), j) for j in range(4) if not np.isnan(row[j]))[:top]
        found = [(-value, j) for value, j in zip(by, named) if j >= 0]
        assert found == naive
        assert np.isnan(by[len(naive) :]).all() and (named[len(naive) :] == -1).all()


def test_contributions_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="shapes"):
        contributions(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(InputError, match="top"):
        contributions(np.zeros((3, 2)), np.zeros(2), 0)


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (30, 70), (200, 5)])
def test_auroc_is_the_share_of_pairs_and_its_error_is_that_of_delong(kind: str, sizes: tuple[int, int]) -> None:
    m, n = sizes
    rng = np.random.default_rng(m + n)
    scores, flags = SCORES[kind](rng, m + n), rng.permutation(np.repeat([1, 0], sizes))
    a, b = scores[flags == 1], scores[flags == 0]
    kernel = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    found = auroc(scores, flags)
    assert found.value == pytest.approx(kernel.mean(), abs=1e-12)
    assert found.value == pytest.approx(roc_auc_score(flags, scores), abs=1e-12)
    assert auroc(scores, flags.astype(bool)) == found
    assert auroc(-scores, 1 - flags).value == pytest.approx(found.value, abs=1e-12)
    if min(sizes) > 1:
        variance = kernel.mean(1).var(ddof=1) / m + kernel.mean(0).var(ddof=1) / n
        assert found.standard_error == pytest.approx(np.sqrt(variance), abs=1e-12)
    else:
        assert np.isfinite(found.standard_error)


def test_the_standard_error_of_the_auroc_is_its_spread() -> None:
    """1,500 repetitions with 60 anomalies from N(1, 1) and 90 other rows from N(0, 1). An estimated standard deviation
    has a relative error of 1 / sqrt(2 x 1500) = 1.8 %, and the mean square of the standard errors one of about
    0.4 %; four such errors are 7.5 %. The mean is Phi(1 / sqrt 2).
    """
    from scipy.stats import norm

    rng, flags = np.random.default_rng(11), np.repeat([1, 0], [60, 90])
    found = [auroc(rng.normal(size=150) + flags, flags) for _ in range(1500)]
    values = np.array([each.value for each in found])
    assert abs(values.mean() - norm.cdf(1 / np.sqrt(2))) < 4 * values.std() / np.sqrt(1500)
    said = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert abs(said / values.std(ddof=1) - 1) < 0.075


BAD_GROUPS = {
    "one group": (np.zeros(3), np.ones(3), "3 and 0"),
    "lengths": (np.zeros(3), np.ones(2), "shape"),
    "labels": (np.zeros(3), np.array([0, 1, 2]), "row 2"),
    "NaN": (np.array([0.0, np.nan]), np.array([0, 1]), "row 1"),
}


@pytest.mark.parametrize("case", BAD_GROUPS)
def test_bad_groups_are_refused(case: str) -> None:
    scores, flags, words = BAD_GROUPS[case]
    with pytest.raises(InputError, match=words):
        auroc(scores, flags)


@pytest.mark.parametrize("widths", [(3, 2), (0, 4), (2, 0)])
def test_the_closest_row_is_that_of_a_loop(widths: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(widths))
    a, b = rng.normal(size=(20, widths[0])), rng.normal(size=(31, widths[0]))
    p, q = rng.integers(0, 4, (20, widths[1])), rng.integers(0, 4, (31, widths[1]))
    a[3], p[3] = b[8], q[8]
    naive = [min(np.abs(a[i] - b[j]).sum() + (p[i] != q[j]).sum() for j in range(31)) for i in range(20)]
    found = closest(a, p, b, q)
    assert found.tolist() == pytest.approx(naive, abs=1e-12)
    assert found[3] == 0


def test_two_samples_of_one_distribution_are_told_apart_no_better_than_the_error_says() -> None:
    """Over 12 repetitions, the sum of squared z is chi-squared with 12 degrees of freedom, above 39.1 once in
    10,000."""
    rng, z = np.random.default_rng(5), []
    for seed in range(12):
        a, b = rng.normal(size=(100, 2)), rng.normal(size=(100, 2))
        found = two_sample_auroc(a, b, np.array([False, False]), seed)
        z.append((found.value - 0.5) / found.standard_error)
    assert np.square(z).sum() < 39.1


def test_logistic_regression_sees_lines_and_gaps_and_trees_see_more() -> None:
    """Both see tables that differ in a mean, in a level or in which cells are missing; only trees see a different
    variance."""
    rng, n = np.random.default_rng(5), 600
    none = np.array([False, True])

    def table(shift: float = 0.0, wide: float = 1.0, more: float = 0.5, missing: float = 0.1) -> np.ndarray:
        x = np.where(rng.random(n) < missing, np.nan, shift + wide * rng.normal(size=n))
        return np.stack([x, (rng.random(n) < more).astype(float)], 1)

    for change in ({"shift": 1.0}, {"more": 0.9}, {"missing": 0.5}):
        assert two_sample_auroc(table(**change), table(), none, fit=logistic_regression).value > 0.6
    assert two_sample_auroc(table(wide=3.0), table(), none, fit=logistic_regression).value < 0.6
    assert two_sample_auroc(table(wide=3.0), table(), none).value > 0.7
    same = two_sample_auroc(table(), table(), none, fit=logistic_regression)
    assert abs(same.value - 0.5) < 4 * same.standard_error
