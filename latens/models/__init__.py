"""Models: how prior, posterior and likelihood are run."""

from latens.models.classes import ClassDraw, Classified
from latens.models.draw import Draw
from latens.models.generator import Generator, NoPosterior
from latens.models.hamiltonian import CentroidMetric, Hamiltonian, RiemannianHamiltonian
from latens.models.ladder import Ladder, MarkovRung, ResidualRung, Rung, Upward
from latens.models.recurrent import Recurrent
from latens.models.semi_amortised import SemiAmortised
from latens.models.stages import TwoStage
from latens.models.vae import VAE

__all__ = [
    "VAE", "CentroidMetric", "ClassDraw", "Classified", "Draw", "Generator", "Hamiltonian", "Ladder", "MarkovRung",
    "NoPosterior", "Recurrent", "ResidualRung", "RiemannianHamiltonian", "Rung", "SemiAmortised", "TwoStage",
    "Upward",
]  # fmt: skip
