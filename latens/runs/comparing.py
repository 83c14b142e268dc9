"""Compare PCA, autoencoders and VAEs: same data, same dimensions, same metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.data.rows import Rows
from latens.data.splits import split_rows
from latens.densities import fit as fit_density
from latens.densities.fitted import codes_of
from latens.densities.kinds import PRIOR, kind_of
from latens.errors import InputError
from latens.evaluation import (
    bits_per_dimension,
    codes,
    decode,
    distance_from_sampled,
    evaluate,
    interpolate,
    smoothness,
)
from latens.evaluation.baselines import BaselineRow, PCABaseline, Sides, baseline_rows, require_baselines
from latens.evaluation.shown import InNotebooks
from latens.priors import StandardNormal
from latens.recipes import Recipe, find
from latens.recipes import options as recipe_options
from latens.recipes.choices import DataInfo, standardisation
from latens.runs.fitting import fit_recipe
from latens.runs.record import Run
from latens.schema import Schema
from latens.tensors import trees
from latens.tensors.randomness import Key, seeded
from latens.training import Progress, Settings

SAMPLED = 4000  # the number of codes drawn from the prior, or from a density that replaces it


@dataclass
class Row:
    """One model at one dimension, measured on held-out rows.

    Attributes:
        rmse: the error of reconstructions, in the units of the data.
        relative_rmse: the same in standard deviations of the training data, per column if columns have different
            units.
        nll: nats per row, for a VAE by importance weighting; None if there is no density.
        minus_elbo: nats per row, an upper bound on -ln p(x).
        energy: energy distance between codes and sampled codes, in units of the sampled distribution's spread.
        energy_null, energy_null_high: mean and 95 % quantile of the same between two samples of one distribution.
        energy_fitted: ``energy`` of codes that were shifted and scaled to mean 0 and covariance I.
        roughness, midpoint: how smooth decoded straight lines between codes are; 1 is best.
        seconds: the time of the fit.
        rate, distortion: nats per row, if there are a density of codes and a bound; they add up to ``minus_elbo``.
    """

    model: str
    latent_dim: int
    rmse: float
    relative_rmse: float
    nll: float | None
    minus_elbo: float | None
    nll_bits_per_dimension: float | None
    energy: float
    energy_null: float
    energy_null_high: float
    energy_fitted: float
    roughness: float
    midpoint: float
    seconds: float
    rate: float | None = None
    distortion: float | None = None


@dataclass
class DensityRow:
    """A source of codes for one model at one dimension: its prior, or a density fitted to codes of training rows.

    Attributes:
        energy: energy distance between codes of held-out rows, z ~ q(z|x), and drawn codes.
        data_energy: energy distance between held-out rows and decoded drawn codes (the mean of p(x|z)), in standard
            deviations of the training data.
        energy_null, data_energy_null: the same between two sets of draws.
        held_out: mean ln p of the codes of held-out rows, nats.
        seconds: the time of the fit.
    """

    model: str
    latent_dim: int
    density: str
    energy: float
    energy_null: float
    data_energy: float
    data_energy_null: float
    held_out: float | None
    seconds: float


@dataclass
class Side:
    """The pictures of one model in a report: codes of held-out rows, decoded random codes, reconstructions, lines."""

    model: str
    latent_dim: int
    codes: np.ndarray
    sampled_codes: np.ndarray
    samples: np.ndarray
    reconstructions: np.ndarray
    lines: np.ndarray


@dataclass
class Comparison(InNotebooks):
    """Rows of figures, and pictures of the models for the report (``sides``, in the layout of the data)."""

    rows: list[Row]
    sides: list[Side]
    held_out: np.ndarray
    labels: np.ndarray | None
    notes: list[str] = field(default_factory=list)
    runs: dict[tuple[str, int], Run] = field(default_factory=dict)
    densities: list[DensityRow] = field(default_factory=list)
    baselines: list[BaselineRow] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        """One row per model and dimension."""
        return [asdict(row) for row in self.rows]

    def table(self) -> list[list[str]]:
        """Headings, and one row per model and dimension, as text."""
        rows = self.records()
        text = [[v if isinstance(v, str) else "–" if v is None else f"{v:.4g}" for v in row.values()] for row in rows]
        return [[name.replace("_", " ") for name in row] for row in rows[:1]] + text

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's types."""
        found = {"rows": [asdict(row) for row in self.rows], "notes": self.notes}
        more: dict[str, Sequence[Any]] = {"densities": self.densities, "baselines": self.baselines}
        return found | {name: [asdict(row) for row in rows] for name, rows in more.items() if rows}


NOTES = [
    "rmse: error of held-out rows reconstructed from their codes, in the units of the data; relative: divided by the "
    "standard deviation of the data (of each column, if columns have different units).",
    "energy: energy distance between codes of held-out rows, z ~ q(z|x), and sampled codes, z ~ N(0, I) or another "
    "prior; null: the same between two samples; fitted: distance to N(0, I) after the codes are shifted and scaled to "
    "mean 0 and covariance I, which keeps their shape. An autoencoder has no reason to put codes where samples are "
    "drawn.",
    "roughness: largest step divided by mean step along decoded straight lines between codes (1 is even); midpoint: "
    "distance of their midpoints to the nearest training row, divided by the same distance for held-out rows (near 1 "
    "looks like data).",
    "nll: for PCA, the NLL of probabilistic PCA. For whole-number data, PCA gives a density of x + u with u in [0, 1), "
    "whose NLL is an upper bound on the discrete NLL.",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bench:
    """The rows, in the user's form, to which all models are fitted (``x``) and on which they are measured
    (``held_out``)."""

    x: np.ndarray
    held_out: np.ndarray
    schema: Schema
    seed: int

    @cached_property
    def train(self) -> Tensor:
        """The training rows in the model's form, ``[N, *event]``."""
        return torch.from_numpy(self.schema.to_model(self.x))

    @cached_property
    def test(self) -> Tensor:
        """The held-out rows in the model's form, ``[N, *event]``."""
        return torch.from_numpy(self.schema.to_model(self.held_out))

    @cached_property
    def units(self) -> tuple[Tensor, Tensor]:
        """(shift, unit) of the data; for counts too, although encoders see their logarithms."""
        plain = replace(self.schema, kind="continuous") if self.schema.kind == "count" else self.schema
        return standardisation(DataInfo(plain, len(self.train), self.train))

    @property
    def sides(self) -> Sides:
        """The rows in the form that baselines take, with levels as whole numbers from 0 and counts in steps of 1."""
        schema, (shift, unit) = self.schema, (each.double().flatten().numpy() for each in self.units)
        low, step = (schema.ends[0], schema.step) if schema.is_discrete else (0.0, 1.0)
        rows = [(each.double().flatten(1).numpy() - low) / step for each in (self.train, self.test)]
        train, test = (each.round() for each in rows) if schema.is_discrete else rows
        noise = 0.0 if schema.kind == "continuous" else 1.0
        ones = np.ones(train.shape[1])
        return Sides(train, test, (shift - low) / step * ones, unit / step * ones, noise, schema.levels, self.seed)

    def user(self, values: Tensor) -> np.ndarray:
        """Values of the model ``[N, ...]`` in the layout and units of the data."""
        return self.schema.to_user(values.numpy(), mean=True)


@dataclass(frozen=True, eq=False)
class Contender:
    """A model to compare: the codes of held-out rows (means, and draws z ~ q(z|x)) and the rows decoded from them.

    ``dim`` is the dimension under which it is listed; ``sampled`` holds codes from its prior, if that is not N(0, I).
    """

    name: str
    dim: int
    means: Tensor
    drawn: Tensor
    again: Tensor
    decode: Callable[[Tensor], Tensor]
    seconds: float
    nll: float | None
    minus_elbo: float | None = None
    sampled: Tensor | None = None
    rate: float | None = None
    distortion: float | None = None


def compare(
    x: np.ndarray, schema: Schema, latent_dims: Sequence[int], settings: Settings, *,
    held_out: np.ndarray | None = None, labels: np.ndarray | None = None, held_out_labels: np.ndarray | None = None,
    options: dict[str, Any] | None = None, k: int = 100, densities: Sequence[str] = (),
    recipes: Sequence[str] = ("ae", "vae"), baselines: Sequence[str] = (),
    progress: Callable[[str], Progress] | None = None,
) -> Comparison:  # fmt: skip
    """Fit PCA and the ``recipes`` at each dimension, and measure all of them on the same held-out rows.

    Args:
        x: rows in the user's form, ``[N, *event]``.
        schema: their schema.
        latent_dims: the dimensions at which models are compared.
        settings: options of training.
        held_out: the rows for measuring; by default a fifth of ``x``, at most 10,000 rows.
        labels, held_out_labels: for the pictures, ``[N]``.
        options: options of recipes; each recipe gets those options that it has.
        k: draws of the NLL.
        densities: kinds of densities; each recipe is also sampled from the densities that fit its codes.
        recipes: names of recipes.
        baselines: names of plain densities and compressors (:data:`latens.evaluation.baselines.BASELINES`).
        progress: a function that makes a progress bar with a given title.

    Raises:
        InputError: a recipe, density or baseline is unknown, a recipe has no codes or no latent dimension, or a density
            fits the codes of no recipe.
    """
    unused = set(filter(kind_of, densities))
    _require_latent_dims(recipes)
    require_baselines(baselines)
    if held_out is None:
        kept, out = split_rows(len(x), min(0.2, 10_000 / len(x)), settings.seed + 1)
        x, held_out, held_out_labels = x[kept.numpy()], x[out.numpy()], None if labels is None else labels[out.numpy()]
    if len(held_out) < 4:
        raise InputError(f"the number of held-out rows must be at least 4, got {len(held_out)}", "give more rows")
    bench = Bench(x, held_out, schema, settings.seed)
    found = Comparison([], [], held_out, held_out_labels, list(NOTES))
    found.baselines = baseline_rows(baselines, bench.sides, latent_dims) if baselines else []
    for dim in latent_dims:
        _measure(found, bench, _baseline(bench, dim))
        for name in recipes:
            start = time.monotonic()
            valid = recipe_options(find(name))
            chosen = {"latent_dim": dim} | {key: v for key, v in (options or {}).items() if key in valid}
            bar = progress(f"{name} {dim}") if progress else None
            run = fit_recipe(Rows(x, schema), Recipe(name), settings, options=chosen, progress=bar)
            contender = _fitted(bench, run, dim, k, time.monotonic() - start)
            _measure(found, bench, contender)
            found.runs[(name, dim)] = run
            found.densities += _sampled_through(bench, run, contender, densities) if densities else []
            unused -= {row.density for row in found.densities}
        if unused:
            names = ", ".join(recipes)
            raise InputError(f"the density {min(unused)!r} fits the codes of none of the recipes ({names})", "omit it")
    return found


def _require_latent_dims(recipes: Sequence[str]) -> None:
    if not recipes:
        raise InputError("there is no recipe to compare", "pass --recipes NAME,NAME")
    for name in recipes:
        if "latent_dim" not in recipe_options(find(name)):
            raise InputError(f"the recipe {name!r} has no latent dimension to compare at", "name another recipe")


def _baseline(bench: Bench, dim: int) -> Contender:
    start = time.monotonic()
    schema, (shift, unit) = bench.schema, bench.units
    pca = PCABaseline(dim, dequantize=schema.step, shift=shift.numpy(), unit=unit.numpy(), seed=bench.seed)
    pca.fit(bench.train.numpy())
    seconds = time.monotonic() - start
    x = bench.test.numpy()
    nll = float(pca.nll(x).mean())
    with seeded(bench.seed, Key.COMPARE_SAMPLE):
        means = torch.from_numpy(pca.codes(x))
        drawn = means + torch.from_numpy(pca.posterior_scale()) * torch.randn_like(means)

    def decoded(z: Tensor) -> Tensor:
        return torch.from_numpy(pca.decode(z.double().numpy())).view(-1, *schema.shape)

    again = torch.from_numpy(pca.reconstruct(x)).view(-1, *schema.shape)
    return Contender("pca", means.shape[1], means, drawn, again, decoded, seconds, None if nll != nll else nll)


def _fitted(bench: Bench, run: Run, dim: int, k: int, seconds: float) -> Contender:
    assert isinstance(run.schema, Schema)
    run.model.to("cpu")
    c, test = Rows(bench.held_out, run.schema).c, bench.test
    figures = evaluate(run.model, test, c, k=k, nll_rows=1000, beta=run.beta)
    means = codes(run.model, test, c)
    with seeded(bench.seed, Key.COMPARE_SAMPLE):
        drawn = codes(run.model, test, c, sample=True)
        prior: Any = getattr(run.model, "prior", None)
        if prior is None:
            raise InputError(
                f"the recipe {run.name!r} has no single prior of its codes to compare with", "name another recipe"
            )
        sampled = None if isinstance(prior, StandardNormal) else prior().sample(torch.Size((SAMPLED,)))

    def decoded(z: Tensor) -> Tensor:
        """Decode codes that do not belong to rows; models of counts get the median library size."""
        middle = None if c is None else {name: values.median().expand(len(z)) for name, values in c.items()}
        return decode(run.model, z.float(), middle)

    minus_elbo = None if figures.elbo is None else -figures.elbo
    again = decode(run.model, means, c)
    parts = (None, None) if figures.rate is None else (figures.rate, figures.distortion)
    return Contender(
        run.name, dim, means, drawn, again, decoded, seconds, figures.nll, minus_elbo, sampled, *parts
    )  # fmt: skip


def _measure(found: Comparison, bench: Bench, model: Contender) -> None:
    """Add the row of figures of a model, and its pictures for the report."""
    with seeded(bench.seed, Key.COMPARE_SAMPLE):
        normal = torch.randn(SAMPLED, model.means.shape[1])
    sampled = normal if model.sampled is None else model.sampled.detach().cpu()
    distance = distance_from_sampled(model.drawn.double().numpy(), sampled.double().numpy())
    shape_only = distance_from_sampled(whitened(model.drawn), normal.double().numpy())
    with seeded(bench.seed, Key.COMPARE_PAIRS):
        pairs = torch.randperm(len(model.means))[: 2 * min(100, len(model.means) // 2)].view(2, -1)
    lines = interpolate(model.means[pairs[0]], model.means[pairs[1]])
    decoded = model.decode(lines.flatten(0, 1)).view(*lines.shape[:2], *bench.schema.shape)
    even = smoothness(decoded, bench.train, bench.test)
    error = model.again.double() - bench.test.double()
    bits = None if model.nll is None else bits_per_dimension(model.nll, bench.test[0].numel())
    found.rows.append(Row(
        model.name, model.dim, root_mean_square(error), root_mean_square(error / bench.units[1]), model.nll,
        model.minus_elbo, bits, distance.value, distance.null, distance.null_high, shape_only.value, even.roughness,
        even.midpoint, round(model.seconds, 2), model.rate, model.distortion,
    ))  # fmt: skip
    found.sides.append(Side(
        model.name, model.dim, model.drawn.numpy(), sampled.numpy(), bench.user(model.decode(sampled[:64])),
        bench.user(model.again[:16]), np.stack([bench.user(step[:4]) for step in decoded]),
    ))  # fmt: skip


def _sampled_through(bench: Bench, run: Run, model: Contender, densities: Sequence[str]) -> list[DensityRow]:
    """Rows for the prior, and for the densities that fit the codes, all measured on the same held-out rows."""
    whole = codes_of(run.model, bench.train[:2])[1].levels is not None
    c, unit, found = Rows(bench.held_out, bench.schema).c, bench.units[1], []
    for kind in (PRIOR, *(kind for kind in densities if kind_of(kind).whole == whole)):
        fitted = None if kind == PRIOR else fit_density(run.model, bench.train, kind, seed=bench.seed)
        with seeded(bench.seed, Key.COMPARE_SAMPLE):
            prior = run.model.prior().sample(torch.Size((SAMPLED,))) if fitted is None else None  # type: ignore[operator]
        z = fitted.draw(run.model, SAMPLED, bench.seed) if prior is None else prior  # type: ignore[union-attr]
        given = (
            None if c is None else trees.take(c, torch.arange(len(z)) % trees.rows(c))
        )  # the conditions of the rows, repeated cyclically
        rows = [(each.double() / unit).flatten(1) for each in (bench.test, decode(run.model, z, given))]
        of_codes, of_data = (
            distance_from_sampled(*(each.double().numpy() for each in pair)) for pair in ((model.drawn, z), rows)
        )
        found.append(DensityRow(
            run.name, model.dim, kind, of_codes.value, of_codes.null, of_data.value, of_data.null,
            fitted.record["held_out"] if fitted else None, fitted.record["seconds"] if fitted else 0.0,
        ))  # fmt: skip
    return found


def root_mean_square(values: Tensor) -> float:
    """sqrt(mean(values²)) over a tensor of any shape."""
    return float(values.square().mean().sqrt())


def whitened(values: Tensor) -> np.ndarray:
    """The rows ``[N, D]`` shifted and transformed to mean 0 and covariance I; directions without spread become 0."""
    centred = values.double() - values.double().mean(0)
    left, size, right = torch.linalg.svd(centred, full_matrices=False)
    keep = size > 1e-9 * size.max().clamp_min(1e-300)
    return (left * keep @ right * (len(values) - 1) ** 0.5).numpy()
