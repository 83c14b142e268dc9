"""Cells that are missing because of their value: a joint likelihood of observed cells and of which cells are
missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from latens.distributions.columns import Columns
from latens.distributions.continuous import LogNormal
from latens.distributions.event import InUnits, Observed
from latens.distributions.heaped import Heaped
from latens.distributions.normal import Normal
from latens.distributions.seasonal import Seasonal
from latens.tensors.numerics import broadcast_shape
from latens.tensors.randomness import standard_normal


@dataclass(frozen=True)
class _InUnits:
    """u = (x - shift) / unit, or the same for ln x."""

    base: Normal
    shift: Tensor
    unit: Tensor
    logarithmic: bool

    def inside(self, x: Tensor) -> Tensor:
        return ((x.clamp_min(1e-300).log() if self.logarithmic else x) - self.shift) / self.unit

    def outside(self, u: Tensor) -> Tensor:
        x = self.shift + self.unit * u.to(self.shift.dtype)
        return x.exp() if self.logarithmic else x

    def draw(self, noise: Tensor) -> Tensor:
        return self.base.mean + self.base.variance.sqrt() * noise


@dataclass(frozen=True)
class _OfMargins:
    """u = T(x)."""

    part: Heaped

    def inside(self, x: Tensor) -> Tensor:
        return self.part.margins.score(x)[0]

    def outside(self, u: Tensor) -> Tensor:
        x = self.part.margins.value(u)
        return self.part.divided(x) if isinstance(self.part, Seasonal) else x

    def draw(self, noise: Tensor) -> Tensor:
        loc, scale = self.part.only
        return loc + scale * (log_ndtr(noise) - log_ndtr(-noise))


_Seen = _InUnits | _OfMargins


class SelfMasked(Observed):
    r"""Cells that are missing because of their own value (not-MIWAE; Ipsen, Mattei & Frellsen 2021).

    .. math:: \ln p(x_o, s \mid z) = \ln p(x_o \mid z) + \sum_j \ln p(s_j \mid x_j), \qquad
        \operatorname{logit} p(s_j = \text{missing} \mid x_j) = b_j + a_j\, u_j(x_j)

    A missing :math:`x_j` is one reparameterised draw from :math:`p(x_j \mid z)`. Averaged over draws of z and of the
    missing cells, this is a bound on :math:`\ln p(x_o, s)`.

    For normal and log-normal columns, :math:`u_j` is :math:`x_j` (or its logarithm), centred and scaled by the column's
    mean and spread. For columns with a law and no atoms, it is the score T(x_j). For other columns the slope is not
    used, so cells are missing at a rate that does not depend on their value. ``cells`` are only the terms of
    :math:`x_o`.

    Args:
        base: the columns, ``[K, B, D]``.
        slope: a, ``[D]``.
        bias: b, ``[D]``.
    """

    def __init__(self, base: Columns, slope: Tensor, bias: Tensor):
        super().__init__(base, 1)
        self.slope, self.bias = slope, bias
        self._noise: Tensor | None = None

    @cached_property
    def _located(self) -> list[tuple[Tensor, Tensor, _Seen]]:
        """(index, mean of u, map to u) of the parts whose values the mechanism can see."""
        found: list[tuple[Tensor, Tensor, _Seen]] = []
        for index, part in self.base.parts:  # type: ignore[attr-defined]
            if isinstance(part, InUnits) and isinstance(part.base, Normal):
                found.append((index, part.base.mean, _InUnits(part.base, part.shift, part.unit, False)))
            elif isinstance(part, LogNormal):
                found.append((index, part.base.mean, _InUnits(part.base, part.shift, part.unit, True)))
            elif isinstance(part, Heaped) and not part.margins.atoms.shape[-1]:
                found.append((index, part.only[0], _OfMargins(part)))
        return found

    def _inside(self, value: Tensor) -> Tensor:
        """u(x) of cells, observed or drawn, ``[K, B, D]``; 0 if the mechanism cannot see the value."""
        lead = broadcast_shape(value.shape[:-1], self.batch_shape)
        inside = torch.zeros(*lead, value.shape[-1], dtype=self.slope.dtype, device=self.slope.device)
        for index, mean, seen in self._located:
            x = value[..., index]
            missing = x.isnan()
            u = seen.inside(torch.where(missing, 1.0, x)).to(mean.dtype)
            drawn = seen.draw(self._noise_of(mean, index))
            inside = inside.index_copy(-1, index, torch.where(missing, drawn, u).expand(*lead, len(index)).contiguous())
        return inside

    def _noise_of(self, like: Tensor, index: Tensor) -> Tensor:
        if self._noise is None:
            size = self.base.size  # type: ignore[attr-defined]
            template = like.new_zeros(like.shape[-2], size) if like.dim() > 1 else like.new_zeros(1, size)
            self._noise = standard_normal(like.shape[:-2], template)
        return self._noise[..., index]

    def log_prob(self, value: Tensor) -> Tensor:
        r""":math:`\ln p(x_o, s \mid z)`, in nats, ``[K, B]``."""
        logits = self.bias + self.slope * self._inside(value)
        sign = torch.where(value.isnan(), 1.0, -1.0).to(logits.dtype)
        return super().log_prob(value) + logsigmoid(sign * logits).sum(-1)

    def completed(self, value: Tensor) -> Tensor:
        """The cells ``[K, B, D]``, with drawn values for those missing cells whose values the mechanism can see; other
        missing cells stay NaN.
        """
        inside = self._inside(value)
        out = value.expand(inside.shape).clone()
        for index, _, seen in self._located:
            x = seen.outside(inside[..., index]).to(out.dtype)
            out[..., index] = torch.where(value[..., index].isnan(), x, value[..., index])
        return out
