"""Every recipe of the catalogue, from the command line, with defaults, on some of the digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from commanding import done, figures, refused

from latens import recipes


@dataclass(frozen=True)
class Row:
    """What a recipe promises. ``nll``: a bound and an importance-weighted -ln p(x), or the reason for the refusal;
    ``encodes`` and ``samples``: whether it gives codes and new data. Every recipe accepts labels as a condition."""

    name: str
    nll: bool | str = True
    encodes: bool | str = True
    samples: bool | str = True


EXCEPTIONS: dict[str, dict[str, str]] = {
    "ae": {"nll": "no density"},
    "rae_l2": {"nll": "no density"},
    "rae_gp": {"nll": "no density"},
    "denoising_ae": {"nll": "no density"},
    "contractive_ae": {"nll": "no density"},
    "sparse_ae": {"nll": "no density"},
    "wae_mmd": {"nll": "no density"},
    "sliced_wae": {"nll": "no density"},
    "sinkhorn_ae": {"nll": "no density"},
    "aae": {"nll": "no density"},
    "wae_gan": {"nll": "no density"},
    "gan": {"nll": "no posterior", "encodes": "no posterior"},
    "ms_ssim": {"nll": "MS-SSIM"},
    "feature_reconstruction": {"nll": "distance of features"},
}
TABLE = [Row(name, **EXCEPTIONS.get(name, {})) for name in recipes.CATALOGUE]

FIT = ("--epochs", "1", "--batch-size", "150", "--seed", "0")
ROWS = 300


@pytest.fixture(scope="module")
def some_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.datasets import load_digits

    path, digits = tmp_path_factory.mktemp("digits") / "some.npz", load_digits()
    np.savez(path, x=digits.images[:ROWS].astype(np.uint8), label=digits.target[:ROWS])
    return path


def test_every_exception_is_a_recipe():
    assert not EXCEPTIONS.keys() - recipes.CATALOGUE.keys()


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_the_source_of_a_recipe_is_short(name: str):
    import ast
    import inspect

    function = recipes.CATALOGUE[name]
    body = ast.parse(inspect.getsource(function)).body[0].body[1:]  # type: ignore[attr-defined]
    assert body[-1].end_lineno - body[0].lineno < 14


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_recipe_fits_evaluates_encodes_samples_and_loads(
    row: Row, some_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done("fit", some_digits, "--out", "run", "--recipe", row.name, "--condition", "label", *FIT)
    values = figures("evaluate", "run", "--k", "10", "--rows", "50")
    if row.nll is True:
        assert np.isfinite([values["elbo"], values["nll"]]).all(), values
    else:
        assert values.get("elbo") is None and values.get("nll") is None, values
        said = done("evaluate", "run", "--k", "10", "--rows", "50").out
        assert str(row.nll) in said, said
    if row.encodes is True:
        done("encode", "run", some_digits, "--out", "codes.npy")
        codes = np.load("codes.npy")
        assert len(codes) == ROWS and np.isfinite(codes).all()
        done("encode", "run", some_digits, "--out", "again.npy")  # loaded twice: the same codes
        assert np.array_equal(codes, np.load("again.npy"))
    else:
        assert str(row.encodes) in refused("encode", "run", some_digits, "--out", "codes.npy")
    asked = ("-n", "20", "--out", "new.npy", "--set", "label=3")
    if row.samples is True:
        done("sample", "run", *asked)
        new = np.load("new.npy")
        assert len(new) == 20 and np.isfinite(new.astype(float)).all()
    else:
        assert str(row.samples) in refused("sample", "run", *asked)
