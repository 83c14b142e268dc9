"""Laws of dates that recur: found, kept in the record, and the only ones that samples and filled cells have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import latens
from latens.data.rows import rows_of
from latens.data.tables.frames import as_table
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
def test_dates_come_back_on_their_days(name: str) -> None:
    """Brute force: the nearest date of the calendar, among all its dates in reach."""
    dates = CALENDARS[name].to_numpy().astype("datetime64[D]")
    days = dates.astype(np.int64).astype(float)
    found = calendar_of(days)
    assert found is not None and Calendar.from_json(found.to_json()) == found
    assert (found.snap(days) == days).all()
    x = np.random.default_rng(0).uniform(days[0], days[-1], 500)
    nearest = np.abs(days[None] - x[:, None]).min(1)
    off = np.abs(found.snap(x) - x)
    np.testing.assert_allclose(off, nearest, atol=0.5 + 1e-9 if name == "working days" else 1e-9)
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


BROKEN = [{"months": -1}, {"day": 0, "months": 1}, {}, {"weekdays": [7]}, {"novel": 1}, [1], "x"]


@pytest.mark.parametrize("fields", BROKEN, ids=str)
def test_broken_calendars_are_refused(fields: object) -> None:
    with pytest.raises(latens.InputError, match="without a valid calendar"):
        Calendar.from_json(fields)
