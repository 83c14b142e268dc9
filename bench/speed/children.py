"""Programs whose memory is measured: python -m speed.children NAME ROWS trains one epoch on 8-bit images in memory."""

from __future__ import annotations

import sys
from typing import Any

BATCH = 512


def _images(rows: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (rows, 784), dtype=np.uint8)


def torch_alone(rows: int) -> None:
    import torch  # noqa: F401


def ours(rows: int) -> None:
    """latens on the 8-bit data, unconverted."""
    from torch import nn

    import latens
    from latens import conditionals, models, networks, objectives, priors
    from speed.networks import Mlp

    net = Mlp(784, (512,), 10)
    posterior = conditionals.DiagonalNormalPosterior(nn.Sequential(networks.Standardize(0.0, 255.0), net.encoder()))
    likelihood = conditionals.NormalLikelihood(net.decoder(), 0.1, unit=255.0)
    model = models.VAE(priors.StandardNormal(10), posterior, likelihood)
    latens.train(model, objectives.ELBO(), _images(rows), epochs=1, batch_size=BATCH, patience=0, compile=False)


def plain(rows: int) -> None:
    """A plain loop on the data as float32."""
    from speed import inputs
    from speed.networks import Mlp
    from speed.peers.plain import training
    from speed.peers.work import Work

    training(Work(Mlp(784, (512,), 10), inputs.binary(_images(rows)), batch=BATCH))(0)


def pythae(rows: int) -> None:
    """pythae on the data as float32."""
    from speed import inputs
    from speed.networks import Mlp
    from speed.peers.pythae_loop import training
    from speed.peers.work import Work

    training(Work(Mlp(784, (512,), 10), inputs.binary(_images(rows)), batch=BATCH))(0)


if __name__ == "__main__":
    {"torch": torch_alone, "latens": ours, "plain": plain, "pythae": pythae}[sys.argv[1]](int(sys.argv[2]))
