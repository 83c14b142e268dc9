"""Normal distributions whose covariance is a diagonal plus a few directions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from latens.distributions.located import Located
from latens.tensors.numerics import LOG_2PI
from latens.tensors.randomness import standard_normal


class LowRankNormal(Located):
    r"""N(loc, diag h + U Uᵀ) over the last axis, where U has few columns.

    .. math:: z = \mu + \sqrt{h} \odot \varepsilon + U \varepsilon', \qquad
        \det \Sigma = \det C \prod_i h_i, \quad C = I + U^\top D^{-1} U, \quad D = \operatorname{diag} h

    .. math:: \Sigma^{-1} = D^{-1} - D^{-1} U C^{-1} U^\top D^{-1} \quad \text{(Woodbury)}

    Args:
        loc: :math:`\mu`, ``[..., Z]``.
        diagonal: h > 0, ``[..., Z]``.
        factor: U, ``[..., Z, R]``.
    """

    arg_constraints = Located.arg_constraints | {
        "diagonal": constraints.independent(constraints.positive, 1),
        "factor": constraints.independent(constraints.real, 2),
    }

    def __init__(self, loc: Tensor, diagonal: Tensor, factor: Tensor):
        loc, self.diagonal = torch.broadcast_tensors(loc, diagonal)
        self.factor = factor.expand(*loc.shape, factor.shape[-1])
        super().__init__(loc)

    @property
    def variance(self) -> Tensor:
        r""":math:`h_i + \sum_r U_{ir}^2`, ``[..., Z]``."""
        return self.diagonal + self.factor.square().sum(-1)

    @property
    def _scaled(self) -> Tensor:
        """A = D^(-1/2) U, ``[..., Z, R]``."""
        return self.factor / self.diagonal.sqrt().unsqueeze(-1)

    @property
    def _inner(self) -> Tensor:
        """The lower Cholesky factor of C, ``[..., R, R]``."""
        scaled = self._scaled
        return torch.linalg.cholesky(torch.eye(scaled.shape[-1]).to(scaled) + scaled.mT @ scaled)

    @property
    def half_log_det(self) -> Tensor:
        """Half the log-determinant of the covariance, ``[...]``."""
        return 0.5 * self.diagonal.log().sum(-1) + self._inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., Z]``."""
        along = standard_normal(sample_shape, self.factor[..., 0, :])
        noise = self.diagonal.sqrt() * standard_normal(sample_shape, self.loc)
        return self.loc + noise + (self.factor @ along.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z), in nats, ``[...]``."""
        # r^T (I + A A^T)^-1 r = min_w |r - A w|^2 + |w|^2, so a rounding error in w has only a squared effect
        white = ((value - self.loc) / self.diagonal.sqrt()).unsqueeze(-1)  # ... x Z x 1
        along = torch.cholesky_solve(self._scaled.mT @ white, self._inner)  # ... x R x 1
        distance = (white - self._scaled @ along).square().sum((-2, -1)) + along.square().sum((-2, -1))
        return -0.5 * (distance + self.loc.shape[-1] * LOG_2PI) - self.half_log_det

    def entropy(self) -> Tensor:
        r""":math:`\tfrac12 [Z \ln(2 \pi e) + \ln \det \Sigma]`, in nats, ``[...]``."""
        return 0.5 * self.loc.shape[-1] * (LOG_2PI + 1) + self.half_log_det
