"""Fully connected networks, plain and residual."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from latens.networks.base import Residual, activation


def mlp(
    inputs: int, outputs: int, hidden: Sequence[int] = (256, 256), *, act: str = "silu", residual: bool = False
) -> nn.Sequential:
    """A multi-layer perceptron ``[..., inputs]`` -> ``[..., outputs]``.

    ``hidden=()`` is a single linear map. ``residual=True`` asks for hidden layers of one width and adds
    pre-normalised blocks h + W2 act(W1 norm(h)) (He et al. 2016) after the first layer, one for each further width.
    Raises ``ValueError`` for widths that a residual network cannot have.

    >>> import torch
    >>> mlp(10, 3, (8,))(torch.zeros(5, 2, 10)).shape
    torch.Size([5, 2, 3])
    """
    if residual and len(set(hidden)) != 1:
        raise ValueError(f"a residual network needs hidden layers of one width, got {tuple(hidden)}")
    layers: list[nn.Module] = []
    width = inputs
    for number, size in enumerate(hidden):
        if residual and number:
            block = nn.Sequential(
                nn.LayerNorm(size), nn.Linear(size, size), activation(act), nn.Linear(size, size)
            )
            layers.append(Residual(block))
        else:
            layers += [nn.Linear(width, size), activation(act)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, outputs))
