"""Distributions as values: densities and masses that can be evaluated and sampled. They know no data and no
training."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.distributions.base import (
        PointMass,
        center,
        drawing_within,
        extrapolating,
        flat_mean,
        has_row_noise,
        rsample_and_log_prob,
    )
    from latens.distributions.chained import Chained
    from latens.distributions.columns import Columns
    from latens.distributions.continuous import Beta, ContinuousBernoulli, LogNormal, StudentT
    from latens.distributions.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
    from latens.distributions.discrete import Bernoulli, Categorical, DiscretizedLogistic, among
    from latens.distributions.dithered import DitheredMixture, UnitUniform
    from latens.distributions.drawn import Drawn
    from latens.distributions.event import InUnits, Observed, OnGrid, Reproduced
    from latens.distributions.flows import Affine, Composed, Foreign, Inverse, Planar, Pushforward, Radial, Transform
    from latens.distributions.heaped import Heaped, Margins, Piecewise, standing
    from latens.distributions.hyperbolic import RiemannianNormal, WrappedNormal
    from latens.distributions.in_order import InOrder, Led, Pair
    from latens.distributions.kl import CLOSED, canonical, closed_kl, detached, has_closed_kl
    from latens.distributions.low_rank import LowRankNormal
    from latens.distributions.missingness import SelfMasked
    from latens.distributions.mixture import NormalMixture
    from latens.distributions.modalities import ExpertMixture, Modalities, Pieces
    from latens.distributions.normal import DiagonalNormal, FullNormal, Normal
    from latens.distributions.ordinal import Ordinal
    from latens.distributions.perceptual import PerceptualScore
    from latens.distributions.product import Flat, Joint
    from latens.distributions.quantised import Quantised, UniformCodes
    from latens.distributions.relaxed import OneHot, Relaxed
    from latens.distributions.resampled import Resampled
    from latens.distributions.seasonal import Periods, Seasonal
    from latens.distributions.sphere import PowerSpherical, SphereUniform, VonMisesFisher
    from latens.distributions.support import require_support
    from latens.distributions.truncated import TruncatedNormal
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "base": "PointMass center drawing_within extrapolating flat_mean has_row_noise rsample_and_log_prob",
        "chained": "Chained",
        "columns": "Columns", "continuous": "Beta ContinuousBernoulli LogNormal StudentT",
        "counts": "NegativeBinomial Poisson ZeroInflatedNegativeBinomial",
        "discrete": "Bernoulli Categorical DiscretizedLogistic among", "dithered": "DitheredMixture UnitUniform",
        "drawn": "Drawn", "event": "InUnits Observed OnGrid Reproduced",
        "flows": "Affine Composed Foreign Inverse Planar Pushforward Radial Transform",
        "heaped": "Heaped Margins Piecewise standing", "hyperbolic": "RiemannianNormal WrappedNormal",
        "in_order": "InOrder Led Pair", "kl": "CLOSED canonical closed_kl detached has_closed_kl",
        "low_rank": "LowRankNormal", "missingness": "SelfMasked", "mixture": "NormalMixture",
        "modalities": "ExpertMixture Modalities Pieces", "normal": "DiagonalNormal FullNormal Normal",
        "ordinal": "Ordinal", "product": "Flat Joint", "perceptual": "PerceptualScore",
        "quantised": "Quantised UniformCodes", "relaxed": "OneHot Relaxed", "resampled": "Resampled",
        "seasonal": "Periods Seasonal", "sphere": "PowerSpherical SphereUniform VonMisesFisher",
        "support": "require_support", "truncated": "TruncatedNormal",
    })  # fmt: skip
