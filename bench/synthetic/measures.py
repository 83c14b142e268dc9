"""Measures of synthetic rows. Each is also taken of held-out rows: this floor is what a perfect generator would get.

The rows that are measured (synthetic or held-out) are called candidates. Classifiers that tell candidates from training
rows use as many candidates as there are held-out rows; columns and pairs are compared on all candidates, but at most as
many as there are training rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from latens.evaluation.anomaly import auroc, boosted_trees, closest, two_sample_auroc
from latens.evaluation.synthetic import Frame, frame

MEASURES = 3  # raised when a definition changes, so that older lines are measured again
ROWS = 20_000  # at most this many candidates
BALLS = 10_000  # rows used for alpha-precision and beta-recall
NEIGHBOURS = 4_000  # number of rows whose closest row is searched
BINS = 10
HEAP = 0.01  # a number in at least this share of the training rows is a heap
LEVELS = 200  # the levels of a column that trees tell apart: the most frequent ones


def scorer() -> str:
    """The version of the measures: lines with another version are measured again."""
    return f"{MEASURES}, sdmetrics {version('sdmetrics') if has_sdmetrics() else 'absent'}"


def has_sdmetrics() -> bool:
    return importlib.util.find_spec("sdmetrics") is not None


def frames(*tables: pd.DataFrame) -> list[Frame]:
    """Tables with the same columns as frames: numbers unchanged, and words as codes that all tables share, ordered by
    frequency in the first table."""
    kinds = {name: "numeric" if tables[0][name].dtype.kind in "biuf" else "categorical" for name in tables[0]}
    columns: list[dict[str, np.ndarray]] = [{} for _ in tables]
    for name, kind in kinds.items():
        every = pd.concat([table[name] for table in tables], ignore_index=True)
        if kind == "categorical":
            order = tables[0][name].value_counts().index
            levels = [*order, *sorted(set(every.dropna()) - set(order))]
            numbers = pd.Categorical(every, categories=levels).codes.astype(np.int64)
        else:
            numbers = every.to_numpy(np.float64)
        for found, part in zip(columns, np.split(numbers, np.cumsum([len(table) for table in tables])[:-1])):
            found[name] = part
    return [frame(found, kinds) for found in columns]


def measured(
    train: pd.DataFrame, held: pd.DataFrame, rows: pd.DataFrame | None, target: str, rules: Sequence[tuple[str, str]],
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Every figure of ``rows``, or of the held-out rows if ``rows`` is None."""
    floor = rows is None
    shuffled = [table.sample(frac=1, random_state=np.random.default_rng([seed, key]), ignore_index=True)
                for key, table in ((0, train), (1, held), (1, held) if rows is None else (2, rows))]  # fmt: skip
    real, kept, drawn = frames(*shuffled)
    count = min(kept.rows, drawn.rows, real.rows, ROWS)
    every, some = drawn.take(slice(real.rows)), drawn.take(slice(count))
    half = kept.rows // 2 if floor else 0  # the floor takes one half of the held-out rows as rows, the other as others
    useful_real = usefulness(real, kept, target, seed)
    useful = useful_real if floor else usefulness(every, kept, target, seed)
    names = list(real.columns)
    features = [_features(each.take(slice(count)), names) for each in (some, real)]
    found = {
        "shape": 100 * shape(real, every), "trend": 100 * trend(real, every),
        "trees": two_sample_auroc(*features, _words(real, names), seed).value,
        "c2st": logistic(real.take(slice(count)), some, seed),
        **balls(real.take(slice(min(count, BALLS))), some.take(slice(BALLS))),
        "useful": useful, "useful_real": useful_real, "ratio": useful / useful_real,
        **privacy(real, kept.take(slice(half, half + ROWS)), drawn.take(slice(half or ROWS)), seed),
        "copies": 100 * copies(real, every), "outside": 100 * outside(real, every), **heaps(real, every),
        **({"broken": 100 * broken(real, every, rules)} if rules else {}),
    }  # fmt: skip
    if has_sdmetrics():
        found |= sdmetrics(shuffled[0], shuffled[2].head(max(count, len(train))))
    return found


# Marginals and pairs


def shape(real: Frame, rows: Frame) -> float:
    """Mean over columns of the Kolmogorov-Smirnov distance of numbers, or the total variation of levels."""
    return float(np.mean([_distance(real.columns[name], rows.columns[name]) for name in real.columns]))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    if a.dtype.kind != "f":
        return _variation(a, b)
    a, b = (np.sort(each[~np.isnan(each)]) for each in (a, b))
    at = np.append(a, b)
    gap = np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)
    return float(np.abs(gap).max())


def _variation(a: np.ndarray, b: np.ndarray) -> float:
    cells = np.unique(np.append(a, b), return_inverse=True)[1]
    p, q = (np.bincount(part, minlength=cells.max() + 1) / len(part) for part in np.split(cells, [len(a)]))
    return float(np.abs(p - q).sum() / 2)


def trend(real: Frame, rows: Frame) -> float:
    """Mean over pairs of columns: for two numeric ones half the difference of Pearson's correlations, otherwise the
    total variation of their contingency tables, numbers in ten bins of equal width over the training range, with
    numbers outside it in the outermost bins."""
    errors = []
    codes = [{name: _binned(real.columns[name], each.columns[name]) for name in real.columns} for each in (real, rows)]
    for one, other in combinations(real.columns, 2):
        if real.kinds[one] == real.kinds[other] == "numeric":
            errors.append(abs(_correlation(real, one, other) - _correlation(rows, one, other)) / 2)
        else:
            errors.append(_variation(*(each[one] * 10_000 + each[other] for each in codes)))
    return float(np.mean(errors))


def _binned(real: np.ndarray, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return values + 1
    inner = np.linspace(np.nanmin(real), np.nanmax(real), BINS + 1)[1:-1]
    return np.where(np.isnan(values), 0, 1 + np.digitize(values, inner))


def _correlation(table: Frame, one: str, other: str) -> float:
    a, b = table.columns[one], table.columns[other]
    both = ~np.isnan(a) & ~np.isnan(b)
    return float(np.nan_to_num(np.corrcoef(a[both], b[both])[0, 1]))


# Detection


def _features(table: Frame, names: Sequence[str]) -> np.ndarray:
    """The features ``[N, D]`` for trees: NaN for missing cells, and one code for all levels but the 200 most
    frequent."""
    columns = [table.columns[name] for name in names]
    return np.stack([c if c.dtype.kind == "f" else np.where(c < 0, np.nan, np.minimum(c, LEVELS)) for c in columns], 1)


def _words(table: Frame, names: Sequence[str]) -> np.ndarray:
    return np.array([table.kinds[name] == "categorical" for name in names])


def _wide(real: Frame, *tables: Frame) -> list[np.ndarray]:
    """The features ``[N, cells]`` for distances: numbers in standard deviations of the training rows, levels as
    indicators, missing cells 0."""
    found: list[list[np.ndarray]] = [[] for _ in tables]
    for name, values in real.columns.items():
        for parts, table in zip(found, tables):
            column = table.columns[name]
            if column.dtype.kind == "f":
                parts.append(np.nan_to_num((column - np.nanmean(values)) / (np.nanstd(values) or 1.0))[:, None])
            else:
                parts.append((column[:, None] == np.arange(values.max() + 1)).astype(np.float64))
    return [np.concatenate(parts, 1) for parts in found]


def logistic(real: Frame, rows: Frame, seed: int) -> float:
    """1 - max(0, 2 AUROC - 1) of a logistic regression that tries to tell the two apart, by three folds; 1 if it
    cannot."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    a, b = _wide(real, real, rows)
    x, y = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    order = np.random.default_rng(seed).permutation(len(x))
    found = cross_val_score(LogisticRegression(max_iter=300), x[order], y[order], scoring="roc_auc", cv=3)
    return 1 - max(0.0, 2 * float(found.mean()) - 1)


# Fidelity and diversity


def balls(real: Frame, rows: Frame) -> dict[str, float]:
    """Integrated alpha-precision and beta-recall (Alaa et al. 2022), 1 is best, on standardised numbers and indicators.

    P_alpha: share of the synthetic rows within the ball around the real centre that has a share alpha of the real
    rows; R_beta: share of the real rows that are no farther from the closest synthetic row within the ball that has a
    share beta of the synthetic rows than from their closest real neighbour. Each is 1 - 2 times the integral of
    |P_alpha - alpha|, or of |R_beta - beta|.
    """
    from sklearn.neighbors import NearestNeighbors

    a, b = _wide(real, real, rows)
    centre, other = a.mean(0), b.mean(0)
    share = np.linspace(0, 1, 51)
    far = [np.linalg.norm(each - centre, axis=1) for each in (a, b)]
    precision = np.array([np.mean(far[1] <= radius) for radius in np.quantile(far[0], share)])
    own = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(a).kneighbors(a)[0][:, 1]
    distance, place = (each[:, 0] for each in NearestNeighbors(n_neighbors=1, algorithm="brute").fit(b).kneighbors(a))
    radii = np.linalg.norm(b - other, axis=1)
    covered = [(distance <= own) & (radii[place] <= radius) for radius in np.quantile(radii, share)]
    recall = np.mean(np.array(covered), 1)
    one_less = [1 - 2 * float(np.trapezoid(np.abs(each - share), share)) for each in (precision, recall)]
    return {"alpha_precision": one_less[0], "beta_recall": one_less[1]}


def usefulness(fitted: Frame, held: Frame, target: str, seed: int) -> float:
    """Trees fitted to the rows predict the target of held-out rows: AUROC of two classes, or R^2 of a number."""
    from sklearn.metrics import r2_score, roc_auc_score

    names = [name for name in fitted.columns if name != target]
    y = fitted.columns[target]
    if len(np.unique(y)) < 2:
        return 0.0 if y.dtype.kind == "f" else 0.5
    trees = boosted_trees(_features(fitted, names), y, _words(fitted, names), seed)
    x, wanted = _features(held, names), held.columns[target]
    if y.dtype.kind == "f":
        return float(r2_score(wanted, trees.predict(x)))
    return float(roc_auc_score(wanted == 1, trees.predict_proba(x)[:, list(trees.classes_).index(1)]))


# Memory


def privacy(real: Frame, others: Frame, rows: Frame, seed: int) -> dict[str, float]:
    """Two measures of privacy, from as many training rows as there are ``others``, rows to which nothing was fitted.

``closer`` is the share of the rows that are nearer to a training row than to one of the others, where ties count
half. ``attack`` is the AUROC of a distance-based membership-inference attack, which guesses that a row was used for
the fit if a synthetic row is close to it. Both are 0.5 if nothing about individual training rows leaks.
    """
    some = real.take(np.random.default_rng(seed).permutation(real.rows)[: others.rows])
    to_real, to_others = (_closest(real, rows.take(slice(NEIGHBOURS)), each) for each in (some, others))
    members, strangers = (_closest(real, each.take(slice(NEIGHBOURS)), rows) for each in (some, others))
    guess = auroc(-np.append(members, strangers), np.repeat([1, 0], [len(members), len(strangers)]))
    closer = float(np.mean(np.where(to_real == to_others, 0.5, to_real < to_others)))
    return {"closer": closer, "attack": guess.value}


def _closest(real: Frame, rows: Frame, known: Frame) -> np.ndarray:
    """The distance to the closest known row: numbers in standard deviations, and 1 for each different level."""
    parts = []
    for table in (rows, known):
        numbers = [(values - np.nanmean(real.columns[name])) / (np.nanstd(real.columns[name]) or 1.0)
                   for name, values in table.columns.items() if values.dtype.kind == "f"]  # fmt: skip
        words = [values for values in table.columns.values() if values.dtype.kind != "f"]
        parts += [np.nan_to_num(np.stack(numbers, 1)), np.stack(words, 1) if words else np.zeros((table.rows, 0))]
    return closest(*parts)


def _rows_of(table: Frame) -> np.ndarray:
    return np.ascontiguousarray(np.stack([c.astype(np.float64) for c in table.columns.values()], 1) + 0.0)


def copies(real: Frame, rows: Frame) -> float:
    """Share of the rows that are equal to a training row."""
    known = {each.tobytes() for each in _rows_of(real)}
    return float(np.mean([each.tobytes() in known for each in _rows_of(rows)]))


# Columns of numbers, and rules


def outside(real: Frame, rows: Frame) -> float:
    """Share of the cells of numeric columns that lie outside the range of the training column."""
    pairs = [(real.columns[name], rows.columns[name]) for name, kind in real.kinds.items() if kind == "numeric"]
    beyond = [(values < np.nanmin(known)) | (values > np.nanmax(known)) for known, values in pairs]
    return float(np.mean(beyond)) if pairs else 0.0


def heaps(real: Frame, rows: Frame) -> dict[str, float]:
    """Errors of heaps, the numbers that at least a hundredth of the training rows have: ``heap_error`` is the mean of
    |share - training share| / training share in %; ``heaps_off`` is the percentage of heaps whose share is off by more
    than 10 % and two standard errors.
    """
    errors, off = [], []
    for name, kind in real.kinds.items():
        if kind == "numeric":
            values, counts = np.unique(real.columns[name], return_counts=True)
            heap = counts >= HEAP * real.rows
            for value, p in zip(values[heap], counts[heap] / real.rows):
                gap = abs(float(np.mean(rows.columns[name] == value)) - p)
                errors.append(gap / p)
                off.append(gap > 0.1 * p + 2 * np.sqrt(p * (1 - p) * (1 / real.rows + 1 / rows.rows)))
    return {"heap_error": 100 * float(np.mean(errors)), "heaps_off": 100 * float(np.mean(off))} if errors else {}


def broken(real: Frame, rows: Frame, rules: Sequence[tuple[str, str]]) -> float:
    """Share of the rows that break a rule; a rule is a pair of columns that are functions of each other."""
    bad = np.zeros(rows.rows, bool)
    for one, other in rules:
        known = set(zip(real.columns[one].tolist(), real.columns[other].tolist()))
        bad |= [pair not in known for pair in zip(rows.columns[one].tolist(), rows.columns[other].tolist())]
    return float(bad.mean())


# SDMetrics


def sdmetrics(real: pd.DataFrame, rows: pd.DataFrame) -> dict[str, float]:
    """Shape and trend of SDMetrics' QualityReport as errors in %, and its LogisticDetection."""
    import warnings

    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.single_table import LogisticDetection

    kinds: dict[str, Any] = {name: {"sdtype": "numerical" if real[name].dtype.kind in "biuf" else "categorical"}
                             for name in real}  # fmt: skip
    about = {"columns": kinds}
    report = QualityReport()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report.generate(real, rows, about, verbose=False)
        scores = report.get_properties().set_index("Property")["Score"]
        told = LogisticDetection.compute(real, rows, about)
    found = {f"sdmetrics_{name}": 100 * (1 - float(score)) for name, score in zip(("shape", "trend"), scores)}
    return found | {"sdmetrics_c2st": float(told)}
