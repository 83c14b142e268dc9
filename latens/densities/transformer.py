"""Whole-number codes: a causal transformer over the positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn.functional import scaled_dot_product_attention

from latens.densities.base import Codes, Density, descend
from latens.errors import require, require_count
from latens.networks import Linear, mlp
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree


class Block(nn.Module):
    """x + attention(norm x), in which each position sees the positions up to itself; then x + mlp(norm x) (Vaswani et
    al. 2017)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.gather = Linear(width, 3 * width), Linear(width, width)
        self.inner = mlp(width, width, (4 * width,), act="gelu")

    def forward(self, x: Tensor) -> Tensor:
        """``[B, P, width]`` -> ``[B, P, width]``."""
        parts = self.look(self.before(x)).unflatten(-1, (3, self.heads, -1)).movedim(-4, -2)  # B x 3 x H x P x W/H
        asked, keys, values = parts.unbind(-4)
        seen = scaled_dot_product_attention(asked, keys, values, is_causal=True)
        x = x + self.gather(seen.transpose(-3, -2).flatten(-2))
        return x + self.inner(self.between(x))


class Autoregressive(Distribution):
    r"""Strings of whole numbers, position by position; the event is ``[P]``.

    .. math:: p(i_1, \dots, i_P) = \prod_t p(i_t \mid i_1, \dots, i_{t-1})

    Args:
        logits: ``logits(before)`` gives the logits of positions 1 … t + 1, ``[B, t + 1, K]``, from the first t
            positions ``[B, t]``.
        positions: the number of positions, P.
    """

    arg_constraints = {"positions": constraints.positive_integer}

    def __init__(self, logits: nn.Module, positions: int):
        self.logits, self.positions = logits, positions
        super().__init__(torch.Size(), torch.Size((positions,)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p of each string, in nats, ``[...]``."""
        strings = value.long().reshape(-1, self.positions)
        logs = self.logits(strings[:, :-1]).log_softmax(-1)
        return logs.gather(-1, strings.unsqueeze(-1)).squeeze(-1).sum(-1).view(value.shape[:-1])

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, P]``, int64."""
        with torch.no_grad():
            device = next(self.logits.parameters()).device
            strings = torch.zeros(torch.Size(sample_shape).numel(), 0, dtype=torch.int64, device=device)
            for _ in range(self.positions):
                last = self.logits(strings)[:, -1]
                strings = torch.cat([strings, last.softmax(-1).multinomial(1)], 1)
        return strings.view(*sample_shape, self.positions)


class Causal(nn.Module):
    """The logits of each position, given the positions before it."""

    def __init__(self, positions: int, levels: int, width: int, layers: int, heads: int):
        super().__init__()
        self.level = nn.Embedding(levels, width)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.place = nn.Parameter(0.02 * torch.randn(positions, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width))
        self.head = Linear(width, levels)

    def forward(self, before: Tensor) -> Tensor:
        """Logits ``[B, t + 1, K]`` of positions 1 … t + 1, given the first t positions ``before`` ``[B, t]``."""
        x = torch.cat([self.start.expand(len(before), 1, -1), self.level(before)], 1)  # B x (t + 1) x W
        return self.head(self.blocks(x + self.place[: x.shape[1]]))


class Transformer(Density):
    """A small causal transformer over strings of codes; see :func:`autoregressive`."""

    def __init__(self, positions: int, levels: int, width: int, layers: int, heads: int):
        super().__init__(positions=positions, levels=levels, width=width, layers=layers, heads=heads)
        self.network = Causal(positions, levels, width, layers, heads)

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[positions]``."""
        return Autoregressive(self.network, self.config["positions"])


def autoregressive(
    codes: Codes, *, width: int = 64, layers: int = 2, heads: int = 4, epochs: int | str = "auto"
) -> Transformer:
    """A causal transformer over whole-number codes, position by position (Vaswani et al. 2017).

    Such a density was used as the prior of quantised codes by van den Oord, Vinyals & Kavukcuoglu (2017).

    Args:
        codes: the codes to which it is fitted.
        width: the width of the transformer, a multiple of ``heads``.
        layers: the number of blocks.
        heads: the number of attention heads in each block.
        epochs: a number, or "auto".
    """
    for name, value in (("width", width), ("layers", layers), ("heads", heads)):
        require_count(value, name, most=10_000)
    require(width % heads == 0, "width", f"a multiple of the {heads} heads", width)
    levels = codes.wholes("autoregressive")
    with seeded(codes.seed, Key.STRING_WEIGHTS):
        density = Transformer(codes.size, levels, int(width), int(layers), int(heads))
    descend(density, codes, epochs=epochs)
    return density
