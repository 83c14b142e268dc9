"""PCA and probabilistic PCA by scikit-learn, with the units and metrics of the other models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class PCABaseline:
    r"""PCA with q components, and the probabilistic model that it fits (Tipping & Bishop 1999):

    .. math:: x \sim N(W z + \mu, \sigma^2 I), \quad z \sim N(0, I)

    Rows of any shape are flattened.

    Attributes:
        dequantize: the distance s of levels (1 for whole numbers). The density is then fitted to x + s u with u uniform
            in [0, 1), so that -ln s p(x + s u) compares with the mass of a discrete model: its mean is an upper bound
            on -ln P(x).
        shift, unit: the components are those of (x - shift) / unit; densities, codes and errors remain those of the
            data in their own units.
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
