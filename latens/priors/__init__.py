"""Priors p(z): modules whose ``forward(c)`` returns a distribution over codes."""

from latens.priors.fixed import (
    BallNormal,
    FiniteGrid,
    NormalAndCategories,
    UniformCategories,
    UniformCodes,
    UniformSphere,
    UniformTorus,
)
from latens.priors.flow import Flow
from latens.priors.normal import ConditionalNormal, DitheredMixture, Laplace, NormalMixture, StandardNormal
from latens.priors.of_posterior import Chained, Exemplar, PseudoInputs, Vamp
from latens.priors.resampled import Resampled

__all__ = [
    "BallNormal", "Chained", "ConditionalNormal", "DitheredMixture", "Exemplar", "FiniteGrid", "Flow", "Laplace",
    "NormalAndCategories", "NormalMixture", "PseudoInputs", "Resampled", "StandardNormal", "UniformCategories",
    "UniformCodes", "UniformSphere", "UniformTorus", "Vamp",
]  # fmt: skip
