"""The errors that a user meets."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard


class InputError(ValueError):
    """A user's mistake. Its message is one sentence: what was wrong, where, and what to do.

    The command line prints the sentence and exits with status 2; Python sees a ``ValueError``.

    >>> issubclass(InputError, ValueError)
    True
    """


class FitError(ArithmeticError):
    """A fit that failed by its numbers. The command line prints the sentence and exits with status 1."""


class Stopped(Exception):
    """Work that a person stopped: the message says how to continue. The command line exits with status 130."""


@contextmanager
def concerning(what: object) -> Iterator[None]:
    """Whatever is refused inside is refused in the name of ``what``: a file, a folder, a source of data.

    >>> with concerning("rows.npy"):
    ...     raise InputError("the data is empty")
    Traceback (most recent call last):
    latens.errors.InputError: rows.npy: the data is empty
    """
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(what) in str(error) else f"{what}: {error}") from error


def require(condition: bool, name: str, what: str, value: Any) -> None:
    """``InputError`` "name must be what, got value" unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {what}, got {value!r}")


def require_count(value: Any, name: str, least: int = 1, most: int = 1000) -> None:
    """``InputError`` unless a whole number from ``least`` to ``most``: of what is built or done one after another."""
    require(is_whole(value) and least <= value <= most, name, f"a whole number from {least} to {most:,}", value)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether the value is a whole number, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite number, and no boolean."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond floats
        return False
