"""Rows that a user gives without a model, for figures; and charts placed on matplotlib axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latens.data import as_array
from latens.data.rows import Rows, rows_like, rows_of
from latens.data.tables.frames import as_table, is_frame
from latens.errors import InputError
from latens.report.charts import cut
from latens.report.figures import Graphic, color
from latens.report.page import Chart, LeftOut
from latens.report.pixels import model_layout
from latens.report.subject import Subject
from latens.schema import Table

TITLE, KEY = 36, 15  # CSS pixels above a chart, and for a line of text below it
ACROSS = 4  # charts in a line of the grid


class Given(Subject):
    """Rows as a subject of figures, without a run: their schema, and what a figure shows of them."""

    def __init__(self, x: Any):
        rows = x if isinstance(x, Rows) else rows_of(_plain(x))
        self.schema, self.rows, self.tensor = rows.schema, len(rows), rows.inside[:]
        self.c, self.groups, self.evaluation, self.coloured_by = rows.c, None, None, ""
        self.shown = _outer(rows)

    def like(self, x: Any, what: str) -> np.ndarray:
        """Other rows in the layout of these rows, ``[N, *shape]``; ``InputError`` if their shape differs."""
        if isinstance(self.schema, Table):
            return _outer(rows_like(_plain(x), self.schema, check=False))
        found = model_layout(self.known, np.asarray(as_array(x)[0], dtype=np.float64))
        if found.shape[1:] != self.shown.shape[1:]:
            told = f"{what} have shape {list(found.shape[1:])} per row, but the rows have {list(self.shown.shape[1:])}"
            raise InputError(told, "give rows of one shape")
        return found


def _plain(x: Any) -> Any:
    return as_table(x)[0] if is_frame(x) else as_array(x)[0]


def _outer(rows: Rows) -> np.ndarray:
    """Rows in the model's layout, with the columns that rules write, ``[N, *shape]`` float64."""
    values = np.asarray(rows.inside[:].double())
    if isinstance(rows.schema, Table) and rows.schema.rules:
        known = rows.schema.known(dict(zip(rows.x.column_names, rows.x.columns)))
        return np.stack(list(rows.schema.outward(values, known)[0].values()), 1)
    return values


def new_axes(width: float, height: float) -> Any:
    """The axes of a new figure, ``width`` x ``height`` CSS pixels."""
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width / 72, height / 72), layout="compressed")[1]


def place(charts: Sequence[Chart], ax: Any, legend: Sequence[tuple[str, str]] = ()) -> Any:
    """Draw one chart on the axes, or several in a grid on insets of the axes; returns the axes.

    Raises:
        LeftOut: there is nothing to draw.
    """
    drawn = [chart for chart in charts if isinstance(chart.drawing, Graphic) or chart.said]
    if not drawn:
        raise LeftOut("there is nothing to draw: no column varies")
    if len(drawn) == 1 and isinstance(drawn[0].drawing, Graphic):
        drawing = drawn[0].drawing
        ax = new_axes(1.4 * drawing.width, 1.4 * drawing.height + TITLE) if ax is None else ax
        _fill(ax, drawn[0], legend, 400)
        return ax
    return _grid(drawn, ax, legend)


def _grid(charts: Sequence[Chart], ax: Any, legend: Sequence[tuple[str, str]]) -> Any:
    """Draw charts in lines of four on insets of the axes."""
    lines = [charts[i : i + ACROSS] for i in range(0, len(charts), ACROSS)]
    wide = max(_size(chart)[0] for chart in charts)
    highs = [max(_size(chart)[1] for chart in line) for line in lines]
    width, height = wide * min(len(charts), ACROSS), sum(highs)
    if ax is None:
        ax = new_axes(1.15 * width, 1.15 * height)
    ax.set_axis_off()
    top = height
    for line, high in zip(lines, highs):
        for j, chart in enumerate(line):
            d = _graphic(chart)
            below = top - TITLE - d.height + d.bottom
            inset = ax.inset_axes((
                (j * wide + d.left) / width, below / height, (d.width - d.left - d.right) / width,
                max(1, d.height - d.top - d.bottom) / height,
            ))  # fmt: skip
            if d is EMPTY:
                inset.set_axis_off()
            _fill(inset, chart, legend if chart is charts[0] else (), wide)
        top -= high
    return ax


EMPTY = Graphic(lambda axes: None, "", 270, 20, bottom=4)  # for a chart that has only lines of text


def _graphic(chart: Chart) -> Graphic:
    return chart.drawing if isinstance(chart.drawing, Graphic) else EMPTY


def _size(chart: Chart) -> tuple[int, int]:
    """Width and height of a chart with its title and the lines below it, CSS pixels."""
    drawing = _graphic(chart)
    return drawing.width + 8, drawing.height + TITLE + KEY * len(chart.said)


def _fill(axes: Any, chart: Chart, legend: Sequence[tuple[str, str]], room: int) -> None:
    """Draw a chart with its title, legend and lines of text, in ``room`` CSS pixels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if isinstance(chart.drawing, Graphic):
        chart.drawing.on(axes)
    entries = [*chart.legend, *legend]
    if entries:
        from matplotlib.lines import Line2D

        marks = [Line2D([], [], marker="o", linestyle="", color=color(paint)) for _, paint in entries]
        kept = axes.legend(marks, [name for name, _ in entries], fontsize=8, handletextpad=0.2, framealpha=0.6)
        for text in kept.get_texts():
            text.set_parse_math(False)
    for text in axes.texts:
        if str(text.get_gid()).startswith("halo"):
            from matplotlib import patheffects

            text.set_weight("bold")
            text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
    head = "\n".join(cut(text, room // 6) for text in (chart.title, chart.small) if text)
    if head:
        axes.set_title(head, fontsize=9, loc="left", parse_math=False)
    below = "\n".join(f"{name}: {text}" for name, text in chart.said)
    if below:
        axes.annotate(below, (0, 0), (-20, -36 if isinstance(chart.drawing, Graphic) else 0), va="top", fontsize=8,
                      xycoords="axes fraction", textcoords="offset points", parse_math=False)  # fmt: skip


def show_images(image: np.ndarray, ax: Any, names: Sequence[str] = (), places: Sequence[str] = ()) -> Any:
    """Show one image with opacity, ``[H, W, 2]`` (grey) or ``[H, W, 4]``. ``names`` label its rows of images, and
    ``places`` are written below it, evenly spaced from end to end."""
    if image.shape[-1] == 2:
        image = np.concatenate([image[..., :1].repeat(3, -1), image[..., 1:]], -1)
    high, wide = image.shape[:2]
    scale = min(760 / wide, 1000 / high)
    ax = new_axes(scale * wide + (110 if names else 8), scale * high + (26 if places else 8)) if ax is None else ax
    ax.imshow(image, interpolation="nearest", aspect="equal")
    ax.grid(False)
    edge = 0.04 * wide
    ax.set_xticks(np.linspace(edge, wide - edge, len(places)), list(places), fontsize=9)
    ax.set_yticks((np.arange(len(names)) + 0.5) * high / max(1, len(names)), list(names), fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
