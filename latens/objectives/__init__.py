"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.freebits import FreeBits
from latens.objectives.modalities import Agreement, ELBOWithSingles

__all__ = ["ELBO", "IWAE", "Agreement", "ELBOWithSingles", "FreeBits", "Objective", "Penalised", "Penalty", "Player", "check_disjoint", "mean_over_rows"]
