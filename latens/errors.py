"""The errors that a user can see."""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard


class InputError(ValueError):
    """A user's mistake, in one sentence: what is wrong (and where), a colon, what to do. It has no capital and no full
    stop.

    The command line prints the sentence and exits with status 2; Python sees a ``ValueError``.

    Args:
        wrong: what is wrong, with the file, row, column and value seen.
        remedy: what to do, with the option to use; empty if ``wrong`` already says it ("k must be at least 1, got 0").

    >>> str(InputError("people.csv, row 17: column 'age' has 'abc', which is not a number", "fix the cell"))
    "people.csv, row 17: column 'age' has 'abc', which is not a number: fix the cell"
    """

    def __init__(self, wrong: str, remedy: str = "") -> None:
        super().__init__(f"{wrong}: {remedy}" if remedy else wrong)


class FitError(ArithmeticError):
    """A fit failed numerically. The command line prints the sentence and exits with status 1."""


class Stopped(Exception):
    """A person stopped the work. The message says how to continue. The command line exits with status 130."""


def damaged(what: str) -> InputError:
    """The error for a damaged schema in the record of a run; ``what`` continues the sentence "the schema of the data
    …".

    >>> str(damaged("lacks levels"))
    'the schema of the data lacks levels: restore run.json from a copy, or fit again'
    """
    return InputError(f"the schema of the data {what}", "restore run.json from a copy, or fit again")


@contextmanager
def concerning(what: object) -> Iterator[None]:
    """Put ``what`` (a file, a folder, a source of data) in front of any ``InputError`` raised within the block.

    >>> with concerning("rows.npy"):
    ...     raise InputError("the data are empty")
    Traceback (most recent call last):
    latens.errors.InputError: rows.npy: the data are empty
    """
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(what) in str(error) else f"{what}: {error}") from error


_OPTION = re.compile(r"--(format|column) (?P<q>['\"]?)([^=]+?)(?P=q)=(\S+?)(?=[,.;:)]*(?:\s|$))")
_DROP = re.compile(r"--drop (['\"])(.+?)\1")


def in_python(sentence: str) -> str:
    """Replace the options of the command line in a sentence by the arguments of :class:`latens.VAE`.

    >>> in_python("pass --format when=day-first, or leave it out with --drop 'when'.")
    "pass formats={'when': 'day-first'}, or leave it out with columns={'when': 'drop'}."
    """
    sentence = _OPTION.sub(lambda found: f"{found[1]}s={{{found[3]!r}: {found[4]!r}}}", sentence)
    sentence = sentence.replace("--layer", "layer")
    return _DROP.sub(lambda found: f"columns={{{found[2]!r}: 'drop'}}", sentence)


@contextmanager
def said_in_python() -> Iterator[None]:
    """Within the block, an ``InputError`` names arguments, not options of the command line; see :func:`in_python`."""
    try:
        yield
    except InputError as error:
        error.args = (in_python(str(error)),)
        raise


def printable(text: str) -> str:
    r"""The text with all control characters except line breaks and tabs written out, so that a name in a file cannot
    send commands to the terminal.

    >>> print(printable("a\x1b[31mb"))
    a\x1b[31mb
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def require(condition: bool, name: str, what: str, value: Any) -> None:
    """Raise ``InputError`` "name must be what, got value" unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {what}, got {value!r}")


def require_count(value: Any, name: str, least: int = 1, most: int = 1000) -> None:
    """Raise ``InputError`` unless the value is a whole number from ``least`` to ``most``, the limit for things that are
    made one by one."""
    require(is_whole(value) and least <= value <= most, name, f"a whole number from {least} to {most:,}", value)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether the value is a whole number and not a boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite number and not a boolean."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def choose(name: str, valid: Sequence[str], listed: str, shown: Callable[[str], str] = repr) -> str:
    """What to do about a name that is not valid: suggest a similar name, or list the valid ones as in ``listed``.

    >>> choose("agee", ["age", "sex"], "age, sex"), choose("colour", ["age", "sex"], "age, sex")
    ("did you mean 'age'?", 'name one of age, sex')
    """
    near = difflib.get_close_matches(name, valid[:1000], 1)
    return f"did you mean {shown(near[0])}?" if near else f"name one of {listed}"


def nearest(name: str, valid: Sequence[str], shown: Callable[[str], str] = str) -> str:
    """" (did you mean …?)" if a valid name is similar, otherwise an empty text."""
    near = difflib.get_close_matches(name, valid, 1)
    return f" (did you mean {shown(near[0])}?)" if near else ""
