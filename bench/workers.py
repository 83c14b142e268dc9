"""Measure how much faster `latens score` and `latens encode` are with two workers than with one.

    python bench/workers.py                              write bench/results/workers.jsonl
    python bench/workers.py --table docs/benchmarks.md   write the page's table from it

The data are one Parquet file of 200 row groups. Whole commands with one and with two workers of one thread take turns,
and the parts that they write are compared byte for byte.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import make_stream
import pyarrow.parquet as pq
from anomaly import code
from kept import circumstances, conditions, keep, lines
from speed.tables import put
from stream import child

RESULTS = Path(__file__).parent / "results" / "workers.jsonl"
GROUPS = 200
COMMANDS = {"score": 50, "encode": 10_000}  # rows of a group


def write(path: Path, rows: int) -> Path:
    with pq.ParquetWriter(path, make_stream.SCHEMA) as writer:
        for number in range(GROUPS):
            writer.write_table(make_stream.group(0, number, rows))
    return path


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def measure(command: str, rows: int, rounds: int, folder: Path) -> dict[str, Any]:
    run, data = folder / "run", write(folder / f"{command}.parquet", rows)
    if not run.exists():
        child("fit", str(write(folder / "fit.parquet", 100)), "--epochs", "5", "--out", str(run))
    seconds: dict[str, list[float]] = {"1": [], "2": []}
    written = []
    for number in range(rounds):
        for workers in seconds:
            out = folder / f"{command}-{number}-{workers}"
            _, used = child(command, str(run), str(data), "--out", f"{out}/", "--workers", workers)
            seconds[workers].append(used["wall"])
            written.append(parts(out))
    assert len(written[0]) == GROUPS and all(each == written[0] for each in written), "the parts differ"
    return {"command": command, "rows": GROUPS * rows, "seconds": seconds, "code": code(),
            **circumstances("torch", "numpy", "pyarrow")}  # fmt: skip


def markdown(found: list[dict[str, Any]]) -> str:
    rows = ["| command, 200 row groups | rows | one worker, s | two workers, s | efficiency: one / (2 x two) |",
            "|---|---|---|---|---|"]  # fmt: skip
    for line in found:
        one, two = line["seconds"]["1"], line["seconds"]["2"]
        each = [a / (2 * b) for a, b in zip(one, two, strict=True)]
        ratio = f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
        cells = [f"`latens {line['command']}`", f"{line['rows']:,}", f"{statistics.median(one):.1f}",
                 f"{statistics.median(two):.1f}", ratio]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", conditions(found, [line["code"] for line in found])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="run each command this many times with each number")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="measure these commands, separated by commas")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        text = markdown(lines(RESULTS))
        options.table.write_text(put(text, options.table.read_text("utf-8"), "workers"), "utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        for command in options.commands.split(","):
            found = measure(command, COMMANDS[command], options.rounds, Path(folder))
            keep(RESULTS, found, ("command",), lambda line: line["command"])
    print(markdown(lines(RESULTS)))


if __name__ == "__main__":
    main()
