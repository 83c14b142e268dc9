"""Laws of dates that recur: they are found and recorded, and samples and filled cells have no other dates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import latens
from latens.conditionals import TableLikelihood
from latens.data.rows import rows_of
from latens.data.tables.frames import as_table
from latens.data.tables.kinds import infer_table
from latens.recipes.choices.tables import likelihood_of
from latens.schema import Column
from latens.schema.law import Calendar, calendar_of

N = 260
CALENDARS = {
    "month starts": pd.date_range("2001-01-01", periods=N, freq="MS"),
    "month ends": pd.date_range("2001-01-31", periods=N, freq="ME"),
    "quarters": pd.date_range("1950-01-01", periods=N, freq="QS"),
    "years": pd.date_range("1750-01-01", periods=N, freq="YS", unit="s"),
    "fifteenths": pd.date_range("2001-01-01", periods=N, freq="MS") + pd.Timedelta(days=14),
    "Mondays": pd.date_range("2021-01-04", periods=N, freq="W-MON"),
    "every tenth day": pd.date_range("2021-01-04", periods=N, freq="10D"),
    "working days": pd.date_range("2021-01-04", periods=N, freq="B"),
}


@pytest.mark.parametrize("name", CALENDARS)
def test_dates_are_restored_on_their_days(name: str) -> None:
    """Compare with the nearest date of the calendar, found by brute force."""
    dates = CALENDARS[name].to_numpy().astype("datetime64[D]")
    days = dates.astype(np.int64).astype(float)
    found = calendar_of(days)
    assert found is not None and Calendar.from_json(found.to_json()) == found
    assert (found.snap(days) == days).all()
    x = np.random.default_rng(0).uniform(days[0], days[-1], 500)
    if name != "working days":  # weekdays keep their shares, whichever date is nearest
        nearest = np.abs(days[None] - x[:, None]).min(1)
        np.testing.assert_allclose(np.abs(found.snap(x) - x), nearest, atol=1e-9)
    assert np.isin(found.snap(x), days).all()
    assert np.isnan(found.snap(np.array([np.nan]))).all()


@pytest.mark.parametrize("name", CALENDARS)
@pytest.mark.parametrize("form", ["%Y-%m-%d", "timestamps", "%d/%m/%Y"])
def test_samples_keep_to_the_calendar(name: str, form: str) -> None:
    dates = CALENDARS[name]
    cells = dates if form == "timestamps" else dates.strftime(form)
    frame = pd.DataFrame({"when": cells, "x": np.random.default_rng(0).normal(size=N)})
    rows = rows_of(as_table(frame)[0])
    column = rows.schema.field("when")
    assert column.law is not None and Column.from_json(column.to_json()) == column
    again = column.decode(np.random.default_rng(1).uniform(column.law.low, column.law.high, 300))
    days = pd.DatetimeIndex(pd.to_datetime(again.to_pandas()))
    assert days.isin(dates.as_unit(days.unit)).all(), days[~days.isin(dates)][:3]


def test_an_estimator_fills_month_starts() -> None:
    dates = CALENDARS["month starts"]
    frame = pd.DataFrame({"when": dates, "x": np.linspace(0, 1, N)})
    frame.loc[::7, "when"] = pd.NaT
    vae = latens.VAE(1, epochs=2, random_state=0).fit(frame)
    assert (vae.sample(200, random_state=0, gaps=False)["when"].dt.day == 1).all()
    filled = vae.impute(frame, k=10)["when"]
    assert (filled.dt.day == 1).all() and (filled == dates)[frame["when"].notna()].all()


BROKEN = [
    {"months": -1}, {"day": 0, "months": 1}, {}, {"weekdays": [7]}, {"novel": 1}, [1], "x",
    {"times": [0.5, 0.2], "shares": [0.5, 0.5]},
    {"times": [0.5], "shares": [0.4]}, {"times": [], "shares": []}, {"times": [1.5]}, {"times": ["noon"]},
]


@pytest.mark.parametrize("fields", BROKEN, ids=str)
def test_broken_calendars_are_refused(fields: object) -> None:
    with pytest.raises(latens.InputError, match="without a valid calendar"):
        Calendar.from_json(fields)


def _hours(*clock: float, days: np.ndarray, share: tuple[float, ...] = ()) -> np.ndarray:
    """Dates whose times of day, in hours, are drawn with these shares."""
    which = np.random.default_rng(1).choice(len(clock), len(days), p=share or None)
    return days + np.array(clock)[which] / 24


DAYS = np.random.default_rng(0).integers(17_000, 19_000, 2_000).astype(float)
WORKING = DAYS[(DAYS + 3) % 7 < 5]
CLOCKS = {
    "two times": _hours(9, 17, days=DAYS, share=(0.8, 0.2)),
    "hours of business": _hours(*np.arange(9, 17.5, 0.5), days=WORKING),
    "working days at nine": _hours(9, days=WORKING),
    "Saturdays and Sundays at ten past ten": _hours(10 + 1 / 6, days=DAYS[(DAYS + 3) % 7 > 4]),
    "month starts at half past eight": _hours(
        8.5, days=np.arange("1990-01", "2020-01", dtype="datetime64[M]").astype("datetime64[D]").astype(float)
    ),
    "midnight most often": _hours(0, *np.arange(1, 24), days=DAYS, share=(0.6, *[0.4 / 23] * 23)),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_times_of_the_day_are_restored_with_their_shares(name: str) -> None:
    """Numbers spread evenly over the range give each time of day and each day of the week its share (chi-squared, false
    alarm rate 1e-4 per case), and values of the data are unchanged."""
    values = CLOCKS[name]
    found = calendar_of(values, step=1 / 144)
    assert found is not None and Calendar.from_json(found.to_json()) == found
    np.testing.assert_allclose(found.snap(values), values, atol=1e-6)
    x = np.random.default_rng(2).uniform(values.min(), values.max(), 20_000)
    again = found.snap(x)
    np.testing.assert_allclose(found.snap(again), again, atol=1e-6)
    for part in (lambda v: np.rint(v % 1 * 1440), lambda v: (np.floor(v + 1e-6) + 3) % 7):
        kinds, seen = np.unique(part(values + 1e-7), return_counts=True)
        drawn = np.array([(part(again + 1e-7) == kind).sum() for kind in kinds])
        assert drawn.sum() == len(again), "a time, or a day of the week, that does not occur"
        if name.startswith("month"):
            continue
        shares = seen / seen.sum()
        spread = len(again) * shares * (1 + len(again) * (1 - shares) / seen.sum()) + 60.0  # and the ends of the range
        assert (np.square(drawn - len(again) * shares) / spread < 15.2).all()


@pytest.mark.parametrize("name", [*CLOCKS, *CALENDARS])
def test_the_next_value_of_a_calendar_is_that_of_brute_force(name: str) -> None:
    """Compare with the first value of the calendar at or after a number, found by brute force among those of four
    years."""
    values = CLOCKS[name] if name in CLOCKS else CALENDARS[name].to_numpy().astype("datetime64[D]").astype(float)
    found = calendar_of(values, step=1 / 144)
    assert found is not None
    minutes = np.arange(17_500 * 1440, 18_961 * 1440, 10) / 1440
    every = np.unique(np.round(found.snap(minutes) * 1440) / 1440)
    x = np.random.default_rng(3).uniform(17_600, 18_400, 200)
    expected = every[np.searchsorted(every, x - 1e-6)]
    np.testing.assert_allclose(found.following(x), expected, atol=1e-6)
    np.testing.assert_allclose(found.following(expected), expected, atol=1e-6)
    assert np.isnan(found.following(np.array([np.nan, 17_700.0]))).tolist() == [True, False]


@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_samples_keep_to_times_of_the_day(zone: str | None) -> None:
    """Midnight in UTC is two different times of day in New York."""
    when = pd.DatetimeIndex(pd.to_datetime(DAYS, unit="D")).tz_localize("UTC").tz_convert(zone) if zone else (
        pd.DatetimeIndex(pd.to_datetime(CLOCKS["two times"], unit="D").round("s")))  # fmt: skip
    frame = pd.DataFrame({"when": when, "x": np.random.default_rng(0).normal(size=len(when))})
    rows = latens.VAE(1, epochs=1, random_state=0).fit(frame).sample(500)
    assert set(rows["when"].dt.time) == set(frame["when"].dt.time)
    assert rows["when"].between(frame["when"].min(), frame["when"].max()).all()


def test_an_end_follows_its_start_within_the_hours_of_business() -> None:
    r = np.random.default_rng(0)
    start = pd.Series(pd.to_datetime(CLOCKS["hours of business"], unit="D").round("min"))
    later = r.integers(0, 20, len(start)) * pd.Timedelta(days=1)
    end = (start.dt.normalize() + later).dt.normalize() + pd.Timedelta(hours=17)
    frame = pd.DataFrame({"start": start, "end": end})
    rows = latens.VAE(1, epochs=1, random_state=0, rules=["none", "start <= end"]).fit(frame).sample(2_000)
    assert (rows["start"] <= rows["end"]).all()
    assert set(rows["end"].dt.time) == set(end.dt.time) and set(rows["start"].dt.time) <= set(start.dt.time)


@pytest.mark.parametrize("name", CLOCKS)
def test_draws_have_the_shares_of_weekdays_and_times(name: str) -> None:
    """Before training, draws have these shares, within five standard errors of both counts and half of a percent (false
    alarm rate below 1e-4 per case)."""
    values = CLOCKS[name]
    cells = pa.array(pd.to_datetime(values, unit="D").round("min"))
    column = infer_table(pa.table({"when": cells})).field("when")
    law = column.law
    assert law is not None and law.calendar is not None
    if law.is_complete or name.startswith("month"):
        return
    likelihood = TableLikelihood(torch.nn.Identity(), [likelihood_of(column)])
    raw = likelihood.start(torch.from_numpy(values).unsqueeze(-1))
    torch.manual_seed(0)
    drawn = law.snap(likelihood.distribution(raw, raw).sample([8_000])[:, 0].numpy())
    for part in (lambda v: np.rint(v % 1 * 1440) % 1440, lambda v: (np.floor(v) + 3) % 7):
        seen, again = (part(each + 1e-6) for each in (values, drawn))
        assert set(again) <= set(seen)
        for kind in set(seen):
            share, other = (seen == kind).mean(), (again == kind).mean()
            assert abs(share - other) < 5 * np.sqrt(share * (1 - share) * (1 / len(seen) + 1 / len(again))) + 0.005
