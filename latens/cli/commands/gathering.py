"""A folder of parts, and its manifest: the request, the run's fingerprint, and the rows and checksum of each part. If a
job was stopped, the same command writes the missing parts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from latens.cli import workers
from latens.cli.commands import densities
from latens.cli.commands.answer import Answer
from latens.cli.commands.engines import ENGINES, Engine, Job
from latens.cli.commands.planning import Piece, parts_of, samples_of
from latens.cli.commands.using import Inputs
from latens.densities.kinds import PRIOR
from latens.errors import InputError, Stopped, printable, require
from latens.machine.atomic import address_of, leftovers, sole_owner, write_text
from latens.machine.folder import Folder
from latens.machine.memory import free_memory
from latens.runs import record
from latens.runs.outputs import schema_of
from latens.runs.record import CALIBRATION, Run
from latens.schema import Table
from latens.training.checkpoint import digest, sealed, unseal

FORMAT = 1
MANIFEST = "manifest.json"
MEMORY = 300 * 2**20  # the least memory of a worker in bytes, most of which torch takes
PART_ROWS = 100_000  # rows of samples per part
SHOWN = 5  # the text of an answer shows at most this many warnings, and this many failed parts


def of_data(
    command: str, folder: str, data: str, out: str, inputs: Inputs, options: dict[str, Any], parts: Mapping[str, Any],
    lines: TextIO | None,
) -> Answer:  # fmt: skip
    """Write the output of ``command`` for data, in parts."""
    run = record.load(folder, recipe=inputs.own)
    schema = schema_of(run)
    wanted = (*(schema.names or ()), *(run.given.conditions if run.given else ()), *inputs.keep)
    todo, notes = parts_of(data, command in ("reconstruct", "impute"), wanted)
    _require_outside(out, data)
    job = Job(command, os.path.abspath(folder), out, inputs, options)
    return _written(job, run, todo, {}, parts, lines, notes)


def of_samples(
    folder: str, out: str, options: dict[str, Any], parts: Mapping[str, Any], lines: TextIO | None
) -> Answer:
    """Write samples, in parts."""
    own, quiet = options.pop("own"), options.pop("quiet", False)
    size = PART_ROWS if parts["part_rows"] is None else parts["part_rows"]
    require(size >= 1, "--part-rows", "a whole number from 1", size)
    run = record.load(folder, recipe=own)
    if options["density"] != PRIOR:  # fitted once here, so that no worker has to
        densities.density_of(run, folder, options["density"], quiet=quiet)
    todo = samples_of(options["n"], size, isinstance(schema_of(run), Table))
    job = Job("sample", os.path.abspath(folder), out, Inputs(own), options)
    return _written(job, run, todo, {"part_rows": size}, parts, lines)


def _require_outside(out: str, data: str) -> None:
    """Raise ``InputError`` if the output would lie in the data's folder, or the data in the output's folder."""
    if "://" in data or "://" in out:
        return
    here, there = Path(out).resolve(), Path(data).expanduser().resolve()
    if here == there or there in here.parents:
        raise InputError(f"cannot write {out}: it would lie in the folder of the data", "name another folder")


class Manifest:
    """The record of a folder of parts, in the file ``manifest.json``, which has a checksum of itself.

    Args:
        folder: the folder of the parts.
        asked: the request that made the parts: command, options, the fingerprint of the run.

    Attributes:
        parts: {name: fingerprint of the source, seed of the draws, number of rows, SHA-256 of the bytes}.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]):
        self.folder, self.asked, self.parts = folder, dict(asked), dict[str, dict[str, Any]]()
        self._file, self._saved, self._took = Folder(folder) / MANIFEST, 0.0, 0.0

    def read(self) -> None:
        """Read the manifest; ``InputError`` if the folder holds anything but parts of the same job."""
        if not self._file.exists():
            if self.folder.exists() and any(not part.name.startswith(".") for part in Folder(self.folder).parts()):
                raise InputError(f"{self.folder} holds other files, but no {MANIFEST}", "name a new folder")
            return
        found = unseal(self._file, "the folder holds no parts", "remove the folder, or name another folder")
        if found.get("format") != FORMAT or not isinstance(found.get("parts"), list):
            raise InputError(f"{self._file} has a format that this version cannot read", "name another folder")
        for name, value in self.asked.items():
            if found.get(name) != value:
                raise InputError(_other(self.folder, name, found.get(name), value), "name another folder, or remove it")
        self.parts = {each["name"]: each for each in found["parts"]}

    def is_done(self, part: Piece) -> bool:
        """Whether a part exists, is unchanged, and was made from the source in its present state."""
        entry, path = self.parts.get(part.name), self.folder / part.name
        if entry is None or entry["source"] != part.fingerprint or not path.is_file():
            return False
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]

    def add(self, part: Piece, seed: int | None, answer: Mapping[str, Any]) -> None:
        """Enter a part. The manifest is not saved each time, so that saving takes a small share of the time."""
        entry = {"name": part.name, "source": part.fingerprint} | ({} if seed is None else {"seed": seed})
        self.parts[part.name] = entry | {name: answer[name] for name in ("rows", "sha256")}
        if time.monotonic() - self._saved >= 20 * self._took:
            self.save()

    def save(self) -> None:
        """Write the manifest."""
        start = time.monotonic()
        parts = [self.parts[name] for name in sorted(self.parts)]
        rows = sum(each["rows"] for each in parts)
        write_text(self._file, sealed({"format": FORMAT, **self.asked, "rows": rows, "parts": parts}))
        self._saved = time.monotonic()
        self._took = self._saved - start


def _other(folder: Path, name: str, there: Any, asked: Any) -> str:
    if isinstance(there, dict) and isinstance(asked, dict):
        name = next(each for each in (*asked, *there) if there.get(each) != asked.get(each))
        there, asked = there.get(name), asked.get(name)
        return f"{folder} holds parts made with {name} = {json.dumps(there)}, not {json.dumps(asked)}"
    if name == "run":
        return f"{folder} holds parts made by another run"
    return f"{folder} holds parts of `latens {there}`"


def _fingerprint(run: Run, command: str, density: str) -> str:
    """SHA-256 of everything in a run that decides the bytes of a part: weights, record, calibration, density."""
    folder = Path(run.folder or "")
    stored = record.read_record(folder)
    files = dict(stored["files"])
    for name in (CALIBRATION,) if command == "score" else ():
        file = Folder(folder) / name
        files[name] = digest(file.read()) if file.exists() else ""
    for file in Folder(folder).inside("densities").parts(f"{density}*"):
        files[file.name] = digest(file.read())
    more = {name: stored.get(name) for name in ("recipe", "schema", "given", "data")}
    return digest(sealed({"files": files, **more}).encode())


def _written(
    job: Job, run: Run, todo: Sequence[Piece], more: Mapping[str, Any], parts: Mapping[str, Any],
    lines: TextIO | None, notes: Sequence[str] = (),
) -> Answer:  # fmt: skip
    """Write the missing parts; the answer describes what the folder then holds."""
    engine, out = _engine("processes" if parts["engine"] is None else parts["engine"]), _place(job.out)
    options = {name: value for name, value in asdict(job.inputs).items() if value} | dict(job.options) | dict(more)
    options.pop("reason", None)  # it is the same in all folders of parts
    asked = {"command": job.command, "run": _fingerprint(run, job.command, str(options.get("density", PRIOR))),
             "options": json.loads(json.dumps(options))}  # fmt: skip
    manifest = Manifest(out, asked)
    manifest.read()
    if gone := sorted(set(manifest.parts) - {part.name for part in todo}):
        wrong = f"{out} holds the part {gone[0]}, but the data no longer have its source"
        raise InputError(wrong, "name another folder, or remove this one")
    left = [part for part in todo if not manifest.is_done(part)]
    count = _count(parts["workers"], len(left))
    tally = _Tally(job, manifest, len(todo) - len(left), lines)
    with _folder(out):
        for place in {str(Path(part.name).parent) for part in todo}:
            _tidy(out / place)
        manifest.save()
        _fill(job, engine, left, count, tally)
    return tally.answer(len(todo), notes)


def _engine(name: str) -> Engine:
    """The engine with that name; ``InputError`` if there is none, or it is not installed."""
    if name not in ENGINES:
        raise InputError(f"there is no engine {name!r}", f"pass --engine {' or '.join(ENGINES)}")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError("--engine ray needs Ray, which is not installed", "pip install 'latens[ray]'")
    return ENGINES[name]


def _place(folder: str) -> Path:
    """The folder for the parts; ``InputError`` if it cannot be used."""
    out = Path(folder)
    if address_of(folder):
        raise InputError(f"cannot write parts to {folder}", "name a folder on this machine, and copy it later")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", "name a folder for the parts")
    if not out.parent.is_dir():
        raise InputError(f"cannot write {out}, as the folder {out.parent} does not exist", "make the folder first")
    return out


def _count(asked: int | None, parts: int) -> int:
    """The number of workers for this many parts."""
    if asked is None:
        return workers.shared_by(parts, workers.cores())
    require(asked >= 1, "--workers", "a whole number from 1", asked)
    count, room = min(asked, max(1, parts)), max(1, free_memory() // MEMORY)
    if count > room:
        wrong = f"--workers {asked}: each takes {MEMORY >> 20} MiB of memory or more, but there is room for {room}"
        raise InputError(wrong, f"pass --workers {room}, or fewer")
    return count


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Lock the folder of the parts. If the block created it and it holds no part in the end, remove it."""
    made = not out.exists()
    out.mkdir(exist_ok=True)
    try:
        with sole_owner(out):
            yield
    finally:
        if made and not any(path.is_file() and path.name != MANIFEST for path in out.rglob("*")):
            (Folder(out) / MANIFEST).remove()
            for place in sorted((path for path in out.rglob("*") if path.is_dir()), reverse=True):
                Folder(place).remove()
            Folder(out).remove()


def _tidy(place: Path) -> None:
    """Remove unfinished files that killed workers left."""
    if place.is_dir():
        for part in leftovers(Folder(place)):
            part.remove()


def _fill(job: Job, engine: Engine, left: Sequence[Piece], count: int, tally: _Tally) -> None:
    """Have the engine write the parts; ``InputError`` if no part could be written."""
    job = replace(job, out=os.path.abspath(job.out))
    try:
        with tally.bar(len(left)), closing(engine(job, left, count, tally.note)) as answers:  # type: ignore[type-var]
            for part, answer in answers:
                tally.add(part, answer)
    except KeyboardInterrupt:
        there, every = len(tally.manifest.parts), len(tally.manifest.parts) + len(left) - tally.written
        raise Stopped(f"interrupted: {there} of {every} parts are written, and the same command continues") from None
    finally:
        with suppress(InputError):
            tally.manifest.save()
    if tally.failed and not tally.manifest.parts:
        name, sentence = next(iter(tally.failed.items()))
        others = f" ({len(tally.failed) - 1} more parts failed)" if len(tally.failed) > 1 else ""
        raise InputError(f"{name}: {sentence}{others}")


class _Tally:
    """The outcome of each part, shown as soon as it is known."""

    def __init__(self, job: Job, manifest: Manifest, kept: int, lines: TextIO | None):
        self.job, self.manifest, self.kept, self.lines = job, manifest, kept, lines
        self.failed: dict[str, str] = {}
        self.warnings: dict[str, None] = {}
        self.written = self.rows = 0
        self._begun, self._todo = time.monotonic(), 0
        self._show: Callable[[], None] = lambda: None
        self._print: Callable[[str], None] = _to_stderr

    @contextmanager
    def bar(self, parts: int) -> Iterator[None]:
        """A progress bar with parts, rows per second and the remaining time, on stderr if it is a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console, self._begun, self._todo = Console(stderr=True), time.monotonic(), parts
        columns = TextColumn("{task.completed}/{task.total} parts"), TextColumn("{task.fields[speed]}")
        with Progress(BarColumn(bar_width=24), *columns, TimeRemainingColumn(), console=console, transient=True,
                      disable=not console.is_terminal) as bar:  # fmt: skip
            task = bar.add_task("", total=parts, speed="")

            def show() -> None:
                speed = f"{self.rows / (time.monotonic() - self._begun):,.0f} rows/s"
                bar.update(task, completed=self.written + len(self.failed), speed=speed)

            self._show = show
            if console.is_terminal:
                self._print = lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)
            yield
            self._show, self._print = (lambda: None), _to_stderr

    def note(self, text: str) -> None:
        """Print a remark."""
        self._print(printable(text))

    def add(self, part: Piece, answer: Mapping[str, Any]) -> None:
        """Enter the answer of a worker."""
        if "error" in answer:
            self.failed[part.name] = answer["error"]
            self.note(f"{part.name}: {answer['error']}")
        else:
            self.written += 1
            self.rows += answer["rows"]
            self.warnings |= dict.fromkeys(answer["warnings"])
            self.manifest.add(part, self.job.seed_of(part), answer)
        if self.lines is not None:
            print(json.dumps({"part": part.name, **answer, **self._progress()}), file=self.lines, flush=True)
        self._show()

    def _progress(self) -> dict[str, float]:
        """How far the job has come, for a line of JSON."""
        spent, done = max(time.monotonic() - self._begun, 1e-9), self.written + len(self.failed)
        left = spent * (self._todo - done) / done
        return {"done": done, "of": self._todo, "rows_per_second": round(self.rows / spent, 1),
                "seconds_left": round(left, 1)}  # fmt: skip

    def answer(self, parts: int, notes: Sequence[str]) -> Answer:
        """The answer of the command; its exit status is 1 if a part failed."""
        rows = sum(each["rows"] for each in self.manifest.parts.values())
        there, warnings = len(self.manifest.parts), [*notes, *self.warnings]
        lines = [f"wrote {self.job.out}: {there:,} of {parts:,} parts, {rows:,} rows"]
        lines[0] += f" ({self.kept:,} parts were there already)" if self.kept else ""
        lines += [f"warning: {text}" for text in warnings[:SHOWN]]
        lines += [f"warning: {len(warnings) - SHOWN:,} more"] if len(warnings) > SHOWN else []
        if self.failed:
            few = list(self.failed)[:SHOWN]
            more = f" and {len(self.failed) - SHOWN:,} more" if len(self.failed) > SHOWN else ""
            lines.append(f"failed: {', '.join(few)}{more}; the same command tries them again")
        figures = {
            "out": self.job.out, "parts": there, "rows": rows, "kept": self.kept, "failed": self.failed,
            "warnings": warnings,
        }  # fmt: skip
        return Answer("\n".join(lines), figures, status=int(bool(self.failed)), in_a_line=self.lines is not None)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
