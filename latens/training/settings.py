"""How a model is trained: options, and what "auto" becomes for given counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from latens.errors import InputError, is_number, is_whole, require

LINEAR_STEPS = 6000
COMPILED_STEPS = 15_000  # from which compiling the step (ten to twenty seconds) pays
COMPILED_ROWS = 1_800_000  # the same for rows in all epochs, where batches are large
AVERAGED_ROWS = 2_000  # of a table, from which on weights are averaged
MANY = 900_000  # rows, a million less those held out, from which batches grow and epochs shrink


@dataclass(frozen=True)
class Values:
    """What an option takes: in words, as a test, and as the command line reads it.

    ``words``: the values, for messages. ``allows``: whether a value is one of them. ``kind``: what reads a word of the
    command line; ``noun``: what it reads. ``metavar``: what stands for a value in the help. ``auto``: whether "auto" is
    a value. ``low``: the smallest, where the command line itself is to refuse what is smaller.
    """

    words: str
    allows: Callable[[Any], bool]
    kind: Callable[[str], Any] = float
    noun: str = "a number"
    metavar: str | None = None
    auto: bool = False
    low: int | None = None


def option(default: Any, values: Values, help: str, **more: Any) -> Any:
    """A field that is an option of training, with its help on the command line."""
    return field(default=default, metadata={"values": values, "help": help}, **more)


def whole(low: int) -> Values:
    """A whole number from ``low`` on, or "auto"."""
    return Values(
        f"'auto' or a whole number from {low}", lambda value: value == "auto" or (is_whole(value) and value >= low),
        int, "a whole number", "N|auto", auto=True,
    )  # fmt: skip


def _one_of(*names: str) -> Values:
    words = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    return Values(words, lambda value: value in names, str, metavar="|".join(names))


def _yes_or_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise ValueError
    return word == "yes"


_RATE = Values(
    "'auto' or a positive number", lambda value: value == "auto" or (is_number(value) and float(value) > 0),
    metavar="RATE|auto", auto=True,
)  # fmt: skip
_FRACTION = Values("a fraction from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
_AVERAGE = Values(
    "'auto' or a number from 0 to below 1", lambda value: value == "auto" or (is_number(value) and 0 <= value < 1),
    metavar="DECAY|auto", auto=True,
)  # fmt: skip
_DECAY = Values("a number from 0 to below 1", lambda value: is_number(value) and 0 <= value < 1)
_AMOUNT = Values("a number from 0", lambda value: is_number(value) and value >= 0, low=0)
_SEED = Values(
    "a whole number from 0 to 2^63 - 1", lambda value: is_whole(value) and 0 <= value < 2**63, int, low=0
)
_COMPILE = Values(
    "'auto', True or False", lambda value: value in ("auto", True, False), _yes_or_no, "yes or no", "auto|yes|no",
    auto=True,
)  # fmt: skip
_DEVICE = Values("'auto' or the name of a torch device", lambda value: isinstance(value, str), str, metavar="DEVICE")
INNER = ("warmup", "beta2", "decay")  # no options of the command line: there they are those of recipes


@dataclass(frozen=True)
class Settings:
    """Options of training, each with the values that it takes and its help; the command line makes its options of
    them. ``"auto"`` is settled from counts alone, never from measured time, so a resumed run repeats every decision.

    ``learning_rate``: linear warm-up over the fraction ``warmup`` of all steps, then down to zero as ``decay`` says:
    "linear" (Bergsma et al. 2025) or "cosine" (half of one, Loshchilov & Hutter 2017). ``kl_warmup``: Bowman et al.
    2016; at least one step is always taken at the final weight. ``skip_norm``: Child 2021; at 0, what is not finite
    stops the run. ``keep``: the bound of few rows is too noisy to choose by.
    """

    epochs: int | str = option(
        "auto", whole(1), "Pass over the rows this many times, from 1; auto: by their number."
    )
    batch_size: int | str = option(
        "auto", whole(1), "Take this many rows in each step, from 1; auto: about 128, more from a million rows on."
    )
    learning_rate: float | str = option(
        "auto", _RATE,
        "Peak at this rate, above 0; auto: 2e-3, or 4e-3 from 10,000 rows on (tables of mixed columns aside), or 1e-2 "
        "for linear maps alone.",
    )  # fmt: skip
    warmup: float = option(0.03, _FRACTION, "Grow the learning rate to its peak over this fraction of the steps.")
    weight_decay: float = option(0.0, _AMOUNT, "Decay the weights of linear and convolutional maps (AdamW), from 0.")
    beta2: float = option(0.99, _DECAY, "Average squared gradients with this decay (AdamW), from 0 to below 1.")
    clip: float = option(1e4, _AMOUNT, "Shorten gradients to this norm, from 0; 0: never.")
    skip_norm: float = option(
        0.0, _AMOUNT,
        "Leave out and count updates whose gradient has this norm or a larger one before clipping, or is not finite, "
        "from 0; 0: none.",
    )  # fmt: skip
    decay: str = option(
        "auto", _one_of("auto", "linear", "cosine"),
        "Lower the learning rate so after its peak; auto: cosine for convolutions, linear for all else.",
    )  # fmt: skip
    kl_warmup: float = option(
        0.0, _FRACTION, "Grow the weight of the rate from 0 to its value over this fraction of the steps, from 0 to 1."
    )
    average: float | str = option(
        "auto", _AVERAGE,
        "Average the weights with this decay, from 0 to below 1, and serve the averages; 0: do not; auto: 0.998 for "
        "tables of mixed columns with 2,000 rows or more, 0 for all else.",
    )  # fmt: skip
    patience: int | str = option(
        "auto", whole(0),
        "Stop after this many validations without improvement, from 0; 0: never; auto: a fifth of all, at least 10.",
    )  # fmt: skip
    keep: str = option(
        "auto", _one_of("auto", "best", "last"),
        "Serve the weights with the best validation bound, or the last; auto: best, but last for a table with fewer "
        "than 200 rows held out.",
    )  # fmt: skip
    seed: int = option(0, _SEED, "Seed everything random with this number, from 0.")
    compile: bool | str = option("auto", _COMPILE, "Make one graph of the step; auto: where the run is long.")
    device: str = option("auto", _DEVICE, "Train on this device: auto, cpu, cuda, …")
    checkpoint_seconds: float = option(
        15.0, _AMOUNT, "Write a checkpoint after this many seconds, from 0; 0: after every step."
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            values, value = each.metadata["values"], getattr(self, each.name)
            require(values.allows(value), each.name, values.words, value)

    def settle(
        self, rows: int, *, linear: bool = False, table: bool = False, held: int = 0, convolutions: bool = False
    ) -> Settings:  # fmt: skip
        """The same settings with every "auto" a number, for data of ``rows`` rows and ``held`` held out, a model of
        linear maps alone or another, a table of mixed columns or another kind of data. Convolutions are left to the
        libraries: compiling gains nothing there.
        """
        batch = balanced_batch(rows) if self.batch_size == "auto" else min(int(self.batch_size), rows)
        steps_an_epoch = max(1, rows // batch)
        usual = self.epochs == "auto"
        epochs = usual_epochs(rows, steps_an_epoch, linear, table, convolutions) if usual else int(self.epochs)
        rounds = math.ceil(epochs / epochs_a_round(epochs, steps_an_epoch))
        long = epochs * steps_an_epoch >= COMPILED_STEPS or epochs * rows >= COMPILED_ROWS
        automatic: dict[str, Any] = {
            "patience": max(10, rounds // 5), "compile": long and not convolutions,
            "learning_rate": 1e-2 if linear else 2e-3 if table or rows < 10_000 else 4e-3,
            "keep": "last" if table and held < 200 else "best", "decay": "cosine" if convolutions else "linear",
            "average": 0.998 if table and rows >= AVERAGED_ROWS else 0.0,
        }  # fmt: skip
        settled = {n: v if (own := getattr(self, n)) == "auto" else type(v)(own) for n, v in automatic.items()}
        return replace(self, epochs=epochs, batch_size=batch, **settled)

    @property
    def longest(self) -> float:
        """The norm from which an update is not made."""
        return float(self.skip_norm) or math.inf

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown training option {unknown[0]!r}; the valid ones are {', '.join(sorted(known))}")
        return cls(**values)


def usual_epochs(rows: int, steps_an_epoch: int, linear: bool, table: bool, convolutions: bool) -> int:
    """The passes over the data that "auto" stands for; see :meth:`Settings.settle`."""
    epochs = table_epochs(rows, steps_an_epoch) if table else default_epochs(rows)
    if 10_000 <= rows < MANY and not table and not convolutions:  # cheap epochs
        epochs = round(1.8 * epochs)
    if linear:  # cheap steps, and a valley that is flat near its floor
        epochs = max(epochs, math.ceil(LINEAR_STEPS / steps_an_epoch))
    return epochs


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
