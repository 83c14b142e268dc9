"""How good a fitted run is: ``latens evaluate`` and ``latens report``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latens import evaluation
from latens import report as reporting
from latens.cli.commands.answer import Answer, aligned, over_seeds, table
from latens.cli.commands.densities import density_of
from latens.cli.commands.inputs import figures_for, held_out_of, trained_on
from latens.cli.commands.many import parts
from latens.cli.commands.measuring import Measured, blocks_of
from latens.data.rows import Rows
from latens.data.sources import option_of
from latens.densities import Fitted
from latens.densities.kinds import PRIOR
from latens.errors import InputError
from latens.evaluation.likelihood import spaced
from latens.evaluation.synthetic import ORACLE, SyntheticEvaluation
from latens.machine.atomic import writable
from latens.machine.folder import Folder
from latens.runs import record as runs
from latens.runs import synthesis
from latens.runs.record import Run
from latens.schema import Table
from latens.tensors import trees


def _rows_for(
    run: Run, folder: str, data: str | None, labels: str | None, reading: Mapping[str, Any] | None
) -> tuple[Rows, str]:
    """(rows of the named data, or the held-out rows; a description of these rows).

    Raises:
        InputError: there is an option for reading data, but no data.
    """
    if data is None and labels is not None:
        raise InputError("--labels needs DATA, as the run's own data have their own labels", "name the data")
    if data is None and reading:
        name = option_of(next(iter(reading)))
        raise InputError(f"{name} needs DATA, as the run's own data are read as in the fit", "name the data")
    return held_out_of(run, folder) if data is None else figures_for(run, data, labels, reading)


def evaluate(
    folder: str, data: str | None, *, k: int, draws: int, estimates: Mapping[str, Any], seed: int, own: str | None,
    labels: str | None = None, synthetic: bool = True, density: str = PRIOR, quiet: bool = False,
    reading: Mapping[str, Any] | None = None, factors: str | None = None, label_scores: bool = True,
    samples: bool = False,
) -> Answer:  # fmt: skip
    """Evaluate a run, or the runs of several seeds."""
    if folder and runs.has_seeds(folder):
        for name in ["--factors"] * (factors is not None) + ["--samples"] * samples:
            raise InputError(f"{name} is for one run, but {folder} has several", f"name one, as in {folder}/seed-0")
        return over_seeds(Path(folder), [
            evaluate(str(part), data, k=k, draws=draws, seed=seed, own=own, labels=labels,
                     estimates=estimates, synthetic=False, reading=reading, label_scores=False)
            for part in parts(Path(folder))
        ])  # fmt: skip
    how = evaluation.Estimator(estimates["nll"], k, *(estimates[n] for n in ("proposal", "chains", "temperatures")))
    run = runs.load(folder, recipe=own)
    rows, where = _rows_for(run, folder, data, labels, reading)
    blocks = Measured(
        run, folder, data, rows, seed=seed, factors=factors, reading=reading, labels=label_scores,
        asked=labels is not None, samples=samples,
    )  # fmt: skip
    figures = evaluation.evaluate(
        run.model, rows.inside, rows.c, k=how, draws=draws, nll_rows=estimates["rows"] or None, seed=seed,
        beta=run.beta,
    )
    figures.warnings += rows.warnings
    losses = dict(_losses(run, rows, figures, how, seed, estimates["certificate"], estimates["gaps"]))
    fitted = None if density == PRIOR else density_of(run, folder, density, quiet=quiet)
    figures.samples = _samples_of(run, folder, rows, seed, fitted) if synthetic else None
    lines = table(
        [*figures.lines(), *(line for each in losses.values() for line in each.lines())], f"{folder} on {where}"
    )
    if figures.samples is not None:
        lines += ["", *_fidelity(figures.samples, "the prior" if fitted is None else density)]
    figures.scores = blocks.scores(fitted) | losses
    lines += [*blocks_of(figures.scores), *(f"warning: {line}" for line in figures.warnings)]
    return Answer("\n".join(lines), {"run": folder, "data": where, **figures.to_json()})


def _losses(
    run: Run, rows: Rows, figures: evaluation.Evaluation, how: evaluation.Estimator, seed: int, certificate: int,
    gaps: bool,
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """Where the bound loses nats, and how far the NLL may be off, if they were asked for."""
    if gaps:
        if figures.estimate is None:
            raise InputError("the gaps need an estimate of the NLL", "pass --k of at least 1, or --nll ais")
        picked = spaced(len(rows), len(figures.estimate.rows))
        x, c = rows.inside[picked], trees.take(rows.c, picked)
        yield "rate_parts", evaluation.rate_parts(run.model, rows.inside, rows.c, seed=seed)
        yield "gaps", evaluation.inference_gaps(run.model, x, -figures.estimate.rows, c, seed=seed)
    if certificate:
        c = None if rows.c is None else trees.take(rows.c, spaced(len(rows), certificate))
        asked = {"rows": certificate, "chains": how.chains, "temperatures": how.temperatures}
        yield "certificate", evaluation.certify(run.model, c, **asked, seed=seed)


def _fidelity(samples: SyntheticEvaluation, density: str) -> list[str]:
    """How good samples are, as lines: a table, details, notes."""
    rows = [f"  {line}" for line in aligned(samples.table(), 1)]
    title = f"samples ({density}) compared with training rows; {ORACLE}: drawn from p(x|z) at the codes of those rows"
    details = table(samples.lines(), "details (real: held-out rows in place of samples)")
    return [title, *rows, *details, *(f"  note: {line}" for line in samples.notes)]


def _samples_of(
    run: Run, folder: str, held: Rows, seed: int, density: Fitted | None = None
) -> SyntheticEvaluation | None:
    """How good samples of a table are; None for other data, or if the training rows cannot be read again."""
    if not isinstance(run.schema, Table):
        return None
    try:
        train = trained_on(run, folder)
    except InputError:
        return None
    return None if len(train) == len(held) else synthesis.evaluate_samples(run, train, held, seed=seed, density=density)


def report(
    folder: str, data: str | None, *, out: str | None, labels: str | None, own: str | None,
    reading: Mapping[str, Any] | None = None, factors: str | None = None, samples: bool = False, gaps: bool = False,
) -> Answer:  # fmt: skip
    """Write the report of a run, on the named data or on its held-out rows."""
    if out is not None:
        if Path(out).suffix.lower() not in (".html", ".htm"):
            raise InputError(f"cannot write {out}: the report is an HTML page", "name a file that ends in .html")
        writable(out)
    run = runs.load(folder, recipe=own)
    rows, _ = _rows_for(run, folder, data, labels, reading)
    blocks = Measured(run, folder, data, rows, seed=0, factors=factors, reading=reading, samples=samples)
    how = evaluation.Estimator(k=50)
    figures = evaluation.evaluate(run.model, rows.inside, rows.c, k=how, nll_rows=500, beta=run.beta)
    figures.samples = _samples_of(run, folder, rows, 0)
    figures.scores = blocks.scores() | dict(_losses(run, rows, figures, how, 0, 0, gaps))
    path = Path(out) if out else Folder(folder) / "report.html"
    reporting.write(path, run, rows, evaluation=figures)
    figures.warnings += rows.warnings
    text = "\n".join([f"wrote {path}", *(f"warning: {line}" for line in rows.notes)])
    return Answer(text, {"report": str(path), **figures.to_json()})
