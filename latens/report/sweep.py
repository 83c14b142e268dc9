"""The page of a sweep: the rate-distortion curve, figures against an option, and the table of all combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latens.errors import is_number
from latens.report import figures
from latens.report.page import Chart, Section, data_table, document, esc, grid, how, keys, line, number
from latens.report.style import COLORS

SHOWN = (
    ("elbo", "ELBO", "nats per row, higher is better"), ("nll", "NLL", "nats per row, lower is better"),
    ("rate", "Rate", "nats per row"), ("distortion", "Distortion", "nats per row, lower is better"),
)  # fmt: skip
Combination = tuple[Mapping[str, Any], Mapping[str, float]]  # (options, figures)


def page(title: str, found: Sequence[Combination], best: Mapping[str, Any] | None) -> str:
    """The page as HTML.

    Args:
        title: the heading.
        found: (options, mean figures) of each combination that has figures.
        best: the options of the best combination.
    """
    sections = [Section("table", "Combinations", _table(found, best))]
    with figures.drawing():
        charts = [*_tradeoff(found), *_against(found)]
        if charts:
            text = (
                "Each dot is a combination: means over its seeds, on held-out rows. The rate is the cost of the code, "
                "and the distortion is the cost of what the code does not explain. The ELBO is constant along a dashed "
                "line, and the lowest line that a dot touches is the best."
            )
            body = how(text) + keys(_legend(found)) + grid(charts, "two")
            sections.insert(0, Section("curves", "Rate and distortion", body))
        head = f'<p class="kicker">latens sweep</p><h1>{esc(title)}</h1><p class="facts">{len(found)} combinations</p>'
        return document(title, head, sections, "Made by latens.")


def _first(found: Sequence[Combination]) -> str:
    """The option along which combinations are joined: beta, or the first option with two or more numbers."""
    numeric = [name for name in found[0][0] if len({str(o[name]) for o, _ in found if is_number(o[name])}) > 1]
    return "beta" if "beta" in numeric else next(iter(numeric), "")


def _curves(found: Sequence[Combination]) -> dict[str, list[Combination]]:
    """{the other options, in words: combinations}; combinations are sorted by the option along which they are
    joined."""
    along, curves = _first(found), {}  # type: ignore[var-annotated]
    for options, values in found:
        others = ", ".join(f"{name} = {value}" for name, value in options.items() if name != along)
        curves.setdefault(others, []).append((options, values))
    if along:
        for each in curves.values():
            each.sort(key=lambda pair: float(pair[0][along]) if is_number(pair[0][along]) else -np.inf)
    return curves


def _legend(found: Sequence[Combination]) -> list[tuple[str, str]]:
    return [(others, f"c{i % COLORS}") for i, others in enumerate(_curves(found)) if others]


def _tradeoff(found: Sequence[Combination]) -> list[Chart]:
    along, curves = _first(found), []
    for i, own in enumerate(_curves(found).values()):
        known = [(o, f) for o, f in own if "rate" in f and "distortion" in f]
        if known:
            points = np.array([[f["rate"], f["distortion"]] for _, f in known])
            names = [f"{along} {o[along]}" if along else "" for o, _ in known]
            curves.append((points, f"c{i % COLORS}", names))
    return [Chart("Rate and distortion", figures.tradeoff(curves, "rate and distortion"))] if curves else []


def _against(found: Sequence[Combination]) -> list[Chart]:
    """Figures plotted against the option along which combinations are joined."""
    along, charts = _first(found), []
    if not along:
        return []
    places = sorted({float(o[along]) for o, _ in found if is_number(o[along])})
    for key, title, small in SHOWN:
        series = []
        for i, own in enumerate(_curves(found).values()):
            known = {float(o[along]): f[key] for o, f in own if is_number(o[along]) and key in f}
            values = np.array([known.get(place, np.nan) for place in places])
            if np.isfinite(values).any():
                series.append((values, f"c{i % COLORS}"))
        if series:
            ticks = {float(i): f"{place:g}" for i, place in enumerate(places)}
            drawing = figures.lines(np.arange(len(places)), series, f"{title} by {along}", x_name=along, marks=True,
                                    ticks=ticks)  # fmt: skip
            charts.append(Chart(title, drawing, small))
    return charts


def _table(found: Sequence[Combination], best: Mapping[str, Any] | None) -> str:
    names = [(key, title) for key, title, _ in SHOWN if any(key in values for _, values in found)]
    rows = [
        line([*(esc(value, 60) for value in options.values()), *(number(values.get(key), ".3f") for key, _ in names)],
             "", range(len(options) + len(names)) if options == best else ())
        for options, values in found
    ]  # fmt: skip
    heads = [*(esc(name, 60) for name in found[0][0]), *(title for _, title in names)]
    return how("Nats per row, means over seeds; the best by the held-out bound is blue.") + data_table(heads, rows)
