"""Feed altered files to latens and keep those that break it: ``python -m bench.fuzz --minutes 60 --out finds``.

A find is an exception that the command line does not turn into an error message, an error message about memory, use of
more memory than a constant plus twice the file's size, or a process that dies or exceeds the time limit (15 times as
long by the clock as in processor time). Each find is kept as the altered file and a text that says how the case ended.
Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import io
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

# limits per case: seconds; bytes of memory above those at the start; bytes of address space above those at the start
SECONDS, BYTES, ROOM = 20, 300_000_000, 6_000_000_000
WAITS = 15  # the wall-clock limit in units of ``SECONDS``; large, since a case may wait and the machine may be busy
NOT_FOUND = ("not enough memory", "does not fit in memory")


def main() -> None:
    """Fuzz in a process that is restarted when it dies or hangs."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="fuzz for this long (default 60)")
    parser.add_argument("--out", default="fuzz-finds", help="keep finds in this folder (default fuzz-finds)")
    parser.add_argument("--seed", type=int, default=0, help="seed the changes (default 0)")
    parser.add_argument("--target", default="", help="fuzz only targets whose name contains this")
    given = parser.parse_args()
    out = Path(given.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    end, round = time.monotonic() + 60 * given.minutes, 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        from bench.fuzz.targets import targets

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            chosen = [target for target in targets() if given.target in target.name]
        print(f"{len(chosen)} targets", flush=True)
        count = multiprocessing.Value("q", 0)
        while time.monotonic() < end:
            round += 1
            child = multiprocessing.get_context("fork").Process(
                target=work, args=(chosen, out, f"{given.seed}.{round}", end, count)
            )
            child.start()
            watch(child, out, end, count)
    finds = len(list(out.glob("*.txt")))
    print(f"{count.value:,} cases, {finds} finds in {out}", flush=True)
    sys.exit(1 if finds else 0)


def watch(child: Any, out: Path, end: float, count: Any) -> None:
    """Wait for a process; end it if a case takes too long; if it died, keep its case."""
    case, since, told, used = Path("case"), time.monotonic(), time.monotonic(), 0.0
    seen = -1
    while child.is_alive():
        child.join(0.5)
        now = time.monotonic()
        if count.value != seen:
            seen, since, used = count.value, now, _seconds(child.pid)
        if now - told > 60:
            told = now
            print(f"{seen:,} cases, {len(list(out.glob('*.txt')))} finds", flush=True)
        if _seconds(child.pid) - used > SECONDS or now - since > WAITS * SECONDS:
            child.kill()
            child.join()
            keep(out, case.read_bytes(), f"a case took longer than {SECONDS} seconds", Path("name").read_text())
            return
        if now > end + SECONDS:
            child.kill()
    if child.exitcode:
        keep(out, case.read_bytes(), f"the process ended with status {child.exitcode}", Path("name").read_text())


def keep(out: Path, data: bytes, what: str, name: str, key: str = "") -> None:
    """Keep a find, once per ``key``."""
    mark = hashlib.sha256((key or what + name).encode()).hexdigest()[:10]
    path = out / f"{name.replace('/', '_')}-{mark}"
    if list(out.glob(f"*-{mark}.txt")):
        return
    Path(f"{path}.bin").write_bytes(data)
    Path(f"{path}.txt").write_text(f"{name}\n{what}\n", errors="replace")
    print(f"find: {name}: {what.strip().splitlines()[-1][:200]}", flush=True)


def work(chosen: list[Any], out: Path, seed: str, end: float, count: Any) -> None:
    """Try altered files until the time is up."""
    faulthandler.enable()
    limit = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rng = random.Random(seed)
    kept: dict[str, list[bytes]] = {target.name: [target.seed] for target in chosen}
    base = _status("VmRSS")
    while time.monotonic() < end:
        target = rng.choice(chosen)
        content = target.mutate(rng.choice(kept[target.name]), rng)
        if len(content) > 2_000_000:
            continue
        number = rng.randrange(10**6)
        Path("case").write_bytes(content)
        Path("name").write_text(f"{target.name}#{number % 48}")
        good = attempt(target, content, number, out, base)
        if good and rng.random() < 0.2:  # an altered file that is accepted is altered further
            kept[target.name] = [target.seed, *kept[target.name][-20:], content]
        count.value += 1


def attempt(target: Any, content: bytes, number: int, out: Path, base: int) -> bool:
    """Try one file, keep it if it is a find, and return whether it was accepted."""
    name, err = f"{target.name}#{number % 48}", io.StringIO()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    status, random_state = -1, random.getstate()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            status = target.use(content, number)
    except BaseException as error:
        text = traceback.format_exc()
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/latens/" in f.filename]
        last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
        keep(out, content, text, name, f"{type(error).__name__} {last.filename}:{last.lineno}")
    random.setstate(random_state)
    said = err.getvalue()
    wrong = [words for words in NOT_FOUND if words in said]
    if wrong:
        keep(out, content, said, name, f"{target.name} {wrong[0]}")
    elif status not in (-1, 0, 2) or "Traceback" in said or "\x1b" in said:
        keep(out, content, f"status {status}\n{said}", name, f"{target.name} status {status}")
    peak = _status("VmHWM") - base
    if peak > BYTES + 2 * len(content):
        what = f"{said}\n{peak / 1e6:.0f} MB for a file of {len(content):,} bytes"
        keep(out, content, what, name, f"{target.name} memory")
    return status == 0


def _seconds(process: int) -> float:
    """The processor time of a process; 0 when it has ended."""
    try:
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _status(entry: str) -> int:
    """A figure from the process's status, in bytes."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry + ":"))


if __name__ == "__main__":
    main()
