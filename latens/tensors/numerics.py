"""Small numerical functions that the rest is written in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOG_2PI = math.log(2 * math.pi)
_UNIT = math.log(math.expm1(1.0))  # softplus(_UNIT) = 1


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """log of the mean of exp(values) along ``dim``, without overflow.

    >>> log_mean_exp(torch.tensor([1000.0, 1000.0])).item()
    1000.0
    """
    return torch.logsumexp(values, dim) - math.log(values.shape[dim])


def log1mexp(values: Tensor) -> Tensor:
    """log(1 - exp(-values)) for values > 0, accurate at both ends (Mächler 2012)."""
    small = values < math.log(2.0)
    near = torch.log(-torch.expm1(-torch.where(small, values, torch.ones_like(values))))
    far = torch.log1p(-torch.exp(-torch.where(small, torch.ones_like(values), values)))
    return torch.where(small, near, far)


def log1mexp_of_log(logs: Tensor) -> Tensor:
    """log(1 - exp(-exp(logs))), also where exp(logs) underflows, with derivatives of every order that are finite there:
    t = exp(logs) below 1e-4 takes logs - t/2 + t^2/24, which is as accurate."""
    tiny = logs < math.log(1e-4)
    values = logs.exp()
    near = logs - values / 2 + values.square() / 24
    return torch.where(tiny, near, log1mexp(torch.where(tiny, torch.ones_like(logs), values)))


def positive(raw: Tensor, floor: float = 0.0) -> Tensor:
    """A positive number from a raw network output: softplus, shifted so that 0 maps to 1.

    ``floor`` is added, so the result stays above it. The gradient is bounded by 1, unlike that of exp.

    >>> round(positive(torch.tensor(0.0)).item(), 6)
    1.0
    """
    return softplus(raw + _UNIT) + floor


def surely_complete(x: Tensor) -> bool:
    """Whether no value is NaN, where that can be asked: not while a graph is captured or models are batched (``vmap``),
    nor on an accelerator, which would have to be waited for.

    >>> surely_complete(torch.zeros(2)), surely_complete(torch.tensor([0.0, math.nan]))
    (True, False)
    """
    if not x.is_floating_point():
        return True
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    try:
        return not math.isnan(x.detach().sum().item())
    except RuntimeError:
        return False


def broadcast_shape(*shapes: Sequence[int]) -> torch.Size:
    """What the shapes broadcast to. (``torch.broadcast_shapes`` imports a third of a second of torch's compiler.)

    >>> broadcast_shape((3, 1), (5,), ())
    torch.Size([3, 5])
    """
    found = [1] * max(map(len, shapes))
    for shape in shapes:
        for place in range(-len(shape), 0):
            if shape[place] != 1:
                if found[place] not in (1, shape[place]):
                    raise RuntimeError(f"the shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast")
                found[place] = shape[place]
    return torch.Size(found)
