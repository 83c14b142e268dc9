"""Pieces of HTML. All text that comes from the user passes through :func:`esc` before it enters the page."""

from __future__ import annotations

import html
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latens.report.style import CSS


class LeftOut(Exception):
    """Raised if a section cannot be made for this run; its message is the sentence that the page shows instead."""


@dataclass
class Section:
    """A section of the page: its anchor, its heading, and its body as HTML."""

    key: str
    title: str
    body: str


def esc(value: object, limit: int = 300) -> str:
    """The text of ``value``, at most ``limit`` characters, with markup escaped.

    >>> esc("<script>")
    '&lt;script&gt;'
    """
    text = "".join(ch if ch.isprintable() else " " for ch in str(value))
    return html.escape(text if len(text) <= limit else text[: limit - 1] + "…", quote=True)


def number(value: float | None, form: str = ".4g") -> str:
    """A figure as text, with a minus sign instead of a hyphen; "–" for None.

    >>> number(-12.3456, ".2f"), number(None), number(1200, ".4g"), number(46557.504, ".2f")
    ('−12.35', '–', '1,200', '46,558')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if form.endswith("g") and 1e3 <= abs(value) < 1e6:
        form = ",.0f"
    elif form.endswith("f") and abs(value) >= 1e3:
        form = ",.1f" if abs(value) < 1e4 else ",.0f"
    text = format(value, form)
    if not text.strip("-0.,"):
        text = text.lstrip("-")  # a zero gets no minus sign
    return text.replace("-", "−")


def how(text: str) -> str:
    """A text on what a figure shows and how to read it (HTML)."""
    return f'<p class="how">{text}</p>'


def note(text: str) -> str:
    """A remark, for example that something was left out (HTML)."""
    return f'<p class="note">{text}</p>'


def warning(text: str) -> str:
    """A warning, as plain text."""
    return f'<div class="warning" role="alert"><b>Warning</b><p>{esc(text, 2000)}</p></div>'


def card(name: str, value: str, below: str) -> str:
    """A key figure: its name, its value (HTML), and an explanation (HTML)."""
    return f'<div class="figure-card"><span>{esc(name)}</span><b>{value}</b><span>{below}</span></div>'


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart under its title, with a legend and (name, text) lines below it; ``str`` is its HTML. ``drawing`` is a
    :class:`latens.report.figures.Graphic` or HTML; all other fields are plain text."""

    title: str
    drawing: Any
    small: str = ""
    legend: Sequence[tuple[str, str]] = ()
    said: Sequence[tuple[str, str]] = ()

    def __str__(self) -> str:
        extra = f"<small>{esc(self.small)}</small>" if self.small else ""
        head = f'<figcaption title="{esc(self.title)}">{esc(self.title, 80)}{extra}</figcaption>'
        legend = keys(self.legend) if self.legend else ""
        lines = "".join(f"<li><b>{esc(name)}</b> {esc(text)}</li>" for name, text in self.said)
        below = f'<ul class="shifts">{lines}</ul>' if lines else ""
        return f"<figure>{head}{self.drawing}{legend}{below}</figure>"


def grid(panels: Iterable[object], kind: str = "") -> str:
    """Panels side by side, as many as fit the width of the page."""
    return f'<div class="grid {kind}">{"".join(map(str, panels))}</div>'


def keys(entries: Sequence[tuple[str, str]]) -> str:
    """A legend of (name, colour) pairs; a colour is a name of the theme or a hexadecimal value."""
    items = []
    for name, paint in entries:
        value = paint if paint.startswith("#") else f"var(--{paint})"
        items.append(f'<li style="color:{value}"><i></i><span>{esc(name, 60)}</span></li>')
    return f'<ul class="keys">{"".join(items)}</ul>'


def beside(has_data: bool) -> str:
    """The legend of charts that show samples and, if there are any, data."""
    return keys([("data", "c9")] * has_data + [("samples", "c0")])


def details(summary: str, body: str, opened: bool = False) -> str:
    """A part of the page that opens when it is clicked."""
    return f"<details{' open' * opened}><summary>{summary}</summary>{body}</details>"


def _of(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def data_table(heads: Iterable[str], lines: Iterable[str], kind: str = "") -> str:
    """A table that may be wider than the page, made of headings (HTML) and lines (:func:`line`)."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<div class="tablebox" tabindex="0"><table{_of(kind)}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def line(cells: Iterable[str], kind: str = "", best: Container[int] = ()) -> str:
    """A line of a table, made of cells in HTML; the cells in ``best`` are marked."""
    marked = (f"<td{_of('best' * (i in best))}>{cell}</td>" for i, cell in enumerate(cells))
    return f"<tr{_of(kind)}>{''.join(marked)}</tr>"


def pairs_table(rows: Iterable[tuple[str, object]], titles: Mapping[str, str] | None = None) -> str:
    """A table of names and values; ``titles`` are tooltips for the values of some names."""
    tips = {name: f' title="{esc(text, 1000)}"' for name, text in (titles or {}).items()}
    cells = "".join(
        f"<tr><td>{esc(name)}</td><td{tips.get(name, '')}>{esc(value, 600)}</td></tr>" for name, value in rows
    )
    return f'<div class="tablebox narrow"><table class="plain"><tbody>{cells}</tbody></table></div>'


def left_out(key: str, title: str, reason: str) -> Section:
    """A section that only says why it could not be made."""
    return Section(key, title, note(reason))


def failed(error: Exception) -> str:
    """The sentence for a part of the report that cannot be made for this model."""
    return f"This part cannot be made for this model ({type(error).__name__}: {esc(error)})."


def document(title: str, header: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page, with its style and pictures inside, and without scripts."""
    contents = "".join(f'<li><a href="#{s.key}">{esc(s.title)}</a></li>' for s in sections)
    body = "\n".join(
        f'<section id="{s.key}" aria-labelledby="{s.key}-h"><h2 id="{s.key}-h">{esc(s.title)}</h2>{s.body}</section>'
        for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        "'unsafe-inline'\">\n"
        f'<title>{esc(title)}</title>\n<link rel="icon" href="data:,">\n<style>{CSS}</style>\n</head>\n<body>\n'
        f'<div class="page">\n<header>{header}</header>\n<nav aria-label="Contents"><ul>{contents}</ul></nav>\n'
        f"<main>\n{body}\n<footer>{footer}</footer>\n</main>\n</div>\n</body>\n</html>\n"
    )
