"""Models: how prior, posterior and likelihood are run."""

from latens.models.draw import Draw
from latens.models.ladder import Ladder, MarkovRung, ResidualRung, Rung, Upward
from latens.models.vae import VAE

__all__ = ["VAE", "Draw", "Ladder", "MarkovRung", "ResidualRung", "Rung", "Upward"]
