"""Filled cells keep the rules and the ranges of the data, whatever the model proposes for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from latens.data.rows import Asked, rows_of
from latens.data.tables.frames import as_table

N = 800
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Give each test the same draws, whatever ran before it in the process."""
    rng.bit_generator.state = np.random.default_rng(0).bit_generator.state



def prices() -> pd.DataFrame:
    """One column below three others, and one above them."""
    level, spread = np.cumsum(rng.normal(size=N)) + 100, rng.gamma(2, 1, (4, N))
    ends = {"low": level, "open": level + spread[0] * (rng.random(N) < 0.7), "close": level + spread[1]}
    high = np.maximum(ends["open"], ends["close"]) + spread[2] * (rng.random(N) < 0.7)
    return pd.DataFrame(ends | {"high": high, "last": ends["close"]}).round(2)


def dates() -> pd.DataFrame:
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, N), unit="D")
    ends = [start := start + pd.to_timedelta(rng.integers(0, 90, N), unit="D") for _ in range(3)]
    return pd.DataFrame(dict(zip("abc", ends)))


def levels() -> pd.DataFrame:
    low = rng.integers(1, 5, N)
    mid = np.minimum(low + rng.integers(0, 3, N), 6)
    return pd.DataFrame({"low": low, "mid": mid, "top": np.minimum(mid + rng.integers(0, 3, N), 7)})


def career() -> pd.DataFrame:
    """Counts of a year, which are below those of a career."""
    hits = rng.negative_binomial(2, 0.02, N)
    runs = rng.binomial(hits, 0.2)
    before = rng.random(N) < 0.8
    return pd.DataFrame({"runs": runs, "hits": hits, "all_runs": runs + rng.binomial(600, 0.1, N) * before,
                         "all_hits": hits + rng.negative_binomial(2, 0.005, N) * before})  # fmt: skip


ORDERS: dict[str, tuple[Callable[[], pd.DataFrame], list[tuple[str, str]]]] = {
    "prices": (prices, [*((low, high) for low in ("open", "close") for high in ("high",)), ("low", "open"),
                        ("low", "close"), ("low", "high")]),
    "dates": (dates, [("a", "b"), ("b", "c"), ("a", "c")]),
    "levels": (levels, [("low", "mid"), ("mid", "top"), ("low", "top")]),
    "career": (career, [("runs", "hits"), ("runs", "all_runs"), ("hits", "all_hits"), ("runs", "all_hits")]),
}  # fmt: skip


def likert() -> pd.DataFrame:
    items = rng.integers(1, 6, (3, N))
    return pd.DataFrame({"a": items[0], "b": items[1], "c": items[2], "total": items.sum(0)})


def counts() -> pd.DataFrame:
    items = np.minimum(rng.negative_binomial(2, 0.3, (3, N)), 10)
    return pd.DataFrame({"a": items[0], "b": items[1], "c": items[2], "total": items.sum(0)})


def change() -> pd.DataFrame:
    after, fall = rng.uniform(0.02, 0.3, N).round(3), rng.uniform(0.005, 0.14, N).round(3)
    return pd.DataFrame({"after": after, "fall": fall, "before": (after + fall).round(3)})


def share() -> pd.DataFrame:
    days, plan = rng.integers(3, 250, N), rng.integers(0, 2, N)
    return pd.DataFrame({"days": days, "plan": plan, "share": days / np.where(plan, 180, 90)})


Made = tuple[Callable[[], pd.DataFrame], Callable[[pd.DataFrame], pd.Series], str]
FORMULAS: dict[str, Made] = {  # the last word names a column without gaps
    "levels": (likert, lambda f: f.a + f.b + f.c - f.total, ""),
    "counts": (counts, lambda f: f.a + f.b + f.c - f.total, ""),
    "a change": (change, lambda f: f.after + f.fall - f.before, ""),
    "a share": (share, lambda f: f.days / np.where(f.plan, 180, 90) - f.share, "plan"),
    "a level": (share, lambda f: f.days / np.where(f.plan, 180, 90) - f.share, "days"),
}  # fmt: skip


def filled(data: pd.DataFrame, removed: float, kept: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows with gaps, the same filled) where the model proposes numbers of other rows, or numbers out of range."""
    table, back = as_table(data)
    schema = rows_of(table, asked=Asked()).schema
    x = np.stack([rng.permutation(column) for column in schema.to_model(table).T], 1).astype(np.float64)
    x += x.std(0) * rng.normal(size=x.shape) * (rng.random(x.shape) < 0.3)
    holes = data.mask((rng.random(data.shape) < removed) & (data.columns != kept))
    u = schema.numbers(as_table(holes.astype({n: "Int64" for n in data if data[n].dtype.kind == "i"}))[0])
    full = back(schema.to_user(np.zeros((len(data), schema.columns))))[data.columns]
    for name, numbers in schema.filled(u, x).items():
        full[name] = schema.decoded(schema.field(name), numbers).to_pandas()
    return holes, full[data.columns]


@pytest.mark.parametrize("removed", [0.2, 0.6])
@pytest.mark.parametrize("name", ORDERS)
def test_filled_cells_keep_every_order(name: str, removed: float):
    make, pairs = ORDERS[name]
    data = make()
    assert all((data[low] <= data[high]).all() for low, high in pairs)
    holes, full = filled(data, removed)
    assert {(low, high): int((full[low] > full[high]).sum()) for low, high in pairs} == dict.fromkeys(pairs, 0)
    assert ((full == data) | holes.isna()).all(axis=None)


@pytest.mark.parametrize("removed", [0.2, 0.6])
@pytest.mark.parametrize("name", FORMULAS)
def test_filled_cells_keep_formulas_and_ranges(name: str, removed: float):
    make, apart, kept = FORMULAS[name]
    data = make()
    holes, full = filled(data, removed, kept)
    assert np.abs(apart(full)).max() < 1e-9
    assert (full.min() >= data.min()).all() and (full.max() <= data.max()).all()
    assert ((np.abs(full - data) < 1e-9) | holes.isna()).all(axis=None)


def test_any_month_of_a_year_follows_from_the_total_and_the_others():
    """Twelve sources: the first is named v1 in the formula, and v10, v11 and v12 are no other occurrences of it."""
    data = pd.DataFrame({f"month_{k}": rng.integers(0, 50, N) for k in range(1, 13)})
    data["total"] = data.sum(axis=1)
    asked = Asked(rules=("total = " + " + ".join(data.columns[:-1]),))
    schema = rows_of(as_table(data)[0], asked=asked).schema
    (rule,) = (rule for rule in schema.rules if rule.target == "total")
    holes = data.astype("Int64")
    for row, name in enumerate(data.columns):
        holes.loc[row::13, name] = pd.NA
    u = schema.numbers(as_table(holes)[0])
    rule.tell(u, schema.ruled)
    assert len(rule.single) == 12 and all((u[name] == data[name]).all() for name in data)
