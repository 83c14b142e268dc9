"""The subject of a report: a run, a sample of its data, the codes of these rows, and decoded codes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.data.rows import Rows
from latens.distributions import drawing_within
from latens.errors import InputError
from latens.evaluation import Evaluation, decode, evaluate, rate_per_dimension
from latens.evaluation.latent import ACTIVE, codes_and_means, prior_variance
from latens.evaluation.likelihood import on_device
from latens.models import Generator
from latens.report.groups import Groups, group
from latens.report.page import LeftOut
from latens.report.pixels import model_layout, to_pixels
from latens.runs.outputs import conditions, margins_of
from latens.runs.record import Run
from latens.schema import Schema, Table
from latens.tensors import trees
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree

MAP_ROWS = 2000  # rows that are encoded for maps and rates
COLUMNS = 12  # columns of a table that get a panel
WITHOUT_DATA = 2000  # rows of conditions that are drawn if there are no data
NORMAL_CODES = (
    "An autoencoder has no prior and no p(x|z) to draw from. Instead, random codes are drawn from a normal "
    "distribution with the mean and covariance of its codes, and decoded. If the codes do not fill that "
    "distribution, the result is nonsense."
)


class Subject:
    """A run and at most 2,000 of the given rows (a fixed random choice); everything else is derived from them on
    demand.

    ``tensor`` holds these rows in the model's form, or is None; ``groups`` are their labels. An attribute that does not
    exist for this run or these data raises :class:`LeftOut` with the sentence to show.
    """

    def __init__(
        self, run: Run, x: Rows | np.ndarray | None, labels: Any, label_names: Sequence[str] | None,
        evaluation: Evaluation | None,
    ):  # fmt: skip
        self.run, self.schema, self.evaluation = run, run.schema, evaluation
        self.rows = 0 if x is None else len(x)
        self.tensor: Tensor | None = None
        self.groups: Groups | None = None
        self.c: Tree = None
        if isinstance(x, Rows) and labels is None:
            labels, label_names = x.labels, x.label_names
        self.label_names = label_names
        self.coloured_by = ""
        if x is None:
            with suppress(InputError):  # conditions that are unknown
                self.c, _ = conditions(run, WITHOUT_DATA, {}, run.settings.seed)
            return
        if not self.rows:
            raise InputError("the data of the report have no rows", "give some, or x=None")
        if isinstance(x, Rows) and labels is None and x.given is not None:
            self.coloured_by, labels, label_names = x.given.conditions[0], *_given_labels(x)
        groups = group(labels, self.rows, label_names)
        order = np.random.default_rng([run.settings.seed, Key.REPORT_ROWS]).permutation(self.rows)[:MAP_ROWS]
        order.sort()
        if isinstance(x, Rows):
            part = x.take(order)
            self.tensor, self.c = part.inside[:], part.c
        else:
            self.tensor = self._inside(np.asarray(x)[order])
        self.groups = None if groups is None else groups.take(order)

    def _inside(self, x: np.ndarray) -> Tensor:
        """Rows in the model's form: converted by the schema for a recipe, unchanged for your own parts."""
        if self.run.recipe is not None and self.schema is not None:
            return torch.from_numpy(self.schema.to_model(x))
        tensor = torch.from_numpy(np.ascontiguousarray(x))
        floats = [p.dtype for p in self.run.model.parameters() if p.is_floating_point()]
        return tensor.to(floats[0]) if tensor.is_floating_point() and floats else tensor

    @property
    def x(self) -> Tensor:
        """The rows shown, in the model's form."""
        if self.tensor is None:
            raise LeftOut("This part needs data, but the report was made without data (<code>x=None</code>).")
        return self.tensor

    # Codes

    @cached_property
    def _codes_and_means(self) -> tuple[Tensor, Tensor]:
        return codes_and_means(self.run.model, self.x, self.c)

    @property
    def codes(self) -> Tensor:
        """The code of each row, ``[N, Z]`` float32."""
        return self._codes_and_means[0].float()

    @property
    def has_density(self) -> bool:
        """Whether the model has a bound on ln p(x)."""
        return self.no_bound is None

    @property
    def has_prior(self) -> bool:
        """Whether codes have a prior and a rate; False for an autoencoder."""
        from latens.conditionals import PointMassPosterior

        return not isinstance(getattr(self.run.model, "posterior", None), PointMassPosterior)

    @property
    def has_codes(self) -> bool:
        """Whether rows have codes; False for a model that only generates."""
        return not isinstance(self.run.model, Generator)

    @cached_property
    def no_bound(self) -> str | None:
        """Why the model has no bound on ln p(x); None if it has one. Without data, the given evaluation says so."""
        if self.tensor is not None:
            with torch.no_grad(), seeded(self.run.settings.seed, Key.REPORT_SAMPLE):
                x, c = on_device(self.run.model, slice(0, 1), self.tensor, self.c)
                return self.run.model.draw(x, 1, c).no_bound  # type: ignore[operator]
        if self.evaluation is not None:
            return self.evaluation.no_bound
        return None if self.has_prior else "the posterior (PointMass) has no density"

    @cached_property
    def prior_moments(self) -> tuple[Tensor, Tensor] | None:
        """(mean, standard deviation) of each latent dimension under the prior; None if there is no closed form."""
        prior = getattr(self.run.model, "prior", None)
        if prior is None or not self.has_prior:
            return None
        try:
            with torch.no_grad():
                p = prior()
                mean, deviation = p.mean.float().cpu(), p.variance.float().sqrt().cpu()
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            return None
        usable = mean.dim() == 1 and bool(torch.isfinite(mean).all() and torch.isfinite(deviation).all())
        return (mean, deviation) if usable else None

    @property
    def is_standard(self) -> bool:
        """Whether the prior is N(0, I), judged by its moments and type."""
        from latens.distributions import DiagonalNormal

        if self.prior_moments is None or not isinstance(self.run.model.prior(), DiagonalNormal):  # type: ignore[operator]
            return False
        mean, deviation = self.prior_moments
        return bool((mean == 0).all() and (deviation == 1).all())

    @property
    def is_projected(self) -> bool:
        """Whether codes are projected to the space of the prior before they are decoded."""
        return hasattr(getattr(self.run.model, "prior", None), "project")

    @cached_property
    def walk(self) -> tuple[Tensor, Tensor]:
        """(centre, unit) of traversals, the mean and standard deviation of the prior, or of the codes if the prior has
        none or is on another space (a sphere, categories)."""
        if self.prior_moments is not None and not self.is_projected:
            return self.prior_moments
        return self.codes.mean(0), self.codes.std(0, correction=0)

    @cached_property
    def rates(self) -> np.ndarray | None:
        """KL(q(z_i|x) || p(z_i)) of each dimension, ``[Z]`` nats; None if the rate does not split by dimension."""
        if self.evaluation is not None and self.evaluation.rate_per_dimension is not None:
            return np.asarray(self.evaluation.rate_per_dimension, dtype=float)
        if self.tensor is None or not self.has_prior:
            return None
        found = rate_per_dimension(self.run.model, self.x, self.c)
        return None if found is None else found.double().numpy()

    @cached_property
    def prior_variance(self) -> Any:
        """The variance of p(z_i) for each dimension, ``[Z]`` float64; None if it is not known."""
        found = prior_variance(self.run.model, self.x, self.c)
        return found.double().numpy() if isinstance(found, Tensor) else found

    @cached_property
    def spread(self) -> Any:
        """Var_x E[z_i|x] of each dimension, ``[Z]``, divided by the variance of p(z_i) if there is a prior."""
        found = self._codes_and_means[1].double().var(0, correction=0).numpy()
        return found / np.maximum(self.prior_variance, 1e-300) if self.has_prior else found

    @cached_property
    def dimensions(self) -> tuple[list[int], list[int]]:
        """(active, inactive) latent dimensions, each ordered by rate, or by the variance of the codes if there is no
        rate."""
        if self.tensor is not None:
            active = self.spread > (ACTIVE if self.has_prior else 1e-8 * max(self.spread.max(), 1e-300))
            weight = self.spread if self.rates is None else self.rates
        elif self.rates is not None:
            weight, active = self.rates, self.rates > ACTIVE
        else:
            raise LeftOut("Active dimensions are unknown without data.")
        order = [int(i) for i in np.argsort(-weight, kind="stable")]
        return [i for i in order if active[i]], [i for i in order if not active[i]]

    # Data

    def decode(self, z: Tensor, rows: Any = None) -> np.ndarray:
        """The mean or mode of p(x|z) in the model's layout and the units of the data, ``[N, *shape]`` float64.

        If the model has conditions, it gets those of ``rows``, or of the first row.
        """
        c = trees.take(self.c, torch.zeros(len(z), dtype=torch.int64) if rows is None else torch.as_tensor(rows))
        return self.outside(decode(self.run.model, z.float(), c), c, mean=True)

    def normal_codes(self, count: int) -> Tensor:
        """Draws from a normal distribution with the mean and covariance of the codes, ``[count, Z]``."""
        values = self.codes.double().numpy()
        rng = np.random.default_rng(self.run.settings.seed)
        cover = np.atleast_2d(np.cov(values.T)) if len(values) > 1 else np.zeros((values.shape[1], values.shape[1]))
        return torch.from_numpy(rng.multivariate_normal(values.mean(0), cover, size=count, method="svd"))

    def sample(self, count: int, mean: bool) -> np.ndarray:
        """Draws from p(x|z), or its means, at ``count`` codes z from the prior; the same codes for both."""
        rows = WITHOUT_DATA if self.tensor is None else len(self.tensor)
        c = None if self.c is None else trees.take(self.c, torch.arange(count) % rows)
        schema, margins = self.known, margins_of(self.run, have=not mean)
        with seeded(self.run.settings.seed, Key.REPORT_SAMPLE), drawing_within(margins.limits):
            x = self.run.model.sample(count, c, mean=mean)  # type: ignore[operator]
        x = torch.from_numpy(margins.mapped(x.cpu().double().numpy())) if margins.maps else x
        found = self.outside(x, c, mean=mean)
        return schema.settled(found, mean=mean) if isinstance(schema, Schema) else found

    def outside(self, values: Tensor, c: Tree, *, mean: bool = False) -> np.ndarray:
        """Values for conditions c as ``[N, *shape]`` float64. For your own parts, axes are moved to the schema's order;
        for a table with rules, the columns are those of ``schema.outer``."""
        found = values.detach().cpu().double().numpy()
        schema = self.known
        if self.run.recipe is None and isinstance(schema, Schema) and found.shape[1:] == schema.user_shape:
            found = model_layout(schema, found)
        if found.shape[1:] != schema.shape:
            raise LeftOut(
                f"The model gives rows of shape {list(found.shape[1:])}, but the schema has {list(schema.shape)}."
            )
        if isinstance(schema, Table) and schema.rules:
            return np.stack(list(schema.outward(found, schema.known_of(c), mean=mean)[0].values()), 1)
        return found

    @cached_property
    def shown(self) -> np.ndarray:
        """The rows in the model's layout, ``[N, *shape]`` float64."""
        return self.outside(self.x, self.c)

    @property
    def known(self) -> Any:
        """The schema; :class:`LeftOut` if there is none."""
        if self.schema is None:
            raise LeftOut(
                "The run has no schema, which says what each column or pixel is, so its data cannot be shown."
            )
        return self.schema

    @property
    def is_image(self) -> bool:
        """Whether the rows are images."""
        return self.known.is_image

    def pixels(self, x: np.ndarray) -> np.ndarray:
        """Images in the model's layout, as 8-bit images."""
        return to_pixels(self.known, x)

    @property
    def is_sequence(self) -> bool:
        """Whether the rows are sequences."""
        return isinstance(self.schema, Schema) and self.schema.is_sequence

    @cached_property
    def columns(self) -> list[int]:
        """The columns that get a panel, the first twelve that vary or, for counts, those with the largest means."""
        constant = set(self.known.constant)
        found = [i for i in range(self.known.columns) if i not in constant]
        if self.known.kind == "count" and self.tensor is not None and self.shown.ndim == 2:
            means = self.shown.mean(0)
            found.sort(key=lambda i: -means[i])
        return found[:COLUMNS]

    @property
    def which_columns(self) -> str:
        """Which columns get a panel, in words."""
        most = self.known.kind == "count" and self.tensor is not None
        return "those with the largest means" if most else f"the first {COLUMNS} that vary"

    def column_name(self, i: int) -> str:
        """The name of column ``i``, or its number."""
        names = [field.name for field in self.schema.outer] if isinstance(self.schema, Table) else self.known.names
        return names[i] if names else f"column {i}"

    @cached_property
    def scale(self) -> np.ndarray:
        """The standard deviation of each column; 1 where it is 0 or unknown."""
        with warnings.catch_warnings():  # for a column without an observed cell
            warnings.simplefilter("ignore")
            spread = np.nanstd(self.shown, 0)
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def figures(self) -> Evaluation:
        """The given evaluation, or a short one (without importance weighting) on the rows of the report."""
        if self.evaluation is not None:
            return self.evaluation
        return evaluate(self.run.model, self.x, self.c, k=0, draws=1, beta=self.run.beta, seed=self.run.settings.seed)

    @cached_property
    def pairs(self) -> np.ndarray:
        """Eight pairs of different rows, ``[P, 2]``, from different groups if there are groups."""
        count = len(self.x)
        if count < 2:
            raise LeftOut("Interpolations need two rows.")
        order = np.random.default_rng([self.run.settings.seed, Key.REPORT_PAIRS]).permutation(count)
        left = [int(i) for i in order[: min(count, 400)]]
        found: list[tuple[int, int]] = []
        while len(left) > 1 and len(found) < 8:
            first = left.pop(0)
            groups = self.groups
            unlike = (r for r in left if groups is not None and groups.index[r] != groups.index[first])
            other = next(unlike, left[0])
            left.remove(other)
            found.append((first, other))
        return np.array(found)


def _given_labels(x: Rows) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The first condition as labels: (codes of its levels, or numbers; names of the levels)."""
    assert x.given is not None
    column = x.given.given_fields[0]
    values = x.given.conditions_of(x.cells, x.where)[column.name]
    if column.levels is None:
        return values, None
    codes = np.nan_to_num(values, nan=len(column.levels)).astype(np.int64)
    return codes, (*(str(level) for level in column.levels), "missing")
