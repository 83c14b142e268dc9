"""Columns that have a value exactly where another column has certain values: such rules are found or declared, the
density is normalised over the rows that keep them, and samples and filled cells keep them."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from commanding import done, refused

import latens
from latens.data.rows import Asked, Rows, rows_of
from latens.data.tables.frames import as_table
from latens.runs.export import cells
from latens.schema import Table
from latens.schema.rules import Pinned

N = 600


def tables(n: int = N, seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    job = rng.choice(["none", "part", "full", "two"], n, p=[0.3, 0.2, 0.4, 0.1])
    income = np.where(job == "none", 0, rng.lognormal(8, 0.5, n).round(-1) + 10)
    rain = np.where(rng.random(n) < 0.6, 0, rng.gamma(1, 5, n).round(1) + 0.1)
    pay, kids = rng.lognormal(7, 1, n).round(2), rng.choice(5, n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    called, tax = rng.random(n) < 0.4, (pay / 50).round(2) + 0.5
    size = np.array(["small", "large"])[(rng.random(n) < 0.3).astype(int)]
    free = rng.random(n) < 0.35
    return {
        "a level": pd.DataFrame({"job": job, "income": income}),
        "several levels": pd.DataFrame({"job": job, "x": rng.normal(size=n), "fee": np.where(
            np.isin(job, ["none", "two"]), 0, tax)}),
        "a level after the number": pd.DataFrame({"income": income, "job": job}),
        "a number": pd.DataFrame({"rain": rain, "minutes": np.where(rain == 0, 0, rng.integers(1, 600, n))}),
        "a count": pd.DataFrame({"kids": kids, "age": np.where(kids == 0, 0, rng.integers(1, 18, n))}),
        "a code above": pd.DataFrame({"calls": np.where(called, rng.integers(1, 9, n), 0),
                                      "days": np.where(called, rng.integers(0, 30, n), 999)}),
        "a code below": pd.DataFrame({"called": called, "days": np.where(called, rng.integers(0, 300, n), -1)}),
        "one side": pd.DataFrame({"size": size, "tax": np.where((size == "small") | free, 0, tax)}),
        "the other side": pd.DataFrame({"size": size, "tax": np.where((size == "large") & free, 0, tax)}),
        "gain or loss": pd.DataFrame({"gain": np.where(free, pay, 0), "loss": np.where(free | called, 0, pay / 2)}),
        "a value in the middle": pd.DataFrame({"job": job, "rate": np.where(job == "full", 1, rng.normal(1, 0.4, n))}),
        "a date": pd.DataFrame({"closed": called, "end": np.where(
            called, np.datetime64("2021-01-04") + rng.integers(0, 700, n), np.datetime64("9999-12-31"))}),
        "with an order": pd.DataFrame({"billed": np.where(free, 0, pay + 20),
                                       "paid": np.where(free, 0, (pay * rng.uniform(0.1, 1, n)).round(2) + 0.01)}),
    }  # fmt: skip


TABLES = {  # the rule of each table, and the mask of the rows that break it
    "a level": ("income = 0 exactly where job = none", lambda t: (t.income == 0) != (t.job == "none")),
    "several levels": ("fee = 0 exactly where job = none or two",
                       lambda t: (t.fee == 0) != t.job.isin(["none", "two"])),
    "a level after the number": ("job = none exactly where income = 0", lambda t: (t.income == 0) != (t.job == "none")),
    "a number": ("minutes = 0 exactly where rain = 0", lambda t: (t.minutes == 0) != (t.rain == 0)),
    "a count": ("age = 0 exactly where kids = 0", lambda t: (t.age == 0) != (t.kids == 0)),
    "a code above": ("days = 999 exactly where calls = 0", lambda t: (t.days == 999) != (t.calls == 0)),
    "a code below": ("days = -1 exactly where called = False", lambda t: (t.days == -1) == t.called),
    "one side": ("tax = 0 where size = small", lambda t: (t.tax != 0) & (t["size"] == "small")),
    "the other side": ("tax is not 0 where size = small", lambda t: (t.tax == 0) & (t["size"] == "small")),
    "gain or loss": ("loss = 0 where gain is not 0", lambda t: (t.loss != 0) & (t.gain != 0)),
    "a value in the middle": ("rate = 1 exactly where job = full", lambda t: (t.rate == 1) != (t.job == "full")),
    "a date": ("end = 9999-12-31 00:00:00 exactly where closed = False",
               lambda t: (t.end.dt.year == 9999) == t.closed),
    "with an order": ("paid = 0 exactly where billed = 0", lambda t: (t.paid == 0) != (t.billed == 0)),
}  # fmt: skip


@cache
def rows(name: str) -> Rows:
    return rows_of(as_table(tables()[name])[0], None, Asked({}))


def schema(name: str) -> Table:
    found = rows(name).schema
    assert isinstance(found, Table)
    return found


@cache
def fitted(name: str) -> latens.VAE:
    return latens.VAE(2, epochs=3, random_state=0, nll_draws=2).fit(tables()[name])


@pytest.mark.parametrize("name", TABLES)
def test_the_rule_is_found_and_can_be_declared(name: str) -> None:
    (own,) = [rule for rule in schema(name).rules if isinstance(rule, Pinned)]
    assert own.text == TABLES[name][0]
    asked = rows_of(as_table(tables()[name])[0], None, Asked({}, rules=("none", TABLES[name][0]))).schema
    (declared,) = asked.rules
    order = [f.name for f in schema(name).fields]
    assert isinstance(declared, Pinned) and order.index(declared.target) > order.index(declared.sources[0])
    assert Table.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize("exactly", [False, True])
def test_columns_that_are_often_equal_keep_their_difference(exactly: bool) -> None:
    """Nine in ten people have no second job. Hours of 0 in the first job if there are none in all, and hours in all if
    there are some in the first job, follow from the order; the reverse does not, and samples keep it too. Shares agree
    within .06, four standard errors."""
    rng = np.random.default_rng(0)
    hours, second = rng.integers(100, 6000, 900), np.where(rng.random(900) < 0.9, 0, rng.integers(1, 900, 900))
    idle = rng.random(900) < 0.1
    first = np.where(idle, 0, hours)
    total = np.where(idle & exactly, 0, first + second)
    data = pd.DataFrame({"total": total, "first": first, "x": rng.normal(size=900)})
    vae = latens.VAE(2, epochs=5, random_state=0, nll_draws=2).fit(data)
    assert any(isinstance(rule, Pinned) for rule in vae.schema_.rules) == exactly
    made = vae.sample(5000, random_state=1)
    assert (made["first"] <= made.total).all() and (not exactly or ((made.total == 0) == (made["first"] == 0)).all())
    assert (made["first"] == made.total).mean() == pytest.approx((data["first"] == data.total).mean(), abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_no_rule_is_found_among_independent_columns(seed: int) -> None:
    """The chance of any rule is below 1e-6 for each table."""
    rng = np.random.default_rng(seed)
    data = pd.concat([frame.add_suffix(f" {i}") for i, frame in enumerate(tables(400, seed).values())], axis=1)
    apart = pd.DataFrame({column: rng.permutation(data[column]) for column in data})
    assert not [rule.text for rule in rows_of(as_table(apart)[0], None, Asked({})).schema.rules]


@pytest.mark.parametrize("name", TABLES)
def test_samples_keep_the_rule_and_the_share_of_the_value(name: str) -> None:
    """The share of the value agrees within .1: 3 epochs are few, and 5 standard errors of the data's share are .1."""
    data, made = tables()[name], fitted(name).sample(20_000, random_state=1)
    assert not TABLES[name][1](made).any()
    for column in data.select_dtypes("number"):
        assert data[column].min() <= made[column].min() and made[column].max() <= data[column].max()
        end = data[column].mode()[0]
        assert (made[column] == end).mean() == pytest.approx((data[column] == end).mean(), abs=0.1)


@pytest.mark.parametrize("name", TABLES)
def test_filled_cells_and_reconstructions_keep_the_rule(name: str) -> None:
    data, vae = tables(seed=1)[name], fitted(name)
    assert not TABLES[name][1](vae.reconstruct(data)).any()
    for column in data:
        gaps = data.astype({c: "object" for c in data if data[c].dtype == bool})
        gaps.loc[gaps.index % 2 == 0, column] = None
        filled = vae.impute(gaps)
        assert not TABLES[name][1](filled.astype(data.dtypes)).any(), column
        assert filled.loc[filled.index % 2 == 1].astype(data.dtypes).equals(data.loc[data.index % 2 == 1])


@pytest.mark.parametrize("name", [name for name in TABLES if name != "with an order"])
def test_the_density_is_normalised_where_the_rule_says_something(name: str) -> None:
    """Where a column always has the value, the value has all of its mass within the range, and elsewhere none."""
    table = schema(name)
    vae = fitted(name)
    (rule,) = [rule for rule in vae.run_.schema.rules if isinstance(rule, Pinned)]
    x = vae.run_.schema.to_model(as_table(tables(2000, 2)[name])[0])
    state = rule.state(vae.run_.schema.numbers(as_table(tables(2000, 2)[name])[0])[rule.sources[0]])
    j = table.names.index(rule.target)
    z = torch.zeros(len(x), 2)
    with torch.no_grad():
        px = vae.run_.model.decode(z)
        cells_of = px.base_dist if hasattr(px, "base_dist") else px.base
        own = cells_of.log_prob(torch.from_numpy(x).nan_to_num(0.0))[:, j]
        other = torch.from_numpy(x).clone()
        other[:, j] = torch.from_numpy(np.where(rule.has(x[:, j].astype(float)), rule.other,
                                                rule.values[0]))  # fmt: skip
        wrong = cells_of.log_prob(other.nan_to_num(0.0))[:, j]
    assert (wrong[state != 0] < -9000).all() and (wrong[state == 0] > -900).all()
    always = own[state > 0]
    if len(rule.values) == 1:
        assert len(always) == 0 or (always.min() > -0.1 and always.max() <= 1e-5)


@pytest.mark.parametrize("far", [0.0, 0.5])
@pytest.mark.parametrize("name", TABLES)
def test_graphs_write_the_cells_that_a_table_writes(name: str, far: float) -> None:
    table, x = schema(name), rows(name).inside[:].double().numpy()
    x = (x + far * x.std(0) * np.random.default_rng(1).normal(size=x.shape)).astype(np.float32).astype(np.float64)
    wanted = np.stack(list(table.outward(x, mean=True)[0].values()), 1)
    assert np.array_equal(cells.outward(table, torch.from_numpy(x)).numpy(), wanted, equal_nan=True)
    u = np.stack([each[np.random.default_rng(2).permutation(N)] for each in table.numbers(rows(name).x).values()], 1)
    u[::3, 0], u[1::3, 1] = np.nan, np.nan
    seen = table.inward(dict(zip(table.outer_by_name, u.T)))
    assert np.array_equal(cells.inward(table, torch.from_numpy(u)).numpy(), seen, equal_nan=True)


def test_a_condition_pins_a_column() -> None:
    data = tables()["a level"]
    vae = latens.VAE(2, epochs=2, condition=["job"], random_state=0, nll_draws=2).fit(data)
    for job in ("none", "full"):
        assert ((vae.sample(500, given={"job": job}, random_state=0).income == 0) == (job == "none")).all()


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_command_line_keeps_the_rule(form: str, stream: bool, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tables(3000)["a number"].join(tables(3000)["a level"])
    pa.parquet.write_table(pa.table(data), "t.parquet") if form == "parquet" else data.to_csv("t.csv", index=False)
    done("fit", f"t.{form}", "--out", "run", "--epochs", "1", "--latent-dim", "2", *["--stream"] * stream)
    done("sample", "run", "-n", "3000", "--out", f"s.{form}")
    made = pd.read_parquet("s.parquet") if form == "parquet" else pd.read_csv("s.csv")
    assert not TABLES["a number"][1](made).any() and not TABLES["a level"][1](made).any()
    assert (made.dtypes == data.dtypes).all()
    said = refused("fit", f"t.{form}", "--out", "no", "--rule", "minutes = 0 where job = none")
    assert "breaks --rule 'minutes = 0 where job = none'" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("income = 0 exactly where job = retired", "column 'job' has no level 'retired': name one of full, none, part"),
        ("income = x where job = none", "column 'income' has no number 'x': write a number"),
        ("income = 5000 where job = full", "5000 is neither the least nor the greatest nor the most frequent value"),
        ("income = 0 where trade = none", "there is no column 'trade'"),
        ("income = 0 where income = 0", "column 'income' is named twice: name two columns"),
    ],
)
def test_impossible_rules_are_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(latens.InputError, match=said):
        rows_of(as_table(tables()["a level"])[0], None, Asked({}, rules=("none", text)))
