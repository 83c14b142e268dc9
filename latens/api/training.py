"""``latens.train``: train a model made of your own parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latens import report
from latens.data import as_array, datasets, fingerprint, infer
from latens.data.datasets import is_dataset
from latens.data.lazy import Lazy
from latens.data.loader import Transform
from latens.data.splits import split_rows
from latens.errors import InputError, concerning
from latens.evaluation import evaluate
from latens.evaluation.likelihood import on_device, require_support
from latens.machine.folder import Folder
from latens.networks import has_convolutions, only_linear_maps
from latens.objectives import Objective
from latens.runs import record as runs
from latens.runs.fitting import ModelRows, check_weights, counted, execute, open_folder
from latens.runs.record import Run
from latens.schema import Schema
from latens.tensors import trees
from latens.tensors.randomness import untouched
from latens.tensors.trees import Tree
from latens.training import Bar, Callback, Settings
from latens.training.callbacks import check_callbacks
from latens.training.processes import Processes, check_device


def train(
    model: nn.Module, objective: Objective, X: Any, *, out: str | Path | None = None, validation: Any = 0.0,
    c: Tree = None, sample_weight: Any = None, resume: bool = False, transform: Transform | None = None,
    progress: bool = False, callbacks: Sequence[Callback] = (), **settings: Any,
) -> Run:  # fmt: skip
    """Train a model made of your own parts, with the loop, checkpoints, resume and report of the recipes.

    Args:
        model: a :class:`latens.models.VAE`, or a module with its methods; it is trained in place.
        objective: one of :mod:`latens.objectives`, or an instance of your own subclass.
        X: an array, a tree of arrays with rows on the leading axis, or a map-style dataset of torch, whose items are
            rows, pairs of a row and a label (which is ignored), or mappings of rows. Floats are converted to the dtype
            of the model's parameters. Whole numbers keep their dtype (latens' conditionals convert them in each step).
        out: a folder for the run; without it, nothing is written.
        validation: a fraction of the rows, or data like X.
        c: conditions, a tree of arrays ``[N, ...]``.
        sample_weight: one number per row, ``[N]``.
        resume: whether to continue an interrupted run in ``out``; the result is the same as without the interruption.
        transform: a random transform of the rows in each step, such as mirroring images.
        progress: whether to show a bar.
        callbacks: a list of :class:`latens.training.Callback`, which follow the run and may stop it.
        **settings: fields of :class:`latens.training.settings.Settings`, for example ``epochs=20``.

    Returns:
        The :class:`latens.runs.record.Run`; ``run.history`` has one entry per validation.

    Raises:
        InputError: data or options that cannot be used.

    >>> import latens
    >>> from torch import nn
    >>> posterior = latens.conditionals.DiagonalNormalPosterior(nn.Linear(3, 2))
    >>> likelihood = latens.conditionals.NormalLikelihood(nn.Linear(1, 3))
    >>> model = latens.models.VAE(latens.priors.StandardNormal(1), posterior, likelihood)
    >>> run = latens.train(model, latens.objectives.ELBO(), np.random.default_rng(0).normal(size=(64, 3)), epochs=2)
    >>> len(run.history)
    1
    """
    if not isinstance(objective, Objective):
        raise InputError(f"the objective must be one of latens.objectives or a subclass of one, got {objective!r}")
    chosen, followers = Settings.from_json(settings), check_callbacks(callbacks)
    check_device(chosen.device)
    given = _rows(X, c, sample_weight, model)
    require_support(model, _transformed(given.x, transform, chosen.seed), given.c)
    rows, held = _divided(given, validation, model, transform, chosen)
    settled = chosen.settle(len(rows), linear=only_linear_maps(model), convolutions=has_convolutions(model))
    data = {
        "fingerprint": fingerprint_tree((rows.x, rows.c, rows.weight)), "origin": "memory",
        "objective": described(objective), "validation": None if held is None else fingerprint_tree(held.x),
    }  # fmt: skip
    run = Run(model, objective, settled, len(rows), _schema_of(given.x), data=data)
    run.choices["training"] = f"{counted(settled.epochs, 'epoch')}, {counted(settled.batch_size, 'row')} per step"
    _try(model, objective, _transformed(trees.take(rows.x, slice(0, 2)), transform, chosen.seed), rows.c)
    if out is not None:
        _open_or_continue(run, Path(out), resume)
    execute(run, rows, held, transform=transform, progress=Bar() if progress else None, callbacks=followers)
    if run.folder is not None and Processes(settled.device).is_main:
        _report(run, _transformed((held or rows).x, transform, chosen.seed), conditioned=given.c is not None)
    return run


def _rows(X: Any, c: Tree, sample_weight: Any, model: nn.Module) -> ModelRows:
    """Rows, conditions and weights as tensors for the model."""
    x, conditions = _tensors(X, model), _tensors(c, model)
    _check_conditions(model, conditions)
    count = trees.rows(x)
    if count < 2:
        raise InputError(f"the number of rows must be at least 2, got {count}")
    weight = None if sample_weight is None else torch.as_tensor(np.asarray(sample_weight), dtype=torch.float32)
    check_weights(None if weight is None else weight.numpy(), count)
    return ModelRows(x, conditions, weight, torch.arange(count))


def _divided(
    rows: ModelRows, validation: Any, model: nn.Module, transform: Transform | None, settings: Settings
) -> tuple[ModelRows, ModelRows | None]:
    """(training rows, held-out rows). The held-out rows are a part of ``rows``, other data of the same shape, or
    None."""
    if isinstance(validation, str | int | float):
        kept, out = split_rows(len(rows), validation, settings.seed)
        if not len(out):
            return rows, None
        held = ModelRows(*(trees.take(tree, out) for tree in (rows.x, rows.c, rows.weight)))
        return rows.take(kept), held
    held = ModelRows(_tensors(validation, model))
    wanted, shape = ([tuple(leaf.shape[1:]) for leaf in trees.leaves(each.x)] for each in (rows, held))
    if wanted != shape or len(held) < 1:
        raise InputError(
            f"the validation data must be rows like X, of shape {wanted}, got {len(held)} rows of shape {shape}"
        )
    if rows.c is not None:
        what = "the rows have conditions c, but separate validation data cannot have any"
        raise InputError(what, "give validation as a fraction of the rows")
    with concerning("the validation data"):
        require_support(model, _transformed(held.x, transform, settings.seed))
    return rows, held


def _report(run: Run, x: Tree, *, conditioned: bool) -> None:
    """Write report.html; it has pictures and figures of ``x`` if that is a single array with a schema."""
    assert run.folder is not None
    if run.schema is None or conditioned:
        report.write(Folder(run.folder) / "report.html", run, None)
        return
    run.model.to("cpu")
    try:
        figures = evaluate(run.model, x, k=50, nll_rows=500, beta=run.beta)
        report.write(Folder(run.folder) / "report.html", run, x.numpy(), evaluation=figures)
    except (NotImplementedError, RuntimeError, TypeError, AttributeError):  # parts lack a method that reports need
        report.write(Folder(run.folder) / "report.html", run, None)


def _transformed(x: Tree, transform: Transform | None, seed: int) -> Tree:
    """The rows after the transform, as in a training step."""
    return x if transform is None or x is None else transform(x, torch.arange(trees.rows(x)), seed)


def _try(model: nn.Module, objective: Objective, x: Tree, c: Tree) -> None:
    """Compute the loss of two rows before anything is written; ``InputError`` if the parts fail."""
    x, c = on_device(model, slice(0, 2), x, c)
    try:
        with torch.no_grad(), untouched():
            objective.losses(model, x, objective.draw(model, x, c))
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        shapes = ", ".join(str(list(leaf.shape[1:])) for leaf in trees.leaves(x))
        sentence = " ".join(str(error).split())
        raise InputError(f"the model fails on rows of shape {shapes}: {sentence}") from error


def described(objective: Objective) -> str:
    """The objective's type and numbers, by which a resumed run recognises the objective.

    >>> from latens.objectives import ELBO
    >>> described(ELBO(beta=2.0))
    "ELBO(beta=2.0, kl='auto', samples=1)"
    """
    plain = {k: v for k, v in vars(objective).items() if isinstance(v, int | float | str) and k[0] != "_"}
    plain.pop("training", None)
    inner = [described(part) for part in objective.children() if isinstance(part, Objective)]
    return f"{type(objective).__name__}({', '.join([*inner, *(f'{k}={v!r}' for k, v in sorted(plain.items()))])})"


def _open_or_continue(run: Run, out: Path, resume: bool) -> None:
    if not (resume and (out / "run.json").exists()):
        open_folder(run, out)
        return
    record = runs.read_record(out)
    if record["data"].get("fingerprint") != run.data["fingerprint"]:
        raise InputError(f"{out} was begun with other data", "continue it with the same rows, or choose another folder")
    for what in ("objective", "validation"):
        if record["data"].get(what) != run.data[what]:
            raise InputError(f"{out} was begun with another {what}", f"use the same {what}, or choose another folder")
    if record["training"] != run.settings.to_json():
        changed = [k for k, v in run.settings.to_json().items() if record["training"].get(k) != v]
        raise InputError(f"{out} was begun with another {changed[0]}", "continue it with the same settings")
    run.folder = out


def _tensors(values: Any, model: nn.Module) -> Tree:
    if values is None:
        return None
    if isinstance(values, dict):
        return {key: _tensors(value, model) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_tensors(value, model) for value in values)
    if is_dataset(values):
        return _tensors(datasets.tree(values), model)
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(as_array(values)[0]))
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    if tensor.is_floating_point():
        tensor = tensor.to(floats[0] if floats else None)
        if torch.isinf(tensor).any():
            raise InputError("the data hold a value that is infinite in the model's float type", "remove it")
    return tensor.detach()


def _schema_of(x: Tree) -> Schema | None:
    """The schema of a single array whose values are already in the schema's storage form; None for anything else."""
    if not isinstance(x, Tensor):
        return None
    try:
        schema = infer(x.cpu().numpy())
    except InputError:  # for example missing cells, which some parts take but schemas of arrays do not
        return None
    if x.is_floating_point() and (schema.span or not schema.is_discrete):
        schema = replace(schema, storage=str(x.dtype).removeprefix("torch."))
    same = schema.shape == tuple(x.shape[1:]) and getattr(torch, schema.storage) == x.dtype
    return schema if same else None


def _check_conditions(model: nn.Module, c: Tree) -> None:
    reads = getattr(model, "reads", None)
    unread = [key for key in c if key not in reads] if isinstance(c, dict) and reads is not None else []
    if unread:
        raise InputError(
            f"no part of the model reads the condition {unread[0]!r}", "name it in a part's `reads`, or omit it"
        )


def fingerprint_tree(x: Tree) -> str:
    """The fingerprint of a tree of tensors; for a single tensor, its own."""
    prints = [fingerprint(leaf if isinstance(leaf, Lazy) else leaf.cpu().numpy()) for leaf in trees.leaves(x)]
    return prints[0] if len(prints) == 1 else runs.digest("".join(prints).encode())
