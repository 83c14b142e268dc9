"""How strange rows are: -ln p(x) with its error, the distance from samples, the columns that make a row strange, and
calibrated p-values."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latens import distributions as d
from latens import evaluation
from latens.data.rows import Rows
from latens.errors import InputError, is_whole
from latens.evaluation import NLL
from latens.evaluation.anomaly import Conformal, contributions
from latens.evaluation.likelihood import chunk_rows, chunks, evaluating, model_device, on_device, rows_at_once
from latens.evaluation.strangeness import KNOWN, Cells, Views
from latens.machine.atomic import write_text
from latens.machine.folder import Folder
from latens.runs.outputs import conditions
from latens.runs.record import CALIBRATION, Run
from latens.schema import BEYOND, BROKEN, IMPOSSIBLE, UNSEEN, AnySchema, Odd, Table
from latens.schema.column import KEPT
from latens.schema.odd import cell_name
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed, seeded, shared
from latens.training.checkpoint import sealed, unseal

ROWS, CELLS = 5_000, 20_000_000  # the most held-out rows, and cells in them, that calibrate p-values
TERMS, WIDEST = 64, 2_000  # draws for the terms of columns; rows with more columns have no terms
TOP = 3
VIEWED = 2_000  # rows with more columns than this are only scored by their density
FEWEST = 100  # samples that set the scale of -ln p(x); a tenth of the number of training rows, if that is more
ROUNDING = 1e-6  # of a score, so that a calibration row ties with itself in any batch


@dataclass(frozen=True)
class Calibration:
    """The strangeness of held-out rows with ``k`` draws, and the mean over them of each column's term."""

    conformal: Conformal
    reference: np.ndarray | None
    k: int
    views: bool = True  # whether scores combine density and distance; in older runs they are -ln p(x)

    def to_json(self) -> dict[str, Any]:
        """The calibration as JSON's types."""
        reference = None if self.reference is None else [None if v != v else v for v in self.reference.tolist()]
        return {"format": 1 + self.views, "k": self.k, "reference": reference, "scores": self.conformal.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Calibration:
        """The calibration that :meth:`to_json` wrote; ``InputError`` if the fields are not valid."""
        try:
            reference = fields["reference"]
            values = None if reference is None else [np.nan if v is None else v for v in reference]
            array = None if values is None else np.array(values, dtype=float)
            if not is_whole(fields["k"]) or fields["k"] < 1 or (array is not None and array.ndim != 1):
                raise ValueError("k or reference")
            views = fields.get("format", 1) != 1
            return cls(Conformal.from_json(fields["scores"]), array, int(fields["k"]), views)
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise InputError(f"{CALIBRATION} is damaged ({error})", "restore it from a copy, or fit again") from None


@dataclass(frozen=True)
class Scores:
    """Scores of rows.

    *Impossible* cells (a price of 0 in a positive column, 2.5 in a count, a word for a number) have probability 0, so
    -ln p(x) and strangeness are infinite. *Unseen* cells cost minus the logarithm of the share that add-one smoothing
    gives them (Laplace 1812). A new level of a column with L levels in n rows costs ln(n + L + 1) nats, and at least
    ln 2 more than the least likely known level given the rest of the row. A new value of a constant column, or a value
    that breaks a rule between columns, costs ln(n + 2) nats. The other cells are scored as if these were missing. A row
    with an impossible or unseen cell has the smallest possible p-value, 1 / (n + 1) for n held-out rows, and the
    cell's column is named first. A number *beyond* the range of the fit has the density that the model gives it. Its
    excess is at least as large as the drop in the log-density of a normal with the column's mean and standard
    deviation, from the end of the range to the number.

    Attributes:
        nll: -ln p(x) of each row, with its errors, in nats.
        strangeness: ``[N]`` nats, from a row's distance to samples of the model and from p(x), with each column on its
            own scale (:class:`latens.evaluation.strangeness.Views`). It ranks rows and gives their p-values. For rows
            with more than 2,000 cells it is -ln p(x).
        p_values: ``[N]``, if the run has calibration scores; else None.
        columns, excess: ``[N, 3]``, the columns that make a row strange (indices into :func:`names_of`), and by how
            many nats; None if the likelihood does not split by column.
        odd: cells whose value alone is odd.
    """

    nll: NLL
    strangeness: np.ndarray
    p_values: np.ndarray | None
    columns: np.ndarray | None
    excess: np.ndarray | None
    odd: list[Odd]

    @property
    def log_px(self) -> np.ndarray:
        """Lower bounds on ln p(x), ``[N]`` nats; -inf for impossible rows."""
        return -self.nll.rows.numpy()

    @property
    def reasons(self) -> list[str | None]:
        """The odd cells of each row in words; None for a row that has none."""
        found: dict[int, list[str]] = {}
        for each in self.odd:
            found.setdefault(each.row, []).append(each.reason)
        return ["; ".join(found[row]) if row in found else None for row in range(len(self.strangeness))]


def column_terms(run: Run, rows: Rows, k: int = TERMS) -> np.ndarray | None:
    """-E[ln p(x_j|z)] of each cell under p(z|x), by self-normalised importance sampling with ``k`` draws.

    Returns:
        ``[N, D]`` nats, NaN for missing cells; None for images, or if the likelihood does not split by column.
    """
    x = rows.inside
    if x.ndim != 2 or x.shape[1] > WIDEST:
        return None

    def terms(xs: torch.Tensor, px: Any, log_w: torch.Tensor) -> torch.Tensor:
        found = -(log_w.softmax(0).unsqueeze(-1) * px.cells(xs).double()).sum(0)
        return torch.where(xs.isnan(), torch.nan, found) if xs.is_floating_point() else found

    found = _by_column(run.model, x, rows.c, k, terms)
    return None if found is None else found - slopes(rows)


def _by_column(model: Any, x: Any, c: trees.Tree, k: int, figure: Callable[..., torch.Tensor]) -> np.ndarray | None:
    """``figure(x, p(x|z), ln w)`` for all rows, part by part, with ``k`` draws z ~ q(z|x) and their weights w. All rows
    share the same noise. None if the likelihood does not split by column."""
    found = []
    for _, xs, cs in chunks(model, x, c, max(1, chunk_rows(x, k)[0] // 2)):
        with evaluating(model), torch.no_grad(), shared():
            reseed(0, Key.SCORE_TERMS)
            draw = model.draw(xs, k, cs)
            if not isinstance(draw.px, d.Observed) or not draw.has_density:
                return None
            found.append(figure(xs, draw.px, draw.log_w.double()).cpu())
    return torch.cat(found).numpy()


def slopes(rows: Rows) -> np.ndarray:
    r""":math:`\ln |dx/du|` of each cell, ``[N, D]``, 0 for missing cells; a single 0 if the data are not a table."""
    return _slopes(rows.schema, rows.inside)


def _slopes(schema: AnySchema, inside: Any) -> np.ndarray:
    if not isinstance(schema, Table):
        return np.zeros((1, 1))
    x = np.asarray(inside, dtype=np.float64)
    found = [column.log_slope(x[:, j]) for j, column in enumerate(schema.modelled)]
    return np.nan_to_num(np.stack(found, 1), nan=0.0)


def calibrate(run: Run, held: Rows, k: int = 100) -> Calibration | None:
    """Calibrate p-values on held-out rows, or on evenly spaced ones if there are many; None for a model without a
    density."""
    most = max(50, min(ROWS, CELLS // max(1, held.schema.columns * k // 10)))
    if len(held) > most:
        held = held.take(np.arange(most) * len(held) // most)
    if not has_density(run, held):
        return None
    found = evaluation.nll(run.model, held.inside, k, held.c, shared_noise=True).rows.numpy() - slopes(held).sum(1)
    if not np.isfinite(found).all():
        return None
    found = strangeness(run, held, found, k)
    terms = column_terms(run, held)
    seen = None if terms is None else (~np.isnan(terms)).sum(0)
    reference = None
    if terms is not None and seen is not None:
        reference = np.where(seen > 0, np.nansum(terms, 0) / np.maximum(seen, 1), np.nan)
    return Calibration(Conformal(found), reference, k)


def has_density(run: Run, rows: Rows) -> bool:
    """Whether the model gives a bound on ln p(x), so that rows have scores."""
    return no_bound(run, rows) is None


def require_score(run: Run, rows: Rows) -> None:
    """Raise ``InputError`` with the reason if rows have no score."""
    reason = no_bound(run, rows.take(np.arange(1)).sifted(refuse=False)[0])
    if reason is not None:
        raise InputError(
            f"{run.folder}: {reason}, so there is no bound on ln p(x) and rows have no score",
            "fit another recipe, for example vae",
        )


def no_bound(run: Run, rows: Rows) -> str | None:
    """Why the model gives no bound on ln p(x); None if it gives one."""
    model: Any = run.model
    x, c = on_device(model, slice(0, 1), rows.inside, rows.c)
    with evaluating(model):
        return model.draw(x, 1, c).no_bound


def score(run: Run, rows: Rows, k: int, calibration: Calibration | None = None, *, refuse: bool = True) -> Scores:
    """Score rows. They get p-values only if the calibration used the same ``k``, since scores with different ``k`` are
    not exchangeable. For ``refuse``, see :meth:`latens.data.rows.Rows.sifted`."""
    rows, odd = sifted(run, rows, refuse=refuse)
    found = evaluation.nll(run.model, rows.inside, k, rows.c, shared_noise=True)
    scores = found.rows.numpy() - slopes(rows).sum(1)
    cost = costs(run, rows, odd)
    total = np.nansum(cost, 1)
    total[np.isnan(found.rows.numpy())] = np.inf  # beyond the range of the model's floats
    finite = found.rows.nan_to_num(nan=math.inf, posinf=math.inf)
    found = dataclasses.replace(found, rows=finite + torch.from_numpy(total))
    scores = np.nan_to_num(scores, nan=np.inf, posinf=np.inf) + total
    strange = strangeness(run, rows, scores, k, odd) if calibration is None or calibration.views else scores
    p_values = columns = excess = None
    if calibration is not None:
        least = np.zeros(len(rows), bool)
        least[[each.row for each in odd if each.kind != BEYOND]] = True
        if calibration.k == k:
            rounded = np.where(least, np.inf, strange - ROUNDING * (1 + np.abs(strange)))
            p_values = calibration.conformal.p_values(np.where(np.isnan(rounded), np.inf, rounded))
        terms = column_terms(run, rows)
        if terms is not None and calibration.reference is not None:
            if len(calibration.reference) != terms.shape[1]:
                raise InputError(f"{CALIBRATION} belongs to another run", "restore it from a copy, or fit again")
            columns, excess = _named(rows, odd, terms, cost, calibration.reference)
    return Scores(found, strange, p_values, columns, excess, odd)


def strangeness(run: Run, rows: Rows, scores: np.ndarray, k: int, odd: Sequence[Odd] = ()) -> np.ndarray:
    """How strange rows are by density and distance (:class:`latens.evaluation.strangeness.Views`), ``[N]`` nats, given
    their -ln p(x) on the columns' own scales. Rows that are only scored by density, such as large images, keep that
    score."""
    views = _views(run, k)
    if views is None:
        return scores
    coded = isinstance(rows.schema, Table)
    odd_levels = [(each.row, each.cell) for each in odd if coded and each.kind == UNSEEN and each.cell is not None]
    found = np.empty(len(rows))
    for start in range(0, len(rows), KNOWN):
        part = slice(start, start + KNOWN)
        here = [(row - start, cell) for row, cell in odd_levels if start <= row < start + KNOWN]
        found[part] = views(_cells(run, rows.inside[part], here), scores[part])
    return found


def _views(run: Run, k: int) -> Views | None:
    """The references of a run for density and distance, made once from its samples; None if its rows are only scored by
    density."""
    if k not in run.views:
        run.views[k] = _views_of_samples(run, k)
    return run.views[k]


def _views_of_samples(run: Run, k: int) -> Views | None:
    schema, model = run.schema, run.model
    if schema is None or schema.columns > VIEWED:
        return None
    try:
        c, _ = conditions(run, 2 * KNOWN, {}, run.settings.seed)
    except InputError:  # the run stored no conditions of its rows
        return None
    with evaluating(model), torch.no_grad(), seeded(run.settings.seed, Key.VIEWS):
        parts = []
        for start in range(0, 2 * KNOWN, rows_at_once(schema.columns)):
            rows = slice(start, min(start + rows_at_once(schema.columns), 2 * KNOWN))
            parts.append(model.sample(rows.stop - start, on_device(model, rows, c)[0]))  # type: ignore[operator]
    if not isinstance(parts[0], torch.Tensor):
        return None
    x, some = torch.cat(parts).cpu(), slice(min(KNOWN, max(FEWEST, run.rows // 10)))
    for j, column in enumerate(schema.modelled if isinstance(schema, Table) else ()):
        x[:, j] = torch.from_numpy(column.settled(x[:, j].numpy()))  # to values that the columns can hold
    scores = evaluation.nll(model, x[some], k, trees.take(c, some), shared_noise=True).rows.numpy()
    scores = scores - _slopes(schema, x[some]).sum(1)
    finite = bool(x.isfinite().all()) and np.isfinite(scores).all()
    return Views(_cells(run, x), scores, not isinstance(schema, Table)) if finite else None


def _cells(run: Run, x: torch.Tensor, unseen: Sequence[tuple[int, int]] = ()) -> Cells:
    """Rows in the form in which they are compared: numbers on the scale that an encoder sees, and codes of levels."""
    values = x.flatten(1).double().numpy().copy()
    for row, cell in unseen:
        values[row, cell] = -1.0
    schema = run.schema
    if not isinstance(schema, Table):
        return Cells(values, np.empty((len(values), 0)))
    coded = np.array([column.outputs_codes for column in schema.modelled], bool)
    with np.errstate(all="ignore"):
        seen = [f.seen(values[:, j]) for j, f in enumerate(schema.modelled) if not coded[j]]
    numbers = np.stack(seen, 1) if seen else np.empty((len(values), 0))
    return Cells(numbers, values[:, coded])


def sifted(run: Run, rows: Rows, *, refuse: bool = True) -> tuple[Rows, list[Odd]]:
    """:meth:`latens.data.rows.Rows.sifted`; the odd cells include cells of an array that were constant in the fit and
    now differ."""
    rows, odd = rows.sifted(refuse=refuse)
    return rows, sorted([*odd, *_changed(run, rows)], key=lambda each: each.row)


def names_of(schema: AnySchema) -> list[str]:
    """The columns that can make a row strange: the modelled columns, then those that never vary or that rules compute
    from others."""
    kept = [f.name for f in schema.fields if f.kind in KEPT] if isinstance(schema, Table) else []
    kept += schema.reproduced if isinstance(schema, Table) else ()
    return [cell_name(schema, j) for j in range(schema.columns)] + kept


def _place(names: list[str], each: Odd) -> int | None:
    """The index of an odd cell's column among the names; None for a pixel."""
    return each.cell if each.cell is not None else names.index(each.column) if each.column in names else None


def _changed(run: Run, rows: Rows) -> list[Odd]:
    """Cells of an array that were constant in the fit and now differ; the model's density already has their cost."""
    likelihood: Any = getattr(run.model, "likelihood", None)
    if not hasattr(likelihood, "changed") or not isinstance(rows.inside, torch.Tensor):
        return []
    changed = likelihood.changed(rows.inside.to(model_device(run.model)))
    if changed is None:
        return []
    usual, found = likelihood.shift.flatten(), []
    for row, cell in changed.flatten(1).nonzero().tolist():
        value, name = float(rows.inside[row].flatten()[cell]), cell_name(rows.schema, cell)
        words = f"{name} is {value:g}, and was always {float(usual[cell]):g} in the fit"
        found.append(Odd(row, cell, name, UNSEEN, words))
    return found


def costs(run: Run, rows: Rows, odd: list[Odd]) -> np.ndarray:
    """The terms that impossible and unseen cells add to -ln p(x) (see :class:`Scores`): ``[N, names]`` nats, NaN for
    other cells."""
    names = names_of(rows.schema)
    found = np.full((len(rows), len(names) + 1), np.nan)  # the last column is for pixels
    levels: dict[int, list[int]] = {}
    for each in odd:
        place = _place(names, each)
        if each.kind == IMPOSSIBLE:
            found[each.row, -1 if place is None else place] = np.inf
        elif each.kind in (UNSEEN, BROKEN) and each.cell is None:
            found[each.row, place] = math.log(run.rows + 2)
        elif each.kind == UNSEEN and isinstance(rows.schema, Table) and place is not None:
            levels.setdefault(place, []).append(each.row)
    for place, which in levels.items():
        count = len(rows.schema.modelled[place].levels or ())  # type: ignore[union-attr]
        least = least_likely(run.model, rows.inside[which], trees.take(rows.c, torch.tensor(which)), place, count)
        found[which, place] = np.maximum(math.log(run.rows + count + 1), least + math.log(2))
    return found


def least_likely(model: Any, x: torch.Tensor, c: trees.Tree, cell: int, levels: int, k: int = TERMS) -> np.ndarray:
    """-ln p(level | the row's other cells) of the least likely level of a column, for rows in which the column's cell
    is missing.

    The estimate is by importance sampling, as in :func:`column_terms`.

    Returns:
        ``[N]`` nats; 0 if the likelihood does not split by column.
    """

    def largest(xs: torch.Tensor, px: Any, log_w: torch.Tensor) -> torch.Tensor:
        each = []
        for level in range(levels):
            asked = torch.full_like(xs, torch.nan)
            asked[:, cell] = level
            each.append(-(log_w.log_softmax(0) + px.cells(asked)[..., cell].double()).logsumexp(0))
        return torch.stack(each).amax(0)

    found = _by_column(model, x, c, k, largest)
    return np.zeros(len(x)) if found is None else found


def _named(
    rows: Rows, odd: list[Odd], terms: np.ndarray, cost: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the columns that make each row strange, with columns of impossible and unseen cells first; their excess in
    nats)."""
    names = names_of(rows.schema)
    first = np.zeros((len(rows), len(names)), bool)
    terms = np.pad(terms, ((0, 0), (0, len(names) - terms.shape[1])), constant_values=np.nan)
    reference = np.pad(reference, (0, len(names) - len(reference)))
    cost = cost[:, : len(names)]
    terms = np.where(np.isnan(cost), terms, cost)
    for each in odd:
        place = _place(names, each)
        if place is None:
            continue
        if each.kind != BEYOND:
            first[each.row, place] = True
        elif not isinstance(rows.schema, Table):
            terms[each.row, place] = np.nan_to_num(terms[each.row, place], nan=np.inf, posinf=np.inf)
        else:
            fall = rows.schema.field(each.column).fall(each.number)
            terms[each.row, place] = np.fmax(terms[each.row, place], np.nan_to_num(reference[place]) + fall)
    return contributions(terms, reference, TOP, first)


@dataclass
class Tally:
    """A running summary of scores that arrive in parts."""

    run: Run
    k: int
    calibration: Calibration | None
    rows: int = 0
    strange: int = 0
    gaps: int = 0
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    impossible: int = 0
    read: dict[str, None] = field(default_factory=dict)  # remarks on how the rows were read
    _shift: float = 0.0
    _sums: np.ndarray = field(default_factory=lambda: np.zeros(3))  # number of finite rows, sum and sum of squares

    def add(self, found: Scores, rows: Rows) -> None:
        """Add the scores of more rows."""
        values = found.log_px[np.isfinite(found.log_px)]
        if not self._sums[0] and len(values):
            self._shift = float(values[0])
        apart = values - self._shift
        self._sums += len(values), apart.sum(), (apart**2).sum()
        self.rows += len(found.log_px)
        self.impossible += len(found.log_px) - len(values)
        if found.p_values is not None:
            self.strange += int((found.p_values <= self.level).sum())
        if isinstance(rows.schema, Table):
            self.gaps += int(rows.missing.any(1).sum())
        self.read |= dict.fromkeys(rows.remarks)
        self.kinds.update((each.column, each.kind) for each in found.odd)

    @property
    def level(self) -> float:
        """The p-value up to which a row counts as strange, 0.01 or the smallest possible p-value if that is larger."""
        return 0.01 if self.calibration is None else max(0.01, 1 / (self.calibration.conformal.count + 1))

    @property
    def mean(self) -> float:
        """The mean of ln p(x) over possible rows, nats; NaN if no row is possible."""
        return self._shift + float(self._sums[1] / self._sums[0]) if self._sums[0] else math.nan

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, nats; NaN for fewer than two rows."""
        count, total, squares = self._sums
        with np.errstate(over="ignore", invalid="ignore"):
            square = max(squares - total**2 / count, 0.0) / (count - 1) / count if count > 1 else np.nan
        return float(np.sqrt(square))

    def lines(self) -> list[str]:
        """The sentences of the summary."""
        possible, mean = self.rows - self.impossible, f"{self.mean:.3f}" if abs(self.mean) < 1e9 else f"{self.mean:.4g}"
        words = f"mean {mean}" if not self.impossible else f"mean {mean} over the {possible:,} possible ones"
        words = words if possible else "none is possible"
        text = f"lower bounds on ln p(x) of {self.rows:,} rows, nats (K = {self.k}); {words}"
        if self.calibration is None or self.calibration.k != self.k:
            return [text]
        count = self.calibration.conformal.count
        have = "row has" if self.strange == 1 else "rows have"
        line = f"{self.strange:,} {have} p <= {self.level:.3g} (compared with {count:,} held-out rows)"
        if self.level > 0.01:
            line += f"; with {count} held-out rows the smallest possible p is 1/{count + 1} = {self.level:.3g}"
        return [text, line]

    def notes(self) -> list[str]:
        """Remarks about the rows."""
        found = []
        if self.impossible:
            have = "row is" if self.impossible == 1 else "rows are"
            found.append(f"{self.impossible:,} {have} impossible for the model: ln p(x) is -inf and not part of the "
                         "mean, and the column 'reason' says why")  # fmt: skip
        words = {IMPOSSIBLE: "that the column cannot hold", UNSEEN: "not seen in the fit",
                 BROKEN: "that break a rule"}  # fmt: skip
        found += [
            f"column {column!r}: {count:,} cell{'s' * (count > 1)} with values {words[kind]}"
            for (column, kind), count in self.kinds.items() if kind in words
        ]  # fmt: skip
        schema = self.run.schema
        if self.gaps and isinstance(schema, Table) and not any(column.missing for column in schema.modelled):
            rows, their = ("row has", "its") if self.gaps == 1 else ("rows have", "their")
            found.append(
                f"{self.gaps:,} {rows} missing cells, but the model was fitted to complete rows: {their} scores are "
                f"loose bounds, and {their} p-values are too small"
            )
        return found

    def warnings(self) -> list[str]:
        """All remarks: on how the rows were read, on the rows, and on why there are no p-values."""
        found = [*self.read, *self.notes()]
        if self.calibration is None:
            found.append("there are no p-values: the run has no held-out rows to calibrate them on")
        elif self.calibration.k != self.k:
            k = self.calibration.k
            found.append(f"there are no p-values: they were calibrated with K = {k}, pass --k {k}")
        return found

    def figures(self) -> dict[str, Any]:
        """The numbers of the summary."""
        return {
            "rows": self.rows, "k": self.k, "mean": self.mean, "standard_error": self.standard_error,
            "impossible": self.impossible, "strange": self.strange,
        }  # fmt: skip


def write_calibration(folder: Path, found: Calibration | None) -> None:
    """Write the calibration to a run's folder."""
    if found is not None:
        write_text(Folder(folder) / CALIBRATION, sealed(found.to_json()))


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration in a run's folder, its checksum verified; None if there is none."""
    path = Folder(folder) / CALIBRATION
    if not path.exists():
        return None
    return Calibration.from_json(unseal(path, f"{folder} has no calibration"))


def as_table(found: Scores, schema: AnySchema, reason: bool | None = None) -> Any:
    """The scores as an arrow table, in input order.

    ``log_px`` is -inf for an impossible row. Its error and effective sample size are then computed from the other cells
    of the row. The last column, ``reason``, names the cells whose value alone is odd. It is null for most rows. It is
    omitted if no row has a reason, unless ``reason`` says whether to include it.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {
        "log_px": found.log_px, "standard_error": found.nll.row_error.numpy(),
        "effective_sample_size": found.nll.ess.numpy(),
    }  # fmt: skip
    if isinstance(schema, Table):
        columns["strangeness"] = found.strangeness
    if found.p_values is not None:
        columns["p_value"] = found.p_values
    if found.columns is not None and found.excess is not None:
        names = names_of(schema)
        for place in range(found.columns.shape[1]):
            which = [names[j] if j >= 0 else None for j in found.columns[:, place].tolist()]
            columns[f"column_{place + 1}"] = pa.array(which, pa.string())
            columns[f"excess_{place + 1}"] = pa.array(found.excess[:, place], from_pandas=True)
    if bool(found.odd) if reason is None else reason:
        columns["reason"] = pa.array(found.reasons, pa.string())
    return pa.table(columns)
