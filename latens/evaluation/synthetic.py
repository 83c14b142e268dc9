"""How good a synthetic table is. Each figure comes with the same figure for held-out real rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from typing import Any, Literal

import numpy as np

from latens.errors import InputError, is_whole, require
from latens.evaluation.anomaly import (
    AUROC,
    boosted_trees,
    closer,
    closest,
    logistic_regression,
    midranks,
    two_sample_auroc,
)
from latens.evaluation.shown import InNotebooks
from latens.schema.arrow import listed

Kind = Literal["numeric", "categorical"]

MAX_PAIRED = 50  # pairs of at most this many columns are compared
MAX_LEVELS = 200  # a tree distinguishes at most this many levels; rarer ones are merged
MAX_CLASSES = 20  # a target has at most this many levels; rarer ones are merged
NEIGHBOURS = 2000  # the closest training row is found for at most this many rows


@dataclass(frozen=True, eq=False)
class Frame:
    """A plain table, ``{name: [N]}``: numeric columns are float64 with NaN for missing cells, categorical columns are
    int64 codes with -1 for missing cells."""

    columns: dict[str, np.ndarray]
    kinds: dict[str, Kind]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values())))

    def take(self, rows: slice | np.ndarray) -> Frame:
        """The selected rows."""
        return Frame({name: values[rows] for name, values in self.columns.items()}, self.kinds)


def frame(columns: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> Frame:
    """A checked :class:`Frame`.

    Args:
        columns: ``{name: [N]}``; numbers are finite or NaN, codes are whole and at least -1.
        kinds: ``{name: "numeric" or "categorical"}``.

    Raises:
        InputError: a column or a cell is not valid; the message names the first.

    >>> people = {"age": np.array([31.0, np.nan]), "city": np.array([0, -1])}
    >>> frame(people, {"age": "numeric", "city": "categorical"}).rows
    2
    """
    for name in (*columns, *kinds):
        if name not in columns or kinds.get(name) not in ("numeric", "categorical"):
            raise InputError(
                f"column {name!r} lacks its values or its kind", "give both; a kind is 'numeric' or 'categorical'"
            )
    if not columns:
        raise InputError("the table has no columns", "give at least one")
    told: dict[str, Kind] = {name: "numeric" if kinds[name] == "numeric" else "categorical" for name in columns}
    shape = np.shape(next(iter(columns.values())))
    return Frame({name: _checked(name, np.asarray(columns[name]), told[name], shape) for name in columns}, told)


def _checked(name: str, values: np.ndarray, kind: Kind, shape: tuple[int, ...]) -> np.ndarray:
    numeric = kind == "numeric"
    types, cells, rule = (
        ("biuf", "numbers", "finite numbers, or NaN") if numeric else ("biu", "whole codes", "codes from 0, or -1")
    )
    if values.ndim != 1 or values.shape != shape:
        raise InputError(f"column {name!r} has shape {values.shape}, the first has {shape}", "give one value per row")
    if values.dtype.kind not in types:
        raise InputError(f"column {name!r} holds {values.dtype}", f"give {cells}")
    found = values.astype(np.float64 if numeric else np.int64)
    bad = np.isinf(found) if numeric else found < -1
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"column {name!r}, row {row}: {values[row]} is not allowed", f"give {rule} where it is missing"
        )
    return found


@dataclass(frozen=True)
class Figure:
    """A figure of the synthetic rows, and the same figure of held-out rows (``null``), which a perfect generator would
    reach."""

    value: float | None
    null: float | None
    standard_error: float | None = None
    null_standard_error: float | None = None

    def __str__(self) -> str:
        pairs = (self.value, self.standard_error), (self.null, self.null_standard_error)
        value, null = ("none" if v is None else f"{v:.4f}" + ("" if e is None else f" ± {e:.4f}") for v, e in pairs)
        return f"{value}  (real: {null})"


FLOOR, ORACLE, SAMPLES = "held-out rows", "oracle", "samples"  # the tables that are compared with training rows


@dataclass(frozen=True)
class Fidelity:
    """How much rows differ from the training rows, in a few figures; see :func:`evaluate_synthetic`.

    Attributes:
        shape, trend: mean errors of columns and of pairs of columns, in [0, 1].
        logistic, trees: AUROC of a classifier that distinguishes the rows from training rows; 0.5 is best.
        usefulness: the first of the figures of usefulness.
        closer: the probability that a row is nearer to the training rows than a held-out row is; 0.5 is best.
        out_of_range: the share of cells outside the range, or with none of the levels, of the training column.
    """

    shape: float | None
    trend: float | None
    logistic: float | None
    trees: float | None
    usefulness: float | None
    closer: float | None
    out_of_range: float | None

    def cells(self) -> list[str]:
        """The figures as text, errors and shares in percent."""
        shares = ("shape", "trend", "out_of_range")
        return ["–" if value is None else f"{value:.2%}" if name in shares else f"{value:.3f}"
                for name, value in asdict(self).items()]  # fmt: skip


HEADINGS = tuple(name.replace("_", " ") for name in Fidelity.__dataclass_fields__)


@dataclass
class SyntheticEvaluation(InNotebooks):
    """The figures that :func:`evaluate_synthetic` defines; a figure that does not exist is None, and a note says why.

    Attributes:
        fidelity: the fidelity of held-out rows, of the oracle (if there is one) and of the samples.
        columns: ``{name: {measure: figure}}``.
        means: ``{measure: mean over the columns that have it}``.
        usefulness: ``accuracy`` and ``macro_f1``, or ``r2``, after training on synthetic rows; ``null`` is the same
            after training on real rows.
    """

    rows: dict[str, int]
    columns: dict[str, dict[str, Figure]]
    means: dict[str, Figure]
    dependence: Figure
    pairs: int
    target: str | None
    usefulness: dict[str, Figure]
    detection: Figure
    memorisation: dict[str, Figure]
    near_copies_p_value: float
    fidelity: dict[str, Fidelity] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All figures, as JSON's types."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text; they complement :meth:`table`."""
        units = {"wasserstein": "standard deviations", "missing": "difference of rates", "closest": "median distance",
                 "dependence": f"{self.pairs:,} pairs of columns", "detection": "AUROC, 0.5 is best",
                 "closer": "0.5 is best", "near_copies": f"p = {self.near_copies_p_value:.2g}"}  # fmt: skip
        units |= dict.fromkeys(self.usefulness, f"predicting {self.target}")
        figures = self.means | {"dependence": self.dependence} | self.usefulness
        figures |= {"detection": self.detection} | self.memorisation
        sizes = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        return [("rows", sizes), *((name.replace("_", " "), f"{figure}  {units.get(name, '')}".rstrip())
                                   for name, figure in figures.items())]  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        """One row per table that has a fidelity."""
        return [{"rows": name, **asdict(each)} for name, each in self.fidelity.items()]

    def table(self) -> list[list[str]]:
        """The fidelity as rows of text, headings first."""
        return [["", *HEADINGS], *([name, *each.cells()] for name, each in self.fidelity.items())]


def evaluate_synthetic(
    train: Frame, held_out: Frame, synthetic: Frame, *, oracle: Frame | None = None, target: str | None = None,
    seed: int = 0, rows: int = 20_000,
) -> SyntheticEvaluation:  # fmt: skip
    """Compare synthetic rows with training rows, and held-out rows with training rows in the same way.

    Each table is shuffled by the seed and cut to ``rows`` rows. To be compared with the training rows, the other tables
    are then cut to the size of the smallest, so that all figures have the same noise.

    * ``columns``, over observed cells: the ``wasserstein``-1 distance, in standard deviations of the training column,
      and ``kolmogorov_smirnov`` for numbers; ``total_variation`` for levels; ``missing``, the difference of missing
      shares.
    * ``dependence``: the mean absolute difference from the training rows' :func:`associations`, over pairs of at most
      50 evenly spaced columns; pairs that do not vary in the training rows are left out.
    * ``usefulness``: trees fitted to synthetic rows, and to the same number of real rows, predict ``target`` on
      held-out rows (Esteban et al. 2017): ``accuracy`` and ``macro_f1``, or ``r2``. Levels beyond the 20 most frequent
      count as one.
    * ``detection``: :func:`two_sample_auroc` of equal numbers of synthetic and training rows. Copies of training rows
      occur with both labels, and can bring it below 0.5.
    * ``memorisation``, of up to 2,000 rows. The distance of two rows is the sum over columns of the difference in
      standard deviations, 1 for different levels, and 1 if one of two cells is missing (a missing number then also
      counts as the mean). ``closest`` is the median distance to the closest training row; ``closer`` is P(a synthetic
      row is closer than a held-out row); ``copies`` is the share at distance 0. ``near_copies`` is the share at
      distances up to the 1 % quantile for held-out rows; its p-value comes from a one-sided Fisher exact test on the
      counts up to the pooled 1 % quantile.
    * ``fidelity`` of each table. ``shape``: the mean over columns of the Kolmogorov-Smirnov or total variation
      distance, in which a missing cell is a value below all numbers. ``trend``: the dependence. ``trees``: the
      detection. ``logistic``: the same with logistic regression. ``usefulness``: its first figure (for held-out rows,
      after training on training rows). ``closer``: as above. ``out_of_range``: the share of observed cells outside the
      training column's range, or with a level that it lacks.

    A training column without spread has no Wasserstein distance; closest distances take its values unscaled.

    Args:
        train: the rows to which the generator was fitted.
        held_out: real rows that the generator has not seen.
        synthetic: rows from the generator.
        oracle: rows drawn from p(x|z) at the codes of real rows, if there is such a likelihood.
        target: the column to predict; by default, the last categorical column with 2 to 20 levels or, if there is none,
            the last numeric column that varies.
        seed: the seed of shuffles and fits.
        rows: the most rows of a table that are used.

    Raises:
        InputError: columns differ, a table has fewer than 2 rows, or ``target`` is not a column.

    >>> tables = [frame({"x": 1.0 * np.arange(300) + shift}, {"x": "numeric"}) for shift in (0, 0, 300)]
    >>> evaluate_synthetic(*tables).detection.value
    1.0
    """
    require(is_whole(rows) and rows >= 2, "rows", "a whole number of at least 2", rows)
    require(is_whole(seed) and 0 <= seed < 2**32, "seed", "a whole number from 0 to 2^32 - 1", seed)
    given = {"training": train, "held-out": held_out, "synthetic": synthetic}
    given |= {} if oracle is None else {"oracle": oracle}
    _check(given, target)
    train, held_out, *made = _ranked([each.take(np.random.default_rng([seed, key]).permutation(each.rows)[:rows])
                                      for key, each in enumerate(given.values())])  # fmt: skip
    count = min(each.rows for each in (held_out, *made))
    others = {FLOOR: held_out, SAMPLES: made[0], **({ORACLE: made[1]} if len(made) > 1 else {})}
    return _evaluated(train, others, {name: each.take(slice(count)) for name, each in others.items()}, target, seed)


def _evaluated(
    train: Frame, others: Mapping[str, Frame], cut: Mapping[str, Frame], target: str | None, seed: int
) -> SyntheticEvaluation:
    """The figures of ranked tables; ``cut`` has the tables other than the training rows, cut to one size."""
    held_out, samples = cut[FLOOR], cut[SAMPLES]
    columns = {}
    for name, values in train.columns.items():
        value, null = (_distances(values, each.columns[name]) for each in (samples, held_out))
        columns[name] = {measure: Figure(value[measure], null[measure]) for measure in value}
    measures = dict.fromkeys(measure for each in columns.values() for measure in each)
    means = {name: _mean([each[name] for each in columns.values() if name in each]) for name in measures}
    trends, pairs = _trends(train, cut)
    target = _usual_target(train) if target is None else target
    scores = _scores({**others, FLOOR: train}, train, others[FLOOR], target, seed)
    useful = {name: Figure(value, scores[FLOOR][name]) for name, value in scores[SAMPLES].items()}
    found = {name: _detected(train, each, seed) for name, each in cut.items()}
    nearest = {name: _closest(each.take(slice(NEIGHBOURS)), train) for name, each in cut.items()}
    fidelity = {
        name: Fidelity(
            _shape(train, cut[name]), trends[name], _detected(train, cut[name], seed, logistic_regression).value,
            found[name].value, next(iter(scores[name].values()), None), closer(nearest[name], nearest[FLOOR]).value,
            _out_of_range(train, cut[name]),
        ) for name in (FLOOR, ORACLE, SAMPLES) if name in cut
    }  # fmt: skip
    made, real = found[SAMPLES], found[FLOOR]
    detection = Figure(made.value, real.value, made.standard_error, real.standard_error)
    return SyntheticEvaluation(
        {"training": train.rows, "held-out": others[FLOOR].rows, "synthetic": others[SAMPLES].rows}, columns, means,
        Figure(trends[SAMPLES], trends[FLOOR]), pairs, target, useful, detection,
        *_memorisation(nearest[SAMPLES], nearest[FLOOR]), fidelity, _notes(columns, pairs, useful),
    )  # fmt: skip


def _notes(columns: Mapping[str, Mapping[str, Figure]], pairs: int, useful: Mapping[str, Figure]) -> list[str]:
    """Why figures are missing."""
    lacking = [name for name, each in columns.items() if any(None in (f.value, f.null) for f in each.values())]
    notes = []
    if lacking:
        notes.append(f"no distance in {listed(lacking, 8)}: too little spread, or too few observed cells")
    if not pairs:
        notes.append("no dependence error: no two columns vary together in the training rows")
    if not useful or any(None in (each.value, each.null) for each in useful.values()):
        notes.append(
            "no usefulness: there is no column to predict, none to predict it from, or no rows where it varies"
        )
    return notes


def _check(frames: Mapping[str, Frame], target: str | None) -> None:
    kinds = frames["training"].kinds
    for what, each in frames.items():
        for name in (*kinds, *each.kinds):
            if kinds.get(name) != each.kinds.get(name):
                here, there = (of.get(name, "absent") for of in (each.kinds, kinds))
                raise InputError(
                    f"column {name!r} is {here} in the {what} rows but {there} in the training rows",
                    "give all tables the same columns",
                )
        if each.rows < 2:
            raise InputError(f"the number of {what} rows must be at least 2, got {each.rows}")
    if target is not None and target not in kinds:
        raise InputError(f"the target {target!r} is not a column", f"give one of {', '.join([*kinds][:8])}")


def _ranked(frames: Sequence[Frame]) -> list[Frame]:
    """The frames with their columns in the order of the first frame. Codes are replaced by ranks: 0 is the level that
    is most frequent in the first frame."""
    columns: dict[str, list[np.ndarray]] = {}
    for name, kind in frames[0].kinds.items():
        columns[name] = [each.columns[name] for each in frames]
        if kind == "categorical":
            levels, index = np.unique(np.concatenate(columns[name]), return_inverse=True)
            counts = np.bincount(index[: frames[0].rows], minlength=len(levels))
            counts[levels == -1] = frames[0].rows + 1
            rank = np.empty(len(levels), np.int64)
            rank[np.argsort(-counts, kind="stable")] = np.arange(len(levels)) - (levels[0] == -1)
            columns[name] = np.split(rank[index], np.cumsum([each.rows for each in frames])[:-1])
    return [Frame({name: parts[i] for name, parts in columns.items()}, each.kinds) for i, each in enumerate(frames)]


def _spread(values: np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of the observed values; (0, 0) if there are none."""
    values = values[~np.isnan(values)]
    if not len(values) or values.min() == values.max():
        return float(values[0]) if len(values) else 0.0, 0.0
    scale = float(np.abs(values).max())
    return scale * float((values / scale).mean()), scale * float((values / scale).std())


def _standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Values in standard deviations of the training column (unscaled if it has no spread), within ±1e9."""
    shift, unit = _spread(train)
    with np.errstate(over="ignore"):
        return np.clip((values - shift) / (unit or 1.0), -1e9, 1e9)


def _missing(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) if values.dtype.kind == "f" else values < 0


def _mean(figures: Sequence[Figure]) -> Figure:
    both = [(each.value, each.null) for each in figures if None not in (each.value, each.null)]
    return Figure(*(float(np.mean(each)) for each in zip(*both))) if both else Figure(None, None)


def _distances(train: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    """Each measure of a column; None if the column has no observed cells or no spread."""
    gone, lost = _missing(train), _missing(other)
    missing = abs(float(gone.mean() - lost.mean()))
    a, b = train[~gone], other[~lost]
    none = not len(a) or not len(b)
    if train.dtype.kind != "f":
        return {"total_variation": None if none else total_variation(a, b), "missing": missing}
    area, height = (None, None) if none else _between(_standardised(a, a), _standardised(b, a))
    return {"wasserstein": area if _spread(a)[1] else None, "kolmogorov_smirnov": height, "missing": missing}


def _shape(train: Frame, other: Frame) -> float:
    """The mean over columns of the distance of two marginals, in which a missing cell is a value below all numbers."""
    found = []
    for name, values in train.columns.items():
        a, b = values, other.columns[name]
        if a.dtype.kind == "f":
            found.append(kolmogorov_smirnov(*(np.nan_to_num(each, nan=-1.7e308) for each in (a, b))))
        else:
            found.append(total_variation(a + 1, b + 1))
    return float(np.mean(found))


def _out_of_range(train: Frame, other: Frame) -> float | None:
    """The share of observed cells outside the training column's range, or with a level that it lacks."""
    outside, seen = 0, 0
    for name, values in train.columns.items():
        known, cells = (each[~_missing(each)] for each in (values, other.columns[name]))
        if len(known):
            bad = (cells < known.min()) | (cells > known.max()) if known.dtype.kind == "f" else ~np.isin(cells, known)
            outside, seen = outside + int(bad.sum()), seen + len(cells)
    return outside / seen if seen else None


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """The total variation distance in [0, 1]: half the sum, over values, of the differences of their shares.

    >>> total_variation(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.25
    """
    values, places = np.unique(np.append(a, b), return_inverse=True)
    p, q = (np.bincount(each, minlength=len(values)) / len(each) for each in (places[: len(a)], places[len(a) :]))
    return float(np.abs(p - q).sum() / 2)


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference between two empirical distribution functions, in [0, 1] (Smirnov 1939).

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    return _between(a, b)[1]


def _between(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(area, largest difference) between two empirical distribution functions: Wasserstein-1, Kolmogorov-Smirnov."""
    at = np.sort(np.append(a, b))
    gap = np.abs(np.searchsorted(np.sort(a), at, "right") / len(a) - np.searchsorted(np.sort(b), at, "right") / len(b))
    return float(gap[:-1] @ np.diff(at)), float(gap.max())


def cramers_v(a: np.ndarray, b: np.ndarray) -> float:
    r"""Bias-corrected Cramér's V of two columns of codes, ``[N]`` each, in [0, 1]; NaN if one is constant.

    With :math:`\varphi^2 = \chi^2 / n` of the r x k table (Bergsma 2013),

    .. math:: V^2 = \frac{\max(0, \varphi^2 - (r-1)(k-1)/(n-1))}{\min(r', k') - 1}, \quad
        r' = r - \frac{(r-1)^2}{n-1}, \quad k' = k - \frac{(k-1)^2}{n-1}
    """
    i, j = (np.unique(each, return_inverse=True)[1] for each in (a, b))
    n, r, k = len(i), int(i.max(initial=0)) + 1, int(j.max(initial=0)) + 1
    if min(r, k) < 2:
        return math.nan
    cells, counts = np.unique(i * k + j, return_counts=True)
    expected = np.bincount(i)[cells // k] * np.bincount(j)[cells % k] / n
    phi = float((counts**2 / expected).sum()) / n - 1 - (r - 1) * (k - 1) / (n - 1)
    room = min(each - (each - 1) ** 2 / (n - 1) for each in (r, k)) - 1
    return math.sqrt(min(1.0, max(0.0, phi) / room)) if room > 1e-9 else 0.0


def correlation_ratio(codes: np.ndarray, values: np.ndarray) -> float:
    """sqrt(variance between groups / total variance) of two columns, ``[N]`` each, in [0, 1]; NaN if one is
    constant."""
    _, groups, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or np.ptp(values) == 0:
        return math.nan
    centred = (values - values.mean()) / np.ptp(values)
    return math.sqrt(min(1.0, float((np.bincount(groups, centred) ** 2 / sizes).sum() / (centred @ centred))))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return math.nan if len(a) < 2 or not np.ptp(a) * np.ptp(b) else min(1.0, abs(float(np.corrcoef(a, b)[0, 1])))


def associations(table: Frame, names: Sequence[str]) -> np.ndarray:
    """The association of each pair of columns, ``[D, D]`` in [0, 1], over rows where both are observed.

    Numbers become their ranks in the column. The association is |correlation| for two numeric columns (Spearman 1904),
    the correlation ratio for a numeric and a categorical one (Kruskal & Wallis 1952: eta^2 = H / (n - 1)), and Cramér's
    V for two categorical ones. It is NaN on the diagonal, and if one of the two columns is constant.

    >>> table = frame({"a": np.array([1.0, 2.0, 4.0]), "b": np.array([9.0, 8.0, 1.0])}, dict.fromkeys("ab", "numeric"))
    >>> associations(table, ["a", "b"])[0, 1].item()
    1.0
    """
    seen = [~_missing(table.columns[name]) for name in names]
    columns = [table.columns[name].copy() for name in names]
    for column, known in zip(columns, seen):
        if column.dtype.kind == "f":
            column[known] = midranks(column[known]) / max(1, known.sum())
    found = np.full((len(names), len(names)), np.nan)
    for i, j in combinations(range(len(names)), 2):
        both = seen[i] & seen[j]
        a, b = sorted((columns[i][both], columns[j][both]), key=lambda values: values.dtype.kind, reverse=True)
        measure = _correlation if a.dtype.kind == "f" else cramers_v if b.dtype.kind == "i" else correlation_ratio
        found[i, j] = found[j, i] = measure(a, b)
    return found


def _trends(train: Frame, others: Mapping[str, Frame]) -> tuple[dict[str, float | None], int]:
    """({table: mean absolute difference from the associations in the training rows}, the number of pairs)."""
    every = list(train.columns)
    names = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MAX_PAIRED).astype(int))]
    upper = np.triu_indices(len(names), 1)
    real = associations(train, names)[upper]
    vary = ~np.isnan(real)  # a column that is constant only in another table has association 0 there
    found: dict[str, float | None] = dict.fromkeys(others)
    for name, each in others.items() if vary.any() else ():
        found[name] = float(np.abs(np.nan_to_num(associations(each, names)[upper]) - real)[vary].mean())
    return found, int(vary.sum())


def _usual_target(train: Frame) -> str | None:
    levels = {name: len(np.unique(values[~_missing(values)])) for name, values in train.columns.items()}
    few = [name for name, kind in train.kinds.items() if kind == "categorical" and 2 <= levels[name] <= MAX_CLASSES]
    few = few or [name for name, kind in train.kinds.items() if kind == "numeric" and levels[name] > 1]
    return few[-1] if few else None


def _features(table: Frame, names: Sequence[str]) -> np.ndarray:
    """``[N, D]`` with NaN for missing cells; levels beyond the 200 most frequent share one code."""

    def one(values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f":
            return np.clip(values, -1e300, 1e300)  # midpoints must not overflow
        return np.where(values < 0, np.nan, np.minimum(values, MAX_LEVELS))

    return np.stack([one(table.columns[name]) for name in names], 1)


def _categorical(table: Frame, names: Sequence[str]) -> np.ndarray:
    return np.array([table.kinds[name] == "categorical" for name in names])


def _scores(
    tables: Mapping[str, Frame], train: Frame, held_out: Frame, target: str | None, seed: int
) -> dict[str, dict[str, float | None]]:
    """``{table: {metric: figure}}``: how well trees fitted to each table, cut to the size of the smallest, predict the
    target on held-out rows."""
    names = [name for name in train.columns if name != target]
    found: dict[str, dict[str, float | None]] = {name: {} for name in tables}
    if target is None or not names:
        return found

    def known(table: Frame) -> tuple[np.ndarray, np.ndarray]:
        y = table.columns[target]
        rows = ~_missing(y)
        y = _standardised(y, train.columns[target]) if y.dtype.kind == "f" else np.minimum(y, MAX_CLASSES - 1)
        return _features(table, names)[rows], y[rows]

    x, y = known(held_out)
    metrics, count = _metrics(y), min(each.rows for each in tables.values())
    for name, table in tables.items() if metrics else ():
        at, wanted = known(table.take(slice(count)))
        told = boosted_trees(at, wanted, _categorical(train, names), seed).predict(x) if len(wanted) else None
        found[name] = {m: None if told is None else float(metric(y, told)) for m, metric in metrics.items()}
    return found


def _metrics(y: np.ndarray) -> dict[str, Callable[..., float]]:
    """The metrics for predictions of y; none if there is nothing to predict."""
    from sklearn.metrics import accuracy_score, f1_score, r2_score

    if not len(y):
        return {}
    if y.dtype.kind == "f":
        return {"r2": r2_score} if y.min() < y.max() else {}
    macro = partial(f1_score, labels=np.unique(y), average="macro", zero_division=0)
    return {"accuracy": accuracy_score, "macro_f1": macro}


def _detected(train: Frame, other: Frame, seed: int, fit: Any = boosted_trees) -> AUROC:
    """:func:`two_sample_auroc` of equally many rows from both tables."""
    names, count = list(train.columns), min(train.rows, other.rows)
    a, b = (_features(each, names)[:count] for each in (other, train))
    if fit is logistic_regression:
        numbers = [i for i, name in enumerate(names) if train.kinds[name] == "numeric"]
        for i in numbers:
            a[:, i], b[:, i] = (_standardised(each[:, i], train.columns[names[i]]) for each in (a, b))
    return two_sample_auroc(a, b, _categorical(train, names), seed, fit)


def _memorisation(synthetic: np.ndarray, real: np.ndarray) -> tuple[dict[str, Figure], float]:
    """(figures of memorisation, p-value of near copies), from distances to the closest training rows."""
    from scipy.stats import fisher_exact

    nearer = closer(synthetic, real)
    near, all_near = (np.quantile(each, 0.01, method="inverted_cdf") for each in (real, np.append(synthetic, real)))
    counts = [[int((each <= all_near).sum()), int((each > all_near).sum())] for each in (synthetic, real)]
    return {
        "closest": Figure(float(np.median(synthetic)), float(np.median(real))),
        "closer": Figure(nearer.value, 0.5, nearer.standard_error),
        "copies": Figure(float((synthetic == 0).mean()), float((real == 0).mean())),
        "near_copies": Figure(float((synthetic <= near).mean()), float((real <= near).mean())),
    }, float(fisher_exact(counts, alternative="greater").pvalue)  # fmt: skip


def _closest(rows: Frame, train: Frame) -> np.ndarray:
    parts = []
    for table in (rows, train):
        numeric = [name for name in train.columns if train.kinds[name] == "numeric"]
        numbers = [np.nan_to_num(_standardised(table.columns[name], train.columns[name])) for name in numeric]
        marks = [_missing(values) if name in numeric else values for name, values in table.columns.items()]
        parts += [np.stack(each, 1) if each else np.zeros((table.rows, 0)) for each in (numbers, marks)]
    return closest(*parts)
