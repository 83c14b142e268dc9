"""Objectives: bounds, penalties, and who descends what."""

from latens.objectives.base import Objective, Penalised, Penalty, Player, check_disjoint, mean_over_rows
from latens.objectives.bounds import ELBO, IWAE
from latens.objectives.freebits import FreeBits

__all__ = ["ELBO", "IWAE", "FreeBits", "Objective", "Penalised", "Penalty", "Player", "check_disjoint", "mean_over_rows"]
