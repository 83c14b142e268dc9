"""What a page shows of a run and its rows: the rows' codes, figures and cells, and the meaning of columns and
dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens import evaluation, priors
from latens.data.rows import Rows
from latens.errors import InputError
from latens.evaluation.likelihood import chunks, evaluating
from latens.models import CentroidMetric
from latens.report.explore.packing import ArrayBlocks
from latens.report.page import LeftOut
from latens.report.subject import Subject
from latens.runs import scoring
from latens.runs.record import Run
from latens.schema import Column, Schema, Table
from latens.schema.form import Numbers
from latens.schema.rules import ColumnNumbers
from latens.tensors import trees
from latens.tensors.randomness import Key, seeded

BUDGET = 1_000_000  # the most points
LARGE = 200_000  # a page with more points than this is large, and holds less about each
HELD, HELD_OF_LARGE = 2_500_000, 300_000  # the most numbers of codes in a page, and in a large page; as many of cells
WORK = 40_000_000  # the most cells x draws in computing the scores of rows
DRAWS = 400  # codes of each density in the page
COMBINED = 20  # the most combinations of conditions for which the page has draws of a prior that depends on them
COLOURED = 40  # the most columns by which points can be coloured
RARE = 0.001  # this share of the prior's draws counts as outside its mass


@dataclass(frozen=True)
class Shown:
    """The rows of a page, in random order.

    Attributes:
        rows: the rows. The page has the codes of the first ``coded`` rows, and the cells of the first ``kept``.
        numbers: the row numbers in the data.
        total: the number of rows in the data.
    """

    rows: Rows
    numbers: np.ndarray
    total: int


def thinned(rows: Rows, points: int, seed: int) -> Shown:
    """At most ``points`` of the rows, at random."""
    order = np.random.default_rng([seed, Key.REPORT_ROWS]).permutation(len(rows))[:points]
    order[HELD_OF_LARGE:].sort()  # rows that have only a number in the page: sorted numbers pack better
    return Shown(rows.take(order), order, len(rows))


class Contents:
    """Facts about a run and its rows, in JSON's types (:attr:`about`), and the arrays of the page (:attr:`blocks`).

    Args:
        run: the run.
        shown: the rows.
        with_rows: whether cells of rows are in the page.
    """

    def __init__(self, run: Run, shown: Shown, *, with_rows: bool = True):
        self.run, self.shown, self.blocks = run, shown, ArrayBlocks()
        self.subject = Subject(run, shown.rows, None, None, None)
        if not self.subject.has_codes:
            raise InputError(f"{run.folder or 'this run'}: the model has no encoder, so there are no codes to show")
        self.z = evaluation.codes(run.model, shown.rows.inside, shown.rows.c).numpy().astype(np.float32)
        self.about: dict[str, Any] = {
            "data": self._data(), "dimensions": self._dimensions(), "prior": self._prior(),
            "conditions": self._conditions(), "rows": self._rows(with_rows),
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.z)

    # What a row consists of

    def _data(self) -> dict[str, Any]:
        schema = self.run.schema
        if isinstance(schema, Table):
            return {"kind": "table", "shape": list(schema.shape), "columns": self._columns(schema)}
        assert isinstance(schema, Schema)
        kind = "image" if schema.is_image else "sequence" if schema.is_sequence else "vector"
        low, high = (float(v) for v in schema.ends)
        return {
            "kind": "counts" if kind == "vector" and schema.kind == "count" else kind, "shape": list(schema.shape),
            "names": list(schema.names or ()), "low": low, "high": high if high > low else low + 1.0,
            "whole": schema.is_discrete or schema.kind == "count", "levels": schema.levels,
        } | _limits(schema)  # fmt: skip

    def _columns(self, schema: Table) -> list[dict[str, Any]]:
        """The columns in the user's terms; each has the positions of its standard deviation and of its probabilities
        in the decoder's outputs."""
        sizes = [len(field.levels or ()) if field.outputs_codes else 0 for field in schema.modelled]
        places = {field.name: (place, sum(sizes[:place])) for place, field in enumerate(schema.modelled)}
        bound = {rule.target for rule in schema.rules if rule.bounds}
        found = []
        for field in schema.outer:
            place, at = (None, None) if field.name in bound else places.get(field.name, (None, None))
            found.append(_written(field) | {
                "name": field.name, "kind": field.kind, "levels": [str(v) for v in field.levels or ()],
                "low": field.low, "high": field.high, "decimals": field.decimals, "time": field.time,
                "type": field.type, "deviation": place, "levels_at": at if field.outputs_codes else None,
            })  # fmt: skip
        return found

    # The space of codes

    def _dimensions(self) -> dict[str, Any]:
        active, inactive = self.subject.dimensions
        if not active:
            raise InputError(
                f"{self.run.folder or 'this run'}: no latent dimension is active, so there is nothing to explore",
                "train longer, or lower beta (`latens evaluate` says why)",
            )
        rates = self.subject.rates
        prior = getattr(self.run.model, "prior", None)
        center, unit = (v.double().numpy() for v in self.subject.walk)
        self.active = active
        return {
            "count": self.z.shape[1], "active": active, "inactive": len(inactive),
            "rates": None if rates is None else [float(rates[d]) for d in active],
            "center": center.tolist(), "unit": np.where(unit > 0, unit, 1.0).tolist(),
            "mean": self.z.mean(0, dtype=np.float64).tolist(),
            "low": np.quantile(self.z, 0.001, 0).tolist(), "high": np.quantile(self.z, 0.999, 0).tolist(),
            "space": type(prior).__name__, "curvature": prior.c if isinstance(prior, priors.BallNormal) else 1.0,
            **self._metric(),
        }  # fmt: skip

    def _metric(self) -> dict[str, Any]:
        """The metric over codes that the model learned, if it did."""
        metric = getattr(self.run.model, "metric", None)
        if not isinstance(metric, CentroidMetric):
            return {}
        with torch.no_grad():
            squares = metric.squares().numpy()
        return {"metric": {
            "centroids": self.blocks.add("metric-centroids", metric.centroids.numpy()),
            "squares": self.blocks.add("metric-squares", squares),
            "temperature": metric.temperature, "floor": metric.floor,
        }}  # fmt: skip

    def _prior(self) -> dict[str, Any]:
        """How codes are drawn, and where the mass of the prior ends."""
        found: dict[str, Any] = {"standard": self.subject.is_standard, "draws": []}
        for name, draws, at in self._drawn():
            block = self.blocks.add(f"draws-{len(found['draws'])}", draws.astype(np.float16))
            found["draws"].append({"name": name, "block": block} | ({"at": at} if at else {}))
        self.beyond = np.zeros(len(self), bool)
        with suppress(Exception), torch.no_grad():  # if the prior has no density, no point is marked
            p = self._prior_given(self.shown.rows.c)
            with seeded(self.run.settings.seed, Key.REPORT_SAMPLE):
                usual = p.log_prob(p.sample(torch.Size(() if p.batch_shape else (4000,)))).double().numpy()
            own = p.log_prob(torch.from_numpy(self.z)).double().numpy()
            if own.shape == (len(self),):
                self.beyond = own < np.quantile(usual, RARE)
        return found

    def _prior_given(self, c: dict[str, Tensor] | None) -> Any:
        """p(z) or, if the prior reads conditions, p(z|c) for each row of the conditions."""
        prior: Any = self.run.model.prior
        reads = getattr(prior, "reads", ())
        return prior({name: values for name, values in c.items() if name in reads}) if c and reads else prior()

    def _drawn(self) -> list[tuple[str, np.ndarray, list[int]]]:
        """(name of the density, codes drawn from it, the levels of the conditions that they were drawn for)."""
        from latens import densities

        model: Any = self.run.model
        found: list[tuple[str, np.ndarray, list[int]]] = []
        with suppress(Exception), torch.no_grad(), seeded(self.run.settings.seed, Key.REPORT_SAMPLE):
            for at, c in self._combinations():
                p = self._prior_given(c)
                z = trees.flat_codes(p.sample(torch.Size(() if p.batch_shape else (DRAWS,))), leading=1)
                if z.shape == (DRAWS, self.z.shape[1]) and self.subject.has_prior:
                    found.append(("the prior", z.double().numpy(), at))
        found.append(("a normal fitted to the codes", np.asarray(self.subject.normal_codes(DRAWS)), []))
        if self.run.folder is not None:
            for path in sorted((self.run.folder / "densities").glob("*.json")):
                fitted = densities.load(self.run.folder, path.stem, model)
                if fitted is not None:
                    drawn = trees.flat_codes(fitted.draw(model, DRAWS, self.run.settings.seed), leading=1)
                    found.append((f"the density {path.stem}", drawn.double().numpy(), []))
        return found

    def _combinations(self) -> list[tuple[list[int], dict[str, Tensor] | None]]:
        """(levels of the conditions, ``DRAWS`` rows of them) for each combination, if the prior depends on them."""
        c = self.shown.rows.c
        if c is None or not getattr(self.run.model.prior, "reads", ()):
            return [([], None)]
        fields = {} if self.run.given is None else {f.name: f for f in self.run.given.given_fields}
        sizes = [len(fields[name].levels or ()) if name in fields else 0 for name in c]
        if not 0 < math.prod(sizes) <= COMBINED:
            return []
        return [(list(at), {name: torch.full((DRAWS,), k, dtype=c[name].dtype) for name, k in zip(c, at)})
                for at in itertools.product(*map(range, sizes))]  # fmt: skip

    @cached_property
    def _known(self) -> ColumnNumbers:
        """The conditions of the rows as rules of a table see them."""
        schema, x = self.shown.rows.schema, self.shown.rows.x
        is_ruled = isinstance(schema, Table) and schema.rules
        return schema.known(dict(zip(x.column_names, x.columns))) if is_ruled else {}  # type: ignore[union-attr]

    def _conditions(self) -> list[dict[str, Any]]:
        """A description of each condition, in the order in which the decoder takes them."""
        c = self.shown.rows.c
        if c is None:
            return []
        fields = {} if self.run.given is None else {f.name: f for f in self.run.given.given_fields}
        found: list[dict[str, Any]] = []
        for name, values in c.items():
            field, numbers = fields.get(name), values.double().numpy()
            levels = [] if field is None else [str(v) for v in field.levels or ()]
            numbers = self._known.get(name, numbers)
            kind = np.float64 if name in self._known else np.float32  # rules need the exact numbers of the data
            found.append({
                "name": name, "levels": levels, "value": float(np.median(numbers) if not levels else numbers[0]),
                "low": float(numbers.min()), "high": float(numbers.max()),
                "block": self.blocks.add(f"condition-{len(found)}", numbers.astype(kind)),
            })  # fmt: skip
        return found

    # Rows

    def _rows(self, with_rows: bool) -> dict[str, Any]:
        n, rows = len(self), self.shown.rows
        coded = self._held(len(self.active))
        self.blocks.add("codes", self.z[:coded, self.active].astype(np.float16).T)
        self.blocks.add("numbers", self.shown.numbers.astype(np.int32))
        self.blocks.add("beyond", self.beyond.astype(np.uint8))
        found: dict[str, Any] = {
            "count": n, "total": self.shown.total, "coded": coded, "kept": 0,
            "maps": self._maps(), "names": list(rows.row_names[:5000]) if rows.row_names else [],
        }  # fmt: skip
        if with_rows:
            found |= self._cells(self._held(rows.schema.columns // (4 if _fits_bytes(rows.schema) else 1)))
        found["values"] = [self._value(*each) for each in self._values(with_rows)]
        return found

    def _held(self, numbers: int) -> int:
        """The number of rows that the page holds, if each row has this many numbers."""
        most = HELD if len(self) <= LARGE else HELD_OF_LARGE
        return min(len(self), max(1, most // max(1, numbers)))

    def _maps(self) -> list[dict[str, Any]]:
        """Projections of the codes onto the plane: PCA, and UMAP if it is installed."""
        z = self.z[:, self.active].astype(np.float64)
        found: list[dict[str, Any]] = []
        if len(self.active) > 2:
            middle = z.mean(0)
            _, values, axes = np.linalg.svd((z - middle)[:50_000], full_matrices=False)
            axes = axes[:2] * np.sign(axes[:2].sum(1, keepdims=True) + 1e-12)
            found.append(self._map("PCA of the codes", (z - middle) @ axes.T)
                         | {"middle": middle.tolist(), "axes": axes.tolist(),
                            "share": (values[:2] ** 2 / (values**2).sum()).tolist()})  # fmt: skip
            plane = _umap(z, self.run.settings.seed)
            if plane is not None:
                found.append(self._map("UMAP of the codes", plane))
        elif len(self) > self._held(len(self.active)):
            found.append(self._map("dimensions", z if z.shape[1] == 2 else np.c_[z, np.zeros(len(z))]))
        return found

    def _map(self, name: str, plane: np.ndarray) -> dict[str, Any]:
        low, high = plane.min(0), plane.max(0)
        scale = np.where(high > low, high - low, 1.0)
        whole = np.rint((plane - low) / scale * 65_000 - 32_500).astype(np.int16)
        block = self.blocks.add(f"map-{name.split()[0].lower()}", whole.T)
        return {"name": name, "block": block, "low": low.tolist(), "high": (low + scale).tolist(), "count": len(plane)}

    def _cells(self, kept: int) -> dict[str, Any]:
        """The cells of the first rows; levels are whole numbers."""
        schema, x = self.shown.rows.schema, self.shown.rows.inside[:kept]
        numbers = x.reshape(len(x), -1).double().numpy()
        if _fits_bytes(schema):
            assert isinstance(schema, Schema)
            low, step = schema.ends[0], schema.step or 1.0
            self.blocks.add("cells", np.rint((numbers - low) / step).astype(np.uint8))
            return {"kept": kept, "cells": {"low": low, "step": step}}
        if isinstance(schema, Table):
            known = {name: each[:kept] for name, each in self._known.items()}
            self.blocks.add("cells", _short(_as_written(schema, numbers, known), [f.decimals for f in schema.outer]))
            return {"kept": kept, "cells": {"low": 0.0, "step": 1.0}}
        wide = bool(np.nanmax(np.abs(numbers), initial=0.0) > 2000)
        self.blocks.add("cells", numbers.astype(np.float32 if wide else np.float16))
        return {"kept": kept, "cells": {"low": 0.0, "step": 1.0}}

    def _values(self, with_rows: bool) -> list[tuple[str, np.ndarray, Sequence[str]]]:
        """(name, number or level of each row, names of the levels) of everything by which points can be coloured."""
        rows = self.shown.rows
        found: list[tuple[str, np.ndarray, Sequence[str]]] = []
        if rows.labels is not None:
            found.append(("label", *_leveled(np.asarray(rows.labels), rows.label_names)))
        found += [(each["name"], values.double().numpy(), each["levels"])
                  for each, values in zip(self._conditions(), (rows.c or {}).values())]  # fmt: skip
        found += [(name, values, ()) for name, values in self._figures()]
        if with_rows and isinstance(rows.schema, Table):
            u = _as_written(rows.schema, rows.inside[:].double().numpy(), self._known)
            found += [(field.name, u[:, j], [str(v) for v in field.levels or ()])
                      for j, field in enumerate(rows.schema.outer[:COLOURED])]  # fmt: skip
        return found

    def _figures(self) -> list[tuple[str, np.ndarray]]:
        """Rate, NLL (or a bound on it), rank as an anomaly, and error of reconstruction of each row."""
        model: Any = self.run.model
        rows, found = self.shown.rows, []
        if self.subject.has_density:
            rates = []
            with evaluating(model), torch.no_grad(), seeded(self.run.settings.seed, Key.REPORT_SAMPLE):
                for _, xs, cs in chunks(model, rows.inside, rows.c):
                    rates.append(model.draw(xs, 1, cs).rate().mean(0).cpu())
            found.append(("rate (nats)", torch.cat(rates).double().numpy()))
            k = int(np.clip(WORK // (len(rows) * max(512, rows.schema.columns)), 1, 50))
            scores = scoring.score(self.run, rows, k, refuse=False)
            nll = scores.nll.rows.double().numpy()
            found.append((f"NLL (nats, {k} draws)" if k > 1 else "−ELBO (nats)", nll))
            rank = np.empty(len(rows))
            rank[np.argsort(-scores.strangeness, kind="stable")] = np.arange(1, len(rows) + 1)
            if len(rows) <= LARGE:  # a large page has the NLL only
                found.append(("anomaly rank", rank))
        with suppress(LeftOut):
            found.append(("reconstruction error", self._errors()))
        return found

    def _errors(self) -> np.ndarray:
        """The root mean square of x - E[x|z] over a row's cells. In a table, numbers are in standard deviations of
        their column, and a level has error 0 or 1."""
        rows = self.shown.rows
        x = rows.inside[:].double()
        guess = evaluation.decode(self.run.model, torch.from_numpy(self.z), rows.c).double()
        off = (x - guess).flatten(1)
        if isinstance(rows.schema, Table):
            for j, field in enumerate(rows.schema.modelled):
                seen = ~x[:, j].isnan()
                spread = x[seen, j].std(correction=0)
                scaled = off[:, j] / torch.where(spread > 0, spread, 1.0)
                scaled = (x[:, j] != guess[:, j].round()).double() if field.outputs_codes else scaled
                off[:, j] = torch.where(seen, scaled, torch.nan)
        return off.square().nanmean(1).sqrt().numpy()

    def _value(self, name: str, values: np.ndarray, levels: Sequence[str]) -> dict[str, Any]:
        """A value of each row as a whole number: the code of a level, or the position of a number between the smallest
        and the largest, exact if the numbers have few enough decimals. The greatest whole number stands for a gap."""
        place = f"value-{sum(key.startswith('value-') for key in self.blocks.texts)}"
        whole = np.uint8 if len(levels) < 255 and (levels or len(self) > LARGE) else np.uint16
        top = int(np.iinfo(whole).max)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        step = 1.0 if levels else _decimal_step(finite, (high - low) / (top - 1)) or 1.0
        steps = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - (0.0 if levels else low)) / step
        stored = np.where(np.isnan(values), top, np.rint(steps).clip(0, top - 1)).astype(whole)
        return {"name": name, "levels": list(levels), "low": 0.0 if levels else low, "high": high,
                "step": step, "missing": top, "block": self.blocks.add(place, stored)}  # fmt: skip


def _fits_bytes(schema: Any) -> bool:
    """Whether a byte holds a cell, as it does for images."""
    return isinstance(schema, Schema) and schema.is_discrete and (schema.levels or 0) <= 256


def _decimal_step(x: np.ndarray, least: float) -> float:
    """1, 0.1, 0.01 or less, if it is at least ``least`` and all numbers are its multiples; else ``least``."""
    for places in range(7):
        scaled = x * 10.0**places
        if 10.0**-places >= least and np.abs(scaled - np.rint(scaled)).max(initial=0.0) < 1e-6:
            return 10.0**-places
    return least


def _limits(schema: Schema) -> dict[str, Any]:
    """The range of each column or channel to which decoded means are clipped."""
    if schema.ranges is not None:
        return {"limits": [list(schema.ranges.low), list(schema.ranges.high)]}
    return {"limits": [[end] for end in schema.span]} if schema.span else {}


def _written(column: Column) -> dict[str, Any]:
    """The text around a column's digits, and the number of decimals if it is the same for all numbers."""
    form = column.form
    if not isinstance(form, Numbers):
        return {"before": "", "after": "", "places": None}
    return {"before": form.prefix, "after": form.suffix, "places": None if form.power else form.places}


def _as_written(schema: Table, x: np.ndarray, known: ColumnNumbers) -> np.ndarray:
    """The numbers of a table's columns in the user's terms, ``[N, outer]``, for rows in the model's form and their
    conditions."""
    return np.stack(list(schema.outward(x, known)[0].values()), 1)


def _short(u: np.ndarray, decimals: Sequence[int | None]) -> np.ndarray:
    """The numbers as float32, if the page can restore them by rounding to the columns' decimals."""
    short = u.astype(np.float32)
    back = np.stack([each if d is None else np.round(each.astype(np.float64), d)
                     for each, d in zip(short.T, decimals)], 1)  # fmt: skip
    near = np.isclose(back, u, rtol=1e-12, atol=0.0, equal_nan=True).all(0)
    return short if near.all() else u


def _leveled(labels: np.ndarray, names: Sequence[str] | None) -> tuple[np.ndarray, Sequence[str]]:
    """Labels as codes of levels if they have at most 200 different values, else as numbers."""
    if names is not None:
        return labels.astype(np.float64), [str(name) for name in names]
    found, codes = np.unique(labels.astype(str) if labels.dtype.kind in "OU" else labels, return_inverse=True)
    if labels.dtype.kind == "f" and len(found) > 20:
        return labels.astype(np.float64), ()
    if len(found) > 200:
        return codes.astype(np.float64), ()
    return codes.astype(np.float64), [f"{v:g}" if isinstance(v, float) else str(v) for v in found.tolist()]


def _umap(z: np.ndarray, seed: int) -> np.ndarray | None:
    """UMAP of at most 50,000 codes onto the plane; None if umap-learn is not installed."""
    try:
        from umap import UMAP  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return np.asarray(UMAP(random_state=seed).fit_transform(z[:50_000]), dtype=np.float64)
