"""Mixtures of normals: a few normals fitted by expectation maximisation, or one normal at every code."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, constraints

from latens.densities.base import Codes, Density
from latens.distributions import FullNormal
from latens.errors import InputError, is_number, is_whole, require
from latens.tensors.numerics import LOG_2PI
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree
from latens.training import Progress

EM_ROWS, KERNELS = 50_000, 10_000  # at most this many evenly spaced codes are used
MOST = 64  # mixtures of at most this many components are tried


def some(z: Tensor, most: int) -> Tensor:
    """At most ``most`` rows of z ``[N, D]``, evenly spaced."""
    return z if len(z) <= most else z[torch.arange(most) * len(z) // most]


class GaussianMixture(Density):
    r"""A mixture of normals with full covariances; see :func:`mixture`.

    .. math:: p(z) = \sum_j w_j\, \mathcal{N}(z; m_j, L_j L_j^\top)
    """

    logits: Tensor
    loc: Tensor
    scale_tril: Tensor

    def __init__(self, size: int, components: int):
        super().__init__(size=size, components=components)
        self.register_buffer("logits", torch.zeros(components))
        self.register_buffer("loc", torch.zeros(components, size))
        self.register_buffer("scale_tril", torch.eye(size).expand(components, -1, -1).clone())

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[D]``."""
        which = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(which, FullNormal(self.loc, self.scale_tril), validate_args=False)


def mixture(codes: Codes, *, components: int | str = "auto") -> GaussianMixture:
    """A mixture of normals with full covariances, by scikit-learn's expectation maximisation.

    (Dempster, Laird & Rubin 1977; for autoencoders Ghosh et al. 2020)

    Args:
        codes: the codes to which it is fitted.
        components: a whole number from 1; "auto" tries 1, 2, 4 … up to 64, and takes the number under which held-out
            codes are most likely.

    Raises:
        InputError: there are fewer codes than components.
    """
    good = components == "auto" or (is_whole(components) and int(components) >= 1)
    require(good, "components", "'auto' or a whole number from 1", components)
    z = some(codes.reals().train, EM_ROWS)
    if components != "auto" and int(components) > len(z):
        raise InputError(f"components must be at most {len(z)}, the number of codes, got {components}")
    tried = [2**j for j in range(7) if 2**j <= MOST and (j == 0 or 2**j * (codes.size + 1) <= len(z) / 2)]
    progress, found, best = codes.progress or Progress(), [], -math.inf
    chosen = tried if components == "auto" else [int(components)]
    progress.start(0, len(chosen))
    try:
        for number, count in enumerate(chosen, 1):
            found.append(_expectation_maximisation(z, codes, count))
            score = float(found[-1].log_prob(codes.held).mean())
            progress.step(number, math.nan, -score)
            if score <= best and len(found) > 2:
                break  # more components have not helped
            best = max(best, score)
    finally:
        progress.close()
    return max(found, key=lambda density: float(density.log_prob(codes.held).mean()))


def _expectation_maximisation(z: Tensor, codes: Codes, components: int) -> GaussianMixture:
    from sklearn import mixture as sklearn_mixture
    from sklearn.exceptions import ConvergenceWarning

    shift, unit = codes.standardisation()
    fitted = sklearn_mixture.GaussianMixture(components, random_state=codes.seed % 2**32, reg_covar=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred rounds are enough for drawing samples
        fitted.fit(((z - shift) / unit).double().numpy())
    density = GaussianMixture(codes.size, components).to(z.dtype)
    density.logits.copy_(torch.from_numpy(fitted.weights_).log())
    density.loc.copy_(shift + unit * torch.from_numpy(fitted.means_))
    density.scale_tril.copy_(torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)) * unit.unsqueeze(-1))
    return density


class Kernels(Distribution):
    r"""A normal kernel at each of M centres.

    .. math:: p(z) = \frac1M \sum_i \mathcal{N}(z; z_i, L L^\top)

    Args:
        centres: ``[M, D]``.
        scale_tril: L, ``[D, D]``.
    """

    arg_constraints = {"centres": constraints.real, "scale_tril": constraints.lower_cholesky}

    def __init__(self, centres: Tensor, scale_tril: Tensor):
        self.centres, self.scale_tril = centres, scale_tril
        super().__init__(torch.Size(), centres.shape[1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(z), in nats, ``[...]``."""
        normal = FullNormal(torch.zeros_like(self.centres[0]), self.scale_tril)
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(normal.whiten(value), normal.whiten(self.centres), compute_mode=exact)
        constant = 0.5 * self.centres.shape[1] * LOG_2PI + normal.half_log_det + math.log(len(self.centres))
        return (-0.5 * apart.square()).logsumexp(-1) - constant

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, D]``."""
        which = torch.randint(len(self.centres), tuple(sample_shape))
        centres = self.centres[which]
        return centres + (self.scale_tril @ standard_normal((), centres).unsqueeze(-1)).squeeze(-1)


class KernelDensity(Density):
    """A normal kernel at every code; all kernels have the same covariance. See :func:`kde`."""

    centres: Tensor
    scale_tril: Tensor

    def __init__(self, size: int, kernels: int):
        super().__init__(size=size, kernels=kernels)
        self.register_buffer("centres", torch.zeros(kernels, size))
        self.register_buffer("scale_tril", torch.eye(size))

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[D]``."""
        return Kernels(self.centres, self.scale_tril)


def kde(codes: Codes, *, bandwidth: float | str = "auto") -> KernelDensity:
    """Normal kernels at the codes, or at 10,000 evenly spaced codes if there are more (Parzen 1962; Scott 1992).

    The covariance of a kernel is the covariance of the codes times the square of ``bandwidth``.

    Args:
        codes: the codes to which it is fitted.
        bandwidth: a number > 0; "auto" is a fraction of Scott's M^(-1 / (D + 4)), chosen so that held-out codes are
            most likely.
    """
    good = bandwidth == "auto" or (is_number(bandwidth) and float(bandwidth) > 0)
    require(good, "bandwidth", "'auto' or a positive number", bandwidth)
    z = some(codes.reals().train, KERNELS)
    density = KernelDensity(codes.size, len(z)).to(z.dtype)
    density.centres.copy_(z)
    covariance = torch.atleast_2d(z.double().T.cov())
    least = 1e-9 * covariance.diagonal().mean().clamp_min(1e-12)
    tril = torch.linalg.cholesky(covariance + least * torch.eye(codes.size))
    if bandwidth != "auto":
        density.scale_tril.copy_(float(bandwidth) * tril)
        return density
    scott = len(z) ** (-1 / (codes.size + 4))
    scores, held = {}, some(codes.held, 1000)
    for factor in (scott * step for step in (0.1, 0.15, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)):
        density.scale_tril.copy_(factor * tril)
        scores[factor] = float(density.log_prob(held).mean())
    density.scale_tril.copy_(max(scores, key=scores.__getitem__) * tril)
    return density
