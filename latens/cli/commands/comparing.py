"""``latens compare`` and ``latens demo``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latens import evaluation
from latens import report as reporting
from latens.cli.commands.answer import Answer, aligned
from latens.cli.commands.fitting import Fit
from latens.cli.commands.inputs import held_out, rows_for
from latens.cli.commands.inputs import reading as read_as
from latens.cli.commands.many import fit
from latens.data import Source, infer, read
from latens.data.lazy import Lazy
from latens.data.rows import Rows, as_matrix, rows_of
from latens.data.sources import check_reading
from latens.errors import InputError, concerning
from latens.evaluation.baselines import BASELINES
from latens.machine.atomic import writable, write_text
from latens.machine.folder import Folder
from latens.recipes.choices import DataInfo, likelihood_name
from latens.runs import comparing
from latens.runs import record as runs
from latens.training import Bar, Settings

DENSITY_NOTE = (
    "energy: distance between codes of held-out rows and codes drawn from the prior, or from a density fitted to "
    "codes of training rows; of data: distance between held-out rows and decoded draws (in standard deviations of "
    "the data)."
)
BASELINE_NOTE = (
    "baselines have no codes, and hence no other figures. If values are levels, a density is that of x + u with u in "
    "[0, 1), whose NLL is an upper bound on the discrete NLL; shares of levels are exact."
)


def compare(
    data: str, *, dims: str, validation: str | None, out: str | None, about: dict[str, Any], reading: dict[str, Any],
    likelihood: str, settings: dict[str, Any], k: int, quiet: bool, densities: str = "", recipes: str = "ae,vae",
    baselines: str = "",
) -> Answer:  # fmt: skip
    """Compare PCA and recipes on the same data at each latent dimension."""
    if out is not None:
        _require_room(out, densities)
    sizes = _dims(dims)
    reading, drop = read_as(reading), tuple(about["drop"] or ())
    check_reading(reading, [data] if validation is None else [data, validation])
    source = read(data, labels=about["labels"], drop=drop, reading=reading)
    with concerning(source.origin):
        x = as_matrix(source.x) if source.is_table else source.x
        schema: Any = rows_of(x, source.names).schema if isinstance(x, Lazy) else infer(x, source.names)
    likelihood_name(DataInfo(schema, len(x)), likelihood)
    other = None if validation is None else rows_for(read(validation, drop=drop, reading=reading), schema, None)
    start = time.monotonic()
    found = comparing.compare(
        _dense(x), schema, sizes, Settings.from_json(settings), labels=source.labels,
        held_out=None if other is None else _dense(other.x), held_out_labels=None if other is None else other.labels,
        options={"likelihood": likelihood}, k=k, densities=list(filter(None, densities.split(","))),
        recipes=list(filter(None, recipes.split(","))), progress=_bars(quiet),
        baselines=list(BASELINES) if baselines == "all" else list(filter(None, baselines.split(","))),
    )  # fmt: skip
    seconds = time.monotonic() - start
    more = {"data": source.origin, "held_out_rows": len(found.held_out), "seconds": round(seconds, 1)}
    figures = found.to_json() | more
    notes = (*source.notes, *(() if other is None else other.notes))
    text = "\n".join([comparison_text(found, source.origin), *(f"warning: {note}" for note in notes)])
    if out is not None:
        _write_comparison(found, out, figures, source)
        text += f"\nwrote {out}"
    return Answer(text, figures)


def _require_room(out: str, densities: str) -> None:
    """Raise ``InputError`` if the comparison cannot be written to ``out``."""
    if Path(out).suffix not in (".html", ".json", ".csv"):
        raise InputError(f"cannot write {out}: the extension must be .html, .json or .csv")
    if densities and out.endswith(".csv"):
        raise InputError(f"cannot write {out}, as a .csv cannot hold the densities", "write .html or .json")
    writable(out)


def _bars(quiet: bool) -> Callable[[str], Bar] | None:
    return None if quiet else lambda title: Bar(f"{title:<6}")


def _dense(x: Any) -> np.ndarray:
    return x[:].numpy() if isinstance(x, Lazy) else x


def _write_comparison(found: comparing.Comparison, out: str, figures: dict[str, Any], source: Source) -> None:
    if out.endswith(".html"):
        run = found.runs[max(found.runs, key=lambda key: (key[0] == "vae", key[1]))]
        run.data["origin"] = source.origin
        assert run.schema is not None
        rows = Rows(found.held_out, run.schema, labels=found.labels, label_names=source.label_names)
        summary = evaluation.evaluate(run.model, rows.inside, rows.c, k=50, nll_rows=500)
        reporting.write(out, run, rows, evaluation=summary, comparison=found)
    elif out.endswith(".json"):
        write_text(out, json.dumps(figures, indent=1, default=float) + "\n")
    else:
        names = list(vars(found.rows[0]))
        lines = [",".join("" if v is None else str(v) for v in vars(row).values()) for row in found.rows]
        write_text(out, "\n".join([",".join(names), *lines]) + "\n")


def _dims(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--latent-dims must be whole numbers separated by commas, got {text!r}") from None
    if min(sizes) < 1:
        raise InputError(f"a latent dimension must be at least 1, got {min(sizes)}")
    return list(dict.fromkeys(sizes))


def comparison_text(found: comparing.Comparison, origin: str) -> str:
    """The table of a comparison, for a terminal."""

    def number(value: float | None, digits: int = 2) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    columns: dict[str, Callable[[comparing.Row], str]] = {
        "dim": lambda r: str(r.latent_dim),
        "model": lambda r: r.model,
        "RMSE": lambda r: f"{r.rmse:.4g}",
        "relative": lambda r: number(r.relative_rmse, 3),
        "NLL": lambda r: number(r.nll),
        "-ELBO": lambda r: number(r.minus_elbo),
        "bits/dim": lambda r: number(r.nll_bits_per_dimension, 3),
        "energy (null)": lambda r: f"{r.energy:.3f} ({r.energy_null:.3f})",
        "fitted": lambda r: number(r.energy_fitted, 3),
        "rough": lambda r: number(r.roughness),
        "midpoint": lambda r: number(r.midpoint),
        "seconds": lambda r: number(r.seconds, 1),
    }
    head = tuple(columns)
    lines = _ruled([head, *(tuple(cell(r) for cell in columns.values()) for r in found.rows)], 2)
    return "\n".join([
        f"{origin}: {len(found.held_out):,} held-out rows", *lines, "", *found.notes, *_density_lines(found),
        *_baseline_lines(found),
    ])  # fmt: skip


def _density_lines(found: comparing.Comparison) -> list[str]:
    """The table of densities of codes."""
    if not found.densities:
        return []
    cells = [
        (str(r.latent_dim), r.model, r.density, f"{r.energy:.3f} ({r.energy_null:.3f})",
         f"{r.data_energy:.3f} ({r.data_energy_null:.3f})", "–" if r.held_out is None else f"{r.held_out:.2f}",
         f"{r.seconds:.1f}")
        for r in found.densities
    ]  # fmt: skip
    head = ("dim", "model", "codes drawn from", "energy (null)", "of data (null)", "ln p of codes", "seconds")
    return ["", *_ruled([head, *cells], 3), "", DENSITY_NOTE]


def _baseline_lines(found: comparing.Comparison) -> list[str]:
    """The table of plain densities and compressors."""
    if not found.baselines:
        return []

    def figure(value: float | None, digits: int) -> str:
        return "none" if value is None else f"{value:.{digits}f}"

    cells = [
        (r.name, r.note, "–" if r.latent_dim is None else str(r.latent_dim), figure(r.nll, 2),
         figure(r.nll_bits_per_dimension, 3), f"{r.seconds:.1f}")
        for r in found.baselines
    ]  # fmt: skip
    return ["", *_ruled([("baseline", "", "dim", "NLL", "bits/dim", "seconds"), *cells], 2), "", BASELINE_NOTE]


def _ruled(rows: list[tuple[str, ...]], words: int) -> list[str]:
    """Aligned rows with a line under the first."""
    head, *lines = aligned(rows, words)
    return [head, "-" * len(head), *lines]


def demo(out: str, *, seed: int, quiet: bool) -> Answer:
    """Fit the digits, evaluate the run, compare it and write the report."""
    folder = Path(out)
    if (folder / "run.json").exists():
        if not runs.read_record(folder)["data"].get("demo"):
            raise InputError(f"{folder} holds a run that the demo did not make", "choose another folder with --out")
        runs.remove(folder)
    start = time.monotonic()
    asked = Fit("digits", out, settings={"seed": seed})
    fitted = fit(asked, quiet=quiet, extra={"demo": True})
    source = read("digits")
    schema = infer(source.x)
    found = comparing.compare(
        source.x, schema, [2, 16], Settings(seed=seed), labels=source.labels, progress=_bars(quiet)
    )
    run = runs.load(folder)
    rows = held_out(run, rows_for(source, schema, None), "auto")
    figures = evaluation.evaluate(run.model, rows.inside, k=100, beta=run.beta)
    report = Folder(folder) / "report.html"
    reporting.write(report, run, rows, evaluation=figures, comparison=found)
    seconds = time.monotonic() - start
    text = "\n\n".join([fitted.text, comparison_text(found, "digits"), f"{seconds:.0f} s; open {report} in a browser"])
    return Answer(text, fitted.figures | found.to_json() | {"seconds": round(seconds, 1)})
