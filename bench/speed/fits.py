"""Runs of the command line in separate folders, and files for them."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

from speed import commands, inputs


def folder() -> Path:
    """A new folder, removed when the process ends."""
    import atexit

    made = Path(tempfile.mkdtemp(prefix="latens-speed-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def npy(path: Path, rows: int, seed: int = 0) -> Path:
    import numpy as np

    np.save(path, inputs.normals(rows, seed=seed))
    return path


def parquet(path: Path, rows: int) -> Path:
    """Write a Parquet file in row groups of 100,000, one after another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(f"x{i}", pa.float32()) for i in range(10)])
    with pq.ParquetWriter(path, schema) as writer:
        for number, start in enumerate(range(0, rows, 100_000)):
            block = inputs.normals(min(100_000, rows - start), seed=number)
            writer.write_table(pa.table(list(block.T.copy()), schema=schema))
    return path


def fit(where: Path, data: Path, *options: str) -> tuple[commands.Finished, Path]:
    """Run ``latens fit`` in a new folder and return that folder."""
    out = where / "run"
    shutil.rmtree(out, ignore_errors=True)
    return commands.run(commands.latens("fit", data, "--out", out, *options), where), out


def rounds(run: Path) -> list[dict[str, Any]]:
    """The training rounds in a run's metrics.csv."""
    with (run / "metrics.csv").open() as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
