"""Small models, data and comparisons that the tests of training share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latens import conditionals, models, objectives, priors
from latens.data.loader import ArrayLoader
from latens.data.streams.blocks import cut, starts
from latens.errors import InputError
from latens.tensors import trees
from latens.training import Log, Settings, Trainer


def data(rows: int = 48, columns: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 2)) @ rng.normal(size=(2, columns)) + 0.3 * rng.normal(size=(rows, columns))


def network(inputs: int, outputs: int, hidden: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def vae(
    columns: int = 3, latent: int = 2, *, variance: float | str = "optimal", seed: int = 0, dtype: Any = None
) -> models.VAE:
    """A small VAE, with the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.VAE(
            priors.StandardNormal(latent),
            conditionals.DiagonalNormalPosterior(network(columns, 2 * latent)),
            conditionals.NormalLikelihood(network(latent, columns), variance=variance),
        )
    return model.to(dtype or torch.float32)


def trainer(
    model: nn.Module,
    x: Any,
    objective: Any = None,
    *,
    validation: Any = None,
    weight: Any = None,
    c: Any = None,
    transform: Any = None,
    backend: str = "inductor",
    progress: Any = None,
    **settings: Any,
) -> Trainer:
    x = torch.as_tensor(x, dtype=torch.float32) if isinstance(x, np.ndarray) else x
    rows = len(x) if isinstance(x, Tensor) else len(next(iter(x.values())))
    chosen = Settings(**{"epochs": 4, "batch_size": 12, "device": "cpu"} | settings).settle(rows)
    loader = ArrayLoader(x, c, weight, batch_size=chosen.batch_size, seed=chosen.seed, transform=transform)
    held = None
    if validation is not None:
        held = ArrayLoader(torch.as_tensor(validation, dtype=torch.float32), batch_size=16, shuffle=False)
    log = Log(progress=progress)
    return Trainer(model, objective or objectives.ELBO(), loader, held, chosen, log, backend=backend)


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Check that two mappings hold bit-identical tensors under the same names."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history without its times."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


class Poisoned(nn.Module):
    """A network whose value, or only whose gradient, is NaN for one row, which it recognises by its first number."""

    def __init__(self, inner: nn.Module, mark: float, gradient: bool = False):
        super().__init__()
        self.inner, self.mark, self.gradient = inner, mark, gradient

    def forward(self, x: Tensor) -> Tensor:
        bad = (x[..., :1] == self.mark).to(torch.float32)
        out = self.inner(x.to(torch.float32))
        if self.gradient:
            return out + torch.sqrt((out * bad).square() + 1 - bad) - (1 - bad)  # the square root has no slope at 0
        return torch.where(bad.bool(), torch.nan, out)


def poisoned(info: Any, *, latent_dim: int = 2, network: str = "auto") -> tuple[nn.Module, objectives.Objective]:
    """A user's recipe that fails for the row whose first number is -77.3."""
    model = vae(info.columns, latent_dim)
    model.posterior.network = Poisoned(model.posterior.network, -77.3)
    return model, objectives.ELBO()


class MemoryBlocks:
    """Blocks of ``block_rows`` rows of trees of arrays or tensors in memory."""

    def __init__(self, x: Any, c: Any = None, *, block_rows: int = 10):
        self.tree, self.rows = (x, c), trees.rows((x, c))
        self.sizes = cut(self.rows, block_rows)
        self.firsts = starts(self.sizes)

    def read(self, block: int) -> Any:
        rows = slice(int(self.firsts[block]), int(self.firsts[block + 1]))
        return trees.map_tree(lambda leaf: torch.as_tensor(leaf[rows]).clone(), self.tree)


def refusal_of(read: Callable[..., Any], path: Path, **options: Any) -> str:
    """The one-sentence message of ``read(path, **options)``, which must name the file."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message and not message.endswith(".") and path.name in message, message
    return message


class Encoding(nn.Module):
    """A model of rows of three numbers that has a bound and codes, but neither decodes nor samples."""

    def __init__(self) -> None:
        super().__init__()
        posterior = conditionals.DiagonalNormalPosterior(nn.Linear(3, 4))
        likelihood = conditionals.NormalLikelihood(nn.Linear(2, 3))
        self.whole = models.VAE(priors.StandardNormal(2), posterior, likelihood)
        self.draw, self.encode = self.whole.draw, self.whole.encode
