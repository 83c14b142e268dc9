"""Measure peak memory, time and bound of a streamed fit with the defaults on large tables, by number of rows.

    python bench/stream.py [--rows 1000000] [--folder FOLDER]   append to bench/results/stream.jsonl
    python bench/stream.py --table docs/benchmarks.md           write the page's table from it

`bench/make_stream.py` writes the rows; `latens fit --stream` and `latens encode` run as separate processes with one
thread each, whose memory and time the system reports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import make_stream
from anomaly import code
from kept import circumstances, conditions, keep, lines
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "stream.jsonl"
FIGURES = ("elbo", "elbo_standard_error", "rows")


def child(*words: str) -> tuple[dict[str, Any], dict[str, float]]:
    """(the answer of `latens WORDS --json`, its peak memory in MiB, wall-clock and processor seconds)."""
    start = time.monotonic()
    command = [sys.executable, "-m", "latens", *words, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True)
    assert process.stdout is not None
    answer = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"latens {' '.join(words)} ended with status {status}")
    seconds = {"wall": time.monotonic() - start, "processor": used.ru_utime + used.ru_stime}
    last = answer[answer.rfind("\n{") + 1 :]  # for a folder of parts, a line for each part comes first
    return json.loads(last), {"memory": used.ru_maxrss / 1024, **seconds}


def measure(rows: int, folder: Path) -> dict[str, Any]:
    data, run = folder / f"rows-{rows}", folder / f"run-{rows}"
    make_stream.write(rows, data, 0)
    found, fit = child("fit", str(data), "--stream", "--out", str(run))
    _, encode = child("encode", str(run), str(data), "--out", str(folder / f"codes-{rows}.parquet"))
    size = sum(path.stat().st_size for path in data.iterdir())
    bound = {name: found[name] for name in FIGURES}
    return {"rows": rows, "bytes": size, "fit": fit, "encode": encode, "bound": bound, "code": code(),
            **circumstances("torch", "numpy", "pyarrow")}  # fmt: skip


def markdown(found: list[dict[str, Any]]) -> str:
    rows = ["| rows x 10 columns | Parquet, MB | fit: peak memory, MiB | wall, s | processor, s | ELBO, nats | "
            "encode: peak memory, MiB | processor, s |", "|---|" + "---|" * 7]  # fmt: skip
    for line in found:
        fit, encode, bound = line["fit"], line["encode"], line["bound"]
        cells = [f"{line['rows']:,}", f"{line['bytes'] / 1e6:.0f}", f"{fit['memory']:.0f}", f"{fit['wall']:.0f}",
                 f"{fit['processor']:.0f}", f"{bound['elbo']:.2f} ± {bound['elbo_standard_error']:.2f}",
                 f"{encode['memory']:.0f}", f"{encode['processor']:.0f}"]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", conditions(found, [line["code"] for line in found])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000", help="measure these numbers of rows, separated by commas")
    parser.add_argument("--folder", type=Path, help="keep data and runs here; by default they are removed")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        text = markdown(lines(RESULTS))
        options.table.write_text(put(text, options.table.read_text("utf-8"), "stream"), "utf-8")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for rows in map(int, options.rows.split(",")):
            keep(RESULTS, measure(rows, Path(folder)), ("rows",), lambda line: line["rows"])
    print(markdown(lines(RESULTS)))


if __name__ == "__main__":
    main()
