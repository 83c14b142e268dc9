"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.discrete import CodebookLoss, Commitment, Reinforce, Vimco

__all__ = [
    "ELBO", "IWAE", "CodebookLoss", "Commitment", "Objective", "Penalised", "Penalty", "Player", "Reinforce", "Vimco",
    "check_disjoint", "mean_over_rows",
]  # fmt: skip
