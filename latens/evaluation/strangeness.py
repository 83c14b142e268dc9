"""How strange rows are from two points of view, density and distance. Each is turned into a surprise, relative to
samples of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.evaluation.anomaly import closest

KNOWN, SUBSETS, MEMBERS = 1_000, 20, 64  # samples to compare distances with; number of sets of them; samples per set
TAIL = 0.1  # beyond the largest references, of this share, the tail is exponential
DENSITY = 0.25  # the weight of -ln p(x) relative to the distance, chosen on the data sets of docs/experiments.md
ROUNDING = 1e-6  # of a score, so that batching does not decide whether it ties with a reference
FAR = 1e30  # a cell counts as at most this far from the middle of its column, in units of the column


class Surprise:
    r"""The surprise of a score, in nats, compared with reference scores; a higher score means a stranger row.

    .. math:: t(s) = -\ln \frac{1 + \#\{i : s_i \ge s\}}{n + 1}

    Let q be the score that a tenth of the references reach. Beyond q the tail is exponential,
    t(s) = t(q) + (s - q) / e, so that the strangest rows do not tie; e is the mean excess of those references (Pickands
    1975, with shape 0). If they are all equal, e is the standard deviation of all references, or 1.

    Args:
        references: ``[n]``, finite, at least 20.

    >>> surprise = Surprise(np.arange(99.0))
    >>> np.exp(-surprise(np.array([-1.0, 50.0, 89.0]))).round(2).tolist()
    [1.0, 0.5, 0.11]
    """

    def __init__(self, references: np.ndarray) -> None:
        self.references = np.sort(np.asarray(references, np.float64))
        count = len(self.references)
        tail = self.references[count - max(2, int(TAIL * count)) :]
        self.start, spreads = float(tail[0]), (float((tail - tail[0]).mean()), float(self.references.std()), 1.0)
        self.excess = next((each for each in spreads if each > _rounding(self.start)), _rounding(self.start))

    def _share(self, scores: np.ndarray) -> np.ndarray:
        count, least = len(self.references), scores - _rounding(scores)
        return (1 + count - np.searchsorted(self.references, least, "left")) / (count + 1)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """t(s) of each score, ``[N]`` nats; infinite if the score is."""
        with np.errstate(invalid="ignore"):
            beyond = np.fmax(scores - self.start - _rounding(self.start), 0.0) / self.excess
        return beyond - np.log(self._share(np.minimum(scores, self.start)))


def _rounding(scores: Any) -> Any:
    return ROUNDING * (1 + np.abs(scores))


@dataclass(frozen=True)
class Cells:
    """Rows in the form in which they are compared: numbers ``[N, P]``, each column on its own scale, and codes of
    levels ``[N, Q]``. A missing cell is NaN, and a level that the fit never saw is -1."""

    numbers: np.ndarray
    levels: np.ndarray

    def take(self, rows: slice | np.ndarray) -> Cells:
        """The rows with these numbers, or in this slice."""
        return Cells(self.numbers[rows], self.levels[rows])

    def __len__(self) -> int:
        return len(self.numbers)


class Distance:
    r"""The distance to the closest of a few known rows, averaged over several sets of known rows.

    .. math:: \frac{1}{20} \sum_{S} \min_{y \in S} \sum_j \frac{|x_j - y_j|}{u_j}

    A set S has 64 known rows. So only few sets hold rows of a group of anomalies, and these sets hold only few of them
    (Sugiyama & Borgwardt 2013). The unit u of a column is the standard deviation of a normal with the same central
    80 %. A level becomes one flag for each known level and one for all other levels, each in standard deviations. A
    missing cell counts as the middle of its column.

    Args:
        known: the known rows, at least one.
        alike: whether all numbers have the same unit, their common standard deviation, as for pixels.
    """

    def __init__(self, known: Cells, alike: bool = False) -> None:
        self.codes = [np.unique(column[~np.isnan(column)]) for column in known.levels.T]
        flags = self._flags(known)
        self.middle, self.unit = np.array([_middle_and_unit(column) for column in flags.T]).reshape(-1, 2).T
        if alike:
            self.unit = np.full_like(self.unit, np.nanstd(flags) or 1.0)
        random, points = np.random.default_rng(0), self._points(known)
        self.sets = [points[random.permutation(len(known))[:MEMBERS]] for _ in range(SUBSETS)]

    def _flags(self, rows: Cells) -> np.ndarray:
        """Numbers and flags of levels, NaN for missing cells: ``[N, P + flags]``."""
        found = [rows.numbers]
        for column, codes in zip(rows.levels.T, self.codes):
            same = column[:, None] == codes
            flags = np.concatenate([same, ~same.any(1, keepdims=True)], 1)
            found.append(np.where(np.isnan(column)[:, None], np.nan, flags))
        return np.concatenate(found, 1)

    def _points(self, rows: Cells) -> np.ndarray:
        """Rows as points in units of the columns, ``[N, P + flags]``, without NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            points = (self._flags(rows) - self.middle) / self.unit
        return np.nan_to_num(points, nan=0.0).clip(-FAR, FAR)

    def __call__(self, rows: Cells) -> np.ndarray:
        """The mean distance of each row, ``[N]``."""
        points = self._points(rows)
        none = np.empty((len(points), 0))
        return np.mean([closest(points, none, known, np.empty((len(known), 0))) for known in self.sets], 0)


def _middle_and_unit(column: np.ndarray) -> tuple[float, float]:
    """(the median of a column; the standard deviation of a normal with the same central 80 %). If all values in that
    range are equal, the unit is the standard deviation of the column after adding one value, 1 above the median."""
    column = column[np.isfinite(column)]
    if not len(column):
        return 0.0, 1.0
    low, middle, high = np.quantile(column, (0.1, 0.5, 0.9))
    return float(middle), float((high - low) / 2.563 or np.append(column, middle + 1).std())


class Views:
    r"""The strangeness of rows, :math:`t_d + t_p / 4`: the surprise of their distance plus a quarter of the surprise of
    their -ln p(x).

    A density learns everything in the training rows, including tight groups of anomalies, and with few rows it hardly
    distinguishes far rows from farther ones. The distance to a few samples is coarse but has neither fault, while
    -ln p(x) finds rows with unusual combinations of cells.

    Args:
        samples: samples of the model. Rows are compared with one half; the other half sets the scale of distances.
        scores: -ln p(x) of at least 20 samples, which set the scale of the density.
        alike: see :class:`Distance`.
    """

    def __init__(self, samples: Cells, scores: np.ndarray, alike: bool = False) -> None:
        half = len(samples) // 2
        self.distance = Distance(samples.take(slice(half)), alike)
        self.far, self.rare = Surprise(self.distance(samples.take(slice(half, None)))), Surprise(scores)

    def __call__(self, rows: Cells, scores: np.ndarray) -> np.ndarray:
        """The strangeness of each row, ``[N]`` nats, from its cells and -ln p(x)."""
        return self.far(self.distance(rows)) + DENSITY * self.rare(scores)
