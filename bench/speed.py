"""Compare the speed of latens with other libraries and with what the machine can do; bench/README.md says how.

    python bench/speed.py                         every case (hours)
    python bench/speed.py --case mlp --case table
    python bench/speed.py --quick                 a quick run of each case (minutes; its figures mean nothing)
    python bench/speed.py --table docs/benchmarks.md    rewrite its tables from bench/results/speed/*.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from speed import machine, runner, tables
from speed.case import chosen

RESULTS = Path(__file__).resolve().parent / "results"
NAME = tables.machine_of(str(machine.describe()["cpu"]))


def main() -> object:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="run this case; repeat for more")
    parser.add_argument("--list", action="store_true", help="list the cases")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="run tiny sizes, two rounds: does everything work?")
    how.add_argument("--full", action="store_true", help="run the largest sizes: growth to 10^7 rows")
    parser.add_argument("--repeats", type=int, help="run each case this many rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: bench/results/speed/MACHINE.json, "
                        "or bench/results/speed_quick.json with --quick")  # fmt: skip
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the tables of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        files = sorted((RESULTS / "speed").glob("*.json"))
        text = tables.markdown(dict(_named(json.loads(path.read_text("utf-8"))) for path in files))
        return options.table.write_text(tables.put(text, options.table.read_text("utf-8")), "utf-8")
    cases = chosen(options.case)
    if options.list:
        return print("\n".join(f"{case.name:14} {case.title}\n{'':14} goal: {case.goal}" for case in cases))
    size = "quick" if options.quick else "full" if options.full else "usual"
    usual = "speed_quick.json" if options.quick else f"speed/{NAME.lower().replace(' ', '-')}.json"
    path = options.json or RESULTS / usual
    log = path.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    for case in cases:
        runner.say(f"{case.name}: {case.title}")
        result = runner.run(case, size, options.repeats, log)
        found = (json.loads(path.read_text()) if path.exists() else {}) | {case.name: result}
        order = [c.name for c in chosen([])]
        found = dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
        path.write_text(json.dumps(found, indent=1) + "\n")
    print(tables.markdown({NAME: {case.name: found[case.name] for case in cases}}))


def _named(found: dict) -> tuple[str, dict]:
    """(name of the machine, its results)."""
    return tables.machine_of(next(iter(found.values()))["machine"]["cpu"]), found


if __name__ == "__main__":
    main()
