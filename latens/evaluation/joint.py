"""ln p(x, z) as a function of codes in R^d, for estimators that choose or move codes themselves."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal, FullNormal, LowRankNormal, canonical
from latens.errors import InputError
from latens.models.vae import VAE
from latens.tensors import trees
from latens.tensors.trees import Tree


class LogJoint:
    r"""The joint density of B rows and their codes:

    .. math:: \ln p(x, z) = \ln p(x \mid z) + \ln p(z)

    Args:
        model: a model with one layer of codes in R^d.
        x: rows in the model's form, ``[B, *event]``.
        c: their conditions.

    Attributes:
        p: the prior of these rows.
        rows, dim: B, and the number of latent dimensions Z.

    Raises:
        InputError: the codes are not one vector of real numbers.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> LogJoint(model, torch.zeros(7, 5))(torch.zeros(3, 7, 2)).shape
    torch.Size([3, 7])
    """

    def __init__(self, model: nn.Module, x: Tree, c: Tree = None):
        require_real_codes(model)
        self.model, self.x, self.c, self.rows = model, x, c, trees.rows(x)
        self.p: Distribution = model._run("prior", c=c)  # type: ignore[operator]
        self.dim = self.p.event_shape[0]

    @cached_property
    def q(self) -> Distribution:
        """The encoder's posterior of these rows."""
        return canonical(self.model.encode(self.x, self.c))  # type: ignore[operator]

    def log_px(self, z: Tensor) -> Tensor:
        """ln p(x|z) of codes ``[K, B, Z]``, nats, ``[K, B]``."""
        return self.model.decode(z, self.c).log_prob(self.x)  # type: ignore[operator]

    def __call__(self, z: Tensor) -> Tensor:
        """ln p(x, z) of codes ``[K, B, Z]``, nats, ``[K, B]``."""
        return self.log_px(z) + self.p.log_prob(z)

    @property
    def has_normal_posterior(self) -> bool:
        """Whether q(z|x) is a normal, whose density is known at any code."""
        return isinstance(self.q, DiagonalNormal | FullNormal | LowRankNormal)

    def spread(self) -> Tensor:
        """Standard deviations ``[B, Z]``: of the posterior if it is a normal, otherwise of the prior, or 1 if the prior
        has no variance."""
        like = torch.ones(self.rows, self.dim)
        for distribution in (self.q, self.p) if self.has_normal_posterior else (self.p,):
            try:
                return distribution.variance.detach().sqrt() * like.to(distribution.variance)
            except (AttributeError, NotImplementedError):
                continue
        return like


def require_real_codes(model: nn.Module) -> None:
    """Raise ``InputError`` unless z is one vector of real numbers with p(z), q(z|x) and p(x|z)."""
    reason = _why_not(model)
    if reason is not None:
        raise InputError(
            f"this estimate cannot choose codes for {type(model).__name__}: {reason}",
            "estimate the NLL with iw instead",
        )


def _why_not(model: nn.Module) -> str | None:
    if not isinstance(model, VAE) or type(model).draw is not VAE.draw:
        return "it draws its codes in its own way, not from p(z) and q(z|x) alone"
    prior: Any = model.prior
    if hasattr(prior, "project"):
        return f"its codes lie in the space of {type(prior).__name__}, not in R^d"
    return None
