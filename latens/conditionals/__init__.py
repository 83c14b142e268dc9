"""Conditionals: modules whose ``forward`` returns a distribution.

Each takes a network, a tensor-to-tensor module over any leading axes, and says how its output parametrises a
distribution: posteriors q(z|x) first, likelihoods p(x|z) after. A likelihood with several parameters a cell has
them on the axis before the event, ``[..., P, *event]``. A variance is always the square of a scale;
everything positive comes from :func:`latens.tensors.numerics.positive`, so that a raw output of 0 means 1.
"""

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
from latens.conditionals.posteriors import (
    Chained,
    DiagonalNormal,
    DitheredNormal,
    FullNormal,
    LowRankNormal,
    PointMass,
    UnitUniform,
)
from latens.conditionals.pseudo import FeatureReconstruction, StructuralSimilarity

__all__ = [
    "FAMILIES", "Allowed", "Autoregressive", "Bernoulli", "ByModality", "Categorical", "Chained", "Codebook",
    "ColumnLikelihood", "Columns", "ColumnsInOrder", "Conditional", "ContinuousBernoulli", "DiagonalNormal",
    "DiscretizedLogistic",
    "DitheredNormal", "FeatureReconstruction", "Features", "FiniteScalars", "FlowNormal", "FullNormal",
    "JointAndSingles", "LowRankNormal", "MixtureOfExperts", "MixtureOfProducts", "NearestCode", "NegativeBinomial",
    "Normal", "NormalAndCategories", "OneHot", "Planar", "PointMass", "Poisson", "PowerSpherical",
    "ProductOfExperts", "Radial", "Relaxed", "RiemannianNormal", "SelfMaskedColumns", "Step",
    "StructuralSimilarity", "Torus", "UnitUniform", "VonMisesFisher", "WrappedNormal",
    "ZeroInflatedNegativeBinomial", "event_dims",
]  # fmt: skip
