"""Scores of rows: p-values by exchangeability with held-out rows, the column that makes a row strange, and the output
files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from commanding import done, figures, refused

import latens
from latens import report
from latens.data import read, write
from latens.data.rows import Asked, rows_like, rows_of
from latens.data.tables.frames import as_table
from latens.errors import InputError
from latens.recipes import Recipe
from latens.runs import fitting, scoring, synthesis
from latens.tensors.randomness import reseed, shared
from latens.training import Settings

COLUMNS = ["a", "b", "c", "kind"]


def rows(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=count)
    table = pd.DataFrame({"a": z + 0.3 * rng.normal(size=count), "b": 2 - z + 0.3 * rng.normal(size=count)})
    table["c"] = rng.poisson(np.exp(0.5 * z + 1))
    table["kind"] = np.where(rng.random(count) < 1 / (1 + np.exp(-2 * z)), "u", "v")
    return table


@pytest.fixture(scope="module")
def run():
    table = as_table(rows(1200, 0))[0]
    asked = Asked(columns={"c": "negative_binomial"})  # a column on the scale ln(1 + c)
    given = rows_of(table, asked=asked)
    return fitting.fit_recipe(given, Recipe("vae"), Settings(seed=0, epochs=20), options={"latent_dim": 2})


def further(run, table: pd.DataFrame):
    return rows_like(as_table(table)[0], run.schema)


def test_p_values_of_new_rows_are_uniform(run):
    """For 1,000 rows and 1,000 reference rows of the same law, P(p <= a) equals a within 4 standard errors of
    both samples."""
    calibration = scoring.calibrate(run, further(run, rows(1000, 1)), k=20)
    p = scoring.score(run, further(run, rows(1000, 2)), 20, calibration).p_values
    for a in (0.01, 0.05, 0.2, 0.5, 0.9):
        assert abs((p <= a).mean() - a) <= 4 * np.sqrt(2 * a * (1 - a) / 1000) + 0.001


def test_the_changed_column_is_named_and_its_row_has_a_small_p_value(run):
    calibration = scoring.calibrate(run, further(run, rows(500, 1)), k=20)
    names = run.schema.names
    for column, value in (("a", 9.0), ("b", -9.0), ("c", 60)):
        strange = rows(30, 3)
        strange[column] = value
        found = scoring.score(run, further(run, strange), 20, calibration)
        assert found.p_values.max() <= 0.02
        assert (found.columns[:, 0] == names.index(column)).mean() > 0.6, column


def test_terms_of_columns_are_the_importance_weighted_ones(run):
    """Compare with a naive loop over draws."""
    some = further(run, rows(4, 5))
    found = scoring.column_terms(run, some, k=6)
    with torch.no_grad(), shared():
        reseed(0, scoring.Key.SCORE_TERMS)
        draw = run.model.eval().draw(some.inside, 6)
    for i in range(4):
        log_w = draw.log_w[:, i].double().numpy()
        w = np.exp(log_w - log_w.max())
        w /= w.sum()
        naive = -sum(w[k] * draw.px.base.log_prob(some.inside)[k, i].double().numpy() for k in range(6))
        naive -= [np.log1p(float(some.inside[i, j])) if name == "c" else 0.0 for j, name in enumerate(run.schema.names)]
        np.testing.assert_allclose(found[i], naive, rtol=1e-5)


def test_a_calibration_read_from_its_file_is_unchanged(run, tmp_path):
    calibration = scoring.calibrate(run, further(run, rows(200, 1)), k=5)
    scoring.write_calibration(tmp_path, calibration)
    again = scoring.read_calibration(tmp_path)
    assert again.k == 5 and np.array_equal(again.reference, calibration.reference)
    assert np.array_equal(again.conformal.values, calibration.conformal.values)
    path = tmp_path / "calibration.json"
    path.write_text(path.read_text().replace("5", "6", 1))
    with pytest.raises(InputError, match="damaged"):
        scoring.read_calibration(tmp_path)


def test_a_calibration_without_views_scores_by_density(run):
    calibration = scoring.calibrate(run, further(run, rows(100, 1)), k=20)
    assert calibration.views and scoring.Calibration.from_json(calibration.to_json()).views
    old = scoring.Calibration.from_json(calibration.to_json() | {"format": 1})
    new = further(run, rows(20, 2))
    found = scoring.score(run, new, 20, old)
    expected = found.nll.rows.numpy() - scoring.slopes(new).sum(1)
    assert np.array_equal(found.strangeness, expected)
    assert not np.allclose(scoring.score(run, new, 20, calibration).strangeness, expected)


@pytest.mark.parametrize("kinds", [["a", "b", "c", "kind"], ["kind"]])
def test_the_strangeness_of_a_row_does_not_depend_on_its_batch(kinds, run):
    """Rows with only levels tie with many samples, and rounding in the batch must not break these ties."""
    table = rows(300, 3)[kinds]
    one = run if len(kinds) > 1 else fitting.fit_recipe(
        rows_of(as_table(table)[0]), Recipe("vae"), Settings(seed=0, epochs=2), options={"latent_dim": 2}
    )  # fmt: skip
    found = scoring.score(one, further(one, table), 20).strangeness
    for some in (table[:1], table[5:12], table[::-1]):
        again = scoring.score(one, further(one, some.reset_index(drop=True)), 20).strangeness
        assert again == pytest.approx(found[some.index], abs=1e-4)


def test_the_score_command_writes_the_scores_of_the_estimator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("t.csv", pa.Table.from_pandas(rows(400, 0)))
    done("fit", "t.csv", "--out", "run", "--epochs", "2")
    said = figures("score", "run", "t.csv", "--out", "s.csv")
    table = read("s.csv").x
    assert said["rows"] == table.num_rows == 400 and said["k"] == 100
    first = ["log_px", "standard_error", "effective_sample_size", "strangeness", "p_value"]
    assert table.column_names[:5] == first
    assert set(table["column_1"].to_pylist()) <= set(COLUMNS)
    vae = latens.load("run")
    np.testing.assert_allclose(table["log_px"].to_numpy(), vae.score_samples("t.csv"), rtol=1e-6)
    other = done("score", "run", "t.csv", "--out", "s2.csv", "--k", "7")
    assert "calibrated with K = 100" in other.out and "p_value" not in read("s2.csv").x.column_names
    done("score", "run", "t.csv", "--out", "s.npy")
    assert np.load("s.npy").shape == (400,)
    holes = rows(400, 0)
    holes.loc[:9, "a"] = np.nan
    write("holes.csv", pa.Table.from_pandas(holes))
    assert (
        "10 rows have missing cells, but the model was fitted to complete rows"
        in done("score", "run", "holes.csv", "--out", "h.csv").out
    )
    done("fit", "t.csv", "--out", "ae", "--recipe", "ae", "--epochs", "1")
    assert "has no density" in refused("score", "ae", "t.csv", "--out", "x.csv")


def test_scores_of_arrays_and_images_have_p_values_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done("fit", "digits", "--out", "run", "--epochs", "1")
    done("score", "run", "digits", "--out", "s.csv")
    table = read("s.csv").x
    assert table.column_names == ["log_px", "standard_error", "effective_sample_size", "p_value"]
    assert min(table["p_value"].to_pylist()) > 0.0 and max(table["p_value"].to_pylist()) <= 1


def test_evaluate_compares_samples_of_a_table_with_real_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    holes = rows(600, 0)
    holes.loc[::7, "b"] = np.nan
    write("t.csv", pa.Table.from_pandas(holes))
    done("fit", "t.csv", "--out", "run", "--epochs", "15")
    said = figures("evaluate", "run", "--k", "5")
    samples = said["samples"]
    assert 0.4 < samples["detection"]["value"] < 1 and set(samples["columns"]) == set(COLUMNS)
    assert samples["means"]["missing"]["value"] < 0.05  # gaps are those of real rows
    told = done("evaluate", "run", "--k", "0").out
    for name in ("held-out rows", "oracle", "samples", "logistic", "trees", "out of range", "nats per row"):
        assert name in told, name
    assert list(samples["fidelity"]) == ["held-out rows", "oracle", "samples"]
    assert all(each["out_of_range"] == 0 for name, each in samples["fidelity"].items() if name != "held-out rows")
    assert "samples" not in figures("evaluate", "run", "--k", "5", "--no-synthetic")


def test_the_rows_that_are_evaluated_are_those_that_sample_writes(monkeypatch):
    """Samples and the oracle have gaps, including those that the condition implies; the oracle has the conditions of
    the rows."""
    rng, n = np.random.default_rng(0), 300
    drug = rng.random(n) < 0.4
    data = pd.DataFrame({
        "group": np.where(drug, "drug", "none"), "dose": np.where(drug, rng.normal(50, 8, n).round(1), np.nan),
        "x": rng.normal(size=n).round(3),
    })  # fmt: skip
    vae = latens.VAE(random_state=0, epochs=2, condition="group").fit(data)
    seen = {}
    monkeypatch.setattr(synthesis, "evaluate_synthetic", lambda *frames, oracle, **_: seen.update(
        train=frames[0], held=frames[1], samples=frames[2], oracle=oracle))  # fmt: skip
    found = vae.evaluate(data, k=0)
    assert found.samples is None and "samples" not in vae.evaluate(data, k=0, synthetic=False).to_json()
    again = vae.sample(n // 2, random_state=0)
    for name in ("dose", "x"):
        np.testing.assert_array_equal(seen["samples"].columns[name], again[name].to_numpy())
    for frame in seen.values():
        missing, group = np.isnan(frame.columns["dose"]), frame.columns["group"]
        assert frame.rows == n // 2 and missing[group == 1].all() and not missing[group == 0].any()
    np.testing.assert_array_equal(seen["oracle"].columns["group"], seen["train"].columns["group"])


def test_the_oracle_follows_the_codes_and_the_samples_the_density():
    """If the model's prior is shifted, the oracle stays near the rows and the samples do not."""
    rng, n = np.random.default_rng(1), 400
    x = rng.normal(size=n)
    data = pd.DataFrame({"x": x, "y": x + 0.1 * rng.normal(size=n), "z": -x + 0.1 * rng.normal(size=n)})
    vae = latens.VAE(random_state=0, epochs=40, latent_dim=2).fit(data)
    away = type("Away", (torch.nn.Module,), {"forward": lambda self, c=None: latens.distributions.DiagonalNormal(
        torch.full((2,), 3.0), torch.full((2,), 0.01))})()  # fmt: skip
    vae.model_.prior = away
    found = vae.evaluate(data, k=0, training=data)
    oracle, samples = found.samples.fidelity["oracle"], found.samples.fidelity["samples"]
    assert oracle.shape < samples.shape / 2 and samples.trees > 0.95
    assert samples.out_of_range == oracle.out_of_range == 0
    page = report.render(vae.run_, vae._rows(data), evaluation=found)
    assert "<th>trees</th>" in page and f"<td>oracle</td><td>{oracle.shape:.2%}</td>" in page
