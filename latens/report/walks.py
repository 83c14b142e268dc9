"""Walks through the latent space: along each active dimension, and in straight lines between codes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from latens.evaluation import interpolate
from latens.report import charts, figures, pixels, sequences
from latens.report.marginals import in_levels
from latens.report.page import Chart, LeftOut, Section, details, grid, how, number
from latens.report.subject import Subject
from latens.schema import Table
from latens.schema.column import LOGARITHMIC

STRIPS = 16  # the most dimensions that are shown
MOVERS = 4  # columns that are drawn in one panel


STEPS = 11  # images in a strip
PLACES = {-3.0: "−3", 0.0: "0", 3.0: "3"}


def traversals(subject: Subject) -> Section:
    """Walks along each active dimension from -3 to 3, with the others at the centre."""
    active, inactive = subject.dimensions
    if not active:
        raise LeftOut("No latent dimension is active.")
    shown = active[:STRIPS]
    text = _read(subject, len(shown)) + (
        f"Inactive dimensions ({len(inactive)}) change nothing and are left out." if inactive else ""
    )
    if subject.is_image:
        decoded = [walked(subject, dim) for dim in shown]
        rows = [_traversal_strip(subject, dim, values) for dim, values in zip(shown, decoded)]
        wide = pixels.strip_width(subject.pixels(decoded[0]))
        axis = f'<div class="scale" style="width:{wide:.0f}px"><span>−3</span><span>0</span><span>3</span></div>'
        axis = f'<div class="strip"><span></span>{axis}</div>'
        more = details(f"{len(rows) - 8} more dimensions", "".join(rows[8:])) if len(rows) > 8 else ""
        return Section("traversal", "Traversals", how(text) + axis + "".join(rows[:8]) + more)
    panels = [along(subject, f"dimension {dim}", walked(subject, dim), rate_of(subject, dim)) for dim in shown]
    return Section("traversal", "Traversals", how(text + _units(subject)) + grid(panels))


def walked(subject: Subject, dim: int) -> np.ndarray:
    """Decoded codes from -3 to 3 along one dimension, the others at the centre, ``[steps, *shape]``."""
    center, unit = subject.walk
    steps = torch.linspace(-3, 3, STEPS if subject.is_image else 25)
    z = center.repeat(len(steps), 1)
    z[:, dim] += steps * unit[dim]
    return subject.decode(z)


def along(subject: Subject, title: str, values: np.ndarray, small: str = "") -> Chart:
    """A chart of what changes along one dimension, from values ``[steps, *shape]`` of columns or sequences."""
    x = np.linspace(-3, 3, len(values))
    return _moves(subject, title, values, x, "z, in standard deviations", PLACES, small)


def _read(subject: Subject, shown: int) -> str:
    """What moves, in which order and in which unit, in words."""
    whose, active = "the codes", len(subject.dimensions[0])
    if subject.prior_moments is not None and not subject.is_projected:
        whose = "the prior"
    elif not subject.has_prior:
        whose = "the codes (an autoencoder has no prior)"
    order = "rate" if subject.rates is not None else "the variance of the codes"
    text = (
        f"One latent dimension moves from −3 to 3 standard deviations of {whose}, while the others stay at the centre. "
        f"This shows what the dimension means. Dimensions are ordered by {order}. "
    )
    if active > shown:
        text += f"{shown} of {active} active dimensions are shown. "
    if subject.is_projected:
        text += "Each code is moved to the nearest point of the space of the prior. "
    return text


def rate_of(subject: Subject, dim: int) -> str:
    """The rate of one dimension, in words; empty if it is not known."""
    return "" if subject.rates is None else f"{number(float(subject.rates[dim]), '.2f')} nats"


def _traversal_strip(subject: Subject, dim: int, values: np.ndarray) -> str:
    label = f"<b>dimension {dim}</b> {rate_of(subject, dim)}"
    return pixels.strip_row(subject.pixels(values), f"dimension {dim} from -3 to 3", label)


def _moves(
    subject: Subject, title: str, values: np.ndarray, x: np.ndarray, x_name: str, ticks: Mapping[float, str], small: str
) -> Chart:
    """A panel of the columns that change most along a walk, in standard deviations of the data if there are data; for
    a table, also the levels that change."""
    if subject.is_sequence:
        return sequences.moves(subject, title, values, small)
    scaled = _scaled(subject, values)
    said = _levels(subject.schema, values, x) if isinstance(subject.schema, Table) else []
    movers = np.argsort(-(scaled.max(0) - scaled.min(0)), kind="stable")[:MOVERS]
    movers = movers[np.isfinite(scaled[:, movers]).all(0)]
    if not len(movers):
        return Chart(title, "", small, (), said)
    series = [(scaled[:, i], f"c{k}") for k, i in enumerate(movers)]
    legend = [(subject.column_name(int(i)), f"c{k}") for k, i in enumerate(movers)]
    drawing = figures.lines(x, series, f"{title}: how columns move", x_name=x_name, ticks=ticks, height=170)
    return Chart(title, drawing, small, legend, said)


def _scaled(subject: Subject, values: np.ndarray) -> np.ndarray:
    """Columns as distances from their means, in standard deviations; NaN for levels."""
    if isinstance(subject.schema, Table):
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = [np.full(len(values), np.nan) if column.outputs_codes else column.seen(values[:, i])
                       for i, column in enumerate(subject.schema.outer)]  # fmt: skip
        return np.stack(columns, 1)
    has_data = subject.tensor is not None
    middle = subject.shown.mean(0) if has_data else values.mean(0)
    return np.asarray((values - middle) / (subject.scale if has_data else 1.0))


def _levels(table: Table, values: np.ndarray, x: np.ndarray) -> list[tuple[str, str]]:
    """(column, its levels along a walk); the column whose level changes most often comes first."""
    lines = []
    for i, column in enumerate(table.outer):
        if not column.outputs_codes:
            continue
        levels, (codes,) = in_levels(column, values[:, i])
        turns = np.flatnonzero(np.diff(codes)) + 1
        if len(turns):
            names = [charts.cut(levels[code], 30) for code in codes[[0, *turns]]]
            way = names[0] + "".join(f" → {name} ({number(float(x[t]), '.2g')})" for name, t in zip(names[1:6], turns))
            lines.append((len(turns), charts.cut(column.name, 40), way + " …" * (len(names) > 6)))
    lines.sort(key=lambda line: -line[0])
    return [(name, way) for _, name, way in lines[:MOVERS]]


def _units(subject: Subject) -> str:
    """The units of walks, in words (HTML)."""
    given = "" if subject.c is None else " The conditions of one row are used throughout."
    if subject.is_sequence:
        return " The channel that changes most is drawn, from dark (start) to light (end)." + given
    text = (
        f" The {MOVERS} columns that change most are drawn, each as its distance from the mean in standard deviations"
    )
    if not isinstance(subject.schema, Table):
        return text + "." + given
    if any(column.kind in LOGARITHMIC for column in subject.schema.outer):
        text += ", of its logarithm where it is positive or a count"
    text += "."
    if any(column.outputs_codes for column in subject.schema.outer):
        text += " Columns of levels are described in words: the most probable level, and in brackets where it changes."
    return text + given


def interpolations(subject: Subject) -> Section:
    """Straight lines between the codes of pairs of rows, decoded."""
    pairs = subject.pairs[:6]
    decoded = [between(subject, subject.codes[pair]) for pair in pairs]
    text = (
        "A straight line between the codes of two rows, decoded step by step. In a regular latent space each step "
        "looks like data, and no step is a jump."
    )
    if subject.is_image:
        rows = []
        for pair, values in zip(pairs, decoded):
            images = with_ends(subject, subject.shown[pair], values)
            rows.append(pixels.strip_row(images, "interpolation", breaks=(0, len(images) - 2)))
        text += " The images at both ends, set apart, are the originals."
        return Section("interpolations", "Interpolations", how(text) + "".join(rows))
    panels = []
    for pair, ((first, second), values) in enumerate(zip(pairs, decoded), 1):
        title = f"pair {pair}"
        if subject.groups is not None:
            names = subject.groups.names
            title = f"{names[subject.groups.index[first]]} to {names[subject.groups.index[second]]}"
        panels.append(on_the_way(subject, title, values))
    text += _units(subject)
    return Section("interpolations", "Interpolations", how(text) + grid(panels))


def between(subject: Subject, ends: Tensor) -> np.ndarray:
    """The decoded line between two codes ``[2, Z]``, ``[steps, *shape]``."""
    return subject.decode(interpolate(ends[:1], ends[1:])[:, 0])


def with_ends(subject: Subject, ends: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Images along a line between two rows ``[2, *shape]``, with the rows at its ends, as 8-bit images."""
    return subject.pixels(np.concatenate([ends[:1], values, ends[1:]]))


def on_the_way(subject: Subject, title: str, values: np.ndarray) -> Chart:
    """A chart of what changes between two rows, from values ``[steps, *shape]`` of columns or sequences."""
    x = np.linspace(0, 1, len(values))
    return _moves(subject, title, values, x, "share of the way", {0.0: "0.0", 0.5: "0.5", 1.0: "1.0"}, "")
