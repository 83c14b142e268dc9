"""Fitting: from data to a run, with or without a folder, from the start or continued."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latens import run as runs
from latens import trees
from latens.choices import DataInfo
from latens.data import as_array, fingerprint, infer
from latens.data.loader import ArrayLoader, Transform
from latens.errors import InputError
from latens.objectives import Objective
from latens.randomness import seed_of, seeded
from latens.recipes import Recipe
from latens.run import Run
from latens.schema import Schema
from latens.training import Bar, Processes, Progress, Settings, Trainer
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
    options = {"seed": settings.seed, "transform": transform}
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
            run.served = f"best ({kind} weights of epoch {trainer.best_epoch})" if trainer.best_state else f"last ({kind})"
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
) -> Run:  # fmt: skip
    """Fit a recipe to an array in the user's layout. ``start``: the folder of a run to take the weights from."""
    run, tensors = prepare(
        x, schema, recipe, settings, options=options, weight=weight, validation=validation, data=data
    )
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
    settled = settings.settle(len(train))
    pick = torch.randperm(len(train), generator=torch.Generator().manual_seed(settings.seed))[:SAMPLE_ROWS]
    info = DataInfo(schema, len(train), train[pick.sort().values])
    with seeded(settings.seed, _INIT):
        model, objective = recipe.build(info, **(options or {}))
    held_rows = 0 if tensors["validation"] is None else len(tensors["validation"])
    info.choices["training"] = (
        f"{_count(settled.epochs, 'epoch')} of {_count(len(train) // int(settled.batch_size), 'step')}, "
        f"{_count(settled.batch_size, 'row')} a step; "
        + (f"{held_rows:,} rows held out for validation" if held_rows else "no validation rows")
    )
    run = Run(
        model, objective, settled, len(train), schema, recipe, dict(options or {}), dict(data or {}), info.choices
    )
    run.data["validation"] = validation if isinstance(validation, str | int | float) else "given"
    run.data.setdefault("fingerprint", fingerprint(x))
    run.warnings = notes(schema, len(train), settings, info)
    return run, tensors


def _count(number: int | str, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def notes(schema: Schema, rows: int, settings: Settings, info: DataInfo) -> list[str]:
    """What a person should know of the data before trusting the fit."""
    found = list(info.warnings)
    if schema.constant:
        found.append(
            f"{len(schema.constant)} of {schema.columns} columns never vary: they are kept, and the observation "
            "variance is floored so that they cannot make the likelihood unbounded"
        )
    if settings.batch_size != "auto" and int(settings.batch_size) > rows:
        found.append(f"batch_size {settings.batch_size} is more than the {rows} rows: batches shrink to {rows}")
    return found


def train(
    model: nn.Module, objective: Objective, X: Any, *, out: str | Path | None = None, validation: Any = 0.0,
    c: Tree = None, sample_weight: Any = None, resume: bool = False, transform: Transform | None = None,
    progress: bool = False, **settings: Any,
) -> Run:  # fmt: skip
    """Train parts of your own with the loop, checkpoints, resume and report that recipes get.

    ``X``: array or tree of arrays with rows on the leading axis; floats take the type of the model's parameters, 8-bit
    stays 8-bit. ``validation``: a fraction of the rows, or data like X. ``out``: a folder for the run; with
    ``resume=True`` an interrupted run in it is continued to the numbers it would have had. ``settings``: the fields of
    :class:`latens.training.Settings`. Returns the :class:`latens.run.Run`; the model holds the served weights.
    Raises ``InputError`` for data and options that cannot be used.

    >>> import latens
    >>> from torch import nn
    >>> model = latens.models.VAE(latens.priors.StandardNormal(1), latens.conditionals.DiagonalNormal(nn.Linear(3, 2)),
    ...                           latens.conditionals.Normal(nn.Linear(1, 3)))
    >>> run = latens.train(model, latens.objectives.ELBO(), np.random.default_rng(0).normal(size=(64, 3)), epochs=2)
    >>> len(run.history)
    1
    """
    chosen = Settings.from_json(settings)
    check_device(chosen.device)
    x = _tensors(X, model)
    conditions = _tensors(c, model)
    _check_conditions(model, conditions)
    count = trees.rows(x)
    if count < 2:
        raise InputError(f"the data have {count} row{'s' * (count != 1)}, and training needs at least 2 rows")
    weight = None if sample_weight is None else torch.as_tensor(np.asarray(sample_weight), dtype=torch.float32)
    check_weights(None if weight is None else weight.numpy(), count)
    held, held_c, held_weight, kept = None, None, None, torch.arange(count)
    if not isinstance(validation, str | int | float):
        held = _tensors(validation, model)
        if conditions is not None:
            raise InputError("with a condition c, give validation as a fraction of the rows")
    else:
        rows, out_rows = split_rows(count, validation, chosen.seed)
        if len(out_rows):
            held, held_c, held_weight = (trees.take(tree, out_rows) for tree in (x, conditions, weight))
            x, conditions, weight, kept = (trees.take(tree, rows) for tree in (x, conditions, weight, kept))
    settled = chosen.settle(trees.rows(x))
    print_of = fingerprint_tree((x, conditions, weight))
    data = {"fingerprint": print_of, "origin": "memory"}
    run = Run(model, objective, settled, trees.rows(x), _schema_of(X), data=data)
    run.choices["training"] = f"{_count(settled.epochs, 'epoch')}, {_count(settled.batch_size, 'row')} a step"
    if out is not None:
        _open_or_continue(run, Path(out), resume)
    bar = Bar() if progress else None
    execute(
        run, x, c=conditions, weight=weight, validation=held, validation_c=held_c, validation_weight=held_weight,
        numbers=kept, transform=transform, progress=bar,
    )  # fmt: skip
    return run


def _open_or_continue(run: Run, out: Path, resume: bool) -> None:
    if not (resume and (out / "run.json").exists()):
        open_folder(run, out)
        return
    record = runs.read_record(out)
    if record["data"].get("fingerprint") != run.data["fingerprint"]:
        raise InputError(f"{out} was begun with other data: continue it with the same rows, or choose another folder")
    if record["training"] != run.settings.to_json():
        changed = [k for k, v in run.settings.to_json().items() if record["training"].get(k) != v]
        raise InputError(f"{out} was begun with another {changed[0]}: continue it with the same settings")
    run.folder = out


def _tensors(values: Any, model: nn.Module) -> Tree:
    if values is None:
        return None
    if isinstance(values, dict):
        return {key: _tensors(value, model) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_tensors(value, model) for value in values)
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(as_array(values)[0]))
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    if tensor.is_floating_point():
        tensor = tensor.to(floats[0] if floats else None)
        if torch.isinf(tensor).any():
            raise InputError("the data hold an infinite value (or one beyond the model's float type): remove it")
    return tensor.detach()


def _schema_of(values: Any) -> Schema | None:
    if isinstance(values, dict | tuple):
        return None
    try:
        return infer(*as_array(values.detach().cpu().numpy() if isinstance(values, Tensor) else values))
    except InputError:
        return None


def _check_conditions(model: nn.Module, c: Tree) -> None:
    reads = getattr(model, "reads", None)
    unread = [key for key in c if key not in reads] if isinstance(c, dict) and reads is not None else []
    if unread:
        raise InputError(
            f"no part of the model reads the condition {unread[0]!r}: name it in a part's reads, or leave it out"
        )


def check_weights(weight: np.ndarray | None, rows: int) -> None:
    """``InputError`` unless there is one finite, non-negative weight a row and a positive one among them."""
    if weight is None:
        return
    if weight.shape != (rows,):
        raise InputError(f"sample_weight must have one number a row ({rows}), got shape {list(weight.shape)}")
    if not np.isfinite(weight).all() or (weight < 0).any() or not (weight > 0).any():
        raise InputError("sample_weight must be finite and non-negative, and not all zero")


def fingerprint_tree(x: Tree) -> str:
    """One fingerprint for a tree of tensors; that of its only tensor where it has one."""
    prints = [fingerprint(leaf.cpu().numpy()) for leaf in trees.leaves(x)]
    return prints[0] if len(prints) == 1 else runs.digest("".join(prints).encode())


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
