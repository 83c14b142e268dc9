"""Callbacks and progress bars, which follow a run, and the interruption of a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from latens.errors import InputError


class Callback:
    """Follows a run, and can stop it. Subclass it, and pass instances to :func:`latens.train` or :class:`latens.VAE`.

    If a method returns True, the run stops after the current step. It ends as with early stopping, with the best
    weights so far. An exception ends the run at once, and reaches the caller. If a run has several processes, only the
    main one calls its callbacks. Callbacks receive figures only, so a run gives the same result with and without them.

    >>> import latens, numpy as np
    >>> class Enough(Callback):
    ...     def step(self, step, terms):
    ...         return step == 3
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> latens.VAE(latent_dim=1, epochs=9, random_state=0, callbacks=[Enough()]).fit(X).run_.history[-1]["step"]
    3
    """

    def start(self, step: int, steps: int, about: dict[str, Any]) -> bool | None:
        """Training starts, or continues, at ``step`` of ``steps``. ``about`` describes the run: its recipe, options,
        settings and rows, as in run.json, and its folder."""

    def step(self, step: int, terms: dict[str, float]) -> bool | None:
        """Step number ``step``, counted from 1, is done.

        Args:
            step: the number of steps so far.
            terms: the figures of the batch: ``loss``, ``distortion`` and ``rate`` in nats per row (the rate is NaN if
                the model has none), the ``gradient_norm`` before clipping, and the ``learning_rate``. The figures of a
                second player are called ``loss_NAME`` and ``gradient_norm_NAME``. A skipped update also has
                ``skipped``, 1.
        """

    def round(self, row: dict[str, Any]) -> bool | None:
        """A validation is done; ``row`` has its figures, as in metrics.csv: ``validation_bound`` and more."""

    def end(self) -> None:
        """The run has ended, for whatever reason."""


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks. Raise ``InputError`` unless they are a list of :class:`Callback`."""
    given = () if callbacks is None else callbacks
    if not isinstance(given, list | tuple) or not all(isinstance(each, Callback) for each in given):
        raise InputError(f"callbacks must be a list of instances of latens.training.Callback, got {callbacks!r}")
    return tuple(given)


class Progress:
    """Receives the progress of a run, and shows nothing. Subclass it to watch training."""

    def start(self, step: int, steps: int) -> None:
        """Training starts, or continues, at ``step`` of ``steps``."""

    def step(self, step: int, rate: float, distortion: float) -> None:
        """A step is done. Rate (NaN if there is none) and distortion are in nats per row."""

    def round(self, row: dict[str, Any]) -> None:
        """A validation is done; ``row`` has its figures, as in metrics.csv."""

    def note(self, text: str) -> None:
        """A remark for the user."""

    def close(self) -> None:
        """Training has ended."""


class Bar(Progress):
    """A progress bar with rate and distortion, in nats per row, on stderr."""

    def __init__(self, title: str = "fit") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"), TimeRemainingColumn(), console=self.console,
            transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.title = title

    def start(self, step: int, steps: int) -> None:
        """Show the bar."""
        self._task = self._bar.add_task(self.title, total=steps, completed=step, figures="")
        self._bar.start()

    def step(self, step: int, rate: float, distortion: float) -> None:
        """Move the bar."""
        figures = f"distortion {distortion:.2f}" if rate != rate else f"rate {rate:.2f}  distortion {distortion:.2f}"
        self._bar.update(self._task, completed=step, figures=figures)

    def note(self, text: str) -> None:
        """Print a remark above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class Interrupted(KeyboardInterrupt):
    """Training was interrupted between two steps. The checkpoint, if there is one, is complete."""


class StopSignal:
    """Within the block, the first Ctrl-C or SIGTERM asks the loop to stop after the current step. The second one stops
    it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self._before[name] = signal.signal(name, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
