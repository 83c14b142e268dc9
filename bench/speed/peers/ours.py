"""latens.train with a user's own parts: the cost of the same network in latens' loop."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

import latens
from latens import conditionals, models, networks, objectives, priors
from speed.case import Repetition
from speed.peers.work import Work


def with_own_maps(network: nn.Module) -> nn.Module:
    """The network, with its linear maps replaced by those of latens and its weights unchanged."""
    for part in network.modules():
        if type(part) is nn.Linear:
            part.__class__ = networks.Linear
    return network


def model(work: Work) -> nn.Module:
    encoder, decoder = (with_own_maps(part) for part in (work.network.encoder(), work.network.decoder()))
    if work.loss == "counts":
        encoder = nn.Sequential(networks.Log1p(), encoder)
        likelihood: nn.Module = conditionals.NegativeBinomialLikelihood(decoder, shape=(work.network.inputs,))
    else:
        likelihood = (
            conditionals.BernoulliLikelihood(decoder)
            if work.loss == "bernoulli"
            else conditionals.NormalLikelihood(decoder, 1.0)
        )
    posterior = conditionals.DiagonalNormalPosterior(encoder)
    return models.VAE(priors.StandardNormal(work.network.latent), posterior, likelihood)


def training(work: Work, **settings: Any) -> Repetition:
    """The time of all epochs but the first, in which compiling happens; ``before`` is the rest of the call's time."""
    x = torch.from_numpy(work.x)

    def repeat(number: int) -> dict[str, Any]:
        torch.manual_seed(number)
        began = time.perf_counter()
        run = latens.train(
            model(work), objectives.ELBO(), x, epochs=1 + work.epochs, batch_size=work.batch, learning_rate=work.rate,
            beta2=0.999, patience=0, keep="last", device=work.device, seed=number, **settings,
        )  # fmt: skip
        whole = time.perf_counter() - began
        first, last = run.history[0], run.history[-1]
        seconds, steps = last["seconds"] - first["seconds"], last["step"] - first["step"]
        return {"value": work.figure(seconds, steps), "before": whole - seconds, "loss": -last["train_bound"]}

    return repeat
