"""What a second process gains in training: steps of one process and of two (torchrun), one thread each.

    python bench/processes.py [--cases images,table] [--pairs 3]    figures to bench/results/processes.jsonl
    python bench/processes.py --table docs/benchmarks.md            the page's table from them

A case is `latens.VAE` with its defaults on 6,000 images of Fashion-MNIST, or on 20,000 rows of ten numbers. A figure is
the median over steps of the wall time and the mean of the processor time of the first process, with the threads that
send. The load is that of the minute before a pair began.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "processes.jsonl"
FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
STEPS = {"images": 40, "table": 300}
FIRST = 5  # steps that are not counted


def data(case: str) -> np.ndarray:
    if case == "table":
        return np.random.default_rng(0).normal(size=(20_000, 10)).astype(np.float32)
    with gzip.open(FASHION) as file:
        return np.frombuffer(file.read(16 + 6000 * 784), np.uint8, offset=16).reshape(-1, 28, 28)


def work(case: str) -> None:
    """Fit in this process, and print what a step took."""
    import torch

    import latens
    from latens.training import Callback

    class Clock(Callback):
        def __init__(self) -> None:
            self.at: list[tuple[float, float]] = []

        def step(self, step: int, terms: dict[str, Any]) -> bool:
            self.at.append((time.monotonic(), time.process_time()))
            return step >= STEPS[case]

    torch.set_num_threads(1)
    clock = Clock()
    model = latens.VAE(latent_dim=10, epochs=50, random_state=0, callbacks=[clock], device="cpu").fit(data(case))
    if clock.at:
        took = np.diff(np.array(clock.at)[FIRST:], axis=0) * 1e3
        run = model.run_
        print(json.dumps({"wall": float(np.median(took[:, 0])), "processor": float(took[:, 1].mean()),
                          "batch": int(run.settings.batch_size), "parameters": run.parameters}))  # fmt: skip


def child(case: str, processes: int) -> dict[str, Any]:
    own = [__file__, "--work", case]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = [*launcher, *own] if processes > 1 else [sys.executable, *own]
    said = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def measure(case: str, pair: int) -> dict[str, Any]:
    from anomaly import code
    from kept import circumstances

    load = os.getloadavg()[0]
    found = {str(n): child(case, n) for n in ((1, 2) if pair % 2 == 0 else (2, 1))}
    return {"case": case, "pair": pair, "load": load, "processes": found, "code": code(), **circumstances("torch")}


def markdown(found: list[dict[str, Any]]) -> str:
    from kept import conditions

    rows = ["| case | parameters | rows of a step | pairs | one process, ms | two processes, ms | gain | "
            "processor, ms: one | each of two | load |", "|---|" + "---|" * 9]  # fmt: skip
    for case in STEPS:
        own = [line["processes"] | {"load": line["load"]} for line in found if line["case"] == case]
        if not own:
            continue
        kinds = ("wall", "processor")
        wall, processor = ({n: np.median([line[n][what] for line in own]) for n in "12"} for what in kinds)
        gain = np.median([line["1"]["wall"] / line["2"]["wall"] for line in own])
        cells = [case, f"{own[0]['1']['parameters']:,}", str(own[0]["1"]["batch"]), str(len(own)), f"{wall['1']:.1f}",
                 f"{wall['2']:.1f}", f"{gain:.2f}", f"{processor['1']:.1f}", f"{processor['2']:.1f}",
                 f"{max(line['load'] for line in own):.0f}"]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", conditions(found, [line["code"] for line in found])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(STEPS), help="some of " + ", ".join(STEPS))
    parser.add_argument("--pairs", type=int, default=3, help="how often one and two processes are measured in turn")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the figures kept into a page")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work)
    from kept import keep, lines

    if options.table:
        options.table.write_text(put(markdown(lines(RESULTS)), options.table.read_text("utf-8"), "processes"), "utf-8")
        return
    for pair in range(options.pairs):
        for case in options.cases.split(","):
            keep(RESULTS, measure(case, pair), ("case", "pair"), lambda line: (line["case"], line["pair"]))
    print(markdown(lines(RESULTS)))


if __name__ == "__main__":
    main()
