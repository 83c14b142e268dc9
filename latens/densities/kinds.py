"""Densities by name: how each kind is fitted, and rebuilt from its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from latens.densities.base import Density
from latens.densities.flows import Flow, iaf, maf, spline
from latens.densities.metric import MetricChain, metric
from latens.densities.mixtures import GaussianMixture, KernelDensity, kde, mixture
from latens.densities.pixelcnn import PixelCNN, pixelcnn
from latens.densities.stage import SecondStage, vae
from latens.densities.transformer import Transformer, autoregressive
from latens.errors import InputError

PRIOR = "prior"


@dataclass(frozen=True)
class Kind:
    """A kind of density.

    Args:
        fit: ``fit(codes, *, options)``.
        made: the class that it returns.
        whole: whether it takes whole-number codes.
    """

    fit: Callable[..., Density]
    made: type[Density]
    whole: bool = False  # whether it takes whole-number codes

    def build(self, config: dict[str, Any], model: nn.Module) -> Density:
        """An untrained density with these arguments, into which tensors are to be loaded."""
        return self.made(**config, **({"model": model} if self.made is MetricChain else {}))


KINDS = {
    "mixture": Kind(mixture, GaussianMixture), "kde": Kind(kde, KernelDensity), "maf": Kind(maf, Flow),
    "iaf": Kind(iaf, Flow), "spline": Kind(spline, Flow), "vae": Kind(vae, SecondStage),
    "autoregressive": Kind(autoregressive, Transformer, whole=True),
    "pixelcnn": Kind(pixelcnn, PixelCNN, whole=True), "metric": Kind(metric, MetricChain),
}  # fmt: skip


def kind_of(name: str) -> Kind:
    """The kind with that name; if there is none, the ``InputError`` lists the valid names."""
    if name not in KINDS:
        raise InputError(f"unknown density {name!r}", f"use one of {PRIOR}, {', '.join(KINDS)}")
    return KINDS[name]


def options(name: str) -> dict[str, Any]:
    """The options of a kind and their defaults, from its signature."""
    parameters = inspect.signature(kind_of(name).fit).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """All options of a kind: those given, and defaults for the rest. ``InputError`` for an option that it lacks."""
    valid = options(name)
    for option in given:
        if option not in valid:
            raise InputError(f"density {name!r} has no option {option!r}", f"use one of {', '.join(valid)}")
    return valid | given
