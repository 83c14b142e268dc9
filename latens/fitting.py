"""Fitting: from data to a run, with or without a folder, from the start or continued."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens import run as runs
from latens import trees
from latens.choices import DataInfo
from latens.data import fingerprint
from latens.data.loader import ArrayLoader, Transform
from latens.errors import InputError
from latens.networks import only_linear_maps
from latens.randomness import seed_of, seeded
from latens.recipes import Recipe
from latens.run import Run
from latens.schema import Schema
from latens.training import Processes, Progress, Settings, Trainer
from latens.training.checkpoint import load_state
from latens.training.processes import check_device
from latens.trees import Tree

SAMPLE_ROWS = 20_000
_INIT, _SPLIT = 31, 32  # keys of the seeds


def split_rows(rows: int, validation: float | str, seed: int) -> tuple[Tensor, Tensor]:
    """(training rows, validation rows): a random part held out, both in the order of the data.

    "auto": a tenth, at most 5,000, and none below 200 rows. Raises ``InputError`` for a fraction outside [0, 1).
    """
    if validation == "auto":
        held = min(rows // 10, 5000) if rows >= 200 else 0
    else:
        if not isinstance(validation, int | float) or isinstance(validation, bool) or not 0 <= validation < 1:
            raise InputError(f"validation must be 'auto', a fraction from 0 to below 1, or data, got {validation!r}")
        held = round(rows * validation)
        if rows - held < 1 or (validation > 0 and held < 1):
            raise InputError(f"a validation fraction of {validation:g} leaves nothing on one side of {rows} rows")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed_of(seed, _SPLIT)))
    return order[held:].sort().values, order[:held].sort().values


def execute(
    run: Run, x: Tree, *, c: Tree = None, weight: Tensor | None = None, validation: Tree = None,
    validation_c: Tree = None, validation_weight: Tensor | None = None, numbers: Tensor | None = None,
    transform: Transform | None = None, progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Train a run that stands ready, in its folder if it has one, from its checkpoint if there is one.

    ``numbers``: the number of each row of x in the user's data, for messages.
    """
    settings = run.settings
    processes = Processes(settings.device)
    options: dict[str, Any] = {"seed": settings.seed, "transform": transform}
    store = runs.checkpoints(run.folder) if run.folder else None

    def keep(history: list[dict[str, Any]]) -> None:
        run.history = history
        if run.folder:
            run.write_metrics()

    try:
        with runs.at_work(run.folder) if run.folder and processes.is_main else nullcontext():
            loader = ArrayLoader(x, c, weight, batch_size=int(settings.batch_size), numbers=numbers, **options)
            held = None
            if validation is not None:
                held = ArrayLoader(
                    validation, validation_c, validation_weight, batch_size=512, shuffle=False, **options
                )
            trainer = Trainer(
                run.model, run.objective, loader, held, settings, store=store, progress=progress,
                processes=processes, on_round=keep,
            )  # fmt: skip
            trainer.run()
            run.history = trainer.history
            kind = "averaged" if settings.average else "live"
            best = f"best ({kind} weights of epoch {trainer.best_epoch})"
            run.served = best if trainer.best_state else f"last ({kind})"
            run.status = "finished"
            if run.folder and processes.is_main:
                run.finish()
    except BaseException:
        run.abandon()
        raise
    return run


def fit_recipe(
    x: np.ndarray, schema: Schema, recipe: Recipe, settings: Settings, *, options: dict[str, Any] | None = None,
    weight: np.ndarray | None = None, validation: float | str | np.ndarray = "auto", out: str | Path | None = None,
    start: str | Path | None = None, data: dict[str, Any] | None = None, progress: Progress | None = None,
    numbers: Tensor | None = None,
) -> Run:  # fmt: skip
    """Fit a recipe to an array in the user's layout. ``start``: the folder of a run to take the weights from;
    ``numbers``: what the user calls the rows, if not 0, 1, 2, …"""
    run, tensors = prepare(
        x, schema, recipe, settings, options=options, weight=weight, validation=validation, data=data
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
    x: np.ndarray, schema: Schema, recipe: Recipe, settings: Settings, *, options: dict[str, Any] | None = None,
    weight: np.ndarray | None = None, validation: float | str | np.ndarray = "auto", data: dict[str, Any] | None = None,
) -> tuple[Run, dict[str, Any]]:  # fmt: skip
    """The run before its first step, and the tensors it trains on."""
    check_device(settings.device)
    inside = torch.from_numpy(schema.to_model(x))
    weights = None if weight is None else torch.as_tensor(np.asarray(weight), dtype=torch.float32)
    if isinstance(validation, str | int | float):
        rows, held = split_rows(len(inside), validation, settings.seed)
        tensors = {
            "x": inside[rows] if len(held) else inside, "weight": trees.take(weights, rows), "numbers": rows,
            "validation": inside[held] if len(held) else None,
            "validation_weight": trees.take(weights, held) if len(held) else None,
        }  # fmt: skip
    else:
        tensors = {"x": inside, "validation": torch.from_numpy(schema.to_model(validation)), "weight": weights}
    train = tensors["x"]
    assert train is not None
    pick = torch.randperm(len(train), generator=torch.Generator().manual_seed(settings.seed))[:SAMPLE_ROWS]
    info = DataInfo(schema, len(train), train[pick.sort().values])
    with seeded(settings.seed, _INIT):
        model, objective = recipe.build(info, **(options or {}))
    settled = settings.settle(len(train), linear=only_linear_maps(model))
    held_rows = 0 if tensors["validation"] is None else len(tensors["validation"])
    info.choices["training"] = (
        f"{counted(settled.epochs, 'epoch')} of {counted(len(train) // int(settled.batch_size), 'step')}, "
        f"{counted(settled.batch_size, 'row')} a step; "
        + (f"{held_rows:,} rows held out for validation" if held_rows else "no validation rows")
    )
    run = Run(
        model, objective, settled, len(train), schema, recipe, dict(options or {}), dict(data or {}), info.choices
    )
    run.data["validation"] = validation if isinstance(validation, str | int | float) else "given"
    run.data.setdefault("fingerprint", fingerprint(x))
    run.warnings = notes(schema, len(train), settings, info)
    if not held_rows:
        run.warnings.append("no rows are held out: figures on the rows that were trained on flatter the model")
    return run, tensors


def counted(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def notes(schema: Schema, rows: int, settings: Settings, info: DataInfo) -> list[str]:
    """What a person should know of the data before trusting the fit."""
    found = list(info.warnings)
    if schema.constant:
        found.append(
            f"{len(schema.constant)} of {schema.columns} {'pixels' if schema.is_image else 'columns'} never vary: they "
            "are kept, and reproduced as they are"
            + ("" if schema.is_discrete else "; a floor under their spread keeps the likelihood finite")
        )
    if settings.batch_size != "auto" and int(settings.batch_size) > rows:
        found.append(f"batch_size {settings.batch_size} is more than the {rows} rows: batches shrink to {rows}")
    return found


def check_weights(weight: np.ndarray | None, rows: int) -> None:
    """``InputError`` unless there is one finite, non-negative weight a row and a positive one among them."""
    if weight is None:
        return
    if weight.shape != (rows,):
        raise InputError(f"sample_weight must have one number a row ({rows}), got shape {list(weight.shape)}")
    if not np.isfinite(weight).all() or (weight < 0).any() or not (weight > 0).any():
        raise InputError("sample_weight must be finite and non-negative, and not all zero")


def reopen(
    folder: str | Path, record: dict[str, Any], x: np.ndarray, validation: float | str | np.ndarray, *,
    recipe: str | None = None, weight: np.ndarray | None = None,
) -> tuple[Run, dict[str, Any]]:  # fmt: skip
    """An interrupted run and its tensors, ready to be continued to the numbers it would have had."""
    ready = runs.build(record, recipe)
    assert ready.schema is not None and ready.recipe is not None
    run, tensors = prepare(
        x, ready.schema, ready.recipe, ready.settings, weight=weight, data=record["data"], validation=validation
    )
    run.settings, run.choices, run.warnings = ready.settings, ready.choices, ready.warnings
    run.data, run.folder = record["data"], Path(folder)
    if run.data.get("from") and not runs.checkpoints(run.folder).exists():
        start_from(run, run.data["from"])
    return run, tensors
