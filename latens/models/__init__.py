"""Models: how prior, posterior and likelihood are run."""

from latens.models.draw import Draw
from latens.models.generator import Generator, NoPosterior
from latens.models.vae import VAE

__all__ = ["VAE", "Draw", "Generator", "NoPosterior"]
