"""Normalising flows: invertible maps with their log-determinants, and what they make of a simple density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.tensors.numerics import positive

Mapped = tuple[Tensor, Tensor]  # (image [..., Z], ln |det dT/du| at u [...])


class Transform:
    """An invertible map T of vectors ``[..., Z]``: ``forward(u)`` gives (z, ln |det dT/du|), ``inverse(z)`` gives (u,
    the same log-determinant at u); log-determinants ``[...]``, nats.
    """

    def forward(self, u: Tensor) -> Mapped:
        raise NotImplementedError

    def inverse(self, z: Tensor) -> Mapped:
        raise NotImplementedError


class Affine(Transform):
    """T(u) = loc + scale * u, elementwise: ln |det| = sum_i ln scale_i, scale > 0."""

    def __init__(self, loc: Tensor, scale: Tensor):
        self.loc, self.scale = loc, scale

    def forward(self, u: Tensor) -> Mapped:
        return self.loc + self.scale * u, self.scale.log().sum(-1).expand(u.shape[:-1])

    def inverse(self, z: Tensor) -> Mapped:
        return (z - self.loc) / self.scale, self.scale.log().sum(-1).expand(z.shape[:-1])


class Planar(Transform):
    """T(u) = u + v tanh(w'u + b): ln |det| = ln(1 + w'v tanh'(w'u + b)) (Rezende & Mohamed 2015).

    T is invertible for w'v > -1: from the raw v it takes v + (m(w'v) - w'v) w / |w|^2 with m(s) = softplus(s + ln(e -
    1)) - 1, so that v = 0 is the identity. Shapes: v, w ``[..., Z]``, b ``[...]``. The inverse solves one increasing
    equation in w'u by bisection.
    """

    def __init__(self, v: Tensor, w: Tensor, b: Tensor):
        inner, square = (w * v).sum(-1, keepdim=True), w.square().sum(-1, keepdim=True)
        self.slope = positive(inner) - 1  # w'v > -1
        self.v = v + (self.slope - inner) * w / square.clamp_min(torch.finfo(w.dtype).tiny)
        self.w, self.b, self.square = w, b.unsqueeze(-1), square

    def forward(self, u: Tensor) -> Mapped:
        h = torch.tanh((self.w * u).sum(-1, keepdim=True) + self.b)
        return u + self.v * h, torch.log1p(self.slope * (1 - h.square())).squeeze(-1)

    def inverse(self, z: Tensor) -> Mapped:
        along = (self.w * z).sum(-1, keepdim=True)
        with torch.no_grad():  # s + (w'v) tanh(s + b) = w'z lies within |w'v| of w'z
            low, high = along - self.slope.abs(), along + self.slope.abs()
            for _ in range(60):
                middle = 0.5 * (low + high)
                above = middle + self.slope * torch.tanh(middle + self.b) > along
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        s = 0.5 * (low + high)
        slope = (1 + self.slope * (1 - torch.tanh(s + self.b).square())).detach()
        s = s - (s + self.slope * torch.tanh(s + self.b) - along) / slope  # Newton: carries the gradient
        u = z - self.v * torch.tanh(s + self.b)
        return u, self.forward(u)[1]


class Radial(Transform):
    """T(u) = u + beta (u - center) / (alpha + r), r = |u - center| (Rezende & Mohamed 2015).

    ln |det| = (Z - 1) ln(1 + beta / (alpha + r)) + ln(1 + alpha beta / (alpha + r)^2); invertible for alpha > 0, beta >
    -alpha. Shapes: center ``[..., Z]``, alpha and beta ``[...]``.
    """

    def __init__(self, center: Tensor, alpha: Tensor, beta: Tensor):
        self.center, self.alpha, self.beta = center, alpha.unsqueeze(-1), beta.unsqueeze(-1)

    def _length(self, difference: Tensor) -> Tensor:
        return (difference.square().sum(-1, keepdim=True) + torch.finfo(difference.dtype).tiny).sqrt()

    def _log_det(self, r: Tensor, size: int) -> Tensor:
        pull = self.beta / (self.alpha + r)
        return ((size - 1) * torch.log1p(pull) + torch.log1p(pull * self.alpha / (self.alpha + r))).squeeze(-1)

    def forward(self, u: Tensor) -> Mapped:
        difference = u - self.center
        r = self._length(difference)
        return u + self.beta / (self.alpha + r) * difference, self._log_det(r, u.shape[-1])

    def inverse(self, z: Tensor) -> Mapped:
        difference = z - self.center
        far = self._length(difference)  # far = r (1 + beta / (alpha + r))
        half = 0.5 * (far - self.alpha - self.beta)
        root = (half.square() + self.alpha * far).sqrt()
        r = torch.where(half > 0, half + root, self.alpha * far / (root + half.abs()))  # the root without cancellation
        return self.center + difference * r / far, self._log_det(r, z.shape[-1])


class Foreign(Transform):
    """A transformation of torch or zuko over vectors."""

    def __init__(self, transform: Any):
        self.transform = transform

    def forward(self, u: Tensor) -> Mapped:
        return self.transform.call_and_ladj(u)

    def inverse(self, z: Tensor) -> Mapped:
        u = self.transform.inv(z)
        return u, self.transform.call_and_ladj(u)[1]


class Inverse(Transform):
    """T^-1: for densities of data where T from data to noise is the fast direction."""

    def __init__(self, transform: Transform):
        self.transform = transform

    def forward(self, u: Tensor) -> Mapped:
        z, log_det = self.transform.inverse(u)
        return z, -log_det

    def inverse(self, z: Tensor) -> Mapped:
        u, log_det = self.transform.forward(z)
        return u, -log_det


class Composed(Transform):
    """T_L o ... o T_1: the first of the list acts first, and log-determinants add."""

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)

    def forward(self, u: Tensor) -> Mapped:
        total = torch.zeros_like(u[..., 0])
        for transform in self.transforms:
            u, log_det = transform.forward(u)
            total = total + log_det
        return u, total

    def inverse(self, z: Tensor) -> Mapped:
        total = torch.zeros_like(z[..., 0])
        for transform in reversed(self.transforms):
            z, log_det = transform.inverse(z)
            total = total + log_det
        return z, total


class Pushforward(Distribution):
    """The density of z = T(u), u ~ base: ln q(z) = ln base(u) - ln |det dT/du| (Rezende & Mohamed 2015).

    ``center``, the image of the base's mean, stands for the distribution, whose mean is not known. The last draw's
    density is kept, so that asking for it does not invert T; other values go through the inverse.

    >>> from latens.distributions import DiagonalNormal
    >>> base = DiagonalNormal(torch.zeros(2), torch.ones(2))
    >>> q = Pushforward(base, Affine(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])))
    >>> q.center
    tensor([1., 2.])
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
        return self.transform.forward(self.base.mean)[0]

    def rsample_and_log_prob(self, k: int) -> tuple[Tensor, Tensor]:
        """k draws ``[k, ..., Z]`` and their log-density, without the inverse."""
        u = self.base.rsample(torch.Size((k,)))
        z, log_det = self.transform.forward(u)
        return z, self.base.log_prob(u) - log_det

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        u = self.base.rsample(torch.Size(sample_shape))
        z, log_det = self.transform.forward(u)
        self._last = z, self.base.log_prob(u) - log_det
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self._last is not None and value is self._last[0]:
            return self._last[1]
        u, log_det = self.transform.inverse(value)
        return self.base.log_prob(u) - log_det
