"""Which cells of a table are missing, given the values of the row: a classification tree for each column with gaps.

If gaps are structural (no dose without the drug), the cells in a leaf of a tree are all missing or all observed;
otherwise the leaf holds the share of missing cells (Breiman et al. 1984).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from latens.tensors.randomness import Key

DEPTH, LEAF, ROWS, LOOKED_AT = 6, 20, 5000, 16
LEAST_GAIN = 2e-3  # a split must reduce the Gini impurity, weighted by the rows of the leaf, by at least this
_ABSENT = -1e30  # stands for a missing value


def learned(
    names: tuple[str, ...], x: np.ndarray, given: Mapping[str, np.ndarray], in_order: bool = False
) -> list[dict[str, Any]]:  # fmt: skip
    """The trees, as plain values, in the order in which gaps are drawn.

    A tree sees the values and gaps of conditions, of complete columns, and of columns whose gaps are drawn earlier. It
    sees at most ``LOOKED_AT`` columns, those whose values or gaps correlate most with the gaps of its own column.

    Args:
        names: the columns of x.
        x: numbers and codes, ``[N, D]``, NaN for missing cells.
        given: conditions, ``[N]`` each.
        in_order: whether gaps are drawn in the order of the columns, so that a tree sees the columns before its own.

    >>> x = np.array([[0, 5.0], [1, np.nan]] * 40)
    >>> learned(("drug", "dose"), x, {})[0]["share"]
    [0.5, 0.0, 1.0]
    """
    from sklearn.tree import DecisionTreeClassifier

    every = max(1, len(x) // ROWS)
    values = np.column_stack([x, *given.values()])[::every].astype(np.float64)
    labels = [*names, *given]
    holes = np.isnan(values)
    share = holes.mean(0)
    order = [j for j in np.argsort(share, kind="stable") if share[j] and j < len(names)]
    seen = [j for j in range(len(labels)) if not share[j]]
    found = []
    for j in sorted(order) if in_order else order:
        own = holes[:, j]
        before = [*range(j), *range(len(names), len(labels))] if in_order else seen
        looked_at = _nearest(values, holes, own, before)
        features = np.where(holes, _ABSENT, values)[:, looked_at]
        tree = DecisionTreeClassifier(
            max_depth=DEPTH, min_samples_leaf=LEAF, random_state=0, min_impurity_decrease=LEAST_GAIN
        )
        if looked_at and 0 < own.sum() < len(own):
            nodes = tree.fit(features, own).tree_
            counts = nodes.value[:, 0]
            found.append({
                "column": labels[j],
                "feature": [labels[looked_at[f]] if f >= 0 else "" for f in nodes.feature],
                "threshold": nodes.threshold.tolist(), "left": nodes.children_left.tolist(),
                "right": nodes.children_right.tolist(), "share": (counts[:, 1] / counts.sum(1)).tolist(),
            })  # fmt: skip
        else:
            found.append({"column": labels[j], "feature": [""], "threshold": [0.0], "left": [-1], "right": [-1],
                          "share": [float(share[j])]})  # fmt: skip
        seen.append(j)
    return found


def _nearest(values: np.ndarray, holes: np.ndarray, own: np.ndarray, seen: list[int]) -> list[int]:
    """The columns among ``seen`` whose values or gaps correlate most with the gaps (``holes``) of a column."""
    if len(seen) <= LOOKED_AT:
        return list(seen)
    centred = own - own.mean()

    def strength(columns: np.ndarray) -> np.ndarray:
        columns = columns - columns.mean(0)
        return np.abs(centred @ columns) / np.maximum(np.sqrt((columns**2).sum(0)), 1e-300)

    part, gaps = values[:, seen], holes[:, seen]
    ranks = np.where(gaps, np.nan, part).argsort(0).argsort(0).astype(np.float64)
    found = np.maximum(strength(ranks), strength(gaps.astype(np.float64)))
    return [seen[i] for i in np.sort(np.argsort(-found, kind="stable")[:LOOKED_AT])]


def shares(tree: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The probability ``[N]`` that a tree's column is missing, from the columns ``[N]`` each, NaN for missing cells."""
    at = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
    left, right, threshold = (np.array(tree[name]) for name in ("left", "right", "threshold"))
    for _ in range(DEPTH):
        for node in np.unique(at[left[at] >= 0]):
            here = at == node
            value = np.nan_to_num(columns[tree["feature"][node]][here], nan=_ABSENT).astype(np.float32)
            at[here] = np.where(value <= threshold[node], left[node], right[node])
    return np.array(tree["share"])[at]


def doubt(tree: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> float:
    """The share of the rows in which the more probable of gap and value is wrong."""
    share = shares(tree, columns)
    return float(np.minimum(share, 1 - share).mean())


def drawn(
    trees: list[dict[str, Any]], names: tuple[str, ...], x: np.ndarray, given: Mapping[str, np.ndarray], seed: int,
    within: tuple[int, int] | None = None, held: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """``x``, ``[N, D]``, with NaN in the cells that are drawn to be missing. If these rows are a part of more rows,
    ``within`` is (number of the first row, number of all rows), and their gaps are the same as in the whole. ``held``
    has the gaps ``[N]`` of columns for which they are known."""
    x, (first, total) = np.array(x, dtype=np.float64), within or (0, len(x))
    columns = {name: x[:, j] for j, name in enumerate(names)} | {k: np.asarray(v, float) for k, v in given.items()}
    for number, tree in enumerate(trees):
        own = columns[tree["column"]]  # a view of x
        if held and tree["column"] in held:
            own[held[tree["column"]]] = np.nan
            continue
        stream = np.random.PCG64([seed % 2**63, Key.GAPS]).advance(number * total + first)  # one step per row and tree
        own[np.random.Generator(stream).random(len(x)) < shares(tree, columns)] = np.nan
    return x
