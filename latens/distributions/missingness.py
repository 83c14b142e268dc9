"""Cells that are missing because of their value: a likelihood of the observed cells and of which are missing."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from latens.distributions.columns import Columns
from latens.distributions.continuous import LogNormal
from latens.distributions.event import InUnits, Observed
from latens.distributions.normal import Normal
from latens.numerics import broadcast_shape
from latens.randomness import standard_normal


class SelfMasked(Observed):
    """p(x_o, s | z) for columns whose cells are missing by their own value (not-MIWAE, Ipsen, Mattei & Frellsen 2021).

    ln p(x_o|z) + sum_j ln p(s_j | x_j), with logit p(s_j = missing | x_j) = bias_j + slope_j u_j(x_j), where a missing
    x_j is one draw from p(x_j|z), reparameterised; averaged over draws of z and of x_m it bounds ln p(x_o, s). u_j is
    x_j (or ln x_j) in the column's own centre and spread for normal and log-normal columns; of others the slope is not
    used, so that their cells are missing at a rate that their value does not change. ``cells`` are the terms of x_o
    alone.
    """

    def __init__(self, base: Columns, slope: Tensor, bias: Tensor):
        super().__init__(base, 1)
        self.slope, self.bias = slope, bias
        self._noise: Tensor | None = None

    @cached_property
    def _located(self) -> list[tuple[Tensor, Tensor, Tensor, bool, Tensor, Tensor]]:
        """(index, mean, deviation, logarithmic, shift, unit) of the parts whose values the mechanism sees."""
        found = []
        for index, part in self.base.parts:  # type: ignore[attr-defined]
            if isinstance(part, InUnits) and isinstance(part.base, Normal):
                mean, deviation = part.base.mean, part.base.variance.sqrt()
                found.append((index, mean, deviation.expand_as(mean), False, part.shift, part.unit))
            elif isinstance(part, LogNormal):
                mean, deviation = part.base.mean, part.base.variance.sqrt()
                found.append((index, mean, deviation.expand_as(mean), True, part.shift, part.unit))
        return found

    def _inside(self, value: Tensor) -> Tensor:
        """u(x) ``[K, B, D]`` of cells, observed or drawn; 0 where the mechanism does not see the value."""
        lead = broadcast_shape(value.shape[:-1], self.batch_shape)
        inside = torch.zeros(*lead, value.shape[-1], dtype=self.slope.dtype, device=self.slope.device)
        for index, mean, deviation, logarithmic, shift, unit in self._located:
            x = value[..., index]
            missing = x.isnan()
            known = torch.where(missing, 1.0, x)
            known = known.clamp_min(1e-300).log() if logarithmic else known
            u = ((known - shift) / unit).to(mean.dtype)
            drawn = mean + deviation * self._noise_of(mean, index)
            inside = inside.index_copy(-1, index, torch.where(missing, drawn, u).expand(*lead, len(index)).contiguous())
        return inside

    def _noise_of(self, like: Tensor, index: Tensor) -> Tensor:
        if self._noise is None:
            size = self.base.size  # type: ignore[attr-defined]
            template = like.new_zeros(like.shape[-2], size) if like.dim() > 1 else like.new_zeros(1, size)
            self._noise = standard_normal(like.shape[:-2], template)
        return self._noise[..., index]

    def log_prob(self, value: Tensor) -> Tensor:
        logits = self.bias + self.slope * self._inside(value)
        sign = torch.where(value.isnan(), 1.0, -1.0).to(logits.dtype)
        return super().log_prob(value) + logsigmoid(sign * logits).sum(-1)

    def completed(self, value: Tensor) -> Tensor:
        """The cells, missing ones that the mechanism sees as they were drawn (else NaN), ``[K, B, D]``."""
        inside = self._inside(value)
        out = value.expand(inside.shape).clone()
        for index, _, _, logarithmic, shift, unit in self._located:
            u = inside[..., index].to(shift.dtype)
            x = shift + unit * u
            x = (x.exp() if logarithmic else x).to(out.dtype)
            out[..., index] = torch.where(value[..., index].isnan(), x, value[..., index])
        return out
