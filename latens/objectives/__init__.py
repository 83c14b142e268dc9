"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.classes import SemiSupervisedELBO
from latens.objectives.estimators import PIWAE, DReG, EncoderApart, StickingTheLanding
from latens.objectives.freebits import FreeBits, elbo_with
from latens.objectives.importance import Renyi, Thermodynamic
from latens.objectives.modalities import Agreement, ELBOWithSingles
from latens.objectives.stages import TwoStageELBO

__all__ = [
    "ELBO", "IWAE", "PIWAE", "Agreement", "DReG", "ELBOWithSingles", "EncoderApart", "FreeBits", "Objective",
    "Penalised", "Penalty", "Player", "Renyi", "SemiSupervisedELBO", "StickingTheLanding", "Thermodynamic",
    "TwoStageELBO", "check_disjoint", "elbo_with", "mean_over_rows",
]  # fmt: skip
