"""Rows that a single value makes strange: impossible, unseen and out-of-range values are named, cost what is
documented, and do not affect the scores of other rows, for all kinds of files, in memory and streamed."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from commanding import done, figures, refused

import latens
from latens import distributions as d
from latens.cli.commands import inputs, using
from latens.data.rows import rows_like
from latens.data.tables.frames import as_table
from latens.evaluation.anomaly import contributions
from latens.runs import imputing, scoring
from latens.schema import BEYOND, IMPOSSIBLE, UNSEEN, Column

N, HELD = 400, 40
CHANGES = [  # column, value, kind
    ("x", "abc", IMPOSSIBLE), ("x", math.inf, IMPOSSIBLE), ("x", -math.inf, IMPOSSIBLE), ("x", 1e39, IMPOSSIBLE),
    ("x", 1e6, BEYOND), ("x", -50.0, BEYOND), ("price", 0.0, IMPOSSIBLE), ("price", -3.0, IMPOSSIBLE),
    ("price", "free", IMPOSSIBLE), ("price", 1e9, BEYOND), ("count", 2.5, IMPOSSIBLE), ("count", -1.0, IMPOSSIBLE),
    ("count", 10_000.0, BEYOND), ("share", 1.5, IMPOSSIBLE), ("share", -0.1, IMPOSSIBLE),
    ("day", "2021-02-31", IMPOSSIBLE), ("day", "soon", IMPOSSIBLE), ("day", "1900-01-01", BEYOND),
    ("colour", "purple", UNSEEN), ("flag", "maybe", UNSEEN), ("grade", "9", UNSEEN), ("grade", "A", UNSEEN),
    ("word", "other", UNSEEN), ("seven", 8.0, UNSEEN), ("seven", "many", UNSEEN), ("leap", "2020-03-01", UNSEEN),
    ("empty", "text", UNSEEN),
]  # fmt: skip
CONSTANT = ("word", "seven", "leap", "empty")


def rows(count: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "x": rng.normal(size=count).round(3), "price": rng.lognormal(2, 0.7, count).round(2),
        "count": rng.poisson(5, count), "share": np.r_[0.001, 0.999, rng.uniform(0, 1, count - 2)],
        "day": pd.date_range("2020-01-01", periods=count).strftime("%Y-%m-%d"),
        "colour": rng.choice(["red", "green", "blue"], count, p=[0.7, 0.28, 0.02]),
        "flag": rng.choice(["yes", "no"], count), "grade": rng.integers(1, 5, count), "word": "same", "seven": 7,
        "leap": "2020-02-29", "empty": np.nan,
    })  # fmt: skip


def changed(changes) -> pd.DataFrame:
    """The first rows, each with one changed value except the last three."""
    table = rows().head(len(changes) + 3).astype(object)
    for row, (column, value, _) in enumerate(changes):
        table.loc[row, column] = value
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        rows().to_csv("t.csv", index=False)
        done("fit", "t.csv", "--out", "run", "--epochs", "3")
        rows().head(len(CHANGES) + 3).to_csv("usual.csv", index=False)
        done("score", "run", "usual.csv", "--out", "usual-scores.csv")
        changed(CHANGES).to_csv("odd.csv", index=False)
        yield place


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_odd_rows_are_strangest_and_named_and_the_others_keep_their_scores(here):
    said = figures("score", "run", "odd.csv", "--out", "s.csv")
    usual, found = pd.read_csv("usual-scores.csv"), pd.read_csv("s.csv")
    assert len(found) == len(CHANGES) + 3 and "reason" not in usual
    for row, (column, value, kind) in enumerate(CHANGES):
        one, was = found.iloc[row], usual.iloc[row]
        case = f"{column} = {value}: {dict(one)}"
        assert one.p_value == pytest.approx(1 / (HELD + 1)) and one.column_1 == column, case
        assert one.reason.startswith(f"{column} is "), case
        assert (one.log_px == -math.inf) == (kind == IMPOSSIBLE) == (one.strangeness == math.inf), case
        assert one.excess_1 > 3, case
        if column in CONSTANT:  # the documented cost, to the last digit
            assert one.log_px - was.log_px == pytest.approx(-math.log(N - HELD + 2), abs=1e-4), case
    np.testing.assert_allclose(found.log_px[-3:], usual.log_px[-3:], atol=1e-4)
    assert found.reason[-3:].isna().all()
    impossible = sum(kind == IMPOSSIBLE for *_, kind in CHANGES)
    possible = found.log_px[np.isfinite(found.log_px)]
    assert said["impossible"] == impossible == len(found) - len(possible)
    assert said["mean"] == pytest.approx(possible.mean()) and said["strange"] == (found.p_value <= 1 / 41).sum()
    assert said["standard_error"] == pytest.approx(possible.sem())


def test_all_kinds_of_input_give_the_same_scores_and_reasons(here, monkeypatch):
    """The rows come as csv, Parquet (in memory and streamed in chunks), pandas, polars and a path, with values that
    all of these can hold."""
    import polars as pl

    can = [each for each in CHANGES if each[0] in ("x", "price", "count", "share", "colour", "word", "seven", "leap")]
    can = [each for each in can if not (isinstance(each[1], str) and each[0] in ("x", "price", "seven"))]
    table = changed(can).infer_objects()
    table.to_csv("can.csv", index=False)
    table.to_parquet("can.parquet")
    said = [figures("score", "run", f"can.{kind}", "--out", f"{kind}.csv") for kind in ("csv", "parquet")]
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "is_large", lambda data: True)
        patch.setattr(using, "ROWS", 7)
        patch.setattr(using, "chunk_rows", lambda *given: (1, 1))
        said.append(figures("score", "run", "can.parquet", "--out", "streamed.csv"))
    assert all(one["warnings"] == said[0]["warnings"] and one["impossible"] == said[0]["impossible"] for one in said)
    assert [one["mean"] for one in said] == pytest.approx([said[0]["mean"]] * 3)
    vae = latens.load("run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = [vae.score_table(table), vae.score_table(pl.from_pandas(table)).to_pandas()]
        frames.append(vae.score_table("can.csv").to_pandas())
        scores = vae.score_samples(table)
    first = pd.read_csv("csv.csv")
    np.testing.assert_allclose(scores, first.log_px, rtol=1e-5)
    for found in [pd.read_csv("parquet.csv"), pd.read_csv("streamed.csv"), *frames]:
        assert list(found.columns) == list(first.columns)
        for name in first:
            if first[name].dtype.kind == "f":
                np.testing.assert_allclose(found[name].astype(float), first[name], rtol=1e-4, atol=1e-3, err_msg=name)
            else:
                assert found[name].fillna("").tolist() == first[name].fillna("").tolist(), name


def test_python_says_what_the_command_prints(here):
    vae, table = latens.load("run"), changed([("price", 0.0, IMPOSSIBLE), ("colour", "purple", UNSEEN)]).infer_objects()
    with pytest.warns(UserWarning, match="1 row is impossible"):
        scores = vae.score_samples(table)
    with pytest.warns(UserWarning, match="column 'colour': 1 cell with values not seen in the fit"):
        assert vae.score(table) == pytest.approx(scores[1:].mean()) and scores[0] == -math.inf
    with pytest.warns(UserWarning):
        assert vae.anomaly_scores(table)[0] == math.inf


def test_a_level_never_seen_is_stranger_than_any_level(here):
    vae, table = latens.load("run"), rows().head(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [vae.anomaly_scores(table.assign(colour=each)) for each in ("red", "green", "blue", "purple")]
        bare = vae.anomaly_scores(table.assign(colour=None))
    assert (levels[3] > np.max(levels[:3], 0) + 0.3).all()
    assert (levels[3] - bare >= math.log(N - HELD + 3 + 1) - 1e-9).all()  # the mass that add-one smoothing leaves


def test_the_least_likely_level_is_that_of_bayes_rule(here):
    run = latens.load("run").run_
    some = rows_like(as_table(rows().head(4).assign(colour=None))[0], run.schema)
    cell = run.schema.names.index("colour")
    found = scoring.least_likely(run.model, some.inside, None, cell, 3, k=50)
    with torch.no_grad(), scoring.shared():
        scoring.reseed(0, scoring.Key.SCORE_TERMS)
        draw = run.model.eval().draw(some.inside, 50)
    for row in range(4):
        w = np.exp(draw.log_w[:, row].double().numpy() - draw.log_w[:, row].max().item())
        each = []
        for level in range(3):
            x = some.inside.clone()
            x[:, cell] = level
            each.append(-np.log((w / w.sum()) @ draw.px.cells(x)[:, row, cell].double().exp().numpy()))
        assert found[row] == pytest.approx(max(each), rel=1e-5)


def test_a_single_impossible_row_has_a_score_and_no_mean(here):
    changed([("price", 0.0, IMPOSSIBLE)]).head(1).to_csv("one.csv", index=False)
    said = figures("score", "run", "one.csv", "--out", "one.npy")
    assert said["mean"] is None and said["impossible"] == 1 and np.load("one.npy").tolist() == [-math.inf]
    assert "none is possible" in done("score", "run", "one.csv", "--out", "one.npy").out


@pytest.mark.parametrize(("column", "value"), [("price", 0.0), ("x", "word"), ("day", "monday"), ("count", 0.5)])
def test_a_column_of_impossible_values_is_refused_by_name(here, column, value):
    rows().head(20).assign(**{column: value}).to_csv("other.csv", index=False)
    assert repr(column) in refused("score", "run", "other.csv", "--out", "s.csv")


def test_the_summary_says_that_p_values_have_a_floor(here):
    said = done("score", "run", "t.csv", "--out", "s.csv").out
    assert "with 40 held-out rows the smallest possible p is 1/41 = 0.0244" in said


@pytest.mark.parametrize(("kind", "number", "sign"), [
    ("continuous", 9.0, 1), ("continuous", -9.0, -1), ("positive", 1e4, 1), ("positive", 1e-4, -1), ("count", 500.0, 1),
])  # fmt: skip
def test_the_fall_beyond_the_range_is_that_of_a_normal_law(kind, number, sign):
    column = Column("a", kind, "double", low=0.2, high=20.0, shift=0.5, unit=0.8)
    column = column if kind != "continuous" else Column("a", kind, "double", low=-2.0, high=3.0, shift=0.5, unit=0.8)
    into = {"continuous": float, "positive": math.log, "count": math.log1p}[kind]
    normal = torch.distributions.Normal(torch.tensor(0.5).double(), 0.8)
    end = column.high if sign > 0 else column.low
    law = [normal.log_prob(torch.tensor(into(value)).double()).item() for value in (end, number)]
    assert column.fall(number) == pytest.approx(law[0] - law[1])
    assert column.fall(1.0) == 0


def test_columns_that_must_be_named_come_first_whatever_their_excess():
    terms = np.array([[1.0, 9.0, np.inf], [np.nan, 2.0, 8.0]])
    first = np.array([[True, False, False], [False, True, False]])
    columns, excess = contributions(terms, np.array([np.nan, 1.0, 1.0]), 3, first)
    assert columns.tolist() == [[0, 2, 1], [1, 2, -1]]
    assert excess[0].tolist() == [1.0, np.inf, 8.0] and excess[1, :2].tolist() == [1.0, 7.0]


# Arrays


def test_a_constant_has_no_density_and_another_value_has_a_stated_cost():
    torch.manual_seed(0)
    base = d.Normal(torch.randn(5, 3).double(), torch.tensor(0.4).double())
    shift, unit = torch.tensor([1.0, 7.0, 0.0]).double(), torch.tensor([2.0, 1.0, 0.5]).double()
    varying, x = torch.tensor([True, False, True]), torch.randn(5, 3).double()
    x[:3, 1] = 7
    plain, kept = d.InUnits(base, shift, unit), d.Reproduced(base, shift, unit, varying, 4.2)
    found = kept.log_prob(x)
    assert torch.equal(found[:, varying], plain.log_prob(x)[:, varying])
    assert found[:, 1].tolist() == [0, 0, 0, -4.2, -4.2]
    assert (kept.sample()[:, 1] == 7).all() and (kept.mean[:, 1] == 7).all() and (kept.variance[:, 1] == 0).all()
    assert torch.equal(kept.mean[:, varying], plain.mean[:, varying])


@pytest.mark.parametrize("value", [0.0, 0.1, 1.6e9])
def test_a_changed_constant_of_an_array_costs_what_laplace_says(value):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    x[:, 1] = value
    vae = latens.VAE(2, epochs=2, random_state=0, validation=0.0).fit(x)
    other = x.copy()
    other[5, 1] = value + 1000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apart = vae.score_samples(x) - vae.score_samples(other)
        reasons = vae.score_table(other)["reason"].to_pylist()
    np.testing.assert_allclose(apart, np.where(np.arange(60) == 5, math.log(62), 0), atol=1e-5)
    assert [row for row, reason in enumerate(reasons) if reason and "always" in reason] == [5]
    assert (vae.sample(3, random_state=0)[:, 1] == value).all()


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_folds_in_which_a_column_is_constant_stay_comparable(frame, scale):
    from sklearn.model_selection import KFold, cross_val_score

    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=(90, 3)), np.zeros((90, 2))]
    x[[5, 70], 3], x[10, 4] = scale, scale
    data = pd.DataFrame(x, columns=list("abcde")) if frame else x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cross_val_score(latens.VAE(2, epochs=4, random_state=0), data, cv=KFold(3), error_score="raise")
    assert np.isfinite(found).all() and np.median(found) - found.min() < 12, found


@pytest.mark.parametrize(("kind", "values", "bad"), [
    ("continuous", lambda r: r.normal(size=(40, 4)), [math.inf, -math.inf, 1e39]),
    ("levels", lambda r: r.integers(0, 9, (40, 4)), [0.5, -1.0, 99.0]),
    ("binary", lambda r: r.integers(0, 2, (40, 4)), [0.5, 2.0, -1.0]),
])  # fmt: skip
def test_impossible_rows_of_arrays_do_not_change_other_scores(kind, values, bad):
    x = values(np.random.default_rng(0))
    vae = latens.VAE(2, epochs=1, random_state=0, kind=kind).fit(x)
    other = x.astype(float)
    for row, value in enumerate(bad):
        other[row, 1] = value
    with pytest.warns(UserWarning, match="3 rows are impossible"):
        found = vae.score_samples(other)
    assert (found[:3] == -math.inf).all()
    np.testing.assert_allclose(found[3:], vae.score_samples(x)[3:], atol=1e-4)
    with pytest.warns(UserWarning):
        reasons = vae.score_table(other)["reason"].to_pylist()
    assert all(reason.startswith("column_2 is ") for reason in reasons[:3])
    with pytest.raises(ValueError, match=r"infinity|row \d"):  # commands that do not score rows refuse as before
        vae.transform(other)
    with pytest.raises(latens.InputError):  # no row is possible: these are data of another kind
        vae.score_samples(np.full((20, 4), bad[0]))


# Filled cells


def test_the_count_of_filled_cells_is_that_of_the_output(here, monkeypatch):
    table = rows(60).head(30).astype(object)
    table.loc[::3, "x"] = table.loc[::4, "colour"] = table.loc[::5, "word"] = table.loc[::7, "seven"] = None
    table.loc[1, "colour"] = "purple"
    table.to_csv("gaps.csv", index=False)
    said = figures("impute", "run", "gaps.csv", "--out", "filled.csv", "--k", "5", "--uncertainty", "u.csv")
    before, after = pd.read_csv("gaps.csv"), pd.read_csv("filled.csv")
    gone = before.isna().sum() - after.isna().sum()
    assert said["filled"] == {name: count for name, count in gone.items() if count} and set(said["filled"]) == {
        "x", "colour", "word", "seven"
    }  # fmt: skip
    assert after.colour[1] == "purple" and np.isnan(pd.read_csv("u.csv").colour[1])
    assert any("are unchanged" in line for line in said["warnings"])
    frame = pd.read_csv("gaps.csv")
    run = latens.load("run").run_
    assert latens.load("run").impute(frame, k=5).isna().sum().to_dict() == after.isna().sum().to_dict()
    assert imputing.impute(run, rows_like(as_table(frame)[0], run.schema), k=5).missing == said["filled"]
    frame.to_parquet("gaps.parquet")
    monkeypatch.setattr(inputs, "is_large", lambda data: True)
    streamed = figures("impute", "run", "gaps.parquet", "--out", "streamed.csv", "--k", "5")
    assert streamed["filled"] == said["filled"]


@pytest.mark.parametrize("cell, reason", [
    ({"price": "6995.094812"}, "price is 6995.094812, above the largest value seen in the fit ($6,995.09)"),
    ({"n": "2.5"}, "n is 2.5, a level that was never seen in the fit"),
])  # fmt: skip
def test_a_reason_shows_in_full_the_values_that_rounding_would_hide(tmp_path, monkeypatch, cell, reason):
    monkeypatch.chdir(tmp_path)
    z = np.random.default_rng(0).normal(size=60)
    prices = [f"${p:,.2f}" for p in [*abs(z[1:] * 900), 6995.09]]
    frame = pd.DataFrame({"price": prices, "n": np.arange(60) % 3, "x": z})
    frame.to_csv("t.csv", index=False)
    done("fit", "t.csv", "--out", "r", "--epochs", "1", "--latent-dim", "1")
    query = frame.astype(str)
    for name, text in cell.items():
        query.loc[3, name] = text
    query.to_csv("q.csv", index=False)
    done("score", "r", "q.csv", "--out", "o.csv", "--k", "3")
    assert pd.read_csv("o.csv")["reason"][3] == reason


def test_the_cell_that_is_not_a_number_is_named_instead_of_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=60), "n": np.arange(60) % 3})
    frame.to_parquet("t.parquet")
    done("fit", "t.parquet", "--out", "r", "--epochs", "1", "--latent-dim", "1")
    texts = ["abc" if row == 4 else str(x) for row, x in enumerate(frame["x"])]
    frame.assign(x=texts).to_parquet("q.parquet")
    assert "row 4 (counted from 0): column 'x' has 'abc'" in refused("impute", "r", "q.parquet", "--out", "o.parquet")
    names = frame.rename(columns={"x": "X"})
    names.to_parquet("q.parquet")
    said = refused("encode", "r", "q.parquet", "--out", "o.parquet")
    assert "has no column 'x', which the model was fitted to (it has X, n): rename 'X' if it is the same" in said
