"""Measure the memory of whole commands on tables of ten float32 columns, by number of rows and file format.

    python bench/memory.py --rows 1,20 --formats parquet,npy,csv --json bench/results/memory.json
    python bench/memory.py --commands fit,encode --rows 1,8 --json bench/results/memory.json
    python bench/memory.py --table docs/benchmarks.md

The second command keeps the file's figures for other commands, formats and numbers of rows; the third writes the page's
table.

A figure is the peak of the memory that the processes of a command do not share with other processes (the private pages
of /proc/PID/smaps_rollup, read every 50 ms), in MiB; shared libraries do not count. The values of the table take 38 MiB
per million rows. Networks are linear, codes have 2 dimensions and a fit is one pass, because none of these changes how
memory grows with the rows. ``evaluate`` and ``score`` take 2 draws per row, and ``impute`` takes 10.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from anomaly import code, taken_on, versions
from speed import machine
from speed.tables import put

COLUMNS, MILLION, MIB = 10, 1_000_000, 2**20
TINY = 10_000  # rows of a table so small that only the command itself takes memory
GAPS = 0.02  # share of missing cells in tables whose gaps are filled
SMALL = [
    *("--network", "linear", "--latent-dim", "2", "--dependence", "codes", "--prior", "standard"),
    *("--epochs", "1", "--batch-size", "8192", "--compile", "no"),
]
COMMANDS: dict[str, list[str]] = {  # the arguments of each command, with placeholders for files
    "fit": ["fit", "{data}", "--out", "{out}", *SMALL],
    "fit --stream": ["fit", "{data}", "--out", "{out}", *SMALL, "--stream"],
    "encode": ["encode", "{run}", "{data}", "--out", "{out}"],
    "reconstruct": ["reconstruct", "{run}", "{data}", "--out", "{out}"],
    "score": ["score", "{run}", "{data}", "--out", "{out}", "--k", "2"],
    "impute": ["impute", "{run}", "{gaps}", "--out", "{out}", "--k", "10"],
    "sample": ["sample", "{run}", "--out", "{out}", "--number", "{rows}"],
    "evaluate": ["evaluate", "{run}", "{data}", "--k", "2"],
}
WITHOUT = {("impute", "npy")}  # an array has no gaps


def write(path: Path, rows: int, gaps: float = 0.0) -> None:
    """Write a table of ten normal columns driven by two hidden factors; the content depends only on ``rows``."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    names = [f"x{j}" for j in range(COLUMNS)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    if path.suffix == ".npy":
        whole: Any = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS))
        for start, part in _parts(rows, 0.0):
            whole[start : start + len(part)] = part
        return
    with parquet.ParquetWriter(path, schema) if path.suffix == ".parquet" else csv.CSVWriter(path, schema) as writer:
        waiting = []
        for _, part in _parts(rows, gaps):
            columns = [pa.array(column, from_pandas=True) for column in np.ascontiguousarray(part.T)]
            waiting.append(pa.table(columns, schema=schema))
            if len(waiting) == 4:
                writer.write_table(pa.concat_tables(waiting), 1 << 20)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def _parts(rows: int, gaps: float) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, rows, 1 << 18):
        random = np.random.default_rng([0, start])
        count = min(1 << 18, rows - start)
        hidden, weights = random.standard_normal((count, 2)), np.random.default_rng(1).standard_normal((2, COLUMNS))
        part = (hidden @ weights + 0.5 * random.standard_normal((count, COLUMNS))).astype(np.float32)
        if gaps:
            part[random.random(part.shape) < gaps] = np.nan
        yield start, part


def peak(words: list[str]) -> tuple[float, float]:
    """(the peak of private memory of a command's processes in MiB, its seconds); raises if the command fails."""
    begun = time.monotonic()
    with TemporaryDirectory() as folder, open(Path(folder, "errors"), "w+") as errors:
        process = subprocess.Popen([sys.executable, "-m", "latens", *words], stdout=subprocess.DEVNULL, stderr=errors)
        most = 0
        while process.poll() is None:
            most = max(most, sum(map(_private, _family(process.pid))))
            time.sleep(0.05)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"latens {' '.join(words)} failed: {errors.read()[-2000:]}")
    return most / 1024, time.monotonic() - begun


def _family(pid: int) -> list[int]:
    """A process and the processes that it started."""
    with suppress(OSError):
        told = [(each / "children").read_text() for each in Path(f"/proc/{pid}/task").iterdir()]
        found = [int(word) for words in told for word in words.split()]
        return [pid, *(member for child in found for member in _family(child))]
    return [pid]


def _private(pid: int) -> int:
    """The private memory of a process in KiB."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return 0


def words_of(command: str, kind: str) -> list[str]:
    """The arguments of a command; for an array, options of tables are omitted."""
    words = COMMANDS[command]
    at = words.index("--dependence") if kind == "npy" and "--dependence" in words else len(words)
    return words[:at] + words[at + 2 :]


def measured(command: str, kind: str, rows: int, folder: Path) -> dict[str, Any]:
    """Measure one command on a table of ``rows`` rows in one format."""
    places: dict[str, Any] = {"run": folder / f"run-{kind}", "rows": rows}
    for name, gaps in (("data", 0.0), ("gaps", GAPS)):
        places[name] = folder / f"{name}-{rows}.{kind}"
        if "{" + name + "}" in COMMANDS[command] and not places[name].exists():
            write(places[name], rows, gaps)
    if "{run}" in COMMANDS[command] and not places["run"].exists():
        data = folder / f"data-{TINY}.{kind}"
        if not data.exists():
            write(data, TINY)
        peak([word.format(data=data, out=places["run"]) for word in words_of("fit", kind)])
    with TemporaryDirectory(dir=folder) as out:
        places["out"] = Path(out, "run" if command.startswith("fit") else f"out.{kind}")
        words = [word.format(**places) for word in words_of(command, kind)]
        mib, seconds = peak(words)
    return {"command": command, "format": kind, "rows": rows, "mib": round(mib), "seconds": round(seconds, 1)}


def page() -> str:
    """The table of the kept results."""
    kept = json.loads((Path(__file__).parent / "results" / "memory.json").read_text("utf-8"))
    sizes = sorted({run["rows"] for run in kept["runs"]})
    named = [f"{rows // MILLION} million" if rows >= MILLION else f"{rows:,}" for rows in sizes]
    rows = [f"| command | format | {' | '.join(f'{name} rows, MiB' for name in named)} "
            "| ratio, most to fewest millions |", "|---|---|" + "---|" * (len(sizes) + 1)]  # fmt: skip
    for command in COMMANDS:
        for kind in ("parquet", "npy", "csv"):
            of = {run["rows"]: run["mib"] for run in kept["runs"] if (run["command"], run["format"]) == (command, kind)}
            large = [of[size] for size in sizes if size >= MILLION and size in of]
            if of:
                cells = [f"{of[size]:,}" if size in of else "" for size in sizes]
                ratio = f"{large[-1] / large[0]:.2f}" if len(large) > 1 else ""
                rows.append(f"| {command} | {kind} | {' | '.join(cells)} | {ratio} |")
    codes = ", ".join(sorted({run["code"] for run in kept["runs"]}))
    return "\n".join([*rows, "", f"{taken_on(kept)}; digests of latens' files: {codes}."])


def main() -> None:
    """Measure the commands asked for, or write the table of earlier figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,20", help="measure these millions of rows, and 10,000 rows")
    parser.add_argument("--formats", default="parquet,npy,csv")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--folder", type=Path, help="keep the tables here; by default they are removed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        options.table.write_text(put(page(), options.table.read_text("utf-8"), "memory"), "utf-8")
        return
    runs: list[dict[str, Any]] = []
    if options.json and options.json.exists():
        runs = json.loads(options.json.read_text("utf-8"))["runs"]
    sizes = [TINY, *(round(float(word) * MILLION) for word in options.rows.split(",") if word)]
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in options.formats.split(","):
            for command in options.commands.split(","):
                for rows in sizes if (command, kind) not in WITHOUT else ():
                    found = measured(command, kind, rows, folder) | {"code": code()}
                    print(json.dumps(found), flush=True)
                    same = [run for run in runs if all(run[key] == found[key] for key in ("command", "format", "rows"))]
                    runs = [run for run in runs if run not in same] + [found]
                    if options.json:
                        kept = {"machine": machine.describe()["cpu"], "runs": runs,
                                "versions": versions("torch", "numpy", "pyarrow")}  # fmt: skip
                        options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
