"""Noise as an input: the draws of a model become a function of given numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Shape = list[Any]

_NORMAL = {torch.randn, torch.randn_like, Tensor.normal_}
_UNIFORM = {torch.rand, torch.rand_like}
_OTHERS = {
    torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.randint, torch._sample_dirichlet,
    torch._standard_gamma, Tensor.bernoulli_, Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_,
    Tensor.log_normal_, Tensor.multinomial, Tensor.random_, Tensor.uniform_,
}  # fmt: skip


class Drawing(TorchFunctionMode):
    """In this context, ``torch.randn``, ``torch.rand`` and related functions use ``give(shape)`` as normal numbers. The
    normal distribution function turns these into uniform numbers. Raise ``NotImplementedError`` if the model draws in
    another way, which no fixed number of normal numbers can replace.
    """

    def __init__(self, give: Callable[[Shape], Tensor]):
        super().__init__()
        self.give = give

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of a call; if the call draws, its noise comes from ``give``."""
        kwargs = kwargs or {}
        if func is torch.autograd.grad:
            raise NotImplementedError("the model takes gradients whenever it encodes, which a graph cannot do")
        if func in _OTHERS:
            raise NotImplementedError(f"the model draws with torch.{func.__name__}")
        if func not in _NORMAL | _UNIFORM or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        like = args[0] if isinstance(args[0], Tensor) else None
        shape = list(like.shape) if like is not None else _shape(args or (kwargs["size"],))
        dtype = kwargs.get("dtype") or (torch.get_default_dtype() if like is None else like.dtype)
        noise = self.give(shape).to(dtype)
        return noise if func in _NORMAL else _uniform(noise)


def _shape(args: Sequence[Any]) -> Shape:
    return list(args[0] if isinstance(args[0], Sequence) else args)


def _uniform(noise: Tensor) -> Tensor:
    tiny = torch.finfo(noise.dtype).eps / 2
    return (0.5 + 0.5 * torch.erf(noise * math.sqrt(0.5))).clamp(tiny, 1 - tiny)


class Plan:
    """The noise that a model needs: the shapes that it draws, in order, and in each shape the axis of the rows.

    Args:
        call: a function that runs the model on a number of rows.
        batches: two different numbers of rows; comparing them shows which axis is the axis of the rows.

    Raises:
        NotImplementedError: the model draws noise that cannot be divided among rows.
    """

    def __init__(self, call: Callable[[int], Any], batches: tuple[int, int] = (3, 5)):
        found: list[list[Shape]] = []
        for rows in batches:
            shapes: list[Shape] = []

            def give(shape: Shape, shapes: list[Shape] = shapes) -> Tensor:
                shapes.append(shape)
                return torch.zeros(shape)

            with Drawing(give):
                call(rows)
            found.append(shapes)
        self.draws: list[tuple[Shape, int]] = []
        for few, many in zip(*found, strict=True):
            axes = [i for i, sizes in enumerate(zip(few, many)) if sizes[0] != sizes[1]]
            if len(axes) != 1 or (few[axes[0]], many[axes[0]]) != batches:
                raise NotImplementedError("the model draws noise that cannot be divided among rows")
            self.draws.append(([size for i, size in enumerate(few) if i != axes[0]], axes[0]))

    @property
    def size(self) -> int:
        """How many normal numbers are drawn for each row."""
        return sum(math.prod(rest) for rest, _ in self.draws)

    def drawing(self, noise: Tensor) -> Drawing:
        """A context in which the model's draws are ``noise`` ``[B, size]``."""
        sizes = [math.prod(rest) for rest, _ in self.draws]
        parts = iter([
            part.reshape(-1, *rest).movedim(0, axis) for part, (rest, axis) in zip(noise.split(sizes, -1), self.draws)
        ])  # fmt: skip
        return Drawing(lambda shape: next(parts))
