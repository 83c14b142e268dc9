"""Recipes of installed packages: listed without import, and imported only when a user names them, never because a file
does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commanding import done, refused

import latens
from latens import InputError, recipes

RECIPE = """
from latens import conditionals, models, objectives, priors
from latens.recipes.choices import latent_size, likelihood_for, posterior_for

def small(info, *, latent_dim="auto", beta: float = 1.0):
    \"\"\"A small VAE of a package.\"\"\"
    size = latent_size(info, latent_dim)
    return models.VAE(priors.StandardNormal(size), posterior_for(info, size, "diagonal", "auto", "shared"),
                      likelihood_for(info, size, "auto", "auto")), objectives.ELBO(beta)

def broken(info):
    raise RuntimeError("not today")
"""
COMMON = ("--epochs", "1", "--latent-dim", "1")


def install(folder: Path, name: str, points: dict[str, str], code: str = RECIPE) -> None:
    """Write a package with its metadata, as an installer does."""
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[latens.recipes]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, work = tmp_path / "site", tmp_path / "work"
    for each in (folder, work):
        each.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(work)
    for name in ("smalls", "others", "failing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def test_a_recipe_of_a_package_can_be_named_like_any_other_recipe(site: Path):
    install(site, "smalls", {"small": "smalls:small", "vae": "smalls:small", "odd": "smalls"})
    assert list(recipes.installed()) == ["small"]  # "vae" stays the name of the recipe in the catalogue
    listed = done("recipes").out
    assert "small                   of the package smalls" in listed
    assert json.loads(done("recipes", "--json").out)["installed"] == [{"name": "small", "place": "smalls:small"}]
    done("fit", "iris", "--out", "plain", *COMMON)
    latens.load("plain")
    assert "smalls" not in sys.modules
    assert "A small VAE of a package." in done("recipes", "small").out
    done("fit", "iris", "--out", "run", "--recipe", "small", "--beta", "0.5", *COMMON)
    assert json.loads(Path("run/run.json").read_text())["recipe"]["options"] == {"beta": 0.5, "latent_dim": 1}
    said = refused("evaluate", "run")
    assert "'small', and latens never runs code because a file names it: pass --recipe small" in said
    assert "nats" in done("evaluate", "run", "--recipe", "small", "--k", "5").out
    with pytest.raises(InputError, match="never runs code because a file names it"):
        latens.load("run")
    x = np.random.default_rng(0).normal(size=(40, 3))
    vae = latens.VAE(recipe="small", latent_dim=1, epochs=1, random_state=0).fit(x)
    vae.save("saved")
    assert np.array_equal(latens.load("saved", recipe="small").transform(x), vae.transform(x))
    assert refused("fit", "iris", "--out", "x", "--recipe", "smalll").startswith(
        "unknown recipe 'smalll' (did you mean small?)"
    )


def test_errors_of_a_package_are_reported_with_its_name(site: Path):
    install(site, "smalls", {"small": "smalls:small", "lost": "smalls:absent", "broken": "smalls:broken"})
    install(site, "others", {"small": "others:small"})
    install(site, "failing", {"worse": "failing:recipe"}, "raise OSError('no disk')")
    for name, said in (
        ("small", "the packages others and smalls each have a recipe 'small': name one as "),
        ("lost", "recipe 'lost' of the package 'smalls': recipe 'smalls:absent': 'smalls' has no function 'absent': "),
        ("broken", "recipe 'broken' fails (RuntimeError: not today; "),
        ("worse", "recipe 'worse' of the package 'failing': recipe 'failing:recipe': the package 'failing' cannot be "),
    ):
        assert refused("fit", "iris", "--out", "x", "--recipe", name).startswith(said)
    assert "A small VAE" in done("recipes", "others:small").out
