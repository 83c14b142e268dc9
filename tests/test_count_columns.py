"""Columns of counts: earlier columns may determine a count more closely than a Poisson or negative binomial can
express."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from torch import nn

from latens.conditionals import TableLikelihood
from latens.data.tables.kinds import infer_table
from latens.recipes.choices.tables import _head

N = 2400
RNG = np.random.default_rng(0)
EARLIER = RNG.integers(0, 20, N)  # the column before the count
HALF = EARLIER // 2


def _whole(x: Any) -> np.ndarray:
    return np.maximum(np.rint(x), 0).astype(np.int64)


COUNTS: dict[str, np.ndarray] = {
    "narrower than a Poisson": _whole(HALF + RNG.integers(0, 4, N)),
    "determined by the earlier column": 3 * EARLIER + 2,
    "determined up to one": 3 * EARLIER + 2 + (RNG.random(N) < 0.3),
    "mostly zeros": np.where(RNG.random(N) < 0.7, 0, RNG.negative_binomial(2, 0.2, N)),
    "zeros where the earlier column is low": np.where(EARLIER < 12, 0, 5 + RNG.poisson(EARLIER)),
    "small, 0 to 5": RNG.binomial(5, (EARLIER + 1) / 25),
    "about 10,000": _whole(10_000 + 500 * EARLIER + RNG.normal(0, 20, N)),
    "a sum of others": EARLIER + RNG.binomial(6, 0.5, N) + RNG.binomial(4, 0.3, N),
    "like ordered levels, 1 to 12": 1 + np.minimum(HALF + RNG.integers(0, 3, N), 11),
    "years of age": _whole(np.clip(22 + 2 * EARLIER + RNG.normal(0, 6, N), 17, 90)),
    "with a top code": np.minimum(RNG.poisson(10 + EARLIER), 25),
    "heaps at fives": np.where(RNG.random(N) < 0.6, 5 * RNG.poisson(2 + EARLIER / 5), RNG.poisson(10 + EARLIER)),
    "wider than a Poisson": RNG.negative_binomial(2, 1 / (2 + EARLIER)),
    "Poisson": RNG.poisson(1 + EARLIER / 2),
    "of two kinds": np.where(RNG.random(N) < 0.5, RNG.binomial(8, 0.5, N), 20 + RNG.binomial(8, 0.5, N)) + HALF,
}
SIZES = {"many rows": N, "few rows": 600}  # from 2,000 rows on, scales and locations depend on the earlier columns
STEPS, BATCH = 250, 250


@pytest.fixture(scope="module", params=SIZES)
def fitted(request: Any) -> tuple[int, dict[str, np.ndarray]]:
    """Rows, and 20 draws of each count ``[20, rows]`` from the likelihoods that the schema chooses, fitted to these
    rows given the earlier column."""
    rows = SIZES[request.param]
    schema = infer_table(
        pa.table({name: cells[:rows] for name, cells in COUNTS.items()}), dict.fromkeys(COUNTS, "count")
    )
    assert {(column.kind, column.family) for column in schema.fields} == {("count", "heaped")}
    heads = [_head(column, cast(Any, SimpleNamespace(rows=rows)), "mar") for column in schema.fields]
    torch.manual_seed(0)
    seen = torch.nn.functional.one_hot(torch.from_numpy(EARLIER[:rows])).float()
    x = torch.from_numpy(np.stack([cells[:rows] for cells in COUNTS.values()], 1)).double()
    net = nn.Linear(seen.shape[1], sum(head.outputs for head in heads))
    likelihood = TableLikelihood(net, heads)
    with torch.no_grad():
        net.weight.mul_(0.1)
        net.bias.add_(likelihood.start(x))
    adam = torch.optim.Adam(likelihood.parameters(), 0.1)
    decay = torch.optim.lr_scheduler.LinearLR(adam, 1, 0, STEPS)
    for _ in range(STEPS):
        some = torch.randperm(rows)[:BATCH]
        adam.zero_grad()
        (-likelihood(seen[some]).log_prob(x[some]).mean()).backward()
        adam.step()
        decay.step()
    with torch.no_grad():
        drawn = likelihood(seen).sample((20,)).numpy()
    return rows, {column.name: column.settled(drawn[..., j]) for j, column in enumerate(schema.fields)}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_restored_as_they_were(fitted: tuple[int, dict[str, np.ndarray]], name: str) -> None:
    """Mean, standard deviation and the shares of the three most frequent values are within four standard errors, those
    of a sample of as many rows. If the draws were independent, about 1 % of runs would fail, with 150 comparisons
    each."""
    rows, every = fitted
    cells, made, earlier = COUNTS[name][:rows], every[name], EARLIER[:rows]
    deviation = cells.std()
    assert abs(made.mean() - cells.mean()) < 4 * deviation / np.sqrt(rows)
    fourth = (((cells - cells.mean()) / deviation) ** 4).mean()
    assert abs(made.std() - deviation) < 4 * deviation * np.sqrt((fourth - 1) / (4 * rows))
    values, counts = np.unique(cells, return_counts=True)
    for value, share in zip(values[counts.argsort()[-3:]], np.sort(counts)[-3:] / rows):
        assert abs((made == value).mean() - share) < 4 * np.sqrt(share * (1 - share) / rows), (value, share)
    within, drawn = (np.sqrt(np.mean([of[..., earlier == e].var() for e in range(20)])) for of in (cells, made))
    assert drawn < 1.1 * within + 0.2 * deviation, (drawn, within)
    rho = [stats.spearmanr(np.broadcast_to(earlier, of.shape).ravel(), of.ravel())[0] for of in (cells, made)]
    assert abs(rho[0] - rho[1]) < 0.05, rho
