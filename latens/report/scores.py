"""The section on the scores of an evaluation: known factors, labels, samples of arrays, where the bound loses nats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latens.evaluation import Disentanglement, ImageEvaluation, LabelEvaluation
from latens.report import charts
from latens.report.page import Chart, LeftOut, Section, data_table, esc, grid, how, line, note, pairs_table
from latens.report.subject import Subject


def scores(subject: Subject) -> Section:
    """The scores that the evaluation has, each with a text on how to read it."""
    found = {} if subject.evaluation is None else subject.evaluation.scores
    body = "".join(build(found[name]) for name, build in (
        ("labels", _labels), ("disentanglement", _factors), ("images", _images)) if name in found)  # fmt: skip
    losses = [found[name] for name in ("rate_parts", "gaps", "certificate") if name in found]
    if losses:
        body += _losses(losses)
    if not body:
        raise LeftOut("The evaluation has no scores of codes or samples.")
    return Section("scores", "Scores", body)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ([esc(f"−{cell[1:]}" if cell.startswith("-") else cell) for cell in row] for row in rows)
    return data_table(head, map(line, rest))


def _labels(found: LabelEvaluation) -> str:
    text = (
        f"How well {found.classes} classes are found from the codes, from PCA codes of the same dimension, and from "
        f"the data, on {found.rows:,} rows. Linear probe and nearest neighbours (5-NN): the share of rows whose class "
        f"is found, learned from {found.fitted_rows:,} other rows; a constant answer finds {found.most_common:.1%}. "
        "ARI and NMI: agreement of clusters with the classes, 1 is best, 0 is chance."
    )
    return f"<h3>Labels</h3>{how(text)}{_table(found.table())}"


def _factors(found: Disentanglement) -> str:
    text = (
        "How well single codes separate known factors; 1 is best. The matrix shows the importance of each code for "
        "each factor in DCI (columns add up to 1): for a disentangled code, each line has one dark square."
    )
    names = [f"z {j}" for j in range(len(found.dci.importance))]
    drawing = charts.heat(found.dci.importance, names, found.factors, "importance of codes for factors", y_name="code",
                          x_name="factor")  # fmt: skip
    matrix = Chart("Importance (DCI)", f'<div class="wide">{drawing}</div>')
    return f"<h3>Known factors</h3>{how(text)}{pairs_table(found.lines())}{grid([matrix], 'two')}"


def _images(found: ImageEvaluation) -> str:
    text = (
        f"Samples compared with held-out rows, {found.rows:,} on each side, in features made from the training rows; "
        "“real” are other held-out rows, the best possible. Fréchet and kernel distance: 0 is best. Precision and "
        "density: whether samples lie among real rows; recall and coverage: whether real rows lie among samples. If "
        "samples are nearer to training rows than held-out rows are, the model copies."
    )
    notes = "".join(note(esc(each)) for each in found.notes)
    return f"<h3>Samples</h3>{how(text)}{_table(found.table())}{pairs_table(found.lines())}{notes}"


def _losses(found: Sequence[Any]) -> str:
    text = (
        "The bound falls short of ln p(x) by the approximation gap, which no diagonal normal posterior avoids, and the "
        "amortisation gap, which a better encoder would close. The rate is the mutual information of rows and codes "
        "plus KL(q(z) || p(z)), which a prior fitted to the codes would save."
    )
    lines = [pair for each in found for pair in each.lines()]
    return f"<h3>Where the bound loses nats</h3>{how(text)}{pairs_table(lines)}"
