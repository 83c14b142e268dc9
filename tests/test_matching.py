"""After training, the shares of levels and atoms in samples are those of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from laws import t
from torch import Tensor, nn

import latens
from latens import distributions as d
from latens.cli.commands.inputs import data_for
from latens.conditionals import ColumnLikelihood, TableLikelihood
from latens.conditionals.column import Allowed
from latens.conditionals.in_order import ColumnsInOrder
from latens.networks import Seen
from latens.runs import matching
from latens.schema.law import Law
from latens.training.checkpoint import load_state, state_of

ATOMS = Law((0.5, 4.5, 10.5), (-2.0, 0.0, 2.0), (0.0, 3.0, 7.0), 1.0)
ONE = Law((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (0.25,))
COLUMNS = [
    ColumnLikelihood("categorical", levels=3),
    ColumnLikelihood("heaped", law=ATOMS),
    ColumnLikelihood("bernoulli"),
    ColumnLikelihood("normal"),
    ColumnLikelihood("heaped", law=ONE),
    ColumnLikelihood("categorical", levels=3),
]
LEVELS: dict[int, list[float]] = {0: [0, 1, 2], 1: [0, 3, 7], 2: [0, 1], 4: [0.25], 5: [0, 1, 2]}
Z, N = 2, 400


def likelihood(kind: str) -> Any:
    torch.manual_seed(0)
    network = nn.Linear(Z, sum(column.outputs for column in COLUMNS))
    if kind == "in order":
        seen = [Seen(3), Seen(law=ATOMS), Seen(2), Seen(), Seen(law=ONE), Seen(3)]
        made: TableLikelihood = ColumnsInOrder(network, COLUMNS, seen, hidden=4)
        nn.init.normal_(made.further, std=0.5)
    else:
        levels = torch.tensor([[True, True, False], [True, True, True], [False, True, True], [True, True, True]])
        allowed = [Allowed(5, (0,), levels)] if kind == "allowed" else []
        made = TableLikelihood(network, COLUMNS, allowed=allowed)
    return made.double()


def rows(seed: int = 0) -> Tensor:
    r = np.random.default_rng(seed)
    x = np.stack([
        r.choice(3, N, p=[0.3, 0.4, 0.3]), r.choice([0, 1, 2, 3, 4, 5, 7], N), r.random(N) < 0.3, r.normal(size=N),
        np.where(r.random(N) < 0.4, 0.25, r.normal(size=N)), r.choice(3, N),
    ], 1).astype(float)  # fmt: skip
    x[:, 5] = np.where(x[:, 0] == 0, x[:, 5].clip(0, 1), np.where(x[:, 0] == 2, x[:, 5].clip(1, 2), x[:, 5]))
    x[r.random(x.shape) < 0.1] = np.nan
    return t(x)


def given(made: Any, z: Tensor) -> tuple[d.Columns, Tensor]:
    """The distribution of the columns at codes, given the earlier columns in one draw, and the mask of that draw."""
    torch.manual_seed(1)
    base = made(z).base
    x = torch.stack([torch.randint(3, (len(z),)).double() if j == 0 else torch.rand(len(z)).round().double()
                     for j in range(len(COLUMNS))], 1)  # fmt: skip
    seen = torch.rand(x.shape) < 0.8
    return (base.given(x.masked_fill(~seen, torch.nan)) if hasattr(base, "given") else base), seen


def mass(px: d.Columns, j: int, level: float) -> np.ndarray:
    """The mass of a level in column j, or of an atom, without the margin's mass at the same value."""
    index, part = next((index.tolist(), part) for index, part in px.parts if j in index)
    if isinstance(part, d.Heaped):
        return part.log_weights[:, index.index(j), 1 + LEVELS[j].index(level)].exp().numpy()
    return part.log_prob(torch.full((1, len(index)), level)).exp()[:, index.index(j)].numpy()


@pytest.mark.parametrize("kind", ["alone", "allowed", "in order"])
def test_the_mean_share_over_draws_is_that_of_the_data(kind: str) -> None:
    made, x, z = likelihood(kind), rows(), torch.randn(300, Z, dtype=torch.float64)
    weight = np.random.default_rng(1).uniform(0.5, 2, N)
    with torch.no_grad():
        made.match(made.counts(x, t(weight)), [given(made, part) for part in (z[:100], z[100:])])
        after = [given(made, part) for part in (z[:100], z[100:])]
    for j, levels in LEVELS.items():
        cells = x[:, j].numpy()
        known = weight * ~np.isnan(cells)
        for level in levels:
            found = np.concatenate([mass(px, j, level)[seen[:, j]] for px, seen in after]).mean()
            assert found == pytest.approx((known * (cells == level)).sum() / known.sum(), abs=1e-4), (j, level)


def test_a_level_without_rows_keeps_its_odds_and_shifts_are_limited() -> None:
    """A level that the data lack keeps its odds relative to the first level, and no log weight moves by more than the
    limit."""
    made, z = likelihood("alone"), torch.randn(200, Z, dtype=torch.float64)
    x = rows()
    x[:, 0] = x[:, 0].clamp_max(1)
    x[:, 2] = (torch.arange(N) == 0).double()
    with torch.no_grad():
        before = [mass(given(made, z)[0], j, k) for j, k in ((0, 2), (0, 0), (2, 1), (2, 0))]
        made.match(made.counts(x), [given(made, z)])
        after = [mass(given(made, z)[0], j, k) for j, k in ((0, 2), (0, 0), (2, 1), (2, 0))]
    shift = made.served[0].offset
    assert shift[:, 0].abs().max() == 0 and shift.abs().max() <= 2
    assert np.log(after[2] / after[3] * before[3] / before[2]) == pytest.approx(-2, abs=1e-6)


def test_weights_saved_before_shifts_existed_are_read() -> None:
    made, old = likelihood("in order"), likelihood("in order")
    with torch.no_grad():
        made.served[0].offset += 1
    kept = {name: tensor for name, tensor in state_of(old).items() if not name.endswith("offset")}
    assert len(kept) < len(state_of(old))
    load_state(old, kept, "old")
    load_state(old, state_of(made), "new")
    assert old.served[0].offset.min() == 1


def test_user_parts_train_to_the_end_on_rows_with_gaps() -> None:
    """Such a run has no schema, so it draws no samples and nothing is matched."""
    posterior = latens.conditionals.DiagonalNormalPosterior(
        nn.Sequential(latens.networks.Standardize(mask=True), nn.Linear(2 * len(COLUMNS), 2 * Z))
    )
    model = latens.models.VAE(latens.priors.StandardNormal(Z), posterior.double(), likelihood("alone"))
    run = latens.train(model, latens.objectives.ELBO(), rows(), epochs=1)
    assert run.schema is None and model.likelihood.served[0].offset.abs().max() == 0


def people(n: int = 700, gaps: bool = False) -> pd.DataFrame:
    r = np.random.default_rng(5)
    age = r.integers(18, 90, n)
    table = pd.DataFrame({
        "age": age, "hours": np.where(r.random(n) < 0.5, 40, r.integers(1, 80, n)),
        "gain": np.where(r.random(n) < 0.85, 0, r.lognormal(7, 1, n).round()),
        "sex": r.choice(["f", "m"], n, p=[0.3, 0.7]), "kind": r.choice(list("abcd"), n, p=[0.6, 0.25, 0.1, 0.05]),
        "old": age > 60,
    })  # fmt: skip
    return table.mask(r.random(table.shape) < 0.1) if gaps else table


@pytest.mark.parametrize("gaps", [False, True])
def test_samples_have_the_shares_of_the_data_whatever_the_likelihood_had(gaps: bool, tmp_path: Path) -> None:
    """Every log weight is off by a nat, then matched with 700 draws; there are 4,000 samples. The tolerance of 5
    standard errors of both for eight shares gives one false alarm in 200,000. Before matching, four of the shares are
    off by more; "old" follows from age."""
    data = people(gaps=gaps)
    data.to_csv(tmp_path / "people.csv", index=False)
    vae = latens.VAE(epochs=10, random_state=0).fit(data)
    for head in vae.model_.likelihood.served:
        if head.offset is not None:
            head.offset[:, 1:] += 1.0

    def off() -> list[bool]:
        new, found = vae.sample(4000, random_state=1), []
        for name, level in (("hours", 40), ("gain", 0), ("sex", "f"), ("kind", "a"), ("kind", "b"), ("kind", "c"),
                            ("kind", "d"), ("old", True)):  # fmt: skip
            a, b = ((each[name].dropna() == level).mean() for each in (data, new))
            found.append(abs(a - b) > 5 * np.sqrt(a * (1 - a) * (1 / 4000 + 1 / len(data))))
        return found

    assert sum(off()) >= 4
    matching.match(vae.run_, data_for(vae.run_, str(tmp_path / "people.csv")).inside)
    assert not any(off())


def test_shifts_that_cost_held_out_bound_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ruined(self: Any, counts: Any, draws: Any) -> None:
        asked.append(len(draws))
        for head in self.served:
            if head.offset is not None:
                head.offset[:, 1:] += 5

    with monkeypatch.context() as patched:
        patched.setattr(TableLikelihood, "match", ruined)
        model = latens.VAE(epochs=2, random_state=0).fit(people()).model_
    offsets = [head.offset for head in model.likelihood.served if head.offset is not None]
    assert asked and offsets and all(offset.abs().max() == 0 for offset in offsets)
    kept = latens.VAE(epochs=2, random_state=0).fit(people()).model_.likelihood.served
    assert any(head.offset.abs().max() > 0 for head in kept if head.offset is not None)


def test_runs_of_arrays_are_left_alone() -> None:
    assert not matching.can_match(latens.VAE(epochs=1).fit(np.random.default_rng(0).normal(size=(50, 3))).run_)
