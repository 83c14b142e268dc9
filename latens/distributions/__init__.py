"""Values: densities and masses that can be evaluated and drawn from; they know no data set and no training."""

from latens.distributions.base import (
    PointMass,
    center,
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
from latens.distributions.in_order import InOrder, Led
from latens.distributions.kl import CLOSED, canonical, closed_kl, detached, has_closed_kl
from latens.distributions.low_rank import LowRankNormal
from latens.distributions.missingness import SelfMasked
from latens.distributions.mixture import NormalMixture
from latens.distributions.modalities import ExpertMixture, Modalities, Pieces
from latens.distributions.normal import DiagonalNormal, FullNormal, Normal
from latens.distributions.ordinal import Ordinal
from latens.distributions.product import Flat, Joint
from latens.distributions.pseudo import Likeness
from latens.distributions.quantised import Quantised, UniformCodes
from latens.distributions.relaxed import OneHot, Relaxed
from latens.distributions.resampled import Resampled
from latens.distributions.sphere import PowerSpherical, SphereUniform, VonMisesFisher
from latens.distributions.support import require_support
from latens.distributions.truncated import TruncatedNormal

__all__ = [
    "CLOSED", "Affine", "Bernoulli", "Beta", "Categorical", "Chained", "Columns", "Composed", "ContinuousBernoulli",
    "DiagonalNormal", "DiscretizedLogistic", "DitheredMixture", "Drawn", "ExpertMixture", "Flat", "Foreign",
    "FullNormal", "Heaped", "InOrder", "InUnits", "Inverse", "Joint", "Led", "Likeness", "LogNormal", "LowRankNormal",
    "Margins", "Modalities", "NegativeBinomial", "Normal", "NormalMixture", "Observed", "OnGrid", "OneHot",
    "Ordinal", "Pieces", "Piecewise", "Planar", "PointMass", "Poisson", "PowerSpherical", "Pushforward",
    "Quantised", "Radial", "Relaxed", "Reproduced", "Resampled", "RiemannianNormal", "SelfMasked", "SphereUniform",
    "StudentT", "Transform", "TruncatedNormal", "UniformCodes", "UnitUniform", "VonMisesFisher", "WrappedNormal",
    "ZeroInflatedNegativeBinomial", "among", "canonical", "center", "closed_kl", "detached", "extrapolating",
    "flat_mean", "has_closed_kl", "has_row_noise", "require_support", "rsample_and_log_prob", "standing",
]
