"""Normalising flows: invertible maps with their log-determinants, and the densities that they make of simple ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.tensors.numerics import positive

Mapped = tuple[Tensor, Tensor]  # (image [..., Z], ln |det dT/du| at u [...])


class Transform:
    r"""An invertible map T of vectors ``[..., Z]``.

    Both directions give the log-determinant :math:`\ln |\det \partial T / \partial u|` at u, ``[...]``, in nats.
    """

    def forward(self, u: Tensor) -> Mapped:
        """(z = T(u) ``[..., Z]``, log-determinant at u ``[...]``)."""
        raise NotImplementedError

    def inverse(self, z: Tensor) -> Mapped:
        """(u with T(u) = z ``[..., Z]``, log-determinant at u ``[...]``)."""
        raise NotImplementedError


class Affine(Transform):
    r"""T(u) = loc + scale u, elementwise, scale > 0; the log-determinant is :math:`\sum_i \ln \mathrm{scale}_i`."""

    def __init__(self, loc: Tensor, scale: Tensor):
        self.loc, self.scale = loc, scale

    def forward(self, u: Tensor) -> Mapped:
        """(loc + scale u, log-determinant ``[...]``)."""
        return self.loc + self.scale * u, self.scale.log().sum(-1).expand(u.shape[:-1])

    def inverse(self, z: Tensor) -> Mapped:
        """((z - loc) / scale, log-determinant ``[...]``)."""
        return (z - self.loc) / self.scale, self.scale.log().sum(-1).expand(z.shape[:-1])


class Planar(Transform):
    r"""A bend along one direction (Rezende & Mohamed 2015).

    .. math:: T(u) = u + v \tanh(w^\top u + b), \qquad
        \ln |\det| = \ln\left(1 + w^\top v\, (1 - \tanh^2(w^\top u + b))\right)

    T is invertible for :math:`w^\top v > -1`. To ensure this, the raw v is replaced by :math:`v + (m(w^\top v) - w^\top
    v)\, w / \lVert w \rVert^2` with :math:`m(s) = \operatorname{softplus}(s + \ln(e - 1)) - 1`, so that v = 0 gives the
    identity. The inverse solves one increasing equation in :math:`w^\top u` by bisection.

    Args:
        v: ``[..., Z]``.
        w: ``[..., Z]``.
        b: ``[...]``.
    """

    def __init__(self, v: Tensor, w: Tensor, b: Tensor):
        inner, square = (w * v).sum(-1, keepdim=True), w.square().sum(-1, keepdim=True)
        self.slope = positive(inner) - 1  # w'v > -1
        self.v = v + (self.slope - inner) * w / square.clamp_min(torch.finfo(w.dtype).tiny)
        self.w, self.b, self.square = w, b.unsqueeze(-1), square

    def forward(self, u: Tensor) -> Mapped:
        """(T(u) ``[..., Z]``, log-determinant ``[...]``)."""
        h = torch.tanh((self.w * u).sum(-1, keepdim=True) + self.b)
        return u + self.v * h, torch.log1p(self.slope * (1 - h.square())).squeeze(-1)

    def inverse(self, z: Tensor) -> Mapped:
        """(u ``[..., Z]``, log-determinant at u ``[...]``), by bisection and then one Newton step, which carries the
        gradient.
        """
        along = (self.w * z).sum(-1, keepdim=True)
        with torch.no_grad():  # s + (w'v) tanh(s + b) = w'z lies within |w'v| of w'z
            low, high = along - self.slope.abs(), along + self.slope.abs()
            for _ in range(60):
                middle = 0.5 * (low + high)
                above = middle + self.slope * torch.tanh(middle + self.b) > along
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        s = 0.5 * (low + high)
        slope = (1 + self.slope * (1 - torch.tanh(s + self.b).square())).detach()
        s = s - (s + self.slope * torch.tanh(s + self.b) - along) / slope  # the Newton step, which carries the gradient
        u = z - self.v * torch.tanh(s + self.b)
        return u, self.forward(u)[1]


class Radial(Transform):
    r"""A push towards or away from a point (Rezende & Mohamed 2015).

    With :math:`r = \lVert u - c \rVert`,

    .. math:: T(u) = u + \frac{\beta\, (u - c)}{\alpha + r}, \qquad \ln |\det| =
        (Z - 1) \ln\left(1 + \frac{\beta}{\alpha + r}\right) + \ln\left(1 + \frac{\alpha \beta}{(\alpha + r)^2}\right).

    T is invertible for :math:`\alpha > 0` and :math:`\beta > -\alpha`.

    Args:
        center: c, ``[..., Z]``.
        alpha: ``[...]``.
        beta: ``[...]``.
    """

    def __init__(self, center: Tensor, alpha: Tensor, beta: Tensor):
        self.center, self.alpha, self.beta = center, alpha.unsqueeze(-1), beta.unsqueeze(-1)

    def _length(self, difference: Tensor) -> Tensor:
        return (difference.square().sum(-1, keepdim=True) + torch.finfo(difference.dtype).tiny).sqrt()

    def _log_det(self, r: Tensor, size: int) -> Tensor:
        pull = self.beta / (self.alpha + r)
        return ((size - 1) * torch.log1p(pull) + torch.log1p(pull * self.alpha / (self.alpha + r))).squeeze(-1)

    def forward(self, u: Tensor) -> Mapped:
        """(T(u) ``[..., Z]``, log-determinant ``[...]``)."""
        difference = u - self.center
        r = self._length(difference)
        return u + self.beta / (self.alpha + r) * difference, self._log_det(r, u.shape[-1])

    def inverse(self, z: Tensor) -> Mapped:
        """(u ``[..., Z]``, log-determinant at u ``[...]``), in closed form."""
        difference = z - self.center
        far = self._length(difference)  # far = r (1 + beta / (alpha + r))
        half = 0.5 * (far - self.alpha - self.beta)
        root = (half.square() + self.alpha * far).sqrt()
        r = torch.where(half > 0, half + root, self.alpha * far / (root + half.abs()))  # in a form without cancellation
        return self.center + difference * r / far, self._log_det(r, z.shape[-1])


class Foreign(Transform):
    """A transform of torch or zuko on vectors, as a :class:`Transform`."""

    def __init__(self, transform: Any):
        self.transform = transform

    def forward(self, u: Tensor) -> Mapped:
        """(T(u) ``[..., Z]``, log-determinant ``[...]``)."""
        return self.transform.call_and_ladj(u)

    def inverse(self, z: Tensor) -> Mapped:
        """(u ``[..., Z]``, log-determinant at u ``[...]``)."""
        u = self.transform.inv(z)
        return u, self.transform.call_and_ladj(u)[1]


class Inverse(Transform):
    """The inverse of a transform, for densities of data in which T, from data to noise, is the fast direction."""

    def __init__(self, transform: Transform):
        self.transform = transform

    def forward(self, u: Tensor) -> Mapped:
        """(:math:`T^{-1}(u)` ``[..., Z]``, its log-determinant ``[...]``)."""
        z, log_det = self.transform.inverse(u)
        return z, -log_det

    def inverse(self, z: Tensor) -> Mapped:
        """(T(z) ``[..., Z]``, the log-determinant of :math:`T^{-1}` there ``[...]``)."""
        u, log_det = self.transform.forward(z)
        return u, -log_det


class Composed(Transform):
    r""":math:`T_L \circ \dots \circ T_1`: the first in the list acts first, and log-determinants add up."""

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)

    def forward(self, u: Tensor) -> Mapped:
        """(image ``[..., Z]``, sum of the log-determinants ``[...]``)."""
        total = torch.zeros_like(u[..., 0])
        for transform in self.transforms:
            u, log_det = transform.forward(u)
            total = total + log_det
        return u, total

    def inverse(self, z: Tensor) -> Mapped:
        """(u ``[..., Z]``, sum of the log-determinants ``[...]``)."""
        total = torch.zeros_like(z[..., 0])
        for transform in reversed(self.transforms):
            z, log_det = transform.inverse(z)
            total = total + log_det
        return z, total


class Pushforward(Distribution):
    r"""The density of z = T(u) with u ~ base (Rezende & Mohamed 2015).

    .. math:: \ln q(z) = \ln p_{\text{base}}(u) - \ln \left|\det \frac{\partial T}{\partial u}\right|,
        \qquad u = T^{-1}(z)

    The mean is not known; ``center``, the image of the base's mean, stands for the distribution. The density of the
    last draw is cached, so that evaluating it does not invert T; other values need the inverse.

    >>> from latens.distributions import DiagonalNormal
    >>> base = DiagonalNormal(torch.zeros(2), torch.ones(2))
    >>> q = Pushforward(base, Affine(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])))
    >>> q.center.tolist()
    [1.0, 2.0]
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Distribution, transform: Transform):
        self.base, self.transform = base, transform
        self.row_noise = bool(getattr(base, "row_noise", False))
        self._last: tuple[Tensor, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def center(self) -> Tensor:
        """The image of the base's mean, ``[..., Z]``."""
        return self.transform.forward(self.base.mean)[0]

    def rsample_and_log_prob(self, k: int) -> tuple[Tensor, Tensor]:
        """k draws ``[k, ..., Z]`` and their log-density ``[k, ...]`` in nats, without the inverse."""
        u = self.base.rsample(torch.Size((k,)))
        z, log_det = self.transform.forward(u)
        return z, self.base.log_prob(u) - log_det

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Reparameterised draws, ``[*sample_shape, ..., Z]``."""
        u = self.base.rsample(torch.Size(sample_shape))
        z, log_det = self.transform.forward(u)
        self._last = z, self.base.log_prob(u) - log_det
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(z), in nats, ``[...]``."""
        if self._last is not None and value is self._last[0]:
            return self._last[1]
        u, log_det = self.transform.inverse(value)
        return self.base.log_prob(u) - log_det
