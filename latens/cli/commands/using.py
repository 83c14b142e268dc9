"""What is done with a fitted run: evaluate, encode, reconstruct, sample, score, report."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latens import evaluation
from latens import report as reporting
from latens.cli.commands import streaming
from latens.cli.commands.answer import Answer, over_seeds, table
from latens.cli.commands.densities import density_of
from latens.cli.commands.seeds import parts
from latens.cli.commands.sources import data_for, figures_for, held_out_of, stream_for, trained_on
from latens.data import require_output, write
from latens.data.rows import Rows, numbers_of
from latens.data.sources import option_of
from latens.data.writing import matrix_table
from latens.densities import Fitted
from latens.densities.kinds import PRIOR
from latens.errors import InputError
from latens.evaluation.synthetic import ORACLE, SyntheticEvaluation
from latens.machine.atomic import writable, write_bytes
from latens.report.pixels import model_layout, to_pixels
from latens.runs import imputing, outputs, scoring, synthesis
from latens.runs import record as runs
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import Table

TABLES = (".csv", ".tsv", ".parquet", ".feather")


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


def require_data(data: str | None, labels: str | None, reading: Mapping[str, Any] | None) -> None:
    """``InputError`` for options of data where none are named."""
    if data is None and labels is not None:
        raise InputError("--labels goes with DATA: without it, the labels of the run's own data are used")
    if data is None and reading:
        name = option_of(next(iter(reading)))
        raise InputError(f"{name} goes with DATA: without it, the run's own data are read as they were in fitting")


def evaluate(
    folder: str, data: str | None, *, k: int, draws: int, nll_rows: int, seed: int, own: str | None,
    labels: str | None = None, synthetic: bool = True, density: str = PRIOR, quiet: bool = False,
    reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Evaluate a run, or each of several seeds."""
    if folder and runs.has_seeds(folder):
        return over_seeds(Path(folder), [
            evaluate(str(part), data, k=k, draws=draws, nll_rows=nll_rows, seed=seed, own=own, labels=labels,
                     synthetic=False, reading=reading)
            for part in parts(Path(folder))
        ])  # fmt: skip
    require_data(data, labels, reading)
    run = runs.load(folder, recipe=own)
    rows, where = held_out_of(run, folder) if data is None else figures_for(run, data, labels, reading)
    figures = evaluation.evaluate(
        run.model, rows.inside, rows.c, k=k, draws=draws, nll_rows=nll_rows or None, seed=seed, beta=run.beta
    )
    figures.warnings += rows.warnings
    fitted = None if density == PRIOR else density_of(run, folder, density, quiet=quiet)
    figures.samples = _samples_of(run, folder, rows, seed, fitted) if synthetic else None
    lines = table(figures.lines(), f"{folder} on {where}")
    if figures.samples is not None:
        lines += ["", *_fidelity(figures.samples, "the prior" if fitted is None else density)]
    lines += [f"warning: {line}" for line in figures.warnings]
    return Answer("\n".join(lines), {"run": folder, "data": where, **figures.to_json()})


def _fidelity(samples: SyntheticEvaluation, density: str) -> list[str]:
    """How good samples are: the table, what is told beside it, and the notes."""
    cells = samples.table()
    widths = [max(map(len, column)) for column in zip(*cells)]
    rows = ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    title = f"samples ({density}) beside the rows it was fitted to; {ORACLE}: p(x|z) at the codes of those rows"
    beside = table(samples.lines(), "the same in detail (real: what rows held out would get)")
    return [title, *rows, *beside, *(f"  note: {line}" for line in samples.notes)]


def _samples_of(
    run: Run, folder: str, held: Rows, seed: int, density: Fitted | None = None
) -> SyntheticEvaluation | None:
    """How good samples of a run on a table are, where the rows it was fitted to can be had."""
    if not isinstance(run.schema, Table):
        return None
    try:
        train = trained_on(run, folder)
    except InputError:
        return None
    return None if len(train) == len(held) else synthesis.evaluate_samples(run, train, held, seed=seed, density=density)


def encode(
    folder: str, data: str, out: str, *, samples: int, seed: int, own: str | None, labels: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write codes: posterior means, or draws ``[samples, N, Z]``."""
    extension = require_free_output(out, folder, data)
    if samples > 1 and extension in TABLES:
        raise InputError(f"cannot write {out}: {samples} draws a row have three axes; write .npy or .npz")
    run = runs.load(folder, recipe=own)
    if (stream := stream_for(run, data, labels, reading)) is not None:
        return streaming.encode(run, stream, out, samples=samples, seed=seed)
    rows = data_for(run, data, labels, reading)
    z = outputs.codes(run, rows) if samples == 0 else outputs.posterior_samples(run, rows, samples, seed)
    if samples == 1:
        z = z[0]
    beside = _write(out, z, extension, [f"z{i}" for i in range(z.shape[-1])], rows)
    return _written(out, "codes", z.shape, rows.warnings, beside)


def reconstruct(
    folder: str, data: str, out: str, *, own: str | None, labels: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write the decoded posterior means of data, in its layout and units."""
    extension = require_free_output(out, folder, data)
    run = runs.load(folder, recipe=own)
    if (stream := stream_for(run, data, labels, reading)) is not None:
        return streaming.reconstruct(run, stream, out)
    rows = data_for(run, data, labels, reading)
    _require_table_for(out, extension, rows)
    x = outputs.reconstructed(run, rows)
    beside = _write(out, outputs.written(x, run, rows, out), extension, rows.names, rows)
    return _written(out, "reconstructions", shape_of(x), rows.warnings, beside)


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
        _write(out, outputs.written(x, run, out=out), extension, schema.names)
    return _written(out, "samples" if fitted is None else f"samples ({fitted.line()})", shape_of(x))


def impute(
    folder: str, data: str, out: str, *, k: int, draws: int, uncertainty: str | None, seed: int, own: str | None,
    labels: str | None = None, reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write data with its missing cells filled, and what is not known of them."""
    extension = require_free_output(out, folder, data)
    if uncertainty is not None:
        if require_free_output(uncertainty, folder, data) not in TABLES:
            raise InputError(
                f"cannot write {uncertainty}: uncertainties are a table; the file must be {', '.join(TABLES)}"
            )
        if Path(uncertainty).resolve() == Path(out).resolve():
            raise InputError(f"--uncertainty and --out name the same file {out}; name two")
    run = runs.load(folder, recipe=own)
    if (stream := stream_for(run, data, labels, reading)) is not None:
        return streaming.impute(run, stream, out, k=k, draws=draws, uncertainty=uncertainty, seed=seed)
    rows = data_for(run, data, labels, reading)
    _require_table_for(out, extension, rows)
    found = imputing.impute(run, rows, k=k, draws=draws, seed=seed)
    copies = [outputs.written(each, run, rows, out) for each in found.draws or [found.filled]]
    if draws and hasattr(rows.x, "column_names"):
        copies = [rows.named(copy) for copy in copies]
    filled = stacked(copies) if draws else copies[0]
    _write(out, filled, extension, rows.names, None if draws else rows)
    if uncertainty is not None and found.spread is not None:
        write(uncertainty, rows.named(found.spread))
    total = sum(found.missing.values())
    most = ", ".join(f"{name} {count:,}" for name, count in sorted(found.missing.items(), key=lambda i: -i[1])[:5])
    note = f"filled {total:,} missing cells" + (f" ({most})" if most else "") + (f", {draws} times" if draws else "")
    warnings = rows.warnings + imputing.notes(found.missing, rows.unknown, found.left)
    if draws and hasattr(rows.x, "column_names"):
        warnings += imputing.copy_notes(rows.x.column_names)
    answer = _written(out, note + "; rows", shape_of(filled), warnings)
    return Answer(answer.text, answer.figures | {"filled": found.missing, "k": k, "draws": draws})


def stacked(tables: list[Any]) -> Any:
    """Filled copies below each other, the number of the copy in the first column."""
    if not hasattr(tables[0], "column_names"):
        return np.concatenate(tables)
    import pyarrow as pa

    return pa.concat_tables(imputing.numbered(t, i) for i, t in enumerate(tables)).unify_dictionaries()


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise InputError(f"--set must be CONDITION=VALUE, for example cut=Ideal, got {word!r}")
    return name, value


def shape_of(x: Any) -> list[int]:
    return [x.num_rows, x.num_columns] if hasattr(x, "column_names") else list(x.shape)


def _write(
    out: str, x: Any, extension: str, names: Sequence[str] | None, rows: Rows | None = None
) -> Path | None:  # fmt: skip
    """Write data in the user's form, with what names the ``rows`` that it is of: a table with its types, an array with
    names of its columns where it goes to a table, and flat."""
    called = None if rows is None or rows.row_names is None else (rows.row_kind, rows.row_names)
    is_table = hasattr(x, "column_names")
    if extension in TABLES:
        if not is_table:
            x = matrix_table(out, x.reshape(len(x), -1) if x.ndim > 2 else x, names)
        x = x if rows is None else rows.named(x)
    elif is_table:
        from latens.data.rows import as_matrix

        x = as_matrix(x)
    return write(out, x, rows=called)


def _require_table_for(out: str, extension: str, rows: Rows) -> None:
    """``InputError`` where rows with a column that is no number would go to an array."""
    if extension in TABLES or not isinstance(rows.schema, Table):
        return
    for name, cells in zip(rows.x.column_names, rows.x.columns):
        if rows.x.num_rows and numbers_of(cells[:1]) is None:
            raise InputError(
                f"cannot write {out}: the column {name!r} holds no numbers; rows of mixed columns go to "
                f"{', '.join(TABLES)}"
            )


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


def _written(
    out: str, what: str, shape: Sequence[int], warnings: Sequence[str] = (), beside: Path | None = None
) -> Answer:  # fmt: skip
    lines = [f"wrote {out}: {what} {list(shape)}", *_beside(beside), *(f"warning: {text}" for text in warnings)]
    return Answer("\n".join(lines), {"out": out, "shape": list(shape), "warnings": list(warnings)})


def _beside(names: Path | None) -> list[str]:
    return [] if names is None else [f"wrote {names}: what each row is called, a line each"]


def score(
    folder: str, data: str, out: str, *, k: int, own: str | None, labels: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write ln p(x) of each row; in a table also its standard error and effective sample size, the calibrated p-value,
    the columns that make the row strange, and the reason where values alone do."""
    extension = require_free_output(out, folder, data)
    run = runs.load(folder, recipe=own)
    if (stream := stream_for(run, data, labels, reading, lenient=True)) is not None:
        return streaming.score(run, stream, out, k=k)
    rows = data_for(run, data, labels, reading, check=False)
    scoring.require_score(run, rows)
    calibration = scoring.read_calibration(Path(folder))
    found = scoring.score(run, rows, k, calibration)
    x = scoring.as_table(found, schema_of(run)) if extension in TABLES else found.log_px
    beside = _write(out, x, extension, None, rows)
    tally = scoring.Tally(run, k, calibration)
    tally.add(found, rows)
    return streaming.scored(out, tally, _beside(beside))


def report(
    folder: str, data: str | None, *, out: str | None, labels: str | None, own: str | None,
    reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write the report anew, on named data or the rows that were held out."""
    if out is not None:
        if Path(out).suffix.lower() not in (".html", ".htm"):
            raise InputError(f"cannot write {out}: the report is a page; the extension must be .html")
        writable(out)
    run = runs.load(folder, recipe=own)
    require_data(data, labels, reading)
    if data is None:
        rows, _ = held_out_of(run, folder)
    else:
        rows, _ = figures_for(run, data, labels, reading)
    figures = evaluation.evaluate(run.model, rows.inside, rows.c, k=50, nll_rows=500, beta=run.beta)
    figures.samples = _samples_of(run, folder, rows, 0)
    path = Path(out) if out else Path(folder) / "report.html"
    reporting.write(path, run, rows, evaluation=figures)
    figures.warnings += rows.warnings
    text = "\n".join([f"wrote {path}", *(f"warning: {line}" for line in rows.notes)])
    return Answer(text, {"report": str(path), **figures.to_json()})
