"""Disentanglement of eight objectives on images with known factors (``sprites.py``): MIG, DCI, SAP and the others.

    python bench/disentanglement.py --seeds 5 --rows 100000 --epochs 20          # hours
    python bench/disentanglement.py --methods vae,factor --rows 4000 --epochs 10 --network mlp
    python bench/disentanglement.py --table docs/published.md

Models have ten latent dimensions, a Bernoulli likelihood and the weights of the papers. Networks and schedule are
latens' own, and the schedule is much shorter than the 300,000 steps of Locatello et al. (2019). Scores are computed on
the posterior means of 5,000 other images. Each fit writes a line of bench/results/disentanglement.jsonl, so that a
stopped run can continue: a method, seed and size with a line in this file are not fitted again.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # read when numpy and torch are imported

import numpy as np
import sprites
from anomaly import code
from kept import circumstances, conditions, keep, lines, spread
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "disentanglement.jsonl"
METHODS: dict[str, tuple[str, dict[str, float]]] = {
    "vae": ("vae", {}),
    "beta_vae": ("beta_vae", {"beta": 4.0}),
    "capacity": ("capacity_vae", {"capacity": 25.0, "weight": 1000.0}),
    "factor": ("factor_vae", {"gamma": 35.0}),
    "beta_tc": ("beta_tc_vae", {"beta": 6.0}),
    "dip_i": ("dip_vae_i", {"off": 10.0, "diagonal": 100.0}),
    "dip_ii": ("dip_vae_ii", {"off": 10.0, "diagonal": 10.0}),
    "info": ("info_vae", {"alpha": 0.0, "weight": 1000.0}),
}
SOURCES = {
    "vae": "Kingma & Welling (2014)", "beta_vae": "Higgins et al. (2017)", "capacity": "Burgess et al. (2018)",
    "factor": "Kim & Mnih (2018)", "beta_tc": "Chen et al. (2018)", "dip_i": "Kumar et al. (2018)",
    "dip_ii": "Kumar et al. (2018)", "info": "Zhao et al. (2019)",
}  # fmt: skip
PUBLISHED = {  # published scores on dSprites: medians over regularisation strengths and seeds, or as the source says
    "beta_vae": "MIG 0.10, DCI 0.19, SAP 0.05, FactorVAE 0.66, beta-VAE 0.82 (Locatello et al. 2020, second-hand)",
    "factor": "FactorVAE about 0.82 (Kim & Mnih 2018, second-hand)",
    "beta_tc": "best MIG about 0.5, without shape (Chen et al. 2018, second-hand)",
}
FIGURES = {
    "mig": "MIG", "disentanglement": "DCI", "sap": "SAP", "factor_vae_score": "FactorVAE", "beta_vae_score": "beta-VAE",
    "modularity": "modularity", "irs": "IRS", "rate": "rate, nats", "elbo": "ELBO, nats",
}  # fmt: skip
KEY = ("method", "seed", "rows", "epochs", "network")
SCORED = 5_000


def measure(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    import latens
    from latens.evaluation.factors import disentanglement

    recipe, weights = METHODS[method]
    x, _ = sprites.sample(options.rows, seed)
    held, factors = sprites.sample(options.scored, 1_000_000 + seed)
    start = time.process_time()
    vae = latens.VAE(
        10, recipe=latens.Recipe(recipe, **weights), likelihood="bernoulli", network=options.network,
        epochs=options.epochs, random_state=seed,
    ).fit(x)  # fmt: skip
    seconds = time.process_time() - start
    found = disentanglement(vae.transform(held).astype(np.float64), factors, tuple(sprites.SIZES), seed=seed)
    bound = vae.evaluate(held[:1000], k=0)
    scores = {name: getattr(found, name) for name in FIGURES if hasattr(found, name)}
    return {
        "method": method, "seed": seed, "rows": options.rows, "epochs": options.epochs, "network": options.network,
        "scored": options.scored, **scores, "disentanglement": found.dci.disentanglement, "rate": bound.rate,
        "elbo": bound.elbo, "seconds": round(seconds, 1), "code": code(), **circumstances("torch", "numpy"),
    }  # fmt: skip


def page() -> str:
    """The tables of each method's scores, one per size of the fit: mean ± standard deviation over seeds, next to
    published scores."""
    kept, order = lines(RESULTS), [*METHODS]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in sorted(kept, key=lambda line: order.index(line["method"])):
        groups.setdefault((line["rows"], line["epochs"], line["network"], line["method"]), []).append(line)
    head = ["method", "rows x epochs, network", "seeds", *FIGURES.values(), "published, on dSprites"]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (count, epochs, network, method), found in groups.items():
        figures = [spread([line[name] for line in found], 1 if name in ("rate", "elbo") else 3) for name in FIGURES]
        weights = ", ".join(f"{name} {value:g}" for name, value in METHODS[method][1].items())
        name = f"{method}{f' ({weights})' if weights else ''}, {SOURCES[method]}"
        cells = [name, f"{count:,} x {epochs}, {network}", str(len(found)), *figures, PUBLISHED.get(method, "")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", conditions(kept, [line["code"] for line in kept])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000, help="fit to this many images")
    parser.add_argument("--scored", type=int, default=SCORED, help="score the codes of this many other images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--network", default="conv", choices=("conv", "mlp"))
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(put(page(), options.table.read_text("utf-8"), "disentanglement"), "utf-8")
        return
    methods = options.methods.split(",")
    if unknown := [name for name in methods if name not in METHODS]:
        raise SystemExit(f"there is no method {unknown[0]!r}: name one or more of {', '.join(METHODS)}")
    for seed in range(options.seeds):
        for method in methods:
            wanted = {"method": method, "seed": seed, **{name: getattr(options, name) for name in KEY[2:]}}
            if any(all(line[name] == value for name, value in wanted.items()) for line in lines(RESULTS)):
                continue
            line = measure(method, seed, options)
            keep(RESULTS, line, KEY, lambda each: ([*METHODS].index(each["method"]), each["seed"], each["rows"]))
            print(f"{method}, seed {seed}: MIG {line['mig']:.3f}, DCI {line['disentanglement']:.3f}", flush=True)


if __name__ == "__main__":
    main()
