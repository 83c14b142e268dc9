"""Fully connected networks, plain and residual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from latens.networks.base import Residual, activation
from latens.networks.linear import Linear


def residual_block(width: int, act: str = "silu") -> Residual:
    """x + W2 act(W1 x), W2 starting at 0.3 of its usual size (He et al. 2016, without normalisation)."""
    last = Linear(width, width)
    with torch.no_grad():
        last.weight.mul_(0.3)
    return Residual(nn.Sequential(Linear(width, width), activation(act), last))


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (256, 256), *, act: str = "silu", residual: bool = False
) -> nn.Sequential:
    """A multi-layer perceptron ``[..., inputs]`` -> ``[..., outputs]``.

    ``hidden=()`` is a single linear map. ``residual=True`` asks for hidden layers of one width: a linear map to it,
    then a residual block for each further one. Raises ``ValueError`` for widths that a residual network cannot have.

    >>> import torch
    >>> mlp(10, 3, (8,))(torch.zeros(5, 2, 10)).shape
    torch.Size([5, 2, 3])
    """
    if residual:
        if len(set(hidden)) != 1:
            raise ValueError(f"a residual network needs hidden layers of one width, got {tuple(hidden)}")
        blocks = [residual_block(hidden[0], act) for _ in hidden[1:]]
        return nn.Sequential(Linear(inputs, hidden[0]), *blocks, activation(act), Linear(hidden[0], outputs))
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers += [Linear(width, size), activation(act)]
        width = size
    return nn.Sequential(*layers, Linear(width, outputs))
