"""Compare published likelihoods with ours: train a row of ``published_rows.py``, estimate its NLL, and keep both.

    python bench/published.py --list
    python bench/published.py mnist-vae-gated --files bench/data            # in full; --seed 1 for another seed
    python bench/published.py mnist-vae-gated --budget 10                   # ten minutes of training, then the estimate
    python bench/published.py mnist-vae-gated --epochs 20 --nll-rows 1000   # a shortened schedule
    python bench/published.py --table docs/published.md

Each run has a folder under ``--runs``; when started again, it continues where it stopped. Each estimate is a line of
bench/results/published.jsonl, with the commit, the seed, the machine and the processor seconds of this call (fit,
estimate). A line is "shortened" if the schedule was cut or has not ended, or if the estimate does not use all test
rows. Test rows are binarised once, with a separate seed.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Absent
from kept import circumstances, keep, lines
from published_data import Parts, parts_of
from published_rows import ROWS, Row
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "published.jsonl"

# A row


def trained(
    name: str, options: argparse.Namespace, epochs: int, parts: Parts
) -> tuple[Any, list[dict[str, Any]], bool]:
    """(model, history, whether the schedule has ended) after at most ``--budget`` minutes of training."""
    import latens
    from latens.tensors.randomness import seeded
    from latens.training.callbacks import Interrupted

    row = ROWS[name]
    with seeded(options.seed):
        model, objective = row.build(parts.train)
    folder = options.runs / f"{name}-{epochs}-{options.seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Timer(60 * (options.budget or 1e6), os.kill, (os.getpid(), signal.SIGINT))
    stop.daemon = True
    stop.start()
    try:
        settings = row.settings | {"epochs": epochs, "seed": options.seed, "patience": 0}
        run = latens.train(
            model, objective, parts.train, out=folder, resume=True, validation=parts.validation,
            transform=parts.transform, **settings,
        )  # fmt: skip
        return run.model, run.history, True
    except Interrupted:
        return model.eval(), _history(folder), False
    finally:
        stop.cancel()


def _history(folder: Path) -> list[dict[str, Any]]:
    import csv

    path = folder / "metrics.csv"
    with path.open(encoding="utf-8") if path.exists() else open(os.devnull) as file:
        return list(csv.DictReader(file))


def curve(history: list[dict[str, Any]], most: int = 12) -> list[list[float]]:
    """(epoch, minus the bound of held-out rows) at evenly spaced epochs, including the last."""
    bounds = [(each["epoch"], each["validation_bound"]) for each in history if each.get("validation_bound")]
    found = [[float(epoch), -float(bound)] for epoch, bound in bounds]
    places = sorted({round(place) for place in np.linspace(0, len(found) - 1, min(most, len(found)))}) if found else []
    return [found[place] for place in places]


def figure(row: Row, model: Any, parts: Parts, count: int, seed: int) -> tuple[float, float, float | None]:
    """(our figure, its standard error over rows, the mean effective sample size) of a row, on ``count`` test rows."""
    from latens import evaluation
    from latens.evaluation.likelihood import spaced

    rows = spaced(len(parts.test), count)
    x = parts.test[rows]
    if parts.truth is not None:
        gone, filled = x.isnan(), evaluation.impute(model, x, k=row.k, seed=seed)
        return *error(filled.filled, parts.truth[rows], gone), float(filled.ess.nanmean())
    if row.k == 0:
        bound = evaluation.elbo(model, x, seed=seed)
        in_bits = x[0].numel() * math.log(2)
        return -bound.elbo / in_bits, bound.standard_error / in_bits, None
    found = evaluation.nll(model, x, row.k, seed=seed)
    return found.mean, found.standard_error, found.mean_ess


def error(filled: torch.Tensor, truth: torch.Tensor, gone: torch.Tensor) -> tuple[float, float]:
    """(root mean square error over the removed cells, its standard error over rows by the delta method)."""
    square, cells = ((filled - truth).square() * gone).sum(1), gone.sum(1)
    mean = square.sum() / cells.sum()
    apart = (square - mean * cells).std() * len(cells) ** 0.5 / cells.sum()
    return float(mean.sqrt()), float(apart / (2 * mean.sqrt()))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    row, start = ROWS[name], time.process_time()
    epochs, parts = options.epochs or row.epochs, parts_of(row, options.files)
    model, history, ended = trained(name, options, epochs, parts)
    fitted = time.process_time()
    count = min(options.nll_rows or len(parts.test), len(parts.test))
    ours, apart, ess = figure(row, model, parts, count, options.seed)
    done = int(float(history[-1]["epoch"])) if history else 0
    full = ended and epochs == row.epochs and count == len(parts.test)
    return {
        "row": name, "seed": options.seed, "epochs": epochs, "rate": row.settings["learning_rate"], "done": done,
        "ours": ours, "unit": row.unit, "standard_error": apart, "k": row.k, "rows": count, "ess": ess,
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


def shown(value: float, row: Row) -> str:
    return f"{value:.{2 if row.unit == 'nats' else 3}f}"


def page() -> str:
    """The table of every row (our figure next to the published one where the row has been run, and its state) and the
    curves of held-out rows."""
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
                ours = f"{shown(run['ours'], row)} ± {shown(run['standard_error'], row)}"
                gap = run["ours"] - run["value"]
                apart = f"{'+' if gap > 0 else ''}{shown(gap, row)}"
                state = f"{'shortened' if run['shortened'] else 'in full'}, seed {run['seed']}, {run['commit']}"
                size = f"{run['done']} of {row.epochs} at {run['rate']:.0e}; {row.theirs}".replace("e-0", "e-")
                estimate = f"{run['k']:,}, {run['rows']:,}"
            published = f"{row.value:.2f} {row.unit} ({row.source})"
            cells = (name, row.data, row.network, published, ours, apart, size, estimate, state)
            rows.append(f"| {' | '.join(map(str, cells))} |")
    curves = ["| row | -bound of held-out rows (mnar: of all rows) after epochs, nats |", "|---|---|"]
    for name, runs in kept.items():
        for run in runs:
            points = ", ".join(f"{epoch:.0f}: {value:.1f}" for epoch, value in run["curve"])
            curves.append(f"| {name}, seed {run['seed']} | {points}; published {run['value']:.2f} {run['unit']} |")
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
            print(f"{name:24} {row.value:7.2f} {row.unit:8}  {row.data}, {row.network}; {row.source}")
        return
    if not options.rows:
        raise SystemExit("no row is named: name one or more rows of --list")
    for option in ("budget", "epochs", "nll_rows"):
        if (value := getattr(options, option)) is not None and not value > 0:
            raise SystemExit(f"--{option.replace('_', '-')} must be above 0, got {value}: raise it, or omit it")
    if unknown := [name for name in options.rows if name not in ROWS]:
        raise SystemExit(f"there is no row {unknown[0]!r}: name one of {', '.join(ROWS)}")
    for name in options.rows:
        try:
            line = measure(name, options)
        except Absent as error:
            raise SystemExit(f"{name}: {error}") from None
        keep(RESULTS, line, ("row", "seed", "epochs", "rate", "done", "rows"), lambda each: [*ROWS].index(each["row"]))
        state = "shortened" if line["shortened"] else "in full"
        ours = f"{shown(line['ours'], ROWS[name])} ± {shown(line['standard_error'], ROWS[name])} {line['unit']}"
        print(f"{name}: {ours}, published {line['value']:.2f} ({state})")


if __name__ == "__main__":
    main()
