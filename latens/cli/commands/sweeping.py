"""``latens sweep``: fit every combination of some options, with several seeds each, and compare on held-out rows."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from latens import recipes
from latens.cli.commands.answer import SPREAD, Answer, aligned, spread, with_deviation
from latens.cli.commands.fitting import Fit, How
from latens.cli.commands.many import Many, asked_again, fit_all, new_folder
from latens.errors import FitError, InputError, is_number, nearest, require_count
from latens.machine.atomic import write_text
from latens.machine.folder import Folder, Part
from latens.machine.launcher import launched
from latens.runs import record as runs
from latens.training import Settings
from latens.training.checkpoint import restoring, sealed, unseal

MOST = 1000  # a sweep has at most this many runs
SWEPT = tuple(f.name for f in fields(Settings) if f.name not in ("seed", "device", "compile", "checkpoint_seconds"))
Grid = dict[str, list[Any]]


def grid_of(words: list[str], recipe: str) -> Grid:
    """{option: values} from arguments such as "beta=0.5,1,2".

    Raises:
        InputError: an option belongs neither to training nor to the recipe, has no values, has a value twice, or mixes
            numbers and words.
    """
    if not words:
        raise InputError("a sweep needs --grid OPTION=VALUE,VALUE", "for example --grid beta=0.5,1,2")
    own = {name: p.default for name, p in recipes.options(recipes.find(recipe)).items()}
    defaults = {name: getattr(Settings(), name) for name in SWEPT} | own
    found: Grid = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not name:
            raise InputError(f"--grid must be OPTION=VALUE,VALUE (for example beta=0.5,1,2), got {word!r}")
        if name not in defaults:
            raise InputError(
                f"--grid names the unknown option {name!r}{nearest(name, [*own, *SWEPT], repr)}",
                f"the recipe {recipe!r} has {', '.join(own) or 'none'}; training has {', '.join(SWEPT)}",
            )
        if name in found:
            raise InputError(f"--grid names {name} twice", "give all its values at once")
        found[name] = _values(name, text, defaults[name])
    return found


def _values(name: str, text: str, default: Any) -> list[Any]:
    """The values of an option, all of one kind, without repeats."""
    values = [_value(part) for part in text.split(",") if part.strip()]
    if not values:
        raise InputError(f"--grid {name}= has no values", "give values separated by commas")
    numeric = any(is_number(value) for value in (default, *values))
    for value in values:
        if numeric and not is_number(value) and value != "auto":
            raise InputError(f"--grid {name}: {value!r} is not a number")
        if re.search(r"[^\w.+-]", str(value)):
            what = f"--grid {name}: the value {value!r} cannot be part of a folder's name"
            raise InputError(what, "give another value")
    if len({*map(str, values)}) < len(values):
        raise InputError(f"--grid {name} has a value twice", "give each value once")
    return values


def _value(text: str) -> Any:
    text = text.strip()
    for kind in (int, float):
        with suppress(ValueError):
            value = kind(text)
            if math.isfinite(value):
                return value
    return {"true": True, "false": False}.get(text.lower(), text)


def _require_few(grid: Grid, seeds: int) -> None:
    count = math.prod(len(values) for values in grid.values()) * seeds
    if count > MOST:
        raise InputError(
            f"the grid has {count // seeds:,} combinations of {seeds} seed{'s' * (seeds > 1)} each, {count:,} runs, "
            f"but a sweep makes at most {MOST:,}",
            "give fewer values",
        )


def sweep(asked: Fit, words: list[str], *, seeds: int = 1, nll: bool = False, quiet: bool = False) -> Answer:
    """Fit every combination of the grid with every seed, in the folders COMBINATION/seed-N of ``asked.out``."""
    grid = grid_of(words, asked.recipe)
    for name in grid:
        if name in asked.options:
            raise InputError(f"{name} is given both as an option and by --grid", "omit one of the two")
    _require_few(grid, seeds)
    if launched() > 1:
        raise InputError("several processes fit one run at a time", "start one process for a sweep")
    folder = runs.require_free(asked.out)
    for _, job in _jobs(folder, asked, grid, 1):
        Settings.from_json(job.settings)
    rows = asked.rows(source := asked.read())
    record = {"asked": asked.to_json(), "grid": grid, "seeds": seeds, "nll": nll}
    with new_folder(folder, "sweep.json", record, "*"):
        return _sweep(folder, asked, record, source, rows, None, quiet)


def resume_sweep(folder: str, *, own: str | None = None, quiet: bool = False) -> Answer:
    """Continue a sweep: finished runs are kept, unfinished ones are continued."""
    path = Path(folder)
    record = unseal(Folder(path) / "sweep.json", f"{path} holds no sweep (made by `latens sweep`)")
    asked = replace(asked_again(record, path, own), out=str(path))
    with restoring(path / "sweep.json"):
        require_count(record["seeds"], "seeds")
        _require_few(record["grid"], record["seeds"])
        for _, job in _jobs(path, asked, record["grid"], 1):
            Folder.below(path, job.out)
    rows = asked.rows(source := asked.read())
    return _sweep(path, asked, record, source, rows, own, quiet)


def _jobs(folder: Path, asked: Fit, grid: Grid, seeds: int) -> list[tuple[dict[str, Any], Fit]]:
    """(combination, fit) of every run."""
    jobs, first = [], int(asked.settings.get("seed", 0))
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        place = folder / ",".join(f"{name}={value}" for name, value in chosen.items())
        trained = {name: value for name, value in chosen.items() if name in SWEPT}
        options = asked.options | {name: value for name, value in chosen.items() if name not in SWEPT}
        for number in range(seeds):
            settings = asked.settings | trained | {"seed": first + number}
            one = replace(asked, out=str(place / f"seed-{number}"), options=options, settings=settings)
            jobs.append((chosen, one))
    return jobs


def _sweep(
    folder: Path, asked: Fit, record: dict[str, Any], source: Any, rows: Any, own: str | None, quiet: bool
) -> Answer:
    grid, seeds = record["grid"], int(record["seeds"])
    jobs = _jobs(folder, asked, grid, seeds)
    for _, job in jobs[::seeds]:  # the folder of each combination looks like that of `fit --seeds`
        place = Folder.below(folder, Path(job.out).parent)
        if not (place / "seeds.json").exists():
            place.make()
            each = replace(job, out=str(place), settings=job.settings | {"seed": int(asked.settings.get("seed", 0))})
            write_text(place / "seeds.json", sealed({"format": runs.FORMAT, "asked": each.to_json(), "seeds": seeds}))
    line = runs.resume_line(folder, asked.recipe).replace("latens fit", "latens sweep", 1)
    how = How(own, quiet, report=False, k=50 if record["nll"] else 0)
    found = fit_all(Many(str(folder), line, how), [job for _, job in jobs], source, rows)
    table = [_row(jobs[i : i + seeds], found[i : i + seeds]) for i in range(0, len(jobs), seeds)]
    best = _best(table)
    _write_csv(Folder(folder) / "sweep.csv", grid, table)
    answer = {"sweep": str(folder), "seeds": seeds, "combinations": table, "best": best}
    if best is None:
        raise FitError(f"every run of {folder} failed: {next(row['failed'] for row in table if row['failed'])}")
    _draw(folder, table, best)
    return Answer("\n".join(_text(folder, grid, table, best, seeds)), answer)


def _row(jobs: list[tuple[dict[str, Any], Fit]], found: list[Answer | FitError]) -> dict[str, Any]:
    """The result of one combination: figures over its seeds, its runs, and the first failure."""
    answers = [answer for answer in found if isinstance(answer, Answer)]
    failures = [str(error) for error in found if isinstance(error, FitError)]
    return {
        "options": jobs[0][0], "runs": [job.out for _, job in jobs], "finished": len(answers),
        "figures": spread(answers, is_number),
        "evaluated_on": answers[0].figures["evaluated_on"] if answers else None,
        "failed": failures[0] if failures else None,
    }  # fmt: skip


def _score(row: dict[str, Any]) -> float:
    """The held-out bound with the rate at weight 1, whatever beta is; minus the distortion if there is no bound."""
    figures = row["figures"]
    if row["failed"] or not figures:
        return -math.inf
    return figures["elbo"]["mean"] if "elbo" in figures else -figures["distortion"]["mean"]


def _best(table: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The combination with the best held-out bound, among the combinations whose runs have all finished."""
    best = max(table, key=_score)
    return None if _score(best) == -math.inf else {"options": best["options"], "runs": best["runs"]}


def _draw(folder: Path, table: list[dict[str, Any]], best: dict[str, Any]) -> None:
    """Write sweep.html, with the rate-distortion curve."""
    from latens.report import sweep as drawn

    found = [(row["options"], {name: figure["mean"] for name, figure in row["figures"].items()})
             for row in table if row["figures"]]  # fmt: skip
    write_text(Folder(folder) / "sweep.html", drawn.page(f"Sweep {folder.name}", found, best["options"]))


SHOWN = ("elbo", "rate", "distortion", "nll")


def _write_csv(path: Part, grid: Grid, table: list[dict[str, Any]]) -> None:
    """Write sweep.csv: one row per combination, with mean and standard deviation over its seeds."""
    names = [name for name in SPREAD if any(name in row["figures"] for row in table)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*grid, "seeds", *(f"{name}{part}" for name in names for part in ("", "_sd")), "failed"])
    for row in table:
        figures = [row["figures"].get(name, {"mean": None, "sd": None}) for name in names]
        numbers = [repr(f[part]) if f[part] is not None else "" for f in figures for part in ("mean", "sd")]
        writer.writerow([*row["options"].values(), row["finished"], *numbers, row["failed"] or ""])
    write_text(path, text.getvalue())


def _text(folder: Path, grid: Grid, table: list[dict[str, Any]], best: dict[str, Any], seeds: int) -> list[str]:
    """The table and the best combination, as lines."""
    names = [name for name in SHOWN if any(name in row["figures"] for row in table)]
    cells = [[*grid, *names, ""], *(_cells(row, names, best) for row in table)]
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed each"
    where = next(row["evaluated_on"] for row in table if row["evaluated_on"])
    bound = f"{'bound' if 'elbo' in names else 'distortion'} on {where}"
    return [
        f"{folder}: {len(table)} combinations, {over}, nats per row, {where}",
        *(f"  {line}".rstrip() for line in aligned(cells, len(cells[0]))),
        *(f"warning: {_named(row)}: {row['failed']}" for row in table if row["failed"]),
        f"best by the {bound}: {_named(best)} ({best['runs'][0]})",
        f"table: {folder / 'sweep.csv'}; rate-distortion curve: {folder / 'sweep.html'}",
    ]


def _cells(row: dict[str, Any], names: list[str], best: dict[str, Any]) -> list[str]:
    shown = [with_deviation(row["figures"][name], 3) if name in row["figures"] else "-" for name in names]
    mark = "failed" if row["failed"] else "best" if row["options"] == best["options"] else ""
    return [*map(str, row["options"].values()), *shown, mark]


def _named(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in row["options"].items())
