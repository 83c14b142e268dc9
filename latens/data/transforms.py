"""Random transforms as functions of (seed, row): a row gets the same noise in any batch and any worker."""

from __future__ import annotations

import torch
from torch import Tensor

from latens.tensors.randomness import uniform


def dequantize(x: Tensor, rows: Tensor, seed: int) -> Tensor:
    r"""x + u with u uniform in [0, 1), so that a density of the result bounds the mass of x.

    For whole numbers x, :math:`\mathbb{E}_u \ln p(x + u) \le \ln P(x)` (Theis, van den Oord & Bethge 2016). The result
    has the shape ``[B, ...]`` of x, in floats (float32 for integers), and is below x + 1 even after rounding.
    """
    whole = x if x.is_floating_point() else x.float()
    added = whole + uniform(seed, rows, x[0].numel()).view(x.shape).to(x.device)
    return torch.minimum(added, torch.nextafter(whole + 1, whole))


def binarize(x: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Dynamic binarisation: 1 with probability x, for grey values in [0, 1] or with 8 bits (Salakhutdinov & Murray
    2008).

    The training loader passes a new seed in each epoch; the validation loader always passes the same seed. The result
    is uint8, in the shape ``[B, ...]`` of x.
    """
    level = x.float() / 255 if not x.is_floating_point() else x
    return (uniform(seed, rows, x[0].numel()).view(x.shape).to(x.device) < level).byte()
