"""Uniform noise of width 1, which imitates the error of rounding, and densities blurred by such noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions.located import Located
from latens.distributions.truncated import TruncatedNormal
from latens.tensors.randomness import standard_normal


def dither(samples: torch.Size | tuple[int, ...], like: Tensor) -> Tensor:
    """Uniform noise in (-1/2, 1/2), ``[*samples, *like.shape]``. As for all noise, the first axis of ``like`` is the
    axis of rows.
    """
    return torch.special.ndtr(standard_normal(samples, like)) - 0.5


class UnitUniform(Located):
    """Uniform on the box of side 1 around ``loc`` ``[..., Z]``: ln q = 0 inside, -inf outside.

    It imitates the error of rounding to whole numbers. So -ln p(z), under a prior that is constant within the box, is
    the length of a code for round(z) (Ballé et al. 2017).

    >>> UnitUniform(torch.zeros(2)).log_prob(torch.tensor([[0.4, -0.2], [0.6, 0.0]])).tolist()
    [0.0, -inf]
    """

    @property
    def variance(self) -> Tensor:
        """1/12 in each coordinate, ``[..., Z]``."""
        return torch.full_like(self.loc, 1 / 12)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., Z]``."""
        return self.loc + dither(torch.Size(sample_shape), self.loc)

    def rsample_and_log_prob(self, k: int) -> tuple[Tensor, Tensor]:
        """k draws ``[k, ..., Z]`` and their log-density, which is 0 even if rounding puts a draw on the edge."""
        z = self.rsample((k,))
        return z, torch.zeros_like(z[..., 0])

    def log_prob(self, value: Tensor) -> Tensor:
        """0 inside the box and -inf outside, in nats, ``[...]``."""
        inside = ((value - self.loc).abs() <= 0.5).all(-1)
        return torch.where(inside, 0.0, -math.inf).to(value.dtype)


class DitheredMixture(Distribution):
    r"""z = y + u, y from a mixture of C normals and u uniform in (-1/2, 1/2), independently in each coordinate.

    .. math:: \ln p(z) = \sum_i \ln \sum_c w_{ic} \left[\Phi\!\left(\frac{z_i + \frac12 - m_{ic}}{s_{ic}}\right)
        - \Phi\!\left(\frac{z_i - \frac12 - m_{ic}}{s_{ic}}\right)\right]

    At a whole number, the density is the probability that :math:`y_i` rounds to this number. It is positive everywhere
    and smooth, however small s is (Ballé et al. 2018). Draws carry no gradient.

    Args:
        logits: ``[..., Z, C]``, whose softmax over C is w.
        loc: m, ``[..., Z, C]``.
        spread: s², ``[..., Z, C]``, > 0.

    >>> p = DitheredMixture(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    >>> round(p.log_prob(torch.arange(-9.0, 10.0).view(-1, 1)).exp().sum().item(), 5)
    1.0
    """

    arg_constraints: dict = {}
    has_rsample = False
    row_noise = True

    def __init__(self, logits: Tensor, loc: Tensor, spread: Tensor):
        self.logits, self.loc, self.spread = torch.broadcast_tensors(logits, loc, spread)
        super().__init__(self.loc.shape[:-2], self.loc.shape[-2:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        r""":math:`\sum_c w_{ic} m_{ic}`, ``[..., Z]``."""
        return (self.logits.softmax(-1) * self.loc).sum(-1)

    @property
    def variance(self) -> Tensor:
        r""":math:`\sum_c w_{ic} [s_{ic}^2 + (m_{ic} - \mathrm{mean}_i)^2] + 1/12`, ``[..., Z]``."""
        around = self.spread + (self.loc - self.mean.unsqueeze(-1)).square()
        return (self.logits.softmax(-1) * around).sum(-1) + 1 / 12

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, ..., Z]``, without gradients."""
        wide = (*sample_shape, *self.loc.shape)
        return DitheredMixture(*(part.expand(wide) for part in (self.logits, self.loc, self.spread))).sample_rows(0)

    @torch.no_grad()
    def sample_rows(self, leading: int) -> Tensor:
        """One draw of each distribution of the batch. The first ``leading`` batch axes are the axes of draws, and the
        next axis is the axis of rows.
        """
        which = torch.distributions.Categorical(logits=self.logits).sample().unsqueeze(-1)
        loc, spread = (part.gather(-1, which).squeeze(-1) for part in (self.loc, self.spread))
        like = loc[(0,) * leading]
        noise, rounding = standard_normal(loc.shape[:leading], like), dither(loc.shape[:leading], like)
        return loc + spread.sqrt() * noise + rounding

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(z), in nats, ``[...]``."""
        z = value.unsqueeze(-1)
        mass = TruncatedNormal(self.loc, self.spread.sqrt(), z - 0.5, z + 0.5).log_mass
        return (self.logits.log_softmax(-1) + mass).logsumexp(-1).sum(-1)
