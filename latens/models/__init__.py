"""Models: how prior, posterior and likelihood are run."""

from latens.models.draw import Draw
from latens.models.hamiltonian import CentroidMetric, Hamiltonian, RiemannianHamiltonian
from latens.models.ladder import Ladder, MarkovRung, ResidualRung, Rung, Upward
from latens.models.vae import VAE

__all__ = ["VAE", "CentroidMetric", "Draw", "Hamiltonian", "Ladder", "MarkovRung", "ResidualRung", "RiemannianHamiltonian", "Rung", "Upward"]
