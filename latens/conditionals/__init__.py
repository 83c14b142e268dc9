"""Conditionals: modules whose ``forward`` returns a distribution.

Each takes a network, a tensor-to-tensor module over any leading axes, and says how its output parametrises a
distribution: posteriors q(z|x) first, likelihoods p(x|z) after. A likelihood with several parameters a cell has
them on the axis before the event, ``[..., P, *event]``. A variance is always the square of a scale;
everything positive comes from :func:`latens.tensors.numerics.positive`, so that a raw output of 0 means 1.
"""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.conditionals.base import Conditional, Features, event_dims
    from latens.conditionals.column import FAMILIES, Allowed, ColumnLikelihood
    from latens.conditionals.columns import Columns
    from latens.conditionals.counts import ContinuousBernoulli, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
    from latens.conditionals.discrete import Codebook, FiniteScalars, NearestCode, NormalAndCategories, OneHot, Relaxed
    from latens.conditionals.flows import Autoregressive, FlowNormal, Planar, Radial, Step
    from latens.conditionals.geometry import PowerSpherical, RiemannianNormal, Torus, VonMisesFisher, WrappedNormal
    from latens.conditionals.in_order import ColumnsInOrder
    from latens.conditionals.likelihoods import Bernoulli, Categorical, DiscretizedLogistic, Normal
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
        Chained,
        DiagonalNormal,
        DitheredNormal,
        FullNormal,
        LowRankNormal,
        PointMass,
        UnitUniform,
    )
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "base": "Conditional Features event_dims", "column": "FAMILIES Allowed ColumnLikelihood", "columns": "Columns",
        "counts": "ContinuousBernoulli NegativeBinomial Poisson ZeroInflatedNegativeBinomial",
        "discrete": "Codebook FiniteScalars NearestCode NormalAndCategories OneHot Relaxed",
        "flows": "Autoregressive FlowNormal Planar Radial Step",
        "geometry": "PowerSpherical RiemannianNormal Torus VonMisesFisher WrappedNormal", "in_order": "ColumnsInOrder",
        "likelihoods": "Bernoulli Categorical DiscretizedLogistic Normal", "missingness": "SelfMaskedColumns",
        "modalities": "ByModality JointAndSingles MixtureOfExperts MixtureOfProducts ProductOfExperts",
        "posteriors": "Chained DiagonalNormal DitheredNormal FullNormal LowRankNormal PointMass UnitUniform",
        "perceptual": "FeatureReconstruction StructuralSimilarity",
    })  # fmt: skip
