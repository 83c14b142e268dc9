"""The sections on reconstructions, samples and the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latens.evaluation.latent import ACTIVE
from latens.report import charts, counts, figures, pixels, sequences, tables
from latens.report.groups import Groups
from latens.report.page import (
    Chart,
    LeftOut,
    Section,
    beside,
    data_table,
    esc,
    grid,
    how,
    keys,
    line,
    note,
    number,
)
from latens.report.subject import NORMAL_CODES, Subject
from latens.schema import Schema, Table

PAIRS, SAMPLES = 24, 24  # numbers of images in a grid
TABLE_SAMPLES = 2000


def reconstructions(subject: Subject) -> Section:
    """Originals and reconstructions: pairs of images, or a scatter chart for each column."""
    schema = subject.schema
    if isinstance(schema, Table):
        return tables.reconstructions(subject)
    if subject.is_sequence:
        return sequences.reconstructions(subject)
    if subject.is_image:
        rows = subject.shown[:PAIRS]
        original = subject.pixels(rows)
        again = subject.pixels(subject.decode(subject.codes[:PAIRS], np.arange(len(rows))))
        body = how(
            "Above: a row of the data. Below: the same row decoded from its code (the mean of q(z|x)). Detail that is "
            "missing below is not in the code."
        ) + pixels.flow(pixels.stack(original, again), "original above, reconstruction below,", single=original)
        return Section("reconstructions", "Originals and reconstructions", body)
    original, again = subject.shown, subject.decode(subject.codes, np.arange(len(subject.codes)))
    charts_ = of_columns(subject, original, again)
    text = (
        "Each dot is a row: its value, and its value after encoding and decoding. On the grey line both are equal; R² "
        "is the share of the column's variance that is kept."
    )
    if any(chart.legend for chart in charts_):
        text += " For a column with two values, histograms of the reconstructions of each; they should be apart."
    return Section(
        "reconstructions", "Originals and reconstructions", how(text) + grid(charts_, "small") + _hidden(subject)
    )


def of_columns(subject: Subject, original: np.ndarray, again: np.ndarray) -> list[Chart]:
    """Originals and reconstructions ``[N, D]`` of an array: a scatter chart for each column that varies, or histograms
    for a column with two values."""
    explained = 1 - ((original - again) ** 2).mean(0) / np.where(original.var(0) > 0, original.var(0), np.nan)
    found = []
    for i in subject.columns:
        name, small = subject.column_name(i), "all of one value in these rows"
        if np.isfinite(explained[i]):
            small = f"R² {number(float(explained[i]), '.2f')}"
        values = np.unique(original[:, i])
        if len(values) == 2:
            parts = [(again[original[:, i] == v, i], paint, True) for v, paint in zip(values, ("c0", "c1"))]
            drawing = figures.histogram(parts, f"reconstructions of column {name} by its value", bins=24)
            legend = [(f"original {v:g}", paint) for v, paint in zip(values, ("c0", "c1"))]
            found.append(Chart(name, drawing, small, legend))
        elif subject.schema is not None and subject.schema.kind == "count":
            axis = counts.axis(original[:, i])
            found.append(Chart(name, charts.scatter(axis, original[:, i], again[:, i], f"column {name}"), small))
        else:
            found.append(Chart(name, figures.scatter(original[:, i], again[:, i], f"column {name}"), small))
    return found


def _hidden(subject: Subject) -> str:
    if not subject.columns:
        raise LeftOut("No column of these data varies, so there is nothing to draw.")
    shown, columns = len(subject.columns), subject.known.columns
    return note(f"{shown} of {columns:,} columns are shown: {subject.which_columns}.") if shown < columns else ""


def samples(subject: Subject) -> Section:
    """Draws from p(x|z) and their means; for columns, their distributions in samples and in the data."""
    if isinstance(subject.schema, Table):
        return tables.samples(subject)
    if not subject.has_prior:
        return _decoded_normal(subject)
    if subject.is_image:
        means, draws = (subject.pixels(subject.sample(SAMPLES, mean=mean)) for mean in (True, False))
        both = " Both blocks use the same codes." * subject.has_density
        body = how(f"New rows: codes z are drawn from the prior p(z) and decoded.{both}")
        body += "<h3>Means of p(x|z)</h3>" + how("The image that each code stands for, without noise.")
        body += pixels.flow(means, "mean of sample")
        if not subject.has_density:
            return Section("samples", "Samples", body)
        body += "<h3>Draws from p(x|z)</h3>"
        body += how(
            "What the model considers data: the mean, plus the noise that the likelihood adds to each pixel "
            "independently."
        )
        return Section("samples", "Samples", body + pixels.flow(draws, "sample"))
    text = "Codes are drawn from the prior and decoded, with the noise of p(x|z)."
    if subject.is_sequence:
        return sequences.samples(subject, subject.sample(sequences.SAMPLES, mean=False), text)
    return _marginals(subject, subject.sample(TABLE_SAMPLES, mean=False), text)


def marginals(subject: Subject, drawn: np.ndarray) -> list[Chart]:
    """The distribution of each column that varies, in samples ``[N, D]`` of an array and in the data."""
    schema = subject.known
    levels = schema.levels if isinstance(schema, Schema) and schema.step == 1 else None
    found = []
    for i in subject.columns:
        series = [(drawn[:, i], "c0", False)]
        if subject.tensor is not None:
            series.insert(0, (subject.shown[:, i], "c9", True))
        label = f"distribution of column {subject.column_name(i)}"
        if schema.kind == "count":
            drawing = charts.distribution(counts.axis(series[0][0]), series, label)
        else:
            drawing = figures.histogram(series, label, discrete=(levels or 41) <= 40)
        found.append(Chart(subject.column_name(i), drawing))
    return found


def _marginals(subject: Subject, drawn: np.ndarray, text: str) -> Section:
    has_data, is_count = subject.tensor is not None, subject.known.kind == "count"
    held = ": the outline should follow the filled shape." if has_data else (
        "; without data there is nothing to compare it with."
    )  # fmt: skip
    more = counts.moments(subject, drawn) if has_data and is_count and drawn.ndim == 2 else ""
    body = how(f"{text} Each panel is the distribution of one column{held}") + beside(has_data)
    return Section("samples", "Samples", body + grid(marginals(subject, drawn), "small") + _hidden(subject) + more)


def _decoded_normal(subject: Subject) -> Section:
    """The section for an autoencoder, which has no prior: decoded draws from a normal distribution with the moments of
    the codes."""
    z = subject.normal_codes(SAMPLES if subject.is_image else TABLE_SAMPLES)
    if subject.is_image:
        body = how(NORMAL_CODES) + pixels.flow(subject.pixels(subject.decode(z)), "decoded random code")
        return Section("samples", "Decoded random codes", body)
    if subject.is_sequence:
        return sequences.samples(subject, subject.decode(z), NORMAL_CODES, "Decoded random codes")
    found = _marginals(subject, subject.decode(z), NORMAL_CODES)
    return Section("samples", "Decoded random codes", found.body)


# The latent space


def principal_axes(codes: np.ndarray) -> np.ndarray:
    """The first two principal axes of the codes, ``[Z, 2]``, orthonormal, each with a positive largest entry."""
    _, _, axes = np.linalg.svd(codes - codes.mean(0), full_matrices=False)
    axes = axes[:2].T
    return axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])


def latent_map(subject: Subject) -> Section:
    """A map of the codes in two dimensions, coloured by label, with the prior for comparison."""
    codes, groups = subject.codes.double().numpy(), subject.groups
    chart, text = map_of(codes, groups, circles=subject.is_standard)
    legend = keys(chart.legend) if chart.legend else ""
    if codes.shape[1] > 1:
        text += _map_read(subject)
    body = f'<div class="split"><div>{chart.drawing}</div><div>{how(text)}{legend}</div></div>'
    return Section("map", "Latent map", body)


def map_of(codes: np.ndarray, groups: Groups | None, circles: bool) -> tuple[Chart, str]:
    """(a map of codes ``[N, Z]`` along two dimensions or principal axes, with the prior's ``circles``; a histogram if
    there is one dimension; a text on how to read it)."""
    legend = [] if groups is None else groups.legend()
    if codes.shape[1] == 1:
        parts = [(codes[:, 0], "c0", True)]
        if groups is not None and not groups.ordered:
            parts = [(codes[groups.index == i, 0], f"c{i}", False) for i in range(len(groups.names))]
        drawing = figures.histogram([part for part in parts if len(part[0])], "distribution of the codes")
        text = "The codes (means of q(z|x)) along the one latent dimension."
        return Chart("", drawing, "", legend if len(parts) > 1 else ()), text
    if len(codes) < 3:
        raise LeftOut("A map of the codes needs at least three rows.")
    points, names, text = codes, ("z 0", "z 1"), "Each dot is the code of a row, the mean of q(z|x)."
    if codes.shape[1] > 2:
        points, names = codes @ principal_axes(codes), ("first principal axis", "second principal axis")
        share = points.var(0).sum() / max(codes.var(0).sum(), 1e-300)
        text = (
            f"Each dot is the code of a row (the mean of q(z|x)), seen along the two of {codes.shape[1]} directions in "
            f"which codes vary most. These have {share:.0%} of the variance."
        )
        text += "" if groups is None else " Groups that overlap here may be apart in the other directions."
    drawing = figures.cloud(points, groups, "map of the codes", circles=circles, names=names)
    return Chart("", drawing, "", legend), text


def _map_read(subject: Subject) -> str:
    text = ""
    if subject.is_standard:
        text = " The dashed circles contain 50 % and 95 % of the prior; dots should fill them without large holes."
    elif not subject.has_prior:
        text = " An autoencoder has no prior: nothing keeps its codes near the origin or close together."
    if subject.coloured_by:
        name = esc(subject.coloured_by, 60)
        text += f" Colours show {name}, a condition: it is given to the model, so codes need not contain it."
    return text


def rates(subject: Subject) -> Section:
    """The rate of each dimension, and the variance of the codes with the threshold for an active dimension."""
    if not subject.has_prior:
        raise LeftOut(
            "An autoencoder has no rate: its posterior is a point without a density, so KL(q || p) does not exist."
        )
    kl, spread = subject.rates, None if subject.tensor is None else subject.spread
    text = (
        "The information about a row in each latent dimension, largest first. Grey dimensions are inactive: they carry "
    )
    text += "none."
    if spread is not None:
        text += " A dimension is active if the codes' variance over the rows exceeds the dashed line."
    panels = rate_charts(kl, None if kl is None else subject.dimensions[0], spread)
    missing = "" if kl is not None else note("The rate does not split by dimension for this posterior and prior.")
    return Section("rate", "Rate per dimension", how(text) + grid(panels, "two") + missing + _collapse(subject))


def _collapse(subject: Subject) -> str:
    """Verdict, cause and remedy, and, for a ladder, a table of its layers (HTML)."""
    found = subject.figures.collapse
    if found is None:
        return ""
    told = "".join(f"<p><b>{name.capitalize()}:</b> {esc(text, 1000)}.</p>" for name, text in found.lines())
    if len(found.layers) < 2:
        return told
    head, *rows = ([esc(cell) for cell in row] for row in found.table())
    return told + how("Layer 0 is the top of the ladder; each layer is given those above it.") + data_table(
        head, map(line, rows)
    )  # fmt: skip


def rate_charts(
    kl: np.ndarray | None, active: Sequence[int] | None = None, spread: np.ndarray | None = None
) -> list[Chart]:
    """Bars of the rate ``[Z]`` of each dimension, grey for dimensions that are not ``active``, and of the variance of
    the codes in units of the prior's variance; either may be None if unknown."""
    panels = []
    if kl is not None:
        coloured = np.isin(np.arange(len(kl)), np.flatnonzero(kl > ACTIVE) if active is None else active)
        drawing = _bars(kl, kl, coloured, "rate of each latent dimension", y_name="nats")
        panels.append(Chart("Rate", drawing, f"KL of each dimension; sum: {number(float(kl.sum()), '.2f')} nats"))
    if spread is not None:
        drawing = _bars(spread, spread if kl is None else kl, spread > ACTIVE, "variance of the codes",
                        y_name="Var E[z|x] / Var z", threshold=ACTIVE, log=True)  # fmt: skip
        small = f"active above {ACTIVE:g} of the prior's variance (dashed)"
        panels.append(Chart("Variance of the codes", drawing, small))
    if not panels:
        raise LeftOut("The rate does not split by dimension, and the variance of the codes is unknown without data.")
    return panels


def _bars(heights: np.ndarray, by: np.ndarray, active: np.ndarray, label: str, **look: Any) -> figures.Graphic:
    """Bars of the dimensions, ordered by ``by`` from the largest; inactive dimensions are grey."""
    order = np.argsort(-by, kind="stable")
    paint = ["c0" if active[i] else "faint" for i in order]
    return figures.bars(heights[order], [str(i) for i in order], label, paint=paint, **look)
