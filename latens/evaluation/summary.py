"""The evaluation of a fitted model on data: every figure with its unit, its error and its conditions."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from latens.conditionals import TableLikelihood
from latens.errors import InputError
from latens.evaluation.collapsing import CODED, Collapse, collapse, per_dimension
from latens.evaluation.estimators import Estimator
from latens.evaluation.latent import (
    active_units,
    codes_and_means,
    collapse_warning,
    decode,
    prior_variance,
    rate_per_dimension,
)
from latens.evaluation.likelihood import (
    NLL,
    Bound,
    bits_per_dimension,
    distortion,
    elbo,
    on_device,
    require_support,
    spaced,
    standard_error,
)
from latens.evaluation.shown import InNotebooks
from latens.evaluation.synthetic import SyntheticEvaluation
from latens.models import Generator
from latens.tensors import trees
from latens.tensors.randomness import untouched
from latens.tensors.trees import Tree


@dataclass
class Evaluation(InNotebooks):
    """Figures of a model on N rows, in nats per row unless stated otherwise; None for a figure that does not exist.

    Attributes:
        rows, dimensions, latent_dim: the numbers of rows, of cells in a row, and of latent dimensions.
        rate, distortion, elbo: elbo = -(rate + distortion), with ``elbo_standard_error``, over ``draws`` posterior
            draws per row.
        nll: -ln p(x), estimated by ``nll_method`` on ``nll_rows`` rows under ``nll_conditions``. Its difference from
            -ELBO on these rows extends it to all rows; ``nll_standard_error`` covers both steps.
        nll_draws: draws (or chains) per row.
        nll_effective_sample_size: the mean over rows.
        nll_unreliable: the share of rows for which the draws are too few (:attr:`latens.evaluation.NLL.unreliable`).
        nll_verdict: a sentence, if the draws are too few for more than one row in a hundred.
        estimate: the NLL of single rows, which are ``spaced(rows, nll_rows)``.
        elbo_bits_per_dimension, nll_bits_per_dimension: -elbo and nll, divided by (dimensions x ln 2).
        rmse: root mean squared error of decoded posterior means, in the units of the data.
        relative_rmse: for a table, the RMSE of its numbers, each column in standard deviations over these rows.
        accuracy: for a table, the share of categorical cells that are reconstructed correctly.
        observation_variance: c, in squared units of the data (the mean over columns if they differ).
        active_units: see :func:`latens.evaluation.active_units`.
        measure: the measure to which the nats of a table refer (:attr:`latens.conditionals.TableLikelihood.measure`).
        no_bound: why there is no bound on ln p(x).
        samples: how good samples of a table are, if evaluated.
        collapse: how much of the code is in use, by layer and dimension.
        scores: {name: scores of codes and samples, if evaluated}: "labels", "disentanglement", "images", "rate_parts",
            "gaps", "certificate".
        warnings: remarks, for example on inactive units.
    """

    rows: int
    dimensions: int
    latent_dim: int
    rmse: float | None
    distortion: float | None
    rate: float | None = None
    elbo: float | None = None
    elbo_standard_error: float | None = None
    elbo_bits_per_dimension: float | None = None
    draws: int = 1
    nll: float | None = None
    nll_standard_error: float | None = None
    nll_draws: int = 0
    nll_rows: int = 0
    nll_method: str | None = None
    nll_conditions: str | None = None
    nll_effective_sample_size: float | None = None
    nll_unreliable: float | None = None
    nll_verdict: str | None = None
    nll_bits_per_dimension: float | None = None
    active_units: int = 0
    rate_per_dimension: list[float] | None = None
    observation_variance: float | None = None
    relative_rmse: float | None = None
    accuracy: float | None = None
    measure: str | None = None
    no_bound: str | None = None
    samples: SyntheticEvaluation | None = None
    collapse: Collapse | None = None
    scores: dict[str, Any] = field(default_factory=dict, repr=False)
    warnings: list[str] = field(default_factory=list)
    estimate: NLL | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's types, without those of single rows; ``samples`` and ``scores`` only if evaluated."""
        found = asdict(replace(self, estimate=None, collapse=None, scores={}))
        found["collapse"] = None if self.collapse is None else self.collapse.to_json()
        left_out = {"estimate", "scores"} if self.samples is not None else {"estimate", "scores", "samples"}
        found = {name: value for name, value in found.items() if name not in left_out}
        return found | {name: each.to_json() for name, each in self.scores.items()}

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text."""
        own = vars(self)
        found = [(name, text.format(**own)) for needed, name, text in _LINES
                 if all(own[each] is not None for each in needed.split())]  # fmt: skip
        if self.collapse is not None:
            told = self.collapse.lines()[1:] if not any(" inactive (" in each for each in self.warnings) else []
            found += [("codes", self.collapse.verdict), *told, *per_dimension(self.collapse)]
        if self.distortion is None:
            found.insert(1, ("likelihood", "none  (no posterior, so no codes of rows and no bound on ln p(x))"))
        return found


_LINES = (  # (figures that must exist, the name of a line, its text)
    ("rows", "rows", "{rows:,} of {dimensions} dimensions"),
    ("elbo", "rate  KL(q || p)", "{rate:.3f} nats"),
    ("elbo", "distortion  -E ln p(x|z)", "{distortion:.3f} nats"),
    ("elbo", "ELBO", "{elbo:.3f} ± {elbo_standard_error:.3f} nats  ({draws} draws)"),
    ("elbo rmse", "-ELBO", "{elbo_bits_per_dimension:.4f} bits per dimension"),
    ("no_bound", "distortion", "{distortion:.3f}  (no bound on ln p(x): {no_bound})"),
    ("nll", "NLL  -ln p(x)", "{nll:.3f} ± {nll_standard_error:.3f} nats  ({nll_conditions})"),
    ("nll rmse", "NLL", "{nll_bits_per_dimension:.4f} bits per dimension"),
    ("nll_verdict", "", "{nll_verdict}"),
    ("elbo measure", "nats per row", "{measure}"),
    ("rmse", "reconstruction", "{rmse:.4f} RMSE in the units of the data"),
    ("relative_rmse", "reconstruction of numbers", "{relative_rmse:.4f} RMSE in standard deviations"),
    ("accuracy", "reconstruction of levels", "{accuracy:.1%} correct"),
    ("distortion", "active units", "{active_units} of {latent_dim}"),
    ("observation_variance", "observation variance c", "{observation_variance:.4g} (squared units of the data)"),
)  # fmt: skip


def reconstruction_errors(
    model: nn.Module, x: Tensor | Any, means: Tensor, c: Tree = None, count: int = 1000
) -> dict[str, Any]:
    """The reconstruction errors of rows, ``[N, *event]``: ``rmse`` for arrays; ``relative_rmse`` and ``accuracy`` for
    tables of mixed columns (:class:`latens.conditionals.TableLikelihood`)."""
    likelihood = getattr(model, "likelihood", None)
    square = torch.zeros(x.shape[1:], dtype=torch.float64)
    hits, seen, first, second = (torch.zeros_like(square) for _ in range(4))
    for start in range(0, len(x), count):
        rows = slice(start, start + count)
        part = x[rows].double()
        again = decode(model, means[rows], trees.take(c, rows)).double()
        observed = ~part.isnan()
        filled = torch.where(observed, part, 0.0)
        square += torch.where(observed, again - part, 0.0).square().sum(0)
        hits += ((again.round() == part) & observed).sum(0)
        seen += observed.sum(0)
        first, second = first + filled.sum(0), second + filled.square().sum(0)
    if not isinstance(likelihood, TableLikelihood):
        return {"rmse": float((square.sum() / seen.sum().clamp_min(1)).sqrt())}
    coded = torch.tensor([column.family in CODED for column in likelihood.columns])
    variance = second / seen.clamp_min(1) - (first / seen.clamp_min(1)).square()
    usable = ~coded & (variance > 1e-12 * second / seen.clamp_min(1)) & (seen > 0)
    relative = (square[usable].div(variance[usable]).sum() / seen[usable].sum()).sqrt() if usable.any() else None
    accuracy = hits[coded].sum() / seen[coded].sum() if coded.any() and seen[coded].any() else None
    figures = {"rmse": None, "relative_rmse": relative, "accuracy": accuracy}
    return {name: None if value is None else float(value) for name, value in figures.items()}


@torch.no_grad()
@untouched()
def evaluate(
    model: nn.Module, x: Tensor | Any, c: Tree = None, *, k: int | Estimator = 100, draws: int = 5,
    nll_rows: int | None = None, beta: float = 1.0, seed: int = 0,
) -> Evaluation:  # fmt: skip
    """Evaluate a model on rows.

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``; NaN marks missing cells.
        c: conditions.
        k: draws per row of the importance-weighted NLL, 0 to omit it; or another estimator.
        draws: posterior draws per row of the ELBO.
        nll_rows: the number of evenly spaced rows for the NLL; None for all rows.
        beta: the weight of the rate in training, for the warning about inactive units.
        seed: the seed of the draws.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> figures = evaluate(model, torch.randn(7, 5), k=20)
    >>> figures.rows, figures.nll_draws, figures.latent_dim
    (7, 20, 2)
    """
    size: dict[str, Any] = {"rows": len(x), "dimensions": x[0].numel(), "draws": draws}
    first, given = on_device(model, slice(0, 1), x, c)
    if isinstance(model, Generator):
        codes = trees.flat_codes(model.draw(first, 1, given).z)
        return Evaluation(**size, latent_dim=codes.shape[-1], rmse=None, distortion=None)
    require_support(model, x, c)
    if not hasattr(model, "decode"):
        raise InputError("the model has no method decode", "define decode(z, c), which returns p(x|z, c)")
    z, means = codes_and_means(model, x, c)
    likelihood = getattr(model, "likelihood", None)
    variance = getattr(likelihood, "data_variance", None)
    found = Evaluation(
        **size, **reconstruction_errors(model, x, z, c), latent_dim=z.shape[1], distortion=float("nan"),
        active_units=int(active_units(means, prior_variance(model, x, c)).sum()),
        measure=likelihood.measure if isinstance(likelihood, TableLikelihood) else None,
        observation_variance=None if variance is None else float(variance.double().mean()),
    )  # fmt: skip
    found.no_bound = model.draw(first, 1, given).no_bound  # type: ignore[operator]
    if found.no_bound is not None:
        found.distortion = float(distortion(model, x, c, draws=1, seed=seed).mean())
        return found
    bound = elbo(model, x, c, draws=draws, seed=seed)
    found.rate, found.distortion, found.elbo = float(bound.rate.mean()), float(bound.distortion.mean()), bound.elbo
    found.elbo_standard_error = bound.standard_error
    found.elbo_bits_per_dimension = bits_per_dimension(-bound.elbo, found.dimensions)
    estimator = k if isinstance(k, Estimator) else Estimator(k=k)
    if not estimator.off:
        picked = spaced(len(x), nll_rows)
        _carried(found, bound, picked, estimator(model, x[picked], trees.take(c, picked), seed=seed), estimator)
    rates = rate_per_dimension(model, x, c)
    found.rate_per_dimension = None if rates is None else rates.tolist()
    found.collapse = collapse(model, x, c, beta=beta, seed=seed)
    noise = None if found.collapse is None else found.collapse.noise
    collapsed = collapse_warning(model, x[:20_000], found.active_units, found.latent_dim, beta, noise)
    found.warnings += [collapsed] if collapsed else []
    found.warnings += _at_floor(likelihood)
    return found


def _carried(found: Evaluation, bound: Bound, picked: Tensor, estimate: NLL, estimator: Estimator) -> None:
    """Set the NLL of all rows, from the NLL of the picked rows and the bound of all rows."""
    gain = estimate.rows + bound.rows[picked]  # -ln p(x) minus -ELBO, row by row
    spread = standard_error(gain) if len(picked) < found.rows else 0.0
    found.nll, found.nll_draws, found.nll_rows = float(gain.mean()) - bound.elbo, estimate.k, len(estimate.rows)
    found.nll_standard_error = math.hypot(spread, standard_error(estimate.rows if not spread else bound.rows))
    found.nll_effective_sample_size = estimate.mean_ess
    found.nll_bits_per_dimension = bits_per_dimension(found.nll, found.dimensions)
    found.nll_method, found.nll_conditions = estimator.method, estimator.conditions(estimate)
    found.nll_unreliable = estimate.unreliable
    found.nll_verdict, found.estimate = estimator.verdict(estimate), estimate


def _at_floor(likelihood: Any) -> list[str]:
    """Warnings about scales and variances that are so small that the model copies data."""
    found = []
    columns = likelihood.floor_hits() if isinstance(likelihood, TableLikelihood) else []
    if columns:
        found.append(
            f"the scale of {len(columns)} column{'s' * (len(columns) > 1)} (counted from 0: "
            f"{', '.join(map(str, columns[:8]))}) has reached its floor: the model can copy these columns, so their "
            "likelihood says little"
        )
    floor, current = (getattr(likelihood, name, None) for name in ("floor", "observation_variance"))
    if floor is not None and current is not None and float(current.detach()) <= floor * 1.01:
        found.append(
            "the observation variance has reached its floor: the model can copy the data, so its likelihood says "
            "little; give a fixed variance or fewer latent dimensions"
        )
    return found
