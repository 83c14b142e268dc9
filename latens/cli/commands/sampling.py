"""``latens sample``: new data from a fitted run."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np

from latens.cli.commands.answer import Answer
from latens.cli.commands.densities import density_of
from latens.cli.commands.using import TABLES, require_free_output, written
from latens.data.streams.writing import Writer
from latens.densities.kinds import PRIOR
from latens.errors import InputError
from latens.machine.atomic import write_bytes
from latens.report.pixels import model_layout, to_pixels
from latens.runs import outputs
from latens.runs import record as runs
from latens.runs.outputs import schema_of
from latens.schema import Table


def sample(
    folder: str, out: str, *, n: int, mean: bool, seed: int, own: str | None, given: Sequence[str] | None = None,
    density: str = PRIOR, gaps: bool = True, extrapolate: bool = False, quiet: bool = False,
) -> Answer:  # fmt: skip
    """Write new data from the model, or a picture of it."""
    extension = require_free_output(out, folder, more=(".png",))
    run = runs.load(folder, recipe=own)
    schema = schema_of(run)
    if extension == ".png" and not schema.is_image:
        raise InputError(f"{out}: these samples are rows of columns, not images; write .npy or .csv")
    pairs = [_pair(word) for word in given or ()]
    if len(dict(pairs)) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise InputError(f"--set gives {twice!r} twice; say it once")
    mixed = isinstance(schema, Table) and any(f.outputs_codes or f.value is not None for f in schema.fields)
    if mixed and extension in (".npy", ".npz"):
        raise InputError(f"cannot write {out}: samples of a table of mixed columns go to {', '.join(TABLES)}")
    fitted = None if density == PRIOR else density_of(run, folder, density, quiet=quiet)
    x = outputs.sample(run, n, mean=mean, seed=seed, given=dict(pairs), density=fitted, missing=gaps,
                       extrapolate=extrapolate)  # fmt: skip
    if extension == ".png":
        write_bytes(out, _picture(to_pixels(schema, model_layout(schema, x))))  # type: ignore[arg-type]
    else:
        with Writer(out, n, schema.names) as writer:
            writer.write(outputs.written(x, run, out=out))
    shape = [len(x), *x.shape[1:]]
    return written(out, "samples" if fitted is None else f"samples ({fitted.line()})", shape)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise InputError(f"--set must be CONDITION=VALUE, for example cut=Ideal, got {word!r}")
    return name, value


def _picture(images: np.ndarray) -> bytes:
    """8-bit images in a square grid as a PNG, white lines between them."""
    from PIL import Image

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
