"""Small numerical functions that other packages use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOG_2PI = math.log(2 * math.pi)
_UNIT = math.log(math.expm1(1.0))  # softplus(_UNIT) = 1
_HALF = math.log(2.0)  # exp(-_HALF) = 1/2


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    r""":math:`\ln \frac1K \sum_k e^{v_k}` along ``dim``, without overflow.

    >>> log_mean_exp(torch.tensor([1000.0, 1000.0])).item()
    1000.0
    """
    return torch.logsumexp(values, dim) - math.log(values.shape[dim])


def log1mexp(values: Tensor) -> Tensor:
    r""":math:`\ln(1 - e^{-v})` for v > 0 ``[...]``, accurate at both ends (Mächler 2012)."""
    near = torch.log(-torch.expm1(-values.clamp_max(_HALF)))
    far = torch.log1p(-torch.exp(-values.clamp_min(_HALF)))
    return torch.where(values < _HALF, near, far)


def log1mexp_of_log(logs: Tensor) -> Tensor:
    r""":math:`\ln(1 - e^{-t})` with :math:`t = e^{\mathrm{logs}}` ``[...]``, also if t underflows.

    Derivatives of every order are finite even then: for t below 1e-4 the result is logs - t/2 + t²/24, which is equally
    accurate.
    """
    tiny = logs < math.log(1e-4)
    values = logs.exp()
    near = logs - values / 2 + values.square() / 24
    return torch.where(tiny, near, log1mexp(torch.where(tiny, torch.ones_like(logs), values)))


def positive(raw: Tensor, floor: float = 0.0) -> Tensor:
    r"""Positive numbers ``[...]`` from raw network outputs: softplus, shifted so that 0 maps to 1.

    .. math:: \ln(1 + e^{r + \ln(e - 1)}) + \mathrm{floor}

    The gradient is at most 1, unlike that of exp.

    >>> round(positive(torch.tensor(0.0)).item(), 6)
    1.0
    """
    return softplus(raw + _UNIT) + floor


def raw_of(value: Tensor, floor: float = 0.0) -> Tensor:
    """The raw output for which :func:`positive` gives ``value``. A value at or below the floor counts as slightly above
    it (by 1e-6 of the floor).

    >>> round(raw_of(positive(torch.tensor(-3.0), 1e-4), 1e-4).item(), 4)
    -3.0
    """
    above = (value - floor).clamp_min(max(1e-6 * floor, torch.finfo(value.dtype).tiny))
    return above + torch.log(-torch.expm1(-above)) - _UNIT


def surely_complete(x: Tensor) -> bool:
    """Whether no value is NaN, if that can be checked cheaply; otherwise False. There is no cheap check while a graph
    is captured, while models are batched (``vmap``), or on an accelerator, where the check would wait for the device.

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


def surely_missing(x: Tensor) -> bool:
    """Whether every value is NaN; False while a graph is captured, because that cannot be checked then.

    >>> surely_missing(torch.tensor([0.0, math.nan])), surely_missing(torch.tensor([math.nan]))
    (False, True)
    """
    return not torch.compiler.is_compiling() and bool(x.isnan().all())


def broadcast_shape(*shapes: Sequence[int]) -> torch.Size:
    """The shape to which the shapes broadcast. Raise ``RuntimeError`` if they do not broadcast.

    ``torch.broadcast_shapes`` does the same, but its first call imports torch's compiler, which takes a third of a
    second.

    >>> broadcast_shape((3, 1), (5,), ())
    torch.Size([3, 5])
    """
    found = [1] * max(map(len, shapes))
    for shape in shapes:
        for place in range(-len(shape), 0):
            if shape[place] != 1:
                if found[place] not in (1, shape[place]):
                    raise RuntimeError(f"shapes must broadcast, got {', '.join(str(list(s)) for s in shapes)}")
                found[place] = shape[place]
    return torch.Size(found)
