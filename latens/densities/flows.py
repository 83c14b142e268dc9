"""Normalising flows over codes, from zuko's transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import AffineTransform, Distribution, TransformedDistribution

from latens.densities.base import Codes, Density, descend
from latens.errors import require_count
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree


class Flow(Density):
    r"""A normalising flow: z = shift + unit T(e) with e ~ N(0, I), where T is a chain of autoregressive transforms.

    .. math:: \ln p(z) = \ln \mathcal{N}(e; 0, I) - \ln \left|\det \frac{\partial T}{\partial e}\right|
        - \sum_i \ln \mathrm{unit}_i

    Args:
        size: the dimensions of a code, D.
        kind: "maf", whose inverse is autoregressive (a density takes one pass, a sample D passes); "iaf", the reverse;
            "spline", like "maf" with rational-quadratic splines instead of affine maps.
        transforms: the number of transforms.
        hidden: the width of their networks.
    """

    shift: Tensor
    unit: Tensor

    def __init__(self, size: int, kind: str, transforms: int, hidden: int):
        super().__init__(size=size, kind=kind, transforms=transforms, hidden=hidden)
        from zuko import flows
        from zuko.lazy import Flow as Lazy

        layers: Any = {"transforms": transforms, "hidden_features": (hidden, hidden)}
        made = (flows.NSF if kind == "spline" else flows.MAF)(size, **layers)
        self.flow = Lazy([part.inv for part in made.transform.transforms], made.base) if kind == "iaf" else made
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("unit", torch.ones(size))

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[D]``."""
        return TransformedDistribution(
            self.flow(), [AffineTransform(self.shift, self.unit, event_dim=1)], validate_args=False
        )


def _flow(codes: Codes, kind: str, transforms: int, hidden: int, epochs: int | str) -> Flow:
    for name, value in (("transforms", transforms), ("hidden", hidden)):
        require_count(value, name, most=10_000)
    with seeded(codes.seed, Key.FLOW_WEIGHTS):
        density = Flow(codes.reals().size, kind, int(transforms), int(hidden)).to(codes.train.dtype)
    for buffer, moment in zip((density.shift, density.unit), codes.standardisation()):
        buffer.copy_(moment)
    descend(density, codes, epochs=epochs)
    return density


def maf(codes: Codes, *, transforms: int = 3, hidden: int = 64, epochs: int | str = "auto") -> Flow:
    """Masked autoregressive flow: a density takes one pass, a sample D passes (Papamakarios, Pavlakou & Murray 2017).

    Args:
        codes: the codes to which it is fitted.
        transforms: the number of transforms.
        hidden: the width of their networks.
        epochs: a number, or "auto".
    """
    return _flow(codes, "maf", transforms, hidden, epochs)


def iaf(codes: Codes, *, transforms: int = 3, hidden: int = 64, epochs: int | str = "auto") -> Flow:
    """Inverse autoregressive flow: a sample takes one pass, a density D passes (Kingma et al. 2016).

    Args:
        codes: the codes to which it is fitted.
        transforms: the number of transforms.
        hidden: the width of their networks.
        epochs: a number, or "auto".
    """
    return _flow(codes, "iaf", transforms, hidden, epochs)


def spline(codes: Codes, *, transforms: int = 3, hidden: int = 64, epochs: int | str = "auto") -> Flow:
    """Neural spline flow: masked autoregressive, with rational-quadratic splines of 8 bins (Durkan et al. 2019).

    Args:
        codes: the codes to which it is fitted.
        transforms: the number of transforms.
        hidden: the width of their networks.
        epochs: a number, or "auto".
    """
    return _flow(codes, "spline", transforms, hidden, epochs)
