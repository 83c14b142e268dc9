"""Fully connected networks, plain and residual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from latens.networks.base import Residual, activation
from latens.networks.linear import Linear


def residual_block(width: int, act: str = "silu") -> Residual:
    r""":math:`x + W_2\, \mathrm{act}(W_1 x)`, from ``[..., width]`` to ``[..., width]`` (He et al. 2016, without
    normalisation).

    :math:`W_2` starts at 0.3 of its usual size.
    """
    last = Linear(width, width)
    with torch.no_grad():
        last.weight.mul_(0.3)
    return Residual(nn.Sequential(Linear(width, width), activation(act), last))


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (256, 256), *, act: str = "silu", residual: bool = False
) -> nn.Sequential:
    """A multi-layer perceptron from ``[..., inputs]`` to ``[..., outputs]``.

    ``ValueError`` for widths that a residual network cannot have.

    Args:
        inputs: the number of inputs.
        outputs: the number of outputs.
        hidden: the widths of the hidden layers; ``()`` gives a single linear map.
        act: the name of the activation.
        residual: whether to build a residual network. All widths in ``hidden`` must then be equal. The first entry is a
            linear map to this width, and each further entry is a residual block.

    >>> import torch
    >>> mlp(10, 3, (8,))(torch.zeros(5, 2, 10)).shape
    torch.Size([5, 2, 3])
    """
    if residual:
        if len(set(hidden)) != 1:
            raise ValueError(f"all hidden layers of a residual network must have the same width, got {tuple(hidden)}")
        blocks = [residual_block(hidden[0], act) for _ in hidden[1:]]
        return nn.Sequential(Linear(inputs, hidden[0]), *blocks, activation(act), Linear(hidden[0], outputs))
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers += [Linear(width, size), activation(act)]
        width = size
    return nn.Sequential(*layers, Linear(width, outputs))
