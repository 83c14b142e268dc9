"""Parts of hierarchies for the given data: the features of each layer, the layers, and a likelihood on a last state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from latens import conditionals, models, networks
from latens.errors import InputError, is_whole, require
from latens.recipes.choices.info import DataInfo, network_kind
from latens.recipes.choices.parts import condition_for, encoder, likelihood_for, stem_for

OTHER_NETWORKS = "pass --network mlp, residual or linear"
WIDTH, CHANNELS = 64, 32  # the width of dense layers, and the channels of grids


def likelihood_on(
    info: DataInfo, head: Callable[[Tensor, int], nn.Module], likelihood: str, variance: float | str
) -> nn.Module:
    """p(x|h) with a separate network. ``head(start, features)`` maps a state h, followed by ``features`` features of
    the condition, to the likelihood's parameters, which equal ``start`` before training."""
    part = likelihood_for(info, 1, likelihood, "linear", variance)
    condition = condition_for(info)
    features = 0 if condition is None else condition.features
    inner = part.network if condition is None else part.network.network  # type: ignore[union-attr]
    with torch.no_grad():
        start = inner(torch.zeros(1, 1 + features))[0]  # type: ignore[operator]
    net = head(start, features)
    part.network = net if condition is None else networks.Conditioned(net, condition)
    return part


def block(inputs: int, outputs: int, network: str, hidden: int = WIDTH) -> nn.Module:
    """A small dense map of features; linear if the network is."""
    return networks.mlp(inputs, outputs, () if network == "linear" else (hidden,))


def markov_ladder(
    info: DataInfo, sizes: Sequence[int], network: str, likelihood: str, variance: float | str
) -> models.Ladder:
    """Layers of ``sizes`` numbers, from the top, each code given the code above it; x is given the last code."""
    kind = network_kind(info, network)
    first = conditionals.Features(encoder(info, [WIDTH], network), info.reads)
    stages = [block(WIDTH, WIDTH, kind) for _ in sizes[1:]]
    rungs = [models.MarkovRung(sizes[0], networks.Linear(WIDTH, 2 * sizes[0]))]
    for above, size in pairwise(sizes):
        rungs.append(models.MarkovRung(size, networks.Linear(WIDTH, 2 * size), block(above, 2 * size, kind)))
    return models.Ladder(
        models.Upward(first, stages), rungs, likelihood_for(info, sizes[-1], likelihood, network, variance)
    )


def residual_ladder(
    info: DataInfo, size: int, depth: int, network: str, likelihood: str, variance: float | str
) -> models.Ladder:
    """``depth`` layers at each resolution along a stream of features. For images with ``network="conv"``, the layers
    are on grids from 1 x 1 to the whole image, with ``size`` numbers for each position; otherwise there are
    ``4 depth`` dense layers of ``size`` numbers. ``InputError`` for sequences."""
    kind = network_kind(info, network)
    if kind == "sequence":
        raise InputError("layers on grids need images, but these data are sequences", OTHER_NETWORKS)
    if kind == "conv":
        return _on_grids(info, size, depth, likelihood, variance)
    count = 4 * depth
    first = conditionals.Features(encoder(info, [WIDTH], network), info.reads)
    stages = [_residual_block(kind, count) for _ in range(count - 1)]
    rungs = [
        models.ResidualRung(
            size, _quiet(networks.Linear(WIDTH, 2 * size)), _quiet(block(2 * WIDTH, 2 * size, kind)),
            _scaled(networks.Linear(size, WIDTH), count), _residual_block(kind, count),
        )
        for _ in range(count)
    ]  # fmt: skip

    def head(start: Tensor, features: int) -> nn.Module:
        net = networks.mlp(WIDTH + features, start.numel(), () if kind == "linear" else (256,))
        networks.start_at(net, start)
        return nn.Sequential(net, networks.Unflatten(start.shape))

    return models.Ladder(
        models.Upward(first, stages), rungs, likelihood_on(info, head, likelihood, variance), torch.zeros(WIDTH)
    )


def _on_grids(info: DataInfo, size: int, depth: int, likelihood: str, variance: float | str) -> models.Ladder:
    """Layers on grids from 1 x 1 to the image's size."""
    if info.is_table or not info.schema.is_image:
        raise InputError("layers on grids need images, but these data have columns", OTHER_NETWORKS)
    sizes = [grid for grid in networks.grids(*info.shape[-2:]) for _ in range(depth)]  # top first
    count = len(sizes)
    scale = 1 / math.sqrt(count)

    def residual() -> nn.Module:
        return networks.Residual(networks.bottleneck(CHANNELS, CHANNELS, scale=scale))

    first = conditionals.Features(image_features(info), info.reads)
    stages = [networks.OnImages(networks.Resize(grid), residual()) for grid in sizes[-2::-1]]
    rungs = []
    for grid, following in zip(sizes, [*sizes[1:], sizes[-1]]):
        after = [residual()] if following == grid else [residual(), networks.Resize(following)]
        inject = _scaled(nn.Conv2d(size, CHANNELS, 1), count)
        rungs.append(
            models.ResidualRung(
                size * math.prod(grid), _statistics(CHANNELS, size), _statistics(2 * CHANNELS, size),
                nn.Sequential(networks.Unflatten((size, *grid)), networks.OnImages(inject)), networks.OnImages(*after),
                axis=-3,
            )
        )  # fmt: skip
    start = torch.zeros(CHANNELS, *sizes[0])

    def head(begin: Tensor, features: int) -> nn.Module:
        return GridHead((CHANNELS, *sizes[-1]), begin, features)

    return models.Ladder(models.Upward(first, stages), rungs, likelihood_on(info, head, likelihood, variance), start)


def image_features(info: DataInfo, *further: nn.Module) -> nn.Module:
    """The network from x, with the features of the condition as channels, to ``CHANNELS`` channels, and then
    through the networks ``further``."""
    condition, (stem, shape) = condition_for(info), stem_for(info)
    channels = shape[0] + (0 if condition is None else condition.features)
    block = networks.Residual(networks.bottleneck(CHANNELS, CHANNELS))
    net: nn.Module = networks.OnImages(nn.Conv2d(channels, CHANNELS, 3, padding=1), block)
    net = nn.Sequential(net, *further) if further else net
    return nn.Sequential(stem, net) if condition is None else networks.Conditioned(
        net, condition, stem=stem, kind="image"
    )  # fmt: skip


class GridHead(nn.Module):
    """The network from a flat state to the likelihood's parameters of each cell. ``first`` brings the state, of shape
    ``shape``, to ``CHANNELS`` channels; features of the condition are added. Before training the result is
    ``start``."""

    def __init__(self, shape: tuple[int, ...], start: Tensor, features: int, first: nn.Module | None = None):
        super().__init__()
        self.shape, self.outputs = shape, tuple(start.shape)
        self.first = nn.Identity() if first is None else first
        self.network = networks.OnImages(networks.bottleneck(CHANNELS, math.prod(self.outputs[:-2])))
        self.condition = networks.Linear(features, CHANNELS) if features else None
        self.bias = nn.Parameter(start.clone())

    def forward(self, h: Tensor) -> Tensor:
        """The likelihood's parameters of each cell, ``[..., *start]``."""
        cells = math.prod(self.shape)
        state = self.first(h[..., :cells].unflatten(-1, self.shape))
        if self.condition is not None:
            state = state + self.condition(h[..., cells:])[..., None, None]
        return self.network(state).unflatten(-3, self.outputs[:-2]) + self.bias


def _statistics(channels: int, size: int) -> nn.Module:
    """The network from a grid of features to mean and raw variance of ``size`` numbers for each position, flattened.
    It starts at N(0, I)."""
    return nn.Sequential(_quiet(networks.OnImages(networks.bottleneck(channels, 2 * size))), nn.Flatten(-3))


def _residual_block(kind: str, count: int) -> nn.Module:
    if kind == "linear":
        return _scaled(networks.Residual(networks.Linear(WIDTH, WIDTH)), count)
    return _scaled(networks.residual_block(WIDTH), count)


@torch.no_grad()
def _scaled(part: nn.Module, count: int) -> nn.Module:
    """The network with weights and biases of its last map divided by sqrt(count), so that ``count`` such outputs add up
    to a stream of bounded size (Child 2021)."""
    for p in _last(part).parameters():
        p.div_(math.sqrt(count))
    return part


@torch.no_grad()
def _quiet(part: nn.Module) -> nn.Module:
    """The network with its last map scaled down, so that its output begins near zero."""
    last = _last(part)
    last.weight.mul_(0.01)  # type: ignore[operator]
    last.bias.zero_()  # type: ignore[operator]
    return part


def _last(part: nn.Module) -> nn.Module:
    return [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]


def layer_sizes(info: DataInfo, latent_dim: int, layers: int) -> list[int]:
    """The sizes of a ladder's layers, from the top: the lowest has ``latent_dim`` numbers, and each layer has half as
    many as the layer below it.

    >>> from latens.schema import Schema
    >>> layer_sizes(DataInfo(Schema((20,), "vector", "continuous"), 10), 16, 3)
    [4, 8, 16]
    """
    require(is_whole(layers) and 1 <= layers <= 100, "layers", "a whole number from 1 to 100", layers)
    return [max(1, latent_dim // 2**above) for above in range(layers)][::-1]
