"""Fitting: from data to a run, with or without a folder, from the start or continued."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from latens.data import fingerprint
from latens.data.lazy import some
from latens.data.loader import ArrayLoader, Loader, Transform
from latens.data.rows import Rows
from latens.data.splits import Split, split_rows
from latens.data.streams.survey import Streamed
from latens.errors import InputError
from latens.networks import has_convolutions, only_linear_maps
from latens.recipes import Recipe
from latens.recipes.choices import DataInfo
from latens.runs import gaps
from latens.runs import record as runs
from latens.runs.record import Run
from latens.schema import Table
from latens.schema.cells import listed
from latens.tensors import trees
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree
from latens.training import Processes, Progress, Settings, Trainer
from latens.training.checkpoint import Checkpoints, Log, load_state
from latens.training.diagnosis import left_out
from latens.training.member import Member
from latens.training.processes import check_device
from latens.training.together import Together

SAMPLE_ROWS, SAMPLE_CELLS = 20_000, 100_000_000  # of the sample that starting values are taken from
CONDITIONS_KEPT = 500  # rows of conditions that a run remembers


def execute(
    run: Run, x: Tree | Streamed, *, c: Tree = None, weight: Tensor | None = None, validation: Tree = None,
    validation_c: Tree = None, validation_weight: Tensor | None = None, numbers: Tensor | None = None,
    transform: Transform | None = None, progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Train a run that stands ready, in its folder if it has one, from its checkpoint if there is one.

    ``x``: rows in the model's form, or rows on disk, which are streamed, conditions and all. ``numbers``: the number of
    each row of x in the user's data, for messages.
    """
    processes = Processes(run.settings.device)
    try:
        with runs.at_work(run.folder) if run.folder and processes.is_main else nullcontext():
            trainer = _trainer(
                Trainer, run, x, c=c, weight=weight, validation=validation, validation_c=validation_c,
                validation_weight=validation_weight, numbers=numbers, transform=transform, progress=progress,
                processes=processes,
            )  # fmt: skip
            trainer.run()
            _conclude(run, trainer)
            if run.folder and processes.is_main:
                run.finish()
    except BaseException:
        run.abandon()
        raise
    return run


AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)


def _trainer(
    kind: type[AnyTrainer], run: Run, x: Tree | Streamed, *, c: Tree = None, weight: Tensor | None = None,
    validation: Tree = None, validation_c: Tree = None, validation_weight: Tensor | None = None,
    numbers: Tensor | None = None, transform: Transform | None = None, progress: Progress | None = None,
    processes: Processes | None = None,
) -> AnyTrainer:  # fmt: skip
    """The trainer of a run, its batches and what it writes after every round."""
    settings = run.settings
    options: dict[str, Any] = {"seed": settings.seed, "transform": transform}

    def keep(history: list[dict[str, Any]]) -> None:
        run.history = history
        if run.folder:
            run.write_metrics()

    loader: Loader
    if isinstance(x, Streamed):
        loader = x.loader(int(settings.batch_size), settings.seed)
    else:
        loader = ArrayLoader(x, c, weight, batch_size=int(settings.batch_size), numbers=numbers, **options)
    held = None
    if validation is not None:
        held = ArrayLoader(
            validation, validation_c, validation_weight, shuffle=False, **options,
            batch_size=min(512, max(16, -(-trees.rows(validation) // 40))),
        )
    log = Log(runs.checkpoints(run.folder) if run.folder else None, progress, keep)
    return kind(run.model, run.objective, loader, held, settings, log, processes=processes)


def _conclude(run: Run, trainer: Trainer) -> None:
    """What the trainer found, as the run's."""
    run.history = trainer.history
    kind = "averaged" if run.settings.average else "live"
    best = f"best ({kind} weights of epoch {trainer.best_epoch})"
    run.served = best if trainer.best_state else f"last ({kind})"
    skipped = sum(int(row.get("skipped", 0)) for row in run.history)
    if skipped:
        run.warnings.append(left_out(skipped, trainer.step, run.settings))
        trainer.progress.note(run.warnings[-1])
    run.status = "finished"


# Several runs as one

TOGETHER_WORK = 30_000_000  # parameters x rows of a step: beyond, arithmetic is all there is on a CPU core
TOGETHER_CELLS = 20_000_000  # of the rows of all runs, which have each their own


def are_few(rows: Rows, count: int) -> bool:
    """Whether ``count`` copies of the rows, one a run, are little to hold at once."""
    return count * len(rows) * math.prod(rows.schema.shape) <= TOGETHER_CELLS


def is_small(run: Run) -> bool:
    """Whether runs like this one are better trained as one than in turn: small dense networks, of which a step costs
    much besides its arithmetic."""
    convolutions = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    if any(isinstance(part, convolutions) for part in run.model.modules()):
        return False
    return run.parameters * int(run.settings.batch_size) <= TOGETHER_WORK * (1 if is_on_cpu(run) else 20)


def is_on_cpu(run: Run) -> bool:
    return Processes(run.settings.device).device.type == "cpu"


def join(
    ready: list[tuple[Run, dict[str, Any]]], *, store: Checkpoints | None = None, names: Sequence[str] = (),
    progress: Progress | None = None,
) -> Together:  # fmt: skip
    """Runs with the tensors they train on as one batched run; ``NotTogether`` where they cannot be."""
    said = progress or Progress()
    members = [
        _trainer(Member, run, **tensors, progress=Named(said, name))
        for (run, tensors), name in zip(ready, list(names) or [run.name for run, _ in ready], strict=True)
    ]
    for (run, _), member in zip(ready, members, strict=True):
        member.finish = partial(_finish_member, run, member)
    return Together(members, store=store, names=names, progress=progress)


class Named(Progress):
    """Hands on the notes of one of several runs, with its name."""

    def __init__(self, to: Progress, name: str):
        self.to, self.name = to, name

    def note(self, text: str) -> None:
        self.to.note(f"{self.name}: {text}")


def _finish_member(run: Run, member: Member) -> None:
    _conclude(run, member)
    if run.folder and not runs.is_finished(run.folder):
        run.finish()


def execute_together(together: Together, ready: list[Run]) -> None:
    """Train the joined runs, each in its folder, from the joint checkpoint if there is one. A run that fails has its
    own checkpoint; the others go on."""
    folders = [run.folder for run in ready if run.folder is not None]
    for run, member in zip(ready, together.members, strict=True):
        member.store = runs.checkpoints(run.folder) if run.folder else None
    kept = together.store
    try:
        with ExitStack() as work:
            for folder in folders:
                work.enter_context(runs.at_work(folder))
            if kept is not None and kept.folder.exists():
                kept.tidy()
            together.run()
    except BaseException:
        if kept is None or not kept.exists():
            for run in ready:
                run.abandon()
        raise
    if kept is not None and kept.folder.exists():
        for path in kept.folder.glob("*"):
            path.unlink()
        kept.folder.rmdir()


def fit_recipe(
    rows: Rows, recipe: Recipe, settings: Settings, *, options: dict[str, Any] | None = None,
    weight: np.ndarray | None = None, validation: float | str | Rows = "auto", split: Split | None = None,
    out: str | Path | None = None, start: str | Path | None = None, data: dict[str, Any] | None = None,
    progress: Progress | None = None, numbers: Tensor | None = None,
) -> Run:  # fmt: skip
    """Fit a recipe to rows. ``start``: the folder of a run to take the weights from; ``numbers``: what the user calls
    the rows, if not 0, 1, 2, …"""
    run, tensors = prepare(
        rows, recipe, settings, options=options, weight=weight, validation=validation, split=split, data=data
    )
    if numbers is not None:
        tensors["numbers"] = numbers if tensors.get("numbers") is None else numbers[tensors["numbers"]]
    if start is not None:
        start_from(run, start)
    if out is not None:
        open_folder(run, out)
    return execute(run, **tensors, progress=progress)


def open_folder(run: Run, folder: str | Path) -> None:
    """Take a new folder for the run; of several processes the main one makes it."""
    run.folder = Path(folder)
    Processes(run.settings.device).first(lambda: run.open_folder(folder))


def start_from(run: Run, folder: str | Path) -> None:
    """Take the starting weights from another run of the same shapes; ``InputError`` names the first that differs."""
    load_state(run.model, runs.weights(folder), f"the run {folder}")
    run.data["from"] = str(Path(folder).absolute())


def prepare(
    rows: Rows | Streamed, recipe: Recipe, settings: Settings, *, options: dict[str, Any] | None = None,
    weight: np.ndarray | None = None, validation: float | str | Rows = "auto", split: Split | None = None,
    data: dict[str, Any] | None = None,
) -> tuple[Run, dict[str, Any]]:  # fmt: skip
    """The run before its first step, and the tensors it trains on. Rows on disk come with their rows held out."""
    check_device(settings.device)
    schema = rows.schema
    if isinstance(rows, Streamed):
        tensors, count, sample, sample_c = _streamed(rows, validation)
    else:
        tensors = _tensors(rows, weight, validation, settings.seed, split)
        train = tensors["x"]
        count, pick = len(train), _sample(len(train), math.prod(schema.shape), settings.seed)
        sample, sample_c = train[pick], trees.take(tensors["c"], pick)
    conditions = rows.given.given_fields if rows.given is not None else ()
    info = DataInfo(schema, count, sample, conditions, sample_c)
    with seeded(settings.seed, Key.WEIGHTS):
        model, objective = recipe.build(info, **(options or {}))
    held_rows = 0 if tensors["validation"] is None else len(tensors["validation"])
    settled = settings.settle(
        count, linear=only_linear_maps(model), table=isinstance(schema, Table), held=held_rows,
        convolutions=has_convolutions(model),
    )
    info.choices["training"] = (
        f"{counted(settled.epochs, 'epoch')} of {counted(count // int(settled.batch_size), 'step')}, "
        f"{counted(settled.batch_size, 'row')} a step; "
        + (f"{held_rows:,} rows held out for validation" if held_rows else "no validation rows")
    )
    run = Run(
        model, objective, settled, count, schema, recipe, dict(options or {}), dict(data or {}), info.choices,
        given=rows.given,
    )  # fmt: skip
    run.data["validation"] = validation if isinstance(validation, str | int | float) else "given"
    if "fingerprint" not in run.data:
        run.data["fingerprint"] = rows.stream.fingerprint if isinstance(rows, Streamed) else fingerprint(rows.x)
    if sample_c is not None:  # what samples are drawn for, where nothing is said
        told = ~torch.stack([values.double().flatten().isnan() for values in sample_c.values()]).any(0)
        every = max(1, int(told.sum()) // CONDITIONS_KEPT)
        run.data["conditions"] = {name: sample_c[name][told][::every].double().tolist() for name in sample_c}
    if isinstance(schema, Table) and any(column.missing for column in schema.outer):
        whole = {name: values.double().flatten().numpy() for name, values in (sample_c or {}).items()}
        own = sample.double().numpy()
        if schema.rules:
            kept = tensors.get("numbers", torch.arange(count))
            seen = rows.seen if isinstance(rows, Streamed) else rows.take(kept[pick])
            own = np.stack(list(schema.numbers(seen.x).values()), 1)
        run.data["gaps"] = gaps.learned(tuple(field.name for field in schema.outer), own, whole)
    run.warnings = notes(rows, count, settings, info)
    if not held_rows:
        run.warnings.append("no rows are held out: figures on the rows that were trained on flatter the model")
    return run, tensors


def _tensors(
    rows: Rows, weight: np.ndarray | None, validation: float | str | Rows, seed: int, split: Split | None
) -> dict[str, Any]:
    """Rows in memory as the tensors to train on, those held out apart."""
    weights = None if weight is None else torch.as_tensor(np.asarray(weight), dtype=torch.float32)
    if isinstance(validation, Rows):
        return {
            "x": rows.inside, "c": rows.c, "weight": weights, "validation": validation.inside,
            "validation_c": validation.c,
        }  # fmt: skip
    kept, held = split_rows(len(rows), validation, seed, split)
    if not len(held):
        return {"x": rows.inside, "c": rows.c, "weight": weights, "numbers": kept, "validation": None}
    return {
        "x": some(rows.inside, kept), "c": trees.take(rows.c, kept), "weight": trees.take(weights, kept),
        "numbers": kept, "validation": some(rows.inside, held), "validation_c": trees.take(rows.c, held),
        "validation_weight": trees.take(weights, held),
    }  # fmt: skip


def _sample(rows: int, cells: int, seed: int) -> Tensor:
    """Numbers of rows that starting values are taken from, increasing."""
    pick = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:SAMPLE_ROWS].sort().values
    return pick[:: max(1, len(pick) * cells // SAMPLE_CELLS)] if len(pick) > 1000 else pick


def _streamed(rows: Streamed, validation: Any) -> tuple[dict[str, Any], int, Tensor, Tree]:
    """(what is trained on, its number of rows, the sample and its conditions) of rows on disk."""
    held = validation if isinstance(validation, Rows) else rows.held
    tensors = {"x": rows, "validation": None if held is None else held.inside}
    tensors["validation_c"] = None if held is None else held.c
    return tensors, rows.kept, rows.seen.inside[:], rows.seen.c


def counted(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def notes(rows: Rows | Streamed, train: int, settings: Settings, info: DataInfo) -> list[str]:
    """What a person should know of the data before trusting the fit."""
    seen = rows.seen if isinstance(rows, Streamed) else rows
    found, schema = list(info.warnings), info.schema
    if isinstance(schema, Table):
        left = [f for f in schema.fields if f.kind in ("identifier", "text")]
        for f in left[:10]:
            why = f.reason.replace(": left out", "")
            why = re.sub(r"NAME=(\w+)", lambda kind: shlex.quote(f"{f.name}={kind[1]}"), why)  # noqa: B023
            found.append(f"column {f.name!r} is left out as {f.kind}: {why}")
        if len(left) > 10:
            more = counted(len(left) - 10, "more column")
            found.append(f"{more} {'is' if len(left) == 11 else 'are'} left out as identifiers or text")
        found += [field.remark for field in schema.fields if field.remark]
        if gone := [repr(f.name) for f in schema.fields if f.kind == "missing"]:
            found.append(f"column{'s' * (len(gone) > 1)} {listed(gone)} without a single value: left empty")
        empty = int(seen.inside.isnan().all(1).sum()) if isinstance(seen.inside, Tensor) else 0
        if empty:
            of = f" of {len(seen):,} looked at" if isinstance(rows, Streamed) else ""
            have = "have" if empty > 1 else "has"
            found.append(f"{empty:,} row{'s' * (empty > 1)}{of} {have} no observed cell: they say nothing")
    elif schema.constant:
        found.append(
            f"{len(schema.constant)} of {schema.columns} {'pixels' if schema.is_image else 'columns'} never vary: they "
            "are kept, and reproduced as they are"
            + ("" if schema.is_discrete or schema.is_image or schema.kind == "count"
               else f"; they have no density, and another value costs ln({train + 2:,}) nats")
        )
    if settings.batch_size != "auto" and int(settings.batch_size) > train:
        found.append(f"batch_size {settings.batch_size} is more than the {train} rows: batches shrink to {train}")
    return found


def check_weights(weight: np.ndarray | None, rows: int) -> None:
    """``InputError`` unless there is one finite, non-negative weight a row and a positive one among them."""
    if weight is None:
        return
    if weight.shape != (rows,):
        raise InputError(f"sample_weight must have one number a row ({rows}), got shape {list(weight.shape)}")
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"sample_weight must be finite and non-negative, and that of row {row} (counted from 0) is {weight[row]:g}"
        )
    if not (weight > 0).any():
        raise InputError("sample_weight must be not all zero: give at least one row a positive weight")


def reopen(
    folder: str | Path, record: dict[str, Any], rows: Rows | Streamed, validation: float | str | Rows, *,
    recipe: str | None = None, weight: np.ndarray | None = None, split: Split | None = None,
) -> tuple[Run, dict[str, Any]]:  # fmt: skip
    """An interrupted run and its tensors, ready to be continued to the numbers it would have had."""
    ready = runs.build(record, recipe)
    assert ready.recipe is not None
    run, tensors = prepare(
        rows, ready.recipe, ready.settings, weight=weight, data=record["data"], validation=validation, split=split
    )
    run.settings, run.choices, run.warnings = ready.settings, ready.choices, ready.warnings
    run.data, run.folder = record["data"], Path(folder)
    if run.data.get("from") and not runs.checkpoints(run.folder).exists():
        start_from(run, run.data["from"])
    return run, tensors
