"""Kill `latens fit` at every file operation, resume it, and compare the results; run by test_resume.py.

    python killing.py FOLDER STRIDE         ->   one JSON object on the last line
    python killing.py FOLDER COUNT seeds    ->   the same for several seeds, killed at COUNT places

A child process is forked for each run, after the imports, and sends itself SIGKILL just before or after its n-th file
operation (flush to disk, rename, removal, new folder), so that no clean-up in Python happens. The run is then resumed
until it ends.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OPTIONS = ["--epochs", "3", "--batch-size", "10", "--latent-dim", "2", "--network", "linear", "--validation", "0.25",
           "--average", "0.5", "--kl-warmup", "0.5", "--checkpoint-seconds", "0", "--device", "cpu"]  # fmt: skip


def outcome(folder: Path) -> dict[str, Any]:
    """The parts of a finished run that must not depend on interruptions."""
    state = json.loads((folder / "checkpoint" / "state.json").read_text())
    tensors = (folder / "checkpoint" / state["tensors"]).read_bytes()
    for key in ("seconds", "checksum"):
        state.pop(key)
    for row in state["history"]:
        row.pop("seconds")
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    for row in rows:
        row.pop("seconds")
    record = json.loads((folder / "run.json").read_text())
    for key in ("checksum", "files"):
        record.pop(key)
    weights = (folder / "model.safetensors").read_bytes()
    scores = folder / "calibration.json"
    calibration = scores.read_bytes() if scores.exists() else None
    return {
        "state": state, "tensors": tensors, "metrics": rows, "weights": weights, "record": record,
        "calibration": calibration,
    }  # fmt: skip


def count_operations(die_at: int | None) -> list[int]:
    """Count file operations from here on, and kill the process just before or just after the one with the given
    number."""
    count = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            for done in (False, True):
                if count[0] == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count[0] += 1
                if not done:
                    result = function(*given, **more)
            return result

        return call

    for name in ("replace", "fsync", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    return count


def in_child(work: Callable[[], int]) -> tuple[int, str]:
    """(exit status or minus the signal, what it printed)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 1)
        os.dup2(write, 2)
        status = 70
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)
    os.close(write)
    with open(read, "rb") as pipe:
        printed = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


def main(folder: Path, stride: int) -> dict[str, Any]:
    import latens.cli.commands.fitting  # noqa: F401  (before the forks)
    from latens import report
    from latens.cli.main import main as cli
    from latens.machine.atomic import write_text

    def small_page(path: Path, *given: Any, **more: Any) -> None:
        write_text(path, "report")

    report.write = small_page  # other tests check the report; here it is just one of the files
    source = folder / "rows.csv"  # numbers, words, and missing cells of both
    rng = np.random.default_rng(0)
    cells = [[f"{a:.3f}", f"{b:.3f}", word] for a, b, word in zip(*rng.normal(size=(2, 40)), ["x", "y", "z", "y"] * 10)]
    cells[3][0] = cells[8][1] = cells[21][2] = ""
    source.write_text("\n".join(map(",".join, [["a", "b", "word"], *cells])) + "\n")
    fit = ["fit", str(source), *OPTIONS, "--out"]

    def attempt(run: Path, words: list[str], die_at: int | None = None, tally: Path | None = None) -> tuple[int, str]:
        def work() -> int:
            count = count_operations(die_at)
            status = cli([*words, str(run)])
            if tally is not None:
                tally.write_text(str(count[0]))
            sys.stdout.flush()
            return status

        return in_child(work)

    assert cli([*fit, str(folder / "warm")]) == 0  # modules that are imported late are now imported before the forks
    whole = folder / "whole"
    status, printed = attempt(whole, fit, tally=folder / "tally")
    assert status == 0, printed
    operations, expected = int((folder / "tally").read_text()), outcome(whole)
    report_of: dict[str, Any] = {"operations": operations, "killed": 0, "resumed": 0, "not_begun": 0, "problems": []}
    # before every operation at the beginning and the end, after every third of these, and every STRIDE-th place between
    ends = [*range(30), *range(operations - 40, operations)]
    places = sorted({*(place for place in ends if place % 2 == 0 or place % 6 == 1), *range(0, operations, stride)})
    random = np.random.default_rng(1)
    for place in places:
        run = folder / f"run-{place}"
        status, printed = attempt(run, fit, die_at=place)
        report_of["killed"] += status == -signal.SIGKILL
        for _ in range(2):  # and now and then the resumed run is killed again
            if status == -signal.SIGKILL and (run / "run.json").exists():
                again = int(random.integers(0, 120)) if random.random() < 0.3 else None
                status, printed = attempt(run, ["fit", "--resume"], die_at=again)
        if status == -signal.SIGKILL:
            status, printed = attempt(run, ["fit", "--resume"])
            if not (run / "run.json").exists():  # nothing to resume: one sentence says so
                report_of["not_begun"] += 1
                if status != 2 or not printed.startswith("latens: ") or printed.count("\n") != 1:
                    report_of["problems"].append(f"killed at {place}, resume of nothing gave {status}: {printed}")
                status, printed = attempt(run, fit)
        report_of["resumed"] += 1
        if status != 0:
            report_of["problems"].append(f"killed at {place}, resume gave {status}: {printed}")
            continue
        found = outcome(run)
        report_of["problems"] += [
            f"killed at {place}: another {key}" for key in expected if found[key] != expected[key]
        ]
        left = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())
        names = [
            "calibration.json",
            "checkpoint/" + expected["state"]["tensors"],
            "checkpoint/state.json",
            "metrics.csv",
            "model.safetensors",
            "report.html",
            "run.json",
        ]
        if left != sorted(names):
            report_of["problems"].append(f"killed at {place}: the folder holds {left}")
        shutil.rmtree(run)
    return report_of


def several(folder: Path, count: int) -> dict[str, Any]:
    """Kill and resume ``latens fit --seeds 3``, with a checkpoint written at every step."""
    import latens.cli.commands.many  # noqa: F401
    from latens import report
    from latens.cli.main import main as cli
    from latens.machine.atomic import write_text

    report.write = lambda path, *given, **more: write_text(path, "report")
    source = folder / "rows.npy"
    np.save(source, np.random.default_rng(0).normal(size=(40, 3)))
    fit = ["fit", str(source), *OPTIONS, "--epochs", "2", "--seeds", "3", "--out"]
    assert cli([*fit, str(folder / "warm")]) == 0
    found: dict[str, Any] = {"killed": 0, "resumed": 0, "problems": []}

    def attempt(words: list[str], die_at: int | None) -> tuple[int, str]:
        def work() -> int:
            tally = count_operations(die_at)
            status = cli(words)
            (folder / "tally").write_text(str(tally[0]))
            return status

        return in_child(work)

    def all_of(run: Path) -> list[dict[str, Any]]:
        return [outcome(part) for part in sorted(run.glob("seed-*"))]

    whole = folder / "whole"
    status, printed = attempt([*fit, str(whole)], None)
    assert status == 0, printed
    operations, expected = int((folder / "tally").read_text()), all_of(whole)
    left = sorted(p.name for p in whole.iterdir())
    for place in sorted({1, 12, *(operations * (i + 1) // (count - 1) for i in range(count - 2))}):
        run = folder / f"run-{place}"
        status, printed = attempt([*fit, str(run)], place)
        found["killed"] += status == -signal.SIGKILL
        if not (run / "seeds.json").exists():
            continue
        status, printed = attempt(["fit", "--resume", str(run)], None)
        found["resumed"] += 1
        if status != 0:
            found["problems"].append(f"killed at {place} of {operations}, resume gave {status}: {printed}")
        elif all_of(run) != expected:
            found["problems"].append(f"killed at {place} of {operations}: other runs")
        elif sorted(p.name for p in run.iterdir()) != left:
            found["problems"].append(f"killed at {place}: the folder holds {sorted(p.name for p in run.iterdir())}")
    return found


if __name__ == "__main__":
    if sys.argv[3:] == ["seeds"]:
        print(json.dumps(several(Path(sys.argv[1]), int(sys.argv[2]))))
        sys.exit()
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
