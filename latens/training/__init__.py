"""Training: the loop, its settings, checkpoints, and what it tells a person."""

from latens.training.callbacks import Bar, Interrupted, Progress
from latens.training.checkpoint import Checkpoints
from latens.training.diagnosis import NonFiniteError
from latens.training.loop import Trainer
from latens.training.processes import Processes
from latens.training.settings import Settings

__all__ = ["Bar", "Checkpoints", "Interrupted", "NonFiniteError", "Processes", "Progress", "Settings", "Trainer"]
