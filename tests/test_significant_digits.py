"""Columns of numbers that are rounded to significant digits (0.5021, 53.69, 1320) have no more in samples."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

import latens
from latens.data.tables.kinds import infer_table
from latens.runs.export import cells
from latens.schema import Column

N = 1500
R = np.random.default_rng(0)
DIGITS: dict[str, tuple[int, np.ndarray]] = {
    "areas": (4, R.lognormal(6.3, 0.5, N)), "concentrations": (3, R.lognormal(-2, 2, N)),
    "incomes": (6, np.where(R.random(N) < 0.3, 1.95927 * 12000, R.lognormal(9, 1, N))),
    "changes": (5, R.normal(0, 300, N)), "large": (3, R.lognormal(12, 1, N)),
}  # fmt: skip
OTHERS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "cents": lambda r: r.lognormal(4, 1.5, N).round(2), "whole": lambda r: r.lognormal(6, 1.5, N).round(),
    "unrounded": lambda r: r.lognormal(0, 2, N), "tenths and whole": lambda r: np.append(
        r.lognormal(4, 1, N).round(1), r.lognormal(6, 1, N).round()),
    "heaps": lambda r: np.where(r.random(N) < 0.5, 100 * r.integers(1, 90, N), r.lognormal(6, 1, N).round(2)),
    "single precision": lambda r: r.lognormal(0, 2, N).astype(np.float32),
    "one size": lambda r: r.uniform(1, 9, N).round(3),
}  # fmt: skip


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    return np.array([float(f"{x:.{digits}g}") for x in values.tolist()])


def column_of(values: np.ndarray) -> Column:
    return infer_table(pa.table({"x": values})).field("x")


@pytest.mark.parametrize("name", DIGITS)
def test_numbers_have_as_many_digits_as_the_data(name: str) -> None:
    digits, raw = DIGITS[name]
    values = rounded(raw, digits)
    column = column_of(values)
    assert column.digits == digits and Column.from_json(json.loads(json.dumps(column.to_json()))) == column
    anything = np.append(R.uniform(values.min(), values.max(), 5000), R.permutation(raw) * R.uniform(0.9, 1.1, N))
    made = column.settled(anything)
    np.testing.assert_allclose(made, rounded(made, digits), rtol=1e-12)
    graph = cells.settled(column, torch.from_numpy(anything)).numpy()
    assert (np.abs(graph - made) <= 1e-9 * np.abs(made)).mean() > 0.999  # ties apart
    given = column.decode(values, given=True).to_numpy()
    assert (given == np.round(values, column.decimals)).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", OTHERS)
def test_other_numbers_are_not_rounded_to_digits(name: str, seed: int) -> None:
    assert column_of(OTHERS[name](np.random.default_rng(seed))).digits is None


def test_samples_and_filled_cells_have_as_many_digits_as_the_data() -> None:
    table = pa.table({name: rounded(raw, digits) for name, (digits, raw) in DIGITS.items()})
    vae = latens.VAE(2, epochs=1, random_state=0, nll_draws=5).fit(table)
    holes = pa.table({name: pa.array(table[name].to_numpy(), mask=R.random(N) < 0.3) for name in DIGITS})
    for made in (vae.sample(1000, random_state=0), vae.impute(holes, k=5), vae.reconstruct(table)):
        for name, (digits, _) in DIGITS.items():
            numbers = made[name].to_numpy()
            np.testing.assert_allclose(numbers, rounded(numbers, digits), rtol=1e-12)
