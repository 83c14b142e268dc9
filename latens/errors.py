"""The error that a user's mistake raises."""

from __future__ import annotations


class InputError(ValueError):
    """A user's mistake. Its message is one sentence: what was wrong, where, and what to do.

    The command line prints the sentence and exits with status 2; Python sees a ``ValueError``.

    >>> issubclass(InputError, ValueError)
    True
    """
