"""Laws of missing cells: exact conditionals of the linear-Gaussian model, levels by Bayes' rule, and cells that are
missing because of their value; observed cells stay as they are in the user's form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from laws import Fixed, Z, affine, t
from scipy import stats
from torch import nn

import latens
from latens import conditionals, distributions, evaluation, models, priors
from latens.distributions import FullNormal

NAN = float("nan")
B = np.array([1.0, -2.0, 0.5, 3.0, 0.0])
W = np.array([[1.0, 0.2], [0.5, -1.0], [-0.7, 0.4], [0.1, 1.5], [0.9, 0.9]])
S2 = 0.3
ROWS = np.array([
    [0.3, -1.0, NAN, 2.0, NAN], [NAN, NAN, NAN, NAN, 1.2], [NAN, -3.0, 0.7, 4.5, 0.1], [1.1, NAN, NAN, 1.0, NAN],
])  # fmt: skip
COVARIANCE = W @ W.T + S2 * np.eye(5)


def conditional(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the missing cells given the observed ones, of a joint normal distribution."""
    m, o = np.isnan(row), ~np.isnan(row)
    gain = COVARIANCE[np.ix_(m, o)] @ np.linalg.inv(COVARIANCE[np.ix_(o, o)])
    return B[m] + gain @ (row[o] - B[o]), COVARIANCE[np.ix_(m, m)] - gain @ COVARIANCE[np.ix_(o, m)]


def posterior_of(widened: float):
    """N(E[z|x_o], widened^2 Cov[z|x_o]) of each row."""

    def make(x: torch.Tensor) -> FullNormal:
        means, trils = [], []
        for row in x.numpy():
            o = ~np.isnan(row)
            cov = np.linalg.inv(np.eye(2) + W[o].T @ W[o] / S2)
            means.append(cov @ W[o].T @ (row[o] - B[o]) / S2)
            trils.append(widened * np.linalg.cholesky(cov))
        return FullNormal(t(means), t(trils))

    return make


def model(widened: float = 1.2) -> models.VAE:
    likelihood = conditionals.NormalLikelihood(affine(W, B), variance=S2)
    return models.VAE(priors.StandardNormal(2), Fixed(posterior_of(widened)), likelihood).double()


def test_means_of_missing_cells_are_those_of_the_joint_normal():
    """With 40 independent repeats of K = 400, |z| < 4.5 for each of 10 cells (false alarm rate below 1e-4 for all)."""
    x = t(ROWS)
    found = np.stack([evaluation.impute(model(), x, k=400, seed=seed).filled.numpy() for seed in range(40)])
    for i, row in enumerate(ROWS):
        m = np.isnan(row)
        sample = found[:, i, m]
        z = (sample.mean(0) - conditional(row)[0]) / (sample.std(0, ddof=1) / np.sqrt(40))
        assert np.abs(z).max() < Z
        assert np.array_equal(found[0, i, ~m], row[~m])


def test_the_error_falls_with_the_root_of_the_draws():
    """The ratio of standard deviations at K = 100 and 1600 is 4; 60 repeats x 10 cells determine it to about 4 %."""
    x, missing = t(ROWS), np.isnan(ROWS)
    spread = []
    for k in (100, 1600):
        found = np.stack([evaluation.impute(model(), x, k=k, seed=seed).filled.numpy()[missing] for seed in range(60)])
        spread.append(np.sqrt(found.var(0, ddof=1).mean()))
    assert 4 * 0.8 < spread[0] / spread[1] < 4 * 1.2


def test_spread_and_draws_have_the_conditional_covariance():
    found = evaluation.impute(model(1.0), t(ROWS), k=4000, draws=2000, seed=1)
    for i, row in enumerate(ROWS):
        m = np.isnan(row)
        mean, covariance = conditional(row)
        np.testing.assert_allclose(found.spread[i].numpy()[m], np.sqrt(np.diag(covariance)), rtol=0.05)
        assert (found.spread[i].numpy()[~m] == 0).all()
        drawn = found.draws[:, i].numpy()[:, m]
        error = np.sqrt(np.diag(covariance) * (1 / 2000 + 1 / 4000))
        assert (np.abs(drawn.mean(0) - mean) / error).max() < Z
        np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=5 * np.diag(covariance).max() / np.sqrt(2000))


def test_the_density_of_the_observed_cells_is_exact_under_the_exact_posterior():
    found = evaluation.nll(model(1.0), t(ROWS), 7)
    for value, row in zip(found.rows.numpy(), ROWS):
        o = ~np.isnan(row)
        exact = stats.multivariate_normal(B[o], COVARIANCE[np.ix_(o, o)]).logpdf(row[o])
        assert value == pytest.approx(-exact, abs=1e-9)
    assert found.row_error.max() < 1e-6


def test_complete_rows_are_copied_and_no_gap_is_left():
    x = torch.cat([t(ROWS), t(np.nan_to_num(ROWS))])
    found = evaluation.impute(model(), x, k=3000, seed=3)
    assert torch.equal(found.filled[4:], x[4:]) and found.ess[4:].isnan().all() and (found.spread[4:] == 0).all()
    assert not found.filled.isnan().any()


def test_levels_are_filled_by_bayes_rule():
    """In one model no latent variable influences the first column; in the other a code decides both columns."""
    logits = nn.Linear(1, 5).double()
    with torch.no_grad():
        logits.weight.copy_(t([[0.0], [0.0], [0.0], [2.0], [-2.0]]))
        logits.bias.copy_(t([0.1, 1.3, -0.4, 0.0, 0.0]))
    columns = [conditionals.ColumnLikelihood("categorical", levels=n) for n in (3, 2)]
    likelihood = conditionals.TableLikelihood(logits, columns)
    q = Fixed(lambda x: FullNormal(torch.zeros(len(x), 1).double(), torch.eye(1).double().expand(len(x), 1, 1)))
    model = models.VAE(priors.StandardNormal(1), q, likelihood).double()
    found = evaluation.impute(model, t([[NAN, 0.0], [1.0, NAN]]), k=20_000)
    first = np.exp([0.1, 1.3, -0.4]) / np.exp([0.1, 1.3, -0.4]).sum()
    assert found.filled[0, 0] == 1 and found.spread[0, 0] == pytest.approx(1 - first.max(), abs=1e-6)
    assert found.spread[1, 1] == pytest.approx(0.5, abs=0.02)  # by symmetry


# Cells that are missing because of their value


def test_self_masking_is_the_naive_sum():
    columns = [
        conditionals.ColumnLikelihood("normal", shift=2.0, unit=3.0),
        conditionals.ColumnLikelihood("log_normal"),
        conditionals.ColumnLikelihood("categorical", levels=3),
    ]
    likelihood = conditionals.SelfMaskedColumns(nn.Linear(2, 5), columns).double()
    with torch.no_grad():
        likelihood.slope.copy_(t([0.7, -1.2, 5.0]))
        likelihood.bias.copy_(t([0.3, -0.5, 1.0]))
    x = t([[1.0, 2.5, 1.0], [NAN, 0.4, NAN], [3.0, NAN, 0.0]])
    px = likelihood(torch.zeros(3, 2).double())
    log_p, completed = px.log_prob(x), px.completed(x)
    plain = distributions.Observed(px.base, 1).log_prob(x)
    for i in range(3):
        u = [(completed[i, 0] - 2) / 3, completed[i, 1].log(), 0.0]
        logits = [0.3 + 0.7 * u[0], -0.5 - 1.2 * u[1], 1.0]
        missing = [1 / (1 + np.exp(-float(torch.as_tensor(logit).detach()))) for logit in logits]
        terms = [stats.bernoulli(p).logpmf(int(x[i, j].isnan())) for j, p in enumerate(missing)]
        assert float(log_p[i]) == pytest.approx(float(plain[i]) + sum(terms), abs=1e-9)
    assert torch.equal(completed[~x.isnan()], x[~x.isnan()]) and completed[1, 2].isnan()


@pytest.mark.slow
def test_not_miwae_removes_most_of_the_bias_of_self_masking():
    """Three in four values above the mean are missing; the bias of the filled values is at least halved. (The
    likelihood is normal: a heaped one would keep filled values within the range of the observed ones.)"""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 1)) @ rng.normal(size=(1, 4)) + 0.5 * rng.normal(size=(1500, 4))
    gaps = np.zeros(x.shape, bool)
    gaps[:, :2] = rng.random((1500, 2)) < 1 / (1 + np.exp(-3 * x[:, :2] / x[:, :2].std(0)))
    holes = pd.DataFrame(np.where(gaps, np.nan, x), columns=list("abcd"))
    bias = {}
    for missing in ("mar", "mnar"):
        recipe = latens.Recipe("iwae", k=5, missing=missing, network="linear")
        normal = dict.fromkeys("abcd", "normal")
        vae = latens.VAE(2, recipe=recipe, random_state=0, epochs=120, columns=normal).fit(holes)
        bias[missing] = float((vae.impute(holes, k=200).to_numpy() - x)[gaps].mean())
    assert bias["mar"] < -0.3 and abs(bias["mnar"]) < 0.5 * abs(bias["mar"])


# The user's rows


def people(rows: int = 80) -> pa.Table:
    rng = np.random.default_rng(0)
    height = rng.normal(170, 10, rows)
    table = {
        "id": [f"p{i}" for i in range(rows)],
        "height": [None if rng.random() < 0.2 else float(round(h, 1)) for h in height],
        "kids": pa.array([None if rng.random() < 0.2 else int(k) for k in rng.poisson(1, rows)], pa.int8()),
        "town": pa.array([None if rng.random() < 0.2 else t for t in rng.choice(["x", "y"], rows)]).dictionary_encode(),
        "flag": [None if rng.random() < 0.2 else bool(f) for f in rng.random(rows) < 0.5],
        "when": pa.array([None if rng.random() < 0.2 else int(d) for d in rng.integers(0, 9999, rows)], pa.int32()),
        "always": ["k"] * rows,
    }
    table["when"] = table["when"].cast(pa.date32())
    return pa.table(table)


def test_observed_cells_columns_and_types_stay_and_no_gap_is_left():
    table = people()
    vae = latens.VAE(2, epochs=3, random_state=0).fit(table)
    filled = vae.impute(table, k=50)
    assert filled.schema.names == table.schema.names and filled.schema.types == table.schema.types
    for name in table.column_names:
        before, after = table[name].to_pylist(), filled[name].to_pylist()
        assert None not in after
        assert all(a == b for a, b in zip(after, before) if b is not None), name
    several = vae.impute(table, k=50, draws=3)
    assert len(several) == 3 and several[0]["height"] != several[1]["height"]
    again = vae.impute(table, k=50)
    assert again.equals(filled)


def test_matrices_with_gaps_are_restored_as_matrices():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    vae = latens.VAE(2, epochs=3, random_state=0).fit(x)
    filled = vae.impute(x, k=20)
    assert isinstance(filled, np.ndarray) and filled.dtype == x.dtype and not np.isnan(filled).any()
    assert np.array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert vae.transform(x).shape == (60, 2) and np.isfinite(vae.score_samples(x)).all()


def test_a_matrix_with_gaps_stays_one_after_loading(tmp_path):
    x = np.random.default_rng(1).normal(size=(60, 3))
    x[::3, 1] = np.nan
    vae = latens.VAE(2, epochs=2, random_state=0).fit(x)
    vae.save(tmp_path / "run")
    again = latens.load(tmp_path / "run")
    assert np.array_equal(again.impute(x, k=10), vae.impute(x, k=10))
    assert isinstance(again.sample(3), np.ndarray) and again.sample(3).shape == (3, 3)


class Encoder(nn.Module):
    """A rough encoder that fills gaps with means: rows ``[B, 5]`` -> means and raw variances ``[B, 4]``."""

    reads = ()

    def forward(self, x: torch.Tensor, c: None = None) -> torch.Tensor:
        gain = np.linalg.solve(np.eye(2) + W.T @ W / S2, W.T / S2)
        return torch.cat([(x - t(B)).nan_to_num() @ t(gain).T, torch.full((*x.shape[:-1], 2), -1.0)], -1)


def test_a_ladder_weighs_the_draws_of_its_completions():
    """Filled cells have the means of the joint normal: |z| < 4.5 for each of 10 cells, with 40 repeats of K = 400 after
    three sweeps, and a posterior that sees no gaps."""
    rungs, likelihood = [models.MarkovRung(2, nn.Identity())], conditionals.NormalLikelihood(affine(W, B), variance=S2)
    ladder = models.Ladder(models.Upward(Encoder(), []), rungs, likelihood).double()
    x = t(ROWS)
    found = np.stack([evaluation.impute(ladder, x, k=400, sweeps=3, seed=seed).filled.numpy() for seed in range(40)])
    for i, row in enumerate(ROWS):
        m = np.isnan(row)
        sample = found[:, i, m]
        z = (sample.mean(0) - conditional(row)[0]) / (sample.std(0, ddof=1) / np.sqrt(40))
        assert np.abs(z).max() < Z


@pytest.mark.parametrize("recipe", ["ladder", "deep_ladder", "hvae", "annealed", "m2"])
def test_models_that_draw_in_several_steps_fill_gaps_that_training_did_not_have(recipe: str, one_thread: None):
    """Two columns have opposite values, and a level gives their sign: filled cells follow the observed ones."""
    r = np.random.default_rng(0)
    z = r.normal(size=240)
    whole = pd.DataFrame({"a": z + 0.1 * r.normal(size=240), "b": 0.1 * r.normal(size=240) - z, "c": np.sign(z)})
    whole["c"] = np.where(whole["c"] > 0, "up", "down")
    gaps = whole.copy()
    gaps.loc[::5, "a"], gaps.loc[1::4, "c"] = np.nan, None
    vae = latens.VAE(recipe=recipe, epochs=15 if recipe == "annealed" else 40, random_state=0).fit(whole)
    filled = vae.impute(gaps, k=10)
    assert not filled.isna().any().any()
    assert filled["b"].equals(whole["b"])
    error = (filled["a"] - whole["a"])[::5]
    assert error.std() < 0.8 * whole["a"].std()
    assert (filled["c"] == whole["c"])[1::4].mean() > 0.7


def test_a_model_of_classes_takes_further_conditions_and_gaps_in_its_classes(one_thread: None):
    r = np.random.default_rng(0)
    kind, side = r.choice(["p", "q", "r"], 300), r.choice(["x", "y"], 300)
    data = pd.DataFrame({"kind": kind, "side": side, "u": 0.3 * r.normal(size=300) + 3 * (kind == "p"),
                         "v": 0.3 * r.normal(size=300) + 3 * (side == "x")})  # fmt: skip
    gaps = data.copy()
    gaps.loc[::5, "u"], gaps.loc[::3, "kind"] = np.nan, None
    vae = latens.VAE(recipe="m2", condition=["kind", "side"], epochs=60, random_state=0).fit(gaps)
    drawn = vae.sample(600, given={"kind": "p", "side": "x"})
    assert drawn["u"].mean() > 2 and drawn["v"].mean() > 2
    assert list(vae.reconstruct(data).columns) == list(data.columns)
    with pytest.warns(UserWarning, match="stay missing"):
        filled = vae.impute(gaps, k=20)
    known = gaps["kind"].notna() & gaps["u"].isna()
    assert not filled["u"].isna().any() and (filled["u"] - data["u"])[known].abs().mean() < 0.6
