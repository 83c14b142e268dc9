"""Convolutional encoder and decoder for images of any shape: 1 or more channels, odd, small and non-square sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad

from latens.networks.base import activation, on_images


def halved(sizes: Sequence[int], times: int) -> list[tuple[int, ...]]:
    """The spatial sizes after 0 … ``times`` halvings, each rounded up.

    >>> halved((28, 15), 2)
    [(28, 15), (14, 8), (7, 4)]
    """
    found = [tuple(sizes)]
    for _ in range(times):
        found.append(tuple(-(-size // 2) for size in found[-1]))
    return found


class ConvEncoder(nn.Module):
    """``[..., C, H, W]`` -> ``[..., outputs]``: 4 x 4 convolutions of stride 2, each halving the sizes (rounded up, by
    padding on the far side), then fully connected layers."""

    def __init__(
        self, shape: Sequence[int], outputs: int, channels: Sequence[int] = (32, 64), hidden: Sequence[int] = (256,),
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        self.sizes = halved(shape[1:], len(channels))
        widths = [shape[0], *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in zip(widths, channels, strict=False)
        )
        self.act = activation(act)
        head: list[nn.Module] = []
        width = widths[-1] * math.prod(self.sizes[-1])
        for size in hidden:
            head += [nn.Linear(width, size), activation(act)]
            width = size
        self.head = nn.Sequential(*head, nn.Linear(width, outputs))

    def _image(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = self.act(convolution(pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))))
        return self.head(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return on_images(self._image, x)


class ConvDecoder(nn.Module):
    """``[..., inputs]`` -> ``[..., *shape]``, the mirror of :class:`ConvEncoder`: fully connected layers, then 4 x 4
    transposed convolutions that double the sizes, cut to each size on the way back.

    ``shape`` is (C, H, W), or (P, C, H, W) for P parameters a cell.
    """

    def __init__(
        self, inputs: int, shape: Sequence[int], channels: Sequence[int] = (64, 32), hidden: Sequence[int] = (256,),
        act: str = "silu",
    ):  # fmt: skip
        super().__init__()
        self.shape = tuple(shape)
        self.sizes = halved(shape[-2:], len(channels))[::-1]
        self.act = activation(act)
        layers: list[nn.Module] = []
        width = inputs
        for size in [*hidden, channels[0] * math.prod(self.sizes[0])]:
            layers += [nn.Linear(width, size), activation(act)]
            width = size
        self.trunk = nn.Sequential(*layers)
        widths = [*channels, math.prod(shape[:-2])]
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
            for before, after in zip(widths, widths[1:], strict=False)
        )

    def _image(self, z: Tensor) -> Tensor:
        x = self.trunk(z).unflatten(-1, (-1, *self.sizes[0]))
        for number, (convolution, (height, width)) in enumerate(zip(self.convolutions, self.sizes[1:], strict=True)):
            x = convolution(x if number == 0 else self.act(x))[..., :height, :width]
        return x.unflatten(1, self.shape[:-2])

    def forward(self, z: Tensor) -> Tensor:
        return on_images(self._image, z, event_dims=1)
