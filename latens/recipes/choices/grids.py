"""Codes on a grid of positions, for images: a network that halves the grid, and one that restores it."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from latens import networks
from latens.errors import InputError, is_whole, require
from latens.networks.conv import stages
from latens.recipes.choices.hierarchy import CHANNELS, GridHead, image_features, likelihood_on
from latens.recipes.choices.info import DataInfo


def grids_for(info: DataInfo, halvings: int | str) -> list[tuple[int, int]]:
    """The grids from that of the image to that of the codes; each side is half the one before. "auto" halves until a
    side is near 7. ``InputError`` for data that are not images."""
    if info.is_table or not info.schema.is_image:
        raise InputError("codes on a grid need images, but these data are not images", "use the recipe 'vq'")
    sizes = networks.grids(*info.shape[-2:])[::-1]
    if halvings == "auto":
        halvings = min(stages(*info.shape[-2:]), len(sizes) - 1)
        rows, columns = sizes[halvings]
        info.choices["halvings"] = f"halvings = {halvings}: codes on a grid of {rows} x {columns}"
    good = is_whole(halvings) and 0 <= int(halvings) < len(sizes)
    require(good, "halvings", f"'auto' or a whole number from 0 to {len(sizes) - 1}", halvings)
    return sizes[: int(halvings) + 1]


class ChannelsLast(nn.Module):
    """``[..., C, H, W]`` -> ``[..., H W C]``: the numbers of each position together, positions row by row."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., H W C]``."""
        return x.movedim(-3, -1).flatten(-3)


class ChannelsFirst(nn.Module):
    """``[..., H, W, C]`` -> ``[..., C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C, H, W]``."""
        return x.movedim(-1, -3)


def grid_encoder(info: DataInfo, sizes: list[tuple[int, int]], size: int) -> nn.Module:
    """The network from x to ``size`` numbers at each position of the last grid, flattened."""
    layers: list[nn.Module] = []
    for _ in sizes[1:]:  # each side n becomes ceil(n / 2)
        layers += [nn.SiLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1), _residual()]
    return image_features(info, networks.OnImages(*layers, nn.SiLU(), nn.Conv2d(CHANNELS, size, 1)), ChannelsLast())


def grid_likelihood(
    info: DataInfo, sizes: list[tuple[int, int]], size: int, likelihood: str, variance: float | str
) -> nn.Module:
    """p(x|z), where z has ``size`` numbers at each position of the last grid."""
    layers: list[nn.Module] = [nn.Conv2d(size, CHANNELS, 1), _residual()]
    for _, finer in pairwise(sizes[::-1]):
        layers += [networks.Resize(finer), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), _residual()]
    first = nn.Sequential(ChannelsFirst(), networks.OnImages(*layers))
    return likelihood_on(
        info, lambda start, features: GridHead((*sizes[-1], size), start, features, first), likelihood, variance
    )


def _residual() -> nn.Module:
    return networks.Residual(networks.bottleneck(CHANNELS, CHANNELS))
