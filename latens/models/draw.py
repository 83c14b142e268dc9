"""The result of running a model on a batch, which every objective and evaluation reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions import DiagonalNormal, Joint, PointMass, closed_kl, has_closed_kl
from latens.tensors.trees import Tree, flat_codes


@dataclass
class Draw:
    """K draws of z for each of B rows, with their log-densities in nats.

    Args:
        z: tree of ``[K, B, ...]``.
        log_px: ln p(x|z), ``[K, B]``.
        log_pz: ln p(z), ``[K, B]``.
        log_qz: ln q(z|x), ``[K, B]``; None if the posterior has no density.
        px: the likelihood.
        p: the prior.
        q: the posterior.
        c: the condition.
        weight: sample weights ``[B]`` with mean 1 over the data, or None.
        layers: the sizes of the layers' parts of ``codes``, if z is drawn in layers, each layer given the layers before
            it. q and p are then the diagonal normals of all layers at these draws, concatenated, ``[K, B, Z]``.
    """

    z: Tree
    log_px: Tensor
    log_pz: Tensor
    log_qz: Tensor | None
    px: Distribution
    p: Distribution
    q: Distribution
    c: Tree = None
    weight: Tensor | None = None
    layers: tuple[int, ...] = ()
    _kl: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def codes(self) -> Tensor:
        """z flattened to ``[K, B, Z]``, whatever its structure."""
        return flat_codes(self.z)

    @property
    def distortion(self) -> Tensor:
        """-ln p(x|z), in nats, ``[K, B]``."""
        return -self.log_px

    @property
    def log_w(self) -> Tensor:
        r"""Log importance weights, ``[K, B]``.

        .. math:: \ln w = \ln p(x \mid z) + \ln p(z) - \ln q(z \mid x), \qquad \operatorname{E}_q[w] = p(x)

        ``ValueError`` with the reason in ``no_bound`` if there is no bound to report.
        """
        if self.no_bound is not None or self.log_qz is None:
            raise ValueError(
                f"{self.no_bound}, so there is no bound on ln p(x): report the distortion, or use parts with a density"
            )
        return self.log_px + self.log_pz - self.log_qz

    def rate(self, kl: str = "auto") -> Tensor:
        r""":math:`\operatorname{KL}(q(z \mid x) \,\|\, p(z))`, in nats, ``[K, B]``: in closed form, or as ln q - ln p
        of the draws.

        Args:
            kl: "closed" (``ValueError`` if there is no closed form), "sampled" (unbiased), or "auto": closed if the
                table of pairs has a closed form.
        """
        if kl not in ("auto", "closed", "sampled"):
            raise ValueError(f"kl must be 'auto', 'closed' or 'sampled', got {kl!r}")
        if self.log_qz is None:
            raise ValueError(f"{self.no_bound}, so there is no rate KL(q || p): use parts with a density")
        if kl == "closed" or (kl == "auto" and has_closed_kl(self.q, self.p)):
            if self._kl is None or (torch.is_grad_enabled() and not self._kl.requires_grad):
                self._kl = closed_kl(self.q, self.p)
            return self._kl.expand_as(self.log_px)
        return self.log_qz - self.log_pz

    def rates(self, kl: str = "auto") -> Tensor:
        r"""The rate of each layer, in nats, ``[L, K, B]``; they add up to :meth:`rate`.

        .. math:: \operatorname{KL}(q(z_l \mid z_{<l}, x) \,\|\, p(z_l \mid z_{<l}))

        at the drawn :math:`z_{<l}`. For a product of distributions, it is the rate of each part; any other z without
        layers counts as one layer.
        """
        total = self.rate(kl)
        if isinstance(self.q, Joint) and isinstance(self.p, Joint):
            if kl == "sampled" or not has_closed_kl(self.q, self.p):
                return self.q.log_probs(self.codes) - self.p.log_probs(self.codes)
            return torch.stack([closed_kl(q, p).expand_as(total) for q, p in zip(self.q.parts, self.p.parts)])
        if not self.layers:
            return total.unsqueeze(0)
        assert isinstance(self.q, DiagonalNormal) and isinstance(self.p, DiagonalNormal)
        q, p = self.q.each(), self.p.each()
        z = self.codes.unsqueeze(-1)
        each = q.log_prob(z) - p.log_prob(z) if kl == "sampled" else closed_kl(q, p)
        return torch.stack([part.sum(-1) for part in each.split(self.layers, -1)])

    @property
    def no_bound(self) -> str | None:
        """Why these parts give no bound on ln p(x), or None if they give one.

        The posterior may have no density, or the likelihood may be a similarity score (its ``no_density`` says so).
        """
        if self.log_qz is None and self.q is self.p:
            return "the model has no posterior"
        if self.log_qz is None or isinstance(self.q, PointMass):
            return f"the posterior ({type(self.q).__name__}) has no density"
        return getattr(self.px, "no_density", None)

    @property
    def has_density(self) -> bool:
        """Whether there is a bound on ln p(x)."""
        return self.no_bound is None

    def check(self, k: int, batch: int) -> Draw:
        """Check the shapes of the log-densities; returns the draw, or raises ``ValueError``."""
        for name in ("log_px", "log_pz", "log_qz"):
            value = getattr(self, name)
            if value is not None and value.shape != torch.Size((k, batch)):
                raise ValueError(
                    f"{name} has shape {list(value.shape)}, expected [K, B] = [{k}, {batch}]: the event of a "
                    "distribution must be a whole row (wrap elementwise ones in Independent or Observed)"
                )
        return self
