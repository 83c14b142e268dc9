"""Whether samples of counts with many columns match the data: means, variances, zeros and totals."""

from __future__ import annotations

from typing import Any

import numpy as np

from latens.report import charts, figures
from latens.report.page import Chart, beside, grid, how, number
from latens.report.style import color
from latens.report.subject import Subject
from latens.schema import Column


def axis(values: np.ndarray) -> charts.Axis:
    """The axis for a column of counts."""
    return charts.Axis.of(Column("", "count", "int64", "poisson"), values)


def moments(subject: Subject, drawn: np.ndarray) -> str:
    """Mean, variance and share of zeros of each column, and totals of the rows, of data and samples (HTML)."""
    data = subject.shown
    zeros = [charts.share(float((each == 0).mean())) for each in (data, drawn)]
    panels = [
        Chart("Mean of each column", _both(data.mean(0), drawn.mean(0), "mean", log=True), _apart(data, drawn)),
        Chart("Variance against mean", _variances(data, drawn), "above the line: more than Poisson"),
        Chart("Zeros of each column", _both((data == 0).mean(0), (drawn == 0).mean(0), "share of zeros"),
              f"{zeros[0]} of the data, {zeros[1]} of the samples"),
        Chart("Totals of the rows", _totals(data.sum(1), drawn.sum(1)), "given to the model, if it reads totals"),
    ]  # fmt: skip
    text = (
        "Each dot is a column. Means and shares of zeros should lie on the line, on which samples and data agree. A "
        "column with a variance above its mean varies more than a Poisson count; samples should vary as much as the "
        "data."
    )
    return "<h3>All columns</h3>" + how(text) + beside(True) + grid(panels, "small")


def _apart(data: np.ndarray, drawn: np.ndarray) -> str:
    a, b = data.mean(0), drawn.mean(0)
    known = (a > 0) & (b > 0)
    off = float(np.exp(np.abs(np.log(b[known] / a[known])).mean())) if known.any() else None
    return f"they differ by a factor of {number(off, '.3g')} on average"


def _both(data: np.ndarray, drawn: np.ndarray, what: str, log: bool = False) -> figures.Graphic:
    """Samples against data with the line y = x."""
    values = np.concatenate([data, drawn])
    if not log:
        return charts.scatter(charts.Axis(0.0, 1.0), data, drawn, f"{what}, samples against data", ("data", "samples"))
    return charts.scatter(_log_axis(values), data, drawn, f"{what}, samples against data", ("data", "samples"))


def _log_axis(values: np.ndarray) -> charts.Axis:
    above = values[values > 0]
    low, high = (float(above.min()), float(above.max())) if len(above) else (0.1, 1.0)
    return charts.Axis(low, max(high, 1.01 * low), "log")


def _variances(data: np.ndarray, drawn: np.ndarray) -> figures.Graphic:
    means, spreads = ([each.mean(0) for each in (data, drawn)], [each.var(0) for each in (data, drawn)])
    across, up = _log_axis(np.concatenate(means)), _log_axis(np.concatenate(spreads))

    def draw(axes: Any) -> None:
        across.dress(axes, "x")
        up.dress(axes, "y")
        line = np.array([across.low, across.high])
        axes.plot(line, line, color=color("faint"), linewidth=1)
        for x, y, paint in zip(means, spreads, ("c9", "c0")):
            usable = (x > 0) & (y > 0)
            figures.dots(axes, np.stack([x[usable], y[usable]], 1), color(paint), 4.2, 0.7)
        axes.set(xlim=(across.low / 1.2, across.high * 1.2), ylim=(up.low / 1.2, up.high * 1.2), xlabel="mean",
                 ylabel="variance")  # fmt: skip

    return figures.Graphic(draw, "variance against mean of each column", 250, 235, left=56, bottom=38)


def _totals(data: np.ndarray, drawn: np.ndarray) -> figures.Graphic:
    across = axis(np.concatenate([data, drawn]))
    return charts.distribution(across, [(data, "c9", True), (drawn, "c0", False)], "totals of the rows")
