"""The run folder: plain files that hold everything, are written completely or not at all, and can be resumed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commanding import SHORT, blank_page, call, done, figures, refused
from safetensors.torch import load_file

import latens
from latens import Recipe, conditionals, models, objectives, priors
from latens.runs import record as runs
from latens.training.checkpoint import loads, sealed, unseal

pytestmark = pytest.mark.usefixtures("one_thread", "in_place")


@pytest.fixture(autouse=True)
def no_drawing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latens.report.write", blank_page)


def test_a_run_folder_has_its_files_and_its_record() -> None:
    assert {"run.json", "model.safetensors", "metrics.csv", "checkpoint", "report.html"} == set(os.listdir("iris-run"))
    record = json.loads(Path("iris-run/run.json").read_text())
    assert record["format"] == runs.FORMAT and record["status"] == "finished" and record["rows"] == 150
    assert record["recipe"] == {"name": "vae", "options": {}} and record["training"]["seed"] == 1
    assert record["data"]["origin"] == "iris" and len(record["data"]["fingerprint"]) == 64
    first = record["schema"]["table"][0]
    assert (first["name"], first["type"], first["missing"]) == ("sepal length (cm)", "double", 0)
    assert (first["low"], first["high"], first["decimals"]) == (4.3, 7.9, 1)
    assert record["versions"]["latens"] == latens.__version__
    other = json.loads(Path("array-run/run.json").read_text())
    array = other["schema"]
    assert set(other["choices"]) == {"latent_dim", "network", "likelihood", "training"}
    assert (array["shape"], array["layout"], array["kind"], array["names"]) == ([4], "vector", "continuous", None)
    assert set(record["choices"]) == {"latent_dim", "network", "training"}  # the likelihoods are in the schema
    assert [field["family"] != "" for field in record["schema"]["table"]] == [True] * 4
    tensors = load_file("iris-run/model.safetensors")
    assert sum(t.numel() for t in tensors.values()) >= record["parameters"]
    [state] = Path("iris-run/checkpoint").glob("state.json")
    stored = [path.name for path in Path("iris-run/checkpoint").glob("*.safetensors")]
    assert stored == [loads(state.read_text())["tensors"]]
    page = Path("iris-run/report.html").read_text()
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_no_file_of_a_run_is_pickle() -> None:
    for path in Path("iris-run").rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:2]
            assert start[:1] != b"\x80" and start != b"PK", path


def test_given_options_are_kept_and_automatic_ones_are_reported(tmp_path: Path) -> None:
    done("fit", "few.npy", "--out", tmp_path / "run", "--beta", 2, "--latent-dim", 2, *SHORT)
    assert runs.read_record(tmp_path / "run")["recipe"]["options"] == {"beta": 2, "latent_dim": 2}
    run = runs.load(tmp_path / "run")
    assert run.beta == 2 and "latent_dim" not in run.choices


def test_a_saved_estimator_is_loaded_unchanged(tmp_path: Path) -> None:
    x = np.load("iris.npy")
    vae = latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(x)
    vae.save(tmp_path / "deep" / "run")
    again = latens.load(tmp_path / "deep" / "run")
    assert np.array_equal(vae.transform(x), again.transform(x))
    assert np.array_equal(vae.score_samples(x), again.score_samples(x))
    seen = [{name: value for name, value in row.items() if value == value} for row in again.run_.history]
    assert seen == vae.run_.history and again.run_.choices == vae.run_.choices
    recipe = latens.VAE(recipe=Recipe("beta_vae", beta=3.0, latent_dim=1), epochs=1, random_state=0).fit(x)
    recipe.save(tmp_path / "recipe")
    assert latens.load(tmp_path / "recipe").run_.beta == 3.0


def test_own_parts_are_saved_and_must_be_given_to_load_them(tmp_path: Path) -> None:
    """A user's own parts are saved and resumed; to load them, they must be passed in, and no code is executed."""
    from torch import nn

    def model() -> models.VAE:
        torch.manual_seed(0)
        posterior, likelihood = (
            conditionals.DiagonalNormalPosterior(nn.Linear(4, 4)),
            conditionals.NormalLikelihood(nn.Linear(2, 4)),
        )
        return models.VAE(priors.StandardNormal(2), posterior, likelihood)

    x = np.load("iris.npy")
    run = latens.train(model(), objectives.ELBO(), x, out=tmp_path / "run", epochs=2)
    with pytest.raises(latens.InputError, match="your own parts"):
        latens.load(tmp_path / "run")
    other = model()
    loaded = latens.load(tmp_path / "run", model=other)
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), run.model.state_dict().values()))
    assert loaded.transform(x).shape == (150, 2)
    with pytest.raises(latens.InputError, match="another learning_rate"):
        latens.train(model(), objectives.ELBO(), x, out=tmp_path / "run", epochs=2, learning_rate=0.1, resume=True)
    again = latens.train(model(), objectives.ELBO(), x, out=tmp_path / "run", epochs=2, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(again.model.state_dict().values(), run.model.state_dict().values()))


def test_code_is_not_executed_because_a_file_names_it(tmp_path: Path) -> None:
    """If a run's files name a module, it is not imported."""
    record = unseal(Path("own-run/run.json"), "")
    shutil.copytree("own-run", tmp_path / "run")
    Path("wicked_recipes.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    record["recipe"]["name"] = "wicked_recipes:go"
    (tmp_path / "run" / "run.json").write_text(sealed(record))
    for words in (("evaluate", tmp_path / "run"), ("fit", "--resume", tmp_path / "run"),
                  ("evaluate", tmp_path / "run", "--recipe", "own_recipes:good")):  # fmt: skip
        refused(*words)
    refused("fit", "iris", "--out", "x", "--from", tmp_path / "run", "--recipe", "vae")
    assert not (tmp_path / "executed").exists()


def test_the_option_from_takes_the_weights_of_a_run(tmp_path: Path) -> None:
    words = ("--epochs", 1, "--learning-rate", 1e-30)
    done("fit", "iris", "--out", tmp_path / "run", "--from", "iris-run", *words)
    first, second = (load_file(f"{folder}/model.safetensors") for folder in ("iris-run", tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first if "variance" not in name)
    assert runs.read_record(tmp_path / "run")["data"]["from"] == os.path.abspath("iris-run")


def test_a_run_with_a_checkpoint_resumes_without_the_run_it_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has a checkpoint does not need the run it started from any more."""
    shutil.copytree("iris-run", tmp_path / "first")
    done("fit", "iris", "--out", tmp_path / "run", "--from", tmp_path / "first", *SHORT)
    shutil.rmtree(tmp_path / "first")
    record = unseal(tmp_path / "run" / "run.json", "")
    (tmp_path / "run" / "run.json").write_text(sealed(record | {"status": "running", "files": {}}))
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    done("fit", "--resume", tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights


def test_a_run_can_be_resumed_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths of data, labels, weights and validation are kept so that they are found from anywhere."""
    out = tmp_path / "run"
    Path("labels.csv").write_text("a\nb\na\nb\na\n")
    done("fit", "few.npy", "--out", out, "--validation", "iris.npy", "--labels", "labels.csv", *SHORT)
    seeds = tmp_path / "seeds"
    done("fit", "few.npy", "--out", seeds, "--validation", "iris.npy", "--seeds", 2, *SHORT)
    shutil.rmtree(seeds / "seed-1")
    monkeypatch.chdir(tmp_path)
    done("fit", "--resume", "run")
    done("evaluate", "run", "--k", 2)
    assert len(figures("fit", "--resume", "seeds")["runs"]) == 2


def test_resuming_a_finished_run_changes_nothing() -> None:
    before = {name: Path("iris-run", name).read_bytes() for name in ("run.json", "model.safetensors", "metrics.csv")}
    done("fit", "--resume", "iris-run")
    assert before == {name: Path("iris-run", name).read_bytes() for name in before}


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    shutil.copytree("iris-run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint", "*.safetensors", "*.csv"))
    record = unseal(tmp_path / "run" / "run.json", "")
    (tmp_path / "run" / "run.json").write_text(sealed(record | {"status": "running", "files": {}}))
    assert "not finished" in refused("evaluate", tmp_path / "run")
    done("fit", "--resume", tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == Path("iris-run/model.safetensors").read_bytes()


def test_failed_fits_leave_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only files that this process created are removed, and only as long as there is no checkpoint to continue from."""

    def stopped(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("latens.training.loop.Trainer.run", stopped)
    assert call("fit", "iris", "--out", tmp_path / "a" / "b", *SHORT).status == 130
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert call("fit", "iris", "--out", tmp_path / "mine", *SHORT).status == 130
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]
    assert call("fit", "iris", "--out", tmp_path / "seeds", "--seeds", 2, *SHORT).status == 130
    assert os.listdir(tmp_path) == ["mine"]
