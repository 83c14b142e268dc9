"""Conditional samples of diamonds: fitted given the cut, each level's samples held against its rows.

    python bench/conditional.py [--rows 4000] [--files FOLDER]

Kolmogorov-Smirnov distance of each number, total variation of each category; beside them what two halves of the level's
own rows differ by.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

import latens


def distance(real: pd.Series[Any], drawn: pd.Series[Any]) -> float:
    """KS of numbers, total variation of categories."""
    if real.dtype.kind in "if":
        return float(ks_2samp(real, drawn).statistic)
    shares = [values.value_counts(normalize=True) for values in (real, drawn)]
    return float(0.5 * shares[0].sub(shares[1], fill_value=0).abs().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000, help="samples a level")
    parser.add_argument("--files", type=Path, default=Path(__file__).parent / "data", help="folder of data files")
    parser.add_argument("--epochs", type=int, help="instead of the default")
    options = parser.parse_args()
    rows = datasets.diamonds(options.files).to_pandas()
    vae = latens.VAE(condition=["cut"], random_state=0, epochs=options.epochs or "auto").fit(rows)
    names = [name for name in rows.columns if name != "cut"]
    print("| cut, rows | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for cut, real in rows.groupby("cut", sort=False):
        drawn = vae.sample(options.rows, given={"cut": cut}, random_state=0)
        half = np.random.default_rng(0).random(len(real)) < 0.5
        for label, a, b in ((f"{cut}, {len(real):,}", real, drawn), ("its halves", real[half], real[~half])):
            figures = [f"{distance(a[name], b[name]):.3f}" for name in names]
            print(f"| {label} | " + " | ".join(figures) + " |", flush=True)


if __name__ == "__main__":
    main()
