"""What a second worker gains: `latens score` and `latens encode` of 200 row groups, by one worker and by two.

    python bench/parts.py [--rows 60000] [--pairs 1]      figures to bench/results/parts.jsonl, in about three minutes
    python bench/parts.py --table docs/benchmarks.md      the page's table from them

A table of ten columns in 200 row groups is taken to a folder of parts by whole commands, one thread for each worker,
in turn. The gain is the wall time of one worker over that of two, the efficiency half of it. The ratio of processor
seconds does not depend on other work on the machine. The load is that of the minute before a pair began.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import make_stream
import numpy as np
from anomaly import code
from kept import circumstances, conditions, keep, lines
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "parts.jsonl"
GROUPS = 200
COMMANDS = {"score": ["--k", "20"], "encode": []}
FIT = ["--epochs", "1", "--batch-size", "2048", "--drop", "id"]


def child(*words: str) -> dict[str, float]:
    """Wall and processor seconds of a command and of the workers that it starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "latens", *words]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.monotonic() - start, "processor": used}


def write(rows: int, folder: Path) -> Path:
    """The table, in 200 row groups of one file."""
    from pyarrow import parquet

    make_stream.write(rows, folder / "written", 0)
    table = parquet.read_table(folder / "written")
    parquet.write_table(table, folder / "all.parquet", row_group_size=-(-rows // GROUPS))
    return folder / "all.parquet"


def measure(command: str, run: Path, data: Path, folder: Path, rows: int, pair: int) -> dict[str, Any]:
    load, found = os.getloadavg()[0], {}
    for workers in (1, 2) if pair % 2 == 0 else (2, 1):
        out = folder / f"{command}-{workers}-{pair}"
        words = [command, str(run), str(data), "--out", f"{out}/", "--workers", str(workers), *COMMANDS[command]]
        found[str(workers)] = child(*words)
    return {"command": command, "rows": rows, "groups": GROUPS, "pair": pair, "load": load, "workers": found,
            "code": code(), **circumstances("torch", "pyarrow")}  # fmt: skip


def markdown(found: list[dict[str, Any]]) -> str:
    rows = ["| command | rows | pairs | one worker, s | two workers, s | gain | efficiency | "
            "processor seconds, one over two | load |", "|---|" + "---|" * 8]  # fmt: skip
    for command in COMMANDS:
        own = [line for line in found if line["command"] == command]
        if not own:
            continue
        found_by = [line["workers"] for line in own]
        one, two = ([np.median([each[n][what] for each in found_by]) for what in ("wall", "processor")] for n in "12")
        gain = np.median([each["1"]["wall"] / each["2"]["wall"] for each in found_by])
        cells = [f"`{command}`", f"{own[0]['rows']:,}", str(len(own)), f"{one[0]:.0f}", f"{two[0]:.0f}", f"{gain:.2f}",
                 f"{gain / 2:.2f}", f"{one[1] / two[1]:.2f}", f"{max(line['load'] for line in own):.0f}"]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", conditions(found, [line["code"] for line in found])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the table")
    parser.add_argument("--pairs", type=int, default=1, help="how often one and two workers are measured in turn")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="some of " + ", ".join(COMMANDS))
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the figures kept into a page")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(put(markdown(lines(RESULTS)), options.table.read_text("utf-8"), "parts"), "utf-8")
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data, run = write(options.rows, folder), folder / "run"
        child("fit", str(data), "--out", str(run), *FIT)
        for pair in range(options.pairs):
            for command in options.commands.split(","):
                line = measure(command, run, data, folder, options.rows, pair)
                keep(RESULTS, line, ("command", "pair"), lambda line: (line["command"], line["pair"]))
    print(markdown(lines(RESULTS)))


if __name__ == "__main__":
    main()
