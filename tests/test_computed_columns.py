"""Columns that are computed from others by weights, powers, a number per level, or intervals: they are found or
declared, hold in all generated rows, and are exact where their sources are given."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from commanding import done, refused

import latens
from latens.data.rows import Asked, rows_of
from latens.data.tables.computed import _line
from latens.data.tables.frames import as_table
from latens.schema import Table

N = 600
FARES = {"classic": 1.0, "cargo": 2.5, "electric": 2.0}


def frame(n: int = N, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    bike, minutes = rng.choice([*FARES], n, p=[0.5, 0.2, 0.3]), rng.integers(1, 95, n)
    height, weight = rng.normal(1.7, 0.1, n).round(2), rng.normal(70, 12, n).round(1)
    score = rng.normal(60, 15, n).clip(0, 100).round(2)
    count, unit, off = rng.integers(1, 20, n), (rng.gamma(3, 5, n) + 1).round(2), rng.choice([0, 5, 10, 20], n)
    day = pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 1500, n), unit="D")
    part, whole = rng.integers(10, 90, n), rng.integers(100, 400, n)
    bmi = (weight / height**2).round(1)
    return pd.DataFrame({
        "bike": bike, "minutes": minutes, "price": (pd.Series(bike).map(FARES) + 0.15 * minutes).round(2),
        "height": height, "weight": weight, "bmi": bmi, "band": np.array(["thin", "usual", "heavy"])[
            (bmi >= 18.5).astype(int) + (bmi >= 25)], "score": score, "grade": np.array(list("DCBA"))[
            np.searchsorted([50, 65, 80], score, side="right")], "mix": (0.3 * score - 0.7 * minutes + 2).round(3),
        "count": count, "unit": unit, "off": off, "total": (count * unit * (1 - off / 100)).round(2), "day": day,
        "year": day.year, "month": day.month_name(), "weekend": day.dayofweek >= 5,
        "part": part, "whole": whole, "share": (100 * part / whole).round(2),
    })  # fmt: skip


def _apart(made: pd.Series, exact: pd.Series, digits: int) -> int:
    return int(((made - exact).abs() > 0.50001 * 10.0**-digits).sum())


RULES = {  # rule as text: how many rows of a frame break it
    "price = 0.15 * minutes + [bike]": lambda t: _apart(t.price, 0.15 * t.minutes + t.bike.map(FARES).astype(float), 2),
    "bmi = weight / height / height": lambda t: _apart(t.bmi, t.weight / t.height**2, 1),
    "bmi -> band": lambda t: (t.band != np.where(t.bmi < 18.5, "thin", np.where(t.bmi < 25, "usual", "heavy"))).sum(),
    "score -> grade": lambda t: (t.grade != np.array(list("DCBA"))[
        np.searchsorted([50, 65, 80], t.score.round(2), side="right")]).sum(),
    "mix = 0.3 * score - 0.7 * minutes + 2": lambda t: _apart(t.mix, 0.3 * t.score - 0.7 * t.minutes + 2, 3),
    "total = count * unit * [off]": lambda t: _apart(t.total, t["count"] * t.unit * (1 - t.off / 100), 2),
    "day -> year": lambda t: (t.day.dt.year != t.year).sum(),
    "month of day -> month": lambda t: (t.day.dt.month_name() != t.month).sum(),
    "weekday of day -> weekend": lambda t: ((t.day.dt.dayofweek >= 5) != t.weekend).sum(),
    "share = 100 * part / whole": lambda t: _apart(t.share, 100 * t.part / t.whole, 2),
}  # fmt: skip


def schema_of(data: object, *rules: str) -> Table:
    found = rows_of(as_table(data)[0], None, Asked({}, rules=rules)).schema
    assert isinstance(found, Table)
    return found


def written_by(schema: Table) -> dict[str, str]:
    """The rules that compute a column, as text, with sources in any order."""
    return {rule.target: rule.text for rule in schema.rules if rule.reproduces}


@pytest.fixture(scope="module")
def vae():
    return latens.VAE(2, epochs=2, random_state=0, nll_draws=5).fit(frame())


@pytest.fixture(scope="module")
def made(vae):
    return vae.sample(5000, random_state=1), vae.reconstruct(frame(seed=1))


def test_a_product_that_rarely_falls_in_the_range_of_the_data_does_so_in_each_sample():
    rng = np.random.default_rng(0)
    side, area = rng.lognormal(0, 0.1, 400), rng.uniform(80, 82, 400).round(2)
    data = pd.DataFrame({"side": side, "other": area / side, "area": area})
    vae = latens.VAE(1, epochs=1, rules=["area = side * other"], random_state=0, nll_draws=2).fit(data)
    made = vae.sample(3000, random_state=1)
    assert made.area.between(area.min(), area.max()).all()
    assert _apart(made.area, made.side * made.other, 2) == 0


def test_each_rule_is_found_and_is_not_chance():
    schema = schema_of(frame())
    assert {text.split(" = ")[0].split(" -> ")[-1]: text for text in RULES} == written_by(schema)
    assert all("by accident 1 in 10^" in rule.reason for rule in schema.rules)
    assert Table.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize("seed", range(5))
def test_no_rule_is_found_among_noisy_columns(seed):
    """The table is that of :func:`frame`, with noise of a tenth of the spread on each computed number and a fifth of
    the levels exchanged."""
    rng, data = np.random.default_rng(seed), frame(seed=seed)
    for name, digits in (("price", 2), ("bmi", 1), ("mix", 3), ("total", 2), ("share", 2)):
        data[name] = (data[name] + rng.normal(size=N) * data[name].std() / 10).round(digits)
    for name in ("band", "grade", "year", "month", "weekend"):
        data[name] = data[name].where(rng.random(N) < 0.8, data[name].sample(frac=1, random_state=seed).to_numpy())
    assert written_by(schema_of(data)) == {}


@pytest.mark.parametrize("text", RULES)
def test_samples_and_reconstructions_keep_each_rule(made, text):
    assert [RULES[text](rows) for rows in made] == [0, 0]


def test_rows_of_any_numbers_keep_each_rule():
    schema = schema_of(frame())
    rng = np.random.default_rng(0)
    low, high = (np.array([getattr(f, end) if f.levels is None else code for f in schema.modelled], dtype=float)
                 for end, code in (("low", 0), ("high", 1)))  # fmt: skip
    x = low + (high - low) * rng.uniform(-0.2, 1.2, (100_000, schema.columns))
    for name in ("bike", "off"):
        x[:, schema.names.index(name)] = rng.integers(0, len(schema.field(name).levels), len(x))
    table = schema.to_user(x).to_pandas()
    assert {text: broken(table) for text, broken in RULES.items()} == dict.fromkeys(RULES, 0)


@pytest.mark.parametrize("library", ["pandas", "polars", "float32"])
def test_rows_are_restored_as_they_are(library):
    data = frame()
    if library == "float32":
        data = data.astype(dict.fromkeys(("height", "weight", "score", "unit"), "float32"))
    given = pl.from_pandas(data) if library == "polars" else data
    table, back = as_table(given)
    schema = schema_of(given)
    again = back(schema.to_user(schema.to_model(table)))
    again = again.to_pandas() if library == "polars" else again
    assert not {"band", "grade", "year", "month", "weekend"} & {field.name for field in schema.modelled}
    pd.testing.assert_frame_equal(again, pl.from_pandas(data).to_pandas() if library == "polars" else data, rtol=1e-6)


def test_filled_cells_keep_each_rule_and_computed_cells_are_exact(vae):
    data = frame(300, seed=2)
    rng, holes = np.random.default_rng(0), data.copy()
    for name in holes.columns:
        holes[name] = holes[name].mask(rng.random(300) < 0.2)
    filled = vae.impute(holes, k=5)
    assert filled.notna().all().all()
    assert (filled.where(holes.notna()) == holes.where(holes.notna())).where(holes.notna(), True).all().all()
    for name in ("score", "grade", "day", "year", "month"):
        data[name] = data[name].mask(rng.random(300) < 0.4)
    filled = vae.impute(data, k=5)
    assert RULES["score -> grade"](filled) == RULES["weekday of day -> weekend"](filled) == 0
    told_by = {"price": ["minutes", "bike"], "bmi": ["weight", "height"], "minutes": ["price", "bike"]}
    for target, sources in told_by.items():
        told = holes[target].isna() & holes[sources].notna().all(axis=1)
        again = vae.impute(holes, k=5)
        assert told.sum() > 10 and (again[target] - frame(300, seed=2)[target]).abs()[told].max() < 0.11, target


ODD = [
    ("price = [bike] + 0.2 * minutes", "no choice of one number for each level of 'bike' fits all rows"),
    ("height -> grade", "nor in each of at most 30 intervals"), ("price = [score] * minutes", "[ ] needs levels"),
    ("price = [bike * 2", "cannot be read"), ("price = [bike] + [grade]", "a formula needs numbers"),
    ("month of score -> grade", "column 'score' is continuous, and has no month"),
    ("month of day -> weekend", "no single value at each month of 'day'"),
    ("price = [bicycle] + 2", "there is no column 'bicycle"), ("price = []", "does not compute a number"),
]  # fmt: skip


def test_the_user_may_declare_computed_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame(120).to_csv("trips.csv", index=False)
    asked = [word for text in RULES for word in ("--rule", text)]
    shown = done("schema", "trips.csv", *asked, "--rule", "none").out
    assert all(f"rule: {text} (in all 120 rows, as asked)" in shown for text in RULES)
    for text, words in ODD:
        assert words in refused("schema", "trips.csv", "--rule", text), text


@pytest.mark.parametrize("scale", [1e30, 1e6, 1e-3])
def test_the_unit_of_the_numbers_does_not_matter(scale):
    rng = np.random.default_rng(0)
    a, b, level = rng.normal(size=N) * scale, rng.gamma(2, size=N) * scale, rng.choice(list("xy"), N)
    data = pd.DataFrame({"a": a, "b": b, "level": level, "sum": 2 * a - 3 * b, "size": np.where(a > scale, "hi", "lo"),
                         "part": b * np.where(level == "x", 1 / 3, 2)})  # fmt: skip
    wanted = {"sum": "sum = 2 * a - 3 * b", "size": "a -> size", "part": "part = b * [level]"}
    assert written_by(schema_of(data)) == wanted


def test_filled_numbers_move_to_the_nearest_interval_of_the_level_seen():
    schema = schema_of(frame())
    rule, levels = next(rule for rule in schema.rules if rule.target == "grade"), schema.field("grade").levels
    code, gap = {level: float(code) for code, level in enumerate(levels)}, np.full(4, np.nan)
    u = {"score": np.array([10.0, 55.0, 90.0, 40.0]), "grade": gap}
    own = np.array([code["B"], code["C"], code["D"], np.nan])
    rule.fill(u, {"score": gap, "grade": own}, schema.outer_by_name, u)
    np.testing.assert_allclose(u["score"], [65, 55, 49.99, 40])
    assert [levels[int(j)] for j in u["grade"]] == list("BCDD")


def test_a_level_without_rows_of_its_own_is_not_computed():
    """If no number is known for a level, its rows have a missing computed cell, not a wrong one."""
    schema = schema_of(frame())
    rule = next(rule for rule in schema.rules if rule.target == "price")
    u = {"minutes": np.array([10.0, 10.0, 10.0]), "bike": np.array([0.0, np.nan, 7.0])}
    found = rule.of(u, schema.outer_by_name)
    assert found[0] == round(1.5 + FARES[schema.field("bike").levels[0]], 2) and np.isnan(found[1:]).all()


def _indicators(kind: type, several: bool) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    make, body = rng.choice(6, N, p=[0.1, 0.1, 0.35, 0.15, 0.2, 0.1]), rng.choice(4, N)
    shown = {f"make_{j}": (make == j).astype(kind) for j in range(6)}
    shown |= {f"body_{j}": (body == j).astype(kind) for j in range(3 if several else 4)}
    return pd.DataFrame(shown | {"price": (make * 3 + rng.normal(20, 4, N)).round(2)})


@pytest.mark.parametrize(("several", "kind"), [(False, int), (True, bool), (True, float)], ids=str)
def test_exactly_one_indicator_is_one(kind, several):
    data = _indicators(kind, several)
    vae = latens.VAE(2, epochs=2, random_state=0).fit(data)
    made = vae.sample(4000, random_state=0)
    assert (made.dtypes == data.dtypes).all()
    holes = data.mask(np.random.default_rng(0).random(data.shape) < 0.2)
    for rows in (made, vae.reconstruct(data), vae.impute(holes, k=5)):
        whole = rows.astype(float)
        assert (whole.filter(like="make").sum(axis=1) == 1).all()
        assert whole.filter(like="body").sum(axis=1).isin([0, 1] if several else [1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_independent_indicators_have_no_such_rule(seed):
    shown = np.random.default_rng(seed).random((N, 5)) < [0.3, 0.1, 0.02, 0.01, 0.2]
    data = pd.DataFrame(shown.astype(int), columns=list("abcde"))
    assert not schema_of(data.assign(f=np.random.default_rng(9).normal(size=N))).rules


def test_a_column_that_varies_within_rounding_has_no_formula():
    a, top = np.arange(5.0), 1e6
    assert _line(a, top + np.array([0.0, 0, 0, 0, np.spacing(top)])) == []
    assert _line(a, top + 0.25 * a) == ["v0 / 4 + 1e+06"]


SITES = {  # numbers of sites, each in about ten rows: too few for levels, too often repeated for a density
    "coordinates": lambda rng: rng.normal(50, 3, 60).round(6),
    "large numbers": lambda rng: rng.choice(10**6, 60, replace=False).astype(float),
    "with a code": lambda rng: np.append(rng.normal(50, 3, 59), -999.0),
    "people numbered from 1": lambda rng: np.arange(1, 301),
    "a few numbers are not used": lambda rng: np.delete(np.arange(1, 310), [40, 41, 120, 121, 200, 240, 300]),
    "numbers with gaps": lambda rng: np.sort(rng.choice(10**5, 300, replace=False)),
    "days": lambda rng: pd.date_range("2021-01-01", periods=300).to_numpy(),
    "one with more decimals": lambda rng: np.append(rng.permutation(np.arange(4000, 6000))[:99] / 100, 41.23456),
}


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("target", ["number", "word"])
def test_what_belongs_to_repeated_numbers_stays_with_them(kind, target):
    rng = np.random.default_rng(3)
    keys = SITES[kind](rng)
    sites, rows = len(keys), max(N, 10 * len(keys))
    share = rng.dirichlet(np.full(sites, 3.0))
    site = np.append(np.repeat(np.arange(sites), 3), rng.choice(sites, rows - 3 * sites, p=share))
    values = rng.normal(8, 5, sites).round(4) if target == "number" else np.array([f"w{i % 13}" for i in range(sites)])
    third = rng.choice(list("abc"), sites)
    data = pd.DataFrame({"key": keys[site], "own": values[site], "third": third[site], "x": rng.normal(size=rows)})
    vae = latens.VAE(1, epochs=2, random_state=0, nll_draws=5).fit(data)
    pairs = set(zip(data.key, data.own))
    new, gaps = vae.sample(500, random_state=0), data.assign(own=data.own.mask(rng.random(rows) < 0.3))
    assert set(zip(new.key, new.own)) <= pairs and new.key.nunique() > 30
    assert vae.impute(gaps, k=5).own.equals(data.own)
    filled = vae.impute(data.mask(rng.random(data.shape) < 0.4), k=5)
    assert set(zip(filled.key, filled.own, filled.third)) <= set(zip(data.key, data.own, data.third))
