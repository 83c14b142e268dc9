"""Columns that repeat dates: the day, time, week, month, quarter or year of one, or the time from one to another, such
as an age. They are found or declared, hold in all generated rows, and a filled date fits all that was seen of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from commanding import done, refused
from test_computed_columns import schema_of, written_by

import latens
from latens.data.tables.frames import as_table
from latens.schema import Table, rules

N = 600


def frame(n: int = N, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    start = pd.Series(pd.Timestamp("2019-11-20") + pd.to_timedelta(rng.integers(0, 900 * 1440, n), unit="min"))
    length = pd.Series(pd.to_timedelta(rng.gamma(2, 4000, n).round() + 1, unit="min"))
    own = {"cost": rng.gamma(2, 3, n).round(2), "start": start, "end": start + length, "length": length}
    own["minutes"] = length // pd.Timedelta("1min")
    own["born"] = pd.Series(pd.Timestamp("1930-01-01") + pd.to_timedelta(rng.integers(0, 30_000, n), unit="D"))
    own |= {name: of(pd.DataFrame(own)) for name, of in COUNTS.items()}
    return pd.DataFrame(own | {name: of(start) for name, of in EDGES.items()})


def _years(start: pd.Series, end: pd.Series) -> pd.Series:
    early = end.dt.month * 100 + end.dt.day < start.dt.month * 100 + start.dt.day
    return end.dt.year - start.dt.year - early


def _months(start: pd.Series, end: pd.Series) -> pd.Series:
    return 12 * (end.dt.year - start.dt.year) + end.dt.month - start.dt.month - (end.dt.day < start.dt.day)


TODAY = pd.Timestamp("2023-06-30")
COUNTS = {
    "age": lambda t: _years(t.born, t.start), "months": lambda t: _months(t.born, t.start),
    "age_now": lambda t: _years(t.born, pd.Series(TODAY, t.index)),
    "days": lambda t: (t.end - t.start).dt.days, "hours_spent": lambda t: (t.end - t.start) // pd.Timedelta("1h"),
}  # fmt: skip


def _period(code: str, end: bool = False):
    return lambda s: getattr(s.dt.to_period(code).dt, "end_time" if end else "start_time").dt.normalize()


EDGES = {  # a second route to each column: pandas' own calendar
    "day": lambda s: s.dt.normalize(), "time": lambda s: s.dt.time, "hours": lambda s: s.dt.floor("h"),
    "monday": _period("W"), "sunday": _period("W", True), "weeks": _period("W-SAT"), "month": _period("M"),
    "last": _period("M", True), "quarter": _period("Q"), "closing": _period("Q", True), "years": _period("Y"),
    "yearend": _period("Y", True), "day_of_year": lambda s: s.dt.day_of_year,
    "week_of_year": lambda s: s.dt.isocalendar().week.astype("int64"), "weekday": lambda s: s.dt.day_name(),
}  # fmt: skip
FOUND = {
    "day": "date of start", "time": "time of start", "hours": "start of hour of start",
    "monday": "start of week of start", "sunday": "end of week of start", "weeks": "start of week from Sunday of start",
    "month": "start of month of start", "last": "end of month of start", "quarter": "start of quarter of start",
    "closing": "end of quarter of start", "years": "start of year of start", "yearend": "end of year of start",
    "day_of_year": "day of year of start", "week_of_year": "week of year of start", "weekday": "weekday of start",
}  # fmt: skip
OTHERS = {
    "length": "length = 86400 * (end - start)", "minutes": "minutes = length / 60",
    "age": "age = years from born to start", "months": "months = months from born to start",
    "age_now": "age_now = years from born to 2023-06-30", "days": "days = days from start to end",
    "hours_spent": "hours_spent = hours from start to end",
}  # fmt: skip


def broken(rows: pd.DataFrame) -> dict[str, int]:
    """How many rows break each rule."""
    start = rows["start"]
    found = {name: int((of(start) != rows[name]).sum()) for name, of in EDGES.items()}
    found |= {name: int((of(rows) != rows[name]).sum()) for name, of in COUNTS.items()}
    found["length"] = int((rows["end"] - start != rows["length"]).sum())
    return found | {"minutes": int((rows["length"] / pd.Timedelta("1min") != rows["minutes"]).sum())}


NONE = dict.fromkeys((*EDGES, *OTHERS), 0)


@pytest.fixture(scope="module")
def vae():
    return latens.VAE(2, epochs=2, random_state=0, nll_draws=5).fit(frame())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_each_rule_is_found_and_rows_are_restored(library):
    data = frame() if library == "pandas" else pl.from_pandas(frame())
    table, back = as_table(data)
    schema = schema_of(data)
    wanted = {name: f"{text} -> {name}" for name, text in FOUND.items()} | OTHERS
    assert written_by(schema) == wanted
    assert [field.name for field in schema.modelled] == ["cost", "start", "end", "born"]
    again = back(schema.to_user(schema.to_model(table)))
    again = again if library == "pandas" else again.to_pandas()
    assert broken(again) == NONE and again.cost.equals(frame().cost)
    assert (again.start - frame().start).abs().max() <= pd.Timedelta("2min")  # x is in single precision
    assert Table.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_is_found_if_a_tenth_of_the_rows_differ(seed):
    data, rng = frame(seed=seed), np.random.default_rng(seed)
    for name in (*EDGES, *COUNTS):
        data[name] = data[name].where(rng.random(N) < 0.9, data[name].sample(frac=1, random_state=seed).to_numpy())
    assert not {*written_by(schema_of(data))} & {*EDGES, *COUNTS}


def test_samples_and_reconstructions_keep_each_rule(vae):
    assert broken(vae.sample(5000, random_state=1)) == broken(vae.reconstruct(frame(seed=1))) == NONE


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_filled_cells_fit_what_was_seen(vae, share):
    data = frame(400, seed=2)
    rng, holes = np.random.default_rng(0), data.copy()
    for name in holes.columns:
        holes[name] = holes[name].mask(rng.random(len(holes)) < share)
    filled = vae.impute(holes, k=5)
    assert filled.notna().all().all() and broken(filled) == NONE
    assert (filled == holes).where(holes.notna(), True).all().all()
    told = holes.start.isna() & holes.day.notna() & holes.time.notna()
    assert told.sum() > 5 and (filled.start[told] == data.start[told]).all()


def test_a_filled_date_goes_to_the_nearest_day_on_which_all_rules_hold():
    schema = schema_of(frame())
    date = lambda text: np.array([np.datetime64(text, "m").astype("M8[s]").astype(float) / 86_400])
    names = schema.field("weekday").levels
    seen = {f.name: np.array([np.nan]) for f in schema.outer}
    seen |= {"month": date("2020-02-01"), "weekday": np.array([float(names.index("Saturday"))])}
    for first, wanted in (("2020-02-05T10:30", "2020-02-08T10:30"), ("2020-03-02T23:59", "2020-02-29T23:59")):
        u, known = {"start": date(first)}, dict(seen)
        rules.settle_dates(schema.rules, u, known, dict(seen), schema.outer_by_name)
        assert u["start"] == known["start"] == date(wanted), first


@pytest.mark.parametrize("span", rules.SPANS)
def test_starts_are_those_of_pandas_for_four_centuries(span):
    days = pd.Series(pd.date_range("1899-12-25", "2105-01-10", freq="7h13min7500ms"))
    code = {"second": "s", "minute": "min", "hour": "h", "day": "D", "month": "M", "quarter": "Q"}
    code |= {"week": "W", "week from Sunday": "W-SAT"}
    wanted = days.dt.to_period(code.get(span, "Y")).dt.start_time
    numbers = days.to_numpy().astype("M8[ms]").astype(float) / 86_400_000
    found = rules.start_of(numbers, span)
    np.testing.assert_allclose(found, wanted.to_numpy().astype("M8[s]").astype(float) / 86_400, atol=1e-9)
    assert np.isnan(rules.start_of(np.array([np.nan]), span)).all()


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_dates_that_are_rounded_down_are_no_formulas_of_the_others(unit):
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 400 * 86_400_000, 500), unit="ms")
    floors = {"second": "s", "minute": "min", "hour": "h", "day": "D"}
    data = pd.DataFrame({"start": start} | {name: start.floor(code) for name, code in floors.items()})
    data["later"] = start + pd.to_timedelta(rng.integers(1, 60, 500), unit="s")
    data["soon"] = start + pd.Timedelta("1500ms")
    data = data.astype(dict.fromkeys(data, f"datetime64[{unit}]"))
    found = {rule.target: rule for rule in schema_of(data).rules}
    wanted = {name: f"start of {name} of start -> {name}" for name in floors} | {"day": "date of start -> day"}
    assert {name: found[name].text for name in floors} == wanted and found["later"].kind == "order"
    new = latens.VAE(2, epochs=1, random_state=0, nll_draws=5).fit(data).sample(2000, random_state=0)
    assert all((new[name] == new["start"].dt.floor(code)).all() for name, code in floors.items())
    assert (new["soon"] - new["start"] == pd.Timedelta("1500ms")).all()
    assert (new["start"].dt.floor("ms") == new["start"]).all()


def test_the_user_may_declare_rules_of_dates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame(60).assign(other=lambda t: t.day + pd.Timedelta("1D")).to_csv("trips.csv", index=False)
    texts = [*(f"{text} -> {name}" for name, text in FOUND.items()), *OTHERS.values()]
    asked = [word for text in texts for word in ("--rule", text)]
    shown = done("schema", "trips.csv", *asked, "--rule", "none").out
    assert all(f"rule: {text} (in all 60 rows, as asked)" in shown for text in texts)
    for text, words in {
        "date of start -> other": "'other' is not the date of 'start' in every row",
        "date of cost -> day": "column 'cost' is positive, and has no date",
        "start of month of start -> cost": "'cost' is not the start of month of 'start' in every row",
        "start of decade of start -> years": "there is no column",
        "age = years from born to end": "which breaks --rule", "age = years from cost to end": "not a date",
        "age = years from born to 2021-13-01": "2021-13-01",
    }.items():
        assert words in refused("schema", "trips.csv", "--rule", text), text
