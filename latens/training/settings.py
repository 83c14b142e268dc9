"""How a model is trained: the options, and the value that "auto" gets from the counts of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from latens.errors import InputError, is_number, is_whole

LINEAR_STEPS = 6000
COMPILED_STEPS = 15_000  # shorter runs are not compiled: compiling takes about 100 s for mixed tables
COMPILED_ROWS = 1_800_000  # the same limit in rows over all epochs, for large batches
AVERAGED_ROWS = 2_000  # weights are averaged for tables of this many rows or more
DOUBLED_ROWS = 2_000  # tables of this many rows or more, if not compiled: twice the rows per step at twice the rate
MANY = 900_000  # with this many training rows or more, batches are larger and epochs fewer


@dataclass(frozen=True)
class Values:
    """The values that an option takes.

    Attributes:
        words: description of the values, for messages.
        allows: whether a value is allowed.
        kind: converts a word of the command line.
        noun: what ``kind`` converts a word to, for messages.
        metavar: the name of a value in help texts.
        auto: whether "auto" is a value.
        low: the smallest value, if the command line itself refuses smaller ones.
    """

    words: str
    allows: Callable[[Any], bool]
    kind: Callable[[str], Any] = float
    noun: str = "a number"
    metavar: str | None = None
    auto: bool = False
    low: int | None = None


def option(default: Any, values: Values, help: str, **more: Any) -> Any:
    """A field of :class:`Settings`: its default, its values, and its help on the command line."""
    return field(default=default, metadata={"values": values, "help": help}, **more)


def whole(low: int) -> Values:
    """Whole numbers from ``low``, and "auto"."""
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
_FRACTION = Values("a fraction from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1, metavar="SHARE")
_AVERAGE = Values(
    "'auto' or a number from 0 to below 1", lambda value: value == "auto" or (is_number(value) and 0 <= value < 1),
    metavar="DECAY|auto", auto=True,
)  # fmt: skip
_DECAY = Values("a number from 0 to below 1", lambda value: is_number(value) and 0 <= value < 1)
_AMOUNT = Values("a number from 0", lambda value: is_number(value) and value >= 0, metavar="X", low=0)
_SEED = Values(
    "a whole number from 0 to 2^63 - 1", lambda value: is_whole(value) and 0 <= value < 2**63, int, metavar="N", low=0
)
_COMPILE = Values(
    "'auto', True or False", lambda value: value in ("auto", True, False), _yes_or_no, "yes or no", "auto|yes|no",
    auto=True,
)  # fmt: skip
_DEVICE = Values("'auto' or the name of a torch device", lambda value: isinstance(value, str), str, metavar="DEVICE")
INNER = ("warmup", "beta2", "decay")  # not on the command line, because recipes have options of these names


@dataclass(frozen=True)
class Settings:
    """Options of training. The metadata of each field has its values and its help, from which the command line is
    built.

    The value of ``"auto"`` depends on counts alone, never on measured time, so a resumed run decides in the same way.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows of a step.
        learning_rate: the peak, reached by linear warm-up. Then the rate falls to 0 in the way that ``decay`` says.
        warmup: share of all steps until the peak.
        weight_decay: AdamW's decoupled decay (Loshchilov & Hutter 2019).
        beta2: AdamW's decay of averaged squared gradients.
        clip: the largest norm of a gradient; 0 for no limit.
        skip_norm: an update is skipped if its gradient has this norm or more (Child 2021). At 0, no update is skipped,
            and a gradient that is not finite stops the run.
        decay: "linear" (Bergsma et al. 2025), "cosine" (half a period, Loshchilov & Hutter 2017) or "auto".
        kl_warmup: share of all steps in which the weight of the rate grows from 0 (Bowman et al. 2016); at least one
            step has the final weight.
        average: decay of averaged weights (Polyak & Juditsky 1992); 0 for none.
        patience: validations without improvement until training stops; 0 for no limit.
        keep: which weights are kept, "best", "last" or "auto". With few held-out rows the bound is too noisy for
            "best".
        seed: the seed of all random numbers.
        compile: whether a step is compiled to one graph.
        precision: "float32", or "bf16" for linear maps and convolutions that multiply in bfloat16 in the steps of
            training. Weights, losses, validation and all later use stay in float32.
        device: a torch device, or "auto".
        checkpoint_seconds: time between checkpoints, in seconds.

    Raises:
        InputError: an option has a value that is not allowed.

    >>> Settings(epochs=2).settle(rows=1000).batch_size
    125
    """

    epochs: int | str = option(
        "auto", whole(1), "Pass over the rows N times, at least 1; auto: more passes for fewer rows."
    )
    batch_size: int | str = option(
        "auto", whole(1),
        "Take N rows in each step, at least 1; auto: about 128, or 256 for tables of 2,000 to about 30,000 "
        "rows, or more from a million rows.",
    )  # fmt: skip
    learning_rate: float | str = option(
        "auto", _RATE,
        "Reach this learning rate at its peak, above 0; auto: 2e-3, or 4e-3 for tables of 2,000 to about 30,000 rows "
        "and for arrays from 10,000 rows, or 1e-2 if all maps are linear.",
    )  # fmt: skip
    warmup: float = option(0.03, _FRACTION, "Raise the learning rate to its peak over this share of the steps, 0 to 1.")
    weight_decay: float = option(0.0, _AMOUNT, "Decay the weights of linear and convolutional maps this much (AdamW).")
    beta2: float = option(0.99, _DECAY, "Average squared gradients with this decay (AdamW), from 0 to below 1.")
    clip: float = option(1e4, _AMOUNT, "Shorten gradients to this norm; 0: never.")
    skip_norm: float = option(
        0.0, _AMOUNT,
        "Skip and count updates whose gradient is not finite, or has this norm or more before clipping; 0: skip none.",
    )  # fmt: skip
    decay: str = option(
        "auto", _one_of("auto", "linear", "cosine"),
        "Lower the learning rate in this way after its peak; auto: cosine for convolutions, otherwise linear.",
    )  # fmt: skip
    kl_warmup: float = option(
        0.0, _FRACTION, "Raise the weight of the rate from 0 to its value over this share of the steps, from 0 to 1."
    )
    average: float | str = option(
        "auto", _AVERAGE,
        "Keep averages of the weights with this decay, from 0 to below 1, and use them after training; 0: no averages; "
        "auto: 0.998 for tables of mixed columns with 2,000 rows or more, otherwise 0.",
    )  # fmt: skip
    patience: int | str = option(
        "auto", whole(0),
        "Stop after N validations without improvement, from 0; 0: never; auto: a fifth of all, at least 10.",
    )  # fmt: skip
    keep: str = option(
        "auto", _one_of("auto", "best", "last"),
        "Keep the weights with the best validation bound, or the last ones; auto: best, but last for a table with "
        "fewer than 200 held-out rows.",
    )  # fmt: skip
    seed: int = option(0, _SEED, "Seed all random numbers with N.")
    compile: bool | str = option("auto", _COMPILE, "Compile each step to one graph; auto: for long runs.")
    precision: str = option(
        "float32", _one_of("float32", "bf16"),
        "Multiply in this precision in the steps of training; bf16 (8 significant bits) is faster on processors with "
        "bfloat16 instructions.",
    )  # fmt: skip
    device: str = option("auto", _DEVICE, "Train on this device: auto, cpu, cuda, …; auto: a GPU if there is one.")
    checkpoint_seconds: float = option(15.0, _AMOUNT, "Write a checkpoint every X seconds; 0: after every step.")

    def __post_init__(self) -> None:
        for each in fields(self):
            values, value = each.metadata["values"], getattr(self, each.name)
            if not values.allows(value):
                raise InputError(f"{each.name} must be {values.words}, got {value!r}")

    def settle(
        self, rows: int, *, linear: bool = False, table: bool = False, held: int = 0, convolutions: bool = False
    ) -> Settings:  # fmt: skip
        """The same settings with a value in place of each "auto".

        Args:
            rows: training rows.
            linear: whether all maps of the model are linear.
            table: whether the data are a table of mixed columns.
            held: held-out rows.
            convolutions: whether the model has convolutions, which gain nothing from compiling.
        """
        batch, epochs = self._batch_and_epochs(rows, linear, table, convolutions)
        steps_an_epoch = max(1, rows // batch)
        long = epochs * steps_an_epoch >= COMPILED_STEPS or epochs * rows >= COMPILED_ROWS
        doubled = table and self._is_free and rows >= DOUBLED_ROWS and not (long or linear)
        batch = 2 * batch if doubled else batch
        steps_an_epoch = max(1, rows // batch)
        rounds = math.ceil(epochs / epochs_a_round(epochs, steps_an_epoch))
        automatic: dict[str, Any] = {
            "patience": max(10, rounds // 5), "compile": long and not convolutions,
            "learning_rate": usual_rate(rows, linear, table, doubled),
            "keep": "last" if table and held < 200 else "best", "decay": "cosine" if convolutions else "linear",
            "average": 0.998 if table and rows >= AVERAGED_ROWS else 0.0,
        }  # fmt: skip
        settled = {n: v if (own := getattr(self, n)) == "auto" else type(v)(own) for n, v in automatic.items()}
        return replace(self, epochs=epochs, batch_size=batch, **settled)

    def _batch_and_epochs(self, rows: int, linear: bool, table: bool, convolutions: bool) -> tuple[int, int]:
        """(rows per step, not yet doubled; epochs)."""
        batch = balanced_batch(rows) if self.batch_size == "auto" else min(int(self.batch_size), rows)
        if self.epochs != "auto":
            return batch, int(self.epochs)
        return batch, usual_epochs(rows, max(1, rows // batch), linear, table, convolutions)

    @property
    def _is_free(self) -> bool:
        """Whether the size of a step, its rate and compiling are all "auto"."""
        return self.batch_size == self.learning_rate == self.compile == "auto"

    @property
    def longest(self) -> float:
        """The gradient norm from which an update is skipped; infinity if none is skipped."""
        return float(self.skip_norm) or math.inf

    def to_json(self) -> dict[str, Any]:
        """The settings as types of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """The settings from the result of :meth:`to_json`. Raise ``InputError`` for an unknown option."""
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown training option {unknown[0]!r}", f"pass one of {', '.join(sorted(known))}")
        return cls(**values)


def usual_epochs(rows: int, steps_an_epoch: int, linear: bool, table: bool, convolutions: bool) -> int:
    """The epochs that "auto" means; see :meth:`Settings.settle`."""
    epochs = table_epochs(rows, steps_an_epoch) if table else default_epochs(rows)
    if 10_000 <= rows < MANY and not table and not convolutions:  # epochs are cheap
        epochs = round(1.8 * epochs)
    if linear:  # steps are cheap, and the loss is flat near its minimum
        epochs = max(epochs, math.ceil(LINEAR_STEPS / steps_an_epoch))
    return epochs


def usual_rate(rows: int, linear: bool, table: bool, doubled: bool) -> float:
    """The peak rate that "auto" means; ``doubled`` if a step has twice the rows of other tables."""
    if linear:
        return 1e-2
    return 4e-3 if doubled or (rows >= 10_000 and not table) else 2e-3


def default_epochs(rows: int) -> int:
    """Epochs for ``rows`` rows: 10 for 55,000, more for fewer rows, at least 3 below a million, and 1 from ten million.

    The figures were chosen on validation data (docs/experiments.md). Dense networks on arrays of 10,000 rows or more
    take 1.8 times as many epochs.

    >>> default_epochs(55_000), default_epochs(1_600), default_epochs(100)
    (10, 100, 200)
    >>> default_epochs(500_000), default_epochs(10**6), default_epochs(10**7)
    (3, 2, 1)
    """
    floor = 3 if rows < MANY else 2 if rows < 10 * MANY else 1
    return min(max(floor, round(10 * (55_000 / rows) ** 0.65)), 200)


def table_epochs(rows: int, steps_an_epoch: int) -> int:
    """Epochs for a table of mixed columns: 2,000 steps, or 80 times the square root of the rows if that is more.

    The figures were chosen by imputation error (docs/experiments.md). From a million rows, :func:`default_epochs`
    applies.

    >>> table_epochs(160, 8), table_epochs(48_546, 379), table_epochs(10**7, 2441)
    (250, 47, 1)
    """
    steps = max(2000.0, 80 * math.sqrt(rows))
    return math.ceil(steps / steps_an_epoch) if rows < MANY else default_epochs(rows)


def balanced_batch(rows: int, target: int | None = None) -> int:
    """A batch size near ``target`` that leaves few rows over, with at least 8 steps per epoch if there are enough rows.

    The default target is 128. It is 512 from a million rows and 4,096 from ten million, which keeps the number of steps
    of a fit in the tens of thousands.

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
    """Epochs from one validation to the next, which are at least 25 steps. A run has at most 200 validations."""
    return max(1, math.ceil(25 / steps_an_epoch), math.ceil(epochs / 200))


def learning_rate_at(step: int, steps: int, settings: Settings) -> float:
    """The learning rate of a step: linear warm-up to the peak, then a straight line or half a cosine down to 0."""
    warm = max(1, round(settings.warmup * steps))
    peak = float(settings.learning_rate)
    if step < warm:
        return peak * (step + 1) / warm
    gone = min(1.0, (step - warm) / max(1, steps - warm))
    return peak * (0.5 * (1 + math.cos(math.pi * gone)) if settings.decay == "cosine" else 1 - gone)


def anneal_at(step: int, steps: int, settings: Settings, warmup: float = 0.0) -> float:
    """The factor of the rate's weight at a step. It grows to 1, and reaches 1 before the last step of any run.

    ``warmup`` is the share of the steps in which the factor grows, if the settings give none.

    >>> [round(anneal_at(step, 10, Settings(), 0.3), 2) for step in (0, 1, 2, 3, 9)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    warm = min(round((settings.kl_warmup or warmup) * steps), steps - 1)
    return 1.0 if step >= warm else (step + 1) / (warm + 1)
