"""Recipes that depend on the scale of data: they work on tables of numbers as on arrays, and otherwise name the column
that they cannot take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from commanding import done, figures, mixed_table, refused
from parts import data

from latens import objectives
from latens.data.rows import Asked, rows_of
from latens.recipes import Recipe
from latens.recipes.choices import DataInfo

RNG = np.random.default_rng(0)


def numbers(rows: int = 300) -> pa.Table:
    """A real column far from 0, a positive one over several orders of magnitude, and a count."""
    x = data(rows)
    columns = {
        "real": 1e4 + 300 * x[:, 0],
        "positive": np.exp(3 * x[:, 1]),
        "count": RNG.poisson(np.exp(1 + x[:, 2] / 2)),
    }
    return pa.table(columns)


def info_of(table: pa.Table) -> tuple[DataInfo, torch.Tensor]:
    named = {"positive": "positive"} if "positive" in table.column_names else {}
    rows = rows_of(table, asked=Asked(columns=named))
    return DataInfo(rows.schema, len(rows), rows.inside), rows.inside


@pytest.mark.parametrize("name", ["vamp", "hierarchical_vamp"])
def test_pseudo_inputs_of_a_table_of_numbers_begin_as_rows_and_stay_what_such_columns_hold(name: str) -> None:
    """Pseudo-inputs are in the user's units, whatever the scale on which the encoder sees a column; the mixture over
    them is the sum of posteriors by hand."""
    info, x = info_of(numbers())
    kinds = [column.kind for column in info.schema.modelled]
    assert kinds[1:] == ["positive", "count"], kinds
    torch.manual_seed(0)
    model, _ = Recipe(name, latent_dim=2, components=30).build(info)
    prior = model.prior if name == "vamp" else model.prior.first
    expected = x[torch.arange(30) * 300 // 30]
    assert prior.inputs().detach().numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    assert prior.inputs.inner.abs().max() < 6
    with torch.no_grad():
        prior.inputs.inner.add_(3 * torch.randn(30, 3))
        moved, z = prior.inputs(), torch.randn(5, 2)
        assert (moved[:, 1] > 0).all() and (moved[:, 2] > -1).all()
        q = prior.posterior(moved)
        each = [torch.distributions.Normal(m, v.sqrt()).log_prob(z).sum(-1) for m, v in zip(q.mean, q.variance)]
        by_hand = torch.stack(each).logsumexp(0) - np.log(30)
    assert prior().log_prob(z).detach().numpy() == pytest.approx(by_hand.numpy(), rel=1e-5)


@pytest.mark.parametrize("name", ["vamp", "contractive_ae"])
def test_a_table_of_numbers_is_fitted_from_the_command_line(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", data(200), delimiter=",", header="a,b,c", comments="", fmt="%.6f")
    done("fit", "x.csv", "--out", "run", "--recipe", name, "--epochs", "2")
    found = figures("evaluate", "run", "--k", "5")
    assert np.isfinite(found["distortion"]) and (name != "vamp" or np.isfinite(found["nll"]))
    done("sample", "run", "-n", "5", "--out", "new.csv")
    mixed_table()
    said = refused("fit", "table.csv", "--out", "other", "--recipe", name, "--epochs", "2")
    assert "'kind'" in said or "'size'" in said or "'weight'" in said
    assert ("levels" in said or "missing cells" in said) and "use" in said


def test_the_jacobian_along_the_columns_of_a_table_is_in_their_units() -> None:
    """The second route is finite differences of the encoder's map by a thousandth of a unit; 4,000 random projections
    are within 4.5 standard errors. A table in other units has the same Jacobian."""
    found = []
    for scale in (1.0, 1000.0):
        info, x = info_of(pa.table({name: scale * column for name, column in zip("abc", data(40).T)}))
        torch.manual_seed(0)
        model, objective = Recipe("contractive_ae", latent_dim=2).build(info)
        penalty: objectives.EncoderJacobian = objective.penalty
        few, unit = x[:4], penalty.unit.double()
        truth = 0.0
        with torch.no_grad():
            for j in range(3):
                step = torch.zeros(3, dtype=few.dtype)
                step[j] = 1e-2 * unit[j]
                away = model.encode(few + step).mean - model.encode(few - step).mean
                truth += float((away / 2e-2).square().sum(-1).mean())
        torch.manual_seed(1)
        wide = few.repeat(4000, 1)
        with torch.enable_grad():
            each = penalty(model, wide, objective.draw(model, wide)).item()
        found.append(each)
        assert each == pytest.approx(truth, rel=0.06)
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_columns_on_a_logarithmic_scale_are_named() -> None:
    info, _ = info_of(numbers())
    with pytest.raises(ValueError, match="'positive' is seen on a logarithmic scale"):
        Recipe("contractive_ae").build(info)
