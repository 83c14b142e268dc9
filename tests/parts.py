"""Small models, data and comparisons that the tests of training share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latens import conditionals, models, priors


def data(rows: int = 48, columns: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 2)) @ rng.normal(size=(2, columns)) + 0.3 * rng.normal(size=(rows, columns))


def network(inputs: int, outputs: int, hidden: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def vae(columns: int = 3, latent: int = 2, *, variance: float | str = "optimal", seed: int = 0, dtype: Any = None) -> models.VAE:
    """The same weights whenever it is called."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.VAE(
            priors.StandardNormal(latent),
            conditionals.DiagonalNormal(network(columns, 2 * latent)),
            conditionals.Normal(network(latent, columns), variance=variance),
        )
    return model.to(dtype or torch.float32)


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Bit-identical tensors under the same names."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history without its clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]
