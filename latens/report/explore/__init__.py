"""The explorer: one HTML file with a map of the codes of a run's rows, in which the decoder runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import latens
from latens import evaluation
from latens.data.rows import Rows
from latens.errors import InputError
from latens.report.explore.contents import BUDGET, Contents, thinned
from latens.report.explore.graph import DecoderGraph, graph
from latens.report.explore.page import page
from latens.report.overview import heading
from latens.runs.export import graphs
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import Table

CELLS = 128 * 128 * 3  # a page decodes rows with at most this many cells fast enough


class Explorer:
    """The explorer of a run on these rows.

    Args:
        run: the run.
        rows: rows in the run's form.
        points: the most rows to show, chosen at random if there are more.
        with_rows: whether to put cells of rows into the page.
        half: whether to store the decoder's weights as float16 (with errors of about 3e-3 of a cell's range). For
            tables they are float32 in any case.

    Attributes:
        lacking: why the page cannot decode by itself; "" if it can.
        points, total: the number of rows that it shows, and the number of rows that there are.
        has_rows: whether cells of rows are in the page.

    Raises:
        InputError: the run has no schema, no encoder, no decoder or no active dimension, or fewer than two rows.
    """

    def __init__(self, run: Run, rows: Rows, *, points: int = BUDGET, with_rows: bool = True, half: bool = True):
        _require_decoder(run)
        if len(rows) < 2:
            raise InputError(f"{rows.where} has {len(rows)} rows, but a map needs at least 2", "give more")
        shown = thinned(rows, points, run.settings.seed)
        self.contents = Contents(run, shown, with_rows=with_rows)
        self.points, self.total, self.has_rows = len(self.contents), shown.total, with_rows
        self._title = heading(run)
        decoder, self.lacking = traced(run)
        self.contents.about |= {
            "title": self._title, "version": latens.__version__, "run": str(Path(run.folder or "").name),
            "facts": {"parameters": run.parameters},
        }  # fmt: skip
        if decoder is not None and not self.lacking:
            exact = isinstance(run.schema, Table)  # so that no cell is off by one step of its grid
            self.contents.about["graph"] = decoder.to_json(self.contents.blocks, half=half and not exact)

    def html(self, address: str = "") -> str:
        """The page. With an ``address``, it decodes there, and makes no other request."""
        if self.lacking and not address:
            raise InputError(self.lacking, "explore the run without --out, which decodes in a local process")
        about = dict(self.contents.about)
        if address:
            about.pop("graph", None)
            about["address"] = address
        return page(f"{self._title} · latens", about, self.contents.blocks, connect="'self'" if address else "'none'")


def _require_decoder(run: Run) -> None:
    """Decode one code; ``InputError`` if the run has no schema, or its model does not decode."""
    known = {name: value[None] for name, value in graphs.conditions(run).items()}
    schema_of(run)
    try:
        evaluation.decode(run.model, graphs.code(run)[None], graphs.in_storage(run.schema, known))
    except (NotImplementedError, AttributeError, TypeError) as error:
        raise InputError(f"{run.folder or 'this run'}: the model does not decode ({error}), so no code can be shown",
                         "explore a run of another recipe") from error  # fmt: skip


def traced(run: Run) -> tuple[DecoderGraph | None, str]:
    """(the decoder's graph, or None if it cannot be traced; why the page cannot run it, "" if it can)."""
    try:
        decoder = graphs.decoder(run)
        found = graph(graphs.program(decoder), decoder.outputs)
    except Exception as error:  # torch.export raises errors of many kinds
        words = str(error).strip().splitlines() or [type(error).__name__]
        return None, f"the decoder cannot be traced ({words[0][:160]})"
    if found.lacking:
        return found, f"the page lacks the operator{'s' * (len(found.lacking) > 1)} {', '.join(found.lacking)}"
    cells = schema_of(run).columns
    if cells > CELLS:
        return found, f"rows have {cells:,} cells, but a page decodes at most {CELLS:,} at once"
    return found, ""
