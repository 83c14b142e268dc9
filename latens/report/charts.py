"""Charts of single columns: distributions, scatters, paired bars of levels, and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.report.figures import Panel, Series, against, bins_of, stairs
from latens.report.page import esc, number
from latens.schema import Column

BINS = 30
NAME = 18  # letters of a name in a chart
TAIL = 0.005  # share of the values beyond each end of an axis
LOG_RATIO = 30.0  # positive numbers whose range, without tails, exceeds this ratio get a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """The axis of a numeric column.

    Attributes:
        low, high: its ends.
        scale: "linear", "log" or "symlog" (linear to 1, then logarithmic).
        dates: whether values are days since 1970-01-01.
        step: the smallest distance of two values; 0 for any.
    """

    low: float
    high: float
    scale: str = "linear"
    dates: bool = False
    step: float = 0.0

    @classmethod
    def of(cls, column: Column, values: np.ndarray) -> Axis:
        """The axis for all observed ``values``, ``[N]``, except their tails.

        >>> Axis.of(Column("n", "count", "int64", "poisson"), np.array([0.0, 1.0, 2.0, np.nan]))
        Axis(low=0.0, high=2.0, scale='linear', dates=False, step=1.0)
        """
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(0.0, 1.0)
        dates = column.kind == "datetime" and column.type.startswith(("date", "timestamp"))
        step = 1.0 if column.kind == "count" else 0.0 if column.decimals is None else 10.0**-column.decimals
        low, middle, high = (float(v) for v in np.quantile(values, [TAIL, 0.5, 1 - TAIL]))
        if low == high:
            low, high = float(values.min()), float(values.max())
        if low == high:
            return cls(low - 0.5, high + 0.5, dates=dates)
        if column.kind == "positive" and low > 0 and high / low > LOG_RATIO:
            return cls(low, high, "log")
        if column.kind == "count" and high > 40 and high > 10 * max(middle, 1):
            return cls(max(low, 0.0), high, "symlog")
        return cls(low, high, dates=dates, step=step)

    def edges(self, bins: int = BINS) -> np.ndarray:
        """Edges of about ``bins`` bins; values that are whole steps apart lie inside the bins."""
        if self.scale == "log":
            return np.geomspace(self.low, self.high, bins + 1)
        if self.scale == "symlog":
            return np.unique(np.expm1(np.linspace(np.log1p(self.low), np.log1p(self.high), bins + 1)).round()) - 0.5
        if self.step and (self.high - self.low) / self.step < 50 * bins:
            width = max(1, int(np.ceil((self.high - self.low) / self.step / bins))) * self.step
            first = (round(self.low / self.step) - 0.5) * self.step
            return np.arange(first, self.high + width, width)
        return np.linspace(self.low, self.high, bins + 1)

    def dress(self, axes: Any, sides: str = "x", most: int = 4) -> None:
        """Set scale and ticks of a chart's x or y axis, or both."""
        for side in sides:
            axis = getattr(axes, f"{side}axis")
            if self.dates:
                from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

                locator = AutoDateLocator(minticks=2, maxticks=most + 1)
                axis.set_major_locator(locator)
                axis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
            elif self.scale != "linear":
                options = {"linthresh": 1.0} if self.scale == "symlog" else {}
                getattr(axes, f"set_{side}scale")(self.scale, **options)
                ticks = _ticks(self.low, self.high, most)
                axis.set_ticks(ticks, [number(tick, "g") for tick in ticks])
                axis.set_ticks([], minor=True)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers for a logarithmic axis."""
    found = [0.0] if low <= 0 else []
    first = np.floor(np.log10(max(low, 1.0 if low <= 0 else low)))
    powers = 10.0 ** np.arange(first, np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [float(f"{m * p:g}") for p in powers for m in steps if max(low, 1e-300) <= m * p <= high]
        if len(ticks) >= 3:
            break
    return found + ticks[:: max(1, -(-len(ticks) // most))]


def distribution(axis: Axis, series: Series, label: str) -> str:
    """Histograms of (values, colour, filled) on common bins, as shares of the values."""
    panel = Panel(270, 150, left=10, bottom=24)
    edges = axis.edges(bins_of(series, BINS))
    stairs(panel, series, edges)
    axis.dress(panel.axes)
    panel.axes.set_xlim(edges[0], edges[-1])
    return panel.svg(label)


def scatter(
    axis: Axis, x: np.ndarray, y: np.ndarray, label: str, names: tuple[str, str] = ("original", "reconstruction")
) -> str:
    """y against x on the same axis, with the line y = x."""
    panel = Panel(250, 235, left=56, bottom=38)
    panel.axes.locator_params(nbins=4)
    log = axis.scale != "linear"
    room = 0.0 if log else 0.06 * (axis.high - axis.low)
    low, high = axis.low / (1.15 if log else 1) - room, axis.high * (1.15 if log else 1) + room
    low = -0.4 if axis.scale == "symlog" and low == 0 else low
    axis.dress(panel.axes, "xy", 4)
    against(panel, x, y, (low, high), names)
    return panel.svg(label)


# Drawn by hand: rectangles and names


def cut(name: str, most: int = NAME) -> str:
    """The name, or its beginning, as text of an SVG."""
    return esc(name if len(name) <= most else name[: most - 1] + "…", 60)


def _room(names: Sequence[str]) -> int:
    """The approximate width of the longest name."""
    return 18 + round(6.2 * max((min(len(str(name)), NAME) for name in names), default=0))


def paired(names: Sequence[str], rows: Sequence[tuple[np.ndarray, str]], label: str) -> str:
    """Horizontal bars of shares, with the series of each level below one another."""
    left, width, line = _room(names), 270, 30
    top = max((float(shares.max(initial=0)) for shares, _ in rows), default=0.0) or 1.0
    thick = 20 / len(rows)
    parts = []
    for i, name in enumerate(names):
        y = i * line + 4
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end" fill="var(--muted)">'
                     f"<title>{esc(name)}</title>{cut(name)}</text>")  # fmt: skip
        for k, (shares, paint) in enumerate(rows):
            long = (width - left - 44) * float(shares[i]) / top
            parts.append(
                f'<rect x="{left}" y="{y + k * thick:.1f}" width="{max(long, 0.7):.1f}" height="{thick - 1:.1f}" '
                f'fill="var(--{paint})" fill-opacity="{0.6 if paint == "c9" else 1}"/>'
                f'<text x="{left + long + 4:.1f}" y="{y + k * thick + thick - 1.5:.1f}" font-size="9" '
                f'fill="var(--muted)">{share(float(shares[i]))}</text>'
            )
    return _svg(width, len(names) * line + 6, label, parts)


def share(value: float) -> str:
    """A share in percent: "0" and "100" are kept for exactly that.

    >>> share(0.0), share(0.0004), share(0.123), share(0.9999)
    ('0 %', '<0.1 %', '12 %', '>99.9 %')
    """
    if 0 < value < 0.001:
        return "<0.1 %"
    if 0.999 < value < 1:
        return ">99.9 %"
    return f"{100 * value:.1f} %" if 0 < value < 0.0995 or 0.99 < value < 1 else f"{100 * value:.0f} %"


def heat(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], label: str, *, percent: bool = False,
    y_name: str = "", x_name: str = "",
) -> str:  # fmt: skip
    """A matrix ``[R, C]`` of numbers in [0, 1] as squares, darker for larger numbers, blank for NaN. Tooltips show the
    figures (in percent with ``percent``); the squares of small matrices show them too."""
    written = max(values.shape) <= 8
    cell = 34 if written else 26
    left = _room(rows) + (16 if y_name else 0)
    top = 16 + round(4.4 * max(min(len(str(name)), NAME) for name in columns)) + (16 if x_name else 0)
    slant = round(4.4 * min(len(str(columns[-1])), NAME))
    parts = []
    if y_name:
        parts.append(_text(esc(y_name), 11, top + cell * len(rows) / 2, "middle", -90))
    if x_name:
        parts.append(_text(esc(x_name), left + cell * len(columns) / 2, 12, "middle"))
    for j, name in enumerate(columns):
        parts.append(_text(_titled(name), left + cell * (j + 0.45), top - 6, turned=-45))
    for i, name in enumerate(rows):
        y = top + cell * i
        parts.append(_text(_titled(name), left - 7, y + cell / 2 + 4, "end"))
        for j, value in enumerate(values[i]):
            if not np.isfinite(value):
                continue
            place = f'x="{left + cell * j + 0.5}" y="{y + 0.5}" width="{cell - 1}" height="{cell - 1}"'
            told = f"{100 * value:.0f}" if percent else number(float(value), ".2f")
            tip = f"<title>{esc(name)}, {esc(columns[j])}: {told}{' %' * percent}</title>"
            opacity = 0.04 + 0.96 * min(max(float(value), 0.0), 1.0)
            parts.append(f'<rect {place} rx="2" fill="var(--c0)" fill-opacity="{opacity:.3g}">{tip}</rect>')
            if written:
                paint, x = "card" if value > 0.5 else "ink", left + cell * (j + 0.5)
                parts.append(_text(told, x, y + cell / 2 + 4, "middle", size=10, paint=paint))
    return _svg(left + cell * len(columns) + max(10, slant), top + cell * len(rows) + 4, label, parts)


def _titled(name: str) -> str:
    """A name, shortened, with the whole name in a tooltip."""
    return f"<title>{esc(name)}</title>{cut(name)}"


def _text(
    text: str, x: float, y: float, anchor: str = "", turned: int = 0, *, size: int = 11, paint: str = "muted"
) -> str:
    at = (f' text-anchor="{anchor}"' if anchor else "") + (
        f' transform="rotate({turned} {x:.0f} {y:.0f})"' if turned else ""
    )
    return f'<text x="{x:.0f}" y="{y:.0f}"{at} font-size="{size}" fill="var(--{paint})">{text}</text>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{esc(label)}" viewBox="0 0 {width:.0f} {height:.0f}" font-size="11" '
        f'style="max-width:{1.1 * width:.0f}px">{"".join(parts)}</svg>'
    )
