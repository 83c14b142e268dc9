"""The comparison: a table in which the best model is marked, and how regular each latent space is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from latens.densities.kinds import PRIOR
from latens.errors import InputError
from latens.machine.folder import Folder
from latens.report import figures, pixels
from latens.report.groups import Groups, group
from latens.report.overview import titled
from latens.report.page import Chart, LeftOut, Section, data_table, details, esc, grid, how, keys, line, number
from latens.report.sections import principal_axes
from latens.report.style import MODELS
from latens.runs.comparing import Comparison, DensityRow, Row, Side
from latens.runs.fitting import counted
from latens.schema import Schema

_ORDER = {"pca": 0, "ae": 1, "vae": 2}
IMAGES, POINTS = 15, 1200
SIDE = 48  # pixels of an image in the side-by-side part

Score = Callable[[Row], float | None]


def _beyond_null(row: Row) -> float | None:
    return row.energy if row.energy > row.energy_null_high else 0.0


def _away_from_one(row: Row) -> float | None:
    return abs(math.log(row.midpoint)) if row.midpoint > 0 else None


def _null(row: Row) -> str:
    return f"{number(row.energy_null, '.3f')}<br>({number(row.energy_null_high, '.3f')})"


# (heading, unit, text of a cell, score that is smallest for the best row or None)
_COLUMNS: tuple[tuple[str, str, Callable[[Row], str], Score | None], ...] = (
    ("RMSE", "data's units", lambda r: number(r.rmse, ".4g"), lambda r: r.rmse),
    ("relative", "of the spread", lambda r: number(r.relative_rmse, ".3f"), lambda r: r.relative_rmse),
    ("NLL", "nats", lambda r: number(r.nll, ".2f"), lambda r: r.nll),
    ("NLL", "bits / dim", lambda r: number(r.nll_bits_per_dimension, ".3f"), lambda r: r.nll_bits_per_dimension),
    ("−ELBO", "nats", lambda r: number(r.minus_elbo, ".2f"), None),
    ("energy", "distance", lambda r: number(r.energy, ".3f"), _beyond_null),
    ("energy", "null (95 %)", _null, None),
    ("energy", "fitted", lambda r: number(r.energy_fitted, ".3f"), None),
    ("roughness", "1 is best", lambda r: number(r.roughness, ".2f"), lambda r: r.roughness),
    ("midpoint", "1 is best", lambda r: number(r.midpoint, ".2f"), _away_from_one),
    ("time", "seconds", lambda r: number(r.seconds, ".1f"), None),
)


Of = TypeVar("Of", Row, Side)


def _in_order(rows: Iterable[Of]) -> list[Of]:
    """Rows in the order PCA, autoencoder, VAE, other models."""
    return sorted(rows, key=lambda row: _ORDER.get(row.model, 9))


def name_of(model: str) -> str:
    """The name of a model as a title."""
    return "PCA" if model == "pca" else titled(model)


def _heads(columns: Sequence[tuple[str, str]], *more: str) -> list[str]:
    return ["model", "latent<br>dim", *more, *(f"{title}<br><small>{unit}</small>" for title, unit in columns)]


def _table(rows: Sequence[Row]) -> str:
    """The table of figures: models of the same dimension together, with the best of each dimension marked."""
    lines = []
    for dim in sorted({row.latent_dim for row in rows}):
        together = _in_order(row for row in rows if row.latent_dim == dim)
        best = [_best(together, score) for _, _, _, score in _COLUMNS]
        for i, row in enumerate(together):
            cells = [esc(name_of(row.model)), str(dim), *(text(row) for _, _, text, _ in _COLUMNS)]
            lines.append(line(cells, "" if i else "first", [j for j, rows_ in enumerate(best, 2) if i in rows_]))
    return data_table(_heads([column[:2] for column in _COLUMNS]), lines, "compact")


def _densities(rows: Sequence[DensityRow]) -> str:
    """The table of densities of codes; empty if the user asked for none."""
    if not rows:
        return ""
    columns = [("energy", "of codes"), ("energy", "null"), ("energy", "of data"), ("energy", "null"),
               ("ln p", "of held codes, nats"), ("time", "seconds")]  # fmt: skip
    lines = []
    for row in rows:
        words = [esc(word) for word in (name_of(row.model), row.latent_dim, row.density)]
        values = [row.energy, row.energy_null, row.data_energy, row.data_energy_null]
        cells = [*(number(value, ".3f") for value in values), number(row.held_out, ".2f"), number(row.seconds, ".1f")]
        lines.append(line([*words, *cells], "first" if row.density == PRIOR else ""))
    text = (
        "Codes are drawn from the prior, or from a density fitted to the codes of training rows. Energy: distance from "
        "drawn codes to the codes of held-out rows. Of data: distance from decoded draws to held-out rows, in standard "
        "deviations of the data. A good distance is near the null, the distance between two sets of draws."
    )
    return f"<h3>Densities of codes</h3>{how(text)}" + data_table(_heads(columns, "drawn from"), lines)


def _best(rows: Sequence[Row], score: Score | None) -> set[int]:
    """The indices of the rows with the smallest score, if at least two rows have one."""
    if score is None:
        return set()
    scores = {i: value for i, row in enumerate(rows) if (value := score(row)) is not None and math.isfinite(value)}
    if len(scores) < 2:
        return set()
    return {i for i, value in scores.items() if value == min(scores.values())}


def _curves(rows: Sequence[Row]) -> str:
    """Charts of figures by latent dimension, with one line per model."""
    dims = sorted({row.latent_dim for row in rows})
    models = list(dict.fromkeys(row.model for row in _in_order(sorted(rows, key=lambda row: row.model))))
    if len(dims) < 2:
        return ""
    panels = []
    wanted: tuple[tuple[str, str, Score], ...] = (
        ("Reconstruction RMSE", "lower is better", lambda r: r.rmse),
        ("NLL", "nats per row, lower is better", lambda r: r.nll),
        ("Energy distance", "from codes to sampled codes, lower is better", lambda r: r.energy),
    )
    ticks = {float(place): str(dim) for place, dim in enumerate(dims)}
    for title, small, value in wanted:
        found = {(row.model, row.latent_dim): value(row) for row in rows}
        every = [(np.array([found.get((model, dim)) for dim in dims], dtype=float), _paint(model)) for model in models]
        series = [(line, paint) for line, paint in every if np.isfinite(line).any()]
        svg = figures.lines(np.arange(len(dims)), series, f"{title} by latent dimension", marks=True, ticks=ticks,
                            x_name="latent dimension")  # fmt: skip
        panels.append(Chart(title, svg, small))
    paths = tradeoffs(rows)
    if paths:
        drawing = figures.tradeoff([path for _, path in paths], "rate and distortion by latent dimension")
        panels.append(Chart("Rate and distortion", drawing, "by latent dimension; dashed lines have one ELBO"))
    kind = "three" if len(panels) < 4 else "small"
    return keys([(name_of(model), _paint(model)) for model in models]) + grid(panels, kind)


def tradeoffs(rows: Sequence[Row]) -> list[tuple[str, figures.Curve]]:
    """(model, its rates and distortions by latent dimension) of each model that has a rate."""
    found: list[tuple[str, figures.Curve]] = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model and row.rate is not None]
        if own:
            points = np.array([[row.rate, row.distortion] for row in own], dtype=float)
            found.append((model, (points, _paint(model), [str(row.latent_dim) for row in own])))
    return found


def of_sweep(folder: Path) -> tuple[np.ndarray, list[str]]:
    """(rates and distortions ``[N, 2]`` of the finished combinations of a sweep; their names).

    Raises:
        InputError: the folder has no finished sweep, or its models have no rate.
    """
    try:
        text = (Folder(folder) / "sweep.csv").read().decode()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{folder} holds no finished sweep", "give the folder of `latens sweep`") from None
    lines = list(csv.DictReader(io.StringIO(text)))
    lines = [line for line in lines if line.get("rate") and line.get("distortion")]
    if not lines:
        raise InputError(f"no combination of {folder} has a rate and a distortion", "sweep recipes with a bound")
    grid_ = list(lines[0])[: list(lines[0]).index("seeds")]
    names = [", ".join(f"{name}={line[name]}" for name in grid_) for line in lines]
    return np.array([[float(line["rate"]), float(line["distortion"])] for line in lines]), names


def _paint(model: str) -> str:
    return MODELS.get(model, "c2")


def comparison(
    found: Comparison, schema: Schema | None, latent_dim: int | None, label_names: Sequence[str] | None
) -> Section:
    """Table and notes, and then, for each dimension, maps, decoded random codes and interpolations of all models."""
    if not found.rows:
        raise LeftOut("The comparison is empty.")
    text = (
        "All models are fitted to the same rows and measured on the same held-out rows. The best of each dimension is "
        "blue (energies within their null count as equal). An autoencoder has no likelihood, hence no NLL."
    )
    items = "".join(f"<li>{esc(note, 1000)}</li>" for note in found.notes)
    body = how(text) + _table(found.rows) + _densities(found.densities)
    body += details("What the columns mean", f'<ul class="plainlist how">{items}</ul>') + _curves(found.rows)
    dims = sorted({side.latent_dim for side in found.sides})
    if dims and schema is not None:
        first = latent_dim if latent_dim in dims else dims[0]
        groups = group(found.labels, len(found.held_out), label_names)
        body += "<h3>How regular is the latent space?</h3>" + how(
            "An autoencoder learns only reconstructions: nothing gives the space between its codes a meaning, so a "
            "random code often falls into a gap and decodes to nonsense. In a VAE, codes that leave the prior cost "
            "rate, and each code is spread over a region. So the codes fill the prior without gaps, and a code drawn "
            "from the prior decodes to something like data."
        )
        for dim in dims:
            sides = _in_order(side for side in found.sides if side.latent_dim == dim)
            inner, title = _side_by_side(sides, schema, groups, found.held_out), counted(dim, "latent dimension")
            body += details(title, inner, dim == first) if len(dims) > 1 else f"<h3>{title}</h3>{inner}"
    return Section("comparison", "Comparison", body)


def _side_by_side(sides: Sequence[Side], schema: Schema, groups: Groups | None, held_out: np.ndarray) -> str:
    body = "<h3>Codes of data and sampled codes</h3>" + how(
        "Coloured: codes of held-out rows, drawn from q(z|x). Grey: codes sampled from the prior. If a region is grey "
        "without colour, random codes fall where the decoder was never trained; only the VAE is trained to fill such "
        "regions."
    )
    legend = groups.legend() if groups is not None else [("codes of held-out rows", "c0")]
    body += keys([*legend, ("sampled codes", "faint")]) + grid(_maps(sides, groups), "three")
    if schema.is_image:
        body += "<h3>Decoded random codes</h3>" + how("The grey codes, decoded.")
        body += _row(sides, [_images(side.samples, schema) for side in sides])
        body += "<h3>Interpolations</h3>" + how(
            "Straight lines between the codes of two held-out rows, decoded. All models show the same pairs."
        )
        return body + _row(sides, [_strips(side, schema) for side in sides])
    if schema.columns < 2:
        return body
    data = pixels.model_layout(schema, np.asarray(held_out)[:POINTS]).astype(float)
    middle, unit = data.mean(0), np.where(data.std(0) > 0, data.std(0), 1.0)
    axes = principal_axes((data - middle) / unit)

    def flat(values: np.ndarray) -> np.ndarray:
        return np.asarray((values.astype(float) - middle) / unit @ axes)

    behind, drawn = flat(data), [flat(side.samples) for side in sides]
    lines = [[flat(side.lines[:, i]) for i in range(side.lines.shape[1])] for side in sides]
    frame = np.concatenate([behind, *drawn])
    body += "<h3>Decoded random codes</h3>" + how(
        "Grey: held-out rows along the first two principal axes of the data (columns standardised). Blue: random "
        "codes, decoded without noise; they should lie where the data lie."
    )
    label = "decoded random codes"
    body += _row(sides, [figures.cloud(points, None, label, behind=behind, frame=frame) for points in drawn])
    body += "<h3>Interpolations</h3>" + how(
        "Straight lines between the codes of two held-out rows, decoded, along the same axes."
    )
    label = "decoded interpolations"
    return body + _row(sides, [figures.cloud(behind, None, label, paths=paths, frame=frame) for paths in lines])


def _row(sides: Sequence[Side], drawings: Sequence[object]) -> str:
    return grid((Chart(name_of(side.model), svg) for side, svg in zip(sides, drawings)), "three")


def _maps(sides: Sequence[Side], groups: Groups | None) -> list[Chart]:
    """Maps of codes over sampled codes, along the codes' first two principal axes, in units of the sampled codes'
    spread; all maps have the same scale."""
    found, panels = [], []
    for side in sides:
        middle, spread = side.sampled_codes.mean(0), np.maximum(side.sampled_codes.std(0), 1e-12)
        codes, sampled = (side.codes - middle) / spread, ((side.sampled_codes - middle) / spread)[:POINTS]
        rows = np.arange(len(codes))
        if len(rows) > POINTS:
            rows = np.sort(np.random.default_rng(0).choice(len(rows), POINTS, replace=False))
        if codes.shape[1] == 1:
            series = [(sampled[:, 0], "c9", True), (codes[:, 0], "c0", False)]
            panels.append(Chart(name_of(side.model), figures.histogram(series, f"codes of {side.model}")))
            continue
        axes = np.eye(2) if codes.shape[1] == 2 else principal_axes(codes)
        found.append((side, (codes @ axes)[rows], sampled @ axes, rows))
    if found:
        frame = np.concatenate([part for _, points, behind, _ in found for part in (points, behind)])
        for side, points, behind, rows in found:
            chosen = groups.take(rows) if groups is not None else None
            name = name_of(side.model)
            svg = figures.cloud(points, chosen, f"codes of {name}", behind=behind, frame=frame)
            panels.append(Chart(name, svg))
    return panels


def _images(values: np.ndarray, schema: Schema) -> str:
    return pixels.flow(
        pixels.to_pixels(schema, pixels.model_layout(schema, values[:IMAGES]), SIDE), "decoded random code", longer=52
    )


def _strips(side: Side, schema: Schema) -> str:
    rows = []
    steps = np.linspace(0, len(side.lines) - 1, min(6, len(side.lines))).round().astype(int)
    for i in range(side.lines.shape[1]):
        images = pixels.to_pixels(schema, pixels.model_layout(schema, side.lines[steps, i]), SIDE)
        rows.append(pixels.strip_row(images, f"interpolation by {name_of(side.model)}", longer=46))
    return "".join(rows)
