"""Data for the speed comparisons: found on this machine or drawn from a seed, never downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILES = Path(__file__).resolve().parents[1] / "data"


def fashion(size: Any, quick_rows: int = 128 * 30) -> tuple[Any, Any, str]:
    """(training images, test images, a description), ``[N, 28, 28]`` uint8; random images if Fashion-MNIST is not
    installed."""
    import datasets
    import numpy as np

    try:
        train, test = (part.x for part in datasets.fashion(FILES))
        what = "Fashion-MNIST"
    except datasets.Absent:
        random = np.random.default_rng(0)
        train, test = (random.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (60_000, 10_000))
        what = "random images of the shape of Fashion-MNIST"
    return train[: size.of(None, quick_rows)], test[: size.of(None, 500)], what


def binary(images: Any) -> Any:
    """Which pixels are brighter than half, as ``[N, 784]`` float32 of 0 and 1."""
    import numpy as np

    return (images.reshape(len(images), -1) > 127).astype(np.float32)


def normals(rows: int, columns: int = 10, factors: int = 4, seed: int = 0) -> Any:
    """Rows of a factor model, float32: each column has variance 1, a quarter of it noise."""
    import numpy as np

    loadings = np.random.default_rng(7).standard_normal((factors, columns))
    loadings *= np.sqrt(0.75) / np.linalg.norm(loadings, axis=0)
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, factors), dtype=np.float32) @ loadings.astype(np.float32)
    x += np.float32(0.5) * random.standard_normal((rows, columns), dtype=np.float32)
    return x


def counts(rows: int, columns: int = 1000, factors: int = 10) -> Any:
    """Poisson counts of a log-linear factor model, float32, about half of them zero."""
    import numpy as np

    random = np.random.default_rng(0)
    z = random.standard_normal((rows, factors), dtype=np.float32)
    loadings = random.standard_normal((factors, columns), dtype=np.float32) / np.float32(factors**0.5)
    return random.poisson(np.exp(z @ loadings - 0.5)).astype(np.float32)
