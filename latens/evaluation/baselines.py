"""Baselines in the same units and metrics as models: PCA with probabilistic PCA, plain densities, and compressors."""

from __future__ import annotations

import lzma
import math
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.errors import InputError, nearest
from latens.tensors.randomness import Key

ROWS = 10_000  # mixtures and kernels are fitted to at most this many training rows
FULL = 50  # a mixture has full covariances up to this many dimensions
COMPONENTS = (1, 2, 5, 10, 20)
WIDTHS = tuple(np.geomspace(0.02, 2, 13))  # widths of kernels to try, in standard deviations of the training data


@dataclass
class PCABaseline:
    r"""PCA with q components, and the probabilistic model that it fits (Tipping & Bishop 1999):

    .. math:: x \sim N(W z + \mu, \sigma^2 I), \quad z \sim N(0, I)

    Rows of any shape are flattened.

    Attributes:
        dequantize: the distance s of levels (1 for whole numbers). The density is then fitted to x + s u with u uniform
            in [0, 1), so that -ln s p(x + s u) is comparable with the mass of a discrete model: its mean is an upper
            bound on -ln P(x).
        shift, unit: the components are fitted to (x - shift) / unit; densities, codes and errors are still in the units
            of the data.
    """

    components: int
    dequantize: float = 0.0
    shift: np.ndarray | float = 0.0
    unit: np.ndarray | float = 1.0
    seed: int = 0

    def fit(self, x: np.ndarray) -> PCABaseline:
        """Fit the components to rows ``[N, *event]``."""
        from sklearn.decomposition import PCA

        flat = self._inside(x, self._noise(x, 1))
        self.components = min(self.components, flat.shape[1], len(flat) - 1)
        self.pca = PCA(self.components, svd_solver="full" if flat.shape[1] <= 1000 else "auto", random_state=self.seed)
        self.pca.fit(flat)
        return self

    def _inside(self, x: np.ndarray, u: np.ndarray | float) -> np.ndarray:
        flat = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
        return (flat + u - np.ravel(self.shift)) / np.ravel(self.unit)

    def _outside(self, inside: np.ndarray) -> np.ndarray:
        return inside * np.ravel(self.unit) + np.ravel(self.shift) - 0.5 * self.dequantize

    def _noise(self, x: np.ndarray, key: int) -> np.ndarray | float:
        shape = (len(x), x[0].size)
        return self.dequantize * np.random.default_rng([self.seed, key]).random(shape) if self.dequantize else 0.0

    @property
    def _scale(self) -> np.ndarray:
        return np.sqrt(np.maximum(self.pca.explained_variance_ - self.pca.noise_variance_, 1e-12))

    def codes(self, x: np.ndarray) -> np.ndarray:
        r"""The posterior means :math:`E[z|x] = M^{-1} W^T (x - \mu)`, ``[N, q]``."""
        projected = self.pca.transform(self._inside(x, 0.5 * self.dequantize))
        return projected * self._scale / np.maximum(self.pca.explained_variance_, 1e-12)

    def posterior_scale(self) -> np.ndarray:
        r"""The standard deviation of each z_i given x, :math:`\sqrt{\sigma^2 / \lambda_i}`, ``[q]``."""
        return np.sqrt(self.pca.noise_variance_ / np.maximum(self.pca.explained_variance_, 1e-12))

    def decode(self, z: np.ndarray) -> np.ndarray:
        r""":math:`W z + \mu`, ``[N, D]``, in the units of the data."""
        return self._outside(z * self._scale @ self.pca.components_ + self.pca.mean_)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """The orthogonal projection on the components, which is the best linear reconstruction, ``[N, D]``."""
        inside = self._inside(x, 0.5 * self.dequantize)
        return self._outside(self.pca.inverse_transform(self.pca.transform(inside)))

    def nll(self, x: np.ndarray) -> np.ndarray:
        """-ln p of each row under probabilistic PCA (of the mass, for levels), ``[N]`` nats; NaN without noise."""
        if self.pca.noise_variance_ <= 0 or not math.isfinite(self.pca.noise_variance_):
            return np.full(len(x), math.nan)
        inside = self._inside(x, self._noise(x, 2))
        unit = np.ravel(self.unit) / (self.dequantize or 1.0)
        jacobian = float(np.log(np.broadcast_to(unit, inside.shape[1])).sum())
        return jacobian - self.pca.score_samples(inside)


# Densities and compressors


@dataclass(frozen=True)
class BaselineRow:
    """A baseline on held-out rows.

    Attributes:
        name: the baseline.
        latent_dim: the number of factors of factor analysis; None for other baselines.
        nll: -ln p(x) in nats per row, or the length of its code; None if there is none, as ``note`` explains.
        nll_bits_per_dimension: nll divided by (dimensions x ln 2).
        seconds: the time for the fit and the figures.
        note: what was chosen, or why there is no figure.
    """

    name: str
    latent_dim: int | None
    nll: float | None
    nll_bits_per_dimension: float | None
    seconds: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class Sides:
    """Training and held-out rows for baselines, ``[N, D]`` float64.

    Attributes:
        train, test: the rows in the model's numbers.
        shift, unit: centre and scale of the data, ``[D]``. Densities are fitted to (x - shift) / unit; figures are in
            the units of x.
        step: distance between levels; 0 for continuous values. If it is positive, densities are fitted to x + step u
            with u in [0, 1), so the figure is an upper bound on -ln P(x) of the levels (Theis et al. 2016).
        levels: the number of levels, or None.
        seed: the seed of u, of the choice of rows, and of the starts.
    """

    train: np.ndarray
    test: np.ndarray
    shift: np.ndarray
    unit: np.ndarray
    step: float = 0.0
    levels: int | None = None
    seed: int = 0

    def inside(self, rows: np.ndarray, key: int = 1) -> np.ndarray:
        """Rows in the form to which densities are fitted."""
        noise = np.random.default_rng([self.seed, key]).random(rows.shape) * self.step if self.step else 0.0
        return (rows + noise - self.shift) / self.unit

    @property
    def jacobian(self) -> float:
        """ln |dx/du| of a row, minus ln step for levels. Added to -ln p(u), it gives -ln p(x) in nats."""
        return float(np.log(self.unit / (self.step or 1.0)).sum())


Found = tuple[np.ndarray, str]  # -ln p of the held-out rows [n] nats, a note


def independent(sides: Sides, dim: int | None) -> Found:
    """Independent cells: the shares of levels, after adding one row to each level (Laplace 1812), or a normal density
    for continuous cells."""
    if sides.levels:
        found = np.zeros(len(sides.test))
        for known, new in zip(sides.train.T.astype(int), sides.test.T.astype(int)):
            counts = np.bincount(known, minlength=sides.levels) + 1.0
            found -= np.log(counts / counts.sum())[new]
        return found, "shares of levels"
    train, test = sides.inside(sides.train), sides.inside(sides.test, 2)
    mean, scale = train.mean(0), np.maximum(train.std(0), 1e-6)
    cells = 0.5 * ((test - mean) / scale) ** 2 + np.log(scale) + 0.5 * math.log(2 * math.pi)
    return cells.sum(1) + sides.jacobian, "normal cells"


def gaussian(sides: Sides, dim: int | None) -> Found:
    """A normal density with the full covariance, shrunk towards a multiple of the unit matrix (Ledoit & Wolf 2004)."""
    from sklearn.covariance import LedoitWolf

    train = sides.inside(sides.train)
    fitted = LedoitWolf().fit(train)
    root = np.linalg.cholesky(fitted.covariance_)
    scaled = np.linalg.solve(root, (sides.inside(sides.test, 2) - fitted.location_).T)
    log_det = np.log(np.diag(root)).sum() + 0.5 * len(root) * math.log(2 * math.pi)
    return 0.5 * (scaled**2).sum(0) + log_det + sides.jacobian, f"shrinkage {fitted.shrinkage_:.2g}"


def factor_analysis(sides: Sides, dim: int | None) -> Found:
    """Factor analysis: x ~ N(W z + m, diag(s)), the linear VAE with a separate variance for each cell."""
    from sklearn.decomposition import FactorAnalysis

    size = min(dim or 1, sides.train.shape[1])
    fitted = FactorAnalysis(size, random_state=sides.seed).fit(sides.inside(sides.train))
    return sides.jacobian - fitted.score_samples(sides.inside(sides.test, 2)), ""


def mixture(sides: Sides, dim: int | None) -> Found:
    """A mixture of normal densities, with full covariances up to 50 dimensions and diagonal ones above. A tenth of the
    training rows is left out of the fit; the number of components, 1 to 20, is the one that makes it most likely."""
    from sklearn.mixture import GaussianMixture

    known, held = _selection(sides)
    kind = "full" if known.shape[1] <= FULL else "diag"
    models = [
        GaussianMixture(count, covariance_type=kind, reg_covar=1e-4, random_state=sides.seed)
        for count in COMPONENTS if count <= len(known) // 2
    ]  # fmt: skip
    best = max(models, key=lambda model: model.fit(known).score(held))
    note = f"{best.n_components} components, {kind} covariance"
    return sides.jacobian - best.score_samples(sides.inside(sides.test, 2)), note


def kernels(sides: Sides, dim: int | None) -> Found:
    """Kernel density: a normal kernel at each of up to 10,000 training rows, all of the same width. A tenth of the
    training rows has no kernels; the width is the one that makes it most likely."""
    known, held = _selection(sides)
    width = max(WIDTHS, key=lambda each: -_kernels(known, held, each).mean())
    found = _kernels(known, sides.inside(sides.test, 2), width) + sides.jacobian
    return found, f"width {width:.2g}, {len(known):,} kernels"


def _kernels(known: np.ndarray, new: np.ndarray, width: float) -> np.ndarray:
    from scipy.spatial.distance import cdist
    from scipy.special import logsumexp

    found = []
    for start in range(0, len(new), 256):
        logs = -0.5 * cdist(new[start : start + 256], known, "sqeuclidean") / width**2
        found.append(-logsumexp(logs, axis=1))
    scale = known.shape[1] * (math.log(width) + 0.5 * math.log(2 * math.pi)) + math.log(len(known))
    return np.concatenate(found) + scale


def _selection(sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """Training rows for fitting, and a tenth of them for choosing."""
    order = np.random.default_rng([sides.seed, Key.BASELINES]).permutation(len(sides.train))[:ROWS]
    rows = sides.inside(sides.train)[order]
    held = max(1, len(rows) // 10)
    return rows[held:], rows[:held]


def _compressed(compress: Callable[[bytes], bytes]) -> Callable[[Sides, int | None], Found | str]:
    def lengths(sides: Sides, dim: int | None) -> Found | str:
        """The length of all held-out rows compressed together, divided by their number."""
        if not sides.levels or sides.levels > 256:
            return "it compresses bytes, and cells are not levels of 8 bits"
        size = len(compress(sides.test.astype(np.uint8).tobytes())) * 8 * math.log(2)
        return np.full(len(sides.test), size / len(sides.test)), "no density: the length of its code"

    return lengths


BASELINES: dict[str, Callable[[Sides, int | None], Any]] = {
    "independent": independent, "gaussian": gaussian, "factor_analysis": factor_analysis, "mixture": mixture,
    "kde": kernels, "zlib": _compressed(lambda text: zlib.compress(text, 9)),
    "lzma": _compressed(lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
}  # fmt: skip


def baseline_rows(names: Sequence[str], sides: Sides, dims: Sequence[int]) -> list[BaselineRow]:
    """The baselines on the held-out rows; factor analysis at each number of factors in ``dims``.

    Args:
        names: names from :data:`BASELINES`.
        sides: the rows.
        dims: numbers of factors.

    Raises:
        InputError: a baseline does not exist.

    >>> x = np.random.default_rng(0).integers(0, 2, (100, 3)).astype(float)
    >>> [row.name for row in baseline_rows(["independent", "zlib"], Sides(x, x, np.zeros(3), np.ones(3), 1.0, 2), [1])]
    ['independent', 'zlib']
    """
    require_baselines(names)
    found = []
    for name in names:
        for dim in dims if name == "factor_analysis" else [None]:
            start = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings of convergence: any density that was found has a figure
                result = BASELINES[name](sides, dim)
            seconds = round(time.monotonic() - start, 2)
            if isinstance(result, str):
                found.append(BaselineRow(name, dim, None, None, seconds, result))
                continue
            nll = float(result[0].mean())
            bits = nll / (sides.test.shape[1] * math.log(2))
            found.append(BaselineRow(name, dim, nll, bits, seconds, result[1]))
    return found


def require_baselines(names: Sequence[str]) -> None:
    """Raise ``InputError`` for a name that is not a baseline."""
    for name in names:
        if name not in BASELINES:
            raise InputError(f"there is no baseline {name!r}{nearest(name, list(BASELINES))}",
                             f"name one or more of {', '.join(BASELINES)}")  # fmt: skip
