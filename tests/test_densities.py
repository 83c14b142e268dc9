"""Densities in run folders: they are fitted once, stored completely or not at all, loaded bit for bit, and sampled
from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import call, done, figures, refused
from torch import Tensor, nn

import latens
from latens import densities
from latens.cli.commands import densities as commanding_densities
from latens.densities import fitted as fitting
from latens.densities import store
from latens.distributions import PointMass
from latens.errors import InputError
from latens.runs import record as runs
from latens.training.checkpoint import sealed, unseal

pytestmark = pytest.mark.usefixtures("one_thread", "in_place")

SMALL: dict[str, tuple[object, ...]] = {
    "mixture": ("--components", 2), "kde": (), "maf": ("--hidden", 8, "--epochs", 2),
    "iaf": ("--hidden", 8, "--epochs", 1), "spline": ("--hidden", 8, "--epochs", 1),
    "vae": ("--hidden", 8, "--epochs", 2),
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree("ae-run", tmp_path / "run"))


@pytest.mark.parametrize("kind", SMALL)
def test_a_model_is_fitted_stored_loaded_and_sampled(kind: str, run: Path, monkeypatch: pytest.MonkeyPatch):
    """A density is loaded without another fit, with bit-identical tensors, log-densities and samples."""
    first = figures("density", run, "--kind", kind, *SMALL[kind])
    assert first["fitted"] and first["rows"] == 150 and np.isfinite(first["held_out"])
    assert first["source"].startswith("iris") and "q(z|x)" in first["codes"]
    names = sorted(os.listdir(run / "densities"))
    assert [name.partition(".")[2] for name in names] == ["safetensors", "json"] and names[1] == f"{kind}.json"
    assert (run / "densities" / names[0]).read_bytes()[:1] != b"\x80"
    out = run / "x.npy"
    done("sample", run, "--density", kind, "-n", 1001, "--out", out)
    x = np.load(out)
    assert x.shape == (1001, 4) and np.isfinite(x).all()
    monkeypatch.setattr(fitting, "fit", None)
    monkeypatch.setattr(commanding_densities.densities, "fit", None)
    again = figures("density", run, "--kind", kind, *SMALL[kind])
    assert not again["fitted"] and again["held_out"] == first["held_out"]
    done("sample", run, "--density", kind, "-n", 1001, "--out", out)
    assert np.array_equal(x, np.load(out))
    loaded = runs.load(run)
    one, two = (densities.load(run, kind, loaded.model) for _ in range(2))
    assert one is not None and two is not None
    z = one.density.sample(50, seed=1)
    assert torch.equal(z, two.density.sample(50, seed=1))
    torch.manual_seed(0)
    scores = one.density.log_prob(z)
    torch.manual_seed(0)
    assert torch.equal(scores, two.density.log_prob(z))


def test_other_options_or_weights_fit_anew(run: Path):
    assert figures("density", run, "--kind", "mixture", "--components", 2)["fitted"]
    assert figures("density", run, "--kind", "mixture", "--components", 3)["fitted"]
    assert len(list((run / "densities").glob("*.safetensors"))) == 1
    loaded = runs.load(run)
    next(loaded.model.parameters()).data.add_(1)
    assert densities.load(run, "mixture", loaded.model) is None


def test_an_unfitted_density_is_fitted_on_first_use(run: Path):
    done("sample", run, "--density", "kde", "-n", 3, "--out", run / "x.csv")
    assert (run / "densities" / "kde.json").exists()


def test_a_fit_killed_halfway_leaves_the_previous_density(run: Path, monkeypatch: pytest.MonkeyPatch):
    """If the process is killed between the tensors and the record, there is no density or the previous one."""
    before = store.write_text

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_text", killed)
    assert call("density", run, "--kind", "mixture", "--components", 2).status == 130
    model = runs.load(run).model
    assert densities.load(run, "mixture", model) is None
    monkeypatch.setattr(store, "write_text", before)
    done("density", run, "--kind", "mixture", "--components", 2)
    monkeypatch.setattr(store, "write_text", killed)
    assert call("density", run, "--kind", "mixture", "--components", 3).status == 130
    kept = densities.load(run, "mixture", model)
    assert kept is not None and kept.options == {"components": 2}


def test_a_damaged_density_is_refused(run: Path):
    done("density", run, "--kind", "mixture", "--components", 2)
    [tensors] = (run / "densities").glob("*.safetensors")
    data = tensors.read_bytes()
    tensors.write_bytes(data[:-4] + b"\0\0\1\1")
    assert "damaged" in refused("sample", run, "--density", "mixture", "--out", "x.npy")
    tensors.write_bytes(data)
    record = run / "densities" / "mixture.json"
    record.write_text(record.read_text().replace('"components": 2', '"components": 3'))
    assert "damaged" in refused("sample", run, "--density", "mixture", "--out", "x.npy")


def test_a_density_of_other_codes_or_with_other_fields_is_refused(run: Path):
    x = np.random.default_rng(0).normal(size=(60, 6))
    wide = latens.VAE(latent_dim=5, epochs=1, random_state=0).fit(x).model_
    fitted = densities.fit(wide, torch.from_numpy(x), "mixture", {"components": 2})
    store.save(run, fitted, wide)
    path, model = run / "densities" / "mixture.json", runs.load(run).model
    record = unseal(path, "") | {"model": store.weights_of(model)}
    changes = [{}, {"form": 3}, {"form": record["form"] | {"shape": "x"}}, {"config": {"size": -1, "components": 2}},
               {"record": []}, {"kind": 7}, {"dtype": "int64"}, {"tensors": "../model.safetensors"}]  # fmt: skip
    for change in changes:
        path.write_text(sealed(record | change))
        refused("sample", run, "--density", "mixture", "--out", "x.npy")
        assert not Path("x.npy").exists()
    path.write_text(sealed(record))
    assert "codes of shape [5]" in refused("sample", run, "--density", "mixture", "--out", "x.npy")
    for text in ("", "[]", "{", "null"):
        path.write_text(text)
        refused("sample", run, "--density", "mixture", "--out", "x.npy")


def test_impossible_densities_are_refused(run: Path):
    assert "mixture, kde" in refused("sample", run, "--density", "pixelnet", "--out", "x.npy")
    assert "components" in refused("density", run, "--kind", "mixture", "--compnents", 2)
    assert "whole number" in refused("density", run, "--kind", "mixture", "--components", 0)
    assert "needs a value" in refused("density", run, "--kind", "mixture", "--components")
    assert "whole-number" in refused("density", run, "--kind", "autoregressive")
    assert "whole-number" in refused("density", run, "--kind", "pixelcnn")
    assert "no metric" in refused("density", run, "--kind", "metric")
    assert "part of the model" in refused("density", run, "--kind", "prior")


def test_a_run_with_conditions_says_why_not(tmp_path: Path):
    done("fit", "ordered.csv", "--out", tmp_path / "run", "--condition", "sepal length (cm)", "--epochs", 1)
    said = refused("sample", tmp_path / "run", "--density", "mixture", "--out", "x.csv")
    assert "conditioned on 'sepal length (cm)'" in said


def test_the_estimator_fits_samples_and_saves(tmp_path: Path):
    x = np.load("iris.npy")
    vae = latens.VAE(latent_dim=2, epochs=1, random_state=0, recipe="ae").fit(x)
    with pytest.raises(InputError, match="fit_density"):
        vae.sample(3, density="mixture")
    with pytest.raises(InputError, match="unknown density"):
        vae.sample(3, density="mixtures")
    given = vae.fit_density(x, "mixture", components=2)
    first = vae.sample(5, density="mixture", random_state=1)
    assert first.shape == (5, 4) and np.array_equal(first, vae.sample(5, density=given, random_state=1))
    assert not np.array_equal(first, vae.sample(5, random_state=1))
    vae.save(tmp_path / "run")
    again = latens.load(tmp_path / "run")
    assert np.array_equal(first, again.sample(5, density="mixture", random_state=1))
    vae.fit(x)
    with pytest.raises(InputError, match="fit_density"):  # those were the codes of another fit
        vae.sample(3, density="mixture")


class Books(nn.Module):
    """A prior over entries of a codebook, and a posterior that chooses one for each of two positions."""

    class Chosen(PointMass):
        index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.tensor([[[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]]))  # 1 x 3 x 2

    def forward(self, c: Any = None) -> Any:
        return self

    def posterior(self, x: Tensor, c: Any = None) -> Any:
        index = torch.stack([(x[:, 0] > 0).long(), 1 + (x[:, 0] > 0).long()], 1)
        chosen = Books.Chosen(self.codes[0][index].flatten(1))
        chosen.index = index
        return chosen


def test_codes_of_a_codebook_are_whole_numbers_and_are_restored_as_entries():
    """The two positions always agree in the data; in samples they agree too, and are entries of the codebook."""
    books = Books()

    class Model(nn.Module):
        prior = books
        encode = staticmethod(books.posterior)

    x = torch.randn(400, 3)
    found = densities.fit(Model(), x, "autoregressive", {"width": 16, "heads": 2, "epochs": 80})
    assert found.form.levels == 3 and found.form.entries == (2,)
    z = found.draw(Model(), 101)
    assert z.shape == (101, 4)
    first, second = z[:, 0].long(), z[:, 2].long()
    assert torch.equal(z[:, 1], z[:, 0] + 0.5) and ((second == first + 1).float().mean() > 0.95)
    with pytest.raises(InputError, match="whole numbers"):
        densities.fit(Model(), x, "mixture")


def test_the_record_is_json(run: Path):
    done("density", run, "--kind", "mixture", "--components", 2)
    record = json.loads((run / "densities" / "mixture.json").read_text())
    assert record["options"] == {"components": 2} and record["config"] == {"size": 4, "components": 2}


def test_compare_shows_densities_next_to_the_prior():
    found = figures("compare", "iris.npy", "--latent-dims", 2, "--epochs", 30, "--densities", "mixture,kde")
    rows = {(row["model"], row["density"]): row for row in found["densities"]}
    assert [*rows] == [(model, kind) for model in ("ae", "vae") for kind in ("prior", "mixture", "kde")]
    for kind in ("mixture", "kde"):  # an autoencoder's codes are where its density is, not where N(0, I) is
        assert rows["ae", kind]["energy"] < rows["ae", "prior"]["energy"], rows
    said = done("compare", "iris.npy", "--latent-dims", 1, "--epochs", 1, "--densities", "kde").out
    assert "held-out rows and decoded draws" in said
    assert "unknown density" in refused("compare", "iris.npy", "--densities", "best")
