"""Operations that runtimes lack, expressed by operations that they have."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SHIFT = 16
LARGEST = 64  # the largest side of a matrix that is solved row by row


def lgamma(z: Tensor) -> Tensor:
    r""":math:`\ln \Gamma(z)` for z > 0 ``[...]``, by Stirling's series at z + 16, in float64.

    .. math:: \ln \Gamma(z) = \ln \Gamma(z + 16) - \sum_{i=0}^{15} \ln(z + i)

    >>> round(lgamma(torch.tensor(0.5, dtype=torch.float64)).item(), 12), round(math.lgamma(0.5), 12)
    (0.572364942925, 0.572364942925)
    """
    wide = z.double()
    steps = [wide + i for i in range(SHIFT)]
    low, high = (functools.reduce(Tensor.mul, half) for half in (steps[:8], steps[8:]))
    far = wide + SHIFT
    square = far.square().reciprocal()
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / far
    return ((far - 0.5) * far.log() - far + 0.5 * math.log(2 * math.pi) + series - low.log() - high.log()).to(z.dtype)


# coefficients of ln(erfc(z) / t) + z^2 in t = 1 / (1 + z / 2) (Press et al., 1992, Numerical recipes, section 6.2)
_TAIL = (0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
         -1.26551223)  # fmt: skip


def log_ndtr(x: Tensor) -> Tensor:
    r""":math:`\ln \Phi(x)` ``[...]`` with a relative error of 1.2e-7, even if :math:`\Phi(x)` is nearly 1. There, the
    float32 error functions of runtimes keep few digits of 1 - :math:`\Phi(x)`.

    >>> round(log_ndtr(torch.tensor(0.0, dtype=torch.float64)).item(), 6), round(-math.log(2), 6)
    (-0.693147, -0.693147)
    """
    z = x.double().abs() * math.sqrt(0.5)
    t = 1 / (1 + 0.5 * z)
    series = functools.reduce(lambda total, c: total * t + c, _TAIL[1:], torch.full_like(t, _TAIL[0]))
    tail = (0.5 * t).log() - z * z + series
    return torch.where(x < 0, tail, torch.log1p(-tail.exp())).to(x.dtype)


def expm1(x: Tensor) -> Tensor:
    r""":math:`e^x - 1` ``[...]``, to full precision even for small x, where runtimes lose digits as they subtract 1.

    .. math:: e^x - 1 = \frac{2 t}{1 - t}, \quad t = \tanh(x / 2)

    >>> expm1(torch.tensor(1e-8)).item() == torch.expm1(torch.tensor(1e-8)).item()
    True
    """
    t = (x / 2).tanh()
    return torch.where(x.abs() < 1, 2 * t / (1 - t), x.exp() - 1)


def log1p(x: Tensor) -> Tensor:
    r""":math:`\ln(1 + x)` ``[...]``, to full precision even for small x, where runtimes lose digits as they add 1.

    The factor x / (u - 1) corrects the rounding of u = 1 + x (Kahan).

    >>> log1p(torch.tensor(1e-8)).item() == torch.log1p(torch.tensor(1e-8)).item()
    True
    """
    u = 1 + x
    near = torch.where(u == 1, x, u.log() * (x / (u - 1)))
    return torch.where(x.abs() < 0.5, near, u.log())


def ndtr(x: Tensor) -> Tensor:
    r""":math:`\Phi(x)` ``[...]``, with a relative error of 1.2e-7."""
    return log_ndtr(x).exp()


def digamma(z: Tensor) -> Tensor:
    r""":math:`\psi(z)`, the derivative of :math:`\ln \Gamma`, for z > 0 ``[...]``, by a series at z + 16 in float64.

    >>> round(digamma(torch.tensor(1.0, dtype=torch.float64)).item(), 12)
    -0.577215664902
    """
    wide = z.double()
    far = wide + SHIFT
    square = far.square().reciprocal()
    series = 0.5 / far + square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return (far.log() - series - sum((wide + i).reciprocal() for i in range(SHIFT))).to(z.dtype)


def solve_triangular(a: Tensor, b: Tensor, *, upper: bool) -> Tensor:
    """X such that A X = B, with A triangular ``[..., n, n]`` and B ``[..., n, m]``; solved row by row."""
    n = _small(a)
    found: list[Tensor] = []  # rows in the order in which they are solved
    order = range(n - 1, -1, -1) if upper else range(n)
    for i in order:
        left = b[..., i : i + 1, :]
        if found:
            known = torch.cat(found[::-1] if upper else found, -2)
            left = left - (a[..., i : i + 1, i + 1 :] if upper else a[..., i : i + 1, :i]) @ known
        found.append(left / a[..., i : i + 1, i : i + 1])
    return torch.cat(found[::-1] if upper else found, -2)


def cholesky(a: Tensor) -> Tensor:
    """The lower triangular L such that L Lᵀ = A ``[..., n, n]``, computed column by column."""
    columns: list[Tensor] = []
    for j in range(_small(a)):
        left = a[..., j:, j : j + 1]
        if columns:
            known = torch.cat(columns, -1)
            left = left - known[..., j:, :] @ known[..., j : j + 1, :].mT
        column = left / left[..., :1, :].sqrt()
        columns.append(torch.cat([torch.zeros_like(a[..., :j, j : j + 1]), column], -2))
    return torch.cat(columns, -1)


def cholesky_solve(b: Tensor, tril: Tensor) -> Tensor:
    """X such that L Lᵀ X = B ``[..., n, m]``, with L lower triangular."""
    return solve_triangular(tril.mT, solve_triangular(tril, b, upper=False), upper=True)


def _small(a: Tensor) -> int:
    n = a.shape[-1]
    if n > LARGEST:
        raise NotImplementedError(f"a triangular system of {n} unknowns is too large for a graph")
    return n


def atan(x: Tensor) -> Tensor:
    r""":math:`\arctan x` ``[...]``: the float32 result y plus a correction.

    .. math:: \arctan x = y + \arctan \frac{x \cos y - \sin y}{\cos y + x \sin y}

    >>> abs(atan(torch.tensor(3.0, dtype=torch.float64)).item() - math.atan(3)) < 1e-15
    True
    """
    x = x.clamp(-1e30, 1e30)
    y = x.float().atan().to(x.dtype)
    return y + (x * y.cos() - y.sin()) / (y.cos() + x * y.sin())


def atan2(y: Tensor, x: Tensor) -> Tensor:
    r"""The angle of the point (x, y) ``[...]``: for x >= 0, :math:`2 \arctan (y / (\sqrt{x^2 + y^2} + x))`."""
    length = (x.square() + y.square()).sqrt()
    right = 2 * atan(y / (length + x.abs()).clamp_min(torch.finfo(x.dtype).tiny))
    half = torch.where(y < 0, -1.0, 1.0).to(x.dtype) * math.pi
    return torch.where(x < 0, half - right, right)


def atanh(x: Tensor) -> Tensor:
    r""":math:`\operatorname{artanh} x` ``[...]``."""
    return 0.5 * (log1p(x) - log1p(-x))


def asinh(x: Tensor) -> Tensor:
    r""":math:`\operatorname{arsinh} x` ``[...]``."""
    size = x.abs()
    return x.sign() * log1p(size + size.square() / (1 + (1 + size.square()).sqrt()))


def searchsorted(edges: Tensor, values: Tensor, *, right: bool = False, **_: Any) -> Tensor:
    """For each value ``[..., N]``, the number of increasing edges ``[..., M]`` below it (with ``right``, at or below
    it)."""
    left, at = edges.unsqueeze(-2), values.unsqueeze(-1)
    return (left <= at if right else left < at).sum(-1)


def neighbour(x: Tensor, towards: Tensor) -> Tensor:
    """A number close to x on the side of ``towards``, at most two steps of the floating-point type away."""
    step = x.abs().clamp_min(torch.finfo(x.dtype).tiny) * torch.finfo(x.dtype).eps
    return torch.where(towards < x, x - step, x + step)


REPLACED: dict[Any, Callable[..., Any]] = {
    torch.lgamma: lgamma, Tensor.lgamma: lgamma, torch.special.gammaln: lgamma, torch.searchsorted: searchsorted,
    torch.nextafter: neighbour, torch.special.log_ndtr: log_ndtr,
    torch.expm1: expm1, Tensor.expm1: expm1, torch.log1p: log1p, Tensor.log1p: log1p,
    torch.digamma: digamma, torch.linalg.solve_triangular: solve_triangular, torch.linalg.cholesky: cholesky,
    torch.cholesky_solve: cholesky_solve,
}  # fmt: skip


# runtimes have these only in float32
WIDE: dict[Any, Callable[..., Any]] = {
    torch.special.ndtr: ndtr, torch.atan: atan, Tensor.atan: atan, torch.atan2: atan2, Tensor.atan2: atan2,
    torch.atanh: atanh, Tensor.atanh: atanh, torch.asinh: asinh, Tensor.asinh: asinh,
}  # fmt: skip


class Replaced(TorchFunctionMode):
    """In this context, functions in ``REPLACED`` are replaced by the functions of this file. Functions in ``WIDE`` are
    also replaced, and compute in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of a call."""
        if func in WIDE and args[0].dtype == torch.float64:
            func = WIDE[func]
        return REPLACED.get(func, func)(*args, **kwargs or {})
