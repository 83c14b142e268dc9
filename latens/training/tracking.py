"""A callback that sends the figures of a run to an experiment tracker that the user has installed."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from latens.errors import InputError
from latens.training.callbacks import Callback

TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",),
            "trackio": ("trackio",)}  # {tracker: packages, one of which is needed}  # fmt: skip
EVERY = 10  # steps from one point of a curve to the next


class Tracker(Callback):
    """Sends the figures of a run to TensorBoard, Weights & Biases, MLflow or Trackio, through accelerate.

    The tracker starts with the first step, and gets the recipe, the options and the settings. The figures of every
    tenth step are called ``step/loss`` and so on. The figures of every validation are called ``round/validation_bound``
    and so on.

    Args:
        name: "tensorboard", "wandb", "mlflow" or "trackio".
        folder: where TensorBoard writes; default: ``tensorboard`` in the run's folder, or else in the current folder.
        project: the name of the project or experiment.
        **options: passed to the tracker when it starts, for example ``mode="offline"`` for wandb.

    Raises:
        InputError: the name is unknown, or the tracker is not installed or cannot start.
    """

    def __init__(self, name: str, folder: str | Path | None = None, project: str = "latens", **options: Any):
        require_tracker(name)
        self.name, self.folder, self.project, self.options = name, folder, project, options
        self._about: dict[str, Any] = {}
        self._tracker: Any = None

    def start(self, step: int, steps: int, about: dict[str, Any]) -> None:
        """Keep the description of the run for the tracker."""
        self._about = about

    def step(self, step: int, terms: dict[str, float]) -> None:
        """Send the figures of every tenth step."""
        if self._tracker is None:
            self._tracker = self._started()
        if step % EVERY == 0:
            self._send("step", step, terms)

    def round(self, row: dict[str, Any]) -> None:
        """Send the figures of a validation."""
        if self._tracker is not None:
            self._send("round", int(row["step"]), row)

    def end(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            self._tracker.finish()
        self._tracker = None

    def _send(self, what: str, step: int, figures: dict[str, Any]) -> None:
        sound = {f"{what}/{name}": float(value) for name, value in figures.items() if math.isfinite(value)}
        self._tracker.log(sound, step=step)

    def _started(self) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()
        where = Path(self.folder or self._about.get("folder") or ".")
        own = {"logging_dir": where} if self.name == "tensorboard" else {}
        run_name = "tensorboard" if self.name == "tensorboard" else self.project
        try:
            tracker = LOGGER_TYPE_TO_CLASS[self.name](run_name, **own, **self.options)
            tracker.start()
            if self.name != "tensorboard":  # TensorBoard would put them in another folder
                tracker.store_init_configuration(_flat(self._about))
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
            raise InputError(
                f"the tracker {self.name} cannot start ({reason:.200})", "set it up, or fit without it"
            ) from error
        return tracker


def require_tracker(name: Any) -> None:
    """Raise ``InputError`` unless the tracker is known and installed."""
    if name not in TRACKERS:
        raise InputError(f"there is no tracker {name!r}", f"name one of {', '.join(TRACKERS)}")
    if not any(importlib.util.find_spec(package) for package in TRACKERS[name]):
        package = TRACKERS[name][0]
        raise InputError(f"the tracker {name} is not installed", f"pip install {package}, or fit without it")


def _flat(about: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested figures as one dict with dotted names, the form that trackers take."""
    found: dict[str, Any] = {}
    for name, value in about.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
