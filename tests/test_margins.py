"""Samples have the margins of the data: what maps do to draws, and which numbers they leave alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_ranges import HEAPED

import latens
from latens.data import infer
from latens.data.tables.kinds import infer_table
from latens.runs import margins

N = 4000
rng = np.random.default_rng(0)
normal = rng.normal(size=(N, 3))
days = np.datetime64("2015-01-01") + rng.integers(0, 2000, N)
months = np.datetime64("2000-01") + np.floor(200 * rng.random(N) ** 2).astype(np.int64)
# columns of tables
COLUMNS: dict[str, np.ndarray] = {
    "whole, with heaps": np.where(rng.random(N) < 0.3, 40, np.rint(40 + 15 * normal[:, 0])),
    "many whole numbers": np.rint(np.exp(8 + normal[:, 0])),
    "ending in .99": np.floor(np.exp(3 + normal[:, 0])) + rng.choice([0.0, 0.5, 0.99], N, p=[0.2, 0.2, 0.6]),
    "half whole": np.where(rng.random(N) < 0.5, np.rint(900 + 80 * normal[:, 0]), 900 + 80 * normal[:, 1]),
    "with a code": np.where(rng.random(N) < 0.2, -999.0, normal[:, 0]),
    "few values": rng.choice([0.1, 0.25, 1.0, 7.0, 7.5], N, p=[0.5, 0.2, 0.1, 0.1, 0.1]),
    "two modes": np.where(rng.random(N) < 0.5, -5, 5) + normal[:, 1],
    "starts of months": months.astype("datetime64[s]"),
    "instants": (days + 0).astype("datetime64[s]") + rng.integers(9 * 60, 18 * 60, N).astype("timedelta64[m]"),
    "positive with gaps": np.where(rng.random(N) < 0.3, np.nan, np.exp(2 * normal[:, 2])),
}


def schema_of(values: np.ndarray):
    return infer_table(pa.table({"x": pa.array(values, from_pandas=True)}))


def numbers_of(schema, values: np.ndarray) -> np.ndarray:
    return schema.to_model(pa.table({"x": pa.array(values, from_pandas=True)})).astype(np.float64)


@pytest.mark.parametrize("name", COLUMNS)
def test_values_spread_evenly_settle_where_they_were(name: str) -> None:
    """Exactly, or with a calendar or rounded values with the same distribution: both are multiplied out within periods,
    so shares are within five standard errors, and 0.02 for partial periods."""
    schema = schema_of(COLUMNS[name])
    column, values = schema.modelled[0], numbers_of(schema, COLUMNS[name])[:, 0]
    law, values = column.law, values[~np.isnan(values)]
    values = values[~law.is_atom(values)]
    if law.is_complete:
        return
    found = law.snap(law.evened(values, np.random.default_rng(1)))
    if law.rounded or (law.calendar is not None and law.calendar.spread(law.step / law.period)):
        at = np.unique(values)
        share = [np.searchsorted(np.sort(each), at, "right") / len(values) for each in (values, found)]
        assert np.abs(share[0] - share[1]).max() < 5 / np.sqrt(2 * len(values))
        whole = [np.mean(np.abs(each / law.period - np.rint(each / law.period)) < 1e-6) for each in (values, found)]
        assert abs(whole[0] - whole[1]) < 5 * np.sqrt(0.5 / len(values)) + 0.02
    else:
        np.testing.assert_allclose(found, law.snap(values), rtol=1e-6)


@pytest.mark.parametrize("tilt", ["shifted", "too narrow", "skewed"])
@pytest.mark.parametrize("name", COLUMNS)
def test_draws_with_a_wrong_margin_get_that_of_the_values(name: str, tilt: str) -> None:
    """Repeated values too: each share is within five standard errors of two samples (with at most 100 values per case,
    false alarms in fewer than 1 of 5,000 cases), and 0.005 for quantiles between the points of a map."""
    schema = schema_of(COLUMNS[name])
    column, x = schema.modelled[0], numbers_of(schema, COLUMNS[name])
    law, seen = column.law, x[~np.isnan(x[:, 0]), 0]
    score = np.random.default_rng(2).logistic(size=2 * N) * np.sqrt(3) / np.pi
    score = {"shifted": score + 0.4, "too narrow": 0.6 * score, "skewed": score + 0.2 * score**2}[tilt]
    draws = np.interp(score, law.scores, law.knots)
    draws[: N // 2] = law.atoms[0] if law.atoms else draws[: N // 2]
    maps = json.loads(json.dumps(margins.learned(schema, draws[:, None], x)))
    if law.is_complete or law.cycles:
        assert maps == {}
        return
    made = margins.MarginMaps(schema, maps).mapped(draws[:, None])
    assert np.array_equal(law.is_atom(draws), law.is_atom(made[:, 0])), "atoms stay"
    made, seen = (np.sort(column.settled(each[~law.is_atom(each)])) for each in (made[:, 0], seen))
    at, counts = np.unique(seen, return_counts=True)
    share = [np.searchsorted(each, at, "right") / len(each) for each in (made, seen)]
    assert np.abs(share[0] - share[1]).max() < 1.6 * np.sqrt(1 / len(made) + 1 / len(seen)) + 0.005
    for value, p in zip(at[counts >= 0.01 * len(seen)], counts[counts >= 0.01 * len(seen)] / len(seen)):
        error = np.sqrt(p * (1 - p) * (1 / len(made) + 1 / len(seen)))
        assert abs((made == value).mean() - p) < 5 * error + 0.005, value
    assert seen.min() <= made.min() and made.max() <= seen.max()


def test_draws_from_a_density_have_the_margins_of_the_data_too() -> None:
    vae = latens.VAE(latent_dim=2, epochs=3, random_state=0).fit(HEAPED)
    vae.fit_density(HEAPED, "mixture")
    new = vae.sample(10_000, density="mixture", random_state=0)
    share = [(each[:, 0] == 0).mean() for each in (new, HEAPED)]
    assert abs(share[0] - share[1]) < 0.03  # five standard errors of the 3,000 rows, and of the draws of the map


def test_means_and_extrapolated_draws_go_through_no_map() -> None:
    vae = latens.VAE(latent_dim=2, epochs=3, random_state=0).fit(HEAPED)
    asked = ({"mean": True}, {"extrapolate": True})
    before = [vae.sample(500, random_state=0, **how) for how in asked]
    assert vae.run_.data.pop("margins")
    assert all(np.array_equal(old, vae.sample(500, random_state=0, **how)) for old, how in zip(before, asked))


def test_rules_hold_in_samples_with_maps() -> None:
    low, part = np.rint(np.exp(5 + normal[:, 0])), np.rint(9 * normal[:, 2])
    data = pd.DataFrame({"low": low, "high": low + np.rint(np.exp(3 + normal[:, 1])), "part": part})
    data["sum"] = data.low + data.part
    data["price"] = COLUMNS["ending in .99"] + 5
    data["sale"] = np.round(data.price * rng.uniform(0.3, 1, N), 2)
    vae = latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(data)
    assert {"confined", "order"} <= {rule.kind for rule in vae.schema_.rules}
    new = vae.sample(20_000, random_state=0)
    assert (new.low <= new.high).all() and (new["sum"] == new.low + new.part).all() and (new.sale <= new.price).all()
    assert (new.sale == new.price).mean() < 0.02


def test_only_numbers_of_narrow_rows_have_maps() -> None:
    wide = rng.normal(size=(30, margins.WIDEST + 1))
    assert not any(margins.columns_of(infer(wide))) and any(margins.columns_of(infer(wide[:, :-1])))
    table = infer_table(pa.table({"x": COLUMNS["two modes"], "level": rng.choice(["a", "b"], N), "day": days}))
    assert table.field("day").law.cycles and [j for j, _ in margins.columns_of(table)] == [0]
