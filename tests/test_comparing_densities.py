"""`latens compare` with chosen recipes, and its comparison of densities that codes are drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commanding import done, figures, refused

pytestmark = pytest.mark.usefixtures("one_thread", "in_place")
FEW = ("--latent-dims", 2, "--epochs", 1, "--k", 2)


def test_each_recipe_is_sampled_from_the_densities_for_its_codes(tmp_path: Path):
    """Real codes of an autoencoder and whole-number codes of a codebook are each drawn from their densities and their
    prior, in the figures and on the page."""
    page = tmp_path / "page.html"
    words = ("compare", "iris.npy", "--recipes", "ae,vq", "--densities", "mixture,kde,autoregressive,pixelcnn", *FEW)
    found = figures(*words, "--out", page)
    rows = [(row["model"], row["density"]) for row in found["densities"]]
    assert rows == [("ae", kind) for kind in ("prior", "mixture", "kde")] + [
        ("vq", kind) for kind in ("prior", "autoregressive", "pixelcnn")
    ]
    assert all(np.isfinite([row["energy"], row["data_energy"]]).all() for row in found["densities"])
    assert [row["model"] for row in found["rows"]] == ["pca", "ae", "vq"]
    assert [row["nll"] is None for row in found["rows"]] == [False, True, False]
    text = page.read_text("utf-8")
    assert "Densities of codes" in text
    for word in ("mixture", "kde", "autoregressive", "pixelcnn"):
        assert f"<td>{word}</td>" in text
    bare = tmp_path / "bare.html"
    done("compare", "iris.npy", *FEW, "--out", bare)
    assert "Densities of codes" not in bare.read_text("utf-8")


def test_what_cannot_be_compared_is_refused():
    assert "the codes of none" in refused("compare", "iris.npy", "--recipes", "ae", "--densities", "pixelcnn", *FEW)
    assert "the codes of none" in refused("compare", "iris.npy", "--recipes", "vq", "--densities", "kde", *FEW)
    assert "cannot hold the densities" in refused("compare", "iris.npy", "--densities", "kde", "--out", "x.csv", *FEW)
    assert "unknown recipe 'aee'" in refused("compare", "iris.npy", "--recipes", "aee", *FEW)
    assert "no recipe to compare" in refused("compare", "iris.npy", "--recipes", ",", *FEW)
    assert "no single prior" in refused("compare", "iris.npy", "--recipes", "ladder", *FEW)
    assert "no posterior" in refused("compare", "iris.npy", "--recipes", "gan", *FEW)
