"""Priors p(z): modules whose ``forward(c)`` returns a distribution over codes."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.priors.fixed import (
        BallNormal,
        FiniteGrid,
        NormalAndCategoriesPrior,
        UniformCategories,
        UniformCodesPrior,
        UniformSphere,
        UniformTorus,
    )
    from latens.priors.flow import FlowPrior
    from latens.priors.normal import (
        ConditionalNormal,
        DitheredMixturePrior,
        Laplace,
        NormalMixturePrior,
        StandardNormal,
    )
    from latens.priors.of_posterior import ChainedPrior, Exemplar, PseudoInputs, Vamp
    from latens.priors.resampled import ResampledPrior
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "fixed": "BallNormal FiniteGrid NormalAndCategoriesPrior UniformCategories UniformCodesPrior UniformSphere "
                 "UniformTorus",
        "flow": "FlowPrior",
        "normal": "ConditionalNormal DitheredMixturePrior Laplace NormalMixturePrior StandardNormal",
        "of_posterior": "ChainedPrior Exemplar PseudoInputs Vamp", "resampled": "ResampledPrior",
    }, endings=("Prior",))  # fmt: skip
