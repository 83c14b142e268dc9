"""Optional packages that latens works with, as they are installed here: trackers, AnnData and UMAP.

Each test is skipped where its package is not installed; other tests use stand-ins and need none of these packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commanding import done

import latens
from latens.training import Tracker

X = np.random.default_rng(0).normal(size=(90, 4))
FIGURE = "round/validation_bound"


def in_tensorboard(folder: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [file] = folder.rglob("events.out.*")
    events = EventAccumulator(str(file))
    events.Reload()
    return [event.value for event in events.Scalars(FIGURE)]


def in_mlflow(folder: Path) -> list[float]:
    import mlflow

    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("latens").experiment_id])
    return [metric.value for metric in client.get_metric_history(run.info.run_id, FIGURE)]


def in_wandb(folder: Path) -> list[float]:
    [file] = folder.rglob("*.wandb")  # a binary log, which holds each number as text
    found = re.findall(FIGURE.encode() + rb".{1,6}?(-?\d+\.\d+)", file.read_bytes(), re.DOTALL)
    return [float(v) for v in dict.fromkeys(found)]  # each is there twice, as history and as summary


READERS: dict[str, Callable[[Path], list[float]]] = {
    "tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_tracker_holds_the_figures_of_the_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    for variable, value in (("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db"), ("WANDB_MODE", "offline"),
                            ("WANDB_DIR", str(tmp_path)), ("WANDB_SILENT", "true")):  # fmt: skip
        monkeypatch.setenv(variable, value)
    vae = latens.VAE(latent_dim=2, epochs=12, batch_size=9, validation=0.2, random_state=0, callbacks=[Tracker(name)])
    wanted = [row["validation_bound"] for row in vae.fit(X).run_.history]
    assert len(wanted) > 1 and READERS[name](tmp_path) == pytest.approx(wanted, rel=1e-6)


def test_codes_are_kept_in_an_anndata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    anndata = pytest.importorskip("anndata", reason="anndata is not installed")
    from scipy import sparse

    counts = np.random.default_rng(0).poisson(3.0, size=(80, 20)).astype("float32")
    anndata.settings.allow_write_nullable_strings = True
    cells = anndata.AnnData(sparse.csr_matrix(counts))
    vae = latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(cells)
    vae.transform(cells, key_added="X_latens")
    assert np.array_equal(cells.obsm["X_latens"], vae.transform(counts))
    monkeypatch.chdir(tmp_path)
    cells.write_h5ad("cells.h5ad")
    done("fit", "cells.h5ad", "--out", "run", "--latent-dim", 2, "--epochs", 2)
    done("encode", "run", "cells.h5ad", "--out", "coded.h5ad")
    done("encode", "run", "cells.h5ad", "--out", "codes.npy")
    coded = anndata.read_h5ad("coded.h5ad")
    assert np.allclose(coded.obsm["X_latens"], np.load("codes.npy"), atol=1e-6)
    assert (coded.X != cells.X).nnz == 0
    backed = anndata.read_h5ad("cells.h5ad", backed="r")
    assert np.array_equal(vae.transform(backed), vae.transform(counts))


def test_the_explorer_has_a_map_of_umap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("umap", reason="umap-learn is not installed")
    monkeypatch.chdir(tmp_path)
    done("fit", "digits", "--out", "run", "--epochs", 3)
    done("explore", "run", "--out", "page.html")
    about = json.loads(re.search(r'id="about">(.*?)</script>', Path("page.html").read_text("utf-8"))[1])  # type: ignore[index]
    assert [each["name"] for each in about["rows"]["maps"]] == ["PCA of the codes", "UMAP of the codes"]
    assert about["rows"]["maps"][1]["count"] == about["rows"]["maps"][0]["count"] > 100
