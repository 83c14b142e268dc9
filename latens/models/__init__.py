"""Models: how prior, posterior and likelihood are run."""

from latens.models.draw import Draw
from latens.models.semi_amortised import SemiAmortised
from latens.models.vae import VAE

__all__ = ["VAE", "Draw", "SemiAmortised"]
