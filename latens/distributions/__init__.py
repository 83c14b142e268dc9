"""Values: densities and masses that can be evaluated and drawn from; they know no data set and no training."""

from latens.distributions.base import PointMass, center, has_row_noise, rsample_and_log_prob
from latens.distributions.discrete import Bernoulli, Categorical, DiscretizedLogistic
from latens.distributions.event import InUnits, Observed
from latens.distributions.kl import CLOSED, canonical, closed_kl, has_closed_kl
from latens.distributions.normal import DiagonalNormal, FullNormal, Normal

__all__ = [
    "CLOSED", "Bernoulli", "Categorical", "DiagonalNormal", "DiscretizedLogistic", "FullNormal", "InUnits", "Normal",
    "Observed", "PointMass", "canonical", "center", "closed_kl", "has_closed_kl", "has_row_noise",
    "rsample_and_log_prob",
]
