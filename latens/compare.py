"""PCA, autoencoder and VAE side by side: same data, same dimensions, same metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.evaluation import (
    EnergyDistance,
    Smoothness,
    codes,
    decode,
    distance_from_sampled,
    evaluate,
    interpolate,
    smoothness,
)
from latens.evaluation.baselines import PCABaseline
from latens.fitting import fit_recipe, split_rows
from latens.randomness import seeded
from latens.recipes import Recipe
from latens.run import Run
from latens.schema import Schema
from latens.training import Progress, Settings

_SAMPLE, _PAIRS = 41, 42  # keys of the seeds


@dataclass
class Row:
    """One model at one dimension, measured on held-out rows.

    ``rmse``: of reconstructions, data's units. ``nll``: nats a datum (None where there is no density); for the VAE by
    importance weighting, ``minus_elbo`` its bound. ``energy``: how far codes are from what is sampled, in units of the
    sampled distribution's spread, with ``energy_null``/``energy_null_high`` for two samples of one distribution.
    ``roughness`` and ``midpoint`` of decoded straight lines between codes (1 is best).
    """

    model: str
    latent_dim: int
    rmse: float
    nll: float | None
    minus_elbo: float | None
    nll_bits_per_dimension: float | None
    energy: float
    energy_null: float
    energy_null_high: float
    roughness: float
    midpoint: float
    seconds: float


@dataclass
class Side:
    """What the report shows of one model: codes of held-out rows, decoded random codes, reconstructions, lines."""

    model: str
    latent_dim: int
    codes: np.ndarray
    sampled_codes: np.ndarray
    samples: np.ndarray
    reconstructions: np.ndarray
    lines: np.ndarray
    kind: str = ""


@dataclass
class Comparison:
    """Rows of figures, and for the report the pictures of the models (``sides``, data in the user's layout)."""

    rows: list[Row]
    sides: list[Side]
    held_out: np.ndarray
    labels: np.ndarray | None
    notes: list[str] = field(default_factory=list)
    runs: dict[tuple[str, int], Run] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"rows": [asdict(row) for row in self.rows], "notes": self.notes}


NOTES = [
    "rmse: reconstruction of held-out rows from their codes, in the data's units.",
    "energy: energy distance between codes of held-out rows and the codes that are sampled; null: the same between two "
    "sets of sampled codes. The VAE samples its prior; PCA and the autoencoder have none fitted to their codes, so a "
    "normal distribution with the codes' mean and covariance is sampled. In units of the sampled spread.",
    "roughness: largest over mean step along decoded straight lines between codes (1 is even); midpoint: distance of "
    "their midpoints to the nearest training row, over that of held-out rows (near 1 looks like data).",
    "nll: PCA as probabilistic PCA; for whole-number data its density of x + u, u in [0, 1), whose -ln is an upper "
    "bound on the discrete one.",
]  # fmt: skip


def compare(
    x: np.ndarray, schema: Schema, latent_dims: Sequence[int], settings: Settings, *,
    held_out: np.ndarray | None = None, labels: np.ndarray | None = None, held_out_labels: np.ndarray | None = None,
    options: dict[str, Any] | None = None, k: int = 100, progress: Callable[[str], Progress] | None = None,
) -> Comparison:  # fmt: skip
    """Fit PCA, autoencoder and VAE at each dimension and measure all on the same held-out rows (a fifth, at most
    10,000, unless given).
    """
    if held_out is None:
        kept, out = split_rows(len(x), min(0.2, 10_000 / len(x)), settings.seed + 1)
        x, held_out = x[kept.numpy()], x[out.numpy()]
        held_out_labels = None if labels is None else labels[out.numpy()]
    train, test = torch.from_numpy(schema.to_model(x)), torch.from_numpy(schema.to_model(held_out))
    found = Comparison([], [], held_out, held_out_labels, list(NOTES))
    for dim in latent_dims:
        _baseline(found, train, test, schema, dim, settings.seed)
        for name, more in (("ae", {}), ("vae", options or {})):
            start = time.monotonic()
            bar = progress(f"{name} {dim}") if progress else None
            chosen = {"latent_dim": dim} | {key: v for key, v in more.items() if name == "vae" or key == "network"}
            run = fit_recipe(x, schema, Recipe(name), settings, options=chosen, progress=bar)
            _fitted(found, run, train, test, time.monotonic() - start, k)
            found.runs[(name, dim)] = run
    return found


def _baseline(found: Comparison, train: Tensor, test: Tensor, schema: Schema, dim: int, seed: int) -> None:
    start = time.monotonic()
    pca = PCABaseline(dim, dequantize=schema.is_discrete, seed=seed).fit(train.numpy())
    seconds = time.monotonic() - start
    x = test.numpy()
    means = torch.from_numpy(pca.codes(x))
    nll = float(pca.nll(x).mean())
    nll_value = None if nll != nll else nll

    def decoded(z: Tensor) -> Tensor:
        return torch.from_numpy(pca.decode(z.numpy())).view(-1, *schema.shape)

    _measure(found, "pca", means, decoded, None, train, test, schema, seed,
             rmse=pca.rmse(x), nll=nll_value, minus_elbo=None, seconds=seconds)  # fmt: skip


def _fitted(found: Comparison, run: Run, train: Tensor, test: Tensor, seconds: float, k: int) -> None:
    assert run.schema is not None
    run.model.to("cpu")
    has_density = run.name != "ae"
    figures = evaluate(run.model, test, k=k if has_density else 0, nll_rows=1000, beta=run.beta)
    sampled = run.model.prior().sample(torch.Size((4000,))) if has_density else None  # type: ignore[operator]
    _measure(found, run.name, codes(run.model, test), lambda z: decode(run.model, z.float()), sampled, train, test,
             run.schema, run.settings.seed, rmse=figures.rmse, nll=figures.nll,
             minus_elbo=None if figures.elbo is None else -figures.elbo, seconds=seconds)  # fmt: skip


def _measure(
    found: Comparison, name: str, means: Tensor, decoder: Callable[[Tensor], Tensor], sampled: Tensor | None,
    train: Tensor, test: Tensor, schema: Schema, seed: int, *, rmse: float, nll: float | None, minus_elbo: float | None,
    seconds: float,
) -> None:  # fmt: skip
    kind = "prior"
    with seeded(seed, _SAMPLE):
        if sampled is None:
            sampled, kind = normal_like(means, 4000), "normal fitted to the codes"
    spread = sampled.double().std(0).clamp_min(1e-12)
    scaled = [(values.double() / spread).numpy() for values in (means, sampled)]
    distance: EnergyDistance = distance_from_sampled(*scaled)
    with seeded(seed, _PAIRS):
        pairs = torch.randperm(len(means))[: 2 * min(100, len(means) // 2)].view(2, -1)
    lines = interpolate(means[pairs[0]], means[pairs[1]])
    decoded = decoder(lines.flatten(0, 1)).view(*lines.shape[:2], *schema.shape)
    even: Smoothness = smoothness(decoded, train, test)
    dims = test[0].numel()
    bits = None if nll is None else nll / (dims * float(np.log(2)))
    found.rows.append(Row(name, means.shape[1], rmse, nll, minus_elbo, bits, distance.value, distance.null,
                          distance.null_high, even.roughness, even.midpoint, round(seconds, 2)))  # fmt: skip

    def user(values: Tensor) -> np.ndarray:
        return schema.to_user(values.numpy())

    found.sides.append(Side(
        name, means.shape[1], means.numpy(), sampled.numpy(), user(decoder(sampled[:64])), user(decoder(means[:16])),
        np.stack([user(step[:4]) for step in decoded]), kind,
    ))  # fmt: skip


def normal_like(values: Tensor, size: int) -> Tensor:
    """``size`` draws of the normal distribution with the mean and covariance of the rows."""
    mean, centred = values.double().mean(0), values.double() - values.double().mean(0)
    factor = torch.linalg.svd(centred / max(1, len(values) - 1) ** 0.5, full_matrices=False)
    return mean + torch.randn(size, len(factor.S), dtype=torch.float64) @ (factor.S.unsqueeze(-1) * factor.Vh)
