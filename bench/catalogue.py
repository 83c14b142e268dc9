"""Every recipe of the catalogue on Fashion-MNIST with its defaults: a table with mean and spread over seeds.

    python bench/catalogue.py                                   # all recipes, 3 seeds, all rows
    python bench/catalogue.py --recipes vae,ae --seeds 1 --rows 10000 --epochs 5
    python bench/catalogue.py --resume                          # what bench/results/catalogue.json lacks
    python bench/catalogue.py --quick --recipes vae,ae          # a minute: does it run?
    python bench/catalogue.py --network mlp --rows 10000 --epochs 6 --nll-rows 200 --jobs 2    # docs/catalogue.md
    python bench/catalogue.py --table [--into docs/catalogue.md]    # the table again, nothing fitted

Results are written after each seed of each recipe, so that a stopped run continues with --resume; results of different
sizes are not mixed. The figures, computed on test images to which nothing was fitted, are:

* NLL: -ln p(x) by importance weighting with K draws, nats, where it exists.
* error: root mean square of (x - reconstruction) / 255, where x is reconstructed from the posterior mean.
* Frechet (classifier features): |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) between test images and as many samples (the
  mean of p(x|z)), where m and S are mean and covariance of the 64 features before the last layer of a small classifier
  that is trained here on the ten classes of all training images, with seed 0. It is not FID, whose features are
  Inception's. "null": the distance between test images and as many training images; "mixture": samples whose codes are
  drawn from a mixture of normals that is fitted to the codes of training images.
* seconds: processor seconds of the fit on one thread; parameters: their number in the model.
"""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # read when numpy and torch are imported

import datasets
import numpy as np
import torch
from datasets import Absent
from speed.tables import put
from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results" / "catalogue.json"
SIZES = ("network", "rows", "epochs", "test_rows", "nll_rows", "k", "samples", "classifier_epochs")
QUICK = {"network": "mlp", "rows": 600, "epochs": 1, "test_rows": 200, "nll_rows": 20, "k": 10, "samples": 200,
         "classifier_epochs": 1}  # fmt: skip


# The feature space


class Classifier(nn.Module):
    """Two convolutions, 64 features, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 49, 64), nn.ReLU(),
        )  # fmt: skip
        self.classes = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.features(x))


def grey(x: np.ndarray) -> Tensor:
    """Images ``[N, 28, 28]`` of 0 … 255 as ``[N, 1, 28, 28]`` of 0 … 1."""
    return torch.from_numpy(np.asarray(x, dtype=np.float32)).reshape(-1, 1, 28, 28) / 255


def classifier(train: datasets.Labelled, epochs: int) -> Classifier:
    """The network, trained on images and labels in the same way every time."""
    torch.manual_seed(0)
    model, x, labels = Classifier(), grey(train.x), torch.from_numpy(train.anomaly.astype(np.int64))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def features(model: Classifier, x: np.ndarray) -> np.ndarray:
    return torch.cat([model.features(part) for part in grey(x).split(1000)]).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two sets of rows (Fréchet 1957; Dowson & Landau 1982)."""
    first, second = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * cross)


# One recipe


OWN_NETWORKS = ("sequence_vae", "vrnn")  # recipes of sequences: rows of pixels are the steps
GIVEN_LABELS = ("cvae", "m2")  # recipes that take labels, as with --condition label


def rows_for(recipe: str, data: datasets.Labelled) -> Any:
    """The images, with their labels as a condition if the recipe needs labels."""
    from latens.data.rows import Asked, rows_of

    if recipe not in GIVEN_LABELS:
        return data.x
    return rows_of(data.x, None, Asked(condition=("label",)), labels=data.anomaly.astype(np.int64))


def measure(
    recipe: str, seed: int, train: datasets.Labelled, test: datasets.Labelled, net: Classifier, sizes: dict[str, Any]
) -> dict[str, Any]:
    """Every figure of one fit; a figure that the recipe cannot give is None, with the reason in ``reasons``."""
    import latens
    from latens.recipes import CATALOGUE

    torch.set_num_threads(1)
    takes = "network" in inspect.signature(CATALOGUE[recipe]).parameters and recipe not in OWN_NETWORKS
    asked = {"network": sizes["network"]} if takes else {}
    began = time.process_time()
    vae = latens.VAE(recipe=recipe, epochs=sizes["epochs"], random_state=seed, **asked).fit(rows_for(recipe, train))
    found: dict[str, Any] = {"recipe": recipe, "seed": seed, "seconds": round(time.process_time() - began, 1)}
    found |= {"parameters": vae.run_.parameters, "epochs": vae.run_.settings.epochs, "reasons": {}}
    real = features(net, test.x[: sizes["samples"]])

    def samples(density: str) -> float:
        new = vae.sample(sizes["samples"], mean=True, density=density, random_state=seed)
        return frechet(features(net, new), real)

    def mixture() -> float:
        vae.fit_density(rows_for(recipe, train.take(slice(20_000))), "mixture", random_state=seed)
        return samples("mixture")

    def likelihood() -> float:
        summary = vae.evaluate(rows_for(recipe, test.take(slice(sizes["nll_rows"]))), k=sizes["k"])
        if summary.nll is None:
            raise ValueError("no density, so no likelihood")
        found["nll_standard_error"] = summary.nll_standard_error
        return summary.nll

    def error() -> float:
        again = np.asarray(vae.reconstruct(rows_for(recipe, test)), dtype=np.float64)
        return float(np.sqrt(np.square(again - test.x).mean()) / 255)

    for name, figure in {"nll": likelihood, "error": error, "frechet": lambda: samples("prior"),
                         "frechet_mixture": mixture}.items():  # fmt: skip
        try:
            found[name] = figure()
        except (ValueError, NotImplementedError, AttributeError) as reason:  # refusals, InputError among them
            found[name], found["reasons"][name] = None, " ".join(str(reason).split())[:200]
    return found


# The table


def markdown(kept: dict[str, Any]) -> str:
    """The table with one line per recipe: mean ± standard deviation over seeds."""
    from latens.recipes import CATALOGUE

    runs, sizes = kept["runs"], kept["sizes"]
    k, rows = sizes["k"], min(sizes["nll_rows"], kept["test_rows"])
    lines = [
        f"| recipe | seeds | NLL, nats (K = {k}, {rows:,} rows; ± over rows) | spread over seeds | error | "
        "Frechet (classifier features) | the same, codes from a mixture | seconds | parameters |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for recipe in [name for name in CATALOGUE if name in {run["recipe"] for run in runs}]:
        own = [run for run in runs if run["recipe"] == recipe]
        nll = [run["nll"] for run in own if run["nll"] is not None]
        over_rows = np.mean([run["nll_standard_error"] for run in own if run["nll"] is not None]) if nll else np.nan
        lines.append(
            f"| {recipe} | {len(own)} | {f'{np.mean(nll):.2f} ± {over_rows:.2f}' if nll else '–'} | "
            f"{f'{np.std(nll, ddof=1):.2f}' if len(nll) > 1 else '–'} | {_spread(own, 'error', 4)} | "
            f"{_spread(own, 'frechet', 3)} | {_spread(own, 'frechet_mixture', 3)} | {_spread(own, 'seconds', 0)} | "
            f"{own[0]['parameters']:,} |"
        )
    lines.append("")
    lines.append(
        f"Network: {sizes['network']}; {sizes['rows'] or 60_000:,} training images, epochs: {sizes['epochs']}; Frechet "
        f"distance of as many training images: {kept['null']:.3f}; the classifier labels {kept['accuracy']:.1%} of the "
        "test images correctly."
    )
    return "\n".join(lines)


def _spread(runs: list[dict[str, Any]], name: str, digits: int) -> str:
    values = [run[name] for run in runs if run[name] is not None]
    if not values:
        return "–"
    return f"{np.mean(values):.{digits}f}" + (f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "")


# The run


def kept_of(path: Path, sizes: dict[str, Any], resume: bool) -> dict[str, Any]:
    """The contents of the file, if the run continues it and its sizes are the same."""
    if not (resume and path.exists()):
        return {"sizes": sizes, "runs": []}
    kept = json.loads(path.read_text())
    if kept["sizes"] != sizes:
        raise SystemExit(f"{path} has other sizes ({kept['sizes']}): use these, another --json, or no --resume")
    return kept


def write(path: Path, kept: dict[str, Any]) -> None:
    """Write the complete file, or leave the old one unchanged."""
    from latens.machine.atomic import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(kept, indent=1) + "\n")


def main() -> None:
    from latens.recipes import CATALOGUE

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(CATALOGUE))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--network", default="auto", help="use this network where the recipe takes one")
    parser.add_argument("--jobs", type=int, default=1, help="run this many fits at a time, one thread each")
    parser.add_argument("--rows", type=int, default=0, help="fit to this many images; 0: all 60,000")
    parser.add_argument("--epochs", type=lambda word: word if word == "auto" else int(word), default="auto")
    parser.add_argument("--test-rows", type=int, default=10_000, help="test on this many images")
    parser.add_argument("--nll-rows", type=int, default=1000)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--classifier-epochs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="run tiny sizes: does it work?")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print the table of the kept results")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table between the marks of this page")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="find data files in this folder")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.table:
        table = markdown(json.loads(options.json.read_text()))
        if options.into:
            options.into.write_text(put(table, options.into.read_text(), "catalogue"))
        print(table)
        return
    sizes = QUICK if options.quick else {name: getattr(options, name) for name in SIZES}
    if options.quick and options.json == RESULTS:
        options.json = RESULTS.with_name("catalogue_quick.json")
    recipes = options.recipes.split(",")
    unknown = [name for name in recipes if name not in CATALOGUE]
    if unknown:
        raise SystemExit(f"no recipe {unknown[0]!r}; there are {', '.join(CATALOGUE)}")
    kept = kept_of(options.json, sizes, options.resume)
    try:
        train, test = datasets.fashion(options.files)
    except Absent as reason:
        raise SystemExit(f"skipped: {reason}") from None
    net = classifier(train if not options.quick else train.take(slice(600)), sizes["classifier_epochs"])
    train, test = train.take(slice(sizes["rows"] or None)), test.take(slice(sizes["test_rows"]))
    some = sizes["samples"]
    right = net(grey(test.x)).argmax(1).numpy() == test.anomaly
    kept |= {"versions": {"torch": torch.__version__}, "test_rows": len(test.x), "accuracy": float(right.mean())}
    kept["null"] = frechet(features(net, train.x[:some]), features(net, test.x[:some]))
    there = {(run["recipe"], run["seed"]) for run in kept["runs"]}
    left = [(recipe, seed) for seed in range(options.seeds) for recipe in recipes if (recipe, seed) not in there]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        fits = {pool.submit(measure, *one, train, test, net, sizes): one for one in left}
        for done in as_completed(fits):
            if reason := done.exception():
                print(f"{fits[done]} failed: {reason!r}", file=sys.stderr)
                continue
            kept["runs"].append(done.result())
            print(json.dumps(kept["runs"][-1]), flush=True)
            write(options.json, kept)
    print("\n" + markdown(kept))


if __name__ == "__main__":
    main()
