"""``latens fit``: once, once a seed, and continued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from latens.cli.commands.answer import Answer, over_seeds
from latens.cli.commands.fitting import Fit, How, fit_one, resume_one
from latens.cli.commands.many import Many, fit_all
from latens.data import Source
from latens.data.rows import Rows
from latens.data.streams.sources import Stream
from latens.data.streams.survey import Streamed
from latens.errors import FitError, InputError
from latens.machine.atomic import write_text
from latens.runs import record as runs
from latens.training.checkpoint import sealed, unseal
from latens.training.processes import launched


def fit(asked: Fit, *, seeds: int = 1, quiet: bool = False, extra: dict[str, Any] | None = None) -> Answer:
    """Fit once, or once a seed with mean and spread."""
    if seeds > 1 and launched() > 1:
        raise InputError("several processes fit one seed at a time: leave --seeds away, or start one process")
    if launched() == 1:  # several learn it together, when the main process takes the folder
        runs.require_free(asked.out)
    source = asked.read()
    rows = asked.rows(source)
    if seeds == 1:
        return fit_one(asked, source, rows, How(quiet=quiet), extra)
    folder = Path(asked.out)
    with new_folder(folder, "seeds.json", {"asked": asked.to_json(), "seeds": seeds}, "seed-*"):
        return _each_seed(folder, asked, source, rows, seeds, How(quiet=quiet))


@contextmanager
def new_folder(folder: Path, name: str, record: dict[str, Any], places: str) -> Iterator[None]:
    """A folder of many runs with the record of what was asked, ``name``; where the block fails before a run has begun
    in one of its ``places``, what was made is removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made: {error.strerror}") from None
    try:
        write_text(folder / name, sealed({"format": runs.FORMAT} | record))
        yield
    except BaseException:
        if not any(folder.rglob("seed-*/run.json")):
            for path in [*folder.glob(f"{places}/seeds.json"), folder / name]:
                path.unlink(missing_ok=True)
            for path in [*folder.glob(places), *missing]:
                with suppress(OSError):
                    path.rmdir()
        raise


def _each_seed(
    folder: Path, asked: Fit, source: Source | Stream, rows: Rows | Streamed, seeds: int, how: How
) -> Answer:
    """Fit, continue or take up the run of every seed: together where that is possible, otherwise in turn."""
    first = int(asked.settings.get("seed", 0))
    jobs = [
        replace(asked, out=str(part), settings=asked.settings | {"seed": first + number})
        for number, part in enumerate(parts(folder, seeds))
    ]
    found = fit_all(Many(str(folder), runs.resume_line(folder, asked.recipe), how), jobs, source, rows)
    answers = [answer for answer in found if isinstance(answer, Answer)]
    failed = [(job.out, error) for job, error in zip(jobs, found, strict=True) if isinstance(error, FitError)]
    if failed:
        out, error = failed[0]
        others = f" ({len(failed) - 1} more seeds failed)" if len(failed) > 1 else ""
        raise FitError(f"{out}: {error}{others}; {len(answers)} of {seeds} seeds are finished") from error
    return over_seeds(folder, answers)


def parts(folder: Path, seeds: int | None = None) -> list[Path]:
    """The folders of the seeds' runs."""
    if seeds is None:
        seeds = _seeds_record(folder)["seeds"]
    return [folder / f"seed-{number}" for number in range(int(seeds))]


def _seeds_record(folder: Path) -> dict[str, Any]:
    record = unseal(folder / "seeds.json", "there are no runs to continue")
    runs.check_format(record, folder)
    return record


def resume(folder: str, *, own: str | None = None, quiet: bool = False) -> Answer:
    """Continue a run, or every unfinished run of several seeds."""
    path, how = Path(folder), How(own, quiet)
    if folder and runs.has_seeds(path):
        record = _seeds_record(path)
        asked = asked_again(record, path, own)
        source = asked.read()
        rows = asked.rows(source)
        return _each_seed(path, asked, source, rows, int(record["seeds"]), how)
    return resume_one(folder, how)


def asked_again(record: dict[str, Any], path: Path, own: str | None) -> Fit:
    """What was asked of the runs in a folder; ``own``, the user's recipe that made them, is to be named again."""
    runs.check_format(record, path)
    asked = Fit.from_json(record["asked"])
    if ":" in asked.recipe and own != asked.recipe:
        raise InputError(
            f"{path} was made by your own recipe, and code is never executed because a file names it: "
            f"say --recipe {asked.recipe}"
        )
    return asked
