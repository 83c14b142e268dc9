"""Anomaly scores compared with PCA, an isolation forest and PyOD's VAE: AUROC on rows that no method has seen.

    python bench/anomaly.py --data shuttle,page_blocks,fashion --seeds 3 --json bench/results/anomaly.json
    python bench/anomaly.py --methods latens,latens_array --json bench/results/anomaly.json
    python bench/anomaly.py --table docs/benchmarks.md

    python bench/anomaly.py --data classical --rows 2000 --seeds 1 --json bench/results/classical.json
    python bench/anomaly.py --data cardio.npz,letter.npz --seeds 3 --json bench/results/classical.json

The second command keeps the other methods' figures in the file; the third writes the page's tables from the results.
The fourth and the fifth follow ADBench (Han et al. 2022), on data sets made from packages or on ADBench's own files:
the models are fitted to 70 % of the rows of each kind, anomalies included, and score the others. Their tables have
AUROC, average precision and mean ranks next to those of PyOD's detectors.

No method is given labels. Shuttle and page-blocks: the models are fitted to a random half, as it is ("contaminated") or
without its anomalies ("normal"), and score the other half. Fashion-MNIST: they are fitted to images of nine classes,
and the tenth is the anomaly among test images. All methods run with their defaults. The score of latens is its
strangeness; that of PCA is the squared reconstruction error from the components with 90 % of the variance, after
columns are standardised (pixels are not).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Absent, Labelled
from speed import machine
from speed.tables import put

Score = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # training rows, rows to score, seed -> scores
TABLES = {"shuttle": datasets.shuttle, "page_blocks": datasets.page_blocks}


@dataclass(frozen=True)
class Case:
    """One comparison: what to fit to, what to score."""

    data: str
    regime: str
    seed: int
    train: np.ndarray
    test: Labelled


# The methods


def latens_columns(train: np.ndarray, test: np.ndarray, seed: int, recipe: Any = None) -> np.ndarray:
    """Scores of rows as a table, each column with its own likelihood, as ``latens fit file.csv`` does. Columns that are
    positive in the training rows, but 0 or negative in others, are declared continuous, because latens would refuse
    those rows."""
    import latens

    if train.ndim > 2:
        return latens_array(train, test, seed)
    may_be_negative = np.flatnonzero((test.min(0) <= 0) & (train.min(0) > 0))
    named = {f"column_{i + 1}": "continuous" for i in may_be_negative}
    vae = latens.VAE(random_state=seed, columns=named or None, **({} if recipe is None else {"recipe": recipe}))
    return vae.fit(_table(train)).anomaly_scores(_table(test))


def latens_standard(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Scores of rows as a table under the prior N(0, I) (``--prior standard``), whatever the number of rows."""
    from latens import Recipe

    return latens_columns(train, test, seed, Recipe("vae", prior="standard"))


def latens_array(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Scores of rows or images as an array, with one likelihood for all columns."""
    import latens

    return latens.VAE(random_state=seed).fit(train).anomaly_scores(test)


def pca(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    train, test = _flat(train), _flat(test)
    if train.shape[1] < 100:
        shift, unit = train.mean(0), np.where(train.std(0) > 0, train.std(0), 1.0)
        train, test = (train - shift) / unit, (test - shift) / unit
    found = PCA(0.9, svd_solver="full", random_state=seed).fit(train)
    return np.square(test - found.inverse_transform(found.transform(test))).sum(1)


def isolation_forest(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(_flat(train)).score_samples(_flat(test))


def pyod_vae(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Scores of the VAE of PyOD (Zhao, Nasrullah & Li 2019): the squared error of one noisy reconstruction. This VAE
    standardises its input and pulls its rate to ``capacity`` = 0."""
    if importlib.util.find_spec("pyod") is None:
        raise Absent("PyOD's VAE needs the package pyod: pip install -r bench/requirements.txt")
    from pyod.models.vae import VAE

    logging.disable(logging.INFO)
    return VAE(random_state=seed, verbose=0).fit(_flat(train)).decision_function(_flat(test))


def pyod(module: str, name: str) -> Score:
    """A detector of PyOD (Zhao, Nasrullah & Li 2019) with its defaults."""

    def score(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        if importlib.util.find_spec("pyod") is None:
            raise Absent(f"{name} needs the package pyod: pip install -r bench/requirements.txt")
        detector = getattr(importlib.import_module(f"pyod.models.{module}"), name)
        options = {"random_state": seed} if module in ("iforest", "pca") else {}
        return detector(**options).fit(_flat(train)).decision_function(_flat(test))

    return score


METHODS: dict[str, Score] = {
    "latens": latens_columns, "latens_standard": latens_standard, "pca": pca, "latens_array": latens_array,
    "isolation_forest": isolation_forest, "pyod_vae": pyod_vae,
    "pyod_iforest": pyod("iforest", "IForest"), "pyod_ecod": pyod("ecod", "ECOD"), "pyod_knn": pyod("knn", "KNN"),
    "pyod_pca": pyod("pca", "PCA"),
}  # fmt: skip
USUAL = "latens,latens_standard,pca,latens_array,isolation_forest,pyod_vae"  # only on the sets that are not ADBench's
RANKED = "latens,pyod_iforest,pyod_ecod,pyod_knn,pyod_pca"
CLASSICAL = Path(__file__).parent / "results" / "classical.json"


def _named(name: str) -> str:
    """The name of a set; for a file, its name without the extension."""
    return Path(name).stem if name.endswith(".npz") else name


def _family(data: str) -> str:
    """The name of the data set on the command line."""
    return data.split()[0]


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float64)


def _table(x: np.ndarray) -> dict[str, np.ndarray]:
    return {f"column_{i + 1}": column for i, column in enumerate(x.T)}


# The cases


def cases(name: str, options: argparse.Namespace) -> Iterator[Case]:
    """Every case of one data set."""
    if name == "fashion":
        yield from _fashion(options)
        return
    if name in datasets.CLASSICAL or name.endswith(".npz"):
        yield from _classical(name, options)
        return
    if name not in TABLES:
        known = ", ".join(("fashion", "classical", *TABLES, *datasets.CLASSICAL))
        raise SystemExit(f"there is no data set {name!r}: name the path of a .npz, or one of {known}")
    rows = TABLES[name](options.files)
    for seed in range(options.seeds):
        first, second = (rows.take(half) for half in datasets.halves(len(rows.x), seed))
        yield Case(name, "contaminated", seed, first.x, second)
        yield Case(name, "normal", seed, first.x[~first.anomaly], second)


def _classical(name: str, options: argparse.Namespace) -> Iterator[Case]:
    rows = datasets.classical(name, options.files)
    if len(rows.x) > options.rows:
        rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows.x))[: options.rows]))
    for seed in range(options.seeds):
        random, first = np.random.default_rng(seed), np.zeros(len(rows.x), bool)
        for kind in (False, True):
            these = random.permutation(np.flatnonzero(rows.anomaly == kind))
            first[these[: round(0.7 * len(these))]] = True
        yield Case(_named(name), "70/30", seed, rows.x[first], rows.take(~first))


def _fashion(options: argparse.Namespace) -> Iterator[Case]:
    train, test = datasets.fashion(options.files)
    for seed in range(options.image_seeds):
        random = np.random.default_rng(seed)
        some = np.sort(random.permutation(len(test.x))[: options.test_images])
        for held in options.held_out:
            others = np.flatnonzero(train.anomaly != held)
            kept = np.sort(random.choice(others, min(options.images, len(others)), replace=False))
            scored = Labelled(test.x[some], test.anomaly[some] == held)
            yield Case(f"fashion without class {held}", "normal", seed, train.x[kept], scored)


def clock() -> np.ndarray:
    """Wall-clock and processor seconds, including those of finished commands."""
    return np.array([time.monotonic(), sum(os.times()[:4])])


def run(case: Case, method: str) -> dict[str, Any]:
    """AUROC of one method in one case."""
    from sklearn.metrics import average_precision_score

    from latens.evaluation.anomaly import auroc

    start = clock()
    scores = METHODS[method](case.train, case.test.x, case.seed)
    seconds = clock() - start
    found = auroc(scores, case.test.anomaly)
    return {
        "data": case.data, "regime": case.regime, "seed": case.seed, "method": method, "auroc": found.value,
        "ap": float(average_precision_score(case.test.anomaly, np.nan_to_num(scores, posinf=np.finfo(float).max))),
        "standard_error": found.standard_error, "seconds": seconds.round(1).tolist(), "train_rows": len(case.train),
        "test_rows": len(case.test.x), "test_anomalies": int(case.test.anomaly.sum()), "code": code(),
    }  # fmt: skip


# The answer


@dataclass(frozen=True)
class Line:
    """One line of the table: AUROC over the seeds, mean standard error within a seed, processor seconds per seed."""

    data: str
    regime: str
    method: str
    seeds: int
    mean: float
    deviation: float | None
    standard_error: float
    seconds: float


def lines(runs: list[dict[str, Any]]) -> list[Line]:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for each in runs:
        groups.setdefault((each["data"], each["regime"], each["method"]), []).append(each)
    found = []
    for key, members in sorted(groups.items(), key=lambda item: item[0][:2]):
        values = np.array([member["auroc"] for member in members])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        error = float(np.mean([member["standard_error"] for member in members]))
        seconds = float(np.mean([member["seconds"][1] for member in members]))
        found.append(Line(*key, len(values), float(values.mean()), deviation, error, seconds))
    return found


def markdown(found: list[Line]) -> str:
    """A table with a row for each data set and regime and a column for each method: mean ± standard deviation over
    seeds, or ± the standard error of a single seed, with the best of each row in bold."""
    methods = [name for name in METHODS if any(line.method == name for line in found)]
    rows = ["| data, fitted to | seeds | " + " | ".join(name.replace("_", " ") for name in methods) + " |",
            "|---|---|" + "---|" * len(methods)]  # fmt: skip
    for data, regime in dict.fromkeys((line.data, line.regime) for line in found):
        of = {line.method: line for line in found if (line.data, line.regime) == (data, regime)}
        best = max(line.mean for line in of.values())
        cells = [_cell(of[name], of[name].mean == best) if name in of else "" for name in methods]
        seeds = ", ".join(map(str, sorted({line.seeds for line in of.values()})))
        rows.append(f"| {data}, {regime} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(line: Line, is_best: bool) -> str:
    mean = f"{line.mean:.4f}"
    spread = line.standard_error if line.deviation is None else line.deviation
    return f"{f'**{mean}**' if is_best else mean} ± {spread:.4f}"


def ranks(runs: list[dict[str, Any]]) -> str:
    """A table with a row for each data set: AUROC and average precision of each method, as means over seeds; then means
    and mean ranks (1 is best, ties share a rank) over the data sets that all methods have."""
    methods = [name for name in METHODS if any(run["method"] == name for run in runs)]
    names = sorted({run["data"] for run in runs})
    kept = {name: [run for run in runs if run["data"] == name] for name in names}
    full = [name for name in names if {run["method"] for run in kept[name]} == set(methods)]
    table = {
        figure: np.array([[np.mean([run[figure] for run in kept[name] if run["method"] == method])
                           for method in methods] for name in full]) for figure in ("auroc", "ap")
    }  # fmt: skip
    head = ["set", "rows fitted to, scored", "anomalies scored", *(name.replace("_", " ") for name in methods)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for place, name in enumerate(full):
        one, best = kept[name][0], table["auroc"][place].max()
        pairs = zip(table["auroc"][place], table["ap"][place])
        cells = [f"**{a:.3f}**, {p:.3f}" if a == best else f"{a:.3f}, {p:.3f}" for a, p in pairs]
        sizes = [f"{one['train_rows']:,}, {one['test_rows']:,}", str(one["test_anomalies"])]
        lines.append(f"| {' | '.join([name, *sizes, *cells])} |")
    ranked = {figure: _mean_ranks(values) for figure, values in table.items()}
    for what, (a, p) in {
        "mean": (table["auroc"].mean(0), table["ap"].mean(0)), "mean rank": (ranked["auroc"], ranked["ap"])
    }.items():  # fmt: skip
        lines.append(f"| {what} |  |  | " + " | ".join(f"{x:.3f}, {y:.3f}" for x, y in zip(a, p)) + " |")
    return "\n".join(lines)


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """The mean rank of each column over the rows; the largest value of a row has rank 1."""
    from latens.evaluation.anomaly import midranks

    return np.mean([midranks(-row) for row in values], 0)


def ranked_page() -> str:
    """The table of ranks of the kept results, and the machine and packages that made them."""
    file = json.loads(CLASSICAL.read_text("utf-8"))
    seeds = sorted({run["seed"] for run in file["runs"]})
    codes = ", ".join(sorted({run["code"] for run in file["runs"] if run["method"] == "latens"}))
    return f"{ranks(file['runs'])}\n\nSeeds {seeds}; {taken_on(file)}; digests of latens' files: {codes}."


def page() -> str:
    """The table of all kept results, and the machine and packages that made them."""
    paths = sorted((Path(__file__).parent / "results").glob("anomaly*.json"))
    files = [json.loads(path.read_text("utf-8")) for path in paths]
    runs = [run for file in files for run in file["runs"]]
    codes = ", ".join(sorted({run["code"] for run in runs if run["method"].startswith("latens")}))
    return f"{markdown(lines(runs))}\n\n{taken_on(files[0])}; digests of latens' files: {codes}."


def taken_on(file: dict[str, Any]) -> str:
    """The machine and the packages of a file of results."""
    packages = (f"{name} {version}" for name, version in file["versions"].items())
    return ", ".join([file.get("machine", "machine not recorded"), *packages])


def versions(*packages: str) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    import latens

    return {"latens": latens.__version__} | found


def code() -> str:
    """A digest of latens' source files: runs with different digests come from different code, whatever their
    version."""
    import latens

    root = Path(latens.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shuttle,page_blocks,fashion")
    parser.add_argument("--methods", help="some of " + ", ".join(METHODS))
    parser.add_argument("--rows", type=int, default=10_000, help="use at most this many rows of a set")
    parser.add_argument("--seeds", type=int, default=3, help="split tables into halves this many times")
    parser.add_argument("--image-seeds", type=int, default=1, help="fit this many times per class held out")
    parser.add_argument("--held-out", type=int, nargs="*", default=[0, 5, 8], help="hold out these classes")
    parser.add_argument("--images", type=int, default=20_000, help="fit to this many images of Fashion-MNIST")
    parser.add_argument("--test-images", type=int, default=2_000, help="score this many images of Fashion-MNIST")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="find data files in this folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        text = put(page(), options.table.read_text("utf-8"), "anomaly")
        options.table.write_text(put(ranked_page(), text, "classical"), "utf-8")
        return
    given = ",".join(datasets.CLASSICAL) if options.data == "classical" else options.data
    names = given.split(",")
    protocol = all(name in datasets.CLASSICAL or name.endswith(".npz") for name in names)
    methods = (options.methods or (RANKED if protocol else USUAL)).split(",")
    runs: list[dict[str, Any]] = []
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text())["runs"]
        runs = [run for run in kept if run["method"] not in methods or _family(run["data"]) not in map(_named, names)]
    skipped: dict[str, None] = {}
    for name in names:
        try:
            for case in cases(name, options):
                for method in methods:
                    if case.train.ndim > 2 and method == "latens_array":
                        continue  # images are arrays anyway
                    try:
                        runs.append(run(case, method))
                        print(json.dumps(runs[-1]), flush=True)
                        if options.json:
                            write(options.json, runs, [*skipped])
                    except Absent as error:
                        skipped[f"skipped: {error}"] = None
        except Absent as error:
            skipped[f"skipped {name}: {error}"] = None
    print("\n" + markdown(lines(runs)), *skipped, sep="\n")


def write(path: Path, runs: list[dict[str, Any]], skipped: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine.describe()["cpu"], "skipped": skipped,
             "versions": versions("torch", "scikit-learn", "pyod", "numpy"),
             "lines": [asdict(line) for line in lines(runs)], "runs": runs}  # fmt: skip
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
