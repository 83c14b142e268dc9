"""Objectives: bounds and penalties, and which parameters minimise which loss."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.objectives.adversarial import (
        Adversarial,
        CorrelationCritic,
        Critic,
        DataCritic,
        FeatureELBO,
        PriorCritic,
    )
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
    from latens.objectives.penalties import (
        CodeEnergy,
        CovariancePenalty,
        DecoderJacobian,
        DecoderWeights,
        EncoderJacobian,
    )
    from latens.objectives.rates import Denoising, RateTarget, RateTargets
    from latens.objectives.spectral import SpectralNorms
    from latens.objectives.stages import TwoStageELBO
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "adversarial": "Adversarial CorrelationCritic Critic DataCritic FeatureELBO PriorCritic",
        "base": "Objective Penalised Penalty Player check_disjoint mean_over_rows", "bounds": "ELBO IWAE",
        "classes": "SemiSupervisedELBO", "correlation": "TotalCorrelation",
        "discrepancies": "MMD Sinkhorn SlicedWasserstein", "discrete": "CodebookLoss Commitment Reinforce Vimco",
        "estimators": "PIWAE DReG EncoderApart StickingTheLanding", "freebits": "FreeBits elbo_with",
        "importance": "Renyi Thermodynamic", "modalities": "Agreement ELBOWithSingles",
        "penalties": "CodeEnergy CovariancePenalty DecoderJacobian DecoderWeights EncoderJacobian",
        "rates": "Denoising RateTarget RateTargets", "spectral": "SpectralNorms", "stages": "TwoStageELBO",
    })  # fmt: skip
