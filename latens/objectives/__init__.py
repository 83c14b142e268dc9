"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.estimators import PIWAE, DReG, EncoderApart, StickingTheLanding
from latens.objectives.importance import Renyi, Thermodynamic

__all__ = [
    "ELBO", "IWAE", "PIWAE", "DReG", "EncoderApart", "Objective", "Penalised", "Penalty", "Player", "Renyi",
    "StickingTheLanding", "Thermodynamic", "check_disjoint", "mean_over_rows",
]  # fmt: skip
