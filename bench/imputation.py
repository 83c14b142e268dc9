"""Fill in removed cells with latens, IterativeImputer, miceforest, HyperImpute and the column mean.

    python bench/imputation.py --data wine,breast_cancer,diamonds
    python bench/imputation.py --methods latens                 after a change to latens; other methods' lines stay
    python bench/imputation.py --table docs/benchmarks.md       only write the table of the kept figures

Cells are removed completely at random, the same ones for all methods. The figures are the root mean square error over
the removed numeric cells, in standard deviations of the complete columns, and the accuracy over the removed levels.
Every method runs with its defaults and fills cells with expected values, not with draws: miceforest predicts instead of
matching (mean_match_candidates=0).

A line of bench/results/imputation.jsonl is one method on one table with one pattern of removed cells, written as soon
as it is measured. A line is measured again only if its version (a digest of latens' files, or a package's version) has
changed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from anomaly import clock, code, versions
from datasets import Absent
from kept import circumstances, conditions, keep, lines
from kept import spread as deviating
from speed import tables

EMBEDDED = ("wine", "breast_cancer", "iris", "diabetes")
KEY = ("data", "fraction", "method", "seed")
RESULTS = Path(__file__).resolve().parent / "results" / "imputation.jsonl"
PACKAGES = ("torch", "numpy", "scikit-learn", "pandas", "miceforest", "hyperimpute")


@dataclass
class Table:
    """Rows ``[n, columns]``; ``levels`` has for each column 0 (numbers) or the number of categories (codes from 0)."""

    values: np.ndarray
    levels: tuple[int, ...]

    @property
    def numeric(self) -> np.ndarray:
        return np.array(self.levels) == 0

    def removed(self, fraction: float, seed: int) -> np.ndarray:
        """Which cells are removed, ``[n, columns]``: each with probability ``fraction``, whatever it holds."""
        return np.random.default_rng(seed).random(self.values.shape) < fraction


def load(name: str, rows: int, files: Path) -> Table:
    """The table of that name, with at most ``rows`` of its rows (the same ones every time)."""
    if name in EMBEDDED:
        from sklearn import datasets as embedded

        values = np.asarray(getattr(embedded, f"load_{name}")().data, dtype=np.float64)
        table = Table(values, (0,) * values.shape[1])
    else:
        table = _coded(datasets.diamonds(files).to_pandas() if name == "diamonds" else datasets.adult(files))
    if len(table.values) <= rows:
        return table
    kept = np.random.default_rng(0).choice(len(table.values), rows, replace=False)
    return Table(table.values[kept], table.levels)


def _coded(frame: Any) -> Table:
    """The frame as numbers: numeric columns first, then columns of words as codes."""
    numbers = [name for name in frame if frame[name].dtype.kind in "biuf"]
    words = [name for name in frame if name not in numbers]
    coded = [np.unique(frame[name].astype(str), return_inverse=True) for name in words]
    columns = [frame[name].to_numpy(np.float64) for name in numbers] + [codes.astype(np.float64) for _, codes in coded]
    return Table(np.stack(columns, 1), (0,) * len(numbers) + tuple(len(known) for known, _ in coded))


# Wide rows: numbers unchanged, categories one-hot, missing cells NaN


def widen(values: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Widen rows from ``[n, columns]`` to ``[n, cells]``: a category becomes its indicators, all NaN where it is
    missing."""
    parts = []
    for column, count in zip(values.T, levels, strict=True):
        if count == 0:
            parts.append(column[:, None])
            continue
        indicators = (column[:, None] == np.arange(count)).astype(np.float64)
        parts.append(np.where(np.isnan(column)[:, None], np.nan, indicators))
    return np.concatenate(parts, 1)


def narrow(wide: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """The inverse of :func:`widen`: each category is the one with the largest cell."""
    groups = np.split(wide, np.cumsum([max(count, 1) for count in levels])[:-1], axis=1)
    return np.stack([g[:, 0] if count == 0 else g.argmax(1) for g, count in zip(groups, levels, strict=True)], 1)


def spread(wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the observed cells of each column; the latter is 1 if a column never varies."""
    scale = np.nanstd(wide, 0)
    return np.nanmean(wide, 0), np.where(scale > 0, scale, 1.0)


def framed(values: np.ndarray, levels: Sequence[int]) -> Any:
    """A frame whose categories are words."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for j, (column, count) in enumerate(zip(values.T, levels, strict=True)):
        words = [None if v != v else f"level {int(v):03d}" for v in column] if count else column
        columns[f"column_{j}"] = words
    return pd.DataFrame(columns)


def plain(frame: Any, levels: Sequence[int]) -> np.ndarray:
    """The inverse of :func:`framed`: words as codes."""
    columns = [frame[name].astype(str).str.removeprefix("level ") if count else frame[name]
               for name, count in zip(frame, levels, strict=True)]  # fmt: skip
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], 1)


# The methods: from values with NaN, levels and a seed to values without NaN


def by_latens(values: np.ndarray, levels: Sequence[int], seed: int) -> np.ndarray:
    """``latens.VAE().fit(X).impute(X)``, defaults only."""
    import latens

    frame = framed(values, levels)
    return plain(latens.VAE(random_state=seed).fit(frame).impute(frame), levels)


def mean_of_columns(values: np.ndarray, levels: Sequence[int], seed: int) -> np.ndarray:
    """Fill cells with the column's mean or most frequent level."""
    wide = widen(values, levels)
    return narrow(np.where(np.isnan(wide), spread(wide)[0], wide), levels)


def iterative(values: np.ndarray, levels: Sequence[int], seed: int) -> np.ndarray:
    """IterativeImputer (BayesianRidge) on standardised columns and indicators, with at most 20 rounds."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    wide = widen(values, levels)
    mean, scale = spread(wide)
    filled = IterativeImputer(max_iter=20, random_state=seed).fit_transform((wide - mean) / scale)
    return narrow(filled * scale + mean, levels)


def by_miceforest(values: np.ndarray, levels: Sequence[int], seed: int) -> np.ndarray:
    """miceforest: chained LightGBM (Wilson 2020), five rounds."""
    if importlib.util.find_spec("miceforest") is None:
        raise Absent("miceforest is not installed: pip install -r bench/requirements.txt")
    import miceforest

    frame = framed(values, levels)
    frame = frame.astype({name: "category" for name, count in zip(frame, levels) if count})
    kernel = miceforest.ImputationKernel(frame, num_datasets=1, mean_match_candidates=0, random_state=seed)
    kernel.mice(5, num_threads=1)
    return plain(kernel.complete_data(0), levels)


def by_hyperimpute(values: np.ndarray, levels: Sequence[int], seed: int) -> np.ndarray:
    """HyperImpute (Jarrett et al. 2022): a learner chosen for each column in every round."""
    if importlib.util.find_spec("hyperimpute") is None:
        raise Absent("HyperImpute is not installed: bench/README.md says how to install it")
    import pandas as pd
    from hyperimpute.plugins.imputers import Imputers

    frame = pd.DataFrame(values, columns=[f"column_{j}" for j in range(len(levels))])
    return np.asarray(Imputers().get("hyperimpute", random_state=seed).fit_transform(frame), dtype=np.float64)


@dataclass(frozen=True)
class Method:
    """A function that fills cells, and the package whose version decides whether a line is current."""

    fill: Callable[[np.ndarray, Sequence[int], int], np.ndarray]
    package: str

    def version(self) -> str:
        return code() if self.package == "latens" else f"{self.package} {versions(self.package)[self.package]}"


METHODS = {
    "latens": Method(by_latens, "latens"), "column mean": Method(mean_of_columns, "numpy"),
    "IterativeImputer": Method(iterative, "scikit-learn"), "miceforest": Method(by_miceforest, "miceforest"),
    "HyperImpute": Method(by_hyperimpute, "hyperimpute"),
}  # fmt: skip


# The comparison


def errors(table: Table, filled: np.ndarray, removed: np.ndarray) -> dict[str, float]:
    """``rmse`` of the removed numeric cells, in standard deviations of the complete columns; ``accuracy`` of levels."""
    scale = table.values.std(0)
    gap = (filled - table.values) / np.where(scale > 0, scale, 1.0)
    found = {"rmse": float(np.sqrt(np.square(gap[removed & table.numeric]).mean()))}
    words = removed & ~table.numeric
    return found | ({"accuracy": float((filled == table.values)[words].mean())} if words.any() else {})


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in KEY)


def place(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["data"], line["fraction"], list(METHODS).index(line["method"]), line["seed"]


def one(data: str, fraction: float, method: str, seed: int, options: argparse.Namespace) -> None:
    """Remove cells, fill them, and keep the line of results."""
    table = load(data, options.rows, options.files)
    removed, start = table.removed(fraction, seed), clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "did not converge" is expected: the number of rounds is fixed
        filled = METHODS[method].fill(np.where(removed, np.nan, table.values), table.levels, seed)
    found = errors(table, filled, removed)
    line = {
        "data": data, "fraction": fraction, "method": method, "seed": seed, "version": METHODS[method].version(),
        "shape": table.values.shape, "errors": {name: round(value, 6) for name, value in found.items()},
        "seconds": (clock() - start).round(1).tolist(), **circumstances(*PACKAGES),
    }  # fmt: skip
    keep(options.json, line, KEY, place)
    print(f"{data}, {fraction:.0%}, {method}, seed {seed}: {found}", flush=True)


def markdown(found: list[dict[str, Any]]) -> str:
    """The table with a row for each data set and share of removed cells: mean ± standard deviation over the patterns,
    and in brackets the mean of latens minus the other method, pattern by pattern, ± standard error."""
    names = [name for name in METHODS if any(line["method"] == name for line in found)]
    rows = ["| data, cells removed | error | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for data, fraction in dict.fromkeys((line["data"], line["fraction"]) for line in found):
        here = [line for line in found if (line["data"], line["fraction"]) == (data, fraction)]
        n, columns = here[0]["shape"]
        for measure in ("rmse", "accuracy"):
            values = {name: {line["seed"]: line["errors"][measure] for line in here
                             if line["method"] == name and measure in line["errors"]} for name in names}  # fmt: skip
            if any(values.values()):
                cells = [_cell(values[name], values.get("latens", {}), name != "latens") for name in names]
                rows.append(f"| {data}, {n:,} x {columns}, {fraction:.0%} | {measure} | " + " | ".join(cells) + " |")
    return "\n".join([*rows, "", conditions(found, [line["version"] for line in found if line["method"] == "latens"])])


def _cell(values: dict[int, float], ours: dict[int, float], compared: bool) -> str:
    if not values:
        return ""
    text, both = deviating(list(values.values()), 3), sorted(set(values) & set(ours))
    if compared and both:
        gaps = np.array([ours[seed] - values[seed] for seed in both])
        error = f" ± {gaps.std(ddof=1) / math.sqrt(len(gaps)):.3f}" if len(gaps) > 1 else ""
        text += f" ({gaps.mean():+.3f}{error})"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wine,breast_cancer,diamonds", help=f"use these of {', '.join(EMBEDDED)}, "
                        "diamonds, adult")  # fmt: skip
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="remove cells in this many patterns, from --first-seed on")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--fractions", default="0.2,0.5", help="remove these shares of the cells")
    parser.add_argument("--rows", type=int, default=10_000, help="use at most this many rows, the same for all methods")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="find data files in this folder")
    parser.add_argument("--json", type=Path, default=RESULTS, help="keep the lines in this file")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        text = tables.put(markdown(lines(options.json)), options.table.read_text(), "imputation")
        options.table.write_text(text)
        return
    there = {key(line): line["version"] for line in lines(options.json)}
    skipped: dict[str, None] = {}
    for method in options.methods.split(","):
        for data in options.data.split(","):
            for fraction in map(float, options.fractions.split(",")):
                for seed in range(options.first_seed, options.first_seed + options.seeds):
                    if there.get((data, fraction, method, seed)) == METHODS[method].version():
                        continue
                    try:
                        one(data, fraction, method, seed, options)
                    except Absent as error:
                        skipped[f"skipped: {error}"] = None
    print("\n" + markdown(lines(options.json)), *skipped, sep="\n")


if __name__ == "__main__":
    main()
