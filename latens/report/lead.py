"""The first lines of the page, in words: what the model has learnt, how good it is, and what not to trust."""

from __future__ import annotations

from latens.report.page import esc
from latens.report.subject import Subject
from latens.runs.fitting import counted
from latens.schema import Table

LITTLE = 0.1  # below this share of the variance, codes are said to hold little


def lead(subject: Subject) -> str:
    """One sentence each: what was learnt, how good it is, and what not to trust (HTML)."""
    kept = kept_variance(subject)
    found = ("Learnt", _learnt(subject)), ("How good", _good(subject, kept)), ("Distrust", _distrust(subject, kept))
    return f'<p class="lead">{" ".join(f"<b>{name}:</b> {text}." for name, text in found if text)}</p>'


def kept_variance(subject: Subject) -> float | None:
    """The share of the variance of the numbers that reconstructions keep, at most 1; None if there are no numbers."""
    f = subject.figures
    if isinstance(subject.schema, Table):
        return None if f.relative_rmse is None else 1 - f.relative_rmse**2
    if f.rmse is None or subject.tensor is None or subject.rows < 2:
        return None
    variance = float(subject.shown.reshape(len(subject.shown), -1).var(0).mean())
    return 1 - f.rmse**2 / variance if variance > 0 else None


def _learnt(subject: Subject) -> str:
    f = subject.figures
    if not subject.has_codes:
        return "how to draw rows; rows have no codes"
    if f.rate is None:
        return f"a code of {counted(f.latent_dim, 'number')} for each row"
    used = f"{f.active_units} of {counted(f.latent_dim, 'dimension')}"
    return f"codes that hold {f.rate:.1f} nats about a row, in {used}"


def _good(subject: Subject, kept: float | None) -> str:
    f, said = subject.figures, []
    if kept is not None:
        said.append(f"reconstructions keep {max(0.0, kept):.0%} of the variance of the numbers")
    if f.accuracy is not None:
        said.append(f"{f.accuracy:.0%} of levels are reconstructed")
    drawn = f.samples.fidelity.get("samples") if f.samples is not None else None
    if drawn is not None and drawn.trees is not None:
        said.append(f"trees tell samples from real rows with AUROC {drawn.trees:.2f} (0.5: they cannot)")
    return "; ".join(said)


def _distrust(subject: Subject, kept: float | None) -> str:
    run, f, said = subject.run, subject.figures, []
    warned = len(dict.fromkeys([*run.warnings, *f.warnings]))
    if warned:
        said.append(f"{'the warning' if warned == 1 else f'the {warned} warnings'} below")
    if kept is not None and kept < LITTLE:
        said.append("single reconstructions, which are close to the mean of the data")
    bounds = [row["validation_bound"] for row in run.history if row.get("validation_bound") is not None]
    if len(bounds) > 1 and bounds[-1] == max(bounds):
        said.append("the length of training: the validation bound still rose at its end (raise --epochs)")
    if f.elbo is not None and not f.warnings and f.active_units < f.latent_dim:
        said.append(f"the other {counted(f.latent_dim - f.active_units, 'dimension')}, which carry nothing")
    return esc("; ".join(said), 1000) or 'nothing stands out; compare <a href="#samples">samples</a> with the data'
