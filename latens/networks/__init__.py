"""Networks: from tensors to tensors over any leading axes, without probability and without batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latens import late
from latens.networks.base import (
    ACTIVATIONS,
    Concatenate,
    Flatten,
    Last,
    Log1p,
    Residual,
    Scale,
    Standardize,
    Sum,
    Unflatten,
    activation,
    has_convolutions,
    only_linear_maps,
)
from latens.networks.conv import ConvDecoder, ConvEncoder
from latens.networks.grids import OnImages, Resize, bottleneck, grids
from latens.networks.linear import Linear
from latens.networks.mlp import mlp, residual_block
from latens.networks.sequence import SequenceDecoder, SequenceEncoder
from latens.networks.table import Before, ColumnFeatures, Condition, Conditioned, OnCondition, Seen

HIDDEN: dict[str, tuple[int, ...]] = {"linear": (), "mlp": (256, 256), "residual": (256, 256, 256)}


def encoder(kind: str, shape: Sequence[int], outputs: int) -> nn.Module:
    """A network from ``[..., *shape]`` to ``[..., outputs]``.

    Args:
        kind: "linear", "mlp", "residual", "conv" (images C x H x W, sequences T x C) or "sequence" (only T x C).
        shape: the shape of one row.
        outputs: the number of outputs.

    >>> encoder("conv", (3, 17, 20), 8)(torch.zeros(5, 3, 17, 20)).shape
    torch.Size([5, 8])
    """
    if kind == "sequence" or (kind == "conv" and len(shape) == 2):
        return SequenceEncoder(shape, outputs)
    if kind == "conv":
        return ConvEncoder(shape, outputs)
    return nn.Sequential(Flatten(shape), mlp(math.prod(shape), outputs, HIDDEN[kind], residual=kind == "residual"))

def decoder(kind: str, inputs: int, shape: Sequence[int]) -> nn.Module:
    """A network from ``[..., inputs]`` to ``[..., *shape]``, the mirror of :func:`encoder`.

    For "conv", three axes are an image. For "sequence", three axes are P parameters for each cell of a sequence, P x T
    x C.

    >>> decoder("conv", 8, (2, 3, 17, 20))(torch.zeros(4, 5, 8)).shape
    torch.Size([4, 5, 2, 3, 17, 20])
    """
    if kind == "sequence" or (kind == "conv" and len(shape) == 2):
        return SequenceDecoder(inputs, shape)
    if kind == "conv":
        return ConvDecoder(inputs, shape)
    net = mlp(inputs, math.prod(shape), HIDDEN[kind][::-1], residual=kind == "residual")
    return nn.Sequential(net, Unflatten(shape))

@torch.no_grad()
def start_at(network: nn.Module, value: Tensor) -> None:
    """Set the bias of the last layer to ``value`` (in the shape of the output).

    The output of the untrained network is then centred there. If the last layer does not have one bias per output, the
    network is unchanged.
    """
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    bias = getattr(network, "bias", linear[-1].bias if linear else None)
    if isinstance(bias, Tensor) and bias.numel() == value.numel():
        bias.copy_(value.reshape(bias.shape))


if TYPE_CHECKING:
    from latens.networks.hyperbolic import Gyroplanes
    from latens.networks.perceptual import FixedFeatures, MultiScaleSSIM
    from latens.networks.recurrent import GatedUnit, RecurrentDecoder, RecurrentEncoder, Steps, steps_of
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "hyperbolic": "Gyroplanes", "perceptual": "FixedFeatures MultiScaleSSIM",
        "recurrent": "GatedUnit RecurrentDecoder RecurrentEncoder Steps steps_of",
    })  # fmt: skip
    __all__ += [
        "ACTIVATIONS", "Before", "ColumnFeatures", "Concatenate", "Condition", "Conditioned", "ConvDecoder",
        "ConvEncoder", "Flatten", "Last", "Linear", "Log1p", "OnCondition", "OnImages", "Residual", "Resize", "Scale",
        "Seen", "SequenceDecoder", "SequenceEncoder", "Standardize", "Sum", "Unflatten", "activation", "bottleneck",
        "decoder", "encoder", "grids", "has_convolutions", "mlp", "only_linear_maps", "residual_block", "start_at",
    ]  # fmt: skip
