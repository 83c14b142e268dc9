"""Samples of tables have gaps as often and in the same rows as the data, in memory and from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from commanding import done

import latens
from latens.data.rows import rows_like
from latens.runs import gaps
from latens.runs.outputs import drawn_again

N = 600
r = np.random.default_rng(3)


def structural() -> pd.DataFrame:
    drug = r.choice(["a", "b", "none"], N)
    panel = r.random(N) < 0.4
    age = r.integers(18, 80, N)
    return pd.DataFrame({
        "drug": drug,
        "dose": np.where(drug == "none", np.nan, r.normal(50, 8, N).round(1)),
        "iron": np.where(panel, np.nan, r.normal(size=N).round(2)),  # columns that are measured together or not at all
        "zinc": np.where(panel, np.nan, r.normal(size=N).round(2)),
        "age": age,
        "pension": np.where(age < 60, np.nan, r.lognormal(7, 0.3, N).round()),
        "kind": np.where(r.random(N) < 0.2, None, r.choice(["x", "y"], N)),
        "when": pd.Series(pd.date_range("2021-01-01", periods=N)).where(r.random(N) > 0.3),
    })  # fmt: skip


@pytest.mark.parametrize("recipe", ["vae", latens.Recipe("vae", missing="mnar")], ids=["mar", "mnar"])
def test_cells_are_missing_as_often_and_where_the_data_have_gaps(recipe: str | latens.Recipe) -> None:
    data = structural()
    vae = latens.VAE(recipe=recipe, random_state=0, epochs=10).fit(data)
    new = vae.sample(800, random_state=1)
    for name in data:
        assert new[name].isna().mean() == pytest.approx(data[name].isna().mean(), abs=0.12), name
    assert new.loc[new.drug == "none", "dose"].isna().all() and not new.loc[new.drug != "none", "dose"].isna().any()
    assert (new.iron.isna() == new.zinc.isna()).mean() > 0.97
    young, old = (new.loc[rows, "pension"].isna().mean() for rows in (new.age < 55, new.age > 65))
    assert young > 0.95 and old < 0.1
    assert dict(new.dtypes) == dict(data.dtypes)
    assert not vae.sample(50, gaps=False, random_state=1).isna().any(axis=None)
    assert not vae.sample(50, mean=True, random_state=1).isna().any(axis=None)
    assert vae.impute(data.head(20), k=10).notna().all(axis=None)
    pd.testing.assert_frame_equal(new, vae.sample(800, random_state=1))


def test_the_command_line_draws_gaps_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = structural()
    data.to_parquet("d.parquet")
    done("fit", "d.parquet", "--out", "run", "--epochs", 2)
    for words, some in ((("s.csv",), True), (("t.parquet", "--no-gaps"), False)):
        done("sample", "run", "-n", 300, "--out", *words)
        new = pd.read_csv(words[0], keep_default_na=True) if some else pd.read_parquet(words[0])
        assert new["dose"].isna().any() == some
        assert len(new) == 300 and not new["age"].isna().any()


@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
def test_samples_of_a_matrix_with_gaps_have_them_in_every_format(ending: str, tmp_path: Path) -> None:
    """The difference of two shares has a standard error of 0.0265, so chance exceeds 0.12 in 1 of 100,000 runs."""
    x = r.normal(size=(N, 1)) + r.normal(size=(N, 3))
    x[r.random((N, 3)) < 0.3] = np.nan
    np.save(tmp_path / "x.npy", x)
    done("fit", tmp_path / "x.npy", "--out", tmp_path / "run", "--epochs", 2)
    for words, share in (((), np.isnan(x).mean(0)), (("--no-gaps",), np.zeros(3))):
        out = tmp_path / f"samples.{ending}"
        done("sample", tmp_path / "run", "-n", N, "--out", out, *words)
        found = pd.read_csv(out).to_numpy() if ending == "csv" else np.load(out)
        missing = np.isnan(found["x"] if ending == "npz" else found).mean(0)
        assert missing == pytest.approx(share, abs=0.12 if share.any() else 0)


def test_trees_depend_only_on_columns_drawn_before() -> None:
    x = r.normal(size=(500, 40))
    x[:, 1][x[:, 0] > 0] = np.nan
    x[:, 2][np.isnan(x[:, 1]) | (x[:, 30] > 1)] = np.nan
    names = tuple(f"c{i}" for i in range(40))
    trees = gaps.learned(names, x, {"given": r.normal(size=500)})
    assert [tree["column"] for tree in trees] == ["c1", "c2"]
    found = gaps.drawn(trees, names, r.normal(size=(4000, 40)), {"given": np.zeros(4000)}, 0)
    assert np.isnan(found[:, 2][np.isnan(found[:, 1])]).mean() > 0.9
    assert (np.isnan(found[:, 1]) == (found[:, 0] > 0)).mean() > 0.95
    assert not np.isnan(found[:, [0, *range(3, 40)]]).any()


def partly(rows: int, order: list[int], seed: int = 0) -> pd.DataFrame:
    """Gaps that depend on a level, on a number (at random and exactly) and on other gaps; columns have this order."""
    r = np.random.default_rng(seed)
    group, x, amount = r.choice(["a", "b"], rows), r.normal(size=rows).round(3), r.integers(1, 10_000, rows)
    paid = np.where(r.random(rows) < 0.5, 0, r.lognormal(4, 1, rows).round(2))
    panel = r.random(rows) < 0.4
    found = pd.DataFrame({
        "group": group, "x": x, "amount": amount, "paid": paid,
        "by_level": pd.Series(r.normal(size=rows)).where(r.random(rows) > np.where(group == "a", 0.8, 0.1)),
        "by_number": pd.Series(r.normal(size=rows)).where(r.random(rows) > 1 / (1 + np.exp(-2 * x))),
        "above": pd.Series(r.integers(1, 50, rows), dtype="Int64").where(amount > 5000),
        "if_paid": pd.Series(r.choice(list("uvw"), rows)).where(paid > 0),
        "iron": pd.Series(r.normal(size=rows)).where(~panel), "zinc": pd.Series(r.normal(size=rows)).where(~panel),
        "low": (amount / 2).round(), "high": amount + r.choice([0, 10, 500], rows),  # an order
    })  # fmt: skip
    return found[[found.columns[j] for j in order]]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("rows", [700, 3000])
def test_gaps_depend_on_the_same_values_as_in_the_data(rows: int, backwards: bool) -> None:
    """Shares of gaps agree within .1, at least four standard errors of the smallest group of the data; backwards, gaps
    come before the values on which they depend. Columns depend on those before them from 2,000 rows on."""
    data = partly(rows, list(range(12))[:: -1 if backwards else 1])
    vae = latens.VAE(epochs=8, random_state=0).fit(data)
    new = vae.sample(8000, random_state=1)
    for name, by in {"by_level": lambda t: t.group, "by_number": lambda t: pd.cut(t.x, [-9, -0.7, 0, 0.7, 9])}.items():
        seen, made = (t[name].isna().groupby(by(t), observed=True).mean() for t in (data, new))
        assert np.abs(seen - made).max() < 0.1, (name, seen, made)
    assert any(rule.bounds for rule in vae.schema_.rules) and (new.low <= new.amount).all()
    assert (new.above.isna() != (new.amount <= 5000)).mean() < 0.02
    assert (new.if_paid.isna() != (new.paid == 0)).mean() < 0.002
    assert (new.iron.isna() == new.zinc.isna()).mean() > 0.99
    assert abs(new.iron.isna().mean() - data.iron.isna().mean()) < 0.1
    pd.testing.assert_frame_equal(new, vae.sample(8000, random_state=1))


@pytest.mark.parametrize("gaps", [True, False])
def test_values_that_accompany_gaps_are_restored_if_columns_depend_on_each_other(gaps: bool) -> None:
    """A third of the people left a survey: their later answers are missing, and a column after these is 0. Shares must
    agree within 0.05, five standard errors of 3,000 draws."""
    r = np.random.default_rng(0)
    gone = r.random(3_000) < 0.3
    later = np.where(gone, np.nan, r.normal(size=3_000))
    stays = np.where(gone, 0, r.random(3_000) < 0.7).astype(int)
    frame = pd.DataFrame({"asked": later, "stays": stays, "x": r.normal(size=3_000)})
    vae = latens.VAE(epochs=15, random_state=0).fit(frame)
    rows = vae.sample(3_000, gaps=gaps, random_state=0)
    assert abs(rows["stays"].mean() - stays.mean()) < 0.05
    assert abs(rows["asked"].isna().mean() - gone.mean() * gaps) < 0.05
    if gaps:
        oracle = drawn_again(vae.run_, rows_like(pa.Table.from_pandas(frame), vae.schema_), 0).to_pandas()
        for drawn in (rows, oracle):
            assert drawn["stays"][drawn["asked"].isna()].mean() < 0.05


def test_a_column_of_one_value_keeps_its_gaps() -> None:
    """A flag or a date that is set or empty is set as often, and in the same rows, as in the data. Shares must agree
    within 0.05, four standard errors of 2,000 draws."""
    r = np.random.default_rng(0)
    x = r.normal(size=2_000)
    ones = {"word": "dead", "number": -999.0, "whole": 2**62 + 1, "truth": True, "day": pd.Timestamp("2024-02-29"),
            "span": pd.Timedelta("3h"), "level": "u"}  # fmt: skip
    frame = pd.DataFrame({"x": x} | {name: pd.Series([one] * len(x)) for name, one in ones.items()})
    frame["truth"], frame["whole"] = frame["truth"].astype("boolean"), frame["whole"].astype("Int64")
    frame["level"] = frame["level"].astype(pd.CategoricalDtype(["v", "u"]))
    for shift, name in enumerate(ones):
        frame.loc[x > shift / 4, name] = None
    vae = latens.VAE(epochs=5, random_state=0, rules="none").fit(frame)
    rows, filled = vae.sample(2_000, random_state=0), vae.impute(frame, k=2)
    assert rows.dtypes.equals(frame.dtypes) and np.isfinite(vae.score_samples(frame)).all()
    for name, one in ones.items():
        assert abs(rows[name].isna().mean() - frame[name].isna().mean()) < 0.05, name
        assert rows["x"][rows[name].isna()].mean() > rows["x"][rows[name].notna()].mean() + 1
        assert set(rows[name].dropna()) == set(filled[name]) == {one}
