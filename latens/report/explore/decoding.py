"""The decoder of a run as the page runs it, or the reason why it cannot."""

from __future__ import annotations

from latens.report.explore.graph import DecoderGraph, graph
from latens.runs.export import graphs
from latens.runs.outputs import schema_of
from latens.runs.record import Run

CELLS = 128 * 128 * 3  # of a row that the page decodes quickly enough


def traced(run: Run) -> tuple[DecoderGraph | None, str]:
    """(the decoder's graph, or None where it cannot be traced; what keeps the page from running it, "" for nothing)."""
    try:
        decoder = graphs.decoder(run)
        found = graph(graphs.program(decoder), decoder.outputs)
    except Exception as error:  # torch.export raises many kinds
        words = str(error).strip().splitlines() or [type(error).__name__]
        return None, f"the decoder cannot be traced ({words[0][:160]})"
    if found.lacking:
        return found, f"the page lacks the operator{'s' * (len(found.lacking) > 1)} {', '.join(found.lacking)}"
    cells = schema_of(run).columns
    if cells > CELLS:
        return found, f"rows have {cells:,} cells, and a page decodes at most {CELLS:,} at once"
    return found, ""
