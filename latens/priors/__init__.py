"""Priors p(z): modules whose ``forward(c)`` returns a distribution over codes."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
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
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "fixed": "BallNormal FiniteGrid NormalAndCategories UniformCategories UniformCodes UniformSphere UniformTorus",
        "flow": "Flow", "normal": "ConditionalNormal DitheredMixture Laplace NormalMixture StandardNormal",
        "of_posterior": "Chained Exemplar PseudoInputs Vamp", "resampled": "Resampled",
    })  # fmt: skip
