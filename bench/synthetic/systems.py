"""The systems that draw synthetic rows: latens and its oracle, CTGAN's TVAE, and published synthetic tables.

A system is a function of (training rows, seed, options, working folder) that returns ``{name: Drawn}``.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anomaly import clock, code, versions
from datasets import Absent


@dataclass(frozen=True)
class Drawn:
    """The rows that a system drew, and the wall-clock and processor seconds of the fit and the drawing."""

    rows: pd.DataFrame
    fit: list[float]
    draw: list[float]


@dataclass(frozen=True)
class System:
    """A way to draw rows under one or several names, and its version: lines of other versions are out of date."""

    names: tuple[str, ...]
    version: Callable[[], str]
    draw: Callable[[pd.DataFrame, int, argparse.Namespace, Path], dict[str, Drawn]]
    seeds: int | None = None  # the number of seeds, if not that of --seeds
    only: str | None = None  # the data for which it exists


def by_latens(train: pd.DataFrame, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Drawn]:
    """``latens fit`` and ``latens sample`` with their defaults, through files as a user would; and the oracle: rows
    decoded from codes of the training rows, which is what the likelihood gives if the prior has no error."""
    source, run, out = folder / "train.csv", folder / f"run-{seed}", folder / f"rows-{seed}.csv"
    train.to_csv(source, index=False)
    shutil.rmtree(run, ignore_errors=True)
    fit = _command("fit", source, "--out", run, "--seed", seed)
    draw = _command("sample", run, "--number", len(train), "--seed", seed, "--out", out)
    start = clock()
    oracle = _of_codes(run, source, seed)
    spent = (clock() - start).round(1).tolist()
    return {"latens": Drawn(pd.read_csv(out), fit, draw), "oracle": Drawn(oracle, fit, spent)}


def _command(*words: object) -> list[float]:
    import latens

    start, root = clock(), str(Path(latens.__file__).parent.parent)  # use the latens that this process imports
    line = [sys.executable, "-m", "latens", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise RuntimeError(f"latens {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return (clock() - start).round(1).tolist()


def _of_codes(folder: Path, source: Path, seed: int) -> pd.DataFrame:
    """For each training row x, a row drawn from p(x|z) with z ~ q(z|x)."""
    import torch

    from latens.cli.commands.inputs import data_for
    from latens.evaluation.likelihood import evaluating
    from latens.runs import outputs
    from latens.runs import record as runs

    run = runs.load(folder)
    z = torch.from_numpy(outputs.posterior_samples(run, data_for(run, str(source)), 1, seed)[0])
    torch.manual_seed(seed)
    with evaluating(run.model), torch.no_grad():
        x = torch.cat([run.model.decode(part).sample() for part in z.split(4096)])
    table = outputs.written(outputs.to_user(outputs.schema_of(run), x.numpy()), run, out="rows.csv")
    written = io.BytesIO()
    import pyarrow.csv as arrow_csv

    arrow_csv.write_csv(table, written)
    written.seek(0)
    return pd.read_csv(written)


def by_tvae(train: pd.DataFrame, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Drawn]:
    """TVAE (Xu et al. 2019) with its defaults, which include 300 epochs."""
    if importlib.util.find_spec("ctgan") is None:
        raise Absent("TVAE needs the package ctgan: pip install -r bench/requirements.txt")
    from ctgan import TVAE

    start = clock()
    model = TVAE(epochs=options.epochs, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(train, [name for name in train if train[name].dtype.kind not in "biuf"])
    fitted = clock()
    rows = model.sample(len(train))
    return {"TVAE": Drawn(rows, (fitted - start).round(1).tolist(), (clock() - fitted).round(1).tolist())}


def published(archive: str) -> Callable[[pd.DataFrame, int, argparse.Namespace, Path], dict[str, Drawn]]:
    """Read table number ``seed`` from a zip file of csv or Parquet files, with columns in the order of the training
    rows."""

    def draw(train: pd.DataFrame, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Drawn]:
        path = options.files / archive
        if not path.exists():
            raise Absent(f"{path} is missing: copy it from the repository of the TabularARGN paper")
        with zipfile.ZipFile(path) as packed:
            name = sorted(each for each in packed.namelist() if not each.endswith("/"))[seed]
            content = io.BytesIO(packed.read(name))
        rows = pd.read_csv(content) if name.endswith(".csv") else pd.read_parquet(content)
        return {NAMES[archive]: Drawn(rows.set_axis(train.columns, axis=1), [], [])}

    return draw


NAMES = {"tabsyn.zip": "TabSyn", "TabARGN.zip": "TabularARGN", "TabARGN_dp.zip": "TabularARGN-DP", "tabmt.zip": "TabMT"}
SYSTEMS = [
    System(("latens", "oracle"), code, by_latens),
    System(("TVAE",), lambda: f"ctgan {versions('ctgan')['ctgan']}", by_tvae, seeds=1),
    *(System((name,), lambda: "arXiv 2501.12012", published(archive), 5, "adult") for archive, name in NAMES.items()),
]


def like(rows: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """Rows in the form of the training rows: numbers rounded to the same decimals, texts stripped, missing texts as "?"
    where that is a level."""
    found = rows[list(train.columns)].copy()
    for name in train:
        if train[name].dtype.kind in "biuf":
            found[name] = pd.to_numeric(found[name]).astype(np.float64).round(decimals_of(train[name].to_numpy()))
        else:
            words = found[name].astype("object").map(str.strip, na_action="ignore")
            found[name] = words.fillna("?") if (train[name] == "?").any() else words
    return found


def decimals_of(values: np.ndarray, most: int = 6) -> int:
    """The largest number of digits after the point among the values.

    >>> decimals_of(np.array([0.25, 1.5]))
    2
    """
    values = values[~np.isnan(values)]
    return next((n for n in range(most) if np.allclose(values, np.round(values, n), atol=1e-9)), most)
