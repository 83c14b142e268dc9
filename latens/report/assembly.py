"""A run as one page of sections; a section that cannot be made is replaced by a line that says why."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.data.rows import Rows
from latens.evaluation import Evaluation
from latens.machine.atomic import write_text
from latens.report import figures, overview, scores, sections, tables, walks
from latens.report.page import LeftOut, Section, document, failed, left_out
from latens.report.subject import Subject
from latens.runs.record import Run
from latens.schema import Schema, Table
from latens.tensors.randomness import Key, seeded

if TYPE_CHECKING:
    from latens.runs.comparing import Comparison


def render(
    run: Run, x: Rows | np.ndarray | None, *, labels: Any = None, label_names: Sequence[str] | None = None,
    evaluation: Evaluation | None = None, comparison: Comparison | None = None, title: str | None = None,
) -> str:  # fmt: skip
    """The report of a run as one HTML page, without scripts or requests. The same run gives the same page.

    Args:
        run: the run. What your own model cannot provide is left out, with a line that says why.
        x: held-out rows in the user's layout, ``[N, *user_shape]``, or :class:`latens.data.rows.Rows` with labels and
            conditions; at most 2,000 are shown (a fixed random choice). With None, sections that need data say so.
        labels: one value per row, ``[N]``: numbers, words, or codes of ``label_names``.
        label_names: the names that the codes stand for.
        evaluation: the figures to show; by default, the ELBO is evaluated on the rows that are shown.
        comparison: the result of :func:`latens.runs.comparing.compare`, to be shown as a section.
        title: the heading; by default, recipe and data.

    Raises:
        InputError: x does not fit the run's schema or has no rows, or there are not as many labels as rows.
    """
    was_training = run.model.training
    run.model.eval()
    try:
        with figures.drawing(), seeded(run.settings.seed, Key.REPORT):
            return _page(Subject(run, x, labels, label_names, evaluation), comparison, title)
    finally:
        run.model.train(was_training)


def write(
    path: str | os.PathLike[str], run: Run, x: Rows | np.ndarray | None, *, labels: Any = None,
    label_names: Sequence[str] | None = None, evaluation: Evaluation | None = None,
    comparison: Comparison | None = None, title: str | None = None,
) -> None:  # fmt: skip
    """Write the page of :func:`render` to ``path``, atomically. ``InputError`` as there, and if the file cannot be
    written."""
    page = render(
        run, x, labels=labels, label_names=label_names, evaluation=evaluation, comparison=comparison, title=title
    )
    write_text(path, page)


def _page(subject: Subject, comparison: Comparison | None, title: str | None) -> str:
    heading = title or overview.heading(subject.run)
    is_table, has_codes = isinstance(subject.schema, Table), subject.has_codes
    parts: list[tuple[str, str, Callable[[Subject], Section], bool]] = [
        ("columns", "Columns", tables.columns, is_table),
        ("reconstructions", "Originals and reconstructions", sections.reconstructions, has_codes),
        ("samples", "Samples", sections.samples, True),
        ("dependence", "Pairs of columns", tables.dependence, is_table),
        ("map", "Latent map", sections.latent_map, has_codes),
        ("rate", "Rate per dimension", sections.rates, has_codes),
        ("scores", "Scores", scores.scores, bool(subject.evaluation and subject.evaluation.scores)),
        ("traversal", "Traversals", walks.traversals, has_codes),
        ("interpolations", "Interpolations", walks.interpolations, has_codes),
        ("comparison", "Comparison", partial(_comparison, found=comparison), comparison is not None),
        ("training", "Training", overview.training, True),
        ("choices", "Choices", overview.choices, True),
        ("provenance", "Provenance", overview.provenance, True),
    ]
    head = overview.header(subject, heading)
    made = [_attempt(key, name, build, subject) for key, name, build, wanted in parts if wanted]
    return document(heading, head, made, "Made by latens.")


def _comparison(subject: Subject, found: Any) -> Section:
    from latens.report.comparison import comparison

    schemas = [run.schema for run in found.runs.values() if isinstance(run.schema, Schema)]
    own = subject.schema if isinstance(subject.schema, Schema) else None
    schema = schemas[0] if schemas else own
    try:
        dim = subject.codes.shape[1] if subject.tensor is not None else None
    except Exception:
        dim = None
    return comparison(found, schema, dim, subject.label_names)


def _attempt(key: str, name: str, build: Callable[[Subject], Section], subject: Subject) -> Section:
    """The section, or a line that says why there is none, since a model of your own may lack any method."""
    try:
        return build(subject)
    except LeftOut as reason:
        return left_out(key, name, str(reason))
    except Exception as error:
        return left_out(key, name, failed(error))
