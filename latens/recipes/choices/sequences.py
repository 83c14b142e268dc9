"""Parts that run over time: over the steps of sequences, the rows of images, or the cells of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens import conditionals, models, networks
from latens.errors import InputError, is_whole, require
from latens.recipes.choices.hierarchy import block, likelihood_on
from latens.recipes.choices.info import DataInfo, one_of
from latens.recipes.choices.parts import condition_for, stem_for

OVER_TIME = ("auto", "recurrent", "conv", "linear")


def steps_for(info: DataInfo, network: str) -> str:
    """The kind of network over time; ``InputError`` for data without an order."""
    if info.is_table:
        raise InputError("the columns of a table have no order in time", "use a recipe for tables, such as 'vae'")
    one_of("network", network, OVER_TIME)
    return "recurrent" if network == "auto" else network


def _over_time(info: DataInfo, net: nn.Module) -> nn.Module:
    """The network ``net``, applied to the steps of standardised x, each joined with the condition."""
    stem = nn.Sequential(stem_for(info)[0], networks.Steps(info.shape))
    condition = condition_for(info)
    return nn.Sequential(stem, net) if condition is None else networks.Conditioned(
        net, condition, stem=stem, kind="sequence"
    )  # fmt: skip


def _inputs(info: DataInfo) -> int:
    """The number of inputs that a network has at each step."""
    condition = condition_for(info)
    return networks.steps_of(info.shape)[1] + (0 if condition is None else condition.features)


def sequence_posterior(info: DataInfo, latent_dim: int, kind: str) -> nn.Module:
    """q(z|x) from a single pass over the steps."""
    steps, inputs, outputs = networks.steps_of(info.shape)[0], _inputs(info), 2 * latent_dim
    nets = {
        "recurrent": lambda: networks.RecurrentEncoder(inputs, outputs),
        "conv": lambda: networks.SequenceEncoder((steps, inputs), outputs),
        "linear": lambda: nn.Sequential(networks.Flatten((steps, inputs)), networks.Linear(steps * inputs, outputs)),
    }
    return conditionals.DiagonalNormalPosterior(_over_time(info, nets[kind]()), info.reads)


def sequence_likelihood(
    info: DataInfo, latent_dim: int, kind: str, likelihood: str, variance: float | str
) -> nn.Module:
    """p(x|z), where all steps are made from a single code."""
    steps = networks.steps_of(info.shape)[0]

    def head(start: Tensor, features: int) -> nn.Module:
        inputs, outputs = latent_dim + features, start.numel() // steps
        nets = {
            "recurrent": lambda: networks.RecurrentDecoder(inputs, steps, outputs),
            "conv": lambda: networks.SequenceDecoder(inputs, (steps, outputs)),
            "linear": lambda: nn.Sequential(
                networks.Linear(inputs, start.numel()), networks.Unflatten((steps, outputs))
            ),
        }
        return FromSteps(info.shape, nets[kind](), start)

    return likelihood_on(info, head, likelihood, variance)


class FromSteps(nn.Module):
    """A network with outputs ``[..., T, outputs]``, reshaped to the parameters of a row, plus ``start``."""

    def __init__(self, shape: tuple[int, ...], network: nn.Module, start: Tensor):
        super().__init__()
        self.steps, self.network, self.bias = networks.Steps(shape), network, nn.Parameter(start.clone())

    def forward(self, z: Tensor) -> Tensor:
        """The parameters of a row, ``[..., *start]``."""
        return self.steps.back(self.network(z), self.bias.shape) + self.bias


class EachStep(nn.Module):
    """The same map at every step: from a flat row of T states, followed by features of a condition, to
    ``[..., T, outputs]``."""

    def __init__(self, steps: int, size: int, features: int, network: nn.Module):
        super().__init__()
        self.steps, self.size, self.features, self.network = steps, size, features, network

    def forward(self, h: Tensor) -> Tensor:
        """``[..., T, outputs]``."""
        states = h[..., : self.steps * self.size].unflatten(-1, (self.steps, self.size))
        rest = h[..., None, self.steps * self.size :].expand(*states.shape[:-1], self.features)
        return self.network(torch.cat([states, rest], -1))


def recurrent_model(
    info: DataInfo, latent_dim: int, width: int, kind: str, likelihood: str, variance: float | str
) -> models.Recurrent:
    """A model with a code for each step, given a recurrent state. ``InputError`` for rows that have no steps, or if the
    network is to be convolutional."""
    require(is_whole(width) and width >= 1, "width", "a whole number from 1", width)
    if kind == "conv":
        raise InputError("a recurrent state has no convolutions", "pass --network recurrent or linear")
    steps, dense = networks.steps_of(info.shape)[0], "linear" if kind == "linear" else "mlp"
    state = width + latent_dim

    def head(start: Tensor, features: int) -> nn.Module:
        outputs = start.numel() // steps
        return FromSteps(info.shape, EachStep(steps, state, features, block(state + features, outputs, dense)), start)

    features = conditionals.Features(_over_time(info, block(_inputs(info), width, dense)), info.reads)
    return models.Recurrent(
        features, block(width, 2 * latent_dim, dense), block(2 * width, 2 * latent_dim, dense),
        networks.GatedUnit(state, width), likelihood_on(info, head, likelihood, variance), shape=info.shape,
        latent_dim=latent_dim, width=width, axis=-1 if len(info.shape) == 1 else -2,
    )  # fmt: skip
