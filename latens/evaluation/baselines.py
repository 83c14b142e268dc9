"""PCA and probabilistic PCA through scikit-learn, in the units and metrics of the other models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class PCABaseline:
    """PCA with q components, and its probabilistic reading x ~ N(W z + mu, s2 I) (Tipping & Bishop 1999).

    ``codes`` are the posterior means of z, in units in which the prior is N(0, I). For whole-number data the density is
    fitted to x + u, u uniform in [0, 1), so that -ln p is comparable with the mass of a discrete model: the mean of
    -ln p(x + u) is an upper bound on it. Data of any shape are flattened.
    """

    components: int
    dequantize: bool = False
    seed: int = 0

    def fit(self, x: np.ndarray) -> PCABaseline:
        from sklearn.decomposition import PCA

        flat = self._flat(x)
        self.components = min(self.components, flat.shape[1], len(flat) - 1)
        self.pca = PCA(self.components, svd_solver="full" if flat.shape[1] <= 1000 else "auto", random_state=self.seed)
        self.pca.fit(self._noisy(flat, 1))
        return self

    def _flat(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, dtype=np.float64).reshape(len(x), -1)

    def _noisy(self, flat: np.ndarray, key: int) -> np.ndarray:
        return flat + np.random.default_rng([self.seed, key]).random(flat.shape) if self.dequantize else flat

    @property
    def _scale(self) -> np.ndarray:
        return np.sqrt(np.maximum(self.pca.explained_variance_ - self.pca.noise_variance_, 1e-12))

    def codes(self, x: np.ndarray) -> np.ndarray:
        """E[z|x] = M^-1 W^T (x - mu), ``[N, q]``."""
        projected = self.pca.transform(self._flat(x) + 0.5 * self.dequantize)
        return projected * self._scale / np.maximum(self.pca.explained_variance_, 1e-12)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """W z + mu, flattened, in the data's units."""
        return z * self._scale @ self.pca.components_ + self.pca.mean_ - 0.5 * self.dequantize

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """The orthogonal projection on the components: the best linear reconstruction."""
        flat = self._flat(x) + 0.5 * self.dequantize
        return self.pca.inverse_transform(self.pca.transform(flat)) - 0.5 * self.dequantize

    def nll(self, x: np.ndarray) -> np.ndarray:
        """-ln p of each row under probabilistic PCA, nats; on x + u for whole-number data. NaN with no noise left."""
        if self.pca.noise_variance_ <= 0 or not math.isfinite(self.pca.noise_variance_):
            return np.full(len(x), math.nan)
        with np.errstate(all="ignore"):
            return -self.pca.score_samples(self._noisy(self._flat(x), 2))

    def rmse(self, x: np.ndarray) -> float:
        """Root mean squared error of the reconstruction, in the data's units."""
        return float(np.sqrt(((self.reconstruct(x) - self._flat(x)) ** 2).mean()))
