"""Laws of strangeness: surprises are shares, distances equal those of loops, and a tight group of rows stays
strange."""

from __future__ import annotations

import numpy as np
import pytest

from latens.evaluation.strangeness import MEMBERS, SUBSETS, Cells, Distance, Surprise, Views


def numbers(values: np.ndarray) -> Cells:
    return Cells(values, np.empty((len(values), 0)))


@pytest.mark.parametrize("n", [20, 99, 1000])
@pytest.mark.parametrize("kind", ["normal", "tied", "constant"])
def test_surprises_are_shares_and_never_fall(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    known = {"normal": rng.normal(size=n).round(4), "tied": rng.integers(0, 5, n) / 1.0, "constant": np.ones(n)}[kind]
    surprise, new = Surprise(known), np.sort(np.append(rng.normal(size=200).round(4) * 3, known))
    found, start = surprise(new), np.sort(known)[n - max(2, int(0.1 * n))]
    naive = np.array([-np.log((1 + sum(k >= s for k in known)) / (n + 1)) for s in new])
    assert found[new <= start] == pytest.approx(naive[new <= start], abs=1e-12)
    assert (np.diff(found) >= 0).all() and (np.diff(found)[np.diff(new) * (new[1:] > start) > 0] > 0).all()
    assert surprise(np.array([np.inf]))[0] == np.inf and surprise(np.array([-np.inf]))[0] == 0


def test_surprises_of_an_exponential_law_go_on_as_its_tail() -> None:
    """t(s) = s for Exp(1). With 20,000 references, the mean excess of 2,000 has an error of 2.2 % and t(q) one of 1 %:
    four of each at s = 8 are 0.6 nats (false alarm rate 6e-5)."""
    found = Surprise(np.random.default_rng(0).exponential(size=20_000))(np.array([1.0, 4.0, 8.0]))
    assert found == pytest.approx([1.0, 4.0, 8.0], abs=0.6)


@pytest.mark.parametrize("alike", [False, True])
def test_the_distance_is_that_of_a_loop(alike: bool) -> None:
    rng = np.random.default_rng(3)
    values, levels = rng.normal(size=(100, 3)) * [1, 10, 0.1], rng.integers(0, 3, (100, 1)).astype(float)
    new, marks = rng.normal(size=(9, 3)), np.array([[0.0], [1], [2], [-1], [np.nan], [0], [1], [2], [7]])
    new[2, 1] = np.nan
    distance = Distance(Cells(values, levels), alike)

    def placed(x: np.ndarray, level: np.ndarray) -> np.ndarray:
        flags = np.stack([level[:, 0] == 0, level[:, 0] == 1, level[:, 0] == 2, ~np.isin(level[:, 0], (0, 1, 2))], 1)
        return np.concatenate([x, np.where(np.isnan(level), np.nan, flags)], 1)

    known = placed(values, levels)
    middle, spread = np.median(known, 0), np.quantile(known, 0.9, axis=0) - np.quantile(known, 0.1, axis=0)
    unit = [s / 2.563 if s else np.append(c, m + 1).std() for s, c, m in zip(spread, known.T, middle)]
    unit = np.full(7, known.std()) if alike else np.array(unit)
    order, points, total = np.random.default_rng(0), placed(new, marks), np.zeros(9)
    for members in [order.permutation(100)[:MEMBERS] for _ in range(SUBSETS)]:
        for i in range(9):
            total[i] += min(
                sum(0 if np.isnan(a) and m == b else abs((m if np.isnan(a) else a) - b) / u
                    for a, b, u, m in zip(points[i], known[j], unit, middle))
                for j in members
            )  # fmt: skip
    assert distance(Cells(new, marks)) == pytest.approx(total / SUBSETS, rel=1e-9)


def test_a_level_never_seen_is_farther_than_any_level() -> None:
    levels = np.repeat([0.0, 1.0, 2.0], [900, 95, 5])[:, None]
    distance = Distance(Cells(np.zeros((1000, 0)), levels))
    found = distance(Cells(np.zeros((4, 0)), np.array([[0.0], [1.0], [2.0], [-1.0]])))
    assert (np.diff(found) >= 0).all() and found[3] > found[2] > 0


def test_a_tight_group_that_a_density_knows_stays_strange() -> None:
    """2 % of the samples lie within 0.05 of one point, where the density is highest, so -ln p(x) calls them usual."""
    rng, dims = np.random.default_rng(0), 4
    usual, group = rng.normal(size=(2000, dims)), 4 + 0.05 * rng.normal(size=(40, dims))
    samples = np.concatenate([usual, group])[rng.permutation(2040)]

    def score(x: np.ndarray) -> np.ndarray:
        each = [np.log(p) - 0.5 * np.square((x - m) / s).sum(1) - dims * np.log(s) for p, m, s in
                ((0.98, 0.0, 1.0), (0.02, 4.0, 0.05))]  # fmt: skip
        return -np.logaddexp(*each)

    views = Views(numbers(samples), score(samples[1020:]))
    rows, members = rng.normal(size=(500, dims)), 4 + 0.05 * rng.normal(size=(50, dims))
    assert np.median(score(members)) < np.median(score(rows))
    assert np.median(views(numbers(members), score(members))) > np.quantile(views(numbers(rows), score(rows)), 0.9)
