"""Columns and rules as tensor operations give the same numbers as the table, which works on arrays."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import torch

import latens
from latens.data.rows import Rows, rows_of
from latens.runs.export import cells, graphs, writing
from latens.schema import Table

N = 400


def days(random: np.random.Generator, first: str, size: int) -> np.ndarray:
    return np.datetime64(first) + random.integers(0, size, N)


def columns(random: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Tables by name: one without rules, others with rules between columns."""
    start, low = days(random, "2019-01-01", 1500), random.integers(0, 50, N)
    workdays = np.datetime64("2018-01-01") + np.arange(2000)
    workdays = workdays[(workdays.astype(int) + 3) % 7 < 5]
    net = random.gamma(2, 40, N).round(2)
    tax = (net * 0.19 + random.integers(0, 3, N) * 0.5).round(2)
    left, right = random.negative_binomial(1, 0.01, (2, N))
    school = random.integers(0, 4, N)
    ward = random.choice(["births", "heart", "bones"], N)
    opened = (start.astype("M8[m]") + random.integers(0, 1440, N)).astype("M8[s]")
    born = days(random, "1950-01-01", 20_000)
    price = np.where(random.random(N) < 0.5, np.floor(gains := random.gamma(2, 9, N) + 1) + 0.99, gains).round(2)
    low_price = np.minimum((price * random.uniform(0.5, 1, N)).round(2), price)
    limit = np.where(random.random(N) < 0.5, 100, random.integers(20, 100, N))
    used, grade = (limit * random.beta(2, 2, N)).astype(int), random.choice([1, 2, 3, 4, 5, 5, 5, 5], N)
    bike, ridden = random.integers(0, 3, N), random.integers(1, 95, N)
    return {
        "columns": {
            "sevens": 7.0 * random.integers(0, 30, N), "paid": np.where(random.random(N) < 0.3, 0, net),
            "smoker": random.random(N) < 0.3, "age": random.integers(18, 90, N), "visits": random.poisson(30, N),
            "month": (np.datetime64("2015-01") + random.integers(0, 80, N)).astype("datetime64[D]"),
            "minute": np.datetime64("2020-01-01T00:00:00") + 60 * random.integers(0, 100_000, N),
            "monthly": (np.datetime64("1980-01") + random.integers(0, 400, N)).astype("datetime64[D]"),
            "business": (days(random, "2021-01-01", 800).astype("M8[m]") + 540
                         + np.minimum(random.gamma(2, 60, N), 479).astype(int)).astype("M8[s]"),
            "workday": random.choice(workdays, N), "skewed": random.lognormal(0, 2, N),
            "partly": np.where(random.random(N) < 0.5, (wide := random.normal(900, 99, N)).round(), wide),
            "quarter": random.normal(0, 2, N).round(2) // 0.25 * 0.25, "large": 1e6 * random.normal(3, 1, N).round(3),
            "price": np.floor(random.lognormal(2, 0.6, N)) + random.choice([0.99, 0.95, 0.49], N),
            "gaps": np.where(random.random(N) < 0.2, np.nan, random.normal(5, 1, N).round(1)),
        },
        "orders": {"start": start, "end": start + random.integers(0, 90, N), "low": low,
                   "mid": low + random.integers(0, 20, N)},
        "confined": {"sale": low_price, "price": price, "limit": limit, "used": used,
                     "grade": grade, "least": np.minimum(grade, random.integers(1, 6, N))},
        "sums": {"net": net, "tax": tax, "total": (net + tax).round(2)},
        "counts": {"left": left, "right": right, "both": left + right},
        "functions": {"school": np.array(["none", "some", "college", "master"])[school],
                      "years": np.array([6, 10, 15, 17])[school]},
        "computed": {"bike": np.array(["classic", "cargo", "electric"])[bike], "ridden": ridden, "start": start,
                     "price": (np.array([1, 2.5, 2])[bike] + 0.15 * ridden).round(2), "net": net,
                     "level": np.array(["low", "high"])[(net > 80).astype(int)], "square": (net / ridden**2).round(2),
                     "year": start.astype("datetime64[Y]").astype(int) + 1970,
                     "month": start.astype("datetime64[M]").astype(int) % 12 + 1,
                     "weekend": (start.astype(int) + 3) % 7 > 4},
        "dates": {"opened": opened, "day": start,
                  "time": pa.array((opened.astype(int) % 86_400).astype(np.int32), pa.time32("s")),
                  "week": start - (start.astype(int) + 3) % 7, "month": start.astype("M8[M]").astype("M8[D]"),
                  "last": (start.astype("M8[M]") + 1).astype("M8[D]") - 1,
                  "first": start.astype("M8[Y]").astype("M8[D]"),
                  "day_of_year": (start - start.astype("M8[Y]")).astype(int) + 1, "born": born,
                  "hours": (opened - born.astype("M8[s]")).astype(int) // 3600,
                  "years": pa.array([a.year - b.year - ((a.month, a.day) < (b.month, b.day))
                                     for a, b in zip(start.tolist(), born.tolist())])},
        "combinations": {"ward": ward, "sex": np.where(ward == "births", "f", random.choice(["f", "m"], N))},
    }  # fmt: skip


NAMES = tuple(columns(np.random.default_rng(0)))


@cache
def rows(name: str) -> Rows:
    return rows_of(pa.table(columns(np.random.default_rng(0))[name]))


def schema(name: str) -> Table:
    found = rows(name).schema
    assert isinstance(found, Table)
    assert bool(found.rules) == (name != "columns")
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("far", [0.0, 0.3, 3.0])
def test_means_become_the_cells_that_a_table_writes(name: str, far: float):
    table, x = schema(name), rows(name).inside[:].double().numpy()
    noise = np.random.default_rng(1).normal(size=x.shape)
    x = (np.nan_to_num(x, nan=1.0) + far * np.nanstd(x, 0) * noise).astype(np.float32).astype(np.float64)
    wanted = np.stack(list(table.outward(x, mean=True)[0].values()), 1)
    assert np.array_equal(cells.outward(table, torch.from_numpy(x)).numpy(), wanted, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gaps, wrong", [(0.0, 0.0), (0.3, 0.0), (0.2, 0.2)])
def test_cells_become_what_the_model_sees(name: str, gaps: float, wrong: float):
    """Some cells are missing, and some break rules because they were taken from other rows."""
    table, random = schema(name), np.random.default_rng(2)
    u = np.stack(list(table.outward(rows(name).inside[:].double().numpy())[0].values()), 1)
    u = np.where(random.random(u.shape) < wrong, random.permuted(u, axis=0), u)
    u = np.where(random.random(u.shape) < gaps, np.nan, u)
    wanted = table.inward(dict(zip(table.outer_by_name, u.T)))
    assert np.array_equal(cells.inward(table, torch.from_numpy(u)).numpy(), wanted, equal_nan=True)


def test_a_runtime_writes_timestamps_as_the_table_does():
    """ONNX Runtime's decoded numbers are within 3e-6 of each column's spread, which is 0.3 s for dates within a day."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    random = np.random.default_rng(3)
    start = np.datetime64("2020-01-01T00:00:00")
    table = {"second": start + random.integers(0, 86_400 * 300, N), "size": random.normal(0, 1, N),
             "minute": start + 60 * random.integers(0, 100_000, N),
             "micro": start.astype("datetime64[us]") + random.integers(0, 86_400 * 10**6, N)}  # fmt: skip
    run = latens.VAE(latent_dim=2, epochs=1, random_state=0).fit(pa.table(table)).run_
    decoder = graphs.decoder(run)
    z = torch.randn(50, *decoder.row.shape, generator=torch.Generator().manual_seed(0))
    session = runtime.InferenceSession(writing.as_onnx(decoder), providers=["CPUExecutionProvider"])
    found = dict(zip(decoder.outputs, session.run(list(decoder.outputs), {"z": z.numpy()})))
    with torch.no_grad():
        wanted = dict(zip(decoder.outputs, decoder(z)))
    spread = [column.unit for column in run.schema.outer]
    assert [column.kind for column in run.schema.outer].count("datetime") == 3
    for name in ("value", "cells"):
        assert (np.abs(found[name] - wanted[name].numpy()) <= 3e-6 * np.array(spread)).all(), name
    assert np.allclose(found["deviation"], wanted["deviation"], rtol=1e-5)
