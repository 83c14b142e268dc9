"""Results in notebooks: as an HTML table, and as a data frame."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any


class InNotebooks:
    """What results have in common in notebooks. A class defines ``records``, and either ``lines``, (name, text) pairs,
    or ``table``, lists of cells with the headings first."""

    def records(self) -> list[dict[str, Any]]:
        """The figures as rows of names and values; by default one row, of the single numbers and words."""
        kept = (str, int, float, bool, type(None))
        return [{k: v for k, v in self.to_json().items() if isinstance(v, kept)}]  # type: ignore[attr-defined]

    def to_frame(self) -> Any:
        """The figures as a pandas data frame or, without pandas, as an arrow table."""
        return frame_of(self.records())

    def _repr_html_(self) -> str:
        """The figures as HTML, for notebooks."""
        parts = []
        for name, heads in (("table", True), ("lines", False)):
            if hasattr(self, name):
                parts.append(html_table(getattr(self, name)(), heads=heads))
        return "".join(parts)


def frame_of(records: Sequence[dict[str, Any]]) -> Any:
    """Rows of names and values as a pandas data frame or, without pandas, as an arrow table.

    >>> list(frame_of([{"rate": 1.0}, {"rate": 2.0}])["rate"])
    [1.0, 2.0]
    """
    try:
        from pandas import DataFrame
    except ImportError:
        from pyarrow import Table

        return Table.from_pylist(list(records))
    return DataFrame.from_records(list(records))


def html_table(rows: Sequence[Sequence[object]], *, heads: bool) -> str:
    """Rows of cells as an HTML table; with ``heads``, the first row has the headings.

    >>> html_table([["a<b", 1]], heads=False)
    '<table><tbody><tr><td style="text-align:left">a&lt;b</td><td>1</td></tr></tbody></table>'
    """

    def line(cells: Sequence[object], tag: str) -> str:
        left = ' style="text-align:left"'
        inner = "".join(
            f"<{tag}{left if not i else ''}>{html.escape(str(cell))}</{tag}>" for i, cell in enumerate(cells)
        )
        return f"<tr>{inner}</tr>"

    first = f"<thead>{line(rows[0], 'th')}</thead>" if heads and rows else ""
    body = "".join(line(row, "td") for row in rows[bool(heads) :])
    return f"<table>{first}<tbody>{body}</tbody></table>"
