"""Synthetic diamonds: ``latens fit diamonds.csv`` beside CTGAN's TVAE, both with defaults only, measured alike.

    python bench/synthetic_table.py --seeds 1 --json bench/results/synthetic_table.json
    python bench/synthetic_table.py --methods latens --json bench/results/synthetic_table.json

The second keeps what the file has of the other method, which takes long.
Both are fitted to the same random four fifths of the rows and each draws as many rows as are held out; the figures are
those of ``latens.evaluation.synthetic``, beside their values for held-out real rows. TVAE's numbers are rounded to the
decimals of the data and cut at its smallest and largest values, as SDV does; latens' rows are taken as they come.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from anomaly import clock, code, versions
from datasets import Absent

Table = Any  # an arrow table
Seconds = np.ndarray  # wall clock, and of all processors together
Generator = Callable[[Table, int, argparse.Namespace], tuple[Table, Seconds, Seconds]]  # -> rows, to fit, to draw


def by_latens(train: Table, seed: int, options: argparse.Namespace) -> tuple[Table, Seconds, Seconds]:
    """Through files and commands, as a user would; the fit's seconds include the report."""
    import pyarrow.csv as arrow_csv

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        arrow_csv.write_csv(train, here / "train.csv")
        fit = _command("fit", here / "train.csv", "--out", here / "run", "--seed", seed)
        draw = _command("sample", here / "run", "--number", options.draws, "--seed", seed, "--out", here / "rows.csv")
        return arrow_csv.read_csv(here / "rows.csv"), fit, draw


def _command(*words: object) -> Seconds:
    import latens

    start, root = clock(), str(Path(latens.__file__).parent.parent)  # the latens of this process, wherever it runs
    line = [sys.executable, "-m", "latens", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise RuntimeError(f"latens {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return clock() - start


def by_tvae(train: Table, seed: int, options: argparse.Namespace) -> tuple[Table, Seconds, Seconds]:
    """TVAE (Xu et al. 2019)."""
    if importlib.util.find_spec("ctgan") is None:
        raise Absent("TVAE needs the package ctgan: pip install -r bench/requirements.txt")
    import pyarrow as pa
    from ctgan import TVAE

    frame = train.to_pandas()
    words = [name for name in frame if frame[name].dtype == object]
    start = clock()
    model = TVAE(epochs=options.epochs, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(frame, words)
    fitted = clock()
    rows = model.sample(options.draws)
    for name in (name for name in frame if name not in words):
        rows[name] = rows[name].round(decimals_of(frame[name].to_numpy())).clip(frame[name].min(), frame[name].max())
    return pa.Table.from_pandas(rows, preserve_index=False), fitted - start, clock() - fitted


def decimals_of(values: np.ndarray, most: int = 6) -> int:
    """Digits after the point that all values have at most.

    >>> decimals_of(np.array([0.25, 1.5]))
    2
    """
    return next((n for n in range(most) if np.allclose(values, np.round(values, n), atol=1e-9)), most)


GENERATORS: dict[str, Generator] = {"latens": by_latens, "TVAE": by_tvae}


# Figures


def frames(*tables: Table) -> list[Any]:
    """Tables of the same columns as frames: numbers as they are, words as codes common to all."""
    from latens.evaluation.synthetic import frame

    kinds: dict[str, str] = {}
    columns: list[dict[str, np.ndarray]] = [{} for _ in tables]
    for name in tables[0].column_names:
        parts = [table.column(name).to_pandas().to_numpy() for table in tables]
        words = any(part.dtype.kind not in "biuf" for part in parts)
        kinds[name] = "categorical" if words else "numeric"
        codes = np.unique(np.concatenate(parts), return_inverse=True)[1] if words else np.concatenate(parts)
        for found, part in zip(columns, np.split(codes, np.cumsum([len(part) for part in parts])[:-1])):
            found[name] = part
    return [frame(found, kinds) for found in columns]


def flat(figures: Any) -> dict[str, tuple[float | None, float | None]]:
    """Name -> (of synthetic rows, of held-out rows)."""
    named = {**figures.means, "dependence": figures.dependence, **figures.usefulness, "detection": figures.detection,
             **figures.memorisation}  # fmt: skip
    for column, found in figures.columns.items():
        named |= {f"{column}: {measure}": each for measure, each in found.items() if measure != "missing"}
    return {name: (each.value, each.null) for name, each in named.items()}


def one_seed(table: Table, seed: int, options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    from latens.evaluation.synthetic import evaluate_synthetic

    order = np.random.default_rng(seed).permutation(len(table))
    cut = len(table) * 4 // 5
    train, held = table.take(np.sort(order[:cut])), table.take(np.sort(order[cut:]))
    options.draws = len(held)
    runs, skipped = [], []
    for method in options.methods.split(","):
        try:
            rows, fitting, drawing = GENERATORS[method](train, seed, options)
        except Absent as error:
            skipped.append(f"skipped: {error}")
            continue
        figures = evaluate_synthetic(*frames(train, held, rows.select(train.column_names)), target=options.target)
        runs.append({
            "method": method, "seed": seed, "train_rows": len(train), "drawn_rows": len(rows),
            "fit_seconds": fitting.round(1).tolist(), "sample_seconds": drawing.round(1).tolist(),
            "epochs": options.epochs if method == "TVAE" else "auto", "figures": flat(figures),
            "evaluation": figures.to_json(), "code": code(),
        })  # fmt: skip
        print(f"seed {seed}, {method}: fitted in {fitting[0]:.0f} s, {fitting[1]:.0f} s of processors", flush=True)
    return runs, skipped


def markdown(runs: list[dict[str, Any]]) -> str:
    """A line for each figure: mean (sd over seeds) of each method, and of held-out rows."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_method.setdefault(run["method"], []).append(run)
    if not runs:
        return "nothing was run"
    lines = [f"| figure | {' | '.join(by_method)} | held-out rows |", "| --- |" + " ---: |" * (len(by_method) + 1)]
    for name in ("fit_seconds", "sample_seconds"):
        for place, of in enumerate(("wall", "processors")):
            cells = [_cell([run[name][place] for run in members], 1) for members in by_method.values()]
            lines.append(f"| {name.replace('_', ' ')}, {of} | {' | '.join(cells)} |  |")
    first = next(iter(by_method.values()))
    for name in first[0]["figures"]:
        cells = [_cell([run["figures"][name][0] for run in members]) for members in by_method.values()]
        null = _cell([run["figures"][name][1] for run in first])
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {null} |")
    return "\n".join(lines)


def _cell(values: list[float | None], digits: int = 4) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    spread = f" ({np.std(known, ddof=1):.{digits}f})" if len(known) > 1 else ""
    return f"{np.mean(known):.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="random splits, and seeds of the fits")
    parser.add_argument("--methods", default=",".join(GENERATORS))
    parser.add_argument("--epochs", type=int, default=300, help="of TVAE, whose default is 300")
    parser.add_argument("--target", default="price", help="the column that usefulness predicts")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="a folder with files of the data")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        table = datasets.diamonds(options.files)
    except Absent as error:
        print(f"skipped: {error}")
        return
    runs: list[dict[str, Any]] = []
    skipped: list[str] = []
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text())["runs"]
        runs = [run for run in kept if run["method"] not in options.methods.split(",")]
    for seed in range(options.seeds):
        found, missing = one_seed(table, seed, options)
        runs, skipped = runs + found, skipped + missing
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            about = {"rows": len(table), "versions": versions("torch", "scikit-learn", "ctgan", "numpy")}
            options.json.write_text(json.dumps({**about, "skipped": skipped, "runs": runs}, indent=1) + "\n")
    print("\n" + markdown(runs), *dict.fromkeys(skipped), sep="\n")


if __name__ == "__main__":
    main()
