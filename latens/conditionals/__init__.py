"""Conditionals: modules whose ``forward`` returns a distribution.

Each takes a network, a tensor-to-tensor module over any leading axes, and defines how the network's output parametrises
a distribution: a posterior q(z|x) or a likelihood p(x|z). If a likelihood has several parameters per cell, they are on
the axis before the event, ``[..., P, *event]``. A variance is always the square of a scale. Everything positive comes
from :func:`latens.tensors.numerics.positive`, so that a raw output of 0 means 1. The ending of a name may be omitted:
``conditionals.Normal`` is :class:`NormalLikelihood`.
"""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.conditionals.base import Conditional, Features, event_dims
    from latens.conditionals.column import FAMILIES, Allowed, ColumnLikelihood, Limited, Pins, Restriction
    from latens.conditionals.columns import TableLikelihood
    from latens.conditionals.counts import (
        ContinuousBernoulliLikelihood,
        NegativeBinomialLikelihood,
        PoissonLikelihood,
        ZeroInflatedNegativeBinomialLikelihood,
    )
    from latens.conditionals.discrete import (
        Codebook,
        FiniteScalars,
        NearestCode,
        NormalAndCategoriesPosterior,
        OneHotPosterior,
        RelaxedPosterior,
    )
    from latens.conditionals.flows import AutoregressiveStep, FlowPosterior, FlowStep, PlanarStep, RadialStep
    from latens.conditionals.geometry import (
        PowerSphericalPosterior,
        RiemannianNormalPosterior,
        TorusPosterior,
        VonMisesFisherPosterior,
        WrappedNormalPosterior,
    )
    from latens.conditionals.in_order import ColumnsInOrder
    from latens.conditionals.likelihoods import (
        BernoulliLikelihood,
        CategoricalLikelihood,
        DiscretizedLogisticLikelihood,
        NormalLikelihood,
    )
    from latens.conditionals.missingness import SelfMaskedColumns
    from latens.conditionals.modalities import (
        ByModality,
        JointAndSingles,
        MixtureOfExperts,
        MixtureOfProducts,
        ProductOfExperts,
    )
    from latens.conditionals.perceptual import FeatureReconstruction, StructuralSimilarity
    from latens.conditionals.posteriors import (
        ChainedPosterior,
        DiagonalNormalPosterior,
        DitheredNormal,
        FullNormalPosterior,
        LowRankNormalPosterior,
        PointMassPosterior,
        UnitUniformPosterior,
    )
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "base": "Conditional Features event_dims",
        "column": "FAMILIES Allowed ColumnLikelihood Limited Pins Restriction", "columns": "TableLikelihood",
        "counts": "ContinuousBernoulliLikelihood NegativeBinomialLikelihood PoissonLikelihood "
                  "ZeroInflatedNegativeBinomialLikelihood",
        "discrete": "Codebook FiniteScalars NearestCode NormalAndCategoriesPosterior OneHotPosterior RelaxedPosterior",
        "flows": "AutoregressiveStep FlowPosterior PlanarStep RadialStep FlowStep",
        "geometry": "PowerSphericalPosterior RiemannianNormalPosterior TorusPosterior VonMisesFisherPosterior "
                    "WrappedNormalPosterior",
        "in_order": "ColumnsInOrder",
        "likelihoods": "BernoulliLikelihood CategoricalLikelihood DiscretizedLogisticLikelihood NormalLikelihood",
        "missingness": "SelfMaskedColumns",
        "modalities": "ByModality JointAndSingles MixtureOfExperts MixtureOfProducts ProductOfExperts",
        "posteriors": "ChainedPosterior DiagonalNormalPosterior DitheredNormal FullNormalPosterior "
                      "LowRankNormalPosterior PointMassPosterior UnitUniformPosterior",
        "perceptual": "FeatureReconstruction StructuralSimilarity",
    }, endings=("Likelihood", "Posterior", "Step"))  # fmt: skip
