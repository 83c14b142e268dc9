"""The sections for sequences: rows of T steps x C channels, drawn as lines over time."""

from __future__ import annotations

import numpy as np

from latens.report import figures
from latens.report.page import Chart, Section, beside, grid, how, keys, note, number
from latens.report.style import ramp
from latens.report.subject import Subject

PANELS, CHANNELS, DRAWN = 12, 4, 8  # panels of reconstructions, channels that are shown, lines in a bundle
SAMPLES = 1000


def _channels(subject: Subject) -> list[int]:
    return list(range(min(subject.known.shape[1], CHANNELS)))


def _hidden(subject: Subject) -> str:
    count = subject.known.shape[1]
    return note(f"The first {CHANNELS} of {count:,} channels are shown.") if count > CHANNELS else ""


def _name(subject: Subject, channel: int) -> str:
    return f"channel {channel}" if subject.known.shape[1] > 1 else "value"


def reconstructions(subject: Subject) -> Section:
    """Rows and their reconstructions, with one panel per channel."""
    channels = _channels(subject)
    rows = np.arange(min(len(subject.x), max(3, PANELS // len(channels))))
    panels = of_rows(subject, subject.shown[rows], subject.decode(subject.codes[rows], rows))
    text = "Rows of the data, and the same rows encoded and decoded."
    kind = "two" if len(channels) == 2 else ""
    body = how(text) + keys([("original", "c9"), ("reconstruction", "c0")]) + grid(panels, kind) + _hidden(subject)
    return Section("reconstructions", "Originals and reconstructions", body)


def of_rows(subject: Subject, original: np.ndarray, again: np.ndarray) -> list[Chart]:
    """Lines of the first rows and of their reconstructions, ``[N, T, C]``, with a chart for each row and channel."""
    channels, panels = _channels(subject), []
    time = np.arange(original.shape[1])
    for row in range(min(len(original), max(3, PANELS // len(channels)))):
        for c in channels:
            kept = original[row, :, c].var()
            r2 = 1 - ((original[row, :, c] - again[row, :, c]) ** 2).mean() / kept if kept > 0 else None
            drawing = figures.lines(time, [(original[row, :, c], "c9"), (again[row, :, c], "c0")],
                                    f"row {row}, {_name(subject, c)}", x_name="step")  # fmt: skip
            panels.append(Chart(f"row {row}, {_name(subject, c)}", drawing, f"R² {number(r2, '.2f')}"))
    return panels


def samples(subject: Subject, drawn: np.ndarray, text: str, title: str = "Samples") -> Section:
    """Sequences of the data and of the model, and mean and spread of both at each step."""
    some, bands = of_samples(subject, drawn)
    has_data = subject.tensor is not None
    body = how(text) + grid(some, "two") + "<h3>Every step</h3>"
    follow = "; samples (blue) should follow the data (grey)." if has_data else "."
    body += how(f"Mean, 5 % quantile and 95 % quantile at each step{follow}")
    body += beside(has_data) + grid(bands, "two") + _hidden(subject)
    return Section("samples", title, body)


def of_samples(subject: Subject, drawn: np.ndarray) -> tuple[list[Chart], list[Chart]]:
    """(charts of some sequences of data and samples ``[N, T, C]``; charts of mean and spread at each step)."""
    time = np.arange(drawn.shape[1])
    some, bands = [], []
    for c in _channels(subject):
        sets = [("samples", drawn[..., c], "c0")]
        if subject.tensor is not None:
            sets.insert(0, ("data", subject.shown[..., c], "c9"))
        shown = np.concatenate([values[:DRAWN].ravel() for _, values, _ in sets])
        for what, values, _ in sets:
            series = [(line, ramp(i, DRAWN)) for i, line in enumerate(values[:DRAWN])]
            drawing = figures.lines(time, series, f"{what}, {_name(subject, c)}", x_name="step", span=shown)
            some.append(Chart(f"{what}, {_name(subject, c)}", drawing, f"{min(DRAWN, len(values))} sequences"))
        series = [(line, paint) for _, values, paint in sets
                  for line in (values.mean(0), *np.quantile(values, [0.05, 0.95], axis=0))]  # fmt: skip
        label = f"mean and spread of {_name(subject, c)}"
        bands.append(Chart(_name(subject, c), figures.lines(time, series, label, x_name="step"),
                           "mean, and the middle 90 % of the rows, at each step"))  # fmt: skip
    return some, bands


def moves(subject: Subject, title: str, values: np.ndarray, small: str) -> Chart:
    """A panel of the sequences along a walk, ``[steps, T, C]``, from dark to light, in the channel that changes
    most."""
    spread = (values.max(0) - values.min(0)).mean(0)
    if subject.tensor is not None:
        spread = spread / subject.shown.std((0, 1)).clip(1e-12)
    channel = int(spread.argmax())
    steps = np.unique(np.linspace(0, len(values) - 1, 7).round().astype(int))
    series = [(values[step, :, channel], ramp(k, len(steps))) for k, step in enumerate(steps)]
    name = _name(subject, channel)
    drawing = figures.lines(np.arange(values.shape[1]), series, f"{title}, {name}", x_name="step")
    return Chart(title, drawing, f"{name}{', ' * bool(small)}{small}")
