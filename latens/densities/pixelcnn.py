"""Whole-number codes on a grid: masked convolutions, in which each position depends on those before it, row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import conv2d, pad, silu

from latens.densities.base import Codes, Density, descend
from latens.densities.transformer import Autoregressive
from latens.errors import is_whole, require
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree


class Masked(nn.Conv2d):
    """A convolution whose output sees only those inputs for which ``seen`` (in the kernel's shape) is true."""

    seen: Tensor

    def __init__(self, width: int, seen: Tensor):
        super().__init__(width, width, tuple(seen.shape), padding=(seen.shape[0] // 2, seen.shape[1] // 2))  # type: ignore[arg-type]
        self.register_buffer("seen", seen.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width, R, C]`` -> ``[B, width, R, C]``."""
        return conv2d(x, self.weight * self.seen, self.bias, padding=self.padding)


class Layer(nn.Module):
    """Two streams on a grid, which together let each position see all positions before it (van den Oord et al. 2016b).

    ``above`` sees the rows up to and including its own; ``left`` sees the earlier positions in its row and, through
    ``above``, the rows above it. In the ``first`` layer, positions do not see themselves.
    """

    def __init__(self, width: int, kernel: int, first: bool):
        super().__init__()
        middle, across = kernel // 2, torch.arange(kernel)
        self.first = first
        self.above = Masked(width, (across <= middle).unsqueeze(1).expand(kernel, kernel))
        self.left = Masked(width, (across < middle if first else across <= middle).unsqueeze(0))
        self.down, self.out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """The next (above, left), each ``[B, width, R, C]``."""
        above = silu(self.above(above)) + (0 if self.first else above)
        over = pad(above, (0, 0, 1, 0))[..., :-1, :]  # sees only the rows above
        change = self.out(silu(self.left(left) + self.down(over)))
        return above, change + (0 if self.first else left)


class MaskedConvolutions(nn.Module):
    """The logits of each position of a grid of codes, given the positions before it, row by row."""

    def __init__(self, rows: int, columns: int, levels: int, width: int, layers: int, kernel: int):
        super().__init__()
        self.rows, self.columns = rows, columns
        self.level = nn.Embedding(levels, width)
        self.place = nn.Parameter(0.02 * torch.randn(width, rows, columns))
        self.layers = nn.ModuleList(Layer(width, kernel, first=number == 0) for number in range(layers))
        self.head = nn.Sequential(nn.SiLU(), nn.Conv2d(width, levels, 1))

    def forward(self, before: Tensor) -> Tensor:
        """Logits ``[B, t + 1, K]`` of positions 1 … t + 1, given the first t positions ``before`` ``[B, t]``."""
        count = before.shape[1]
        codes = pad(before, (0, self.rows * self.columns - count)).unflatten(1, (self.rows, self.columns))
        left = self.level(codes).movedim(-1, 1)  # B x W x R x C
        above = left
        for layer in self.layers:
            above, left = layer(above, left)
            if layer.first:
                left = left + self.place
        return self.head(left).flatten(2).mT[:, : count + 1]


class PixelCNN(Density):
    """Masked convolutions over a grid of codes; see :func:`pixelcnn`."""

    def __init__(self, rows: int, columns: int, levels: int, width: int, layers: int, kernel: int):
        super().__init__(rows=rows, columns=columns, levels=levels, width=width, layers=layers, kernel=kernel)
        self.network = MaskedConvolutions(rows, columns, levels, width, layers, kernel)

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[rows * columns]``."""
        return Autoregressive(self.network, self.config["rows"] * self.config["columns"])


def pixelcnn(
    codes: Codes, *, width: int = 64, layers: int = 5, kernel: int = 5, epochs: int | str = "auto"
) -> PixelCNN:
    """Masked convolutions over whole-number codes, on their grid or string (van den Oord et al. 2016a, 2016b).

    Args:
        codes: the codes to which it is fitted.
        width: the number of channels in each layer.
        layers: the number of layers.
        kernel: the side of the kernels, an odd number from 3.
        epochs: a number, or "auto".
    """
    for name, value in (("width", width), ("layers", layers)):
        require(is_whole(value) and value >= 1, name, "a whole number from 1", value)
    require(is_whole(kernel) and kernel >= 3 and kernel % 2 == 1, "kernel", "an odd whole number from 3", kernel)
    levels, (rows, columns) = codes.wholes("pixelcnn"), codes.grid or (1, codes.size)
    with seeded(codes.seed, Key.STRING_WEIGHTS):
        density = PixelCNN(rows, columns, levels, int(width), int(layers), int(kernel))
    descend(density, codes, epochs=epochs)
    return density
