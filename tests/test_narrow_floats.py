"""Columns of narrow floats (float32, float16) have the law of the numbers that were rounded to them: 56.8 is a multiple
of a tenth, although its float32 is 56.79999924."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commanding import call

import latens
from latens import VAE
from latens.data.tables.kinds import infer_table

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning")]
N = 1200
RNG = np.random.default_rng(0)
Z = RNG.normal(size=N)
MONEY = np.exp(3 + Z)
NUMBERS: dict[str, tuple[np.ndarray, int]] = {  # numbers, and their decimals
    "tenths": ((20 + 5 * Z).round(1), 1),
    "tenths of large numbers": ((1e5 + 3e4 * Z).round(1), 1),
    "cents": (MONEY.round(2), 2),
    "cents of large numbers": ((5e4 + 1e4 * Z).round(2), 2),
    "a frequent price": (np.where(RNG.random(N) < 0.3, 9.99, MONEY.round(2)), 2),
    "prices that end in .99": (np.floor(MONEY) + 0.99, 2),
    "a code": (np.where(RNG.random(N) < 0.1, -99.9, (20 + 5 * Z).round(1)), 1),
    "shares": (RNG.beta(2, 5, N).round(3), 3),
    "few values": (RNG.choice([0.1, 0.2, 0.7], N), 1),
    "small numbers": ((1e-4 * Z).round(6), 6),
    "celsius": (((RNG.integers(0, 90, N) - 32) / 1.8).round(1), 1),
    "nickels": (np.rint(MONEY / 0.05) / 20, 2),
    "whole": (np.rint(100 * Z), 0),
}
HALF = ("tenths", "shares", "few values", "a code", "whole", "celsius")


def law_of(values: np.ndarray) -> Any:
    field = infer_table(pa.table({"c": values, "z": Z})).field("c")
    assert field.law is not None
    return field.law, field.decimals


@pytest.mark.parametrize("name, dtype", [(n, "float32") for n in NUMBERS] + [(n, "float16") for n in HALF])
def test_a_narrow_column_has_the_law_of_its_numbers(name: str, dtype: str) -> None:
    numbers, decimals = NUMBERS[name]
    (one, digits), (other, own) = law_of(numbers), law_of(numbers.astype(dtype))
    assert digits == own == decimals and one.step == pytest.approx(other.step) and one.is_complete == other.is_complete
    if dtype == "float32":  # some hundredths are one number in float16
        assert one.calendar == other.calendar and len(one.knots) == len(other.knots)
        for name in ("atoms", "places", "knots", "scores"):
            assert getattr(one, name) == pytest.approx(getattr(other, name)), name


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_without_decimals_have_no_grid(scale: float, dtype: str) -> None:
    if dtype == "float16" and scale != 1:
        pytest.skip("all float16 of that size lie on a grid")
    law, _ = law_of((scale * (2 + Z)).astype(dtype))
    assert law.step is None or law.step < 1e-5 * scale


FRAMES: dict[str, Any] = {
    "pandas": lambda c: pd.DataFrame({"c": c, "z": Z}),
    "pandas, nullable": lambda c: pd.DataFrame({"c": pd.array(c, "Float32"), "z": Z}),
    "polars": lambda c: pl.DataFrame({"c": c, "z": Z}),
    "arrow": lambda c: pa.table({"c": c, "z": Z}),
    "structured": lambda c: np.array(list(zip(c, Z)), [("c", "f4"), ("z", "f8")]),
}


def on_grid(cells: Any, decimals: int) -> bool:
    """Whether each number is the float32 of a number with ``decimals`` decimals."""
    found = np.asarray(cells)
    return found.dtype == np.float32 and bool((found == found.astype(np.float64).round(decimals).astype("f4")).all())


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("name", ["tenths", "a frequent price"])
def test_samples_and_filled_cells_keep_the_decimals(name: str, library: str) -> None:
    numbers, decimals = NUMBERS[name]
    frame = FRAMES[library](numbers.astype("float32"))
    vae = VAE(1, epochs=3, network="linear", random_state=0, nll_draws=5).fit(frame)
    new = vae.sample(2000, random_state=0)["c"]
    assert on_grid(new, decimals)
    share, often = np.float32(9.99), (numbers == 9.99).mean()
    error = np.sqrt(0.3 * 0.7 * (1 / N + 1 / 2000))  # five standard errors: a false alarm in 10^6 runs
    assert abs((np.asarray(new) == share).mean() - often) < 5 * error
    data = vae.codec()
    assert np.array_equal(np.asarray(data.decode(data.encode(frame))["c"]), numbers.astype("float32"))
    if not isinstance(frame, np.ndarray):
        gaps = pd.DataFrame({"c": numbers.astype("float32"), "z": Z}).assign(
            c=lambda f: f["c"].mask(np.arange(N) % 3 == 0)
        )
        filled = vae.impute(gaps, k=5)["c"]
        assert on_grid(filled, decimals) and (filled == numbers.astype("float32"))[np.arange(N) % 3 > 0].all()


@pytest.mark.parametrize("stream", [False, True])
def test_files_keep_the_decimals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.chdir(tmp_path)
    table = pa.table({n: v.astype("float32") for n, (v, _) in NUMBERS.items()} | {"z": Z})
    pq.write_table(table, "t.parquet")
    common = ("--out", "r", "--epochs", "1", "--rule", "none", *["--stream"] * stream)
    assert call("fit", "t.parquet", *common).status == 0
    assert call("sample", "r", "-n", "500", "--out", "s.parquet").status == 0
    found = pq.read_table("s.parquet")
    assert {n for n, (_, decimals) in NUMBERS.items() if not on_grid(found[n].to_numpy(), decimals)} == set()
    schema: Any = latens.load("r").schema_
    assert schema.field("cents").law.step == pytest.approx(0.01)
