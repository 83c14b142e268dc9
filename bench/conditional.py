"""Conditional samples of diamonds: latens is fitted given the cut, and each level's samples are compared with its rows.

    python bench/conditional.py [--rows 4000] [--files FOLDER]     write bench/results/conditional.json
    python bench/conditional.py --table docs/benchmarks.md         write the page's table from it

The figures are the Kolmogorov-Smirnov distance of each numeric column and the total variation of each categorical one,
next to the same distances between two halves of the level's rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from anomaly import code
from kept import circumstances
from scipy.stats import ks_2samp
from speed.tables import put

import latens


def distance(real: pd.Series[Any], drawn: pd.Series[Any]) -> float:
    """The Kolmogorov-Smirnov distance of numbers, or the total variation of categories."""
    if real.dtype.kind in "if":
        return float(ks_2samp(real, drawn).statistic)
    shares = [values.value_counts(normalize=True) for values in (real, drawn)]
    return float(0.5 * shares[0].sub(shares[1], fill_value=0).abs().sum())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rows = datasets.diamonds(options.files).to_pandas()
    vae = latens.VAE(condition=["cut"], random_state=0, epochs=options.epochs or "auto").fit(rows)
    lines = []
    for cut, real in rows.groupby("cut", sort=False):
        drawn = vae.sample(options.rows, given={"cut": cut}, random_state=0)
        half = np.random.default_rng(0).random(len(real)) < 0.5
        for label, a, b in (("samples", real, drawn), ("halves", real[half], real[~half])):
            figures = {name: distance(a[name], b[name]) for name in rows.columns if name != "cut"}
            lines.append({"cut": cut, "rows": len(real), "of": label, "figures": figures})
    where = circumstances("torch", "numpy", "pandas", "scipy")
    return {"samples": options.rows, "lines": lines, "code": code(), **where}


def markdown(found: dict[str, Any]) -> str:
    names = list(found["lines"][0]["figures"])
    rows = [f"| cut, rows | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for line in found["lines"]:
        label = f"{line['cut']}, {line['rows']:,}" if line["of"] == "samples" else "its halves"
        rows.append(f"| {label} | {' | '.join(f'{value:.3f}' for value in line['figures'].values())} |")
    packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    told = f"{found['date']}: {found['machine']}, {packages}; digest of latens' files: {found['code']}."
    return "\n".join([*rows, "", told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000, help="draw this many samples of each level")
    parser.add_argument("--files", type=Path, default=Path(__file__).parent / "data", help="find data files here")
    parser.add_argument("--epochs", type=int, help="train for this many epochs; default: latens' own")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "conditional.json")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        text = markdown(json.loads(options.json.read_text("utf-8")))
        options.table.write_text(put(text, options.table.read_text("utf-8"), "conditional"), "utf-8")
        return
    found = measure(options)
    options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
