"""Draw synthetic tables with latens and other systems, and measure all in the same way (``synthetic/measures.py``).

    python bench/synthetic_table.py --data adult,diamonds,magic
    python bench/synthetic_table.py --systems latens              after a change to latens; the others' lines stay
    python bench/synthetic_table.py --table docs/benchmarks.md    only write the tables of the kept figures

A line of bench/results/synthetic_table.jsonl is one system on one table with one seed, written as soon as it is
measured. A line is measured again only if its version (a digest of latens' files, or a package's version) or that of
the measures has changed. Drawn rows are kept in bench/data/drawn, so that they can be measured again.

Every system runs with its defaults. On adult, systems are fitted to the rows that published samples were fitted to
(train.csv.gz), and the other rows of the census are held out. Without that file, and for all other tables, systems are
fitted to a random four fifths of the rows, and the rest are held out. As many rows are drawn as there are training
rows. Numbers of all systems are rounded to the decimals of the training column.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import Absent
from kept import circumstances, keep, lines
from speed import tables
from synthetic import page
from synthetic.measures import measured, scorer
from synthetic.systems import SYSTEMS, Drawn, System, like

RESULTS = Path(__file__).resolve().parent / "results" / "synthetic_table.jsonl"
FLOOR = System(("held-out rows",), lambda: "", lambda *_: {})
TARGETS = {"adult": "income", "diamonds": "price", "magic": "class", "default": None, "shoppers": None}
RULES = {"adult": [("education", "education-num")]}
PACKAGES = ("torch", "numpy", "scikit-learn", "pandas", "ctgan", "sdmetrics")


def load(name: str, files: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training rows and the held-out rows."""
    if name == "diamonds":
        table = datasets.diamonds(files).to_pandas()
    elif name in ("magic", "adult"):
        table = getattr(datasets, name)(files)
    else:
        table = datasets.by_path(name, files)
    if name == "adult" and (files / "train.csv.gz").exists():
        train = pd.read_csv(files / "train.csv.gz", skipinitialspace=True).set_axis(table.columns, axis=1)
        train = train.astype({name: table[name].dtype for name in table if table[name].dtype.kind in "iu"})
        return train, without(table, train)
    order = table.sample(frac=1, random_state=np.random.default_rng([seed, 99]))
    cut = len(table) * 4 // 5
    return order[:cut].sort_index().reset_index(drop=True), order[cut:].sort_index().reset_index(drop=True)


def without(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table without these rows: each is removed as many times as it occurs among them."""
    names = list(table.columns)
    numbered = [each.assign(occurrence=each.groupby(names).cumcount()) for each in (table, rows)]
    found = numbered[0].merge(numbered[1], "left", indicator=True)
    return found[found["_merge"] == "left_only"][names].reset_index(drop=True)


def drawn(system: System, data: str, seed: int, train: pd.DataFrame, options: argparse.Namespace) -> dict[str, Drawn]:
    """The rows that the system draws, or those that it drew before, read from their files."""
    folder = options.files / "drawn" / data
    folder.mkdir(parents=True, exist_ok=True)
    stems = {name: f"{name}-{seed}-{system.version()}".replace(" ", "_").replace("/", "_") for name in system.names}
    if not all((folder / f"{stem}.json").exists() for stem in stems.values()):
        for name, found in system.draw(train, seed, options, folder).items():
            like(found.rows, train).to_parquet(folder / f"{stems[name]}.parquet", index=False)
            (folder / f"{stems[name]}.json").write_text(json.dumps([found.fit, found.draw]))
    return {name: Drawn(pd.read_parquet(folder / f"{stem}.parquet"), *json.loads((folder / f"{stem}.json").read_text()))
            for name, stem in stems.items()}  # fmt: skip


def place(line: dict[str, Any]) -> tuple[int, int, int]:
    names = [name for system in (*SYSTEMS, FLOOR) for name in system.names]
    return list(TARGETS).index(line["data"]), names.index(line["system"]), line["seed"]


def wanted(options: argparse.Namespace) -> Iterator[tuple[System, str, int]]:
    """Every system, table and seed for which the file has no line, or only a line of an older version."""
    there = {(line["data"], line["system"], line["seed"]): (line["version"], line["measures"])
             for line in lines(options.json)}  # fmt: skip
    chosen = options.systems.split(",") if options.systems else None
    for data in options.data.split(","):
        for system in (FLOOR, *SYSTEMS):
            if (chosen and not set(chosen) & set(system.names)) or system.only not in (None, data):
                continue
            for seed in range(system.seeds or options.seeds):
                now = (system.version(), scorer())
                if any(there.get((data, name, seed)) != now for name in system.names):
                    yield system, data, seed


def one(system: System, data: str, seed: int, options: argparse.Namespace) -> None:
    """Draw, measure, and keep a line for each of the system's names."""
    train, held = load(data, options.files, seed)
    target = TARGETS[data] or train.columns[-1]
    every = {FLOOR.names[0]: None} if system is FLOOR else drawn(system, data, seed, train, options)
    for name, found in every.items():
        start = time.monotonic()
        rows = None if found is None else found.rows
        figures = measured(train, held, rows, target, RULES.get(data, []), seed)
        seconds = {} if found is None else {"fit_seconds": found.fit, "sample_seconds": found.draw}
        line = {
            "data": data, "system": name, "seed": seed, "version": system.version(), "measures": scorer(),
            "rows": {"training": len(train), "held out": len(held), "drawn": None if rows is None else len(rows)},
            "target": target, "figures": {key: round(value, 6) for key, value in figures.items()}, **seconds,
            **circumstances(*PACKAGES),
        }  # fmt: skip
        keep(options.json, line, ("data", "system", "seed"), place)
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        print(f"{data}, {name}, seed {seed} ({time.monotonic() - start:.0f} s to measure): {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="adult,diamonds,magic", help=f"use these of {', '.join(TARGETS)}")
    parser.add_argument("--systems", help="run only these, for example latens,TVAE")
    parser.add_argument("--seeds", type=int, default=3, help="fit this many times, each on its own random split")
    parser.add_argument("--epochs", type=int, default=300, help="train TVAE for this many epochs (its default is 300)")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="find data files in this folder")
    parser.add_argument("--json", type=Path, default=RESULTS, help="keep the lines in this file")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the tables of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(tables.put(page.markdown(lines(options.json)), options.table.read_text(), "synthetic"))
        return
    skipped: dict[str, None] = {}
    for system, data, seed in wanted(options):
        try:
            one(system, data, seed, options)
        except Absent as error:
            skipped[f"skipped {data}: {error}"] = None
    print("\n" + page.markdown(lines(options.json)), *skipped, sep="\n")


if __name__ == "__main__":
    main()
