"""Rules whose source is a condition: they are found or declared, kept in the density, in all rows generated for given
or drawn conditions, and in graphs; no rule determines a condition."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from commanding import done, figures, refused

import latens
from latens import conditionals
from latens.data.rows import Asked, rows_of
from latens.data.tables.frames import as_table
from latens.data.tables.kinds import infer_table
from latens.errors import InputError
from latens.recipes.choices.tables import allowed_in, likelihood_of, seen_as
from latens.report.subject import Subject
from latens.runs.export import cells, graphs
from latens.schema import Table
from latens.schema.rules import next_value

N = 500
FARES = {"classic": 1.0, "cargo": 2.5, "electric": 2.0}
LANDS = {"Rome": "it", "Oslo": "no", "Paris": "fr", "Lyon": "fr"}
CONDITIONS = ["bike", "city", "start", "low", "trial"]
GIVEN = {"bike": "cargo", "start": "2020-02-29", "low": 44.5}


def frame(n: int = N, seed: int = 0) -> pd.DataFrame:
    """Conditions stand among and after the columns that follow from them."""
    rng = np.random.default_rng(seed)
    bike, city, minutes = rng.choice([*FARES], n), rng.choice([*LANDS], n), rng.integers(1, 95, n)
    start = pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 1500, n), unit="D")
    low, part = rng.normal(50, 20, n).round(2), rng.gamma(2, 9, n).round(2)
    cargo, arm = bike == "cargo", rng.integers(0, 4, n)
    return pd.DataFrame({
        "minutes": minutes, "price": (pd.Series(bike).map(FARES) + 0.15 * minutes).round(2), "bike": bike,
        "land": pd.Series(city).map(LANDS), "city": city, "start": start,
        "end": start + pd.to_timedelta(rng.poisson(5, n), unit="D"), "month": start.month_name(), "year": start.year,
        "low": low, "part": part, "sum": (low + part).round(2), "high": (low + rng.gamma(1, 30, n)).round(1).clip(low),
        "band": np.array(["a", "b", "c"])[np.searchsorted([40, 60], low, side="right")],
        "dose": np.where(cargo, np.nan, rng.normal(5, 1, n).round(2)),
        "lane": np.where(cargo, rng.choice(["wide", "road"], n), rng.choice(["road", "path"], n)),
        "none": (arm == 0) * 1, "trial": (arm == 1) * 1, "drug": (arm == 2) * 1, "both": (arm == 3) * 1,
    })  # fmt: skip


RULES = {  # rule as text: which rows of a frame break it
    "price = 0.15 * minutes + [bike]": lambda t: (t.price - t.bike.map(FARES) - 0.15 * t.minutes).abs() > 0.005001,
    "city -> land": lambda t: t.land != t.city.map(LANDS), "start <= end": lambda t: t.end < t.start,
    "month of start -> month": lambda t: t.month != t.start.dt.month_name(),
    "start -> year": lambda t: t.year != t.start.dt.year,
    "sum = low + part": lambda t: (t["sum"] - t.low - t.part).abs() > 1e-6,
    "low <= high": lambda t: t.low > t.high + 1e-9,
    "low -> band": lambda t: t.band != np.array(["a", "b", "c"])[np.searchsorted([40, 60], t.low, side="right")],
    "dose missing where bike = cargo": lambda t: t.dose.isna() != (t.bike == "cargo"),
    "bike & lane": lambda t: t.lane == np.where(t.bike == "cargo", "path", "wide"),
    "exactly one of trial, none, drug, both is 1": lambda t: t.none + t.trial + t.drug + t.both != 1,
}  # fmt: skip
FILLED = [text for text in RULES if " missing " not in text]  # reconstructions and imputations have no gaps


def broken(made: object, texts: object = tuple(RULES)) -> dict[str, int]:
    """The number of rows that break each broken rule; levels are text, dates are timestamps."""
    t = made.to_pandas() if isinstance(made, pl.DataFrame) else made.copy()
    for name in ("bike", "city", "land", "month", "band", "lane"):
        t[name] = t[name].astype(str)
    t["start"], t["end"] = pd.to_datetime(t.start), pd.to_datetime(t.end)
    counts = {text: int(RULES[text](t).sum()) for text in texts}
    return {text: count for text, count in counts.items() if count}


def with_holes(data: pd.DataFrame) -> pd.DataFrame:
    rng, holes = np.random.default_rng(1), data.copy()
    for name in holes.columns.difference([*CONDITIONS, "dose"]):
        holes[name] = holes[name].mask(rng.random(len(holes)) < 0.3)
    return holes


def schema_of(data: object, *rules: str, condition: list[str] = CONDITIONS, **columns: str) -> Table:
    found = rows_of(as_table(data)[0], None, Asked(columns, tuple(condition), rules=rules)).schema
    assert isinstance(found, Table)
    return found


def said(schema: Table) -> set[str]:
    lines = (line.split(" (in ")[0].split(" (3 of ")[0] for line in schema.describe().splitlines())
    return {line.removeprefix("rule: ") for line in lines if line.startswith("rule: ")}


@pytest.fixture(scope="module")
def vae():
    return latens.VAE(2, condition=CONDITIONS, epochs=1, random_state=0, nll_draws=5).fit(frame())


def test_each_rule_is_found_and_none_determines_a_condition():
    schema = schema_of(frame())
    assert broken(frame()) == {} and said(schema) == set(RULES)
    assert not {rule.target for rule in schema.rules} & set(CONDITIONS)
    assert schema.names == ("minutes", "end", "part", "high", "dose", "lane", "none", "drug", "both")
    stored = schema.to_json()
    assert Table.from_json(json.loads(json.dumps(stored))) == schema
    with pytest.raises(InputError, match="has a rule that determines a condition"):
        Table.from_json(stored | {"rules": [each | {"target": "low"} for each in stored["rules"][:1]]})


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_is_found_among_noisy_columns(seed):
    """The table is that of :func:`frame`, with noise of a tenth of the spread on each number and a fifth of the levels
    exchanged."""
    rng, data = np.random.default_rng(seed), frame(seed=seed)
    for name in ("price", "sum", "high"):
        data[name] = (data[name] + rng.normal(size=N) * data[name].std() / 10).round(2)
    data["end"] -= pd.Timedelta(days=2)
    for name in ("land", "month", "year", "band", "dose", "lane", "none", "drug", "both"):
        data[name] = data[name].where(rng.random(N) < 0.8, data[name].sample(frac=1, random_state=seed).to_numpy())
    assert said(schema_of(data)) == set()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_estimator_keeps_each_rule(vae, library):
    data = pl.from_pandas(frame()) if library == "polars" else frame()
    vae = latens.VAE(2, condition=CONDITIONS, epochs=1, random_state=0).fit(data) if library == "polars" else vae
    given = vae.sample(5000, given=GIVEN, random_state=1)
    assert broken(vae.sample(5000, random_state=1)) == broken(given) == {}
    assert set(given["bike"]) == {"cargo"} and len(set(given["price"])) > 50
    other = frame(seed=2)
    assert broken(vae.reconstruct(pl.from_pandas(other) if library == "polars" else other), FILLED) == {}
    holes = with_holes(other)
    filled = vae.impute(pl.from_pandas(holes) if library == "polars" else holes, k=5)
    assert broken(filled, FILLED) == {}
    filled = filled.to_pandas() if library == "polars" else filled
    told = holes.price.isna() & holes.minutes.notna()
    assert told.sum() > 50 and (filled.price - other.price).abs()[told].max() < 1e-6
    told = holes.minutes.isna() & holes.price.notna()
    assert told.sum() > 50 and (filled.minutes - other.minutes).abs()[told].max() < 0.07


@pytest.mark.parametrize("kind, stream", [("csv", ()), ("parquet", ("--stream",))])
def test_the_command_line_keeps_each_rule(kind, stream, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, holes, words = frame(), with_holes(frame()), [w for name in CONDITIONS for w in ("--condition", name)]
    for name, table in (("t", data), ("holes", holes)):
        table.to_csv(f"{name}.csv", index=False) if kind == "csv" else table.to_parquet(f"{name}.parquet")
    done("fit", f"t.{kind}", "--out", "run", "--epochs", "1", "--latent-dim", "2", *words, *stream)
    asked = [w for name, value in GIVEN.items() for w in ("--set", f"{name}={value}")]
    done("sample", "run", "-n", "5000", "--out", f"drawn.{kind}")
    done("sample", "run", "-n", "5000", "--out", f"given.{kind}", *asked)
    done("reconstruct", "run", f"t.{kind}", "--out", f"again.{kind}")
    done("impute", "run", f"holes.{kind}", "--out", f"filled.{kind}")
    for name, texts in (("drawn", RULES), ("given", RULES), ("again", FILLED), ("filled", FILLED)):
        made = pd.read_csv(f"{name}.csv") if kind == "csv" else pd.read_parquet(f"{name}.parquet")
        assert broken(made, texts) == {}, name
    done("compress", "run", f"t.{kind}", "--out", "t.latens")
    done("decompress", "run", "t.latens", "--out", f"back.{kind}")
    if kind == "csv":
        pd.testing.assert_frame_equal(pd.read_csv("back.csv"), pd.read_csv("t.csv"))
    else:
        pd.testing.assert_frame_equal(pd.read_parquet("back.parquet"), data)
    late = refused("sample", "run", "--out", "no.csv", "--set", "start=2031-05-01")
    assert "the rule start -> year has no year for start = 2031-05-01" in late
    rules = figures("schema", f"t.{kind}", *words)["schema"]["rules"]
    assert len(rules) == len(RULES) + 2


ODD = [
    ("high >= low", ["high", "low"], "column 'high' is a condition, which is given, so no rule can determine or bound"),
    ("city -> land", ["land"], "column 'land' is a condition, which is given"),
    ("low = sum - part", ["low"], "column 'low' is a condition, which is given"),
    ("bike & lane", ["bike", "lane"], "column 'lane' is a condition, which is given"),
    ("price = 0.3 * minutes + [bike]", ["bike"], "no choice of one number for each level of 'bike' fits all rows"),
    ("gone -> lane", ["gone"], "column 'gone' is a condition with missing cells"),
]


@pytest.mark.parametrize("text, condition, words", ODD)
def test_impossible_rules_are_refused_in_a_sentence(text, condition, words):
    data = frame(200).assign(gone=frame(200).lane.mask(np.arange(200) % 3 == 0))
    with pytest.raises(InputError, match=words.replace("[", r"\[")):
        schema_of(data, text, "none", condition=condition)


@pytest.mark.parametrize("text", [text for text in RULES if "exactly" not in text])
def test_each_rule_may_be_declared(text):
    found = schema_of(frame(120), text, "none")
    assert said(found) == {text} and found.rules[0].reason.endswith("rows, as asked")


@pytest.mark.parametrize("in_order", [False, True])
def test_the_density_is_normalised_over_the_rows_that_are_allowed(in_order):
    """For each bike and each lower end, the sum is over all whole numbers from there and all lanes of the bike; other
    lanes have no mass."""
    rng, n = np.random.default_rng(5), 400
    lane, low = frame(n)[["bike", "lane"]], rng.integers(0, 4, n)
    data = lane.assign(low=low, high=low + rng.integers(0, 12, n), minutes=rng.integers(0, 2, n) + 0.5)
    data["fee"] = 2 * data.high + data.bike.map(FARES)
    rules = ("bike & lane", "low <= high", "fee = 2 * high + [bike]")
    kinds = {"low": "continuous", "high": "heaped", "fee": "continuous", "minutes": "categorical"}
    schema = schema_of(data, *rules, "none", condition=["bike", "low"], **kinds)
    schema = dataclasses.replace(schema, storage="float64")
    heads, allowed = [likelihood_of(column) for column in schema.modelled], allowed_in(schema)
    seen = [seen_as(column) for column in schema.modelled]
    torch.manual_seed(0)
    part = (conditionals.ColumnsInOrder(torch.nn.Identity(), heads, seen, hidden=8, allowed=allowed) if in_order
            else conditionals.TableLikelihood(torch.nn.Identity(), heads, allowed=allowed)).double()  # fmt: skip
    if in_order:
        torch.nn.init.normal_(part.further, std=0.5)
    raw = torch.randn(1, part.outputs, dtype=torch.float64)
    lanes, codes = data.lane.unique(), schema.field("lane").levels
    for bike in FARES:
        for low in range(4):
            every = [(bike, each, low, high, minutes) for each in lanes for high in range(low, low + 250)
                     for minutes in (0.5, 1.5)]  # fmt: skip
            rows = pd.DataFrame(every, columns=["bike", "lane", "low", "high", "minutes"])
            rows["fee"] = 2 * rows.high + rows.bike.map(FARES)
            table = as_table(rows)[0]
            x, c = torch.from_numpy(schema.to_model(table)), schema.conditions_of(table)
            place = schema.names.index("lane")
            x[:, place] = torch.tensor([float(codes.index(each)) for each in rows.lane])  # forbidden lanes too
            mass = part(raw.expand(len(x), -1), {name: torch.from_numpy(v) for name, v in c.items()}).log_prob(x).exp()
            forbidden = torch.from_numpy(RULES["bike & lane"](rows).to_numpy())
            assert forbidden.any() and mass[forbidden].sum() == 0
            assert mass.sum().item() == pytest.approx(1.0, abs=1e-5), (bike, low)


def test_graphs_have_the_cells_and_numbers_of_the_table(vae):
    """The encoder's input and the decoder's cells are computed on tensors, with conditions as float64; some rows have
    cells of other rows and break rules."""
    schema, table, random = vae.run_.schema, as_table(frame())[0], np.random.default_rng(2)
    known = schema.known(dict(zip(table.column_names, table.columns)))
    c = {name: torch.from_numpy(numbers) for name, numbers in known.items()}
    assert {each.dtype for each in graphs.encoder(vae.run_).conditions.values()} == {torch.float64}
    x = np.nan_to_num(schema.to_model(table).astype(np.float64), nan=5.0)
    x = (x + 0.3 * x.std(0) * random.normal(size=x.shape)).astype(np.float32).astype(np.float64)
    wanted = np.stack(list(schema.outward(x, known, mean=True)[0].values()), 1)
    assert np.array_equal(cells.outward(schema, torch.from_numpy(x), c).numpy(), wanted, equal_nan=True)
    u = np.stack([schema.numbers(table)[name] for name in schema.outer_by_name], 1)
    u = np.where(random.random(u.shape) < 0.2, random.permuted(u, axis=0), u)
    u = np.where(random.random(u.shape) < 0.2, np.nan, u)
    seen = schema.inward(known | dict(zip(schema.outer_by_name, u.T)))
    assert np.array_equal(cells.inward(schema, torch.from_numpy(u), c).numpy(), seen, equal_nan=True)
    decoder = graphs.decoder(vae.run_)
    z = torch.from_numpy(vae.transform(frame()))
    with torch.no_grad():
        made = dict(zip(decoder.outputs, decoder(z, *(c[name] for name in decoder.conditions))))["cells"]
    again = as_table(vae.reconstruct(frame()))[0]
    numbers = np.stack([again.column(column.name).to_numpy() if column.kind == "count"  # the mean of a count
                        else column.encode(again.column(column.name))[0] for column in schema.outer], 1)  # fmt: skip
    np.testing.assert_allclose(made, numbers, rtol=1e-6, equal_nan=True)


BELOW = {"count": "most", "start": "end", "used": "cap", "grade": "top", "month": "end", "real": "limit"}


def below(n: int = N) -> pd.DataFrame:
    """Columns that are at most a condition: whole and decimal numbers, levels, dates, starts of months, real numbers,
    some of them missing."""
    rng = np.random.default_rng(0)
    most, cap, top = rng.integers(20, 400, n), rng.normal(100, 20, n).round(1), rng.integers(1, 6, n)
    end, limit = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"), rng.normal(size=n)
    month = (end - pd.to_timedelta(rng.integers(0, 200, n), unit="D")).to_period("M").to_timestamp()
    used = np.where(rng.random(n) < 0.2, np.nan, (cap * rng.beta(3, 1, n)).round(1))
    return pd.DataFrame({
        "count": (most * rng.beta(3, 2, n)).astype(int), "most": most, "used": used, "cap": cap, "limit": limit,
        "start": end - pd.to_timedelta(rng.poisson(9, n), unit="D"), "month": month, "end": end, "top": top,
        "grade": np.minimum(rng.integers(0, 6, n), top), "real": limit - rng.exponential(size=n),
    })  # fmt: skip


def test_columns_below_a_condition_stay_below_it():
    data, rng = below(), np.random.default_rng(1)
    conditions = ["most", "end", "cap", "top", "limit"]
    options = {"epochs": 2, "nll_draws": 5, "condition": conditions, "rules": ["month <= end"]}
    vae = latens.VAE(2, random_state=0, **options).fit(data)
    schema = vae.schema_
    assert {rule.text for rule in schema.rules} == {f"{low} <= {high}" for low, high in BELOW.items()}
    assert Table.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    holes = data.assign(**{low: data[low].mask(rng.random(N) < 0.4) for low in BELOW})
    given = {"most": 25, "end": "2021-02-03", "cap": 60.0, "top": 1, "limit": -1.0}
    filled = vae.impute(holes, k=5)
    for new in (vae.sample(20_000, random_state=1), vae.sample(2000, given=given), vae.reconstruct(data), filled):
        assert sum(int((new[low] > new[high]).sum()) for low, high in BELOW.items()) == 0
        assert (new["month"].dt.day == 1).all()
        np.testing.assert_allclose(new["used"] * 10, (new["used"] * 10).round(), rtol=1e-9)
    assert all((filled[low] == data[low])[holes[low].notna()].all() for low in BELOW)
    table = as_table(data.drop(columns="month"))[0]
    schema = schema_of(data.drop(columns="month"), condition=conditions)
    known, x = schema.known(dict(zip(table.column_names, table.columns))), schema.to_model(table).astype(np.float64)
    x = (np.nan_to_num(x, nan=5.0) + x[::-1] * (rng.random(x.shape) < 0.1)).astype(np.float32).astype(np.float64)
    c = {name: torch.from_numpy(numbers) for name, numbers in known.items()}
    wanted = np.stack(list(schema.outward(x, known, mean=True)[0].values()), 1)
    np.testing.assert_array_equal(cells.outward(schema, torch.from_numpy(x), c).numpy(), wanted)


@pytest.mark.parametrize("rule", ["count <= most", "most >= count", "count < most"])
def test_an_order_below_a_condition_may_be_declared(rule):
    data = below().assign(count=lambda t: np.minimum(t["count"], t["most"] - 1))
    vae = latens.VAE(2, epochs=1, random_state=0, nll_draws=5, condition=["most"], rules=[rule]).fit(data)
    new = vae.sample(5000, random_state=1)
    assert (new["count"] < new["most"] if "<" in rule and "=" not in rule else new["count"] <= new["most"]).all()


def test_a_report_shows_rows_that_keep_each_rule(vae):
    rows = rows_of(as_table(frame())[0], None, Asked({}, tuple(CONDITIONS)))
    subject, schema = Subject(vae.run_, rows, None, None, None), vae.run_.schema
    columns = dict(zip(schema.outer_by_name, subject.shown.T))
    np.testing.assert_allclose(columns["price"], frame().price)
    np.testing.assert_allclose(columns["sum"], frame()["sum"], rtol=1e-6)
    drawn = dict(zip(schema.outer_by_name, subject.sample(N, False).T))
    low = frame().low.to_numpy()
    assert (drawn["high"] >= low - 1e-9).all() and np.abs(drawn["sum"] - low - drawn["part"]).max() < 1e-6
    with pytest.raises(InputError, match=r"needs the condition '(city|start)', which is not given"):
        schema.to_user(np.zeros((1, schema.columns)))


@pytest.mark.parametrize("kind, word", [(int, "1"), (bool, "true")])
@pytest.mark.parametrize("columns, how", [(4, "exactly one"), (3, "at most one")])
def test_indicators_of_which_one_is_1_are_reported_once(kind, word, columns, how):
    """Each row has one of four makes of car; without the column of the last make, it has at most one."""
    rng = np.random.default_rng(0)
    make, names = rng.integers(0, 4, N), ("Buick", "Cadillac", "Ford", "Opel")[:columns]
    data = pd.DataFrame({name: (make == j).astype(kind) for j, name in enumerate(names)} | {"x": rng.normal(size=N)})
    assert said(schema_of(data, condition=[])) == {f"{how} of {', '.join(names)} is {word}"}
    moved = ("Ford", *(name for name in names if name != "Ford"))
    assert said(schema_of(data, condition=["Ford"])) == {f"{how} of {', '.join(moved)} is {word}"}


def test_the_nearest_start_of_a_month_below_a_condition_is_not_above_it():
    starts = pd.date_range("1960-01-01", periods=700, freq="MS")
    data = pd.DataFrame({"month": np.random.default_rng(0).choice(starts, 900), "x": np.arange(900.0)})
    column = infer_table(as_table(data)[0]).field("month")
    assert column.law.calendar is not None and not column.law.is_complete
    days = np.arange(np.datetime64("1961-01-02"), np.datetime64("2017-12-01")).astype(float)
    found = (-next_value(column, -days, sign=-1.0)).astype("M8[D]")
    assert (found <= days.astype("M8[D]")).all() and set(found) <= set(starts.to_numpy().astype("M8[D]"))
