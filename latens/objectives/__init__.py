"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.adversarial import Adversarial, CorrelationCritic, Critic, DataCritic, FeatureELBO, PriorCritic
from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.correlation import TotalCorrelation
from latens.objectives.discrepancies import MMD, Sinkhorn, SlicedWasserstein
from latens.objectives.penalties import CodeEnergy, CovariancePenalty, DecoderJacobian, DecoderWeights, EncoderJacobian
from latens.objectives.rates import Denoising, RateTarget

__all__ = [
    "ELBO",
    "IWAE",
    "MMD",
    "Adversarial",
    "CodeEnergy",
    "CorrelationCritic",
    "CovariancePenalty",
    "Critic",
    "DataCritic",
    "DecoderJacobian",
    "DecoderWeights",
    "Denoising",
    "EncoderJacobian",
    "FeatureELBO",
    "Objective",
    "Penalised",
    "Penalty",
    "Player",
    "PriorCritic",
    "RateTarget",
    "Sinkhorn",
    "SlicedWasserstein",
    "TotalCorrelation",
    "check_disjoint",
    "mean_over_rows",
]
