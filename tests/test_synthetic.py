"""Laws of the evaluation of synthetic tables: closed forms, scipy and naive loops check every measure, and the measures
show exactly the faults of generators whose faults are known.

Stochastic comparisons allow 4 standard errors: two-sided false alarm rate 6e-5 each. Every seed is fixed.
"""

from __future__ import annotations

import json
import warnings
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from latens.errors import InputError
from latens.evaluation import synthetic
from latens.evaluation.synthetic import (
    Frame,
    SyntheticEvaluation,
    associations,
    correlation_ratio,
    cramers_v,
    evaluate_synthetic,
    frame,
)

KINDS = {"age": "numeric", "income": "numeric", "city": "categorical", "risk": "categorical"}


def people(seed: int, n: int = 300, missing: float = 0.1) -> Frame:
    """Two correlated numbers and two categories that depend on them, each cell missing at random."""
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, n)
    income = np.exp(age / 20 + rng.normal(0, 0.3, n))
    city = (age > 50).astype(int) + rng.integers(0, 2, n)
    risk = ((income > 12) ^ (rng.random(n) < 0.1)).astype(int)
    columns: dict[str, np.ndarray] = {"age": age, "income": income, "city": city, "risk": risk}
    for name, kind in KINDS.items():
        columns[name] = np.where(rng.random(n) < missing, np.nan if kind == "numeric" else -1, columns[name])
        columns[name] = columns[name] if kind == "numeric" else columns[name].astype(int)
    return frame(columns, KINDS)


def changed(table: Frame, **columns: np.ndarray) -> Frame:
    return frame({**table.columns, **columns}, table.kinds)


def sound(found: SyntheticEvaluation) -> SyntheticEvaluation:
    """Check that a result is strict JSON without NaN, can be printed, and has a note wherever a figure is None."""
    stored = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(stored)["rows"] == found.rows
    lines = found.lines()
    assert all(isinstance(name, str) and isinstance(text, str) and "nan" not in text for name, text in lines)
    figures = [f for each in found.columns.values() for f in each.values()] + [found.dependence]
    figures += [*found.usefulness.values(), found.detection, *found.memorisation.values()]
    if not found.usefulness or any(None in (f.value, f.null) for f in figures):
        assert found.notes
    return found


@pytest.fixture(scope="module")
def tables() -> tuple[Frame, Frame]:
    return people(1), people(2)


@pytest.fixture(scope="module")
def perfect(tables: tuple[Frame, Frame]) -> SyntheticEvaluation:
    return sound(evaluate_synthetic(*tables, people(3)))


# Generators


def test_a_perfect_generator_gets_the_null_distribution(perfect: SyntheticEvaluation) -> None:
    """4 comparisons with 4 standard errors and one p-value: false alarm rate 4e-4; the other figures stay near the
    values that they have if nothing differs."""
    found, closer = perfect.detection, perfect.memorisation["closer"]
    for value, error in ((found.value, found.standard_error), (found.null, found.null_standard_error),
                         (closer.value, closer.standard_error)):  # fmt: skip
        assert value is not None and error is not None
        assert abs(value - 0.5) < 4 * error
    assert perfect.near_copies_p_value > 1e-4
    # one row in 100 has neither number and equals other such rows: Binomial(300, 0.01) exceeds 12 once in 100,000
    assert perfect.memorisation["copies"].value < 0.042 and perfect.memorisation["copies"].null < 0.042
    assert 0.01 <= perfect.memorisation["near_copies"].null < 0.042
    ratio = perfect.memorisation["closest"].value / perfect.memorisation["closest"].null
    assert 0.8 < ratio < 1.25
    for figure in (*perfect.means.values(), perfect.dependence):
        assert figure.value < 3 * figure.null + 0.01
    assert perfect.target == "risk" and not perfect.notes
    share = perfect.usefulness["accuracy"]
    # both classifiers are scored on about 270 rows: the difference of two accuracies near 0.8 has error below 0.035
    assert share.null > 0.7 and abs(share.value - share.null) < 4 * 0.035


def test_permuted_columns_keep_their_marginals_and_lose_their_dependence(
    tables: tuple[Frame, Frame], perfect: SyntheticEvaluation
) -> None:
    train, held_out = tables
    rng = np.random.default_rng(4)
    permuted = frame({name: rng.permutation(values) for name, values in train.columns.items()}, train.kinds)
    found = sound(evaluate_synthetic(train, held_out, permuted))
    for name, figure in found.means.items():
        assert figure.value == pytest.approx(0, abs=1e-12), name
        assert figure.null == perfect.means[name].null
    assert found.dependence.value > 5 * found.dependence.null
    assert found.detection.value > 0.5 + 8 * found.detection.standard_error
    assert found.usefulness["accuracy"].value < found.usefulness["accuracy"].null - 0.1
    assert found.usefulness["accuracy"].null == perfect.usefulness["accuracy"].null


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_copies_of_training_rows_are_found(tables: tuple[Frame, Frame], share: float) -> None:
    train, held_out = tables
    copied = np.arange(300) < 300 * share
    fresh = people(5)
    copy = frame({name: np.where(copied, values, fresh.columns[name]) for name, values in train.columns.items()}, KINDS)
    found = sound(evaluate_synthetic(train, held_out, copy))
    copies = found.memorisation["copies"]
    assert copies.value >= share and copies.value == pytest.approx(share, abs=0.02)
    assert copies.null < 0.042
    assert found.memorisation["near_copies"].value >= share
    assert found.near_copies_p_value < 1e-6
    assert found.memorisation["closer"].value > 0.5 + share * 0.4
    if share == 1:
        assert found.memorisation["closest"].value == 0
        assert found.detection.value < 0.5


def test_near_copies_of_training_rows_are_found(tables: tuple[Frame, Frame]) -> None:
    train, held_out = tables
    near = changed(train, age=train.columns["age"] + 1e-4)
    found = sound(evaluate_synthetic(train, held_out, near))
    assert found.memorisation["copies"].value < 0.15  # rows without an age are still copies
    assert found.memorisation["near_copies"].value > 0.9
    assert found.near_copies_p_value < 1e-6


def test_the_p_value_of_near_copies_is_valid() -> None:
    """Over 300 tables of a perfect generator, P(p <= a) <= a within 4 standard errors, also where distances are
    tied."""
    rng, p = np.random.default_rng(6), {"numeric": [], "categorical": []}
    for _ in range(300):
        for kind, found in p.items():
            parts = [rng.normal(size=200) if kind == "numeric" else rng.integers(0, 150, 200) for _ in range(3)]
            train, *others = (frame({"x": part}, {"x": kind}) for part in parts)
            found.append(synthetic._memorisation(*(synthetic._closest(each, train) for each in others))[1])
    for a in (0.05, 0.2, 0.5):
        for found in p.values():
            assert np.mean(np.array(found) <= a) <= a + 4 * np.sqrt(a * (1 - a) / 300)


def test_a_seed_gives_the_same_figures_and_column_order_does_not_matter() -> None:
    train, held_out, made = (people(seed, 50) for seed in range(3))
    turned = Frame(dict(reversed(made.columns.items())), made.kinds)
    first = evaluate_synthetic(train, held_out, made, seed=8).to_json()
    assert evaluate_synthetic(train, held_out, turned, seed=8).to_json() == first
    assert evaluate_synthetic(train, held_out, made, seed=9).to_json() != first


# One column


@pytest.mark.parametrize("shift", [-3.0, 0.01, 250.0])
def test_a_shifted_column_has_its_shift_as_the_distance(shift: float) -> None:
    train, held_out = people(7, 60), people(8, 60)
    found = evaluate_synthetic(train, held_out, changed(train, age=train.columns["age"] + shift))
    expected = abs(shift) / np.nanstd(train.columns["age"])
    assert found.columns["age"]["wasserstein"].value == pytest.approx(expected, rel=1e-9)
    assert found.columns["income"]["wasserstein"].value == 0
    assert found.means["wasserstein"].value == pytest.approx(expected / 2, rel=1e-9)


PAIRS = {
    "normal": lambda rng: (rng.normal(size=80), rng.normal(1, 2, 33)),
    "tied": lambda rng: (rng.integers(0, 4, 50) * 1.0, rng.integers(1, 6, 70) * 1.0),
    "apart": lambda rng: (rng.random(5), rng.random(9) + 4),
    "single": lambda rng: (np.array([0.0, 1.0]), np.array([0.3])),
}


@pytest.mark.parametrize("case", PAIRS)
def test_distances_of_numbers_are_those_of_scipy(case: str) -> None:
    a, b = PAIRS[case](np.random.default_rng(9))
    found = synthetic._distances(a, np.append(b, np.nan))
    assert found["wasserstein"] == pytest.approx(stats.wasserstein_distance(a, b) / a.std(), rel=1e-9)
    assert found["kolmogorov_smirnov"] == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-12)
    assert found["missing"] == pytest.approx(1 / (len(b) + 1))


def test_total_variation_includes_unseen_categories() -> None:
    a = np.repeat([0, 1, 2, -1], [5, 3, 2, 10])
    b = np.repeat([0, 1, 3, -1], [1, 3, 6, 30])
    found = synthetic._distances(a, b)
    assert found["total_variation"] == pytest.approx((abs(0.5 - 0.1) + 0 + 0.2 + 0.6) / 2)
    assert found["missing"] == pytest.approx(0.25)


# Pairs of columns


def naive_cramers_v(a: np.ndarray, b: np.ndarray) -> float:
    table = np.array([[np.sum((a == i) & (b == j)) for j in np.unique(b)] for i in np.unique(a)])
    n, (r, k) = table.sum(), table.shape
    phi = stats.chi2_contingency(table, correction=False).statistic / n - (r - 1) * (k - 1) / (n - 1)
    rows, columns = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return float(np.sqrt(max(0, phi) / (min(rows, columns) - 1)))


@pytest.mark.parametrize("levels", [(2, 2), (3, 7), (12, 4)])
@pytest.mark.parametrize("mixed", [0.0, 0.3, 1.0])
def test_cramers_v_equals_its_formula(levels: tuple[int, int], mixed: float) -> None:
    rng = np.random.default_rng(10)
    a = rng.integers(0, levels[0], 300)
    b = np.where(rng.random(300) < mixed, rng.integers(0, levels[1], 300), a % levels[1])
    found = cramers_v(a * 1000, b + 5)
    assert found == pytest.approx(min(1, naive_cramers_v(a, b)), abs=1e-12)
    assert found == pytest.approx(cramers_v(b, a), abs=1e-12)
    if mixed == 0 and levels[0] <= levels[1]:
        assert found == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("levels", [2, 9])
def test_the_correlation_ratio_equals_its_formula(levels: int) -> None:
    rng = np.random.default_rng(levels)
    codes = rng.integers(0, levels, 120) * 10**12
    values = rng.normal(size=120) + codes % 7
    means = {code: values[codes == code].mean() for code in np.unique(codes)}
    between = sum((means[code] - values.mean()) ** 2 for code in codes)
    assert correlation_ratio(codes, values) == pytest.approx(np.sqrt(between / ((values - values.mean()) ** 2).sum()))
    assert correlation_ratio(codes, values * 1e-200) == pytest.approx(correlation_ratio(codes, values))


def test_associations_are_those_of_scipy_where_nothing_is_missing() -> None:
    table = people(11, 200, missing=0.0)
    x, found = table.columns, associations(table, list(KINDS))
    for (i, a), (j, b) in combinations(enumerate(KINDS), 2):
        if KINDS[b] == "numeric":
            expected = abs(stats.spearmanr(x[a], x[b]).statistic)
        elif KINDS[a] == "numeric":
            h = stats.kruskal(*(x[a][x[b] == code] for code in np.unique(x[b]))).statistic
            expected = np.sqrt(h / (len(x[a]) - 1))
        else:
            expected = naive_cramers_v(x[a], x[b])
        assert found[i, j] == found[j, i] == pytest.approx(expected, abs=1e-10)


def test_associations_use_rows_where_both_are_observed() -> None:
    rank = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    columns = {"a": rank, "b": np.array([2.0, 1.0, np.nan, 7.0, 9.0]), "c": np.ones(5)}
    table = frame(columns, dict.fromkeys("abc", "numeric"))
    found = associations(table, ["a", "b", "c"])
    ranks = stats.rankdata([1, 2, 3, 5])[[0, 1, 3]], stats.rankdata([2, 1, 7, 9])[[0, 1, 3]]
    assert found[0, 1] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert np.isnan(found[2]).all() and np.isnan(np.diag(found)).all()


# Awkward tables


def awkward(seed: int, rows: int, **more: object) -> Frame:
    rng = np.random.default_rng(seed)
    columns = {
        "constant": np.full(rows, 0.1), "empty": np.full(rows, np.nan), "one level": np.zeros(rows, int),
        "no level": np.full(rows, -1), "many": rng.integers(0, 10**15, rows), "huge": rng.normal(size=rows) * 1e307,
        "tiny": rng.normal(size=rows) * 1e-310, "flag": rng.random(rows) < 0.5, "seed": np.full(rows, float(seed)),
        "level": np.full(rows, seed), "x": rng.normal(size=rows),
    } | more  # fmt: skip
    return frame(columns, {name: "numeric" if values.dtype.kind == "f" else "categorical"
                           for name, values in columns.items()})  # fmt: skip


TARGETS = (None, "x", "many", "huge", "empty", "no level", "level")
AWKWARD = [((2, 2, 2), None), ((3, 7, 2), "x"), ((200, 200, 200), None), *(((60, 5, 40), name) for name in TARGETS)]


@pytest.mark.parametrize(("rows", "target"), AWKWARD, ids=str)
def test_awkward_tables_give_figures_or_notes(rows: tuple[int, int, int], target: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = sound(evaluate_synthetic(*(awkward(i, n) for i, n in enumerate(rows)), target=target))
    assert found.columns["constant"]["wasserstein"].value is None
    assert found.columns["empty"]["kolmogorov_smirnov"].value is None
    assert found.columns["no level"]["total_variation"].value is None
    assert found.columns["level"]["total_variation"].value == 1


def test_tables_of_one_column_have_figures_and_notes() -> None:
    for kind, values in (("numeric", np.arange(9.0)), ("categorical", np.arange(9))):
        found = sound(evaluate_synthetic(*[frame({"x": values}, {"x": kind})] * 3))
        assert found.usefulness == {} and found.pairs == 0 and len(found.notes) == 2


def test_only_some_pairs_of_many_columns_and_some_of_many_rows_are_used() -> None:
    rng = np.random.default_rng(12)
    tables = [frame({f"x{j}": rng.normal(size=200) for j in range(60)}, {f"x{j}": "numeric" for j in range(60)})
              for _ in range(3)]  # fmt: skip
    found = sound(evaluate_synthetic(*tables, rows=50))
    assert found.pairs == 50 * 49 // 2
    assert found.rows == {"training": 50, "held-out": 50, "synthetic": 50}
    assert len(found.columns) == 60


def test_a_numeric_target_is_scored_by_its_explained_variance() -> None:
    """For y = 2 x + noise of variance 1, R^2 = 4/5 for the true line; a table with the opposite sign does worse than a
    constant."""
    rng = np.random.default_rng(13)

    def line(slope: float) -> Frame:
        x = rng.normal(size=300)
        return frame({"x": x, "y": slope * x + rng.normal(size=300)}, {"x": "numeric", "y": "numeric"})

    found = sound(evaluate_synthetic(line(2), line(2), line(-2)))
    assert found.target == "y" and list(found.usefulness) == ["r2"]
    assert found.usefulness["r2"].value < 0 and 0.6 < found.usefulness["r2"].null < 0.85


# Refusals

BAD_FRAMES = {
    "no columns": ({}, {}, "no columns"),
    "not a kind": ({"a": np.zeros(2)}, {}, "'a'.*kind"),
    "no column": ({"a": np.zeros(2)}, {"a": "numeric", "b": "numeric"}, "'b'"),
    "other kind": ({"a": np.zeros(2)}, {"a": "ordinal"}, "'a'.*kind"),
    "two axes": ({"a": np.zeros((2, 2))}, {"a": "numeric"}, "'a'.*shape"),
    "lengths": ({"a": np.zeros(2), "b": np.zeros(3)}, {"a": "numeric", "b": "numeric"}, "'b'.*shape"),
    "text": ({"a": np.array(["x"])}, {"a": "numeric"}, "'a' holds"),
    "objects": ({"a": np.array([None])}, {"a": "categorical"}, "'a' holds"),
    "real codes": ({"a": np.zeros(2)}, {"a": "categorical"}, "'a' holds"),
    "infinite": ({"a": np.array([0.0, np.nan, -np.inf])}, {"a": "numeric"}, "'a', row 2"),
    "low code": ({"a": np.array([0, -1, 3, -2])}, {"a": "categorical"}, "'a', row 3"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frames_are_refused(case: str) -> None:
    columns, kinds, words = BAD_FRAMES[case]
    with pytest.raises(InputError, match=words):
        frame(columns, kinds)


def test_tables_that_do_not_fit_are_refused(tables: tuple[Frame, Frame]) -> None:
    train, held_out = tables
    fewer = Frame({name: train.columns[name] for name in ("age", "city")}, {"age": "numeric", "city": "categorical"})
    for wrong, words in ((fewer, "'income' is absent"), (train.take(slice(1)), "rows must be at least 2")):
        with pytest.raises(InputError, match=words):
            evaluate_synthetic(train, held_out, wrong)
    for more, words in (({"target": "weight"}, "'weight'"), ({"rows": 1}, "rows"), ({"seed": -1}, "seed")):
        with pytest.raises(InputError, match=words):
            evaluate_synthetic(train, held_out, train, **more)


# The oracle


def test_the_table_tells_the_oracle_from_the_samples(tables: tuple[Frame, Frame]) -> None:
    """With a perfect likelihood and a density that loses all dependence, the oracle equals held-out rows, and trees,
    trend and usefulness detect the samples. Ranges are those of the training rows."""
    train, held_out = tables
    fresh, rng = people(21), np.random.default_rng(22)
    loose = frame({name: rng.permutation(values) for name, values in fresh.columns.items()}, KINDS)
    found = sound(evaluate_synthetic(train, held_out, loose, oracle=fresh))
    floor, oracle, samples = (found.fidelity[name] for name in ("held-out rows", "oracle", "samples"))
    assert list(found.fidelity) == ["held-out rows", "oracle", "samples"]
    assert oracle.trees < 0.65 < samples.trees and oracle.trend < 0.1 < samples.trend
    assert samples.usefulness < oracle.usefulness - 0.1 and floor.closer == 0.5
    assert (floor.trees, samples.trees) == (found.detection.null, found.detection.value)
    accuracy = found.usefulness["accuracy"]
    assert (floor.usefulness, samples.usefulness) == (accuracy.null, accuracy.value)
    assert samples.shape == pytest.approx(oracle.shape, abs=1e-12)
    table = found.table()
    assert [row[0] for row in table] == ["", *found.fidelity] and len({len(row) for row in table}) == 1
    assert sound(evaluate_synthetic(train, held_out, loose)).fidelity.keys() == {"held-out rows", "samples"}


def test_shape_counts_gaps_and_range_counts_cells() -> None:
    """The table has a column of numbers with a fifth missing and one of levels; figures computed by hand check it."""
    n = 500
    x, level = np.arange(n) / n, np.arange(n) % 2
    real = frame({"x": x, "level": level}, {"x": "numeric", "level": "categorical"})
    filled = {"x": np.where(np.arange(n) % 5 == 0, np.nan, x), "level": np.where(np.arange(n) % 4 == 0, 7, level)}
    made = frame({**filled, "x": np.where(np.arange(n) == 1, 9.0, filled["x"])}, real.kinds)
    assert synthetic._shape(real, made) == pytest.approx((0.2 + 0.25) / 2, abs=0.003)
    assert synthetic._out_of_range(real, made) == pytest.approx((1 + 125) / (400 + 500))
    assert synthetic._shape(real, real) == synthetic._out_of_range(real, real) == 0
