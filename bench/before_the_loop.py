"""Count the files of latens that a fit enters before its training loop starts, and the calls between them.

Runs `latens fit people.csv --epochs 1` in this process, from the entry of the command until the trainer starts its
loop. A file is entered when one of its functions is called; code that runs when a module is imported (its top level and
its class bodies) is not counted. A call across files is a direct call from a function in one file of latens to a
function in another (resuming a generator counts as a call). `calls` counts every one of them, `arrows` each pair of
(function, function) once, `pairs` each pair of (file, file) once.

    python bench/before_the_loop.py --top 40   # list more pairs
    python bench/before_the_loop.py --arrows   # the functions instead, and the files entered
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import latens
from latens.cli.main import main

ROOT = str(Path(latens.__file__).parent) + os.sep


class Stop(BaseException):
    """Raised when the training loop starts."""


class Count:
    """A profile function that counts until the loop starts."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.calls: Counter[tuple[str, str, str, str]] = Counter()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(ROOT) or not code.co_flags & 0x2:  # its own locals
            return
        file = code.co_filename.removeprefix(ROOT)
        if (file, code.co_name) == ("training/loop.py", "run"):
            raise Stop
        self.files.add(file)
        before = frame.f_back
        if before is None or not before.f_code.co_filename.startswith(ROOT) or not before.f_code.co_flags & 0x2:
            return
        if before.f_code.co_filename != code.co_filename:
            source = before.f_code.co_filename.removeprefix(ROOT)
            self.calls[source, before.f_code.co_qualname, file, code.co_qualname] += 1


def people(path: Path, rows: int = 300) -> None:
    """A table with numbers, levels and a date."""
    draw = random.Random(0)
    lines = ["age,height,income,city,smokes,born"]
    for _ in range(rows):
        age = draw.randint(18, 90)
        born = f"{2024 - age}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        city = draw.choice(["Basel", "Bern", "Chur", "Genf"])
        income = round(draw.lognormvariate(10, 0.5), 2)
        lines.append(f"{age},{draw.gauss(170, 10):.1f},{income},{city},{draw.choice(['yes', 'no'])},{born}")
    path.write_text("\n".join(lines) + "\n")


def counted() -> Count:
    count = Count()
    with tempfile.TemporaryDirectory() as folder:
        people(Path(folder) / "people.csv")
        os.chdir(folder)
        sys.setprofile(count)
        try:
            main(["fit", "people.csv", "--out", "run", "--epochs", "1"])
        except Stop:
            return count
        finally:
            sys.setprofile(None)
            os.chdir("/")
    raise SystemExit("the loop did not start")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--top", type=int, default=15, help="show this many lines")
    asked.add_argument("--arrows", action="store_true", help="count by function, and list the files entered")
    options = asked.parse_args()
    found = counted()
    pairs: Counter[tuple[str, ...]] = Counter()
    for (source, _, target, _), number in found.calls.items():
        pairs[source, target] += number
    print(f"files {len(found.files)}, calls {found.calls.total()}, arrows {len(found.calls)}, pairs {len(pairs)}")
    if options.arrows:
        print(*sorted(found.files), sep="\n")
        pairs = Counter({(f"{a} {b}", f"{c} {d}"): number for (a, b, c, d), number in found.calls.items()})
    for (source, target), number in pairs.most_common(options.top):
        print(f"{number:6} {source} -> {target}")
