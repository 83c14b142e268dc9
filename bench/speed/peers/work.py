"""The work that every training loop is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speed.networks import Network


@dataclass(frozen=True)
class Work:
    """The work: ``epochs`` passes over ``x`` (float32, or 8-bit if a peer takes it) in batches, with Adam at 1e-3.

``loss`` is "bernoulli" (x in [0, 1]), "normal" with variance 1, or "counts" (negative binomial; only for latens and
scVI). ``unit`` is that of a repetition's figure: "rows/s", or "ms" per step.
    """

    network: Network
    x: Any
    loss: str = "bernoulli"
    batch: int = 128
    epochs: int = 1
    device: str = "cpu"
    unit: str = "rows/s"
    rate: float = 1e-3

    @property
    def steps(self) -> int:
        """The number of complete batches in an epoch."""
        return len(self.x) // self.batch

    def figure(self, seconds: float, steps: int | None = None) -> float:
        """The figure of ``steps`` steps, or of all epochs, that took ``seconds``."""
        steps = self.epochs * self.steps if steps is None else steps
        return steps * self.batch / seconds if self.unit == "rows/s" else 1e3 * seconds / steps


def wait(device: str) -> None:
    """Wait until the device has finished."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
