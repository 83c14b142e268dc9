"""Similarity scores instead of a likelihood, for images that look right to people, without a bound on ln p(x)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens import networks
from latens.conditionals.base import Conditional
from latens.errors import is_number, require
from latens.tensors.trees import Tree


class _PerceptualLikelihood(Conditional):
    """Base: the network gives the image as u = (x - shift) / unit; ``score`` compares images in these units.
    """

    shift: Tensor
    unit: Tensor
    why: str

    def __init__(
        self, network: nn.Module, shape: Sequence[int], weight: float, *, shift: Tensor | float = 0.0,
        unit: Tensor | float = 1.0, reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, reads)
        require(is_number(weight) and weight > 0, "the weight of the score", "a positive number", weight)
        self.shape, self.weight = tuple(shape), float(weight)
        self.register_buffer("shift", torch.as_tensor(shift))
        self.register_buffer("unit", torch.as_tensor(unit))

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """The score as a distribution over images ``[..., C, H, W]``."""
        mean = self.shift.to(output.dtype) + self.unit.to(output.dtype) * output

        def score(x: Tensor, _: Tensor) -> Tensor:
            return self.weight * self.score(((x - self.shift) / self.unit).to(output.dtype), output)

        return d.PerceptualScore(mean, score, len(self.shape), self.why)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """At most 0, and 0 for equal images, ``[...]``."""
        raise NotImplementedError


class StructuralSimilarity(_PerceptualLikelihood):
    """-weight × cells × (1 - MS-SSIM(x, f(z))) instead of ln p(x|z) (Snell et al. 2017): a score, not a density of x.

    Args:
        network: maps z to images ``[..., C, H, W]``.
        shape: (C, H, W).
        weight: > 0.
        span: the range of the values, in the data's units.
        shift: the centre of the data.
        unit: the scale of the data.
        reads: the keys of the condition that the network sees.
    """

    why = "MS-SSIM, used instead of ln p(x|z), is a similarity score, not a density of x"

    def __init__(
        self, network: nn.Module, shape: Sequence[int], weight: float, span: float, *, shift: Tensor | float = 0.0,
        unit: Tensor | float = 1.0, reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, shape, weight, shift=shift, unit=unit, reads=reads)
        self.similarity, self.span = networks.MultiScaleSSIM(shape, span), span

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """-cells (1 - MS-SSIM), ``[...]``."""
        unit, shift = self.unit.to(y.dtype), self.shift.to(y.dtype)
        return -math.prod(self.shape) * (1 - self.similarity(shift + unit * x, shift + unit * y))


class FeatureReconstruction(_PerceptualLikelihood):
    r"""A distance of features instead of ln p(x|z): a score, not a density of x.

    .. math:: -\tfrac12\, \mathrm{weight} \cdot \mathrm{cells} \cdot \lVert \varphi(x) - \varphi(f(z)) \rVert^2

    where :math:`\varphi` are the features of a fixed random network. It is not a density, because :math:`\varphi` may
    map many images to the same point (Hou et al. 2017, with the features of a trained classifier).

    Args:
        network: maps z to images ``[..., C, H, W]``.
        shape: (C, H, W).
        weight: > 0.
        shift: the centre of the data.
        unit: the scale of the data.
        reads: the keys of the condition that the network sees.
    """

    why = "a distance of features, used instead of ln p(x|z), is a similarity score, not a density of x"

    def __init__(
        self, network: nn.Module, shape: Sequence[int], weight: float, *, shift: Tensor | float = 0.0,
        unit: Tensor | float = 1.0, reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, shape, weight, shift=shift, unit=unit, reads=reads)
        self.features = networks.FixedFeatures(shape)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """-cells × squared distance of features / 2, ``[...]``."""
        return -math.prod(self.shape) * (self.features(x) - self.features(y)).square().sum(-1) / 2
