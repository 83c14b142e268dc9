"""Training: the loop, its settings, checkpoints, and what it tells a person."""

from latens.training.callbacks import Bar, Interrupted, Progress
from latens.training.checkpoint import Checkpoints
from latens.training.loop import NonFiniteError, Trainer
from latens.training.settings import Settings

__all__ = ["Bar", "Checkpoints", "Interrupted", "NonFiniteError", "Progress", "Settings", "Trainer"]
