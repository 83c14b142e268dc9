"""Random changes to data, as functions of (seed, row): the same row gets the same numbers in any batch or worker."""

from __future__ import annotations

import torch
from torch import Tensor

from latens.tensors.randomness import uniform


def dequantize(x: Tensor, rows: Tensor, seed: int) -> Tensor:
    """x + u with u uniform in [0, 1): a density of the result bounds the mass of x.

    For whole numbers x, E_u ln p(x + u) <= ln P(x) (Theis, van den Oord & Bethge 2016). ``[B, ...]`` -> floats
    (float32 for whole-number storage), below x + 1 after rounding too.
    """
    whole = x if x.is_floating_point() else x.float()
    added = whole + uniform(seed, rows, x[0].numel()).view(x.shape).to(x.device)
    return torch.minimum(added, torch.nextafter(whole + 1, whole))


def binarize(x: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Dynamic binarisation of grey values in [0, 1] or of 8-bit ones: 1 with probability x (Salakhutdinov & Murray
    2008).

    The training loader's seed changes with the epoch, the validation loader's does not. ``[B, ...]`` -> uint8.
    """
    level = x.float() / 255 if not x.is_floating_point() else x
    return (uniform(seed, rows, x[0].numel()).view(x.shape).to(x.device) < level).byte()
