"""Run the contenders of a case in turn, each in its own process, and compute the figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from speed import machine
from speed.case import Case

BENCH = Path(__file__).resolve().parents[1]


class Worker:
    """One contender in a separate process."""

    def __init__(self, case: Case, contender: str, size: str, log: Path):
        self.name, self.log = contender, log
        paths = [str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Modules are compiled beforehand, as they are for users.
        here = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "speed.worker", case.name, contender, size], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1,
                env=here | {"PYTHONPATH": os.pathsep.join(paths)},
            )  # fmt: skip

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": f"it ended without an answer; see {self.log}"}

    def repeat(self, number: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(case: Case, size: str, repeats: int | None, log: Path) -> dict[str, Any]:
    """Run all repetitions of a case."""
    rounds = repeats or (2 if size == "quick" else case.repeats)
    before = machine.load()
    workers, found, skipped = {}, {}, {}
    try:
        for name in case.contenders:
            worker = workers[name] = Worker(case, name, size, log)
            ready = worker.answer()
            if "setup" not in ready:
                skipped[name] = ready.get("absent") or f"failed: {ready.get('failed')}"
                say(f"  {name}: {skipped[name]}")
                workers.pop(name).close()
                continue
            found[name] = {"setup": ready["setup"], "threads": ready["threads"], "values": [], "more": []}
        for number in range(rounds):
            order = list(workers)
            order = order[number % max(1, len(order)) :] + order[: number % max(1, len(order))]
            for name in order:
                if (name in case.once and number) or name in skipped:
                    continue
                result = workers[name].repeat(number)
                if "failed" in result:
                    skipped[name] = f"failed: {result['failed']}"
                    say(f"  {name}: {skipped[name]}")
                    continue
                found[name]["values"].append(result.pop("value"))
                found[name]["more"].append(result)
                say(f"  {number + 1}/{rounds} {name}: {found[name]['values'][-1]:.4g} {case.unit}")
    finally:
        for worker in workers.values():
            worker.close()
    found = {name: figures(entry, case) for name, entry in found.items() if entry["values"]}
    result = {
        "title": case.title, "goal": case.goal, "unit": case.unit, "size": size, "contenders": found,
        "skipped": skipped, "ours": case.ours, "theirs": case.theirs, "floor": case.floor,
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "load": [before, machine.load()],
        "machine": machine.describe(), "code": machine.digest(BENCH.parent / "latens"),
    }  # fmt: skip
    for key, other in (("ratio", case.theirs), ("of_floor", case.floor)):
        if other in found and case.ours in found:
            result[key] = compare(case, found[case.ours], found[other])
    if case.summary is not None and case.ours in found:
        result["summary"] = case.summary(found)
    return result


def figures(entry: dict[str, Any], case: Case) -> dict[str, Any]:
    values = entry["values"]
    best = max(values) if "/s" in case.unit else min(values)
    return entry | {"median": statistics.median(values), "best": best}


def compare(case: Case, ours: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How many times better latens is: the median over rounds (whose two figures were taken close together), the worst
    and best round, and the ratio of the best figures."""
    if len(other["values"]) == len(ours["values"]):
        each = [case.better(a, b) for a, b in zip(ours["values"], other["values"], strict=True)]
    else:
        each = [case.better(a, other["median"]) for a in ours["values"]]
    return {
        "median": statistics.median(each), "low": min(each), "high": max(each),
        "of_best": case.better(ours["best"], other["best"]),
    }  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
