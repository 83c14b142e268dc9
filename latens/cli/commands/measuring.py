"""The blocks of ``latens evaluate`` on codes and samples: known factors, labels, images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from latens.cli.commands.answer import aligned, table
from latens.cli.commands.factors import factors_for
from latens.cli.commands.sources import trained_on
from latens.data.rows import Rows
from latens.densities import Fitted
from latens.errors import InputError
from latens.evaluation import Disentanglement, ImageEvaluation, LabelEvaluation
from latens.models import Generator
from latens.runs import measures
from latens.runs.record import Run


class Blocks:
    """What is scored besides the bound: read and checked when it is made, computed by :meth:`lines`.

    Args:
        run: the run.
        folder: its folder.
        data: the data that were named, or None.
        rows: the rows that the run is evaluated on.
        seed: of all random numbers.
        factors: the words of ``--factors``, or None.
        reading: options for reading the data.
        labels: whether codes are scored against labels, where they are known.
        asked: whether the labels were asked for, so that bad ones are refused.
        samples: whether samples of an array are compared with real rows.
    """

    def __init__(
        self, run: Run, folder: str, data: str | None, rows: Rows, *, seed: int, factors: str | None = None,
        reading: Mapping[str, Any] | None = None, labels: bool = True, asked: bool = False, samples: bool = False,
    ) -> None:  # fmt: skip
        self.run, self.rows, self.seed, self.asked = run, rows, seed, asked
        self.known = None if factors is None else factors_for(run, folder, data, factors, reading)
        self.classes = measures.classes_of(rows) if labels and not isinstance(run.model, Generator) else None
        if samples:
            measures.require_array(run)
        self.train = trained_on(run, folder) if samples else None

    def lines(self, density: Fitted | None = None) -> tuple[list[str], dict[str, Any]]:
        """(the blocks as lines, each after an empty one; their figures). ``density`` replaces the prior of samples."""
        lines, figures = [], {}
        if self.known is not None:
            found = measures.disentanglement(self.run, self.rows, *self.known, seed=self.seed)
            lines += ["", *table(found.lines(), "codes and known factors (1 is best)"), *_importance(found)]
            figures["disentanglement"] = found.to_json()
        if self.classes is not None and (scores := self._labels(self.classes)) is not None:
            lines += ["", *_of_labels(scores)]
            figures["labels"] = scores.to_json()
        if self.train is not None:
            images = measures.images(self.run, self.train, self.rows, seed=self.seed, density=density)
            lines += ["", *_of_images(images)]
            figures["images"] = images.to_json()
        return lines, figures

    def _labels(self, classes: np.ndarray) -> LabelEvaluation | None:
        try:
            return measures.labels(self.run, self.rows, classes, seed=self.seed)
        except InputError:
            if self.asked:
                raise
            return None


def _importance(found: Disentanglement) -> list[str]:
    """The importance matrix of DCI, a code in each line."""
    head = ["importance", *found.factors]
    rows = [[f"code {j}", *(f"{share:.2f}" for share in row)] for j, row in enumerate(found.dci.importance)]
    return [f"  {line}" for line in aligned([head, *rows], 1)]


def _of_labels(found: LabelEvaluation) -> list[str]:
    title = (
        f"labels: {found.classes} classes, learned from {found.fitted_rows:,} of these rows, scored on {found.rows:,} "
        f"(the most common class: {found.most_common:.1%})"
    )
    return [title, *(f"  {line}" for line in aligned(found.table(), 1))]


def _of_images(found: ImageEvaluation) -> list[str]:
    title = (
        f"samples compared with held-out rows, {found.rows:,} on each side (real: other held-out rows, the best "
        "possible)"
    )
    rows = [f"  {line}" for line in aligned(found.table(), 2)]
    return [title, *rows, *table(found.lines(), "details"), *(f"  note: {note}" for note in found.notes)]
