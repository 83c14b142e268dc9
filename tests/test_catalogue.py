"""Every recipe of the catalogue, from the command line, with defaults, on digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from commanding import done, figures, refused

from latens import recipes


@dataclass(frozen=True)
class Row:
    """What a recipe promises: ``nll``, a bound and an importance-weighted -ln p(x), or a refusal with this reason;
    ``labels``, whether it may be conditioned on them; ``encodes``, ``samples``: whether it has codes, and new data."""

    name: str
    nll: bool | str = True
    labels: bool | str = True
    encodes: bool | str = True
    samples: bool | str = True


TABLE = (
    Row("vae"),
    Row("beta_vae"),
    Row("iwae"),
    Row("miwae"),
    Row("ciwae"),
    Row("piwae"),
    Row("sticking_the_landing"),
    Row("dreg"),
    Row("renyi"),
    Row("vr_max"),
    Row("tvo"),
    Row("mixture"),
    Row("vamp"),
    Row("hierarchical_vamp"),
    Row("exemplar"),
    Row("flow_prior"),
    Row("resampled"),
    Row("full_covariance"),
    Row("low_rank"),
    Row("planar"),
    Row("radial"),
    Row("iaf"),
    Row("neural_spline"),
    Row("semi_amortised"),
    Row("ae", nll="no density"),
    Row("ladder"),
    Row("deep_ladder"),
    Row("hvae"),
    Row("rhvae"),
    Row("annealed"),
    Row("hyperprior"),
    Row("poe"),
    Row("moe"),
    Row("mopoe"),
    Row("joint"),
    Row("cvae"),
    Row("m2"),
    Row("two_stage"),
    Row("sequence_vae"),
    Row("vrnn"),
    Row("rae_l2", nll="no density"),
    Row("rae_gp", nll="no density"),
    Row("denoising_ae", nll="no density"),
    Row("contractive_ae", nll="no density"),
    Row("sparse_ae", nll="no density"),
    Row("capacity_vae"),
    Row("rate_vae"),
    Row("beta_tc_vae"),
    Row("factor_vae"),
    Row("dip_vae_i"),
    Row("dip_vae_ii"),
    Row("info_vae"),
    Row("wae_mmd", nll="no density"),
    Row("sliced_wae", nll="no density"),
    Row("sinkhorn_ae", nll="no density"),
    Row("aae", nll="no density"),
    Row("wae_gan", nll="no density"),
    Row("vae_gan"),
    Row("gan", nll="no posterior", encodes="no posterior"),
    # geometry, discrete, perceptual
    Row("sphere"),
    Row("power_spherical"),
    Row("torus"),
    Row("poincare"),
    Row("poincare_riemannian"),
    Row("gumbel_softmax"),
    Row("straight_through"),
    Row("reinforce"),
    Row("vimco"),
    Row("vq"),
    Row("vq_grid"),
    Row("residual_vq"),
    Row("fsq"),
    Row("joint_vae"),
    Row("joint_capacity_vae"),
    Row("ms_ssim", nll="MS-SSIM"),
    Row("feature_reconstruction", nll="distance of features"),
)

FIT = ("--epochs", "1", "--batch-size", "256", "--seed", "0")


def test_the_table_has_every_recipe():
    assert sorted(row.name for row in TABLE) == sorted(recipes.CATALOGUE)


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_a_recipe_is_short_and_has_a_reference(name: str):
    import ast
    import inspect

    function = recipes.CATALOGUE[name]
    body = ast.parse(inspect.getsource(function)).body[0].body[1:]  # type: ignore[attr-defined]
    assert body[-1].end_lineno - body[0].lineno < 14
    [entry] = [entry for entry in recipes.catalogue() if entry["name"] == name]
    assert entry["combines"] and any(character.isdigit() for character in entry["reference"]), entry


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_fits_evaluates_encodes_samples_and_loads(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = ("--recipe", row.name, *FIT)
    if row.labels is True:
        words += ("--condition", "label")
    done("fit", "digits", "--out", "run", *words)
    values = figures("evaluate", "run", "--k", "10", "--nll-rows", "50")
    if row.nll is True:
        assert np.isfinite([values["elbo"], values["nll"]]).all(), values
    else:
        assert values.get("elbo") is None and values.get("nll") is None, values
        said = done("evaluate", "run", "--k", "10", "--nll-rows", "50").out
        assert str(row.nll) in said, said
    if row.encodes is True:
        done("encode", "run", "digits", "--out", "codes.npy")
        codes = np.load("codes.npy")
        assert len(codes) == 1797 and np.isfinite(codes).all()
        done("encode", "run", "digits", "--out", "again.npy")  # loaded twice: the same codes
        assert np.array_equal(codes, np.load("again.npy"))
    else:
        assert str(row.encodes) in refused("encode", "run", "digits", "--out", "codes.npy")
    asked = ("-n", "20", "--out", "new.npy", *(("--set", "label=3") if row.labels is True else ()))
    if row.samples is True:
        done("sample", "run", *asked)
        new = np.load("new.npy")
        assert len(new) == 20 and np.isfinite(new.astype(float)).all()
    else:
        assert str(row.samples) in refused("sample", "run", *asked)


@pytest.mark.parametrize("row", [row for row in TABLE if row.labels is not True], ids=lambda row: row.name)
def test_a_recipe_that_takes_no_condition_says_so(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = refused("fit", "digits", "--out", "run", "--recipe", row.name, "--condition", "label", *FIT)
    assert str(row.labels) in said and not Path("run").exists()
