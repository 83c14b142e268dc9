"""Write the figures of the README from the files of results.

    python bench/headline.py [--files bench/data]     measure what no other script measures: digits, Fashion-MNIST
    python bench/headline.py --table README.md        write the README's table from all results

If the folder given with --files has no Fashion-MNIST (train-images-idx3-ubyte.gz, t10k-images-idx3-ubyte.gz), its
earlier figures stay.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from anomaly import code
from kept import circumstances, lines
from speed.tables import machine_of, put

RESULTS = Path(__file__).resolve().parent / "results"
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
SPEED = ("mlp", "conv", "nll", "quality")


def latens(*arguments: str | Path) -> str:
    """The output of a latens command."""
    command = [sys.executable, "-m", "latens", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def digits() -> dict[str, Any]:
    rows = json.loads(latens("compare", "digits", "--latent-dims", "16", "--json"))["rows"]
    return {row["model"]: {name: row[name] for name in ("rmse", "nll", "energy", "energy_null")} for row in rows}


def fashion(files: Path) -> dict[str, float]:
    from latens.data import array_files

    images = np.asarray(array_files.read_idx(files / TEST))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        latens("fit", files / TRAIN, "--out", run)
        found = json.loads(latens("evaluate", run, files / TEST, "--json"))
    packed = 8 * len(lzma.compress(images.tobytes(), preset=9)) / images.size
    return {"bits_per_dimension": found["elbo_bits_per_dimension"], "lzma": packed}


def table() -> str:
    kept = json.loads((RESULTS / "headline.json").read_text("utf-8"))
    digits, fashion = kept["digits"], kept["fashion"]
    pca, ae, vae = (digits[name] for name in ("pca", "ae", "vae"))
    rows = [
        ("Fashion-MNIST test images, -ELBO",
         f"{fashion['bits_per_dimension']:.3f} bits per dimension (lzma: {fashion['lzma']:.3f})",
         f"`latens fit {TRAIN} --out fm`, `latens evaluate fm {TEST}`"),
        ("digits, 359 held-out rows, 16 dimensions: RMSE",
         f"PCA {pca['rmse']:.2f}, autoencoder {ae['rmse']:.2f}, VAE {vae['rmse']:.2f}", "`latens compare digits`"),
        ("the same: -ln p(x)", f"probabilistic PCA {pca['nll']:.1f} nats, VAE {vae['nll']:.1f} nats", ""),
        ("the same: energy distance between codes and sampled codes",
         f"autoencoder {ae['energy']:.2f}, VAE {vae['energy']:.3f} (null {vae['energy_null']:.3f})", ""),
        ("half of the cells removed and filled again: RMSE minus IterativeImputer's", _imputation(),
         "`python bench/imputation.py --data wine,breast_cancer --fractions 0.5`"),
        ("census (Adult), rows of latens, published rows of TabSyn, held-out rows: error of columns; error of pairs of "
         "columns; AUROC of trees that tell the rows from training rows", _synthetic(),
         "`python bench/synthetic_table.py --data adult`"),
        ("speed as a multiple of pythae's, with the same network and batch on two cores: MLP 784-512-10; convolutions; "
         "NLL with K = 1000; time until latens with its defaults reaches the bound of pythae's 50 epochs", _speed(),
         f"`make bench BENCH_ARGS=\"{' '.join(f'--case {name}' for name in SPEED)}\"`"),
    ]  # fmt: skip
    return "\n".join(["| what | figure | command |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def _imputation() -> str:
    half = [line for line in lines(RESULTS / "imputation.jsonl") if line["fraction"] == 0.5]
    said = []
    for data in ("wine", "breast_cancer"):
        ours, theirs = ([line["errors"]["rmse"] for line in half if (line["data"], line["method"]) == (data, method)]
                        for method in ("latens", "IterativeImputer"))  # fmt: skip
        less = np.subtract(ours, theirs)
        said.append(f"{data} {less.mean():.3f} ± {less.std(ddof=1) / len(less) ** 0.5:.3f}".replace("-", "−"))
    return ", ".join(said)


def _synthetic() -> str:
    adult = [line for line in lines(RESULTS / "synthetic_table.jsonl") if line["data"] == "adult"]
    said = []
    for measure, digits, unit in [("shape", 2, " %"), ("trend", 2, " %"), ("trees", 3, "")]:
        means = [np.mean([line["figures"][measure] for line in adult if line["system"] == name])
                 for name in ("latens", "TabSyn", "held-out rows")]  # fmt: skip
        said.append(", ".join(f"{mean:.{digits}f}" for mean in means) + unit)
    return "; ".join(said)


def _speed() -> str:
    said = []
    for path in sorted((RESULTS / "speed").glob("*.json")):
        found = json.loads(path.read_text("utf-8"))
        ratios = ", ".join(
            f"{found[name]['ratio']['median']:.1f}" if name in found else "not measured" for name in SPEED
        )
        said.append(f"{machine_of(found[SPEED[0]]['machine']['cpu'])} {ratios}")
    return "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=Path(__file__).parent / "data", help="find data files here")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(put(table(), options.table.read_text("utf-8"), "figures"), "utf-8")
        return
    path = RESULTS / "headline.json"
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    where = {"code": code(), **circumstances("torch", "numpy", "scikit-learn")}
    kept["digits"] = digits() | {"where": where}
    if (options.files / TRAIN).exists():
        kept["fashion"] = fashion(options.files) | {"where": where}
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
