"""Values: densities and masses that can be evaluated and drawn from; they know no data set and no training."""

from latens.distributions.base import PointMass, center, has_row_noise, rsample_and_log_prob
from latens.distributions.columns import Columns
from latens.distributions.continuous import Beta, ContinuousBernoulli, LogNormal, StudentT
from latens.distributions.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from latens.distributions.discrete import Bernoulli, Categorical, DiscretizedLogistic
from latens.distributions.drawn import Drawn
from latens.distributions.event import InUnits, Observed
from latens.distributions.kl import CLOSED, canonical, closed_kl, has_closed_kl
from latens.distributions.missingness import SelfMasked
from latens.distributions.mixture import NormalMixture
from latens.distributions.modalities import ExpertMixture, Modalities, Pieces
from latens.distributions.normal import DiagonalNormal, FullNormal, Normal
from latens.distributions.ordinal import Ordinal
from latens.distributions.truncated import TruncatedNormal

__all__ = [
    "CLOSED", "Bernoulli", "Beta", "Categorical", "Columns", "ContinuousBernoulli", "DiagonalNormal",
    "DiscretizedLogistic", "Drawn", "ExpertMixture",
    "FullNormal", "InUnits", "LogNormal", "Modalities", "NegativeBinomial", "Normal", "NormalMixture",
    "Observed", "Ordinal", "Pieces", "PointMass", "Poisson", "SelfMasked", "StudentT", "TruncatedNormal",
    "ZeroInflatedNegativeBinomial", "canonical", "center", "closed_kl", "has_closed_kl", "has_row_noise",
    "rsample_and_log_prob",
]  # fmt: skip
