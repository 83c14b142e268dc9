"""Laws of dates with cycles: months, days of the week and hours depend on the codes and on other columns."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.stats import chi2

import latens
from latens.conditionals import ColumnLikelihood, TableLikelihood
from latens.data.rows import rows_of
from latens.data.tables.frames import as_table
from latens.data.tables.kinds import law_of
from latens.distributions import Columns, Heaped, Margins, Periods, Seasonal, SelfMasked, extrapolating
from latens.networks import ColumnFeatures, Seen
from latens.runs.synthesis import with_cycles
from latens.schema import Column, Table
from latens.schema.law import CYCLES, Law, cycles_of

B, M = 3, 2  # rows and components
START = {"2012": 15_340, "2021": 18_700}  # days since 1970-01-01


def dates_of(step: float, days: int, rows: int, first: int = START["2012"]) -> np.ndarray:
    """Dates with times on a grid, in days since 1970-01-01."""
    return first + np.random.default_rng(2).integers(0, round(days / step), rows) * step


# dates, the grid on which they lie, and their cycles
INSTANCES = {
    "days of a year and a half": (dates_of(1, 550, 900, START["2012"] + 45), (1.0,), ("year", "week")),
    "days of thirteen years, months only": (dates_of(1, 13 * 365, 3000), (1.0,), ("year",)),
    "days of four years": (dates_of(1, 1461, 3000), (1.0,), ("year", "week")),
    "days of four years, weeks only": (dates_of(1, 1461, 3000), (1.0,), ("week",)),
    "days of two years, months only": (dates_of(1, 700, 900, START["2021"]), (1.0,), ("year",)),
    "hours of a year and a half": (dates_of(1 / 24, 500, 3000), (1 / 24,), ("year", "week", "day")),
    "hours of ten days": (dates_of(1 / 24, 10, 500), (1 / 24,), ("day",)),
    "shifts of two months": (dates_of(1 / 3, 60, 900) + 9 / 24, (1 / 3,), ("week", "day")),
    "days at nine": (dates_of(1, 700, 900) + 9 / 24, (1.0,), ("year", "week")),
    "half past": (dates_of(1 / 24, 90, 2000) + 1 / 48, (1 / 24,), ("week", "day")),
    "half hours of a month": (dates_of(1 / 48, 30, 2000), (1 / 48,), ("week", "day")),
}


def law_and_places(name: str) -> tuple[Law, np.ndarray]:
    values, steps, cycles = INSTANCES[name]
    origin = float(np.round(values[0] % steps[0], 9))
    law = law_of(values - origin, steps=steps)
    assert law is not None and law.step == steps[0]
    law = replace(law, cycles=cycles, origin=origin, knots=tuple(knot + origin for knot in law.knots))
    count = round((law.high - law.low) / law.step)  # type: ignore[operator]
    return law, law.low + np.arange(count + 1) * law.step  # type: ignore[operator]


def seasonal(law: Law, tilted: float = 1.0, components: int = M) -> Seasonal:
    """A distribution over ``[B, 1]`` with drawn parameters."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    loc, scale, mixing = (normal(B, components, 1) for _ in range(3))
    scale = 0.05 + scale.abs() / 3
    tilts = {cycle: tilted * normal(B, 1, law.phases.get(cycle, size)) for cycle, size in CYCLES.items()}
    margins = Margins.of([law], [(law.high - law.low) / 4])
    return Seasonal(loc, scale, normal(B, 1, 0), margins, mixing, tilts, Periods.of([law], margins))


def log_masses(px: Heaped, places: np.ndarray) -> np.ndarray:
    """ln of the mass of each place, ``[places, B]``."""
    lp = px.log_prob(torch.from_numpy(places)[:, None, None].expand(-1, B, 1))
    return lp.squeeze(-1).numpy() + math.log(float(px.margins.step))


@cache
def phases_of(place: float, hours: int = 24) -> dict[str, tuple[object, int]]:
    """For each cycle: the period within which mass is divided, and the number of the phase."""
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=round(place * 86_400))
    day, week = moment.date(), moment.isocalendar()[:2]
    return {"year": (12 * moment.year + moment.month, moment.month - 1), "week": (week, moment.weekday()),
            "day": (day, moment.hour * hours // 24)}  # fmt: skip


def naive(px: Seasonal, law: Law, places: np.ndarray) -> Iterator[list[float]]:
    """The mass of each place of each row, from the definition, by enumeration."""
    step = law.step or 0.0
    T = lambda x: float(np.interp(x, law.knots, law.scores))
    for b in range(B):
        loc, scale = px.loc[b, :, 0].tolist(), px.scale[b, :, 0].tolist()
        weight = px.log_mixing[b, :, 0].exp().tolist()

        def below(score: float, loc: list[float] = loc, scale: list[float] = scale, w: list[float] = weight) -> float:
            return sum(w / (1 + math.exp(-(score - m) / s)) for w, m, s in zip(w, loc, scale))

        mass = [below(T(x + step / 2)) - below(T(x - step / 2)) for x in places]
        months = [phases_of(x)["year"][0] - phases_of(places[0])["year"][0] for x in places]  # type: ignore[operator]
        last = max(months[-1] // 12 - (months[-1] % 12 < 11), 0)  # the last year also holds the months that are left
        years = [min(month // 12, last) if "year" in law.cycles else 0 for month in months]
        for cycle, size in law.phases.items():
            log_weights = px.tilts[cycle][:, b, 0].tolist()
            before: dict[object, float] = {}
            after: dict[object, float] = {}
            phases = [phases_of(x, size)[cycle] for x in places]
            at = [(year, None if cycle == "year" else period) for year, (period, _) in zip(years, phases)]
            factor = [math.exp(log_weights[phase]) for _, phase in phases]
            for period, m, f in zip(at, mass, factor):
                before[period] = before.get(period, 0.0) + m
                after[period] = after.get(period, 0.0) + m * f
            mass = [m * f * before[period] / after[period] for period, m, f in zip(at, mass, factor)]
        yield mass


@pytest.mark.parametrize("name", INSTANCES)
def test_the_density_is_its_definition(name: str) -> None:
    """The masses of all places equal those by enumeration."""
    law, places = law_and_places(name)
    px = seasonal(law)
    np.testing.assert_allclose(np.exp(log_masses(px, places)).T, list(naive(px, law, places)), rtol=1e-7)


@pytest.mark.parametrize("name", INSTANCES)
def test_the_mass_of_all_places_is_that_of_the_margin(name: str) -> None:
    """The masses of all places add up as they do under the margin. Outside the range, the density is the margin."""
    law, places = law_and_places(name)
    px = seasonal(law)
    plain = Heaped(px.loc, px.scale, torch.zeros(B, 1, 0).double(), px.margins, px.log_mixing)
    totals = [np.exp(log_masses(each, places)).sum(0) for each in (px, plain)]
    np.testing.assert_allclose(totals[0], totals[1], atol=1e-9)
    far = torch.tensor([places[0] - 500.0, places[-1] + 700.0])[:, None, None].expand(-1, B, 1).double()
    torch.testing.assert_close(px.log_prob(far), plain.log_prob(far))


@pytest.mark.parametrize("name", INSTANCES)
def test_without_log_weights_it_is_the_margin(name: str) -> None:
    law, places = law_and_places(name)
    px = seasonal(law, tilted=0.0)
    plain = Heaped(px.loc, px.scale, torch.zeros(B, 1, 0).double(), px.margins, px.log_mixing)
    x = torch.from_numpy(places[::7])[:, None, None].expand(-1, B, 1)
    torch.testing.assert_close(px.log_prob(x), plain.log_prob(x))
    near = 16.0 if "year" in law.cycles else 1e-6  # means are computed from points within each month
    assert ((px.mean - plain.mean).abs() < near).all()


@pytest.mark.parametrize("name", INSTANCES)
def test_draws_of_dates_have_their_density(name: str) -> None:
    """Chi-square over places, pooled to at least 20 expected draws: p > 1e-6 for each of 33 rows, so there is one false
    alarm in 30,000 runs."""
    law, places = law_and_places(name)
    px = seasonal(law)
    torch.manual_seed(0)
    n = 6_000
    found = np.rint((px.sample([n]).squeeze(-1).numpy() - places[0]) / law.step).astype(int)
    assert found.min() >= 0 and found.max() < len(places)
    share = np.exp(log_masses(px, places))
    for b in range(B):
        expected = n * share[:, b] / share[:, b].sum()
        order = np.argsort(-expected)
        pool = (np.cumsum(expected[order]) / 20).astype(int)
        wanted = np.bincount(pool, expected[order])
        seen = np.bincount(pool, np.bincount(found[:, b], minlength=len(places))[order])
        kept = wanted >= 10
        distance = ((seen - wanted)[kept] ** 2 / wanted[kept]).sum()
        assert chi2.sf(distance, kept.sum() - 1) > 1e-6


@pytest.mark.parametrize("name", INSTANCES)
def test_means_and_variances_are_those_of_the_density(name: str) -> None:
    """Means and variances ignore days of the week and hours, so they may be off by half a week or half a day. Over many
    years they ignore months as well."""
    law, places = law_and_places(name)
    px = seasonal(law)
    share = np.exp(log_masses(px, places))
    share = share / share.sum(0)
    mean = (share * places[:, None]).sum(0)
    deviation = np.sqrt((share * (places[:, None] - mean) ** 2).sum(0))
    off = 200.0 if "thirteen" in name else 3.5 if "week" in law.cycles else 0.5
    np.testing.assert_allclose(px.mean.squeeze(-1), mean, atol=off)
    np.testing.assert_allclose(px.variance.sqrt().squeeze(-1), deviation, atol=off)


@pytest.mark.parametrize("name", INSTANCES)
def test_gradients_are_finite_and_exact(name: str) -> None:
    """Compare with finite differences inside the range, at its edges and outside."""
    law, places = law_and_places(name)
    px = seasonal(law)
    at = [places[0], places[len(places) // 3], places[-1], law.knots[0] - 400.0, law.knots[-1] + 400.0]
    x = torch.tensor(at, dtype=torch.float64)[:, None, None].expand(-1, B, 1)

    def total(loc: torch.Tensor, scale: torch.Tensor, *tilts: torch.Tensor) -> torch.Tensor:
        own = dict(zip(px.tilts, tilts))
        return Seasonal(loc, scale, torch.zeros(B, 1, 0).double(), px.margins, px.log_mixing, own,
                        px.periods).log_prob(x).sum()  # fmt: skip

    inputs = [px.loc.clone(), px.scale.clone(), *(tilt.movedim(0, -1).clone() for tilt in px.tilts.values())]
    assert torch.autograd.gradcheck(total, [part.requires_grad_() for part in inputs], eps=1e-6, atol=1e-5)


def test_outside_the_range_scores_fall_and_draws_may_go_there() -> None:
    law, _ = law_and_places("days of four years")
    px = seasonal(law)
    far = log_masses(px, law.high + np.array([1.0, 100.0, 1000.0, 10_000.0]))
    assert np.isfinite(far).all() and (np.diff(far, axis=0) < 0).all()
    wide = Seasonal(px.loc, 30 * px.scale, torch.zeros(B, 1, 0).double(), px.margins, px.log_mixing, {
        name: tilt.movedim(0, -1) for name, tilt in px.tilts.items()}, px.periods)  # fmt: skip
    torch.manual_seed(0)
    assert float(wide.sample([500]).max()) <= law.knots[-1]
    with extrapolating():
        x = wide.sample([500])
    assert float(x.max()) > law.knots[-1] and float(x.min()) < law.knots[0]


@pytest.mark.parametrize("scale", ["learned", "network"])
def test_the_head_starts_at_the_shares_of_the_sample(scale: str) -> None:
    """Before training, months, days of the week and hours are as frequent in draws as in the data: the shares in 40,000
    draws have standard errors of at most 0.0025, and the tolerance is 8 standard errors."""
    random = np.random.default_rng(0)
    days = 18_700 + random.choice(np.arange(730), 6000, p=(w := np.where(np.arange(730) % 7 < 2, 0.3, 1.0)) / w.sum())
    values = days + np.clip(random.normal(14, 3, 6000), 0, 23).astype(int) / 24
    law = law_of(values, steps=(1 / 24,))
    assert law is not None
    law = replace(law, cycles=cycles_of(*np.unique(values, return_counts=True), law))
    assert law.cycles == ("year", "week", "day")
    column = ColumnLikelihood("heaped", unit=200.0, law=law, scale=scale, components=1 + 2 * (scale == "network"))
    net = torch.nn.Linear(1, column.outputs).double()
    likelihood = TableLikelihood(net, [column])
    raw = likelihood.start(torch.from_numpy(values).unsqueeze(-1))
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(raw)
    torch.manual_seed(0)
    drawn = likelihood(torch.zeros(1, 1).double()).sample([40_000]).reshape(-1).numpy()
    for cycle in CYCLES:
        wanted, got = (np.bincount([phases_of(x)[cycle][1] for x in part], minlength=CYCLES[cycle]) / len(part)
                       for part in (values, law.snap(drawn)))  # fmt: skip
        np.testing.assert_allclose(got, wanted, atol=0.02)


def test_a_network_sees_the_position_in_each_cycle() -> None:
    """Dates a year apart have the same waves of the year; a missing date has none."""
    law, _ = law_and_places("hours of a year and a half")
    features = ColumnFeatures([Seen(None, "", 15_600.0, 200.0, law)], wide=torch.float64).double()
    x = torch.tensor([[15_500.25], [15_500.25 + 365.2425], [15_500.25 + 7], [torch.nan]], dtype=torch.float64)
    seen = features(x)
    waves = [365.2425, 365.2425 / 2, 7.0, 7 / 2, 7 / 3, 1.0, 1 / 2, 1 / 3]
    angles = 2 * torch.pi * x[:3] / torch.tensor(waves, dtype=torch.float64)
    torch.testing.assert_close(seen[:3, 2:], torch.cat([angles.cos(), angles.sin()], -1), atol=1e-9, rtol=0)
    torch.testing.assert_close(seen[0, 2:4], seen[1, 2:4])
    assert (seen[3] == 0).all() and features.features == seen.shape[-1] == len(features.owners)


def column_of(frame: pd.DataFrame, name: str) -> Column:
    schema = rows_of(as_table(frame)[0]).schema
    assert isinstance(schema, Table)
    return schema.field(name)


DAYS = np.arange(730.0) + START["2021"]
# dates and their cycles
FOUND: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
    "two years of days": (DAYS, ("year", "week")), "a year of days": (DAYS[:365], ("week",)),
    "two weeks of hours": (DAYS[0] + np.arange(336) / 24, ("day",)), "few days": (DAYS[:50], ()),
    "Fridays": (DAYS[0] + 7 * np.arange(120), ("year",)),
    "month starts": (np.arange("1990-01", "2000-01", dtype="datetime64[M]").astype("datetime64[D]").astype(float),
                     ("year",)),
    "January firsts": (np.arange("1800", "1990", dtype="datetime64[Y]").astype("datetime64[D]").astype(float), ()),
    "births of a century": (-20_000 + 9 * np.arange(4000.0), ("year", "week")),
    "at 09:00": (DAYS + 0.375, ("year", "week")),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_cycles_are_those_that_dates_go_through(name: str) -> None:
    values, expected = FOUND[name]
    column = column_of(pd.DataFrame({"when": pd.to_datetime(values, unit="D")}), "when")
    assert (column.law.cycles if column.law else ()) == expected


def effects(frame: pd.DataFrame, when: str, value: str) -> dict[str, np.ndarray]:
    """Means of a column by month, day of the week and hour."""
    at = pd.to_datetime(frame[when])
    cells = {"month": at.dt.month, "weekday": at.dt.weekday, "hour": at.dt.hour}
    return {name: frame[value].groupby(cell).mean().to_numpy() for name, cell in cells.items()}


def sales(rows: int, first: str = "2019-01-01") -> pd.DataFrame:
    """A table of shops that open from 8 to 20, whose sales depend on month, day of the week and hour."""
    random = np.random.default_rng(0)
    at = pd.Timestamp(first) + pd.to_timedelta(24 * random.integers(0, 1096, rows) + random.integers(8, 20, rows), "h")
    level = 3 * np.cos(2 * np.pi * at.day_of_year / 365) + 2 * (at.day_of_week >= 5) + np.where(at.hour >= 17, 2, 0)
    return pd.DataFrame({"sales": (20 + level + random.normal(0, 1, rows)).round(1), "at": at,
                         "open": random.choice(["a", "b"], rows)})  # fmt: skip


@pytest.mark.parametrize(("rows", "form", "file"), [
    (900, "%d/%m/%Y %H:%M", "csv"), (2400, "timestamps", "parquet"),
])  # fmt: skip
def test_other_columns_depend_on_month_weekday_and_hour(rows: int, form: str, file: str, tmp_path: Path) -> None:
    """Means of samples by month, weekday and hour follow those of the data: the slope of a regression over phases is
    above 0.5 (it is 0 if the dependence is lost), and no hour occurs in which the shops are closed. Slopes were 0.75 to
    1.0, with standard errors of at most 0.06, so a false alarm needs a deviation of 4 standard errors."""
    frame = sales(rows)
    told = frame if form == "timestamps" else frame.assign(at=frame["at"].dt.strftime(form))
    path = tmp_path / f"sales.{file}"
    told.to_csv(path, index=False) if file == "csv" else told.to_parquet(path)
    vae = latens.VAE(random_state=0, epochs=100).fit(pd.read_csv(path) if file == "csv" else pd.read_parquet(path))
    found = vae.sample(4000)
    at = pd.to_datetime(found["at"], format=None if form == "timestamps" else form)
    assert set(at.dt.hour) <= set(range(8, 20)) and at.min() >= frame["at"].min() and at.max() <= frame["at"].max()
    for name, wanted in effects(frame, "at", "sales").items():
        got = effects(found.assign(at=at), "at", "sales")[name]
        slope = np.polyfit(wanted - wanted.mean(), got - got.mean(), 1)[0]
        assert 0.5 < slope < 1.3, (name, slope)


def test_values_stay_in_their_month_day_and_hour() -> None:
    """The value written for a drawn number lies in the same month, day and hour if the data have a value there."""
    frame = sales(2000)
    column = column_of(frame, "at")
    assert column.law is not None and column.law.cycles == ("year", "week", "day")
    drawn = np.random.default_rng(0).uniform(column.law.low, column.law.high, 2000)
    cells = column.decode(drawn).to_pandas()
    for x, cell in itertools.islice(zip(drawn, cells), 2000):
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=round((x + column.law.shift) * 86_400))
        if 8 <= moment.hour < 20:
            assert (moment.date(), moment.hour) == (cell.date(), cell.hour)
        assert 8 <= cell.hour < 20


def test_months_weekdays_and_hours_are_columns_of_the_report() -> None:
    """Compare with pandas. A missing date has none of them, and a column of the same name stays as it is."""
    frame = sales(300).assign(**{"hour of at": 1.5})
    rows = rows_of(as_table(frame)[0])
    assert isinstance(rows.schema, Table)
    column = rows.schema.field("at")
    assert column.law is not None and column.law.cycles == ("year", "week", "day")
    days = column.encode(pa.array(frame["at"]))[0]
    days[7] = np.nan
    other = replace(column, name="hour of at", kind="continuous", family="normal", law=None)
    assert with_cycles([other, column], [days, days]).columns["hour of at"].dtype.kind == "f"
    found = with_cycles([column, other], [days, days]).columns
    at, kept = frame["at"], np.arange(300) != 7
    for name, wanted in {"month of at": at.dt.month - 1, "weekday of at": at.dt.weekday}.items():
        assert (found[name][kept] == wanted[kept]).all() and found[name][7] == -1
    assert found["hour of at"].dtype.kind == "f" and list(found)[:3] == ["at", "month of at", "weekday of at"]


def test_times_keep_their_hour_in_the_form_in_which_they_are_stored() -> None:
    """Single precision would move whole hours on a grid of seconds to the hour before."""
    random, rows = np.random.default_rng(0), 4000
    whole, hour = random.random(rows) < 0.7, random.integers(8, 18, rows)
    seconds = 3600 * hour + np.where(whole, 0, random.integers(0, 3600, rows))
    at = pd.to_datetime(1_614_556_800 + 86_400 * random.integers(0, 700, rows) + seconds, unit="s")
    stored = rows_of(as_table(pd.DataFrame({"at": at, "x": random.normal(size=rows)}))[0])
    assert isinstance(stored.schema, Table)
    column, x = stored.schema.field("at"), stored.inside[:, stored.schema.names.index("at")]
    assert column.law is not None and "day" in column.law.cycles
    assert (column.law.in_cycles(x.double().numpy())["day"] == at.hour).all()


@pytest.mark.parametrize("name", ["half hours of a month", "days of four years"])
def test_missing_dates_are_drawn_on_their_days_and_hours(name: str) -> None:
    """Dates that are missing because of their value are drawn from the margin and then divided. Chi-square over phases,
    p > 1e-6 for each of 3 rows and each cycle: one false alarm in 100,000 runs."""
    law, places = law_and_places(name)
    px, k = seasonal(law, components=1), 4000
    torch.manual_seed(0)
    many = px._expanded(torch.Size([k]))
    zero = torch.zeros(1, dtype=torch.float64)
    masked = SelfMasked(Columns([(torch.tensor([0]), many)], 1), zero, zero)
    x = masked.completed(torch.full((k, B, 1), torch.nan, dtype=torch.float64)).squeeze(-1).numpy()
    inside = (x >= law.knots[0]) & (x <= law.knots[-1])
    share = np.exp(log_masses(px, places))
    for cycle in set(law.cycles) - {"year"}:
        at = law.in_cycles(places)[cycle]
        for b in range(B):
            wanted = np.bincount(at, share[:, b], law.phases[cycle])
            seen = np.bincount(law.in_cycles(x[inside[:, b], b])[cycle], minlength=law.phases[cycle])
            expected = wanted / wanted.sum() * seen.sum()
            distance = ((seen - expected)[expected > 5] ** 2 / expected[expected > 5]).sum()
            assert chi2.sf(distance, (expected > 5).sum() - 1) > 1e-6, (cycle, b)
