"""Fitting: from data to a run, new or continued, with or without a folder."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from latens.data import fingerprint
from latens.data.lazy import some
from latens.data.loader import ArrayLoader, Loader, Transform
from latens.data.rows import Rows
from latens.data.splits import Split, split_rows
from latens.data.streams.survey import Streamed
from latens.errors import InputError
from latens.machine.allocation import Modest
from latens.machine.memory import memory
from latens.networks import has_convolutions, only_linear_maps
from latens.recipes import Recipe
from latens.recipes.choices import DataInfo
from latens.runs import gaps, matching
from latens.runs import record as runs
from latens.runs.record import Run
from latens.schema import Table
from latens.schema.arrow import listed
from latens.tensors import trees
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree
from latens.training import Callback, Processes, Progress, Settings, Trainer
from latens.training.checkpoint import Log, load_state, restoring
from latens.training.diagnosis import left_out
from latens.training.processes import check_device
from latens.training.threads import is_small

SAMPLE_ROWS, SAMPLE_CELLS = 20_000, 100_000_000  # the largest sample from which starting values are computed
CONDITIONS_KEPT = 500  # a run stores the conditions of this many rows
SURE = 0.01  # a tree with fewer wrong guesses than this share of the rows says exactly where gaps are


@dataclass(frozen=True, eq=False)
class ModelRows:
    """Rows in the model's form, with their conditions and their weights. ``numbers``, if given, are their row numbers
    in the user's data."""

    x: Tree
    c: Tree = None
    weight: Tensor | None = None
    numbers: Tensor | None = None

    def __len__(self) -> int:
        return trees.rows(self.x)

    def take(self, rows: Tensor) -> ModelRows:
        """The selected rows ``[B]``: a copy if they are few, a view if they are many."""
        x = trees.map_tree(lambda leaf: some(leaf, rows), self.x)  # type: ignore[arg-type, return-value]
        numbers = rows if self.numbers is None else self.numbers[rows]
        return ModelRows(x, trees.take(self.c, rows), trees.take(self.weight, rows), numbers)

    def called(self, numbers: Tensor) -> ModelRows:
        """The same rows with ``numbers`` ``[N]``, their row numbers in the user's data."""
        return replace(self, numbers=numbers if self.numbers is None else numbers[self.numbers])

    def loader(self, batch_size: int, **options: Any) -> ArrayLoader:
        """Batches of the rows. For ``options``, see :class:`ArrayLoader`."""
        return ArrayLoader(self.x, self.c, self.weight, numbers=self.numbers, batch_size=batch_size, **options)


Parts = tuple[ModelRows | Streamed, ModelRows | None]  # (training rows, held-out rows)


def execute(
    run: Run, train: ModelRows | Streamed, held: ModelRows | None = None, *, transform: Transform | None = None,
    progress: Progress | None = None, callbacks: Sequence[Callback] = (),
) -> Run:  # fmt: skip
    """Train a prepared run, in its folder if it has one, and from its checkpoint if there is one. Rows on disk are
    streamed, together with their conditions."""
    processes = Processes(run.settings.device)
    with run.whole(), runs.at_work(run.folder) if run.folder and processes.is_main else nullcontext():
        followed = Log(progress=progress, callbacks=tuple(callbacks), about=_about(run))
        trainer = _trainer(run, train, held, transform, followed, processes)
        trainer.run()
        _conclude(run, trainer)
        matching.map_margins(run, _seen(train), None if isinstance(train, Streamed) else train.weight)
        if run.folder and processes.is_main:
            run.finish()
    return run


def _trainer(
    run: Run, train: ModelRows | Streamed, held: ModelRows | None, transform: Transform | None,
    log: Log, processes: Processes,
) -> Trainer:  # fmt: skip
    """The trainer of a run, with its batches and the function that stores each round."""
    settings = run.settings
    options: dict[str, Any] = {"seed": settings.seed, "transform": transform}

    def keep(history: list[dict[str, Any]]) -> None:
        run.history = history
        if run.folder:
            run.write_metrics()

    loader: Loader
    if isinstance(train, Streamed):
        loader = train.loader(int(settings.batch_size), settings.seed)
    else:
        loader = train.loader(int(settings.batch_size), **options)
    few = 0 if held is None else min(512, max(16, -(-len(held) // 40)))
    shown = None if held is None else held.loader(few, shuffle=False, **options)
    log = replace(log, store=runs.checkpoints(run.folder) if run.folder else None, on_round=keep)
    if matching.can_match(run):
        weight = None if isinstance(train, Streamed) else train.weight
        log = replace(log, closing=partial(matching.match, run, _seen(train), weight))
    return Trainer(run.model, run.objective, loader, shown, settings, log, processes=processes)


def _seen(train: ModelRows | Streamed) -> Tensor:
    """Training rows of an array or a table: all rows, or, for a stream, the sample in memory."""
    return cast(Tensor, train.seen.inside if isinstance(train, Streamed) else train.x)


def _about(run: Run) -> dict[str, Any]:
    """The description of a run for callbacks."""
    record = run.record()
    kept = ("recipe", "rows", "parameters", "training", "versions")
    return {name: record[name] for name in kept} | {"folder": None if run.folder is None else str(run.folder)}


def _conclude(run: Run, trainer: Trainer) -> None:
    """Copy the results of the trainer to the run."""
    run.history = trainer.history
    kind = "averaged" if run.settings.average else "live"
    best = f"best ({kind} weights of epoch {trainer.best_epoch})"
    run.served = best if trainer.best_state else f"last ({kind})"
    if trainer.halted:
        run.warnings.append(f"a callback stopped the run after {trainer.step:,} of {trainer.steps:,} steps")
        trainer.progress.note(run.warnings[-1])
    skipped = sum(int(row.get("skipped", 0)) for row in run.history)
    if skipped:
        run.warnings.append(left_out(skipped, trainer.step, run.settings))
        trainer.progress.note(run.warnings[-1])
    run.status = "finished"


# Several runs at once

SHARED_CELLS = 20_000_000  # the most cells of all processes together, as each process has a copy of the rows


def can_share(run: Run, rows: Rows, processes: int) -> bool:
    """Whether runs like this one should be made in several processes at once instead of one by one: a step is too small
    for several cores, and a copy of the rows in each process takes little memory."""
    cells = processes * len(rows) * math.prod(rows.schema.shape)
    is_on_cpu = Processes(run.settings.device).device.type == "cpu"
    return is_on_cpu and cells <= SHARED_CELLS and is_small(run.model, int(run.settings.batch_size))


def fit_recipe(
    rows: Rows | Streamed, recipe: Recipe, settings: Settings, *, options: dict[str, Any] | None = None,
    validation: float | str | Rows = "auto", out: str | Path | None = None, progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Fit a recipe to rows."""
    run, parts = prepare(rows, recipe, settings, options=options, validation=validation)
    if out is not None:
        open_folder(run, out)
    return execute(run, *parts, progress=progress)


def open_folder(run: Run, folder: str | Path) -> None:
    """Create the folder of a run; if there are several processes, only the main one does."""
    run.folder = Path(folder)
    Processes(run.settings.device).first(lambda: run.open_folder(folder))


def start_from(run: Run, folder: str | Path) -> None:
    """Start from the weights of another run; an ``InputError`` names the first weight whose shape differs."""
    load_state(run.model, runs.weights(folder), f"the run {folder}")
    run.data["from"] = str(Path(folder).absolute())


def prepare(
    rows: Rows | Streamed, recipe: Recipe, settings: Settings, *, options: dict[str, Any] | None = None,
    weight: np.ndarray | None = None, validation: float | str | Rows = "auto", split: Split | None = None,
    data: dict[str, Any] | None = None,
) -> tuple[Run, Parts]:  # fmt: skip
    """(the run before its first step; its training and held-out rows). A stream comes with its own held-out rows.
    ``weight`` is ``[N]``. Bad input raises ``InputError``."""
    check_device(settings.device)
    schema, given = rows.schema, rows.given
    train, held = _divided(rows, weight, validation, settings.seed, split)
    sample = _sample(rows, train, settings.seed)
    count, held_rows = train.kept if isinstance(train, Streamed) else len(train), 0 if held is None else len(held)
    info = DataInfo(schema, count, sample.x[:], () if given is None else given.given_fields, sample.c)
    with seeded(settings.seed, Key.WEIGHTS):
        model, objective = recipe.build(info, **(options or {}))
    settled = settings.settle(
        count, linear=only_linear_maps(model), table=isinstance(schema, Table), held=held_rows,
        convolutions=has_convolutions(model),
    )  # fmt: skip
    info.choices["training"] = (
        f"{counted(settled.epochs, 'epoch')} of {counted(count // int(settled.batch_size), 'step')}, "
        f"{counted(settled.batch_size, 'row')} per step; "
        + (f"{held_rows:,} rows held out for validation" if held_rows else "no validation rows")
    )
    run = Run(
        model, objective, settled, count, schema, recipe, dict(options or {}), dict(data or {}), info.choices,
        given=given,
    )  # fmt: skip
    run.data["validation"] = validation if isinstance(validation, str | int | float) else "given"
    if "fingerprint" not in run.data:
        run.data["fingerprint"] = rows.stream.fingerprint if isinstance(rows, Streamed) else fingerprint(rows.x)
    run.data |= _remembered(rows, sample)
    run.warnings = notes(rows, count, settings, info)
    if not held_rows:
        run.warnings.append("no rows are held out: figures are computed on training rows, so they look too good")
    return run, (train, held)


def _divided(
    rows: Rows | Streamed, weight: np.ndarray | None, validation: float | str | Rows, seed: int, split: Split | None
) -> Parts:
    """(training rows, held-out rows)."""
    if isinstance(rows, Streamed):
        apart = validation if isinstance(validation, Rows) else rows.held
        return rows, None if apart is None else ModelRows(apart.inside, apart.c)
    weights = None if weight is None else torch.as_tensor(np.asarray(weight), dtype=torch.float32)
    whole = ModelRows(rows.inside, rows.c, weights)
    if isinstance(validation, Rows):
        return whole, ModelRows(validation.inside, validation.c)
    kept, out = split_rows(len(rows), validation, seed, split)
    return (whole.take(kept), whole.take(out)) if len(out) else (whole, None)


def _sample(rows: Rows | Streamed, train: ModelRows | Streamed, seed: int) -> ModelRows:
    """The training rows from which starting values are computed; if there are many, an ordered sample of them."""
    if isinstance(train, Streamed):
        return ModelRows(train.seen.inside, train.seen.c)
    count, cells = len(train), math.prod(rows.schema.shape)
    pick = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:SAMPLE_ROWS].sort().values
    return train.take(pick[:: max(1, len(pick) * cells // SAMPLE_CELLS)] if len(pick) > 1000 else pick)


def _remembered(rows: Rows | Streamed, sample: ModelRows) -> dict[str, Any]:
    """What a run stores of its rows: conditions, from which samples draw those that are not given, and the pattern of
    gaps."""
    found: dict[str, Any] = {}
    schema = rows.schema
    given = {name: values.double().flatten() for name, values in (sample.c or {}).items()}
    if given:
        told = ~torch.stack([values.isnan() for values in given.values()]).any(0)
        every = max(1, int(told.sum()) // CONDITIONS_KEPT)
        found["conditions"] = {name: values[told][::every].tolist() for name, values in given.items()}
    if isinstance(schema, Table) and any(column.missing for column in schema.outer):
        x = own = sample.x[:].double().numpy()
        if schema.rules:
            seen = rows.seen if isinstance(rows, Streamed) else rows.take(sample.numbers)
            numbers = schema.numbers(seen.x)
            own = np.stack([numbers[field.name] for field in schema.outer], 1)
        known = {name: values.numpy() for name, values in given.items()}
        found |= _gaps(schema, own, x, known)
    return found


def _gaps(schema: Table, u: np.ndarray, x: np.ndarray, known: dict[str, np.ndarray]) -> dict[str, Any]:
    """The trees of the gaps in the user's numbers u ``[N, columns]``, and of those in the model's x in the order of its
    columns. For each of the latter: whether its gaps are ``own``, the gaps of the user's column, and no tree of u is
    nearly sure of them."""
    names = tuple(field.name for field in schema.outer)
    every, in_order = gaps.learned(names, u, known), gaps.learned(schema.names, x, known, in_order=True)
    columns = known | dict(zip(names, u.T))
    sure = {tree["column"] for tree in every if gaps.doubt(tree, columns) < SURE}
    for tree in in_order:
        name = tree["column"]
        same = np.array_equal(np.isnan(columns[name]), np.isnan(x[:, schema.names.index(name)]))
        tree["own"] = same and name not in sure
    return {"gaps": every, "gaps_in_order": in_order}


def counted(number: int | str, noun: str) -> str:
    """A number and its noun: "1 row", "2 rows"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def notes(rows: Rows | Streamed, train: int, settings: Settings, info: DataInfo) -> list[str]:
    """Remarks about the data that a person should read before trusting the fit."""
    found, schema = list(info.warnings), info.schema
    if isinstance(schema, Table):
        found += [*_notes_of_columns(schema), *_notes_of_empty_rows(rows)]
    elif schema.constant:
        costs = "" if schema.is_discrete or schema.is_image or schema.kind == "count" else (
            f"; another value costs ln({train + 2:,}) nats"
        )  # fmt: skip
        count = len(schema.constant)
        never, kept = ("never varies", "it is") if count == 1 else ("never vary", "they are")
        noun = "pixels" if schema.is_image else "columns"
        found.append(f"{count} of {schema.columns} {noun} {never}: {kept} kept and reproduced as is{costs}")
    if settings.batch_size != "auto" and int(settings.batch_size) > train:
        found.append(f"batch_size {settings.batch_size} is more than the {train} rows: batches shrink to {train}")
    return found


def _notes_of_columns(schema: Table) -> list[str]:
    """Remarks about columns: which are left out, and other observations."""
    found = []
    left = [f for f in schema.fields if f.kind in ("identifier", "text")]
    for f in left[:10]:
        why = f.reason.replace(": left out", "")
        why = re.sub(r"NAME=(\w+)", lambda kind: shlex.quote(f"{f.name}={kind[1]}"), why)  # noqa: B023
        kind = "an identifier" if f.kind == "identifier" else f.kind
        found.append(f"column {f.name!r} is left out as {kind}: {why}")
    if len(left) > 10:
        more = counted(len(left) - 10, "more column")
        found.append(f"{more} {'is' if len(left) == 11 else 'are'} left out as identifiers or text")
    found += [field.remark for field in schema.fields if field.remark]
    if gone := [repr(f.name) for f in schema.fields if f.kind == "missing"]:
        columns, have = ("columns", "have no value and are") if len(gone) > 1 else ("column", "has no value and is")
        found.append(f"{columns} {listed(gone)} {have} left empty")
    return found


def _notes_of_empty_rows(rows: Rows | Streamed) -> list[str]:
    seen, of = (rows.seen, f" of {len(rows.seen):,} examined") if isinstance(rows, Streamed) else (rows, "")
    empty = int(seen.inside.isnan().all(1).sum()) if isinstance(seen.inside, Tensor) else 0
    have, add = ("have", "add") if empty > 1 else ("has", "adds")
    note = f"{empty:,} row{'s' * (empty > 1)}{of} {have} no observed cell and {add} no information"
    return [note] if empty else []


def check_weights(weight: np.ndarray | None, rows: int) -> None:
    """Raise ``InputError`` unless the weights ``[rows]`` are finite and not negative, and one is positive."""
    if weight is None:
        return
    if weight.shape != (rows,):
        raise InputError(f"sample_weight must be one number per row, [{rows}], got shape {list(weight.shape)}")
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"sample_weight must be finite and non-negative, got {weight[row]:g} in row {row} (counted from 0)"
        )
    if not (weight > 0).any():
        raise InputError("all of sample_weight is zero", "give at least one row a positive weight")


def reopen(
    folder: str | Path, record: dict[str, Any], rows: Rows | Streamed, validation: float | str | Rows, *,
    recipe: str | None = None, weight: np.ndarray | None = None, split: Split | None = None,
) -> tuple[Run, Parts]:  # fmt: skip
    """(an interrupted run, its rows), ready to continue. The result is the same as without the interruption. ``weight``
    is ``[N]``."""
    path = Path(folder) / "run.json"
    with restoring(path), Modest(memory() // 2, path):
        ready = runs.build(record, recipe)
    assert ready.recipe is not None
    run, parts = prepare(
        rows, ready.recipe, ready.settings, weight=weight, data=record["data"], validation=validation, split=split
    )
    run.settings, run.choices, run.warnings = ready.settings, ready.choices, ready.warnings
    run.data, run.folder = record["data"], Path(folder)
    if run.data.get("from") and not runs.checkpoints(run.folder).exists():
        start_from(run, run.data["from"])
    return run, parts
