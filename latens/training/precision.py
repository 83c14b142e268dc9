"""Products in bfloat16 while a model is trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from latens.machine.processor import has_onednn
from latens.training.players import WEIGHTED


class ProductsInBfloat16:
    """Within the block, the linear maps and convolutions of the modules multiply in bfloat16. Their outputs have the
    dtype of their inputs, and weights, gradients, losses and all other operations stay as they are.

    A bfloat16 has 8 significant bits, so a factor is rounded by up to 2⁻⁹ of its size.

    >>> sum = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.ones_(sum.weight)
    >>> with ProductsInBfloat16(sum):
    ...     sum(torch.tensor([[1 + 2.0**-9]])).item()
    1.0
    """

    def __init__(self, *modules: nn.Module):
        maps = {each for module in modules for each in module.modules() if isinstance(each, WEIGHTED)}
        self._forwards = [(each, MethodType(_rounded, each)) for each in maps]

    def __enter__(self) -> None:
        for module, forward in self._forwards:
            module.__dict__["forward"] = forward

    def __exit__(self, *error: object) -> None:
        for module, _ in self._forwards:
            del module.__dict__["forward"]


def _rounded(module: nn.Module, input: Tensor, *more: Any) -> Tensor:
    with torch.autocast(input.device.type, torch.bfloat16):
        output: Tensor = type(module).forward(module, input, *more)
    return output.to(input.dtype)


def products_in(precision: str, *modules: nn.Module) -> AbstractContextManager[None]:
    """A block in which products of the modules have this precision, "float32" or "bf16"; it can be entered again."""
    return ProductsInBfloat16(*modules) if precision == "bf16" else nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor or accelerator has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return True
    return has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_if_slow(precision: str, device: torch.device, note: Callable[[str], None]) -> None:
    """Tell ``note`` if the device multiplies in this precision more slowly than in float32."""
    if precision == "bf16" and not has_bfloat16(device):
        note("this processor has no bfloat16 instructions, so bf16 is slower here")
