"""``latens sample``: new rows from a run. ``latens density``: a density of its codes, from which to draw."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latens import densities
from latens.cli.commands.answer import Answer
from latens.cli.commands.inputs import figures_for, pairs, row_bar, trained_on
from latens.cli.commands.using import TABLES, loaded, require_free_output, written
from latens.data.streams.writer import Writer
from latens.densities import Fitted
from latens.densities.fitted import require_unconditional
from latens.densities.kinds import PRIOR, check_options
from latens.errors import InputError, concerning
from latens.machine.atomic import address_of, terminable, write_bytes
from latens.runs import outputs
from latens.runs import record as runs
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import Schema, Table
from latens.training import Bar


def density(
    folder: str, data: str | None, *, kind: str, options: dict[str, Any], seed: int, own: str | None,
    labels: str | None = None, quiet: bool = False, reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Fit a density and store it in the run's folder, unless the folder has it already."""
    if kind == PRIOR:
        raise InputError(
            "--kind prior: the prior is part of the model", "name a density to fit, for example --kind mixture"
        )
    options = check_options(kind, options)
    run = runs.load(folder, recipe=own)
    there = densities.load(folder, kind, run.model, options) if data is None else None
    if there is not None and there.record["seed"] == seed:
        return Answer(f"{folder} already has this density: {there.line()}", _figures(there) | {"fitted": False})
    fitted = _fit(run, folder, kind, options, data, labels, seed, quiet, reading)
    return Answer(f"fitted {fitted.line()}", _figures(fitted) | {"fitted": True})


def density_of(run: Run, folder: str, kind: str, *, quiet: bool = False) -> Fitted:
    """The density of a kind in the run's folder, with any options; if there is none, it is fitted with the defaults."""
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


# Samples


def sample(
    folder: str | Run, out: str, *, n: int, mean: bool, seed: int, own: str | None, given: Sequence[str] | None = None,
    density: str = PRIOR, gaps: bool = True, extrapolate: bool = False, quiet: bool = False,
) -> Answer:  # fmt: skip
    """Write new rows from the model, or a picture of them."""
    extension = require_free_output(out, folder, more=(".png",))
    run = loaded(folder, own)
    schema = schema_of(run)
    if extension == ".png" and not schema.is_image:
        raise InputError(f"cannot write {out}: these samples are rows of columns, not images", "write .npy or .csv")
    conditions = pairs(given, "--set", "CONDITION=VALUE, for example cut=Ideal", says="gives", empty=True)
    mixed = isinstance(schema, Table) and any(f.outputs_codes or f.value is not None for f in schema.fields)
    if mixed and extension in (".npy", ".npz"):
        raise InputError(
            f"cannot write {out}: an array cannot hold a table of mixed columns", f"write one of {', '.join(TABLES)}"
        )
    fitted = None if density == PRIOR else density_of(run, str(run.folder), density, quiet=quiet)
    asked: dict[str, Any] = {"mean": mean, "seed": seed, "given": conditions, "density": fitted, "missing": gaps,
                             "extrapolate": extrapolate}  # fmt: skip
    if extension == ".png":
        x = outputs.sample(run, n, **asked)
        write_bytes(out, _picture(schema, x))  # type: ignore[arg-type]
    else:
        _require_space(out, n, schema.columns)
        bar, writer = row_bar(f"writing {Path(out).name}", n, quiet), Writer(out, n, schema.names)
        with terminable(), outputs.sampling(run, n, **asked) as windows, writer, bar as done:
            for x in windows:
                writer.write(outputs.written(x, run, out=out))
                done(writer.shape[0])
    return written(out, "samples" if fitted is None else f"samples ({fitted.line()})", [n, *x.shape[1:]])


def _require_space(out: str, rows: int, columns: int) -> None:
    """Raise ``InputError`` if the rows cannot fit on the disk, even at one bit per cell."""
    if address_of(out) is None:
        needed, there = rows * columns // 8, shutil.disk_usage(Path(out).resolve().parent).free
        if needed > there:
            raise InputError(
                f"{rows:,} samples would take at least {needed / 2**30:,.0f} GiB on the disk of {out}, but only "
                f"{there / 2**30:,.0f} are free",
                "ask for fewer samples",
            )


def _picture(schema: Schema, x: np.ndarray) -> bytes:
    """A PNG of images ``x [N, *user_shape]`` in a square grid, with white lines between them."""
    from PIL import Image

    from latens.report.pixels import model_layout, to_pixels

    images = to_pixels(schema, model_layout(schema, x))
    across = math.ceil(math.sqrt(len(images)))
    height, width = images.shape[1] + 1, images.shape[2] + 1
    down = math.ceil(len(images) / across)
    sheet = np.full((height * down - 1, width * across - 1, *images.shape[3:]), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // across * height, number % across * width
        sheet[top : top + height - 1, left : left + width - 1] = image
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    return file.getvalue()
