"""Models: they combine a prior, a posterior and a likelihood."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.models.classes import ClassDraw, Classified
    from latens.models.draw import Draw
    from latens.models.generator import Generator, NoPosterior
    from latens.models.hamiltonian import CentroidMetric, Hamiltonian, RiemannianHamiltonian
    from latens.models.ladder import Ladder, MarkovRung, ResidualRung, Rung, Upward
    from latens.models.recurrent import Recurrent
    from latens.models.semi_amortised import SemiAmortised
    from latens.models.stages import TwoStage
    from latens.models.vae import VAE
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "classes": "ClassDraw Classified", "draw": "Draw", "generator": "Generator NoPosterior",
        "hamiltonian": "CentroidMetric Hamiltonian RiemannianHamiltonian",
        "ladder": "Ladder MarkovRung ResidualRung Rung Upward", "recurrent": "Recurrent",
        "semi_amortised": "SemiAmortised", "stages": "TwoStage", "vae": "VAE",
    })  # fmt: skip
