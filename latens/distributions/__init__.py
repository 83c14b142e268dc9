"""Values: densities and masses that can be evaluated and drawn from; they know no data set and no training."""

from latens.distributions.base import PointMass, center, has_row_noise, rsample_and_log_prob
from latens.distributions.columns import Columns
from latens.distributions.continuous import Beta, ContinuousBernoulli, LogNormal, StudentT
from latens.distributions.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from latens.distributions.discrete import Bernoulli, Categorical, DiscretizedLogistic
from latens.distributions.event import InUnits, Observed
from latens.distributions.hyperbolic import RiemannianNormal, WrappedNormal
from latens.distributions.kl import CLOSED, canonical, closed_kl, has_closed_kl
from latens.distributions.missingness import SelfMasked
from latens.distributions.mixture import NormalMixture
from latens.distributions.normal import DiagonalNormal, FullNormal, Normal
from latens.distributions.ordinal import Ordinal
from latens.distributions.product import Flat, Joint
from latens.distributions.pseudo import Likeness
from latens.distributions.quantised import Quantised, UniformCodes
from latens.distributions.relaxed import OneHot, Relaxed
from latens.distributions.sphere import PowerSpherical, SphereUniform, VonMisesFisher
from latens.distributions.truncated import TruncatedNormal

__all__ = [
    "CLOSED",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "DiagonalNormal",
    "DiscretizedLogistic",
    "Flat",
    "FullNormal",
    "InUnits",
    "Joint",
    "Likeness",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "NormalMixture",
    "Observed",
    "OneHot",
    "Ordinal",
    "PointMass",
    "Poisson",
    "PowerSpherical",
    "Quantised",
    "Relaxed",
    "RiemannianNormal",
    "SelfMasked",
    "SphereUniform",
    "StudentT",
    "TruncatedNormal",
    "UniformCodes",
    "VonMisesFisher",
    "WrappedNormal",
    "ZeroInflatedNegativeBinomial",
    "canonical",
    "center",
    "closed_kl",
    "has_closed_kl",
    "has_row_noise",
    "rsample_and_log_prob",
]  # fmt: skip
