"""``latens density``: densities fitted to the codes of a run and kept in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latens import densities
from latens.cli.commands.answer import Answer
from latens.cli.commands.sources import figures_for, trained_on
from latens.densities import Fitted
from latens.densities.fitted import require_unconditional
from latens.densities.kinds import PRIOR, check_options
from latens.errors import InputError, concerning
from latens.runs import record as runs
from latens.runs.record import Run
from latens.training import Bar


def density(
    folder: str, data: str | None, *, kind: str, options: dict[str, Any], seed: int, own: str | None,
    labels: str | None = None, quiet: bool = False, reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Fit a density, or say that it is there."""
    if kind == PRIOR:
        raise InputError("the prior is part of the model: there is nothing to fit; name another --kind")
    options = check_options(kind, options)
    run = runs.load(folder, recipe=own)
    there = densities.load(folder, kind, run.model, options) if data is None else None
    if there is not None and there.record["seed"] == seed:
        return Answer(f"{folder} has it: {there.line()}", _figures(there) | {"fitted": False})
    fitted = _fit(run, folder, kind, options, data, labels, seed, quiet, reading)
    return Answer(f"fitted {fitted.line()}", _figures(fitted) | {"fitted": True})


def density_of(run: Run, folder: str, kind: str, *, quiet: bool = False) -> Fitted:
    """The density of that kind in the run's folder, whatever its options; fitted with the defaults where there is
    none."""
    there = densities.load(folder, kind, run.model)
    return there or _fit(run, folder, kind, {}, None, None, 0, quiet)


def _fit(
    run: Run, folder: str, kind: str, options: dict[str, Any], data: str | None, labels: str | None, seed: int,
    quiet: bool, reading: Mapping[str, Any] | None = None,
) -> Fitted:  # fmt: skip
    with concerning(folder):
        require_unconditional(() if run.given is None else run.given.conditions)
    if data is None:
        rows, where = trained_on(run, folder), f"{run.data.get('origin')}, training part"
    else:
        rows, where = figures_for(run, data, labels, reading)
    with concerning(folder):
        fitted = densities.fit(
            run.model, rows.inside, kind, options, c=rows.c, source=where, seed=seed,
            progress=None if quiet else Bar(kind),
        )  # fmt: skip
    densities.save(folder, fitted, run.model)
    return fitted


def _figures(fitted: Fitted) -> dict[str, Any]:
    return {"kind": fitted.kind, "options": fitted.options, **fitted.record}
