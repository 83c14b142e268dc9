"""The small parts of which networks are made. A network knows shapes and no probability."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from latens.tensors.numerics import surely_complete

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
}


def activation(name: str) -> nn.Module:
    """A new activation module: "relu", "silu", "gelu", "tanh", "softplus" or "elu"; ``ValueError`` for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class Standardize(nn.Module):
    """The stem of an encoder: u = (x - shift) / unit as floats, with missing cells (NaN) filled with 0.

    The input ``[..., *event]`` may have any storage type. The output ``[..., *event]`` has the type of ``unit``, which
    is also the type of the network. ``shift`` and ``unit`` are buffers, so the model takes the user's units. ``shift``
    has the precision of the data, so that 1.6e9 ± 1 in float64 does not lose the 1.

    Args:
        shift: the number that is subtracted.
        unit: the divisor, > 0.
        mask: whether to append the mask of observed cells, so that the network can distinguish a filled cell from an
            observed one.
        mask_axis: the axis along which it is appended (columns: -1, channels of an image: -3).

    >>> Standardize(1.0, 2.0, mask=True)(torch.tensor([3.0, torch.nan])).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    shift: Tensor
    unit: Tensor

    def __init__(
        self, shift: Tensor | float = 0.0, unit: Tensor | float = 1.0, *, mask: bool = False, mask_axis: int = -1
    ):
        super().__init__()
        self.register_buffer("shift", torch.as_tensor(shift))
        self.register_buffer("unit", torch.as_tensor(unit))
        self.mask, self.mask_axis = mask, mask_axis

    def forward(self, x: Tensor) -> Tensor:
        """(x - shift) / unit, ``[..., *event]``; with a mask, ``mask_axis`` is twice as long."""
        u = ((x - self.shift) / self.unit).to(self.unit.dtype)
        if not self.mask and surely_complete(x):
            return u
        missing = u.isnan()
        u = torch.where(missing, 0.0, u)
        return torch.cat([u, (~missing).to(u.dtype)], self.mask_axis) if self.mask else u


class Log1p(nn.Module):
    """ln(1 + x) of counts, as floats."""

    def forward(self, x: Tensor) -> Tensor:
        """ln(1 + x), in the shape of x."""
        return torch.log1p(x if x.is_floating_point() else x.float())


class Scale(nn.Module):
    """x times a fixed number.

    >>> Scale(2.0)(torch.ones(2)).tolist()
    [2.0, 2.0]
    """

    def __init__(self, factor: float):
        super().__init__()
        self.factor = float(factor)

    def forward(self, x: Tensor) -> Tensor:
        """factor x, in the shape of x."""
        return self.factor * x


class Flatten(nn.Module):
    """From ``[..., *shape]`` to ``[..., prod(shape)]``."""

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.axes = len(shape)

    def forward(self, x: Tensor) -> Tensor:
        """From ``[..., *shape]`` to ``[..., prod(shape)]``."""
        return x.flatten(-self.axes)


class Unflatten(nn.Module):
    """From ``[..., prod(shape)]`` to ``[..., *shape]``."""

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """From ``[..., prod(shape)]`` to ``[..., *shape]``."""
        return x.unflatten(-1, self.shape)


class Last(nn.Module):
    """The last ``size`` numbers, from ``[..., Z]`` to ``[..., size]``."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """``[..., Z]`` -> ``[..., size]``."""
        return x[..., -self.size :]


class Concatenate(nn.Module):
    """The outputs of several networks on the same input, concatenated on the last axis.

    Two linear heads on a trunk are ``Sequential(trunk, Concatenate(g, h))``; two separate networks are
    ``Concatenate(g, h)``.
    """

    def __init__(self, *networks: nn.Module):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, concatenated, ``[..., sum of sizes]``."""
        return torch.cat([network(x) for network in self.networks], -1)


class Sum(nn.Module):
    """The sum of the outputs of several networks on the same input, such as a linear map in parallel with a deep
    network.
    """

    def __init__(self, *networks: nn.Module):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """The sum, in the shape of one output."""
        first, *others = (network(x) for network in self.networks)
        return sum(others, first)


class Residual(nn.Module):
    """x + block(x)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """x + block(x), in the shape of x."""
        return x + self.block(x)


def on_images(network: Callable[[Tensor], Tensor], x: Tensor, event_dims: int = 3) -> Tensor:
    """Apply a network that expects exactly one leading axis to ``[..., *event]`` with any number of leading axes."""
    lead = x.shape[: x.dim() - event_dims]
    out = network(x.reshape(math.prod(lead), *x.shape[len(lead) :]))
    return out.reshape(*lead, *out.shape[1:])


def has_convolutions(model: nn.Module) -> bool:
    """Whether the model has a convolutional layer."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    return any(isinstance(m, kinds) for m in model.modules())


def only_linear_maps(model: nn.Module) -> bool:
    """Whether all of torch's own layers in the model are linear (no activation, no convolution).

    >>> only_linear_maps(nn.Sequential(nn.Linear(2, 2))), only_linear_maps(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    (True, False)
    """
    leaves = (m for m in model.modules() if not list(m.children()))
    layers = [m for m in leaves if type(m).__module__.startswith("torch.nn.modules") or isinstance(m, nn.Linear)]
    return bool(layers) and all(isinstance(m, nn.Linear | nn.Flatten | nn.Unflatten | nn.Identity) for m in layers)
