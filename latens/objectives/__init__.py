"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.adversarial import Adversarial, CorrelationCritic, Critic, DataCritic, FeatureELBO, PriorCritic
from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.classes import SemiSupervisedELBO
from latens.objectives.correlation import TotalCorrelation
from latens.objectives.discrepancies import MMD, Sinkhorn, SlicedWasserstein
from latens.objectives.discrete import CodebookLoss, Commitment, Reinforce, Vimco
from latens.objectives.estimators import PIWAE, DReG, EncoderApart, StickingTheLanding
from latens.objectives.freebits import FreeBits, elbo_with
from latens.objectives.importance import Renyi, Thermodynamic
from latens.objectives.modalities import Agreement, ELBOWithSingles
from latens.objectives.penalties import CodeEnergy, CovariancePenalty, DecoderJacobian, DecoderWeights, EncoderJacobian
from latens.objectives.rates import Denoising, RateTarget, RateTargets
from latens.objectives.spectral import SpectralNorms
from latens.objectives.stages import TwoStageELBO

__all__ = [
    "ELBO", "IWAE", "MMD", "PIWAE", "Adversarial", "Agreement", "CodeEnergy", "CodebookLoss", "Commitment",
    "CorrelationCritic", "CovariancePenalty", "Critic", "DReG", "DataCritic", "DecoderJacobian", "DecoderWeights",
    "Denoising", "ELBOWithSingles", "EncoderApart", "EncoderJacobian", "FeatureELBO", "FreeBits", "Objective",
    "Penalised", "Penalty", "Player", "PriorCritic", "RateTarget", "RateTargets", "Reinforce", "Renyi",
    "SemiSupervisedELBO", "Sinkhorn", "SlicedWasserstein", "SpectralNorms", "StickingTheLanding", "Thermodynamic",
    "TotalCorrelation", "TwoStageELBO", "Vimco", "check_disjoint", "elbo_with", "mean_over_rows",
]  # fmt: skip
