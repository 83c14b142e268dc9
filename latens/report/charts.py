"""Charts of single columns: distributions, scatters, paired bars of levels, and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.report.figures import TIP, Graphic, Series, against, bins_of, stairs
from latens.report.page import number
from latens.report.style import color
from latens.schema import Column

BINS = 30
NAME = 18  # the most letters of a name in a chart
TAIL = 0.005  # the share of the values that lies beyond either end of an axis
LOG_RATIO = 30.0  # positive numbers whose range, without tails, exceeds this ratio get a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """The axis of a numeric column.

    Attributes:
        low, high: the ends of the axis.
        scale: "linear", "log" or "symlog" (linear to 1, then logarithmic).
        dates: whether values are days since 1970-01-01.
        step: the smallest distance between two values; 0 if there is none.
    """

    low: float
    high: float
    scale: str = "linear"
    dates: bool = False
    step: float = 0.0

    @classmethod
    def of(cls, column: Column, values: np.ndarray) -> Axis:
        """The axis that shows all observed ``values``, ``[N]``, except their tails.

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
        """The edges of about ``bins`` bins. If values are whole steps apart, no edge coincides with a value."""
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
    """Round numbers as ticks of a logarithmic axis."""
    found = [0.0] if low <= 0 else []
    first = np.floor(np.log10(max(low, 1.0 if low <= 0 else low)))
    powers = 10.0 ** np.arange(first, np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [float(f"{m * p:g}") for p in powers for m in steps if max(low, 1e-300) <= m * p <= high]
        if len(ticks) >= 3:
            break
    return found + ticks[:: max(1, -(-len(ticks) // most))]


def distribution(axis: Axis, series: Series, label: str) -> Graphic:
    """Histograms of (values, colour, filled) on common bins, as shares of the values."""

    def draw(axes: Any) -> None:
        edges = axis.edges(bins_of(series, BINS))
        stairs(axes, series, edges)
        axis.dress(axes)
        axes.set_xlim(edges[0], edges[-1])

    return Graphic(draw, label, 270, 150, left=10, bottom=24)


def scatter(
    axis: Axis, x: np.ndarray, y: np.ndarray, label: str, names: tuple[str, str] = ("original", "reconstruction")
) -> Graphic:
    """y against x on the same axis, with the line y = x."""
    log = axis.scale != "linear"
    room = 0.0 if log else 0.06 * (axis.high - axis.low)
    low, high = axis.low / (1.15 if log else 1) - room, axis.high * (1.15 if log else 1) + room
    low = -0.4 if axis.scale == "symlog" and low == 0 else low

    def draw(axes: Any) -> None:
        axes.locator_params(nbins=4)
        axis.dress(axes, "xy", 4)
        against(axes, x, y, (low, high), names)

    return Graphic(draw, label, 250, 235, left=56, bottom=38)


def cumulative(values: np.ndarray, label: str) -> Graphic:
    """The share of values in [0, 1] that are at most t, against t, with the line for uniform values and a band in which
    95 % of uniform samples of this size stay (Massart 1990)."""

    def draw(axes: Any) -> None:
        t = np.linspace(0, 1, 201)
        band = np.sqrt(np.log(2 / 0.05) / (2 * len(values)))
        axes.fill_between(t, (t - band).clip(0), (t + band).clip(None, 1), color=color("line"), linewidth=0)
        axes.plot(t, t, color=color("faint"), linewidth=1)
        ordered = np.sort(values)
        shares = np.arange(len(values) + 1) / len(values)
        axes.step(np.concatenate([[0], ordered, [1]]), np.append(shares, 1), where="post", color=color("c0"))
        axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="t", ylabel="share with p-value ≤ t")

    return Graphic(draw, label, 300, 250, left=50, bottom=38)


# Levels: names next to bars, and matrices


def cut(name: object, most: int = NAME) -> str:
    """The name, or its beginning, on one line."""
    text = "".join(ch if ch.isprintable() else " " for ch in str(name))
    return text if len(text) <= most else text[: most - 1] + "…"


def _room(names: Sequence[str]) -> int:
    """The approximate width of the longest name."""
    return 18 + round(6.2 * max((min(len(str(name)), NAME) for name in names), default=0))


def paired(names: Sequence[str], rows: Sequence[tuple[np.ndarray, str]], label: str) -> Graphic:
    """Horizontal bars of shares; for each level, the bars of the series are below one another."""

    def draw(axes: Any) -> None:
        thick = 2 / 3 / len(rows)
        for k, (shares, paint) in enumerate(rows):
            place = np.arange(len(names)) + (k - (len(rows) - 1) / 2) * thick
            axes.barh(place, shares, 0.95 * thick, color=color(paint), alpha=0.6 if paint == "c9" else 1)
            for y, value in zip(place, shares):
                axes.text(value, y, f" {share(float(value))}", va="center", fontsize=8.5, color=color("muted"))
        top = max((float(shares.max(initial=0)) for shares, _ in rows), default=0.0) or 1.0
        axes.set(xlim=(0, top), ylim=(len(names) - 0.5, -0.5), xticks=[])
        _named(axes.yaxis, np.arange(len(names)), names)
        axes.grid(False)
        axes.spines[:].set_visible(False)

    height = 30 * len(names) + 6
    return Graphic(draw, label, 270, height, left=_room(names), bottom=3, right=44, top=3, grow=1.1)


def _named(axis: Any, places: np.ndarray, names: Sequence[str], **look: Any) -> None:
    """Set the names, cut to length, at the places of an axis; a tooltip has the whole name."""
    axis.set_ticks(places, [cut(name) for name in names], parse_math=False, **look)
    axis.set_tick_params(length=0)
    for text, name in zip(axis.get_ticklabels(), names):
        text.set_gid(TIP + cut(name, 300))


def share(value: float) -> str:
    """A share in percent; only exact values are shown as "0" or "100".

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
) -> Graphic:  # fmt: skip
    """A matrix ``[R, C]`` of numbers in [0, 1] as squares, darker for larger numbers, blank for NaN. Tooltips show the
    figures (in percent with ``percent``); the squares of small matrices show them too."""
    written = max(values.shape) <= 8

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for i, j in np.argwhere(np.isfinite(values)):
            value = float(values[i, j])
            told = f"{100 * value:.0f}" if percent else number(value, ".2f")
            shade = 0.04 + 0.96 * min(max(value, 0.0), 1.0)
            tip = f"{TIP}{cut(rows[i], 60)}, {cut(columns[j], 60)}: {told}{' %' * percent}"
            axes.add_patch(Rectangle((j + 0.02, i + 0.02), 0.96, 0.96, color=color("c0"), alpha=shade, lw=0, gid=tip))
            if written:
                paint = color("card" if value > 0.5 else "ink")
                axes.text(j + 0.5, i + 0.5, told, ha="center", va="center", fontsize=10, color=paint, gid=tip)
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0), aspect="equal")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        _named(axes.yaxis, np.arange(len(rows)) + 0.5, rows)
        _named(axes.xaxis, np.arange(len(columns)) + 0.5, columns, rotation=45, ha="left", rotation_mode="anchor")
        axes.set_xlabel(x_name)
        axes.set_ylabel(y_name)

    cell = 34 if written else 26
    left = _room(rows) + (16 if y_name else 0)
    top = 18 + round(4.6 * max(min(len(str(name)), NAME) for name in columns)) + (16 if x_name else 0)
    right = max(10, round(4.6 * min(len(str(columns[-1])), NAME)))
    wide, high = left + cell * len(columns) + right, top + cell * len(rows) + 4
    return Graphic(draw, label, wide, high, left=left, bottom=4, right=right, top=top, grow=1.1)
