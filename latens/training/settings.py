"""How a model is trained: options, and what "auto" becomes for given counts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from latens.errors import InputError, is_number, is_whole, require

LINEAR_STEPS = 6000
COMPILED_STEPS = 15_000  # from which compiling the step (ten to twenty seconds) pays
COMPILED_ROWS = 1_800_000  # the same for rows in all epochs, where batches are large
MANY = 900_000  # rows, a million less those held out, from which batches grow and epochs shrink


@dataclass(frozen=True)
class Settings:
    """Options of training. ``"auto"`` is settled from counts alone, never from measured time, so a resumed run
    repeats every decision.

    ``epochs``: passes over the rows. ``batch_size``: rows of one (joint) step. ``learning_rate``: the peak, "auto"
    2e-3, or 4e-3 from 10,000 rows on (tables of mixed columns aside), or 1e-2 for a model of linear maps alone, which
    larger steps suit; linear warm-up over the fraction ``warmup``
    of all steps, then down to zero as ``decay`` says: "linear" (Bergsma et al. 2025), "cosine" (half of one, Loshchilov
    & Hutter 2017), or "auto", cosine for convolutions and linear for all else. ``kl_warmup``: fraction of all steps
    over which the weight of the rate grows from 0 to its final value (Bowman et al. 2016); at least one step is always
    taken at the final value. ``clip``: largest norm of the gradient, 0 for none. ``skip_norm``: an update whose
    gradient is not finite or no shorter than this (before clipping) is left out and counted (Child 2021); 0 for none,
    and what is not finite stops the run. ``average``: decay of the averaged weights, 0 for none; if on, they are the
    weights that are served. ``patience``: rounds of validation without improvement before stopping, 0 for never.
    ``keep``: the weights that are served, "best" by the validation bound or "last"; "auto" is "best", but "last" for a
    table with fewer than 200 rows held out, whose bound is too noisy to choose by. ``seed``: of everything random.
    """

    epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta2: float = 0.99
    clip: float = 1e4
    skip_norm: float = 0.0
    decay: str = "auto"
    kl_warmup: float = 0.0
    average: float = 0.0
    patience: int | str = "auto"
    keep: str = "auto"
    seed: int = 0
    compile: bool | str = "auto"
    device: str = "auto"
    checkpoint_seconds: float = 15.0

    def __post_init__(self) -> None:
        def need(condition: bool, name: str, what: str) -> None:
            require(condition, name, what, getattr(self, name))

        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            need(value == "auto" or (is_whole(value) and value >= 1), name, "'auto' or a whole number from 1")
        need(self.patience == "auto" or (is_whole(self.patience) and int(self.patience) >= 0), "patience",
             "'auto' or a whole number from 0")  # fmt: skip
        rate = self.learning_rate
        need(rate == "auto" or (is_number(rate) and float(rate) > 0), "learning_rate", "'auto' or a positive number")
        for name in ("warmup", "kl_warmup"):
            need(is_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1, name, "a fraction from 0 to 1")
        for name in ("average", "beta2"):
            need(is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1, name, "a number from 0 to below 1")
        for name in ("weight_decay", "clip", "skip_norm", "checkpoint_seconds"):
            need(is_number(getattr(self, name)) and getattr(self, name) >= 0, name, "a number from 0")
        need(is_whole(self.seed) and 0 <= self.seed < 2**63, "seed", "a whole number from 0 to 2^63 - 1")
        need(self.keep in ("auto", "best", "last"), "keep", "'auto', 'best' or 'last'")
        need(self.decay in ("auto", "linear", "cosine"), "decay", "'auto', 'linear' or 'cosine'")
        need(self.compile in ("auto", True, False), "compile", "'auto', True or False")
        need(isinstance(self.device, str), "device", "'auto' or the name of a torch device")

    def settle(
        self, rows: int, *, linear: bool = False, table: bool = False, held: int = 0, convolutions: bool = False
    ) -> Settings:  # fmt: skip
        """The same settings with every "auto" a number, for data of ``rows`` rows and ``held`` held out, a model of
        linear maps alone or another, a table of mixed columns or another kind of data. Convolutions are left to the
        libraries: compiling gains nothing there.
        """
        batch = balanced_batch(rows) if self.batch_size == "auto" else min(int(self.batch_size), rows)
        steps_an_epoch = max(1, rows // batch)
        if self.epochs == "auto":
            epochs = table_epochs(rows, steps_an_epoch) if table else default_epochs(rows)
            if 10_000 <= rows < MANY and not table and not convolutions:  # cheap epochs
                epochs = round(1.8 * epochs)
            if linear:  # cheap steps, and a valley that is flat near its floor
                epochs = max(epochs, math.ceil(LINEAR_STEPS / steps_an_epoch))
        else:
            epochs = int(self.epochs)
        rounds = math.ceil(epochs / epochs_a_round(epochs, steps_an_epoch))
        patience = max(10, rounds // 5) if self.patience == "auto" else int(self.patience)
        long = epochs * steps_an_epoch >= COMPILED_STEPS or epochs * rows >= COMPILED_ROWS
        compiled = (long and not convolutions) if self.compile == "auto" else self.compile
        usual = 1e-2 if linear else 2e-3 if table or rows < 10_000 else 4e-3
        rate = usual if self.learning_rate == "auto" else float(self.learning_rate)
        keep = ("last" if table and held < 200 else "best") if self.keep == "auto" else self.keep
        decay = ("cosine" if convolutions else "linear") if self.decay == "auto" else self.decay
        return replace(
            self, epochs=epochs, batch_size=batch, patience=patience, compile=compiled, learning_rate=rate, keep=keep,
            decay=decay,
        )  # fmt: skip

    @property
    def longest(self) -> float:
        """The norm from which an update is not made."""
        return float(self.skip_norm) or math.inf

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown training option {unknown[0]!r}; the valid ones are {', '.join(sorted(known))}")
        return cls(**values)


def default_epochs(rows: int) -> int:
    """Passes over the data: ten for 55,000 rows, more for fewer (settled on validation data, docs/experiments.md); at
    least three below a million rows, one from ten million on. Dense networks on arrays of 10,000 rows or more take 1.8
    times as many.

    >>> default_epochs(55_000), default_epochs(1_600), default_epochs(100)
    (10, 100, 200)
    >>> default_epochs(500_000), default_epochs(10**6), default_epochs(10**7)
    (3, 2, 1)
    """
    floor = 3 if rows < MANY else 2 if rows < 10 * MANY else 1
    return min(max(floor, round(10 * (55_000 / rows) ** 0.65)), 200)


def table_epochs(rows: int, steps_an_epoch: int) -> int:
    """Passes over a table of mixed columns: 2,000 steps, or 80 times the root of the rows where that is more (chosen by
    imputation error, docs/experiments.md); from a million rows on as for any data.

    >>> table_epochs(160, 8), table_epochs(48_546, 379), table_epochs(10**7, 2441)
    (250, 47, 1)
    """
    steps = max(2000.0, 80 * math.sqrt(rows))
    return math.ceil(steps / steps_an_epoch) if rows < MANY else default_epochs(rows)


def balanced_batch(rows: int, target: int | None = None) -> int:
    """A batch near ``target`` that leaves few rows over: at least 8 steps an epoch where the rows allow. The target is
    128, from a million rows on 512 and from ten million on 4,096, so that the steps of a fit stay in the ten thousands.

    >>> balanced_batch(60_000), balanced_batch(300), balanced_batch(20)
    (128, 33, 10)
    >>> balanced_batch(10**6), balanced_batch(10**8)
    (512, 4096)
    """
    if target is None:
        target = 128 if rows < MANY else 512 if rows < 10 * MANY else 4096
    if rows >= 40 * target:
        return target
    wanted = min(target, max(rows // 8, min(rows, 16)))
    return max(1, rows // math.ceil(rows / wanted)) if rows > wanted else rows


def epochs_a_round(epochs: int, steps_an_epoch: int) -> int:
    """Epochs between two validations: at least 25 steps, at most 200 rounds."""
    return max(1, math.ceil(25 / steps_an_epoch), math.ceil(epochs / 200))


def learning_rate_at(step: int, steps: int, settings: Settings) -> float:
    """Linear warm-up to the peak, then a straight line or half a cosine down to zero."""
    warm = max(1, round(settings.warmup * steps))
    peak = float(settings.learning_rate)
    if step < warm:
        return peak * (step + 1) / warm
    gone = min(1.0, (step - warm) / max(1, steps - warm))
    return peak * (0.5 * (1 + math.cos(math.pi * gone)) if settings.decay == "cosine" else 1 - gone)


def anneal_at(step: int, steps: int, settings: Settings, warmup: float = 0.0) -> float:
    """The weight of the rate in warm-up: reaches 1 before the last step whatever the length of the run. ``warmup`` is
    the fraction of the steps that it takes where the settings name none.

    >>> [round(anneal_at(step, 10, Settings(), 0.3), 2) for step in (0, 1, 2, 3, 9)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    warm = min(round((settings.kl_warmup or warmup) * steps), steps - 1)
    return 1.0 if step >= warm else (step + 1) / (warm + 1)
