"""What is done with a fitted run: evaluate, encode, reconstruct, sample, score, report."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch

from latens import evaluation
from latens import report as reporting
from latens import run as runs
from latens.atomic import writable, write_bytes
from latens.commands.answer import Answer, over_seeds, table
from latens.commands.fitting import parts
from latens.commands.sources import aligned, data_for, held_out_of, read_for, schema_of, tensor
from latens.data import require_output, write
from latens.errors import InputError
from latens.estimator import VAE, load
from latens.report.pixels import model_layout, to_pixels

TABLES = (".csv", ".tsv")


def require_free_output(out: str, folder: str, data: str | None = None, more: tuple[str, ...] = ()) -> str:
    """The extension of an output file, asked for before long work; ``InputError`` where it cannot be written, or
    where it would replace the data that were read or a part of the run."""
    extension = require_output(out, more)
    target = Path(out).resolve()
    if data is not None and Path(data).exists() and target == Path(data).resolve():
        raise InputError(f"cannot write {out}: it is the data that is read; name another file")
    if target.parent == Path(folder).resolve() and target.name in runs.PARTS:
        raise InputError(f"cannot write {out}: it is a part of the run; name another file")
    return extension


def opened(folder: str, own: str | None) -> VAE:
    """The run's estimator; columns are brought in order by name on reading, so arrays need no names any more."""
    vae = load(folder, recipe=own)
    vae.__dict__.pop("feature_names_in_", None)
    return vae


def evaluate(
    folder: str, data: str | None, *, k: int, draws: int, nll_rows: int | None, seed: int, own: str | None
) -> Answer:
    """Evaluate a run, or each of several seeds."""
    if folder and runs.has_seeds(folder):
        return over_seeds(Path(folder), [
            evaluate(str(part), data, k=k, draws=draws, nll_rows=nll_rows, seed=seed, own=own)
            for part in parts(Path(folder))
        ])  # fmt: skip
    vae = opened(folder, own)
    if data is None:
        x, _, _, where = held_out_of(vae.run_, folder)
    else:
        x, where = data_for(vae, data), data
    figures = evaluation.evaluate(
        vae.model_, tensor(vae.run_, x), k=k, draws=draws, nll_rows=nll_rows, seed=seed, beta=vae.run_.beta
    )
    text = "\n".join([*table(figures.lines(), f"{folder} on {where}"), *(f"warning: {w}" for w in figures.warnings)])
    return Answer(text, {"run": folder, "data": where, **figures.to_json()})


def encode(folder: str, data: str, out: str, *, samples: int, seed: int, own: str | None) -> Answer:
    """Write codes: posterior means, or draws ``[samples, N, Z]``."""
    extension = require_free_output(out, folder, data)
    if samples > 1 and extension in TABLES:
        raise InputError(f"cannot write {out}: {samples} draws a row have three axes; write .npy or .npz")
    vae = opened(folder, own)
    x = data_for(vae, data)
    z = vae.transform(x) if samples == 0 else vae.sample_posterior(x, samples, random_state=seed)
    if samples == 1:
        z = z[0]
    write(out, z, names=[f"z{i}" for i in range(z.shape[-1])] if z.ndim == 2 else None)
    return _written(out, "codes", z)


def reconstruct(folder: str, data: str, out: str, *, own: str | None) -> Answer:
    """Write the decoded posterior means of data, in its layout and units."""
    extension = require_free_output(out, folder, data)
    vae = opened(folder, own)
    x = vae.reconstruct(data_for(vae, data))
    write(out, _flat(x, extension), names=schema_of(vae.run_).names)
    return _written(out, "reconstructions", x)


def sample(folder: str, out: str, *, n: int, mean: bool, seed: int, own: str | None) -> Answer:
    """Write new data from the model, or a picture of it."""
    extension = require_free_output(out, folder, more=(".png",))
    vae = opened(folder, own)
    schema = schema_of(vae.run_)
    if extension == ".png" and not schema.is_image:
        raise InputError(f"{out}: these samples are rows of columns, not images; write .npy or .csv")
    x = vae.sample(n, mean=mean, random_state=seed)
    if extension == ".png":
        write_bytes(out, _picture(to_pixels(schema, model_layout(schema, x))))
    else:
        write(out, _flat(x, extension), names=schema.names)
    return _written(out, "samples", x)


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


def _flat(x: np.ndarray, extension: str) -> np.ndarray:
    return x.reshape(len(x), -1) if x.ndim > 2 and extension in TABLES else x


def _written(out: str, what: str, x: np.ndarray) -> Answer:
    return Answer(f"wrote {out}: {what} {list(x.shape)}", {"out": out, "shape": list(x.shape)})


def score(folder: str, data: str, out: str, *, k: int, own: str | None) -> Answer:
    """Write log_px of each row; in a table also its standard error and effective sample size."""
    extension = require_free_output(out, folder, data)
    vae = opened(folder, own)
    x = tensor(vae.run_, data_for(vae, data))
    if not vae.model_.draw(x[:1]).has_density:
        raise InputError(f"{folder}: this autoencoder has no density q(z|x), so its rows have no score: fit a VAE")
    found = evaluation.nll(vae.model_, x, k, shared_noise=True)
    columns = torch.stack([-found.rows, found.row_error, found.ess], 1).numpy()
    if extension in TABLES:
        write(out, columns, names=["log_px", "standard_error", "effective_sample_size"])
    else:
        write(out, columns[:, 0])
    text = f"wrote {out}: lower bounds on ln p(x) of {len(columns):,} rows, nats (K = {k}); mean {-found.mean:.3f}"
    figures = {"out": out, "rows": len(columns), "k": k, "mean": -found.mean, "standard_error": found.standard_error}
    return Answer(text, figures)


def report(folder: str, data: str | None, *, out: str | None, labels: str | None, own: str | None) -> Answer:
    """Write the report anew, on named data or the rows that were held out."""
    if out is not None:
        if Path(out).suffix.lower() not in (".html", ".htm"):
            raise InputError(f"cannot write {out}: the report is a page; the extension must be .html")
        writable(out)
    vae = opened(folder, own)
    run = vae.run_
    if data is None:
        if labels is not None:
            raise InputError("--labels goes with DATA: without it, the labels of the run's own data are used")
        x, found, names, _ = held_out_of(run, folder)
    else:
        source = read_for(run, data, labels)
        x, found, names = aligned(source, schema_of(run)), source.labels, source.label_names
    figures = evaluation.evaluate(run.model, tensor(run, x), k=50, nll_rows=500, beta=run.beta)
    path = Path(out) if out else Path(folder) / "report.html"
    reporting.write(path, run, x, labels=found, label_names=names, evaluation=figures)
    return Answer(f"wrote {path}", {"report": str(path), **figures.to_json()})
