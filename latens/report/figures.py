"""Charts as small inline SVGs in the colours of the page, drawn by matplotlib without pyplot.

Each panel is a separate drawing: a wide screen shows panels side by side, a phone one below another.
"""

from __future__ import annotations

import gc
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.report.groups import Groups
from latens.report.page import esc
from latens.report.style import THEME, color

_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "latens", "text.parse_math": False, "axes.unicode_minus": True,
    "font.size": 10.5, "axes.edgecolor": color("faint"), "axes.labelcolor": color("muted"), "text.color": color("ink"),
    "xtick.color": color("muted"), "ytick.color": color("muted"), "grid.color": color("line"), "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "grid.linewidth": 0.8, "xtick.major.size": 0, "ytick.major.size": 0, "lines.linewidth": 1.7,
    "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "axes.labelsize": 10, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "axes.facecolor": "none", "figure.facecolor": "none", "path.simplify": False, "axes.formatter.limits": (-4, 5),
}  # fmt: skip
DASHES = (0, (4, 3))
TIP = "tip "  # the gid of a shape with a tooltip is this prefix and then the tooltip
Series = Sequence[tuple[np.ndarray, str, bool]]  # (values, their colour, whether bars are filled) of each series
Curve = tuple[np.ndarray, str, Sequence[str]]  # (points [N, 2], their colour, the points' names or none)
_VARIABLES = {light: f"var(--{name})" for name, (light, _) in THEME.items()}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the report's style, and then restore the caller's settings of matplotlib. Garbage collection is off
    inside the block, since it would take a fifth of the time."""
    import matplotlib.style

    was_collecting = gc.isenabled()
    gc.disable()
    try:
        with matplotlib.style.context(["default", _STYLE]):
            yield
    finally:
        if was_collecting:
            gc.enable()


@dataclass(frozen=True, eq=False)
class Graphic:
    """A chart of ``width`` x ``height`` CSS pixels, with margins in pixels. ``draw`` draws it on matplotlib axes: on
    the axes of a page, as inline SVG (``str``), or on the user's axes (:meth:`on`). ``label`` is for screen readers.
    ``grow`` is the factor by which the page may enlarge the chart."""

    draw: Callable[[Any], None]
    label: str
    width: int = 330
    height: int = 200
    left: int = 48
    bottom: int = 34
    right: int = 10
    top: int = 8
    grow: float = 1.45

    def on(self, axes: Any) -> None:
        """Draw on axes."""
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        self.draw(axes)

    def __str__(self) -> str:
        """The drawing as inline SVG: colours as CSS variables, text as text, no links."""
        from matplotlib.figure import Figure

        width, height = self.width, self.height
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        box = (self.left / width, self.bottom / height, (width - self.left - self.right) / width,
               (height - self.bottom - self.top) / height)  # fmt: skip
        self.on(figure.add_axes(box))
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # warnings that matplotlib's font lacks some letters
            figure.savefig(file, format="svg", metadata={"Date": None})
        return (
            f'<svg role="img" aria-label="{esc(self.label)}" viewBox="0 0 {width} {height}" '
            f'style="max-width:{round(self.grow * width)}px">{_inline(file.getvalue())}</svg>'
        )


def _inline(text: str) -> str:
    """The inner part of an SVG that matplotlib made, adapted to a page with the theme's colours and font."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^<svg[^>]*>|</svg>\s*$", "", text)
    prefix = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(rf'<g id="{TIP}([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{prefix}-', text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r' d="([^"]*)"', lambda found: f' d="{_short_path(found[1])}"', text)
    return re.sub(r">\s+<", "><", text)


def _short_path(path: str) -> str:
    path = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), path)
    path = re.sub(r"\s+", " ", path).strip()
    return re.sub(r"M ([-\d.]+) ([-\d.]+) L \1 \2(?= |$)", r"M\1 \2h0", path)


def limits(values: np.ndarray, pad: float = 0.05) -> tuple[float, float]:
    """The range of all finite values, slightly widened."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = (high - low) * pad or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def dots(axes: Any, points: np.ndarray, paint: str, size: float = 4.0, opacity: float = 0.8) -> None:
    """Draw round dots at ``[N, 2]`` as one path, a tenth of the size of separate elements."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not len(points):
        return
    vertices = np.repeat(points.astype(float), 2, axis=0)
    vertices[1::2, 0] += 1e-6 * np.ptp(points[:, 0])  # renderers do not draw a line of length 0
    path = Path(vertices, np.tile(np.array([Path.MOVETO, Path.LINETO], dtype=np.uint8), len(points)))
    path.should_simplify = False
    axes.add_patch(PathPatch(path, facecolor="none", edgecolor=paint, linewidth=size, alpha=opacity, capstyle="round",
                             snap=False))  # fmt: skip


def curves(x: np.ndarray, series: Sequence[tuple[np.ndarray, str]], label: str, best: float | None = None) -> Graphic:
    """Lines over epochs. The axis may cut off the first validations, so that the rest is legible (:func:`is_cut`)."""

    def draw(axes: Any) -> None:
        for values, name in series:
            axes.plot(x, values, color=color(name), marker="o" if len(x) < 4 else "", markersize=5)
        axes.set_ylim(*_late(series))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(x) == 1:
            axes.set_xlim(x[0] - 1, x[0] + 1)
        if best is not None:
            axes.axvline(best, color=color("muted"), linewidth=1, linestyle=DASHES)
        axes.set_xlabel("epoch")

    return Graphic(draw, label, 330, 205)


def _late(series: Sequence[tuple[np.ndarray, str]]) -> tuple[float, float]:
    """The range of all values except those of the first eighth of the epochs."""
    return limits(np.concatenate([values[len(values) // 8 :] for values, _ in series]))


def is_cut(series: Sequence[tuple[np.ndarray, str]]) -> bool:
    """Whether a chart of :func:`curves` cuts off some values."""
    low, high = _late(series)
    every = np.concatenate([values for values, _ in series])
    every = every[np.isfinite(every)]
    return bool(len(every) and (every.min() < low or every.max() > high))


def lines(
    x: np.ndarray, series: Sequence[tuple[np.ndarray, str]], label: str, *, x_name: str = "", marks: bool = False,
    height: int = 180, ticks: Mapping[float, str] | None = None, span: np.ndarray | None = None,
) -> Graphic:  # fmt: skip
    """A chart of lines with common x values.

    Args:
        x: the x values, ``[T]``.
        series: (values ``[T]``, colour) of each line.
        label: the label of the chart, for screen readers.
        x_name: the name of the x axis.
        marks: whether each value is marked with a dot.
        height: the height in CSS pixels.
        ticks: {x value: name} on the x axis.
        span: values that the y axis must include, so that charts are comparable.
    """

    def draw(axes: Any) -> None:
        for values, name in series:
            axes.plot(x, values, color=color(name), marker="o" if marks else "", markersize=5)
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_ylim(*limits(np.concatenate([values for values, _ in series]) if span is None else span, 0.08))
        axes.set_xlabel(x_name)

    return Graphic(draw, label, 300, height, bottom=36 if x_name else 22, left=46)


def bars(heights: np.ndarray, names: Sequence[str], label: str, *, paint: Sequence[str], y_name: str,
         threshold: float | None = None, log: bool = False) -> Graphic:  # fmt: skip
    """A bar chart with a dashed line at ``threshold``."""

    def draw(axes: Any) -> None:
        place, shown = np.arange(len(heights)), heights
        if log:
            shown = _log_scale(axes, heights, threshold)
        axes.bar(place, shown, color=[color(p) for p in paint], width=0.72)
        axes.grid(False, axis="x")
        axes.set_xlim(-0.6, max(len(heights), 4) - 0.4)
        step = max(1, -(-len(heights) // 20))
        axes.set_xticks(place[::step], list(names)[::step])
        if threshold is not None:
            axes.axhline(threshold, color=color("c1"), linewidth=1.3, linestyle=DASHES)
        axes.set_xlabel("latent dimension")
        axes.set_ylabel(y_name)

    return Graphic(draw, label, 360, 190, left=54, bottom=38)


def _log_scale(axes: Any, heights: np.ndarray, threshold: float | None) -> np.ndarray:
    """The heights, cut off at the lower end of a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    floor = max(1e-6, min(float(heights.min()), threshold or 1) / 2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(floor, max(float(heights.max()), threshold or 0) * 2)
    return heights.clip(floor)


def bins_of(series: Series, most: int) -> int:
    """The number of bins that suits the shortest series, at most ``most``."""
    return min(most, max(8, 2 * round(min((len(values) for values, *_ in series), default=0) ** 0.5)))


def stairs(axes: Any, series: Series, edges: np.ndarray, unit: np.ndarray | float = 1.0) -> None:
    """Draw the share of the values in each bin, divided by ``unit``, without a y axis."""
    for values, name, filled in series:
        heights = np.histogram(values, edges)[0] / max(1, len(values)) / unit
        axes.stairs(heights, edges, color=color(name), fill=filled, alpha=0.45 if filled else 1, linewidth=1.6)
    axes.set_yticks([])
    axes.set_ylim(0)
    axes.spines["left"].set_visible(False)


def histogram(series: Series, label: str, *, bins: int = 30, discrete: bool = False) -> Graphic:
    """Histograms of (values, colour, filled) on common bins, each with area 1. The outermost 0.5 % of the first series
    at each end are cut off."""

    def draw(axes: Any) -> None:
        if discrete:
            low, high = (float(v) for v in (min(s[0].min() for s in series), max(s[0].max() for s in series)))
            edges = np.linspace(low - 0.5, high + 0.5, int(min(high - low + 1, 40)) + 1)
        else:
            edges = np.linspace(*limits(np.quantile(series[0][0], [0.005, 0.995]), 0.15), bins_of(series, bins) + 1)
        stairs(axes, series, edges, np.diff(edges))

    return Graphic(draw, label, 270, 150, left=10, bottom=24)


def against(axes: Any, x: np.ndarray, y: np.ndarray, span: tuple[float, float], names: tuple[str, str]) -> None:
    """Draw y against x on the same span, with the line y = x."""
    axes.plot(span, span, color=color("faint"), linewidth=1)
    inside = (x >= span[0]) & (x <= span[1]) & (y >= span[0]) & (y <= span[1])
    dots(axes, np.stack([x[inside], y[inside]], 1), color("c0"), 3.2, 0.55)
    axes.set(xlim=span, ylim=span, xlabel=names[0], ylabel=names[1])


def scatter(x: np.ndarray, y: np.ndarray, label: str) -> Graphic:
    """A chart of y against x on equal scales, with the line y = x."""

    def draw(axes: Any) -> None:
        axes.locator_params(nbins=4)
        span = limits(np.quantile(np.concatenate([x, y]), [0.002, 0.998]), 0.1)
        against(axes, x, y, span, ("original", "reconstruction"))
        axes.set(aspect="equal")

    return Graphic(draw, label, 250, 235, left=46, bottom=38)


def cloud(
    points: np.ndarray, groups: Groups | None, label: str, *, behind: np.ndarray | None = None, circles: bool = False,
    names: tuple[str, str] = ("", ""), paths: Sequence[np.ndarray] = (), frame: np.ndarray | None = None,
) -> Graphic:  # fmt: skip
    """A map of points, coloured by group.

    Args:
        points: ``[N, 2]``; drawn faintly if there are paths.
        groups: the groups of the points.
        label: the label of the map, for screen readers.
        behind: grey points below the others, ``[M, 2]``.
        circles: whether to draw circles that hold 50 % and 95 % of N(0, I).
        names: the names of the two axes.
        paths: lines on top, ``[steps, 2]`` each.
        frame: points that the axes must span, so that small maps are comparable.
    """
    side, width = (400, 4.2) if frame is None else (290, 2.8)
    behind = np.empty((0, 2)) if behind is None else behind

    def draw(axes: Any) -> None:
        dots(axes, behind, color("faint"), 2.6 if len(behind) > 150 else 4, 0.5 if len(behind) > 400 else 0.9)
        for values, paint, opacity in _layers(points, groups, faint=bool(len(paths))):
            dots(axes, values, paint, width * (1.0 if len(points) > 150 else 1.45), opacity)
        look = {"color": color("c1"), "linewidth": 1.8, "marker": "o", "markersize": 2.6}
        for line in paths:
            axes.plot(line[:, 0], line[:, 1], markevery=len(line) - 1, **look)
        shown = [np.quantile(points if frame is None else frame, [0.002, 0.998], axis=0), *paths]
        if frame is None and len(behind):
            shown.append(np.quantile(behind, [0.01, 0.99], axis=0))
        if circles:
            _circles(axes)
            shown.append(np.array([[-2.6, -2.6], [2.6, 2.6]]))
        half = _square(axes, np.concatenate(shown))
        axes.set(xlabel=names[0], ylabel=names[1])
        if groups is not None and frame is None:
            _name_groups(axes, groups.centers(points), 2 * half / (side - 60))

    left, bottom = (44, 38) if any(names) else (34, 26)
    return Graphic(draw, label, side, side, left=left, bottom=bottom)


def tradeoff(curves: Sequence[Curve], label: str) -> Graphic:
    """Distortion against rate, nats; along a dashed line the ELBO (-rate - distortion) is constant.

    Args:
        curves: rates and distortions of each model, joined in the order of the rates.
        label: the label of the chart, for screen readers.
    """

    def draw(axes: Any) -> None:
        every = np.concatenate([points for points, *_ in curves])
        (left, right), (low, high) = limits(every[:, 0], 0.12), limits(every[:, 1], 0.12)
        for total in np.linspace(left + low, right + high, 9)[1:-1]:
            axes.plot([left, right], [total - left, total - right], color=color("faint"), linewidth=0.8,
                      linestyle=DASHES)  # fmt: skip
        for points, paint, names in curves:
            order = np.argsort(points[:, 0], kind="stable")
            axes.plot(*points[order].T, color=color(paint), marker="o", markersize=4.5)
            for name, place in zip(names, points):
                left_of = place[0] > 0.75 * right + 0.25 * left
                axes.annotate(name, place, (-5 if left_of else 5, 5), textcoords="offset points", fontsize=9,
                              ha="right" if left_of else "left", parse_math=False)  # fmt: skip
        axes.set(xlim=(left, right), ylim=(low, high), xlabel="rate, nats", ylabel="distortion, nats")

    return Graphic(draw, label, 360, 250, left=58, bottom=38)


def _square(axes: Any, shown: np.ndarray) -> float:
    """Show a square around all points, and return half the length of its side."""
    middle, half = (shown.max(0) + shown.min(0)) / 2, float((shown.max(0) - shown.min(0)).max()) / 2 * 1.08 or 1.0
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
    return half


def _name_groups(axes: Any, centers: list[tuple[str, np.ndarray]], pixel: float) -> None:
    for i, ((name, _), place) in enumerate(zip(centers, _apart(centers, pixel))):
        axes.text(*place, name, ha="center", va="center", fontsize=11, gid=f"halo-label{i}")


def _circles(axes: Any) -> None:
    from matplotlib.patches import Circle

    gray = color("muted")
    for share in (0.5, 0.95):
        radius = float(np.sqrt(-2 * np.log(1 - share)))
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=gray, linewidth=1, linestyle=DASHES))
        axes.text(0, -radius, f"{share:.0%}", color=gray, ha="center", va="center", fontsize=9, gid=f"halo{share}")


def _apart(named: Sequence[tuple[str, np.ndarray]], pixel: float) -> np.ndarray:
    """Positions ``[K, 2]`` of names near their centres, moved up or down until none covers another."""
    places = np.array([center for _, center in named], dtype=float).reshape(-1, 2)
    wide = np.array([(7 * len(name) + 8) * pixel for name, _ in named])
    high = 14 * pixel
    for _ in range(100):
        across = np.abs(places[:, None, 0] - places[None, :, 0]) < (wide[:, None] + wide[None]) / 2
        gap = places[:, None, 1] - places[None, :, 1]
        push = np.where(across & (np.abs(gap) < high), (high - np.abs(gap)) / 2, 0.0)
        np.fill_diagonal(push, 0.0)
        if not push.any():
            break
        upper = np.where(gap == 0, np.arange(len(gap))[:, None] > np.arange(len(gap)), gap > 0)
        places[:, 1] += (np.where(upper, push, -push) * 0.6).sum(1) + 1e-3 * pixel * np.sign(push.sum(1))
    return places


def _layers(points: np.ndarray, groups: Groups | None, faint: bool) -> list[tuple[np.ndarray, str, float]]:
    """(points, colour, opacity) in drawing order: groups alternate, so that no group hides the others."""
    if groups is None:
        return [(points, color("faint" if faint else "c0"), 0.5 if faint and len(points) > 400 else 0.8)]
    layers = []
    for part in np.array_split(np.arange(len(points)), min(8, len(points))):
        for i in range(len(groups.names)):
            rows = part[groups.index[part] == i]
            if len(rows):
                layers.append((points[rows], groups.paint(i), 0.85))
    return layers
