"""Linear maps whose large products are computed by oneDNN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from latens.machine.processor import onednn_is_faster

LARGE = 2**22  # with this many multiplications, a call through Python hardly adds to the time of a product


# Registered by hand: the decorator of torch.library imports a compiler at its first call, which takes half a second.
_LIBRARY = torch.library.Library("latens", "DEF")
_LIBRARY.define("product(Tensor x, Tensor w) -> Tensor")


def product(x: Tensor, w: Tensor) -> Tensor:
    """x wᵀ for ``[N, I]`` and ``[O, I]``, or ``[S, N, I]`` and ``[S, O, I]``, in float32 on a CPU.

    It equals ``x @ w.mT`` up to rounding.
    """
    return torch.ops.latens.product(x, w)


def _product(x: Tensor, w: Tensor) -> Tensor:
    if x.ndim == 2:
        return torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")
    return torch.stack([_product(*pair) for pair in zip(x.unbind(), w.unbind(), strict=True)])


_LIBRARY.impl("product", _product, "CPU")


@torch.library.register_fake("latens::product", lib=_LIBRARY)
def _(x: Tensor, w: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], w.shape[-2])


def _backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, w = context.saved_tensors
    for_x, for_w = context.needs_input_grad
    return (
        product(gradient, w.mT) if for_x else None,
        product(gradient.mT, x.mT) if for_w else None,
    )


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


torch.library.register_autograd("latens::product", _backward, setup_context=_keep, lib=_LIBRARY)


@torch.library.register_vmap("latens::product", lib=_LIBRARY)
def _(info: Any, axes: tuple[int | None, int | None], x: Tensor, w: Tensor) -> tuple[Tensor, int]:
    x, w = (t if axis is None else t.movedim(axis, 0) for t, axis in zip((x, w), axes, strict=True))
    if axes[1] is None and w.ndim == 2:
        return product(x.flatten(0, 1), w).unflatten(0, x.shape[:2]), 0
    x, w = (t.expand(info.batch_size, *t.shape) if axis is None else t for t, axis in zip((x, w), axes, strict=True))
    return product(x.flatten(0, -3), w.flatten(0, -3)).unflatten(0, x.shape[:-2]), 0


class Linear(nn.Linear):
    """``torch.nn.Linear`` whose large float32 products on a CPU are computed by oneDNN if that is faster."""

    def forward(self, input: Tensor) -> Tensor:
        """From ``[..., in_features]`` to ``[..., out_features]``."""
        rows = input.numel() // self.in_features
        if _is_exporting():  # the graph is for other runtimes, and for any number of rows
            return super().forward(input)
        large = rows * self.weight.numel() >= LARGE and input.dtype == self.weight.dtype == torch.float32
        if not (large and input.device.type == "cpu" and _FASTER) or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        out = product(input.reshape(rows, self.in_features), self.weight)
        out = out if self.bias is None else out + self.bias
        return out.view(*input.shape[:-1], self.out_features)


_FASTER = onednn_is_faster()
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # torch 2.6 does not have it
