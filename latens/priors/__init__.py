"""Priors p(z): modules whose ``forward(c)`` returns a distribution over codes."""

from latens.priors.flow import Flow
from latens.priors.normal import ConditionalNormal, NormalMixture, StandardNormal
from latens.priors.of_posterior import Chained, Exemplar, PseudoInputs, Vamp
from latens.priors.resampled import Resampled

__all__ = [
    "Chained", "ConditionalNormal", "Exemplar", "Flow", "NormalMixture", "PseudoInputs", "Resampled", "StandardNormal",
    "Vamp",
]  # fmt: skip
