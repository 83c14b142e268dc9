"""Training: the loop, its settings, checkpoints and progress."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.training.callbacks import Bar, Callback, Interrupted, Progress
    from latens.training.checkpoint import Checkpoints, Log
    from latens.training.diagnosis import NonFiniteError
    from latens.training.loop import Trainer
    from latens.training.processes import Processes
    from latens.training.settings import Settings
    from latens.training.tracking import Tracker
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "callbacks": "Bar Callback Interrupted Progress", "checkpoint": "Checkpoints Log",
        "diagnosis": "NonFiniteError", "loop": "Trainer", "processes": "Processes", "settings": "Settings",
        "tracking": "Tracker",
    })  # fmt: skip
