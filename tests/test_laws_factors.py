"""Laws of the scores of codes against known factors: each equals its definition, written again in plain loops, on
constructed representations, and has the value that its paper gives for the extremes. All in float64; every seed is
fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import digamma
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from latens import evaluation
from latens.errors import InputError
from latens.evaluation import factors as scores
from latens.tensors.randomness import Key

SIZES = (2, 4, 6)  # number of levels of each factor


def known_factors() -> np.ndarray:
    """Every combination of the levels, five times, ``[240, 3]``."""
    cells = np.stack(np.meshgrid(*(np.arange(size) for size in SIZES), indexing="ij"), -1).reshape(-1, 3)
    return np.repeat(cells, 5, 0).astype(float)


def representations() -> dict[str, np.ndarray]:
    v, rng = known_factors(), np.random.default_rng(0)
    unit = (v - v.mean(0)) / v.std(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return {
        "identity": v, "permuted": v[:, [2, 0, 1]] * [1, -3, 0.5], "rotated": unit @ turn,
        "duplicated": v[:, [0, 1, 2, 1, 2]], "noisy": unit + rng.normal(size=v.shape),
        "random": rng.normal(size=(len(v), 4)), "one inactive": np.c_[unit, np.full(len(v), 0.3)],
    }  # fmt: skip


CODES = representations()
FACTORS = known_factors()


def information(a: list, b: list) -> float:
    """The mutual information I(a; b) in nats, from counts."""
    n, both, left, right = len(a), Counter(zip(a, b)), Counter(a), Counter(b)
    return sum(c / n * math.log(c * n / (left[x] * right[y])) for (x, y), c in both.items())


def bins_of(code: np.ndarray) -> list[int]:
    low, high = min(code), max(code)
    return [0 if high == low else min(19, int((value - low) / (high - low) * 20)) for value in code]


def table_of(codes: np.ndarray, factors: np.ndarray) -> list[list[float]]:
    return [[information(bins_of(codes[:, j]), list(factors[:, k])) for k in range(factors.shape[1])]
            for j in range(codes.shape[1])]  # fmt: skip


def naive_mig(codes: np.ndarray, factors: np.ndarray) -> float:
    table, gaps = table_of(codes, factors), []
    for k in range(factors.shape[1]):
        best, second = sorted((row[k] for row in table), reverse=True)[:2]
        gaps.append((best - second) / information(list(factors[:, k]), list(factors[:, k])))
    return sum(gaps) / len(gaps)


def naive_modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    found = []
    for row in table_of(codes, factors):
        place = row.index(max(row))
        if row[place] <= 0:
            found.append(0.0)
            continue
        deviation = sum((m - (row[place] if k == place else 0)) ** 2 for k, m in enumerate(row))
        found.append(1 - deviation / (row[place] ** 2 * (len(row) - 1)))
    return sum(found) / len(found)


def naive_irs(codes: np.ndarray, factors: np.ndarray) -> float:
    total = weight = 0.0
    for code in codes.T:
        if code.std() == 0:
            continue
        largest, best = max(abs(value - code.mean()) for value in code), -math.inf
        for factor in factors.T:
            spreads = []
            for level in sorted(set(factor)):
                rows = [value for value, own in zip(code, factor) if own == level]
                mean = sum(rows) / len(rows)
                distances = sorted(abs(value - mean) for value in rows)
                at = 0.99 * (len(rows) - 1)
                low = int(at)
                high = min(low + 1, len(rows) - 1)
                spreads.append(distances[low] + (at - low) * (distances[high] - distances[low]))
            best = max(best, 1 - sum(spreads) / len(spreads) / largest)
        total, weight = total + largest * best, weight + largest
    return total / weight if weight else 0.0


def halves(rows: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng([0, Key.HALVES]).permutation(rows)
    return order[: rows // 2], order[rows // 2 :]


def standardised(codes: np.ndarray) -> np.ndarray:
    return np.stack([(c - c.mean()) / (c.std() or 1.0) for c in codes.T], 1)


def naive_sap(codes: np.ndarray, factors: np.ndarray) -> float:
    (train, test), gaps = halves(len(codes)), []
    for factor in factors.T:
        found = []
        for code in codes.T:
            if code.std() <= 1e-12:
                found.append(0.0)
                continue
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            machine.fit(code[train, None], factor[train])
            found.append(sum(machine.predict(code[test, None]) == factor[test]) / len(test))
        found.sort()
        gaps.append(found[-1] - found[-2])
    return sum(gaps) / len(gaps)


def naive_dci(codes: np.ndarray, factors: np.ndarray) -> tuple[float, float, float]:
    (train, test), columns, right = halves(len(codes)), [], []
    inside = standardised(codes)
    for factor in factors.T:
        forest = RandomForestClassifier(100, max_features=None, random_state=0).fit(inside[train], factor[train])
        columns.append(forest.feature_importances_)
        right.append(np.mean(forest.predict(inside[test]) == factor[test]))
    d, f = codes.shape[1], factors.shape[1]
    r = [[float(columns[k][j]) for k in range(f)] for j in range(d)]
    whole, disentangled, complete = sum(map(sum, r)), 0.0, 0.0
    for row in r:
        shares = [value / sum(row) if sum(row) else 1 / f for value in row]
        entropy = -sum(p * math.log(p) / math.log(f) for p in shares if p > 0)
        disentangled += sum(row) / whole * (1 - entropy)
    for k in range(f):
        shares = [row[k] / sum(other[k] for other in r) for row in r]
        complete += (1 + sum(p * math.log(p) / math.log(d) for p in shares if p > 0)) / f
    return disentangled, complete, float(np.mean(right))


def drawn(factors: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    levels = np.stack([np.unique(factor, return_inverse=True)[1] for factor in factors.T], 1)
    return scores.batches(levels, 1600, size, np.random.default_rng([0, Key.FACTOR_VOTES]))


def naive_factor_vae(codes: np.ndarray, factors: np.ndarray) -> float:
    shared, rows = drawn(factors, 64)
    active = [j for j in range(codes.shape[1]) if np.var(codes[:, j], ddof=1) >= 0.05]
    if not active:
        return 0.0
    votes = []
    for k, batch in zip(shared, rows):
        ratios = [np.var(codes[batch, j], ddof=1) / np.var(codes[:, j], ddof=1) for j in active]
        votes.append((ratios.index(min(ratios)), int(k)))
    majority = {}
    for j in range(len(active)):
        counts = [votes[:800].count((j, k)) for k in range(factors.shape[1])]
        majority[j] = counts.index(max(counts))
    return sum(majority[j] == k for j, k in votes[800:]) / 800


def naive_beta_vae(codes: np.ndarray, factors: np.ndarray) -> float:
    shared, rows = drawn(factors, 128)
    found = []
    for batch in rows:
        differences = [[abs(codes[a, j] - codes[b, j]) for j in range(codes.shape[1])]
                       for a, b in zip(batch[:64], batch[64:])]  # fmt: skip
        found.append(np.mean(differences, 0))
    inside = np.stack([c / (c.std() or 1.0) for c in np.stack(found).T], 1)
    machine = LogisticRegression(max_iter=1000).fit(inside[:800], shared[:800])
    return sum(machine.predict(inside[800:]) == shared[800:]) / 800


def neighbour_information(code: np.ndarray, factor: np.ndarray, k: int = 10) -> float:
    """Ross's estimate of the mutual information of a number and levels, in nats."""
    own = []
    for i, value in enumerate(code):
        same = sorted(abs(value - code[j]) for j in range(len(code)) if factor[j] == factor[i] and j != i)
        near = min(k, len(same))
        radius = same[near - 1]
        within = sum(abs(value - other) < radius for other in code)
        own.append(digamma(near) - digamma(len(same) + 1) - digamma(within))
    return max(0.0, digamma(len(code)) + sum(own) / len(own))


def naive_infomec(codes: np.ndarray, factors: np.ndarray) -> tuple[float, float, float]:
    whole = all(value == round(value) for value in codes.ravel())
    extents = [max(c) - min(c) for c in codes.T]
    active = codes[:, [e > (0 if whole else max(extents) / 20) for e in extents]]
    share = [[(information(list(code), list(factor)) if whole else neighbour_information(code, factor))
              / information(list(factor), list(factor)) for factor in factors.T] for code in active.T]  # fmt: skip
    d, f = active.shape[1], factors.shape[1]
    m = sum(max(row) / sum(row) if sum(row) else 1 / f for row in share) / d
    columns = list(zip(*share))
    c = sum(max(column) / sum(column) if sum(column) else 1 / d for column in columns) / f
    inside = np.concatenate([code[:, None] == sorted(set(code)) for code in active.T], 1) if whole else (
        standardised(active))  # fmt: skip
    explicit = []
    for factor in factors.T:
        classes = sorted(set(factor))
        machine = LogisticRegression(C=np.inf, class_weight="balanced").fit(inside, factor)
        p = machine.predict_proba(inside)
        entropy = -sum(math.log(max(p[i, classes.index(v)], np.finfo(float).eps)) for i, v in enumerate(factor))
        explicit.append(1 - entropy / len(factor) / math.log(len(classes)))
    return (m - 1 / f) / (1 - 1 / f), sum(explicit) / f, (c - 1 / d) / (1 - 1 / d)


def of_dci(codes: np.ndarray, factors: np.ndarray) -> tuple[float, ...]:
    found = evaluation.dci(codes, factors)
    return found.disentanglement, found.completeness, found.informativeness


def of_infomec(codes: np.ndarray, factors: np.ndarray) -> tuple[float | None, ...]:
    found = evaluation.infomec(codes, factors)
    return found.modularity, found.explicitness, found.compactness


TWINS: dict[str, tuple[Callable[..., object], Callable[..., object], float]] = {
    "mig": (evaluation.mig, naive_mig, 1e-12),
    "modularity": (evaluation.modularity, naive_modularity, 1e-12),
    "irs": (evaluation.irs, naive_irs, 1e-12),
    "sap": (evaluation.sap, naive_sap, 1e-12),
    "dci": (of_dci, naive_dci, 1e-12),
    "factor_vae_score": (evaluation.factor_vae_score, naive_factor_vae, 1e-12),
    "beta_vae_score": (evaluation.beta_vae_score, naive_beta_vae, 1e-12),
    "infomec": (of_infomec, naive_infomec, 1e-6),  # neighbours: ties are broken by noise of 1e-10
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("which", CODES)
@pytest.mark.parametrize("name", TWINS)
def test_each_score_equals_its_definition(name: str, which: str) -> None:
    (score, naive, close), codes = TWINS[name], CODES[which]
    if name == "infomec" and which not in ("identity", "duplicated"):  # ties between neighbours are broken at random
        codes = codes + 0.01 * np.random.default_rng(3).normal(size=codes.shape)
    assert score(codes, FACTORS) == pytest.approx(naive(codes, FACTORS), abs=close)


ONE = ("mig", "modularity", "irs", "dci", "factor_vae_score", "beta_vae_score", "infomec")


@pytest.mark.parametrize("name", ONE)
def test_the_factors_themselves_have_the_score_1(name: str) -> None:
    # explicitness comes from an iteration that stops early: 1e-2
    assert TWINS[name][0](FACTORS, FACTORS) == pytest.approx((1.0,) * 3 if name in ("dci", "infomec") else 1, abs=1e-2)


@pytest.mark.parametrize("name", ONE)
def test_order_and_sign_of_codes_do_not_matter(name: str) -> None:
    score = TWINS[name][0]
    other = CODES["noisy"][:, [2, 0, 1]] * [-1, 1, -1]
    # trees break ties by the order of codes, and bins of equal width are closed on one side
    assert score(other, FACTORS) == pytest.approx(score(CODES["noisy"], FACTORS), abs=0.03)


def test_a_copy_of_a_code_closes_the_gap_but_not_modularity() -> None:
    codes = CODES["duplicated"]
    assert evaluation.mig(codes, FACTORS) == pytest.approx(1 / 3, abs=1e-12)  # of the factor without a copy
    assert evaluation.modularity(codes, FACTORS) == pytest.approx(1, abs=1e-12)


def test_random_codes_are_near_chance() -> None:
    rng = np.random.default_rng(1)
    v = np.stack([rng.integers(0, size, 4000) for size in SIZES], 1).astype(float)
    z = rng.normal(size=(4000, 4))
    assert evaluation.mig(z, v) < 0.02
    assert evaluation.infomec(z, v).explicitness == pytest.approx(0, abs=0.01)
    for score in (evaluation.factor_vae_score, evaluation.beta_vae_score):
        assert score(z, v) == pytest.approx(1 / 3, abs=0.1)  # 4.5 standard errors of 800 votes: 0.075


def test_dci_of_a_known_matrix_has_its_value() -> None:
    found = scores.dci_of_importance(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]))
    assert found.per_code == pytest.approx([1, 0, 0])
    assert found.disentanglement == pytest.approx(0.5)
    two_thirds = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(3)
    assert found.per_factor == pytest.approx([1 - two_thirds, 1])


def test_predictors_agree_on_factors_that_one_code_holds() -> None:
    codes = CODES["identity"][:, :2]
    for predictor in scores.PREDICTORS:
        found = evaluation.dci(codes, FACTORS[:, :2], predictor=predictor)
        assert found.importance == pytest.approx(np.eye(2), abs=0.02), predictor
        assert found.informativeness == pytest.approx(1, abs=0.01), predictor


def test_continuous_factors_are_cut_at_quantiles_and_correlate_in_sap() -> None:
    rng = np.random.default_rng(2)
    v = rng.normal(size=(2000, 2)) ** 3
    levels = np.argsort(np.argsort(v, 0), 0) // 100  # 20 bins of equal counts
    assert evaluation.mig(v, v) == pytest.approx(evaluation.mig(v, levels), abs=1e-12)
    z = np.c_[v[:, 0], v[:, 1] + rng.normal(size=2000)]
    squared = [[LinearRegression().fit(z[:, [j]], v[:, k]).score(z[:, [j]], v[:, k]) for j in (0, 1)] for k in (0, 1)]
    assert evaluation.sap(z, v) == pytest.approx(np.mean([max(row) - min(row) for row in squared]), abs=1e-12)


def test_factors_in_words_have_the_scores_of_their_levels() -> None:
    words = np.array([["abcdef"[int(v)] for v in row] for row in FACTORS])
    mixed = np.array(FACTORS, dtype=object)
    mixed[:, 1] = words[:, 1]
    for factors in (words, mixed):
        found = evaluation.disentanglement(CODES["noisy"], factors, ("a", "b", "c"))
        same = evaluation.disentanglement(CODES["noisy"], FACTORS, ("a", "b", "c"))
        assert found.to_json() == same.to_json() and found.lines() == same.lines()


def test_one_code_or_one_factor_leaves_scores_out_and_says_so() -> None:
    found = evaluation.disentanglement(CODES["noisy"][:, :1], FACTORS[:, :1])
    missing = (found.mig, found.sap, found.modularity, found.factor_vae_score, found.beta_vae_score)
    assert missing == (None,) * 5 and found.dci.disentanglement == 1 == found.dci.completeness
    assert sum(text.startswith("none") for _, text in found.lines()) == 6


@pytest.mark.parametrize(
    "codes, factors, sentence",
    [
        (FACTORS, FACTORS[:-1], "factors have 239 rows, but codes have 240: give the same rows of both"),
        (FACTORS, np.c_[FACTORS, np.ones(240)], "factor 3 (counted from 0) is 1.0 in all rows"),
        (FACTORS, FACTORS[:, :0], "there are no factors"),
        (FACTORS, np.where(FACTORS == 5, np.nan, FACTORS), "factor 2 (counted from 0) has no value in row 25"),
        (np.where(FACTORS == 5, np.inf, FACTORS), FACTORS, "codes, row 25: a number is not finite"),
        (FACTORS[:, 0], FACTORS, "codes must be rows [n, d], got an array of shape [240]"),
        (FACTORS[:, :1], FACTORS, "MIG compares the two best dimensions of codes, but these codes have only one"),
        (FACTORS, [[f"x{row}"] for row in range(240)], "factor 0 (counted from 0) has a different word in every row"),
        (FACTORS[:3], FACTORS[:3], "there are 3 rows of codes and factors: give at least 4"),
    ],
)
def test_impossible_scores_are_refused_in_one_sentence(codes: np.ndarray, factors: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluation.mig(codes, factors)
    assert str(caught.value).startswith(sentence)


def test_options_out_of_range_are_refused() -> None:
    words = np.array([["abcdef"[int(v)] for v in row] for row in FACTORS])
    for sentence, call in {
        "modularity tells factors apart": lambda: evaluation.modularity(FACTORS, FACTORS[:, :1]),
        "predictor must be one of forest, boosting, lasso, got 'tree'": lambda: evaluation.dci(
            FACTORS, FACTORS, predictor="tree"
        ),
        "factor 0 (counted from 0) has words": lambda: evaluation.dci(FACTORS, words, predictor="lasso"),
        "neighbours must be at least 1, got 0": lambda: evaluation.infomec(FACTORS, FACTORS, neighbours=0),
        "votes must be at least 2, got 0": lambda: evaluation.factor_vae_score(FACTORS, FACTORS, votes=0),
        "size must be at least 1, got 0": lambda: evaluation.beta_vae_score(FACTORS, FACTORS, size=0),
    }.items():
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value).startswith(sentence)
