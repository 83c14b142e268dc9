"""`latens evaluate` with known factors, labels and samples of images: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commanding import blank_page, done, figures, refused

from latens import evaluation, report
from latens.cli.commands.inputs import data_for, held_out_of
from latens.cli.commands.measuring import factors_for
from latens.data import read
from latens.data.rows import rows_of
from latens.runs import measures, outputs
from latens.runs.record import load

pytestmark = pytest.mark.usefixtures("one_thread")
LITTLE = ("--k", 0, "--draws", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with two factors, files of factors, and a run that reads the other columns."""
    place = tmp_path_factory.mktemp("factors")
    rng = np.random.default_rng(0)
    size, kind = rng.integers(0, 4, 200), rng.choice(["round", "square", "long"], 200)
    x = np.c_[size, size + (kind == "round"), kind == "long"] + 0.2 * rng.normal(size=(200, 3))
    lines = [",".join([*(f"{v:.3f}" for v in row), str(s), k, "1"]) for row, s, k in zip(x, size, kind)]
    (place / "table.csv").write_text("\n".join(["a,b,c,size,kind,same", *lines]) + "\n")
    np.save(place / "factors.npy", np.c_[size, kind == "long"])
    np.savez(place / "factors.npz", v=np.c_[size, kind == "long"])
    np.save(place / "short.npy", size[:50])
    np.save(place / "images.npy", rng.integers(0, 256, (80, 9, 9)).astype(np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(report, "write", blank_page)
        drop = ("--drop", "size", "--drop", "kind", "--drop", "same")
        done("fit", "table.csv", "--out", "run", *drop, "--epochs", 2, "--latent-dim", 2, "--validation", 0.4)
        done("fit", "images.npy", "--out", "images", "--epochs", 1, "--latent-dim", 2, "--validation", 0.5)
        done("fit", "digits", "--out", "gan", "--epochs", 1, "--recipe", "gan")
        done("fit", "table.csv", "--out", "seeds", *drop, "--epochs", 1, "--seeds", 2)
    return place


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_factors_of_named_data_are_their_columns() -> None:
    found = figures("evaluate", "run", "table.csv", "--factors", "size,kind", "--no-synthetic", *LITTLE)
    run, table = load("run"), read("table.csv").x
    factors = np.array([table.column(name).to_pylist() for name in ("size", "kind")], dtype=object).T
    codes = outputs.codes(run, data_for(run, "table.csv")).astype(float)
    expected = evaluation.disentanglement(codes, factors, ("size", "kind"))
    assert found["disentanglement"] == json.loads(json.dumps(expected.to_json()))
    assert np.shape(found["disentanglement"]["dci"]["importance"]) == (2, 2)


def test_factors_of_the_rows_of_a_run_are_those_of_its_held_out_rows() -> None:
    """Factors are in the order of the rows: they match the cells of the held-out rows."""
    by_column = figures("evaluate", "run", "--factors", "size", "--no-synthetic", *LITTLE)["disentanglement"]
    assert by_column["rows"] == 80
    run = load("run")
    rows, _ = held_out_of(run, "run")
    values, names = factors_for(run, "run", None, "size")
    near = np.abs(np.asarray(rows.x.column("a")) - values[:, 0].astype(float))
    assert names == ("size",) and near.max() < 1  # column a is size + 0.2 noise
    for words in ("factors.npy", "factors.npz:v"):
        assert (factors_for(run, "run", None, words)[0][:, 0] == values[:, 0].astype(int)).all()


def test_what_is_printed_names_every_score() -> None:
    text = done("evaluate", "run", "table.csv", "--factors", "size,kind", "--labels", "kind", "--no-synthetic",
                *LITTLE).out  # fmt: skip
    for words in ("MIG", "DCI", "SAP", "FactorVAE score", "beta-VAE score", "modularity", "IRS", "InfoMEC",
                  "importance  size  kind", "labels: 3 classes", "linear probe", "pca", "data"):  # fmt: skip
        assert words in text, words


def test_labels_are_scored_where_they_are_known() -> None:
    words = ("evaluate", "run", "table.csv", "--no-synthetic", *LITTLE)
    assert "labels" not in figures(*words)
    found = figures(*words, "--labels", "kind")
    assert found["labels"]["classes"] == 3 and found["labels"]["scores"]["data"]["linear_probe"] > 0.9
    assert "labels" not in figures(*words, "--labels", "kind", "--no-label-scores")
    assert refused(*words, "--labels", "same") == "all labels are 1: give rows of at least two classes"


def test_samples_of_images_are_compared_with_held_out_rows() -> None:
    found = figures("evaluate", "images", "--samples", *LITTLE)["images"]
    assert found["rows"] == 20 and [*found["features"]] == ["PCA, 40 components"]
    assert [*found["features"]["PCA, 40 components"]] == ["real", "draws", "means"]
    run = load("images")
    x = np.load("images.npy")
    rows, _ = held_out_of(run, "images")
    again = outputs.reconstructed(run, rows)
    picked = [int(np.flatnonzero((x == row).all((1, 2)))[0]) for row in rows.x]
    assert found["psnr"] == pytest.approx(evaluation.psnr(x[picked], again, 255).mean(), rel=1e-6)
    assert found["ssim"] == pytest.approx(evaluation.ssim(x[picked], again, 255).mean(), rel=1e-6)
    text = done("evaluate", "images", "--samples", *LITTLE).out
    for words in ("Fréchet", "nearest training row, draws", "dB PSNR", "note: no labels are known"):
        assert words in text, words


def test_a_generator_has_samples_and_no_codes() -> None:
    found = figures("evaluate", "gan", "--samples", *LITTLE)
    assert found["images"]["psnr"] is None and "labels" not in found
    assert refused("evaluate", "gan", "--factors", "factors.npy", *LITTLE).startswith("factors.npy has 200 rows of")


def test_numbers_of_a_table_have_indicators_for_levels_and_no_gaps() -> None:
    rows = rows_of(read("table.csv").x)
    numbers = measures.numbers_of(rows)
    assert np.isfinite(numbers).all() and len(numbers) == 200
    kinds = len({field.name for field in rows.schema.modelled})
    assert numbers.shape[1] > kinds  # the levels of the column kind


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("run --factors sizes", "--factors: {}/table.csv has no column 'sizes' (did you mean size?): it has a, b, c"),
        ("run --factors a", "--factors a: the model reads this column: fit with --drop 'a', or name another column"),
        ("run --factors short.npy", "short.npy has 50 rows of factors, but {}/table.csv has 200 rows: give one row "
         "of factors for each row"),
        ("run table.csv --factors short.npy", "factors have 50 rows, but the data have 200: give one row of factors "
         "for each row"),
        ("run --factors same", "same is 1.0 in all rows: leave it out"),
        ("run --factors ,", "--factors names no column: pass --factors COLUMN,COLUMN or a file"),
        ("images --factors size", "--factors: {}/images.npy has no column 'size': it has no named columns"),
        ("run --samples", "--samples is for arrays and images, but the run was fitted to a table: omit it"),
        ("seeds --factors size", "--factors is for one run, but seeds has several: name one, as in seeds/seed-0"),
        ("seeds --samples", "--samples is for one run, but seeds has several: name one, as in seeds/seed-0"),
    ],
)
def test_what_cannot_be_scored_is_reported_in_one_sentence(words: str, sentence: str, folder: Path) -> None:
    found = refused("evaluate", *words.split(), "--no-synthetic", *LITTLE)
    assert found.startswith(sentence.format(folder)), found
